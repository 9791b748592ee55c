"""Images of surveys, however large: mapped from their files as they are, or copied block by block.

What can be mapped is plain FITS of floating point whose rows run along longitude; what is compressed, of integers,
offset by BZERO, transposed, or has marks of what was not observed is written out once.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray

from szeek.files import allocate_array
from szeek.inputs.fits_files import (
    BROKEN_STREAM,
    NOT_OBSERVED,
    find_marked,
    is_compressed,
    open_fits,
    open_stream,
    parse_part,
    read_marks,
    require_stated,
)
from szeek.inputs.healpix_files import FRAMES
from szeek.inputs.image_files import check_system, choose_image
from szeek.sky.grids import ImageGrid
from szeek.sky.imagemaps import Pixels

_BLOCK_BYTES = 1 << 25
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_N_SAMPLE = 100_000
_SAME_GRID_PIXELS = 0.01


@dataclass(frozen=True)
class SurveyImage:
    """An image on the sky whose header was read, and nothing else.

    Parameters
    ----------
    path : Path
        The file; of a map in memory, what it is called.
    grid : ImageGrid
    unit : str or None
        BUNIT; None where the header says nothing.
    n_plane : int
        Images in it, 3 for Stokes parameters, of which the one of temperature is meant.
    """

    path: Path
    grid: ImageGrid
    unit: str | None
    n_plane: int
    _stored: NDArray[Any] | _Packed | _Tiles
    _transposed: bool = False
    _scale: float = 1.0
    _zero: float = 0.0
    _blank: tuple[float, ...] = ()
    _bad_data: tuple[float, ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether it is in a file, not in memory."""
        return not isinstance(self._stored, np.ndarray) or isinstance(self._stored, np.memmap)

    def load(self, folder: Path | None, name: str) -> LoadedImage:
        """The pixels: mapped from the file or, where they cannot be, from a copy NAME.npy in the folder.

        Without a folder the copy is in memory. Everything is read once.

        Raises
        ------
        OSError
            If the file ends early, or there is no room for the copy.
        """
        if isinstance(self._stored, np.ndarray) and self._stored.dtype.kind == "f" and not self._transposed:
            facts, marked = _Facts(), bool(self._zero or self._blank or self._bad_data)
            for _, block in () if marked else self._read_raw():
                marked |= bool((block <= NOT_OBSERVED).any())
                if marked:
                    break
                facts.add(np.where(np.isfinite(block), block, np.nan))
            if not marked:
                return facts.describe(self._map())
        copy, facts = allocate_array(None if folder is None else folder / f"{name}.npy", self.grid.shape), _Facts()
        tiles = self._stored if isinstance(self._stored, _Tiles) else _Tiles((self,), ((0, 0),))
        for tile, (top, left) in zip(tiles.images, tiles.corners, strict=True):
            rows, columns = tile.grid.shape
            part = copy[top : top + rows, left : left + columns]
            oriented = part.T if tile._transposed else part
            for first, block in tile._read_raw():
                values = tile._clean(block)
                facts.add(values)
                oriented[first : first + len(values)] = values
        return facts.describe(Pixels(copy))

    def _map(self) -> Pixels:
        stored = self._stored
        assert isinstance(stored, np.ndarray)
        if isinstance(stored, np.memmap) and stored.filename:
            return Pixels(stored, self._scale, Path(stored.filename).resolve(), stored.offset)
        return Pixels(stored, self._scale)

    def _read_raw(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and rows as stored, block by block, in the file's own order of axes."""
        if isinstance(self._stored, _Packed):
            yield from self._stored.read(self.path)
            return
        assert isinstance(self._stored, np.ndarray)
        for first, stop in _cut_rows(self._stored.shape, self._stored.dtype.itemsize):
            yield first, np.asarray(self._stored[first:stop])

    def _clean(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Stored values scaled, NaN where they are marked."""
        values = raw.astype(np.float64)
        bad = np.zeros(raw.shape, bool)
        for mark in self._blank:
            bad |= raw == mark
        values = values * self._scale + self._zero
        bad |= ~((values > NOT_OBSERVED) & (values < np.inf)) | find_marked(values, self._bad_data)
        values[bad] = np.nan
        return values


@dataclass(frozen=True)
class LoadedImage:
    """Pixels, and their lowest, highest and median value where any was observed; inf, -inf and NaN else.

    In the unit that ``pixels.factor`` turns them to.
    """

    pixels: Pixels
    lowest: float
    highest: float
    median: float


@dataclass
class _Facts:
    """Lowest, highest and, of a thinned sample, median of what was observed: neither NaN nor exactly 0."""

    lowest: float = math.inf
    highest: float = -math.inf
    sample: list[NDArray[Any]] = field(default_factory=list)

    def add(self, block: NDArray[Any]) -> None:
        seen = block[np.isfinite(block) & (block != 0.0)]
        if seen.size:
            self.lowest = min(self.lowest, float(seen.min()))
            self.highest = max(self.highest, float(seen.max()))
            self.sample.append(seen[:: max(1, seen.size // _N_SAMPLE)])

    def describe(self, pixels: Pixels) -> LoadedImage:
        median = float(np.median(np.concatenate(self.sample))) if self.sample else math.nan
        ends = sorted((self.lowest * pixels.factor, self.highest * pixels.factor))
        return LoadedImage(pixels, ends[0], ends[1], median * pixels.factor)


@dataclass(frozen=True)
class _Packed:
    """An image whose pixels do not lie together in its file: compressed as a whole, or tile by tile (fpack)."""

    number: int  # of the extension
    plane: tuple[int, ...]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    offset: int | None  # of the plane in the decompressed file, bytes; None for tiles

    def read(self, path: Path) -> Iterator[tuple[int, NDArray[Any]]]:
        rows = _cut_rows(self.shape, self.dtype.itemsize)
        if self.offset is None:
            with open_fits(path, scale_images=False) as hdus:
                for first, stop in rows:
                    yield first, np.asarray(hdus[self.number].section[(*self.plane, slice(first, stop))])
            return
        with open_stream(path) as stream:
            for first, stop in rows:
                needed = (stop - first) * self.shape[1] * self.dtype.itemsize
                try:
                    if first == 0:
                        stream.seek(self.offset)
                    raw = stream.read(needed)
                except BROKEN_STREAM as error:
                    raise OSError(f"'{path}' is truncated or damaged ({error}); fetch it again") from error
                if len(raw) < needed:
                    raise OSError(
                        f"'{path}' is truncated: it ends after {first} of {self.shape[0]} rows; fetch it again"
                    )
                yield first, np.frombuffer(raw, self.dtype).reshape(stop - first, self.shape[1])


@dataclass(frozen=True)
class _Tiles:
    """Images that lie side by side: what no tile covers was not observed."""

    images: tuple[SurveyImage, ...]
    corners: tuple[tuple[int, int], ...]  # row and column of each one's first pixel


def join_tiles(images: Sequence[SurveyImage]) -> SurveyImage:
    """Tiles of one pixelisation as one image.

    Raises
    ------
    ValueError
        If they are not of one pixelisation, or not in one unit.
    """
    first = images[0]
    starts = np.array([[-at for at in image.grid.reference] for image in images])
    corners = starts - starts[0]
    for image, corner in zip(images, corners, strict=True):
        same = image.unit == first.unit and image.grid.projection == first.grid.projection
        for a, b in ((image.grid.rotation, first.grid.rotation), (image.grid.inverse_cd, first.grid.inverse_cd)):
            same &= np.allclose(a, b, rtol=1e-9, atol=1e-12)
        if not same or np.abs(corner - np.rint(corner)).max() > _SAME_GRID_PIXELS:
            raise ValueError(
                f"'{image.path}' is no tile of the pixelisation and unit of '{first.path}': expected the same CRVAL, "
                "CDELT and BUNIT, and CRPIX whole pixels apart; put them together with reproject or pixell"
            )
    whole = np.rint(corners - corners.min(axis=0)).astype(int)
    shape = (whole + [image.grid.shape for image in images]).max(axis=0)
    down, right = (float(-at) for at in starts.min(axis=0))
    grid = replace(first.grid, shape=(int(shape[0]), int(shape[1])), reference=(down, right))
    tiles = _Tiles(tuple(images), tuple((int(i), int(j)) for i, j in whole))
    return SurveyImage(first.path, grid, first.unit, first.n_plane, tiles)


def _cut_rows(shape: tuple[int, ...], itemsize: int) -> list[tuple[int, int]]:
    step = max(1, _BLOCK_BYTES // (shape[1] * itemsize))
    return [(first, min(first + step, shape[0])) for first in range(0, shape[0], step)]


def describe_image(
    path: str | os.PathLike[str], frame: str | None = None, auxiliary: bool = False
) -> SurveyImage | None:
    """Read the header of an image in one of the projections of :mod:`szeek.sky.grids`.

    Parameters
    ----------
    path : path
        FITS file, plain or compressed as a whole or by fpack; what of it is meant may follow its name in brackets. Of
        a cube of Stokes parameters temperature is meant, also where (3, ny, nx) pixels have no third axis in the
        header, as ACT's maps.
    frame : str, optional
        'galactic', 'icrs' or 'ecliptic': overrules the header.
    auxiliary : bool
        Whether an inverse variance or a mask is meant, not a map.

    Returns
    -------
    SurveyImage or None
        None where the file holds no image, or HEALPix maps.

    Raises
    ------
    OSError
        If the file is not a FITS file, or shorter than its header says.
    ValueError
        If its axes are no sky, or in another projection; if it is a cube of anything else; if there are several
        images and none is named in brackets.
    """
    part = parse_part(path)
    if frame is not None:
        require_stated(part.path, "frame", "CTYPE1", frame, None, FRAMES)
    with open_fits(part.path, scale_images=False) as hdus:
        chosen = choose_image(part, hdus, auxiliary)
        if chosen is None:
            return None
        number, header = hdus.index(chosen), chosen.header.copy()
        packed, start = isinstance(chosen, fits.CompImageHDU), int(chosen.fileinfo()["datLoc"])
    file = part.path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            wcs = WCS(header)
            lng, lat = wcs.wcs.lng, wcs.wcs.lat
            kinds = [str(kind).upper() for kind in wcs.wcs.ctype]
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the WCS of '{file}' is not understood ({reason}); mend its header") from error
    if {lng, lat} != {0, 1}:
        axes = ", ".join(kinds)
        raise ValueError(f"the image of '{file}' has the axes {axes}, expected longitude and latitude first")
    shape = tuple(int(header[f"NAXIS{axis}"]) for axis in range(header["NAXIS"], 0, -1))
    plane = _choose_plane(file, header, shape[:-2], kinds[2:])
    rows, columns = shape[-2:]
    wcs = wcs.sub([lng + 1, lat + 1])
    if kinds[lng].startswith("RA"):
        check_system(file, wcs)
    try:
        grid = ImageGrid.from_header(wcs, (rows, columns) if lng == 0 else (columns, rows), frame)
    except ValueError as error:
        raise ValueError(f"'{file}': {error}") from None
    dtype = np.dtype(_DTYPES[int(header["BITPIX"])])
    offset = start + int(np.ravel_multi_index(plane, shape[:-2]) if plane else 0) * rows * columns * dtype.itemsize
    stored: NDArray[Any] | _Packed
    if packed or is_compressed(file):
        stored = _Packed(number, plane, (rows, columns), dtype, None if packed else offset)
    else:
        needed = start + math.prod(shape) * dtype.itemsize
        if file.stat().st_size < needed:
            raise OSError(f"'{file}' is truncated: its image needs {needed} bytes; fetch it again")
        stored = np.memmap(file, dtype, "r", offset, (rows, columns))
    return SurveyImage(
        file, grid, str(header.get("BUNIT", "")).strip() or None, math.prod(shape[:-2]), stored, lng != 0,
        float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0)),
        read_marks(file, header, ("BLANK",)), read_marks(file, header, ("BAD_DATA",)),
    )  # fmt: skip


def _choose_plane(path: Path, header: fits.Header, shape: tuple[int, ...], kinds: list[str]) -> tuple[int, ...]:
    """Where in the axes before rows and columns temperature is; kinds are those of FITS axes 3, 4, ..."""
    plane = []
    for axis, n in zip(range(len(shape) + 2, 2, -1), shape, strict=True):
        kind = kinds[axis - 3] if axis - 3 < len(kinds) else ""
        if n == 1:
            plane.append(0)
        elif kind == "STOKES":
            value, step, pixel = (float(header.get(f"{key}{axis}", 1.0)) for key in ("CRVAL", "CDELT", "CRPIX"))
            at = round(pixel - 1 + (1.0 - value) / step)
            if not 0 <= at < n:
                raise ValueError(f"'{path}' has {n} Stokes parameters without I (CRVAL{axis} = {value:g})")
            plane.append(at)
        elif kind in ("", "LINEAR") and n == 3:
            plane.append(0)
        else:
            sizes = " x ".join(map(str, (*shape, header["NAXIS2"], header["NAXIS1"])))
            raise ValueError(
                f"the image of '{path}' has {sizes} pixels, axis {axis} being {kind or 'unnamed'}, expected two "
                "dimensions, or Stokes parameters; write each band to a file of its own"
            )
    return tuple(plane)


def image_of_array(name: str, array: Any, frame: str | None = None) -> SurveyImage:
    """An image that is in memory, with its ``wcs``: an ndmap of pixell, of (ny, nx) or (3, ny, nx) pixels.

    Raises
    ------
    ValueError
        If it has other dimensions, or another projection.
    """
    values = np.asarray(array)
    n_plane = math.prod(values.shape[:-2])
    if values.ndim < 2 or n_plane not in (1, 3):
        raise ValueError(f"the map of {name} has the shape {values.shape}, expected (ny, nx) or (3, ny, nx)")
    plane = values.reshape(-1, *values.shape[-2:])[0]
    try:
        grid = ImageGrid.from_header(array.wcs, (plane.shape[0], plane.shape[1]), frame)
    except ValueError as error:
        raise ValueError(f"the map of {name}: {error}") from None
    return SurveyImage(Path(name), grid, None, n_plane, plane)


def is_same_grid(first: ImageGrid, second: ImageGrid) -> bool:
    """Whether two grids have the same pixels, to a hundredth of one."""
    if (first.projection, first.shape) != (second.projection, second.shape):
        return False
    row, column = (np.linspace(0, n - 1, 5) for n in first.shape)
    here = first.directions(*np.meshgrid(row, column))
    here = here[np.isfinite(here).all(axis=-1)]
    there = second.pixels(here)
    back = first.pixels(here)
    with np.errstate(invalid="ignore"):
        return all(bool((np.abs(a - b) < _SAME_GRID_PIXELS).all()) for a, b in zip(there, back, strict=True))
