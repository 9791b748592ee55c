"""Noise of the detectors: white with the scan's depth pattern, and a tail at low multipoles.

Planck spins about an axis that stays near the ecliptic and precesses by 7.5 deg, with its line of sight 85 deg from
the axis. The time spent per solid angle at the height z = sin(ecliptic latitude) on the circle around an axis of
ecliptic latitude d is  1 / sqrt[(cos d sin 85)^2 - (z - sin d cos 85)^2],  averaged over d = 7.5 deg sin(phase).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from szeek.physics.instrument import Instrument
from szeek.simulate.haloes import random_generator
from szeek.sky.harmonics import Alm, Floats, Map32, gaussian_alm
from szeek.sky.healpix import ring_start

# Planck early results I (2011, A&A 536, A1).
_OPENING_DEG, _PRECESSION_DEG = 85.0, 7.5
# North ecliptic pole in Galactic coordinates: (l, b) = (96.3840, 29.8114) deg.
_POLE_LON, _POLE_LAT = np.radians(96.3840), np.radians(29.8114)
_TABLE_SIZE = 4096

# N_l relative to the nominal white level: white + blue (l/4000)^2 + red (4000/l) + (100/l)^1.5. The last is the rise
# at low l of half-mission differences (Planck 2018 results III, A&A 641, A3). The others are fitted, with
# the depth pattern below, to six real HFI cut-outs of 140 deg^2 around Coma, whose release is not stated: 353 GHz and
# above at 1500 < l < 4900; below, at 1000 < l < 4000, what auto spectra hold beyond the signal that bands share. They
# are 10 % less noisy than Table 4 of Planck 2018 results I in K_CMB bands, 15 % noisier at 545 and
# 857 GHz; the noise of 100 GHz rises with l (deconvolution of the detectors' time response).
_SHAPE = {
    "100": (0.53, 0.57, 0.0),
    "143": (0.815, 0.0, 0.0),
    "217": (0.79, 0.0, 0.0),
    "353": (0.81, 0.0, 0.0),
    "545": (0.90, 0.0, 0.30),
    "857": (1.00, 0.0, 0.40),
}
_NOMINAL_SHAPE = (1.0, 0.0, 0.0)
_TAIL_MULTIPOLE, _TAIL_SLOPE = 100.0, -1.5


def scan_depth(sin_ecliptic_latitude: Floats) -> Floats:
    """Relative integration time per solid angle, mean 1 over the sphere; same shape as the input."""
    edges = np.linspace(-1.0, 1.0, 2 * _TABLE_SIZE + 1)
    cumulative = np.zeros_like(edges)
    opening = np.radians(_OPENING_DEG)
    for phase in (np.arange(64) + 0.5) / 64 * 2 * np.pi:
        axis = np.radians(_PRECESSION_DEG) * np.sin(phase)
        u = (edges - np.sin(axis) * np.cos(opening)) / (np.cos(axis) * np.sin(opening))
        cumulative += np.arcsin(np.clip(u, -1.0, 1.0)) / np.pi
    time = np.diff(cumulative) / 64
    density = time / np.diff(edges) * 2.0
    # the scan is not that sharp: 2 deg of focal plane, and the poles themselves are just reached
    centres = 0.5 * (edges[1:] + edges[:-1])
    smooth = np.exp(-0.5 * ((np.arange(-300, 301)) / 60.0) ** 2)
    density = np.convolve(np.pad(density, 300, mode="edge"), smooth / smooth.sum(), mode="valid")
    density /= density.mean()
    return np.interp(sin_ecliptic_latitude, centres, density)


def noise_pattern(nside: int) -> Map32:
    """Standard deviation of the noise relative to the sky's rms, (12 nside^2,) float32 RING Galactic."""
    z = (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE * 2 - 1
    variance = 1.0 / scan_depth(z)
    variance /= variance.mean()
    pole = np.array([np.cos(_POLE_LAT) * np.cos(_POLE_LON), np.cos(_POLE_LAT) * np.sin(_POLE_LON), np.sin(_POLE_LAT)])
    pattern = np.empty(12 * nside * nside, np.float32)
    _fill_pattern(nside, pole, np.sqrt(variance).astype(np.float32), pattern)
    return pattern


@numba.njit(cache=True, parallel=True)
def _fill_pattern(nside, pole, table, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    for ring in numba.prange(1, 4 * nside):
        _fill_ring(nside, ring, pole, table, out)


@numba.njit(cache=True)
def _fill_ring(nside, ring, pole, table, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    start, count, z, first_lon = ring_start(nside, ring)
    s = np.sqrt((1.0 - z) * (1.0 + z))
    for k in range(count):
        phi = first_lon + k * 2 * np.pi / count
        height = pole[2] * z + s * (pole[0] * np.cos(phi) + pole[1] * np.sin(phi))
        out[start + k] = table[min(int((height + 1.0) * 0.5 * table.size), table.size - 1)]


def white_level(instrument: Instrument, nside: int) -> Floats:
    """Standard deviation of the white noise in a pixel, rms over the sky, (n_band,) float64 in map units."""
    pixel_deg = np.degrees(np.sqrt(4 * np.pi / (12 * nside * nside)))
    scale = np.where(instrument.unit_per_kcmb == 1.0, 1e-6, 1e-3)  # uK_CMB deg, kJy/sr deg
    white = np.array([_SHAPE.get(name, _NOMINAL_SHAPE)[0] for name in instrument.band_names])
    return np.asarray(instrument.noise_uk_deg * np.sqrt(white) * scale / pixel_deg)


def add_white_noise(
    values: NDArray[np.float32], level: float, pattern: Map32, rng: np.random.Generator, first: int = 0
) -> None:
    """Add white noise of standard deviation ``level * pattern`` to a map, in place, a million pixels at a time.

    ``values`` may be a part of the map, from its pixel ``first`` on: the noise is that of the whole one.
    """
    end = first + values.size
    for start in range(0, end, 1 << 20):
        stop = min(start + (1 << 20), end)
        draw = rng.standard_normal(stop - start, dtype=np.float32)
        if stop <= first:
            continue
        draw *= pattern[start:stop]
        draw *= np.float32(level)
        inside = max(start, first)
        values[inside - first : stop - first] += draw[inside - start :]


def draw_coloured_noise(instrument: Instrument, band: int, lmax: int, rng: np.random.Generator) -> Alm:
    """What a band's noise has beyond white, coefficients in map units, no beam; even over the sky."""
    ell = np.maximum(np.arange(lmax + 1.0), 5.0)
    scale = 1e-6 if instrument.bands[band].unit == "K_CMB" else 1e-3
    nominal = (instrument.noise_uk_deg[band] * scale * np.pi / 180) ** 2
    _, blue, red = _SHAPE.get(instrument.band_names[band], _NOMINAL_SHAPE)
    shape = blue * (ell / 4000.0) ** 2 + red * 4000.0 / ell + (ell / _TAIL_MULTIPOLE) ** _TAIL_SLOPE
    shape[:2] = 0.0
    return gaussian_alm(nominal * shape, lmax, rng)


def noise_generator(seed: int, band: str, part: str) -> np.random.Generator:
    """Generator of one band's noise; ``part`` is 'mean' or 'half difference'."""
    return random_generator(seed, f"noise {part} {band}")
