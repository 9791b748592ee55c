"""The verb that asks other light: evidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from szeek.cli.options import Catalogues, Columns, named_values, resolve_files
from szeek.cli.progress import show_progress

if TYPE_CHECKING:
    from szeek.pipeline.evidence import Evidence


def evidence(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run with candidates")],
    xray: Annotated[
        list[Path] | None,
        typer.Option(help="photons of an X-ray survey, HEALPix or an image; may be repeated, images of fields"),
    ] = None,
    exposure: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|SECONDS", help="exposure of each map, on its pixels, in their order, or seconds"),
    ] = None,
    galaxies: Annotated[
        list[Path] | None,
        typer.Option(help="table of galaxies with photometric redshifts; may be given several times"),
    ] = None,
    catalogue: Catalogues = None,
    column: Columns = None,
    galaxy_column: Annotated[
        list[str] | None, typer.Option(help="QUANTITY=NAME, a column of the galaxies: ra, dec, glon, glat, redshift")
    ] = None,
    psf: Annotated[
        float | None, typer.Option(min=0, help="radius in arcmin that holds 90 % of a point's photons; ROSAT's: 1.8")
    ] = None,
    flux_per_rate: Annotated[
        float | None, typer.Option(min=0, help="erg/s/cm2 of one count per second; ROSAT's, 0.5-2 keV: 1.2e-11")
    ] = None,
    z_error: Annotated[
        float | None, typer.Option(min=0, help="scatter of the photometric redshifts over 1 + z; default 0.033")
    ] = None,
    z_most: Annotated[float | None, typer.Option(min=0.1, max=1.5, help="highest redshift; default 0.6")] = None,
    null_sets: Annotated[int, typer.Option(min=1, help="random positions for each candidate")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="of the random positions")] = 0,
) -> None:
    """Ask X-rays, galaxies and catalogues about each candidate, and about random positions beside it.

    Writes evidence.fits: count rate, flux and significance with their chance, redshift and richness with f_cont, and
    the catalogues that list something within the position error.
    """
    from szeek.measure.richness import RichnessOptions
    from szeek.measure.xray import XrayOptions
    from szeek.pipeline.evidence import EvidenceOptions
    from szeek.verbs import measure_evidence

    xray_options, richness_options = XrayOptions(), RichnessOptions()
    if psf is not None:
        xray_options = replace(xray_options, psf_arcmin=psf)
    if flux_per_rate is not None:
        xray_options = replace(xray_options, flux_per_rate=flux_per_rate)
    if z_error is not None:
        richness_options = replace(richness_options, z_error=z_error)
    if z_most is not None:
        richness_options = replace(richness_options, z_range=(richness_options.z_range[0], z_most))
    options = EvidenceOptions(
        tuple(str(file) for file in xray or ()),
        tuple(exposure or ()),
        tuple(str(file) for file in galaxies or ()),
        tuple(resolve_files(catalogue)),
        named_values("--column", column),
        named_values("--galaxy-column", galaxy_column),
        xray_options,
        richness_options,
        null_sets,
        seed,
    )
    with show_progress() as progress:
        found = measure_evidence(run_folder, options, progress=progress)
    typer.echo(describe_evidence(found, run_folder))


def describe_evidence(found: Evidence, folder: Path) -> str:
    """How many candidates have evidence of each kind, beside the share of random positions."""
    from szeek.pipeline.evidence import SMALL_CHANCE
    from szeek.pipeline.products import EVIDENCE

    lines = []
    for what, measure, numbers in (("X-rays", "chance", found.xray), ("galaxies", "f_cont", found.galaxies)):
        if numbers is not None:
            measured, sure, share = numbers
            lines.append(
                f"{what}: {sure} of {measured} candidates with {measure} below {SMALL_CHANCE:g}, {share:.1%} of "
                "random positions"
            )
    lines += [
        f"{survey}: {n} of {found.n_candidates} candidates, {share:.1%} of random positions"
        for survey, (n, share) in found.catalogues.items()
    ]
    return "\n".join([*lines, f"evidence: {folder / EVIDENCE}"])
