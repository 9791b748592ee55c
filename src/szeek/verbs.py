"""What `szeek VERB` does: lists of stages over one folder of products, and the results as values.

A verb without a folder of its own (``detect`` into another folder, say) starts one that continues the other. The
command line turns the results into sentences.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np

from szeek.assess.calibrate import p_max_for_purity
from szeek.assess.recovery import measure_recovery
from szeek.assess.sources import LOWEST_P, find_sources
from szeek.config import Config, config_toml, load_config
from szeek.files import write_table, write_text
from szeek.find.predict import read_prediction
from szeek.find.shards import predict_shard
from szeek.inputs.fits_files import parse_part
from szeek.inputs.instrument import read_instrument
from szeek.inputs.knownclusters import group_clusters, read_clusters
from szeek.inputs.surveymaps import check_masks, read_maps
from szeek.learn.device import pick_device
from szeek.learn.distributed import join_ranks
from szeek.learn.model import find_model, load_model
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.evidence import Evidence, EvidenceOptions, evidence_stage
from szeek.pipeline.measure import MEASURE, Measured
from szeek.pipeline.products import RunFolder, continue_folder
from szeek.pipeline.searches import (
    Purity,
    PurityOptions,
    Selected,
    SelectionOptions,
    need_searchable,
    purity_stage,
    selection_stage,
)
from szeek.pipeline.stage import Facts, Run, Stage, do_stages
from szeek.pipeline.stages import (
    ASSESS,
    CALIBRATE,
    DETECT,
    FILTER,
    MAPS,
    MODEL,
    PREDICT,
    SKY,
    TRAIN,
    Detected,
    Maps,
    Predicted,
)
from szeek.pipeline.ymap import YMapMade, ymap_stage
from szeek.show.report.field import FieldPicture, keep_field
from szeek.show.report.page import write_report
from szeek.sky.healpix import nside_of, unit_vectors
from szeek.sky.mapset import MapSet, open_maps, sees

#: Names of the stages in their order; `train` stands for `model` too, where a network is given.
STAGES = ("sky", "maps", "filter", "train", "predict", "calibrate", "detect", "measure", "assess", "report")
#: A field of at most this area is drawn whole in the report.
_LARGEST_FIELD_DEG2 = 1000.0


# --- report: the one stage that shows ------------------------------------------------------------------------


def _report(run: Run, progress: Progress | None) -> Facts:
    if progress is not None:
        progress("report", 0, 0, "figures")
    write_text(config_toml(run.config), run.target(products.CONFIG))
    if run.config.model:
        _keep_small_field(run)
    write_report(run.folder)
    return Facts()


def _keep_small_field(run: Run) -> None:
    """A small footprint as a field of the report, beside Compton y where it is given."""
    maps, clusters = open_maps(run.file(products.MAPS)), run.products.clusters
    seen = maps.seen if isinstance(maps, MapSet) else maps.footprint
    pixels, nside = np.flatnonzero(seen), nside_of(seen)
    area_deg2 = len(pixels) * healpy.nside2pixarea(nside, degrees=True)
    if clusters is None or run.config.sky.simulate:  # the truth of a simulated sky is shown instead
        return
    lon_deg, lat_deg = (np.asarray(clusters[name], float) for name in ("lon_deg", "lat_deg"))
    inside = clusters[sees(maps, unit_vectors(lon_deg, lat_deg))]
    if not len(inside) or area_deg2 > _LARGEST_FIELD_DEG2:
        return
    centre = np.stack(healpy.pix2vec(nside, pixels), axis=1).mean(axis=0)
    field_lon_deg, field_lat_deg = (float(angle[0]) for angle in healpy.vec2ang(centre, lonlat=True))
    y_files = run.config.sky.y_maps
    picture = FieldPicture(
        title=run.products.title,
        lon_deg=field_lon_deg,
        lat_deg=field_lat_deg,
        width_deg=float(np.sqrt(area_deg2)) * 1.3,
        y_files=y_files,
        y_title="y map (" + ", ".join(file.stem for file in y_files) + ")",
        p_max=run.config.detect.p_max,
    )
    keep_field(run.folder, "field", run.folder, inside, picture)


REPORT = Stage(
    "report",
    _report,
    sections=("sky", "detect"),
    reads=(
        products.PREDICTION, products.CALIBRATION, products.CANDIDATES, products.RECOVERY, products.SELECTION,
        products.CLUSTERS,
    ),
    writes=(products.REPORT, products.CONFIG),
)  # fmt: skip


# --- run, and predict: the run whose network is given ----------------------------------------------------------


@dataclass(frozen=True)
class RunResult:
    """What a run did.

    Parameters
    ----------
    folder : Path
    p_max : float
        Threshold of the candidates.
    report : Path or None
        None where the run ended before it.
    maps, predicted, detected, measured
        Facts of these stages, None where they were not reached.
    """

    folder: Path
    p_max: float
    report: Path | None
    maps: Maps | None
    predicted: Predicted | None
    detected: Detected | None
    measured: Measured | None


def list_stages(config: Config) -> list[Stage]:
    """The stages of a configuration, in their order; a network for y maps is trained, and nothing more."""
    given, simulated = bool(config.model), config.sky.simulate
    if config.network.target == "foregrounds" and not given:
        return [*([SKY] if simulated else []), MAPS, FILTER, TRAIN]
    wanted = [
        (SKY, simulated),
        (MAPS, True),
        (FILTER, True),
        (MODEL if given else TRAIN, True),
        (PREDICT, True),
        (CALIBRATE, simulated and not given),
        (DETECT, True),
        (MEASURE, True),
        (ASSESS, not given),
        (REPORT, True),
    ]
    return [stage for stage, included in wanted if included]


def run(
    config: Config,
    folder: str | os.PathLike[str],
    *,
    until: str = "report",
    gather: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Do all stages that are not done yet, up to ``until``.

    Parameters
    ----------
    config : Config
        With ``model`` given nothing is trained: the network predicts on the maps.
    folder : path
        The run's folder; holds all products.
    until : str
        Last stage to do, one of :data:`STAGES`.
    gather : bool
        Put the parts of the prediction together that :func:`predict_part` left in the folder.
    threads : int, optional
        Threads for every stage.
    device : str, optional
        Where the network is trained and predicts, as :func:`~szeek.learn.device.pick_device` has it.
    scheduler : str, optional
        Dask scheduler, by its address or its file, whose workers simulate further skies, make the matched-filter S/N
        maps, train members and folds at once, and predict. They must see the folder; the products are the same.
    progress : Progress, optional
        Called as progress(stage, done, total, detail).

    Returns
    -------
    RunResult

    Raises
    ------
    ValueError
        If the configuration names neither maps nor a simulation, the device is not there, the folder holds files
        of the products' names that no run made, or a stage refuses its input.

    Examples
    --------
    >>> import tempfile
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.sky import SkyMaps
    >>> values, seen = np.ones((12 * 64**2, 6), np.float32), np.ones(12 * 64**2, bool)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     maps = SkyMaps(values, seen, read_instrument("planck-hfi").bands).save(f"{folder}/planck")
    ...     config = Config(model="szeek-1", sky={"saved_maps": maps})
    ...     result = run(config, f"{folder}/my-run", until="maps")
    ...     sorted(path.name for path in result.folder.iterdir())
    ['maps', 'run.json']
    """
    if until not in STAGES:
        raise ValueError(f"stage '{until}' is unknown, expected one of {', '.join(STAGES)}")
    sky = config.sky
    if not sky.simulate and not (sky.saved_maps or sky.maps):
        raise ValueError("the configuration names no maps; give [sky] maps, or simulate = true")
    if config.network.target == "foregrounds" and not config.model and (not sky.simulate or sky.nside < 512):
        raise ValueError(
            "network.target is 'foregrounds', known on simulated skies alone and at 10 arcmin; expected [sky] "
            "simulate = true, and an nside of at least 512"
        )
    if not sky.simulate and not sky.catalogues and not config.model:
        raise ValueError("the configuration names no catalogues to train on; give [sky] catalogues, or a model")
    check_masks(sky.masks, sky.frame, sky.ordering)  # a wrong one is refused before minutes of simulation
    if scheduler is None:
        pick_device(device)  # a wrong one is refused before hours of other work
    if scheduler is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("scheduler is given under torchrun, expected one of the two: each shares the training out")
    if config.train.start_from and not config.model:
        find_model(config.train.start_from)  # refused before the sky and the filter
    if config.model and find_model(config.model).resolve() == Path(folder).resolve():
        raise ValueError(f"'{folder}' is the folder of the network that is given, expected another --out")
    if sky.saved_maps is not None and Path(folder).resolve() in sky.saved_maps.resolve().parents:
        raise ValueError(f"'{sky.saved_maps}' lies in '{folder}', whose maps it would replace; give another --out")
    job = Run(config, Path(folder), threads, device, scheduler, gather)
    stages = [stage for stage in list_stages(config) if _position(stage) <= STAGES.index(until)]
    _claim(job.folder, stages)
    found: dict[str, Facts] = {}
    with join_ranks() as ranks:
        if ranks.rank == 0:
            found = do_stages(job, stages, progress, ranks=ranks)
        # the other processes of a torchrun help with the training, where there is something to train
        elif TRAIN in stages and ranks.follow_first(False):
            TRAIN.work(job, None)
    return RunResult(
        job.folder,
        config.detect.p_max,
        job.target(products.REPORT) if REPORT in stages else None,
        *(found.get(name) for name in ("maps", "predict", "detect", "measure")),  # type: ignore[arg-type]
    )


def _position(stage: Stage) -> int:
    return STAGES.index("train" if stage is MODEL else stage.name)


def _claim(folder: Path, stages: Iterable[Stage]) -> None:
    """Create a run's folder; refuse one whose files the stages would remove though no run made them."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"'{folder}' is a file, expected a folder to write to; give another --out")
    if not (folder / products.RECORD).is_file():
        names = dict.fromkeys(name for stage in stages for name in (*stage.writes, *stage.may_write))
        theirs = [name for name in names if (folder / name).exists()]
        if theirs:
            raise ValueError(
                f"'{folder}' holds {', '.join(theirs)}, which no run made and a run would replace; "
                "expected a new folder or that of a run: give another --out"
            )
    folder.mkdir(parents=True, exist_ok=True)


def config_of_model(model: str | os.PathLike[str], **changes: Any) -> Config:
    """The configuration of a run whose network is given: that of the network's card on another sky.

    Parameters
    ----------
    model : str or path
        A shipped model's name, or a folder with a model.
    **changes
        Sections or values, as of :func:`~szeek.config.load_config`; ``sky`` replaces the card's.

    Raises
    ------
    FileNotFoundError
        If there is no such model.
    ValueError
        If a value is refused.
    """
    card, own = load_model(model).card, find_model(model) / products.MODEL_CARD
    values = dict(card.get("config") or {})
    values.setdefault("preset", card.get("preset", "bonjean2020"))
    trained, given = (part.get("input", {}).get("further", {}) for part in (values, changes))
    further = _further_of(trained, given, model)
    for section, change in changes.items():
        both = isinstance(change, Mapping) and section != "sky"
        values[section] = {**values.get(section, {}), **change} if both else change
    if further:
        values["input"] = {**values["input"], "further": further}
    kept = card.get("instrument", "planck-hfi")
    values["sky"] = {"instrument": kept if isinstance(kept, str) else str(own.resolve()), **values.get("sky", {})}
    shipped = not Path(model).is_dir()
    values["model"] = str(model) if shipped else str(Path(model).resolve())
    return Config.model_validate(values)


def _further_of(
    trained: dict[str, dict[str, Any]], given: dict[str, dict[str, Any]], model: str | os.PathLike[str]
) -> dict[str, dict[str, Any]]:
    """Further maps that a network was trained with, from the files of this sky instead of the training's."""
    further = {name: {**one, "file": (), "exposure": ()} for name, one in trained.items()}
    for name, one in given.items():
        if name not in further:
            raise ValueError(
                f"the map '{name}' is given, but the further maps that the network '{model}' sees are "
                f"{', '.join(further) or 'none'}; leave it out, or take a network that was trained with it, as "
                "szeek-1x with X-rays"
            )
        further[name] |= one
    return further


def predict_part(
    config: Config,
    folder: str | os.PathLike[str],
    part: tuple[int, int],
    *,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Compute one part of a prediction: one task of a job array, on any machine, in any order.

    Parameters
    ----------
    config : Config
        With ``model`` given; see :func:`config_of_model`.
    folder : path
        Where the parts are written, and put together by :func:`run` with ``gather``.
    part : (int, int)
        Number, from 1, and how many there are.
    threads, device, progress
        As of :func:`run`.

    Returns
    -------
    Path
        The part's file.
    """
    pick_device(device)
    sky, target = config.sky, Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    network = load_model(config.model, bfloat16=config.predict.bfloat16)
    if sky.saved_maps is not None:
        maps = open_maps(sky.saved_maps)
    else:
        stated: dict[str, Any] = {"unit": sky.unit, "frame": sky.frame, "ordering": sky.ordering, "check": sky.check}
        maps = read_maps(sky.maps, sky.instrument, ivar=sky.ivar, masks=sky.masks, **stated)
    return predict_shard(
        maps,
        network,
        target,
        part,
        margin=config.predict.margin,
        rotations=config.predict.rotations,
        threads=threads,
        device=device,
        progress=progress,
    )


# --- y map -----------------------------------------------------------------------------------------------------


def make_y_map(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    deproject: Sequence[str] = (),
    model: str = "",
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Path, YMapMade]:
    """Compton y with its errors of a run's maps, or of those that a configuration names.

    Parameters
    ----------
    source : path or str
        Folder of a run that keeps its maps, a preset's name, or a TOML file. A configuration's maps are simulated or
        read first; it needs no catalogue.
    out : path, optional
        Folder to write to, with a configuration.
    deproject : sequence of str
        Of 'cib', 'cib-moments' and 'radio', see :func:`szeek.filter.ilc.list_spectra`.
    model : str
        Network that says what foregrounds and noise left in the ILC: 'szeek-y', or a folder.
    threads, progress
        As of :func:`run`.

    Returns
    -------
    Path, YMapMade
        The folder with y.fits, and what is in it.

    Raises
    ------
    ValueError
        If ``out`` is given with a run or missing with a configuration, or the maps or spectra are refused.
    FileNotFoundError
        If the run has no maps.
    """
    if Path(source).is_dir():
        if out is not None:
            raise ValueError(f"'{source}' is a folder, into which its y map goes; leave out --out")
        home = RunFolder(source)
        home.need(products.MAPS)
        stage = ymap_stage(home.instrument, deproject, model)
        job, stages = Run(home.config, home.path, threads), [stage]
    else:
        config = load_config(os.fspath(source))
        if out is None:
            raise ValueError(f"'{source}' is a configuration; give --out, the folder to write to")
        if not config.sky.simulate and not (config.sky.saved_maps or config.sky.maps):
            raise ValueError("the configuration names no maps; give [sky] maps, or simulate = true")
        stage = ymap_stage(read_instrument(config.sky.instrument), deproject, model)
        job = Run(config, Path(out), threads)
        stages = [*([SKY] if config.sky.simulate else []), MAPS, stage]
        _claim(job.folder, stages)
    made = do_stages(job, stages, progress, again=len(stages) == 1)["ymap"]
    assert isinstance(made, YMapMade)
    return job.folder, made


# --- detect, measure -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DetectResult:
    """Candidates of a p map: their file, the threshold, what was detected and measured."""

    candidates: Path
    p_max: float
    detected: Detected
    measured: Measured


def detect(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    p_max: float | None = None,
    purity: float | None = None,
    deblend: bool | None = None,
    measure: bool | None = None,
    frame: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DetectResult:
    """Candidates of a p map, measured where its maps are there.

    Parameters
    ----------
    source : path
        Folder of a run, whose settings hold where none are given, or a HEALPix map of p.
    out : path, optional
        Folder to write to; the run's own by default.
    p_max : float, optional
        Threshold on p.
    purity : float, optional
        Instead: the lowest threshold that gives this purity, by the run's calibration.
    deblend : bool, optional
        Separate neighbours within one connected area.
    measure : bool, optional
        Measure the candidates in the maps.
    frame : str, optional
        Of a map whose header states none: 'galactic', 'icrs' or 'ecliptic'.
    threads, progress
        As of :func:`run`.

    Raises
    ------
    ValueError
        If a purity is asked for where no calibration lies beside the map, or no threshold reaches it.
    FileNotFoundError
        If there is no p map.
    """
    path = Path(source)
    if path.is_dir():
        folder = RunFolder(path)
        folder.need(products.PREDICTION)
    elif out is None:
        raise ValueError(f"'{path}' is a map, not the folder of a run; give --out, the folder to write to")
    else:
        if not parse_part(path).path.is_file():
            raise FileNotFoundError(f"'{path}' does not exist, expected a p map or the folder of a run")
        folder = RunFolder(path.parent)  # of a run, it says how the map was made
    config = folder.config
    options = {"deblend": deblend, "p_max": p_max}
    if purity is not None:
        blend = config.detect.deblend if deblend is None else deblend
        options["p_max"] = _threshold_of_purity(folder, path, purity, blend, frame)
    detect_section = config.detect.model_copy(update={k: v for k, v in options.items() if v is not None})
    measure_section = config.measure if measure is None else config.measure.model_copy(update={"enabled": measure})
    config = config.model_copy(update={"detect": detect_section, "measure": measure_section})
    target = Path(out) if out is not None else path
    own = path.is_dir() or path.resolve() == folder.file(products.PREDICTION).resolve()
    if target.resolve() != folder.path.resolve():
        _continue(folder, target, prediction=None if own else path)
    elif not own:
        raise ValueError(f"'{path}' is not the map of p of the run in '{target}'; give another --out")
    found = do_stages(Run(config, target, threads, frame=frame), [DETECT, MEASURE], progress, again=True)
    detected, measured = found["detect"], found["measure"]
    assert isinstance(detected, Detected) and isinstance(measured, Measured)
    return DetectResult(target / products.CANDIDATES, config.detect.p_max, detected, measured)


def _threshold_of_purity(folder: RunFolder, source: Path, purity: float, deblend: bool, frame: str | None) -> float:
    calibration = folder.calibration
    if calibration is None:
        raise ValueError(
            f"'{folder.path}' holds no {products.CALIBRATION}, which says what purity a p means; give --p-max, or "
            "predict with a model that has one"
        )
    p_map = read_prediction(folder.file(products.PREDICTION) if source.is_dir() else source, frame)
    sources = find_sources(p_map, LOWEST_P, deblend=deblend)
    p_max = p_max_for_purity(calibration, sources["p"], purity, sources["dust"])
    if not p_max < 1:
        raise ValueError(f"no threshold on p gives a purity of {purity:g} here; ask for less")
    # areas are those above the threshold itself
    return float(np.nextafter(np.float32(p_max), np.float32(0)))


#: What a folder that continues another one reads there.
_CONTINUED = (
    products.PREDICTION, products.MAPS, products.CLUSTERS, products.CALIBRATION, products.POSITIONS,
    products.FLUXES, products.DETECTIONS, products.MODEL_CARD, products.WEIGHTS, products.SIMULATED,
    products.CLASSES, products.CLASS_CALIBRATION,
)  # fmt: skip


def _continue(source: RunFolder, target: Path, prediction: Path | None = None) -> None:
    """Start a folder that continues a run; refuse one that is a run itself."""
    if target.is_dir() and (target / products.PREDICTION).exists():
        raise ValueError(f"'{target}' is the folder of another run, expected a new one; give another --out")
    # another map of p comes without those of the further classes
    names = _CONTINUED if prediction is None else tuple(set(_CONTINUED) - {products.CLASSES})
    continue_folder(source, target, names, prediction=prediction)


def measure(
    folder: str | os.PathLike[str], *, threads: int | None = None, progress: Progress | None = None
) -> Measured:
    """Measure the candidates of a run again, or for the first time where it was told not to.

    Parameters
    ----------
    folder : path
        Of a run that has detected sources and keeps its maps.
    threads, progress
        As of :func:`run`.

    Raises
    ------
    FileNotFoundError
        If sources or maps are missing.
    """
    home = RunFolder(folder)
    home.need(products.SOURCES, products.MAPS)
    config = home.config
    config = config.model_copy(update={"measure": config.measure.model_copy(update={"enabled": True})})
    facts = do_stages(Run(config, home.path, threads), [MEASURE], progress, again=True)["measure"]
    assert isinstance(facts, Measured)
    return facts


# --- assess, selection, purity ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recovered:
    """Known clusters of one sample that a p map recovers at p > 0.1, and the share by chance."""

    sample: str
    n_clusters: int
    n_recovered: int
    chance: float


def assess(
    source: str | os.PathLike[str],
    catalogues: Iterable[str | Path],
    out: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    tiles: Iterable[int] | None = None,
    frame: str | None = None,
) -> list[Recovered]:
    """Recovered fractions of the named samples (or of each survey) in a p map, against the threshold.

    Parameters
    ----------
    source : path
        Folder of a run, or a HEALPix map of p.
    catalogues : iterable of path
    columns : mapping, optional
        As of :func:`~szeek.inputs.knownclusters.read_clusters`.
    out : path
        Folder to write to.
    tiles : iterable of int, optional
        Count in these tiles only.
    frame : str, optional
        Of a map whose header states none: 'galactic', 'icrs' or 'ecliptic'.
    """
    path, target = Path(source), Path(out)
    p_map = read_prediction(RunFolder(path).file(products.PREDICTION) if path.is_dir() else path, frame)
    groups = group_clusters(read_clusters(catalogues, columns), ("planck_z", "planck_no-z", "mcxcwp", "rm50", "rm30"))
    recovery = measure_recovery(p_map, groups, tiles=tiles)
    target.mkdir(parents=True, exist_ok=True)
    write_table(recovery, target / products.RECOVERY)
    at = recovery[np.isclose(recovery["p_max"], 0.1) & (recovery["tile"] == -1)]
    return [
        Recovered(str(row["catalogue"]), int(row["n_clusters"]), int(row["n_recovered"]), float(row["chance"]))
        for row in at
    ]


def measure_selection(
    folder: str | os.PathLike[str],
    options: SelectionOptions = SelectionOptions(),  # noqa: B008 - frozen
    *,
    threads: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Selected:
    """Completeness and position errors of a run by injection; see :func:`~szeek.pipeline.searches.selection_stage`.

    Parameters
    ----------
    folder : path
        Of a run that has got as far as its candidates.
    options : SelectionOptions
    threads, scheduler, progress
        As of :func:`run`; the painted maps lie in the folder meanwhile.

    Raises
    ------
    ValueError, FileNotFoundError
        If the run has no maps, network or prediction, or the sky has no room for so many clusters.
    """
    home = RunFolder(folder)
    need_searchable(home)
    job = Run(home.config, home.path, threads, scheduler=scheduler)
    facts = do_stages(job, [selection_stage(options)], progress, again=True)["selection"]
    assert isinstance(facts, Selected)
    return facts


def measure_purity(
    folder: str | os.PathLike[str],
    options: PurityOptions = PurityOptions(),  # noqa: B008 - frozen
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Purity:
    """Purity of a run without truth; see :func:`~szeek.pipeline.searches.purity_stage`.

    Parameters
    ----------
    folder : path
        Of a run that has got as far as its candidates.
    options : PurityOptions
    threads, progress
        As of :func:`run`.

    Raises
    ------
    ValueError, FileNotFoundError
        If the run has no maps, network or prediction.
    """
    home = RunFolder(folder)
    need_searchable(home)
    home.need(products.CLUSTERS)
    facts = do_stages(Run(home.config, home.path, threads), [purity_stage(options)], progress, again=True)["purity"]
    assert isinstance(facts, Purity)
    return facts


def measure_evidence(
    folder: str | os.PathLike[str], options: EvidenceOptions, *, progress: Progress | None = None
) -> Evidence:
    """What X-rays, galaxies and catalogues say of a run's candidates.

    Parameters
    ----------
    folder : path
        Of a run with candidates.
    options : EvidenceOptions
    progress : Progress, optional

    Raises
    ------
    ValueError, FileNotFoundError
        If nothing is given to look at, a file is refused, or the run has no candidates.
    """
    options.check()
    home = RunFolder(folder)
    home.need(products.CANDIDATES)
    facts = do_stages(Run(home.config, home.path), [evidence_stage(options)], progress, again=True)["evidence"]
    assert isinstance(facts, Evidence)
    return facts
