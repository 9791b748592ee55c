"""Covering the sphere with fields: rows of constant latitude, and one field over each pole.

Each row is cut at equal longitudes, and a field owns the HEALPix pixels between its two meridians and the
row's two parallels: in RING order those are runs of consecutive pixels, they are disjoint, and together they
are the sphere. The field itself is a rectangle on the tangent plane around what it owns, plus a margin.
With rows of 12.4 deg and a margin of 16 pixels a pixel is computed 1.31 times on average; one square field
per coarse HEALPix pixel needs 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from szeek.sky.healpix import nside_of, ring_info, ring_theta
from szeek.sky.projection import field_basis

#: Radius of the field over each pole and rows between the two. Found by minimising the number of evaluations a
#: pixel; for smaller pixels the cap shrinks with them and there are more rows, so that fields have as many pixels.
_CAP_DEG = 9.5
_N_ROWS = 13
_PIXEL_ARCMIN = 1.7177
#: Largest field, in pixels of 1.7 arcmin: 9.2 deg from centre to side, where a pixel is 2.6 % too large.
_LARGEST_PIXELS = 640


@dataclass(frozen=True)
class Field:
    """One field: where it is, how large, and the pixels it owns.

    ``rings`` are the first and last-but-one RING rings (1 to 4 nside - 1); ``part`` of ``n_parts`` says
    between which meridians.

    Examples
    --------
    >>> field = cover_sphere(64, 6.87, 16, 16)[0]
    >>> field.lat_deg, field.n_parts, field.basis.shape
    (90.0, 1, (3, 3))
    """

    lon_deg: float
    lat_deg: float
    ny: int
    nx: int
    rings: tuple[int, int]
    part: int
    n_parts: int

    @property
    def basis(self) -> NDArray[np.float64]:
        """Centre, east and north, (3, 3)."""
        return field_basis(self.lon_deg, self.lat_deg)


def cover_sphere(nside: int, pixel_arcmin: float, margin: int, stride: int) -> list[Field]:
    """Fields whose own pixels are every HEALPix pixel of ``nside`` exactly once.

    Parameters
    ----------
    nside : int
        Resolution of the map to cover.
    pixel_arcmin : float
        Pixel of the fields.
    margin : int
        Pixels between what a field owns and its edge.
    stride : int
        Sides are multiples of it (the network's poolings).

    Examples
    --------
    >>> fields = cover_sphere(64, 6.87, 16, 16)
    >>> sum(f.n_parts == 1 for f in fields)
    2
    """
    latitude = 90 - np.degrees(ring_theta(nside))  # of ring 0 to 4 nside, falling
    scale = min(1.0, pixel_arcmin / _PIXEL_ARCMIN)
    cap_deg, n_rows = _CAP_DEG * scale, math.ceil(_N_ROWS / scale)
    edges_deg = np.linspace(90 - cap_deg, cap_deg - 90, n_rows + 1)
    first = np.searchsorted(-latitude, -edges_deg)  # the first ring south of each edge
    first = np.clip(first, 1, 4 * nside)
    fields = []
    side = _pixels(math.tan(math.radians(cap_deg)), pixel_arcmin, margin, stride)
    if first[0] > 1:
        fields.append(Field(0.0, 90.0, side, side, (1, int(first[0])), 0, 1))
    for north, south, top, bottom in zip(edges_deg[:-1], edges_deg[1:], first[:-1], first[1:], strict=True):
        if top == bottom:
            continue
        n, lat_deg, ny, nx = _best_cut(north, south, pixel_arcmin, margin, stride)
        rings = (int(top), int(bottom))
        fields += [Field((k + 0.5) * 360 / n, lat_deg, ny, nx, rings, k, n) for k in range(n)]
    if first[-1] < 4 * nside:
        fields.append(Field(0.0, -90.0, side, side, (int(first[-1]), 4 * nside), 0, 1))
    return fields


def _pixels(half_extent: float, pixel_arcmin: float, margin: int, stride: int) -> int:
    needed = 2 * half_extent / math.radians(pixel_arcmin / 60) + 2 * margin + 2
    return math.ceil(needed / stride) * stride


def _best_cut(
    north_deg: float, south_deg: float, pixel_arcmin: float, margin: int, stride: int
) -> tuple[int, float, int, int]:
    """Number of fields in a row, their central latitude and shape: the cut with the fewest pixels."""
    if south_deg < 0 and north_deg + south_deg < -1e-9:  # mirror of a northern row
        n, lat_deg, ny, nx = _best_cut(-south_deg, -north_deg, pixel_arcmin, margin, stride)
        return n, -lat_deg, ny, nx
    largest = max(_LARGEST_PIXELS, 4 * margin)
    best: tuple[int, int, float, int, int] | None = None
    for n in range(4, 1000):
        half_lon = math.pi / n
        low, high = math.radians(south_deg), math.radians(north_deg)

        def height(b: float, lon: float, centre: float) -> float:
            depth = math.sin(centre) * math.sin(b) + math.cos(centre) * math.cos(b) * math.cos(lon)
            return (math.cos(centre) * math.sin(b) - math.sin(centre) * math.cos(b) * math.cos(lon)) / depth

        # parallels bend towards the pole: the top is at a corner, the bottom in the middle (at the equator: too)
        def imbalance(centre: float, half_lon: float = half_lon, low: float = low, high: float = high) -> float:
            return height(high, half_lon, centre) + height(low, 0.0, centre)

        centre = 0.0 if abs(north_deg + south_deg) < 1e-9 else float(brentq(imbalance, low, high + 0.2))
        top = max(height(high, half_lon, centre), height(high, 0.0, centre))
        widest = 0.0 if south_deg <= 0 else low
        depth = math.sin(centre) * math.sin(widest) + math.cos(centre) * math.cos(widest) * math.cos(half_lon)
        right = math.cos(widest) * math.sin(half_lon) / depth
        ny, nx = (_pixels(half, pixel_arcmin, margin, stride) for half in (top, right))
        if max(ny, nx) <= largest and (best is None or n * ny * nx < best[0]):
            best = (n * ny * nx, n, math.degrees(centre), ny, nx)
        if best is not None and n > 2 * best[1]:
            break
    if best is None:
        raise ValueError(
            f"no field of at most {largest} pixels of {pixel_arcmin} arcmin covers a row of "
            f"{north_deg - south_deg:.1f} deg; the pixel is too small for this layout"
        )
    return best[1:]


@njit(cache=True, nogil=True)
def _run(ring_count, shifted, part, n_parts):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """First pixel (within its ring) at or east of the meridian 360 deg x part / n_parts, in integers."""
    return -((shifted * n_parts - 2 * part * ring_count) // (2 * n_parts))


@njit(cache=True, nogil=True)
def _own_runs(nside, ring_first, ring_last, part, n_parts):  # type: ignore[no-untyped-def]  # pragma: no cover
    runs = np.empty((ring_last - ring_first, 2), np.int64)
    for ring in range(ring_first, ring_last):
        first, count, shifted = ring_info(nside, ring)
        runs[ring - ring_first, 0] = first + _run(count, int(shifted), part, n_parts)
        runs[ring - ring_first, 1] = first + _run(count, int(shifted), part + 1, n_parts)
    return runs


@njit(cache=True, nogil=True)
def _gather(nside, ring_first, ring_last, part, n_parts, basis, pixel_rad, theta, p_field, footprint, values):  # type: ignore[no-untyped-def]  # pragma: no cover
    ny, nx = p_field.shape
    outside, n = 0, -1
    for ring in range(ring_first, ring_last):
        first, count, shifted = ring_info(nside, ring)
        start = _run(count, int(shifted), part, n_parts)
        stop = _run(count, int(shifted), part + 1, n_parts)
        z, s = math.cos(theta[ring]), math.sin(theta[ring])
        for k in range(start, stop):
            n += 1
            if footprint.size and not footprint[first + k]:
                continue
            phi = (k + 0.5 * shifted) * 2.0 * math.pi / count
            x, y = s * math.cos(phi), s * math.sin(phi)
            depth = x * basis[0, 0] + y * basis[0, 1] + z * basis[0, 2]
            column = (x * basis[1, 0] + y * basis[1, 1] + z * basis[1, 2]) / (depth * pixel_rad) + 0.5 * (nx - 1)
            row = (x * basis[2, 0] + y * basis[2, 1] + z * basis[2, 2]) / (depth * pixel_rad) + 0.5 * (ny - 1)
            i, j = math.floor(row), math.floor(column)
            if i < 0 or j < 0 or i >= ny - 1 or j >= nx - 1:
                outside += 1
                continue
            u, v = row - i, column - j
            values[n] = (1 - u) * ((1 - v) * p_field[i, j] + v * p_field[i, j + 1]) + u * (
                (1 - v) * p_field[i + 1, j] + v * p_field[i + 1, j + 1]
            )
    return outside


@njit(cache=True, nogil=True)
def _place(runs, values, p_map):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n = 0
    for k in range(runs.shape[0]):
        length = runs[k, 1] - runs[k, 0]
        p_map[runs[k, 0] : runs[k, 1]] = values[n : n + length]
        n += length


@njit(cache=True, nogil=True)
def _any_seen(nside, ring_first, ring_last, part, n_parts, footprint):  # type: ignore[no-untyped-def]  # pragma: no cover
    for ring in range(ring_first, ring_last):
        first, count, shifted = ring_info(nside, ring)
        for k in range(_run(count, int(shifted), part, n_parts), _run(count, int(shifted), part + 1, n_parts)):
            if footprint[first + k]:
                return True
    return False


def owns_seen_pixels(field: Field, nside: int, footprint: NDArray[np.bool_]) -> bool:
    """Whether any pixel that the field owns is in the footprint."""
    return bool(_any_seen(nside, *field.rings, field.part, field.n_parts, footprint))


def meets(field: Field, nside: int, coarse: NDArray[np.bool_]) -> bool:
    """Whether what a field owns of a map of this nside may touch the cells of a coarser RING map that are True.

    Examples
    --------
    >>> coarse = np.zeros(12 * 16**2, bool)
    >>> coarse[0] = True  # at the north pole
    >>> [meets(field, 256, coarse) for field in cover_sphere(256, 13.7, 0, 1)].index(False)
    5
    """
    coarse_nside = nside_of(coarse)
    theta, fine = ring_theta(coarse_nside), ring_theta(nside)
    cell = 2.0 * math.pi / (4 * coarse_nside)  # across its longest diagonal, at least
    first, last = np.searchsorted(theta, [fine[field.rings[0]] - cell, fine[field.rings[1] - 1] + cell])
    for ring in range(max(1, int(first) - 1), min(4 * coarse_nside, int(last) + 1)):
        start, count, shifted = ring_info(coarse_nside, ring)
        step = 2 * math.pi / count
        west, east = (2 * math.pi * (field.part + k) / field.n_parts for k in (0, 1))
        low = math.ceil((west - cell / max(math.sin(theta[ring]), cell)) / step - 0.5 * shifted)
        high = math.floor((east + cell / max(math.sin(theta[ring]), cell)) / step - 0.5 * shifted)
        if coarse[start + np.arange(low, min(high, low + count - 1) + 1) % count].any():
            return True
    return False


def own_runs(field: Field, nside: int) -> NDArray[np.int64]:
    """First RING pixel, and one past the last, of each ring's run that the field owns: (n_ring, 2) int64.

    Examples
    --------
    >>> own_runs(Field(0.0, 90.0, 16, 16, (1, 3), 0, 1), 64).tolist()
    [[0, 4], [4, 12]]
    """
    runs: NDArray[np.int64] = _own_runs(nside, *field.rings, field.part, field.n_parts)
    return runs


def gather_field(
    field: Field, p_field: NDArray[np.float32], pixel_arcmin: float, footprint: NDArray[np.bool_], nside: int = 0
) -> NDArray[np.float32]:
    """Values of the RING pixels that a field owns, by bilinear interpolation.

    Parameters
    ----------
    field : Field
    p_field : (ny, nx) float32
    pixel_arcmin : float
    footprint : (n_pix,) bool
        RING; or :data:`~szeek.sky.projection.EVERYWHERE`, where NaN in the field says what was not seen.
    nside : int
        Of the map, where the footprint does not tell.

    Returns
    -------
    (n_own,) float32
        In the order of :func:`own_runs`; NaN outside the footprint and beside NaN.

    Raises
    ------
    RuntimeError
        If a pixel that the field owns lies outside it: the cover would have a hole.
    """
    nside = nside or nside_of(footprint)
    own = (*field.rings, field.part, field.n_parts)
    pixel_rad = math.radians(pixel_arcmin / 60)
    values = np.full(int(np.diff(own_runs(field, nside)).sum()), np.nan, np.float32)
    outside = _gather(nside, *own, field.basis, pixel_rad, ring_theta(nside), p_field, footprint, values)
    if outside:
        raise RuntimeError(f"{outside} pixels of {field} lie outside it")
    return values


def gather_on_device(
    field: Field, p_field: Tensor, pixel_arcmin: float, rings: Tensor, footprint: Tensor | None
) -> Tensor:
    """What :func:`gather_field` does, on the device that the field is on.

    Parameters
    ----------
    field : Field
    p_field : (ny, nx) float32 tensor
        On any device.
    pixel_arcmin : float
    rings : (4 nside + 1, 8) float64 tensor
        :func:`~szeek.sky.healpix.ring_table` of the map, on the same device.
    footprint : (n_pix,) bool tensor, or None for the whole sky
        On the same device.

    Returns
    -------
    (n_own,) float32 tensor
        In the order of :func:`own_runs`; NaN outside the footprint, and for a pixel outside the field: to ask whether
        there is one would make the CPU wait, and :func:`~szeek.find.predict.check_seen` finds it.
    """
    own = torch.from_numpy(own_runs(field, (len(rings) - 1) // 4)).to(p_field.device)
    length = own[:, 1] - own[:, 0]
    ring = torch.arange(*field.rings, device=p_field.device).repeat_interleave(length)
    before = (own[:, 0] - (length.cumsum(0) - length)).repeat_interleave(length)
    pixel = before + torch.arange(len(ring), device=p_field.device)
    _, z, s, _, first, _, shift, per_radian = rings[ring].unbind(-1)
    phi = (pixel - first + shift) / per_radian
    basis = torch.from_numpy(field.basis).to(p_field.device)
    depth, x, y = (torch.stack([s * phi.cos(), s * phi.sin(), z], dim=1) @ basis.T).unbind(1)
    ny, nx = p_field.shape
    pixel_rad = math.radians(pixel_arcmin / 60)
    column, row = x / (depth * pixel_rad) + 0.5 * (nx - 1), y / (depth * pixel_rad) + 0.5 * (ny - 1)
    known = (row >= 0) & (column >= 0) & (row < ny - 1) & (column < nx - 1)
    if footprint is not None:
        known &= footprint[pixel]
    i, j = row.floor().long().clamp(0, ny - 2), column.floor().long().clamp(0, nx - 2)
    u, v = row - i, column - j
    upper = (1 - v) * p_field[i, j] + v * p_field[i, j + 1]
    lower = (1 - v) * p_field[i + 1, j] + v * p_field[i + 1, j + 1]
    return torch.where(known, (1 - u) * upper + u * lower, math.nan).float()


def place_field(field: Field, values: NDArray[np.float32], p_map: NDArray[np.float32]) -> None:
    """Write what :func:`gather_field` returned into the RING map."""
    _place(own_runs(field, nside_of(p_map)), values, p_map)
