"""Which source is which cluster, and how many would match by chance."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from szeek.arguments import plain_array, plain_mask, plain_table
from szeek.measure.pairs import direction_table, list_pairs, table_vectors


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
