"""Clusters and compact sources painted into images of any grid, at their true distances on the sphere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from astropy.table import Table
from numba import njit
from numpy.typing import ArrayLike, NDArray

from szeek.physics.beams import FWHM_PER_SIGMA, BeamTable
from szeek.physics.instrument import Instrument
from szeek.simulate.components.clusters import split_profiles, total_response
from szeek.simulate.components.sources import Sources
from szeek.simulate.painting import blend_profile
from szeek.sky.grids import ImageGrid
from szeek.sky.healpix import unit_vectors

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

_ARCMIN = math.pi / 10800
#: A Gaussian is painted out to where it is 4e-6 of its peak.
_REACH_SIGMA = 5.0


def paint_clusters_on(
    grid: ImageGrid,
    clusters: Table,
    fwhm_arcmin: Floats,
    response: Floats,
    out: Sequence[Map32],
    tables: Sequence[BeamTable | None] = (),
    window_arcmin: ArrayLike = 0.0,
) -> None:
    """Add clusters to the images of several bands, each through its own beam.

    Parameters
    ----------
    grid : ImageGrid
    clusters : Table
        As for :func:`szeek.simulate.components.clusters.paint_clusters`.
    fwhm_arcmin : (n_band,) float64
        Gaussian beams.
    response : (n_band,) or (n_cluster, n_band) float64
        Signal per unit Compton y.
    out : sequence of (ny, nx) float32
        One image for each band, added to in place.
    tables : sequence of (BeamTable or None), optional
        Measured beams of the bands that have one, to be used instead of the Gaussian, which is the nearest to it.
    window_arcmin : float or (n_band,) float64
        Sigma of the window of the images' pixels, where they hold the mean of the sky inside them.
    """
    if not len(clusters):
        return
    sigma = np.hypot(np.asarray(fwhm_arcmin, float) / FWHM_PER_SIGMA, window_arcmin)
    for components, table in split_profiles(clusters, sigma, tables, window_arcmin):
        total = total_response(response, tables)
        per_y = total[components.row] if total.ndim == 2 else total[None, :]
        amplitude = (per_y * components.flux_arcmin2[:, None]).astype(np.float32)
        centres = unit_vectors(components.lon_deg, components.lat_deg)
        profile = np.empty(table.values.shape[1:], np.float32)
        for centre, theta, weight in zip(centres, components.theta_arcmin, amplitude, strict=True):
            edge_arcmin = blend_profile(
                math.log(theta), table.log_theta_min, table.log_theta_step, table.edge_arcmin, table.values,
                weight, profile,
            )  # fmt: skip
            box = _box(grid, centre, edge_arcmin)
            if box is None:
                continue
            rows, columns, vectors = box
            added = np.zeros((len(vectors), len(out)), np.float32)
            _add_profile(vectors, centre, edge_arcmin * _ARCMIN, table.core_arcmin * _ARCMIN, profile, added)
            _add(added, rows, columns, out)


def paint_sources_on(
    grid: ImageGrid, sources: Sources, instrument: Instrument, fwhm_arcmin: Floats, out: Sequence[Map32]
) -> None:
    """Add compact sources, each a Gaussian of beam and own extent; parameters as of :func:`paint_clusters_on`."""
    per_jy = 1e-6 * instrument.unit_per_kcmb / instrument.mjysr_per_kcmb
    fwhm2 = np.asarray(fwhm_arcmin, float) ** 2 + sources.fwhm_arcmin[:, None] ** 2
    variance = fwhm2 * (_ARCMIN / FWHM_PER_SIGMA) ** 2
    peak = sources.flux_jy * per_jy / (2 * np.pi * variance)
    for centre, spread, height in zip(unit_vectors(sources.lon_deg, sources.lat_deg), variance, peak, strict=True):
        box = _box(grid, centre, _REACH_SIGMA * math.sqrt(spread.max()) / _ARCMIN)
        if box is not None:
            rows, columns, vectors = box
            distance2 = _distance2(vectors, centre)
            _add((height * np.exp(-0.5 * distance2[:, None] / spread)).astype(np.float32), rows, columns, out)


def _box(
    grid: ImageGrid, centre: Floats, reach_arcmin: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats] | None:
    """Rows and columns of the pixels about a direction, and the directions of all of them, (n, 3)."""
    row, column = (float(at) for at in grid.pixels(centre))
    if not math.isfinite(row + column):
        return None
    step = grid.directions(row + np.array([0.5, -0.5, 0.0, 0.0]), column + np.array([0.0, 0.0, 0.5, -0.5]))
    if not np.isfinite(step).all():
        return None
    reach = [reach_arcmin * _ARCMIN / max(float(np.linalg.norm(step[k] - step[k + 1])), 1e-9) + 1 for k in (0, 2)]
    rows = np.arange(max(0, math.ceil(row - reach[0])), min(grid.shape[0] - 1, math.floor(row + reach[0])) + 1)
    first, last = math.ceil(column - reach[1]), math.floor(column + reach[1])
    if grid.is_full_circle:
        columns = np.arange(first, min(last, first + grid.period - 1) + 1) % grid.period
    else:
        columns = np.arange(max(0, first), min(grid.shape[1] - 1, last) + 1)
    if not rows.size or not columns.size:
        return None
    vectors = grid.directions(rows[:, None], columns[None, :]).reshape(-1, 3)
    return rows, columns, np.nan_to_num(vectors)


def _add(added: Map32, rows: NDArray[np.int64], columns: NDArray[np.int64], out: Sequence[Map32]) -> None:
    for k, image in enumerate(out):
        image[np.ix_(rows, columns)] += added[:, k].reshape(rows.size, columns.size)


def _distance2(vectors: Floats, centre: Floats) -> Floats:
    """Squared distances on the sphere from a direction, radian^2, from the chord: to 1e-5 at 10 deg."""
    chord2 = ((vectors - centre) ** 2).sum(axis=1)
    return np.asarray(chord2 * (1.0 + chord2 / 12.0))


@njit(cache=True, nogil=True)
def _add_profile(vectors, centre, edge, core, profile, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Values of a round profile at directions; its nodes as in :mod:`szeek.simulate.painting`."""
    n_radius, n_band = profile.shape
    scale = (n_radius - 1) / math.log1p((edge / core) ** 2)
    for k in range(vectors.shape[0]):
        chord2 = 0.0
        for axis in range(3):
            chord2 += (vectors[k, axis] - centre[axis]) ** 2
        distance2 = chord2 * (1.0 + chord2 / 12.0)
        if distance2 >= edge * edge:
            continue
        at = math.log1p(distance2 / core**2) * scale
        node = min(int(at), n_radius - 2)
        share = np.float32(at - node)
        for b in range(n_band):
            out[k, b] = profile[node, b] + share * (profile[node + 1, b] - profile[node, b])
