"""Targets: a disc at every known cluster."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import PIXEL_ARCMIN, field_basis

#: Value in a target of pixels that count neither as cluster nor as sky.
IGNORED = -1.0


@njit(cache=True, nogil=True)
def _draw_discs(basis, pixel_rad, vectors, radii_rad, values, target):  # type: ignore[no-untyped-def]  # pragma: no cover
    ny, nx = target.shape
    for k in range(vectors.shape[0]):
        cosine = math.cos(radii_rad[k])
        reach = int(2.0 * radii_rad[k] / pixel_rad) + 2
        depth = x = y = 0.0
        for d in range(3):
            depth += vectors[k, d] * basis[0, d]
            x += vectors[k, d] * basis[1, d]
            y += vectors[k, d] * basis[2, d]
        if depth <= 0.1:
            continue
        column = x / depth / pixel_rad + 0.5 * (nx - 1)
        row = y / depth / pixel_rad + 0.5 * (ny - 1)
        for i in range(max(0, int(row) - reach), min(ny, int(row) + reach + 1)):
            py = pixel_rad * (i - 0.5 * (ny - 1))
            for j in range(max(0, int(column) - reach), min(nx, int(column) + reach + 1)):
                px = pixel_rad * (j - 0.5 * (nx - 1))
                dot = (depth + px * x + py * y) / math.sqrt(1.0 + px * px + py * py)
                if dot >= cosine:
                    target[i, j] = max(target[i, j], values[k]) if values[k] > 0 else values[k]


class ClusterLabels:
    """Discs at the clusters of a catalogue, drawn into any field.

    Source: Bonjean (2020), Sect. 3.1: 1 within a disc of 5 arcmin diameter, else 0. Ours: discs that grow with the
    cluster, and hold less than 1 where the catalogue is to count for less.

    Parameters
    ----------
    lon_deg, lat_deg : (n,) float64
        Clusters, Galactic.
    disc_arcmin : float or (n,) float64
        Diameter of the discs; the ignored ones have the smallest.
    ignored_lon_deg, ignored_lat_deg : (m,) float64, optional
        Sources whose discs count neither way (value -1), except where a cluster's disc lies.
    value : float or (n,) float64
        In (0, 1], inside the discs; of two that overlap the larger.
    """

    def __init__(
        self,
        lon_deg: NDArray[np.float64],
        lat_deg: NDArray[np.float64],
        disc_arcmin: float | NDArray[np.float64] = 5.0,
        ignored_lon_deg: NDArray[np.float64] | None = None,
        ignored_lat_deg: NDArray[np.float64] | None = None,
        value: float | NDArray[np.float64] = 1.0,
    ) -> None:
        if len(lon_deg) == 0:
            raise ValueError("no clusters to learn from: the selection of the catalogues is empty")
        none = np.zeros(0)
        self.vectors = unit_vectors(np.asarray(lon_deg, float), np.asarray(lat_deg, float))
        self.ignored = unit_vectors(
            none if ignored_lon_deg is None else np.asarray(ignored_lon_deg, float),
            none if ignored_lat_deg is None else np.asarray(ignored_lat_deg, float),
        )
        self.radius_rad = np.radians(np.full(len(self.vectors), 0.5 / 60) * disc_arcmin)
        self.value = np.full(len(self.vectors), value, np.float32)
        self._largest_rad = float(self.radius_rad.max())
        self.ignored_rad = np.full(len(self.ignored), self.radius_rad.min())
        self._tree = cKDTree(self.vectors)
        self._ignored_tree = cKDTree(self.ignored) if len(self.ignored) else None

    def draw(
        self,
        lon_deg: float,
        lat_deg: float,
        angle_deg: float,
        ny: int,
        nx: int,
        pixel_arcmin: float = PIXEL_ARCMIN,
    ) -> NDArray[np.float32]:
        """Target of a field, (ny, nx) float32: 0 sky, up to 1 cluster, -1 ignored. Field as in ``sample_field``.

        Examples
        --------
        >>> labels = ClusterLabels(np.array([30.0]), np.array([40.0]))
        >>> int(labels.draw(30.0, 40.0, 0.0, 65, 65).sum())
        9
        """
        basis = field_basis(lon_deg, lat_deg, angle_deg)
        pixel_rad = math.radians(pixel_arcmin / 60)
        reach = math.atan(0.5 * math.hypot(ny, nx) * pixel_rad) + self._largest_rad
        chord = 2 * math.sin(0.5 * reach)
        target = np.zeros((ny, nx), np.float32)
        if self._ignored_tree is not None:
            near = self._ignored_tree.query_ball_point(basis[0], chord)
            values = np.full(len(near), IGNORED, np.float32)
            _draw_discs(basis, pixel_rad, self.ignored[near], self.ignored_rad[near], values, target)
        near = self._tree.query_ball_point(basis[0], chord)
        _draw_discs(basis, pixel_rad, self.vectors[near], self.radius_rad[near], self.value[near], target)
        return target
