r"""Pixels of a field: a rectangle of the equatorial plate carree, rows and columns in whole steps of Dec and RA.

Every field is a part of one lattice of 0.5 arcmin, so that fields of any centre, size and survey share their
random numbers: white noise is drawn in squares of a degree, each from a generator of its own. On the lattice an
isotropic filter F(l) depends on declination, for a column is cos(dec) as wide as a row is high:

    out = sum_k  h_k(dec)  FFT^-1 [ F( sqrt(k_y^2 + k_x^2 / cos^2 dec_k) ) FFT(in) ],      sum_k h_k = 1

with triangles h_k between declinations dec_k that are so near each other that F hardly changes from one to the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import healpy
import numpy as np
import scipy.fft
from astropy.io import fits
from numpy.typing import NDArray

from szeek.simulate.density import random_generator

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

#: Step of the lattice.
STEP_ARCMIN = 0.5
_STEP = math.radians(STEP_ARCMIN / 60)
_PER_DEGREE = 120
_CIRCLE = 360 * _PER_DEGREE
#: Pixels about a field that are made and cut off: filters and sources reach in from there.
MARGIN = 60
#: Rows between the declinations at which filters are made, at the equator.
_ROWS_APART = 5 * _PER_DEGREE
#: Multipoles between the nodes of a filter, and beyond the last of which it is 0.
ELL_STEP = 4
MAX_ELL = 36_000


@dataclass(frozen=True)
class Lattice:
    """Pixels of a rectangle of the lattice; rows rise in declination, columns fall in right ascension.

    Parameters
    ----------
    first_row : int
        Declination of row 0 in steps from the south pole.
    first_column : int
        Right ascension of column 0 in steps; it falls from there.
    shape : tuple of int
        Rows and columns.
    """

    first_row: int
    first_column: int
    shape: tuple[int, int]

    @classmethod
    def around(cls, ra_deg: float, dec_deg: float, width_deg: float, height_deg: float) -> Lattice:
        """The field of a centre and a size on the sky, its margin included.

        Examples
        --------
        >>> Lattice.around(30.0, -10.0, 2.0, 1.0).shape
        (241, 365)
        """
        half_rows = math.ceil(height_deg / 2 * _PER_DEGREE / 2) * 2
        half_columns = math.ceil(width_deg / 2 / math.cos(math.radians(dec_deg)) * _PER_DEGREE / 2) * 2
        row = round((dec_deg + 90) * _PER_DEGREE / 2) * 2  # even, so that steps of 1 arcmin have these pixels too
        column = round(ra_deg * _PER_DEGREE / 2) * 2
        half_rows, half_columns = half_rows + MARGIN, half_columns + MARGIN
        return cls(row - half_rows, column + half_columns, (2 * half_rows + 1, 2 * half_columns + 1))

    def without_margin(self) -> Lattice:
        """The field itself."""
        rows, columns = (n - 2 * MARGIN for n in self.shape)
        return Lattice(self.first_row + MARGIN, self.first_column - MARGIN, (rows, columns))

    @cached_property
    def dec_deg(self) -> Floats:
        """Of each row."""
        return (self.first_row + np.arange(self.shape[0])) / _PER_DEGREE - 90.0

    @cached_property
    def ra_deg(self) -> Floats:
        """Of each column, falling, from wherever column 0 is."""
        return (self.first_column - np.arange(self.shape[1])) / _PER_DEGREE

    @cached_property
    def pixel_sr(self) -> Floats:
        """Area of the pixels of each row."""
        return _STEP**2 * np.cos(np.radians(self.dec_deg))

    @property
    def area_deg2(self) -> float:
        """Of all pixels."""
        return float(self.pixel_sr.sum() * self.shape[1] * np.degrees(1.0) ** 2)

    def header(self, pixel_arcmin: float = STEP_ARCMIN) -> fits.Header:
        """WCS, RA and Dec in CAR, of the image whose pixels lie ``pixel_arcmin`` apart."""
        row, column = self.shape[0] // 2, self.shape[1] // 2
        scale = STEP_ARCMIN / pixel_arcmin
        cards = {
            "CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CUNIT1": "deg", "CUNIT2": "deg",
            "CRVAL1": float(self.ra_deg[column]) % 360.0, "CRVAL2": 0.0,
            "CRPIX1": column * scale + 1.0, "CRPIX2": (row - self.dec_deg[row] * _PER_DEGREE) * scale + 1.0,
            "CDELT1": -pixel_arcmin / 60, "CDELT2": pixel_arcmin / 60, "RADESYS": "ICRS",
        }  # fmt: skip
        return fits.Header(cards)

    @cached_property
    def galactic(self) -> tuple[Floats, Floats]:
        """Colatitude and longitude in radians, Galactic, of every pixel, (ny, nx)."""
        turn = np.asarray(healpy.Rotator(coord=["C", "G"]).mat)
        dec, ra = np.radians(self.dec_deg)[:, None], np.radians(self.ra_deg)
        east, north = np.cos(ra), np.sin(ra)
        x, y, z = (
            np.cos(dec) * (turn[i, 0] * east + turn[i, 1] * north) + np.sin(dec) * turn[i, 2] for i in range(3)
        )
        return np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)

    def places(self, ra_deg: Floats, dec_deg: Floats) -> tuple[Floats, Floats]:
        """Rows and columns, with fractions, of positions; columns of those nearest to the middle of the field."""
        middle = float(self.ra_deg[self.shape[1] // 2])
        apart = (middle - ra_deg + 180.0) % 360.0 - 180.0
        return (dec_deg + 90.0) * _PER_DEGREE - self.first_row, apart * _PER_DEGREE + self.shape[1] // 2

    def contains(self, ra_deg: Floats, dec_deg: Floats) -> NDArray[np.bool_]:
        """Whether positions are in the rectangle."""
        row, column = self.places(ra_deg, dec_deg)
        inside = (row > -0.5) & (row < self.shape[0] - 0.5)
        return np.asarray(inside & (column > -0.5) & (column < self.shape[1] - 0.5))

    def cells(self, nside: int) -> NDArray[np.int64]:
        """Every HEALPix pixel, RING, Galactic, of a coarse resolution that is within half a degree of a pixel."""
        colatitude, longitude = (np.append(at[::10, ::10], at[-1:, ::10]) for at in self.galactic)
        columns = [at[:, -1][::10] for at in self.galactic]
        vectors = healpy.ang2vec(np.append(colatitude, columns[0]), np.append(longitude, columns[1]))
        found = np.unique(healpy.vec2pix(nside, *vectors.T))
        cells = np.unique(np.concatenate([found, *healpy.get_all_neighbours(nside, found)])).astype(np.int64)
        return cells[cells >= 0]  # some pixels have seven neighbours, and -1 for the eighth

    def white(self, seed: int, component: str) -> Map32:
        """White noise of C_l = 1, the same for all fields that have a pixel, (ny, nx)."""
        n = _PER_DEGREE
        rows, columns = self.first_row + np.arange(self.shape[0]), self.first_column - np.arange(self.shape[1])
        out = np.empty(self.shape, np.float32)
        for band in np.unique(rows // n):
            here = np.flatnonzero(rows // n == band)
            for block in np.unique(columns // n):
                there = np.flatnonzero(columns // n == block)
                random = random_generator(seed, f"{component} {band} {block % 360}")
                square = random.standard_normal((n, n), dtype=np.float32)
                out[here[0] : here[-1] + 1, there[0] : there[-1] + 1] = square[rows[here] % n][:, columns[there] % n]
        out /= np.sqrt(self.pixel_sr)[:, None].astype(np.float32)
        return out

    def convolve(self, fields: Sequence[Map32], filters: Sequence[Sequence[Floats | None]]) -> list[Map32]:
        """Sums of filtered fields.

        Parameters
        ----------
        fields : sequence of (ny, nx) float32
        filters : for each result, for each field, (n_ell,) float64 or None
            F at l = 0, ELL_STEP, 2 ELL_STEP ... (:func:`multipoles`); None: the field has no part in the result.

        Returns
        -------
        list of (ny, nx) float32
            What is nearer than the filters' width to the sides is spoilt.
        """
        out = [np.zeros(self.shape, np.float32) for _ in filters]
        for strip in self._strips():
            shape = [scipy.fft.next_fast_len(n, real=True) for n in (strip.stop - strip.start, self.shape[1])]
            k_y = 2 * np.pi * scipy.fft.fftfreq(shape[0], _STEP)
            k_x = 2 * np.pi * scipy.fft.rfftfreq(shape[1], _STEP) / strip.cosine
            node = np.rint(np.hypot(k_y[:, None], k_x) / ELL_STEP).astype(np.int32)
            np.minimum(node, MAX_ELL // ELL_STEP, out=node)
            waves: list[NDArray[np.complex64] | None] = [None] * len(fields)
            sums: list[NDArray[np.complex64] | None] = [None] * len(filters)
            for number, field in enumerate(fields):
                if all(row[number] is None for row in filters):
                    continue
                wave = scipy.fft.rfft2(field[strip.start : strip.stop], shape)
                for result, row in enumerate(filters):
                    transfer = row[number]
                    if transfer is None:
                        continue
                    part = wave * transfer.astype(np.float32)[node]
                    total = sums[result]
                    sums[result] = part if total is None else np.add(total, part, out=total)
            del waves
            for result, wave in enumerate(sums):
                if wave is None:
                    continue
                values = scipy.fft.irfft2(wave, shape)[: strip.stop - strip.start, : self.shape[1]]
                out[result][strip.start : strip.stop] += strip.weight[:, None] * values
                sums[result] = None
        return out

    def _strips(self) -> Iterator[_Strip]:
        """Strips of rows about each declination dec_k."""
        n = self.shape[0]
        middle = np.cos(np.radians(np.abs(self.dec_deg).max()))
        nodes = np.linspace(0, n - 1, 2 + int((n - 1) // max(_ROWS_APART * middle, 1)))
        rows = np.arange(n)
        for k, node in enumerate(nodes):
            weight = np.interp(rows, nodes, np.eye(nodes.size)[k]).astype(np.float32)
            inside = np.flatnonzero(weight)
            start, stop = max(inside[0] - MARGIN, 0), min(inside[-1] + 1 + MARGIN, n)
            dec = np.interp(node, rows, self.dec_deg)
            yield _Strip(int(start), int(stop), float(np.cos(np.radians(dec))), weight[start:stop])


@dataclass(frozen=True)
class _Strip:
    start: int
    stop: int
    cosine: float
    weight: Map32


def multipoles() -> Floats:
    """Nodes of the filters of :meth:`Lattice.convolve`."""
    return np.arange(0.0, MAX_ELL + ELL_STEP, ELL_STEP)
