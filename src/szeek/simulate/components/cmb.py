"""The lensed cosmic microwave background, solved once by camb and shipped as a table."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np

from szeek.simulate.haloes import random_generator
from szeek.sky.harmonics import Alm, Floats, gaussian_alm


@cache
def _shipped_spectrum() -> Floats:
    """C_l in K_CMB^2 of the shipped table, l = 0 ... 4096."""
    with (resources.files("szeek.simulate") / "data" / "planck2018_lensed_tt.txt").open() as lines:
        band_power = np.loadtxt(lines)
    ell = np.arange(2.0, 2.0 + band_power.size)
    return np.concatenate([[0.0, 0.0], band_power * 2e-12 * np.pi / (ell * (ell + 1))])


def lensed_spectrum(lmax: int) -> Floats:
    """Lensed temperature spectrum of the CMB; monopole and dipole are zero.

    Source: Planck 2018 results VI, Table 2, last column (TT,TE,EE+lowE+lensing+BAO), solved by camb; the tests solve
    it again.

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


def draw_cmb(lmax: int, seed: int) -> Alm:
    """Draw a lensed CMB sky, coefficients in K_CMB up to ``lmax``, without beam.

    Deviation: Gaussian with the lensed spectrum; the deflection by the haloes of the sky is left out.
    """
    return gaussian_alm(lensed_spectrum(lmax), lmax, random_generator(seed, "cmb"))
