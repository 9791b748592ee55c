"""The simulated X-ray survey against published counts, and photon by photon against what was put in."""

import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from szeek.inputs.reddening import read_column_map
from szeek.measure.xray import XrayOptions, measure_xray
from szeek.physics.scaling import y500_from_mass
from szeek.physics.xray import absorption
from szeek.simulate.components.xray import (
    XraySurvey,
    cluster_flux,
    draw_point_sources,
    draw_xray_sky,
    exposure_map,
    inject_photons,
    point_sources_above,
)
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.inject import draw_injections
from szeek.simulate.surveys import draw_xray_luminosity, flux_of_luminosity
from szeek.sky.photons import PhotonMap

NSIDE = 256


@pytest.fixture(scope="module")
def haloes():
    """Those that X-ray surveys of the whole sky see: the faint ones are far below 1e-12 erg/s/cm2."""
    return draw_haloes(1, m500_min_1e14msun=1.5)


def test_point_sources_are_those_of_the_rosat_bright_survey():
    """931 sources of above 2.4e-12 erg/s/cm2 (0.5-2 keV) in 20,391 deg2, at most 302 of them clusters."""
    published = (931 - 302) / 20391
    assert point_sources_above(2.4e-12) == pytest.approx(published, rel=0.15)
    # the deep counts of the same authors: 100 per deg2 above 1e-14
    assert point_sources_above(1e-14) == pytest.approx(100, rel=0.05)


def test_point_sources_are_drawn_from_their_counts():
    points = draw_point_sources(1)
    for flux in (3e-14, 3e-13, 3e-12):
        expected = 41252.96 * point_sources_above(flux)
        assert (np.asarray(points["flux"]) >= flux).sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))
    # as many north as south
    assert np.mean(np.asarray(points["lat_deg"]) > 0) == pytest.approx(0.5, abs=0.003)


def test_clusters_are_as_many_as_in_mcxc(haloes):
    """Per sr at |b| > 20 in the catalogue's file, z > 0.02, M500 > 4.5e13: above 1e-11 and 2e-11 (0.1-2.4 keV).

    L500 of mcxc.fits over 4 pi D^2: 15.4 and 6.2, of which 1.8 and 1.2 below z = 0.02.
    """
    flux = flux_of_luminosity(draw_xray_luminosity(haloes, 1), np.asarray(haloes["z"]))
    chosen = (np.abs(np.asarray(haloes["lat_deg"])) > 20) & (np.asarray(haloes["z"]) > 0.02)
    area = 4 * np.pi * (1 - np.sin(np.radians(20)))
    for limit, published in ((1e-11, 13.6), (2e-11, 5.0)):
        found = (flux[chosen] > limit).sum()
        # a fifth of cosmic variance and of what the catalogue lacks, and Poisson
        assert found == pytest.approx(published * area, abs=0.2 * published * area + 2 * np.sqrt(found))


def test_luminosity_goes_with_the_gas_that_is_painted(haloes):
    mass, z, y500 = (np.asarray(haloes[name]) for name in ("m500_1e14msun", "z", "y500_arcmin2"))
    gas = np.log(y500 / y500_from_mass(mass, z))
    light = np.log(draw_xray_luminosity(haloes, 1) / mass**1.64)
    light -= np.polyval(np.polyfit(np.log(1 + z), light, 2), np.log(1 + z))  # evolution
    assert np.corrcoef(gas, light)[0, 1] == pytest.approx(0.5, abs=0.02)
    assert light.std() == pytest.approx(0.183 * np.log(10), rel=0.03)  # Arnaud et al. (2010)
    # of clusters that look otherwise, with another slope of Y500, the same
    other = haloes.copy()
    other["y500_arcmin2"] *= mass**-0.2
    assert np.allclose(draw_xray_luminosity(other, 1), draw_xray_luminosity(haloes, 1), rtol=1e-6)


def test_exposure_is_longest_at_the_poles_of_the_ecliptic():
    exposure = exposure_map(1, 64)
    assert np.median(exposure) == pytest.approx(300, rel=1e-3)
    pole = SkyCoord(0.0, 90.0, unit="deg", frame="barycentricmeanecliptic").galactic
    assert exposure[healpy.ang2pix(64, pole.l.deg, pole.b.deg, lonlat=True)] > 5000
    # 1 / cos 30 deg is the median over the sphere: the least is 300 cos 30 s and 20 % of scatter less
    assert 110 < exposure.min() < 260


def test_photons_are_those_of_the_flux(haloes):
    bright = haloes[np.argsort(-cluster_flux(haloes, 1))[:40]]
    survey = XraySurvey(exposure_s=600.0)
    sky = draw_xray_sky(bright, 1, NSIDE, survey)
    area = float(healpy.nside2pixarea(NSIDE, degrees=True)) * 3600
    # theta500 is up to 40 arcmin, and pixels of 14 arcmin take half of themselves with them
    size = XrayOptions(greatest_arcmin=120.0, ring=(1.3, 2.0))
    wide = Table({"lon_deg": bright["lon_deg"], "lat_deg": bright["lat_deg"], "theta500_arcmin": np.full(40, 70.0)})
    found = measure_xray(wide, PhotonMap(sky.counts, sky.exposure_s, area), size)
    # AGN and neighbours do not move the median
    place = np.asarray(bright["lon_deg"]), np.asarray(bright["lat_deg"])
    left = absorption(healpy.get_interp_val(read_column_map("h1_nh_HI4PI"), *place, lonlat=True))
    ratio = np.asarray(found["xray_flux"]) / (cluster_flux(bright, 1) * left)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)


def test_injected_photons_are_those_of_the_flux_where_and_while_the_survey_looked():
    """Sum of flux x absorption x exposure over the flux of a count, to Poisson; none where there was no exposure."""
    clusters = draw_injections(1, 200, y500_range_arcmin2=(2e-3, 1e-2))
    seconds = np.where(np.arange(12 * 256**2) < 6 * 256**2, 300.0, 0.0).astype(np.float32)
    before = np.full(seconds.size, 2.0, np.float32)
    area = healpy.nside2pixarea(256, degrees=True) * 3600
    more = inject_photons(PhotonMap(before, seconds, area), clusters, seed=3).counts - before
    lon_deg, lat_deg = np.asarray(clusters["lon_deg"]), np.asarray(clusters["lat_deg"])
    left = absorption(healpy.get_interp_val(read_column_map("h1_nh_HI4PI"), lon_deg, lat_deg, lonlat=True))
    time = seconds[healpy.ang2pix(256, lon_deg, lat_deg, lonlat=True)]
    expected = float((cluster_flux(clusters, 3) * left * time).sum() / XraySurvey().flux_per_rate)
    assert expected > 1000 and abs(more.sum() - expected) < 4 * np.sqrt(expected)
    assert more.min() == 0 and more[pixels_around(lon_deg, lat_deg, time > 0)].sum() > 0.5 * more.sum()


def pixels_around(lon_deg, lat_deg, chosen):
    """Pixels within 20 arcmin of the chosen positions."""
    vectors = healpy.ang2vec(lon_deg, lat_deg, lonlat=True)[chosen]
    return np.unique(np.concatenate([healpy.query_disc(256, v, np.radians(1 / 3)) for v in vectors]))


def test_sky_repeats_and_the_background_is_its_rate():
    nothing = draw_haloes(1, m500_min_1e14msun=15.0, z_max=0.2)[:0]
    one, other = (draw_xray_sky(nothing, 7, 64, XraySurvey(exposure_s=60.0)) for _ in range(2))
    np.testing.assert_array_equal(one.counts, other.counts)
    rate = one.counts.sum() / one.exposure_s.sum() / (float(healpy.nside2pixarea(64, degrees=True)) * 3600)
    # 1.8e-4 and what the point sources add: integral of S dN/dS above 3e-14 is 2.2e-12 erg/s/cm2/deg2: 0.5e-4
    assert rate == pytest.approx(2.3e-4, rel=0.06)
