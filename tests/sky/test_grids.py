"""Grids of images against wcslib, and sampling against skies that are known in every direction."""

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from szeek.sky.grids import PROJECTIONS, ImageGrid, interpolation_window
from szeek.sky.healpix import interpolation_sigma_rad
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.projection import field_directions, sample_field
from szeek.sky.skymaps import Band, SkyMaps

BAND = (Band("f150", 150.0, 1.4, "K_CMB"),)
TO_ICRS = np.asarray(healpy.Rotator(coord=["G", "C"]).mat)
AXES = {"icrs": ("RA---", "DEC--"), "galactic": ("GLON-", "GLAT-"), "ecliptic": ("ELON-", "ELAT-")}


def make_wcs(projection, crval=(0.0, 0.0), pixel_arcmin=0.5, signs=(-1, 1), frame="icrs", crpix=(200.0, 150.0)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [axis + projection for axis in AXES[frame]]
    wcs.wcs.crval, wcs.wcs.crpix = crval, crpix
    wcs.wcs.cdelt = [sign * pixel_arcmin / 60 for sign in signs]
    return wcs


def galactic(wcs, row, column, frame="icrs"):
    """Galactic directions of pixels by wcslib and healpy."""
    vectors = healpy.ang2vec(*wcs.wcs_pix2world(column, row, 0), lonlat=True)
    letter = {"icrs": "C", "galactic": "G", "ecliptic": "E"}[frame]
    return vectors if letter == "G" else vectors @ np.asarray(healpy.Rotator(coord=["G", letter]).mat)


@pytest.mark.parametrize("frame", AXES)
@pytest.mark.parametrize("signs", [(-1, 1), (1, 1), (-1, -1)])
@pytest.mark.parametrize(
    ("projection", "crval"),
    [("CAR", (10, 0)), ("CAR", (190, 30)), ("CEA", (0, 0)), ("TAN", (350, -50)), ("TAN", (0, 90)), ("ZEA", (0, -57)),
     ("ZEA", (20, -90)), ("SFL", (0, -57.5)), ("SFL", (0, 0))],
)  # fmt: skip
def test_pixels_and_directions_are_wcslib_s(projection, crval, signs, frame):
    wcs = make_wcs(projection, crval, 3.0, signs, frame)
    if projection == "CEA":
        wcs.wcs.set_pv([(2, 1, 0.8)])
    grid = ImageGrid.from_header(wcs.to_header(), (300, 400))
    rng = np.random.default_rng(1)
    row, column = rng.uniform(0, 299, 500), rng.uniform(0, 399, 500)
    expected = galactic(wcs, row, column, frame)
    np.testing.assert_allclose(grid.directions(row, column), expected, atol=1e-12)
    np.testing.assert_allclose(grid.pixels(expected), [row, column], atol=1e-8)
    assert grid.pixel_arcmin == pytest.approx(3.0)
    assert ImageGrid.from_dict(grid.to_dict()) == grid


def test_a_rotated_cd_matrix_is_honoured():
    wcs = make_wcs("TAN", (30, 20))
    c, s = np.cos(0.3), np.sin(0.3)
    wcs.wcs.cd = 0.01 * np.array([[-c, s], [s, c]])
    grid = ImageGrid.from_header(wcs.to_header(), (300, 400))
    row, column = np.mgrid[0:300:50, 0:400:50].astype(float)
    vectors = galactic(wcs, row.ravel(), column.ravel())
    np.testing.assert_allclose(grid.pixels(vectors), [row.ravel(), column.ravel()], atol=1e-8)


@given(st.floats(0, 360), st.floats(-89, 89), st.sampled_from(PROJECTIONS))
def test_there_and_back(lon, lat, projection):
    grid = ImageGrid.from_header(make_wcs(projection, (lon, 0 if projection in ("CAR", "CEA") else lat)), (300, 400))
    row, column = np.array([0.0, 10.25, 299.0]), np.array([399.0, 7.5, 0.0])
    np.testing.assert_allclose(grid.pixels(grid.directions(row, column)), [row, column], atol=1e-6)


def test_what_is_no_grid_is_refused():
    with pytest.raises(ValueError, match="projection is SIN, expected one of CAR"):
        ImageGrid.from_header(make_wcs("SIN"), (10, 10))
    header = make_wcs("CAR").to_header()
    header["CTYPE1"], header["CTYPE2"] = "LINEAR", "LINEAR"
    with pytest.raises(ValueError, match="expected longitude"):
        ImageGrid.from_header(header, (10, 10))


def test_directions_that_a_projection_has_not():
    behind = -ImageGrid.from_header(make_wcs("TAN"), (10, 10)).directions(149.0, 199.0)
    assert np.isnan(ImageGrid.from_header(make_wcs("TAN"), (10, 10)).pixels(behind)).all()
    assert np.isnan(ImageGrid.from_header(make_wcs("CAR"), (10, 10)).directions(149.0 + 91 * 120, 199.0)).all()


# --- sampling: Gaussian sources of a beam, known in every direction -------------------------------------------


def sources_at(vectors, at, fwhm_arcmin):
    """Gaussian sources of height 1 in the distance along the chord, which at these sizes is that on the sphere."""
    sigma = np.radians(fwhm_arcmin / 60) / np.sqrt(8 * np.log(2))
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    distance2 = ((unit[..., None, :] - at) ** 2).sum(axis=-1)
    return np.exp(-0.5 * distance2 / sigma**2).sum(axis=-1)


def lonlat(vector):
    return float(np.degrees(np.arctan2(vector[1], vector[0]))), float(np.degrees(np.arcsin(vector[2])))


def image_of(grid, at, fwhm_arcmin):
    row, column = np.mgrid[: grid.shape[0], : grid.shape[1]].astype(float)
    picture = sources_at(grid.directions(row, column), at, fwhm_arcmin)
    return np.where(np.isfinite(picture), picture + 1e-9, np.nan)  # exactly 0 is not observed


def fit_source(field, pixel_arcmin, fwhm_arcmin):
    """Amplitude and offset, arcmin, of a source near the middle of a field: least squares on value and gradients."""
    n = len(field)
    y, x = (np.indices((n, n)) - 0.5 * (n - 1)) * pixel_arcmin
    sigma2 = fwhm_arcmin**2 / (8 * np.log(2))
    model = np.exp(-0.5 * (x**2 + y**2) / sigma2)
    design = np.stack([model, model * x / sigma2, model * y / sigma2]).reshape(3, -1)
    amplitude, dx, dy = np.linalg.lstsq(design.T, field.ravel(), rcond=None)[0]
    return amplitude, float(np.hypot(dx, dy)) / amplitude


@pytest.mark.parametrize(
    ("projection", "crval", "signs", "pixel_arcmin", "fwhm_arcmin"),
    [("CAR", (0, 0), (-1, 1), 0.5, 1.4), ("CAR", (180, 0), (1, 1), 0.5, 2.0), ("CEA", (0, 0), (-1, 1), 0.5, 1.4),
     ("TAN", (0, 88), (-1, 1), 1.7177, 5.0), ("ZEA", (0, -57), (1, 1), 0.25, 1.2),
     ("SFL", (0, -57.5), (-1, -1), 0.25, 1.2)],
)  # fmt: skip
def test_sources_keep_place_and_amplitude(projection, crval, signs, pixel_arcmin, fwhm_arcmin):
    grid = ImageGrid.from_header(make_wcs(projection, crval, pixel_arcmin, signs), (300, 400))
    rng = np.random.default_rng(2)
    at = grid.directions(rng.uniform(60, 240, 6), rng.uniform(60, 340, 6))
    maps = ImageMaps(grid, BAND, (Pixels(image_of(grid, at, fwhm_arcmin).astype(">f4")),), (None,))
    for place in at:
        n = 2 * int(2 * fwhm_arcmin / pixel_arcmin)
        field = maps.sample(field_directions(*lonlat(place), 25.0, n, n, pixel_arcmin))[..., 0]
        alone = sources_at(field_directions(*lonlat(place), 25.0, n, n, pixel_arcmin), at, fwhm_arcmin)
        amplitude, offset_arcmin = fit_source(field, pixel_arcmin, fwhm_arcmin)
        expected, _ = fit_source(alone, pixel_arcmin, fwhm_arcmin)
        assert amplitude == pytest.approx(expected, rel=1e-3)
        assert offset_arcmin < 0.05


@pytest.mark.parametrize(("projection", "crval"), [("CAR", (0, 0)), ("SFL", (0, -57.5))])
def test_amplitudes_over_a_field_lose_what_the_window_takes(projection, crval):
    """A beam of 2.8 pixels: the integral of (1 - W) B^2 over that of B^2, 1.4e-4, and to 1.5e-4 for each source.

    At single points, as at the centre, the error depends on where in a pixel they are: 2.3e-3 in the mean, the
    integral of (1 - W) B over that of B, and twice that at most.
    """
    pixel_arcmin, fwhm_arcmin = 0.5, 1.4
    grid = ImageGrid.from_header(make_wcs(projection, crval, pixel_arcmin), (300, 400))
    rng = np.random.default_rng(2)
    row, column = (at.ravel() for at in np.meshgrid(np.linspace(40, 260, 4), np.linspace(40, 360, 5)))
    at = grid.directions(row + rng.uniform(-5, 5, row.size), column + rng.uniform(-5, 5, row.size))
    maps = ImageMaps(grid, BAND, (Pixels(image_of(grid, at, fwhm_arcmin)),), (None,))
    ell = 20.0 * np.arange(2500)
    beam = np.exp(-0.5 * (ell * np.radians(fwhm_arcmin / 60)) ** 2 / (8 * np.log(2)))
    lost = 1.0 - interpolation_window(float(np.radians(pixel_arcmin / 60)), ell.size, 20.0)
    in_field, at_centre = (np.sum(lost * beam**k * ell) / np.sum(beam**k * ell) for k in (2, 1))
    assert (in_field, at_centre) == (pytest.approx(1.4e-4, rel=0.1), pytest.approx(2.3e-3, rel=0.1))
    deviation = []
    for place in at:
        field = field_directions(*lonlat(place), 25.0, 10, 10, pixel_arcmin)
        amplitude, _ = fit_source(maps.sample(field)[..., 0].astype(float), pixel_arcmin, fwhm_arcmin)
        deviation.append(amplitude / fit_source(sources_at(field, at, fwhm_arcmin), pixel_arcmin, fwhm_arcmin)[0] - 1)
    assert np.mean(deviation) == pytest.approx(-in_field, abs=5e-5)
    assert np.abs(np.array(deviation) + in_field).max() < 1.5e-4
    centres = maps.sample(at)[:, 0] - 1.0
    assert centres.mean() == pytest.approx(-at_centre, rel=0.3) and -2.5 * at_centre < centres.min()


@pytest.mark.parametrize(("nside", "fwhm_arcmin"), [(2048, 5.0), (8192, 1.4)])
def test_amplitudes_on_healpix_lose_what_bilinear_interpolation_smooths(nside, fwhm_arcmin):
    """In the mean of 20 sources to 3e-3, and 1.5e-2 for each: the smoothing depends on the place in a pixel."""
    rng, sigma_arcmin = np.random.default_rng(2), fwhm_arcmin / np.sqrt(8 * np.log(2))
    lon_deg = 40.0 + np.arange(20) * fwhm_arcmin / 4
    lat_deg = 35.0 + rng.uniform(-0.5, 0.5, 20)
    values, seen = np.zeros((12 * nside**2, 1), np.float32), np.zeros(12 * nside**2, bool)
    at = healpy.ang2vec(lon_deg, lat_deg, lonlat=True)
    for vector in at:
        near = healpy.query_disc(nside, vector, np.radians(4 * fwhm_arcmin / 60))
        values[near, 0] = sources_at(np.stack(healpy.pix2vec(nside, near), axis=1), vector[None], fwhm_arcmin)
        seen[near] = True
    maps = SkyMaps(values, seen, BAND)
    smoothed2 = sigma_arcmin**2 + np.degrees(interpolation_sigma_rad(nside, 35.0)) ** 2 * 3600
    pixel_arcmin = fwhm_arcmin / 2.8
    deviation = []
    for place in at:
        field = sample_field(maps, *lonlat(place), 25.0, 10, 10, pixel_arcmin)[..., 0].astype(float)
        amplitude, offset_arcmin = fit_source(field, pixel_arcmin, float(np.sqrt(smoothed2 * 8 * np.log(2))))
        assert offset_arcmin < 0.05
        deviation.append(amplitude * smoothed2 / sigma_arcmin**2 - 1)
    assert abs(np.mean(deviation)) < 3e-3 and np.abs(deviation).max() < 1.5e-2


def test_the_window_of_sampling_is_measured_on_waves():
    """Of a wave of half the Nyquist frequency sampling keeps, on average, what interpolation_window says."""
    n, wave = 256, 0.25  # cycles per pixel
    grid = ImageGrid.from_header(make_wcs("TAN", (0, 0), 1.0, crpix=(128, 128)), (n, n))
    picture = np.cos(2 * np.pi * wave * np.arange(n))[None, :] * np.ones((n, 1)) + 1e-9
    maps = ImageMaps(grid, BAND, (Pixels(picture),), (None,))
    column = 100 + 0.01 * np.arange(4800)  # twelve waves
    row = np.full_like(column, 120.3)
    got = maps.sample(grid.directions(row, column))[:, 0]
    kept = 2 * float(np.mean(got * np.cos(2 * np.pi * wave * column)))
    ell = 2 * np.pi * wave / np.radians(1 / 60)
    # along one axis: the two-dimensional window at a wave along it is the first factor at angle 0
    expected = np.sinc(wave) ** 6 / sum(np.sinc(wave - m) ** 6 for m in range(-4, 5))
    assert kept == pytest.approx(expected, abs=1e-3)
    assert expected <= interpolation_window(float(np.radians(1 / 60)), 2, ell)[1] <= 1.0


@pytest.mark.parametrize("crpix_y", [90.0, 90.5])  # the pole amid pixels, or on one
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_whole_circle_wraps_at_180_and_goes_on_over_the_poles(sign, crpix_y):
    """A smooth sky, z + x y, on a whole plate carree of a degree, at the pole and across its first column."""
    wcs = make_wcs("CAR", (0, 0), 60.0, (sign, 1), "galactic", (180.5, crpix_y + 0.5))
    grid = ImageGrid.from_header(wcs, (180 if crpix_y == 90.0 else 181, 360))
    row, column = np.mgrid[: grid.shape[0], :360].astype(float)
    v = grid.directions(row, column)
    sky = 2.0 + v[..., 2] + v[..., 0] * v[..., 1]
    maps = ImageMaps(grid, BAND, (Pixels(sky),), (None,))
    assert grid.is_full_circle
    for lon, lat in ((180.0, 0.0), (179.9, 40.0), (12.0, 90.0), (200.0, 89.2), (77.0, -89.7)):
        directions = field_directions(lon, lat, 10.0, 9, 9, 20.0)
        unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        expected = 2.0 + unit[..., 2] + unit[..., 0] * unit[..., 1]
        np.testing.assert_allclose(maps.sample(directions)[..., 0], expected, atol=2e-5)


def test_what_was_not_observed_is_nan_in_its_band_alone():
    grid = ImageGrid.from_header(make_wcs("CAR"), (300, 400))
    first, second = np.ones((300, 400), np.float32), np.full((300, 400), 2.0, np.float32)
    second[100:120, 200:240] = 0.0
    bands = (BAND[0], Band("f090", 97.0, 2.1, "K_CMB"))
    weights = np.full((300, 400), 4.0, np.float32)
    weights[:, :50] = 0.0
    maps = ImageMaps(grid, bands, (Pixels(first, 3.0), Pixels(second)), (Pixels(weights, 0.5), None))
    row, column = np.array([50.0, 110.0, 96.0, 95.0, 1.0]), np.array([100.0, 220.0, 220.0, 220.0, 100.0])
    got = maps.sample(grid.directions(row, column))
    np.testing.assert_allclose(got[:, 0], [3, 3, 3, 3, np.nan], rtol=1e-6)  # the last is on the rim
    np.testing.assert_allclose(got[:, 1], [2, np.nan, 2, 2, np.nan], rtol=1e-6)
    near = maps.nearest(grid.directions(np.array([50.2, 110.0, 50.0]), np.array([100.0, 220.0, 20.0])))
    np.testing.assert_array_equal(near, [[3, 2], [3, np.nan], [np.nan, 2]])
    np.testing.assert_allclose(maps.sample_ivar(grid.directions(row[:2], column[:2])), [[2, np.nan]] * 2)
    assert np.isnan(maps.sample(field_directions(90.0, 80.0, 0.0, 4, 4, 0.5))).all()


def test_maps_of_another_shape_are_refused():
    grid = ImageGrid.from_header(make_wcs("CAR"), (300, 400))
    with pytest.raises(ValueError, match=r"inverse variance of band f150 has \(2, 2\) pixels, expected \(300, 400\)"):
        ImageMaps(grid, BAND, (Pixels(np.ones((300, 400))),), (Pixels(np.ones((2, 2))),))


def test_a_header_of_degrees_and_one_of_arcminutes_are_one():
    cards = {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRPIX1": 11, "CRPIX2": 11}
    degrees = fits.Header({**cards, "CDELT1": -0.5, "CDELT2": 0.5, "CUNIT1": "deg", "CUNIT2": "deg"})
    minutes = fits.Header({**cards, "CDELT1": -30.0, "CDELT2": 30.0, "CUNIT1": "arcmin", "CUNIT2": "arcmin"})
    assert ImageGrid.from_header(degrees, (5, 5)).pixel_arcmin == pytest.approx(30.0)
    assert ImageGrid.from_header(minutes, (5, 5)).pixel_arcmin == pytest.approx(30.0)
