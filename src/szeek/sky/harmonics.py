"""Spherical harmonics of whole-sky maps: draw, smooth, synthesise, analyse.

Coefficients (alm) are complex64, m-major as in healpy: l = m ... lmax for m = 0, then m = 1, .... A simulated
component that is a Gaussian field, or that has to be smoothed, lives as such, and the components of a band are added
there, so that each band costs one synthesis. Maps are HEALPix RING, Galactic.
"""

from __future__ import annotations

import math

import ducc0
import numpy as np
from numpy.typing import ArrayLike, NDArray

from szeek.sky.healpix import nside_of, pixel_window_sigma_rad

Alm = NDArray[np.complex64]
Map32 = NDArray[np.float32]
Floats = NDArray[np.float64]

#: sigma = FWHM / sqrt(8 ln 2)
FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))


def band_limit(nside: int) -> int:
    """Highest multipole of a simulated map: 3 nside - 1, at most 4096 (4.6 arcmin beams pass 6 % there)."""
    return min(3 * nside - 1, 4096)


def beam_window(fwhm_arcmin: float, lmax: int) -> Floats:
    """Window of a Gaussian beam in C_l^(1/2): exp(-l (l+1) sigma^2 / 2).

    Parameters
    ----------
    fwhm_arcmin : float
    lmax : int

    Returns
    -------
    (lmax + 1,) float64

    Examples
    --------
    >>> round(float(beam_window(10.0, 1000)[1000]), 3)
    0.466
    """
    ell = np.arange(lmax + 1.0)
    sigma = math.radians(fwhm_arcmin / 60.0) / FWHM_PER_SIGMA
    return np.exp(-0.5 * ell * (ell + 1.0) * sigma**2)


def pixel_window(nside: int, lmax: int) -> Floats:
    """Window of the HEALPix pixel, the same Gaussian approximation that the painted clusters use, (lmax + 1,)."""
    ell = np.arange(lmax + 1.0)
    return np.exp(-0.5 * ell * (ell + 1.0) * pixel_window_sigma_rad(nside) ** 2)


def multipole_limit(alm: Alm) -> int:
    """lmax of a triangular set of coefficients; it has (lmax + 1)(lmax + 2) / 2 of them."""
    lmax = round((math.sqrt(8 * alm.size + 1) - 3) / 2)
    if (lmax + 1) * (lmax + 2) // 2 != alm.size:
        raise ValueError(f"alm has {alm.size} coefficients, expected (lmax + 1)(lmax + 2) / 2 for some lmax")
    return lmax


def white_alm(lmax: int, rng: np.random.Generator) -> Alm:
    """Draw coefficients of a real Gaussian field with C_l = 1, ((lmax+1)(lmax+2)/2,) complex64."""
    size = (lmax + 1) * (lmax + 2) // 2
    alm = rng.standard_normal(2 * size, dtype=np.float32).view(np.complex64)
    alm *= np.float32(math.sqrt(0.5))
    alm[: lmax + 1] = alm.real[: lmax + 1] * np.float32(math.sqrt(2.0))
    return alm


def filter_alm(alm: Alm, window: ArrayLike, out: Alm | None = None) -> Alm:
    """Multiply coefficients by a window in l; ``out`` may be ``alm`` itself.

    Parameters
    ----------
    alm : complex64
    window : (>= lmax + 1,) float
    out : complex64, optional
        Where to put the result; a new array without it.
    """
    lmax = multipole_limit(alm)
    weights = np.asarray(window, dtype=np.float32)
    if weights.size <= lmax:
        raise ValueError(f"window has {weights.size} multipoles, expected at least {lmax + 1}")
    result = np.empty_like(alm) if out is None else out
    start = 0
    for m in range(lmax + 1):
        stop = start + lmax + 1 - m
        np.multiply(alm[start:stop], weights[m : lmax + 1], out=result[start:stop])
        start = stop
    return result


def add_alm(total: Alm, alm: Alm, window: ArrayLike) -> None:
    """Add window(l) x ``alm`` to ``total``; ``alm`` may end at a lower lmax than ``total``, or at a higher one."""
    lmax_total, lmax = multipole_limit(total), multipole_limit(alm)
    weights = np.asarray(window, dtype=np.float32)
    top = min(lmax, lmax_total)
    into, start = 0, 0
    for m in range(top + 1):
        total[into : into + top + 1 - m] += alm[start : start + top + 1 - m] * weights[m : top + 1]
        into += lmax_total + 1 - m
        start += lmax + 1 - m


def gaussian_alm(spectrum: ArrayLike, lmax: int, rng: np.random.Generator) -> Alm:
    """Draw a Gaussian field of power spectrum C_l, complex64 coefficients up to ``lmax``."""
    alm = white_alm(lmax, rng)
    return filter_alm(alm, np.sqrt(np.asarray(spectrum, dtype=np.float64)), out=alm)


def synthesise(alm: Alm, nside: int, threads: int = 0, rings: slice = slice(None)) -> Map32:
    """Map of harmonic coefficients.

    Parameters
    ----------
    alm : complex64
        Any lmax.
    nside : int
    threads : int
        0 uses all cores. The result has the same bits for any number.
    rings : slice
        Only these rings, from 0 to 4 nside - 2.

    Returns
    -------
    (12 nside^2,) float32
        RING; of some rings their pixels alone.
    """
    geometry = {name: values[rings] for name, values in ducc0.healpix.Healpix_Base(nside, "RING").sht_info().items()}
    geometry["ringstart"] = geometry["ringstart"] - geometry["ringstart"][0]
    lmax = multipole_limit(alm)
    values = ducc0.sht.experimental.synthesis(alm=alm.reshape(1, -1), lmax=lmax, spin=0, nthreads=threads, **geometry)
    return np.asarray(values[0])


def analyse(values: NDArray[np.floating], lmax: int, threads: int = 0, iterations: int = 0) -> Alm:
    """Harmonic coefficients of a RING map by quadrature with equal weights, refined by Jacobi iterations.

    Without an iteration the error is about 1e-3 of the map's large-scale amplitude.
    """
    single = np.ascontiguousarray(values, dtype=np.float32)
    nside = nside_of(single)
    geometry = ducc0.healpix.Healpix_Base(nside, "RING").sht_info()

    def quadrature(field: Map32) -> Alm:
        alm = ducc0.sht.experimental.adjoint_synthesis(
            map=field.reshape(1, -1), lmax=lmax, spin=0, nthreads=threads, **geometry
        )[0]
        alm *= np.float32(4.0 * math.pi / field.size)
        return np.asarray(alm)

    alm = quadrature(single)
    for _ in range(iterations):
        alm += quadrature(single - synthesise(alm, nside, threads))
    return alm


def power_spectrum(alm: Alm, other: Alm | None = None) -> Floats:
    """C_l = sum_m a_lm b_lm* / (2 l + 1), (lmax + 1,) float64."""
    lmax = multipole_limit(alm)
    second = alm if other is None else other
    power = np.zeros(lmax + 1)
    start = 0
    for m in range(lmax + 1):
        stop = start + lmax + 1 - m
        product = alm[start:stop].real.astype(np.float64) * second[start:stop].real
        product += alm[start:stop].imag.astype(np.float64) * second[start:stop].imag
        power[m:] += product if m == 0 else 2.0 * product
        start = stop
    return power / (2.0 * np.arange(lmax + 1) + 1.0)
