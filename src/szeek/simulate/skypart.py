"""Which pixels of a full sky are simulated: all of them, or a field and the rings of pixels that cross it.

A field is cheap, for harmonics are summed on its rings alone, and it is a part of the very sky of the same seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from szeek.config import FieldConfig
from szeek.simulate.field.lattice import Lattice

_GALACTIC_TO_ICRS = healpy.Rotator(coord=["G", "C"])


@dataclass(frozen=True)
class SkyPart:
    """Pixels that are simulated.

    Parameters
    ----------
    nside : int
    field : Lattice, optional
        Field that is kept, with its margin; without it all pixels are.
    """

    nside: int
    field: Lattice | None = None

    @classmethod
    def of(cls, field: FieldConfig | None, nside: int) -> SkyPart:
        """The whole sky, or what a field needs.

        Examples
        --------
        >>> part = SkyPart.of(FieldConfig(lon_deg=90.0, lat_deg=60.0, width_deg=4.0, height_deg=4.0), 64)
        >>> part.rings, part.kept.size
        (slice(37, 43, None), 19)
        """
        if field is None:
            return cls(nside)
        ra_deg, dec_deg = field.centre_deg
        return cls(nside, Lattice.around(ra_deg, dec_deg, field.width_deg, field.height_deg))

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Pixels whose centres are in the field, RING, rising; of a whole sky all."""
        if self.field is None:
            return np.arange(12 * self.nside**2)
        inner = self.field.without_margin()
        edges = np.array([(ra, dec) for ra in inner.ra_deg[[0, -1]] for dec in inner.dec_deg[[0, -1]]])
        middle = inner.ra_deg[inner.shape[1] // 2], inner.dec_deg[inner.shape[0] // 2]
        centre = SkyCoord(*middle, unit="deg")
        radius = centre.separation(SkyCoord(edges, unit="deg")).max().rad + healpy.max_pixrad(self.nside)
        towards = healpy.ang2vec(centre.galactic.l.deg, centre.galactic.b.deg, lonlat=True)
        ipix = np.sort(healpy.query_disc(self.nside, towards, radius, inclusive=True))
        lon_deg, lat_deg = healpy.pix2ang(self.nside, ipix, lonlat=True)
        ra_deg, dec_deg = _GALACTIC_TO_ICRS(lon_deg, lat_deg, lonlat=True)
        return np.asarray(ipix[inner.contains(ra_deg, dec_deg)])

    @cached_property
    def rings(self) -> slice:
        """Rings that hold them, from 0 to 4 nside - 2."""
        if self.field is None:
            return slice(0, 4 * self.nside - 1)
        first, last = healpy.pix2ring(self.nside, self.kept[[0, -1]])
        return slice(int(first) - 1, int(last))

    @cached_property
    def pixels(self) -> slice:
        """Pixels of these rings, RING."""
        start, count = healpy.ringinfo(self.nside, np.array([self.rings.start + 1, self.rings.stop]))[:2]
        return slice(int(start[0]), int(start[1] + count[1]))

    def reaches(self, lon_deg: NDArray[np.floating], lat_deg: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which positions are near enough to be seen in the field, half a degree about it included."""
        if self.field is None:
            return np.ones(len(lon_deg), bool)
        ra_deg, dec_deg = _GALACTIC_TO_ICRS(np.asarray(lon_deg), np.asarray(lat_deg), lonlat=True)
        return self.field.contains(ra_deg, dec_deg)

    def holds(self, table: Table) -> NDArray[np.bool_]:
        """Which rows are in the field, by ``ra_deg`` and ``dec_deg``; in a whole sky all are."""
        if self.field is None:
            return np.ones(len(table), bool)
        inner = self.field.without_margin()
        return inner.contains(np.asarray(table["ra_deg"]), np.asarray(table["dec_deg"]))
