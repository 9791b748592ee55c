"""Maps in other light, from their files or of the simulated sky, as the network sees them."""

from __future__ import annotations

from pathlib import Path

from szeek.config import FurtherConfig
from szeek.filter.further import density_map, photon_map
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.fits_files import parse_part
from szeek.inputs.photons import read_photons
from szeek.inputs.stackmaps import read_stack_map
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.stage import Run
from szeek.simulate.components.companions import write_xray
from szeek.sky.further import FurtherMap, open_further, save_further
from szeek.sky.photons import join_fields


def write_further(run: Run, progress: Progress | None) -> None:
    """Write the further maps of the configuration beside the run's bands; those that came with saved maps stay.

    Raises
    ------
    ValueError
        If a file is not what it should be, or a simulated sky has no map of that name.
    """
    folder = run.target(products.MAPS)
    there = {one.name: one for one in open_further(folder)}
    further = []
    for name, given in run.config.input.further.items():
        if progress is not None:
            progress("filter", 0, 0, f"further map {name}")
        one = _make(run, name, given)
        if one is None and name in there:
            one = there[name]
        if one is not None:
            further.append(one)
    save_further(further, folder)


def further_files(run: Run) -> list[Path]:
    """Files that the configuration names as further maps."""
    named = [file for given in run.config.input.further.values() for file in (*given.file, *given.exposure)]
    return [parse_part(file).path for file in named if isinstance(file, Path)]


def _make(run: Run, name: str, given: FurtherConfig) -> FurtherMap | None:
    files, exposures = [str(file) for file in given.file], given.exposure
    if not files:
        if not run.config.sky.simulate:
            return None
        files, exposures = _simulated(run, name, given)
    if given.kind == "density":
        return density_map(name, read_stack_map(name, files[0], unit="1", fwhm_arcmin=0.0))
    each = exposures * len(files) if len(exposures) == 1 else exposures
    photons = join_fields([read_photons(*pair) for pair in zip(files, each, strict=True)])
    return photon_map(name, photons, run.threads or 0)


def _simulated(run: Run, name: str, given: FurtherConfig) -> tuple[list[str], tuple[Path | float, ...]]:
    """Files of the simulated sky; its X-rays are drawn where its companions were left out."""
    folder = run.target(products.SIMULATED)
    file, exposure = folder / f"{name}.fits", folder / f"{name}_exposure.fits"
    if name == "xray" and not exposure.is_file():
        write_xray(read_catalogue(run.file(products.TRUTH)), run.config.seed, run.config.sky.nside, folder)
    wanted = [file, exposure] if given.kind == "photons" else [file]
    if missing := [path.name for path in wanted if not path.is_file()]:
        raise ValueError(
            f"input.further names '{name}' ({given.kind}), but the simulated sky has no {', '.join(missing)}; give "
            "its file, or take 'xray' (photons)"
        )
    return [str(file)], (exposure,) if given.kind == "photons" else ()
