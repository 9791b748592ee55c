"""A small survey such as ACT's: three bands at 0.5 arcmin on a CAR grid at the equator, with what a filter meets.

Gaussian CMB and unresolved sources, white noise with inverse variances, atmosphere of 1/f, point sources and clusters
at any positions, all by code of its own: beams and profiles are painted in real space, from Hankel transforms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import j0

from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.physics.instrument import BandDetails, Instrument
from szeek.physics.tsz import T_CMB_K, tsz_spectrum
from szeek.sky.grids import ImageGrid
from szeek.sky.healpix import lonlat_deg
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import Band

Floats = NDArray[np.float64]

ARCMIN = math.pi / 10800
PIXEL_ARCMIN = 0.5
FREQ_GHZ = (97.0, 149.0, 224.0)
FWHM_ARCMIN = (2.1, 1.4, 1.0)
NOISE_UK_ARCMIN = (17.0, 14.0, 50.0)
KNEE_ELL, KNEE_SLOPE = (2000.0, 2500.0, 3000.0), -3.5
#: Unresolved sources at l = 3000: D_l in uK^2, the same sources in every band.
UNRESOLVED_UK2 = (6.0, 10.0, 90.0)
_H_OVER_K = 0.0479924  # K / GHz


def act_like_instrument() -> Instrument:
    """Three bands of no width, whose pixels are points."""
    freq = np.array(FREQ_GHZ)
    names = ("f090", "f150", "f220")
    bands = tuple(Band(*band, "K_CMB") for band in zip(names, FREQ_GHZ, FWHM_ARCMIN, strict=True))
    x = _H_OVER_K * freq / T_CMB_K
    # dB/dT = 2 k nu^2/c^2 x^2 e^x / (e^x - 1)^2 in W/m^2/Hz/sr/K; 1e20 MJy
    rayleigh_jeans = 2 * 1.380649e-23 * (freq * 1e9 / 2.99792458e8) ** 2 * 1e20
    mjysr = rayleigh_jeans * x**2 * np.exp(x) / np.expm1(x) ** 2
    details = (BandDetails(pixel_window=False),) * 3
    return Instrument("act-like", bands, mjysr, T_CMB_K * tsz_spectrum(freq), np.array(NOISE_UK_ARCMIN) / 60, details)


@dataclass(frozen=True)
class Patch:
    """A CAR image about (ra_deg, 0), and where its pixels are: x and y in arcmin east and north of its centre."""

    width_deg: float
    height_deg: float
    ra_deg: float = 150.0

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(2 * round(30 * side / PIXEL_ARCMIN) for side in (self.height_deg, self.width_deg))

    @property
    def grid(self) -> ImageGrid:
        ny, nx = self.shape
        step = PIXEL_ARCMIN / 60
        header = {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CUNIT1": "deg", "CUNIT2": "deg",
                  "CRVAL1": self.ra_deg, "CRVAL2": 0.0, "CDELT1": -step, "CDELT2": step,
                  "CRPIX1": 0.5 * (nx + 1), "CRPIX2": 0.5 * (ny + 1)}  # fmt: skip
        return ImageGrid.from_header(fits.Header(header), self.shape)

    def pixels(self, table: Table) -> tuple[Floats, Floats]:
        """Rows and columns, with fractions, of ``x_arcmin`` (east) and ``y_arcmin`` (north)."""
        ny, nx = self.shape
        x, y = (np.asarray(table[name], float) / PIXEL_ARCMIN for name in ("x_arcmin", "y_arcmin"))
        return 0.5 * (ny - 1) + y, 0.5 * (nx - 1) - x

    def directions(self, table: Table) -> Floats:
        """Galactic unit vectors of a table's positions."""
        return self.grid.directions(*self.pixels(table))

    def add_lonlat(self, table: Table) -> Table:
        """The table with ``lon_deg``, ``lat_deg``."""
        out = table.copy()
        out["lon_deg"], out["lat_deg"] = lonlat_deg(self.directions(table))
        return out


def spread_positions(patch: Patch, n: int, seed: int, border_deg: float = 0.6) -> Table:
    """Positions on a square grid of about n points, each moved by up to a pixel, so that no two are near."""
    width, height = ((side - 2 * border_deg) * 60 for side in (patch.width_deg, patch.height_deg))
    n_x = max(1, round(math.sqrt(n * width / height)))
    n_y = max(1, round(n / n_x))
    x, y = (side * ((np.arange(k) + 0.5) / k - 0.5) for side, k in ((width, n_x), (height, n_y)))
    x, y = (at.ravel() for at in np.meshgrid(x, y))
    shift = np.random.default_rng(seed).uniform(-PIXEL_ARCMIN, PIXEL_ARCMIN, (2, x.size))
    return Table({"x_arcmin": x + shift[0], "y_arcmin": y + shift[1]})


def radial_profile(transform: Floats, ell: Floats, radius_arcmin: Floats) -> Floats:
    """int l dl/(2 pi) b(l) J0(l r), per arcmin^2."""
    weight = transform * ell * np.gradient(ell) / (2 * math.pi) * ARCMIN**2
    return np.array([j0(ell * r * ARCMIN) @ weight for r in radius_arcmin])


def paint(out: NDArray[np.float32], patch: Patch, table: Table, flux: Floats, transform: Floats, ell: Floats,
          reach_arcmin: float) -> None:  # fmt: skip
    """Add objects of one shape and of these fluxes (unit x arcmin^2) at the table's positions."""
    radius = np.linspace(0.0, reach_arcmin * 1.02, 400)
    profile = radial_profile(transform, ell, radius)
    for i, j, amount in zip(*patch.pixels(table), flux, strict=True):
        half = math.ceil(reach_arcmin / PIXEL_ARCMIN)
        rows = np.arange(max(0, round(i) - half), min(out.shape[0], round(i) + half + 1))
        columns = np.arange(max(0, round(j) - half), min(out.shape[1], round(j) + half + 1))
        squeezed = np.cos(np.radians((rows - 0.5 * (out.shape[0] - 1)) * PIXEL_ARCMIN / 60))  # declination
        distance = np.hypot((rows - i)[:, None], (columns - j)[None] * squeezed[:, None]) * PIXEL_ARCMIN
        inside = np.where(distance < reach_arcmin, np.interp(distance, radius, profile), 0.0)
        out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += (amount * inside).astype(np.float32)


def multipoles(shape: tuple[int, int]) -> Floats:
    """Of the modes of rfft2."""
    waves = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    return np.asarray(2 * math.pi / (PIXEL_ARCMIN * ARCMIN) * waves)


def gaussian_field(shape: tuple[int, int], rng: np.random.Generator, *spectra: Floats, ell: Floats) -> Floats:
    """Periodic fields of these spectra (power at ``ell``), all of the same phases, (n, ny, nx)."""
    scale, modes = PIXEL_ARCMIN * ARCMIN, multipoles(shape)
    white = np.fft.rfft2(rng.standard_normal(shape))
    return np.stack([np.fft.irfft2(white * np.sqrt(np.interp(modes, ell, one)) / scale, shape) for one in spectra])


def act_like(
    patch: Patch,
    *,
    clusters: Table | None = None,
    sources: Table | None = None,
    seed: int = 1,
    depth: NDArray[np.float64] | float = 1.0,
    cmb: bool = True,
    atmosphere: bool = True,
    noise: bool = True,
    bands: Sequence[int] = (0, 1, 2),
) -> MapSet:
    """The three bands of a patch.

    Parameters
    ----------
    patch : Patch
    clusters : Table, optional
        ``x_arcmin``, ``y_arcmin``, ``theta500_arcmin``, ``y500_arcmin2``.
    sources : Table, optional
        ``x_arcmin``, ``y_arcmin``, ``flux_mjy`` (n, 3).
    seed : int
    depth : (ny, nx) or float
        Inverse variance of the white noise over its nominal value; 0 where nothing was observed.
    cmb, atmosphere, noise : bool
        CMB and unresolved sources; 1/f noise, the same everywhere; white noise.
    bands : sequence of int
        Those that the survey has.
    """
    setup, shape = act_like_instrument(), patch.shape
    rng = np.random.default_rng(seed)
    ell = np.linspace(1.0, 45000.0, 3000)
    depth = np.broadcast_to(np.asarray(depth, float), shape)
    per_band = 2 * math.pi / ell**2 * 1e-12 * np.maximum(ell / 3000.0, 1e-3) ** 2
    damped = 2 * math.pi / (ell + 30) ** 2 * 1e-12 * 5500 * np.exp(-((ell / 1000) ** 1.25))
    unresolved = gaussian_field(shape, rng, *[amplitude * per_band for amplitude in UNRESOLVED_UK2], ell=ell)
    primary = gaussian_field(shape, rng, damped, ell=ell)[0]
    signal, ivar = [], []
    for b, band in enumerate(setup.bands):
        beam = np.exp(-0.5 * (ell * band.fwhm_arcmin * ARCMIN / math.sqrt(8 * math.log(2))) ** 2)
        # of what is on the sky: smoothed by the beam; the Gaussian fields have the phases of the sky
        sky = np.zeros(shape, np.float32)
        if cmb:
            both = np.fft.rfft2(primary + unresolved[b]) * np.interp(multipoles(shape), ell, beam)
            sky += np.fft.irfft2(both, shape).astype(np.float32)
        if clusters is not None:
            for theta in np.unique(clusters["theta500_arcmin"]):
                of = clusters[clusters["theta500_arcmin"] == theta]
                shaped = beam * profile_transform(np.minimum(ell * theta * ARCMIN, 400))
                flux = np.asarray(of["y500_arcmin2"]) * Y5R500_PER_Y500 * setup.tsz_response[b]
                paint(sky, patch, of, flux, shaped, ell, 5 * theta + 3 * band.fwhm_arcmin)
        if sources is not None:
            flux = np.asarray(sources["flux_mjy"])[:, b] * 1e-9 / ARCMIN**2 / setup.mjysr_per_kcmb[b]
            paint(sky, patch, sources, flux, beam, ell, 5 * band.fwhm_arcmin)
        sigma = NOISE_UK_ARCMIN[b] * 1e-6 / PIXEL_ARCMIN
        white = rng.standard_normal(shape)
        red = gaussian_field(shape, rng, (sigma * PIXEL_ARCMIN * ARCMIN) ** 2
                             * (np.maximum(ell, 150.0) / KNEE_ELL[b]) ** KNEE_SLOPE, ell=ell)[0]  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            total = sky + (sigma * white / np.sqrt(depth) if noise else 0.0) + (red if atmosphere else 0.0)
        signal.append(Pixels(np.where(depth > 0, total, 0.0).astype(np.float32)))
        ivar.append(Pixels((depth / sigma**2).astype(np.float32)))
    chosen = [[part[b] for b in bands] for part in (setup.bands, signal, ivar)]
    return MapSet.of(ImageMaps(patch.grid, *map(tuple, chosen)))
