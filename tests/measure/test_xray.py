"""Photons at positions: significances against Poisson statistics, fluxes that were put in, sky without sources."""

import healpy
import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import norm, poisson

from szeek.measure.xray import XrayOptions, chance_of_snr, li_ma_significance, measure_xray
from szeek.sky.photons import PhotonMap, join_fields

NSIDE = 512
PIXEL_ARCMIN2 = float(healpy.nside2pixarea(NSIDE, degrees=True)) * 3600


def poisson_sky(per_pixel=0.9, exposure_s=300.0, seed=1):
    """Background alone, with an exposure that grows from 0.5 to 1.5 times the mean from pole to pole."""
    z = healpy.pix2vec(NSIDE, np.arange(12 * NSIDE**2))[2]
    exposure = (exposure_s * (1 + 0.5 * z)).astype(np.float32)
    counts = np.random.default_rng(seed).poisson(per_pixel * exposure / exposure_s).astype(np.float32)
    return PhotonMap(counts, exposure, PIXEL_ARCMIN2)


def positions(n, seed=2):
    rng = np.random.default_rng(seed)
    return Table({"lon_deg": rng.uniform(0, 360, n), "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n)))})


def test_significance_is_poissons_where_the_background_is_known():
    # a long ring, alpha -> 0, B = alpha M = 100: the normal deviate of the Poisson tail with half of the count itself
    for n_on in (120, 140, 100, 70):
        tail = poisson.sf(n_on, 100) + poisson.pmf(n_on, 100) / 2
        assert li_ma_significance(n_on, 1e8, 1e-6) == pytest.approx(norm.isf(tail), abs=0.04)


def test_sky_without_sources_has_significances_of_mean_0_and_deviation_1():
    found = measure_xray(positions(2000), poisson_sky(), XrayOptions(theta500_arcmin=14.0))
    snr = np.asarray(found["xray_snr"])
    # 2000 draws, nearly independent: error of the mean 0.022, of the deviation 0.016
    assert abs(snr.mean()) < 0.09
    assert snr.std() == pytest.approx(1.0, abs=0.07)


def test_flux_that_was_put_in_comes_back_in_any_exposure():
    sky, places = poisson_sky(), positions(300)
    flux, options = 2e-12, XrayOptions(flux_per_rate=1e-11, theta500_arcmin=14.0)
    at = healpy.ang2pix(NSIDE, places["lon_deg"], places["lat_deg"], lonlat=True)
    photons = np.random.default_rng(3).poisson(flux / 1e-11 * sky.exposure_s[at])
    np.add.at(sky.counts, at, photons.astype(np.float32))
    found = measure_xray(places, sky, options)
    # the error of one is 1.0e-12 x ...: of 300 the mean is good to 3 %
    assert found["xray_flux"].mean() == pytest.approx(flux, rel=0.1)
    pull = (np.asarray(found["xray_flux"]) - flux) / np.asarray(found["xray_flux_err"])
    assert pull.std() == pytest.approx(1.0, abs=0.15)


def test_too_little_observed_sky_is_not_measured():
    sky = poisson_sky()
    sky.exposure_s[healpy.query_disc(NSIDE, healpy.ang2vec(30, 40, lonlat=True), np.radians(5))] = 0.0
    found = measure_xray(
        Table({"lon_deg": [30.0, 200.0], "lat_deg": [40.0, 0.0]}), sky, XrayOptions(theta500_arcmin=14)
    )
    assert np.isfinite(found["xray_snr"]).tolist() == [False, True]


def test_images_and_healpix_count_alike():
    sky = poisson_sky()
    own = np.stack(healpy.pix2vec(NSIDE, np.arange(12 * NSIDE**2)), axis=1)
    near = own @ healpy.ang2vec(30, 40, lonlat=True) > np.cos(np.radians(4))
    image = PhotonMap(sky.counts[near], sky.exposure_s[near], PIXEL_ARCMIN2, directions=own[near])
    place, options = Table({"lon_deg": [30.0], "lat_deg": [40.0]}), XrayOptions(theta500_arcmin=14.0)
    one, other = measure_xray(place, sky, options), measure_xray(place, image, options)
    assert float(one["xray_snr"][0]) == pytest.approx(float(other["xray_snr"][0]), abs=1e-9)


def test_a_photon_in_two_fields_counts_once():
    sky = poisson_sky()
    own = np.stack(healpy.pix2vec(NSIDE, np.arange(12 * NSIDE**2)), axis=1)
    fields = []
    for lat_deg in (39.0, 41.0):
        near = own @ healpy.ang2vec(30, lat_deg, lonlat=True) > np.cos(np.radians(4))
        fields.append(PhotonMap(sky.counts[near], sky.exposure_s[near], PIXEL_ARCMIN2, directions=own[near]))
    place, options = Table({"lon_deg": [30.0], "lat_deg": [40.0]}), XrayOptions(theta500_arcmin=14.0)
    joined = join_fields(fields)
    assert float(joined.counts.sum()) < sum(float(field.counts.sum()) for field in fields)
    one, other = measure_xray(place, sky, options), measure_xray(place, joined, options)
    assert float(one["xray_counts"][0]) == float(other["xray_counts"][0])
    with pytest.raises(ValueError, match="one of the maps is on HEALPix, expected images of fields"):
        join_fields([sky, sky])


def test_chances_of_random_positions_are_uniform():
    sky = poisson_sky()
    options = XrayOptions(theta500_arcmin=14.0)
    null, other = measure_xray(positions(1500, 4), sky, options), measure_xray(positions(500, 5), sky, options)
    chance = chance_of_snr(other["xray_snr"], other["xray_exposure_s"], null["xray_snr"], null["xray_exposure_s"])
    for share in (0.1, 0.3, 0.7):
        assert np.mean(chance < share) == pytest.approx(share, abs=0.07)  # 3 sigma of 500 and 1000


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="counts go down to -1, expected numbers of photons"):
        PhotonMap(np.full(12, -1, np.float32), np.ones(12, np.float32), 1.0)
