"""The lensed cosmic microwave background, from camb."""

from __future__ import annotations

from functools import cache

import camb
import numpy as np

from szeek.simulate.haloes import random_generator
from szeek.simulate.harmonics import Alm, Floats, gaussian_alm

# Planck 2018 results VI (A&A 641, A6), Table 2, last column (TT,TE,EE+lowE+lensing+BAO).
_H0, _OMEGA_B_H2, _OMEGA_C_H2 = 67.66, 0.02242, 0.11933
_TAU, _N_S, _LN_1E10_A_S = 0.0561, 0.9665, 3.047


@cache
def lensed_spectrum(lmax: int) -> Floats:
    """Lensed temperature spectrum of the CMB; monopole and dipole are zero.

    Source: Planck 2018 results VI, Table 2, last column, solved by camb.

    Parameters
    ----------
    lmax : int

    Returns
    -------
    (lmax + 1,) float64
        C_l in K_CMB^2.
    """
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
