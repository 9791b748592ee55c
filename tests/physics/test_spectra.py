"""The tSZ spectrum against its analytic limits, an exact scattering integral, and Planck's published table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.optimize import brentq

from szeek.inputs.instrument import read_bandpasses, read_instrument
from szeek.physics.bandpass import T_CMB_K, Bandpass
from szeek.physics.scaling import electron_temperature_kev
from szeek.physics.tsz import band_response, tsz_spectrum

PLANCK = read_instrument("planck-hfi")


def scattered_spectrum(freq_ghz: float, t_e_kev: float) -> float:
    """dT/T per y by brute force: one Thomson scattering off a Maxwell-Juettner electron gas.

    Independent of the expansion: average over the electron's momentum and over the directions mu, mu' of the
    photon in its rest frame (Wright 1979; Birkinshaw 1999, eqs. 20-29), e^s = (1 + beta mu') / (1 - beta mu).
    """
    x, theta = freq_ghz / (20.836619 * T_CMB_K), t_e_kev / 510.99895
    node, weight = np.polynomial.legendre.leggauss(48)
    p = 6 * np.sqrt(theta) * (node + 1) * 0.75  # up to 9 sqrt(theta)
    momentum = weight * p**2 * np.exp(-(np.sqrt(1 + p**2) - 1) / theta)
    momentum /= momentum.sum()
    gamma = np.sqrt(1 + p**2)
    beta = (p / gamma)[:, None, None]
    mu, mu2 = node[None, :, None], node[None, None, :]
    chance = (
        momentum[:, None, None]
        * (weight[:, None] * weight)[None]
        / (2 * gamma[:, None, None] ** 4 * (1 - beta * mu) ** 3)
        * 3 / 8 * (1 + mu**2 * mu2**2 + 0.5 * (1 - mu**2) * (1 - mu2**2))
    )  # fmt: skip
    assert chance.sum() == pytest.approx(1.0, abs=1e-6)
    before = x * (1 - beta * mu) / (1 + beta * mu2)
    change = (chance * before**3 / np.expm1(before)).sum() / chance.sum() - x**3 / np.expm1(x)
    derivative = x**4 * np.exp(x) / np.expm1(x) ** 2  # of x^3/(e^x - 1) with ln T
    return float(change / derivative / theta)


def test_limits_of_the_non_relativistic_spectrum() -> None:
    # x -> 0: x coth(x/2) -> 2, so dT/T = -2 y; the null is at x = 3.830, 217.5 GHz
    assert tsz_spectrum([0.01])[0] == pytest.approx(-2.0, abs=1e-4)
    null_ghz = brentq(lambda f: tsz_spectrum([f])[0], 200, 240)
    assert null_ghz / (20.836619 * T_CMB_K) == pytest.approx(3.830, abs=1e-3)
    # x -> infinity: x - 4
    assert tsz_spectrum([857.0])[0] == pytest.approx(857 / 56.79 - 4, rel=1e-3)


@pytest.mark.parametrize(("t_e_kev", "tolerance"), [(2.0, 0.002), (5.0, 0.004), (10.0, 0.03)])
@pytest.mark.parametrize("freq_ghz", [100.0, 143.0, 353.0, 545.0, 857.0])
def test_relativistic_correction_is_that_of_exact_scattering(
    freq_ghz: float, t_e_kev: float, tolerance: float
) -> None:
    exact = scattered_spectrum(freq_ghz, t_e_kev)
    assert tsz_spectrum([freq_ghz], t_e_kev)[0] == pytest.approx(exact, rel=tolerance)


def test_narrow_band_has_the_monochromatic_response() -> None:
    freq = np.linspace(352.99, 353.01, 11)
    narrow = {name: Bandpass(freq, np.ones(11)) for name in PLANCK.band_names}
    got = band_response(PLANCK, 7.0, bandpasses=narrow) / PLANCK.unit_per_kcmb
    np.testing.assert_allclose(got, T_CMB_K * tsz_spectrum([353.0], 7.0)[0], rtol=1e-6)


def test_response_without_bandpasses_starts_from_the_shipped_table() -> None:
    response = band_response(PLANCK, np.array([0.0, 5.0]))
    assert response.shape == (2, 6)
    np.testing.assert_allclose(response[0], PLANCK.tsz_response, rtol=1e-12)
    # hot gas: weaker decrement and weaker 353 GHz, stronger 857 (Itoh et al. 1998, Fig. 2)
    change = response[1] / response[0]
    assert (change[[0, 1, 3]] < 1).all() and change[5] > 1.3


@pytest.mark.realdata
def test_band_averages_agree_with_the_published_table(real_data: Path) -> None:
    passes = read_bandpasses(real_data / "instrument" / "HFI_RIMO_R3.00.fits")
    ours = band_response(PLANCK, bandpasses=passes) / PLANCK.unit_per_kcmb
    # Within 0.5 % in K_CMB, except at 217 GHz, which lies on the null: 0.013 K of a spectrum of several K.
    away = np.array(PLANCK.band_names) != "217"
    np.testing.assert_allclose(ours[away], PLANCK.tsz_kcmb[away], rtol=0.005)
    assert ours[~away][0] == pytest.approx(PLANCK.tsz_kcmb[~away][0], abs=0.02)
    # and the flat bands that stand in for the relativistic change are good to 2 % of the signal at 5 keV
    exact = band_response(PLANCK, 5.0, bandpasses=passes) / PLANCK.unit_per_kcmb
    flat = band_response(PLANCK, 5.0) / PLANCK.unit_per_kcmb
    np.testing.assert_allclose(flat[away], exact[away], rtol=0.02)


def test_temperature_of_a_five_kev_cluster() -> None:
    # by definition of the relation: 3.84e14 / h70 at z = 0 is 5 keV
    assert electron_temperature_kev(3.84 * 0.7 / 0.6766, 0.0) == pytest.approx(5.0)
    assert electron_temperature_kev(4.0, 1.0) > electron_temperature_kev(4.0, 0.1)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="t_e_kev is 40"):
        tsz_spectrum([100.0], 40.0)
    with pytest.raises(ValueError, match="goes down to -1"):
        band_response(PLANCK, np.array([-1.0]))
    with pytest.raises(ValueError, match="no bandpass for 143, 217"):
        band_response(PLANCK, bandpasses={"100": Bandpass(np.arange(90.0, 110), np.ones(20))})
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    with pytest.raises(ValueError, match=r"has no extension BANDPASS_F"):
        read_bandpasses(tmp_path / "empty.fits")
