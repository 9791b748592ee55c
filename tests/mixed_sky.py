"""A small sky of two surveys: HEALPix everywhere, and deeper images of a CAR grid that end amid it.

One Gaussian sky with clusters, drawn on a flat grid with the phases of all bands alike; the images are its pixels,
the HEALPix maps its spline at theirs. By code of its own, in Fourier space.
"""

from __future__ import annotations

import math

import healpy
import numpy as np
from act_like import ARCMIN
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.physics.instrument import BandDetails, Instrument
from szeek.physics.tsz import T_CMB_K, tsz_spectrum
from szeek.sky.grids import ImageGrid
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import Band, SkyMaps

Floats = NDArray[np.float64]

PIXEL_ARCMIN, NSIDE = 2.0, 1024
SHAPE = (300, 420)  # 10 deg x 14 deg
NAMES = ("g090", "g150", "g220", "p100", "p143", "p217")
FREQ_GHZ = np.array([97.0, 149.0, 224.0, 100.0, 143.0, 217.0])
FWHM_ARCMIN = np.array([7.0, 6.0, 6.0, 9.7, 7.3, 7.0])
NOISE_UK_ARCMIN = np.array([15.0, 12.0, 40.0, 77.0, 33.0, 47.0])
N_GROUND = 3


def mixed_instrument() -> Instrument:
    """Six bands of no width, whose pixels are points."""
    bands = tuple(Band(n, float(f), float(w), "K_CMB") for n, f, w in zip(NAMES, FREQ_GHZ, FWHM_ARCMIN, strict=True))
    x = 0.0479924 * FREQ_GHZ / T_CMB_K
    rayleigh_jeans = 2 * 1.380649e-23 * (FREQ_GHZ * 1e9 / 2.99792458e8) ** 2 * 1e20
    mjysr = rayleigh_jeans * x**2 * np.exp(x) / np.expm1(x) ** 2
    details = (BandDetails(pixel_window=False),) * len(bands)
    return Instrument("mixed", bands, mjysr, T_CMB_K * tsz_spectrum(FREQ_GHZ), NOISE_UK_ARCMIN / 60, details)


def mixed_grid() -> ImageGrid:
    """Plate carree about RA 150, Dec 0."""
    step = PIXEL_ARCMIN / 60
    header = {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": 150.0,
              "CRVAL2": 0.0, "CDELT1": -step, "CDELT2": step, "CRPIX1": 0.5 * (SHAPE[1] + 1),
              "CRPIX2": 0.5 * (SHAPE[0] + 1)}  # fmt: skip
    return ImageGrid.from_header(fits.Header(header), SHAPE)


def mixed_sky(
    clusters: Table | None = None,
    *,
    ground: NDArray[np.bool_] | None = None,
    space: NDArray[np.bool_] | None = None,
    seed: int = 1,
) -> MapSet:
    """The two groups, images first.

    Parameters
    ----------
    clusters : Table, optional
        ``row``, ``column``, ``theta500_arcmin``, ``y500_arcmin2``.
    ground, space : SHAPE bool, optional
        Where each survey observed; everywhere without. None of a survey that observed nowhere is left out.
    """
    setup, grid, rng = mixed_instrument(), mixed_grid(), np.random.default_rng(seed)
    scale = PIXEL_ARCMIN * ARCMIN
    frequency = np.fft.fftfreq(SHAPE[0])[:, None], np.fft.rfftfreq(SHAPE[1])
    ell = 2 * math.pi / scale * np.hypot(*frequency)
    spectrum = 2 * math.pi / (ell + 30) ** 2 * 1e-12 * 5500 * np.exp(-((ell / 1000) ** 1.25))
    cmb = np.fft.rfft2(rng.standard_normal(SHAPE)) * np.sqrt(spectrum) / scale
    y = np.zeros_like(cmb)
    for one in [] if clusters is None else clusters:
        phase = np.exp(-2j * math.pi * (frequency[0] * one["row"] + frequency[1] * one["column"]))
        flux = one["y500_arcmin2"] * Y5R500_PER_Y500 / PIXEL_ARCMIN**2
        y += flux * phase * profile_transform(ell * one["theta500_arcmin"] * ARCMIN)
    images = [
        np.fft.irfft2((cmb + response * y) * np.exp(-0.5 * (ell * width * ARCMIN) ** 2 / (8 * math.log(2))), SHAPE)
        for response, width in zip(setup.tsz_response, FWHM_ARCMIN, strict=True)
    ]
    groups: list[SkyMaps | ImageMaps] = []
    if ground is None or ground.any():
        signal, ivar = [], []
        for image, noise in zip(images[:N_GROUND], NOISE_UK_ARCMIN, strict=False):
            sigma = noise * 1e-6 / PIXEL_ARCMIN
            values = (image + sigma * rng.standard_normal(SHAPE)).astype(np.float32)
            weight = np.full(SHAPE, sigma**-2, np.float32)
            if ground is not None:
                values[~ground] = weight[~ground] = 0.0
            signal.append(Pixels(values))
            ivar.append(Pixels(weight))
        groups.append(ImageMaps(grid, setup.bands[:N_GROUND], tuple(signal), tuple(ivar)))
    if space is None or space.any():
        ipix = healpy.query_disc(NSIDE, grid.directions(*(0.5 * (n - 1) for n in SHAPE)), math.radians(10))
        row, column = grid.pixels(np.stack(healpy.pix2vec(NSIDE, ipix), axis=1))
        inside = (row > 4) & (row < SHAPE[0] - 5) & (column > 4) & (column < SHAPE[1] - 5)
        ipix, row, column = ipix[inside], row[inside], column[inside]
        if space is not None:
            kept = space[np.rint(row).astype(int), np.rint(column).astype(int)]
            ipix, row, column = ipix[kept], row[kept], column[kept]
        values = np.zeros((12 * NSIDE**2, len(images) - N_GROUND), np.float32)
        resolution = float(healpy.nside2resol(NSIDE, arcmin=True))
        for b, (image, noise) in enumerate(zip(images[N_GROUND:], NOISE_UK_ARCMIN[N_GROUND:], strict=True)):
            smooth = map_coordinates(image, [row, column], order=5)
            values[ipix, b] = smooth + noise * 1e-6 / resolution * rng.standard_normal(len(ipix))
        footprint = np.zeros(len(values), bool)
        footprint[ipix] = True
        groups.append(SkyMaps(values, footprint, setup.bands[N_GROUND:]))
    return MapSet.of(*groups)
