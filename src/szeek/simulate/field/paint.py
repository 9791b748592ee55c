"""Clusters and compact sources painted on the pixels of a field, through one narrow beam that all bands share.

Distances are those on the sphere. The beams of the bands follow later, divided by the narrow one, in one filter of
the sum of all that shines.
"""

from __future__ import annotations

import numba
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from szeek.simulate.components.clusters import split_profiles
from szeek.simulate.components.sources import Sources
from szeek.simulate.field.lattice import STEP_ARCMIN, Lattice
from szeek.simulate.painting import blend_profile
from szeek.sky.harmonics import FWHM_PER_SIGMA

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

_ARCMIN = np.pi / 180 / 60
#: Sigma of the narrow beam: a Gaussian sampled in steps of sigma / 0.72 keeps its sum to 1e-4.
NARROW_SIGMA_ARCMIN = 0.72 * STEP_ARCMIN
#: Sources of 10 Jy end here below 0.1 uK.
_SPOT_RADIUS_SIGMA = 6.0


def paint_clusters_on(lattice: Lattice, clusters: Table, response: Floats, out: Map32) -> None:
    """Add clusters to interleaved maps, through the narrow beam.

    Parameters
    ----------
    lattice : Lattice
    clusters : Table
        As :func:`szeek.simulate.components.clusters.paint_clusters` takes them.
    response : (n_band,) or (n_cluster, n_band) float64
        Signal per unit y.
    out : (ny, nx, n_band) float32
        Added to, in place.
    """
    if len(clusters) == 0:
        return
    for components, table in split_profiles(clusters, np.array([NARROW_SIGMA_ARCMIN])):
        amplitude = (response[components.row] if response.ndim == 2 else response) * components.flux_arcmin2[:, None]
        row, column = _places(lattice, components.lon_deg, components.lat_deg)
        _paint_profiles(
            row, column, np.log(components.theta_arcmin), np.ascontiguousarray(amplitude, np.float32),
            table.log_theta_min, table.log_theta_step, table.edge_arcmin, table.core_arcmin, table.values,
            _steps(lattice), out,
        )  # fmt: skip


def paint_sources_on(lattice: Lattice, sources: Sources, per_jy: Floats, out: Map32) -> None:
    """Add sources to interleaved maps, each a Gaussian of the narrow beam and its own extent.

    Parameters
    ----------
    lattice : Lattice
    sources : Sources
    per_jy : (n_band,) float64
        Brightness in map units of 1 Jy / sr.
    out : (ny, nx, n_band) float32
        Added to, in place.
    """
    variance = (NARROW_SIGMA_ARCMIN**2 + (sources.fwhm_arcmin / FWHM_PER_SIGMA) ** 2) * _ARCMIN**2
    peak = sources.flux_jy * per_jy / (2 * np.pi * variance)[:, None]
    row, column = _places(lattice, sources.lon_deg, sources.lat_deg)
    _paint_spots(row, column, variance, np.ascontiguousarray(peak, np.float32), _steps(lattice), out)


def _places(lattice: Lattice, lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats]:
    position = SkyCoord(lon_deg, lat_deg, unit="deg", frame="galactic").icrs
    return lattice.places(position.ra.deg, position.dec.deg)


def _steps(lattice: Lattice) -> Floats:
    """Step of the lattice and the declination of row 0, both in radians."""
    return np.array([STEP_ARCMIN * _ARCMIN, np.radians(lattice.dec_deg[0])])


@numba.njit(cache=True, inline="always")
def _reach(row, column, edge, steps, ny, nx, j):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """First and last column of row j within ``edge`` of a position, 4 sin^2(d dec / 2), and 4 cos cos."""
    step, first = steps
    dec, dec_j = first + row * step, first + j * step
    rise = 4.0 * np.sin(0.5 * (dec_j - dec)) ** 2
    product = 4.0 * np.cos(dec) * np.cos(dec_j)
    left = 4.0 * np.sin(0.5 * edge) ** 2 - rise
    if left <= 0.0 or product <= 0.0:
        return 0, -1, rise, product
    half = 2.0 * np.arcsin(min(np.sqrt(left / product), 1.0)) / step
    return max(int(np.ceil(column - half)), 0), min(int(np.floor(column + half)), nx - 1), rise, product


@numba.njit(cache=True, nogil=True)
def _paint_profiles(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    row, column, log_theta, amplitude, log_theta_min, theta_step, edges, core_arcmin, values, steps, out
):
    ny, nx, n_band = out.shape
    arcmin = np.pi / 10800.0
    one = np.ones(1, np.float32)
    profile = np.empty(values.shape[1:], np.float32)
    n_radius = values.shape[1]
    for c in range(row.size):
        edge = blend_profile(log_theta[c], log_theta_min, theta_step, edges, values, one, profile) * arcmin
        high = int(np.ceil(edge / steps[0]))
        scale = (n_radius - 1) / np.log1p((edge / (core_arcmin * arcmin)) ** 2)
        inverse_core2 = 1.0 / (core_arcmin * arcmin) ** 2
        for j in range(max(int(row[c]) - high, 0), min(int(row[c]) + high + 2, ny)):
            start, stop, rise, product = _reach(row[c], column[c], edge, steps, ny, nx, j)
            for i in range(start, stop + 1):
                chord2 = rise + product * np.sin(0.5 * (i - column[c]) * steps[0]) ** 2
                distance2 = chord2 * (1.0 + chord2 / 12.0)
                at = np.log(1.0 + distance2 * inverse_core2) * scale
                node = min(int(at), n_radius - 2)
                share = np.float32(at - node)
                value = profile[node, 0] + share * (profile[node + 1, 0] - profile[node, 0])
                for b in range(n_band):
                    out[j, i, b] += amplitude[c, b] * value


@numba.njit(cache=True, nogil=True)
def _paint_spots(row, column, variance, peak, steps, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    ny, nx, n_band = out.shape
    for c in range(row.size):
        edge = _SPOT_RADIUS_SIGMA * np.sqrt(variance[c])
        high = int(np.ceil(edge / steps[0]))
        for j in range(max(int(row[c]) - high, 0), min(int(row[c]) + high + 2, ny)):
            start, stop, rise, product = _reach(row[c], column[c], edge, steps, ny, nx, j)
            for i in range(start, stop + 1):
                chord2 = rise + product * np.sin(0.5 * (i - column[c]) * steps[0]) ** 2
                value = np.float32(np.exp(-0.5 * chord2 / variance[c]))
                for b in range(n_band):
                    out[j, i, b] += peak[c, b] * value
