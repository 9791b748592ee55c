"""Which known cluster a source is, and how likely such a match is by chance."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from szeek.arguments import plain_array, plain_table
from szeek.measure.pairs import list_pairs, match_radius, table_vectors, truth_radius
from szeek.sky.tiles import tile_of

#: Radius within which the surface density of known clusters is counted.
_AROUND_DEG = 5.0


def identify_sources(sources: Table, clusters: Table | None, radius_arcmin: float = 5.0) -> Table:
    """Add tile and nearest known cluster to a source table.

    Several sources may name the same cluster: this says what lies there, :func:`szeek.assess.match.match`
    pairs one to one.

    Parameters
    ----------
    sources : Table
        With ``lon_deg`` and ``lat_deg``; ``pos_err95_arcmin`` where it is known.
    clusters : Table, optional
        Known clusters of any number of surveys, in the columns of ``read_catalogue``.
    radius_arcmin : float
        Search radius of sources without a position error; that of the others is
        :func:`~szeek.measure.pairs.match_radius`.

    Returns
    -------
    Table
        The sources with ``tile`` and, where a cluster lies within the radius, ``match_name``,
        ``match_survey``, ``match_sep_arcmin``, ``match_z``, ``match_m500_1e14msun`` and ``match_p_chance``: the
        probability 1 - exp(-n pi s^2) that one of the n clusters per area within 5 deg lies within the separation s.

    Examples
    --------
    >>> known = Table({"name": ["A"], "survey": ["X"], "lon_deg": [10.0], "lat_deg": [0.0], "z": [0.1],
    ...                "m500_1e14msun": [5.0]})
    >>> found = identify_sources(Table({"lon_deg": [10.05, 20.0], "lat_deg": [0.0, 0.0]}), known)
    >>> [str(name) for name in found["match_name"]], round(float(found["match_sep_arcmin"][0]), 3)
    (['A', ''], 3.0)
    """
    sources, clusters = plain_table(sources, "sources"), plain_table(clusters, "clusters")
    radius_arcmin = float(plain_array(radius_arcmin, "radius_arcmin", "arcmin"))
    out = sources.copy()
    out["tile"] = tile_of(np.asarray(sources["lon_deg"], float), np.asarray(sources["lat_deg"], float))
    if clusters is None or not len(clusters) or not len(sources):
        return out
    reach = np.full(len(clusters), radius_arcmin)
    if "pos_err95_arcmin" in sources.colnames:
        reach += np.fmax.reduce(np.asarray(sources["pos_err95_arcmin"], float), initial=0.0)
    if "theta500_arcmin" in clusters.colnames:
        reach = np.maximum(reach, truth_radius(clusters))
    source, cluster, distance = list_pairs(sources, clusters, reach)
    inside = distance <= match_radius(sources, clusters, source, cluster, radius_arcmin)
    source, cluster, distance = source[inside], cluster[inside], distance[inside]
    order = np.lexsort((distance, source))
    first, at = np.unique(source[order], return_index=True)
    hit = np.zeros(len(sources), bool)
    hit[first] = True
    nearest, separation = np.zeros(len(sources), np.int64), np.full(len(sources), np.nan)
    nearest[first], separation[first] = cluster[order][at], distance[order][at]
    tree = cKDTree(table_vectors(clusters))
    around = tree.query_ball_point(
        table_vectors(sources), 2 * np.sin(np.radians(_AROUND_DEG) / 2), return_length=True
    )
    per_arcmin2 = around / (np.pi * (_AROUND_DEG * 60) ** 2)
    for column, name in (("match_name", "name"), ("match_survey", "survey")):
        out[column] = np.where(hit, np.asarray(clusters[name], str)[nearest], "")
    for column, name in (("match_z", "z"), ("match_m500_1e14msun", "m500_1e14msun")):
        out[column] = np.where(hit, np.asarray(clusters[name], float)[nearest], np.nan)
    out["match_sep_arcmin"] = separation
    out["match_p_chance"] = -np.expm1(-per_arcmin2 * np.pi * separation**2)
    return out
