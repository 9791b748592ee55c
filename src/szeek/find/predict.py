"""Maps + network -> one p map of the whole sky, without hole, seam or double edge."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from szeek.find.fields import Field, cover_sphere, gather_field, owns_seen_pixels, place_field
from szeek.inputs.healpix_files import describe_healpix
from szeek.learn.model import Model
from szeek.learn.patches import LocalMaps
from szeek.sky.skymaps import SkyMaps
from szeek.threads import core_pool, one_torch_thread

#: Pixels of the largest map of p that is kept in memory: nside 4096, 0.8 GB.
_LARGEST_IN_MEMORY = 12 * 4096**2


def predict(
    maps: SkyMaps,
    model: Model,
    *,
    margin: int = 16,
    rotations: int = 1,
    where: NDArray[np.bool_] | None = None,
    threads: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Probability of a cluster at every pixel of the maps.

    Source: Bonjean (2020), Sect. 3.3. Deviation: overlapping fields as large as memory likes, evaluated by the
    same convolutions, instead of patches of the training's size.

    Parameters
    ----------
    maps : SkyMaps
        Of the bands that the model was trained on; any nside, any footprint. Matched-filter S/N maps are made where
        the model wants them and the maps come without.
    model : Model
    margin : int
        Pixels around each field that are computed and not used, at least 16.
    rotations : {1, 2, 4, 8}
        Orientations (and, for 8, flips) of each field that are averaged.
    where : (n_pix,) bool, optional
        Compute only these pixels, RING; the maps are seen beyond them. Default: the whole footprint.
    threads : int, optional
        Fields computed at once, one core each; the machine's cores by default. The result does not depend on it.
    report : callable, optional
        Called with (fields done, fields in all).

    Returns
    -------
    (n_pix,) float32
        RING; NaN outside the footprint and ``where``; as :func:`empty_map` makes it.

    Raises
    ------
    ValueError
        If the bands differ from the model's, the footprint is empty, or margin or rotations are out of range.
    """
    wanted = maps.footprint if where is None else maps.footprint & where
    fields = plan_fields(maps, model, margin=margin, rotations=rotations)
    fields = [field for field in fields if owns_seen_pixels(field, maps.nside, wanted)]
    p_map = empty_map(len(maps.footprint))
    sky = LocalMaps.prepare(model.prepare(maps, threads), model.normaliser.background_nside)
    work = predict_fields(sky, model, fields, rotations=rotations, threads=threads)
    for done, (field, values) in enumerate(work, start=1):
        place_field(field, values, p_map)
        if report is not None:
            report(done, len(fields))
    check_seen(p_map, wanted)
    if where is not None:
        p_map[~where] = np.nan
    return p_map


def plan_fields(maps: SkyMaps, model: Model, *, margin: int = 16, rotations: int = 1) -> list[Field]:
    """The fields to compute for these maps, from north to south; parameters and errors as of :func:`predict`."""
    model.check_bands(maps)
    if margin < 16:
        raise ValueError(f"margin is {margin} pixels, expected at least 16")
    if rotations not in (1, 2, 4, 8):
        raise ValueError(f"rotations is {rotations}, expected 1, 2, 4 or 8")
    if not maps.footprint.any():
        raise ValueError("the maps' footprint is empty: no pixel is seen in every band")
    fields = cover_sphere(maps.nside, model.pixel_arcmin, margin, model.network.stride)
    return [field for field in fields if owns_seen_pixels(field, maps.nside, maps.footprint)]


def predict_field(sky: LocalMaps, model: Model, field: Field, rotations: int) -> NDArray[np.float32]:
    """Values of the pixels that one field owns, in the order of :func:`~szeek.find.fields.own_runs`."""
    values = sky.sample(field.lon_deg, field.lat_deg, 0.0, field.ny, field.nx, model.pixel_arcmin)
    return gather_field(field, _mean_over_rotations(model, values, rotations), model.pixel_arcmin, sky.maps.footprint)


def predict_fields(
    sky: LocalMaps, model: Model, fields: Sequence[Field], *, rotations: int, threads: int | None
) -> Iterator[tuple[Field, NDArray[np.float32]]]:
    """Each field with its values, as they are done; one core each."""
    model.network.eval()
    # the largest first, so that none is left alone at the end
    fields = sorted(fields, key=lambda field: -field.ny * field.nx)
    with one_torch_thread(), core_pool(threads) as pool:
        try:
            yield from zip(fields, pool.map(lambda f: predict_field(sky, model, f, rotations), fields), strict=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def check_seen(p_map: NDArray[np.float32], footprint: NDArray[np.bool_]) -> None:
    """Refuse a map without a value at a pixel that the maps saw."""
    missed = sum(int(np.isnan(p_map[part][footprint[part]]).sum()) for part in _blocks(len(p_map)))
    if missed:
        raise RuntimeError(f"{missed} seen pixels got no value; the maps hold NaN inside their footprint")


def empty_map(n_pix: int) -> NDArray[np.float32]:
    """A map of NaN; a large one in a temporary file without a name, so that memory does not grow with nside."""
    if n_pix <= _LARGEST_IN_MEMORY:
        return np.full(n_pix, np.nan, np.float32)
    with tempfile.TemporaryFile() as file:
        file.truncate(4 * n_pix)
        p_map = np.memmap(file, np.float32, "r+", shape=(n_pix,))  # keeps the file; it goes when the map does
    p_map[:] = np.nan
    return p_map


def _blocks(n_pix: int, size: int = 1 << 22) -> Iterator[slice]:
    return (slice(first, min(n_pix, first + size)) for first in range(0, n_pix, size))


def _mean_over_rotations(model: Model, values: NDArray[np.float32], rotations: int) -> NDArray[np.float32]:
    total = np.zeros(values.shape[:2], np.float32)
    for k in range(rotations):
        turns = k % 4 if rotations > 2 else 2 * k
        turned = np.rot90(values, turns)
        turned = turned[::-1] if k >= 4 else turned
        p = model.predict(np.ascontiguousarray(turned)[None])[0]
        p = p[::-1] if k >= 4 else p
        total += np.rot90(p, -turns)
    return total / np.float32(rotations)


def write_prediction(p_map: NDArray[np.float32], path: str | os.PathLike[str], **provenance: str) -> Path:
    """Write a p map as HEALPix FITS: NESTED, Galactic, float32, UNSEEN outside the footprint.

    Parameters
    ----------
    p_map : (n_pix,) float32
        RING, NaN outside the footprint, as :func:`predict` returns it.
    path : path
    **provenance : str
        Header cards, e.g. ``MODEL='szeek-1'``.
    """
    target, n_pix = Path(path), len(p_map)
    nside = healpy.npix2nside(n_pix)
    row = math.gcd(n_pix, 1024)
    column = fits.Column("P_CLUSTER", f"{row}E", unit="1", array=np.zeros((1, row), np.float32))
    header = fits.BinTableHDU.from_columns([column]).header
    header["NAXIS2"] = n_pix // row
    header.update({"PIXTYPE": "HEALPIX", "ORDERING": "NESTED", "COORDSYS": "G", "NSIDE": nside, "FIRSTPIX": 0})
    header.update({"LASTPIX": n_pix - 1, "INDXSCHM": "IMPLICIT", "OBJECT": "FULLSKY", "BAD_DATA": healpy.UNSEEN})
    header.update({"CREATOR": "SZeek", **{key.upper()[:8]: value for key, value in provenance.items()}})
    staging = target.with_name(f".{target.name}.tmp.fits")
    try:
        with staging.open("wb") as stream:
            stream.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
            stream.write(header.tostring().encode("ascii"))
            for part in _blocks(n_pix):  # block by block: a second copy of the map may not fit into memory
                values = p_map[healpy.nest2ring(nside, np.arange(part.start, part.stop))]
                values[np.isnan(values)] = healpy.UNSEEN
                stream.write(values.astype(">f4").tobytes())
            stream.write(bytes(-4 * n_pix % 2880))
        staging.replace(target)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    return target


def read_prediction(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read what :func:`write_prediction` wrote, or any HEALPix file of one map.

    Returns
    -------
    (n_pix,) float32
        RING, NaN outside the footprint; as :func:`empty_map` makes it.
    """
    file = describe_healpix(path)
    p_map = empty_map(12 * file.nside**2)
    for first, values in file.read_blocks():
        numbers = np.arange(first, first + len(values))
        ipix = numbers if file.pixels is None else file.pixels[numbers]
        ipix = healpy.nest2ring(file.nside, ipix) if file.ordering == "NESTED" else ipix
        p_map[ipix] = np.where(values < -1e30, np.float32(np.nan), values)
    return p_map
