"""Columns of FITS binary tables, read block by block with the scaling and the marks that the header states."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from szeek.inputs.fits_files import BROKEN_STREAM, NOT_OBSERVED, find_marked, open_stream, read_marks

#: Types of integer columns.
INTEGERS = "BIJK"

_NUMBERS = {"L": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_WIDTHS = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}


@dataclass(frozen=True)
class TableColumn:
    """One column of a binary table, and where it lies in the file."""

    path: Path
    name: str
    code: str
    repeat: int
    start: int  # of the column in a row, bytes
    row_bytes: int
    n_rows: int
    data_start: int  # of the table in the file, bytes
    scale: float
    zero: float
    nulls: tuple[float, ...]  # marks among the values as stored
    bad_values: tuple[float, ...]  # marks among the values as scaled

    @property
    def n_values(self) -> int:
        return self.n_rows * self.repeat

    def require_numbers(self) -> None:
        """Refuse what is not one number a pixel."""
        if self.code not in _NUMBERS or not self.repeat:
            hint = "; where the table was compressed by fpack, unpack it with funpack" if self.code in "PQ" else ""
            raise ValueError(
                f"column {self.name} of '{self.path}' has TFORM '{self.repeat}{self.code}', expected "
                f"numbers ({', '.join(_NUMBERS)}){hint or '; write it as such'}"
            )

    def require_whole(self) -> None:
        """Refuse a file that is shorter than its header says."""
        needed = self.data_start + self.row_bytes * self.n_rows
        with open_stream(self.path) as stream:
            # of a compressed file it is not known how many there are inside
            size = self.path.stat().st_size if isinstance(stream, io.BufferedReader) else math.inf
        if size < needed:
            raise OSError(f"'{self.path}' is truncated: {size} bytes, its header announces {needed}; fetch it again")

    def read_raw(self, n_block: int) -> Iterator[NDArray[Any]]:
        """Values as stored, block by block of whole rows."""
        dtype, per_block = np.dtype(_NUMBERS[self.code]), max(1, n_block // self.repeat)
        width = dtype.itemsize * self.repeat
        with open_stream(self.path) as stream:
            for row in range(0, self.n_rows, per_block):
                n_rows = min(per_block, self.n_rows - row)
                try:
                    if row == 0:
                        stream.seek(self.data_start)
                    raw = stream.read(n_rows * self.row_bytes)
                except BROKEN_STREAM as error:
                    raise OSError(f"'{self.path}' is truncated or damaged ({error}); fetch it again") from error
                if len(raw) < n_rows * self.row_bytes:
                    raise OSError(
                        f"'{self.path}' is truncated: it ends inside row {row + len(raw) // self.row_bytes} of "
                        f"{self.n_rows}; fetch it again"
                    )
                octets = np.frombuffer(raw, np.uint8).reshape(n_rows, self.row_bytes)
                cells = np.ascontiguousarray(octets[:, self.start : self.start + width])
                yield cells.view(dtype).ravel()

    def read_values(self, n_block: int) -> Iterator[NDArray[np.float32]]:
        """Values as meant, NaN where the file marks them as not observed."""
        for raw in self.read_raw(n_block):
            if self.code == "L":  # 'T', 'F' or 0, which is undefined: FITS 4.0, Sect. 7.3.3.1
                values = np.where(raw == ord("T"), np.float32(1), np.float32(0))
                bad = (raw != ord("T")) & (raw != ord("F"))
            else:
                with np.errstate(over="ignore", invalid="ignore"):
                    values = self.to_physical(raw).astype(np.float32)
                bad = ~((values > NOT_OBSERVED) & (values < np.inf))
                for null in self.nulls:
                    bad |= raw == null
            if self.bad_values:
                bad |= find_marked(values, self.bad_values)
            if bad.any():
                values[bad] = np.nan
            yield values

    def to_physical(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Stored values with TSCAL and TZERO applied."""
        return raw if (self.scale, self.zero) == (1.0, 0.0) else raw * self.scale + self.zero


def make_column(
    path: Path, header: fits.Header, primary: fits.Header, table: Any, index: int, data_start: int
) -> TableColumn:
    """Where a column lies, its scaling and its marks."""
    formats = [split_format(header[f"TFORM{i + 1}"]) for i in range(index + 1)]
    start = sum(math.ceil(n / 8) if code == "X" else n * _WIDTHS.get(code, 1) for n, code in formats[:-1])
    repeat, code = formats[-1]
    scale, zero = (float(header.get(f"{key}{index + 1}", default)) for key, default in (("TSCAL", 1), ("TZERO", 0)))
    nulls = read_marks(path, header, (f"TNULL{index + 1}",))
    marks = read_marks(path, header, ("BAD_DATA", "BLANK")) or read_marks(path, primary, ("BAD_DATA",))
    marks = tuple(mark for mark in marks if mark > NOT_OBSERVED)  # those below are known anyway
    if (scale, zero) != (1.0, 0.0):
        nulls += marks  # whether they are meant before or after the scaling, the convention does not say
    return TableColumn(path, str(table.columns.names[index]), code, repeat, start, int(header["NAXIS1"]),
                   int(header["NAXIS2"]), data_start, scale, zero, nulls, marks)  # fmt: skip


def split_format(text: str) -> tuple[int, str]:
    """Repeat count and type of a TFORM."""
    text = str(text).strip().upper()
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return int(digits or 1), text[len(digits) : len(digits) + 1]
