"""The spectrum of one position: its excess in every band, and the tSZ effect and dust fitted to it.

Deliberately simple, for a check by eye: in each band the mean of a disc of 8 arcmin radius less the median of the
ring of 15 to 25 arcmin, at the map's own resolution; its error is the scatter of the same number at 24 places 45
arcmin away. Two templates are fitted, the tSZ effect and Galactic dust.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from szeek.physics.instrument import Instrument
from szeek.pipeline.products import RunFolder
from szeek.sky.mapset import MapSet
from szeek.sky.projection import sample_field
from szeek.sky.skymaps import SkyMaps

DISC_ARCMIN, RING_ARCMIN, AWAY_ARCMIN, N_AWAY = 8.0, (15.0, 25.0), 45.0, 24
_PIXEL_ARCMIN = 1.5
#: Dust as a modified black body: index and temperature, mean over the sky. Planck 2015 results X, A&A 594, A10.
DUST_BETA, DUST_KELVIN = 1.55, 20.3
_H_OVER_K = 0.0479924307  #: h / k in K per GHz


@dataclass(frozen=True)
class Spectrum:
    """Excess of a candidate in each band, and the two templates fitted to it.

    Parameters
    ----------
    freq_ghz, excess, error : (n_band,) float64
        Nominal frequency; excess and its error in kJy/sr.
    y, y_error : float
        Compton y of the disc, from the fit.
    dust : float
        Dust at 353 GHz in kJy/sr, from the fit.
    chi2 : float
        Of the fit, for n_band - 2 degrees of freedom.
    tsz, dust_shape : (n_band,) float64
        Templates: kJy/sr per unit y, and dust, 1 at 353 GHz.
    """

    freq_ghz: NDArray[np.float64]
    excess: NDArray[np.float64]
    error: NDArray[np.float64]
    y: float
    y_error: float
    dust: float
    chi2: float
    tsz: NDArray[np.float64]
    dust_shape: NDArray[np.float64]


def instrument_of(run: RunFolder) -> Instrument | None:
    """The experiment of a run; None where the run has no maps, or maps of other bands."""
    if run.maps is None:
        return None
    names = tuple(band.name for band in run.maps.bands)
    return run.instrument if run.instrument.band_names == names else None


def measure_spectrum(
    maps: SkyMaps | MapSet, instrument: Instrument, lon_deg: float, lat_deg: float
) -> Spectrum | None:
    """Disc-less-ring excess of a position in every band, with the tSZ effect and dust fitted to it.

    Returns
    -------
    Spectrum or None
        None where the field is not observed well enough to measure it.
    """
    n = round(2 * (AWAY_ARCMIN + RING_ARCMIN[1] + 1) / _PIXEL_ARCMIN) | 1
    field = np.asarray(sample_field(maps, lon_deg, lat_deg, 0.0, n, n, _PIXEL_ARCMIN), float)
    per_unit = 1e3 * instrument.mjysr_per_kcmb / instrument.unit_per_kcmb  # kJy/sr per map unit
    axis = _PIXEL_ARCMIN * np.asarray(np.arange(n) - (n - 1) / 2, float)
    excess = _disc_less_ring(field, axis, 0.0, 0.0)
    angles = np.linspace(0, 2 * np.pi, N_AWAY, endpoint=False)
    away = np.array(
        [_disc_less_ring(field, axis, AWAY_ARCMIN * math.cos(a), AWAY_ARCMIN * math.sin(a)) for a in angles]
    )
    if not np.isfinite(excess).all() or np.isfinite(away).all(axis=1).sum() < N_AWAY // 2:
        return None
    excess, error = excess * per_unit, np.nanstd(away, axis=0, ddof=1) * per_unit
    freq_ghz = np.array([band.freq_ghz for band in maps.bands])
    tsz = 1e3 * instrument.tsz_kcmb * instrument.mjysr_per_kcmb
    dust_shape = _dust(freq_ghz)
    weight = 1.0 / np.maximum(error, 1e-12)
    design = np.stack([tsz, dust_shape], axis=1) * weight[:, None]
    covariance = np.linalg.inv(design.T @ design)
    y, dust = covariance @ design.T @ (excess * weight)
    chi2 = float((((excess - y * tsz - dust * dust_shape) * weight) ** 2).sum())
    return Spectrum(
        freq_ghz, excess, error, float(y), math.sqrt(covariance[0, 0]), float(dust), chi2, tsz, dust_shape
    )


def _disc_less_ring(
    field: NDArray[np.float64], axis: NDArray[np.float64], x_arcmin: float, y_arcmin: float
) -> NDArray[np.float64]:
    distance = np.hypot(axis[None, :] - x_arcmin, axis[:, None] - y_arcmin)
    disc = field[distance <= DISC_ARCMIN]
    ring = field[(distance >= RING_ARCMIN[0]) & (distance <= RING_ARCMIN[1])]
    return np.asarray(disc.mean(axis=0) - np.median(ring, axis=0))


def _dust(freq_ghz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Modified black body in brightness, 1 at 353 GHz."""

    def brightness(freq: NDArray[np.float64] | float) -> Any:
        return freq ** (3 + DUST_BETA) / np.expm1(_H_OVER_K * freq / DUST_KELVIN)

    return np.asarray(brightness(freq_ghz) / brightness(353.0))
