"""A file that holds a table -> the table, whatever the format, the dialect and the encoding are called.

Formats are told by content, never by the file's name. What a format states about a column is kept with it: its unit,
its UCD, and the frame of reference (``meta['frame']``, an astropy frame) that a VOTable refers it to. What a file
states about all its positions is in ``table.meta['frame']``.
"""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import numpy as np
from astropy.coordinates import (
    FK4,
    FK5,
    ICRS,
    BarycentricMeanEcliptic,
    BaseCoordinateFrame,
    FK4NoETerms,
    Galactic,
    SkyCoord,
    Supergalactic,
)
from astropy.io import fits, votable
from astropy.table import Column, MaskedColumn, Table
from astropy.units import Quantity, Unit
from numpy.typing import NDArray

from szeek.inputs.fits_files import BROKEN_STREAM, open_stream

#: Words that stand for a missing value, lower case.
MISSING = frozenset(
    ("", ".", "..", "...", "\u2026", "-", "--", "---", "----", "\u2013", "\u2014", "n/a", "na", "n.a.", "nan", "null",
     "none", "undef", "indef", "masked", "\\n", "?")
)  # fmt: skip

_NOT_TABLES = {
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or export the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; export the sheet as CSV",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it",
    b"PAR1": "a Parquet file; write it as FITS, VOTable, ECSV or CSV",
    b"\x89HDF": "an HDF5 file; write its table as FITS, VOTable, ECSV or CSV",
    b"%PDF": "a PDF document; take the table that was published with it, as FITS or CSV",
}
#: A row of dashes, as VizieR, Markdown and reStructuredText have it below the header.
_RULER = r"[-=:\s;|,+\t]*[-=]{2}[-=:\s;|,+\t]*"
_NO_UNITS = frozenset(("", "none", "-", "--", "---", "unitless", "dimensionless", "n/a", "null"))
_ANGLE_UNITS = frozenset(
    ("deg", "degree", "degrees", "hour", "hours", "hr", "rad", "radian", "hourangle", "h:m:s", "d:m:s", "arcmin")
)
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eEdD][+-]?\d+)?")
_ANGLE = re.compile(r"[+-]?\d{1,3}\s*[\s:hdr°]\s*\d{1,2}(\s*[\s:m'\u2032]\s*\d{0,2}([.,]\d*)?\s*[s\"\u2033]?)?")


def read_tables(path: str | os.PathLike[str], names: Sequence[str] = ()) -> list[Table]:
    """All tables of a file, in their order; columns are plain or masked arrays in the machine's byte order.

    Read are FITS tables (binary and ASCII), VOTables, ECSV, IPAC and CDS (machine-readable) tables, and text with
    fields between commas, semicolons, tabs, bars or blanks, or in columns of fixed width; comments above the header,
    a header behind '#', VizieR's rows of units and dashes, decimal commas and a byte-order mark are understood.
    All of them plain, or compressed with gzip, bzip2 or xz.

    Parameters
    ----------
    path : path
    names : sequence of str
        Of the columns of a text file that has rows but no header, as its authors describe it.

    Returns
    -------
    list of Table
        With text as str; ``meta['frame']`` of a table, and of a column, where the file states one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it holds no table, is damaged, or is in another format.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder, expected a file with a table; name the file in it")
    readers: dict[str, Callable[[Path], list[Table]]] = {
        "fits": _read_fits,
        "votable": _read_votable,
        "ecsv": _read_ecsv,
        "text": partial(_read_text, names=names),
    }
    kind = "text"
    stream = open_stream(path)
    try:
        with stream:
            start = stream.read(2048)
        for magic, what in _NOT_TABLES.items():
            if start.startswith(magic):
                raise ValueError(f"it is {what}")
        kind = _format_of(start)
        # what is odd in a file is judged here, column by column, and not by the readers' warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables = readers[kind](path)
            tables = [_plain(table) for table in tables if len(table.colnames)]
        if not tables:
            raise ValueError("it has no table; take the file that holds the catalogue")
        return tables
    except (*BROKEN_STREAM, ValueError, TypeError, IndexError, KeyError, ExpatError, csv.Error, Warning) as error:
        said = " ".join(str(error).split())
        raise OSError(f"'{path}' holds no readable {kind} table ({said[:500]})") from error


def _format_of(start: bytes) -> str:
    if start.startswith((b"SIMPLE  =", b"XTENSION=")):
        return "fits"
    head = _decoded(start).lstrip("\ufeff").lstrip().lower()
    if head.startswith(("<!doctype html", "<html")):
        raise ValueError("it is a web page, perhaps of a failed download; fetch the file again")
    if "<votable" in head or head.startswith("<?xml"):
        return "votable"
    if head.startswith(("# %ecsv", "#%ecsv")):
        return "ecsv"
    if b"\x00" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("its first bytes are those of no known format; expected FITS, VOTable, ECSV or text")
    return "text"


# --- FITS ------------------------------------------------------------------------------------------------


def _read_fits(path: Path) -> list[Table]:
    tables = []
    with open_stream(path) as stream, fits.open(stream) as hdus:
        for hdu in hdus:
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
                table = _from_hdu(hdu)
                table.meta = {"name": hdu.name, "frame": _frame_of_header(hdu.header, hdus[0].header)}
                tables.append(table)
    if not tables:
        raise ValueError("it has no table, only images; take the file that holds the catalogue")
    return tables


def _from_hdu(hdu: fits.BinTableHDU | fits.TableHDU) -> Table:
    missing = _take_nulls(hdu) if isinstance(hdu, fits.TableHDU) else {}
    ucds = {hdu.header.get(f"TTYPE{i}"): hdu.header.get(f"TUCD{i}") for i in range(1, len(hdu.columns) + 1)}
    table = Table.read(hdu, format="fits", unit_parse_strict="silent")
    for name, where in missing.items():
        table[name] = MaskedColumn(table[name], mask=np.ma.getmaskarray(table[name]) | where)
    for name, ucd in ucds.items():
        if ucd and name in table.colnames:
            table[name].meta["ucd"] = str(ucd)
    return table


def _take_nulls(hdu: fits.TableHDU) -> dict[str, NDArray[np.bool_]]:
    """Where an ASCII table has its marks of missing numbers (TNULLn is any text there), which become readable."""
    nulls = {}
    for i in range(1, int(hdu.header["TFIELDS"]) + 1):
        code = str(hdu.header.get(f"TFORM{i}", "A")).strip()[:1].upper()
        if f"TNULL{i}" in hdu.header and code != "A":
            nulls[i] = str(hdu.header[f"TNULL{i}"]).strip(), b"0" if code == "I" else b"0."
            del hdu.header[f"TNULL{i}"]
    missing = {}
    if nulls and hdu.data is not None:
        raw = hdu.data.view(np.ndarray)
        for i, (mark, zero) in nulls.items():
            field = raw[raw.dtype.names[i - 1]]
            where = np.char.strip(np.char.decode(field, "latin-1")) == mark
            field[where] = zero
            missing[hdu.columns.names[i - 1]] = where
    return missing


def _frame_of_header(*headers: fits.Header) -> BaseCoordinateFrame | None:
    """The frame that a FITS header states: RADESYS (RADECSYS) and EQUINOX (EPOCH), as FITS 4.0, Sect. 8.3.1."""
    for header in headers:
        system = header.get("RADESYS", header.get("RADECSYS"))
        equinox = header.get("EQUINOX")
        if equinox is None and re.fullmatch(r"[JB]?(2000|1950)(\.0*)?", str(header.get("EPOCH", "")).strip()):
            equinox = header["EPOCH"]  # its old name; any other year is when the sky was observed
        if system is not None or equinox is not None:
            return frame_of(None if system is None else str(system), equinox, "RADESYS and EQUINOX of the header")
    return None


# --- VOTable ---------------------------------------------------------------------------------------------


def _read_votable(path: Path) -> list[Table]:
    with open_stream(path) as stream:
        parsed = votable.parse(io.BytesIO(stream.read()), verify="ignore")
    systems = {}
    for system in parsed.iter_coosys():
        systems[system.ID] = frame_of(system.system, system.equinox, f"COOSYS '{system.ID}'")
    tables = []
    for part in parsed.iter_tables():
        table = part.to_table(use_names_over_ids=True)
        names = table.colnames
        for name, field in zip(names, part.fields, strict=True):
            table[name].meta = {"ucd": field.ucd or ""}
            if field.ref in systems:
                table[name].meta["frame"] = systems[field.ref]
        referred = any("frame" in table[name].meta for name in names)
        table.meta = {"name": part.name or part.ID or ""}
        if not referred and len(systems) > 1:
            table.meta["frames"] = list(systems.values())
        elif not referred:
            table.meta["frame"] = next(iter(systems.values()), None)
        tables.append(table)
    return tables


def frame_of(system: str | None, equinox: object, where: str) -> BaseCoordinateFrame:
    """The astropy frame of a stated system and equinox.

    Source: FITS 4.0, Sect. 8.3.1 (without RADESYS, FK4 before equinox 1984, else FK5; ICRS without either); IVOA
    VOTable 1.5, Sect. 3.1, and its vocabulary of reference frames.

    Raises
    ------
    ValueError
        If the system is none that positions on the sky are given in, or the equinox is no year.

    Examples
    --------
    >>> frame_of("eq_FK4", "B1950", "COOSYS")
    <FK4 Frame (equinox=B1950.000, obstime=B1950.000)>
    >>> frame_of(None, 2000.0, "EQUINOX")
    <FK5 Frame (equinox=J2000.000)>
    """
    word = re.sub(r"[^a-z0-9]", "", (system or "").lower())
    year = None
    if equinox not in (None, ""):
        found = re.fullmatch(r"\s*['\"]?\s*([JB]?)\s*(\d{4}(\.\d*)?)\s*['\"]?\s*", str(equinox))
        if not found:
            raise ValueError(f"{where} states the equinox '{equinox}', expected a year, J2000 or B1950; mend it")
        year = float(found[2])
    if word in ("icrs", "gappt", "eqicrs"):
        return ICRS()
    if word in ("fk5", "eqfk5") or (not word and year is not None and year >= 1984.0):
        return FK5(equinox=f"J{2000.0 if year is None else year}")
    if word in ("fk4", "eqfk4", "fk4noe") or (not word and year is not None):
        kind = FK4NoETerms if word == "fk4noe" else FK4
        return kind(equinox=f"B{1950.0 if year is None else year}")
    if word in ("galactic", "gal"):
        return Galactic()
    if word in ("supergalactic", "sgal"):
        return Supergalactic()
    if word in ("eclfk5", "ecliptic"):
        return BarycentricMeanEcliptic(equinox=f"J{2000.0 if year is None else year}")
    if not word:
        return ICRS()
    raise ValueError(
        f"{where} states the frame '{system}', which is not read here; expected ICRS, FK5, FK4, galactic or "
        "ecliptic (FK5): convert the positions"
    )


# --- text ------------------------------------------------------------------------------------------------


def _decoded(content: bytes) -> str:
    """Text in UTF-8, or UTF-16 where its mark says so, else Latin-1, in which every byte is a letter."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.end == len(content) and error.reason == "unexpected end of data":  # the first block of a file
            return content[: error.start].decode("utf-8-sig")
        return content.decode("latin-1")


def _text_of(path: Path) -> str:
    with open_stream(path) as stream:
        return _decoded(stream.read()).removeprefix("\ufeff")


def _read_ecsv(path: Path) -> list[Table]:
    return [Table.read(_text_of(path), format="ascii.ecsv")]


def _read_text(path: Path, names: Sequence[str] = ()) -> list[Table]:
    lines = [line.rstrip(" ") for line in re.split(r"\r\n|\r|\n", _text_of(path))]
    while lines and not lines[-1].strip():
        lines.pop()
    if any("byte-by-byte description" in line.lower() for line in lines[:400]):
        return [Table.read(lines, format="ascii.cds")]
    first = next((line for line in lines if line.strip()), "")
    if first.startswith("\\") or (first.startswith("|") and any(_is_ipac(line) for line in lines[1:50])):
        return [Table.read(lines, format="ascii.ipac")]
    return [_from_lines(lines, names)]


def _is_ipac(line: str) -> bool:
    """A row of an IPAC table begins with a blank, below a header between bars."""
    return line.startswith(" ") and bool(line.strip()) and "|" not in line


def _from_lines(lines: list[str], known: Sequence[str] = ()) -> Table:
    """One table of delimited or fixed-width text."""
    comments = [line.lstrip("#% \t") for line in lines if line.startswith(("#", "%"))]
    body = [line for line in lines if line.strip() and not line.startswith(("#", "%"))]
    while body and re.fullmatch(_RULER, body[0]):  # reStructuredText has them above and below the table too
        body.pop(0)
    while body and re.fullmatch(_RULER, body[-1]):
        body.pop()
    if not body:
        raise ValueError("it has no rows, only comments or nothing at all")
    ruler = next((k for k, line in enumerate(body[1:5], 1) if re.fullmatch(_RULER, line)), 0)
    rows, header = _split(body, ruler), None
    if ruler:  # names, perhaps units, a row of dashes, as VizieR has them; a second table begins with another ruler
        again = next((k for k in range(ruler + 1, len(body)) if _same_ruler(body[k], body[ruler])), None)
        if again is not None:
            raise ValueError(
                f"it holds several tables of VizieR under one another (the second at row {again}); ask VizieR for "
                "one table, or for FITS or a VOTable"
            )
        header, units = rows[0], rows[1] if ruler > 1 else None
        rows = rows[ruler + 1 :]
    elif _is_data(rows[0]):
        header, units = _header_among(comments, len(rows[0])), None
        if header is None and len(known) == len(rows[0]):
            header = list(known)
        if header is None:
            raise ValueError(
                f"its first row, '{body[0][:60]}', is data and no comment above names {len(rows[0])} columns; put a "
                "line of names on top, as in 'name,ra,dec,redshift'"
            )
    else:
        header, rows, units = rows[0], rows[1:], None
        if rows and _are_units(rows[0]):
            units, rows = rows[0], rows[1:]
    if not header[-1] and all(
        not row[-1] for row in rows if len(row) == len(header)
    ):  # a delimiter at the line's end
        rows = [row[: len(header) - 1] for row in rows]
        header = header[:-1]
    if not header[0] and header[1:] and all(not row[0] for row in rows if row):  # and at its beginning
        rows, header = [row[1:] for row in rows], header[1:]
    for k, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"row {k} has {len(row)} fields, '{' | '.join(row)[:80]}', under {len(header)} names, "
                f"'{' | '.join(header)[:80]}'; quote fields that hold the delimiter, or write FITS, a VOTable or ECSV"
            )
    names = [name.strip() or f"column{k}" for k, name in enumerate(header, 1)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"it has two columns of the name {', '.join(twice)}; rename one")
    cells = [[row[k].strip() for row in rows] for k in range(len(names))]
    cells = _without_decimal_commas(cells)
    table = Table({name: _typed(values) for name, values in zip(names, cells, strict=True)})
    for name, unit in zip(names, units or [], strict=False):
        if unit.strip():
            table[name].unit = Unit(unit.strip(" []()"), parse_strict="silent")
    return table


def _split(body: list[str], ruler: int) -> list[list[str]]:
    """Lines -> fields: by the delimiter that gives every line as many fields, else by blanks, else by position."""
    sample = body[:200]
    for delimiter in ("\t", ";", "|", ","):
        quoting = csv.QUOTE_NONE if delimiter in "\t|" else csv.QUOTE_MINIMAL
        options: dict[str, Any] = {"delimiter": delimiter, "quoting": quoting, "skipinitialspace": delimiter != "\t"}
        counts = [len(row) for row in csv.reader(sample, **options)]
        if counts and counts[0] > 1 and sum(n == counts[0] for n in counts) > 0.5 * len(counts):
            return list(csv.reader([line + "\n" for line in body], **options))
    if ruler:  # the dashes say where the columns are
        edges = [found.span() for found in re.finditer(r"[-=]+", body[ruler])]
        return [[line[a:b].strip() for a, b in edges] for line in body]
    words, fixed = [_words_of(line) for line in body], _by_position(body)
    if fixed is not None and len(fixed[0]) == len(words[0]):  # in columns below the names, words or not
        return fixed
    if all(len(row) == len(words[0]) for row in words):
        return words
    wide = [re.split(r"\s{2,}|\t", line.strip()) for line in body]
    if len(wide[0]) > 1 and all(len(row) == len(wide[0]) for row in wide):
        return wide
    if fixed is not None:
        return fixed
    found = sorted({len(row) for row in words})
    raise ValueError(
        f"its rows have {', '.join(map(str, found[:5]))} words, the header {len(words[0])}: neither comma, "
        "semicolon, tab, bar nor blanks divide them alike; write it as CSV, FITS, VOTable or ECSV"
    )


def _words_of(line: str) -> list[str]:
    """Words between blanks; quoted ones whole."""
    return next(csv.reader([re.sub(r"\s+", " ", line.strip())], delimiter=" "))


def _by_position(body: list[str]) -> list[list[str]] | None:
    """Fields of a table of fixed width: what stands between columns of blanks that run through all lines."""
    width = max(map(len, body))
    blank = np.all([[letter == " " for letter in line.ljust(width)] for line in body], axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], blank, [True]]).astype(np.int8)))
    spans: list[tuple[int, int]] = []
    for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if body[0][a:b].strip() or not spans:
            spans.append((a, b))
        else:  # no name above: a blank within a field, as in Abell 2142
            spans[-1] = spans[-1][0], b
    rows = [[line[a:b].strip() for a, b in spans] for line in body]
    names = rows[0]
    if len(spans) < 2 or not all(names) or any(" " in name for name in names):
        return None
    return rows


def _same_ruler(line: str, ruler: str) -> bool:
    return bool(re.fullmatch(_RULER, line)) and len(re.findall(r"[-=]+", line)) == len(re.findall(r"[-=]+", ruler))


def _is_data(row: Sequence[str]) -> bool:
    """Whether a row holds numbers or angles, which no header does."""
    return any(_NUMBER.fullmatch(field.strip()) or _ANGLE.fullmatch(field.strip()) for field in row)


def _header_among(comments: Sequence[str], n: int) -> list[str] | None:
    """The last comment that names n columns, whatever divides the names."""
    for line in reversed(comments):
        for pattern in (r"\s*,\s*", r"\s*;\s*", r"\s*\|\s*", r"\t", r"\s+"):
            names = re.split(pattern, line.strip())
            if len(names) == n and all(names) and not _is_data(names) and not set("".join(names)) <= set("-= "):
                return names
    return None


def _are_units(row: Sequence[str]) -> bool:
    """Whether the row below the header gives units, at least one of them of an angle."""
    words = {field.strip().strip('[]()"').lower() for field in row}
    return bool(_ANGLE_UNITS & words) and not _is_data(row)


def _without_decimal_commas(cells: list[list[str]]) -> list[list[str]]:
    """Columns whose numbers have decimal commas, with points, where no number of the table has a point."""
    known = [[value for value in column if value.lower() not in MISSING] for column in cells]
    comma = [all(map(_NUMBER.fullmatch, column)) and any("," in value for value in column) for column in known]
    if any("." in value and "," not in value and _NUMBER.fullmatch(value) for column in known for value in column):
        return cells
    return [
        [value.replace(",", ".") for value in column] if has_comma else column
        for column, has_comma in zip(cells, comma, strict=True)
    ]


def _typed(values: list[str]) -> Column:
    """Integers, else numbers, where all that are not missing are; else text as it stands."""
    missing = np.array([value.lower() in MISSING for value in values], bool)
    if len(values) and not missing.all():
        plain = [value.replace("\u2212", "-") for value in values]
        for kind, filler in ((int, "0"), (float, "nan")):
            try:
                numbers = [kind(filler if gone else value) for value, gone in zip(plain, missing, strict=True)]
                if kind is int and any(
                    len(value.lstrip("+-")) > 1 and value.lstrip("+-")[0] == "0"
                    for value in plain
                    if value.isdecimal()
                ):
                    break  # a name such as 0017
                return MaskedColumn(np.array(numbers, kind), mask=missing) if missing.any() else Column(numbers)
            except (ValueError, OverflowError):
                continue
    return Column(np.array(values, str)) if values else Column(np.zeros(0))


# --- all formats -----------------------------------------------------------------------------------------


def _plain(table: Table) -> Table:
    """The table with columns of plain arrays: text decoded, native byte order, Quantities as columns with units."""
    out = Table(meta=dict(table.meta))
    for name in table.colnames:
        column = table[name]
        if isinstance(column, SkyCoord):
            icrs = column.icrs
            meta = {"frame": ICRS()}
            for part, angle in (("ra", icrs.ra), ("dec", icrs.dec)):
                if part not in table.colnames:
                    out[part] = Column(angle.deg, unit="deg", meta=meta)
            continue
        if isinstance(column, Quantity):
            column = Column(column.value, unit=column.unit)
        if not isinstance(column, Column):
            continue  # times and the like: no column that is read here
        out[str(name)] = _plain_column(column)
    return out


def _plain_column(column: Column) -> Column:
    values: NDArray[Any] = np.ma.asarray(column)
    mask = np.ma.getmaskarray(values)
    data = np.asarray(values.data)
    if data.dtype.kind == "S":
        try:
            data = np.char.decode(data, "utf-8")
        except UnicodeDecodeError:
            data = np.char.decode(data, "latin-1")
    elif data.dtype.kind == "O" and data.ndim == 1:
        texts = [
            None if gone else item
            for item, gone in zip(data.tolist(), mask.reshape(len(data), -1)[:, 0], strict=True)
        ]
        if all(item is None or isinstance(item, str | bytes) for item in texts):
            data = np.array(
                ["" if t is None else t.decode("utf-8", "replace") if isinstance(t, bytes) else t for t in texts], str
            )
            mask = np.array([t is None for t in texts], bool)
    elif data.dtype.byteorder not in ("=", "|"):
        data = data.astype(data.dtype.newbyteorder("="))
    if data.ndim == 2 and data.shape[1] == 1:
        data, mask = data[:, 0], mask[:, 0]
    unit = None if str(column.unit or "").strip().lower() in _NO_UNITS else column.unit
    options: Mapping[str, Any] = {"unit": unit, "description": column.description, "meta": dict(column.meta)}
    return MaskedColumn(data, mask=mask, **options) if mask.any() else Column(data, **options)
