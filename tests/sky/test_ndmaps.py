"""HEALPix maps put on the grid of an image, and pixell's maps there and back."""

import healpy
import numpy as np
import pytest
from astropy.wcs import WCS

from szeek.sky.grids import ImageGrid
from szeek.sky.ndmaps import sample_on_image, to_ndmap
from szeek.sky.partial import PartialMap

NSIDE = 256


def make_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---CAR", "DEC--CAR"], [10.0, 0.0]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-0.1, 0.1], [40.5, 30.5]
    return wcs


def test_a_map_on_an_image_is_the_same_sky():
    """x + 2 z, with a hole: bilinear interpolation of 14 arcmin is right to l (l + 1) h^2 / 8 = 4e-6 for l = 1."""
    v = np.stack(healpy.pix2vec(NSIDE, np.arange(12 * NSIDE**2)), axis=1)
    values = (v[:, 0] + 2 * v[:, 2]).astype(np.float32)
    grid = ImageGrid.from_header(make_wcs(), (60, 80))
    row, column = np.mgrid[:60, :80].astype(float)
    directions = grid.directions(row, column)
    expected = directions[..., 0] + 2 * directions[..., 2]
    np.testing.assert_allclose(sample_on_image(values, grid), expected, atol=2e-5)
    near = healpy.query_disc(NSIDE, directions[30, 40], np.radians(8))
    part = PartialMap.from_pixels(NSIDE, near, np.stack([values[near], 2 * values[near]], axis=1))
    both = sample_on_image(part, grid)
    assert both.shape == (2, 60, 80)
    np.testing.assert_allclose(both[1], 2 * expected, atol=4e-5)
    values[healpy.query_disc(NSIDE, directions[10, 20], np.radians(0.5))] = np.nan
    holed = sample_on_image(values, grid)
    assert np.isnan(holed[10, 20]) and np.isfinite(holed[40, 60])


def test_pixell_s_maps_there_and_back():
    """What goes out as an ndmap and is read again is the same sky: positions and values by pixell's own pixels."""
    enmap = pytest.importorskip("pixell.enmap")
    v = np.stack(healpy.pix2vec(NSIDE, np.arange(12 * NSIDE**2)), axis=1)
    shape, wcs = enmap.geometry(np.radians([[-3, 14], [3, 6]]), res=np.radians(0.1), proj="car")
    made = to_ndmap((v[:, 0] + 2 * v[:, 2]).astype(np.float32), shape, wcs)
    dec, ra = made.posmap()
    galactic = healpy.Rotator(coord=["C", "G"])(np.pi / 2 - np.ravel(dec), np.ravel(ra))
    x, _, z = healpy.ang2vec(*galactic).T
    np.testing.assert_allclose(np.ravel(made), x + 2 * z, atol=2e-5)
