"""Frequency maps on the grid of an image, memory-mapped as their files are, sampled where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from szeek.files import is_mapped
from szeek.sky.grids import SPLINE_DEGREE, ImageGrid, interpolation_window
from szeek.sky.skymaps import Band

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

#: Pixels beside what is sampled that a spline still feels: its coefficients forget with 0.43^n.
_MARGIN = 16
#: Pixels along the sides of an image that are not used: a spline has nothing to lean on there.
_RIM = 2
#: A pixel that was not observed spoils those about it: half the support of the spline.
_SPOILT = np.ones((SPLINE_DEGREE + 2,) * 2, bool)


@dataclass(frozen=True)
class Pixels:
    """Values of one quantity on a grid, as they are in a file.

    Parameters
    ----------
    values : (ny, nx) array of float
        Of any precision and byte order; memory-mapped as a rule.
    factor : float
        Times the values: what they are in SZeek's unit.
    file : Path, optional
        That they are mapped from, and ``offset``, in bytes, where in it.

    Examples
    --------
    >>> pixels = Pixels(np.array([[1, 2]], np.int16), factor=1e-6)
    >>> pixels.values.dtype.name, pixels.factor
    ('int16', 1e-06)
    """

    values: NDArray[Any]
    factor: float = 1.0
    file: Path | None = None
    offset: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Values go to another process by the name of the file that they are mapped from; in memory, whole."""
        values, rest = self.values, (self.factor, self.file, self.offset)
        if not is_mapped(values):
            return Pixels, (values, *rest)
        return _map_again, (str(values.filename), values.dtype, values.offset, values.shape, *rest)

    def to_dict(self) -> dict[str, Any]:
        """Where the values are.

        Raises
        ------
        ValueError
            If they are in no file.
        """
        if self.file is None:
            raise ValueError("the values are in memory, expected those of a file; save the maps first")
        return {"file": str(self.file), "offset": self.offset, "dtype": self.values.dtype.str,
                "shape": list(self.values.shape), "factor": self.factor}  # fmt: skip

    @classmethod
    def from_dict(cls, record: dict[str, Any], folder: Path) -> Pixels:
        """Inverse of :meth:`to_dict`; a relative file is in the folder.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is gone, or shorter than it was.
        """
        path = folder / record["file"]
        if not path.is_file():
            raise FileNotFoundError(f"'{path}' is not there, from which the maps of '{folder}' are read; put it back")
        dtype, shape = np.dtype(record["dtype"]), (record["shape"][0], record["shape"][1])
        if path.stat().st_size < record["offset"] + shape[0] * shape[1] * dtype.itemsize:
            raise ValueError(f"'{path}' is shorter than when the maps of '{folder}' were read; read them again")
        return cls(np.memmap(path, dtype, "r", record["offset"], shape), record["factor"], Path(record["file"]),
                   record["offset"])  # fmt: skip


def _map_again(
    path: str, dtype: np.dtype[Any], offset: int, shape: tuple[int, int], factor: float, file: Path | None, start: int
) -> Pixels:
    return Pixels(np.memmap(path, dtype, "r", offset, shape), factor, file, start)


@dataclass(frozen=True)
class ImageMaps:
    """Several bands on one grid of an image.

    Parameters
    ----------
    grid : ImageGrid
    bands : tuple of Band
    signal : tuple of Pixels
        One for each band: in its unit; NaN, Inf or exactly 0 where it was not observed.
    ivar : tuple of (Pixels or None)
        Inverse variance of a pixel of each band, where it is known, in unit^-2; 0 where it was not observed.
    keep : (ny, nx) bool, optional
        What a mask leaves.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from szeek.sky.healpix import unit_vectors
    >>> header = fits.Header({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRPIX1": 200, "CRPIX2": 200,
    ...                       "CDELT1": -0.5 / 60, "CDELT2": 0.5 / 60, "CUNIT1": "deg", "CUNIT2": "deg"})
    >>> grid = ImageGrid.from_header(header, (400, 400))  # about RA 0, Dec 0
    >>> maps = ImageMaps(grid, (Band("f150", 150.0, 1.4, "K_CMB"),), (Pixels(np.ones(grid.shape)),), (None,))
    >>> inside_and_outside = unit_vectors(np.array([96.3, 0.0]), np.array([-60.2, 0.0]))
    >>> round(maps.pixel_arcmin, 6), maps.sample(inside_and_outside).round(3).tolist()
    (0.5, [[1.0], [nan]])
    """

    grid: ImageGrid
    bands: tuple[Band, ...]
    signal: tuple[Pixels, ...]
    ivar: tuple[Pixels | None, ...]
    keep: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if not len(self.bands) == len(self.signal) == len(self.ivar):
            raise ValueError(
                f"{len(self.signal)} maps and {len(self.ivar)} inverse variances for {len(self.bands)} bands, "
                "expected one of each for every band"
            )
        for band, signal, ivar in zip(self.bands, self.signal, self.ivar, strict=True):
            for what, part in (("map", signal), ("inverse variance", ivar)):
                if part is not None and part.values.shape != self.grid.shape:
                    raise ValueError(
                        f"the {what} of band {band.name} has {part.values.shape} pixels, expected {self.grid.shape}"
                    )
        if self.keep is not None and self.keep.shape != self.grid.shape:
            raise ValueError(f"keep has {self.keep.shape} pixels, expected {self.grid.shape}")

    @property
    def n_band(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @property
    def pixel_arcmin(self) -> float:
        """Side of a pixel."""
        return self.grid.pixel_arcmin

    def sample(self, vectors: Floats) -> Map32:
        """Every band at these directions, by splines of fifth degree: (..., n_band) float32, NaN if not observed.

        Parameters
        ----------
        vectors : (..., 3) float64
            Galactic; near each other, since the part of the images about them all is read.
        """
        return self._sample(self.signal, vectors, SPLINE_DEGREE)

    def sample_ivar(self, vectors: Floats) -> Map32:
        """Inverse variance of a pixel, unit^-2, linear between pixels: (..., n_band); NaN where none is known."""
        return self._sample(self.ivar, vectors, 1)

    def _sample(self, parts: Sequence[Pixels | None], vectors: Floats, degree: int) -> Map32:
        row, column = self.grid.pixels(vectors)
        out = np.full((*row.shape, self.n_band), np.nan, np.float32)
        if self.grid.is_full_circle and row.size:  # go on beyond the first and the last column
            start = column.flat[int(np.argmax(np.isfinite(column)))]
            column = column - self.grid.period * np.rint((column - start) / self.grid.period)
        with np.errstate(invalid="ignore"):
            inside = (row >= -0.5) & (row <= self.grid.shape[0] - 0.5)
            if not self.grid.is_full_circle:
                inside = (row >= _RIM) & (row <= self.grid.shape[0] - 1 - _RIM)
                inside &= (column >= _RIM) & (column <= self.grid.shape[1] - 1 - _RIM)
        if not inside.any():
            return out
        row, column = row[inside], column[inside]
        box = _Box.around(row, column, self.grid)
        keep = None if self.keep is None else box.read(self.keep)
        for k, part in enumerate(parts):
            if part is None:
                continue
            values = box.read(part.values).astype(np.float32) * np.float32(part.factor)
            seen = np.isfinite(values)
            if degree > 1:
                seen &= values != 0.0
            if keep is not None:
                seen &= keep.astype(bool)
            out[inside, k] = _interpolate(values, seen, row - box.first_row, column - box.first_column, degree)
        return out

    def nearest(self, vectors: Floats) -> Map32:
        """The nearest pixel's value in every band: (n, n_band) float32, NaN if not observed; of directions anywhere.

        Parameters
        ----------
        vectors : (n, 3) float64
            Galactic.
        """
        row, column = self.grid.pixels(vectors)
        out = np.full((len(row), self.n_band), np.nan, np.float32)
        with np.errstate(invalid="ignore"):
            inside = (row > -0.5) & (row < self.grid.shape[0] - 0.5)
            column = column % self.grid.period if self.grid.is_full_circle else column
            inside &= (column > -0.5) & (column < self.grid.shape[1] - 0.5)
        i, j = (np.rint(at[inside]).astype(np.int64) for at in (row, column))
        order = np.argsort(i, kind="stable")  # the file is read from its start to its end
        i, j = i[order], j[order]
        at = np.flatnonzero(inside)[order]
        for k, (signal, ivar) in enumerate(zip(self.signal, self.ivar, strict=True)):
            values = np.asarray(signal.values[i, j], np.float32)
            good = np.isfinite(values) & (values != 0.0)
            if ivar is not None:
                good &= ivar.values[i, j] > 0.0
            if self.keep is not None:
                good &= self.keep[i, j]
            out[at, k] = np.where(good, values * np.float32(signal.factor), np.nan)
        return out

    def window(self, n_ell: int, ell_step: float) -> Floats:
        """Transfer function of the sampling, (n_ell,), see :func:`szeek.sky.grids.interpolation_window`."""
        return interpolation_window(float(np.radians(self.pixel_arcmin / 60)), n_ell, ell_step)

    def to_dict(self) -> dict[str, Any]:
        """Where the maps are, for a record; a mask is written beside it."""
        return {
            "grid": self.grid.to_dict(),
            "bands": [asdict(band) for band in self.bands],
            "signal": [part.to_dict() for part in self.signal],
            "ivar": [None if part is None else part.to_dict() for part in self.ivar],
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], folder: Path, keep: NDArray[np.bool_] | None = None) -> ImageMaps:
        """Inverse of :meth:`to_dict`."""
        return cls(
            ImageGrid.from_dict(record["grid"]),
            tuple(Band(**band) for band in record["bands"]),
            tuple(Pixels.from_dict(part, folder) for part in record["signal"]),
            tuple(None if part is None else Pixels.from_dict(part, folder) for part in record["ivar"]),
            keep,
        )


@dataclass(frozen=True)
class _Box:
    """The part of an image about some pixels, with columns that may go on over its sides and rows over the poles."""

    first_row: int
    first_column: int
    n_row: int
    n_column: int
    grid: ImageGrid

    @classmethod
    def around(cls, row: Floats, column: Floats, grid: ImageGrid) -> _Box:
        top, left = int(np.floor(row.min())) - _MARGIN, int(np.floor(column.min())) - _MARGIN
        bottom, right = int(np.ceil(row.max())) + _MARGIN, int(np.ceil(column.max())) + _MARGIN
        if not grid.is_full_circle:
            left, right = max(left, 0), min(right, grid.shape[1] - 1)
            top, bottom = max(top, 0), min(bottom, grid.shape[0] - 1)
        return cls(top, left, bottom - top + 1, right - left + 1, grid)

    def read(self, image: NDArray[Any]) -> NDArray[Any]:
        rows = np.arange(self.first_row, self.first_row + self.n_row)
        if not self.grid.is_full_circle:
            part = image[self.first_row :, self.first_column :]
            return np.asarray(part[: self.n_row, : self.n_column])
        columns = np.arange(self.first_column, self.first_column + self.n_column) % self.grid.period
        beyond, period = (rows < 0) | (rows >= self.grid.shape[0]), self.grid.period
        reflected = _over_the_pole(rows, self.grid)
        clipped = np.clip(np.where(beyond, reflected, rows), 0, self.grid.shape[0] - 1)
        part = np.asarray(image[clipped.min() : clipped.max() + 1])[clipped - clipped.min()]
        out: NDArray[Any] = part[:, columns]
        across = beyond & (reflected >= 0) & (reflected < self.grid.shape[0]) & (period % 2 == 0)
        out[across] = part[across][:, (columns + period // 2) % period]
        lost = beyond & ~across
        if out.dtype.kind == "f":
            out[lost] = np.nan
        else:
            out[lost] = False
        return out


def _over_the_pole(rows: NDArray[np.int64], grid: ImageGrid) -> NDArray[np.int64]:
    """Rows on the other side of the nearer pole; -1 where it lies neither on nor amid pixels, or the grid is CEA."""
    if grid.projection != "CAR":
        return np.full(rows.shape, -1)
    per_degree = grid.inverse_cd[1][1]
    poles = np.array([grid.reference[0] + sign * 90.0 * per_degree for sign in (-1, 1)])
    pole = poles[np.abs(rows[:, None] - poles).argmin(axis=1)]
    twice = np.rint(2 * pole)
    return np.where(np.abs(2 * pole - twice) < 1e-3, twice - rows, -1).astype(np.int64)


def _interpolate(values: Map32, seen: NDArray[np.bool_], row: Floats, column: Floats, degree: int) -> Map32:
    """Spline through an image at rows and columns; NaN where what was not observed has a part in it."""
    whole = bool(seen.all())
    if not whole:
        if not seen.any():
            return np.full(row.shape, np.nan, np.float32)
        # the nearest value that was observed, so that the spline meets no step
        nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
        values = values[tuple(nearest)]
    out: Map32 = ndimage.map_coordinates(values, [row, column], np.float32, order=degree, mode="mirror")
    if not whole:
        spoilt = ndimage.binary_dilation(~seen, _SPOILT) if degree > 1 else ~seen
        i, j = (np.clip(np.rint(at).astype(int), 0, n - 1) for at, n in zip((row, column), seen.shape, strict=True))
        out[spoilt[i, j]] = np.nan
    return out
