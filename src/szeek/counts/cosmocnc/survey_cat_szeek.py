"""The catalogue of an SZeek survey for cosmocnc 1.2 (cnc_params["survey_cat"]); reads the files beside it.

cnc_params["cluster_catalogue"] names the catalogue's file: catalogue.npz, or one of mocks.
"""

from pathlib import Path
from typing import Any

import numpy as np

BRIGHT = 40.0  # S/N above it is compressed, as survey_sr_szeek.py explains


class cluster_catalogue_survey:
    """Columns as cosmocnc asks for them."""

    def __init__(
        self, catalogue_name: str = "catalogue.npz", observables: Any = None, obs_select: Any = None,
        cnc_params: Any = None,
    ) -> None:  # fmt: skip
        folder = Path(__file__).parent
        with np.load(folder / catalogue_name) as file:
            columns = {name: file[name] for name in file.files}
        low = cnc_params["obs_select_min"] if cnc_params else -np.inf
        counted = (columns["snr"] >= low) & (columns["patch"] >= 0)
        columns = {name: values[counted] for name, values in columns.items()}
        snr = columns["snr"]
        written = np.where(snr > BRIGHT, BRIGHT * (1 + np.log(np.maximum(snr, BRIGHT) / BRIGHT)), snr)
        self.name = columns["name"]
        self.catalogue = {
            "q_szeek": written,
            "z": columns["z"],  # NaN: not known
            "z_std": np.zeros(len(snr)),
            "validated": columns["validated"].astype(float),
        }
        self.catalogue_patch = {"q_szeek": columns["patch"].astype(float)}
        self.pdf_false_detection = np.load(folder / "false.npy")
        self.M = np.full(len(snr), np.nan)
