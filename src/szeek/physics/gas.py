"""The gas of a cluster as the sky shows it: pressure profile, what a beam makes of it, and its scaling with mass.

    p(x) ~ (c x)^-gamma [1 + (c x)^alpha]^-(beta - gamma)/alpha,  x = r/R500 < 5         Arnaud et al. (2010)
    s(kappa) = int x^2 p sinc(kappa x) dx / int x^2 p dx,  kappa = k theta500

s is the normalised spherical Fourier transform of the profile, which is also that of its projection: on the sky a
cluster of total flux Y5R500 is Y5R500 s(k theta500) B(k), with B the beam. Simulated clusters and the matched filter
use the same s.
"""

from __future__ import annotations

from functools import cache

import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from szeek.physics.cosmology import COSMOLOGY, angular_diameter_distance_mpc

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

#: (1-b) = M_SZ / M500. Planck 2018 results VI (A&A 641, A6), Sect. 5.4: 0.62 +- 0.03 reconciles the cluster counts
#: with this cosmology (sigma8 = 0.81); 0.64 lies within, and gives the number of entries of PSZ2.
MASS_BIAS = 0.64
# Planck 2013 results XX (A&A 571, A20), eq. 7 and Table 1.
_Y_STAR = 10**-0.19  # x 1e-4 Mpc^2
_Y_SLOPE = 1.79
_Y_EVOLUTION = 2 / 3


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


def y500_from_mass(m500_1e14msun: Floats, z: Floats, mass_bias: float = MASS_BIAS) -> Floats:
    """Mean Y500 in arcmin^2 of haloes of true mass M500.

    Source: Planck 2013 results XX, eq. 7 and Table 1, h = 0.6766.

    Parameters
    ----------
    m500_1e14msun, z : (n,) float64
        True M500c in 1e14 Msun, redshift.
    mass_bias : float
        (1-b), ratio of the X-ray calibrated to the true mass.

    Examples
    --------
    >>> float(y500_from_mass(np.array([6 / 0.64]), np.array([0.2]))[0].round(5))
    0.00166
    """
    distance_mpc = angular_diameter_distance_mpc(z)
    y_mpc2 = 1e-4 * _Y_STAR * (COSMOLOGY.h / 0.7) ** (_Y_SLOPE - 2) * COSMOLOGY.efunc(z) ** _Y_EVOLUTION
    y_mpc2 = y_mpc2 * (mass_bias * m500_1e14msun / 6.0) ** _Y_SLOPE
    return np.asarray(y_mpc2 / distance_mpc**2 * np.degrees(1.0) ** 2 * 3600.0)


def theta500_from_mass(m500_1e14msun: Floats, z: Floats, mass_bias: float = MASS_BIAS) -> Floats:
    """Angular radius theta500 in arcmin, inside which the X-ray mass (1-b) M500 makes 500 critical densities.

    Source: Planck 2013 results XX, eq. 9: the relation was calibrated with R500 of the X-ray mass.
    """
    distance_mpc = angular_diameter_distance_mpc(z)
    density = COSMOLOGY.critical_density0.to_value(u.Msun / u.Mpc**3) * COSMOLOGY.efunc(z) ** 2
    r500_mpc = np.cbrt(3 * mass_bias * m500_1e14msun * 1e14 / (4 * np.pi * 500 * density))
    return np.asarray(np.degrees(r500_mpc / distance_mpc) * 60.0)


#: Redshifts between which :func:`mass_and_redshift` looks.
_NEAREST_Z, _FARTHEST_Z = 0.003, 2.0


def mass_and_redshift(
    y500_arcmin2: ArrayLike, theta500_arcmin: ArrayLike, mass_bias: float = MASS_BIAS
) -> tuple[Floats, Floats]:
    """True mass and redshift that the mean relations give a flux and a size: the inverse of the two functions above.

    At one redshift theta500 goes as the cube root of mass and Y500 as its power 1.79, so that Y500 / theta500^5.37
    depends on redshift alone, and rises with it.

    Parameters
    ----------
    y500_arcmin2, theta500_arcmin : float array
        Positive, broadcast together.
    mass_bias : float
        (1-b).

    Returns
    -------
    m500_1e14msun, z : float64 arrays
        Where no redshift between 0.003 and 2 has both: the nearest redshift, and the smaller of the masses that flux
        and size give there.

    Examples
    --------
    >>> mass, z = mass_and_redshift(1.66e-3, 5.99)
    >>> round(float(mass), 1), round(float(z), 2)
    (9.4, 0.2)
    """
    flux, size = np.broadcast_arrays(np.asarray(y500_arcmin2, np.float64), np.asarray(theta500_arcmin, np.float64))
    grid = np.geomspace(_NEAREST_Z, _FARTHEST_Z, 500)
    one = np.ones(grid.size)
    flux_of_one, size_of_one = (np.log(f(one, grid, mass_bias)) for f in (y500_from_mass, theta500_from_mass))
    ratio = np.log(flux) - 3 * _Y_SLOPE * np.log(size)
    z = np.exp(np.interp(ratio, flux_of_one - 3 * _Y_SLOPE * size_of_one, np.log(grid)))
    unit = np.ones(z.shape)
    by_flux = (flux / y500_from_mass(unit, z, mass_bias)) ** (1 / _Y_SLOPE)
    by_size = (size / theta500_from_mass(unit, z, mass_bias)) ** 3
    return np.minimum(by_flux, by_size), z
