"""The gas of a cluster as the sky shows it: its pressure profile, and what a beam makes of it.

    p(x) ~ (c x)^-gamma [1 + (c x)^alpha]^-(beta - gamma)/alpha,  x = r/R500 < 5         Nagai et al. (2007)
    s(kappa) = int x^2 p sinc(kappa x) dx / int x^2 p dx,  kappa = k theta500

s is the normalised spherical Fourier transform of the profile, which is also that of its projection: on the sky a
cluster of total flux Y5R500 is Y5R500 s(k theta500) B(k), with B the beam. Simulated clusters and the matched filter
use the same s; its parameters are those of the universal profile (Arnaud et al. 2010) where no other is asked for.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

Floats = NDArray[np.float64]


class PressureProfile(NamedTuple):
    """Shape of a generalised NFW profile; the amplitude is not needed: profiles are normalised to Y5R500.

    Examples
    --------
    >>> PressureProfile(1.177, 0.3081, 1.0510, 5.4905).gamma
    0.3081
    """

    c500: float
    gamma: float
    alpha: float
    beta: float


#: Published mean profiles. Arnaud et al. (2010), A&A 517, A92: eq. 12 (universal), eqs. C.1 and C.2 (cool-core and
#: morphologically disturbed clusters). Planck Intermediate Results V (2013), A&A 550, A131: eq. 11 with Table 1, fit
#: to 62 clusters. McDonald et al. (2014), ApJ 794, 67, Table 2: SPT clusters of z > 0.6. He et al. (2021), ApJ 908,
#: 91: corrected for the bias of X-ray masses.
PROFILES = {
    "universal": PressureProfile(1.177, 0.3081, 1.0510, 5.4905),
    "cool-core": PressureProfile(1.128, 0.7736, 1.2223, 5.4905),
    "disturbed": PressureProfile(1.083, 0.3798, 1.4063, 5.4905),
    "planck-2013": PressureProfile(1.81, 0.31, 1.33, 4.13),
    "mcdonald-2014": PressureProfile(2.59, 0.15, 2.27, 3.48),
    "he-2021": PressureProfile(1.217, 0.433, 1.192, 5.490),
}
#: The profile ends here, in R500.
TRUNCATION_R500 = 5.0
#: Largest kappa of :func:`profile_transform`.
MAX_KAPPA = 400.0
#: Y5R500 / Y500 of the universal pressure profile, as PSZ2 quotes it (Planck 2015 results XXVII, A&A 594, A27). The
#: integral of the profile above gives 1.796, as does PP_Y2YFH in the header of the PSZ2 file.
Y5R500_PER_Y500 = 1.79


def pressure_profile(x: ArrayLike, profile: str = "universal") -> Floats:
    """Pressure profile, up to its amplitude, at ``x`` = r/R500; 0 beyond 5 R500.

    Source: Arnaud et al. (2010), eqs. 11-12; the others see :data:`PROFILES`.

    Examples
    --------
    >>> inner, outer = pressure_profile([0.1, 1.0])
    >>> round(float(inner / outer), 1)
    58.7
    """
    c500, gamma, alpha, beta = PROFILES[profile]
    scaled = c500 * np.asarray(x, np.float64)
    with np.errstate(divide="ignore"):
        value = scaled**-gamma * (1 + scaled**alpha) ** ((gamma - beta) / alpha)
    return np.where(scaled <= c500 * TRUNCATION_R500, value, 0.0)


@cache
def y5r500_per_y500(profile: str = "universal") -> float:
    """Y5R500 / Y500 of a profile: of the universal one the value that PSZ2 quotes, else its integral.

    Examples
    --------
    >>> y5r500_per_y500(), round(y5r500_per_y500("cool-core"), 2)
    (1.79, 1.62)
    """
    if profile == "universal":
        return Y5R500_PER_Y500
    mass, x = _shells(profile)
    return float(mass.sum() / mass[x < 1].sum())


@cache
def _shells(profile: str) -> tuple[Floats, Floats]:
    """The share x^2 p dx of each node of a quadrature over the sphere, and the nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(0.0, 1.0, 801)
    half = np.diff(edges)[:, None] / 2
    t = (edges[:-1, None] + half * (1 + nodes)).ravel()
    x = TRUNCATION_R500 * t**3  # resolves the cusp
    mass = (half * weights).ravel() * 3 * TRUNCATION_R500 * t**2 * x**2 * pressure_profile(x, profile)
    return mass, x


@cache
def _transform_spline(profile: str) -> CubicSpline:
    """s(kappa) against ln kappa."""
    mass, x = _shells(profile)
    log_kappa = np.linspace(np.log(1e-3), np.log(MAX_KAPPA), 1500)
    values = [mass @ np.sinc(np.exp(k) / np.pi * x) for k in log_kappa]
    return CubicSpline(log_kappa, np.array(values) / mass.sum())


def profile_transform(kappa: ArrayLike, profile: str = "universal") -> Floats:
    """Fourier transform s of the projected profile of unit flux, at ``kappa`` = k theta500 (k in 1/radian).

    Parameters
    ----------
    kappa : float array
        From 0 to 400.
    profile : str
        One of :data:`PROFILES`.

    Returns
    -------
    float64, of the shape of ``kappa``; 1 at 0.

    Examples
    --------
    >>> profile_transform([0.0, 1.0, 10.0]).round(3)
    array([1.   , 0.736, 0.03 ])
    """
    return np.asarray(_transform_spline(profile)(np.log(np.maximum(kappa, 1e-3))))
