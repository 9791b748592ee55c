"""Single jobs on files, without a run: predict on maps, detect in a p map, assess it."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.table import Table

from szeek.assess.calibrate import Calibration, p_max_for_purity
from szeek.assess.match import match
from szeek.assess.recovery import measure_recovery
from szeek.assess.sources import CALIBRATION, LOWEST_P, POSITIONS, find_sources
from szeek.config import DetectConfig, PredictConfig
from szeek.files import write_table
from szeek.find.predict import predict, read_prediction, write_prediction
from szeek.find.shards import gather_shards, parse_shard, predict_shard
from szeek.inputs.catalogues import write_catalogue
from szeek.inputs.knownclusters import group_clusters, read_clusters
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.masks import find_masks, read_masks
from szeek.inputs.preflight import preflight
from szeek.learn.device import pick_device
from szeek.learn.model import find_model, load_model
from szeek.measure.candidates import make_candidates, write_candidates
from szeek.measure.identify import identify_sources
from szeek.parallel import Progress, connect
from szeek.pipeline.stages import say
from szeek.show.report.field import keep_field
from szeek.show.report.page import write_report
from szeek.sky.skymaps import SkyMaps


def predict_files(
    maps: Mapping[str, str | os.PathLike[str]] | str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    catalogues: Iterable[str | Path] = (),
    columns: Mapping[str, str] | None = None,
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
    masks: Sequence[str | Path] = (),
    check: bool = True,
    progress: Progress | None = None,
) -> str:
    """Find clusters in map files, full sky or cut-outs, with a trained network.

    ``maps`` are files by band, cut by the ``masks``, or the folder of a saved SkyMaps, which is memory-mapped. With
    ``shard`` 'i/n' only that part of the prediction is computed and written; with ``gather`` the parts are read
    instead of computing; with ``scheduler`` the workers of that Dask cluster compute, which must see the folders.
    ``device`` is where the network runs, in each worker's own words where there are workers.

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
    if masks and not isinstance(maps, Mapping):
        raise ValueError(f"masks are given beside '{maps}', which holds maps already read; expected map files")
    find_masks(masks, frame, ordering)
    part = parse_shard(shard) if shard is not None else None
    if scheduler is None:
        pick_device(device)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    network = load_model(model)
    known = read_clusters(catalogues, columns) if catalogues else None
    say(progress, "maps", 0, 0, "frequency maps")
    folder = (target / "maps" if scheduler is not None else None) if isinstance(maps, Mapping) else Path(maps)
    if isinstance(maps, Mapping):
        stated: dict[str, Any] = {"unit": unit, "frame": frame, "ordering": ordering}
        skymaps = read_skymaps(maps, **stated, mask=read_masks(masks, frame, ordering), check=check, out=folder)
        if folder is not None:
            with connect(scheduler) as client:  # the workers need the S/N maps there
                network.prepare(SkyMaps.open(folder), threads, client).save_snr(folder)
            skymaps = SkyMaps.open(folder)
    else:
        skymaps = SkyMaps.open(maps)
    trained = network.card.get("config", {})
    own = PredictConfig.model_validate(trained.get("predict", {}))
    deblend = DetectConfig.model_validate(trained.get("detect", {})).deblend
    options: dict[str, Any] = {"margin": own.margin}
    options["rotations"] = own.rotations if rotations is None else rotations

    if part is not None:
        file = predict_shard(
            skymaps, network, target, part, **options, threads=threads, device=device, progress=progress
        )
        return f"part {part[0]} of {part[1]}: {file}"
    lines = []
    if known is not None:
        lines.append(preflight(skymaps, known).sentence)
    if gather:
        p_map = gather_shards(skymaps, network, target, **options)
    else:
        with connect(scheduler) as client:
            where: dict[str, Any] = {"threads": threads, "client": client, "device": device}
            p_map = predict(skymaps, network, **options, **where, progress=progress)
    write_prediction(p_map, target / "prediction.fits", model=str(network.card.get("preset", "")))
    for name in (CALIBRATION, POSITIONS):
        beside = find_model(model) / name
        if beside.is_file() and beside.parent.resolve() != target.resolve():
            shutil.copyfile(beside, target / name)
    sources = find_sources(p_map, p_max, deblend=deblend, model=target)
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
    frame: str | None = None,
) -> str:
    """Candidates of a p map, above a threshold or of a wanted purity; the answer in words.

    Raises
    ------
    ValueError
        If a purity is asked for where no calibration lies beside the map, or no threshold reaches it.
    """
    source, target = Path(prediction), Path(out)
    file = source / "prediction.fits" if source.is_dir() else source
    p_map = read_prediction(file, frame)
    if purity is not None:
        if not (file.parent / CALIBRATION).is_file():
            raise ValueError(
                f"'{file.parent}' holds no {CALIBRATION}, which says what purity a p means; give --p-max, or predict "
                "with a model that has one"
            )
        sources = find_sources(p_map, LOWEST_P, deblend=deblend, model=file.parent)
        calibration = Calibration.from_table(Table.read(file.parent / CALIBRATION))
        p_max = p_max_for_purity(calibration, sources["p"], purity, sources["dust"])
        if not p_max < 1:
            raise ValueError(f"no threshold on p gives a purity of {purity:g} here; ask for less")
        # areas are those above the threshold itself
        p_max = float(np.nextafter(np.float32(p_max), np.float32(0)))
    sources = find_sources(p_map, p_max, deblend=deblend, model=file.parent)
    write_candidates(make_candidates(identify_sources(sources, None)), target)
    threshold = f"p = {p_max:.3g}" + ("" if purity is None else f", for a purity of {purity:g}")
    return f"{len(sources)} candidates above {threshold}: {target / 'candidates.fits'} (.vot, .csv, .reg)"


def assess_files(
    prediction: str | os.PathLike[str],
    catalogues: Iterable[str | Path],
    out: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    tiles: Iterable[int] | None = None,
    frame: str | None = None,
) -> str:
    """Recovered fractions of the named selections (or of each survey) in a p map; writes recovery.ecsv."""
    source, target = Path(prediction), Path(out)
    p_map = read_prediction(source / "prediction.fits" if source.is_dir() else source, frame)
    known = read_clusters(catalogues, columns)
    groups = group_clusters(known, ("planck_z", "planck_no-z", "mcxcwp", "rm50", "rm30"))
    recovery = measure_recovery(p_map, groups, tiles=tiles)
    target.mkdir(parents=True, exist_ok=True)
    write_table(recovery, target / "recovery.ecsv")
    at = recovery[np.isclose(recovery["p_max"], 0.1) & (recovery["tile"] == -1)]
    lines = [
        f"{row['catalogue']}: {row['n_recovered']} of {row['n_clusters']} recovered at p > 0.1, "
        f"{row['chance']:.1%} by chance"
        for row in at
    ]
    return "\n".join([*lines, f"recovery: {target / 'recovery.ecsv'}"])
