"""How the sky is divided into flat fields: one for each coarse HEALPix pixel in which anything was observed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy import fft

from szeek.sky.healpix import lonlat_deg
from szeek.sky.mapset import COVERAGE_NSIDE, MapSet
from szeek.sky.projection import field_basis
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import TILE_NSIDE

Floats = NDArray[np.float64]

#: One field for each HEALPix pixel of this nside where maps have pixels of 0.9 arcmin or more; a position belongs to
#: the field whose pixel it is in.
FIELD_NSIDE = 8
FIELD_DEG = 14.66
#: Finer pixels have smaller fields, for a side shall not be longer than this; what surrounds them then is a pixel's
#: largest extent, 102 deg / nside, and on every side a margin for the taper and the filter.
_MOST_PIXELS = 1024
_EXTENT_DEG, _MARGIN_DEG = 102.0, 0.5


def pixel_arcmin(maps: SkyMaps | MapSet) -> float:
    """Pixel of the fields: the finest of the maps'."""
    return maps.pixel_arcmin if isinstance(maps, MapSet) else float(healpy.nside2resol(maps.nside, arcmin=True))


def field_nside(maps: SkyMaps | MapSet) -> int:
    """Nside of the HEALPix pixels that own a field each.

    Examples
    --------
    >>> field_nside(SkyMaps(np.zeros((12 * 64**2, 0), np.float32), np.ones(12 * 64**2, bool), ()))
    8
    """
    nside, pixel = FIELD_NSIDE, pixel_arcmin(maps)
    while 2 * healpy.nside2resol(nside, arcmin=True) > 1.001 * _MOST_PIXELS * pixel:
        nside *= 2
    return nside


def field_pixels(maps: SkyMaps | MapSet) -> int:
    """Pixels of a field's side."""
    nside = field_nside(maps)
    width_deg = FIELD_DEG if nside == FIELD_NSIDE else _EXTENT_DEG / nside + 2 * _MARGIN_DEG
    return 2 * int(fft.next_fast_len(math.ceil(width_deg * 30 / pixel_arcmin(maps))))


def list_fields(maps: SkyMaps | MapSet, tiles: Iterable[int] | None = None) -> Table:
    """Fields that cover what is seen: ``pixel`` (of :func:`field_nside`, RING), centre ``lon_deg``, ``lat_deg``.

    The centre is the barycentre of what is seen of the pixel, so that a small footprint lies amid its fields; of
    smaller fields it is the middle of what is seen, for they have no room to spare.

    Parameters
    ----------
    maps : SkyMaps or MapSet
    tiles : iterable of int, optional
        Those in these of the 48 tiles only.
    """
    nside = field_nside(maps)
    if isinstance(maps, MapSet):
        vectors = np.stack(healpy.pix2vec(COVERAGE_NSIDE, np.flatnonzero(maps.seen)), axis=1)
    else:
        coarse = min(COVERAGE_NSIDE, maps.nside)
        vectors = np.stack(healpy.pix2vec(coarse, np.arange(12 * coarse**2)), axis=1)
        vectors = vectors[maps.footprint[healpy.vec2pix(maps.nside, *vectors.T)]]
    pixel = healpy.vec2pix(nside, *vectors.T)
    sums: Floats = np.stack([np.bincount(pixel, v, 12 * nside**2) for v in vectors.T], axis=1).astype(float)
    wanted = np.bincount(pixel, minlength=12 * nside**2) > 0
    if tiles is not None:
        centres = healpy.pix2vec(nside, np.arange(12 * nside**2))
        wanted &= np.isin(healpy.vec2pix(TILE_NSIDE, *centres), list(tiles))
    if nside > FIELD_NSIDE:
        for number in np.flatnonzero(wanted):
            sums[number] = _middle(vectors[pixel == number], sums[number])
    lon_deg, lat_deg = lonlat_deg(sums[wanted])
    # a hair west of the meridian stays 360: the last bits of the field are those of a seed's maps
    lon_deg[(lon_deg == 0.0) & (sums[wanted][:, 1] < 0.0)] = 360.0
    return Table({"pixel": np.flatnonzero(wanted), "lon_deg": lon_deg, "lat_deg": lat_deg})


def _middle(vectors: Floats, centre: Floats) -> Floats:
    """Middle of the box about directions, on the tangent plane at a direction near them."""
    lon_deg, lat_deg = lonlat_deg(centre)
    basis = field_basis(float(lon_deg), float(lat_deg))
    depth, x, y = (vectors @ basis.T).T
    x, y = x / depth, y / depth
    return np.asarray(basis[0] + 0.5 * (x.min() + x.max()) * basis[1] + 0.5 * (y.min() + y.max()) * basis[2])


def own_pixels(maps: SkyMaps | MapSet, pixel: int) -> NDArray[np.int64]:
    """Pixels (RING, of ``maps.nside``) of the HEALPix pixel that a field owns, where anything was observed.

    Of a set they are in order, and those of whole cells of its coverage.
    """
    nside = field_nside(maps)
    nested = int(healpy.ring2nest(nside, pixel))
    if isinstance(maps, SkyMaps):
        n_child = (maps.nside // nside) ** 2
        ipix: NDArray[np.int64] = healpy.nest2ring(maps.nside, nested * n_child + np.arange(n_child))
        return ipix[maps.footprint[ipix]]
    n_cell, n_child = (COVERAGE_NSIDE // nside) ** 2, (maps.nside // COVERAGE_NSIDE) ** 2
    cells = nested * n_cell + np.arange(n_cell)
    cells = cells[maps.seen[healpy.nest2ring(COVERAGE_NSIDE, cells)]]
    children = (cells[:, None] * n_child + np.arange(n_child)).ravel()
    return np.asarray(np.sort(healpy.nest2ring(maps.nside, children)), np.int64)
