"""Photons of a ROSAT-like all-sky survey between 0.5 and 2 keV: clusters, AGN and stars, background.

counts = Poisson[flux / (erg/cm2 of a count) x absorption x exposure], spread by the PSF
         + Poisson[background x exposure]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.inputs.reddening import read_column_map
from szeek.physics.xray import CLUSTER_HARD_SHARE, ROSAT_FLUX_PER_RATE, absorption
from szeek.simulate.density import random_generator
from szeek.simulate.surveys import draw_xray_luminosity, flux_of_luminosity
from szeek.sky.harmonics import Floats, Map32
from szeek.sky.healpix import unit_vectors
from szeek.sky.photons import PhotonMap

#: Point spread of the survey as a Gaussian, FWHM: 90 % of the photons within 1.8 arcmin. Boese 2000 (A&AS 141, 507).
XRAY_FWHM_ARCMIN = 2.0

# Point sources, AGN and stars, per deg2 and 1e-14 erg/s/cm2 (0.5 - 2 keV): dN/dS = 111 S^-1.94 below 2.66, in units
# of 1e-14. Hasinger et al. 1993 (A&A 275, 1). Above it Euclidean, S^-2.5, where they have S^-2.72: so that 0.034 per
# deg2 are above 2.4e-12, where the ROSAT Bright Survey has 931 sources in 20,391 deg2, up to 302 of them clusters:
# 0.031 (Schwope et al. 2000, Astron. Nachr. 321, 1); a slope of 2.72 would have 0.011.
_COUNTS_NORM, _COUNTS_FAINT, _COUNTS_BRIGHT, _COUNTS_BREAK = 111.0, 1.94, 2.5, 2.66
#: Faintest point source that is drawn, 0.75 counts in 300 s; fainter ones are in the background.
FAINTEST_POINT_SOURCE = 3e-14
_BRIGHTEST_POINT_SOURCE = 3e-10
_SKY_DEG2 = 41252.96


@dataclass(frozen=True)
class XraySurvey:
    """A survey of the whole sky in X-rays.

    Parameters
    ----------
    exposure_s : float
        Median over the sky. Of the ROSAT survey about 300 s.
    flux_per_rate : float
        erg/s/cm2 (0.5 - 2 keV) of one count per second.
    background : float
        Counts per second and arcmin2 that are not sources drawn on their own: 2.3e-4 between 0.5 and 2 keV at high
        latitudes (ROSAT bands R4 to R7, Snowden et al. 1997, ApJ 485, 125), less 0.5e-4 of the point sources.
    fwhm_arcmin : float
        Point spread.
    """

    exposure_s: float = 300.0
    flux_per_rate: float = ROSAT_FLUX_PER_RATE
    background: float = 1.8e-4
    fwhm_arcmin: float = XRAY_FWHM_ARCMIN


class XraySky(NamedTuple):
    """Photons and seconds of each pixel, (12 nside^2,) float32, RING, Galactic."""

    counts: Map32
    exposure_s: Map32


def point_sources_above(flux: float) -> float:
    """AGN and stars per deg2 above a flux in erg/s/cm2, from 1e-14 up.

    Examples
    --------
    >>> round(point_sources_above(2.4e-12), 4), round(point_sources_above(1e-14), 1)
    (0.0344, 100.5)
    """
    s = flux / 1e-14
    bright = _COUNTS_NORM * _COUNTS_BREAK ** (_COUNTS_BRIGHT - _COUNTS_FAINT) / (_COUNTS_BRIGHT - 1)
    if s >= _COUNTS_BREAK:
        return float(bright * s ** (1 - _COUNTS_BRIGHT))
    faint = _COUNTS_NORM / (_COUNTS_FAINT - 1)
    between = faint * (s ** (1 - _COUNTS_FAINT) - _COUNTS_BREAK ** (1 - _COUNTS_FAINT))
    return float(bright * _COUNTS_BREAK ** (1 - _COUNTS_BRIGHT) + between)


def draw_point_sources(seed: int) -> Table:
    """AGN and stars of a sky, spread evenly: ``lon_deg``, ``lat_deg``, ``flux`` (erg/s/cm2), brightest first."""
    random = random_generator(seed, "X-ray point sources")
    number = random.poisson(_SKY_DEG2 * point_sources_above(FAINTEST_POINT_SOURCE))
    share = random.uniform(size=number)
    # all are above the break: N(>S) goes as S^-1.5
    flux = FAINTEST_POINT_SOURCE * (1 - share) ** (-1 / (_COUNTS_BRIGHT - 1))
    flux = np.sort(np.minimum(flux, _BRIGHTEST_POINT_SOURCE))[::-1]
    lat_deg = np.degrees(np.arcsin(random.uniform(-1, 1, number)))
    return Table({"lon_deg": random.uniform(0, 360, number), "lat_deg": lat_deg, "flux": flux})


def cluster_flux(haloes: Table, seed: int) -> Floats:
    """Flux of each halo within R500, 0.5 - 2 keV, erg/s/cm2, unabsorbed, (n,) float64.

    The luminosities are those by which the mock MCXC is selected.
    """
    luminosity = draw_xray_luminosity(haloes, seed)
    return CLUSTER_HARD_SHARE * flux_of_luminosity(luminosity, np.asarray(haloes["z"], np.float64))


def exposure_map(seed: int, nside: int, median_s: float = 300.0) -> Map32:
    """Exposure in s of a survey that scans in great circles through the ecliptic poles, (12 nside^2,) float32.

    Goes as 1 / cos(ecliptic latitude), up to 26,000 s, with 20 % of scatter between strips of two degrees in
    ecliptic longitude, for times when nothing was observed.
    """
    coarse = min(nside, 256)
    vectors = np.array(healpy.pix2vec(coarse, np.arange(12 * coarse**2)))
    lon_deg, lat_deg = healpy.vec2ang((healpy.Rotator(coord=["G", "E"]).mat @ vectors).T, lonlat=True)
    strips = np.exp(0.2 * random_generator(seed, "X-ray exposure").standard_normal(180))
    pattern = strips[(lon_deg // 2).astype(int) % 180] / np.maximum(np.cos(np.radians(lat_deg)), 0.01)
    return np.asarray(healpy.ud_grade(median_s * pattern / np.median(pattern), nside), np.float32)


def draw_xray_sky(haloes: Table, seed: int, nside: int, survey: XraySurvey = XraySurvey()) -> XraySky:
    """Photons that a survey counts of a sky; every one has a place of its own.

    Clusters have a beta model of 2/3 with a core of 0.15 theta500, cut at theta500 (e.g. Boehringer et al. 2004).

    Parameters
    ----------
    haloes : Table
        The sky's truth.
    seed : int
    nside : int
    survey : XraySurvey
    """
    random = random_generator(seed, "xray")
    exposure = exposure_map(seed, nside, survey.exposure_s)
    counts = random.poisson(survey.background * _pixel_arcmin2(nside) * exposure).astype(np.float32)
    points = draw_point_sources(seed)
    size = np.asarray(haloes["theta500_arcmin"], np.float64)
    for table, flux, theta in (
        (haloes, cluster_flux(haloes, seed), size),
        (points, np.asarray(points["flux"]), np.zeros(len(points))),
    ):
        counts += _draw_photons(table, flux, theta, exposure, survey, random)
    return XraySky(counts, exposure)


def inject_photons(
    photons: PhotonMap, clusters: Table, seed: int, survey: XraySurvey = XraySurvey(exposure_s=math.nan)
) -> PhotonMap:
    """Add the photons of clusters to those of a survey, in the time that it looked there.

    Luminosities are those of simulated haloes (:func:`szeek.simulate.surveys.draw_xray_luminosity`).

    Parameters
    ----------
    photons : PhotonMap
        On HEALPix, RING, Galactic (:func:`szeek.filter.further.to_healpix`).
    clusters : Table
        Truth, as :func:`szeek.simulate.inject.draw_injections` gives it.
    seed : int
    survey : XraySurvey
        Its flux of one count per second and point spread are used.

    Examples
    --------
    >>> from szeek.simulate.inject import draw_injections
    >>> empty = PhotonMap(np.zeros(12 * 256**2, np.float32), np.full(12 * 256**2, 300.0, np.float32), 188.8)
    >>> bright = draw_injections(1, 20, y500_range_arcmin2=(5e-3, 1e-2))
    >>> float(inject_photons(empty, bright, 1).counts.sum()) > 200
    True
    """
    random = random_generator(seed, "injected photons")
    size = np.asarray(clusters["theta500_arcmin"], np.float64)
    more = _draw_photons(clusters, cluster_flux(clusters, seed), size, photons.exposure_s, survey, random)
    return replace(photons, counts=photons.counts + more)


def _draw_photons(
    table: Table, flux: Floats, theta: Floats, exposure: Map32, survey: XraySurvey, random: np.random.Generator
) -> Map32:
    """Photons of sources of these fluxes and sizes, each spread by its profile and the survey's optics."""
    nside = healpy.npix2nside(exposure.size)
    lon_deg, lat_deg = (np.asarray(table[name], np.float64) for name in ("lon_deg", "lat_deg"))
    left = absorption(healpy.get_interp_val(read_column_map("h1_nh_HI4PI"), lon_deg, lat_deg, lonlat=True))
    seconds = exposure[healpy.ang2pix(nside, lon_deg, lat_deg, lonlat=True)]
    photons = random.poisson(flux * left / survey.flux_per_rate * seconds)
    owner = np.repeat(np.arange(len(table)), photons)
    pixel = _scatter(lon_deg[owner], lat_deg[owner], theta[owner], survey.fwhm_arcmin, nside, random)
    return np.bincount(pixel, minlength=exposure.size).astype(np.float32)


def _scatter(
    lon_deg: Floats,
    lat_deg: Floats,
    theta500_arcmin: Floats,
    fwhm_arcmin: float,
    nside: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Pixel of each photon: its source's profile, and the point spread."""
    # counts inside r grow as 1 - (1 + (r / r_c)^2)^-1/2
    inside = random.uniform(size=lon_deg.size) * (1 - (1 + (1 / _CORE) ** 2) ** -0.5)
    radius = _CORE * theta500_arcmin * np.sqrt((1 - inside) ** -2 - 1)
    angle = random.uniform(0, 2 * np.pi, lon_deg.size)
    spread = fwhm_arcmin / np.sqrt(8 * np.log(2)) * random.standard_normal((2, lon_deg.size))
    east, north = np.radians((radius * np.array([np.sin(angle), np.cos(angle)]) + spread) / 60)
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    to_east = np.stack([-np.sin(lon), np.cos(lon), np.zeros(lon.size)])
    to_north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    there = unit_vectors(lon_deg, lat_deg).T + east * to_east + north * to_north
    return np.asarray(healpy.vec2pix(nside, *there))


_CORE = 0.15  # of theta500


def _pixel_arcmin2(nside: int) -> float:
    return float(healpy.nside2pixarea(nside, degrees=True)) * 3600
