"""A stage is a value: what it reads and writes, and the function. Lists of stages are done here, over one folder.

A stage's key is a checksum of the sections of the configuration that it reads, of the files named there, and of the
keys of the products it reads; the record keeps the key under which each product was made. A stage whose key has not
changed is skipped, a killed one is continued.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from szeek._version import __version__
from szeek.config import Config, named_file, without_defaults
from szeek.files import remove_path, write_json
from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2, truth_cut
from szeek.inputs.fits_files import list_tiles, parse_part
from szeek.inputs.instrument import read_instrument, record_instrument
from szeek.learn.distributed import Ranks
from szeek.learn.model import find_model
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder


@dataclass(frozen=True)
class Run:
    """A folder and a configuration, and with what it is computed; what every stage is given.

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
    gather : bool
        Put the parts of a prediction together that are in the folder, instead of computing it.
    frame : str or None
        Of a map of p whose header states none.
    """

    config: Config
    folder: Path
    threads: int | None = None
    device: str = "cpu"
    scheduler: str | None = None
    gather: bool = False
    frame: str | None = None

    @cached_property
    def products(self) -> RunFolder:
        """What the folder holds."""
        return RunFolder(self.folder)

    def file(self, product: str) -> Path:
        """Where a product is read: in the folder, or where the folder's record says."""
        return RunFolder(self.folder).file(product)

    def target(self, product: str) -> Path:
        """Where a product is written: in the folder."""
        return self.folder / product

    def map_files(self) -> dict[str, Path]:
        """Map of each band: the user's, or the simulated sky's."""
        if not self.config.sky.simulate:
            return dict(self.config.sky.maps)
        record = json.loads(self.file(products.SIMULATION_RECORD).read_text())
        return {band: self.file(products.SIMULATED) / name for band, name in record["maps"].items()}

    def ivar_files(self) -> dict[str, Path]:
        """Inverse variance of each band that has one: the user's, or the simulated field's."""
        if not self.config.sky.simulate:
            return dict(self.config.sky.ivar)
        record = json.loads(self.file(products.SIMULATION_RECORD).read_text())
        return {band: self.file(products.SIMULATED) / name for band, name in record.get("ivar", {}).items()}

    @property
    def radius_arcmin(self) -> float:
        """Matching radius of the assessment, for the beams at hand."""
        from szeek.measure.pairs import beam_radius  # loads scipy's trees, which the rest does without

        return beam_radius(self.config.assess.radius_arcmin, read_instrument(self.config.sky.instrument).bands)

    @property
    def truth_cut_arcmin2(self) -> float:
        """Least Y500 of what counts as a cluster on a simulated sky: that of the labels, where they are haloes."""
        cuts = [truth_cut(name) for name in self.config.labels.selections]
        return min((cut for cut in cuts if cut is not None), default=TRUTH_Y500_ARCMIN2)

    def further_skies(self) -> list[Run]:
        """Simulated skies of other seeds that only the training sees, each with a folder of its own."""
        if not self.config.sky.simulate or self.config.model:
            return []
        return [
            Run(self.config.model_copy(update={"seed": seed}), self.folder / f"sky-{seed}", self.threads)
            for seed in self.config.sky.further_seeds
        ]

    def catalogue_files(self) -> list[Path]:
        """Catalogues of known clusters: the user's, or the simulated surveys'."""
        if not self.config.sky.simulate:
            return list(self.config.sky.catalogues)
        # a survey that does not reach a simulated field lists nothing there
        rows = json.loads(self.file(products.SIMULATION_RECORD).read_text()).get("rows", {})
        surveys = [name for name in ("psz2", "mcxc", "redmapper") if rows.get(name, 1)]
        return [self.file(products.SIMULATED) / f"{name}.fits" for name in surveys]

    def mask_files(self) -> list[Path]:
        """Masks that the sky is cut by, the user's own for a simulated sky too."""
        return [parse_part(named_file(file)[1]).path for file in self.config.sky.masks]

    def input_files(self) -> list[Path]:
        """Maps, their inverse variances, catalogues and masks."""
        catalogues = [named_file(file)[1] for file in self.catalogue_files()]
        given = (*self.map_files().values(), *self.ivar_files().values())
        maps = [parse_part(file).path for pattern in given for file in list_tiles(pattern)]
        return [*maps, *catalogues, *self.mask_files()]


@dataclass(frozen=True)
class Facts:
    """What a stage found, for the record and for those who called it; subclasses add fields that JSON holds."""


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Parameters
    ----------
    name : str
    work : callable
        Called as work(run, progress); writes the products and returns the facts.
    sections : tuple of str
        Sections of the configuration that the products depend on.
    reads, writes : tuple of str
        Products.
    may_write : tuple of str
        Products that are not always there.
    facts : type
        Class of what ``work`` returns.
    files : callable, optional
        Called as files(run); files outside the folder that the products depend on.
    options : dict
        What the products depend on besides.
    begun : tuple of str
        Patterns of files that a killed stage leaves to go on from.
    """

    name: str
    work: Callable[[Run, Progress | None], Facts]
    sections: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    may_write: tuple[str, ...] = ()
    facts: type[Facts] = Facts
    files: Callable[[Run], list[Path]] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    begun: tuple[str, ...] = ()


def do_stages(
    run: Run,
    stages: Sequence[Stage],
    progress: Progress | None = None,
    *,
    ranks: Ranks | None = None,
    again: bool = False,
) -> dict[str, Facts]:
    """Do the stages that are not done yet, in their order.

    Parameters
    ----------
    run : Run
    stages : sequence of Stage
    progress : Progress, optional
    ranks : Ranks, optional
        Processes of a torchrun, which follow in the training.
    again : bool
        Do them whether they are done or not.

    Returns
    -------
    dict of stage name to Facts
        Of all these stages, done now or before.

    Raises
    ------
    ValueError
        If another minor version of SZeek made the folder, or a stage refuses its input.
    """
    check_version(run.folder)
    record = _open_record(run)
    found: dict[str, Facts] = {}
    for stage in stages:
        key = stage_key(stage, run, record)
        done = record["stages"].get(stage.name, {})
        there = all(run.target(name).exists() for name in (*stage.writes, *done.get("writes", ())))
        unchanged = not again and done.get("key") == key and there
        if ranks is not None and stage.name == "train":
            ranks.follow_first(not unchanged)
        if unchanged:
            found[stage.name] = _stored(stage, done)
            _say(progress, stage.name, "unchanged")
            continue
        if done.get("started_with") != key:
            begun = [path for pattern in stage.begun for path in run.folder.glob(pattern)]
            for path in (*map(run.target, (*stage.writes, *stage.may_write)), *begun):
                remove_path(path)
        for scratch in run.folder.glob(f".{stage.name}-*"):  # of a process that was killed
            remove_path(scratch)
        record["stages"][stage.name] = {"started_with": key}
        write_json(record, run.target(products.RECORD))
        began = time.monotonic()
        facts = stage.work(run, progress)
        seconds = round(time.monotonic() - began, 1)
        written = [name for name in (*stage.writes, *stage.may_write) if run.target(name).exists()]
        record["stages"][stage.name] = {"key": key, "writes": written, "seconds": seconds, **asdict(facts)}
        record["timings"] = {name: done.get("seconds", 0.0) for name, done in record["stages"].items()}
        write_json(record, run.target(products.RECORD))
        found[stage.name] = facts
        _say(progress, stage.name, f"{seconds:.0f} s")
    return found


def _say(progress: Progress | None, stage: str, detail: str) -> None:
    if progress is not None:
        progress(stage, 1, 1, detail)


def _stored(stage: Stage, done: dict[str, Any]) -> Facts:
    names = {item.name for item in fields(stage.facts)}
    return stage.facts(**{name: value for name, value in done.items() if name in names})


def _open_record(run: Run) -> dict[str, Any]:
    path = run.target(products.RECORD)
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    record.setdefault("stages", {})
    record["config"] = run.config.model_dump(mode="json")
    record["seed"] = run.config.seed
    record["device"] = run.device
    record["started"] = datetime.now(UTC).isoformat(timespec="seconds")
    packages = ("numpy", "scipy", "astropy", "healpy", "torch", "numba")
    record["versions"] = {
        "szeek": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
    return record


def check_version(folder: Path) -> None:
    """Refuse to continue a run of a version whose records are not understood.

    Raises
    ------
    ValueError
        If another minor version made the run.
    """
    path = folder / products.RECORD
    if not path.is_file():
        return
    made_by = str((json.loads(path.read_text()).get("versions") or {}).get("szeek", __version__))
    if made_by.split(".")[:2] != __version__.split(".")[:2]:
        raise ValueError(
            f"'{folder}' is a run of SZeek {made_by}, which this version ({__version__}) does not continue; give a "
            f"new --out, or use its network with `szeek predict --model {folder} --map {folder / products.MAPS}`"
        )


def stage_key(stage: Stage, run: Run, record: dict[str, Any]) -> str:
    """Checksum of what a stage's products depend on.

    Parameters
    ----------
    stage : Stage
    run : Run
    record : dict
        The folder's record; its stages' keys stand for the products that they wrote.
    """
    config = run.config.model_dump(mode="json", include=set(stage.sections))
    for section, name in (("train", "checkpoint_s"), ("sky", "check")):  # no product depends on these
        config.get(section, {}).pop(name, None)
    config = without_defaults(config)
    if "sky" in config:
        config["sky"] = _named_alike(config["sky"], stage, run)
    for one in config.get("input", {}).get("further", {}).values():  # files that stages name are looked at themselves
        one["file"] = [Path(file).name for file in one["file"]]
        one["exposure"] = [Path(str(seconds)).name for seconds in one["exposure"]]
    if config.get("train", {}).get("start_from"):  # the weights, wherever they lie
        config["train"]["start_from"] = checksum(find_model(config["train"]["start_from"]) / products.WEIGHTS)
    files = [_fingerprint(path) for path in (stage.files(run) if stage.files is not None else ())]
    reads = set(stage.reads)
    made = sorted(done.get("key", "") for done in record["stages"].values() if reads & set(done.get("writes", ())))
    others = sorted(record.get("linked", {}).items())
    linked = [_fingerprint(Path(path)) for name, path in others if name in reads]
    text = json.dumps([stage.name, config, stage.options, files, made, linked], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def checksum(path: Path) -> str:
    """Of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _named_alike(sky: dict[str, Any], stage: Stage, run: Run) -> dict[str, Any]:
    """The section with files by their names alone, and all of an instrument's file: the path does not matter."""
    sky["instrument"] = record_instrument(sky["instrument"])
    masks = [[name, file.name] for name, file in map(named_file, sky.pop("masks"))]
    if stage.name != "sky":  # a simulated sky is the same behind any mask
        sky["masks"] = masks
    if not run.config.sky.simulate:
        named = [named_file(file) for file in run.catalogue_files()]
        sky["maps"] = {band: file.name for band, file in run.map_files().items()}
        sky["ivar"] = {band: file.name for band, file in run.config.sky.ivar.items()}
        sky["catalogues"] = [[survey, file.name] for survey, file in named]
    return sky


def _fingerprint(path: Path) -> list[str | int]:
    file = parse_part(path).path
    if not file.exists():
        raise FileNotFoundError(f"'{path}' is named in the configuration but does not exist")
    status = file.stat()
    return [path.name, status.st_size, status.st_mtime_ns]
