"""Clusters and sources in images, against the painting on HEALPix and against their own fluxes."""

import healpy
import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS
from scipy.special import eval_legendre

from szeek.inputs.instrument import read_instrument
from szeek.physics.beams import FWHM_PER_SIGMA, BeamTable
from szeek.physics.gas import profile_transform
from szeek.physics.instrument import BandDetails, Instrument
from szeek.physics.tsz import band_response
from szeek.simulate.components.clusters import paint_clusters
from szeek.simulate.components.sources import Sources
from szeek.simulate.imagepainting import paint_clusters_on, paint_sources_on
from szeek.simulate.inject import draw_injections, inject_clusters
from szeek.sky.grids import ImageGrid
from szeek.sky.healpix import unit_vectors
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import Band, SkyMaps

PLANCK = read_instrument("planck-hfi")
ARCMIN = np.pi / 10800


def make_grid(projection="CAR", lat_deg=0.0, pixel_arcmin=1.0, shape=(240, 300)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-" + projection, "GLAT-" + projection]
    wcs.wcs.crval, wcs.wcs.cdelt = [30.0, 0.0], [-pixel_arcmin / 60, pixel_arcmin / 60]
    if projection != "CAR":
        wcs.wcs.crval = [30.0, lat_deg]
    away = lat_deg * 60 / pixel_arcmin if projection == "CAR" else 0.0
    wcs.wcs.crpix = [0.5 * (shape[1] + 1), 0.5 * (shape[0] + 1) - away]
    return ImageGrid.from_header(wcs, shape)


def pixel_areas(grid):
    """Solid angle of each pixel in arcmin^2, from its corners."""
    row, column = np.mgrid[: grid.shape[0] + 1, : grid.shape[1] + 1] - 0.5
    v = grid.directions(row, column)
    return np.linalg.norm(np.cross(v[1:, 1:] - v[:-1, :-1], v[1:, :-1] - v[:-1, 1:]), axis=-1) / 2 / ARCMIN**2


@pytest.mark.parametrize(("projection", "lat_deg"), [("CAR", 0.0), ("CAR", 55.0), ("ZEA", -60.0)])
def test_the_flux_of_a_cluster_is_its_own_at_any_latitude(projection, lat_deg):
    grid = make_grid(projection, lat_deg)
    clusters = Table({"lon_deg": [30.2], "lat_deg": [lat_deg + 0.1]})
    clusters["theta500_arcmin"], clusters["y500_arcmin2"] = [5.0], [1e-3]
    out = [np.zeros(grid.shape, np.float32) for _ in range(2)]
    paint_clusters_on(grid, clusters, np.array([3.0, 6.0]), np.array([-2.0, 5.0]), out)
    area = pixel_areas(grid)
    for image, response in zip(out, (-2.0, 5.0), strict=True):
        assert (image * area).sum() == pytest.approx(response * 1.79e-3, rel=5e-3)
    row, column = np.unravel_index(np.argmax(out[1]), grid.shape)
    at = healpy.vec2ang(grid.directions(float(row), float(column)), lonlat=True)
    assert np.hypot((at[0][0] - 30.2) * np.cos(np.radians(lat_deg)), at[1][0] - lat_deg - 0.1) < 1.0 / 60


def test_images_hold_what_healpix_maps_hold():
    """Elongated and clumpy injections at the same directions, without the pixel window of HEALPix."""
    nside, grid = 1024, make_grid(shape=(300, 300))
    clusters = draw_injections(3, 400, y500_range_arcmin2=(1e-3, 1e-2), shapes=True)
    near = np.hypot(clusters["lon_deg"] - 30.0, clusters["lat_deg"]) < 20
    clusters = clusters[near]
    clusters["lon_deg"], clusters["lat_deg"] = 30 + (clusters["lon_deg"] - 30) / 15, clusters["lat_deg"] / 15
    assert len(clusters) > 5
    response = np.array([1.0, 2.0])
    healpix = paint_clusters(clusters, nside, [8.0, 10.0], response, pixel_window=False)
    out = [np.zeros(grid.shape, np.float32) for _ in range(2)]
    paint_clusters_on(grid, clusters, np.array([8.0, 10.0]), response, out)
    ipix = healpy.query_disc(nside, healpy.ang2vec(30.0, 0.0, lonlat=True), np.radians(2.0))
    images = ImageMaps(grid, PLANCK.bands[:2], tuple(Pixels(image + 1) for image in out), (None, None))
    got = images.sample(np.stack(healpy.pix2vec(nside, ipix), axis=1)) - 1
    np.testing.assert_allclose(got, healpix[ipix], atol=0.005 * healpix[ipix].max())


def test_the_flux_of_a_source_is_its_own():
    grid = make_grid("CAR", 40.0, 0.5)
    sources = Sources(np.array([30.1]), np.array([40.2]), np.full((1, 6), 2.0), np.array([1.0]))
    out = [np.zeros(grid.shape, np.float32) for _ in range(6)]
    paint_sources_on(grid, sources, PLANCK, np.full(6, 2.0), out)
    area_sr = pixel_areas(grid) * ARCMIN**2
    for k, image in enumerate(out):
        mjysr = image.astype(float) * PLANCK.mjysr_per_kcmb[k] / PLANCK.unit_per_kcmb[k]
        assert (mjysr * area_sr).sum() * 1e6 == pytest.approx(2.0, rel=2e-3)


def beam_with_sidelobes(fwhm_arcmin, wide_arcmin, share=0.1, start=1.0):
    """A core, and a share of the flux in a pedestal; as tables of b_l have it."""
    ell = np.linspace(0.0, 7.5 / (fwhm_arcmin * ARCMIN), 4000)
    core, pedestal = (np.exp(-0.5 * (ell * f * ARCMIN / FWHM_PER_SIGMA) ** 2) for f in (fwhm_arcmin, wide_arcmin))
    return BeamTable(ell, start * ((1 - share) * core + share * pedestal))


def test_the_filter_finds_the_flux_of_injections_through_a_measured_beam():
    """A filter with the table's template, by FFT: Y500 comes back; not of what the nearest Gaussian made."""
    pixel_arcmin, shape, theta = 0.5, (400, 400), 2.0
    grid, beam = make_grid(pixel_arcmin=pixel_arcmin, shape=shape), beam_with_sidelobes(2.0, 15.0, start=1.02)
    assert beam.fwhm_arcmin == pytest.approx(2.0, rel=0.03)
    window = pixel_arcmin / np.sqrt(12)
    bands = (Band("a", 150.0, beam.fwhm_arcmin, "K_CMB"), Band("b", 150.0, beam.fwhm_arcmin, "K_CMB"))
    unit = np.ones(2)
    setup = Instrument("table", bands, unit, unit, unit, (BandDetails(beam=beam), BandDetails()))
    ones = tuple(Pixels(np.ones(shape, np.float32)) for _ in bands)
    maps = MapSet.of(ImageMaps(grid, bands, ones, (None, None)))
    cluster = Table({"lon_deg": [30.013], "lat_deg": [0.021], "theta500_arcmin": [theta], "y500_arcmin2": [1e-3]})
    images = [part.values - 1.0 for part in inject_clusters(maps, cluster, setup).groups[0].signal]
    frequency = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    ell = 2 * np.pi / (pixel_arcmin * ARCMIN) * np.hypot(*frequency)
    row, column = grid.pixels(unit_vectors(30.013, 0.021))
    moved = np.exp(-2j * np.pi * (frequency[0] * row + frequency[1] * column))
    seen = beam(ell) * np.exp(-0.5 * (ell * window * ARCMIN) ** 2)
    template = seen * profile_transform(ell * theta * ARCMIN)
    used = (ell > 300) & (ell < 9000)
    fluxes = [
        float(((np.conj(moved) * np.fft.rfft2(image)).real * template)[used].sum() / (template**2)[used].sum())
        for image in images
    ]
    truth = 1.79e-3 * band_response(setup)[0] / pixel_arcmin**2
    assert fluxes[0] == pytest.approx(truth, rel=5e-3)
    assert abs(fluxes[1] / truth - 1) > 0.05


def test_healpix_maps_hold_clusters_through_a_measured_beam():
    """Summed with P_l about its centre a cluster has its flux times b_l and profile."""
    nside, theta, beam, at = 256, 20.0, beam_with_sidelobes(40.0, 200.0), (30.0, 40.0)
    cluster = Table({"lon_deg": [at[0]], "lat_deg": [at[1]], "theta500_arcmin": [theta], "y500_arcmin2": [1.0]})
    painted = paint_clusters(cluster, nside, [beam.fwhm_arcmin], [1.0], tables=[beam], pixel_window=False)[:, 0]
    centre = unit_vectors(*at)
    ipix = healpy.query_disc(nside, centre, np.radians(10))
    cosine = np.stack(healpy.pix2vec(nside, ipix), axis=1) @ centre
    area = healpy.nside2pixarea(nside) / ARCMIN**2
    for ell in (0, 10, 50, 100, 200):
        expected = 1.79 * beam(ell) * profile_transform(ell * theta * ARCMIN)
        assert (painted[ipix] * eval_legendre(ell, cosine)).sum() * area == pytest.approx(float(expected), rel=0.01)


def test_injections_into_a_set_are_in_every_group():
    bands = PLANCK.bands
    grid = make_grid(shape=(240, 240))
    images = ImageMaps(grid, bands[3:5], tuple(Pixels(np.full(grid.shape, 0.5), 2.0) for _ in range(2)), (None, None))
    images.signal[0].values[:20] = 0.0
    healpix = SkyMaps(np.ones((12 * 256**2, 3), np.float32), np.ones(12 * 256**2, bool), bands[:3])
    maps = MapSet.of(healpix, images)
    cluster = draw_injections(1, 1, y500_range_arcmin2=(5e-3, 6e-3))
    cluster["lon_deg"], cluster["lat_deg"], cluster["theta500_arcmin"] = [30.0], [0.2], [4.0]
    painted = inject_clusters(maps, cluster, PLANCK)
    empty = SkyMaps(np.zeros((12 * 256**2, 6), np.float32), healpix.footprint, bands)
    whole = inject_clusters(empty, cluster, PLANCK)
    np.testing.assert_allclose(painted.groups[0].values - 1, whole.values[:, :3], atol=1e-6)
    area = pixel_areas(grid)
    pixel_arcmin2 = healpy.nside2pixarea(256) / ARCMIN**2
    for k, image in enumerate(painted.groups[1].signal):
        added = np.where(image.values == 0.0, 0.0, image.values - 1.0)
        assert (added * area).sum() == pytest.approx(whole.values[:, 3 + k].sum() * pixel_arcmin2, rel=0.02)
    shining = inject_clusters(maps, cluster, PLANCK, galaxies_seed=2)
    assert shining.groups[1].signal[1].values.sum() > painted.groups[1].signal[1].values.sum()  # dust at 545 GHz
    assert not painted.groups[1].signal[0].values[:20].any()
    assert images.signal[1].values.max() == 0.5  # what was given is left as it was
