"""Haloes per redshift and mass in any flat LCDM cosmology: what counts of clusters are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from astropy.cosmology import FlatLambdaCDM
from colossus.cosmology import cosmology as colossus_cosmology
from colossus.lss import mass_function as colossus_mass_function
from numpy.typing import NDArray

from szeek.physics.cosmology import COSMOLOGY, SIGMA8, SPECTRAL_INDEX
from szeek.simulate.density import set_colossus

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CosmologyParameters:
    """A flat LCDM cosmology; by default that of every SZeek run.

    Parameters
    ----------
    h, omega_m, omega_b, sigma8, spectral_index : float
        Planck 2018 results VI (A&A 641, A6), Table 2, where not given.

    Examples
    --------
    >>> CosmologyParameters().differences(CosmologyParameters(sigma8=0.75))
    'sigma8 0.75 instead of 0.8102'
    """

    h: float = float(COSMOLOGY.h)
    omega_m: float = float(COSMOLOGY.Om0)
    omega_b: float = float(COSMOLOGY.Ob0)
    sigma8: float = SIGMA8
    spectral_index: float = SPECTRAL_INDEX

    def __post_init__(self) -> None:
        for name, (low, high) in {"h": (0.4, 1.0), "omega_m": (0.05, 1.0), "sigma8": (0.2, 2.0)}.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name):g}, expected {low:g} to {high:g}")

    @property
    def background(self) -> FlatLambdaCDM:
        """Distances and expansion, of astropy."""
        if self == CosmologyParameters():
            return COSMOLOGY
        return FlatLambdaCDM(H0=100 * self.h, Om0=self.omega_m, Ob0=self.omega_b, Tcmb0=COSMOLOGY.Tcmb0, Neff=3.046)

    def differences(self, other: CosmologyParameters) -> str:
        """What another cosmology has otherwise, as text; empty where nothing."""
        mine, theirs = asdict(self), asdict(other)
        unlike = [name for name in mine if not np.isclose(mine[name], theirs[name], rtol=1e-4)]
        return ", ".join(f"{name} {theirs[name]:g} instead of {mine[name]:g}" for name in unlike)


@contextmanager
def _in_colossus(parameters: CosmologyParameters) -> Iterator[Any]:
    """The cosmology set in colossus for a while: it has one for all its functions."""
    usual = set_colossus()
    background = parameters.background
    values = {"flat": True, "H0": background.H0.value, "Om0": background.Om0, "Ob0": background.Ob0}
    values |= {"Tcmb0": background.Tcmb0.value, "Neff": background.Neff}
    values |= {"sigma8": parameters.sigma8, "ns": parameters.spectral_index}
    try:
        yield colossus_cosmology.setCosmology("counts", params=values, persistence="")
    finally:
        colossus_cosmology.setCurrent(usual)


def halo_counts(z: Floats, m500_1e14msun: Floats, parameters: CosmologyParameters = CosmologyParameters()) -> Floats:
    """Haloes on the whole sky per unit of redshift and of ln M500c.

    Source: Tinker et al. (2008), ApJ 688, 709, with the power spectrum of Eisenstein & Hu (1998), both of colossus:
    the mass function of the simulated skies.

    Parameters
    ----------
    z : (n_z,) float64
        Above 0.
    m500_1e14msun : (n_mass,) float64
        True M500c in 1e14 Msun.
    parameters : CosmologyParameters

    Returns
    -------
    (n_z, n_mass) float64

    Examples
    --------
    >>> round(float(halo_counts(np.array([0.2]), np.array([5.0]))[0, 0]))
    13495
    """
    with _in_colossus(parameters) as cosmology:
        mass = np.asarray(m500_1e14msun, float) * 1e14 * cosmology.h
        density = [
            colossus_mass_function.massFunction(mass, float(each), mdef="500c", model="tinker08", q_out="dndlnM")
            for each in z
        ]
    volume = 4 * np.pi * parameters.background.differential_comoving_volume(z).value  # Mpc^3 per dz
    return np.asarray(np.array(density) * parameters.h**3 * volume[:, None])
