"""Sources of a p map with all that a model tells of them: purity and position errors, where they were measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.assess.calibrate import Calibration
from szeek.assess.selection import PositionErrors
from szeek.find.detect import detect_sources
from szeek.inputs.reddening import reddening_mag

#: Purity against p, beside the model that it is of.
CALIBRATION = "calibration.ecsv"
#: Position errors against p, likewise.
POSITIONS = "positions.ecsv"
#: Sources down to here are calibrated on.
LOWEST_P = 0.05


def find_sources(p_map: NDArray[np.float32], p_max: float, *, deblend: bool, model: Path | None = None) -> Table:
    """Sources with the reddening there and, where the model's folder holds a calibration, their purity."""
    sources = detect_sources(p_map, p_max, weighted=deblend, deblend=deblend)
    sources["dust"] = reddening_mag(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    if model is not None and (model / CALIBRATION).is_file():
        calibration = Calibration.from_table(Table.read(model / CALIBRATION))
        sources["purity"] = calibration.predict(sources["p"], sources["dust"])
    if model is not None and (model / POSITIONS).is_file():
        errors = PositionErrors.from_table(Table.read(model / POSITIONS))
        sources["pos_err_arcmin"], sources["pos_err95_arcmin"] = errors.predict(sources["p"])
    return sources
