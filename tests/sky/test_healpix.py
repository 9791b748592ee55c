"""The grid's arithmetic against healpy's."""

import healpy
import numpy as np
import pytest

from szeek.sky.healpix import lonlat_deg, nside_of, ring_above, ring_start, unit_vectors


@pytest.mark.parametrize("nside", [1, 2, 3, 64])
def test_rings_are_those_of_healpy(nside):
    """Every pixel lies on one ring; z of a ring and longitude of its first pixel are the pixel centre's."""
    found = [ring_start(nside, ring) for ring in range(1, 4 * nside)]
    first, count, z, lon = (np.array(column) for column in zip(*found, strict=True))
    np.testing.assert_array_equal(first, np.concatenate([[0], np.cumsum(count)[:-1]]))
    assert count.sum() == 12 * nside**2
    theta, phi = healpy.pix2ang(nside, first)
    np.testing.assert_allclose(z, np.cos(theta), atol=1e-14)
    np.testing.assert_allclose(lon, phi, atol=1e-14)
    between = (z[1:] + z[:-1]) / 2
    assert [ring_above(nside, value) for value in between] == list(range(1, 4 * nside - 1))
    assert ring_above(nside, 1.0) == 0 and ring_above(nside, -1.0) == 4 * nside - 1


def test_longitudes_lie_in_the_circle():
    lon, lat = np.array([0.0, 123.4, 359.9, 10.0]), np.array([0.0, -45.0, 89.0, -90.0])
    back = lonlat_deg(3.0 * unit_vectors(lon, lat))
    np.testing.assert_allclose(back[0][:3], lon[:3], atol=1e-12)
    np.testing.assert_allclose(back[1], lat, atol=1e-12)
    assert lonlat_deg(np.array([1.0, -1e-20, 0.0]))[0] == 0.0  # not 360


def test_a_length_that_is_no_map_is_refused():
    assert nside_of(np.zeros(48)) == 2
    for length in (0, 11, 49):
        with pytest.raises(ValueError, match=f"has {length} pixels"):
            nside_of(np.zeros(length))
