"""Holds a simulated field against published spectra, source counts and numbers of clusters."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.physics.instrument import Instrument
from szeek.simulate.components.sources import draw_dusty_sources
from szeek.simulate.field.diffuse import cib_power_jy2_sr, fine_cmb_spectrum
from szeek.simulate.field.lattice import Lattice, multipoles

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

_ARCMIN = np.pi / 180 / 60
_COLUMNS = ("check", "source", "published", "ours", "tolerance", "status")


def measure_spectrum(
    first: NDArray[np.floating], second: NDArray[np.floating], lattice: Lattice, edges: Floats
) -> Floats:
    """Mean C_l between multipoles of two maps of a field, as on a plane at its middle declination.

    Parameters
    ----------
    first, second : (ny, nx) float
        Weighted already; divided by the mean square of the weights by the caller.
    lattice : Lattice
    edges : (n + 1,) float64

    Returns
    -------
    (n,) float64
    """
    step = np.radians(lattice.dec_deg[1] - lattice.dec_deg[0])
    cosine = float(np.cos(np.radians(lattice.dec_deg)).mean())
    k_y = 2 * np.pi * scipy.fft.fftfreq(lattice.shape[0], step)
    k_x = 2 * np.pi * scipy.fft.rfftfreq(lattice.shape[1], step) / cosine
    ell = np.hypot(k_y[:, None], k_x)
    wave = scipy.fft.rfft2(first)
    power = (wave * np.conj(wave if second is first else scipy.fft.rfft2(second))).real * step**2 * cosine
    power /= lattice.shape[0] * lattice.shape[1]
    weight = np.full(ell.shape, 2.0)
    weight[:, 0] = 1.0
    total, _ = np.histogram(ell, edges, weights=power * weight)
    modes, _ = np.histogram(ell, edges, weights=weight)
    return np.asarray(total / modes)


def matched_filter_sigma(instrument: Instrument, theta500_arcmin: Floats, seed: int) -> Floats:
    """Noise of Y500, arcmin^2, of a matched filter over all bands at the instrument's median depth, (n,).

    sigma^-2 = int l dl / 2 pi  t^T C^-1 t,  with t = response x beam x profile and C of CMB, dusty and radio galaxies
    (below 15 mJy) and noise: what a filter of known spectra reaches at best.

    Source: Melin et al. (2006, A&A 459, 341).
    """
    ell = multipoles()[5:]
    freq = np.array([band.freq_ghz for band in instrument.bands])
    per_jy = 1e-6 / instrument.mjysr_per_kcmb
    dust = np.sqrt(cib_power_jy2_sr(instrument, draw_dusty_sources(instrument, seed)))[:, 5:] * per_jy[:, None]
    radio = np.sqrt(_RADIO_SHOT_15_MJY) * (freq / 143.0) ** -0.6 * per_jy
    beams = instrument.beam(ell)
    covariance = np.einsum("il,jl->lij", dust, dust) + np.outer(radio, radio)
    covariance += fine_cmb_spectrum()[5:, None, None]
    covariance *= beams[:, :, None] * beams[:, None, :]
    covariance += np.einsum("li,ij->lij", instrument.noise_power(ell), np.eye(freq.size))
    signal = beams * instrument.tsz_kcmb
    gain = np.einsum("li,li->l", signal, np.linalg.solve(covariance, signal[:, :, None])[:, :, 0])
    kept = (ell > 300) & (beams.max(axis=1) > 1e-3)
    out = []
    for theta in np.atleast_1d(theta500_arcmin):
        shape = profile_transform(np.minimum(ell * theta * _ARCMIN, 400.0))
        out.append(np.trapezoid(np.where(kept, ell * shape**2 * gain, 0.0), ell) / (2 * np.pi))
    return np.asarray(np.array(out) ** -0.5 / _ARCMIN**2 / Y5R500_PER_Y500)


#: Radio shot noise below 15 mJy at 143 GHz of the counts that sources are drawn from, Jy^2/sr.
_RADIO_SHOT_15_MJY = 0.38
