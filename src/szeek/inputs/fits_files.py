"""FITS files opened by what they hold, not by what they are called; parts of one named in square brackets.

A file is plain FITS, or that compressed with gzip, bzip2 or xz, as its first bytes say. Wherever SZeek takes a map, a
mask or an image, what of the file is meant, and what its header leaves unsaid, may follow its name:
``map.fits[SIGNAL]``, ``map.fits[2]``, ``map.fits[col I_STOKES]``, ``map.fits[COORDSYS=G]``, or several of them.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from numpy.typing import NDArray

#: What is at or below this was not observed: UNSEEN (-1.6375e30), also rounded to float32 or rescaled with the map.
NOT_OBSERVED = -1e20

#: Errors of a compressed stream that is damaged or ends early.
BROKEN_STREAM = (EOFError, OSError, zlib.error, lzma.LZMAError)

_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
#: First bytes of what is met under the names of FITS files, and what to do about it.
_NOT_FITS = {
    b"PK\x03\x04": "a zip archive; unzip it",
    b"\x1f\x9d": "compressed by `compress`; uncompress it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; decompress it",
    b"\x89HDF": "an HDF5 file; write its maps as HEALPix FITS",
    b"\x93NUMPY": "a NumPy array; write it as HEALPix FITS, for instance by healpy.write_map",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself by `git lfs pull`",
    b"<": "a web page or an XML document; fetch the file again",
    b"XTENSION": "an extension without its primary header; write the file with both",
}

#: Columns and extensions beside the signal: never taken for it unasked.
_AUXILIARY = re.compile(
    r"(?:^|[^A-Z])(?:N?HITS?|N_?OBS|NOISE|I?VAR|VARIANCE|INVVAR|COV|COVARIANCE|RMS|STD|STDDEV|SIGMA|S?ERRS?|S?ERRORS?|"
    r"UNC|UNCERT|UNCERTAINTY|WEIGHTS?|WHT|EXPOSURE|EXPTIME|FLAGS?|DQ|[ITPQU]?MASK|QUALITY)(?:MAPS?|COUNTS?)?(?:[^A-Z]|$)"
)
_SQUARED = re.compile(r"^\(?[MU]*(?:K\w*|MJY/SR)\)?\s*(?:\^|\*\*)?-?2$")

_BRACKETS = re.compile(r"^(?P<path>.*?)(?P<parts>(?:\[[^\[\]]*\])+)$")
#: Keywords that may be stated after a file's name.
CARDS = (
    "COORDSYS", "ORDERING", "NSIDE", "INDXSCHM", "GRAIN", "FIRSTPIX", "LASTPIX", "BAD_DATA", "BLANK", "TNULL",
    "TUNIT", "BUNIT", "EQUINOX", "RADESYS", "CTYPE1", "CTYPE2",
)  # fmt: skip


@dataclass(frozen=True)
class FilePart:
    """A file, and what of it is meant.

    Parameters
    ----------
    path : Path
        The file itself.
    extension : str or None
        Name or number of the extension that was asked for.
    column : str or None
        Column of a table that was asked for.
    cards : mapping of str to str
        Header cards stated after the name, which overrule those of the file.
    """

    path: Path
    extension: str | None
    column: str | None
    cards: Mapping[str, str]

    def select(self, hdus: fits.HDUList) -> list[tuple[str, Any]]:
        """Name (its number where it has none of its own) and HDU of all extensions, or of the one that was asked for.

        Raises
        ------
        ValueError
            If there is none of that name or number.
        """
        names = [str(hdu.name) for hdu in hdus]
        named = [(names[i] if names[i] and names.count(names[i]) == 1 else str(i), hdu) for i, hdu in enumerate(hdus)]
        if self.extension is None:
            return named
        chosen = [pair for i, pair in enumerate(named) if self.extension.upper() in (pair[0].upper(), str(i))]
        if len(chosen) != 1:
            there = ", ".join(name for name, _ in named)
            raise ValueError(
                f"'{self.path}' has no extension that alone is called '{self.extension}', "
                f"expected one of {there}; give its name or number in brackets, '{self.path.name}[1]'"
            )
        return chosen

    def state_cards(self, header: fits.Header) -> None:
        """Put into a header what was stated after the file's name."""
        for key, text in self.cards.items():
            header[key] = _parse_value(text)


def parse_part(text: str | os.PathLike[str]) -> FilePart:
    """A file and what of it is meant, from its name with square brackets behind; a file so called is itself.

    Raises
    ------
    ValueError
        If a keyword in the brackets is none of :data:`CARDS`.

    Examples
    --------
    >>> part = parse_part("maps/y.fits[FULL][col Y][COORDSYS=G]")
    >>> part.path.name, part.extension, part.column, part.cards
    ('y.fits', 'FULL', 'Y', {'COORDSYS': 'G'})
    """
    found = _BRACKETS.match(os.fspath(text))
    if found is None or Path(text).exists():
        return FilePart(Path(text), None, None, {})
    extension = column = None
    cards = {}
    for item in re.findall(r"\[([^\[\]]*)\]", found["parts"]):
        key, equals, value = (word.strip() for word in item.partition("="))
        if equals:
            if key.upper() not in CARDS:
                raise ValueError(f"'{text}' states the keyword '{key}', expected one of {', '.join(CARDS)}")
            cards[key.upper()] = value
        elif item.lower().startswith("col "):
            column = item[4:].strip()
        else:
            extension = item.strip()
    return FilePart(Path(found["path"]), extension, column, cards)


def list_tiles(text: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """The files that a pattern with * in its last part fits, by name; what is no pattern is itself.

    Raises
    ------
    FileNotFoundError
        If no file fits.
    """
    path = Path(text)
    if "*" not in path.name or path.exists():
        return [text]
    found = sorted(path.parent.glob(path.name))
    if not found:
        raise FileNotFoundError(f"no file fits '{path}'; check the pattern")
    return [*found]


def open_stream(path: Path) -> BinaryIO:
    """Open the bytes of a file, decompressed where its first bytes say so, whatever it is called.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' is not a file; check the name")
    with path.open("rb") as stream:
        start = stream.read(6)
    for magic, opener in _COMPRESSED.items():
        if start.startswith(magic):
            return cast(BinaryIO, opener(path, "rb"))
    return path.open("rb")


def is_compressed(path: Path) -> bool:
    """Whether the bytes of a file are compressed, as its first ones say."""
    with path.open("rb") as stream:
        return stream.read(6).startswith(tuple(_COMPRESSED))


@contextmanager
def open_fits(path: Path, scale_images: bool = True) -> Iterator[fits.HDUList]:
    """Open a FITS file; one that ends early is left for the caller to tell, who knows how many bytes it needs.

    Parameters
    ----------
    path : Path
    scale_images : bool
        Let astropy apply BSCALE, BZERO and BLANK; it drops BLANK where BZERO makes integers unsigned.

    Raises
    ------
    FileNotFoundError, OSError
        No such file; it is not a FITS file, or its header is damaged.
    """
    with open_stream(path) as stream:
        try:
            start = stream.read(80)
            if not start.startswith(b"SIMPLE  ="):
                raise OSError(f"'{path}' is not a FITS file: {_say_what_it_is(start)}")
            stream.seek(0)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=VerifyWarning)
                warnings.filterwarnings("ignore", message=".*may have been truncated")
                # a header that breaks off in the middle
                warnings.filterwarnings("error", message="Error validating header", category=VerifyWarning)
                raw: dict[str, Any] = {} if scale_images else {"do_not_scale_image_data": True, "uint": False}
                hdus = fits.open(stream, memmap=False, lazy_load_hdus=False, **raw)
        except (*BROKEN_STREAM, VerifyWarning) as error:
            if "is not a FITS file" in str(error):
                raise
            reason = " ".join(str(error).split())
            raise OSError(f"'{path}' is not a readable FITS file ({reason}); fetch it again") from error
        with hdus:
            yield hdus


def check_whole(path: Path) -> None:
    """Read a compressed file to its end: astropy drops the extension in which a truncated one ends.

    Raises
    ------
    OSError
        If it breaks off.
    """
    with open_stream(path) as stream:
        try:
            while stream.read(1 << 24):
                pass
        except BROKEN_STREAM as error:
            raise OSError(f"'{path}' is truncated or damaged ({error}); fetch it again") from error


def is_auxiliary(name: str, unit: str = "") -> bool:
    """Whether a column or extension is named, or has the unit, of noise, variance, hits, weights or flags.

    Examples
    --------
    >>> [is_auxiliary(name) for name in ("I_STOKES", "II_COV", "HITS", "N_OBS", "NOISE_MAP")]
    [False, True, True, True, True]
    >>> is_auxiliary("II", "(K_CMB)^2")
    True
    """
    return bool(_AUXILIARY.search(name.upper()) or _SQUARED.match(unit.strip().upper()))


def read_marks(path: Path, header: fits.Header, keywords: tuple[str, ...]) -> tuple[float, ...]:
    """The marks of what was not observed that a header states under any of these keywords.

    Raises
    ------
    ValueError
        If one is not a number.
    """
    marks = []
    for keyword in keywords:
        value = header.get(keyword)
        if value is None or isinstance(value, fits.card.Undefined) or not str(value).strip():
            continue
        try:
            marks.append(int(value) if isinstance(value, int) else float(value))
        except ValueError:
            raise ValueError(
                f"'{path}' has {keyword} = '{value}', expected the number that marks what was not observed; "
                f"state it: '{path.name}[{keyword.rstrip('0123456789')}=-999]'"
            ) from None
    return tuple(mark for mark in marks if not np.isnan(mark))


def find_marked(values: NDArray[Any], marks: tuple[float, ...]) -> NDArray[np.bool_]:
    """Where an array holds one of the marks, to the accuracy of float32."""
    found = np.zeros(values.shape, bool)
    for mark in marks:
        with np.errstate(invalid="ignore", over="ignore"):
            found |= np.abs(values - mark) <= 1e-6 * abs(mark)
    return found


def require_stated(
    path: Path, what: str, keyword: str, given: str | None, found: str | None, known: Mapping[str, str]
) -> str:
    """The argument where given, else the header's word; neither, or an unknown one, is an error.

    ``known`` maps each word to how a header says it.
    """
    if given is not None and given not in known:
        raise ValueError(f"{what}='{given}' is unknown, expected one of {', '.join(known)}")
    stated = given or found
    if stated is None or stated not in known:
        finding = f"does not say its {what} (keyword {keyword})"
        if stated is not None:
            finding = f"has {keyword} = '{stated}', expected one of {', '.join(known)}"
        words = " or ".join(f"'{word}'" for word in known)
        example = f"'{path.name}[{keyword}={next(iter(known.values()))}]'"
        raise ValueError(f"'{path}' {finding}; pass {what}={words}, or state it after the name: {example}")
    return stated


def _say_what_it_is(start: bytes) -> str:
    if not start:
        return "it is empty; fetch it again"
    for magic, opener in _COMPRESSED.items():
        if start.startswith(magic):
            return f"inside one compression there is another ({opener.__module__.strip('_')}); decompress it once"
    for magic, words in _NOT_FITS.items():
        if start.lstrip().startswith(magic):
            return f"it is {words}"
    return f"it starts with {start[:16]!r}, expected 'SIMPLE  ='; give a FITS file"


def _parse_value(text: str) -> int | float | str:
    kinds: tuple[Callable[[str], int | float], ...] = (int, float)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text
