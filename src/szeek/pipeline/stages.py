"""The stages of a run, each from the products of those before it.

sky -> maps -> filter -> train (or model) -> predict -> calibrate -> detect -> measure -> assess.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.assess.calibrate import (
    expected_calibration_error,
    fit_calibration,
    judge_sources,
    measure_reliability,
    predict_out_of_fold,
)
from szeek.assess.classes import find_class_sources, join_calibrations, judge_class_sources
from szeek.assess.recovery import GROUND_CUTS, HaloCuts, completeness_purity, measure_recovery
from szeek.assess.sources import LOWEST_P, find_sources
from szeek.config import Config
from szeek.files import remove_path, whole_folder, write_json, write_table
from szeek.filter.snrmaps import NOISE_THETA500_ARCMIN, add_snr_maps, filter_sky, tabulate_noise
from szeek.filter.states import write_states
from szeek.find.detect import detect_sources
from szeek.find.predict import empty_map, predict, predict_classes, read_prediction, write_prediction
from szeek.find.shards import gather_shards
from szeek.inputs.catalogues import read_catalogue, select_clusters, truth_cut, write_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.inputs.knownclusters import group_clusters, name_selections, read_clusters
from szeek.inputs.preflight import preflight
from szeek.inputs.reddening import reddening_mag
from szeek.inputs.surveymaps import read_maps
from szeek.learn.distributed import current_ranks
from szeek.learn.folds import covered_share, fold_config, fold_of_tile
from szeek.learn.foregrounds import train_foregrounds
from szeek.learn.model import find_model, load_model
from szeek.learn.train import member_of, train
from szeek.parallel import Progress, connect, spread
from szeek.pipeline import products
from szeek.pipeline.further import further_files, write_further
from szeek.pipeline.stage import Facts, Run, Stage, checksum
from szeek.pipeline.ymap import foreground_skies
from szeek.simulate.field.simulate import FieldOptions
from szeek.simulate.realisations import simulate, simulate_skies
from szeek.simulate.sky import SimulateConfig
from szeek.sky.mapset import COVERAGE_NSIDE, MapSet, open_maps
from szeek.sky.partial import PartialMap, write_partial_map
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import Tiles, pixels_in_tiles, tile_of

#: Full sky in square degrees.
_SKY_DEG2 = 41252.96


def _say(progress: Progress | None, stage: str, detail: str) -> None:
    """A step of unknown length."""
    if progress is not None:
        progress(stage, 0, 0, detail)


# --- sky -----------------------------------------------------------------------------------------------------


def _simulate(run: Run, progress: Progress | None) -> Facts:
    skies = [
        (_sky_to_simulate(sky, sky is run), sky.target(products.SIMULATED)) for sky in (run, *run.further_skies())
    ]
    with connect(run.scheduler) as client:
        if client is not None:
            simulate_skies(skies, client=client, progress=progress)
            return Facts()
    for config, folder in skies:
        simulate(config, folder, progress=progress)
    return Facts()


def _sky_to_simulate(run: Run, is_first: bool) -> SimulateConfig | FieldOptions:
    sky = run.config.sky
    common: dict[str, Any] = {"seed": run.config.seed, "nside": sky.nside, "instrument": sky.instrument}
    common |= {"clusters": sky.clusters, "threads": run.threads or 0}
    if sky.field is not None and sky.instrument == "planck-hfi":  # a part of the full sky
        return SimulateConfig(field=sky.field, y_map=False, companions=False, **common)
    if sky.field is not None:
        return FieldOptions(field=sky.field, **common)
    return SimulateConfig(companions=sky.companions and is_first, **common)


SKY = Stage("sky", _simulate, sections=("sky", "seed"), writes=(products.SIMULATION_RECORD,))


# --- maps ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Maps(Facts):
    """What was read: whether the known clusters are seen in the maps, and the checksums of the files."""

    preflight: str = ""
    inputs: dict[str, str] = field(default_factory=dict)


def _read_maps(run: Run, progress: Progress | None) -> Maps:
    for other in run.further_skies():
        _read_maps_of(other, progress)
    return _read_maps_of(run, progress)


def _read_maps_of(run: Run, progress: Progress | None) -> Maps:
    sky, known = run.config.sky, None
    if run.catalogue_files():
        _say(progress, "maps", "catalogues")
        clusters = read_clusters(run.catalogue_files(), sky.columns)
        # before the maps: they take longer
        known = clusters if run.config.model else _label_clusters(_with_truth(run, clusters), run.config)
    _say(progress, "maps", "frequency maps")
    if sky.saved_maps is not None:
        maps = _link_maps(sky.saved_maps, run.target(products.MAPS), run.config.input.theta500_arcmin)
    else:
        maps = read_maps(
            run.map_files(),
            sky.instrument,
            ivar=run.ivar_files(),
            unit=sky.unit,
            frame=sky.frame,
            ordering=sky.ordering,
            masks=sky.masks,
            check=sky.check,
            out=run.target(products.MAPS),
        )
    finding = ""
    if known is not None:
        _say(progress, "maps", "preflight")
        if isinstance(maps, SkyMaps):
            finding = preflight(maps, known, sky.instrument, seed=run.config.seed).sentence
            _say(progress, "maps", finding)
        # last, so that a refused sky is not taken for a finished stage
        write_catalogue(name_selections(clusters), run.target(products.CLUSTERS))
    return Maps(finding, {str(path): checksum(path) for path in run.input_files()})


def _link_maps(source: Path, target: Path, theta500_arcmin: tuple[float, ...]) -> SkyMaps | MapSet:
    """A folder of links to saved maps, and to their S/N maps where these are of the wanted sizes."""
    maps = open_maps(source)
    remove_path(target)
    target.mkdir(parents=True)
    filtered = maps.theta500_arcmin == tuple(theta500_arcmin)
    for file in sorted(source.iterdir()):
        if filtered or file.name not in ("snr.npy", "snr-runs.npy", "filter.json"):
            (target / file.name).symlink_to(file.resolve())
    return open_maps(target)


def _with_truth(run: Run, clusters: Table) -> Table:
    """The known clusters, and what else of the simulated sky the labels are to be made of."""
    if not run.config.sky.simulate:
        return clusters
    tables = [clusters]
    if any(truth_cut(name) is not None for name in run.config.labels.selections):
        tables.append(select_clusters(read_catalogue(run.file(products.TRUTH)), f"truth>{run.truth_cut_arcmin2}"))
    if run.config.network.classes:
        file = run.file(products.SIMULATED_CLASSES)
        if not file.is_file():
            raise FileNotFoundError(
                f"'{file}' is missing: an earlier version simulated this sky; remove the folder "
                f"'{run.file(products.SIMULATED)}', and the run simulates it again"
            )
        tables.append(Table.read(file))
    return vstack(tables, metadata_conflicts="silent")


def _label_clusters(clusters: Table, config: Config) -> Table:
    """The clusters that the network is trained on."""
    chosen = [select_clusters(clusters, name) for name in config.labels.selections]
    return vstack(chosen, metadata_conflicts="silent")


def _maps_inputs(run: Run) -> list[Path]:
    if run.config.sky.simulate:
        return run.mask_files()
    saved = run.config.sky.saved_maps
    if saved is None:
        return run.input_files()
    names = ("maps.json",) if (saved / "maps.json").is_file() else ("values.npy", "bands.json")
    return [*run.input_files(), *(saved / name for name in names)]


MAPS = Stage(
    "maps",
    _read_maps,
    sections=("sky",),
    reads=(products.SIMULATION_RECORD,),
    writes=(products.MAPS,),
    may_write=(products.CLUSTERS,),
    facts=Maps,
    files=_maps_inputs,
)


# --- filter --------------------------------------------------------------------------------------------------


def write_noise(noise: PartialMap, run: Run) -> None:
    """Noise of the matched filter as a map, and as areas."""
    columns = [f"Y500_ERR_{theta:g}" for theta in NOISE_THETA500_ARCMIN]
    write_partial_map(noise, run.target(products.NOISE), columns, unit="arcmin2")
    write_table(tabulate_noise(noise), run.target(products.NOISE_AREAS))


def _filter(run: Run, progress: Progress | None) -> Facts:
    sizes, instrument = run.config.input.theta500_arcmin, run.config.sky.instrument
    with connect(run.scheduler) as client:
        for sky in (run, *run.further_skies()):
            folder = sky.target(products.MAPS)
            write_further(sky, progress)
            maps = open_maps(folder)
            if sky is run and run.config.split.folds and not run.config.model:
                _deal_out_tiles(run, maps)  # refused before the filter, which takes longer
            if maps.theta500_arcmin == sizes and (sky.target(products.STATES).exists() or not sizes):
                continue
            if sizes and sky is run:
                found = filter_sky(
                    maps, sizes, instrument=instrument, threads=run.threads, client=client, progress=progress
                )
                write_states(found.states, sky.target(products.STATES))
                write_table(found.compact, sky.target(products.COMPACT))
                write_noise(found.noise, sky)
                maps = found.maps
            else:  # the training alone sees it, or nothing is to be seen beside the bands
                maps = add_snr_maps(
                    maps, sizes, instrument=instrument, threads=run.threads, client=client, progress=progress
                )
            maps.save_snr(folder)
    return Facts()


FILTER = Stage(
    "filter",
    _filter,
    sections=("input",),
    reads=(products.MAPS,),
    writes=(products.FILTERED,),
    may_write=(products.STATES, products.COMPACT, products.NOISE, products.NOISE_AREAS),
    files=further_files,
)


# --- train, or take a network that is given --------------------------------------------------------------------


@dataclass(frozen=True)
class Trained(Facts):
    """The epoch of lowest validation loss; of each fold where there are folds."""

    best_epoch: int | list[int] = 0


def _train(run: Run, progress: Progress | None) -> Trained:
    if run.config.network.target == "foregrounds":
        model = train_foregrounds(
            foreground_skies((run, *run.further_skies()), progress), run.config, run.folder, threads=run.threads,
            device=run.device, progress=progress,
        )  # fmt: skip
        return Trained(model.card["best_epoch"])
    ranks, n_folds = current_ranks(), run.config.split.folds
    with connect(run.scheduler) as client:
        if client is not None:
            # workers leave finished trainings in the folders; what follows finds them there, and joins members
            alone = replace(run, folder=run.folder.resolve(), threads=1)
            parts = [(fold, k) for fold in range(max(1, n_folds)) for k in range(run.config.network.members)]
            trainings = spread(
                _train_part, parts, alone, client=client, progress=progress, stage="train", detail="trainings"
            )
            for _ in trainings:
                pass
    skies = _training_skies(run)
    options: dict[str, Any] = {"further": skies[1:], "threads": run.threads, "progress": progress}
    options["device"] = run.device if run.scheduler is None else "cpu"
    if not n_folds:
        model = train(*skies[0], run.config, run.folder, **options)
        return Trained(model.card["best_epoch"])
    folders = [_home_of_fold(run, fold) for fold in range(n_folds)]
    for fold, folder in enumerate(folders):
        # a killed run goes on with the fold that it was in
        if ranks.follow_first(not (folder / "done").exists()):
            train(*skies[0], _config_of_fold(run, fold, skies[0][0]), folder, **options)
            if ranks.rank == 0:
                (folder / "done").touch()
    if ranks.rank > 0:  # only the first process writes
        return Trained()
    for name in (products.WEIGHTS, products.MODEL_CARD):  # what `--model` finds in the run's folder
        shutil.copyfile(folders[0] / name, run.target(name))
    return Trained([load_model(folder).card["best_epoch"] for folder in folders])


def _training_skies(run: Run) -> list[tuple[SkyMaps | MapSet, Table]]:
    """Maps and clusters of the run's own sky, and of those that only the training sees."""
    return [
        (open_maps(sky.file(products.MAPS)), _with_truth(sky, read_catalogue(sky.file(products.CLUSTERS))))
        for sky in (run, *run.further_skies())
    ]


def _config_of_fold(run: Run, fold: int, maps: SkyMaps | MapSet) -> Config:
    return fold_config(run.config, fold, covered_share(maps, run.config.split.nside))


def _deal_out_tiles(run: Run, maps: SkyMaps | MapSet) -> NDArray[np.int64]:
    """Fold of each tile, -1 where the maps are not."""
    split = run.config.split
    return fold_of_tile(split.folds, run.config.seed, covered_share(maps, split.nside))


def _home_of_fold(run: Run, fold: int) -> Path:
    return run.folder / f"fold-{fold}" if run.config.split.folds else run.folder


def _train_part(part: tuple[int, int], run: Run) -> None:
    """One member of one fold, by itself."""
    fold, k = part
    skies = _training_skies(run)
    config = _config_of_fold(run, fold, skies[0][0]) if run.config.split.folds else run.config
    config, home, further = member_of(config, _home_of_fold(run, fold), skies[1:], k)
    train(*skies[0], config, home, further=further, threads=run.threads, device=run.device)


TRAIN = Stage(
    "train",
    _train,
    sections=("seed", "split", "input", "labels", "patches", "network", "train"),
    reads=(products.MAPS, products.FILTERED),
    writes=(products.WEIGHTS, products.MODEL_CARD),
    facts=Trained,
    begun=(products.CHECKPOINT, "fold-*", "member-*"),
)


#: What was measured of a network and lies beside it.
_MEASURED = (
    *(products.CALIBRATION, products.POSITIONS, products.FLUXES, products.DETECTIONS),
    products.CLASS_CALIBRATION,
)


def _take_model(run: Run, progress: Progress | None) -> Facts:
    """Copy the network that is given, and what was measured of it."""
    for file in _model_files(run):
        shutil.copyfile(file, run.target(file.name))
    return Facts()


def _model_files(run: Run) -> list[Path]:
    source = find_model(run.config.model)
    files = (source / name for name in (products.WEIGHTS, products.MODEL_CARD, *_MEASURED))
    return [file for file in files if file.is_file()]


MODEL = Stage(
    "model",
    _take_model,
    writes=(products.WEIGHTS, products.MODEL_CARD),
    may_write=_MEASURED,
    files=_model_files,
)


# --- predict -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predicted(Facts):
    """Area with a value of p."""

    area_deg2: float = 0.0


def _predict(run: Run, progress: Progress | None) -> Predicted:
    maps, n_folds = open_maps(run.file(products.MAPS)), run.config.split.folds
    if run.config.model:
        n_folds = 0  # what is given is one network
    options: dict[str, Any] = {"margin": run.config.predict.margin, "rotations": run.config.predict.rotations}
    mixed = run.config.predict.bfloat16
    if run.gather:
        p_map = gather_shards(maps, load_model(run.folder, bfloat16=mixed), run.folder, **options)
    else:
        options |= {"device": run.device, "progress": progress}
        with connect(run.scheduler) as client:

            def work(folder: Path, where: NDArray[np.bool_] | None) -> NDArray[np.float32] | PartialMap:
                model = load_model(folder, bfloat16=mixed)
                all_of_it = predict_classes if model.classes else predict
                return all_of_it(maps, model, where=where, threads=run.threads, client=client, **options)

            p_map = work(run.folder, None) if not n_folds else _predict_folds(run, maps, work)
    p_map = _write_classes(p_map, run)
    write_prediction(p_map, run.target(products.PREDICTION), model=run.config.preset)
    values = p_map.values if isinstance(p_map, PartialMap) else p_map
    return Predicted(round(float(np.isfinite(values).sum()) / (12 * maps.nside**2) * _SKY_DEG2, 2))


def _write_classes(p_map: NDArray[np.float32] | PartialMap, run: Run) -> NDArray[np.float32] | PartialMap:
    """Write the maps of the further classes, if there are any, each as that of clusters; and give that one back."""
    values = p_map.values if isinstance(p_map, PartialMap) else p_map
    if values.ndim == 1:
        return p_map

    def column(k: int) -> NDArray[np.float32] | PartialMap:
        one = np.ascontiguousarray(values[:, k])
        return replace(p_map, values=one) if isinstance(p_map, PartialMap) else one

    with whole_folder(run.target(products.CLASSES)) as staging:
        for k, name in enumerate(load_model(run.folder).classes, 1):
            write_prediction(column(k), staging / f"{name}.fits", model=run.config.preset, **{"class": name})
    return column(0)


def _predict_folds(
    run: Run,
    maps: SkyMaps | MapSet,
    work: Callable[[Path, NDArray[np.bool_] | None], NDArray[np.float32] | PartialMap],
) -> NDArray[np.float32] | PartialMap:
    """Each tile by the network that was kept from it."""
    of_tile, nside = _deal_out_tiles(run, maps), run.config.split.nside
    tiles = [Tiles(tuple(np.flatnonzero(of_tile == fold).tolist()), nside) for fold in range(run.config.split.folds)]
    if isinstance(maps, MapSet):
        parts = []
        for fold, of_fold in enumerate(tiles):
            part = work(_home_of_fold(run, fold), pixels_in_tiles(COVERAGE_NSIDE, of_fold))
            assert isinstance(part, PartialMap)
            parts.append(part.within(of_fold))
        return PartialMap.join(parts)
    p_map = empty_map(len(maps.footprint), 1 + len(run.config.network.classes) if run.config.network.classes else 0)
    for fold, of_fold in enumerate(tiles):
        mine = pixels_in_tiles(maps.nside, of_fold)
        p_map[mine] = np.asarray(work(_home_of_fold(run, fold), mine))[mine]
    return p_map


PREDICT = Stage(
    "predict",
    _predict,
    sections=("predict",),
    reads=(products.MAPS, products.FILTERED, products.WEIGHTS),
    writes=(products.PREDICTION,),
    may_write=(products.CLASSES,),
    facts=Predicted,
)


# --- calibrate -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibrated(Facts):
    """Purity against p of held-out tiles of a simulated sky, or why there is none."""

    refused: str = ""
    n_sources: int = 0
    n_clusters: int = 0
    tiles: list[int] = field(default_factory=list)
    expected_calibration_error: float | None = None
    reliability: list[dict[str, Any]] = field(default_factory=list)


def _calibrate(run: Run, progress: Progress | None) -> Calibrated:
    """Fit purity against p on the held-out tiles of a simulated sky; on a real one the truth is not known."""
    config, target = run.config, run.target(products.CALIBRATION)
    target.unlink(missing_ok=True)
    _say(progress, "calibrate", "purity against p")
    _calibrate_classes(run)
    held_out = config.split.held_out
    sources = find_sources(read_prediction(run.file(products.PREDICTION)), LOWEST_P, deblend=config.detect.deblend)
    truth, cut_arcmin2 = read_catalogue(run.file(products.TRUTH)), run.truth_cut_arcmin2
    judged, real = judge_sources(
        sources, truth, held_out, y500_min_arcmin2=cut_arcmin2, radius_arcmin=run.radius_arcmin
    )
    p, tile = np.asarray(judged["p"], float), np.asarray(judged["tile"])
    dust = reddening_mag(np.asarray(judged["lon_deg"]), np.asarray(judged["lat_deg"]))
    try:
        calibration = fit_calibration(p, real, dust, groups=tile, n_dust_bins=2, seed=config.seed)
        honest = predict_out_of_fold(p, real, dust, groups=tile, n_dust_bins=2, seed=config.seed)
    except ValueError as error:  # too few sources on a small sky
        return Calibrated(refused=str(error))
    write_table(replace(calibration, y500_min_arcmin2=cut_arcmin2).to_table(), target)
    diagram = measure_reliability(honest, real, equal="clusters")
    return Calibrated(
        n_sources=len(judged),
        n_clusters=int(real.sum()),
        tiles=list(held_out),
        expected_calibration_error=expected_calibration_error(measure_reliability(honest, real)),
        reliability=[{name: plain_value(row[name]) for name in diagram.colnames} for row in diagram],
    )


def _calibrate_classes(run: Run) -> None:
    """Fit the probability of each further class in the same way; one of too few sources has none."""
    run.target(products.CLASS_CALIBRATION).unlink(missing_ok=True)
    calibrations = {}
    truth = None
    for name, p_map in run.products.class_maps.items():
        truth = Table.read(run.file(products.SIMULATED_CLASSES)) if truth is None else truth
        own = truth[np.char.lower(np.asarray(truth["survey"], str)) == name]
        sources = find_sources(p_map, LOWEST_P, deblend=True)
        judged, real = judge_class_sources(sources, own, run.config.split.held_out)
        dust = reddening_mag(np.asarray(judged["lon_deg"]), np.asarray(judged["lat_deg"]))
        with contextlib.suppress(ValueError):  # too few sources on a small sky
            calibrations[name] = fit_calibration(
                np.asarray(judged["p"], float),
                real,
                dust,
                groups=np.asarray(judged["tile"]),
                n_dust_bins=2,
                seed=run.config.seed,
            )
    if calibrations:
        write_table(join_calibrations(calibrations), run.target(products.CLASS_CALIBRATION))


def plain_value(value: Any) -> Any:
    """A number or text that JSON holds; NaN becomes None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


CALIBRATE = Stage(
    "calibrate",
    _calibrate,
    sections=("split", "detect", "seed"),
    reads=(products.PREDICTION, products.SIMULATION_RECORD),
    may_write=(products.CALIBRATION, products.CLASS_CALIBRATION),
    facts=Calibrated,
)


# --- detect --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Detected(Facts):
    """Sources above the threshold, and of each further class of the network."""

    n_sources: int = 0
    n_of_class: dict[str, int] = field(default_factory=dict)


def _detect(run: Run, progress: Progress | None) -> Detected:
    _say(progress, "detect", "connected areas")
    options, folder = run.config.detect, run.products
    p_map = read_prediction(run.file(products.PREDICTION), run.frame)
    sources = find_sources(
        p_map,
        options.p_max,
        deblend=options.deblend,
        calibration=folder.calibration,
        position_errors=folder.position_errors,
        look_error=0.0 if folder.detection_curve is None else folder.detection_curve.look_error,
    )
    sources["tile"] = tile_of(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    if run.config.split.folds and not run.config.model:
        of_tile = _deal_out_tiles(run, open_maps(run.file(products.MAPS)))
        at = tile_of(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]), run.config.split.nside)
        sources["fold"] = of_tile[at]
    write_table(sources, run.target(products.SOURCES))
    return Detected(len(sources), _detect_classes(run))


def _detect_classes(run: Run) -> dict[str, int]:
    """Find the sources of the further classes, if the network has any."""
    p_maps, target = run.products.class_maps, run.target(products.CLASS_SOURCES)
    target.unlink(missing_ok=True)
    if not p_maps:
        return {}
    compact = run.file(products.COMPACT)
    found = find_class_sources(
        p_maps,
        run.config.detect.p_max,
        calibrations=run.products.class_calibrations,
        compact=Table.read(compact) if compact.is_file() else None,
        instrument=read_instrument(run.config.sky.instrument),
    )
    write_table(found, target)
    return {name: int((found["class"] == name).sum()) for name in p_maps}


DETECT = Stage(
    "detect",
    _detect,
    sections=("detect",),
    reads=(
        *(products.PREDICTION, products.CALIBRATION, products.POSITIONS, products.DETECTIONS),
        *(products.CLASSES, products.CLASS_CALIBRATION),
    ),
    writes=(products.SOURCES,),
    may_write=(products.CLASS_SOURCES,),
    facts=Detected,
)


# --- assess --------------------------------------------------------------------------------------------------


def _assess(run: Run, progress: Progress | None) -> Facts:
    _say(progress, "assess", "recovery")
    config = run.config
    p_map = read_prediction(run.file(products.PREDICTION))
    clusters = read_catalogue(run.file(products.CLUSTERS))
    catalogues = group_clusters(clusters, config.assess.selections)
    tables = []
    for tiles in (None, *(Tiles((tile,), config.split.nside) for tile in config.split.test)):
        table = measure_recovery(
            p_map,
            catalogues,
            tiles=tiles,
            known=[name for name in ("planck_z", "planck_no-z", "mcxcwp") if name in catalogues] or None,
            radius_arcmin=run.radius_arcmin,
            seed=config.seed,
        )
        # of the sky its sum over all tiles, of the test tiles each by itself
        tables.append(table[(table["tile"] == -1) == (tiles is None)])
    write_table(vstack(tables, metadata_conflicts="silent"), run.target(products.RECOVERY))
    outcome: dict[str, Any] = {"p_max": config.detect.p_max, "tiles": list(config.split.test_tiles)}
    if config.sky.simulate:
        _say(progress, "assess", "completeness and purity")
        survey = p_map.coverage(COVERAGE_NSIDE) if isinstance(p_map, PartialMap) else None
        # the tiles of a given network are not those of a field of another seed
        held_out = None if survey is not None and config.model else config.split.held_out
        rows = completeness_purity(
            # neighbours separated: far below the threshold the areas of whole regions merge
            detect_sources(p_map, LOWEST_P, weighted=True, deblend=True, min_prominence=0.05),
            read_catalogue(run.file(products.TRUTH)),
            catalogues.get("planck_z"),
            tiles=held_out,
            footprint=survey,
            thresholds=(config.detect.p_max,),
            cuts=replace(HaloCuts() if survey is None else GROUND_CUTS, least_y500_arcmin2=run.truth_cut_arcmin2),
            radius_arcmin=run.radius_arcmin,
            seed=config.seed,
        )
        outcome["held_out_tiles"] = list(held_out or ())
        outcome["completeness_purity"] = [{name: plain_value(row[name]) for name in rows.colnames} for row in rows]
    write_json(outcome, run.target(products.ASSESSMENT))
    return Facts()


ASSESS = Stage(
    "assess",
    _assess,
    sections=("assess", "detect", "split", "seed"),
    reads=(products.PREDICTION, products.CLUSTERS, products.SIMULATION_RECORD),
    writes=(products.RECOVERY, products.ASSESSMENT),
)
