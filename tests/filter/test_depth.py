"""White noise from inverse variances."""

from __future__ import annotations

import healpy
import numpy as np

from szeek.filter.depth import white_power
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import Band, SkyMaps


def test_depth_of_healpix_maps() -> None:
    """The power of white noise is the pixel's area over the inverse variance: 4 times as deep to the east."""
    nside, at = 512, (120.0, 20.0)
    lon_deg, _ = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    ivar = np.where(lon_deg > at[0], 4e10, 1e10).astype(np.float32)
    footprint = np.zeros(len(ivar), bool)
    footprint[healpy.query_disc(nside, healpy.ang2vec(*at, lonlat=True), np.radians(8))] = True
    bands = (Band("143", 143.0, 7.3, "K_CMB"), Band("217", 217.0, 5.0, "K_CMB"))
    maps = MapSet.of(SkyMaps(np.zeros((len(ivar), 2), np.float32), footprint, bands, ivar=(ivar, None)))
    power = white_power(maps, *at, 80, 6.0)
    assert power is not None and np.isnan(power[1]).all()
    expected = healpy.nside2pixarea(nside) / np.array([1e10, 4e10])
    np.testing.assert_allclose(power[0, :, [4, 75]], np.repeat(expected[:, None], 80, axis=1), rtol=1e-6)
