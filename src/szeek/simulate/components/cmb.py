"""The lensed cosmic microwave background, solved once by camb and shipped as a table."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np

from szeek.simulate.haloes import random_generator
from szeek.simulate.harmonics import Alm, Floats, gaussian_alm

# Planck 2018 results VI (A&A 641, A6), Table 2, last column (TT,TE,EE+lowE+lensing+BAO).
_H0, _OMEGA_B_H2, _OMEGA_C_H2 = 67.66, 0.02242, 0.11933
_TAU, _N_S, _LN_1E10_A_S = 0.0561, 0.9665, 3.047


@cache
def _shipped_spectrum() -> Floats:
    """C_l in K_CMB^2 of the shipped table, l = 0 ... 4096."""
    with (resources.files("szeek.simulate") / "data" / "planck2018_lensed_tt.txt").open() as lines:
        band_power = np.loadtxt(lines)
    ell = np.arange(2.0, 2.0 + band_power.size)
    return np.concatenate([[0.0, 0.0], band_power * 2e-12 * np.pi / (ell * (ell + 1))])


def lensed_spectrum(lmax: int) -> Floats:
    """Lensed temperature spectrum of the CMB; monopole and dipole are zero.

    Source: Planck 2018 results VI, Table 2, last column: the table that :func:`solve_lensed_spectrum` made.

    Parameters
    ----------
    lmax : int
        At most 4096.

    Returns
    -------
    (lmax + 1,) float64
        C_l in K_CMB^2.

    Raises
    ------
    ValueError
        Beyond the table.

    Examples
    --------
    >>> spectrum = lensed_spectrum(220)
    >>> round(float(spectrum[220] * 220 * 221 / (2 * np.pi) * 1e12), -1)  # the first peak, uK^2
    5740.0
    """
    spectrum = _shipped_spectrum()
    if not 0 <= lmax < spectrum.size:
        raise ValueError(f"lmax is {lmax}, expected 0 to {spectrum.size - 1}, where the CMB table ends")
    return spectrum[: lmax + 1].copy()


def solve_lensed_spectrum(lmax: int) -> Floats:
    """The spectrum of :func:`lensed_spectrum` from camb, (lmax + 1,) float64 in K_CMB^2; some seconds."""
    import camb

    parameters = camb.set_params(
        H0=_H0,
        ombh2=_OMEGA_B_H2,
        omch2=_OMEGA_C_H2,
        mnu=0.06,
        tau=_TAU,
        ns=_N_S,
        As=1e-10 * np.exp(_LN_1E10_A_S),
        lmax=max(lmax, 500) + 200,
        lens_potential_accuracy=1,
    )
    results = camb.get_results(parameters)
    spectra = results.get_lensed_scalar_cls(lmax=lmax, CMB_unit="muK", raw_cl=True)
    spectrum = np.array(spectra[: lmax + 1, 0]) * 1e-12
    spectrum[:2] = 0.0
    return spectrum


def draw_cmb(lmax: int, seed: int) -> Alm:
    """Draw a lensed CMB sky, coefficients in K_CMB up to ``lmax``, without beam.

    Deviation: Gaussian with the lensed spectrum; the deflection by the haloes of the sky is left out.
    """
    return gaussian_alm(lensed_spectrum(lmax), lmax, random_generator(seed, "cmb"))
