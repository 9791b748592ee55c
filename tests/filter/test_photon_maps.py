"""S/N of photons: values by hand, and what must not matter: exposure, frame, the survey's pixels."""

import healpy
import numpy as np
import pytest

from szeek.filter.further import WINDOWS_ARCMIN, density_map, photon_map, to_healpix
from szeek.sky.harmonics import FWHM_PER_SIGMA
from szeek.sky.photons import PhotonMap
from szeek.sky.skymaps import Band, SkyMaps

NSIDE = 256
N_PIX = 12 * NSIDE**2
PIXEL_ARCMIN2 = healpy.nside2pixarea(NSIDE, degrees=True) * 3600


def test_photons_of_a_point_by_hand():
    """n photons in one pixel: the window w sees n w(0) of them per area, times the aperture A = 1 / integral of w^2.

    w(0) = sum (2l+1) w_l / 4 pi, A = 4 pi / sum (2l+1) w_l^2, w_l = exp(-l (l+1) s^2 / 2) up to l = 3 nside - 1 (of a
    whole Gaussian n w(0) A = 2 n). The background is spread evenly, 0.5 photons a pixel: B = 0.5 A / pixel.
    """
    counts = np.full(N_PIX, 0.5, np.float32)
    there = healpy.ang2pix(NSIDE, 100.0, 30.0, lonlat=True)
    counts[there] += 20
    one = photon_map("xray", PhotonMap(counts, np.full(N_PIX, 300.0, np.float32), PIXEL_ARCMIN2), threads=1)
    ell = np.arange(3 * NSIDE)
    for fwhm, snr in zip(WINDOWS_ARCMIN, one.values[np.array([there])][0], strict=True):
        window = np.exp(-0.5 * ell * (ell + 1) * np.radians(fwhm / FWHM_PER_SIGMA / 60) ** 2)
        centre, area_sr = ((2 * ell + 1) @ window) / (4 * np.pi), 4 * np.pi / ((2 * ell + 1) @ window**2)
        expected = 0.5 * area_sr * np.degrees(60) ** 2 / PIXEL_ARCMIN2
        found = expected + 20 * centre * area_sr
        assert snr == pytest.approx(np.sqrt(2 * (found * np.log(found / expected) - found + expected)), rel=0.02)
    far = healpy.ang2pix(NSIDE, 280.0, -30.0, lonlat=True)
    # the transforms have equal weights: 1e-3 of the background, which has 25 and 25 photons in an aperture
    assert np.all(np.abs(one.values[np.array([far])]) < 0.05)


def test_noise_has_the_same_spread_in_any_exposure():
    """Half of the sky was observed nine times as long; S/N is of mean 0 and spread 1 in both."""
    north = np.arange(N_PIX) < N_PIX // 2
    exposure = np.where(north, 900.0, 100.0).astype(np.float32)
    counts = np.random.default_rng(1).poisson(0.05 * exposure).astype(np.float32)
    snr = photon_map("xray", PhotonMap(counts, exposure, PIXEL_ARCMIN2), threads=1).values.values
    z = healpy.pix2vec(NSIDE, np.arange(N_PIX))[2]
    for half in (z > 0.1, z < -0.1):
        np.testing.assert_allclose(snr[half].mean(axis=0), 0, atol=0.08)
        np.testing.assert_allclose(snr[half].std(axis=0), 1, atol=0.05)


def test_what_was_not_observed_has_no_value():
    exposure = np.zeros(N_PIX, np.float32)
    disc = healpy.query_disc(NSIDE, healpy.ang2vec(40, 10, lonlat=True), np.radians(5))
    exposure[disc] = 300.0
    counts = np.zeros(N_PIX, np.float32)
    counts[disc] = np.random.default_rng(2).poisson(4.0, disc.size)
    one = photon_map("xray", PhotonMap(counts, exposure, PIXEL_ARCMIN2), threads=1)
    assert set(one.values.ipix) <= set(disc) and len(one.values.ipix) > 0.9 * disc.size
    # the rim included; 1484 pixels, of which one in about four is independent
    np.testing.assert_allclose(one.values.values.mean(axis=0), 0, atol=0.15)
    with pytest.raises(ValueError, match="'xray' has no pixel with both exposure and photons"):
        photon_map("xray", PhotonMap(np.zeros(N_PIX, np.float32), exposure, PIXEL_ARCMIN2), threads=1)


def test_photons_of_another_frame_and_of_an_image_come_to_their_places():
    """A photon at a known place in ICRS pixels, and as a pixel of an image: the same HEALPix pixel; none is lost."""
    rotator = healpy.Rotator(coord=["G", "C"])
    ra, dec = rotator(100.0, 30.0, lonlat=True)
    counts = np.zeros(N_PIX, np.float32)
    pixel = healpy.ang2pix(NSIDE, ra, dec, lonlat=True)
    counts[pixel] = 7
    exposure = np.full(N_PIX, 200.0, np.float32)
    turned = to_healpix(PhotonMap(counts, exposure, PIXEL_ARCMIN2, rotation=np.asarray(rotator.mat)))
    back = healpy.Rotator(coord=["C", "G"])(*healpy.pix2ang(NSIDE, pixel, lonlat=True), lonlat=True)
    coarser = healpy.npix2nside(turned.counts.size)
    assert coarser == NSIDE // 2 and turned.exposure_s.min() > 0  # the same pixels would leave a third without
    assert turned.counts[healpy.ang2pix(coarser, *back, lonlat=True)] == turned.counts.sum() == 7
    total = float(turned.exposure_s.sum(dtype=float)) * turned.pixel_arcmin2
    assert total == pytest.approx(200.0 * 4 * np.pi * np.degrees(60) ** 2, rel=1e-6)
    direction = healpy.ang2vec(100.0, 30.0, lonlat=True)[None]
    image = to_healpix(PhotonMap(counts[[pixel]], exposure[:1], PIXEL_ARCMIN2 / 4, direction))
    nside = healpy.npix2nside(image.counts.size)
    assert nside == NSIDE and image.counts[healpy.vec2pix(nside, *direction[0])] == image.counts.sum() == 7


def test_a_density_is_less_its_surroundings():
    """A gradient over the sky goes away, a peak stays: 6 sigma where it was put."""
    rng = np.random.default_rng(3)
    z = healpy.pix2vec(256, np.arange(12 * 256**2))[2]
    values = (5.0 * z + rng.normal(0, 0.5, z.size)).astype(np.float32)
    peak = healpy.ang2pix(256, 10.0, 50.0, lonlat=True)
    values[peak] = 5.0 * z[peak] + 3.0
    maps = SkyMaps(values[:, None], np.ones(z.size, bool), (Band("delta", np.nan, 10.0, "1"),))
    found = density_map("galaxies", maps).values.values[:, 0]
    assert np.abs(found[(z > 0.5)].mean()) < 0.02 and found[peak] == pytest.approx(6, abs=0.6)
    flat = SkyMaps(np.ones_like(values[:, None]), maps.footprint, maps.bands)
    with pytest.raises(ValueError, match="'galaxies' is constant"):
        density_map("galaxies", flat)
