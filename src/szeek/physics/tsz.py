"""The thermal SZ spectrum, with its relativistic correction, averaged over an experiment's bands.

    dT/T_CMB = y [Y0(x) + theta_e Y1(x) + theta_e^2 Y2(x) + theta_e^3 Y3(x)],   Y0 = x coth(x/2) - 4
    band average in K_CMB:  int tau (dB/dT) f dnu / int tau (dB/dT) dnu

x = h nu / k T_CMB, theta_e = k T_e / m_e c^2; the Y_i are of Itoh, Kohyama & Nozawa (1998).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from szeek.physics.bandpass import GHZ_PER_X, T_CMB_K, Bandpass, Floats
from szeek.physics.instrument import Instrument

_KEV_PER_THETA = 510.99895  # m_e c^2
#: Largest electron temperature for which the third-order expansion is used, keV.
T_E_MAX_KEV = 15.0


def _expansion(freq_ghz: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Y0 to Y3 of Itoh, Kohyama & Nozawa (1998), eqs. 2.26-2.29, at some frequencies."""
    x = freq_ghz / GHZ_PER_X
    c = x / np.tanh(x / 2)
    s = (x / np.sinh(x / 2)) ** 2
    y0 = c - 4
    y1 = -10 + c * (47 / 2 + c * (-42 / 5 + c * 7 / 10)) + s * (-21 / 5 + c * 7 / 5)
    y2 = -15 / 2 + c * (1023 / 8 + c * (-868 / 5 + c * (329 / 5 + c * (-44 / 5 + c * 11 / 30))))
    y2 = y2 + s * (-434 / 5 + c * (658 / 5 + c * (-242 / 5 + c * 143 / 30)))
    y2 = y2 + s**2 * (-44 / 5 + c * 187 / 60)
    y3 = 14253 / 10 + c * (-18594 / 35 + c * (12059 / 140 + c * (-128 / 21 + c * 16 / 105)))
    y3 = 15 / 2 + c * (2505 / 8 + c * (-7098 / 5 + c * y3))
    tail = -102267 / 35 + c * (156767 / 140 + c * (-1216 / 7 + c * 64 / 7))
    y3 = y3 + s * (-7098 / 10 + c * (14253 / 5 + c * tail))
    y3 = y3 + s**2 * (-18594 / 35 + c * (205003 / 280 + c * (-1920 / 7 + c * 1024 / 35)))
    y3 = y3 + s**3 * (-544 / 21 + c * 992 / 105)
    return y0, y1, y2, y3


def tsz_spectrum(freq_ghz: ArrayLike, t_e_kev: float = 0.0) -> Floats:
    """tSZ temperature change dT/T_CMB per unit Compton y.

    Source: Itoh, Kohyama & Nozawa (1998), ApJ 502, 7, eqs. 2.25-2.29, to third order in the temperature.

    Parameters
    ----------
    freq_ghz : (n,) float64
        Frequencies.
    t_e_kev : float
        Electron temperature, 0 (non-relativistic) to 15 keV.

    Raises
    ------
    ValueError
        For a temperature outside that range, where the expansion does not hold.

    Examples
    --------
    >>> tsz_spectrum([143.0]).round(3)
    array([-1.04])
    """
    if not 0.0 <= t_e_kev <= T_E_MAX_KEV:
        raise ValueError(f"t_e_kev is {t_e_kev}, expected 0 to {T_E_MAX_KEV:g} keV")
    theta = t_e_kev / _KEV_PER_THETA
    y0, y1, y2, y3 = _expansion(np.asarray(freq_ghz, np.float64))
    return np.asarray(y0 + theta * (y1 + theta * (y2 + theta * y3)))


def _average(bandpass: Bandpass) -> Floats:
    """Band averages of Y0 to Y3 in K_CMB per (y T_CMB), (4,)."""
    x = bandpass.freq_ghz / GHZ_PER_X
    weight = bandpass.transmission * x**4 * np.exp(-x) / np.expm1(-x) ** 2  # dB/dT
    total = np.trapezoid(weight, bandpass.freq_ghz)
    return np.array([np.trapezoid(weight * y, bandpass.freq_ghz) / total for y in _expansion(bandpass.freq_ghz)])


def bandpass_response(bandpass: Bandpass) -> float:
    """Non-relativistic tSZ response of a band: K_CMB per unit Compton y.

    Examples
    --------
    Planck 2015 results XXII has -2.785 for the measured bandpass at 143 GHz:

    >>> round(bandpass_response(Bandpass.flat(143.0)), 2)
    -2.78
    """
    return float(T_CMB_K * _average(bandpass)[0])


def band_response(
    instrument: Instrument,
    t_e_kev: ArrayLike = 0.0,
    *,
    bandpasses: Mapping[str, Bandpass] | None = None,
) -> Floats:
    """tSZ signal per unit Compton y in each band, in the band's map unit.

    Parameters
    ----------
    instrument : Instrument
        The experiment; its own table is used where no bandpass is given.
    t_e_kev : float or (n,) float64
        Electron temperatures; clipped at 15 keV, 0 for the non-relativistic limit.
    bandpasses : mapping of band name to Bandpass, optional
        Measured transmissions (:func:`szeek.inputs.instrument.read_bandpasses`). Without them the relativistic
        *change* is averaged over the band's own bandpass, or a flat band 33 % wide where it has none, and added to
        the instrument's table.

    Returns
    -------
    (n_band,) float64 or (n, n_band) float64
        K_CMB or MJy/sr per unit y.

    Raises
    ------
    ValueError
        If a bandpass is missing or a temperature is negative.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> [f"{value:.2f}" for value in band_response(read_instrument("planck-hfi"))]
    ['-4.03', '-2.79', '0.19', '6.21', '838.97', '59.78']
    """
    theta = np.asarray(t_e_kev, np.float64)
    if (theta < 0).any():
        raise ValueError(f"t_e_kev goes down to {theta.min()}, expected no negative temperature")
    if bandpasses is not None and (missing := [n for n in instrument.band_names if n not in bandpasses]):
        raise ValueError(f"no bandpass for {', '.join(missing)}, found {', '.join(bandpasses)}")
    theta = np.minimum(theta, T_E_MAX_KEV) / _KEV_PER_THETA
    kelvin = np.empty((*theta.shape, len(instrument.bands)))
    for column, band in enumerate(instrument.bands):
        if bandpasses is not None:
            y0, y1, y2, y3 = T_CMB_K * _average(bandpasses[band.name])
        else:
            own = instrument.details[column].bandpass or Bandpass.flat(band.freq_ghz)
            _, y1, y2, y3 = T_CMB_K * _average(own)
            y0 = instrument.tsz_kcmb[column]
        kelvin[..., column] = y0 + theta * (y1 + theta * (y2 + theta * y3))
    return kelvin * instrument.unit_per_kcmb
