"""Verbs that show a run, and configurations: report, view, dossiers, config."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from szeek.cli.progress import show_progress


def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")]) -> None:
    """Write report.html again from the products of a run."""
    from szeek.show.report.page import write_report

    typer.echo(f"report: {write_report(run_folder)}")


def view(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    port: Annotated[
        int | None, typer.Option(help="port on 127.0.0.1, 0 for any free one; default: the one that reports link to")
    ] = None,
    browser: Annotated[bool, typer.Option(help="open the page in the default browser")] = True,
    map: Annotated[
        list[str] | None, typer.Option("--map", "-m", help="NAME=FILE, another HEALPix map to show; may be repeated")
    ] = None,
) -> None:
    """Look at a run: the sky, the candidates and their verdicts, in the browser, on this machine only."""
    from szeek.show.explorer.server import serve

    if wrong := [item for item in map or [] if "=" not in item]:
        raise ValueError(f"--map '{wrong[0]}' is not NAME=FILE")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C is how a viewer ends, nothing is interrupted
    serve(run_folder, port, browser, {name: file for name, _, file in (item.partition("=") for item in map or [])})


def dossiers(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    out: Annotated[Path, typer.Option("--out", "-o", help="zip file to write")] = Path("dossiers.zip"),
    p_min: Annotated[float | None, typer.Option(help="least p")] = None,
    purity_min: Annotated[float | None, typer.Option(help="least calibrated purity")] = None,
    snr_min: Annotated[float | None, typer.Option(help="least signal-to-noise ratio")] = None,
    lat_min: Annotated[float | None, typer.Option(help="least distance from the Galactic plane, degrees")] = None,
    matched: Annotated[str, typer.Option(help="'yes' or 'no': with or without a known cluster")] = "",
    kind: Annotated[str, typer.Option(help="what the spectrum looks like, as the catalogue's KIND has it")] = "",
    judged: Annotated[str, typer.Option(help="verdict given in the explorer, or 'none'")] = "",
    png: Annotated[bool, typer.Option("--png", help="sheets as PNG instead of PDF")] = False,
    most: Annotated[int | None, typer.Option(min=1, help="at most this many, highest p first")] = None,
) -> None:
    """Write a dossier of each candidate, cut-outs, spectrum, profile and numbers on one sheet, into a zip file."""
    from szeek.show.explorer.dossierset import write_dossiers
    from szeek.show.explorer.filters import Filters

    filters = Filters(p_min, purity_min, snr_min, lat_min, matched, kind, judged)
    with show_progress() as progress:
        target = write_dossiers(
            run_folder, out, filters=filters, ending="png" if png else "pdf", n_most=most,
            progress=progress,
        )  # fmt: skip
    typer.echo(f"dossiers: {target}")


def config(
    source: Annotated[str, typer.Argument(metavar="CONFIG", help="a preset's name or a TOML file")] = "bonjean2020",
    presets: Annotated[bool, typer.Option("--presets", help="list the presets and the shipped models")] = False,
) -> None:
    """Print a configuration as resolved: a starting point for your own TOML file."""
    from szeek.config import config_toml, list_presets, load_config

    if presets:
        typer.echo("\n".join(list_presets()))
        return
    typer.echo(config_toml(load_config(source)))
