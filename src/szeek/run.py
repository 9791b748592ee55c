"""The whole job: the stages in order, each skipped where its inputs have not changed, a killed one continued.

sky -> maps -> filter -> train -> predict -> calibrate -> detect -> assess -> report. A stage's key is a checksum
of the part of the configuration it reads, of its input files and of the keys of the stages before it; run.json
keeps the key under which each product was made.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import tomli_w
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek._version import __version__
from szeek.assess.calibrate import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    judge_sources,
    measure_reliability,
    p_max_for_purity,
    predict_out_of_fold,
)
from szeek.assess.identify import identify_sources
from szeek.assess.match import match
from szeek.assess.nullsky import SHINING, THRESHOLDS, count_null_sources, flip_signs, rotate_bands
from szeek.assess.recovery import completeness_purity, measure_recovery
from szeek.assess.selection import PositionErrors, fit_position_errors, halo_offsets, judge_injections, measure_noise
from szeek.cluster import connect, spread
from szeek.config import Config, DetectConfig, PredictConfig, named_file
from szeek.filter.snrmaps import add_snr_maps
from szeek.find.candidates import make_candidates, write_candidates
from szeek.find.detect import detect_sources
from szeek.find.photometry import measure_sources
from szeek.find.predict import empty_map, predict, read_prediction, write_prediction
from szeek.find.shards import gather_shards, parse_shard, predict_shard
from szeek.find.workers import predict_on_cluster
from szeek.inputs.catalogues import read_catalogue, select_clusters, write_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.preflight import preflight
from szeek.inputs.reddening import reddening_mag
from szeek.learn.device import pick_device
from szeek.learn.distributed import Ranks, current_ranks, join_ranks
from szeek.learn.folds import fold_config, fold_of_tile
from szeek.learn.model import Model, find_model, load_model
from szeek.learn.train import member_of, train
from szeek.show.field import keep_field
from szeek.show.report import write_report
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.inject import draw_injections, inject_clusters
from szeek.simulate.realisations import simulate_skies
from szeek.simulate.sky import SimulateConfig, simulate_sky
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles, pixels_near_tiles, tile_of

STAGES = ("sky", "maps", "filter", "train", "predict", "calibrate", "detect", "assess", "report")
#: Purity against p, beside the model that it is of.
CALIBRATION = "calibration.ecsv"
#: Position errors against p, likewise.
POSITIONS = "positions.ecsv"
#: Sky around chosen tiles that the matched filter sees: two thirds of its field.
_AROUND_TILES_DEG = 5.0
#: Sources down to here are calibrated on.
_LOWEST_P = 0.05

#: Told (stage, done, total, text) while a stage works; total is 0 where it is not known.
Tell = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Run:
    """A run's folder and configuration; the files of the run, by what they hold.

    Parameters
    ----------
    config : Config
    folder : Path
    threads : int or None
        Threads for every stage; the machine's cores where None. Results do not depend on it.
    device : str
        Where the network is trained and predicts, as :func:`~szeek.learn.device.pick_device` has it.
    scheduler : str or None
        Dask scheduler whose workers share the work, by its address or its file.
    """

    config: Config
    folder: Path
    threads: int | None = None
    device: str = "cpu"
    scheduler: str | None = None

    @property
    def simulated(self) -> Path:
        """Folder of the simulated sky, where there is one."""
        return self.folder / "simulated"

    def map_files(self) -> dict[str, Path]:
        """Map of each band: the user's, or the simulated sky's."""
        if not self.config.sky.simulate:
            return dict(self.config.sky.maps)
        record = json.loads((self.simulated / "simulate.json").read_text())
        return {band: self.simulated / name for band, name in record["maps"].items()}

    def further(self) -> list[Run]:
        """Simulated skies of other seeds that only the training sees, each with a folder of its own."""
        return [
            Run(self.config.model_copy(update={"seed": seed}), self.folder / f"sky-{seed}", self.threads)
            for seed in (self.config.sky.further_seeds if self.config.sky.simulate else ())
        ]

    def catalogue_files(self) -> list[Path]:
        """Catalogues of known clusters: the user's, or the simulated surveys'."""
        if not self.config.sky.simulate:
            return list(self.config.sky.catalogues)
        return [self.simulated / f"{name}.fits" for name in ("psz2", "mcxc", "redmapper")]


def run(
    config: Config,
    folder: str | os.PathLike[str],
    *,
    threads: int | None = None,
    device: str = "cpu",
    scheduler: str | None = None,
    until: str = "report",
    tell: Tell | None = None,
) -> Path:
    """Do all stages that are not done yet, up to ``until``.

    Parameters
    ----------
    config : Config
    folder : path
        The run's folder; holds all products and run.json.
    threads : int, optional
        Threads for every stage.
    device : str, optional
        Where the network is trained and predicts, as :func:`~szeek.learn.device.pick_device` has it.
    scheduler : str, optional
        Dask scheduler, by its address or its file, whose workers simulate further skies, make the matched-filter S/N
        maps, train members and folds at once, and predict. They must see the folder; the products are the same.
    until : str
        Last stage to do, one of :data:`STAGES`.
    tell : callable, optional
        Told (stage, done, total, text).

    Returns
    -------
    Path
        The report, or the folder where the report was not asked for.

    Raises
    ------
    ValueError
        If the configuration names neither maps nor a simulation, the device is not there, the folder holds files
        of the products' names that no run made, or a stage refuses its input.
    """
    if until not in STAGES:
        raise ValueError(f"stage '{until}' is unknown, expected one of {', '.join(STAGES)}")
    if not config.sky.simulate and not (config.sky.maps and config.sky.catalogues):
        raise ValueError(
            "the configuration names no maps and catalogues; give [sky] maps and catalogues, or simulate = true"
        )
    if scheduler is None:
        pick_device(device)  # a wrong one is refused before hours of other work
    if scheduler is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("scheduler is given under torchrun, expected one of the two: each shares the training out")
    job = Run(config, Path(folder), threads, device, scheduler)
    _claim(job.folder)
    with join_ranks() as ranks:
        if ranks.rank == 0:
            _do_stages(job, until, tell, ranks)
        # the other processes of a torchrun help with the training, where there is something to train
        elif STAGES.index(until) >= STAGES.index("train") and ranks.follow_first(False):
            _train(job, None)
    report = job.folder / "report.html"
    return report if until == "report" else job.folder


def _claim(folder: Path) -> None:
    """Make a run's folder; refuse one whose files the stages would remove though no run made them."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"'{folder}' is a file, expected a folder to write to; give another --out")
    if not (folder / "run.json").is_file():
        products = [name for stage in STAGES[1:] for name in _TABLE[stage][2]]
        theirs = [name for name in (*products, "config.toml") if (folder / name).exists()]
        if theirs:
            raise ValueError(
                f"'{folder}' holds {', '.join(theirs)}, which no run made and a run would replace; "
                "expected a new folder or that of a run: give another --out"
            )
    folder.mkdir(parents=True, exist_ok=True)


def _do_stages(job: Run, until: str, tell: Tell | None, ranks: Ranks) -> None:
    record = _open_record(job)
    key = hashlib.sha256(__version__.encode()).hexdigest()
    for stage in STAGES[: STAGES.index(until) + 1]:
        reads, work, products = _TABLE[stage]
        key = _key(key, job, reads, stage)
        if stage == "sky" and not job.config.sky.simulate:
            continue
        done = record["stages"].get(stage, {})
        unchanged = done.get("key") == key and all((job.folder / name).exists() for name in products)
        if stage == "train":
            ranks.follow_first(not unchanged)
        if unchanged:
            _say(tell, stage, 1, 1, "unchanged")
            continue
        if done.get("started_with") != key:
            parts = ("checkpoint.safetensors", "fold-*", "member-*")
            begun = [path for part in parts for path in job.folder.glob(part)] if stage == "train" else []
            for path in (*(job.folder / name for name in products), *begun):
                _remove(path)
        record["stages"][stage] = {"started_with": key}
        _write_json(job.folder / "run.json", record)
        began = time.monotonic()
        facts = work(job, tell) or {}
        seconds = round(time.monotonic() - began, 1)
        record["stages"][stage] = {"key": key, "seconds": seconds, **facts}
        record["timings"] = {s: record["stages"][s].get("seconds", 0.0) for s in STAGES if s in record["stages"]}
        _write_json(job.folder / "run.json", record)
        _say(tell, stage, 1, 1, f"{seconds:.0f} s")


# --- stages ----------------------------------------------------------------------------------------------


def _simulate(job: Run, tell: Tell | None) -> dict[str, Any]:
    skies = []
    for sky in (job, *job.further()):
        config = SimulateConfig(
            nside=sky.config.sky.nside,
            seed=sky.config.seed,
            instrument=sky.config.sky.instrument,
            companions=sky.config.sky.companions and sky is job,
            threads=sky.threads or 0,
        )
        skies.append((config, sky.simulated))
    with connect(job.scheduler) as client:
        if client is not None:
            simulate_skies(skies, client=client, report=lambda done, n: _say(tell, "sky", done, n, "skies"))
            return {}
    for config, folder in skies:
        which = "" if config.seed == job.config.seed else f"seed {config.seed}: "

        def report(text: str, which: str = which) -> None:
            _say(tell, "sky", 0, 0, which + text)

        simulate_sky(config, folder, progress=report)
    return {}


def _read_maps(job: Run, tell: Tell | None) -> dict[str, Any]:
    for other in job.further():
        _read_maps_of(other, tell)
    return _read_maps_of(job, tell)


def _read_maps_of(job: Run, tell: Tell | None) -> dict[str, Any]:
    sky = job.config.sky
    _say(tell, "maps", 0, 0, "catalogues")
    clusters = read_clusters(job.catalogue_files())
    labelled = label_clusters(_with_truth(job, clusters), job.config)  # before the maps: they take longer
    _say(tell, "maps", 0, 0, "frequency maps")
    maps = read_skymaps(
        job.map_files(),
        sky.instrument,
        unit=sky.unit,
        frame=sky.frame,
        ordering=sky.ordering,
        out=job.folder / "maps",
    )
    _say(tell, "maps", 0, 0, "preflight")
    found = preflight(maps, labelled, sky.instrument, seed=job.config.seed)
    # last, so that a refused sky is not taken for a finished stage
    write_catalogue(name_selections(clusters), job.folder / "clusters.fits")
    return {"preflight": found.sentence, "inputs": {str(p): _checksum(p) for p in _inputs(job)}}


def _filter(job: Run, tell: Tell | None) -> dict[str, Any]:
    with connect(job.scheduler) as client:
        for sky in (job, *job.further()):
            maps = add_snr_maps(
                SkyMaps.open(sky.folder / "maps"),
                job.config.input.theta500_arcmin,
                instrument=job.config.sky.instrument,
                threads=job.threads,
                client=client,
                report=lambda done, total: _say(tell, "filter", done, total, "fields"),
            )
            maps.save_snr(sky.folder / "maps")
    return {}


def _train(job: Run, tell: Tell | None) -> dict[str, Any]:
    ranks, n_folds = current_ranks(), job.config.split.folds

    def report(at: dict[str, float]) -> None:
        text = f"epoch {at['epoch']:.0f}, loss {at['loss']:.4f}, {at['patches_per_s']:.0f} patches/s"
        _say(tell, "train", int(at["step"]), int(at["n_steps"]), text)

    with connect(job.scheduler) as client:
        if client is not None:
            # workers leave finished trainings in the folders; what follows finds them there, and joins members
            alone = replace(job, folder=job.folder.resolve(), threads=1)
            parts = [(fold, k) for fold in range(max(1, n_folds)) for k in range(job.config.network.members)]
            told = spread(_train_part, parts, alone, client=client,
                          report=lambda done, n: _say(tell, "train", done, n, "trainings"))  # fmt: skip
            for _ in told:
                pass
    skies = _training_skies(job)
    options: dict[str, Any] = {"further": skies[1:], "threads": job.threads, "report": report}
    options["device"] = job.device if job.scheduler is None else "cpu"
    if not n_folds:
        model = train(*skies[0], job.config, job.folder, **options)
        return {"best_epoch": model.card["best_epoch"]}
    folders = [_home_of_fold(job, fold) for fold in range(n_folds)]
    for fold, folder in enumerate(folders):
        # a killed run goes on with the fold that it was in
        if ranks.follow_first(not (folder / "done").exists()):
            train(*skies[0], fold_config(job.config, fold), folder, **options)
            if ranks.rank == 0:
                (folder / "done").touch()
    if ranks.rank > 0:  # only the first process writes
        return {}
    for name in ("model.safetensors", "model.json"):  # what `--model` finds in the run's folder
        shutil.copyfile(folders[0] / name, job.folder / name)
    return {"best_epoch": [load_model(folder).card["best_epoch"] for folder in folders]}


def _training_skies(job: Run) -> list[tuple[SkyMaps, Table]]:
    """Maps and clusters of the run's own sky, and of those that only the training sees."""
    return [
        (SkyMaps.open(sky.folder / "maps"), _with_truth(sky, read_catalogue(sky.folder / "clusters.fits")))
        for sky in (job, *job.further())
    ]


def _home_of_fold(job: Run, fold: int) -> Path:
    return job.folder / f"fold-{fold}" if job.config.split.folds else job.folder


def _train_part(part: tuple[int, int], job: Run) -> None:
    """One member of one fold, by itself."""
    fold, k = part
    skies = _training_skies(job)
    config = fold_config(job.config, fold) if job.config.split.folds else job.config
    config, home, further = member_of(config, _home_of_fold(job, fold), skies[1:], k)
    train(*skies[0], config, home, further=further, threads=job.threads, device=job.device)


def _predict(job: Run, tell: Tell | None) -> dict[str, Any]:
    maps, n_folds = SkyMaps.open(job.folder / "maps"), job.config.split.folds
    options: dict[str, Any] = {"margin": job.config.predict.margin, "rotations": job.config.predict.rotations}
    options |= {"device": job.device, "report": lambda done, total: _say(tell, "predict", done, total, "fields")}
    with connect(job.scheduler) as client:

        def work(folder: Path, where: NDArray[np.bool_] | None) -> NDArray[np.float32]:
            if client is None:
                return predict(maps, load_model(folder), where=where, threads=job.threads, **options)
            return predict_on_cluster(client, job.folder / "maps", folder, where=where, **options)

        if not n_folds:
            p_map = work(job.folder, None)
        else:
            of_tile = fold_of_tile(n_folds, job.config.seed)
            p_map = empty_map(len(maps.footprint))
            for fold in range(n_folds):
                mine = pixels_in_tiles(maps.nside, np.flatnonzero(of_tile == fold))
                p_map[mine] = work(_home_of_fold(job, fold), mine)[mine]
    write_prediction(p_map, job.folder / "prediction.fits", model=job.config.preset)
    return {"area_deg2": round(float(np.isfinite(p_map).mean()) * 41252.96, 2)}


def _held_out(config: Config) -> tuple[int, ...]:
    """Tiles that are predicted by a network which was not trained on them."""
    return tuple(range(48)) if config.split.folds else (*config.split.test_tiles, *config.split.validation_tiles)


def _calibrate(job: Run, tell: Tell | None) -> dict[str, Any]:
    """Fit purity against p on the held-out tiles of a simulated sky; on a real one the truth is not known."""
    config, target = job.config, job.folder / CALIBRATION
    if not config.sky.simulate:
        target.unlink(missing_ok=True)
        return {}
    _say(tell, "calibrate", 0, 0, "purity against p")
    held_out = _held_out(config)
    sources = _find_sources(read_prediction(job.folder / "prediction.fits"), _LOWEST_P, deblend=config.detect.deblend)
    judged, real = judge_sources(sources, read_catalogue(job.simulated / "truth.fits"), held_out)
    p, tile = np.asarray(judged["p"], float), np.asarray(judged["tile"])
    dust = reddening_mag(np.asarray(judged["lon_deg"]), np.asarray(judged["lat_deg"]))
    try:
        calibration = fit_calibration(p, real, dust, groups=tile, n_dust_bins=2, seed=config.seed)
        honest = predict_out_of_fold(p, real, dust, groups=tile, n_dust_bins=2, seed=config.seed)
    except ValueError as error:  # too few sources on a small sky
        target.unlink(missing_ok=True)
        return {"refused": str(error)}
    _write_table(calibration.to_table(), target)
    diagram = measure_reliability(honest, real, equal="clusters")
    return {
        "n_sources": len(judged),
        "n_clusters": int(real.sum()),
        "tiles": list(held_out),
        "expected_calibration_error": expected_calibration_error(measure_reliability(honest, real)),
        "reliability": [{name: _plain(row[name]) for name in diagram.colnames} for row in diagram],
    }


def _detect(job: Run, tell: Tell | None) -> dict[str, Any]:
    _say(tell, "detect", 0, 0, "connected areas")
    options = job.config.detect
    sources = _find_sources(
        read_prediction(job.folder / "prediction.fits"), options.p_max, deblend=options.deblend, model=job.folder
    )
    if job.config.split.folds:
        of_tile = fold_of_tile(job.config.split.folds, job.config.seed)
        sources["fold"] = of_tile[tile_of(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))]
    known = read_catalogue(job.folder / "clusters.fits")
    write_candidates(make_candidates(identify_sources(sources, known)), job.folder)
    return {"n_sources": len(sources)}


def _find_sources(p_map: NDArray[np.float32], p_max: float, *, deblend: bool, model: Path | None = None) -> Table:
    """Sources with the reddening there and, where the model's folder holds a calibration, their purity."""
    sources = detect_sources(p_map, p_max, weighted=deblend, deblend=deblend)
    sources["dust"] = reddening_mag(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    if model is not None and (model / CALIBRATION).is_file():
        calibration = Calibration.from_table(Table.read(model / CALIBRATION))
        sources["purity"] = calibration.predict(sources["p"], sources["dust"])
    if model is not None and (model / POSITIONS).is_file():
        errors = PositionErrors.from_table(Table.read(model / POSITIONS))
        sources["pos_err_arcmin"], sources["pos_err95_arcmin"] = errors.predict(sources["p"])
    return sources


def _assess(job: Run, tell: Tell | None) -> dict[str, Any]:
    _say(tell, "assess", 0, 0, "recovery")
    config = job.config
    p_map = read_prediction(job.folder / "prediction.fits")
    clusters = read_catalogue(job.folder / "clusters.fits")
    catalogues = _groups(clusters, config.assess.selections)
    tables = []
    for tiles in (None, *((tile,) for tile in config.split.test_tiles)):
        table = measure_recovery(
            p_map,
            catalogues,
            tiles=tiles,
            known=[name for name in ("planck_z", "planck_no-z", "mcxcwp") if name in catalogues] or None,
            radius_arcmin=config.assess.radius_arcmin,
            seed=config.seed,
        )
        # of the sky its sum over all tiles, of the test tiles each by itself
        tables.append(table[(table["tile"] == -1) == (tiles is None)])
    recovery = vstack(tables, metadata_conflicts="silent")
    _write_table(recovery, job.folder / "recovery.ecsv")
    outcome: dict[str, Any] = {"p_max": config.detect.p_max, "tiles": list(config.split.test_tiles)}
    if config.sky.simulate:
        _say(tell, "assess", 0, 0, "completeness and purity")
        held_out = _held_out(config)
        rows = completeness_purity(
            # neighbours separated: far below the threshold the areas of whole regions merge
            detect_sources(p_map, 0.05, weighted=True, deblend=True, min_prominence=0.05),
            read_catalogue(job.simulated / "truth.fits"),
            catalogues.get("planck_z"),
            tiles=held_out,
            thresholds=(config.detect.p_max,),
            radius_arcmin=config.assess.radius_arcmin,
            seed=config.seed,
        )
        outcome["held_out_tiles"] = list(held_out)
        outcome["completeness_purity"] = [{name: _plain(row[name]) for name in rows.colnames} for row in rows]
    _write_json(job.folder / "assessment.json", outcome)
    return {}


def _report(job: Run, tell: Tell | None) -> dict[str, Any]:
    _say(tell, "report", 0, 0, "figures")
    _write_text(job.folder / "config.toml", config_toml(job.config))
    write_report(job.folder)
    return {}


#: What each stage reads of the configuration, what it does, and what it leaves in the folder.
_TABLE: dict[str, tuple[tuple[str, ...], Callable[[Run, Tell | None], dict[str, Any] | None], tuple[str, ...]]] = {
    "sky": (("sky", "seed"), _simulate, ("simulated/simulate.json",)),
    "maps": (("sky",), _read_maps, ("maps", "clusters.fits")),
    "filter": (("input",), _filter, ("maps/filter.json",)),
    "train": (
        ("seed", "split", "input", "labels", "patches", "network", "train"),
        _train,
        ("model.safetensors", "model.json"),
    ),
    "predict": (("predict",), _predict, ("prediction.fits",)),
    "calibrate": (("split", "detect"), _calibrate, ()),
    "detect": (("detect",), _detect, ("candidates.fits",)),
    "assess": (("assess", "detect", "split"), _assess, ("recovery.ecsv", "assessment.json")),
    "report": ((), _report, ("report.html",)),
}


# --- single stages on files ------------------------------------------------------------------------------


def predict_files(
    maps: Mapping[str, str | os.PathLike[str]] | str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    catalogues: Iterable[str | Path] = (),
    y_maps: Sequence[str | os.PathLike[str]] = (),
    p_max: float = 0.1,
    rotations: int | None = None,
    shard: str | None = None,
    gather: bool = False,
    scheduler: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
    unit: str | Mapping[str, str] | None = None,
    frame: str | None = None,
    ordering: str | None = None,
    tell: Tell | None = None,
) -> str:
    """Find clusters in map files, full sky or cut-outs, with a trained network.

    ``maps`` are files by band, or the folder of a saved SkyMaps, which is memory-mapped. With ``shard`` 'i/n' only
    that part of the prediction is computed and written; with ``gather`` the parts are read instead of computing;
    with ``scheduler`` the workers of that Dask cluster compute, which must see the folders. ``device`` is where the
    network runs, in each worker's own words where there are workers.

    Writes prediction.fits and the candidates; with catalogues also clusters.fits and a report, which shows
    a cut-out's p beside its Compton y where ``y_maps`` are given. Margin and, unless given, ``rotations`` are
    those of the model's own configuration, so that its run is repeated bit for bit.

    Returns
    -------
    str
        What was found, in words.
    """
    if (shard is not None) + gather + (scheduler is not None) > 1:
        raise ValueError("--shard, --gather and --scheduler exclude each other: first every shard, then gather")
    part = parse_shard(shard) if shard is not None else None
    if scheduler is None:
        pick_device(device)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    network = load_model(model)
    known = read_clusters(catalogues) if catalogues else None
    _say(tell, "maps", 0, 0, "frequency maps")
    folder = (target / "maps" if scheduler is not None else None) if isinstance(maps, Mapping) else Path(maps)
    if isinstance(maps, Mapping):
        skymaps = read_skymaps(maps, unit=unit, frame=frame, ordering=ordering, out=folder)
        if folder is not None:
            with connect(scheduler) as client:  # the workers need the S/N maps there
                network.prepare(SkyMaps.open(folder), threads, client).save_snr(folder)
    else:
        skymaps = SkyMaps.open(maps)
    trained = network.card.get("config", {})
    own = PredictConfig.model_validate(trained.get("predict", {}))
    deblend = DetectConfig.model_validate(trained.get("detect", {})).deblend
    options: dict[str, Any] = {"margin": own.margin}
    options["rotations"] = own.rotations if rotations is None else rotations

    def fields(done: int, total: int) -> None:
        _say(tell, "predict", done, total, "fields")

    if part is not None:
        file = predict_shard(skymaps, network, target, part, **options, threads=threads, device=device, report=fields)
        return f"part {part[0]} of {part[1]}: {file}"
    lines = []
    if known is not None:
        lines.append(preflight(skymaps, known).sentence)
    if gather:
        p_map = gather_shards(skymaps, network, target, **options)
    else:
        with connect(scheduler) as client:
            if client is not None and folder is not None:
                p_map = predict_on_cluster(client, folder, model, **options, device=device, report=fields)
            else:
                p_map = predict(skymaps, network, **options, threads=threads, device=device, report=fields)
    write_prediction(p_map, target / "prediction.fits", model=str(network.card.get("preset", "")))
    for name in (CALIBRATION, POSITIONS):
        beside = find_model(model) / name
        if beside.is_file() and beside.parent.resolve() != target.resolve():
            shutil.copyfile(beside, target / name)
    sources = _find_sources(p_map, p_max, deblend=deblend, model=target)
    write_candidates(make_candidates(identify_sources(sources, known)), target)
    area_deg2 = float(skymaps.footprint.mean()) * 41252.96
    lines.append(
        f"{len(sources)} candidates above p = {p_max:g} in {area_deg2:.1f} deg^2: {target / 'candidates.fits'}"
    )
    if known is None:
        return "\n".join(lines)
    nside = skymaps.nside
    inside = known[skymaps.footprint[healpy.ang2pix(nside, known["lon_deg"], known["lat_deg"], lonlat=True)]]
    write_catalogue(inside, target / "clusters.fits")
    found = match(sources, inside, 5.0)
    lines.append(f"{len(found)} of {len(inside)} known clusters inside have a candidate within 5 arcmin")
    if len(inside) and area_deg2 < 1000:
        centre = np.stack(healpy.pix2vec(nside, np.flatnonzero(skymaps.footprint)), axis=1).mean(axis=0)
        lon_deg, lat_deg = (float(v[0]) for v in healpy.vec2ang(centre, lonlat=True))
        keep_field(
            target,
            "field",
            target,
            inside,
            title=target.resolve().name,
            lon_deg=lon_deg,
            lat_deg=lat_deg,
            width_deg=math.sqrt(area_deg2) * 1.3,
            y_files=y_maps,
            y_title="y map (" + ", ".join(Path(file).stem for file in y_maps) + ")",
            p_max=p_max,
        )
    lines.append(f"report: {write_report(target)}")
    return "\n".join(lines)


def detect_files(
    prediction: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    p_max: float = 0.1,
    purity: float | None = None,
    deblend: bool = False,
) -> str:
    """Candidates of a p map, above a threshold or of a wanted purity; the answer in words.

    Raises
    ------
    ValueError
        If a purity is asked for where no calibration lies beside the map, or no threshold reaches it.
    """
    source, target = Path(prediction), Path(out)
    file = source / "prediction.fits" if source.is_dir() else source
    p_map = read_prediction(file)
    if purity is not None:
        if not (file.parent / CALIBRATION).is_file():
            raise ValueError(
                f"'{file.parent}' holds no {CALIBRATION}, which says what purity a p means; give --p-max, or predict "
                "with a model that has one"
            )
        sources = _find_sources(p_map, _LOWEST_P, deblend=deblend, model=file.parent)
        calibration = Calibration.from_table(Table.read(file.parent / CALIBRATION))
        p_max = p_max_for_purity(calibration, sources["p"], purity, sources["dust"])
        if not p_max < 1:
            raise ValueError(f"no threshold on p gives a purity of {purity:g} here; ask for less")
        # areas are those above the threshold itself
        p_max = float(np.nextafter(np.float32(p_max), np.float32(0)))
    sources = _find_sources(p_map, p_max, deblend=deblend, model=file.parent)
    write_candidates(make_candidates(identify_sources(sources, None)), target)
    threshold = f"p = {p_max:.3g}" + ("" if purity is None else f", for a purity of {purity:g}")
    return f"{len(sources)} candidates above {threshold}: {target / 'candidates.fits'} (.vot, .csv, .reg)"


def measure_selection(
    folder: str | os.PathLike[str],
    *,
    n: int = 10_000,
    tiles: Iterable[int] | None = None,
    seed: int = 0,
    threads: int | None = None,
    scheduler: str | None = None,
    tell: Tell | None = None,
) -> str:
    """Completeness and position errors of a run by injection; writes selection.fits and positions.ecsv.

    Clusters are painted into the run's own maps, 50 arcmin from one another and from those that are known, and looked
    for with the run's own network and detection; the matched-filter S/N maps are made anew with them inside. Position
    errors are those of the injections, but of a simulated run those of its own haloes.

    Parameters
    ----------
    folder : path
        Of a run that has got as far as its candidates.
    n : int
        Clusters to inject, log-uniform in Y500 from 1e-4 to 1e-2 arcmin^2 and in theta500 from 1 to 20 arcmin.
    tiles : iterable of int, optional
        Only there; the whole footprint by default. Where a network was trained on these maps its held-out tiles are
        the honest choice.
    seed : int
    threads : int, optional
    scheduler : str, optional
        Dask scheduler, by its address or its file, whose workers filter and predict; they must see the folder, in
        which the painted maps lie meanwhile. The products are the same.
    tell : callable, optional
        Told (stage, done, total, text).

    Returns
    -------
    str
        What was found, in words.

    Raises
    ------
    ValueError, FileNotFoundError
        If the run has no maps or network, or the sky has no room for so many.
    """
    ground = _search_ground(folder, tiles, threads)
    home, maps, where = ground.job.folder, ground.maps, ground.where
    maps = replace(maps, footprint=maps.footprint & ground.around)
    config, network = ground.job.config, ground.network
    instrument = read_instrument(config.sky.instrument)
    injections = draw_injections(
        seed,
        n,
        y500_range_arcmin2=(1e-4, 1e-2),
        footprint=where,
        avoid=ground.known,
        min_separation_arcmin=50.0,
    )
    _say(tell, "selection", 0, 0, f"painting {n} clusters")
    painted = inject_clusters(maps, injections, instrument, threads=threads)
    p_max, options = config.detect.p_max, config.predict

    def fields(done: int, total: int) -> None:
        _say(tell, "selection", done, total, "fields")

    how: dict[str, Any] = {"margin": options.margin, "rotations": options.rotations, "where": where, "report": fields}
    with connect(scheduler) as client, tempfile.TemporaryDirectory(prefix=".selection-", dir=home) as scratch:
        if client is None:
            p_map = predict(painted, network, threads=threads, **how)
        else:
            maps, there = (SkyMaps.open(sky.save(Path(scratch) / k)) for k, sky in (("0", maps), ("1", painted)))
            network.prepare(there, client=client).save_snr(Path(scratch) / "1")
            p_map = predict_on_cluster(client, Path(scratch) / "1", home, **how)
        del painted
        sources = _find_sources(p_map, p_max, deblend=config.detect.deblend)
        _say(tell, "selection", 0, 0, "noise")
        noise = measure_noise(maps, instrument, threads=threads, client=client, report=fields)
    selection = judge_injections(injections, sources, ground.sources, noise, p_max)
    selection.write(home / "selection.fits")
    found = int(np.isfinite(selection.injections["p"]).sum())
    summary = (
        f"{found} of {len(selection.injections)} injected clusters found at p > {p_max:g}; "
        f"{selection.chance:.1%} of the positions had a source before\ncompleteness: {home / 'selection.fits'}"
    )
    try:
        if ground.haloes is None:
            errors = fit_position_errors(selection.injections, draw_haloes(seed, m500_min_1e14msun=2.0))
        else:
            own, true = (table[ground.is_inside(table)] for table in (ground.sources, ground.haloes))
            errors = fit_position_errors(halo_offsets(own, true, where, seed=seed))
    except ValueError as error:  # too few were found
        (home / POSITIONS).unlink(missing_ok=True)
        return f"{summary}\nno position errors: {error}"
    _write_table(errors.to_table(), home / POSITIONS)
    return f"{summary}\nposition errors: {home / POSITIONS}"


def measure_purity(
    folder: str | os.PathLike[str],
    *,
    tiles: Iterable[int] | None = None,
    seed: int = 0,
    threads: int | None = None,
    tell: Tell | None = None,
) -> str:
    """Purity of a run without truth, from two null skies and from known clusters; writes purity.ecsv.

    The run's maps with signs flipped and with bands turned against each other (:mod:`szeek.assess.nullsky`) go
    through its own network and detection; of a simulated run the true purity stands beside.

    Parameters
    ----------
    folder, tiles, threads, tell
        As for :func:`measure_selection`.
    seed : int
        Of the shifted positions.

    Returns
    -------
    str
        What was found, in words.

    Raises
    ------
    ValueError, FileNotFoundError
        If the run has no maps, network or prediction.
    """
    ground = _search_ground(folder, tiles, threads)
    config = ground.job.config
    nulls = {}
    for name, make in (("flipped", flip_signs), ("rotated", rotate_bands)):

        def fields(done: int, total: int, name: str = name) -> None:
            _say(tell, "purity", done, total, f"fields, {name}")

        sky = make(ground.maps)
        sky = replace(sky, footprint=sky.footprint & ground.around)
        where = ground.where & sky.footprint
        options: dict[str, Any] = {"margin": config.predict.margin, "rotations": config.predict.rotations}
        p_map = predict(sky, ground.network, where=where, threads=threads, report=fields, **options)
        found = _find_sources(p_map, config.detect.p_max, deblend=config.detect.deblend)
        if name == "flipped":  # a source that shines is a hole there, which the sky has none of
            seen = replace(ground.maps, footprint=ground.maps.footprint & ground.around)
            kinds = measure_sources(seen, found, instrument=config.sky.instrument, threads=threads)["kind"]
            found = found[~np.isin(kinds, SHINING)]
        nulls[name] = found, float(ground.where.sum() / max(1, where.sum()))
    own, known = (table[ground.is_inside(table)] for table in (ground.sources, ground.catalogue))
    true_ones = None if ground.haloes is None else ground.haloes[ground.is_inside(ground.haloes)]
    # below the run's own threshold there are no candidates to count
    thresholds = [p for p in THRESHOLDS if p >= config.detect.p_max] or [config.detect.p_max]
    table = count_null_sources(own, nulls, known, true_ones, footprint=ground.where, thresholds=thresholds, seed=seed)
    _write_table(table, ground.job.folder / "purity.ecsv")
    half = table[int(np.abs(np.asarray(table["p"]) - 0.5).argmin())]
    true = f", true {half['purity_true']:.2f}" if ground.haloes is not None else ""
    return (
        f"of {half['n']} sources with p > {half['p']:g}: purity {half['purity_flipped']:.2f} from the flipped sky, "
        f"{half['confirmed']:.2f} are known{true}\npurity: {ground.job.folder / 'purity.ecsv'}"
    )


@dataclass(frozen=True)
class _Ground:
    """Where a run is searched once more: its sky, what was found in it, and what is known to be there."""

    job: Run
    network: Model
    maps: SkyMaps
    where: NDArray[np.bool_]  # searched
    around: NDArray[np.bool_]  # filtered: some degrees more
    sources: Table
    catalogue: Table
    haloes: Table | None

    @property
    def known(self) -> Table:
        """Catalogued clusters and true haloes."""
        both = [self.catalogue] if self.haloes is None else [self.catalogue, self.haloes]
        return vstack(both, metadata_conflicts="silent")

    def is_inside(self, table: Table) -> NDArray[np.bool_]:
        """Whether the positions of a table are searched."""
        pixel = healpy.ang2pix(self.maps.nside, table["lon_deg"], table["lat_deg"], lonlat=True)
        return np.asarray(self.where[pixel])


def _search_ground(folder: str | os.PathLike[str], tiles: Iterable[int] | None, threads: int | None) -> _Ground:
    home = Path(folder)
    network, maps = load_model(home), SkyMaps.open(home / "maps")
    config = Config.model_validate(json.loads((home / "run.json").read_text())["config"])
    job = Run(config, home, threads)
    if config.split.folds:
        raise ValueError(f"'{home}' has {config.split.folds} folds, expected one network: give a run without folds")
    # before slow work, so that a run without a prediction is refused at once
    p_map = read_prediction(home / "prediction.fits")
    sources = _find_sources(p_map, config.detect.p_max, deblend=config.detect.deblend)
    catalogue, haloes = read_catalogue(home / "clusters.fits"), None
    if config.sky.simulate:
        haloes = select_clusters(read_catalogue(job.simulated / "truth.fits"), "truth")
    where = around = np.asarray(maps.footprint)
    if tiles is not None:
        chosen = tuple(tiles)
        near = pixels_near_tiles(64, chosen, _AROUND_TILES_DEG).astype(np.float32)
        around = healpy.ud_grade(near, maps.nside) > 0.5
        where = where & pixels_in_tiles(maps.nside, chosen)
    return _Ground(job, network, maps, where, around, sources, catalogue, haloes)


def assess_files(
    prediction: str | os.PathLike[str],
    catalogues: Iterable[str | Path],
    out: str | os.PathLike[str],
    *,
    tiles: Iterable[int] | None = None,
) -> str:
    """Recovered fractions of the named selections (or of each survey) in a p map; writes recovery.ecsv."""
    source, target = Path(prediction), Path(out)
    p_map = read_prediction(source / "prediction.fits" if source.is_dir() else source)
    known = read_clusters(catalogues)
    groups = _groups(known, ("planck_z", "planck_no-z", "mcxcwp", "rm50", "rm30"))
    recovery = measure_recovery(p_map, groups, tiles=tiles)
    target.mkdir(parents=True, exist_ok=True)
    _write_table(recovery, target / "recovery.ecsv")
    at = recovery[np.isclose(recovery["p_max"], 0.1) & (recovery["tile"] == -1)]
    lines = [
        f"{row['catalogue']}: {row['n_recovered']} of {row['n_clusters']} recovered at p > 0.1, "
        f"{row['chance']:.1%} by chance"
        for row in at
    ]
    return "\n".join([*lines, f"recovery: {target / 'recovery.ecsv'}"])


# --- clusters --------------------------------------------------------------------------------------------


def read_clusters(files: Iterable[str | Path]) -> Table:
    """Read catalogues of known clusters (files, or 'SURVEY=FILE') and put them under one another.

    Raises
    ------
    ValueError
        If no file is given, or none holds a cluster.
    """
    tables = [read_catalogue(file, survey) for survey, file in map(named_file, files)]
    if not any(len(table) for table in tables):
        raise ValueError("no clusters are known: no catalogue is given, or all that are given are empty")
    return vstack(tables, metadata_conflicts="silent")


def name_selections(clusters: Table) -> Table:
    """Add the column ``selection``: the first of planck_z, planck_no-z, mcxcwp, rm50, rm30 a cluster is in, or ''."""
    named = clusters.copy()
    named["selection"] = np.full(len(named), "", dtype="U11")
    rows = np.arange(len(named))
    for selection in ("rm30", "rm50", "mcxcwp", "planck_no-z", "planck_z"):
        with_row = named.copy()
        with_row["row"] = rows
        chosen = _selected(with_row, selection)
        named["selection"][np.asarray(chosen["row"], int)] = selection
    return named


def _groups(clusters: Table, selections: Iterable[str]) -> dict[str, Table]:
    """The named selections that are not empty; where all are, each survey."""
    groups = {name: rows for name in selections if len(rows := _selected(clusters, name))}
    return groups or {str(s).lower(): clusters[clusters["survey"] == s] for s in sorted(set(clusters["survey"]))}


def _selected(clusters: Table, selection: str) -> Table:
    """A named selection; empty where its survey is not among the catalogues."""
    try:
        return select_clusters(clusters, selection)
    except ValueError:
        return clusters[:0] if len(clusters) else clusters


def _with_truth(job: Run, clusters: Table) -> Table:
    """The known clusters, and the haloes of the simulated sky where the labels are to be made of them."""
    if "truth" not in job.config.labels.selections or not job.config.sky.simulate:
        return clusters
    truth = select_clusters(read_catalogue(job.simulated / "truth.fits"), "truth")
    return vstack([clusters, truth], metadata_conflicts="silent")


def label_clusters(clusters: Table, config: Config) -> Table:
    """The clusters that the network is trained on."""
    chosen = [select_clusters(clusters, name) for name in config.labels.selections]
    return vstack(chosen, metadata_conflicts="silent")


# --- bookkeeping -----------------------------------------------------------------------------------------


def config_toml(config: Config) -> str:
    """The configuration as resolved, as a TOML file that :func:`szeek.config.load_config` reads."""
    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value


def _open_record(job: Run) -> dict[str, Any]:
    path = job.folder / "run.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"stages": {}}
    record["config"] = job.config.model_dump(mode="json")
    record["seed"] = job.config.seed
    record["device"] = "cpu"
    record["started"] = datetime.now(UTC).isoformat(timespec="seconds")
    packages = ("numpy", "scipy", "astropy", "healpy", "torch", "numba")
    record["versions"] = {
        "szeek": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
    return record


def _key(before: str, job: Run, reads: tuple[str, ...], stage: str) -> str:
    config = job.config.model_dump(mode="json", include=set(reads))
    if "train" in config:
        del config["train"]["checkpoint_s"]
    files = []
    if stage == "maps" and not job.config.sky.simulate:
        for path in _inputs(job):
            if not path.is_file():
                raise FileNotFoundError(f"'{path}' is named in the configuration but is no file")
            status = path.stat()
            files.append([str(path), status.st_size, status.st_mtime_ns])
    text = json.dumps([before, stage, config, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _inputs(job: Run) -> list[Path]:
    return [*job.map_files().values(), *(named_file(file)[1] for file in job.catalogue_files())]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=1))


def _write_text(path: Path, text: str) -> None:
    staging = path.with_name(f".{path.name}.tmp")
    staging.write_text(text)
    staging.replace(path)


def _write_table(table: Table, path: Path) -> None:
    staging = path.with_name(f".{path.stem}.tmp{path.suffix}")
    table.write(staging, overwrite=True)
    staging.replace(path)


def _plain(value: Any) -> Any:
    """A number or text that JSON holds; NaN becomes None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _say(tell: Tell | None, stage: str, done: int, total: int, text: str) -> None:
    if tell is not None:
        tell(stage, done, total, text)
