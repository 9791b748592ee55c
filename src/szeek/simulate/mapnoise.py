"""What the noise of the simulated maps does to a cluster's S/N, at every halo.

A survey's catalogue is drawn from the same maps that are published: its faint entries are those that the maps'
own noise has lifted. A mock catalogue with noise of its own would hold clusters that cannot be seen in the maps.
"""

from __future__ import annotations

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.simulate.components.clusters import paint_y
from szeek.sky.harmonics import Floats, analyse, beam_window, filter_alm, synthesise

#: Smoothing of the y map (FWHM) for clusters of growing theta500: its own beam suits the compact ones.
_SMOOTHING_ARCMIN = (0.0, 6.0, 12.0, 25.0)
#: What varies over more than this is taken out, as a matched filter does.
_BACKGROUND_ARCMIN = 60.0
_CELL_NSIDE = 16
_LMAX = 2048  # of the y map
#: Haloes fainter than this, a quarter of Planck's noise, are part of the noise: too faint to be taken out.
_FAINTEST_ARCMIN2 = 5e-5
#: Haloes brighter than this, and than four times the noise, tell how much of their brightness the map shows.
_SEEN_ARCMIN2, _SEEN_SIGMA = 7e-4, 4.0


def noise_deviates(
    y_map: NDArray[np.float32], fwhm_arcmin: float, haloes: Table, threads: int = 0
) -> NDArray[np.float64]:
    """Deviate of the y map's noise at each halo, in units of its local standard deviation.

    The noise is the y map less the painted clusters, band-passed to the halo's size, over its standard
    deviation in cells of 3.7 deg. The clusters are taken out as bright as the map shows them, which is not as they
    were painted: relativistic correction, member galaxies and the ILC's own bias take an eighth. That share is the
    median over bright clusters, so that neither the plane, where the map is faded out, nor the few brightest set it.

    Parameters
    ----------
    y_map : (12 nside^2,) float32
        RING; made from the maps, with all their residuals.
    fwhm_arcmin : float
        Its beam.
    haloes : Table
        Every halo that was painted; those above 5e-5 arcmin^2 are taken out.

    Returns
    -------
    (n,) float64
        Of zero mean and unit variance over the sky.
    """
    nside = healpy.get_nside(y_map)
    lmax = min(_LMAX, 2 * nside)
    measured = analyse(y_map, lmax, threads)
    y500_arcmin2 = np.asarray(haloes["y500_arcmin2"], float)
    bright = haloes[y500_arcmin2 > _FAINTEST_ARCMIN2]
    painted = analyse(paint_y(bright, nside, fwhm_arcmin, threads=threads or None), lmax, threads)
    coarse = min(nside, 1024)
    lon_deg, lat_deg = np.asarray(haloes["lon_deg"], float), np.asarray(haloes["lat_deg"], float)
    at = healpy.ang2pix(coarse, lon_deg, lat_deg, lonlat=True)
    cell = healpy.ang2pix(_CELL_NSIDE, *healpy.pix2ang(coarse, np.arange(12 * coarse**2)))
    size_arcmin = 2 * np.asarray(haloes["theta500_arcmin"], float)
    nearest = np.abs(size_arcmin[:, None] - (np.array(_SMOOTHING_ARCMIN) + fwhm_arcmin)).argmin(axis=1)
    deviates = np.empty(len(haloes))
    for k, smoothing_arcmin in enumerate(_SMOOTHING_ARCMIN):
        window = beam_window(smoothing_arcmin, lmax) - beam_window(_BACKGROUND_ARCMIN, lmax)
        here = nearest == k
        values, truth = (
            synthesise(filter_alm(alm, window), coarse, threads).astype(np.float64) for alm in (measured, painted)
        )
        clusters = at[here]
        shown = truth[clusters]
        _, spread = _cell_moments(values - truth, cell)
        seen = (y500_arcmin2[here] > _SEEN_ARCMIN2) & (shown > _SEEN_SIGMA * spread[cell[clusters]])
        values -= truth * (np.median(values[clusters][seen] / shown[seen]) if seen.any() else 1.0)
        mean, spread = _cell_moments(values, cell)
        deviates[here] = ((values - mean[cell]) / spread[cell])[clusters]
    return deviates


def _cell_moments(values: NDArray[np.float64], cell: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a map in each cell."""
    number = np.bincount(cell)
    mean = np.bincount(cell, values) / number
    return mean, np.sqrt(np.bincount(cell, values**2) / number - mean**2)
