"""From sources to the candidate catalogue: identification, photometry, kind and flags; and photometry of any list."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, hstack, vstack
from numpy.typing import NDArray

from szeek.assess.classes import class_probabilities, name_classes
from szeek.assess.detections import DetectionCheck, independent_clusters
from szeek.assess.match import match
from szeek.config import Config, SkyConfig
from szeek.files import write_table
from szeek.filter.snrmaps import filter_sky
from szeek.filter.states import FieldState, read_states, write_states
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.compact import read_pccs2, read_pgcc
from szeek.inputs.masks import read_mask
from szeek.inputs.stackmaps import read_stack_map
from szeek.inputs.surveymaps import read_maps
from szeek.measure.candidates import list_sources, make_candidates, read_candidates, write_candidates
from szeek.measure.flags import set_flags
from szeek.measure.fluxes import FluxCorrection
from szeek.measure.identify import identify_sources
from szeek.measure.pairs import truth_radius
from szeek.measure.photometry import SIZES_ARCMIN, measure_sources
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.stage import Facts, Run, Stage
from szeek.sky.healpix import unit_vectors
from szeek.sky.mapset import MapSet, sees
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import Tiles

#: Where known clusters are looked up for the check of a network that saw none of this sky: a quarter of it.
_CHECKED_TILES = Tiles(tuple(range(0, 48, 4)))
#: Endings of column names and the units that they stand for.
_UNITS = {"_1e14msun": "1e14 Msun", "_arcmin2": "arcmin2", "_arcmin": "arcmin", "_deg": "deg", "_mjy": "mJy"}


@dataclass(frozen=True)
class Measured(Facts):
    """Candidates, how many of each kind, and what became of the known clusters in the footprint.

    ``kinds`` is empty where nothing was measured; the numbers of known clusters are None where none are known.
    ``check`` holds those that were not found by their SZ effect against what is known of the network
    (:mod:`szeek.assess.detections`), where that is known.
    """

    n_candidates: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    n_known: int | None = None
    n_known_found: int | None = None
    radius_arcmin: float = 5.0
    check: DetectionCheck | None = None


def _measure(run: Run, progress: Progress | None) -> Measured:
    folder = run.products
    sources = Table.read(run.file(products.SOURCES))
    sources = Table({name: np.asarray(sources[name]) for name in sources.colnames})
    clusters = folder.clusters
    sources = identify_sources(sources, clusters, run.radius_arcmin)
    maps = folder.maps
    kinds: dict[str, int] = {}
    states: dict[int, FieldState] = {}
    if run.config.measure.enabled and maps is not None:
        states = field_states(run, maps, progress)
        nothing = np.full(len(sources), np.nan)
        z = np.asarray(sources["match_z"], float) if "match_z" in sources.colnames else nothing
        positions = Table({"lon_deg": sources["lon_deg"], "lat_deg": sources["lat_deg"], "z": z})
        found = measure_sources(
            maps,
            positions,
            instrument=run.config.sky.instrument,
            filtered=states,
            threads=run.threads,
            progress=progress,
        )
        found = _correct_fluxes(found, z, folder.flux_correction)
        for name in found.colnames:
            sources[name] = found[name]
        kinds = count_kinds(found)
    if p_maps := folder.class_maps:
        sources = hstack([sources, class_probabilities(sources, p_maps, folder.class_calibrations)])
        sources["class"] = name_classes(sources, p_maps)
    sources = _set_flags(run, sources, maps)
    candidates = make_candidates(sources)
    if kinds:
        named = hstack([Table({"name": candidates["NAME"]}), positions, found])
        write_photometry(named, run.target(products.PHOTOMETRY))
    else:
        run.target(products.PHOTOMETRY).unlink(missing_ok=True)
    write_candidates(candidates, run.target(products.CANDIDATES))
    if clusters is None:
        return Measured(len(sources), kinds)
    if maps is not None:
        lon_deg, lat_deg = (np.asarray(clusters[name], float) for name in ("lon_deg", "lat_deg"))
        clusters = clusters[sees(maps, unit_vectors(lon_deg, lat_deg))]
    check = None
    curve, config = folder.detection_curve, run.config
    # not of a network that sees X-rays or galaxies, by which these clusters were listed: more of them are found
    by_bands = not config.input.further
    if kinds and maps is not None and by_bands and curve is not None and curve.p_max == config.detect.p_max:
        listed = independent_clusters(clusters)
        checked = _CHECKED_TILES if config.model else config.split.held_out
        listed = listed[checked.contain(np.asarray(listed["lon_deg"]), np.asarray(listed["lat_deg"]))]
        check = curve.check(
            *look_up_clusters(listed, sources, maps, config, states, run.threads, run.radius_arcmin)
        )
    found_known = len(match(sources, clusters, run.radius_arcmin))
    return Measured(len(sources), kinds, len(clusters), found_known, run.radius_arcmin, check)


def look_up_clusters(
    clusters: Table,
    sources: Table,
    maps: SkyMaps | MapSet,
    config: Config,
    states: dict[int, FieldState],
    threads: int | None = None,
    radius_arcmin: float = 5.0,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """S/N that clusters have in the maps at their own place and size, and whether a source is matched to them."""
    found = np.zeros(len(clusters), bool)
    if len(clusters):
        found[match(sources, clusters, truth_radius(clusters, radius_arcmin))["cluster"]] = True
    measured = measure_sources(
        maps,
        Table({name: np.asarray(clusters[name], float) for name in ("lon_deg", "lat_deg", "theta500_arcmin")}),
        instrument=config.sky.instrument,
        filtered=states,
        threads=threads,
    )
    return np.asarray(measured["fixed_snr"], float), found


def _correct_fluxes(found: Table, z: NDArray[np.float64], correction: FluxCorrection | None) -> Table:
    """Photometry with corrected fluxes, where it is known how they are to be corrected."""
    if correction is None:
        return found
    corrected = found.copy()
    measured = hstack([found, Table({"z": z})])
    for flux, name in (("population", "corrected"), ("constrained", "corrected_constrained")):
        value, error = correction.correct(measured, flux)
        corrected[f"{name}_y5r500_arcmin2"], corrected[f"{name}_y5r500_err_arcmin2"] = value, error
    return corrected


def field_states(run: Run, maps: SkyMaps | MapSet, progress: Progress | None) -> dict[int, FieldState]:
    """What the filter has learnt of the fields; a network that wants no S/N maps has not had them filtered yet."""
    states, compact = run.file(products.STATES), run.file(products.COMPACT)
    if not states.exists():
        found = filter_sky(maps, instrument=run.config.sky.instrument, threads=run.threads, progress=progress)
        write_states(found.states, states)
        write_table(found.compact, compact)
    return read_states(states)


def _set_flags(run: Run, sources: Table, maps: SkyMaps | MapSet | None) -> Table:
    """Flags from the maps, from the compact sources found in them, and from what the user brings."""
    options, folder = run.config.measure, run.products
    mask = None if options.galactic_mask is None else read_mask(options.galactic_mask)
    co_map = None
    if options.co_map is not None:
        co_map = read_stack_map("co", options.co_map, unit="K km/s", fwhm_arcmin=0.0)
    lists = [read_pccs2(options.pccs2)] if options.pccs2 else []
    if folder.has(products.COMPACT):
        lists.append(Table.read(folder.file(products.COMPACT)))
    return set_flags(
        sources,
        maps,
        vstack(lists, metadata_conflicts="silent") if lists else None,
        instrument=run.config.sky.instrument,
        galactic_mask=mask,
        pgcc=None if options.pgcc is None else read_pgcc(options.pgcc),
        co_map=co_map,
    )


def _flag_files(run: Run) -> list[Path]:
    options = run.config.measure
    single = (options.galactic_mask, options.pgcc, options.co_map)
    return [*options.pccs2, *(file for file in single if file is not None)]


MEASURE = Stage(
    "measure",
    _measure,
    sections=("measure",),
    reads=(
        *(products.SOURCES, products.MAPS, products.FILTERED, products.CLUSTERS),
        *(products.FLUXES, products.DETECTIONS, products.CLASSES, products.CLASS_CALIBRATION),
    ),
    writes=(products.CANDIDATES,),
    may_write=(products.PHOTOMETRY,),
    facts=Measured,
    files=_flag_files,
)


def count_kinds(found: Table) -> dict[str, int]:
    """How many positions are of each kind; 'outside' those that could not be measured."""
    kinds, counts = np.unique(np.asarray(found["kind"], str), return_counts=True)
    return {kind or "outside": count for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)}


def measure_list(
    positions: str | os.PathLike[str],
    sky: SkyConfig,
    out: str | os.PathLike[str],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Measure a list of positions in map files, whether anything was detected there or not.

    Parameters
    ----------
    positions : path
        Any catalogue that :func:`szeek.inputs.catalogues.read_catalogue` knows (its theta500, where it has one, is
        the size held fixed), or a candidate catalogue.
    sky : SkyConfig
        Map files, full sky or cut-outs; columns of the list.
    out : path
        Folder; photometry.fits is written there.
    threads, progress
        As for :func:`szeek.measure.photometry.measure_sources`.

    Returns
    -------
    dict of kind to number
        As :func:`count_kinds` has it.

    Raises
    ------
    ValueError
        If the list or a map cannot be understood.
    OSError
        If a file is missing.
    """
    file = Path(positions)
    if file.stem == Path(products.CANDIDATES).stem:
        listed = list_sources(read_candidates(file))
        listed["z"] = listed["match_z"]
    else:
        listed = read_catalogue(file, columns=sky.columns)
    # of a candidate, its size of highest S/N is measured, not given
    names = ["name", "lon_deg", "lat_deg", "z", *(["theta500_arcmin"] if "survey" in listed.colnames else [])]
    stated: dict[str, Any] = {"unit": sky.unit, "frame": sky.frame, "ordering": sky.ordering, "check": sky.check}
    maps = read_maps(sky.maps, sky.instrument, ivar=sky.ivar, **stated)
    found = measure_sources(maps, listed[names], instrument=sky.instrument, threads=threads, progress=progress)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    write_photometry(hstack([listed["name", "lon_deg", "lat_deg", "z"], found]), target / products.PHOTOMETRY)
    return count_kinds(found)


def write_photometry(table: Table, path: Path) -> None:
    """Write photometry as a FITS table with units; the header has the sizes as SIZE1, ..."""
    out = table.copy()
    for name in out.colnames:
        ending = next((end for end in _UNITS if name.endswith(end)), None)
        if ending is not None:
            out[name].unit = _UNITS[ending]
    sizes = table.meta.get("sizes_arcmin", SIZES_ARCMIN)
    out.meta = {f"SIZE{k}": round(float(size), 4) for k, size in enumerate(sizes, 1)}
    write_table(out, path)
