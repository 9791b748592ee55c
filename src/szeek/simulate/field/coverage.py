"""How deep a survey sees a field, and the noise of its maps: white by the depth, and the atmosphere's 1/f.

A field is scanned to and fro at constant elevation, with more time near the turns, longer over a part of its right
ascensions; each array of detectors covers a little less than the one before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from szeek.physics.instrument import Instrument
from szeek.simulate.density import random_generator
from szeek.simulate.field.lattice import STEP_ARCMIN, Lattice, multipoles

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

# Shares of a field's width: over which depth rises from its sides, at most half a degree; and that a band is narrower
# by than the one before. Times of the deep and of the shallow part, the share of the width that is deep.
_TAPER, _TAPER_MAX_DEG, _INSET = 0.05, 0.5, 0.01
_DEEP, _SHALLOW, _DEEP_SHARE = 1.5, 0.75, 0.4
#: What the turns of the scan add: depth at the upper and lower sides over that in the middle.
_AT_THE_TURNS = 1.5


def depth(lattice: Lattice, band: int, observed: float = 1.0) -> Map32:
    """Integration time per solid angle, (ny, nx): median 1 where it is not 0.

    Parameters
    ----------
    lattice : Lattice
        Of the field itself.
    band : int
        Number of the band: later ones end a little earlier.
    observed : float
        Share of the field's height, from its southern side, that the survey covers.
    """
    dec = lattice.dec_deg
    height = observed * (dec[-1] - dec[0])
    width = (lattice.ra_deg[0] - lattice.ra_deg[-1]) * np.cos(np.radians(dec.mean()))
    across, along = np.linspace(0, 1 / observed, dec.size), np.linspace(0, 1, lattice.shape[1])
    taper = min(_TAPER * min(width, height), _TAPER_MAX_DEG)
    inset = band * _INSET * min(width, height)

    def rise(share: Floats, side: float) -> Floats:
        from_side = side * np.minimum(share, 1 - share) - inset
        return np.asarray(np.sin(np.pi / 2 * np.clip(from_side / taper, 0, 1)) ** 2)

    scan = 1 + (_AT_THE_TURNS - 1) * (2 * across - 1) ** 4
    step = 0.5 * (1 + np.tanh((along - (1 - _DEEP_SHARE)) * width / max(0.3 * taper, 1e-3)))
    rows = rise(np.minimum(across, 1.0), height) * scan
    columns = rise(along, width) * (_SHALLOW + (_DEEP - _SHALLOW) * step)
    out = np.outer(rows, columns)
    out[out < 0.01] = 0.0  # maps end there
    return np.asarray(out / np.median(out[out > 0]), np.float32)


def inverse_variance(
    lattice: Lattice, instrument: Instrument, band: int, pixel_arcmin: float = STEP_ARCMIN, observed: float = 1.0
) -> Map32:
    """Inverse variance of the white noise of a pixel, map units^-2, (ny, nx) of the image; 0 where it ends.

    The instrument's noise is that of the median depth, and ``observed`` as of :func:`depth`.
    """
    seen = resample(depth(lattice, band, observed), pixel_arcmin, order=1)
    rows = np.arange(seen.shape[0]) * pixel_arcmin / STEP_ARCMIN
    area_deg2 = np.interp(rows, np.arange(lattice.shape[0]), lattice.pixel_sr) * np.degrees(1.0) ** 2
    area_deg2 *= (pixel_arcmin / STEP_ARCMIN) ** 2
    scale = 1e-6 if instrument.bands[band].unit == "K_CMB" else 1e-3
    variance_deg2 = (instrument.noise_uk_deg[band] * scale) ** 2
    return np.asarray(seen * (area_deg2 / variance_deg2)[:, None], np.float32)


def add_noise(values: Map32, ivar: Map32, generator: np.random.Generator) -> None:
    """Add white noise of an inverse variance to an image, in place; where that is 0, the image becomes 0."""
    for row in range(values.shape[0]):
        seen = ivar[row] > 0
        noise = np.asarray(generator.standard_normal(values.shape[1], dtype=np.float32))
        values[row, seen] += noise[seen] / np.sqrt(ivar[row, seen])
        values[row, ~seen] = 0.0


def atmosphere_on(lattice: Lattice, instrument: Instrument, band: int, seed: int) -> Map32:
    """What a band's noise has beyond white at the median depth, map units, (ny, nx) with margin.

    Power white x (l / knee)^slope above l = 2 pi / (a third of the field), which maps are filtered to.
    """
    ell = multipoles()
    scale = 1e-6 if instrument.bands[band].unit == "K_CMB" else 1e-3
    white = float(instrument.noise_uk_deg[band] * scale * np.pi / 180) ** 2
    lowest = 3 * 2 * np.pi / np.radians(max(lattice.dec_deg[-1] - lattice.dec_deg[0], 1.0))
    at = np.maximum(ell, 2.0)
    power = np.maximum(instrument.noise_power(at)[:, band] - white, 0.0)
    root = np.where(ell >= lowest, np.sqrt(power), 0.0)
    if not root.any():
        return np.zeros(lattice.shape, np.float32)
    noise = lattice.white(seed, f"atmosphere {instrument.name} {instrument.band_names[band]}")
    return lattice.convolve([noise], [[root]])[0]


def noise_generator(seed: int, instrument: Instrument, band: int) -> np.random.Generator:
    """Generator of one band's white noise in a field."""
    return random_generator(seed, f"field noise {instrument.name} {instrument.band_names[band]}")


def resample(values: Map32, pixel_arcmin: float, order: int = 5) -> Map32:
    """An image of the lattice with pixels of another size: 0.25, 0.5 or 1 arcmin; by splines where it is finer."""
    if pixel_arcmin >= STEP_ARCMIN:
        every = round(pixel_arcmin / STEP_ARCMIN)
        return values[::every, ::every]
    fine = round(STEP_ARCMIN / pixel_arcmin)
    rows, columns = (np.arange((n - 1) * fine + 1) / fine for n in values.shape)
    out = np.empty((rows.size, columns.size), np.float32)
    block = 512 * fine
    for start in range(0, rows.size, block):  # with rows beside it, which a spline feels
        stop = min(start + block, rows.size)
        first, last = max(int(rows[start]) - 16, 0), min(int(rows[stop - 1]) + 17, values.shape[0])
        at = np.meshgrid(rows[start:stop] - first, columns, indexing="ij")
        out[start:stop] = map_coordinates(values[first:last], at, np.float32, order=order, mode="mirror")
    return out
