"""Which candidates to show: the filters of the explorer's page, on a candidate table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray


class Filters(NamedTuple):
    """Filters on candidates; one that is None, or '', keeps all.

    A candidate whose value is unknown (NaN, no kind) does not pass a filter on it.

    Parameters
    ----------
    p_min, purity_min, snr_min : float, optional
        Least p, calibrated purity and signal-to-noise ratio.
    lat_min : float, optional
        Least distance from the Galactic plane, degrees.
    matched : {'yes', 'no', ''}
        Whether a known cluster lies there.
    kind : str
        The catalogue's KIND.
    judged : str
        The verdict, or 'none' for candidates without one.
    search : str
        Part of the name, or of the known cluster's, in any case.

    Examples
    --------
    >>> Filters(p_min=0.5, matched="no").purity_min is None
    True
    """

    p_min: float | None = None
    purity_min: float | None = None
    snr_min: float | None = None
    lat_min: float | None = None
    matched: str = ""
    kind: str = ""
    judged: str = ""
    search: str = ""

    @classmethod
    def parse(cls, words: Mapping[str, str]) -> Filters:
        """From the texts of a URL's query; empty ones and other names are ignored.

        Raises
        ------
        ValueError
            If a text is not a number where one is expected.
        """
        settings: dict[str, float | str] = {}
        for name in cls._fields:
            text = words.get(name, "").strip()
            if not text:
                continue
            if name.endswith("_min"):
                try:
                    settings[name] = float(text)
                except ValueError as error:
                    raise ValueError(f"filter {name} is '{text}', expected a number") from error
            else:
                settings[name] = text
        return cls(**settings)  # type: ignore[arg-type]


def choose_candidates(table: Table, filters: Filters, verdicts: Mapping[str, str] | None = None) -> NDArray[np.int64]:
    """Rows of a candidate table that pass all filters, in the table's order.

    Parameters
    ----------
    table : Table
        Candidates with the columns of a source table (``p``, ``lat_deg``, ``match_name`` ...); a filter on a
        missing column keeps none.
    filters : Filters
    verdicts : mapping of name to verdict, optional
        Needed by the filter on verdicts.

    Raises
    ------
    ValueError
        If ``matched`` is neither yes nor no.

    Examples
    --------
    >>> table = Table({"name": ["A", "B"], "p": [0.9, 0.2], "lat_deg": [-50.0, 3.0], "snr": [5.0, np.nan]})
    >>> choose_candidates(table, Filters(p_min=0.1, snr_min=4.5)).tolist()
    [0]
    >>> choose_candidates(table, Filters(judged="none"), {"A": "cluster"}).tolist()
    [1]
    """
    if filters.matched not in ("", "yes", "no"):
        raise ValueError(f"filter matched is '{filters.matched}', expected 'yes' or 'no'")
    keep = np.ones(len(table), bool)

    def texts(column: str) -> NDArray[np.str_]:
        return np.asarray(table[column], str) if column in table.colnames else np.full(len(table), "")

    def numbers(column: str) -> NDArray[np.float64]:
        return np.asarray(table[column], float) if column in table.colnames else np.full(len(table), np.nan)

    for column, least in (("p", filters.p_min), ("purity", filters.purity_min), ("snr", filters.snr_min)):
        if least is not None:
            keep &= numbers(column) >= least
    if filters.lat_min is not None:
        keep &= np.abs(numbers("lat_deg")) >= filters.lat_min
    if filters.matched:
        keep &= (texts("match_name") != "") == (filters.matched == "yes")
    if filters.kind:
        keep &= texts("kind") == filters.kind
    if filters.judged:
        said = verdicts or {}
        keep &= np.array([(said.get(str(name)) or "none") == filters.judged for name in table["name"]], bool)
    if filters.search:
        both = np.char.lower(np.char.add(np.char.add(texts("name"), " "), texts("match_name")))
        keep &= np.char.find(both, filters.search.lower()) >= 0
    return np.flatnonzero(keep)
