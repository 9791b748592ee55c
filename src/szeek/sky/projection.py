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

import healpy
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from szeek.sky.healpix import interpolation_weights, nside_of, ring_above_direction, ring_table
from szeek.sky.imagemaps import ImageMaps
from szeek.sky.mapset import MapSet
from szeek.sky.partial import PartialMap
from szeek.sky.skymaps import SkyMaps

#: Pixel of the paper's patches, that of HEALPix nside 2048. Bonjean (2020), Sect. 3.
PIXEL_ARCMIN = 1.7177

#: Stands for a footprint without holes.
EVERYWHERE = np.zeros(0, np.bool_)


# All of fast-math but 'nnan' and 'ninf': NaN marks what lies outside the footprint.
_FAST = {"reassoc", "nsz", "arcp", "contract", "afn"}


@njit(cache=True, nogil=True, fastmath=_FAST, inline="always")
def _where_seen(footprint, p0, p1, p2, p3, w0, w1, w2, w3):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Weights of the pixels in the footprint alone; NaN where they are less than half."""
    w0, w1, w2, w3 = w0 * footprint[p0], w1 * footprint[p1], w2 * footprint[p2], w3 * footprint[p3]
    seen = w0 + w1 + w2 + w3
    if seen < 0.5:
        return np.nan, np.nan, np.nan, np.nan
    return w0 / seen, w1 / seen, w2 / seen, w3 / seen


@njit(cache=True, nogil=True, fastmath=_FAST, inline="always")
def _blend(values, p0, p1, p2, p3, w0, w1, w2, w3, row):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Weighted mean of four pixels in every band, into ``row``."""
    f0, f1, f2, f3 = np.float32(w0), np.float32(w1), np.float32(w2), np.float32(w3)
    for b in range(values.shape[1]):
        row[b] = f0 * values[p0, b] + f1 * values[p1, b] + f2 * values[p2, b] + f3 * values[p3, b]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _interpolate(nside, rings, values, footprint, vectors, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for k in range(vectors.shape[0]):
        v = vectors[k]
        phi = math.atan2(v[1], v[0])
        if phi < 0.0:
            phi += 2.0 * math.pi
        across = math.sqrt(v[0] * v[0] + v[1] * v[1])
        length = 1.0 / math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
        cosine, sine = v[2] * length, across * length
        above = int(ring_above_direction(nside, cosine, sine))
        p0, p1, p2, p3, w0, w1, w2, w3 = interpolation_weights(nside, rings, above, cosine, sine, phi)
        if footprint.size:
            w0, w1, w2, w3 = _where_seen(footprint, p0, p1, p2, p3, w0, w1, w2, w3)
        _blend(values, p0, p1, p2, p3, w0, w1, w2, w3, out[k])


@intrinsic
def _fetch(typing_context, array, row):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Ask for a row of an array without waiting for it."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0])
        offset = builder.mul(arguments[1], builder.extract_value(data.strides, 0))
        address = builder.gep(builder.bitcast(data.data, ir.IntType(8).as_pointer()), [offset])
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", (address.type,), kind)
        builder.call(prefetch, [address, number(0), number(3), number(1)])  # to read, into all caches, data
        return context.get_dummy_value()

    return types.void(array, row), generate


@njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _look_along_row(nside, basis, pixel_rad, i, ny, cosine, sine, above, phi):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Colatitudes, rings above and longitudes of a field's row: arithmetic alone, so that the compiler does eight
    pixels at a time."""
    nx = phi.size
    middle = math.atan2(basis[0, 1], basis[0, 0])
    cos_middle, sin_middle = math.cos(middle), math.sin(middle)
    y = pixel_rad * (i - 0.5 * (ny - 1))
    ax, ay, az = basis[0, 0] + y * basis[2, 0], basis[0, 1] + y * basis[2, 1], basis[0, 2] + y * basis[2, 2]
    bx, by, bz = basis[1, 0], basis[1, 1], basis[1, 2]
    # longitude from the meridian of the field's centre: away from the poles the tangent is small, and the series'
    # next term, t^13 / 13, below 1e-14; along a row it only grows or only falls, so that the ends tell
    small = True
    for end in (-0.5, 0.5):
        x = pixel_rad * end * (nx - 1)
        along = (ax + x * bx) * cos_middle + (ay + x * by) * sin_middle
        small &= abs((ay + x * by) * cos_middle - (ax + x * bx) * sin_middle) < 0.1 * along
    for j in range(nx):
        x = pixel_rad * (j - 0.5 * (nx - 1))
        vx, vy, vz = ax + x * bx, ay + x * by, az + x * bz
        t = (vy * cos_middle - vx * sin_middle) / (vx * cos_middle + vy * sin_middle)
        q = t * t
        phi[j] = t * (1.0 + q * (-1 / 3 + q * (1 / 5 + q * (-1 / 7 + q * (1 / 9 - q / 11)))))
        across = vx * vx + vy * vy
        length = 1.0 / math.sqrt(across + vz * vz)
        cosine[j], sine[j] = vz * length, math.sqrt(across) * length
        above[j] = ring_above_direction(nside, cosine[j], sine[j])
    for j in range(0 if small else nx):
        x = pixel_rad * (j - 0.5 * (nx - 1))
        vx, vy = ax + x * bx, ay + x * by
        phi[j] = math.atan2(vy * cos_middle - vx * sin_middle, vx * cos_middle + vy * sin_middle)
    for j in range(nx):
        longitude = phi[j] + middle
        longitude = longitude + 2.0 * math.pi if longitude < 0.0 else longitude
        phi[j] = longitude - 2.0 * math.pi if longitude >= 2.0 * math.pi else longitude


@njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _sample_field(nside, rings, values, footprint, basis, pixel_rad, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    ny, nx, _ = out.shape
    cosine, sine, above, phi = np.empty(nx), np.empty(nx), np.empty(nx), np.empty(nx)
    # first where a row's pixels are, then their values: the processor has fetched most of them by then
    pixels, weights = np.empty((nx, 4), np.int64), np.empty((nx, 4))
    for i in range(ny):
        _look_along_row(nside, basis, pixel_rad, i, ny, cosine, sine, above, phi)
        for j in range(nx):
            p0, p1, p2, p3, w0, w1, w2, w3 = interpolation_weights(
                nside, rings, int(above[j]), cosine[j], sine[j], phi[j]
            )
            _fetch(values, p0)  # type: ignore[call-arg]
            _fetch(values, p2)
            if footprint.size:
                w0, w1, w2, w3 = _where_seen(footprint, p0, p1, p2, p3, w0, w1, w2, w3)
            pixels[j, 0], pixels[j, 1], pixels[j, 2], pixels[j, 3] = p0, p1, p2, p3
            weights[j, 0], weights[j, 1], weights[j, 2], weights[j, 3] = w0, w1, w2, w3
        for j in range(nx):
            p0, p1, p2, p3 = pixels[j, 0], pixels[j, 1], pixels[j, 2], pixels[j, 3]
            w0, w1, w2, w3 = weights[j, 0], weights[j, 1], weights[j, 2], weights[j, 3]
            _blend(values, p0, p1, p2, p3, w0, w1, w2, w3, out[i, j])


def field_basis(lon_deg: float, lat_deg: float, angle_deg: float = 0.0) -> NDArray[np.float64]:
    """Centre, x and y directions of a field: rows of a (3, 3) orthonormal float64 matrix.

    Examples
    --------
    >>> field_basis(90.0, 0.0).round(6).tolist()  # centre, east, north
    [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, -0.0, 1.0]]
    """
    lon, lat, angle = math.radians(lon_deg), math.radians(lat_deg), math.radians(angle_deg)
    cos_lon, sin_lon, cos_lat, sin_lat = math.cos(lon), math.sin(lon), math.cos(lat), math.sin(lat)
    c, s = math.cos(angle), math.sin(angle)
    # numpy's cross and stack would take a fifth of the time of a patch
    centre = (cos_lat * cos_lon, cos_lat * sin_lon, sin_lat)
    east = (-sin_lon, cos_lon, 0.0)
    north = (-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat)
    along_x = [c * e + s * n for e, n in zip(east, north, strict=True)]
    along_y = [c * n - s * e for e, n in zip(east, north, strict=True)]
    return np.array([centre, along_x, along_y])


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

    Examples
    --------
    >>> from szeek.sky.healpix import unit_vectors
    >>> x, y, front = project(field_basis(10.0, 20.0), unit_vectors(10.0, 21.0), pixel_arcmin=1.0)
    >>> abs(round(float(x), 3)), round(float(y), 3), bool(front)
    (0.0, 60.006, True)
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
    >>> from szeek.sky.healpix import unit_vectors
    >>> flat = np.full((12 * 4**2, 2), 3.0, np.float32)
    >>> interpolate(flat, unit_vectors(10.0, 89.9)).tolist()
    [3.0, 3.0]
    """
    nside = _nside(values)
    flat = np.ascontiguousarray(vectors, np.float64).reshape(-1, 3)
    out = np.empty((len(flat), values.shape[1]), np.float32)
    _interpolate(nside, ring_table(nside), values, EVERYWHERE if footprint is None else footprint, flat, out)
    return out.reshape(*np.shape(vectors)[:-1], values.shape[1])


def sample_field(
    maps: SkyMaps | MapSet | PartialMap | NDArray[np.float32],
    lon_deg: float,
    lat_deg: float,
    angle_deg: float = 0.0,
    ny: int = 64,
    nx: int = 64,
    pixel_arcmin: float = PIXEL_ARCMIN,
) -> NDArray[np.float32]:
    """Cut a field out of maps: (ny, nx, n_band) float32, NaN outside the footprint.

    HEALPix maps are interpolated between four pixels, images by splines of fifth degree.

    Parameters
    ----------
    maps : SkyMaps, MapSet, PartialMap, or (n_pix, n_band) float32 array
        A bare array is RING, Galactic, and counts as seen everywhere. Of a set a band is NaN where that one was not
        observed.
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
    if isinstance(maps, MapSet | PartialMap):
        directions = field_directions(lon_deg, lat_deg, angle_deg, ny, nx, pixel_arcmin)
        if isinstance(maps, PartialMap):
            return maps.interpolate(directions)
        return np.concatenate(
            [
                group.sample(directions)
                if isinstance(group, ImageMaps)
                else sample_field(group, lon_deg, lat_deg, angle_deg, ny, nx, pixel_arcmin)
                for group in maps.groups
            ],
            axis=-1,
        )
    values = maps.values if isinstance(maps, SkyMaps) else maps
    footprint = maps.footprint if isinstance(maps, SkyMaps) and not maps.is_full_sky else EVERYWHERE
    nside = _nside(values)
    out = np.empty((ny, nx, values.shape[1]), np.float32)
    basis = field_basis(lon_deg, lat_deg, angle_deg)
    _sample_field(nside, ring_table(nside), values, footprint, basis, math.radians(pixel_arcmin / 60), out)
    return out


#: Cells of a set of maps that are sampled together: 1.8 deg.
_TOGETHER_NSIDE = 32


def to_healpix(maps: MapSet, nside: int = 4096) -> SkyMaps:
    """One HEALPix map of all bands of a set, where all were observed: for what works on HEALPix maps alone.

    Images are sampled by splines, HEALPix maps of another nside bilinearly; pixels of nside 4096 are 0.9 arcmin. What
    was not observed takes no memory.
    """
    values = np.zeros((12 * nside**2, maps.n_band), np.float32)
    footprint = np.zeros(len(values), bool)
    covered = healpy.reorder(maps.coverage.all(axis=1).astype(np.uint8), r2n=True)
    covered = covered.reshape(12 * _TOGETHER_NSIDE**2, -1)
    n_child = (nside // _TOGETHER_NSIDE) ** 2
    for cell in np.flatnonzero(covered.any(axis=1)):
        ipix = healpy.nest2ring(nside, cell * n_child + np.arange(n_child))
        vectors = np.stack(healpy.pix2vec(nside, ipix), axis=1)
        parts = []
        for group in maps.groups:
            if isinstance(group, SkyMaps):
                parts.append(interpolate(group.values, vectors, group.footprint))
            else:
                parts.append(group.sample(vectors))
        here = np.concatenate(parts, axis=1)
        seen = np.isfinite(here).all(axis=1)
        values[ipix[seen]], footprint[ipix[seen]] = here[seen], True
    return SkyMaps(values, footprint, maps.bands)


def _nside(values: NDArray[np.float32]) -> int:
    if values.ndim != 2:
        raise ValueError(f"values has shape {values.shape}, expected (n_pix, n_band)")
    return nside_of(values)
