"""Which source is which cluster, and how many would match by chance."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from szeek.arguments import plain_array, plain_mask, plain_table
from szeek.sky.healpix import lonlat_deg, unit_vectors


def match(sources: Table, clusters: Table, radius_arcmin: ArrayLike = 5.0) -> Table:
    """One-to-one matches of sources to clusters, greedy by p.

    Sources choose in order of p, the highest first; each takes the nearest cluster within the radius that is
    still free. So a match at p > t does not depend on the sources below t.

    Source: Bonjean (2020): cross-match within 5 arcmin. Deviation: one-to-one.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg``, ``p``; any order. Equal p: in the order of the table.
    clusters : Table
        ``lon_deg``, ``lat_deg``; the same frame.
    radius_arcmin : float or (n_cluster,) float
        Greatest separation, one for all or one per cluster (:func:`truth_radius`).

    Returns
    -------
    Table
        One row per match, highest p first: ``source`` and ``cluster`` (row numbers), ``separation_arcmin``,
        ``p``. No rows where nothing matches.

    Raises
    ------
    ValueError
        If a column is missing, a position is not finite or a radius is not positive.

    Examples
    --------
    >>> sources = Table({"lon_deg": [10.0, 10.05], "lat_deg": [0.0, 0.0], "p": [0.3, 0.9]})
    >>> clusters = Table({"lon_deg": [10.02], "lat_deg": [0.0]})
    >>> match(sources, clusters)["source"].tolist()
    [1]
    """
    sources, clusters = plain_table(sources, "sources"), plain_table(clusters, "clusters")
    p = np.asarray(sources["p"], float) if "p" in sources.colnames else None
    if p is None:
        raise ValueError(f"the sources have columns {sources.colnames}, expected one named 'p' to rank them by")
    source, cluster, separation_arcmin = list_pairs(sources, clusters, radius_arcmin)
    rank = np.empty(len(sources), np.int64)
    rank[np.argsort(-p, kind="stable")] = np.arange(len(sources))
    source_free = np.ones(len(sources), bool)
    cluster_free = np.ones(len(clusters), bool)
    kept = []
    for k in np.lexsort((separation_arcmin, rank[source])).tolist():
        if source_free[source[k]] and cluster_free[cluster[k]]:
            source_free[source[k]] = cluster_free[cluster[k]] = False
            kept.append(k)
    chosen = np.array(kept, np.int64)
    return Table(
        {
            "source": source[chosen],
            "cluster": cluster[chosen],
            "separation_arcmin": separation_arcmin[chosen],
            "p": p[source[chosen]],
        }
    )


#: A detection within this part of theta500 belongs to the halo.
THETA500_FRACTION = 0.6


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


def further_peaks(
    sources: Table, clusters: Table, radius_arcmin: ArrayLike, matches: Table, point_radius_arcmin: float = 5.0
) -> NDArray[np.bool_]:
    """Unmatched sources inside an extended halo that a source of higher p has already found.

    They are neither right nor wrong, and :func:`szeek.assess.recovery.completeness_purity` leaves them out.

    Parameters
    ----------
    sources, clusters, radius_arcmin
        As given to :func:`match`.
    matches : Table
        What it returned.
    point_radius_arcmin : float
        Haloes with a larger radius than this are extended.

    Returns
    -------
    (n_source,) bool
    """
    sources, clusters = plain_table(sources, "sources"), plain_table(clusters, "clusters")
    radius = np.broadcast_to(plain_array(radius_arcmin, "radius_arcmin", "arcmin"), (len(clusters),))
    p = np.asarray(sources["p"], float)
    found_at_p = np.full(len(clusters), -np.inf)
    found_at_p[matches["cluster"]] = matches["p"]
    extended = radius > point_radius_arcmin
    source, cluster, _ = list_pairs(sources, clusters, radius)
    further = np.zeros(len(sources), bool)
    further[source[extended[cluster] & (p[source] <= found_at_p[cluster])]] = True
    further[matches["source"]] = False
    return further


class ChanceRate(NamedTuple):
    """Matches expected by chance, as fractions, with the standard error of their means."""

    clusters: float  #: of the clusters, one-to-one: to be compared with a recovered fraction
    clusters_error: float
    sources: float  #: of the sources, one-to-one: to be compared with a matched fraction
    sources_error: float


def chance_rate(
    sources: Table,
    clusters: Table,
    radius_arcmin: ArrayLike = 5.0,
    footprint: NDArray[np.bool_] | None = None,
    *,
    n_shifts: int = 20,
    seed: int = 0,
) -> ChanceRate:
    """Match rate after shifting each cluster by 0.5 to 2 deg in a random direction.

    Shifts that small keep how the density of sources and of clusters varies over the sky; shifts that large
    leave the cluster's own source behind (not for the few clusters larger than that).

    Parameters
    ----------
    sources, clusters, radius_arcmin
        As for :func:`match`.
    footprint : (12 nside^2,) bool, optional
        RING map of where sources could be found; shifts out of it are drawn again. Default: the whole sky.
    n_shifts : int
        Number of times that all clusters are shifted.
    seed : int
        Of the random shifts.

    Returns
    -------
    ChanceRate
        Zeros where there are no sources or no clusters.

    Raises
    ------
    ValueError
        As :func:`match`; also if ``n_shifts`` is below 2 or the footprint has no True pixel.
    """
    sources, clusters = plain_table(sources, "sources"), plain_table(clusters, "clusters")
    footprint = None if footprint is None else plain_mask(footprint, "footprint")
    if n_shifts < 2:
        raise ValueError(f"n_shifts is {n_shifts}, expected at least 2 for a mean with an error")
    if footprint is not None and not footprint.any():
        raise ValueError("the footprint has no True pixel: there is nowhere to shift clusters to")
    if len(sources) == 0 or len(clusters) == 0:
        return ChanceRate(0.0, 0.0, 0.0, 0.0)
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"chance_rate")]))
    vectors = table_vectors(clusters)
    n_match = np.array(
        [
            len(match(sources, direction_table(shift_directions(vectors, footprint, rng)), radius_arcmin))
            for _ in range(n_shifts)
        ]
    )
    mean, error = n_match.mean(), n_match.std(ddof=1) / np.sqrt(n_shifts)
    return ChanceRate(
        float(mean / len(clusters)),
        float(error / len(clusters)),
        float(mean / len(sources)),
        float(error / len(sources)),
    )


def shift_directions(
    vectors: NDArray[np.float64],
    footprint: NDArray[np.bool_] | None,
    rng: np.random.Generator,
    least_deg: float = 0.5,
    greatest_deg: float = 2.0,
    n_tries: int = 100,
) -> NDArray[np.float64]:
    """Unit vectors (n, 3) moved by a random angle (uniform in area of the ring) in a random direction.

    A vector whose shifts all fall outside the footprint ``n_tries`` times keeps its last try.
    """
    out = np.empty_like(vectors)
    left = np.arange(len(vectors))
    low, high = np.cos(np.radians([least_deg, greatest_deg]))
    for _ in range(n_tries):
        cos_shift = rng.uniform(high, low, left.size)[:, None]
        angle = rng.uniform(0, 2 * np.pi, left.size)[:, None]
        here = vectors[left]
        axis = np.where(np.abs(here[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
        east = np.cross(axis, here)
        east /= np.linalg.norm(east, axis=1, keepdims=True)
        north = np.cross(here, east)
        side = np.sqrt(1 - cos_shift**2)
        out[left] = cos_shift * here + side * (np.cos(angle) * east + np.sin(angle) * north)
        if footprint is None:
            break
        ipix = healpy.vec2pix(healpy.npix2nside(footprint.size), *out[left].T)
        left = left[~footprint[ipix]]
        if left.size == 0:
            break
    return out


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
        cKDTree(cluster_vectors), _chord(radius.max()), output_type="ndarray"
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


def _chord(angle_arcmin: float) -> float:
    return float(2 * np.sin(np.radians(min(angle_arcmin / 60, 180)) / 2) * (1 + 1e-12))


def direction_table(vectors: NDArray[np.float64]) -> Table:
    """Unit vectors (n, 3) as ``lon_deg``, ``lat_deg``."""
    return Table(lonlat_deg(vectors), names=("lon_deg", "lat_deg"))
