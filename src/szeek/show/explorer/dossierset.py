"""The dossiers of many candidates as one zip file."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from szeek.files import whole_file
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.explorer.filters import Filters, choose_candidates
from szeek.show.explorer.verdicts import VerdictStore
from szeek.show.figures.dossier import draw_sheet


def dossier_files(run: RunFolder, rows: list[int], ending: str = "pdf") -> Iterator[tuple[str, bytes]]:
    """Files of a set of dossiers, made one by one: the chosen rows of the catalogue, then a sheet each.

    Parameters
    ----------
    rows : list of int
        Numbers of the candidates, counted from the highest p.
    ending : {'pdf', 'png'}
        Format of the sheets.

    Yields
    ------
    name, content : str, bytes
    """
    assert run.candidates is not None
    text = io.StringIO()
    run.candidates[rows].write(text, format="ascii.csv")
    yield products.CANDIDATES_CSV, text.getvalue().encode()
    for row in rows:
        name = "".join(c if c.isalnum() or c in "+-._" else "_" for c in str(run.candidates["name"][row]))
        yield f"{row:05d}_{name}.{ending}", draw_sheet(run, row, ending)


class _Sink(io.RawIOBase):
    """What a zip archive writes, taken away piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        content = b"".join(self.pieces)
        self.pieces.clear()
        return content


def stream_zip(files: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    """A zip archive in pieces, each as soon as its file is made: nothing waits for the last sheet.

    Examples
    --------
    >>> content = b"".join(stream_zip(iter([("a.txt", b"1"), ("b.txt", b"2")])))
    >>> zipfile.ZipFile(io.BytesIO(content)).read("b.txt")
    b'2'
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            archive.writestr(name, content)
            yield sink.take()
    yield sink.take()


def write_dossiers(
    run_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    filters: Filters | None = None,
    ending: str = "pdf",
    n_most: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the sheets of all candidates, highest p first, into one zip file, whole or not at all.

    Parameters
    ----------
    run_folder : path
        The run.
    out : path
        The zip file.
    filters : Filters, optional
        Only the candidates that pass.
    ending : {'pdf', 'png'}
        Format of the sheets.
    n_most : int, optional
        Only this many.
    progress : Progress, optional
        Called as progress('dossiers', done, total, 'sheets').

    Raises
    ------
    ValueError
        If the format is another one, or no candidate passes.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.table import Table
    >>> from szeek.measure.candidates import make_candidates, write_candidates
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sources = Table({"lon_deg": [57.8], "lat_deg": [88.0], "p": [0.9]})
    ...     _ = write_candidates(make_candidates(sources), f"{folder}/candidates.fits")
    ...     dossiers = write_dossiers(folder, f"{folder}/dossiers.zip", ending="png")
    ...     zipfile.ZipFile(dossiers).namelist()
    ['candidates.csv', '00000_SZeek_G057.80+88.00.png']
    """
    if ending not in ("pdf", "png"):
        raise ValueError(f"sheet format '{ending}' is unknown, expected 'pdf' or 'png'")
    run, target = RunFolder(run_folder), Path(out)
    if run.candidates is None or len(run.candidates) == 0:
        raise ValueError(f"'{run.path}' has no candidate; run `szeek detect` first")
    said = {one.name: one.verdict for one in VerdictStore(run.path).read()}
    rows = choose_candidates(run.candidates, filters or Filters(), said)[:n_most].tolist()
    if not rows:
        raise ValueError(f"none of the {len(run.candidates)} candidates of '{run.path}' passes the filters {filters}")
    with whole_file(target) as staging, staging.open("wb") as file:
        for done, piece in enumerate(stream_zip(dossier_files(run, rows, ending))):
            file.write(piece)
            if progress is not None:
                progress("dossiers", min(done, len(rows)), len(rows), "sheets")
    return target
