"""A prediction in parts, one job each: shard i of n writes a part file, and all parts are put together.

A shard is a run of neighbouring fields, so that it reads one stretch of the maps, with about the n-th part of all
the network's pixels. Nothing is shared but the folder, so that any job array will do, and the map is the one
of a single machine bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from szeek._version import __version__
from szeek.files import whole_file
from szeek.find.predict import check_seen, empty_map, plan_fields, predict_fields, with_snr_maps
from szeek.learn.model import Model
from szeek.learn.unet import UNet
from szeek.parallel import Progress
from szeek.sky.fields import Field, own_runs
from szeek.sky.mapset import MapSet
from szeek.sky.partial import PartialMap
from szeek.sky.skymaps import SkyMaps

_PART = re.compile(r"prediction\.part-(\d+)-of-(\d+)\.fits")


def parse_shard(text: str) -> tuple[int, int]:
    """Shard 'i/n' of a job array, counted from 1.

    Examples
    --------
    >>> parse_shard("3/16")
    (3, 16)
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"shard is '{text}', expected i/n with i from 1 to n, e.g. 3/16")
    return int(found[1]), int(found[2])


def share_fields(fields: list[Field], shard: tuple[int, int]) -> list[Field]:
    """The neighbouring fields of one shard: every field falls to exactly one, and all have about as many pixels.

    Examples
    --------
    >>> row = [Field(45.0 * k, 0.0, 64, 64, (1, 2), k, 8) for k in range(8)]
    >>> [field.part for field in share_fields(row, (2, 3))]
    [3, 4]
    """
    cost = np.array([field.ny * field.nx for field in fields])
    middle = np.cumsum(cost) - 0.5 * cost
    number, of = shard
    owner = np.minimum((middle / cost.sum() * of).astype(int), of - 1)
    return [fields[k] for k in np.flatnonzero(owner == number - 1)]


def predict_shard(
    maps: SkyMaps | MapSet,
    model: Model,
    folder: str | os.PathLike[str],
    shard: tuple[int, int],
    *,
    margin: int = 16,
    rotations: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Compute one shard of :func:`~szeek.find.predict.predict`, and write it as a part file.

    Parameters
    ----------
    maps : SkyMaps
        Memory-mapped ones are read only where the shard's fields are.
    folder : path
        Receives ``prediction.part-3-of-16.fits``: HEALPix with explicit pixel numbers, RING.
    shard : (int, int)
        Number, from 1, and how many there are.
    margin, rotations, threads, device, progress
        As of :func:`~szeek.find.predict.predict`.

    Raises
    ------
    ValueError
        As of :func:`~szeek.find.predict.predict`, and where :func:`~szeek.find.predict.with_snr_maps` does.

    Examples
    --------
    >>> import tempfile
    >>> import healpy
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.learn.model import load_model
    >>> bands, seen = read_instrument().bands, np.zeros(12 * 256**2, bool)
    >>> seen[healpy.query_disc(256, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))] = True
    >>> maps = SkyMaps(np.ones((seen.size, 6), np.float32) * seen[:, None], seen, bands)
    >>> model = load_model("bonjean2020-planckz")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = predict_shard(maps, model, folder, (2, 3), threads=1)
    ...     values = healpy.read_map(path)
    >>> path.name, bool(np.isin(np.flatnonzero(values != healpy.UNSEEN), np.flatnonzero(seen)).all())
    ('prediction.part-2-of-3.fits', True)
    """
    number, of = shard
    fields = share_fields(plan_fields(maps, model, margin=margin, rotations=rotations), shard)
    index_type = np.int32 if 12 * maps.nside**2 < 2**31 else np.int64
    names = _column_names(model)
    pixels, values = [np.zeros(0, index_type)], [np.zeros((0, len(names)), np.float32)]
    work = predict_fields(
        with_snr_maps(maps, model), model, fields,
        rotations=rotations, threads=threads, device=device, classes=bool(model.classes), progress=progress,
    )  # fmt: skip
    for field, p in work:
        own = np.concatenate([np.arange(*run, dtype=index_type) for run in own_runs(field, maps.nside)])
        p = p.reshape(own.size, len(names))
        seen = np.isfinite(p[:, 0]) if isinstance(maps, MapSet) else maps.footprint[own]
        pixels.append(own[seen])
        values.append(p[seen])
    ipix, p = np.concatenate(pixels), np.concatenate(values)
    order = np.argsort(ipix)
    columns = [fits.Column("PIXEL", "J" if index_type is np.int32 else "K", array=ipix[order])]
    columns += [fits.Column(name, "E", unit="1", array=p[order, k]) for k, name in enumerate(names)]
    table = fits.BinTableHDU.from_columns(columns)
    cards = {"PIXTYPE": "HEALPIX", "ORDERING": "RING", "NSIDE": maps.nside, "COORDSYS": "G", "INDXSCHM": "EXPLICIT"}
    cards |= {"OBJECT": "PARTIAL", "GRAIN": 1, "CREATOR": "SZeek", "SHARD": number, "NSHARD": of}
    table.header.update(cards)
    table.header["JOBKEY"] = _job_key(maps, model, margin, rotations)
    target = Path(folder) / f"prediction.part-{number}-of-{of}.fits"
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as staging:
        table.writeto(staging, overwrite=True)
    return target


def gather_shards(
    maps: SkyMaps | MapSet, model: Model, folder: str | os.PathLike[str], *, margin: int = 16, rotations: int = 1
) -> NDArray[np.float32] | PartialMap:
    """Put the part files of a folder together: the map of :func:`~szeek.find.predict.predict`, or of all classes.

    Parameters
    ----------
    maps, model, margin, rotations
        Those of the shards.
    folder : path
        Where :func:`predict_shard` wrote.

    Returns
    -------
    (n_pix,) float32, or (n_pix, 1 + n_class) where the model tells classes apart, or PartialMap
        RING; NaN outside the footprint.

    Raises
    ------
    FileNotFoundError
        If parts are missing; they are named.
    ValueError
        If parts of two divisions lie there, or one was made from other maps, another model or other options.

    Examples
    --------
    >>> import tempfile
    >>> import healpy
    >>> from szeek.find.predict import predict
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.learn.model import load_model
    >>> bands, seen = read_instrument().bands, np.zeros(12 * 256**2, bool)
    >>> seen[healpy.query_disc(256, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))] = True
    >>> maps = SkyMaps(np.ones((seen.size, 6), np.float32) * seen[:, None], seen, bands)
    >>> model = load_model("bonjean2020-planckz")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in (1, 2):
    ...         _ = predict_shard(maps, model, folder, (number, 2), threads=1)
    ...     gathered = gather_shards(maps, model, folder)
    >>> np.array_equal(gathered, predict(maps, model, threads=1), equal_nan=True)  # to the last bit
    True
    """
    parts = {path: _PART.fullmatch(path.name) for path in sorted(Path(folder).glob("prediction.part-*.fits"))}
    numbers = {(int(found[1]), int(found[2])): path for path, found in parts.items() if found}
    divisions = sorted({of for _, of in numbers})
    if not divisions:
        raise FileNotFoundError(f"'{folder}' holds no part of a prediction; make them with --shard 1/n to n/n")
    if len(divisions) > 1:
        found = " and by ".join(map(str, divisions))
        raise ValueError(f"'{folder}' holds parts of a division by {found}; remove those of the others")
    of = divisions[0]
    missing = [number for number in range(1, of + 1) if (number, of) not in numbers]
    if missing:
        listed = ", ".join(f"{number}/{of}" for number in missing)
        raise FileNotFoundError(f"'{folder}' lacks {len(missing)} of {of} parts of the prediction: --shard {listed}")
    key = _job_key(maps, model, margin, rotations)
    names, pixels, values = _column_names(model), [], []
    for path in numbers.values():
        with fits.open(path) as hdus:
            if hdus[1].header.get("JOBKEY") != key:
                raise ValueError(
                    f"'{path}' was made from other maps, with another model, other options or another version; "
                    "make it again, or gather with those of the parts"
                )
            pixels.append(np.asarray(hdus[1].data["PIXEL"], np.int64))
            values.append(np.stack([np.asarray(hdus[1].data[name], np.float32) for name in names], axis=1))
    if not model.classes:
        values = [part[:, 0] for part in values]
    if isinstance(maps, MapSet):
        return PartialMap.from_pixels(maps.nside, np.concatenate(pixels), np.concatenate(values))
    p_map = empty_map(len(maps.footprint), len(names) if model.classes else 0)
    for ipix, p in zip(pixels, values, strict=True):
        p_map[ipix] = p
    check_seen(p_map, maps.footprint)
    return p_map


def _column_names(model: Model) -> list[str]:
    return [f"P_{name.upper()}" for name in ("cluster", *model.classes)]


def _job_key(maps: SkyMaps | MapSet, model: Model, margin: int, rotations: int) -> str:
    """What all parts must agree in: version, options, network, and the maps (by some thousand of their pixels)."""
    mixed = [part.mixed_precision for part in model.network.modules() if isinstance(part, UNet)]
    text = repr((__version__, margin, rotations, mixed, model.pixel_arcmin, model.bands, model.normaliser.to_dict()))
    digest = hashlib.sha256(text.encode())
    for tensor in model.network.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    if isinstance(maps, MapSet):
        for group in maps.groups:
            record = {"nside": group.nside} if isinstance(group, SkyMaps) else group.to_dict()
            digest.update(json.dumps(record).encode())
        digest.update(np.packbits(maps.coverage).tobytes())
        return digest.hexdigest()[:32]
    digest.update(np.ascontiguousarray(maps.values[:: max(1, len(maps.values) // 4096)]).tobytes())
    digest.update(np.packbits(maps.footprint).tobytes())
    return digest.hexdigest()[:32]
