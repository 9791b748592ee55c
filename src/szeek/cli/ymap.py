"""The verb that makes a Compton-y map: ymap."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from szeek.cli.options import Threads
from szeek.cli.progress import show_progress


def ymap(
    source: Annotated[
        str, typer.Argument(metavar="RUN_OR_CONFIG", help="folder of a run, or a preset's name or a TOML file")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", file_okay=False, help="folder to write to, with a configuration"),
    ] = None,
    deproject: Annotated[
        list[str] | None,
        typer.Option(
            help="null this spectrum too, beside the CMB's: cib, cib-moments (with any index and temperature near "
            "it) or radio; may be repeated; each costs noise"
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="network that says what foregrounds and noise leave in the map, which is then taken off: szeek-y "
            "for Planck HFI, or a folder"
        ),
    ] = "",
    threads: Threads = None,
) -> None:
    """Make a map of Compton y with its errors, 10 arcmin: y.fits with the columns Y and SIGMA_Y.

    A needlet ILC that passes the thermal SZ effect with 1 and nulls the CMB, of whole-sky maps or of a field.
    With --model less of the foregrounds and the noise is left, at the same response to the SZ effect.
    """
    from szeek.pipeline.products import Y
    from szeek.verbs import make_y_map

    with show_progress() as progress:
        folder, found = make_y_map(
            source, out, deproject=deproject or (), model=model, threads=threads, progress=progress
        )
    typer.echo(f"y map of {found.area_deg2:.1f} deg^2, median error {found.sigma_y:.2g}: {folder / Y}")
