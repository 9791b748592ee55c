"""The known clusters of several catalogues in one table, and the named selections among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack

from szeek.config import named_file
from szeek.inputs.catalogues import list_columns, read_catalogue, select_clusters
from szeek.inputs.columns import folded


def read_clusters(files: Iterable[str | Path], columns: Mapping[str, str] | None = None) -> Table:
    """Read catalogues of known clusters (files, or 'SURVEY=FILE') and put them under one another.

    Parameters
    ----------
    files : iterable of str or path
    columns : mapping of str to str, optional
        Columns to read where their names do not tell, as :func:`~szeek.inputs.catalogues.read_catalogue` has them;
        in every file that has a column of that name.

    Raises
    ------
    ValueError
        If no file is given, none holds a cluster, or none has a column that is given.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "mine.csv").write_text("name,ra,dec,z\\nComa,194.95,27.98,0.0231\\n")
    ...     str(read_clusters([f"{folder}/mine.csv"])["survey"][0])
    'MINE'
    """
    named = [named_file(file) for file in files]
    given = dict(columns or {})
    found = [list_columns(file) if given else [] for _, file in named]
    there = [{folded(name) for name in names} for names in found]
    if lacking := [name for name in given.values() if not any(folded(name) in names for names in there)]:
        names = sorted(set().union(*found))
        raise ValueError(f"no catalogue has a column {', '.join(lacking)}; found {', '.join(names[:40])}")
    tables = [
        read_catalogue(file, survey, columns={role: name for role, name in given.items() if folded(name) in names})
        for (survey, file), names in zip(named, there, strict=True)
    ]
    if not any(len(table) for table in tables):
        raise ValueError("no clusters are known: no catalogue is given, or all that are given are empty")
    return vstack(tables, metadata_conflicts="silent")


def name_selections(clusters: Table) -> Table:
    """Add the column ``selection``: the first of planck_z, planck_no-z, mcxcwp, rm50, rm30 a cluster is in.

    '' for others of PSZ2, MCXC and redMaPPer, which an earlier list holds as well; else the survey's name.
    """
    named = clusters.copy()
    survey = np.asarray(named["survey"], str)
    own = np.where(np.isin(survey, ("PSZ2", "MCXC", "REDMAPPER")), "", np.char.lower(survey))
    named["selection"] = own.astype("U32") if len(own) else np.full(0, "", "U32")
    rows = np.arange(len(named))
    for selection in ("rm30", "rm50", "mcxcwp", "planck_no-z", "planck_z"):
        with_row = named.copy()
        with_row["row"] = rows
        chosen = _selected(with_row, selection)
        named["selection"][np.asarray(chosen["row"], int)] = selection
    return named


def group_clusters(clusters: Table, selections: Iterable[str]) -> dict[str, Table]:
    """The named selections that are not empty; where all are, each survey."""
    groups = {name: rows for name in selections if len(rows := _selected(clusters, name))}
    return groups or {str(s).lower(): clusters[clusters["survey"] == s] for s in sorted(set(clusters["survey"]))}


def _selected(clusters: Table, selection: str) -> Table:
    """A named selection; empty where its survey is not among the catalogues."""
    try:
        return select_clusters(clusters, selection)
    except ValueError:
        return clusters[:0] if len(clusters) else clusters
