"""Verdicts and notes on candidates: a small SQLite file in the run's folder, and the catalogue that carries them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table

from szeek.measure.candidates import read_candidates
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder

#: Verdicts on a candidate; '' removes one.
VERDICTS = ("cluster", "maybe", "no cluster")
NOTE_LENGTH = 2000


class Verdict(NamedTuple):
    """A verdict and a note on one candidate."""

    name: str
    verdict: str
    note: str
    changed: str  #: UTC, ISO 8601


class VerdictStore:
    """verdicts.sqlite of a run folder; safe with several threads and several open pages.

    Parameters
    ----------
    folder : path
        The run's folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     isinstance(VerdictStore(folder), VerdictStore)
    True
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / products.VERDICTS

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS verdicts "
                "(name TEXT PRIMARY KEY, verdict TEXT NOT NULL, note TEXT NOT NULL, changed TEXT NOT NULL)"
            )
            yield connection

    def read(self) -> list[Verdict]:
        """All verdicts, by name; an empty list where none was stored."""
        if not self.path.is_file():
            return []
        with self._open() as connection:
            rows = connection.execute("SELECT name, verdict, note, changed FROM verdicts ORDER BY name").fetchall()
        return [Verdict(*row) for row in rows]

    def write(self, name: str, verdict: str, note: str = "") -> Verdict:
        """Store verdict and note on a candidate; where both are empty, remove its entry.

        Raises
        ------
        ValueError
            If the verdict is not one of :data:`VERDICTS` or '', the name is empty, or the note is too long.
        """
        if verdict not in ("", *VERDICTS):
            raise ValueError(f"verdict '{verdict}' is unknown, expected one of {', '.join(VERDICTS)}, or ''")
        if not name:
            raise ValueError("the verdict has an empty name; expected the candidate's NAME in the catalogue")
        if len(note) > NOTE_LENGTH:
            raise ValueError(f"the note has {len(note)} characters, expected at most {NOTE_LENGTH}")
        said = Verdict(name, verdict, note, datetime.now(UTC).isoformat(timespec="seconds"))
        with self._open() as connection:
            if verdict or note:
                connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", said)
            else:
                connection.execute("DELETE FROM verdicts WHERE name = ?", (name,))
        return said


def vetted_candidates(folder: str | os.PathLike[str]) -> Table:
    """The run's candidates with VERDICT and NOTE beside every other column.

    Examples
    --------
    >>> vetted_candidates("my-run").write("vetted.fits")  # doctest: +SKIP
    """
    table = read_candidates(RunFolder(folder).file(products.CANDIDATES))
    said = {verdict.name: verdict for verdict in VerdictStore(folder).read()}
    known = [said.get(str(name)) for name in table["NAME"]]
    table["VERDICT"] = np.array([v.verdict if v else "" for v in known], dtype="U10")
    table["NOTE"] = np.array([v.note if v else "" for v in known], dtype=str)
    return table
