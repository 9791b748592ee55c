r"""Arithmetic of the HEALPix sphere: rings, neighbours, interpolation, directions; for numba and PyTorch.

Everything is in RING order. Ring i runs from 1 in the north to 4 nside - 1; rings 0 and 4 nside stand for the poles.

Eight neighbours share a side or a corner with a pixel, which on the grid are integer steps:

* in the belt (rings nside to 3 nside) a pixel at ring i and longitude h pi / (4 nside) has its neighbours at
  (i +- 1, h +- 1), (i, h +- 2) and (i +- 2, h);
* in a polar cap each of the four base pixels has coordinates a, b = 0, 1, ... counted from the pole along its
  two sides, ring i = a + b + 1, and a step over a side folds onto the neighbour: (-1, b) of base pixel q is
  (b, 0) of q + 1, (a, -1) is (0, a) of q - 1, (-1, -1) is (0, 0) of q + 2;
* the south is the mirror image of the north.

Source: Gorski et al. (2005), ApJ 622, 759, Sect. 5.
"""

from __future__ import annotations

import math
from collections.abc import Sized
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def nside_of(values: Sized) -> int:
    """Nside of a whole-sky map, from its length.

    Raises
    ------
    ValueError
        If there is no such nside.

    Examples
    --------
    >>> nside_of(np.zeros((12 * 64**2, 6)))
    64
    """
    nside = math.isqrt(len(values) // 12)
    if nside < 1 or 12 * nside * nside != len(values):
        raise ValueError(f"the map has {len(values)} pixels, expected 12 nside^2, a HEALPix map of the full sky")
    return nside


def unit_vectors(lon_deg: NDArray[np.float64] | float, lat_deg: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Unit vectors, shape (..., 3), of positions in degrees.

    Examples
    --------
    >>> unit_vectors(90.0, 0.0).round(12).tolist()
    [0.0, 1.0, 0.0]
    """
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon], axis=-1)


def lonlat_deg(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude (0 to 360) and latitude in degrees of directions, shape (..., 3), of any length.

    Examples
    --------
    >>> lon_deg, lat_deg = lonlat_deg(np.array([[0.0, -2.0, 0.0]]))
    >>> lon_deg.tolist(), lat_deg.tolist()
    ([270.0], [0.0])
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    lon_deg = np.degrees(np.arctan2(y, x)) % 360.0
    return np.where(lon_deg == 360.0, 0.0, lon_deg), np.degrees(np.arctan2(z, np.hypot(x, y)))  # -1e-17 % 360 is 360


def pixel_window_sigma_rad(nside: int) -> float:
    """Sigma of the Gaussian that stands for the HEALPix pixel window, in radians.

    The mean second moment of the pixels about their centres, along one axis: 1.065 times that of a square of
    the same area. Window function: exp(-l (l+1) sigma^2 / 2).

    Examples
    --------
    >>> round(float(np.degrees(pixel_window_sigma_rad(2048)) * 60), 3)
    0.512
    """
    return float(np.sqrt(1.065 * 4 * np.pi / (12 * nside**2) / 12))


def interpolation_sigma_rad(nside: int, lat_deg: float) -> float:
    """Sigma of the smoothing by bilinear interpolation of a HEALPix map, in radians: mean over axes and positions.

    Linear interpolation between points a step apart has the second moment f (1 - f) of a squared step, 1/6 on
    average. The steps are those of the grid at this latitude: rings along the meridian, pixels along the ring.

    Source of the grid: Gorski et al. (2005), ApJ 622, 759, Sect. 5.

    Examples
    --------
    >>> [round(float(np.degrees(interpolation_sigma_rad(2048, lat)) * 60), 3) for lat in (0.0, 41.81, 80.0)]
    [0.827, 0.714, 0.736]
    """
    z = abs(float(np.sin(np.radians(lat_deg))))
    sine = max(float(np.sqrt(1 - z * z)), 1.0 / nside)
    if z <= 2 / 3:
        along_meridian, along_ring = 2 / (3 * nside * sine), np.pi / (2 * nside) * sine
    else:
        ring = max(float(nside * np.sqrt(3 * (1 - z))), 1.0)
        along_meridian, along_ring = 2 * ring / (3 * nside**2 * sine), np.pi / (2 * ring) * sine
    return float(np.sqrt((along_meridian**2 + along_ring**2) / 12))


# --- rings ------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def ring_info(nside: int, ring: int) -> tuple[int, int, float]:  # pragma: no cover - compiled
    """First pixel, number of pixels, and 1.0 if shifted by half a pixel, of RING ring 1 to 4 nside - 1."""
    if ring < nside:
        return 2 * ring * (ring - 1), 4 * ring, 1.0
    if ring <= 3 * nside:
        shifted = 1.0 if (ring - nside) % 2 == 0 else 0.0
        return 2 * nside * (nside - 1) + (ring - nside) * 4 * nside, 4 * nside, shifted
    south = 4 * nside - ring
    return 12 * nside * nside - 2 * south * (south + 1), 4 * south, 1.0


@njit(cache=True, nogil=True)
def ring_start(nside: int, ring: int) -> tuple[int, int, float, float]:  # pragma: no cover - compiled
    """First pixel, number of pixels, z = cos(colatitude) and longitude of the first pixel, ring 1 to 4 nside - 1."""
    first, count, shifted = ring_info(nside, ring)
    if ring < nside:
        z = 1.0 - ring * ring / (3.0 * nside * nside)
    elif ring <= 3 * nside:
        z = (2 * nside - ring) * 2.0 / (3.0 * nside)
    else:
        south = 4 * nside - ring
        z = south * south / (3.0 * nside * nside) - 1.0
    return first, count, z, shifted * np.pi / count


@njit(cache=True, nogil=True)
def ring_above(nside: int, z: float) -> int:  # pragma: no cover
    """Number of the last ring whose z is at least that given (0 to 4 nside-1)."""
    if z > 2.0 / 3.0:
        return int(nside * np.sqrt(3.0 * max(1.0 - z, 0.0)))
    if z >= -2.0 / 3.0:
        return int(nside * (2.0 - 1.5 * z))
    return 4 * nside - max(int(np.ceil(nside * np.sqrt(3.0 * max(1.0 + z, 0.0)))), 1)


@njit(cache=True, nogil=True)
def _ring_theta(nside: int) -> NDArray[np.float64]:  # pragma: no cover - compiled
    """Colatitude in radians of ring 0 (the pole) to 4 nside (the other pole)."""
    theta = np.empty(4 * nside + 1)
    for ring in range(4 * nside + 1):
        if ring < nside:
            # 2 asin(sqrt((1 - z) / 2)) keeps all digits next to the pole, where acos loses half of them
            theta[ring] = 2.0 * math.asin(ring / (nside * math.sqrt(6.0)))
        elif ring <= 3 * nside:
            theta[ring] = math.acos((2 * nside - ring) * 2.0 / (3.0 * nside))
        else:
            theta[ring] = math.pi - 2.0 * math.asin((4 * nside - ring) / (nside * math.sqrt(6.0)))
    return theta


@njit(cache=True, nogil=True)
def _ring_table(nside: int) -> NDArray[np.float64]:  # pragma: no cover - compiled
    """What :func:`ring_table` returns: a cache line a ring, so that no direction computes it again."""
    table = np.zeros((4 * nside + 1, 8))
    table[:, 0] = _ring_theta(nside)
    table[:, 1] = np.cos(table[:, 0])
    table[:, 2] = np.sin(table[:, 0])
    table[:-1, 3] = 1.0 / (table[1:, 0] - table[:-1, 0])
    for ring in range(1, 4 * nside):
        first, count, shifted = ring_info(nside, ring)
        table[ring, 4], table[ring, 5] = first, count
        table[ring, 6], table[ring, 7] = 0.5 * shifted, count / (2.0 * math.pi)
    return table


_ring_tables: dict[int, NDArray[np.float64]] = {}


def ring_theta(nside: int) -> NDArray[np.float64]:
    """Colatitudes of the rings, (4 nside + 1,) float64 radians, poles included; computed once per nside."""
    return ring_table(nside)[:, 0]


def ring_table(nside: int) -> NDArray[np.float64]:
    """Of each ring, from one pole (0) to the other (4 nside): (4 nside + 1, 8) float64, computed once per nside.

    Columns: colatitude in radians, its cosine, its sine, one over the step to the next ring; first pixel, number of
    pixels, longitude of the first pixel's centre in pixels (0 or 0.5), pixels a radian.
    """
    if nside not in _ring_tables:
        _ring_tables[nside] = _ring_table(nside)
    return _ring_tables[nside]


# --- bilinear interpolation ------------------------------------------------------------------------------


@njit(cache=True, nogil=True, inline="always")
def _arc_sine(s):  # type: ignore[no-untyped-def]  # pragma: no cover
    return s + s * s * s / 6.0 if abs(s) < 0.003 else math.asin(s)  # the next term is below 2e-14


@njit(cache=True, nogil=True, inline="always")
def _beside(rings, ring, phi):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The two pixels of a ring about a longitude, and the weight of the second."""
    first, count = int(rings[ring, 4]), int(rings[ring, 5])
    position = phi * rings[ring, 7] - rings[ring, 6]
    left = int(position + 1.0) - 1  # floor, as position > -1
    weight = position - left
    right = left + 1
    if left < 0:
        left += count
    if right >= count:
        right -= count
    return first + left, first + right, weight


@njit(cache=True, nogil=True, inline="always")
def ring_above_direction(nside, cosine, sine):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Number of the ring above a colatitude, before rounding down; without a branch, for many at a time."""
    share = nside * sine * math.sqrt(3.0 / (1.0 + abs(cosine)))
    from_pole = math.floor(share)
    polar = from_pole if cosine > 0.0 else 4 * nside - from_pole - 1
    return polar if abs(cosine) > 2.0 / 3.0 else nside * (2.0 - 1.5 * cosine)


@njit(cache=True, nogil=True, inline="always")
def interpolation_weights(nside, rings, above, cosine, sine, phi):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Pixels and weights of the bilinear interpolation at a colatitude, its ring above, and a longitude.

    The distance from a ring comes from the sine of the difference of colatitudes, which needs no inverse function.
    """
    # rounding may put a direction that lies on a ring on its wrong side
    if above > 0 and sine * rings[above, 1] - cosine * rings[above, 2] < 0.0:
        above -= 1
    elif above < 4 * nside - 1 and sine * rings[above + 1, 1] - cosine * rings[above + 1, 2] >= 0.0:
        above += 1
    south = _arc_sine(sine * rings[above, 1] - cosine * rings[above, 2]) * rings[above, 3]
    north = 1.0 - south
    if above == 0:  # between the pole and the first ring: the pole is the mean of that ring's four pixels
        p2, p3, east = _beside(rings, 1, phi)
        share = 0.25 * north
        return (p2 + 2) & 3, (p3 + 2) & 3, p2, p3, share, share, (1.0 - east) * south + share, east * south + share
    if above == 4 * nside - 1:
        p0, p1, east = _beside(rings, above, phi)
        share = 0.25 * south
        last = 12 * nside * nside - 4
        p2, p3 = ((p0 - last + 2) & 3) + last, ((p1 - last + 2) & 3) + last
        return p0, p1, p2, p3, (1.0 - east) * north + share, east * north + share, share, share
    p0, p1, east0 = _beside(rings, above, phi)
    p2, p3, east1 = _beside(rings, above + 1, phi)
    return p0, p1, p2, p3, (1.0 - east0) * north, east0 * north, (1.0 - east1) * south, east1 * south


def interpolation_weights_torch(nside: int, rings: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and weights of the bilinear interpolation between HEALPix rings.

    Source: Gorski et al. (2005), ApJ 622, 759; the scheme of ``healpy.get_interp_weights``.

    Parameters
    ----------
    nside : int
    rings : (4 nside + 1, 8) float64 tensor
        :func:`ring_table`, on the device.
    directions : (n, 3) float64 tensor
        Of any length.

    Returns
    -------
    pixels : (n, 4) int64 tensor
        RING.
    weights : (n, 4) float64 tensor
        They add up to 1.

    Examples
    --------
    >>> import torch
    >>> rings = torch.from_numpy(ring_table(1))
    >>> pixels, weights = interpolation_weights_torch(1, rings, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))
    >>> sorted(pixels[0].tolist()), weights[0].tolist()
    ([0, 1, 2, 3], [0.25, 0.25, 0.25, 0.25])
    """
    import torch  # here: who simulates or filters has no need of it

    x, y, z = directions.unbind(-1)
    across = torch.hypot(x, y)
    length = torch.hypot(across, z)
    cosine, sine = z / length, across / length
    longitude = torch.remainder(torch.atan2(y, x), 2 * math.pi)
    last = 4 * nside - 1

    def below(ring: Tensor) -> Tensor:
        """Sine of the angle from a ring southwards to the direction."""
        return sine * rings[ring, 1] - cosine * rings[ring, 2]

    def beside(ring: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The two pixels of a ring about the longitude, and the weight of the second."""
        first, count, shift, per_radian = rings[ring, 4:].unbind(-1)
        position = longitude * per_radian - shift
        left = position.floor()
        return (first + left % count).long(), (first + (left + 1) % count).long(), position - left

    polar = (nside * sine * torch.sqrt(3 / (1 + cosine.abs()))).long()
    equatorial = (nside * (2 - 1.5 * cosine)).long()
    above = torch.where(cosine.abs() > 2 / 3, torch.where(cosine > 0, polar, last - polar), equatorial).clamp(0, last)
    # rounding may put a direction that lies on a ring on its wrong side
    up = (above > 0) & (below(above) < 0)
    down = (above < last) & (below((above + 1).clamp(max=last)) >= 0)
    above = above - up.long() + (down & ~up).long()
    south = torch.asin(below(above)) * rings[above, 3]
    north = 1 - south
    p0, p1, east = beside(above.clamp(min=1))
    p2, p3, east_south = beside((above + 1).clamp(max=last))
    weights = torch.stack([(1 - east) * north, east * north, (1 - east_south) * south, east_south * south], dim=-1)
    # beyond the first and the last ring, the pole is the mean of that ring's four pixels
    top, bottom = above == 0, above == last
    base = 12 * nside * nside - 4
    p0, p1 = torch.where(top, (p2 + 2) & 3, p0), torch.where(top, (p3 + 2) & 3, p1)
    p2, p3 = (torch.where(bottom, ((p - base + 2) & 3) + base, q) for p, q in ((p0, p2), (p1, p3)))
    share = 0.25 * torch.where(top, north, south)[:, None]
    half = torch.tensor([True, True, False, False], device=directions.device)
    weights = torch.where(top[:, None], torch.where(half, share, weights + share), weights)
    weights = torch.where(bottom[:, None], torch.where(half, weights + share, share), weights)
    return torch.stack([p0, p1, p2, p3], dim=-1), weights


# --- pixels ----------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def locate_pixel(nside, ipix):  # type: ignore[no-untyped-def]
    """Ring (1 to 2 nside), number within it, and whether it was mirrored from the south."""
    n_pix = 12 * nside * nside
    south = ipix >= n_pix // 2 + 2 * nside  # rings beyond 2 nside
    r = n_pix - 1 - ipix if south else ipix
    n_cap = 2 * nside * (nside - 1)
    if r < n_cap:
        ring = int(0.5 * (1.0 + math.sqrt(1.0 + 2.0 * r)))
        while 2 * ring * (ring - 1) > r:
            ring -= 1
        while 2 * ring * (ring + 1) <= r:
            ring += 1
        j, length = r - 2 * ring * (ring - 1), 4 * ring
    else:
        length = 4 * nside
        ring = nside + (r - n_cap) // length
        j = (r - n_cap) % length
    return ring, length - 1 - j if south else j, south


@njit(cache=True, nogil=True)
def _belt_pixel(nside, ring, h, south):  # type: ignore[no-untyped-def]
    j = ((h - 1 + ((ring - nside) & 1)) // 2) % (4 * nside)
    if south:
        ring = 4 * nside - ring
    return 2 * nside * (nside - 1) + (ring - nside) * 4 * nside + j


@njit(cache=True, nogil=True)
def _cap_pixel(nside, q, a, b, south):  # type: ignore[no-untyped-def]
    ring = a + b + 1
    if ring > nside:
        return _belt_pixel(nside, ring, (2 * q + 1) * nside + b - a, south)
    j = (q % 4) * ring + b
    if south:
        return 12 * nside * nside - 2 * ring * (ring + 1) + j
    return 2 * ring * (ring - 1) + j


@njit(cache=True, nogil=True)
def write_neighbours(nside, ipix, out):  # type: ignore[no-untyped-def]
    """The eight RING neighbours; at the eight corners of three base pixels the missing one is -1 or a
    repeat."""
    ring, j, south = locate_pixel(nside, ipix)
    if ring <= nside:
        q = j // ring
        b = j - q * ring
        a = ring - 1 - b
        n = 0
        for da in (-1, 0, 1):
            for db in (-1, 0, 1):
                if da == 0 and db == 0:
                    continue
                if a + da < 0 and b + db < 0:
                    out[n] = _cap_pixel(nside, q + 2, 0, 0, south)
                elif a + da < 0:
                    out[n] = _cap_pixel(nside, q + 1, b + db, 0, south)
                elif b + db < 0:
                    out[n] = _cap_pixel(nside, q + 3, 0, a + da, south)
                else:
                    out[n] = _cap_pixel(nside, q, a + da, b + db, south)
                n += 1
        return
    h = 2 * j + 1 - ((ring - nside) & 1)
    out[0] = _belt_pixel(nside, ring, h - 2, south)
    out[1] = _belt_pixel(nside, ring, h + 2, south)
    out[2] = _belt_pixel(nside, ring - 1, h - 1, south)
    out[3] = _belt_pixel(nside, ring - 1, h + 1, south)
    out[4] = _belt_pixel(nside, ring + 1, h - 1, south)
    out[5] = _belt_pixel(nside, ring + 1, h + 1, south)
    out[6] = _belt_pixel(nside, ring + 2, h, south)
    if ring - 2 >= nside:
        out[7] = _belt_pixel(nside, ring - 2, h, south)
        return
    q = (h % (8 * nside)) // (2 * nside)  # ring nside - 1 is in the cap:
    d = h % (8 * nside) - (2 * q + 1) * nside  # b - a, with a + b = nside - 2; none on the border of two base pixels
    out[7] = _cap_pixel(nside, q, (nside - 2 - d) // 2, (nside - 2 + d) // 2, south) if d > -nside else -1


@njit(cache=True, nogil=True)
def pixel_direction(nside, ipix):  # type: ignore[no-untyped-def]
    ring, j, south = locate_pixel(nside, ipix)
    if ring <= nside:
        depth = ring * ring / (3.0 * nside * nside)  # 1 - |z|
        phi = 0.5 * math.pi / ring * (j + 0.5)
    else:
        depth = 2.0 * ring / (3.0 * nside) - 1.0 / 3.0
        phi = 0.25 * math.pi / nside * (2 * j + 1 - ((ring - nside) & 1))
    sin_theta = math.sqrt(depth * (2.0 - depth))
    z = 1.0 - depth
    return sin_theta * math.cos(phi), sin_theta * math.sin(phi), -z if south else z


@njit(cache=True, nogil=True)
def pixel_directions(nside, ipix):  # type: ignore[no-untyped-def]
    out = np.empty((ipix.size, 3))
    for k in range(ipix.size):
        out[k, 0], out[k, 1], out[k, 2] = pixel_direction(nside, ipix[k])
    return out
