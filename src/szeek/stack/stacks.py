"""Stacks: the mean and median sky at a list of positions, with what is needed for their errors.

A stack keeps, besides its mean, the sums over *groups* of sources: random groups, whose bootstrap is the
bootstrap over sources, and sky blocks, whose bootstrap also knows that neighbouring sources share noise and
dust. So errors, profiles and covariances need no second pass over the maps, and memory does not grow with the
number of sources but for what is kept of each: its background and, if asked for, its rings.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
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
_N_GROUPS = 100  # random groups of sources for the bootstrap
_AHEAD = 64  # fields sampled at a time


@dataclass(frozen=True)
class Field:
    """The square field about each position: 120 x 120 pixels, 3.4 deg, as in Bonjean (2020), Figs. 4 and 5.

    Parameters
    ----------
    size : int
        Pixels on a side.
    pixel_arcmin : float
        Pixel size.
    background_arcmin : (float, float) or None
        Annulus whose mean is taken off each source's field, or None to keep the background.
    edges_arcmin : (n_ring + 1,) float, optional
        Keep each source's sums over these rings (:class:`Rings`), so that parts of the sample need no stack of
        their own.

    Examples
    --------
    >>> Field(size=60, pixel_arcmin=2.0).background_arcmin
    (60.0, 100.0)
    """

    size: int = 120
    pixel_arcmin: float = PIXEL_ARCMIN
    background_arcmin: tuple[float, float] | None = (60.0, 100.0)
    edges_arcmin: Sequence[float] | None = None


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
class Rings:
    """Sums of each source's own field over rings about its centre: any part of a sample has its profile in them.

    Parameters
    ----------
    edges_arcmin : (n_ring + 1,) float64
        Borders of the rings.
    total : (n, n_ring, n_map) float32
        Weighted sum of the pixels that are not masked, background removed; 0 for a source that did not enter.
    weight : (n, n_ring) float32
        Sum of their weights.
    block : (n,) int64
        Sky block of each source.
    """

    edges_arcmin: NDArray[np.float64]
    total: NDArray[np.float32]
    weight: NDArray[np.float32]
    block: NDArray[np.int64]


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
    rings : Rings or None
        Of each source, in the order of the positions, if they were asked for.

    Examples
    --------
    >>> where = Table({"lon_deg": [10.0, 100.0], "lat_deg": [50.0, 50.0]})
    >>> sky = np.full(12 * 64**2, 3.0, np.float32)
    >>> stack = stack_at(sky, where, Field(size=20, background_arcmin=None), n_threads=1)
    >>> stack.n_source, stack.mean.shape
    (2, (20, 20, 1))
    """

    names: tuple[str, ...]
    mean: NDArray[np.float32]
    median: NDArray[np.float32] | None
    sources: Groups
    blocks: Groups
    n_source: int
    pixel_arcmin: float
    rings: Rings | None = None

    @property
    def radius_arcmin(self) -> NDArray[np.float64]:
        """Distance of each pixel from the centre, (ny, nx) float64."""
        return pixel_radius_arcmin(self.mean.shape[0], self.pixel_arcmin)


def stack_at(
    maps: SkyMaps | NDArray[np.float32],
    positions: Table,
    field: Field = Field(),
    *,
    mask: NDArray[np.bool_] | None = None,
    angle_deg: float | ArrayLike | None = None,
    weights: ArrayLike | None = None,
    median: bool = False,
    n_groups: int = _N_GROUPS,
    seed: int = 0,
    n_threads: int | None = None,
) -> Stack:
    """Stack maps at positions.

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
    field : Field
        Pixels, background and rings.
    mask : (n_pix,) bool, optional
        True where pixels count, e.g. outside catalogued point sources (:func:`szeek.inputs.masks.mask_sources`).
    angle_deg : float or (n,) float, optional
        Orientation of each field, see :mod:`szeek.sky.projection`. Default: random.
    weights : (n,) float, optional
        Weight of each source in the mean. Default: 1.
    median : bool
        Also the median, in strips of bounded memory; a second pass that costs about as much as the mean again.
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
        If there are no positions, an array has the wrong shape, the rings do not rise or hold no pixel, or the
        annulus does not fit into the field.

    Examples
    --------
    >>> flat = np.full(12 * 64**2, 2.0, np.float32)
    >>> stack = stack_at(flat, Table({"lon_deg": [10.0], "lat_deg": [50.0]}), Field(background_arcmin=None))
    >>> stack.mean.shape, round(float(stack.mean.max()), 6)
    ((120, 120, 1), 2.0)
    """
    sky = as_skymaps(maps, mask)
    n = len(positions)
    if n == 0:
        raise ValueError("there are no positions to stack at")
    angle, weight = _of_each(n, angle_deg, weights, seed)
    frame = _Frame(sky, field)
    sums = _Sums(frame, positions, angle, weight, n_groups, seed)
    _add_up(frame, [sums], n_threads)
    return sums.stack(median)


def stack_samples(
    maps: SkyMaps | NDArray[np.float32],
    samples: Mapping[str, Table],
    field: Field = Field(),
    *,
    mask: NDArray[np.bool_] | None = None,
    angle_deg: float | None = None,
    weights: Mapping[str, ArrayLike] | None = None,
    medians: Sequence[str] = (),
    means: Sequence[str] = (),
    seed: int = 0,
    n_threads: int | None = None,
) -> dict[str, Stack]:
    """Stack several samples in one pass over the maps: sources and the null positions beside them.

    Fields are sampled in the order in which they lie on the sky, whichever sample they belong to, so that no part of
    the maps is gone back to. Each stack is the one that :func:`stack_at` gives, to the last bit.

    Parameters
    ----------
    maps, field, mask, angle_deg, seed, n_threads
        As for :func:`stack_at`.
    samples : mapping of name to Table
        ``lon_deg``, ``lat_deg`` of each.
    weights : mapping of name to (n,) float, optional
        Of the sources of a sample. Default: 1.
    medians : sequence of str
        Names of the samples whose median is wanted too.
    means : sequence of str
        Names of the samples of which the mean image is enough: no groups of them are kept, which take most of the
        memory, and profiles have their errors from the rings.

    Returns
    -------
    dict of str to Stack

    Raises
    ------
    ValueError
        As for :func:`stack_at`.

    Examples
    --------
    >>> sky = np.ones(12 * 64**2, np.float32)
    >>> here, there = Table({"lon_deg": [10.0], "lat_deg": [50.0]}), Table({"lon_deg": [80.0], "lat_deg": [50.0]})
    >>> list(stack_samples(sky, {"sources": here, "null": there}, Field(background_arcmin=None)))
    ['sources', 'null']
    """
    if not samples or not all(len(positions) for positions in samples.values()):
        raise ValueError("there are no positions to stack at")
    frame = _Frame(as_skymaps(maps, mask), field)
    sums = []
    for name, positions in samples.items():
        angle, weight = _of_each(len(positions), angle_deg, (weights or {}).get(name), seed)
        sums.append(_Sums(frame, positions, angle, weight, _N_GROUPS, seed, grouped=name not in means))
    _add_up(frame, sums, n_threads)
    return {name: part.stack(name in medians) for name, part in zip(samples, sums, strict=True)}


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


def effective_groups(weight: ArrayLike) -> float:
    """How many groups of equal weight are worth as much as these: (sum of weights)^2 over the sum of squares.

    The variance that a bootstrap over groups finds is too small by 1 - 1 / n, as the mean that it takes the scatter
    about is their own. For independent sources this holds exactly with n the effective number.

    Examples
    --------
    >>> effective_groups([1.0, 1.0, 1.0, 1.0]), effective_groups([3.0, 1.0])
    (4.0, 1.6)
    """
    values = np.asarray(weight, float)
    return float(values.sum() ** 2 / (values**2).sum())


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
    # no matrix product of BLAS: its last bits depend on the number of its threads, which differ between machines
    weight = np.einsum("dg,gyx->dyx", drawn, groups.weight)
    out = np.empty(stack.mean.shape, np.float32)
    for m in range(stack.mean.shape[2]):
        total = np.ascontiguousarray(groups.total[..., m])
        means = _divide(np.einsum("dg,gyx->dyx", drawn, total)[..., None], weight)[..., 0]
        out[..., m] = means.std(axis=0, ddof=1)
    return out / np.float32(math.sqrt(1 - 1 / effective_groups(groups.weight.sum(axis=(1, 2)))))


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


def join_maps(maps: Mapping[str, SkyMaps], apart: set[str]) -> dict[str, SkyMaps]:
    """Maps of equal nside and footprint interleaved, so that a stack samples all of them in one pass.

    Examples
    --------
    >>> flat = SkyMaps(np.ones((48, 1), np.float32), np.ones(48, bool), (Band("a", 0.0, 0.0, ""),))
    >>> list(join_maps({"y": flat, "kappa": flat, "xray": flat}, apart={"y"}))
    ['y', 'companions 1']
    """
    joined: list[list[str]] = []
    for name, sky in maps.items():
        like = [
            names
            for names in joined
            if name not in apart and names[0] not in apart and maps[names[0]].nside == sky.nside
            and np.array_equal(maps[names[0]].footprint, sky.footprint)
        ]  # fmt: skip
        if like:
            like[0].append(name)
        else:
            joined.append([name])
    out, n_joined = {}, 0
    for names in joined:
        n_joined += len(names) > 1
        first, parts = maps[names[0]], [maps[name] for name in names]
        bands = tuple(band for sky in parts for band in sky.bands)
        values = first.values if len(parts) == 1 else np.concatenate([sky.values for sky in parts], axis=1)
        out[names[0] if len(names) == 1 else f"companions {n_joined}"] = SkyMaps(values, first.footprint, bands)
    return out


def random_angles(n: int, seed: int) -> NDArray[np.float64]:
    """Orientations in degrees, (n,), uniform."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"angles")])).uniform(0, 360, n)


def random_groups(n: int, n_groups: int, seed: int) -> NDArray[np.int64]:
    """Group number of each of n sources, (n,): ``n_groups`` random groups of equal size to one (or n
    groups)."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"groups")]))
    return rng.permutation(n) % min(n_groups, n)


def sky_blocks(
    lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64], width_arcmin: float = 0.0
) -> NDArray[np.int64]:
    """Block number of each source, (n,): the smallest HEALPix cells, none narrower than a field, of which at most 200
    are occupied.

    A bootstrap over blocks knows what sources of one block share, not what those of two do. On toy skies with blocks
    of 14.7 deg its 68 % intervals hold the truth 67 % of the time where noise is correlated over 2 deg, 62 % over
    5 deg, 55 % over 10 deg. A source's own background, taken off it, removes what is correlated over more than the
    field, so that those of 10 deg too cover as they should; what a field or less spans is left, and smaller blocks
    would not do.

    Parameters
    ----------
    lon_deg, lat_deg : (n,) float64
    width_arcmin : float
        Of a field: fields in two blocks may touch, but do not lie on one another.
    """
    block = np.zeros(lon_deg.size, np.int64)
    for nside in (1, 2, 4, 8, 16, 32):
        finer = np.unique(healpy.ang2pix(nside, lon_deg, lat_deg, lonlat=True), return_inverse=True)[1]
        if finer.max() + 1 > _MAX_BLOCKS or healpy.nside2resol(nside, arcmin=True) < width_arcmin:
            break
        block = finer
    return block


def rings_of_pixels(size: int, pixel_arcmin: float, edges_arcmin: ArrayLike) -> NDArray[np.int64]:
    """Number of the ring about the centre that each pixel of a square field lies in, (size, size); -1 in none.

    Raises
    ------
    ValueError
        If the borders do not rise or a ring holds no pixel.
    """
    edges = np.asarray(edges_arcmin, float)
    if edges.ndim != 1 or edges.size < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"edges_arcmin is {edges.tolist()}, expected at least two rising numbers")
    ring = np.searchsorted(edges, pixel_radius_arcmin(size, pixel_arcmin), side="right") - 1
    ring[ring == edges.size - 1] = -1
    empty = np.flatnonzero(~np.isin(np.arange(edges.size - 1), ring))
    if empty.size:
        raise ValueError(
            f"no pixel of {pixel_arcmin:g} arcmin lies in the ring from {edges[empty[0]]:g} to "
            f"{edges[empty[0] + 1]:g} arcmin: widen it"
        )
    return ring


def pixel_radius_arcmin(size: int, pixel_arcmin: float) -> NDArray[np.float64]:
    """Angular distance of each pixel of a square field from its centre, (size, size) float64."""
    offset = math.radians(pixel_arcmin / 60) * (np.arange(size) - 0.5 * (size - 1))
    return np.asarray(np.degrees(np.arctan(np.hypot(offset[:, None], offset))) * 60)


def _of_each(
    n: int, angle_deg: float | ArrayLike | None, weights: ArrayLike | None, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orientation and weight of each of n sources."""
    angle = random_angles(n, seed) if angle_deg is None else np.broadcast_to(np.asarray(angle_deg, float), n)
    weight = np.ones(n) if weights is None else np.asarray(weights, float)
    if weight.shape != (n,) or not np.all(weight >= 0):
        raise ValueError(f"weights have shape {weight.shape}, expected ({n},), none negative")
    return angle, weight


class _Frame:
    """The maps and the field that all samples of a pass share."""

    def __init__(self, sky: SkyMaps, field: Field) -> None:
        self.sky, self.size, self.pixel_arcmin = sky, field.size, field.pixel_arcmin
        self.annulus = _annulus(field)
        self.edges_arcmin = None if field.edges_arcmin is None else np.asarray(field.edges_arcmin, float)
        self.ring = np.zeros((0, 0), np.int64)  # none are kept
        if self.edges_arcmin is not None:
            self.ring = rings_of_pixels(field.size, field.pixel_arcmin, self.edges_arcmin)


class _Sums:
    """What the fields of one sample add up to."""

    def __init__(
        self,
        frame: _Frame,
        positions: Table,
        angle_deg: NDArray[np.float64],
        weight: NDArray[np.float64],
        n_groups: int,
        seed: int,
        *,
        grouped: bool = True,
    ) -> None:
        self.frame, self.weight, self.n_source = frame, weight, 0
        self.lon_deg, self.lat_deg = (np.asarray(positions[name], float) for name in ("lon_deg", "lat_deg"))
        self.angle_deg = angle_deg
        self.n, self.n_map = self.lon_deg.size, frame.sky.n_band
        self.group = random_groups(self.n, n_groups if grouped else 1, seed)
        self.block = sky_blocks(self.lon_deg, self.lat_deg, frame.size * frame.pixel_arcmin)
        self.groups = self._room(self.group)
        self.blocks = self._room(self.block) if grouped else self.groups
        self.background = np.full((self.n, self.n_map), np.nan)
        n_kept, n_ring = (0, 0) if frame.edges_arcmin is None else (self.n, frame.edges_arcmin.size - 1)
        self.ring_total = np.zeros((n_kept, n_ring, self.n_map), np.float32)
        self.ring_weight = np.zeros((n_kept, n_ring), np.float32)

    def _room(self, group: NDArray[np.int64]) -> Groups:
        # float32: a group holds so few sources that nothing is lost, and images of 300 groups take much memory
        shape = (int(group.max()) + 1, self.frame.size, self.frame.size)
        return Groups(np.zeros((*shape, self.n_map), np.float32), np.zeros(shape, np.float32))

    def add(self, k: int, field: NDArray[np.float32]) -> None:
        """Add the field of the sample's k-th source."""
        background = self.background[k]
        if not _take_background(field, self.frame.annulus, background):
            return
        self.n_source += 1
        weight, g, b = self.weight[k], self.group[k], self.block[k]
        _add(field, background, weight, self.groups.total[g], self.groups.weight[g])
        if self.blocks is not self.groups:
            _add(field, background, weight, self.blocks.total[b], self.blocks.weight[b])
        if len(self.ring_total):
            _add_rings(field, background, weight, self.frame.ring, self.ring_total[k], self.ring_weight[k])

    def stack(self, median: bool = False) -> Stack:
        """The finished stack."""
        frame = self.frame
        total, weight = (v.sum(axis=0, dtype=float) for v in (self.groups.total, self.groups.weight))
        middle, rings = None, None
        if median:
            used = np.flatnonzero(~np.isnan(self.background[:, 0]))
            where = (self.lon_deg[used], self.lat_deg[used], self.angle_deg[used], self.background[used])
            middle = _median(frame.sky, *where, frame.size, frame.pixel_arcmin)
        if frame.edges_arcmin is not None:
            rings = Rings(frame.edges_arcmin, self.ring_total, self.ring_weight, self.block)
        names = tuple(band.name for band in frame.sky.bands)
        mean = _divide(total, weight)
        return Stack(names, mean, middle, self.groups, self.blocks, self.n_source, frame.pixel_arcmin, rings)


def _add_up(frame: _Frame, samples: Sequence[_Sums], n_threads: int | None) -> None:
    """The one pass over the maps."""
    lon_deg, lat_deg, angle_deg = (
        np.concatenate([getattr(sample, name) for sample in samples]) for name in ("lon_deg", "lat_deg", "angle_deg")
    )
    owner = np.repeat(np.arange(len(samples)), [sample.n for sample in samples])
    row = np.concatenate([np.arange(sample.n) for sample in samples])
    order = np.argsort(healpy.ang2pix(32, lon_deg, lat_deg, lonlat=True), kind="stable")  # near in memory
    fields = sample_fields(
        frame.sky, lon_deg[order], lat_deg[order], angle_deg[order], frame.size, frame.pixel_arcmin, n_threads
    )
    for k, field in zip(order.tolist(), fields, strict=True):
        samples[owner[k]].add(int(row[k]), field)


def _annulus(field: Field) -> NDArray[np.bool_]:
    """Pixels of the background annulus, (size, size) bool; none of them without one."""
    if field.background_arcmin is None:
        return np.zeros((field.size, field.size), bool)
    inner, outer = field.background_arcmin
    radius = pixel_radius_arcmin(field.size, field.pixel_arcmin)
    annulus = (radius >= inner) & (radius < outer)
    half_width = radius[field.size // 2, 0]
    if not 0 <= inner < outer or not annulus.any() or outer > half_width * 1.01:
        raise ValueError(
            f"the background annulus is {field.background_arcmin} arcmin, expected to lie within the field of "
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
def _add(field, background, weight, total, count):  # type: ignore[no-untyped-def]
    for i in range(field.shape[0]):
        for j in range(field.shape[1]):
            if np.isnan(field[i, j, 0]):
                continue
            count[i, j] += weight
            for m in range(field.shape[2]):
                total[i, j, m] += weight * (field[i, j, m] - background[m])


@njit(cache=True)
def _add_rings(field, background, weight, ring, total, count):  # type: ignore[no-untyped-def]
    for i in range(field.shape[0]):
        for j in range(field.shape[1]):
            r = ring[i, j]
            if r < 0 or np.isnan(field[i, j, 0]):
                continue
            count[r] += weight
            for m in range(field.shape[2]):
                total[r, m] += weight * (field[i, j, m] - background[m])
