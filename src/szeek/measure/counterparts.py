"""Entries of other catalogues at the candidates' positions, each with the chance of one so near."""

from __future__ import annotations

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.arguments import plain_table
from szeek.measure.identify import identify_sources

#: Columns of a list of counterparts, and what they are when there is none.
_COLUMNS = {
    "candidate": "U1",
    "catalogue": "U1",
    "name": "U1",
    "separation_arcmin": "f8",
    "p_chance": "f8",
    "z": "f8",
    "richness": "f8",
    "m500_1e14msun": "f8",
}


def find_counterparts(sources: Table, catalogue: Table, radius_arcmin: float = 5.0) -> Table:
    """The nearest entry of each survey of a catalogue within the sources' position errors.

    Parameters
    ----------
    sources : Table
        ``name``, ``lon_deg``, ``lat_deg``; ``pos_err95_arcmin`` where it is known.
    catalogue : Table
        Clusters, in the columns of :func:`~szeek.inputs.catalogues.read_catalogue`, of any number of surveys.
    radius_arcmin : float
        Search radius of sources without a position error; that of the others is
        :func:`~szeek.measure.pairs.match_radius`.

    Returns
    -------
    Table
        A row for each source and survey that has one: ``candidate``, ``catalogue`` (survey), ``name``,
        ``separation_arcmin``, ``p_chance`` that one of this survey's entries within 5 deg lies so near by chance,
        ``z``, ``richness``, ``m500_1e14msun``.

    Examples
    --------
    >>> sources = Table({"name": ["C1", "C2"], "lon_deg": [10.0, 40.0], "lat_deg": [0.0, 0.0]})
    >>> known = Table({"name": ["A"], "survey": ["X"], "lon_deg": [10.05], "lat_deg": [0.0], "z": [0.1],
    ...                "richness": [30.0], "m500_1e14msun": [np.nan]})
    >>> found = find_counterparts(sources, known)
    >>> str(found["candidate"][0]), str(found["name"][0]), round(float(found["separation_arcmin"][0]), 2)
    ('C1', 'A', 3.0)
    """
    sources, catalogue = plain_table(sources, "sources"), plain_table(catalogue, "catalogue")
    parts = [Table({name: np.zeros(0, dtype) for name, dtype in _COLUMNS.items()})]
    for survey in sorted(set(np.asarray(catalogue["survey"], str))):
        entries = catalogue[np.asarray(catalogue["survey"], str) == survey]
        numbered = entries.copy()
        for column in ("z", "m500_1e14msun"):
            numbered[column] = _numbers(entries, column)
        numbered["name"] = np.arange(len(entries)).astype(str)  # to find the row again: names need not be unique
        found = identify_sources(sources, numbered, radius_arcmin)
        hit = np.flatnonzero(np.asarray(found["match_name"], str) != "") if len(sources) else np.zeros(0, int)
        rows = np.asarray(found["match_name"], str)[hit].astype(int) if len(hit) else np.zeros(0, int)
        parts.append(
            Table(
                {
                    "candidate": np.asarray(sources["name"], str)[hit],
                    "catalogue": np.full(len(hit), survey),
                    "name": np.asarray(entries["name"], str)[rows],
                    "separation_arcmin": _numbers(found, "match_sep_arcmin")[hit],
                    "p_chance": _numbers(found, "match_p_chance")[hit],
                    **{name: _numbers(entries, name)[rows] for name in ("z", "richness", "m500_1e14msun")},
                }
            )
        )
    return vstack(parts, metadata_conflicts="silent")


def _numbers(table: Table, column: str) -> NDArray[np.float64]:
    if column not in table.colnames:
        return np.full(len(table), np.nan)
    return np.asarray(table[column], np.float64)
