"""The whole job: the stages in order, each skipped where its inputs have not changed, a killed one continued.

A stage's key is a checksum of the part of the configuration it reads, of its input files and of the keys of the
stages before it; run.json keeps the key under which each product was made.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from szeek._version import __version__
from szeek.config import Config, named_file
from szeek.files import write_json
from szeek.inputs.masks import find_masks
from szeek.learn.device import pick_device
from szeek.learn.distributed import Ranks, join_ranks
from szeek.parallel import Progress
from szeek.pipeline.stages import STAGES, TABLE, Run, say, train_stage


def run(
    config: Config,
    folder: str | os.PathLike[str],
    *,
    threads: int | None = None,
    device: str = "cpu",
    scheduler: str | None = None,
    until: str = "report",
    progress: Progress | None = None,
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
    progress : Progress, optional
        Called as progress(stage, done, total, detail).

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
    # a wrong one is refused before minutes of simulation
    find_masks(config.sky.masks, config.sky.frame, config.sky.ordering)
    if scheduler is None:
        pick_device(device)  # a wrong one is refused before hours of other work
    if scheduler is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("scheduler is given under torchrun, expected one of the two: each shares the training out")
    job = Run(config, Path(folder), threads, device, scheduler)
    _claim(job.folder)
    with join_ranks() as ranks:
        if ranks.rank == 0:
            _do_stages(job, until, progress, ranks)
        # the other processes of a torchrun help with the training, where there is something to train
        elif STAGES.index(until) >= STAGES.index("train") and ranks.follow_first(False):
            train_stage(job, None)
    report = job.folder / "report.html"
    return report if until == "report" else job.folder


def _claim(folder: Path) -> None:
    """Make a run's folder; refuse one whose files the stages would remove though no run made them."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"'{folder}' is a file, expected a folder to write to; give another --out")
    if not (folder / "run.json").is_file():
        products = [name for stage in STAGES[1:] for name in TABLE[stage][2]]
        theirs = [name for name in (*products, "config.toml") if (folder / name).exists()]
        if theirs:
            raise ValueError(
                f"'{folder}' holds {', '.join(theirs)}, which no run made and a run would replace; "
                "expected a new folder or that of a run: give another --out"
            )
    folder.mkdir(parents=True, exist_ok=True)


def _do_stages(job: Run, until: str, progress: Progress | None, ranks: Ranks) -> None:
    record = _open_record(job)
    key = hashlib.sha256(__version__.encode()).hexdigest()
    for stage in STAGES[: STAGES.index(until) + 1]:
        reads, work, products = TABLE[stage]
        key = _key(key, job, reads, stage)
        if stage == "sky" and not job.config.sky.simulate:
            continue
        done = record["stages"].get(stage, {})
        unchanged = done.get("key") == key and all((job.folder / name).exists() for name in products)
        if stage == "train":
            ranks.follow_first(not unchanged)
        if unchanged:
            say(progress, stage, 1, 1, "unchanged")
            continue
        if done.get("started_with") != key:
            parts = ("checkpoint.safetensors", "fold-*", "member-*")
            begun = [path for part in parts for path in job.folder.glob(part)] if stage == "train" else []
            for path in (*(job.folder / name for name in products), *begun):
                _remove(path)
        record["stages"][stage] = {"started_with": key}
        write_json(record, job.folder / "run.json")
        began = time.monotonic()
        facts = work(job, progress) or {}
        seconds = round(time.monotonic() - began, 1)
        record["stages"][stage] = {"key": key, "seconds": seconds, **facts}
        record["timings"] = {s: record["stages"][s].get("seconds", 0.0) for s in STAGES if s in record["stages"]}
        write_json(record, job.folder / "run.json")
        say(progress, stage, 1, 1, f"{seconds:.0f} s")


def _open_record(job: Run) -> dict[str, Any]:
    path = job.folder / "run.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"stages": {}}
    record["config"] = job.config.model_dump(mode="json")
    record["seed"] = job.config.seed
    record["device"] = job.device
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
    for section, name in (("train", "checkpoint_s"), ("sky", "check")):  # no product depends on these
        config.get(section, {}).pop(name, None)
    files = []
    masks = config.get("sky", {}).pop("masks", [])  # without any, a run from before there were masks goes on
    if masks and stage != "sky":  # a simulated sky is the same behind any mask
        config["sky"]["masks"] = [[name, file.name] for name, file in map(named_file, masks)]
    if "sky" in config and not job.config.sky.simulate:  # the same files by whatever path they are named
        named = [named_file(file) for file in job.catalogue_files()]
        config["sky"]["maps"] = {band: file.name for band, file in job.map_files().items()}
        config["sky"]["catalogues"] = [[survey, file.name] for survey, file in named]
    if stage == "maps":
        for path in job.mask_files() if job.config.sky.simulate else job.input_files():
            if not path.is_file():
                raise FileNotFoundError(f"'{path}' is named in the configuration but is no file")
            status = path.stat()
            files.append([path.name, status.st_size, status.st_mtime_ns])
    text = json.dumps([before, stage, config, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
