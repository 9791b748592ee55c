"""One field of white noise, with clusters and point sources painted in: for matched filter and photometry."""

from __future__ import annotations

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.inputs.instrument import read_instrument
from szeek.simulate.components.clusters import paint_clusters
from szeek.sky.healpix import unit_vectors
from szeek.sky.skymaps import SkyMaps

HFI = read_instrument("planck-hfi")
NSIDE = 2048
CENTRE = (112.5, 41.8)
SIGMA_Y = 1e-4  # noise of a pixel, in every band as strong as this Compton y


def noise_sky(
    clusters: Table | None = None, sources: Table | None = None, seed: int = 1, radius_deg: float = 11.0
) -> SkyMaps:
    """White noise in a disc around the field, nothing elsewhere; and clusters; and sources of any ``response``."""
    values = np.zeros((12 * NSIDE**2, 6), np.float32)
    disc = healpy.query_disc(NSIDE, healpy.ang2vec(*CENTRE, lonlat=True), np.radians(radius_deg))
    noise = np.random.default_rng(seed).standard_normal((disc.size, 6))
    values[disc] = SIGMA_Y * np.abs(HFI.tsz_response) * noise
    fwhm = [band.fwhm_arcmin for band in HFI.bands]
    if clusters is not None:
        paint_clusters(clusters, NSIDE, fwhm, HFI.tsz_response, out=values)
    if sources is not None:
        paint_clusters(sources, NSIDE, fwhm, np.asarray(sources["response"]), out=values)
    footprint = np.zeros(len(values), bool)
    footprint[disc] = True
    return SkyMaps(values, footprint, HFI.bands)


def noise_disc(nside: int, radius_deg: float) -> SkyMaps:
    """Noise of 20 uK a pixel in a disc at (30, 60) deg, in maps as small as one likes."""
    values = np.random.default_rng(3).normal(0, 1, (12 * nside**2, 6)).astype(np.float32)
    values *= (20e-6 * HFI.unit_per_kcmb).astype(np.float32)
    seen = np.zeros(len(values), bool)
    seen[healpy.query_disc(nside, healpy.ang2vec(30, 60, lonlat=True), np.radians(radius_deg))] = True
    values[~seen] = 0
    return SkyMaps(values, seen, HFI.bands)


def cluster_grid(theta500_arcmin: float, y500_arcmin2: float, n: int, step_deg: float) -> Table:
    """n x n clusters about the centre, anywhere within pixels."""
    step = step_deg * (np.arange(n) - (n - 1) / 2)
    north, east = np.meshgrid(step, step)
    shift = np.random.default_rng(2).uniform(-0.02, 0.02, (2, n * n))
    lat = CENTRE[1] + north.ravel() + shift[0]
    return Table(
        {
            "lon_deg": CENTRE[0] + east.ravel() / np.cos(np.radians(lat)) + shift[1],
            "lat_deg": lat,
            "theta500_arcmin": np.full(n * n, theta500_arcmin),
            "y500_arcmin2": np.full(n * n, y500_arcmin2),
        }
    )


def vectors_of(table: Table) -> NDArray[np.float64]:
    return unit_vectors(np.asarray(table["lon_deg"], float), np.asarray(table["lat_deg"], float))
