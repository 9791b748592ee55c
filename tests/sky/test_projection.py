import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy_healpix import HEALPix
from hypothesis import given, settings
from hypothesis import strategies as st

from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import field_basis, field_directions, interpolate, project, sample_field
from szeek.sky.skymaps import Band, SkyMaps

longitudes = st.floats(0, 360)
latitudes = st.floats(-90, 90)
angles = st.floats(-180, 180)


def _directions(rng, nside, n=20_000):
    """Random directions, and the places where interpolation goes wrong: poles, pixel centres, l = 0."""
    vectors = rng.normal(size=(n, 3))
    vectors[:100, :2] *= 1e-3
    vectors[100:200] = np.stack(healpy.pix2vec(nside, rng.integers(0, 12 * nside**2, 100)), axis=1)
    vectors[200:203] = [0, 0, 1], [0, 0, -1], [1, 0, 0]
    return vectors


@pytest.mark.parametrize("nside", [1, 2, 4, 64, 512])
def test_interpolation_is_healpy_s_in_every_band(nside):
    rng = np.random.default_rng(nside)
    values = rng.normal(size=(12 * nside**2, 3)).astype(np.float32)
    vectors = _directions(rng, nside)
    theta, phi = healpy.vec2ang(vectors)
    expected = [healpy.get_interp_val(values[:, b].astype(float), theta, phi) for b in range(3)]
    np.testing.assert_allclose(interpolate(values, vectors), np.stack(expected, axis=1), atol=2e-6)


def test_interpolation_agrees_with_astropy_healpix():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(12 * 32**2, 1)).astype(np.float32)
    lon, lat = rng.uniform(0, 360, 2000), rng.uniform(-89, 89, 2000)
    grid = HEALPix(32, order="ring")
    sky = SkyCoord(lon, lat, unit="deg")
    expected = grid.interpolate_bilinear_lonlat(sky.ra, sky.dec, values[:, 0].astype(float))
    np.testing.assert_allclose(interpolate(values, unit_vectors(lon, lat))[:, 0], expected, atol=1e-5)


def test_values_outside_the_footprint_have_no_weight():
    values = np.ones((12 * 8**2, 1), np.float32)
    footprint = np.ones(len(values), bool)
    hole = healpy.ang2pix(8, 40.0, 20.0, lonlat=True)
    values[hole], footprint[hole] = 1e30, False
    vectors = unit_vectors(*np.random.default_rng(1).uniform([30, 10], [50, 30], (500, 2)).T)
    seen = interpolate(values, vectors, footprint)
    assert np.isnan(seen).any()
    np.testing.assert_allclose(seen[np.isfinite(seen)], 1.0, rtol=1e-6)


@pytest.mark.parametrize(("lon", "lat"), [(0.0, 0.0), (123.0, 45.0), (359.9, -72.0)])
def test_field_is_the_tan_projection_of_fits(lon, lat):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (lon, lat), (32.5, 24.5), (0.05, 0.05)
    column, row = np.meshgrid(np.arange(64), np.arange(48))
    expected_lon, expected_lat = wcs.wcs_pix2world(column, row, 0)
    vectors = field_directions(lon, lat, 0.0, 48, 64, 3.0)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    np.testing.assert_allclose(vectors, unit_vectors(expected_lon, expected_lat), atol=1e-12)


@given(longitudes, latitudes, angles)
@settings(max_examples=50)
def test_project_undoes_field_directions(lon, lat, angle):
    x, y, front = project(field_basis(lon, lat, angle), field_directions(lon, lat, angle, 5, 7, 30.0), 30.0)
    assert front.all()
    np.testing.assert_allclose(x, np.broadcast_to(np.arange(7) - 3.0, (5, 7)), atol=1e-8)
    np.testing.assert_allclose(y, np.broadcast_to((np.arange(5) - 2.0)[:, None], (5, 7)), atol=1e-8)


@given(longitudes, latitudes, angles)
@settings(max_examples=50)
def test_basis_is_right_handed_and_orthonormal(lon, lat, angle):
    basis = field_basis(lon, lat, angle)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(basis) == pytest.approx(1.0)


def test_turning_by_ninety_degrees_turns_the_field():
    values = np.random.default_rng(2).normal(size=(12 * 64**2, 2)).astype(np.float32)
    upright, turned = (sample_field(values, 77.0, 33.0, angle, 32, 32, 20.0) for angle in (0.0, 90.0))
    # x points north and y west: turned[i, j] looks where upright[j, n - 1 - i] does
    np.testing.assert_allclose(turned, np.rot90(upright), atol=1e-5)


def test_sample_field_of_skymaps_is_nan_outside():
    footprint = np.zeros(12 * 64**2, bool)
    footprint[healpy.query_disc(64, healpy.ang2vec(10, 10, lonlat=True), np.radians(5))] = True
    maps = SkyMaps(np.ones((len(footprint), 1), np.float32), footprint, (Band("100", 100.0, 9.68, "K_CMB"),))
    assert np.isfinite(sample_field(maps, 10, 10, 0, 8, 8, 30)).all()
    assert np.isnan(sample_field(maps, 190, -10, 0, 8, 8, 30)).all()


def test_flat_map_array_is_refused():
    with pytest.raises(ValueError, match=r"shape \(192,\), expected \(n_pix, n_band\)"):
        interpolate(np.zeros(192, np.float32), unit_vectors(0.0, 0.0))
