"""Sky tiles, HEALPix pixels of nside 2 or finer, that separate training, validation and test sky."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import healpy
import numpy as np
from numpy.typing import NDArray

TILE_NSIDE = 2
#: The paper's test tile, centre (l, b) = (112.5, +41.81) deg. Bonjean (2020), Sect. 2.
TEST_TILE = 6
#: The paper's validation tiles, 'pixels 10, 39, 42' counted from one.
VALIDATION_TILES = (9, 38, 41)


@dataclass(frozen=True)
class Tiles:
    """Some tiles of one size.

    Parameters
    ----------
    numbers : tuple of int
        RING pixels.
    nside : int
        2 for the paper's 48; finer for a survey of a part of the sky.

    Examples
    --------
    >>> Tiles((6,)).contain(np.array([112.5, 0.0]), np.array([41.81, 0.0])).tolist()
    [True, False]
    """

    numbers: tuple[int, ...]
    nside: int = TILE_NSIDE

    @classmethod
    def given(cls, tiles: Iterable[int] | Tiles) -> Tiles:
        """Tiles as they are, or of the paper's size by their numbers."""
        return tiles if isinstance(tiles, Tiles) else cls(tuple(int(tile) for tile in tiles))

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def contain(
        self, lon_deg: NDArray[np.float64] | float, lat_deg: NDArray[np.float64] | float
    ) -> NDArray[np.bool_]:
        """Whether Galactic positions are in them."""
        return np.isin(tile_of(lon_deg, lat_deg, self.nside), self.numbers)


def tile_of(
    lon_deg: NDArray[np.float64] | float, lat_deg: NDArray[np.float64] | float, nside: int = TILE_NSIDE
) -> NDArray[np.int64]:
    """Tile number (RING; 0 to 47 of the paper's) of Galactic positions in degrees.

    Source: Bonjean (2020), Sect. 2: HEALPix pixels of nside 2.

    Examples
    --------
    >>> int(tile_of(112.5, 41.81))
    6
    """
    return np.asarray(healpy.ang2pix(nside, lon_deg, lat_deg, lonlat=True))


def pixels_in_tiles(nside: int, tiles: Iterable[int] | Tiles) -> NDArray[np.bool_]:
    """Boolean RING map, shape (12 nside^2,): True inside any of the tiles.

    Examples
    --------
    >>> int(pixels_in_tiles(64, [6]).sum()), 12 * 64**2 // 48
    (1024, 1024)
    """
    chosen = Tiles.given(tiles)
    wanted = np.zeros(12 * chosen.nside**2, bool)
    wanted[list(chosen)] = True
    order = healpy.nest2ring(chosen.nside, np.arange(wanted.size))
    inside = np.repeat(wanted[order], (nside // chosen.nside) ** 2)
    return np.asarray(healpy.reorder(inside.astype(np.uint8), n2r=True), bool)


def pixels_near_tiles(nside: int, tiles: Iterable[int] | Tiles, radius_deg: float) -> NDArray[np.bool_]:
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
