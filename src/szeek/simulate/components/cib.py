"""The cosmic infrared background: correlated between the bands and with the large-scale structure.

Six bands are six combinations of white fields w_k with C_l = 1,

    a^b_lm = sum_k L_bk(l) w^k_lm,      L L^T = C(l) = C_clustered(l) + C_shot,

with L from a Cholesky factorisation at each l in which the 353 GHz band, at the heart of the CIB, comes first, so
that w^0 is what the bands share. On scales that the density shells resolve, w^0 is the weighted sum of those
shells, which the clusters follow too.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from szeek.physics.instrument import Instrument
from szeek.simulate.haloes import DensityShell, random_generator
from szeek.sky.harmonics import (
    Alm,
    Floats,
    add_alm,
    analyse,
    filter_alm,
    power_spectrum,
    white_alm,
)

BANDS = ("100", "143", "217", "353", "545", "857")

#: Dusty shot noise in Jy^2/sr for sources below FLUX_CUT_JY. Between 353 and 857 GHz it is what the spectra that
#: Planck 2013 results XXX (A&A 571, A30) measured at l = 1505, 1956 and 2649 hold beyond the clustered part used
#: here, so that the sums are as measured. With 225, 543, 1454, 913, 2655 and 5628, which its table of shot noise has
#: from the counts of Bethermin et al. (2012), they are 4 to 16 % too small; a fit to Planck and Herschel has 357,
#: 2344 and 7385 in the three bands (Maniyar et al. 2021, A&A 645, A40). The others are those of the counts; 100 GHz
#: is scaled from 143 GHz with the SED of the clustered part.
DUSTY_SHOT_JY2_SR = {
    ("857", "857"): 6428.0,
    ("857", "545"): 3240.0,
    ("857", "353"): 1202.0,
    ("857", "217"): 216.0,
    ("857", "143"): 56.0,
    ("545", "545"): 1938.0,
    ("545", "353"): 741.0,
    ("545", "217"): 135.0,
    ("545", "143"): 35.0,
    ("353", "353"): 323.0,
    ("353", "217"): 59.0,
    ("353", "143"): 15.0,
    ("217", "217"): 16.0,
    ("217", "143"): 4.3,
    ("143", "143"): 1.2,
}
#: Flux cuts of those shot-noise levels, after Planck 2013 results XXX.
FLUX_CUT_JY = {"100": 0.400, "143": 0.350, "217": 0.225, "353": 0.315, "545": 0.350, "857": 0.710}

#: Amplitude of the clustered CIB relative to Planck 2013 results XXX, whose 545 and 857 GHz maps were calibrated to
#: about 10 % (after Planck 2013 results VIII, A&A 571, A8). Fitted to six real HFI cut-outs around Coma: there, at
#: 857 GHz and 700 < l < 1500, clustered part and shot noise as published leave no room for dust; 545 GHz agrees.
CALIBRATION = {"857": 0.90}

_SHELL_LMAX = 600  # nside-256 shells are cut off softly from here on
_MASTER = 3  # 353 GHz


def clustered_spectra(lmax: int) -> NDArray[np.float64]:
    """Clustered auto and cross spectra, (lmax + 1, 6, 6) float64 in Jy^2/sr, zero at l < 2.

    Source: Planck 2013 results XXX, extended halo model (shipped table). Below l = 50, where nothing was
    measured, the spectrum stays at its value at l = 50.
    """
    with (resources.files("szeek.simulate") / "data" / "planck2014_cib.txt").open() as lines:
        rows = [line.split() for line in lines if not line.startswith("#")]
    table = np.array(rows[1:], dtype=np.float64)
    log_ell = np.log(np.clip(np.arange(lmax + 1.0), table[0, 0], table[-1, 0]))
    spectra = np.zeros((lmax + 1, 6, 6))
    for column, name in enumerate(rows[0][1:], start=1):
        first, second = (BANDS.index(b) for b in name.split("x"))
        values = np.exp(np.interp(log_ell, np.log(table[:, 0]), np.log(table[:, column])))
        values[:2] = 0.0
        spectra[:, first, second] = spectra[:, second, first] = values
    return spectra


def dusty_shot_noise() -> Floats:
    """Shot noise of dusty galaxies below the flux cuts of Planck 2013 XXX, (6, 6) float64 in Jy^2/sr."""
    shot = np.zeros((6, 6))
    for (first, second), value in DUSTY_SHOT_JY2_SR.items():
        i, j = BANDS.index(first), BANDS.index(second)
        shot[i, j] = shot[j, i] = value
    ratio = np.sqrt(0.151 / 1.53)  # 100 over 143 GHz of the clustered part at l = 1434
    shot[0, 1:] = shot[1:, 0] = shot[1, 1:] * ratio
    shot[0, 0] = shot[1, 1] * ratio**2
    return shot


def _nearest_covariance(matrices: NDArray[np.float64], floor: float = 1e-6) -> NDArray[np.float64]:
    """Covariances with eigenvalues of the correlation matrix no smaller than ``floor``."""
    scale = np.sqrt(np.einsum("...ii->...i", matrices))
    scale = np.where(scale > 0, scale, 1.0)
    correlation = matrices / scale[..., :, None] / scale[..., None, :]
    values, vectors = np.linalg.eigh(correlation)
    values = np.maximum(values, floor)
    fixed = np.einsum("...ij,...j,...kj->...ik", vectors, values, vectors)
    return np.asarray(fixed * scale[..., :, None] * scale[..., None, :])


def star_formation_weight(z: float) -> float:
    """Relative CIB emissivity of a redshift shell per comoving depth: star-formation history over (1 + z).

    Source: Madau & Dickinson (2014, ARA&A 52, 415), eq. 15, bias growing as 0.8 + 0.8 z (after Planck 2013 XXX).
    """
    history = (1 + z) ** 2.7 / (1 + ((1 + z) / 2.9) ** 5.6)
    return float(history / (1 + z) * (0.8 + 0.8 * z))


def large_scale_field(shells: Iterable[DensityShell], lmax: int, seed: int, threads: int = 0) -> Alm:
    """White field (C_l = 1) that follows the density shells at l below 600 and is Gaussian above."""
    total = None
    for shell in shells:
        weight = np.float32(star_formation_weight(shell.z) * (shell.z_max - shell.z_min))
        total = weight * shell.delta if total is None else total + weight * shell.delta
    white = white_alm(lmax, random_generator(seed, "cib 0"))
    if total is None:
        return white
    top = min(_SHELL_LMAX, lmax)
    density = analyse(total - np.mean(total), top, threads, iterations=1)
    power = power_spectrum(density)
    power[:2] = power[2]
    kernel = np.ones(31) / 31  # cosmic variance stays in, the shape goes out
    smooth = np.exp(np.convolve(np.pad(np.log(power), 15, mode="edge"), kernel, mode="valid"))
    ell = np.arange(lmax + 1.0)
    coherence = np.clip(1.0 - (ell - 0.7 * _SHELL_LMAX) / (0.3 * _SHELL_LMAX), 0.0, 1.0)
    filter_alm(white, np.sqrt(1.0 - coherence**2), out=white)
    add_alm(white, density, coherence[: top + 1] / np.sqrt(smooth))
    return white


def draw_cib(
    instrument: Instrument,
    lmax: int,
    seed: int,
    *,
    shot_painted_jy2_sr: Floats | None = None,
    shells: Iterable[DensityShell] = (),
    threads: int = 0,
) -> list[Alm]:
    """Draw the CIB in every band.

    Parameters
    ----------
    instrument : Instrument
        With the bands 100 ... 857.
    lmax : int
    seed : int
    shot_painted_jy2_sr : (6, 6) float64, optional
        Shot noise of sources that are painted one by one and lie below the flux cuts; it is left out here.
    shells : iterable of DensityShell, optional
        Large-scale structure to follow.
    threads : int

    Returns
    -------
    list of complex64, one per band, coefficients in the band's map unit, without beam.

    Raises
    ------
    ValueError
        If the instrument has other bands than Planck HFI.
    """
    if instrument.band_names != BANDS:
        raise ValueError(f"the CIB model has the bands {BANDS}, the instrument has {instrument.band_names}")
    shot = dusty_shot_noise()
    if shot_painted_jy2_sr is not None:
        shot = shot - np.minimum(shot_painted_jy2_sr, 0.95 * shot)
    gain = np.array([CALIBRATION.get(name, 1.0) for name in BANDS])
    spectra = clustered_spectra(lmax) * np.outer(gain, gain) + shot
    spectra[:2] = 0.0
    order = [_MASTER, *(b for b in range(6) if b != _MASTER)]
    covariance = _nearest_covariance(spectra[2:, order][:, :, order])
    root = np.zeros((lmax + 1, 6, 6))
    root[2:] = np.linalg.cholesky(covariance)
    fields = _fields(lmax, seed, shells, threads)
    per_jy = instrument.unit_per_kcmb / instrument.mjysr_per_kcmb * 1e-6
    bands: list[Alm] = [np.zeros(0, np.complex64)] * 6
    for row in reversed(range(6)):  # from the last, so that its own white field can be reused for the result
        band = order[row]
        total = filter_alm(fields[row], root[:, row, row] * per_jy[band], out=fields[row] if row else None)
        for k in range(row):
            add_alm(total, fields[k], root[:, row, k] * per_jy[band])
        bands[band] = total
    return bands


def _fields(lmax: int, seed: int, shells: Iterable[DensityShell], threads: int) -> list[Alm]:
    """The six white fields."""
    first = large_scale_field(shells, lmax, seed, threads)
    return [first, *(white_alm(lmax, random_generator(seed, f"cib {k}")) for k in range(1, 6))]
