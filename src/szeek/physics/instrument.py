"""An experiment as the physics sees it: bands with beam, unit, unit conversion, tSZ response and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from szeek.sky.skymaps import Band


@dataclass(frozen=True)
class Instrument:
    """What SZeek needs to know about an experiment; arrays run over its bands.

    Parameters
    ----------
    name : str
        File name of the experiment, e.g. ``'planck-hfi'``.
    bands : tuple of Band
        Name, frequency, beam and map unit of each band.
    mjysr_per_kcmb : (n_band,) float64
        Conversion from K_CMB to MJy/sr (IRAS convention).
    tsz_kcmb : (n_band,) float64
        Non-relativistic tSZ response: K_CMB per unit Compton y, band-averaged.
    noise_uk_deg : (n_band,) float64
        White noise: uK_CMB deg where the map unit is K_CMB, kJy/sr deg where it is MJy/sr.
    """

    name: str
    bands: tuple[Band, ...]
    mjysr_per_kcmb: NDArray[np.float64]
    tsz_kcmb: NDArray[np.float64]
    noise_uk_deg: NDArray[np.float64]

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order of frequency."""
        return tuple(band.name for band in self.bands)

    @property
    def unit_per_kcmb(self) -> NDArray[np.float64]:
        """Map unit per K_CMB in each band: 1 for K_CMB maps, ``mjysr_per_kcmb`` for MJy/sr maps."""
        return np.array(
            [1.0 if b.unit == "K_CMB" else f for b, f in zip(self.bands, self.mjysr_per_kcmb, strict=True)]
        )

    @property
    def tsz_response(self) -> NDArray[np.float64]:
        """tSZ signal per unit Compton y, in each band's map unit."""
        return self.tsz_kcmb * self.unit_per_kcmb

    def select(self, columns: Sequence[int]) -> Instrument:
        """Some of the bands, in the order given."""
        of_band = {k: getattr(self, k)[list(columns)] for k in ("mjysr_per_kcmb", "tsz_kcmb", "noise_uk_deg")}
        return Instrument(self.name, tuple(self.bands[k] for k in columns), **of_band)
