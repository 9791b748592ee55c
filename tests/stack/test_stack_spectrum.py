"""Spectra of known mixtures, through the instrument's units."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import constants, units
from astropy.modeling.models import BlackBody
from scipy import stats

from szeek.inputs.instrument import read_instrument
from szeek.stack.spectrum import COMPONENTS, fit_spectrum, spectral_templates

HFI = read_instrument("planck-hfi")
MIXTURE = np.array([2e-5, 0.05, 1e-3, -1e-5])  # y, MJy/sr at 857, MJy/sr at 100, K_CMB


def noise_covariance() -> np.ndarray:
    """uK and kJy/sr noise, and a CMB of 3 uK common to all bands."""
    sigma = np.array([1e-6, 0.7e-6, 1e-6, 3e-6, 3e-3, 3e-3])
    common = 3e-6 * HFI.unit_per_kcmb
    return np.diag(sigma**2) + np.outer(common, common)


def test_templates_against_planck_s_law_and_the_tsz_null() -> None:
    rows = dict(zip(COMPONENTS, spectral_templates(HFI), strict=True))
    np.testing.assert_array_equal(rows["cmb"][:4], 1)
    np.testing.assert_allclose(rows["cmb"][4:], [58.04, 2.27])
    # the tSZ effect is a decrement below 217 GHz and an increment above it
    assert (rows["tsz"][:2] < 0).all()
    assert (rows["tsz"][3:] > 0).all()
    # dust: modified black body with astropy's Planck function, in MJy/sr, converted by the instrument
    freq = np.array([100, 143, 217, 353, 545, 857.0])
    body = BlackBody(19.7 * units.K)(freq * units.GHz).to_value("MJy/sr") * freq**1.62
    np.testing.assert_allclose(rows["dust"] * HFI.mjysr_per_kcmb / HFI.unit_per_kcmb, body / body[-1], rtol=1e-5)
    # radio at 100 GHz: 1 MJy/sr is 1 / 244.1 K
    assert rows["radio"][0] == pytest.approx(1 / 244.1)
    assert rows["radio"][5] == pytest.approx(8.57**-0.7)
    assert (constants.k_B / constants.h).to_value("GHz/K") == pytest.approx(20.836619, rel=1e-7)


def test_exact_mixture_gives_back_its_amplitudes() -> None:
    fit = fit_spectrum(MIXTURE @ spectral_templates(HFI), noise_covariance(), HFI)
    np.testing.assert_allclose(fit.amplitude, MIXTURE, rtol=1e-8)
    np.testing.assert_allclose(fit.model.sum(axis=0), MIXTURE @ spectral_templates(HFI), rtol=1e-8)
    assert fit.chi2 == pytest.approx(0, abs=1e-9)
    assert fit.n_freedom == 2
    table = fit.to_table()
    assert table["unit"][0] == "Compton y"
    np.testing.assert_allclose(table["sigma"], fit.amplitude / fit.error)


def test_errors_and_chi_square_of_noisy_spectra() -> None:
    covariance = noise_covariance()
    rng = np.random.default_rng(0)
    spectra = rng.multivariate_normal(MIXTURE @ spectral_templates(HFI), covariance, 400)
    fits = [fit_spectrum(row, covariance, HFI) for row in spectra]
    pulls = np.array([(fit.amplitude - MIXTURE) / fit.error for fit in fits])
    # 400 standard deviates: their mean is known to 1 / sqrt(400), their width to 1 / sqrt(800); three errors
    np.testing.assert_allclose(pulls.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.106)
    assert stats.kstest([fit.p_value for fit in fits], "uniform").pvalue > 0.01


def test_leaving_out_a_component_that_is_there_is_seen() -> None:
    spectrum = MIXTURE @ spectral_templates(HFI)
    without = fit_spectrum(spectrum, noise_covariance(), HFI, ["tsz", "cmb"])
    assert without.p_value < 1e-6


def test_relativistic_spectrum_differs_by_per_cents() -> None:
    # At 10 keV the decrement at 143 GHz shrinks by several per cent: Itoh et al. (1998), Fig. 2.
    cold, hot = (spectral_templates(HFI, ["tsz"], t_e_kev=t)[0] for t in (0.0, 10.0))
    assert 0.9 < hot[1] / cold[1] < 0.98
    fit = fit_spectrum(3e-5 * hot, noise_covariance(), HFI, ["tsz"], t_e_kev=10.0)
    assert fit.amplitude[0] == pytest.approx(3e-5)


def test_beam_factor_scales_all_but_the_cmb() -> None:
    factor = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    rows = spectral_templates(HFI)
    spectrum = (MIXTURE[:3] @ rows[:3]) * factor + MIXTURE[3] * rows[3]
    fit = fit_spectrum(spectrum, noise_covariance(), HFI, beam_factor=factor)
    np.testing.assert_allclose(fit.amplitude, MIXTURE, rtol=1e-8)


def test_as_many_components_as_bands_have_no_p_value() -> None:
    few = HFI.__class__("two", HFI.bands[:2], HFI.mjysr_per_kcmb[:2], HFI.tsz_kcmb[:2], HFI.noise_uk_deg[:2])
    fit = fit_spectrum([1e-6, 1e-6], np.eye(2) * 1e-12, few, ["tsz", "cmb"])
    assert np.isnan(fit.p_value)


def test_bad_input_is_refused() -> None:
    covariance = noise_covariance()
    with pytest.raises(ValueError, match=r"spectrum has shape \(5,\) .* expected \(6,\) and \(6, 6\) .*'planck-hfi'"):
        fit_spectrum(np.zeros(5), covariance, HFI)
    with pytest.raises(ValueError, match="components co are unknown, expected some of tsz, dust, radio, cmb"):
        fit_spectrum(np.zeros(6), covariance, HFI, ["tsz", "co"])
    with pytest.raises(ValueError, match="not positive definite"):
        fit_spectrum(np.zeros(6), np.ones((6, 6)), HFI)
    few = HFI.__class__("one", HFI.bands[:1], HFI.mjysr_per_kcmb[:1], HFI.tsz_kcmb[:1], HFI.noise_uk_deg[:1])
    with pytest.raises(ValueError, match="2 components and 1 bands"):
        fit_spectrum([0.0], np.eye(1), few, ["tsz", "cmb"])
