"""Samples of a run's candidates that are stacked: all, those that no catalogue knows, and these in the test tile."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from szeek.inputs.catalogues import select_clusters, separation_arcmin
from szeek.sky.tiles import TEST_TILE, Tiles

#: Clusters that count as known, and the radius of a match: Bonjean (2020), Sect. 4.1.
KNOWN, MATCH_ARCMIN = ("planck_z", "planck_no-z", "mcxcwp"), 5.0
_TEST = Tiles((TEST_TILE,))
SAMPLES = ("all", "unmatched", "test_tile")


def choose_samples(sources: Table, clusters: Table, test_tiles: Tiles = _TEST) -> dict[str, Table]:
    """The three samples of a source table.

    Unmatched: no cluster of Planck_z, Planck_no-z or MCXCwP within 5 arcmin.

    Examples
    --------
    >>> sources = Table({"lon_deg": [10.0, 112.5], "lat_deg": [50.0, 41.8], "p": [0.5, 0.9]})
    >>> known = Table({"name": ["A"], "survey": ["PSZ2"], "lon_deg": [10.0], "lat_deg": [50.05], "z": [0.1]})
    >>> {name: len(rows) for name, rows in choose_samples(sources, known).items()}
    {'all': 2, 'unmatched': 1, 'test_tile': 1}
    """
    free = np.ones(len(sources), bool)
    for name in KNOWN:
        free &= separation_arcmin(sources, select_known(clusters, name)) > MATCH_ARCMIN
    unmatched = sources[free]
    tested = test_tiles.contain(
        np.asarray(unmatched["lon_deg"], float), np.asarray(unmatched["lat_deg"], float)
    )
    return {"all": sources, "unmatched": unmatched, "test_tile": unmatched[tested]}


def select_known(clusters: Table, selection: str) -> Table:
    """A selection of clusters; empty where its survey is not among the catalogues."""
    try:
        return select_clusters(clusters, selection)
    except ValueError:
        return clusters[:0]
