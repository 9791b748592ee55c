"""Stages that search a run's maps once more: with clusters injected (completeness), and as null skies (purity)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy.special import chdtrc

from szeek.assess.detections import LEAST_PROBABILITY, DetectionCheck, DetectionCurve, independent_clusters
from szeek.assess.looks import LookSums, fit_look, stack_spectra, sum_looks
from szeek.assess.match import match
from szeek.assess.nullsky import SHINING, THRESHOLDS, count_null_sources, flip_set, flip_signs, rotate_bands
from szeek.assess.selection import (
    Selection,
    fit_position_errors,
    halo_offsets,
    judge_injections,
    match_injections,
    measure_noise,
    predicted_counts,
)
from szeek.assess.sources import find_sources
from szeek.config import Config
from szeek.files import write_table
from szeek.filter.layout import field_nside
from szeek.filter.matchedfilter import beam_scale
from szeek.filter.states import FieldState
from szeek.find.predict import predict, read_prediction
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import Model, load_model
from szeek.learn.normalise import local_background
from szeek.measure.fluxes import count_haloes, fit_flux_correction
from szeek.measure.pairs import truth_radius
from szeek.measure.photometry import least_flux_arcmin2, measure_sources
from szeek.parallel import Progress, connect
from szeek.physics.instrument import Instrument
from szeek.pipeline import products
from szeek.pipeline.further import inject_further, read_further_photons
from szeek.pipeline.measure import field_states, look_up_clusters
from szeek.pipeline.products import RunFolder
from szeek.pipeline.stage import Facts, Run, Stage
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.inject import draw_injections, inject_clusters, with_looks
from szeek.sky.healpix import nside_of
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.photons import PhotonMap
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles, pixels_near_tiles

if TYPE_CHECKING:
    from distributed import Client

#: Bins in which a simulated sky's own haloes are counted: of flux over the faintest that counts, 3e-4 arcmin^2 with
#: HFI's beams.
_Y500_BINS = (1.0, 1.5, 7 / 3, 10 / 3, 5.0, 25 / 3, np.inf)
#: Most flux (Y500, arcmin^2) per deg^2 that one round of injections adds: half as much again as the haloes above 1e-4
#: arcmin^2 of a simulated sky have. Four times as much, from clusters of up to 1e-2 arcmin^2, lowers S/N maps between
#: them by 0.1 to 0.6 (theta500 of 2.5 to 20 arcmin), for their filter takes the mean around a cluster off.
_MOST_FLUX_PER_DEG2 = 2.5e-4
_SKY_DEG2 = 41252.96
#: Faintest injections for HFI's beams, and how far they are apart; less for narrower beams, which see fainter ones.
_FAINTEST_ARCMIN2, _APART_ARCMIN, _LEAST_APART_ARCMIN = 1e-4, 50.0, 15.0
#: Sky around chosen tiles that is filtered: more than the network sees beyond a pixel.
_AROUND_TILES_DEG, _AROUND_NSIDE = 5.0, 64


@dataclass(frozen=True)
class _Ground:
    """Where a run is searched once more: its sky, what was found in it, and what is known to be there."""

    config: Config
    network: Model
    maps: SkyMaps | MapSet
    where: NDArray[np.bool_]  # searched: RING, of the maps' nside or that of a set's coverage
    around: NDArray[np.bool_]  # filtered: some degrees more
    sources: Table
    catalogue: Table | None
    haloes: Table | None

    @property
    def known(self) -> Table | None:
        """Catalogued clusters of known size and true haloes.

        Not those known by their richness alone: there are three in a deg^2, most of them too faint for the maps.
        """
        tables = [] if self.haloes is None else [self.haloes]
        if self.catalogue is not None:
            tables.append(self.catalogue[np.isfinite(np.asarray(self.catalogue["theta500_arcmin"], float))])
        return vstack(tables, metadata_conflicts="silent") if tables else None

    def is_inside(self, table: Table) -> NDArray[np.bool_]:
        """Whether the positions of a table are searched."""
        pixel = healpy.ang2pix(nside_of(self.where), table["lon_deg"], table["lat_deg"], lonlat=True)
        return np.asarray(self.where[pixel])


def _search_ground(run: Run, tiles: tuple[int, ...] | None) -> _Ground:
    folder, config = run.products, run.config
    if config.split.folds and not config.model:
        raise ValueError(
            f"'{run.folder}' has {config.split.folds} folds, expected one network: give a run without folds"
        )
    network, maps = load_model(run.folder, bfloat16=config.predict.bfloat16), open_maps(run.file(products.MAPS))
    # before slow work, so that a run without a prediction is refused at once
    p_map = read_prediction(run.file(products.PREDICTION))
    sources = find_sources(p_map, config.detect.p_max, deblend=config.detect.deblend)
    catalogue = read_catalogue(run.file(products.CLUSTERS)) if folder.has(products.CLUSTERS) else None
    haloes = None
    if config.sky.simulate:
        haloes = select_clusters(read_catalogue(run.file(products.TRUTH)), f"truth>{run.truth_cut_arcmin2}")
    where = around = maps.seen if isinstance(maps, MapSet) else np.asarray(maps.footprint)
    if tiles is not None:
        near = pixels_near_tiles(_AROUND_NSIDE, tiles, _AROUND_TILES_DEG).astype(np.float32)
        around = healpy.ud_grade(near, nside_of(where)) > 0.5
        where = where & pixels_in_tiles(nside_of(where), tiles)
    return _Ground(config, network, maps, where, around, sources, catalogue, haloes)


def need_searchable(folder: RunFolder) -> None:
    """Refuse a folder whose maps cannot be searched once more.

    Raises
    ------
    FileNotFoundError
        If record, maps, network or prediction are missing.
    """
    folder.need(products.RECORD, products.MAPS, products.MODEL_CARD, products.PREDICTION)


# --- completeness by injection ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class SelectionOptions:
    """What is injected where.

    Parameters
    ----------
    n : int
        Clusters to inject, log-uniform in Y500 from 1e-4 to 1e-2 arcmin^2 and in theta500 from 1 to 20 arcmin.
    tiles : tuple of int, optional
        Only there; the whole footprint by default. Where a network was trained on these maps its held-out tiles are
        the honest choice.
    seed : int
    """

    n: int = 10_000
    tiles: tuple[int, ...] | None = None
    seed: int = 0


@dataclass(frozen=True)
class HaloCheck:
    """A simulated sky's own haloes in bins of flux: how many are found, how many the injections predict.

    Parameters
    ----------
    y500_arcmin2 : list of float
        Lower edges of the bins.
    n_found, n_expected : list
    probability : float
        Of a chi-square as large as that of all bins together.
    """

    y500_arcmin2: list[float]
    n_found: list[int]
    n_expected: list[float]
    probability: float


@dataclass(frozen=True)
class Selected(Facts):
    """Injections and what was found of them.

    ``chance`` is the share of injected positions that had a source before; ``look`` mean and error of what is known
    of how clusters look, from ``n_look`` of them; ``no_position_errors`` and ``no_flux_correction`` say why
    there are none.
    """

    n_injected: int = 0
    n_found: int = 0
    p_max: float = 0.1
    chance: float = 0.0
    haloes: HaloCheck | None = None
    known: DetectionCheck | None = None
    look: dict[str, list[float]] = field(default_factory=dict)
    n_look: int = 0
    no_position_errors: str = ""
    no_flux_correction: str = ""

    @property
    def warnings(self) -> list[str]:
        """What does not hold: a probability below 0.01 of what is found of own haloes or known clusters."""
        lines = [] if self.known is None else self.known.warn()
        haloes = self.haloes
        if haloes is not None and haloes.probability < LEAST_PROBABILITY:
            lines.append(
                f"{sum(haloes.n_found)} of this sky's own haloes are found where {sum(haloes.n_expected):.0f} are "
                f"expected from injections (probability {haloes.probability:.2g}): the completeness does not hold"
            )
        return lines


def selection_stage(options: SelectionOptions) -> Stage:
    """Completeness and position errors of a run by injection.

    Clusters, of shapes as haloes have them and of the looks that known clusters have in these maps
    (:mod:`szeek.assess.looks`), and the galaxies in them are painted into the run's own maps, 50 arcmin
    from one another and from those that are known, and looked for with the run's own network and detection; the
    matched-filter S/N maps are made again with them inside, but with the noise as it was without. Position errors are
    those of the injections, but of a simulated run those of its own haloes. How many of these are found, and how many
    of the known clusters that were not found by their SZ effect, is held against the completeness.
    """

    def work(run: Run, progress: Progress | None) -> Selected:
        return _select(run, options, progress)

    return Stage(
        "selection",
        work,
        sections=("detect", "predict"),
        reads=(products.MAPS, products.FILTERED, products.WEIGHTS, products.PREDICTION, products.CLUSTERS),
        writes=(products.SELECTION, products.DETECTIONS),
        may_write=(products.POSITIONS, products.FLUXES),
        facts=Selected,
        options=asdict(options),
    )


def _select(run: Run, options: SelectionOptions, progress: Progress | None) -> Selected:
    ground = _search_ground(run, options.tiles)
    config, network, maps, where, seed = run.config, ground.network, ground.maps, ground.where, options.seed
    instrument, nside = read_instrument(config.sky.instrument), network.normaliser.background_nside
    scale = beam_scale(maps, maps.bands)
    injections = draw_injections(
        seed,
        options.n,
        y500_range_arcmin2=(scale * _FAINTEST_ARCMIN2, 1e-2),
        footprint=where,
        avoid=ground.known,
        min_separation_arcmin=max(scale * _APART_ARCMIN, _LEAST_APART_ARCMIN),
        shapes=True,
        few_bright=True,
    )
    photons = read_further_photons(run)
    states = field_states(run, maps, progress)
    near = {pixel: states[pixel] for pixel in _fields_in(ground.around, field_nside(maps)) if pixel in states}
    with (
        connect(run.scheduler) as client,
        tempfile.TemporaryDirectory(prefix=".selection-", dir=run.folder) as scratch,
    ):
        work = _Work(run.threads, client, progress)
        sums: list[LookSums] = []
        if ground.catalogue is not None:
            sums = sum_looks(maps, ground.catalogue, instrument, states, **work.options)
        injections = with_looks(injections, fit_look(sums).varied, seed)
        if client is not None:  # the workers read maps from folders
            maps = open_maps(maps.save(Path(scratch) / "0"))
        background = local_background(maps, nside) if nside else None
        search = _Search(network, config, near, background, where, Path(scratch), run.radius_arcmin, photons)
        parts = _split_rounds(injections, float(where.mean()))
        rounds = [search.inject(maps, part, instrument, seed, work) for part in parts]
        injected_looks = [each for of_round in rounds for each in of_round.looks]
        look = fit_look(sums, injected_looks)
        found = vstack([of_round.injections for of_round in rounds])
        noise = measure_noise(maps, instrument, filtered=near, **work.options)
        selection = judge_injections(
            found, ground.sources, noise, config.detect.p_max, look=look.to_table(), radius_arcmin=run.radius_arcmin
        )
        curve = DetectionCurve.count(
            np.asarray(found["snr_there"], float),
            np.isfinite(np.asarray(found["p"], float)),
            config.detect.p_max,
            selection.look_error,
        )
        known = None
        if ground.catalogue is not None and not maps.further:  # else listed for what the network sees as well
            listed = independent_clusters(ground.catalogue[ground.is_inside(ground.catalogue)])
            known = curve.check(
                *look_up_clusters(listed, ground.sources, maps, config, near, work.threads, run.radius_arcmin)
            )
    write_table(curve.to_table(), run.target(products.DETECTIONS))
    bands = [band.name for band in maps.bands]
    spectra = {"KNOWN": stack_spectra(sums, bands), "INJECTED": stack_spectra(injected_looks, bands)}
    selection.write(run.target(products.SELECTION), spectra=spectra)
    no_fluxes = _write_flux_correction(run, vstack([of_round.fluxes for of_round in rounds]))
    haloes: HaloCheck | None = None
    if ground.haloes is not None:
        own, true = (table[ground.is_inside(table)] for table in (ground.sources, ground.haloes))
        haloes = _check_haloes(selection, own, true, run.truth_cut_arcmin2, run.radius_arcmin)
    refused = ""
    try:
        if ground.haloes is None:
            errors = fit_position_errors(selection.injections, draw_haloes(seed, m500_min_1e14msun=2.0))
        else:
            errors = fit_position_errors(halo_offsets(own, true, where, seed=seed, radius_arcmin=run.radius_arcmin))
        write_table(errors.to_table(), run.target(products.POSITIONS))
    except ValueError as error:  # too few were found
        run.target(products.POSITIONS).unlink(missing_ok=True)
        refused = str(error)
    return Selected(
        n_injected=len(selection.injections),
        n_found=int(np.isfinite(selection.injections["p"]).sum()),
        p_max=config.detect.p_max,
        chance=float(selection.chance),
        haloes=haloes,
        known=known,
        look={str(row["name"]): [float(row["mean"]), float(row["error"])] for row in look.to_table()},
        n_look=look.n_clusters,
        no_position_errors=refused,
        no_flux_correction=no_fluxes,
    )


def _write_flux_correction(run: Run, fluxes: Table) -> str:
    """Fit and write the correction of fluxes; returns why there is none."""
    truth = Table({name: fluxes[f"true_{name}"] for name in ("y500_arcmin2", "profile")})
    truth["weight"] = fluxes["weight"]
    try:
        write_table(fit_flux_correction(fluxes, truth).to_table(), run.target(products.FLUXES))
    except ValueError as error:  # too few were found
        run.target(products.FLUXES).unlink(missing_ok=True)
        return str(error)
    return ""


@dataclass(frozen=True)
class _Work:
    """How the work on fields is done: threads, workers, progress."""

    threads: int | None
    client: Client | None
    progress: Progress | None

    @property
    def options(self) -> dict[str, Any]:
        """As the functions that spread fields take them."""
        return {"threads": self.threads, "client": self.client, "progress": self.progress}


def _fields_in(around: NDArray[np.bool_], nside: int) -> NDArray[np.int64]:
    """Pixels of this nside (RING), at most 64, that hold any of this sky."""
    vectors = healpy.pix2vec(
        _AROUND_NSIDE, np.flatnonzero(healpy.ud_grade(around.astype(np.float32), _AROUND_NSIDE) > 0)
    )
    return np.unique(healpy.vec2pix(nside, *vectors))


def _split_rounds(injections: Table, sky_fraction: float) -> list[Table]:
    """Parts that are injected one after the other, so that none makes the sky much brighter than it is."""
    flux = float(np.sum(injections["y500_arcmin2"]))
    n_round = max(1, math.ceil(flux / (_MOST_FLUX_PER_DEG2 * sky_fraction * _SKY_DEG2)))
    return [injections[k::n_round] for k in range(n_round)]


class _Round(NamedTuple):
    """A round of injections.

    ``injections`` have p and offset of what was found, their S/N in the maps, and the number of haloes that each
    stands for; ``fluxes`` is the photometry of those found, with their true flux.
    """

    injections: Table
    fluxes: Table
    looks: list[LookSums]


@dataclass(frozen=True)
class _Search:
    """How maps with injections are searched: with the noise and the background of those without."""

    network: Model
    config: Config
    states: dict[int, FieldState]
    background: NDArray[np.float32] | None
    where: NDArray[np.bool_]
    scratch: Path
    radius_arcmin: float
    photons: Mapping[str, PhotonMap]

    def inject(
        self, maps: SkyMaps | MapSet, part: Table, instrument: Instrument, seed: int, work: _Work
    ) -> _Round:
        """Paint these clusters, search and measure."""
        if work.progress is not None:
            work.progress("selection", 0, 0, f"painting {len(part)} clusters")
        painted = inject_clusters(maps, part, instrument, galaxies_seed=seed, threads=work.threads)
        painted = inject_further(painted, self.photons, part, seed, work.threads)
        if work.client is not None:
            painted = open_maps(painted.save(self.scratch / "1"))
        filtered = self.network.prepare(painted, work.threads, work.client, noise=self.states)
        if work.client is not None:
            filtered.save_snr(self.scratch / "1")
            filtered = open_maps(self.scratch / "1")
        detect, options = self.config.detect, self.config.predict
        p_map = predict(
            filtered, self.network, margin=options.margin, rotations=options.rotations, where=self.where,
            background=self.background, **work.options,
        )  # fmt: skip
        table = match_injections(part, find_sources(p_map, detect.p_max, deblend=detect.deblend), self.radius_arcmin)
        where_painted = table[["lon_deg", "lat_deg", "theta500_arcmin"]]
        where_found = table[np.isfinite(np.asarray(table["p"], float))]
        found = Table({"lon_deg": where_found["found_lon_deg"], "lat_deg": where_found["found_lat_deg"]})
        # every second one as a candidate with a redshift is measured
        found["z"] = np.where(np.arange(len(found)) % 2, np.nan, np.asarray(where_found["z"], float))
        measured = self.measure(painted, vstack([where_painted, found]), work, injected=True)
        table["snr_there"] = np.asarray(measured["fixed_snr"][: len(table)], float)
        fluxes = measured[len(table) :]
        fluxes["z"], fluxes["true_y500_arcmin2"] = found["z"], where_found["y500_arcmin2"]
        fluxes["true_profile"] = where_found["profile"]
        number = count_haloes(table["y500_arcmin2"], table["theta500_arcmin"], least_flux_arcmin2(maps))
        table["weight"] = number / np.asarray(table["density"], float)
        fluxes["weight"] = table["weight"][np.isfinite(np.asarray(table["p"], float))]
        looks = sum_looks(painted, part, instrument, self.states, injected=True, **work.options)
        return _Round(table, fluxes, looks)

    def measure(self, maps: SkyMaps | MapSet, positions: Table, work: _Work, *, injected: bool = False) -> Table:
        """Photometry in these maps, with what the filter has learnt of those without injections."""
        columns: dict[str, NDArray[np.float64]] = {}
        for name in ("lon_deg", "lat_deg", "theta500_arcmin", "z"):
            if name in positions.colnames:
                columns[name] = np.ma.filled(np.ma.asarray(positions[name], float), np.nan)
        return measure_sources(
            maps, Table(columns), instrument=self.config.sky.instrument, filtered=self.states, injected=injected,
            **work.options,
        )  # fmt: skip


def _check_haloes(
    selection: Selection, sources: Table, haloes: Table, least_y500_arcmin2: float, radius_arcmin: float
) -> HaloCheck:
    judged = haloes.copy()
    judged["found"] = False
    judged["found"][match(sources, haloes, truth_radius(haloes, radius_arcmin))["cluster"]] = True
    bins = least_y500_arcmin2 * np.array(_Y500_BINS)
    counts = predicted_counts(selection, judged, bins)
    known = np.asarray(counts["variance"]) > 0
    edges = bins[:-1][known]
    counts, covariance = counts[known], counts.meta["covariance"][np.ix_(known, known)]
    apart = np.asarray(counts["n_found"] - counts["expected"])
    chi2 = float(apart @ np.linalg.solve(covariance, apart))
    return HaloCheck(
        edges.tolist(),
        np.asarray(counts["n_found"], int).tolist(),
        np.asarray(counts["expected"], float).tolist(),
        float(chdtrc(len(counts), chi2)),
    )


# --- purity from null skies ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PurityOptions:
    """Where null skies are searched.

    Parameters
    ----------
    tiles : tuple of int, optional
        Only there; the whole footprint by default.
    seed : int
        Of the shifted positions.
    """

    tiles: tuple[int, ...] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Purity(Facts):
    """Purity of the sources above the threshold nearest to 0.5; ``purity_true`` on a simulated sky."""

    p: float = 0.5
    n: int = 0
    purity_flipped: float | None = None
    confirmed: float | None = None
    purity_true: float | None = None


def purity_stage(options: PurityOptions) -> Stage:
    """Purity of a run without truth, from null skies and from known clusters.

    The run's maps with signs flipped and, of the full sky's, with bands turned against each other
    (:mod:`szeek.assess.nullsky`) go through its own network and detection; of a simulated run the true purity stands
    beside.
    """

    def work(run: Run, progress: Progress | None) -> Purity:
        return _measure_purity(run, options, progress)

    return Stage(
        "purity",
        work,
        sections=("detect", "predict"),
        reads=(products.MAPS, products.WEIGHTS, products.PREDICTION, products.CLUSTERS),
        writes=(products.PURITY,),
        facts=Purity,
        options=asdict(options),
    )


def _null_skies(
    run: Run, ground: _Ground, progress: Progress | None
) -> Iterator[tuple[str, SkyMaps | MapSet, NDArray[np.bool_]]]:
    """Name and maps of each null sky, one at a time, and where it is searched."""

    if isinstance(ground.maps, MapSet):
        run.products.need(products.COMPACT)
        compact = Table.read(run.file(products.COMPACT))
        yield "flipped", flip_set(ground.maps, compact, read_instrument(run.config.sky.instrument)), ground.where
        return
    for name, make in (("flipped", flip_signs), ("rotated", rotate_bands)):
        if progress is not None:
            progress("purity", 0, 0, f"{name} sky")
        sky = make(ground.maps)
        sky = replace(sky, footprint=sky.footprint & ground.around)
        yield name, sky, ground.where & sky.footprint


def _measure_purity(run: Run, options: PurityOptions, progress: Progress | None) -> Purity:
    ground = _search_ground(run, options.tiles)
    if ground.maps.further:
        beside = ", ".join(one.name for one in ground.maps.further)
        raise ValueError(
            f"null skies are made of the bands, and this network sees {beside} as well, in which the clusters would "
            "stay; its purity is that of calibration.ecsv, measured on simulated skies"
        )
    config, nulls = run.config, {}
    for name, sky, where in _null_skies(run, ground, progress):
        p_map = predict(
            sky,
            ground.network,
            margin=config.predict.margin,
            rotations=config.predict.rotations,
            where=where,
            threads=run.threads,
            progress=progress,
        )
        found = find_sources(p_map, config.detect.p_max, deblend=config.detect.deblend)
        if name == "flipped":  # a source that shines is a hole there, which the sky has none of
            seen = ground.maps
            if isinstance(seen, SkyMaps):
                seen = replace(seen, footprint=seen.footprint & ground.around)
            kinds = measure_sources(seen, found, instrument=config.sky.instrument, threads=run.threads)["kind"]
            found = found[~np.isin(kinds, SHINING)]
        nulls[name] = found, float(ground.where.sum() / max(1, where.sum()))
    own, known, true_ones = (
        None if table is None else table[ground.is_inside(table)]
        for table in (ground.sources, ground.catalogue, ground.haloes)
    )
    # below the run's own threshold there are no candidates to count
    thresholds = [p for p in THRESHOLDS if p >= config.detect.p_max] or [config.detect.p_max]
    table = count_null_sources(
        own, nulls, known, true_ones, footprint=ground.where, thresholds=thresholds, radius_arcmin=run.radius_arcmin,
        seed=options.seed,
    )  # fmt: skip
    write_table(table, run.target(products.PURITY))
    half = table[int(np.abs(np.asarray(table["p"]) - 0.5).argmin())]
    return Purity(
        p=float(half["p"]),
        n=int(half["n"]),
        purity_flipped=float(half["purity_flipped"]),
        confirmed=float(half["confirmed"]),
        purity_true=float(half["purity_true"]) if ground.haloes is not None else None,
    )
