"""Spectra of what shines in the microwave sky, in the bands of an instrument.

    tSZ: t_band(T_e),   dust: D = nu^beta B_nu(T_d) / (the same at 857 GHz),   radio: R = (nu / 100 GHz)^alpha

D and R are in MJy/sr at the nominal frequency. Where a band has its bandpass they are averaged over it, in the IRAS
convention; elsewhere there is no colour correction, which is a few per cent for both in HFI (Planck 2013 results IX,
A&A 571, A9).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from szeek.physics.instrument import Instrument
from szeek.physics.tsz import band_response

COMPONENTS = ("tsz", "dust", "radio", "cmb")
_GHZ_PER_K = 20.836619  # k / h
_DUST_PIVOT_GHZ, _RADIO_PIVOT_GHZ = 857.0, 100.0


def spectral_templates(
    instrument: Instrument,
    components: Sequence[str] = COMPONENTS,
    *,
    t_e_kev: float = 0.0,
    dust_temperature_k: float = 19.7,
    dust_index: float = 1.62,
    radio_index: float = -0.7,
) -> NDArray[np.float64]:
    """Spectra of the components, one row each, in the bands' map units.

    Source: dust 19.7 K and 1.62, Planck 2013 results XI (A&A 571, A11), all-sky means; radio -0.7, the
    usual index of optically thin synchrotron emission.

    Parameters
    ----------
    instrument : Instrument
    components : sequence of str
        Of 'tsz', 'dust', 'radio', 'cmb'.
    t_e_kev : float
        Electron temperature of the relativistic tSZ spectrum; 0: non-relativistic.
    dust_temperature_k, dust_index : float
        Modified black body.
    radio_index : float
        Of the flux density.

    Returns
    -------
    (n_component, n_band) float64

    Raises
    ------
    ValueError
        If a component is unknown.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> templates = spectral_templates(read_instrument("planck-hfi"), ("tsz", "cmb"))
    >>> templates.shape, bool(templates[0, 1] < 0 < templates[0, 3])  # a decrement at 143, an increment at 353 GHz
    ((2, 6), True)
    """
    freq_ghz = np.array([band.freq_ghz for band in instrument.bands])
    per_mjysr = instrument.unit_per_kcmb / instrument.mjysr_per_kcmb  # MJy/sr -> the band's map unit

    def radio(nu: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((nu / _RADIO_PIVOT_GHZ) ** radio_index)

    def dust(nu: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(nu ** (3 + dust_index) / np.expm1(nu / (_GHZ_PER_K * dust_temperature_k)))

    def in_bands(spectrum: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        values = spectrum(freq_ghz)
        for b, (band, detail) in enumerate(zip(instrument.bands, instrument.details, strict=True)):
            if detail.bandpass is not None:
                values[b] = detail.bandpass.read_mjysr(spectrum, band.freq_ghz)
        return values

    if unknown := sorted(set(components) - set(COMPONENTS)):
        raise ValueError(f"components {', '.join(unknown)} are unknown, expected some of {', '.join(COMPONENTS)}")
    rows = {
        "tsz": np.asarray(band_response(instrument, t_e_kev), float).ravel(),
        "dust": in_bands(dust) / dust(np.array(_DUST_PIVOT_GHZ)) * per_mjysr,
        "radio": in_bands(radio) * per_mjysr,
        "cmb": instrument.unit_per_kcmb,
    }
    return np.stack([rows[name] for name in components])
