"""Compact sources: counts, spectra, painting."""

from __future__ import annotations

import healpy
import numpy as np
import pytest

from szeek.inputs.instrument import read_instrument
from szeek.simulate.components.sources import (
    Sources,
    counts_above,
    draw_cold_clumps,
    draw_dusty_sources,
    draw_fluxes,
    draw_radio_sources,
    paint_sources,
)
from szeek.sky.healpix import pixel_window_sigma_rad

HFI = read_instrument("planck-hfi")
BEAMS = np.array([9.66, 7.22, 4.9, 4.92, 4.4, 4.22])


def one_source(lon: float, lat: float, flux: float = 5.0, fwhm: float = 0.0) -> Sources:
    return Sources(np.array([lon]), np.array([lat]), np.full((1, 6), flux), np.array([fwhm]))


def test_euclidean_counts_by_hand() -> None:
    # S^2.5 dN/dS = 3: N(> S) = 3 / 1.5 (S^-1.5 - Smax^-1.5) = 2 (31.62 - 1) = 61.25 per sr above 0.1 Jy up to 1 Jy
    flux, counts = np.array([0.1, 1.0]), np.array([3.0, 3.0])
    assert counts_above(flux, counts, 0.1)[0] == pytest.approx(61.25, rel=1e-3)
    drawn = draw_fluxes(flux, counts, 0.1, np.random.default_rng(1))
    assert drawn.size == pytest.approx(4 * np.pi * 61.25, abs=5 * np.sqrt(770))
    # half of them lie below the S where S^-1.5 is the mean of the ends: 0.1566 Jy
    assert np.median(drawn) == pytest.approx(0.1566, rel=0.05)


def test_shot_noise_is_that_of_planck() -> None:
    cut = np.array([0.4, 0.35, 0.225, 0.315, 0.35, 0.71])
    radio = draw_radio_sources(HFI, seed=1).shot_noise(cut)
    assert radio[1, 1] == pytest.approx(6.05, abs=1.47)  # Planck 2013 XXX, Table 7
    dusty = draw_dusty_sources(HFI, seed=1).shot_noise(cut)
    # what is painted above 60 mJy is less than all that Planck 2013 XXX, Table 6, quotes
    assert 500 < dusty[5, 5] < 5628
    # bright ones are nearby and warm: S545/S857 of 0.3-0.45 (Planck Int. VII), 1454/5628 = 0.26 is of the faint
    assert 0.08 < dusty[4, 4] / dusty[5, 5] < 0.26


def test_spectra_fall_and_rise() -> None:
    radio, dusty = draw_radio_sources(HFI, 2).flux_jy, draw_dusty_sources(HFI, 2).flux_jy
    assert np.median(radio[:, 3] / radio[:, 1]) == pytest.approx((353 / 143) ** -0.65, rel=0.02)
    assert np.all(np.diff(dusty, axis=1) > 0)


@pytest.mark.parametrize(("lon", "lat"), [(12.0, 3.0), (200.0, 45.0), (300.0, -75.0), (0.0, 89.0), (77.0, -88.0)])
def test_painted_flux_is_the_flux(lon: float, lat: float) -> None:
    nside = 1024
    out = np.zeros((12 * nside**2, 6), np.float32)
    paint_sources(one_source(lon, lat), HFI, nside, BEAMS, out=out, faintest=0.0, threads=1)
    per_jy = 1e-6 * HFI.unit_per_kcmb / HFI.mjysr_per_kcmb
    flux = out.sum(axis=0, dtype=np.float64) * 4 * np.pi / out.shape[0] / per_jy
    np.testing.assert_allclose(flux, 5.0, rtol=0.03)
    vectors = np.array(healpy.pix2vec(nside, np.arange(out.shape[0])))
    centre = vectors @ out[:, 0]
    direction = healpy.ang2vec(lon, lat, lonlat=True)
    assert np.degrees(np.arccos(min(direction @ centre / np.linalg.norm(centre), 1.0))) * 60 < 0.2


def test_profile_is_the_beam() -> None:
    nside = 1024
    out = np.zeros((12 * nside**2, 6), np.float32)
    paint_sources(one_source(40.0, 20.0, fwhm=8.0), HFI, nside, BEAMS, out=out, faintest=0.0, threads=1)
    sigma2 = (np.radians(BEAMS[1] / 60) ** 2 + np.radians(8 / 60) ** 2) / (8 * np.log(2))
    sigma2 += pixel_window_sigma_rad(nside) ** 2
    pixels = np.flatnonzero(out[:, 1])
    distance = healpy.rotator.angdist(healpy.pix2ang(nside, pixels, lonlat=True), [40.0, 20.0], lonlat=True)
    peak = 5e-6 / 371.74 / (2 * np.pi * sigma2)
    np.testing.assert_allclose(out[pixels, 1], peak * np.exp(-(distance**2) / 2 / sigma2), rtol=2e-3, atol=1e-9)


def test_same_bits_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(3)
    n = 3000
    sources = Sources(rng.uniform(0, 360, n), rng.uniform(-90, 90, n), rng.uniform(0.1, 2, (n, 6)), np.zeros(n))
    one, two = (
        paint_sources(sources, HFI, 256, BEAMS, out=np.zeros((12 * 256**2, 6), np.float32), threads=k) for k in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_painting_refuses_other_maps() -> None:
    with pytest.raises(ValueError, match="out is float64"):
        paint_sources(one_source(0, 0), HFI, 64, BEAMS, out=np.zeros((12 * 64**2, 6)))  # type: ignore[arg-type]


def test_clumps_are_cold_and_in_the_plane() -> None:
    clumps = draw_cold_clumps(HFI, 1)
    assert len(clumps) == 13188
    assert np.mean(np.abs(clumps.lat_deg) < 30) > 0.85
    assert 7 < np.median(clumps.fwhm_arcmin) < 10
    assert np.all(clumps.flux_jy > 0)
