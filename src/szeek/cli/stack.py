"""Verbs that stack: stack, and reproduce, which sets the paper's figures beside a run's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from szeek.cli.options import Columns, Instrument, Scheduler, band_files, named_numbers, named_values
from szeek.cli.progress import show_progress

if TYPE_CHECKING:
    from szeek.stack.catalogue import StackMap


def stack(
    positions: Annotated[
        Path, typer.Argument(metavar="RUN_OR_TABLE", help="folder of a run; or, with --map, a catalogue to stack at")
    ],
    map: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            "-m",
            help="NAME=FILE, HEALPix or cut-out; may be repeated, the same NAME twice for two halves; or one pattern "
            "with {band} for the six bands",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write to, with --map")] = Path("stacks"),
    sample: Annotated[
        list[str] | None, typer.Option(help="of a run: all, unmatched, test_tile; may be repeated; default: each")
    ] = None,
    mask: Annotated[list[str] | None, typer.Option(help="NAME=FILE, HEALPix mask of that map")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="NAME=UNIT where that map's file says none")] = None,
    beam: Annotated[list[str] | None, typer.Option(help="NAME=ARCMIN, FWHM where that map's file says none")] = None,
    cut: Annotated[
        list[str] | None, typer.Option(help="TABLE=ARCMIN, sources cut out of every map; may be repeated")
    ] = None,
    least: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE, only sources above it, e.g. richness=30; may be repeated")
    ] = None,
    column: Columns = None,
    survey: Annotated[str | None, typer.Option(help="name of the catalogue where its columns do not tell")] = None,
    instrument: Instrument = None,
    extent: Annotated[float, typer.Option(min=0, help="FWHM of the sources in arcmin, for the spectrum")] = 0.0,
    weights: Annotated[str | None, typer.Option(help="column to weight the sources with, e.g. p or snr")] = None,
    oriented: Annotated[
        bool, typer.Option("--oriented", help="Galactic north up instead of turned at random, as in the paper")
    ] = False,
    median: Annotated[bool, typer.Option("--median", help="the median images too; takes much longer")] = False,
    nulls: Annotated[
        str, typer.Option(help="matched (random positions of like latitude and dust) or rotated (in longitude)")
    ] = "matched",
    null_sets: Annotated[int, typer.Option(min=2, help="sets of null positions")] = 5,
    bins: Annotated[int, typer.Option(min=1, help="bins of equal counts in p (or S/N), with --map")] = 1,
    pixels: Annotated[int, typer.Option(min=16, help="pixels of 1.7177 arcmin on a side")] = 120,
    seed: Annotated[int, typer.Option(help="of the null positions and bootstraps")] = 0,
    scheduler: Scheduler = None,
) -> None:
    """Stack a run's candidates in every map that is there, or any maps at any catalogue; with matched nulls.

    With `--map` the stacks are drawn too: stacks.png and, where all bands of the instrument are given, spectrum.png.
    """
    from szeek.inputs.catalogues import read_catalogue
    from szeek.parallel import connect
    from szeek.pipeline.products import STACKS_RECORD
    from szeek.pipeline.stack import stack_run
    from szeek.show.figures.stackfigures import draw_stack_folder
    from szeek.stack.catalogue import stack_catalogue
    from szeek.stack.products import StackOptions
    from szeek.stack.samples import SAMPLES

    if map is None and (
        mask or unit or beam or survey or column or bins != 1 or cut or least or extent or instrument
    ):
        raise ValueError(
            "--mask, --unit, --beam, --survey, --column, --cut, --least, --instrument, --extent and --bins go with "
            "--map; a run's stacks have their own"
        )
    if map is not None and (scheduler is not None or sample):
        raise ValueError("--scheduler and --sample are for a run's stacks, not for those of --map")
    options = StackOptions(
        size=pixels, n_null_sets=null_sets, null_kind=nulls, median=median, oriented=oriented, weights=weights,
        seed=seed,
    )  # fmt: skip
    if map is None:
        with show_progress() as progress, connect(scheduler) as client:
            chosen = tuple(sample or SAMPLES)
            folder = stack_run(positions, options, samples=chosen, client=client, progress=progress)
        typer.echo(f"stacks: {folder}")
        return
    folder = stack_catalogue(
        read_catalogue(positions, survey, columns=named_values("--column", column)),
        stack_maps(map, unit, beam, mask, instrument or "planck-hfi"),
        out,
        replace(options, n_p_bins=bins),
        cut=list(named_numbers("--cut", cut).items()),
        least=named_numbers("--least", least),
        extent_arcmin=extent,
        instrument=instrument or "planck-hfi",
    )
    drawn = draw_stack_folder(folder)
    record = json.loads((folder / Path(STACKS_RECORD).name).read_text())
    typer.echo(f"{record['n_source']} of {record['n_listed']} listed sources are asked for and lie inside all maps")
    typer.echo(f"stacks: {folder}, drawn in {' and '.join(file.name for file in drawn)}")


def stack_maps(
    given: list[str],
    unit: list[str] | None = None,
    beam: list[str] | None = None,
    mask: list[str] | None = None,
    instrument: str = "planck-hfi",
) -> dict[str, StackMap]:
    """NAME=FILE pairs: two files under one name are its halves; a file for every band, or a pattern, is 'bands'."""
    from szeek.inputs.instrument import read_instrument
    from szeek.stack.catalogue import StackMap

    bands = read_instrument(instrument).band_names
    files: dict[str, list[str]] = {}
    for item in given:
        pairs = band_files([item], bands).items() if "{band}" in item else named_values("--map", [item]).items()
        for name, file in pairs:
            files.setdefault(name, []).append(str(file))
    units, beams, masks = named_values("--unit", unit), named_numbers("--beam", beam), named_values("--mask", mask)
    maps: dict[str, StackMap] = {}
    for name, found in files.items():
        if name in bands and all(len(files.get(band, ())) == 1 for band in bands):
            of_bands = {band: units[band] for band in bands if band in units} or None
            maps["bands"] = StackMap({band: files[band][0] for band in bands}, of_bands, None, masks.get("bands"))
        else:
            source = found[0] if len(found) == 1 else found
            maps[name] = StackMap(source, units.get(name), beams.get(name), masks.get(name))
    given_to = (("--unit", [*units], [*files]), ("--beam", [*beams], [*files]), ("--mask", [*masks], [*maps]))
    for option, values, known in given_to:
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"{option} names the map '{unknown[0]}', expected one of {', '.join(known)}")
    return maps


def reproduce(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=FILE, map of p of another run of this sky, for Fig. 8; may be repeated"),
    ] = None,
    regions: Annotated[
        Path | None, typer.Option(help="table of names and positions to show in Fig. 8 instead of the paper's")
    ] = None,
) -> None:
    """Set the paper's Table 1, Figs. 1 to 8 and numbers beside those of a run; stacks first where need be."""
    from szeek.show.report.reproduce import reproduce_run

    with show_progress() as progress:
        page = reproduce_run(
            run_folder,
            models=named_values("--model", model),
            regions=regions,
            progress=progress,
        )
    typer.echo(f"the paper's figures and numbers: {page}")
