"""The stages of a run, each from the products of those before it.

sky -> maps -> filter -> train -> predict -> calibrate -> detect -> assess -> report.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from szeek.assess.recovery import completeness_purity, measure_recovery
from szeek.assess.sources import CALIBRATION, LOWEST_P, find_sources
from szeek.config import Config, config_toml, named_file
from szeek.files import write_json, write_table, write_text
from szeek.filter.snrmaps import add_snr_maps
from szeek.find.detect import detect_sources
from szeek.find.predict import empty_map, predict, read_prediction, write_prediction
from szeek.inputs.catalogues import read_catalogue, select_clusters, write_catalogue
from szeek.inputs.fits_files import parse_part
from szeek.inputs.knownclusters import group_clusters, name_selections, read_clusters
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.masks import read_masks
from szeek.inputs.preflight import preflight
from szeek.inputs.reddening import reddening_mag
from szeek.learn.distributed import current_ranks
from szeek.learn.folds import fold_config, fold_of_tile
from szeek.learn.model import load_model
from szeek.learn.train import member_of, train
from szeek.measure.candidates import make_candidates, write_candidates
from szeek.measure.identify import identify_sources
from szeek.parallel import Progress, connect, spread
from szeek.show.report.page import write_report
from szeek.simulate.realisations import simulate_skies
from szeek.simulate.sky import SimulateConfig, simulate_sky
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles, tile_of

STAGES = ("sky", "maps", "filter", "train", "predict", "calibrate", "detect", "assess", "report")


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

    def mask_files(self) -> list[Path]:
        """Masks that the sky is cut by, the user's own for a simulated sky too."""
        return [parse_part(named_file(file)[1]).path for file in self.config.sky.masks]

    def input_files(self) -> list[Path]:
        """Maps, catalogues and masks."""
        catalogues = [named_file(file)[1] for file in self.catalogue_files()]
        return [*(parse_part(file).path for file in self.map_files().values()), *catalogues, *self.mask_files()]


def say(progress: Progress | None, stage: str, done: int, total: int, text: str) -> None:
    if progress is not None:
        progress(stage, done, total, text)


def _simulate(job: Run, progress: Progress | None) -> dict[str, Any]:
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
            simulate_skies(skies, client=client, progress=progress)
            return {}
    for config, folder in skies:
        which = "" if config.seed == job.config.seed else f"seed {config.seed}: "

        def step(_: str, done: int, total: int, text: str = "", which: str = which) -> None:
            say(progress, "sky", done, total, which + text)

        simulate_sky(config, folder, progress=step)
    return {}


def _read_maps(job: Run, progress: Progress | None) -> dict[str, Any]:
    for other in job.further():
        _read_maps_of(other, progress)
    return _read_maps_of(job, progress)


def _read_maps_of(job: Run, progress: Progress | None) -> dict[str, Any]:
    sky = job.config.sky
    say(progress, "maps", 0, 0, "catalogues")
    clusters = read_clusters(job.catalogue_files(), job.config.sky.columns)
    labelled = _label_clusters(_with_truth(job, clusters), job.config)  # before the maps: they take longer
    mask = read_masks(sky.masks, sky.frame, sky.ordering)
    say(progress, "maps", 0, 0, "frequency maps")
    maps = read_skymaps(
        job.map_files(),
        sky.instrument,
        unit=sky.unit,
        frame=sky.frame,
        ordering=sky.ordering,
        mask=mask,
        check=sky.check,
        out=job.folder / "maps",
    )
    say(progress, "maps", 0, 0, "preflight")
    found = preflight(maps, labelled, sky.instrument, seed=job.config.seed)
    say(progress, "maps", 0, 0, found.sentence)
    # last, so that a refused sky is not taken for a finished stage
    write_catalogue(name_selections(clusters), job.folder / "clusters.fits")
    return {"preflight": found.sentence, "inputs": {str(p): _checksum(p) for p in job.input_files()}}


def _with_truth(job: Run, clusters: Table) -> Table:
    """The known clusters, and the haloes of the simulated sky where the labels are to be made of them."""
    if "truth" not in job.config.labels.selections or not job.config.sky.simulate:
        return clusters
    truth = select_clusters(read_catalogue(job.simulated / "truth.fits"), "truth")
    return vstack([clusters, truth], metadata_conflicts="silent")


def _label_clusters(clusters: Table, config: Config) -> Table:
    """The clusters that the network is trained on."""
    chosen = [select_clusters(clusters, name) for name in config.labels.selections]
    return vstack(chosen, metadata_conflicts="silent")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _filter(job: Run, progress: Progress | None) -> dict[str, Any]:
    with connect(job.scheduler) as client:
        for sky in (job, *job.further()):
            maps = add_snr_maps(
                SkyMaps.open(sky.folder / "maps"),
                job.config.input.theta500_arcmin,
                instrument=job.config.sky.instrument,
                threads=job.threads,
                client=client,
                progress=progress,
            )
            maps.save_snr(sky.folder / "maps")
    return {}


def train_stage(job: Run, progress: Progress | None) -> dict[str, Any]:
    ranks, n_folds = current_ranks(), job.config.split.folds
    with connect(job.scheduler) as client:
        if client is not None:
            # workers leave finished trainings in the folders; what follows finds them there, and joins members
            alone = replace(job, folder=job.folder.resolve(), threads=1)
            parts = [(fold, k) for fold in range(max(1, n_folds)) for k in range(job.config.network.members)]
            done = spread(
                _train_part, parts, alone, client=client, progress=progress, stage="train", detail="trainings"
            )
            for _ in done:
                pass
    skies = _training_skies(job)
    options: dict[str, Any] = {"further": skies[1:], "threads": job.threads, "progress": progress}
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


def _predict(job: Run, progress: Progress | None) -> dict[str, Any]:
    maps, n_folds = SkyMaps.open(job.folder / "maps"), job.config.split.folds
    options: dict[str, Any] = {"margin": job.config.predict.margin, "rotations": job.config.predict.rotations}
    options |= {"device": job.device, "progress": progress}
    with connect(job.scheduler) as client:

        def work(folder: Path, where: NDArray[np.bool_] | None) -> NDArray[np.float32]:
            return predict(maps, load_model(folder), where=where, threads=job.threads, client=client, **options)

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


def _calibrate(job: Run, progress: Progress | None) -> dict[str, Any]:
    """Fit purity against p on the held-out tiles of a simulated sky; on a real one the truth is not known."""
    config, target = job.config, job.folder / CALIBRATION
    if not config.sky.simulate:
        target.unlink(missing_ok=True)
        return {}
    say(progress, "calibrate", 0, 0, "purity against p")
    held_out = _held_out(config)
    sources = find_sources(read_prediction(job.folder / "prediction.fits"), LOWEST_P, deblend=config.detect.deblend)
    judged, real = judge_sources(sources, read_catalogue(job.simulated / "truth.fits"), held_out)
    p, tile = np.asarray(judged["p"], float), np.asarray(judged["tile"])
    dust = reddening_mag(np.asarray(judged["lon_deg"]), np.asarray(judged["lat_deg"]))
    try:
        calibration = fit_calibration(p, real, dust, groups=tile, n_dust_bins=2, seed=config.seed)
        honest = predict_out_of_fold(p, real, dust, groups=tile, n_dust_bins=2, seed=config.seed)
    except ValueError as error:  # too few sources on a small sky
        target.unlink(missing_ok=True)
        return {"refused": str(error)}
    write_table(calibration.to_table(), target)
    diagram = measure_reliability(honest, real, equal="clusters")
    return {
        "n_sources": len(judged),
        "n_clusters": int(real.sum()),
        "tiles": list(held_out),
        "expected_calibration_error": expected_calibration_error(measure_reliability(honest, real)),
        "reliability": [{name: _plain(row[name]) for name in diagram.colnames} for row in diagram],
    }


def _detect(job: Run, progress: Progress | None) -> dict[str, Any]:
    say(progress, "detect", 0, 0, "connected areas")
    options = job.config.detect
    sources = find_sources(
        read_prediction(job.folder / "prediction.fits"), options.p_max, deblend=options.deblend, model=job.folder
    )
    if job.config.split.folds:
        of_tile = fold_of_tile(job.config.split.folds, job.config.seed)
        sources["fold"] = of_tile[tile_of(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))]
    known = read_catalogue(job.folder / "clusters.fits")
    write_candidates(make_candidates(identify_sources(sources, known)), job.folder)
    return {"n_sources": len(sources)}


def _assess(job: Run, progress: Progress | None) -> dict[str, Any]:
    say(progress, "assess", 0, 0, "recovery")
    config = job.config
    p_map = read_prediction(job.folder / "prediction.fits")
    clusters = read_catalogue(job.folder / "clusters.fits")
    catalogues = group_clusters(clusters, config.assess.selections)
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
    write_table(recovery, job.folder / "recovery.ecsv")
    outcome: dict[str, Any] = {"p_max": config.detect.p_max, "tiles": list(config.split.test_tiles)}
    if config.sky.simulate:
        say(progress, "assess", 0, 0, "completeness and purity")
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
    write_json(outcome, job.folder / "assessment.json")
    return {}


def _plain(value: Any) -> Any:
    """A number or text that JSON holds; NaN becomes None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _report(job: Run, progress: Progress | None) -> dict[str, Any]:
    say(progress, "report", 0, 0, "figures")
    write_text(config_toml(job.config), job.folder / "config.toml")
    write_report(job.folder)
    return {}


#: What each stage reads of the configuration, what it does, and what it leaves in the folder.
TABLE: dict[str, tuple[tuple[str, ...], Callable[[Run, Progress | None], dict[str, Any] | None], tuple[str, ...]]] = {
    "sky": (("sky", "seed"), _simulate, ("simulated/simulate.json",)),
    "maps": (("sky",), _read_maps, ("maps", "clusters.fits")),
    "filter": (("input",), _filter, ("maps/filter.json",)),
    "train": (
        ("seed", "split", "input", "labels", "patches", "network", "train"),
        train_stage,
        ("model.safetensors", "model.json"),
    ),
    "predict": (("predict",), _predict, ("prediction.fits",)),
    "calibrate": (("split", "detect"), _calibrate, ()),
    "detect": (("detect",), _detect, ("candidates.fits",)),
    "assess": (("assess", "detect", "split"), _assess, ("recovery.ecsv", "assessment.json")),
    "report": ((), _report, ("report.html",)),
}
