"""Scaling relations of clusters: flux, angular size and temperature against mass and redshift."""

from __future__ import annotations

import astropy.units as u
import numpy as np
from astropy.cosmology import FlatLambdaCDM
from numpy.typing import ArrayLike, NDArray

from szeek.physics.cosmology import COSMOLOGY, angular_diameter_distance_mpc

Floats = NDArray[np.float64]

#: (1-b) = M_SZ / M500. Planck 2018 results VI (A&A 641, A6), Sect. 5.4: 0.62 +- 0.03 reconciles the cluster counts
#: with this cosmology (sigma8 = 0.81); 0.64 lies within, and gives the number of entries of PSZ2.
MASS_BIAS = 0.64
# Planck 2013 results XX (A&A 571, A20), eq. 7 and Table 1.
_Y_STAR = 10**-0.19  # x 1e-4 Mpc^2
Y_SLOPE, Y_PIVOT_1E14MSUN = 1.79, 6.0
_Y_EVOLUTION = 2 / 3


def y500_from_mass(
    m500_1e14msun: Floats, z: Floats, mass_bias: float = MASS_BIAS, cosmology: FlatLambdaCDM = COSMOLOGY
) -> Floats:
    """Mean Y500 in arcmin^2 of haloes of true mass M500.

    Source: Planck 2013 results XX, eq. 7 and Table 1.

    Parameters
    ----------
    m500_1e14msun, z : (n,) float64
        True M500c in 1e14 Msun, redshift.
    mass_bias : float
        (1-b), ratio of the X-ray calibrated to the true mass.
    cosmology : FlatLambdaCDM
        Sets distance and expansion; h = 0.6766 by default.

    Examples
    --------
    >>> float(y500_from_mass(np.array([6 / 0.64]), np.array([0.2]))[0].round(5))
    0.00166
    """
    distance_mpc = angular_diameter_distance_mpc(z, cosmology)
    y_mpc2 = 1e-4 * _Y_STAR * (cosmology.h / 0.7) ** (Y_SLOPE - 2) * cosmology.efunc(z) ** _Y_EVOLUTION
    y_mpc2 = y_mpc2 * (mass_bias * m500_1e14msun / Y_PIVOT_1E14MSUN) ** Y_SLOPE
    return np.asarray(y_mpc2 / distance_mpc**2 * np.degrees(1.0) ** 2 * 3600.0)


def theta500_from_mass(
    m500_1e14msun: Floats, z: Floats, mass_bias: float = MASS_BIAS, cosmology: FlatLambdaCDM = COSMOLOGY
) -> Floats:
    """Angular radius theta500 in arcmin, inside which the X-ray mass (1-b) M500 makes 500 critical densities.

    Source: Planck 2013 results XX, eq. 9: the relation was calibrated with R500 of the X-ray mass.

    Examples
    --------
    >>> theta500_from_mass(np.array([5.0]), np.array([0.2]), mass_bias=1.0).round(1).tolist()
    [5.6]
    """
    distance_mpc = angular_diameter_distance_mpc(z, cosmology)
    density = cosmology.critical_density0.to_value(u.Msun / u.Mpc**3) * cosmology.efunc(z) ** 2
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
    ratio = np.log(flux) - 3 * Y_SLOPE * np.log(size)
    z = np.exp(np.interp(ratio, flux_of_one - 3 * Y_SLOPE * size_of_one, np.log(grid)))
    unit = np.ones(z.shape)
    by_flux = (flux / y500_from_mass(unit, z, mass_bias)) ** (1 / Y_SLOPE)
    by_size = (size / theta500_from_mass(unit, z, mass_bias)) ** 3
    return np.minimum(by_flux, by_size), z


def electron_temperature_kev(m500_1e14msun: ArrayLike, z: ArrayLike) -> Floats:
    """Electron temperature of the gas, keV, from the (X-ray calibrated) mass.

    Source: Arnaud, Pointecouteau & Pratt (2005), A&A 441, 893, Table 2, whole sample:
    E(z) M500 = 3.84e14 h70^-1 Msun (kT / 5 keV)^1.71.

    Parameters
    ----------
    m500_1e14msun, z : (n,) float64
        M500 as X-rays give it, i.e. (1-b) times the true one; redshift.

    Examples
    --------
    >>> float(electron_temperature_kev(3.84, 0.0).round(1))
    4.9
    """
    mass = np.asarray(m500_1e14msun, np.float64) * COSMOLOGY.efunc(z) * COSMOLOGY.h / 0.7
    return np.asarray(5.0 * (mass / 3.84) ** (1 / 1.71))
