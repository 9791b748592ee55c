r"""Pixels of an image on the sky, in the projections that surveys publish, and the smoothing of sampling one.

An image's grid maps a direction v (Galactic) to a row and a column in three steps,

    n = R v,   (x, y) = P(n),   (column, row) = crpix - 1 + CD^-1 (x, y),

with n in the native frame of the projection and P one of

    CAR: (phi, theta)      CEA: (phi, sin theta / lambda)      SFL: (phi cos theta, theta)
    TAN: (n_y, -n_x) / n_z           ZEA: sqrt(2 / (1 + n_z)) (n_y, -n_x)

in degrees. Source: Calabretta & Greisen (2002), A&A 395, 1077, Sect. 2.4 and 5; keywords, reference values and poles
are wcslib's.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import healpy
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Projections, in the numbering of the compiled code.
PROJECTIONS = ("CAR", "CEA", "SFL", "TAN", "ZEA")
#: Degree of the splines that images are interpolated by: its error is below 0.2 % at half of the Nyquist frequency.
SPLINE_DEGREE = 5
_CYLINDRICAL = ("CAR", "CEA")
_FRAMES = {"RA": "icrs", "GLON": "galactic", "ELON": "ecliptic"}
_FRAME_LETTERS = {"icrs": "C", "galactic": "G", "ecliptic": "E"}


@dataclass(frozen=True)
class ImageGrid:
    """Where the pixels of an image are on the sky.

    Parameters
    ----------
    projection : str
        One of :data:`PROJECTIONS`.
    shape : tuple of int
        Rows and columns.
    rotation : tuple of 3 tuples of 3 floats
        R, from Galactic to the projection's native frame.
    inverse_cd : tuple of 2 tuples of 2 floats
        CD^-1, from degrees of the projection plane to pixels.
    reference : tuple of float
        Row and column, counted from 0, of the projection's origin.
    scale : float
        lambda of CEA, 1 for the others.
    """

    projection: str
    shape: tuple[int, int]
    rotation: tuple[tuple[float, ...], ...]
    inverse_cd: tuple[tuple[float, ...], ...]
    reference: tuple[float, float]
    scale: float = 1.0

    @classmethod
    def from_header(cls, header: fits.Header | WCS, shape: tuple[int, int], frame: str | None = None) -> ImageGrid:
        """The grid of an image with a celestial WCS, whose longitude runs along the last axis.

        Parameters
        ----------
        header : Header or WCS
        shape : tuple of int
            Rows and columns.
        frame : str, optional
            'galactic', 'icrs' or 'ecliptic': overrules what the axes say.

        Raises
        ------
        ValueError
            If the axes are no longitude and latitude, or in a projection that is not known here.

        Examples
        --------
        >>> header = fits.Header({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRPIX1": 11, "CRPIX2": 11,
        ...                       "CDELT1": -0.5, "CDELT2": 0.5, "CUNIT1": "deg", "CUNIT2": "deg"})
        >>> grid = ImageGrid.from_header(header, (21, 21))
        >>> [round(float(at), 6) for at in grid.pixels(grid.directions(3.0, 4.0))]
        [3.0, 4.0]
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = (header if isinstance(header, WCS) else WCS(header)).celestial
            wcs.wcs.set()
        kinds = [str(kind).upper() for kind in wcs.wcs.ctype]
        projection = kinds[0][-3:] if kinds else ""
        found = _FRAMES.get(kinds[0].split("-")[0]) if wcs.wcs.lng == 0 and wcs.wcs.lat == 1 else None
        if found is None:
            raise ValueError(f"the axes are {', '.join(kinds)}, expected longitude (RA, GLON or ELON) and latitude")
        if projection not in PROJECTIONS:
            raise ValueError(
                f"the projection is {projection}, expected one of {', '.join(PROJECTIONS)}; resample the image to "
                "one of them, for instance with reproject"
            )
        pole_lon, pole_colat, native_lon = (math.radians(angle) for angle in wcs.wcs.cel.euler[:3])
        sine, cosine = math.cos(pole_colat), math.sin(pole_colat)  # of the pole's latitude
        about_pole = np.array([[-sine, 0, cosine], [0, -1, 0], [cosine, 0, sine]])
        native = _about_z(native_lon) @ about_pole @ _about_z(-pole_lon)
        letter = _FRAME_LETTERS[frame or found]
        from_galactic = np.eye(3) if letter == "G" else np.asarray(healpy.Rotator(coord=["G", letter]).mat)
        stated = float(wcs.wcs.cel.prj.pv[1]) if projection == "CEA" else 1.0
        cd = np.asarray(wcs.pixel_scale_matrix)
        if np.linalg.det(cd) == 0.0:
            raise ValueError(f"CDELT or CD are singular ({cd.tolist()}), expected the size of a pixel in degrees")
        return cls(
            projection,
            (int(shape[0]), int(shape[1])),
            _rows(native @ from_galactic),
            _rows(np.linalg.inv(cd)),
            (float(wcs.wcs.crpix[1]) - 1.0, float(wcs.wcs.crpix[0]) - 1.0),
            stated if math.isfinite(stated) else 1.0,
        )

    @property
    def pixel_arcmin(self) -> float:
        """Side of a pixel at the projection's origin: the square root of its area."""
        return 60.0 / math.sqrt(abs(float(np.linalg.det(np.array(self.inverse_cd)))))

    @property
    def period(self) -> int:
        """Columns of a full circle, where the image is cylindrical and wraps; else 0."""
        (along, across), (other, _) = self.inverse_cd
        if self.projection not in _CYLINDRICAL or across or other:
            return 0
        columns = 360.0 * abs(along)
        return round(columns) if abs(columns - round(columns)) < 1e-6 * columns else 0

    @property
    def is_full_circle(self) -> bool:
        """Whether the last column is beside the first."""
        return 0 < self.period <= self.shape[1]

    def pixels(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Rows and columns, with fractions, of Galactic directions, (..., 3); NaN where the projection has none.

        Columns of an image on a cylinder are those nearest to the image's middle.
        """
        flat = np.ascontiguousarray(vectors, np.float64).reshape(-1, 3)
        out = np.empty((2, len(flat)))
        middle = 0.5 * (self.shape[1] - 1)
        _locate(
            PROJECTIONS.index(self.projection), np.array(self.rotation), np.array(self.inverse_cd),
            np.array(self.reference), self.scale, float(self._columns_around), middle, flat, out,
        )  # fmt: skip
        shape = np.shape(vectors)[:-1]
        return out[0].reshape(shape), out[1].reshape(shape)

    @property
    def _columns_around(self) -> float:
        """Columns of a full circle of a cylinder, whole or not."""
        (along, across), (other, _) = self.inverse_cd
        return 360.0 * abs(along) if self.projection in _CYLINDRICAL and not (across or other) else 0.0

    def directions(self, row: NDArray[Any] | float, column: NDArray[Any] | float) -> Floats:
        """Galactic unit vectors, (..., 3), of rows and columns with or without fractions; NaN off the sky."""
        row, column = np.broadcast_arrays(np.asarray(row, np.float64), np.asarray(column, np.float64))
        cd = np.linalg.inv(np.array(self.inverse_cd))
        at = np.stack([column - self.reference[1], row - self.reference[0]])
        x, y = np.radians(np.tensordot(cd, at, 1))
        with np.errstate(invalid="ignore"):
            if self.projection in ("TAN", "ZEA"):
                radius = np.hypot(x, y)
                theta = np.arctan2(1.0, radius) if self.projection == "TAN" else np.pi / 2 - 2 * np.arcsin(radius / 2)
                phi = np.arctan2(x, -y)
            else:
                theta = np.where(abs(y) <= np.pi / 2, y, np.nan)
                theta = np.arcsin(y * self.scale) if self.projection == "CEA" else theta
                phi = x / np.cos(theta) if self.projection == "SFL" else x
                phi = np.where(abs(phi) <= np.pi, phi, np.nan) if self.projection == "SFL" else phi
        native = np.stack([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), np.sin(theta)], axis=-1)
        return np.asarray(native @ np.array(self.rotation))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for a record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ImageGrid:
        """Inverse of :meth:`to_dict`."""
        return cls(
            record["projection"],
            (record["shape"][0], record["shape"][1]),
            tuple(tuple(row) for row in record["rotation"]),
            tuple(tuple(row) for row in record["inverse_cd"]),
            (record["reference"][0], record["reference"][1]),
            record["scale"],
        )


def _about_z(angle: float) -> Floats:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _rows(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)


@njit(cache=True, nogil=True)
def _locate(kind, rotation, inverse_cd, reference, scale, around, middle, vectors, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Rows and columns of directions; kinds as in PROJECTIONS."""
    degrees = 180.0 / math.pi
    for k in range(vectors.shape[0]):
        vx, vy, vz = vectors[k]
        length = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
        nx = (rotation[0, 0] * vx + rotation[0, 1] * vy + rotation[0, 2] * vz) * length
        ny = (rotation[1, 0] * vx + rotation[1, 1] * vy + rotation[1, 2] * vz) * length
        nz = (rotation[2, 0] * vx + rotation[2, 1] * vy + rotation[2, 2] * vz) * length
        if kind == 3:
            x, y = (ny / nz, -nx / nz) if nz > 1e-6 else (np.nan, np.nan)
        elif kind == 4:
            stretch = math.sqrt(2.0 / (1.0 + nz)) if nz > -0.999999 else np.nan
            x, y = stretch * ny, -stretch * nx
        else:
            phi, across = math.atan2(ny, nx), math.sqrt(nx * nx + ny * ny)
            if kind == 1:
                x, y = phi, nz / scale
            else:
                y = math.atan2(nz, across)
                x = phi * across if kind == 2 else phi
        x, y = x * degrees, y * degrees
        column = reference[1] + inverse_cd[0, 0] * x + inverse_cd[0, 1] * y
        out[0, k] = reference[0] + inverse_cd[1, 0] * x + inverse_cd[1, 1] * y
        if around > 0.0:
            column -= around * np.rint((column - middle) / around)
        out[1, k] = column


@cache
def interpolation_window(pixel_rad: float, n_ell: int, ell_step: float) -> Floats:
    """Transfer function of sampling an image by splines of :data:`SPLINE_DEGREE`, mean over directions.

    A spline of degree n that passes through samples a step h apart keeps, of a wave of frequency f, the share
    sinc^(n+1)(f h) / sum over m of sinc^(n+1)(f h - m), mean over positions; the rest turns into waves beyond
    Nyquist.

    Source: Unser (1999), IEEE Signal Processing Magazine 16, 22, Eq. 30.

    Parameters
    ----------
    pixel_rad : float
        Step of the grid.
    n_ell : int
        Length of the result.
    ell_step : float
        Step of the multipoles, which start at 0.

    Returns
    -------
    (n_ell,) float64

    Examples
    --------
    >>> window = interpolation_window(np.radians(0.5 / 60), 3, 10800.0)  # 1/2 and 1 of the Nyquist frequency
    >>> (1 - window).round(3).tolist()
    [0.0, 0.001, 0.281]
    """
    angle = np.linspace(0.0, np.pi / 4, 17)
    waves = np.arange(n_ell)[:, None] * ell_step * pixel_rad / (2 * np.pi)
    kept = np.ones((n_ell, angle.size))
    for wave in (waves * np.cos(angle), waves * np.sin(angle)):
        kept *= np.sinc(wave) ** (SPLINE_DEGREE + 1)
        kept /= sum(np.sinc(wave - m) ** (SPLINE_DEGREE + 1) for m in range(-4, 5))
    return np.asarray(kept.mean(axis=1))
