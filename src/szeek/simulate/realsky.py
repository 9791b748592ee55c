"""A simulated sky held against real HFI cut-outs: auto and cross spectra, correlations, pixel histograms.

Both are seen alike: fields of the same size and pixel, cut out with one bilinear interpolation, in MJy/sr, a plane
removed, a sine taper, clusters' core and compact sources masked by one rule, flat-sky Fourier transform,

    C_l^{ab} = < Re F_a F_b* > pixel^2 / sum(w^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter

from szeek.inputs.reddening import read_column_map
from szeek.physics.instrument import Instrument
from szeek.sky.harmonics import FWHM_PER_SIGMA, Floats
from szeek.sky.projection import PIXEL_ARCMIN, sample_field

#: Edges of the multipole bins.
MULTIPOLE_EDGES = np.array([300.0, 400.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0, 3500.0, 4000.0])
#: Sources brighter than this are masked, in Jy, by band; 857 GHz: the cut of Planck 2013 XXX is 0.71 Jy.
SOURCE_CUT_JY = {"100": 0.6, "143": 0.45, "217": 0.35, "857": 1.0}
_SOURCE_HOLE_ARCMIN, _HOLE_EDGE_ARCMIN = (10.0, 8.0)
_CLUSTER_HOLE_ARCMIN, _CLUSTER_EDGE_ARCMIN = 40.0, 30.0


@dataclass(frozen=True)
class FieldSpectra:
    """Spectra of one field.

    Parameters
    ----------
    power : (n_bin, n_band, n_band) float64
        Binned auto and cross spectra in (MJy/sr)^2 sr.
    n_masked : int
        Compact sources masked.
    """

    power: NDArray[np.float64]
    n_masked: int

    @property
    def auto(self) -> Floats:
        """Auto spectra, (n_bin, n_band)."""
        return np.asarray(np.einsum("nbb->nb", self.power))

    @property
    def correlation(self) -> NDArray[np.float64]:
        """Correlation coefficients, (n_bin, n_band, n_band)."""
        scale = np.sqrt(self.auto)
        return self.power / scale[:, :, None] / scale[:, None, :]


def peak_fluxes(values: NDArray[np.float64], fwhm_arcmin: float) -> NDArray[np.float64]:
    """Flux in Jy of each beam-sized peak of one band of a field, (ny, nx); 0 where there is no peak.

    A difference of two Gaussians picks beam-sized peaks of ``values`` in MJy/sr; their height is turned into flux
    as for a beam.
    """
    sigma = fwhm_arcmin / PIXEL_ARCMIN / FWHM_PER_SIGMA
    # a Gaussian of sigma s, smoothed with s, keeps 1/2 of its peak, with 2.2 s keeps 1 / (1 + 2.2^2)
    bump = (gaussian_filter(values, sigma) - gaussian_filter(values, 2.2 * sigma)) / (0.5 - 1 / (1 + 2.2**2))
    flux = bump * 1e6 * 2 * np.pi * (np.radians(fwhm_arcmin / 60) / FWHM_PER_SIGMA) ** 2
    return np.where(flux == maximum_filter(flux, 7), np.maximum(flux, 0.0), 0.0)


def find_sources(field: NDArray[np.float64], instrument: Instrument) -> NDArray[np.bool_]:
    """Peaks brighter than ``SOURCE_CUT_JY`` in a field (n_band, ny, nx) in MJy/sr: (ny, nx) bool."""
    peaks = np.zeros(field.shape[1:], np.bool_)
    for band, values in zip(instrument.bands, field, strict=True):
        if band.name in SOURCE_CUT_JY:
            peaks |= peak_fluxes(values, band.fwhm_arcmin) > SOURCE_CUT_JY[band.name]
    return peaks


def measure_spectra(
    field: NDArray[np.float64],
    instrument: Instrument,
    *,
    weight: NDArray[np.float64] | None = None,
    edges: Floats = MULTIPOLE_EDGES,
) -> FieldSpectra:
    """Auto and cross spectra of a field.

    Parameters
    ----------
    field : (n_band, ny, nx) float64
        MJy/sr in every band, pixels of 1.7177 arcmin.
    instrument : Instrument
    weight : (ny, nx) float64, optional
        More to mask, 0 to 1, beside the taper and the sources.
    edges : (n_bin + 1,) float64
    """
    n_y, n_x = field.shape[1:]
    pixel = np.radians(PIXEL_ARCMIN / 60)
    peaks = find_sources(field, instrument)
    taper = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in (n_y, n_x)))
    if weight is not None:
        taper = taper * weight
    if peaks.any():
        distance = distance_transform_edt(~peaks) * PIXEL_ARCMIN
        taper = taper * np.clip((distance - _SOURCE_HOLE_ARCMIN) / _HOLE_EDGE_ARCMIN, 0, 1)
    y, x = np.mgrid[:n_y, :n_x]
    plane = np.stack([np.ones(n_y * n_x), x.ravel() / n_x - 0.5, y.ravel() / n_y - 0.5], axis=1)
    square = taper.ravel()[:, None] ** 2
    waves = []
    for values in field:
        tilt = np.linalg.solve(plane.T @ (plane * square), plane.T @ (square[:, 0] * values.ravel()))
        waves.append(np.fft.rfft2((values - (plane @ tilt).reshape(n_y, n_x)) * taper))
    wave = np.array(waves)
    ell = 2 * np.pi * np.hypot(np.fft.fftfreq(n_y, pixel)[:, None], np.fft.rfftfreq(n_x, pixel)[None])
    twice = np.full(ell.shape, 2.0)
    twice[:, 0] = 1.0
    where = np.digitize(ell, edges) - 1
    power = np.empty((edges.size - 1, len(field), len(field)))
    for n in range(edges.size - 1):
        inside = where == n
        modes = wave[:, inside]
        power[n] = np.real((modes * twice[inside]) @ modes.conj().T) / twice[inside].sum()
    return FieldSpectra(power * pixel**2 / np.sum(taper**2), int(np.count_nonzero(peaks)))


def read_cutouts(folder: Path, instrument: Instrument) -> tuple[NDArray[np.float64], SkyCoord]:
    """The real cut-outs hfi_{band}_coma.fits, (n_band, ny, nx) in MJy/sr, and the direction of their middle."""
    planes = []
    for band in instrument.bands:
        with fits.open(folder / f"hfi_{band.name}_coma.fits") as hdus:
            hdu = next(h for h in hdus if h.data is not None)
            planes.append(hdu.data.astype(np.float64))
            header = hdu.header.copy()
    n_y, n_x = planes[0].shape
    return np.array(planes), WCS(header, naxis=2).pixel_to_world(n_x / 2, n_y / 2)


def cluster_weight(shape: tuple[int, int], x: float, y: float) -> NDArray[np.float64]:
    """0 within 40 arcmin of a cluster at pixel (x, y), 1 beyond 70 arcmin."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(columns - x, rows - y) * PIXEL_ARCMIN
    return np.asarray(np.clip((radius - _CLUSTER_HOLE_ARCMIN) / _CLUSTER_EDGE_ARCMIN, 0, 1))


def find_alike(centre: SkyCoord, n: int, *, radius_deg: float = 5.5) -> list[tuple[float, float, float]]:
    """Fields like that at ``centre``: as far from the plane (within 35 deg) with the same mean and scatter of E(B-V),
    as far from the ecliptic (within 8 deg), so as deep.

    Returns
    -------
    list of (lon_deg, lat_deg, angle_deg), at most ``n``, at least 8 deg apart
    """
    column = read_column_map("dust_ebv_Planck13")

    def look(lon_deg: float, lat_deg: float) -> tuple[float, float]:
        disc = healpy.query_disc(64, healpy.ang2vec(lon_deg, lat_deg, lonlat=True), np.radians(radius_deg))
        return float(column[disc].mean()), float(column[disc].std())

    galactic = centre.galactic
    mean, scatter = look(galactic.l.deg, galactic.b.deg)
    lowest = abs(galactic.b.deg) - 35.0
    depth = abs(centre.barycentricmeanecliptic.lat.deg)
    rng = np.random.default_rng(0)
    found: list[tuple[float, float, float]] = []
    vectors: list[NDArray[np.float64]] = []
    tries = 40000
    lons, angles = rng.uniform(0, 360, (2, tries))
    lats = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(lowest)), 1, tries))) * rng.choice([-1, 1], tries)
    ecliptic = SkyCoord(lons, lats, unit="deg", frame="galactic").barycentricmeanecliptic.lat.deg
    for index in np.flatnonzero(np.abs(np.abs(ecliptic) - depth) < 8.0):
        lon_deg, lat_deg, angle_deg = lons[index], lats[index], angles[index]
        here = look(lon_deg, lat_deg)
        vector = healpy.ang2vec(lon_deg, lat_deg, lonlat=True)
        apart = all(vector @ other < np.cos(np.radians(8.0)) for other in vectors)
        if apart and abs(here[0] / mean - 1) < 0.15 and abs(here[1] / scatter - 1) < 0.5:
            found.append((float(lon_deg), float(lat_deg), float(angle_deg)))
            vectors.append(vector)
        if len(found) == n:
            break
    return found


def cut_fields(
    maps: NDArray[np.float32],
    instrument: Instrument,
    directions: list[tuple[float, float, float]],
    shape: tuple[int, int],
) -> list[NDArray[np.float64]]:
    """Fields of simulated maps (12 nside^2, n_band), each (n_band, ny, nx) float64 in MJy/sr."""
    to_mjysr = instrument.mjysr_per_kcmb / instrument.unit_per_kcmb
    return [
        np.moveaxis(sample_field(maps, lon, lat, angle, *shape) * to_mjysr, -1, 0).astype(np.float64)
        for lon, lat, angle in directions
    ]
