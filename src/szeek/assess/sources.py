"""Sources of a p map with all that is known of them from the map alone: reddening, purity and position errors."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.assess.calibrate import Calibration
from szeek.assess.selection import PositionErrors
from szeek.find.detect import detect_sources
from szeek.inputs.reddening import reddening_mag
from szeek.sky.partial import PartialMap

#: Sources down to here are calibrated on.
LOWEST_P = 0.05


def find_sources(
    p_map: NDArray[np.float32] | PartialMap,
    p_max: float,
    *,
    deblend: bool,
    calibration: Calibration | None = None,
    position_errors: PositionErrors | None = None,
    look_error: float = 0.0,
) -> Table:
    """Sources above a threshold, with the reddening there and, where they were measured, purity and position errors.

    Parameters
    ----------
    p_map : (n_pix,) float32, or PartialMap
        RING, Galactic, NaN outside the footprint.
    p_max : float
        Threshold on p.
    deblend : bool
        Separate neighbours that one connected area holds; positions weighted by p.
    calibration : Calibration, optional
        Purity against p, of the network that made the map.
    position_errors : PositionErrors, optional
        Likewise.
    look_error : float
        See :meth:`szeek.assess.calibrate.Calibration.predict_error`.

    Returns
    -------
    Table
        As :func:`~szeek.find.detect.detect_sources` returns it, with ``dust`` (mag) and, where they are known,
        ``purity``, ``purity_err``, ``pos_err_arcmin`` and ``pos_err95_arcmin``.

    Examples
    --------
    >>> import healpy
    >>> p_map = np.zeros(12 * 64**2, np.float32)
    >>> p_map[healpy.ang2pix(64, 30.0, 40.0, lonlat=True)] = 0.8
    >>> sources = find_sources(p_map, 0.1, deblend=False)
    >>> len(sources), round(float(sources["p"][0]), 3)
    (1, 0.8)
    """
    sources = detect_sources(p_map, p_max, weighted=deblend, deblend=deblend)
    sources["dust"] = reddening_mag(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    if calibration is not None:
        sources["purity"] = calibration.predict(sources["p"], sources["dust"])
        sources["purity_err"] = calibration.predict_error(sources["p"], sources["dust"], look_error)
    if position_errors is not None:
        sources["pos_err_arcmin"], sources["pos_err95_arcmin"] = position_errors.predict(sources["p"])
    return sources
