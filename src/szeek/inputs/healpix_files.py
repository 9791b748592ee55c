"""HEALPix FITS files as surveys publish them: what their header says, and their pixels block by block."""

from __future__ import annotations

import gzip
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import healpy
import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from numpy.typing import NDArray

#: Names of the intensity column: Planck PR1 to PR4 (I_STOKES), healpy (TEMPERATURE), others.
INTENSITY_COLUMNS = ("I_STOKES", "TEMPERATURE", "INTENSITY", "I", "SIGNAL", "T")

#: No sky is as bright in any unit: UNSEEN (-1.6375e30) and other marks of "not observed", also where a map was
#: rescaled with the marks in it.
BLANK = 1e20

_ORDERINGS = {"RING": "RING", "NESTED": "NESTED", "NEST": "NESTED"}
_FRAMES = {
    **dict.fromkeys(("G", "GAL", "GALACTIC"), "galactic"),
    **dict.fromkeys(("C", "Q", "CEL", "CELESTIAL", "EQUATORIAL", "ICRS", "FK5", "J2000"), "icrs"),
    **dict.fromkeys(("E", "ECL", "ECLIPTIC"), "ecliptic"),
}
_FORMATS: dict[str, np.dtype[np.generic]] = {
    "E": np.dtype(">f4"),
    "D": np.dtype(">f8"),
    "J": np.dtype(">i4"),
    "I": np.dtype(">i2"),
}


@dataclass(frozen=True)
class HealpixFile:
    """Where and how one map lies in a FITS file; nothing is read but the header.

    Parameters
    ----------
    path : Path
        The file, possibly gzipped.
    nside : int
        HEALPix resolution.
    ordering, frame, unit : str or None
        As the header says: 'RING' or 'NESTED'; 'galactic', 'icrs' or 'ecliptic', or a word as written that is
        neither; the unit as written. None where the header says nothing.
    pixels : (n,) int64 or None
        Pixel number of each value in a partial-sky file (INDXSCHM = EXPLICIT, or a column PIXEL and fewer values
        than the sphere has pixels), else None.
    """

    path: Path
    nside: int
    ordering: str | None
    frame: str | None
    unit: str | None
    pixels: NDArray[np.int64] | None
    n_values: int
    _data_start: int
    _row_bytes: int
    _column_start: int
    _repeat: int
    _dtype: np.dtype[np.generic]
    _scale: float
    _zero: float

    def read_blocks(self, n_block: int = 1 << 18) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (number of the first value, values float32) from the file's first value to its last.

        Raises
        ------
        OSError
            If the file ends before its last value.
        """
        rows_per_block = max(1, n_block // self._repeat)
        size = self._dtype.itemsize
        width = size * self._repeat
        with _open(self.path) as stream:
            stream.seek(self._data_start)
            for row in range(0, self.n_values // self._repeat, rows_per_block):
                n_rows = min(rows_per_block, self.n_values // self._repeat - row)
                try:
                    raw = stream.read(n_rows * self._row_bytes)
                except EOFError:
                    raw = b""
                if len(raw) < n_rows * self._row_bytes:
                    raise OSError(
                        f"'{self.path}' is truncated: it ends inside row {row + len(raw) // self._row_bytes} of "
                        f"{self.n_values // self._repeat}; fetch it again"
                    )
                if self._row_bytes % size == 0 and self._column_start % size == 0:
                    first = self._column_start // size
                    table = np.frombuffer(raw, self._dtype).reshape(n_rows, -1)
                    values = table[:, first : first + self._repeat].astype(np.float32).ravel()
                else:
                    octets = np.frombuffer(raw, np.uint8).reshape(n_rows, -1)
                    cells = np.ascontiguousarray(octets[:, self._column_start : self._column_start + width])
                    values = cells.view(self._dtype).ravel().astype(np.float32)
                if (self._scale, self._zero) != (1.0, 0.0):
                    values = (values * self._scale + self._zero).astype(np.float32)
                yield row * self._repeat, values


def describe_healpix(path: str | os.PathLike[str], column: str | None = None) -> HealpixFile:
    """Read the header of a HEALPix FITS file; `column` names the map where it is not the intensity.

    Raises
    ------
    OSError
        If the file is no FITS file, or shorter than its header says.
    ValueError
        If it holds no HEALPix table, the intensity column is not to be told from the others, or the numbers of its
        pixels do not fit its NSIDE.
    """
    path = Path(path)
    with open_fits(path) as hdus:
        tables = [h for h in hdus if isinstance(h, fits.BinTableHDU) and "NSIDE" in h.header]
        if not tables:
            _check_gzip(path)
            raise ValueError(f"'{path}' holds no HEALPix table (no extension with the keyword NSIDE)")
        hdu = tables[0]
        header, names = hdu.header, [name.upper() for name in hdu.columns.names]
        headers = (header, hdus[0].header)
        index = _choose_column(path, names, column)
        data_start = int(hdu.fileinfo()["datLoc"])
        repeat, dtype = _parse_format(path, header[f"TFORM{index + 1}"], names[index])
        column_start = sum(
            _parse_format(path, header[f"TFORM{i + 1}"], names[i], any_type=True)[0] for i in range(index)
        )
        n_values = repeat * int(header["NAXIS2"])
        nside = int(header["NSIDE"])
        if nside < 1 or nside & (nside - 1):
            raise ValueError(f"'{path}' has NSIDE = {nside}, expected a power of two; resample it to one")
        scheme = str(header.get("INDXSCHM", "")).strip().upper()
        partial = scheme == "EXPLICIT" or ("PIXEL" in names and n_values != 12 * nside**2)
        pixels = _read_pixels(path, hdu, names, nside) if partial else None
    if not path.name.endswith(".gz"):
        needed = data_start + int(header["NAXIS1"]) * int(header["NAXIS2"])
        if path.stat().st_size < needed:
            raise OSError(
                f"'{path}' is truncated: {path.stat().st_size} bytes, its header announces {needed}; fetch it again"
            )
    if not partial and n_values != 12 * nside**2:
        raise ValueError(f"'{path}' has {n_values} pixels, expected 12 nside^2 = {12 * nside**2} (NSIDE = {nside})")
    return HealpixFile(
        path,
        nside,
        _look_up(headers, ("ORDERING",), _ORDERINGS),
        _look_up(headers, ("COORDSYS", "SKYCOORD"), _FRAMES),
        _look_up(headers[:1], (f"TUNIT{index + 1}", "BUNIT", "UNITS"), {}),
        pixels,
        n_values,
        data_start,
        int(header["NAXIS1"]),
        column_start,
        repeat,
        dtype,
        float(header.get(f"TSCAL{index + 1}", 1.0)),
        float(header.get(f"TZERO{index + 1}", 0.0)),
    )


@contextmanager
def open_fits(path: Path) -> Iterator[fits.HDUList]:
    """Open a FITS file; one that ends early is left for the caller to tell, who knows how many bytes it needs.

    Raises
    ------
    FileNotFoundError, OSError
        No such file; it is no FITS file, or its header is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' is no file")
    with path.open("rb") as stream:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*may have been truncated")
                warnings.filterwarnings("error", category=VerifyWarning)
                hdus = fits.open(stream, memmap=False, lazy_load_hdus=False)
        except (OSError, EOFError, VerifyWarning) as error:
            reason = " ".join(str(error).split())
            raise OSError(f"'{path}' is no readable FITS file ({reason}); fetch it again") from error
        with hdus:
            yield hdus


def _check_gzip(path: Path) -> None:
    """astropy drops the extension that a truncated gzip file ends in; say that instead of 'not there'."""
    if path.name.endswith(".gz"):
        try:
            with gzip.open(path) as stream:
                while stream.read(1 << 24):
                    pass
        except EOFError as error:
            raise OSError(f"'{path}' is truncated: {error}; fetch it again") from error


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _choose_column(path: Path, names: list[str], column: str | None) -> int:
    if column is not None:
        if column.upper() not in names:
            raise ValueError(f"'{path}' has no column '{column}', its columns are {', '.join(names)}")
        return names.index(column.upper())
    for name in INTENSITY_COLUMNS:
        if name in names:
            return names.index(name)
    maps = [name for name in names if name != "PIXEL"]
    if len(maps) == 1:
        return names.index(maps[0])
    raise ValueError(
        f"'{path}' has the columns {', '.join(names)}, expected an intensity column "
        f"({', '.join(INTENSITY_COLUMNS)}) or a single one"
    )


def _parse_format(path: Path, text: str, name: str, any_type: bool = False) -> tuple[int, np.dtype[np.generic]]:
    """Repeat count and dtype of a TFORM; with `any_type` the width in bytes instead of the count."""
    text = text.strip().upper()
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    repeat, code = int(digits or 1), text[len(digits) : len(digits) + 1]
    widths = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16}
    if any_type and code in widths:
        return repeat * widths[code], np.dtype(np.uint8)
    if code not in _FORMATS or any_type:
        raise ValueError(f"column {name} of '{path}' has format '{text}', expected numbers (E, D, J or I)")
    return repeat, _FORMATS[code]


def _read_pixels(path: Path, hdu: fits.BinTableHDU, names: list[str], nside: int) -> NDArray[np.int64]:
    """The column PIXEL of a partial-sky file."""
    if "PIXEL" not in names:
        raise ValueError(f"'{path}' has INDXSCHM = EXPLICIT, expected a column PIXEL; found {', '.join(names)}")
    try:
        pixels = np.asarray(hdu.data.field("PIXEL"), np.int64).ravel()
    except (OSError, TypeError, ValueError, EOFError) as error:
        raise OSError(f"'{path}' is truncated: its column PIXEL cannot be read; fetch it again") from error
    if len(pixels) and not 0 <= pixels.min() <= pixels.max() < 12 * nside**2:
        raise ValueError(
            f"'{path}' has pixels {pixels.min()} to {pixels.max()}, expected 0 to {12 * nside**2 - 1} "
            f"(NSIDE = {nside})"
        )
    return pixels


def _look_up(headers: Sequence[fits.Header], keywords: tuple[str, ...], known: dict[str, str]) -> str | None:
    """The first of the keywords that is there, in the table's header or else the file's; unknown words as written."""
    for header in headers:
        for keyword in keywords:
            if text := str(header.get(keyword, "")).strip():
                return known.get(text.upper(), text)
    return None


def change_nside(keep: NDArray[np.bool_], nside: int) -> NDArray[np.bool_]:
    """A RING mask at another resolution: coarser where all children are True, finer as the parent is."""
    have = healpy.npix2nside(len(keep))
    if have == nside:
        return keep
    nested = healpy.reorder(keep.astype(np.uint8), r2n=True)
    if nside < have:
        nested = nested.reshape(12 * nside**2, -1).min(axis=1)
    else:
        nested = np.repeat(nested, (nside // have) ** 2)
    return np.asarray(healpy.reorder(nested, n2r=True), bool)
