"""The 48 sky tiles (HEALPix nside 2) that separate training, validation and test sky."""

from __future__ import annotations

from collections.abc import Iterable

import healpy
import numpy as np
from numpy.typing import NDArray

TILE_NSIDE = 2
#: The paper's test tile, centre (l, b) = (112.5, +41.81) deg. Bonjean (2020), Sect. 2.
TEST_TILE = 6
#: The paper's validation tiles, 'pixels 10, 39, 42' counted from one.
VALIDATION_TILES = (9, 38, 41)


def tile_of(lon_deg: NDArray[np.float64] | float, lat_deg: NDArray[np.float64] | float) -> NDArray[np.int64]:
    """Tile number (0 to 47, RING) of Galactic positions in degrees.

    Source: Bonjean (2020), Sect. 2: HEALPix pixels of nside 2.

    Examples
    --------
    >>> int(tile_of(112.5, 41.81))
    6
    """
    return np.asarray(healpy.ang2pix(TILE_NSIDE, lon_deg, lat_deg, lonlat=True))


def pixels_in_tiles(nside: int, tiles: Iterable[int]) -> NDArray[np.bool_]:
    """Boolean RING map, shape (12 nside^2,): True inside any of the tiles."""
    wanted = np.zeros(12 * TILE_NSIDE**2, bool)
    wanted[list(tiles)] = True
    inside = np.repeat(wanted[healpy.nest2ring(TILE_NSIDE, np.arange(48))], (nside // TILE_NSIDE) ** 2)
    return np.asarray(healpy.reorder(inside.astype(np.uint8), n2r=True), bool)


def pixels_near_tiles(nside: int, tiles: Iterable[int], radius_deg: float) -> NDArray[np.bool_]:
    """Boolean RING map: True where a disc of ``radius_deg`` about the pixel's *any* point could touch a tile.

    Conservative by one pixel diagonal, so that a patch with its centre in a False pixel has no point
    within the tiles. Shape (12 nside^2,).
    """
    inside = pixels_in_tiles(nside, tiles)
    near = inside.copy()
    ipix = np.flatnonzero(inside)
    neighbours = healpy.get_all_neighbours(nside, ipix)
    edge = ipix[((neighbours >= 0) & ~inside[neighbours]).any(axis=0)]
    reach = np.radians(radius_deg) + 2 * healpy.max_pixrad(nside)
    for vector in np.stack(healpy.pix2vec(nside, edge), axis=1):
        near[healpy.query_disc(nside, vector, reach)] = True
    return near
