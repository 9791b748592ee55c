"""HEALPix FITS files as surveys publish them: what their header says, and their pixels block by block.

The one reader of the package, for frequency bands, masks, p maps, y maps and whatever else is on HEALPix. What each
keyword does is in docs/inputs.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from szeek.inputs.fits_columns import INTEGERS, TableColumn, make_column, split_format
from szeek.inputs.fits_files import (
    NOT_OBSERVED,
    FilePart,
    check_whole,
    is_auxiliary,
    open_fits,
    parse_part,
    require_stated,
)

#: Names of the intensity column: Planck PR1 to PR4 (I_STOKES), healpy (TEMPERATURE), others.
INTENSITY_COLUMNS = ("I_STOKES", "TEMPERATURE", "INTENSITY", "I", "SIGNAL", "T")
#: Names of the column that holds the pixels' numbers; healpy, cut-sky files, gamma-ray maps and lists of pixels.
INDEX_COLUMNS = ("PIXEL", "PIX", "HPIX", "IPIX", "HEALPIX", "PIXNUM", "PIXELS", "PIXEL_INDEX", "PIXEL_ID", "HPXINDEX",
                 "HPX", "INDEX")  # fmt: skip
#: Frames and orderings, each with the word that a header has for it.
FRAMES = {"galactic": "G", "icrs": "C", "ecliptic": "E"}
ORDERINGS = {"RING": "RING", "NESTED": "NESTED"}

_ORDERING_WORDS = {"RING": "RING", "NESTED": "NESTED", "NEST": "NESTED"}
_FRAME_WORDS = {
    **dict.fromkeys(("G", "GAL", "GALACTIC"), "galactic"),
    **dict.fromkeys(("C", "Q", "CEL", "CELESTIAL", "EQUATORIAL", "ICRS", "FK5", "J2000", "CELESTIAL2000"), "icrs"),
    **dict.fromkeys(("E", "ECL", "ECLIPTIC", "ECLIPTIC2000"), "ecliptic"),
}
_UNSTATED_UNITS = ("", "UNKNOWN", "NONE", "UNDEFINED", "N/A")


@dataclass(frozen=True)
class HealpixFile:
    """Where and how one map lies in a FITS file; nothing is read but the header, and the pixels' numbers.

    Parameters
    ----------
    path : Path
        The file, possibly compressed.
    nside : int
        HEALPix resolution.
    ordering, frame, unit : str or None
        As the header says: 'RING' or 'NESTED'; 'galactic', 'icrs' or 'ecliptic', or a word as written that is
        neither; the unit as written. None where the header says nothing.
    pixels : (n,) int64 or None
        Pixel number of each value in a file that has a column of them, else None.
    first_pixel : int
        Pixel of the first value in a file without such a column.
    """

    path: Path
    nside: int
    ordering: str | None
    frame: str | None
    unit: str | None
    pixels: NDArray[np.int64] | None
    first_pixel: int
    _column: TableColumn | _Values

    @property
    def is_whole_sky(self) -> bool:
        """Whether the values are those of all pixels in order."""
        return self.pixels is None and self._column.n_values == 12 * self.nside**2

    def require_ordering(self, given: str | None = None) -> str:
        """'RING' or 'NESTED': the argument, else what the header says; an error where neither does."""
        return require_stated(self.path, "ordering", "ORDERING", given, self.ordering, ORDERINGS)

    def require_frame(self, given: str | None = None) -> str:
        """'galactic', 'icrs' or 'ecliptic': the argument, else what the header says; an error where neither does."""
        return require_stated(self.path, "frame", "COORDSYS", given, self.frame, FRAMES)

    def read_blocks(self, n_block: int = 1 << 18) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield pixel numbers, in the file's own ordering, and values from the file's first to its last.

        Values are NaN where the file marks them as not observed, by whatever mark.

        Raises
        ------
        OSError
            If the file ends before its last value.
        """
        start = 0
        for values in self._column.read_values(n_block):
            stop = start + len(values)
            if self.pixels is None:
                yield np.arange(self.first_pixel + start, self.first_pixel + stop), values
            else:
                yield self.pixels[start:stop], values
            start = stop

    def read_ring_blocks(
        self, frame: str | None = None, ordering: str | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield RING pixel numbers of a Galactic map, and values; pixels that the file lacks may be left out.

        A map in another frame is interpolated bilinearly between the four nearest pixel centres.

        Parameters
        ----------
        frame, ordering : str, optional
            Overrule the header.

        Raises
        ------
        ValueError
            If neither header nor argument says frame or ordering.
        """
        order, where = self.require_ordering(ordering), self.require_frame(frame)
        blocks = (
            (healpy.nest2ring(self.nside, pixels) if order == "NESTED" else pixels, values)
            for pixels, values in self.read_blocks()
        )
        if where == "galactic":
            yield from blocks
            return
        yield from _rotate_blocks(blocks, self.nside, FRAMES[where])

    def read_ring(
        self, frame: str | None = None, ordering: str | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Read the whole map: (12 nside^2,) float32, RING, Galactic, NaN where not observed.

        Parameters
        ----------
        frame, ordering : str, optional
            Overrule the header.
        out : (12 nside^2,) float32, optional
            Array of NaN to write to.
        """
        values = np.full(12 * self.nside**2, np.nan, np.float32) if out is None else out
        for pixels, block in self.read_ring_blocks(frame, ordering):
            values[pixels] = block
        return values


#: Cells that are interpolated or not, of a map in another frame: 14 arcmin, and 55 arcmin of the map itself.
_CELL_NSIDE, _SOURCE_CELL_NSIDE = 256, 64


def _rotate_blocks(
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]], nside: int, frame: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """RING pixels in Galactic coordinates, and values interpolated bilinearly between RING pixels of another frame.

    Memory and time go with the sky that was observed: what no block has is neither written nor interpolated.
    """
    n_pix = 12 * nside**2
    source, seen = np.zeros(n_pix, np.float32), np.zeros(n_pix, bool)
    covered = np.full(12 * _SOURCE_CELL_NSIDE**2, nside < _CELL_NSIDE)
    for pixels, values in blocks:
        known = np.isfinite(values)
        pixels = pixels[known]
        source[pixels], seen[pixels] = values[known], True
        if nside >= _CELL_NSIDE:
            covered[healpy.ring2nest(nside, pixels) // (nside // _SOURCE_CELL_NSIDE) ** 2] = True
    cells = np.flatnonzero(covered)
    around = healpy.get_all_neighbours(_SOURCE_CELL_NSIDE, cells, nest=True)
    covered[around[around >= 0]] = True
    rotator = healpy.Rotator(coord=["G", frame])
    side = min(nside, _CELL_NSIDE)
    centres = rotator(*healpy.pix2ang(side, np.arange(12 * side**2), nest=True))
    wanted = np.flatnonzero(covered[healpy.ang2pix(_SOURCE_CELL_NSIDE, *centres, nest=True)])
    n_child = (nside // side) ** 2
    step = max(1, (1 << 18) // n_child)
    for first in range(0, len(wanted), step):
        nested = (wanted[first : first + step, None] * n_child + np.arange(n_child)).ravel()
        pixels = healpy.nest2ring(nside, nested)
        near, weight = healpy.get_interp_weights(nside, *rotator(*healpy.pix2ang(nside, pixels)))
        values = np.where(seen[near], source[near], np.float32(np.nan))
        yield pixels, np.sum(values * weight, axis=0).astype(np.float32)


@dataclass(frozen=True)
class _Values:
    """Values in memory, read as those of a column are."""

    values: NDArray[Any]

    @property
    def n_values(self) -> int:
        return len(self.values)

    def read_values(self, n_block: int) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(self.values), n_block):
            values = self.values[start : start + n_block].astype(np.float32)
            values[~((values > NOT_OBSERVED) & (values < np.inf))] = np.nan
            yield values


def healpix_of_healsparse(name: str, sparse: Any) -> HealpixFile:
    """A map of healsparse, which is NESTED and says neither frame nor unit, as what the header of a file says.

    Parameters
    ----------
    name : str
        What it is called in messages.
    sparse : healsparse.HealSparseMap
        Of numbers, one a pixel.
    """
    pixels = np.asarray(sparse.valid_pixels, np.int64)
    values = _Values(np.asarray(sparse.get_values_pix(pixels)))
    return HealpixFile(Path(name), int(sparse.nside_sparse), "NESTED", None, None, pixels, 0, values)


def is_healsparse(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of healsparse."""
    with open_fits(parse_part(path).path) as hdus:
        return any(str(hdu.header.get("PIXTYPE", "")).upper() == "HEALSPARSE" for hdu in hdus)


def describe_healpix(
    path: str | os.PathLike[str],
    column: str | None = None,
    wanted: Sequence[str] = INTENSITY_COLUMNS,
    auxiliary: bool = False,
) -> HealpixFile:
    """Read the header of a HEALPix FITS file.

    Parameters
    ----------
    path : path
        FITS file, with what of it is meant in square brackets where need be (:mod:`szeek.inputs.fits_files`).
    column : str, optional
        Column that holds the map.
    wanted : sequence of str
        Names of columns that are taken for the map where none is named; else the only one that is not noise, hits
        or the like.
    auxiliary : bool
        Whether an inverse variance is meant, not a map: the only column, whatever its name, or one of ``wanted``.

    Raises
    ------
    OSError
        If the file is not a FITS file, or shorter than its header says.
    ValueError
        If it holds no HEALPix table; if table or column are not to be told from others; if its header contradicts
        itself or the file.
    """
    part = parse_part(path)
    with open_fits(part.path) as hdus:
        tables = _list_tables(part, hdus)
        column = column or part.column
        if auxiliary and column is None and len(tables) == 1:
            names = [str(name) for i, name in enumerate(tables[0][1].columns.names) if not _is_index(tables[0][1], i)]
            column = next((name for name in names if len(names) == 1 or name.upper() in wanted), None)
        _, table, index = _choose(part.path, tables, column, wanted)
        primary = hdus[0].header
        for key in {"TUNIT", "TNULL"} & set(part.cards):
            table.header[f"{key}{index + 1}"] = table.header[key]
        return _describe(part.path, table.header, primary, table, index, int(table.fileinfo()["datLoc"]))


def list_columns(path: str | os.PathLike[str]) -> list[str]:
    """Names of the columns of a HEALPix file that hold values.

    Raises
    ------
    OSError
        If the file is not a FITS file.
    ValueError
        If it holds no HEALPix table, or several of them and none is named in brackets.
    """
    part = parse_part(path)
    with open_fits(part.path) as hdus:
        tables = _list_tables(part, hdus)
        if len(tables) > 1:
            raise ValueError(_say_ambiguous(part.path, tables))
        ((_, table),) = tables
        names = [str(name) for name in table.columns.names]
        chosen = [name for name in names if part.column is None or name.upper() == part.column.upper()]
        return [name for name in chosen if not _is_index(table, names.index(name))]


def _list_tables(part: FilePart, hdus: fits.HDUList) -> list[tuple[str, Any]]:
    """Name and HDU of the tables that hold HEALPix maps."""
    tables = [(name, hdu) for name, hdu in part.select(hdus) if isinstance(hdu, fits.BinTableHDU)]
    for _, hdu in tables:
        part.state_cards(hdu.header)
    marked = [pair for pair in tables if is_healpix(pair[1])]
    if not marked and is_healpix(hdus[0]):  # as old files have it
        marked = tables
    if marked:
        return marked
    check_whole(part.path)
    images = [name for name, hdu in part.select(hdus) if hdu.header.get("NAXIS", 0) and not hasattr(hdu, "columns")]
    healsparse = any(str(hdu.header.get("PIXTYPE", "")).upper() == "HEALSPARSE" for hdu in hdus)
    found = "tables without them" if tables else "images" if images else "no table"
    way = "give a HEALPix map"
    if healsparse:
        found, way = "a HealSparse map", "write it out with its generate_healpix_map() and healpy.write_map"
    elif tables and "NSIDE" not in part.cards:
        way = f"state NSIDE after the name: '{part.path.name}[1][NSIDE=2048]'"
    raise ValueError(
        f"'{part.path}' holds no HEALPix table, expected an extension with the keywords PIXTYPE = HEALPIX and NSIDE, "
        f"found {found}; {way}"
    )


def read_frame(headers: Sequence[fits.Header]) -> str | None:
    """'galactic', 'icrs' or 'ecliptic' as the first header says that says any; another word as it is written.

    Examples
    --------
    >>> read_frame([fits.Header(), fits.Header({"COORDSYS": "C"})])
    'icrs'
    """
    return _look_up(headers, ("COORDSYS", "SKYCOORD"), _FRAME_WORDS)


def is_healpix(hdu: Any) -> bool:
    """Whether a header calls what it describes a HEALPix map."""
    return "NSIDE" in hdu.header or str(hdu.header.get("PIXTYPE", "")).strip().upper() == "HEALPIX"


def _choose(
    path: Path, tables: list[tuple[str, Any]], column: str | None, wanted: Sequence[str]
) -> tuple[str, Any, int]:
    """Name, table and number of the column that holds the map; what is not to be told is asked."""
    if column is not None:
        named = [(name, hdu, i) for name, hdu in tables for i in _find_column(hdu, column)]
        if not named:
            there = "; ".join(", ".join(hdu.columns.names) for _, hdu in tables)
            raise ValueError(f"'{path}' has no column '{column}', its columns are {there}; name one of them")
        if len(named) > 1:
            raise ValueError(_say_ambiguous(path, [(name, hdu) for name, hdu, _ in named]))
        return named[0]
    signal = [(name, hdu) for name, hdu in tables if not is_auxiliary(name)]
    known = [(name, hdu, i) for name, hdu in signal for i in _known_columns(hdu, wanted)]
    if len(known) == 1:
        return known[0]
    if not known:
        other = [(name, hdu, i) for name, hdu in signal for i in _plain_columns(hdu)]
        if len(other) == 1:
            return other[0]
    if len(tables) > 1 and len(known) != 1:
        raise ValueError(_say_ambiguous(path, tables))
    name, hdu = tables[0]
    names = ", ".join(hdu.columns.names)
    what = f"the extension '{name}', with " if not signal else ""
    some = next((str(c) for c in hdu.columns.names if str(c).upper() not in INDEX_COLUMNS), "NAME")
    raise ValueError(
        f"'{path}' has {what}the columns {names}, expected an intensity column ({', '.join(wanted)}) or a single "
        f"one; name one in brackets: '{path.name}[col {some}]'"
    )


def _find_column(hdu: Any, column: str) -> list[int]:
    """Numbers of the columns of this name, in exact case before folded."""
    names = [str(name) for name in hdu.columns.names]
    return [i for i, name in enumerate(names) if name == column] or [
        i for i, name in enumerate(names) if name.upper() == column.upper()
    ]


def _known_columns(hdu: Any, wanted: Sequence[str]) -> list[int]:
    return [i for i in _plain_columns(hdu) if str(hdu.columns.names[i]).upper() in wanted]


def _plain_columns(hdu: Any) -> list[int]:
    """Numbers of the columns that may be a map: not pixel numbers, noise or hits beside it."""
    found = []
    for i, name in enumerate(hdu.columns.names):
        unit = str(hdu.header.get(f"TUNIT{i + 1}", ""))
        if not _is_index(hdu, i) and not is_auxiliary(str(name), unit):
            found.append(i)
    return found


def _say_ambiguous(path: Path, tables: list[tuple[str, Any]]) -> str:
    listed = "; ".join(f"{name} ({', '.join(hdu.columns.names)})" for name, hdu in tables)
    columns = [str(name) for name in tables[0][1].columns.names]
    return (
        f"'{path}' has several columns that may be the map: {listed}; name extension or column in brackets: "
        f"'{path.name}[{tables[0][0]}]' or '{path.name}[{tables[0][0]}][col {columns[-1]}]'"
    )


def _is_index(hdu: Any, i: int) -> bool:
    """Whether a column holds pixel numbers, by its name and its type."""
    name, code = str(hdu.columns.names[i]).upper(), split_format(hdu.header[f"TFORM{i + 1}"])[1]
    if str(hdu.header.get("INDXSCHM", "")).strip().upper() == "EXPLICIT" and i == _explicit_index(hdu):
        return True
    numbers = INTEGERS if name == "INDEX" else INTEGERS + "ED"  # a spectral index is called so too
    return name in INDEX_COLUMNS and code in numbers and len(hdu.columns) > 1


def _explicit_index(hdu: Any) -> int | None:
    """Number of the column of pixel numbers: by name, or the first where it holds integers, as healpy has it."""
    names = [str(name).upper() for name in hdu.columns.names]
    if len(names) < 2:
        return None
    for name in INDEX_COLUMNS:
        if name in names:
            return names.index(name)
    return 0 if split_format(hdu.header["TFORM1"])[1] in INTEGERS else None


def _describe(
    path: Path, header: fits.Header, primary: fits.Header, table: Any, index: int, data_start: int
) -> HealpixFile:
    column = make_column(path, header, primary, table, index, data_start)
    column.require_numbers()
    column.require_whole()
    both = (header, primary)
    ordering = _look_up(both, ("ORDERING",), _ORDERING_WORDS)
    if ordering is not None and ordering.upper() in ("NUNIQ", "RANGE"):
        raise ValueError(
            f"'{path}' has ORDERING = '{ordering}', a multi-order map, expected RING or NESTED; "
            "flatten it first, for instance with ligo.skymap or mhealpy"
        )
    scheme = str(header.get("INDXSCHM", "")).strip().upper()
    if scheme not in ("", "IMPLICIT", "EXPLICIT"):
        raise ValueError(
            f"'{path}' has INDXSCHM = '{scheme}', expected IMPLICIT or EXPLICIT; write it with one of them"
        )
    nside = _read_nside(path, both, column.n_values, scheme)
    n_pix = 12 * nside**2
    numbers = _choose_index(path, header, table, index, scheme, column.n_values, n_pix)
    pixels, first_pixel = None, 0
    if numbers is not None:
        which = make_column(path, header, primary, table, numbers, data_start)
        pixels = _read_pixels(path, header, which, column, nside)
        if scheme == "IMPLICIT" and len(pixels) == n_pix:
            if not np.array_equal(pixels, np.arange(n_pix)):
                raise ValueError(
                    f"'{path}' has INDXSCHM = 'IMPLICIT', but its column {which.name} does not count 0, 1, 2, ...; "
                    f"state which is right: '{path.name}[INDXSCHM=EXPLICIT]', or write it without the column"
                )
            pixels = None
    elif column.n_values != n_pix:
        first_pixel = _read_first_pixel(path, header, column.n_values, nside)
    frame = read_frame(both)
    if frame == "icrs":
        _check_epoch(path, header)
    unit = _look_up((header,), (f"TUNIT{index + 1}", "BUNIT", "UNITS"), {})
    if unit is not None and unit.upper() in _UNSTATED_UNITS:
        unit = None
    return HealpixFile(path, nside, ordering, frame, unit, pixels, first_pixel, column)


def _read_nside(path: Path, headers: Sequence[fits.Header], n_values: int, scheme: str) -> int:
    nside = next((n for header in headers if (n := _read_integer(path, header, "NSIDE")) is not None), None)
    if nside is None:
        if scheme == "EXPLICIT" or not healpy.isnpixok(n_values):
            raise ValueError(
                f"'{path}' does not say its NSIDE, and has {n_values} values, not the 12 nside^2 of a whole sky; "
                f"state it after the name: '{path.name}[NSIDE=2048]'"
            )
        nside = int(healpy.npix2nside(n_values))
    if nside < 1 or nside & (nside - 1):
        raise ValueError(f"'{path}' has NSIDE = {nside}, expected a power of two; resample it to one")
    return nside


def _read_integer(path: Path, header: fits.Header, keyword: str) -> int | None:
    value = header.get(keyword)
    if value is None or isinstance(value, fits.card.Undefined) or not str(value).strip():
        return None
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        f"'{path}' has {keyword} = '{value}', expected a whole number; state it after the name: "
        f"'{path.name}[{keyword}=...]'"
    )


def _choose_index(
    path: Path, header: fits.Header, table: Any, index: int, scheme: str, n_values: int, n_pix: int
) -> int | None:
    """Number of the column of pixel numbers; None where the values stand in order."""
    explicit = _explicit_index(table)
    if explicit == index:
        explicit = None
    if scheme == "EXPLICIT":
        if explicit is None:
            raise ValueError(
                f"'{path}' has INDXSCHM = EXPLICIT, expected a column of pixel numbers ({', '.join(INDEX_COLUMNS)}, "
                f"or a first one of integers); found {', '.join(table.columns.names)}; name it so, or state "
                f"'{path.name}[INDXSCHM=IMPLICIT]'"
            )
        return explicit
    if explicit is None or _is_index(table, explicit):
        return explicit
    partial = str(header.get("OBJECT", "")).strip().upper() == "PARTIAL" and "FIRSTPIX" not in header
    return explicit if partial and n_values != n_pix and scheme == "" else None


def _read_pixels(
    path: Path, header: fits.Header, which: TableColumn, values: TableColumn, nside: int
) -> NDArray[np.int64]:
    """The pixel number of each value."""
    which.require_numbers()
    grain = _read_integer(path, header, "GRAIN") or 0
    blocks = [which.to_physical(raw) for raw in which.read_raw(1 << 18)]
    physical = np.concatenate(blocks) if blocks else np.zeros(0)
    pixels = physical.astype(np.int64)
    exact = which.code in INTEGERS or 12 * nside**2 <= (1 << 24) or which.code == "D"
    if not exact or not np.array_equal(pixels, physical):
        raise ValueError(
            f"column {which.name} of '{path}' has TFORM '{which.code}' and no whole numbers, expected pixel numbers; "
            "write them as J or K"
        )
    if grain > 1 and which.n_values * grain == values.n_values:
        # one number, the first, for GRAIN consecutive pixels
        pixels = (pixels[:, None] + np.arange(grain)).ravel()
    if len(pixels) != values.n_values or (grain > 1 and which.n_values == values.n_values):
        raise ValueError(
            f"'{path}' has {which.n_values} pixel numbers ({which.name}) for {values.n_values} values "
            f"({values.name}), GRAIN = {grain}, expected one for each value, or for every GRAIN of them; "
            f"state it after the name: '{path.name}[GRAIN={max(1, values.n_values // max(1, which.n_values))}]'"
        )
    if len(pixels) and not 0 <= pixels.min() <= pixels.max() < 12 * nside**2:
        raise ValueError(
            f"'{path}' has pixels {pixels.min()} to {pixels.max()}, expected 0 to {12 * nside**2 - 1} "
            f"(NSIDE = {nside}); write those of the sphere only"
        )
    seen = np.zeros(12 * nside**2, bool)
    seen[pixels] = True
    if (n_twice := len(pixels) - int(seen.sum())) > 0:
        by_grain = f" with GRAIN = {grain}" if grain > 1 else ""
        raise ValueError(
            f"column {which.name} of '{path}' gives {n_twice} pixels twice{by_grain}, expected each once; "
            "keep one value for each"
        )
    return pixels


def _read_first_pixel(path: Path, header: fits.Header, n_values: int, nside: int) -> int:
    """FIRSTPIX of a file that holds a run of pixels."""
    first, last = (_read_integer(path, header, key) for key in ("FIRSTPIX", "LASTPIX"))
    n_pix = 12 * nside**2
    inside = first is not None and 0 <= first <= n_pix - n_values
    if first is not None and inside and (last == first + n_values - 1 or (last is None and first > 0)):
        return first
    said = f"FIRSTPIX = {first}, LASTPIX = {last}" if (first, last) != (None, None) else "no pixel numbers"
    raise ValueError(
        f"'{path}' has {n_values} pixels, expected 12 nside^2 = {n_pix} (NSIDE = {nside}); it has {said}: state what "
        f"is right after the name, '{path.name}[FIRSTPIX=0][LASTPIX={n_values - 1}]' or '{path.name}[NSIDE=...]'"
    )


def _check_epoch(path: Path, header: fits.Header) -> None:
    """Refuse equatorial positions of another epoch than J2000."""
    system = str(header.get("RADESYS", header.get("RADECSYS", ""))).strip().upper()
    equinox = str(header.get("EQUINOX", "")).strip().upper().removeprefix("J")
    try:
        is_j2000 = not equinox or float(equinox) == 2000.0
    except ValueError:
        is_j2000 = False
    if system not in ("", "ICRS", "FK5") or not is_j2000:
        raise ValueError(
            f"'{path}' has COORDSYS = C with RADESYS = '{system}', EQUINOX = '{equinox}', expected ICRS or FK5 "
            f"J2000; rotate it, or state what is right after the name: '{path.name}[RADESYS=ICRS][EQUINOX=2000]'"
        )


def _look_up(headers: Sequence[fits.Header], keywords: tuple[str, ...], known: dict[str, str]) -> str | None:
    """The first of the keywords that is there, in the table's header or else the file's; unknown words as written."""
    for header in headers:
        for keyword in keywords:
            value = header.get(keyword, "")
            if not isinstance(value, fits.card.Undefined) and (text := str(value).strip()):
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


def mask_pixels(keep: NDArray[np.bool_], nside: int) -> Callable[[NDArray[np.int64]], NDArray[np.bool_]]:
    """Look-up of a RING mask at RING pixels of another resolution, as of :func:`change_nside`, without a map of them.

    Examples
    --------
    >>> mask_pixels(np.arange(12) == 3, 2)(np.array([0, 3])).tolist()
    [False, True]
    """
    if healpy.npix2nside(len(keep)) >= nside:
        same = change_nside(keep, nside)
        return lambda ipix: same[ipix]
    have = healpy.npix2nside(len(keep))
    return lambda ipix: keep[healpy.nest2ring(have, healpy.ring2nest(nside, ipix) // (nside // have) ** 2)]
