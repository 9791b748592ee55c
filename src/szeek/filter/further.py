"""Maps in other light as a network sees them: photons and densities in units of their own scatter."""

from __future__ import annotations

import math

import healpy
import numpy as np
from numpy.typing import NDArray

from szeek.sky.further import FurtherMap
from szeek.sky.harmonics import Alm, Map32, analyse, band_limit, beam_window, filter_alm, multipole_limit, synthesise
from szeek.sky.healpix import nside_of
from szeek.sky.partial import PartialMap
from szeek.sky.photons import PhotonMap
from szeek.sky.skymaps import SkyMaps

#: FWHM of the windows in which photons are counted: a point of ROSAT's survey (2 arcmin) stands out best in the
#: first, the gas of a cluster of theta500 from 5 to 15 arcmin in the second.
WINDOWS_ARCMIN = (5.0, 10.0)
#: Finest maps that are made.
_LARGEST_NSIDE = 2048
#: Window and resolution of the background, and the S/N from which pixels are left out of it.
_BACKGROUND_ARCMIN, _BACKGROUND_NSIDE, _SOURCE_SNR = 90.0, 256, 3.0
#: Share of a window that must have been observed.
_LEAST_OBSERVED = 0.5
_ARCMIN2_PER_SR = math.degrees(60.0) ** 2
#: Cells of the local median of a density: 1.8 deg.
_CELL_NSIDE = 32


def photon_map(name: str, photons: PhotonMap, threads: int = 0) -> FurtherMap:
    """S/N of photons over the local background, in each of :data:`WINDOWS_ARCMIN`.

    A Gaussian window of sigma s weighs photons as an aperture of 4 pi s^2 counts them: N photons there where B are
    expected have the S/N

    S = sign(N - B) sqrt{2 [N ln(N / B) - N + B]},

    the root of twice the Poisson likelihood ratio (Cash 1979, ApJ 228, 939; that of Li & Ma 1983, ApJ 272, 317, for
    a background that is well known).

    Parameters
    ----------
    name : str
    photons : PhotonMap
    threads : int
        0 uses all cores.

    Returns
    -------
    FurtherMap
        On HEALPix of the photons' pixels, but at most nside 2048.

    Raises
    ------
    ValueError
        If no pixel has both exposure and background.

    Examples
    --------
    >>> counts = np.random.default_rng(1).poisson(3.0, 12 * 128**2).astype(np.float32)
    >>> sky = PhotonMap(counts, np.full(counts.size, 300.0, np.float32), 755.5)
    >>> snr = photon_map("xray", sky, threads=1).values.values
    >>> snr.shape, bool(np.all(np.abs(snr.mean(axis=0)) < 0.2)), bool(np.all(np.abs(snr.std(axis=0) - 1) < 0.2))
    ((196608, 2), True, True)
    """
    photons = to_healpix(photons)
    counts, work = photons.counts, photons.exposure_s * np.float32(photons.pixel_arcmin2)
    nside = nside_of(counts)
    lmax = min(3 * nside - 1, band_limit(_LARGEST_NSIDE))
    pixel_arcmin2 = healpy.nside2pixarea(nside, degrees=True) * 3600.0
    alm = analyse(counts, lmax, threads), analyse(work, lmax, threads)
    rate = _background(counts, work, np.zeros(counts.size, bool), threads)
    observed = work > 0
    if not (observed & (rate > 0)).any():
        raise ValueError(f"map '{name}' has no pixel with both exposure and photons around it")
    first = _snr(alm, rate, WINDOWS_ARCMIN[0], nside, pixel_arcmin2, threads)
    rate = _background(counts, work, first > _SOURCE_SNR, threads)
    snr = [_snr(alm, rate, fwhm, nside, pixel_arcmin2, threads) for fwhm in WINDOWS_ARCMIN]
    if not observed.all():
        inside = analyse(observed.astype(np.float32), lmax, threads)
        window = beam_window(WINDOWS_ARCMIN[-1], lmax)
        observed &= synthesise(filter_alm(inside, window), nside, threads) >= _LEAST_OBSERVED
    ipix = np.flatnonzero(observed & np.isfinite(snr[0]))
    values = np.stack([one[ipix] for one in snr], axis=1)
    return FurtherMap(name, "photons", PartialMap.from_pixels(nside, ipix, values))


def to_healpix(photons: PhotonMap) -> PhotonMap:
    """The photons in the pixels of a HEALPix map, RING, Galactic, of at most nside 2048.

    Pixels of another grid or frame are sorted by their centres into pixels at least 1.4 times as wide, so that none
    of these is left without; exposures add up in proportion to the area.

    Examples
    --------
    >>> one = PhotonMap(np.array([5.0], np.float32), np.array([300.0], np.float32), 3.0, np.array([[0.0, 0.0, 1.0]]))
    >>> binned = to_healpix(one)
    >>> binned.counts.size, float(binned.counts.sum()), round(float(binned.exposure_s.max() * binned.pixel_arcmin2))
    (12582912, 5.0, 900)
    """
    if photons.directions is None and photons.rotation is None and nside_of(photons.counts) <= _LARGEST_NSIDE:
        return photons
    order = math.log2(healpy.nside2resol(1, arcmin=True) / math.sqrt(photons.pixel_arcmin2))
    # a square of 1.4 times the side holds a centre however it lies; a little more, for HEALPix pixels are no squares
    nside = min(_LARGEST_NSIDE, 1 << max(0, math.floor(order - 0.6)))
    directions = photons.directions
    if directions is None:
        directions = np.stack(healpy.pix2vec(nside_of(photons.counts), np.arange(photons.counts.size)), axis=1)
        if photons.rotation is not None:
            directions = directions @ photons.rotation  # its transpose takes them back
    pixel = healpy.vec2pix(nside, *directions.T)
    counts, seconds = (
        np.bincount(pixel, weights, 12 * nside**2).astype(np.float32)
        for weights in (photons.counts, photons.exposure_s)
    )
    pixel_arcmin2 = float(healpy.nside2pixarea(nside, degrees=True)) * 3600
    return PhotonMap(counts, seconds * np.float32(photons.pixel_arcmin2 / pixel_arcmin2), pixel_arcmin2)


def _background(counts: Map32, work: Map32, sources: NDArray[np.bool_], threads: int) -> Map32:
    """Photons per second and arcmin2 around each pixel, less the pixels of sources; 0 where nothing is around."""
    nside = nside_of(counts)
    coarse = min(nside, _BACKGROUND_NSIDE)
    lmax = 3 * coarse - 1
    window = beam_window(_BACKGROUND_ARCMIN, lmax)
    smooth = []
    for values in (counts, work):
        # a sum over the pixels of a coarse one
        total = healpy.ud_grade(np.where(sources, np.float32(0), values), coarse, power=-2)
        smooth.append(synthesise(filter_alm(analyse(total, lmax, threads), window), coarse, threads))
    least = 1e-3 * float(smooth[1].max())
    rate = np.where(smooth[1] > least, np.maximum(smooth[0], 0) / np.maximum(smooth[1], least), 0).astype(np.float32)
    return np.asarray(healpy.ud_grade(rate, nside), np.float32)


def _snr(
    alm: tuple[Alm, Alm], rate: Map32, fwhm_arcmin: float, nside: int, pixel_arcmin2: float, threads: int
) -> Map32:
    """S/N in one window; NaN where no photon is expected."""
    lmax = multipole_limit(alm[0])
    window = beam_window(fwhm_arcmin, lmax)
    # the area that an aperture of the same variance has, 1 over the window's integral squared: 4 pi sigma^2, or more
    # where multipoles end first
    area_sr = 4 * math.pi / float(((2 * np.arange(lmax + 1) + 1) * window**2).sum())
    scale = np.float32(area_sr * _ARCMIN2_PER_SR / pixel_arcmin2)
    found, work = (scale * synthesise(filter_alm(part, window), nside, threads) for part in alm)
    expected = rate * np.maximum(work, 0)
    found = np.maximum(found, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(found > 0, found * np.log(found / expected), 0) - found + expected
    snr = np.sign(found - expected) * np.sqrt(2 * np.maximum(ratio, 0))
    return np.where(expected > 0, snr, np.nan).astype(np.float32)


def density_map(name: str, maps: SkyMaps) -> FurtherMap:
    """A map of one column less its local median over its scatter, for densities of galaxies or convergence.

    The scatter is 1.4826 times the median absolute deviation in cells of 1.8 deg, over the observed sky.

    Parameters
    ----------
    name : str
    maps : SkyMaps
        Of one band (:func:`szeek.inputs.stackmaps.read_stack_map`).

    Raises
    ------
    ValueError
        If the map has more than one column, or is constant.

    Examples
    --------
    >>> from szeek.sky.skymaps import Band
    >>> values = np.random.default_rng(1).normal(7.0, 2.0, (12 * 256**2, 1)).astype(np.float32)
    >>> maps = SkyMaps(values, np.ones(len(values), bool), (Band("delta", np.nan, 10.0, "1"),))
    >>> one = density_map("galaxies", maps).values.values
    >>> bool(abs(one.mean()) < 0.05 and abs(one.std() - 1) < 0.05)
    True
    """
    if maps.n_band != 1:
        raise ValueError(f"map '{name}' has {maps.n_band} columns, expected one")
    ipix = np.flatnonzero(maps.footprint)
    values = maps.values[ipix, 0].astype(np.float64)
    cell = healpy.ring2nest(maps.nside, ipix) // max(1, maps.nside // _CELL_NSIDE) ** 2
    order = np.argsort(cell, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)
    apart = np.empty(values.size)
    for group in groups:
        apart[group] = values[group] - np.median(values[group])
    scatter = 1.4826 * float(np.median(np.abs(apart)))
    if not scatter > 0:
        raise ValueError(f"map '{name}' is constant over the sky; it carries no signal")
    part = PartialMap.from_pixels(maps.nside, ipix, (apart / scatter).astype(np.float32)[:, None])
    return FurtherMap(name, "density", part)
