"""The program `szeek`: its verbs, and errors in one line.

Heavy imports happen inside the verbs: `szeek --help` answers without loading PyTorch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from szeek._version import __version__
from szeek.cli import catalogue, counts, doctor, evidence, instruments, look, pipeline, stack, ymap
from szeek.cli.data import data_app
from szeek.cli.messages import describe_error, fit_to_command

app = typer.Typer(
    name="szeek",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Find galaxy clusters in maps of the microwave sky through their Sunyaev-Zel'dovich effect.\n\n"
    "The whole job on a simulated sky: `szeek run demo --out my-run`. On your own maps: write a TOML file with "
    "`[sky] maps` and `catalogues` (see `szeek config --help`), then `szeek run my.toml --out my-run`.",
)

for verb in (
    *(pipeline.run, pipeline.simulate, pipeline.train, pipeline.predict),
    *(catalogue.detect, catalogue.photometry, catalogue.assess, catalogue.selection, catalogue.purity),
    evidence.evidence,
    ymap.ymap,
    *(counts.masses, counts.export, counts.mock),
    *(look.report, stack.stack, stack.reproduce, look.view, look.dossiers, look.config, instruments.instruments),
    doctor.doctor,
):
    app.command()(verb)
app.add_typer(data_app, name="data")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"szeek {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    pass


class _Interrupted(BaseException):
    """Ctrl-C, or a batch system's SIGTERM; its own class, because typer ends a KeyboardInterrupt without a word."""


def _interrupt(number: int, _: object) -> None:
    raise _Interrupted(number)


def _interrupt_again(say: Callable[[sys.UnraisableHookArgs], object], ignored: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in a finaliser or in a callback of C code, an interrupt too: send it once more."""
    if not issubclass(ignored.exc_type, _Interrupted):
        say(ignored)
        return
    number = ignored.exc_value.args[0] if ignored.exc_value is not None else signal.SIGTERM
    main_thread = threading.main_thread().ident
    again = threading.Timer(0.05, signal.pthread_kill, (main_thread, number))
    again.daemon = True
    again.start()


def main() -> None:
    """Run the command line; errors of the user's become one line, an interrupt leaves no broken file."""
    # no verb opens a window; a notebook hands down its own backend, which this environment need not have
    os.environ["MPLBACKEND"] = "agg"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.unraisablehook = partial(_interrupt_again, sys.unraisablehook)
    try:
        app()
    except _Interrupted as interrupt:
        typer.echo("szeek: interrupted; what is finished is whole, and the same command goes on from here", err=True)
        raise SystemExit(128 + interrupt.args[0]) from None
    except MemoryError as error:
        typer.echo(
            f"szeek: not enough memory ({error}); close other programs, or use maps of a lower nside", err=True
        )
        raise SystemExit(1) from None
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "cannot cache function" not in str(error):
            raise
        typer.echo(f"szeek: {fit_to_command(describe_error(error), app, sys.argv[1:])}", err=True)
        raise SystemExit(1) from None
