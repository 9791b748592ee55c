"""HEALPix maps of a part of the sky, as runs of consecutive pixels: memory goes with the area, not with nside."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.io import fits
from numba import njit
from numpy.typing import NDArray

from szeek.files import file_of, write_blocks
from szeek.sky.healpix import interpolation_weights, ring_above_direction, ring_table
from szeek.sky.tiles import Tiles


def _unpickle(nside: int, runs: NDArray[np.int64], values: NDArray[np.float32] | Path) -> PartialMap:
    return PartialMap(nside, runs, np.load(values, mmap_mode="r") if isinstance(values, Path) else values)


@dataclass(frozen=True)
class PartialMap:
    """Values of the pixels that a map has, RING, Galactic; NaN everywhere else.

    Parameters
    ----------
    nside : int
    runs : (n_run, 2) int64
        First pixel of each run and one past its last; in order, apart from each other.
    values : (n_own,) or (n_own, k) float32
        Of the runs' pixels, in order; NaN where nothing was observed.

    Examples
    --------
    >>> part = PartialMap.empty(64, [(10, 12), (100, 103)])
    >>> part.values[:] = np.arange(5)
    >>> part[np.array([11, 50, 100])].tolist()
    [1.0, nan, 2.0]
    >>> part.ipix.tolist()
    [10, 11, 100, 101, 102]
    """

    nside: int
    runs: NDArray[np.int64]
    values: NDArray[np.float32]

    def __reduce__(self) -> tuple[Any, ...]:
        """Values go to another process by the name of the file that they are mapped from; in memory, whole."""
        return _unpickle, (self.nside, self.runs, file_of(self.values))

    @classmethod
    def empty(cls, nside: int, runs: Iterable[Any], n_column: int = 0) -> PartialMap:
        """A map of NaN that has these pixels; runs in any order, those side by side are joined."""
        table = np.array([run for run in runs if run[1] > run[0]], np.int64).reshape(-1, 2)
        table = table[np.argsort(table[:, 0], kind="stable")]
        begins = np.ones(len(table), bool)
        begins[1:] = table[1:, 0] > table[:-1, 1]
        if len(table) and (table[1:, 0] < table[:-1, 1]).any():
            raise ValueError("runs overlap, expected each pixel once")
        ends = np.append(begins[1:], True) if len(table) else begins
        joined = np.column_stack([table[begins, 0], table[ends, 1]])
        n = int((joined[:, 1] - joined[:, 0]).sum())
        return cls(nside, joined, np.full((n, n_column) if n_column else n, np.nan, np.float32))

    @classmethod
    def from_pixels(cls, nside: int, ipix: NDArray[np.int64], values: NDArray[np.float32]) -> PartialMap:
        """The map of these pixels, in any order."""
        order = np.argsort(ipix, kind="stable")
        ipix = ipix[order]
        begins = np.flatnonzero(np.diff(ipix, prepend=-2) != 1)
        ends = np.append(begins[1:], len(ipix))
        runs = np.column_stack([ipix[begins], ipix[ends - 1] + 1]) if len(ipix) else np.zeros((0, 2), np.int64)
        return cls(nside, runs, np.asarray(values, np.float32)[order])

    @classmethod
    def join(cls, parts: Sequence[PartialMap]) -> PartialMap:
        """One map of the pixels of several, of which no two have the same.

        Examples
        --------
        >>> parts = [PartialMap.from_pixels(2, np.array(k), np.ones(2, np.float32)) for k in ([1, 5], [2, 3])]
        >>> PartialMap.join(parts).runs.tolist()
        [[1, 4], [5, 6]]
        """
        values = parts[0].values
        runs = np.concatenate([part.runs for part in parts])
        out = cls.empty(parts[0].nside, runs, 0 if values.ndim == 1 else values.shape[1])
        for part in parts:
            out.place(part.runs, part.values)
        return out

    def within(self, tiles: Tiles) -> PartialMap:
        """Its pixels in these tiles."""
        wanted = np.zeros(12 * tiles.nside**2, bool)
        wanted[healpy.ring2nest(tiles.nside, np.array(tiles.numbers, np.int64))] = True
        ipix = self.ipix
        inside = wanted[healpy.ring2nest(self.nside, ipix) // (self.nside // tiles.nside) ** 2]
        return self.from_pixels(self.nside, ipix[inside], self.values[inside])

    @property
    def ipix(self) -> NDArray[np.int64]:
        """Its pixels, (n_own,), rising."""
        length = self.runs[:, 1] - self.runs[:, 0]
        ipix: NDArray[np.int64] = np.repeat(self.runs[:, 0] - run_offsets(self.runs), length)
        return ipix + np.arange(len(self.values))

    def pixels_of(self, at: NDArray[Any]) -> NDArray[np.int64]:
        """Pixels of these rows of ``values``."""
        offsets = run_offsets(self.runs)
        run = np.searchsorted(offsets, at, side="right") - 1
        return np.asarray(self.runs[run, 0] + at - offsets[run])

    def coverage(self, nside: int) -> NDArray[np.bool_]:
        """Cells of a coarser nside that hold a value, (12 nside^2,) bool, RING."""
        out = np.zeros(12 * nside**2, bool)
        for first in range(0, len(self.values), 1 << 22):
            part = self.values[first : first + (1 << 22)]
            at = first + np.flatnonzero(np.isfinite(part if part.ndim == 1 else part[:, 0]))
            nested = healpy.ring2nest(self.nside, self.pixels_of(at)) // (self.nside // nside) ** 2
            out[healpy.nest2ring(nside, np.unique(nested))] = True
        return out

    def find(self, ipix: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where pixels are in ``values``; -1 where the map has none."""
        flat = np.ascontiguousarray(ipix, np.int64).reshape(-1)
        found: NDArray[np.int64] = _find_all(self.runs, run_offsets(self.runs), flat)
        return found.reshape(np.shape(ipix))

    def __getitem__(self, ipix: NDArray[np.int64]) -> NDArray[np.float32]:
        at = self.find(np.asarray(ipix))
        out = np.full((*at.shape, *self.values.shape[1:]), np.nan, np.float32)
        out[at >= 0] = self.values[at[at >= 0]]
        return out

    def place(self, runs: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Write the values of runs that the map has, in their order.

        Raises
        ------
        ValueError
            If the map has not all of their pixels.
        """
        runs = runs[runs[:, 1] > runs[:, 0]]
        first, last = self.find(runs[:, 0]), self.find(runs[:, 1] - 1)
        if (first < 0).any() or (last - first != runs[:, 1] - 1 - runs[:, 0]).any():
            raise ValueError("values are given for pixels that the map has not")
        _place_runs(first, last + 1, values, self.values)

    def interpolate(self, vectors: NDArray[np.float64]) -> NDArray[np.float32]:
        """Bilinear interpolation at directions (..., 3) of any length: (...) or (..., k) float32.

        Weights as of :func:`szeek.sky.projection.interpolate`; pixels that are NaN get none, and a direction with
        less than half of its weight on others is NaN.
        """
        flat = np.ascontiguousarray(vectors, np.float64).reshape(-1, 3)
        columns = self.values[:, None] if self.values.ndim == 1 else self.values
        out = np.empty((len(flat), columns.shape[1]), np.float32)
        table = ring_table(self.nside)
        _interpolate_runs(self.nside, table, self.runs, run_offsets(self.runs), columns, flat, out)
        return out.reshape(*np.shape(vectors)[:-1], *self.values.shape[1:])


#: Rows that are written at once.
_ROWS = 1 << 20


def write_partial_map(
    part: PartialMap, path: str | os.PathLike[str], columns: Sequence[str], *, unit: str = "1", **cards: str
) -> Path:
    """Write the pixels that have a value as HEALPix FITS, RING, Galactic, with their numbers in the column PIXEL.

    healpy.read_map reads it (INDXSCHM EXPLICIT).

    Parameters
    ----------
    part : PartialMap
    path : path
    columns : sequence of str
        Name of each column of its values.
    unit : str
        Of all of them.
    **cards : str
        Of the header.
    """
    values = part.values[:, None] if part.values.ndim == 1 else part.values
    listed = [fits.Column("PIXEL", "K", array=np.zeros(1, np.int64))]
    header = fits.BinTableHDU.from_columns([*listed, *(fits.Column(name, "E", unit=unit) for name in columns)]).header
    header["NAXIS2"] = int(np.isfinite(values[:, 0]).sum())
    header.update({"PIXTYPE": "HEALPIX", "ORDERING": "RING", "COORDSYS": "G", "NSIDE": part.nside})
    header.update({"INDXSCHM": "EXPLICIT", "OBJECT": "PARTIAL", "GRAIN": 1, "BAD_DATA": healpy.UNSEEN, **cards})

    def rows(first: int) -> NDArray[np.uint8]:
        at = first + np.flatnonzero(np.isfinite(values[first : first + _ROWS, 0]))
        table = np.empty(len(at), [("PIXEL", ">i8"), ("VALUES", ">f4", (values.shape[1],))])
        table["PIXEL"], table["VALUES"] = part.pixels_of(at), values[at]
        return table.view(np.uint8).reshape(-1)

    write_blocks((rows(first) for first in range(0, len(values), _ROWS)), header, Path(path))
    return Path(path)


def run_offsets(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the values of each run begin, (n_run,)."""
    length = runs[:, 1] - runs[:, 0]
    return np.asarray(np.cumsum(length) - length)


@njit(cache=True, nogil=True)
def find_in_runs(runs, offsets, pixel):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Position of a pixel among those of the runs, -1 where it is in none."""
    low, high = 0, runs.shape[0]
    while low < high:
        middle = (low + high) // 2
        if runs[middle, 0] <= pixel:
            low = middle + 1
        else:
            high = middle
    if low == 0 or pixel >= runs[low - 1, 1]:
        return -1
    return offsets[low - 1] + pixel - runs[low - 1, 0]


@njit(cache=True, nogil=True)
def _find_all(runs, offsets, pixels):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    out = np.empty(pixels.size, np.int64)
    for k in range(pixels.size):
        out[k] = find_in_runs(runs, offsets, pixels[k])
    return out


@njit(cache=True, nogil=True)
def _place_runs(first, stop, values, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n = 0
    for k in range(first.size):
        for at in range(first[k], stop[k]):
            out[at] = values[n]
            n += 1


@njit(cache=True, nogil=True)
def _interpolate_runs(nside, rings, runs, offsets, values, vectors, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    pixel, weight = np.empty(4, np.int64), np.empty(4)
    for k in range(vectors.shape[0]):
        x, y, z = vectors[k]
        phi = math.atan2(y, x)
        if phi < 0.0:
            phi += 2.0 * math.pi
        across = math.sqrt(x * x + y * y)
        length = 1.0 / math.sqrt(x * x + y * y + z * z)
        cosine, sine = z * length, across * length
        above = int(ring_above_direction(nside, cosine, sine))
        pixel[0], pixel[1], pixel[2], pixel[3], weight[0], weight[1], weight[2], weight[3] = interpolation_weights(
            nside, rings, above, cosine, sine, phi
        )
        out[k] = 0.0
        total = 0.0
        for m in range(4):
            at = find_in_runs(runs, offsets, pixel[m]) if weight[m] > 0.0 else -1
            if at >= 0 and not np.isnan(values[at, 0]):
                total += weight[m]
                for b in range(values.shape[1]):
                    out[k, b] += weight[m] * values[at, b]
        for b in range(values.shape[1]):
            out[k, b] = out[k, b] / total if total >= 0.5 else np.nan
