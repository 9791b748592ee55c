"""`szeek stack`: the stacks of one run, all maps of its sky at all samples of its candidates.

The samples: *all* candidates; the *unmatched* ones, in none of the catalogues that the paper counts as known (its
Fig. 5); of these the ones in the *test_tile* (its Fig. 4). Each gets a folder RUN/stacks/SAMPLE with the files of
:func:`szeek.stack.products.stack_sources` and spectrum.ecsv; RUN/stacks/stacks.json says what went in.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.files import write_json, write_table
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.download import locate
from szeek.inputs.instrument import read_instrument
from szeek.inputs.stackmaps import galaxy_maps, read_convergence, read_stack_map, read_wisexscos
from szeek.measure.candidates import list_sources, read_candidates
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.planckfits import write_planck_map
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.projection import to_healpix
from szeek.sky.skymaps import Band, SkyMaps
from szeek.sky.tiles import Tiles
from szeek.stack.catalogue import describe_maps
from szeek.stack.cutting import cut_maps, way_to_get
from szeek.stack.nulls import dust_map
from szeek.stack.products import FluxMap, StackOptions, measure_spectrum, null_sets, stack_sources
from szeek.stack.samples import SAMPLES, choose_samples, select_known
from szeek.stack.scaling import convert_to_y, fit_pixels, measure_injected_fluxes
from szeek.stack.stacks import as_skymaps, join_maps

if TYPE_CHECKING:
    from distributed import Client

#: The maps of the paper's Fig. 5 beside the bands: name -> data set that it is made from.
COMPANIONS: dict[str, str] = {
    "y": "planck-y",
    "iris_100um": "iris",
    "kappa": "planck-lensing",
    "xray": "rosat",
    "galaxies_all": "wisexscos",
    "galaxies_passive": "wisexscos",
    "galaxies_transitioning": "wisexscos",
    "galaxies_active": "wisexscos",
    "sfr": "wisexscos",
    "stellar_mass": "wisexscos",
}
#: Units and beams (arcmin) of a simulated sky's companion maps, see szeek.simulate.components.companions and
#: szeek.simulate.components.infrared.
_SIMULATED = {
    "y": ("y", 10.0),
    "xray": ("ct / s", 2.0),
    "kappa": ("kappa", 0.0),
    "iris_100um": ("MJy/sr", 4.3),
    "sfr": (None, 10.0),
    "stellar_mass": (None, 10.0),
}
#: Of the population that injected clusters are weighted as; lighter ones are below the fluxes that are injected.
_LIGHTEST_1E14MSUN = 1.0


def stack_run(
    run_folder: str | os.PathLike[str],
    options: StackOptions = StackOptions(),
    *,
    samples: tuple[str, ...] = SAMPLES,
    maps: Mapping[str, str | os.PathLike[str] | SkyMaps] | None = None,
    masks: Mapping[str, str | os.PathLike[str] | NDArray[np.bool_]] | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> Path:
    """Stack a run's candidates in every map of its sky, with matched nulls.

    The six bands are those of RUN/maps. The others are a simulated sky's companions (RUN/simulated), or on the real
    sky what lies in the data folder (`szeek data fetch`): maps that are nowhere are left out and named in
    stacks.json.

    Source: Bonjean (2020), Figs. 4 to 7.

    Parameters
    ----------
    run_folder : path
        Folder of a run with candidates.fits, clusters.fits and maps/.
    options : StackOptions
    samples : tuple of str
        Some of 'all', 'unmatched', 'test_tile'.
    maps : mapping of name to path or SkyMaps, optional
        More maps, or others than the run's: HEALPix FITS files that say unit and beam, or maps in memory.
    masks : mapping of name to path or (12 nside^2,) bool, optional
        HEALPix masks (True, 1: pixel counts) of 'bands', 'y' or any other map, of the map's nside. On the real sky
        point sources are cut out besides: PCCS2 out of the bands and y, 2RXS, CSC and 3XMM out of X-rays, where
        their catalogues are in the data folder; stacks.json names what was cut out and what could not be.
    client : distributed.Client, optional
        Stack on the workers of this Dask cluster, which must see the folder; the products are the same.
    progress : Progress, optional
        Called as progress('stack', done, total, detail).

    Returns
    -------
    Path
        RUN/stacks.

    Raises
    ------
    FileNotFoundError
        If candidates, clusters or maps are missing; the message says which stage makes them.
    ValueError
        If a sample is unknown, the weights are no column, or no candidate is above the run's threshold.
    """
    run = RunFolder(run_folder)
    if unknown := sorted(set(samples) - set(SAMPLES)):
        raise ValueError(f"samples {', '.join(unknown)} are unknown, expected some of {', '.join(SAMPLES)}")
    run.need(products.CANDIDATES, products.CLUSTERS, products.MAPS)
    clusters = read_catalogue(run.file(products.CLUSTERS))
    groups, lacking = open_run_maps(run, maps)
    bands = groups["bands"]
    dust = dust_map(bands)
    sources = list_sources(read_candidates(run.file(products.CANDIDATES)))
    config, p_max = run.config, run.p_max
    sources = sources[np.asarray(sources["p"]) >= p_max]
    here = healpy.ang2pix(_nside(dust), np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]), lonlat=True)
    sources = sources[np.isfinite(dust[here])]
    options.weights_of(sources)  # refused before slow work
    if not len(sources):
        raise ValueError(f"'{run.path}' has no candidate above p = {p_max:g} inside its maps: nothing to stack at")
    tiles = config.split.test
    chosen = choose_samples(sources, clusters, tiles)
    cuts = cut_maps(groups, masks or {}, real_sky=not _is_simulated(run))
    used_masks = cuts.masks
    if progress is not None and cuts.lacking:
        progress("stack", 0, len(samples), cuts.warning())
    groups = join_maps(groups, apart={"bands", "y", *used_masks})
    comparisons = {
        name.upper(): rows
        for name in ("planck", "mcxcwp", "rm50", "rm30")
        if len(rows := _inside(select_known(clusters, name), dust))
    }
    target = run.path / products.STACKS
    record: dict[str, Any] = {"p_max": p_max, **options.record(), "lacking": lacking}
    record |= {"maps": describe_maps(groups), **cuts.record()}
    record["samples"] = {name: len(rows) for name, rows in chosen.items()}
    injections = _injections(run, groups.get("y"), used_masks.get("y"))
    with _for_workers(groups, used_masks, target, client) as (groups, used_masks):
        for done, name in enumerate(samples):
            rows = chosen[name]
            if progress is not None:
                progress("stack", done, len(samples), f"{name}: {len(rows)} sources")
            if not len(rows):
                continue
            nulls = null_sets(rows, dust, bands.footprint, 1, options.null_kind, options.seed)[0]
            flux_map = FluxMap("y", {**comparisons, "NULL": nulls}, injections) if "y" in groups else None
            stack_sources(
                groups, rows, dust, target / name, options, footprint=bands.footprint, masks=used_masks,
                flux_map=flux_map, client=client,
            )  # fmt: skip
            instrument = config.sky.instrument
            if read_instrument(instrument).band_names == tuple(band.name for band in bands.bands):
                shown = groups["bands"], rows, nulls, read_instrument(instrument), used_masks.get("bands")
                write_table(measure_spectrum(*shown), target / name / "spectrum.ecsv")
    target.mkdir(parents=True, exist_ok=True)
    if "y" in groups and run.has(products.PREDICTION):
        from szeek.find.predict import read_whole_prediction  # loads PyTorch, which the rest does without

        p_map, seen = read_whole_prediction(run.file(products.PREDICTION)), used_masks.get("y", groups["y"].footprint)
        held_out = Tiles((*tiles, *config.split.validation_tiles), config.split.nside)
        if (law := fit_pixels(p_map, groups["y"], seen, held_out, p_max)) is not None:
            y_map = convert_to_y(p_map, law)
            np.nan_to_num(y_map, copy=False, nan=healpy.UNSEEN)
            write_planck_map(run.path / products.Y_FROM_P, y_map, column="Y_FROM_P", unit="")
            row = law.to_table()
            record["y_from_p"] = {column: float(row[column][0]) for column in row.colnames}
    write_json(record, run.path / products.STACKS_RECORD)
    return target


@contextmanager
def _for_workers(
    groups: dict[str, SkyMaps], masks: dict[str, NDArray[np.bool_]], folder: Path, client: Client | None
) -> Iterator[tuple[dict[str, SkyMaps], dict[str, NDArray[np.bool_]]]]:
    """Maps and masks for stacking here; or, for the workers of a cluster, maps behind their masks and mapped from
    files, which last as long as they are needed."""
    if client is None:
        yield groups, masks
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".maps-", dir=folder) as scratch:
        yield (
            {
                name: SkyMaps.open(as_skymaps(sky, masks.get(name)).save(Path(scratch) / f"{k}"))
                for k, (name, sky) in enumerate(groups.items())
            },
            {},
        )


def open_run_maps(
    run: RunFolder, more: Mapping[str, str | os.PathLike[str] | SkyMaps] | None = None
) -> tuple[dict[str, SkyMaps], dict[str, str]]:
    """The maps of a run's sky: 'bands', and each companion by its name.

    Returns
    -------
    maps : dict of str to SkyMaps
    lacking : dict of str to str
        Maps of the paper's Fig. 5 that are not there, and what to do about each.
    """
    bands = open_maps(run.file(products.MAPS))
    maps: dict[str, SkyMaps] = {"bands": to_healpix(bands) if isinstance(bands, MapSet) else bands}
    lacking: dict[str, str] = {}
    given = dict(more or {})
    made = (run.file(name) for name in (products.Y_MAP, products.Y) if run.has(name))
    own_y = next(iter(run.config.sky.y_maps), None) or next(made, None)
    if own_y is not None:
        given.setdefault("y", Path(own_y))
    for name, source in given.items():
        if isinstance(source, SkyMaps):
            maps[name] = source
        else:
            unit, beam = _SIMULATED.get(name, (None, None))
            maps[name] = read_stack_map(name, source, unit=unit, fwhm_arcmin=beam)
        if name != "bands" and len(maps[name].bands) == 1:
            maps[name] = _named(maps[name], name)
    wanted = [name for name in COMPANIONS if name not in maps]
    if _is_simulated(run):
        for name in wanted:
            file = run.file(products.SIMULATED_Y_MAP if name == "y" else f"{products.SIMULATED}/{name}.fits")
            if file.is_file():
                unit, beam = _SIMULATED.get(name, ("over-density", 10.0))
                maps[name] = read_stack_map(name, file, unit=unit, fwhm_arcmin=beam)
            else:
                lacking[name] = "this simulated sky was made without it: `szeek run` in a new folder makes it"
        return maps, lacking
    galaxies: SkyMaps | None = None
    for name in wanted:
        try:
            files = locate(COMPANIONS[name])
        except FileNotFoundError:
            lacking[name] = f"{COMPANIONS[name]} is not in the data folder: {way_to_get(COMPANIONS[name])}"
            continue
        if COMPANIONS[name] == "wisexscos":
            galaxies = galaxy_maps(read_wisexscos(next(iter(files.values())))) if galaxies is None else galaxies
            known = {"galaxies_all": "galaxies"}.get(name, name.removeprefix("galaxies_"))
            maps[name] = _named(galaxies, name, [band.name for band in galaxies.bands].index(known))
        else:
            maps[name] = _named(_read_companion(name, files), name)
    return maps, lacking


def _read_companion(name: str, files: Mapping[str, Path]) -> SkyMaps:
    """One map of the real sky from its data set's files."""
    inside = [file for top in files.values() for file in ([top] if top.is_file() else sorted(top.rglob("*.fits")))]
    if name == "kappa":
        klm = [file for file in inside if file.name == "dat_klm.fits"]
        if not klm:
            raise FileNotFoundError(f"no dat_klm.fits among {', '.join(f.name for f in inside)}; fetch it again")
        return read_convergence(klm[0])
    if name == "y":
        milca = [file for file in inside if "milca" in file.name.lower()]
        return read_stack_map("milca", (milca or inside)[0])
    if name == "xray":
        return read_stack_map("rosat", inside[0])
    return read_stack_map(name, inside[0])


def _named(maps: SkyMaps, name: str, k: int = 0) -> SkyMaps:
    """Band k by itself, under the name that it has here."""
    band = maps.bands[k]
    values = maps.values if maps.n_band == 1 else np.ascontiguousarray(maps.values[:, [k]])
    return SkyMaps(values, maps.footprint, (Band(name, band.freq_ghz, band.fwhm_arcmin, band.unit),))


def _injections(run: RunFolder, y_map: SkyMaps | None, mask: NDArray[np.bool_] | None) -> Table | None:
    """Fluxes of the run's injected clusters, weighted as the clusters of a sky are; None where there are none."""
    file = run.file(products.SELECTION)
    if y_map is None or not file.is_file():
        return None
    from szeek.assess.selection import Selection  # loads PyTorch, which the rest does without

    population = draw_haloes(0, m500_min_1e14msun=_LIGHTEST_1E14MSUN)
    return measure_injected_fluxes(Selection.read(file).injections, y_map, population, mask=mask)


def _inside(clusters: Table, dust: NDArray[np.float64]) -> Table:
    if not len(clusters):
        return clusters
    lon_deg, lat_deg = (np.asarray(clusters[name], float) for name in ("lon_deg", "lat_deg"))
    return clusters[np.isfinite(dust[healpy.ang2pix(_nside(dust), lon_deg, lat_deg, lonlat=True)])]


def _is_simulated(run: RunFolder) -> bool:
    return run.has(products.SIMULATED) if run.is_simulated is None else run.is_simulated


def _nside(values: NDArray[Any]) -> int:
    return math.isqrt(values.size // 12)
