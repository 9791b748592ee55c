"""Stacks: the mean and median sky at a list of positions, with what is needed for their errors.

A stack keeps, besides its mean, the sums over *groups* of sources: random groups, whose bootstrap is the
bootstrap over sources, and sky blocks, whose bootstrap also knows that neighbouring sources share noise and
dust. So errors, profiles and covariances need no second pass over the maps, and memory does not grow with the
number of sources.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import healpy
import numpy as np
from astropy.table import Table
from numba import njit
from numpy.typing import ArrayLike, NDArray

from szeek.sky.projection import PIXEL_ARCMIN, field_basis, interpolate, sample_field
from szeek.sky.skymaps import Band, SkyMaps

_MEDIAN_BYTES = 256 * 2**20  # of samples held at a time
_MAX_BLOCKS = 200
_AHEAD = 64  # fields sampled at a time


@dataclass(frozen=True)
class Groups:
    """Sums of a stack over groups of sources.

    Parameters
    ----------
    total : (n_group, ny, nx, n_map) float32
        Weighted sum of the sources' fields, background removed.
    weight : (n_group, ny, nx) float32
        Sum of the weights of those that are not masked there.
    """

    total: NDArray[np.float32]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Stack:
    """Mean (and median) field of many sources.

    Parameters
    ----------
    names : tuple of str
        Of the maps.
    mean : (ny, nx, n_map) float32
        Weighted mean, background removed; NaN where every source is masked.
    median : (ny, nx, n_map) float32 or None
        Unweighted median, if it was asked for.
    sources, blocks : Groups
        Random groups of sources, and sources by sky block.
    n_source : int
        Sources that entered: the others have their whole background annulus, or field, masked.
    pixel_arcmin : float
        Pixel size.
    """

    names: tuple[str, ...]
    mean: NDArray[np.float32]
    median: NDArray[np.float32] | None
    sources: Groups
    blocks: Groups
    n_source: int
    pixel_arcmin: float

    @property
    def radius_arcmin(self) -> NDArray[np.float64]:
        """Distance of each pixel from the centre, (ny, nx) float64."""
        return pixel_radius_arcmin(self.mean.shape[0], self.pixel_arcmin)


def stack_at(
    maps: SkyMaps | NDArray[np.float32],
    positions: Table,
    *,
    size: int = 120,
    pixel_arcmin: float = PIXEL_ARCMIN,
    mask: NDArray[np.bool_] | None = None,
    angle_deg: float | ArrayLike | None = None,
    weights: ArrayLike | None = None,
    background_arcmin: tuple[float, float] | None = (60.0, 100.0),
    median: bool = False,
    n_groups: int = 100,
    seed: int = 0,
    n_threads: int | None = None,
) -> Stack:
    """Stack maps at positions: fields of 120 x 120 pixels, 3.4 deg, as in the paper's Figs. 4 and 5.

    Source: Bonjean (2020), Sect. 4. Deviation: each source's field is turned by a random angle, so that
    nothing aligned with Galactic coordinates (dust, scan stripes) adds up; give ``angle_deg=0`` for the
    paper's.

    Parameters
    ----------
    maps : SkyMaps, or (n_pix,) or (n_pix, n_map) float32 array
        RING, Galactic; NaN in a bare array is outside its footprint. All maps of a SkyMaps are sampled in one
        pass.
    positions : Table
        ``lon_deg``, ``lat_deg``.
    size : int
        Pixels on a side.
    pixel_arcmin : float
        Pixel size.
    mask : (n_pix,) bool, optional
        True where pixels count, e.g. outside catalogued point sources (:func:`mask_sources`).
    angle_deg : float or (n,) float, optional
        Orientation of each field, see :mod:`szeek.sky.projection`. Default: random.
    weights : (n,) float, optional
        Weight of each source in the mean. Default: 1.
    background_arcmin : (float, float) or None
        Annulus whose mean is taken off each source's field, or None to keep the background.
    median : bool
        Also the median, in strips of bounded memory; costs about as much as the mean again.
    n_groups : int
        Random groups of sources for the bootstrap.
    seed : int
        Of the angles and the groups.
    n_threads : int, optional
        Threads that sample the maps; the result is the same to the last bit. Default: all cores.

    Returns
    -------
    Stack

    Raises
    ------
    ValueError
        If there are no positions, an array has the wrong shape, or the annulus does not fit into the field.

    Examples
    --------
    >>> flat = np.full(12 * 64**2, 2.0, np.float32)
    >>> stack = stack_at(flat, Table({"lon_deg": [10.0], "lat_deg": [50.0]}), background_arcmin=None)
    >>> stack.mean.shape, round(float(stack.mean.max()), 6)
    ((120, 120, 1), 2.0)
    """
    sky = as_skymaps(maps, mask)
    lon_deg, lat_deg = (np.asarray(positions[name], float) for name in ("lon_deg", "lat_deg"))
    n = lon_deg.size
    if n == 0:
        raise ValueError("there are no positions to stack at")
    angle = random_angles(n, seed) if angle_deg is None else np.broadcast_to(np.asarray(angle_deg, float), n)
    weight = np.ones(n) if weights is None else np.asarray(weights, float)
    if weight.shape != (n,) or not np.all(weight >= 0):
        raise ValueError(f"weights have shape {weight.shape}, expected ({n},), none negative")
    annulus = _annulus(size, pixel_arcmin, background_arcmin)

    group = random_groups(n, n_groups, seed)
    block = sky_blocks(lon_deg, lat_deg)
    shape = (size, size, sky.n_band)
    total = [np.zeros((int(g.max()) + 1, *shape)) for g in (group, block)]
    count = [np.zeros((int(g.max()) + 1, size, size)) for g in (group, block)]
    background = np.full((n, sky.n_band), np.nan)
    order = np.argsort(healpy.ang2pix(32, lon_deg, lat_deg, lonlat=True), kind="stable")  # near in memory
    n_source = 0
    fields = sample_fields(sky, lon_deg[order], lat_deg[order], angle[order], size, pixel_arcmin, n_threads)
    for k, field in zip(order.tolist(), fields, strict=True):
        if _take_background(field, annulus, background[k]):
            n_source += 1
            g, b = group[k], block[k]
            _add(field, background[k], weight[k], total[0][g], count[0][g], total[1][b], count[1][b])
    groups = [Groups(t.astype(np.float32), c.astype(np.float32)) for t, c in zip(total, count, strict=True)]
    mean = _divide(total[0].sum(axis=0), count[0].sum(axis=0))
    middle = None
    if median:
        used = np.flatnonzero(~np.isnan(background[:, 0]))
        middle = _median(sky, lon_deg[used], lat_deg[used], angle[used], background[used], size, pixel_arcmin)
    return Stack(tuple(band.name for band in sky.bands), mean, middle, groups[0], groups[1], n_source, pixel_arcmin)


def sample_fields(
    sky: SkyMaps,
    lon_deg: NDArray[np.float64],
    lat_deg: NDArray[np.float64],
    angle_deg: NDArray[np.float64],
    size: int,
    pixel_arcmin: float,
    n_threads: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """The sources' fields one after the other, (size, size, n_map) float32 each, a few of them sampled
    ahead."""
    maps = sky.values if sky.footprint.all() else sky

    def sample(k: int) -> NDArray[np.float32]:
        return sample_field(maps, lon_deg[k], lat_deg[k], angle_deg[k], size, size, pixel_arcmin)

    with ThreadPoolExecutor(n_threads or os.cpu_count()) as pool:
        for start in range(0, lon_deg.size, _AHEAD):
            yield from pool.map(sample, range(start, min(start + _AHEAD, lon_deg.size)))


def bootstrap_weights(n_group: int, n_bootstrap: int, seed: int) -> NDArray[np.float64]:
    """How often each group is drawn, (n_bootstrap, n_group): rows sum to ``n_group``."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"bootstrap")]))
    return rng.multinomial(n_group, np.full(n_group, 1 / n_group), n_bootstrap).astype(float)


def measure_error(
    stack: Stack, *, blocks: bool = False, n_bootstrap: int = 200, seed: int = 0
) -> NDArray[np.float32]:
    """Standard error of the stack's mean, (ny, nx, n_map) float32, by bootstrap.

    Parameters
    ----------
    stack : Stack
    blocks : bool
        Draw sky blocks instead of sources: larger where neighbouring sources share noise.
    n_bootstrap, seed : int
        Draws.

    Returns
    -------
    (ny, nx, n_map) float32
        NaN for fewer than two groups.
    """
    groups = stack.blocks if blocks else stack.sources
    n_group = len(groups.total)
    if n_group < 2:
        return np.full(stack.mean.shape, np.nan, np.float32)
    drawn = bootstrap_weights(n_group, n_bootstrap, seed).astype(np.float32)
    weight = np.tensordot(drawn, groups.weight, 1)
    out = np.empty(stack.mean.shape, np.float32)
    for m in range(stack.mean.shape[2]):
        means = _divide(np.tensordot(drawn, groups.total[..., m], 1)[..., None], weight)[..., 0]
        out[..., m] = means.std(axis=0, ddof=1)
    # a bootstrap over n_group items is narrower than the truth by (n_group - 1) / n_group in variance
    return out * np.float32(math.sqrt(n_group / (n_group - 1)))


def equal_count_bins(p: ArrayLike, n_bins: int) -> list[NDArray[np.int64]]:
    """Row numbers of sources in bins of p of equal counts (to one), lowest p first.

    Examples
    --------
    >>> [rows.tolist() for rows in equal_count_bins([0.9, 0.1, 0.5, 0.7], 2)]
    [[1, 2], [3, 0]]
    """
    if not 1 <= n_bins <= np.size(p):
        raise ValueError(f"{n_bins} bins of {np.size(p)} sources, expected at least one source in each")
    return list(np.array_split(np.argsort(np.asarray(p, float), kind="stable"), n_bins))


def mask_sources(nside: int, catalogue: Table, radius_arcmin: float) -> NDArray[np.bool_]:
    """RING map, (12 nside^2,) bool: False within ``radius_arcmin`` of the catalogue's positions.

    For stacks: PCCS sources cut out of the Planck maps, 2RXS, Chandra and 3XMM sources out of ROSAT.
    """
    keep = np.ones(12 * nside**2, bool)
    vectors = healpy.ang2vec(np.asarray(catalogue["lon_deg"]), np.asarray(catalogue["lat_deg"]), lonlat=True)
    for vector in np.atleast_2d(vectors) if len(catalogue) else ():
        keep[healpy.query_disc(nside, vector, math.radians(radius_arcmin / 60))] = False
    return keep


def as_skymaps(maps: SkyMaps | NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> SkyMaps:
    """Maps with a mask put on: a SkyMaps as it is, a bare array with its NaN as footprint."""
    if isinstance(maps, SkyMaps):
        if mask is None:
            return maps
        return SkyMaps(maps.values, maps.footprint & _checked(mask, maps.values.shape[0]), maps.bands)
    values = np.asarray(maps, np.float32)
    values = values[:, None] if values.ndim == 1 else values
    footprint: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
    if not footprint.all():
        values = np.where(footprint[:, None], values, np.float32(0))
    if mask is not None:
        footprint &= _checked(mask, values.shape[0])
    bands = tuple(Band(f"map{k}", math.nan, math.nan, "") for k in range(values.shape[1]))
    return SkyMaps(values, footprint, bands)


def random_angles(n: int, seed: int) -> NDArray[np.float64]:
    """Orientations in degrees, (n,), uniform."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"angles")])).uniform(0, 360, n)


def random_groups(n: int, n_groups: int, seed: int) -> NDArray[np.int64]:
    """Group number of each of n sources, (n,): ``n_groups`` random groups of equal size to one (or n
    groups)."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"groups")]))
    return rng.permutation(n) % min(n_groups, n)


def sky_blocks(lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64]) -> NDArray[np.int64]:
    """Block number of each source, (n,): the smallest HEALPix cells of which at most 200 are occupied."""
    block = np.zeros(lon_deg.size, np.int64)
    for nside in (1, 2, 4, 8, 16, 32):
        finer = np.unique(healpy.ang2pix(nside, lon_deg, lat_deg, lonlat=True), return_inverse=True)[1]
        if finer.max() + 1 > _MAX_BLOCKS:
            break
        block = finer
    return block


def pixel_radius_arcmin(size: int, pixel_arcmin: float) -> NDArray[np.float64]:
    """Angular distance of each pixel of a square field from its centre, (size, size) float64."""
    offset = math.radians(pixel_arcmin / 60) * (np.arange(size) - 0.5 * (size - 1))
    return np.asarray(np.degrees(np.arctan(np.hypot(offset[:, None], offset))) * 60)


def _annulus(size: int, pixel_arcmin: float, background_arcmin: tuple[float, float] | None) -> NDArray[np.bool_]:
    """Pixels of the background annulus, (size, size) bool; none of them without one."""
    if background_arcmin is None:
        return np.zeros((size, size), bool)
    inner, outer = background_arcmin
    radius = pixel_radius_arcmin(size, pixel_arcmin)
    annulus = (radius >= inner) & (radius < outer)
    half_width = radius[size // 2, 0]
    if not 0 <= inner < outer or not annulus.any() or outer > half_width * 1.01:
        raise ValueError(
            f"the background annulus is {background_arcmin} arcmin, expected to lie within the field of "
            f"{half_width:.1f} arcmin from centre to side"
        )
    return annulus


def _checked(mask: NDArray[np.bool_], n_pix: int) -> NDArray[np.bool_]:
    if mask.shape != (n_pix,) or mask.dtype != np.bool_:
        raise ValueError(f"the mask is {mask.dtype} {mask.shape}, expected bool ({n_pix},)")
    return mask


def _divide(total: NDArray[np.floating], weight: NDArray[np.floating]) -> NDArray[np.float32]:
    out = np.full(total.shape, np.nan, np.float32)
    np.divide(total, weight[..., None], out=out, where=weight[..., None] > 0, casting="same_kind")
    return out


def _median(
    sky: SkyMaps,
    lon_deg: NDArray[np.float64],
    lat_deg: NDArray[np.float64],
    angle_deg: NDArray[np.float64],
    background: NDArray[np.float64],
    size: int,
    pixel_arcmin: float,
) -> NDArray[np.float32]:
    """Exact median of every pixel: strips of pixels small enough that all sources' samples fit."""
    scale = math.radians(pixel_arcmin / 60)
    offset = scale * (np.arange(size) - 0.5 * (size - 1))
    plane = np.stack([np.ones(size * size), np.tile(offset, size), np.repeat(offset, size)], axis=1)
    bases = [field_basis(*place) for place in zip(lon_deg, lat_deg, angle_deg, strict=True)]
    n_strip = max(1, math.ceil(size * size * len(bases) * sky.n_band * 4 / _MEDIAN_BYTES))
    footprint = None if sky.footprint.all() else sky.footprint
    out = []
    for strip in np.array_split(plane, min(n_strip, size * size)):
        samples = np.empty((len(bases), len(strip), sky.n_band), np.float32)
        for k, basis in enumerate(bases):
            samples[k] = interpolate(sky.values, strip @ basis, footprint) - background[k].astype(np.float32)
        ordered = np.sort(np.moveaxis(samples, 0, -1), axis=-1)  # NaN last
        n_seen = np.count_nonzero(~np.isnan(ordered), axis=-1, keepdims=True)
        low, high = (
            np.take_along_axis(ordered, np.clip(middle, 0, len(bases) - 1), -1)[..., 0]
            for middle in ((n_seen - 1) // 2, n_seen // 2)
        )
        out.append(np.where(n_seen[..., 0] > 0, 0.5 * (low + high), np.nan))
    return np.concatenate(out).reshape(size, size, sky.n_band).astype(np.float32)


@njit(cache=True)
def _take_background(field, annulus, background):  # type: ignore[no-untyped-def]
    """Mean of the annulus in each map into ``background``; 0 where there is no annulus. False: nothing to
    see."""
    n = seen = in_annulus = 0
    background[:] = 0.0
    for i in range(field.shape[0]):
        for j in range(field.shape[1]):
            in_annulus += annulus[i, j]
            if np.isnan(field[i, j, 0]):
                continue
            seen += 1
            if annulus[i, j]:
                n += 1
                for m in range(field.shape[2]):
                    background[m] += field[i, j, m]
    if seen == 0 or (in_annulus > 0 and n == 0):
        background[:] = np.nan
        return False
    if n > 0:
        background /= n
    return True


@njit(cache=True)
def _add(field, background, weight, total, count, block_total, block_count):  # type: ignore[no-untyped-def]
    for i in range(field.shape[0]):
        for j in range(field.shape[1]):
            if np.isnan(field[i, j, 0]):
                continue
            count[i, j] += weight
            block_count[i, j] += weight
            for m in range(field.shape[2]):
                value = weight * (field[i, j, m] - background[m])
                total[i, j, m] += value
                block_total[i, j, m] += value
