"""Maps in other light, from their files or of the simulated sky, as the network sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek.config import FurtherConfig
from szeek.filter.further import density_map, photon_map, to_healpix
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.fits_files import parse_part
from szeek.inputs.photons import read_photons
from szeek.inputs.stackmaps import read_stack_map
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.stage import Run
from szeek.simulate.components.companions import write_xray
from szeek.simulate.components.xray import inject_photons
from szeek.sky.further import FurtherMap, open_further, save_further
from szeek.sky.mapset import MapSet
from szeek.sky.photons import PhotonMap, join_fields
from szeek.sky.skymaps import SkyMaps

#: Surveys whose clusters are bright in X-rays, and how many must lie in a map to tell.
_BRIGHT_SURVEYS = ("PSZ2", "MCXC")
_LEAST_CLUSTERS = 20


def write_further(run: Run, progress: Progress | None) -> None:
    """Write the further maps of the configuration beside the run's bands; those that came with saved maps stay.

    Raises
    ------
    ValueError
        If a file is not what it should be, a simulated sky has no map of that name, or no known cluster is seen.
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
        elif one is not None and one.kind == "photons" and given.file and run.config.sky.check:
            _check_clusters_shine(run, one)
        if one is not None:
            further.append(one)
    save_further(further, folder)


def _check_clusters_shine(run: Run, one: FurtherMap) -> None:
    """Refuse photons in which the known clusters of SZ and X-ray surveys are no brighter than the sky beside them.

    A map that is mirrored, in another frame or ordering than it says, or of another quantity, has no clusters at
    their positions; ROSAT's has most of PSZ2 and MCXC.
    """
    if not run.products.has(products.CLUSTERS):
        return
    clusters = read_catalogue(run.file(products.CLUSTERS))
    clusters = clusters[np.isin(np.char.upper(np.asarray(clusters["survey"], str)), _BRIGHT_SURVEYS)]
    lon_deg, lat_deg = np.asarray(clusters["lon_deg"], float), np.asarray(clusters["lat_deg"], float)
    # two degrees to the east and to the west: the same latitude, exposure and absorption
    aside_deg = 2.0 / np.maximum(np.cos(np.radians(lat_deg)), 0.02)
    there, *beside = (
        one.values[healpy.ang2pix(one.values.nside, lon_deg + shift, lat_deg, lonlat=True)][:, -1]
        for shift in (0.0, aside_deg, -aside_deg)
    )
    excess = there - np.mean(beside, axis=0)
    excess = excess[np.isfinite(excess)]
    least = 3 * float(np.std(excess)) / math.sqrt(max(1, len(excess)))
    if len(excess) < _LEAST_CLUSTERS or np.mean(excess) > least:
        return
    raise ValueError(
        f"the {len(excess)} known clusters of SZ and X-ray surveys are not seen in the photons of '{one.name}': "
        f"their mean S/N is {np.mean(excess):.2f} above that of the sky beside them, expected more than {least:.2f}; "
        "look at frame, ordering and orientation of the map, or set sky.check to false (--no-check)"
    )


def further_files(run: Run) -> list[Path]:
    """Files that the configuration names as further maps."""
    named = [file for given in run.config.input.further.values() for file in (*given.file, *given.exposure)]
    return [parse_part(file).path for file in named if isinstance(file, Path)]


def read_further_photons(run: Run) -> dict[str, PhotonMap]:
    """Photons of the further maps that the run's maps have, to inject clusters into, on HEALPix.

    Raises
    ------
    ValueError
        If a map is of another kind, or its file is not known: no cluster can be injected there.
    """
    out = {}
    for one in open_further(run.file(products.MAPS)):
        given = run.config.input.further[one.name]
        found = _find_files(run, one.name, given)
        if one.kind != "photons" or found is None:
            why = "its file is not in the configuration" if one.kind == "photons" else f"it is a {one.kind}"
            raise ValueError(
                f"no cluster can be injected into the further map '{one.name}', because {why}; completeness by "
                "injection needs the photons themselves: predict again with --xray and --exposure, or without"
            )
        out[one.name] = to_healpix(_read_photons(*found))
    return out


def inject_further(
    maps: SkyMaps | MapSet, photons: Mapping[str, PhotonMap], clusters: Table, seed: int, threads: int | None
) -> SkyMaps | MapSet:
    """The maps with further maps in which these clusters shine too."""
    further = [
        photon_map(name, inject_photons(counted, clusters, seed), threads or 0) for name, counted in photons.items()
    ]
    return replace(maps, further=tuple(further))


def _make(run: Run, name: str, given: FurtherConfig) -> FurtherMap | None:
    found = _find_files(run, name, given)
    if found is None:
        return None
    if given.kind == "density":
        return density_map(name, read_stack_map(name, found[0][0], unit="1", fwhm_arcmin=0.0))
    return photon_map(name, _read_photons(*found), run.threads or 0)


def _read_photons(files: list[str], exposures: tuple[Path | float, ...]) -> PhotonMap:
    each = exposures * len(files) if len(exposures) == 1 else exposures
    return join_fields([read_photons(*pair) for pair in zip(files, each, strict=True)])


def _find_files(run: Run, name: str, given: FurtherConfig) -> tuple[list[str], tuple[Path | float, ...]] | None:
    """Files of a further map and its exposures; None where the run has none."""
    if given.file:
        return [str(file) for file in given.file], given.exposure
    return _simulated(run, name, given) if run.config.sky.simulate else None


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
