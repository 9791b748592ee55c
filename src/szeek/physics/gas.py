"""The gas of a cluster as the sky shows it: its pressure profile, and what a beam makes of it.

    p(x) ~ (c x)^-gamma [1 + (c x)^alpha]^-(beta - gamma)/alpha,  x = r/R500 < 5         Arnaud et al. (2010)
    s(kappa) = int x^2 p sinc(kappa x) dx / int x^2 p dx,  kappa = k theta500

s is the normalised spherical Fourier transform of the profile, which is also that of its projection: on the sky a
cluster of total flux Y5R500 is Y5R500 s(k theta500) B(k), with B the beam. Simulated clusters and the matched filter
use the same s.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

Floats = NDArray[np.float64]

# Arnaud et al. (2010), A&A 517, A92, eq. 12. The amplitude P0 is not needed: profiles are normalised to Y5R500.
C500, GAMMA, ALPHA, BETA = 1.177, 0.3081, 1.0510, 5.4905
#: The profile ends here, in R500.
TRUNCATION_R500 = 5.0
#: Largest kappa of :func:`profile_transform`.
MAX_KAPPA = 400.0
#: Y5R500 / Y500 of the universal pressure profile, as PSZ2 quotes it (Planck 2015 results XXVII, A&A 594, A27). The
#: integral of the profile above gives 1.796, as does PP_Y2YFH in the header of the PSZ2 file.
Y5R500_PER_Y500 = 1.79


def pressure_profile(x: ArrayLike) -> Floats:
    """Universal pressure profile, up to its amplitude, at ``x`` = r/R500; 0 beyond 5 R500.

    Source: Arnaud et al. (2010), eqs. 11-12.
    """
    scaled = C500 * np.asarray(x, np.float64)
    with np.errstate(divide="ignore"):
        value = scaled**-GAMMA * (1 + scaled**ALPHA) ** ((GAMMA - BETA) / ALPHA)
    return np.where(scaled <= C500 * TRUNCATION_R500, value, 0.0)


@cache
def _transform_spline() -> CubicSpline:
    """s(kappa) against ln kappa."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(0.0, 1.0, 801)
    half = np.diff(edges)[:, None] / 2
    t = (edges[:-1, None] + half * (1 + nodes)).ravel()
    x = TRUNCATION_R500 * t**3  # resolves the cusp
    mass = (half * weights).ravel() * 3 * TRUNCATION_R500 * t**2 * x**2 * pressure_profile(x)
    log_kappa = np.linspace(np.log(1e-3), np.log(MAX_KAPPA), 1500)
    values = [mass @ np.sinc(np.exp(k) / np.pi * x) for k in log_kappa]
    return CubicSpline(log_kappa, np.array(values) / mass.sum())


def profile_transform(kappa: ArrayLike) -> Floats:
    """Fourier transform s of the projected profile of unit flux, at ``kappa`` = k theta500 (k in 1/radian).

    Parameters
    ----------
    kappa : float array
        From 0 to 400.

    Returns
    -------
    float64, of the shape of ``kappa``; 1 at 0.

    Examples
    --------
    >>> profile_transform([0.0, 1.0, 10.0]).round(3)
    array([1.   , 0.736, 0.03 ])
    """
    return np.asarray(_transform_spline()(np.log(np.maximum(kappa, 1e-3))))
