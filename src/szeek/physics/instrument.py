"""An experiment as the physics sees it: bands with beam, unit, unit conversion, tSZ response and noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from szeek.physics.bandpass import Bandpass
from szeek.physics.beams import FWHM_PER_SIGMA, BeamTable
from szeek.sky.skymaps import Band

Floats = NDArray[np.float64]

_ARCMIN = math.pi / 10800


@dataclass(frozen=True)
class BandDetails:
    """What an instrument file may say of a band beyond its numbers.

    Parameters
    ----------
    bandpass : Bandpass, optional
        Measured transmission.
    beam : BeamTable, optional
        Measured beam; else a Gaussian of the band's FWHM.
    knee_ell, slope : float
        The noise power is white times 1 + (l / knee_ell)^slope; knee 0: white.
    pixel_window : bool
        Whether pixels hold the mean of the sky inside them; False where the beam includes that already.
    published_unit : str
        Unit in which the maps are published, where their headers state none; '' where unknown.

    Examples
    --------
    >>> BandDetails(knee_ell=2000.0, slope=-3.0).pixel_window
    True
    """

    bandpass: Bandpass | None = None
    beam: BeamTable | None = None
    knee_ell: float = 0.0
    slope: float = 0.0
    pixel_window: bool = True
    published_unit: str = ""


@dataclass(frozen=True)
class Instrument:
    """What SZeek needs to know about an experiment; arrays run over its bands.

    Parameters
    ----------
    name : str
        Name of the experiment, e.g. ``'planck-hfi'``.
    bands : tuple of Band
        Name, frequency, beam and map unit of each band.
    mjysr_per_kcmb : (n_band,) float64
        Conversion from K_CMB to MJy/sr (IRAS convention).
    tsz_kcmb : (n_band,) float64
        Non-relativistic tSZ response: K_CMB per unit Compton y, band-averaged.
    noise_uk_deg : (n_band,) float64
        White noise: uK_CMB deg where the map unit is K_CMB, kJy/sr deg where it is MJy/sr.
    details : tuple of BandDetails
        Bandpass, beam table, 1/f noise, pixel window and published unit of each band; as for Planck HFI where left
        out.
    """

    name: str
    bands: tuple[Band, ...]
    mjysr_per_kcmb: Floats
    tsz_kcmb: Floats
    noise_uk_deg: Floats
    details: tuple[BandDetails, ...] = ()

    def __post_init__(self) -> None:
        if not self.details:
            object.__setattr__(self, "details", (BandDetails(),) * len(self.bands))

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in their order."""
        return tuple(band.name for band in self.bands)

    @property
    def unit_per_kcmb(self) -> Floats:
        """Map unit per K_CMB in each band: 1 for K_CMB maps, ``mjysr_per_kcmb`` for MJy/sr maps."""
        return np.array(
            [1.0 if b.unit == "K_CMB" else f for b, f in zip(self.bands, self.mjysr_per_kcmb, strict=True)]
        )

    @property
    def tsz_response(self) -> Floats:
        """tSZ signal per unit Compton y, in each band's map unit."""
        return self.tsz_kcmb * self.unit_per_kcmb

    @property
    def published_unit(self) -> tuple[str, ...]:
        """Unit in which each band's maps are published, '' where unknown."""
        return tuple(detail.published_unit for detail in self.details)

    def beam(self, ell: ArrayLike) -> Floats:
        """Transform of each band's beam: its table, or exp(-(l sigma)^2 / 2) where it has none.

        Parameters
        ----------
        ell : (n_ell,) float64

        Returns
        -------
        (n_ell, n_band) float64

        Examples
        --------
        >>> from szeek.inputs.instrument import read_instrument
        >>> read_instrument("planck-hfi").beam([0.0, 1000.0])[:, 1].round(3).tolist()
        [1.0, 0.666]
        """
        at = np.asarray(ell, np.float64)
        columns = []
        for band, detail in zip(self.bands, self.details, strict=True):
            sigma = band.fwhm_arcmin / FWHM_PER_SIGMA * _ARCMIN
            columns.append(np.exp(-0.5 * (at * sigma) ** 2) if detail.beam is None else detail.beam(at))
        return np.stack(columns, axis=-1)

    def noise_power(self, ell: ArrayLike) -> Floats:
        """Noise power spectrum of each band, white times 1 + (l / knee)^slope; below l = 2 as at 2.

        Parameters
        ----------
        ell : (n_ell,) float64

        Returns
        -------
        (n_ell, n_band) float64
            Map unit squared times sr, not divided by the beam.

        Examples
        --------
        1 uK_CMB deg is 1 uK_CMB in a pixel of 1 deg^2:

        >>> from szeek.inputs.instrument import read_instrument
        >>> (read_instrument("planck-hfi").noise_power([100.0]) ** 0.5 * 1e6 * 180 / math.pi).round(3)[0, :3].tolist()
        [1.29, 0.55, 0.78]
        """
        at = np.maximum(np.asarray(ell, np.float64), 2.0)
        scale = np.array([1e-6 if band.unit == "K_CMB" else 1e-3 for band in self.bands])
        white = (self.noise_uk_deg * scale * (math.pi / 180)) ** 2
        red = [(at / d.knee_ell) ** d.slope if d.knee_ell > 0 else np.zeros_like(at) for d in self.details]
        return np.asarray(white * (1 + np.stack(red, axis=-1)))

    def select(self, columns: Sequence[int]) -> Instrument:
        """Some of the bands, in the order given."""
        of_band = {k: getattr(self, k)[list(columns)] for k in ("mjysr_per_kcmb", "tsz_kcmb", "noise_uk_deg")}
        bands, details = tuple(self.bands[k] for k in columns), tuple(self.details[k] for k in columns)
        return replace(self, bands=bands, details=details, **of_band)
