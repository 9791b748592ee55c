"""Verbs from a map of p to a catalogue, and how good it is: detect, photometry, assess, selection, purity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from szeek.cli.options import (
    Catalogues,
    Check,
    Columns,
    Frame,
    Instrument,
    Ordering,
    Out,
    Scheduler,
    Threads,
    Unit,
    given_sky,
    named_values,
)
from szeek.cli.pipeline import describe_check, describe_kinds
from szeek.cli.progress import show_progress

if TYPE_CHECKING:
    from szeek.pipeline.searches import Purity, Selected

RunFolderArgument = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")]
PredictionArgument = Annotated[
    Path, typer.Argument(metavar="RUN_OR_MAP", help="folder of a run, or a HEALPix map of p")
]
Tiles = Annotated[list[int] | None, typer.Option("--tile", help="only this tile (0 to 47); may be repeated")]


def detect(
    prediction: PredictionArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", file_okay=False, help="folder to write to; the run's own by default"),
    ] = None,
    p_max: Annotated[
        float | None, typer.Option(min=0, max=1, help="threshold on p; default: the run's own")
    ] = None,
    purity: Annotated[
        float | None, typer.Option(help="instead: the lowest threshold of this purity, by the run's calibration")
    ] = None,
    deblend: Annotated[
        bool | None, typer.Option(help="separate neighbours within one connected area; default: the run's own")
    ] = None,
    measure: Annotated[
        bool | None, typer.Option(help="measure the candidates in the run's maps; default: as the run did")
    ] = None,
    frame: Frame = None,
    threads: Threads = None,
) -> None:
    """Turn a p map into a candidate catalogue: FITS, VOTable, CSV and DS9 regions.

    Settings that are not given are those of the run, so that its own catalogue comes out again.
    """
    from szeek.verbs import detect as detect_candidates

    with show_progress() as progress:
        result = detect_candidates(
            prediction, out, p_max=p_max, purity=purity, deblend=deblend, measure=measure, frame=frame,
            threads=threads, progress=progress,
        )  # fmt: skip
    threshold = f"p = {result.p_max:.3g}" + ("" if purity is None else f", for a purity of {purity:g}")
    kinds = f" ({describe_kinds(result.measured.kinds)})" if result.measured.kinds else ""
    typer.echo(
        f"{result.detected.n_sources} candidates above {threshold}: {result.candidates} (.vot, .csv, .reg){kinds}"
    )


def photometry(
    positions: Annotated[
        Path, typer.Argument(metavar="RUN_OR_TABLE", help="folder of a run; or, with --map, a catalogue to measure")
    ],
    map: Annotated[
        list[str] | None, typer.Option("--map", "-m", help="BAND=FILE, or one pattern with {band}, as for predict")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write to, with --map")] = Path("."),
    column: Columns = None,
    threads: Threads = None,
    instrument: Instrument = None,
    unit: Unit = None,
    frame: Frame = None,
    ordering: Ordering = None,
    check: Check = True,
) -> None:
    """Measure S/N, flux, size, band fluxes, spectrum and kind of a run's candidates, or of any list of positions."""
    from szeek.config import SkyConfig
    from szeek.pipeline.measure import measure_list
    from szeek.pipeline.products import CANDIDATES, PHOTOMETRY
    from szeek.verbs import measure

    with show_progress() as progress:
        if map is None:
            kinds = measure(positions, threads=threads, progress=progress).kinds
            written = f"{positions / PHOTOMETRY}, {positions / CANDIDATES}"
        else:
            known = instrument or "planck-hfi"
            sky = SkyConfig.model_validate(given_sky(map, None, column, None, unit, frame, ordering, check, known))
            kinds = measure_list(positions, sky, out, threads=threads, progress=progress)
            written = str(out / PHOTOMETRY)
    typer.echo(f"{sum(kinds.values())} positions: {describe_kinds(kinds) or 'none'}: {written}")


def assess(
    prediction: PredictionArgument,
    out: Out,
    catalogue: Catalogues = None,
    column: Columns = None,
    tile: Tiles = None,
    frame: Frame = None,
) -> None:
    """Measure which known clusters a p map recovers, against the threshold, with errors and chance rate."""
    from szeek.pipeline.products import RECOVERY
    from szeek.verbs import assess as assess_map

    columns = named_values("--column", column)
    for row in assess_map(prediction, catalogue or [], out, columns=columns, tiles=tile, frame=frame):
        typer.echo(
            f"{row.sample}: {row.n_recovered} of {row.n_clusters} recovered at p > 0.1, {row.chance:.1%} by chance"
        )
    typer.echo(f"recovery: {out / RECOVERY}")


def selection(
    run_folder: RunFolderArgument,
    n: Annotated[int, typer.Option("--number", "-n", min=20, help="clusters to inject")] = 10_000,
    tile: Tiles = None,
    seed: Annotated[int, typer.Option(help="of the injections")] = 0,
    threads: Threads = None,
    scheduler: Scheduler = None,
) -> None:
    """Measure completeness and position errors by injecting clusters into a run's maps and finding them again.

    Writes selection.fits (injections, noise, completeness as a HEALPix cube) and positions.ecsv, from which `szeek
    detect` and `szeek run` fill POS_ERR.
    """
    from szeek.pipeline.searches import SelectionOptions
    from szeek.verbs import measure_selection

    options = SelectionOptions(n, tuple(tile) if tile else None, seed)
    with show_progress() as progress:
        found = measure_selection(run_folder, options, threads=threads, scheduler=scheduler, progress=progress)
    typer.echo(describe_selection(found, run_folder))


def describe_selection(found: Selected, folder: Path) -> str:
    """What was found of the injections."""
    from szeek.pipeline.products import FLUXES, POSITIONS, SELECTION

    lines = [
        f"{found.n_found} of {found.n_injected} injected clusters found at p > {found.p_max:g}; "
        f"{found.chance:.1%} of the positions had a source before",
        f"completeness: {folder / SELECTION}",
    ]
    dust, error = found.look["dust"]
    source = f"from {found.n_look} known ones" if found.n_look else "too few are known to tell"
    lines.append(f"dust in clusters, {source}: {dust:.2f} +- {error:.2f} times what is published")
    if found.known is not None:
        lines.append(describe_check(found.known))
    if found.haloes is not None:
        check = found.haloes
        least = f" from {check.y500_arcmin2[0]:g} arcmin2 up" if check.y500_arcmin2 else ""
        rows = ", ".join(f"{n} ({expected:.0f})" for n, expected in zip(check.n_found, check.n_expected, strict=True))
        held = f"{rows or '0 (0)'}; probability {check.probability:.2g}"
        lines.append(f"haloes found (expected) by Y500{least}: {held}")
    if found.no_position_errors:
        lines.append(f"no position errors: {found.no_position_errors}")
    else:
        lines.append(f"position errors: {folder / POSITIONS}")
    if found.no_flux_correction:
        lines.append(f"no flux correction: {found.no_flux_correction}")
    else:
        lines.append(f"flux correction: {folder / FLUXES}")
    lines += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join(lines)


def purity(
    run_folder: RunFolderArgument,
    tile: Tiles = None,
    seed: Annotated[int, typer.Option(help="of the shifted positions")] = 0,
    threads: Threads = None,
) -> None:
    """Measure purity without truth: by what is found in the same maps with signs flipped or bands turned.

    Writes purity.ecsv, with the share of known clusters and, of a simulated run, the true purity beside it.
    """
    from szeek.pipeline.searches import PurityOptions
    from szeek.verbs import measure_purity

    with show_progress() as progress:
        options = PurityOptions(tuple(tile) if tile else None, seed)
        found = measure_purity(run_folder, options, threads=threads, progress=progress)
    typer.echo(describe_purity(found, run_folder))


def describe_purity(found: Purity, folder: Path) -> str:
    """The purity at the threshold nearest to 0.5."""
    from szeek.pipeline.products import PURITY

    true = f", true {found.purity_true:.2f}" if found.purity_true is not None else ""
    return (
        f"of {found.n} sources with p > {found.p:g}: purity {found.purity_flipped:.2f} from the flipped sky, "
        f"{found.confirmed:.2f} are known{true}\npurity: {folder / PURITY}"
    )
