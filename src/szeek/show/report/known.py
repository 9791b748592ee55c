"""The known clusters of a run, and which of them have a source."""

from __future__ import annotations

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.assess.match import match
from szeek.pipeline.products import RunFolder


def recovered(sources: Table, clusters: Table, radius_arcmin: float = 5.0) -> NDArray[np.bool_]:
    """Which clusters have a source of their own: (n_cluster,) bool, one-to-one as the assessment counts."""
    found = np.zeros(len(clusters), bool)
    if len(sources) and len(clusters):
        found[np.asarray(match(sources, clusters, radius_arcmin)["cluster"])] = True
    return found


def known_clusters(run: RunFolder) -> Table | None:
    """The run's known clusters with the selection of each, its survey where it has none."""
    if run.clusters is not None and "selection" not in run.clusters.colnames:
        run.clusters["selection"] = np.char.lower(np.asarray(run.clusters["survey"], str))
    return run.clusters


def drawn_clusters(run: RunFolder) -> Table:
    """The known clusters that pictures show, empty without a list; optical ones only where there are no others."""
    clusters = known_clusters(run)
    if clusters is None:
        return Table({"lon_deg": np.empty(0), "lat_deg": np.empty(0), "selection": np.empty(0, str)})
    optical = np.isfinite(np.asarray(clusters["richness"], float))
    return clusters if optical.all() else clusters[~optical]  # redMaPPer's thousands would hide the rest


def counted_sky(run: RunFolder) -> str:
    """Where the report counts sources and clusters: the test tile, or all maps for a network trained elsewhere."""
    return "these maps" if run.given_model else f"sky tile {run.test_tile}"


def in_counted_sky(table: Table, run: RunFolder) -> NDArray[np.bool_]:
    """Which rows lie there."""
    lon_deg, lat_deg = (np.asarray(table[name], float) for name in ("lon_deg", "lat_deg"))
    if not run.given_model:
        return run.test_sky.contain(lon_deg, lat_deg)
    if run.p_nested is None:
        return np.ones(len(table), bool)
    nside = healpy.npix2nside(run.p_nested.size)
    p = run.p_nested[healpy.ang2pix(nside, lon_deg, lat_deg, nest=True, lonlat=True)]
    return np.asarray(np.isfinite(p), bool)
