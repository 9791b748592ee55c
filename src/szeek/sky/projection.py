r"""Sphere <-> tangent plane: the one sampler that training, prediction and stacks share.

A *field* is a rectangle of square pixels on the gnomonic (TAN) tangent plane at a sky position. With
the unit vectors c (centre), e (east, towards increasing Galactic longitude) and n (north), the pixel
in row i and column j of an (ny, nx) field looks along

    v  ~  c + x (e cos a + n sin a) + y (n cos a - e sin a),
    x = s (j - (nx - 1) / 2),   y = s (i - (ny - 1) / 2),

where s is the pixel size in radians and a the orientation. Column number grows to the *east* at a = 0,
so a picture drawn with the first row at the bottom is mirrored with respect to the sky as seen from
inside: draw it with the x axis inverted.

Values come from bilinear interpolation between the two HEALPix rings and the four pixels around v, the
scheme of Gorski et al. (2005) that healpy.get_interp_val implements; one pass serves all bands, because
the bands of a pixel are neighbours in memory.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from szeek.sky.skymaps import SkyMaps

#: Pixel of the paper's patches, that of HEALPix nside 2048. Bonjean (2020), Sect. 3.
PIXEL_ARCMIN = 1.7177

#: Stands for a footprint without holes.
EVERYWHERE = np.zeros(0, np.bool_)


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


@njit(cache=True, nogil=True, inline="always")
def _neighbours(nside, theta, x, y, z, pixels, weights):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Pixels and weights of the bilinear interpolation at the direction (x, y, z), of any length."""
    rho = math.sqrt(x * x + y * y)
    colatitude = math.atan2(rho, z)
    cosine = z / math.sqrt(rho * rho + z * z)
    phi = math.atan2(y, x)
    if phi < 0.0:
        phi += 2.0 * math.pi
    if abs(cosine) > 2.0 / 3.0:
        half = rho / math.sqrt(rho * rho + z * z)
        ring = int(nside * math.sqrt(3.0 * half * half / (1.0 + abs(cosine))))
        above = ring if cosine > 0 else 4 * nside - ring - 1
    else:
        above = int(nside * (2.0 - 1.5 * cosine))
    # rounding may put a direction that lies on a ring on its wrong side
    if above > 0 and theta[above] > colatitude:
        above -= 1
    elif above < 4 * nside - 1 and theta[above + 1] <= colatitude:
        above += 1
    for side in range(2):
        ring = above + side
        if ring == 0 or ring == 4 * nside:
            continue
        first, count, shifted = ring_info(nside, ring)
        position = phi * count / (2.0 * math.pi) - 0.5 * shifted
        left = math.floor(position)
        fraction = position - left
        right = left + 1
        if left < 0:
            left += count
        if right >= count:
            right -= count
        pixels[2 * side] = first + int(left)
        pixels[2 * side + 1] = first + int(right)
        weights[2 * side] = 1.0 - fraction
        weights[2 * side + 1] = fraction
    if above == 0:  # between the pole and the first ring: the pole is the mean of that ring's four pixels
        south = colatitude / theta[1]
        share = 0.25 * (1.0 - south)
        for k in range(2):
            weights[2 + k] = weights[2 + k] * south + share
            weights[k] = share
            pixels[k] = (pixels[2 + k] + 2) & 3
    elif above == 4 * nside - 1:
        south = (colatitude - theta[above]) / (math.pi - theta[above])
        share = 0.25 * south
        last = 12 * nside * nside - 4
        for k in range(2):
            weights[k] = weights[k] * (1.0 - south) + share
            weights[2 + k] = share
            pixels[2 + k] = ((pixels[k] - last + 2) & 3) + last
    else:
        south = (colatitude - theta[above]) / (theta[above + 1] - theta[above])
        weights[0] *= 1.0 - south
        weights[1] *= 1.0 - south
        weights[2] *= south
        weights[3] *= south


# All of fast-math but 'nnan' and 'ninf': NaN marks what lies outside the footprint.
_FAST = {"reassoc", "nsz", "arcp", "contract", "afn"}


@njit(cache=True, nogil=True, fastmath=_FAST, inline="always")
def _look_up(nside, theta, values, footprint, x, y, z, pixels, weights, row):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bilinear value of every band at one direction, into ``row``; NaN where less than half is seen."""
    _neighbours(nside, theta, x, y, z, pixels, weights)
    if footprint.size:
        seen = 0.0
        for m in range(4):
            if not footprint[pixels[m]]:
                weights[m] = 0.0
            seen += weights[m]
        if seen < 0.5:
            row[:] = np.nan
            return
        for m in range(4):
            weights[m] /= seen
    p0, p1, p2, p3 = pixels[0], pixels[1], pixels[2], pixels[3]
    w0, w1 = np.float32(weights[0]), np.float32(weights[1])
    w2, w3 = np.float32(weights[2]), np.float32(weights[3])
    for b in range(values.shape[1]):
        row[b] = w0 * values[p0, b] + w1 * values[p1, b] + w2 * values[p2, b] + w3 * values[p3, b]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _interpolate(nside, theta, values, footprint, vectors, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    pixels = np.zeros(4, np.int64)
    weights = np.zeros(4)
    for k in range(vectors.shape[0]):
        v = vectors[k]
        _look_up(nside, theta, values, footprint, v[0], v[1], v[2], pixels, weights, out[k])


@njit(cache=True, nogil=True, fastmath=_FAST)
def _sample_field(nside, theta, values, footprint, basis, pixel_rad, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    pixels = np.zeros(4, np.int64)
    weights = np.zeros(4)
    ny, nx, _ = out.shape
    for i in range(ny):
        y = pixel_rad * (i - 0.5 * (ny - 1))
        for j in range(nx):
            x = pixel_rad * (j - 0.5 * (nx - 1))
            vx = basis[0, 0] + x * basis[1, 0] + y * basis[2, 0]
            vy = basis[0, 1] + x * basis[1, 1] + y * basis[2, 1]
            vz = basis[0, 2] + x * basis[1, 2] + y * basis[2, 2]
            _look_up(nside, theta, values, footprint, vx, vy, vz, pixels, weights, out[i, j])


def unit_vectors(lon_deg: NDArray[np.float64] | float, lat_deg: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Unit vectors, shape (..., 3), of positions in degrees.

    Examples
    --------
    >>> unit_vectors(90.0, 0.0).round(12).tolist()
    [0.0, 1.0, 0.0]
    """
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon], axis=-1)


def field_basis(lon_deg: float, lat_deg: float, angle_deg: float = 0.0) -> NDArray[np.float64]:
    """Centre, x and y directions of a field: rows of a (3, 3) orthonormal float64 matrix."""
    lon, angle = math.radians(lon_deg), math.radians(angle_deg)
    centre = unit_vectors(lon_deg, lat_deg)
    east = np.array([-math.sin(lon), math.cos(lon), 0.0])
    north = np.cross(centre, east)
    return np.stack(
        [
            centre,
            math.cos(angle) * east + math.sin(angle) * north,
            math.cos(angle) * north - math.sin(angle) * east,
        ]
    )


def field_directions(
    lon_deg: float, lat_deg: float, angle_deg: float, ny: int, nx: int, pixel_arcmin: float = PIXEL_ARCMIN
) -> NDArray[np.float64]:
    """Directions of a field's pixels, (ny, nx, 3) float64, on the tangent plane (length 1 at the centre).

    Examples
    --------
    >>> field_directions(0.0, 0.0, 0.0, 1, 1).round(12).tolist()
    [[[1.0, 0.0, 0.0]]]
    """
    scale = math.radians(pixel_arcmin / 60)
    centre, along_x, along_y = field_basis(lon_deg, lat_deg, angle_deg)
    x = scale * (np.arange(nx) - 0.5 * (nx - 1))
    y = scale * (np.arange(ny) - 0.5 * (ny - 1))
    directions: NDArray[np.float64] = centre + x[None, :, None] * along_x + y[:, None, None] * along_y
    return directions


def project(
    basis: NDArray[np.float64], vectors: NDArray[np.float64], pixel_arcmin: float = PIXEL_ARCMIN
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Tangent-plane offsets (x, y) from a field's centre, in pixels, and which directions lie in front.

    Parameters
    ----------
    basis : (3, 3) float64
        From :func:`field_basis`.
    vectors : (..., 3) float64
        Directions, of any length.
    """
    depth, x, y = np.moveaxis(vectors @ basis.T, -1, 0)
    scale = 1.0 / (np.where(depth > 0, depth, np.nan) * math.radians(pixel_arcmin / 60))
    return x * scale, y * scale, depth > 0


def interpolate(
    values: NDArray[np.float32], vectors: NDArray[np.float64], footprint: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Bilinear interpolation of RING maps at any directions, all bands in one pass.

    Source: Gorski et al. (2005), ApJ 622, 759; the same scheme as healpy.get_interp_val.

    Parameters
    ----------
    values : (n_pix, n_band) float32
        RING maps, interleaved.
    vectors : (..., 3) float64
        Directions of any length.
    footprint : (n_pix,) bool, optional
        Pixels that count; the others get no weight, and a direction with less than half of its weight on
        pixels that count becomes NaN.

    Returns
    -------
    (..., n_band) float32

    Examples
    --------
    >>> flat = np.full((12 * 4**2, 2), 3.0, np.float32)
    >>> interpolate(flat, unit_vectors(10.0, 89.9)).tolist()
    [3.0, 3.0]
    """
    nside = nside_of(values)
    flat = np.ascontiguousarray(vectors, np.float64).reshape(-1, 3)
    out = np.empty((len(flat), values.shape[1]), np.float32)
    _interpolate(nside, ring_theta(nside), values, EVERYWHERE if footprint is None else footprint, flat, out)
    return out.reshape(*np.shape(vectors)[:-1], values.shape[1])


def sample_field(
    maps: SkyMaps | NDArray[np.float32],
    lon_deg: float,
    lat_deg: float,
    angle_deg: float = 0.0,
    ny: int = 64,
    nx: int = 64,
    pixel_arcmin: float = PIXEL_ARCMIN,
) -> NDArray[np.float32]:
    """Cut a field out of maps: (ny, nx, n_band) float32, NaN outside the footprint.

    Parameters
    ----------
    maps : SkyMaps, or (n_pix, n_band) float32 array
        RING, Galactic. A bare array counts as seen everywhere.
    lon_deg, lat_deg : float
        Centre, Galactic.
    angle_deg : float
        Orientation: the field's x axis points from east towards north by this angle.
    ny, nx : int
        Rows and columns.
    pixel_arcmin : float
        Pixel size at the centre.

    Examples
    --------
    >>> sample_field(np.ones((12 * 8**2, 6), np.float32), 30.0, -10.0, 45.0).shape
    (64, 64, 6)
    """
    values, footprint = (maps.values, maps.footprint) if isinstance(maps, SkyMaps) else (maps, EVERYWHERE)
    nside = nside_of(values)
    out = np.empty((ny, nx, values.shape[1]), np.float32)
    basis = field_basis(lon_deg, lat_deg, angle_deg)
    _sample_field(nside, ring_theta(nside), values, footprint, basis, math.radians(pixel_arcmin / 60), out)
    return out


def nside_of(values: NDArray[np.float32]) -> int:
    """Nside of interleaved maps, (n_pix, n_band)."""
    if values.ndim != 2:
        raise ValueError(f"values has shape {values.shape}, expected (n_pix, n_band)")
    return int((values.shape[0] / 12) ** 0.5 + 0.5)


_theta_tables: dict[int, NDArray[np.float64]] = {}


def ring_theta(nside: int) -> NDArray[np.float64]:
    """Colatitudes of the rings, (4 nside + 1,) float64 radians, poles included; computed once per nside."""
    if nside not in _theta_tables:
        _theta_tables[nside] = _ring_theta(nside)
    return _theta_tables[nside]
