"""The known clusters of a run, and which of them have a source."""

from __future__ import annotations

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


def in_test_tile(table: Table, run: RunFolder) -> NDArray[np.bool_]:
    """Which rows lie in the sky tile that the report shows."""
    return run.test_sky.contain(np.asarray(table["lon_deg"], float), np.asarray(table["lat_deg"], float))
