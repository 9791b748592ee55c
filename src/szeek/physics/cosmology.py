"""The cosmology that simulation, scaling relations and masses share."""

from __future__ import annotations

from functools import cache

import numpy as np
from astropy.cosmology import FlatLambdaCDM
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

#: Planck 2018 results VI (A&A 641, A6), Table 2, TT,TE,EE+lowE+lensing+BAO.
COSMOLOGY = FlatLambdaCDM(H0=67.66, Om0=0.3111, Ob0=0.0490, Tcmb0=2.7255, Neff=3.046)
#: Amplitude and slope of the power spectrum of matter, of the same table.
SIGMA8, SPECTRAL_INDEX = 0.8102, 0.9665


def angular_diameter_distance_mpc(z: ArrayLike, cosmology: FlatLambdaCDM = COSMOLOGY) -> Floats:
    """Angular diameter distance in Mpc of any number of redshifts between 0.001 and 5, tabulated to 1e-5.

    Examples
    --------
    >>> float(angular_diameter_distance_mpc(0.0231).round(1))  # Coma
    99.5
    """
    grid, distance = _own_distances() if cosmology is COSMOLOGY else _tabulate_distances(cosmology)
    return np.asarray(np.interp(np.asarray(z, np.float64), grid, distance))


@cache
def _own_distances() -> tuple[Floats, Floats]:
    return _tabulate_distances(COSMOLOGY)


def _tabulate_distances(cosmology: FlatLambdaCDM) -> tuple[Floats, Floats]:
    grid = np.geomspace(0.001, 5.0, 3000)
    return grid, cosmology.angular_diameter_distance(grid).value
