"""Sources in a p map: connected areas above a threshold, on the sphere itself.

Two pixels are connected if they share a side or a corner (:mod:`szeek.sky.healpix`).
So no tile, cut-out or projection can split an area.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.arguments import plain_array
from szeek.sky.healpix import lonlat_deg, pixel_direction, pixel_directions, write_neighbours
from szeek.sky.partial import PartialMap, find_in_runs, run_offsets

_ODDS_END = 1.02  # just above 1, so that no pixel weighs infinitely
_WING = 0.25  # share of the highest pixel's weight below which others do not count
_ALMOST_ONE = 1e-6  # what p is kept away from 1 where odds are taken
_UNSEEN_BELOW = -1.0e30  # HEALPix UNSEEN is -1.6375e30; no p, y or S/N map comes near


def detect_sources(
    p_map: NDArray[np.float32] | PartialMap,
    p_max: float = 0.1,
    *,
    weighted: bool = False,
    deblend: bool = False,
    min_prominence: float = 0.1,
) -> Table:
    """Connected areas of a map above a threshold.

    Source: Bonjean (2020), detection of sources: areas above ``p_max``, position the barycentre of their
    pixels.

    Deviation: areas are connected on the sphere, not in projected patches, so that none is cut or counted
    twice.

    Parameters
    ----------
    p_map : (12 nside^2,) float32, or PartialMap
        The map, HEALPix RING, Galactic; NaN, or masked, outside the footprint. Any other map with a threshold will do
        as well, for example a signal-to-noise map. May be memory-mapped.
    p_max : float
        Threshold: pixels with p > ``p_max`` count.
    weighted : bool
        Weight the barycentre by the odds p / (1.02 - p) above a quarter of the highest pixel's: odds still tell the
        middle of an extended cluster from its sides where p saturates, and faint wings, to one side as they may
        be, do not count. Values far below 1 (a y map) or above it (S/N) weigh as they are above that quarter. The
        paper does not weight.
    deblend : bool
        Cut an area at the valleys between its maxima (watershed), where the lower of two maxima stands at
        least ``min_prominence`` above the saddle. Off in the paper, whose method merges neighbours.
    min_prominence : float
        Height over the saddle that makes a maximum a source of its own; read with ``deblend``. In the map's unit;
        of a map of probabilities, none above 1, heights above one half are 1/2 + ln(p / (1 - p)) / 4, which goes
        on where p saturates: between two bright neighbours p may not fall below 0.95.

    Returns
    -------
    Table
        One row per source, highest p first (ties: larger area, then smaller pixel number): ``lon_deg``,
        ``lat_deg`` (barycentre, Galactic), ``p``, ``area_arcmin2``, ``n_pix``, ``peak_lon_deg``,
        ``peak_lat_deg`` (highest pixel), ``edge`` (True where the area touches the border of the footprint); with
        ``deblend`` also ``blend`` (True where another source was cut from the same area).
        No rows where nothing is above the threshold. An area whose barycentre is no direction (the whole
        sphere) is put at its peak.

    Raises
    ------
    ValueError
        If the map is no full-sky HEALPix map of nside >= 2, holds UNSEEN instead of NaN, or
        ``min_prominence`` is not positive.

    Examples
    --------
    >>> p_map = np.zeros(12 * 64**2, np.float32)
    >>> p_map[[1000, 1001, 30000]] = 0.6, 0.8, 0.3
    >>> sources = detect_sources(p_map)
    >>> [round(float(p), 2) for p in sources["p"]], sources["n_pix"].tolist()
    ([0.8, 0.3], [2, 1])
    """
    if isinstance(p_map, PartialMap):
        nside, values = p_map.nside, p_map.values
    else:
        p_map = values = plain_array(p_map, "p_map")
        nside = _check(p_map)
    if deblend and not min_prominence > 0:
        raise ValueError(f"min_prominence is {min_prominence}, expected a positive height over the saddle")
    n_pix = 12 * nside**2
    index_type = np.int32 if n_pix < 2**31 else np.int64
    n_above, n_unseen = _count(values, p_max)
    if n_unseen:
        raise ValueError(
            f"p_map holds {n_unseen} UNSEEN values (below {_UNSEEN_BELOW:g}); "
            "mark pixels outside the footprint with NaN: p_map[p_map < -1e30] = np.nan"
        )
    at = np.empty(n_above, index_type)
    _list_above(values, p_max, at)
    above = values[at]
    if isinstance(p_map, PartialMap):
        ipix = p_map.pixels_of(at).astype(index_type)
        beside_unseen = _touch_unknown(nside, ipix, p_map.runs, run_offsets(p_map.runs), values)
    else:
        ipix = at
        beside_unseen = _touch_unseen(nside, ipix, values)
    label = area = _label_areas(nside, ipix)
    if deblend:  # area by area, so that what is looked up lies near in memory; in each from the highest pixel down
        height = _heights(above)
        label = _label_peaks(height, nside, ipix, np.lexsort((-height, label)), min_prominence)
    n_source = _renumber(label)
    vector, n_own, highest, edge = _measure(above, nside, ipix, beside_unseen, label, n_source, weighted)
    p, peak = above[highest].astype(np.float32), ipix[highest].astype(np.int64)
    order = np.lexsort((peak, -n_own, -p))
    vector, n_own, peak, edge, p = vector[order], n_own[order], peak[order], edge[order], p[order]
    peak_vector = pixel_directions(nside, peak)
    nowhere = np.linalg.norm(vector, axis=1) < 1e-9  # vector is the mean over pixels: 1 for a point, 0 for the sphere
    vector[nowhere] = peak_vector[nowhere]
    lon_deg, lat_deg = lonlat_deg(vector)
    peak_lon_deg, peak_lat_deg = lonlat_deg(peak_vector)
    pixel_arcmin2 = 4 * math.pi * (180 * 60 / math.pi) ** 2 / n_pix
    sources = Table(
        {
            "lon_deg": lon_deg,
            "lat_deg": lat_deg,
            "p": p,
            "area_arcmin2": n_own * pixel_arcmin2,
            "n_pix": n_own,
            "peak_lon_deg": peak_lon_deg,
            "peak_lat_deg": peak_lat_deg,
            "edge": edge,
        },
        meta={"p_max": float(p_max), "nside": nside, "deblend": deblend},
    )
    if deblend:
        area_of = np.empty(n_source, area.dtype)
        area_of[label] = area
        sources["blend"] = (np.bincount(area_of, minlength=1)[area_of] > 1)[order]
    return sources


def _check(p_map: NDArray[Any]) -> int:
    if not isinstance(p_map, np.ndarray) or p_map.ndim != 1 or p_map.dtype.kind != "f":
        found = f"{p_map.dtype} {p_map.shape}" if isinstance(p_map, np.ndarray) else type(p_map).__name__
        raise ValueError(f"p_map is {found}, expected a float32 array of shape (12 nside^2,)")
    nside = math.isqrt(p_map.size // 12)
    if nside < 2 or 12 * nside * nside != p_map.size:
        raise ValueError(
            f"p_map has {p_map.size} pixels, expected 12 nside^2 with nside >= 2, HEALPix RING, full sky"
        )
    return nside


@numba.njit(cache=True)
def _count(p_map, p_max):  # type: ignore[no-untyped-def]
    n_above = n_unseen = 0
    for value in p_map:
        n_above += value > p_max
        n_unseen += value < _UNSEEN_BELOW
    return n_above, n_unseen


@numba.njit(cache=True)
def _list_above(p_map, p_max, ipix):  # type: ignore[no-untyped-def]
    n = 0
    for k in range(p_map.size):
        if p_map[k] > p_max:
            ipix[n] = k
            n += 1


@numba.njit(cache=True)
def _root(parent, k):  # type: ignore[no-untyped-def]
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@numba.njit(cache=True)
def _label_areas(nside, ipix):  # type: ignore[no-untyped-def]
    """Union-find over pixels in RING order. Neighbours lie within three rings, so a window of the last 12
    nside pixels finds those already seen: memory goes with the number of pixels above the threshold, not with
    the map."""
    parent = np.arange(ipix.size).astype(ipix.dtype)
    window = np.full(12 * nside + 1, -1, ipix.dtype)  # pixel k of the list was last to write its slot
    near = np.empty(8, np.int64)
    for k in range(ipix.size):
        write_neighbours(nside, ipix[k], near)
        window[ipix[k] % window.size] = k
        for other in near:
            if other < 0 or other > ipix[k]:
                continue
            m = window[other % window.size]
            if m >= 0 and ipix[m] == other:
                r1, r2 = _root(parent, k), _root(parent, m)
                parent[max(r1, r2)] = min(r1, r2)
    for k in range(ipix.size):
        parent[k] = _root(parent, k)
    return parent


def _heights(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What prominence is measured in: the values, but of probabilities above one half the odds, joined smoothly."""
    if values.max(initial=0.0) > 1.0:
        return values
    p = np.clip(values.astype(np.float64), 0.5, 1 - _ALMOST_ONE)
    return np.where(values > 0.5, 0.5 + np.log(p / (1 - p)) / 4, values).astype(np.float32)


@numba.njit(cache=True)
def _label_peaks(height, nside, ipix, order, min_prominence):  # type: ignore[no-untyped-def]
    """Watershed from the highest pixel down: a pixel joins its highest neighbour's peak; where it touches a
    second peak less than ``min_prominence`` above it, that one is no source of its own and joins the
    higher."""
    parent = np.full(ipix.size, -1, ipix.dtype)  # -1: still under water; roots are the peaks
    near = np.empty(8, np.int64)
    touched = np.empty(8, np.int64)
    for k in order:
        level = height[k]
        write_neighbours(nside, ipix[k], near)
        n, best, highest = 0, -1, -np.inf
        for other in near:
            m = np.searchsorted(ipix, other)
            if other < 0 or m == ipix.size or ipix[m] != other or parent[m] < 0:
                continue
            touched[n] = _root(parent, m)
            if height[m] > highest:
                highest, best = height[m], touched[n]
            n += 1
        parent[k] = k if n == 0 else best
        for t in touched[:n]:
            r1, r2 = _root(parent, t), _root(parent, k)
            low, high = (r1, r2) if height[r1] < height[r2] else (r2, r1)
            if low != high and height[low] - level < min_prominence:
                parent[low] = high
    for k in range(ipix.size):
        parent[k] = _root(parent, k)
    return parent


@numba.njit(cache=True)
def _renumber(label):  # type: ignore[no-untyped-def]
    """Replace the roots by 0, 1, 2, ... in place; returns their number."""
    number = np.full(label.size, -1, label.dtype)
    n = 0
    for k in range(label.size):
        if number[label[k]] < 0:
            number[label[k]] = n
            n += 1
        label[k] = number[label[k]]
    return n


@numba.njit(cache=True)
def _weight(p):  # type: ignore[no-untyped-def]
    return p / (_ODDS_END - p) if p < 1.0 else p / (_ODDS_END - 1.0)


@numba.njit(cache=True)
def _touch_unseen(nside, ipix, p_map):  # type: ignore[no-untyped-def]
    """Whether a pixel that is NaN is beside each of these."""
    near, out = np.empty(8, np.int64), np.zeros(ipix.size, np.bool_)
    for k in range(ipix.size):
        write_neighbours(nside, ipix[k], near)
        for other in near:
            if other >= 0 and np.isnan(p_map[other]):
                out[k] = True
    return out


@numba.njit(cache=True)
def _touch_unknown(nside, ipix, runs, offsets, values):  # type: ignore[no-untyped-def]
    """The same for a map of runs, whose other pixels were not seen."""
    near, out = np.empty(8, np.int64), np.zeros(ipix.size, np.bool_)
    for k in range(ipix.size):
        write_neighbours(nside, ipix[k], near)
        for other in near:
            at = find_in_runs(runs, offsets, other) if other >= 0 else 0
            if other >= 0 and (at < 0 or np.isnan(values[at])):
                out[k] = True
    return out


@numba.njit(cache=True)
def _measure(p, nside, ipix, beside_unseen, label, n_source, weighted):  # type: ignore[no-untyped-def]
    vector = np.zeros((n_source, 3))
    weight = np.zeros(n_source)
    n_pix = np.zeros(n_source, np.int64)
    peak = np.full(n_source, -1, np.int64)  # its number among the pixels
    edge = np.zeros(n_source, np.bool_)
    for k in range(ipix.size):
        s = label[k]
        n_pix[s] += 1
        if peak[s] < 0 or p[k] > p[peak[s]]:
            peak[s] = k
        edge[s] |= beside_unseen[k]
    for k in range(ipix.size):
        s = label[k]
        w = 1.0
        if weighted:
            w = _weight(np.float64(p[k])) - _WING * _weight(np.float64(p[peak[s]]))
        if w > 0:
            x, y, z = pixel_direction(nside, ipix[k])
            vector[s, 0] += w * x
            vector[s, 1] += w * y
            vector[s, 2] += w * z
            weight[s] += w
    for s in range(n_source):
        if weight[s] > 0:  # else it is put at its peak
            vector[s] /= weight[s]
    return vector, n_pix, peak, edge
