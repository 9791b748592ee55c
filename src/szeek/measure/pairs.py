"""Pairs of sources and clusters on the sphere, and the radii within which they belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from szeek.arguments import plain_array, plain_table
from szeek.sky.healpix import lonlat_deg, unit_vectors
from szeek.sky.skymaps import Band

#: A detection within this part of theta500 belongs to the halo.
THETA500_FRACTION = 0.6


#: Narrowest beam of Planck HFI, for which matching radii are stated, and the least radius of narrower ones.
_NARROWEST_FWHM_ARCMIN, _LEAST_MATCH_ARCMIN = 4.64, 2.5


def beam_radius(radius_arcmin: float, bands: Sequence[Band]) -> float:
    """A matching radius for HFI's beams as it is for narrower ones: in proportion, 2.5 arcmin at least.

    Examples
    --------
    >>> beam_radius(5.0, [Band("143", 143.0, 7.3, "K_CMB"), Band("857", 857.0, 4.64, "MJy/sr")])
    5.0
    >>> beam_radius(5.0, [Band("f150", 150.0, 1.4, "K_CMB")])
    2.5
    """
    scale = min(1.0, min(band.fwhm_arcmin for band in bands) / _NARROWEST_FWHM_ARCMIN)
    return min(radius_arcmin, max(scale * radius_arcmin, _LEAST_MATCH_ARCMIN))


def truth_radius(
    clusters: Table, radius_arcmin: float = 5.0, theta500_fraction: float = THETA500_FRACTION
) -> NDArray[np.float64]:
    """Matching radius of each halo in arcmin: ``radius_arcmin``, or 0.6 theta500 where that is larger.

    Parameters
    ----------
    clusters : Table
        ``theta500_arcmin``; NaN where unknown.
    radius_arcmin : float
        Least radius.
    theta500_fraction : float
        Part of theta500 within which a detection belongs to the halo.

    Returns
    -------
    (n_cluster,) float64

    Examples
    --------
    >>> truth_radius(Table({"theta500_arcmin": [4.0, 20.0, np.nan]})).tolist()
    [5.0, 12.0, 5.0]
    """
    theta500_arcmin = plain_array(clusters["theta500_arcmin"], "theta500_arcmin", "arcmin")
    radius_arcmin = float(plain_array(radius_arcmin, "radius_arcmin", "arcmin"))
    return np.fmax(radius_arcmin, theta500_fraction * theta500_arcmin)


#: 95 % radius of the positions of a catalogue, arcmin. PSZ2: median of POS_ERR in HFI_PCCS_SZ-union_R2.08. Others are
#: X-ray and optical centres, and those of smaller beams, good to an arcmin: where redMaPPer picks the wrong galaxy it
#: is some 0.2 Mpc off (Rykoff et al. 2014, ApJ 785, 104), 0.6 arcmin at its median redshift of 0.37.
CATALOGUE_ERROR95_ARCMIN = {"PSZ2": 2.4}
OTHER_ERROR95_ARCMIN = 1.0
#: Least radius of a match by position errors: a pixel of the network's fields, 1.7 arcmin.
LEAST_RADIUS_ARCMIN = 1.7


def match_radius(
    sources: Table, clusters: Table, source: NDArray[np.int64], cluster: NDArray[np.int64], radius_arcmin: float = 5.0
) -> NDArray[np.float64]:
    """Radius within which a source is a known cluster, for pairs of them: what position errors allow in 95 %.

    POS_ERR95 and the catalogue's own error in quadrature, at least 1.7 arcmin; 0.6 theta500 where that is larger, as
    :func:`truth_radius` has it; ``radius_arcmin`` for sources without a position error.

    Parameters
    ----------
    sources : Table
        ``pos_err95_arcmin``, where known.
    clusters : Table
        ``survey`` and ``theta500_arcmin``, where known.
    source, cluster : (n_pair,) int64
        Rows.
    radius_arcmin : float

    Returns
    -------
    (n_pair,) float64

    Examples
    --------
    >>> sources = Table({"pos_err95_arcmin": [1.8, np.nan]})
    >>> clusters = Table({"survey": ["PSZ2", "MCXC"], "theta500_arcmin": [np.nan, 20.0]})
    >>> match_radius(sources, clusters, np.array([0, 1, 0]), np.array([0, 0, 1])).tolist()
    [3.0, 5.0, 12.0]
    """
    sources, clusters = plain_table(sources, "sources"), plain_table(clusters, "clusters")
    radius_arcmin = float(plain_array(radius_arcmin, "radius_arcmin", "arcmin"))
    survey = np.asarray(clusters["survey"], str)
    catalogue = np.full(len(clusters), OTHER_ERROR95_ARCMIN)
    for name, error in CATALOGUE_ERROR95_ARCMIN.items():
        catalogue[survey == name] = error
    own = np.full(len(sources), np.nan)
    if "pos_err95_arcmin" in sources.colnames:
        own = np.asarray(sources["pos_err95_arcmin"], float)
    both = np.maximum(np.hypot(own[source], catalogue[cluster]), LEAST_RADIUS_ARCMIN)
    radius = np.where(np.isnan(both), radius_arcmin, both)
    if "theta500_arcmin" in clusters.colnames:
        radius = np.fmax(radius, THETA500_FRACTION * np.asarray(clusters["theta500_arcmin"], float)[cluster])
    return np.asarray(radius, np.float64)


def list_pairs(
    sources: Table, clusters: Table, radius_arcmin: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of a source within a cluster's radius: source rows, cluster rows, separations in arcmin."""
    radius = np.broadcast_to(plain_array(radius_arcmin, "radius_arcmin", "arcmin"), (len(clusters),))
    if not np.all(radius > 0):
        raise ValueError(f"radius_arcmin goes down to {radius.min()}, expected positive radii")
    source_vectors, cluster_vectors = table_vectors(sources), table_vectors(clusters)
    if len(sources) == 0 or len(clusters) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    pairs = cKDTree(source_vectors).sparse_distance_matrix(
        cKDTree(cluster_vectors), chord(radius.max()), output_type="ndarray"
    )
    separation_arcmin = np.degrees(2 * np.arcsin(np.minimum(pairs["v"] / 2, 1))) * 60
    inside = separation_arcmin <= radius[pairs["j"]] * (1 + 1e-12)
    return pairs["i"][inside], pairs["j"][inside], separation_arcmin[inside]


def table_vectors(table: Table) -> NDArray[np.float64]:
    """Unit vectors (n, 3) of the table's ``lon_deg``, ``lat_deg``."""
    table = plain_table(table, "the table")
    missing = [name for name in ("lon_deg", "lat_deg") if name not in table.colnames]
    if missing:
        raise ValueError(f"the table has columns {table.colnames}, expected also {' and '.join(missing)}")
    lon_deg, lat_deg = (np.asarray(table[name], float) for name in ("lon_deg", "lat_deg"))
    bad = ~(np.isfinite(lon_deg) & (np.abs(lat_deg) <= 90))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{bad.sum()} positions are no positions, the first in row {row}: "
            f"lon_deg = {lon_deg[row]:g}, lat_deg = {lat_deg[row]:g}; remove those rows"
        )
    return unit_vectors(lon_deg, lat_deg)


def chord(angle_arcmin: float) -> float:
    """Length between two unit vectors this far apart, and a rounding error more."""
    return float(2 * np.sin(np.radians(min(angle_arcmin / 60, 180)) / 2) * (1 + 1e-12))


def direction_table(vectors: NDArray[np.float64]) -> Table:
    """Unit vectors (n, 3) as ``lon_deg``, ``lat_deg``."""
    return Table(lonlat_deg(vectors), names=("lon_deg", "lat_deg"))
