"""Verbs from a catalogue to cosmology: masses, export, mock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from szeek.cli.catalogue import RunFolderArgument, Tiles
from szeek.cli.progress import show_progress

if TYPE_CHECKING:
    from szeek.counts.masses import MassRelation
    from szeek.pipeline.counts import CountOptions

MassBias = Annotated[float | None, typer.Option(help="(1-b): X-ray calibrated over true mass; default 0.64")]
Scatter = Annotated[
    float | None, typer.Option(help="standard deviation of ln Y500 at a mass; default 0.173, as Planck's")
]
StatedCosmology = Annotated[
    str, typer.Option(help="name of the cosmology that you expect, e.g. Planck18; refused where the run has another")
]
SnrMin = Annotated[float, typer.Option(help="S/N from which clusters are counted, sqrt(SNR^2 - 3) of the catalogue")]
Patches = Annotated[int, typer.Option(min=1, help="patches of like noise and equal area")]
Footprint = Annotated[
    Path | None, typer.Option(help="HEALPix mask, 1 inside the sky to count in; default: all of the run's")
]


def masses(
    run_folder: RunFolderArgument,
    mass_bias: MassBias = None,
    scatter: Scatter = None,
    cosmology: StatedCosmology = "",
) -> None:
    """Derive masses of a run's candidates: M500c, M200c and M200m, and for any redshift where none is known.

    Writes masses.fits: M_SZ, X-ray calibrated, and true masses with the mass function as prior.
    """
    import numpy as np

    from szeek.pipeline.counts import measure_masses, write_masses
    from szeek.pipeline.products import RunFolder

    folder = RunFolder(run_folder)
    with show_progress() as progress:
        table = measure_masses(folder, mass_relation(mass_bias, scatter), cosmology=cosmology, progress=progress)
    known, curves = np.isfinite(table["M500C"]).sum(), np.isfinite(table["M_SZ_CURVE"]).any(axis=1).sum()
    typer.echo(f"masses of {known} candidates with a redshift, M(z) of {curves}: {write_masses(table, folder)}")


def export(
    run_folder: RunFolderArgument,
    to: Annotated[str, typer.Option("--to", help="cosmocnc, nemo, fits, hdf5, parquet or hats")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", file_okay=False, help="folder; default: exports/FORMAT in the run")
    ] = None,
    snr_min: SnrMin = 4.5,
    patches: Patches = 20,
    footprint: Footprint = None,
    tile: Tiles = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="another catalogue of the same run, or a mock of it, instead of its own")
    ] = None,
    mass_bias: MassBias = None,
    scatter: Scatter = None,
    cosmology: StatedCosmology = "",
) -> None:
    """Write a run's catalogue and selection for a likelihood code.

    Noise and sky of its patches, what is found at which S/N, and what is false. Needs `szeek selection RUN`.
    """
    from szeek.pipeline.counts import export_run
    from szeek.pipeline.products import RunFolder

    options = count_options(snr_min, patches, footprint, tile, mass_bias, scatter, cosmology, catalogue)
    found = export_run(RunFolder(run_folder), to, out, options)
    survey, model = found.survey, found.survey.detection
    lines = [
        f"{found.n_clusters} clusters above S/N {survey.snr_min:g}, {found.n_with_z} with a redshift, in "
        f"{survey.area_deg2:.0f} deg2; {survey.n_patches} patches, noise within them to {survey.patch_spread:.1%}",
        f"half of the clusters of S/N {model.snr50:.2f} are found, of S/N {survey.snr_min:g} "
        f"{model.found(survey.snr_min, 5.0, model.mean_log_dust):.0%}; "
        + (
            f"{survey.n_false:.1f} are expected to be false"
            if found.has_purity
            else "PURITY is not known: none is false"
        ),
        f"{to}: {found.folder}",
    ]
    typer.echo("\n".join(lines))


def mock(
    run_folder: RunFolderArgument,
    n: Annotated[int, typer.Option("--number", "-n", min=1, help="catalogues to draw")] = 100,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", file_okay=False, help="folder; default: mocks in the run")
    ] = None,
    snr_min: SnrMin = 4.5,
    patches: Patches = 20,
    footprint: Footprint = None,
    tile: Tiles = None,
    omega_m: Annotated[float | None, typer.Option(help="of the haloes drawn; default: the run's")] = None,
    sigma8: Annotated[float | None, typer.Option(help="of the haloes drawn; default: the run's")] = None,
    mass_bias: MassBias = None,
    scatter: Scatter = None,
    false: Annotated[bool, typer.Option(help="with false candidates, as many as PURITY says")] = True,
    seed: Annotated[int, typer.Option(min=0, help="of the first catalogue; the others follow")] = 0,
) -> None:
    """Draw mock catalogues of a run's survey from the mass function, scaling relation, noise and selection."""
    from szeek.counts.massfunction import CosmologyParameters
    from szeek.pipeline.counts import draw_mocks
    from szeek.pipeline.products import RunFolder

    given = {"omega_m": omega_m, "sigma8": sigma8}
    parameters = CosmologyParameters(**{name: value for name, value in given.items() if value is not None})
    options = count_options(snr_min, patches, footprint, tile, mass_bias, scatter)
    with show_progress() as progress:
        folder, sizes = draw_mocks(
            RunFolder(run_folder), n, out, options, parameters=parameters, seed=seed, false=false, progress=progress
        )
    typer.echo(f"{n} mock catalogues of {sum(sizes) / n:.0f} clusters on average: {folder}")


def count_options(
    snr_min: float,
    patches: int,
    footprint: Path | None,
    tile: list[int] | None,
    mass_bias: float | None,
    scatter: float | None,
    cosmology: str = "",
    catalogue: Path | None = None,
) -> CountOptions:
    """What the options of the command line say."""
    from szeek.pipeline.counts import CountOptions

    tiles = tuple(tile) if tile else None
    relation = mass_relation(mass_bias, scatter)
    return CountOptions(snr_min, patches, footprint, tiles, catalogue, cosmology, relation)


def mass_relation(mass_bias: float | None, scatter: float | None) -> MassRelation:
    """The relation that the command line gives, the defaults where it gives none."""
    from szeek.counts.masses import MassRelation

    given = {"mass_bias": mass_bias, "scatter_ln": scatter}
    return MassRelation(**{name: value for name, value in given.items() if value is not None})
