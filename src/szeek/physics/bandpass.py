r"""Transmission of a band, and what it makes of a spectrum.

    CMB, IRAS convention:   MJy/sr per K_CMB = int tau dB/dT dnu / int tau (nu_c / nu) dnu
    any spectrum I(nu):     MJy/sr           = int tau I dnu     / int tau (nu_c / nu) dnu

tau is the response to specific intensity, nu_c the band's nominal frequency, dB/dT the derivative of the Planck
spectrum at T_CMB.

Source: Planck 2013 results IX (A&A 571, A9), Sect. 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

T_CMB_K = 2.7255  # Fixsen (2009)
GHZ_PER_X = 20.836619 * T_CMB_K  # k T_CMB / h
_MJYSR_PER_K_GHZ2 = 0.03072361  # 2 k / c^2: brightness of 1 K_RJ at 1 GHz
#: Half width of a band without a measured bandpass, of its frequency: HFI's are about 33 % wide
#: (Planck 2013 results IX).
HALF_WIDTH = 0.165


@dataclass(frozen=True)
class Bandpass:
    """Transmission of a band: ``freq_ghz`` (n,) float64 increasing, ``transmission`` (n,) float64, any scale.

    The transmission multiplies the specific intensity. One measured with a Rayleigh-Jeans source and not divided by
    the square of the frequency, as ACT's are, is larger by that square.
    """

    freq_ghz: Floats
    transmission: Floats

    @classmethod
    def flat(cls, freq_ghz: float, half_width: float = HALF_WIDTH) -> Bandpass:
        """A band of constant transmission; half of its width is stated as a fraction of its frequency.

        Examples
        --------
        >>> Bandpass.flat(100.0).freq_ghz[[0, -1]].round(1).tolist()
        [83.5, 116.5]
        """
        grid = freq_ghz * np.linspace(1 - half_width, 1 + half_width, 101)
        return cls(grid, np.ones_like(grid))

    @property
    def mean_freq_ghz(self) -> float:
        """Mean frequency, weighted by the transmission."""
        weighted = np.trapezoid(self.freq_ghz * self.transmission, self.freq_ghz)
        return float(weighted / np.trapezoid(self.transmission, self.freq_ghz))

    def read_mjysr(self, spectrum: Callable[[Floats], Floats], nominal_ghz: float) -> float:
        """Brightness at the nominal frequency, IRAS convention, that the band reads for a spectrum.

        Parameters
        ----------
        spectrum : callable
            Called as spectrum(freq_ghz); intensity in any unit, which is that of the result.
        nominal_ghz : float

        Examples
        --------
        A spectrum of constant nu I needs no colour correction, whatever the band:

        >>> Bandpass.flat(150.0).read_mjysr(lambda freq_ghz: 300.0 / freq_ghz, 150.0)
        2.0
        """
        signal = np.trapezoid(self.transmission * spectrum(self.freq_ghz), self.freq_ghz)
        return float(signal / np.trapezoid(self.transmission * nominal_ghz / self.freq_ghz, self.freq_ghz))

    def mjysr_per_kcmb(self, nominal_ghz: float) -> float:
        """Conversion from K_CMB to MJy/sr, IRAS convention.

        Examples
        --------
        Planck 2013 results IX has 371.74 for the measured bandpass at 143 GHz:

        >>> round(Bandpass.flat(143.0).mjysr_per_kcmb(143.0), 1)
        373.6
        """
        return self.read_mjysr(cmb_derivative, nominal_ghz)


def cmb_derivative(freq_ghz: Floats) -> Floats:
    """dB/dT of the CMB in MJy/sr per K."""
    x = freq_ghz / GHZ_PER_X
    return np.asarray(_MJYSR_PER_K_GHZ2 * freq_ghz**2 * x**2 * np.exp(-x) / np.expm1(-x) ** 2)
