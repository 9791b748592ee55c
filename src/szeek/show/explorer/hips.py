r"""HEALPix maps as HiPS, the tiled format that sky viewers read, by reordering alone.

A HiPS tile of order K and width T = 2^t is one HEALPix pixel of nside 2^K, and its T x T picture elements are the
HEALPix pixels of nside 2^(K + t) inside it: with the map in NESTED order a tile is one contiguous run, and its
element in row r, counted from the top, and column c is number

    n = sum_i 4^i (r_i + 2 c_i),      r_i, c_i the binary digits of r and c.

So nothing is resampled at the map's own order, where nside = 2^(K + t). Lower orders, for the view from afar, hold
the mean of the four pixels below, or their maximum where a mean would hide what is small (p). Maps coarser than one
tile, and orders beyond the map's own, repeat each pixel.

Orders beyond the map's own have a use: Aladin Lite stretches a tile between its corners, in pieces of order 3 or, if
the tile is smaller, as a whole. In a piece of order 3 the picture lies up to 8 arcmin from its place, and four times
less at each order. With deep orders at hand it is a screen pixel or two at any zoom.

Source: Fernique et al. (2017), IVOA Recommendation HiPS 1.0, Sect. 4; Fernique et al. (2015), A&A 578, A114.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import healpy
import matplotlib
import numpy as np
from astropy.io import fits
from matplotlib.colors import to_hex
from mocpy import MOC
from numpy.typing import NDArray
from PIL import Image

from szeek._version import __version__
from szeek.files import whole_folder

#: Width of a tile in pixels; viewers are built for this one.
TILE_WIDTH = 512

Combine = Literal["mean", "maximum"]
Stretch = Literal["linear", "asinh"]

#: NESTED pixels, 4 x 4 and 2 x 2, that tiles of maxima show as one: those of order 0, and of the orders below.
_FAR_BLOCK, _NEAR_BLOCK = 16, 4
#: Order of the Allsky picture, and the width of each of its tiles. HiPS 1.0, Sect. 4.3.2.
_ALLSKY_ORDER, _ALLSKY_WIDTH = 3, 64


def tile_pixels(width: int = TILE_WIDTH) -> NDArray[np.int64]:
    """NESTED number, within a tile, of each of its picture elements: (width, width) int64, first row at the top.

    Examples
    --------
    >>> tile_pixels(4).tolist()
    [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]
    """
    index = np.arange(width)
    spread = np.zeros(width, np.int64)
    for bit in range(width.bit_length()):
        spread |= ((index >> bit) & 1) << (2 * bit)
    return spread[:, None] | (spread[None, :] << 1)


_TILE_PIXELS = tile_pixels()


@dataclass(frozen=True)
class HipsLayer:
    """One map as HiPS; tiles are computed when they are requested.

    Parameters
    ----------
    name : str
        Short name, used in addresses: letters, digits, '-' and '_'.
    title : str
        As a reader sees it.
    read : callable
        ``read(first, n)`` -> (n,) float32, the map's NESTED pixels from number ``first``; NaN where unobserved.
    nside : int
        Of the map.
    unit : str
        Of the values.
    low, high : float
        Values at the ends of the colour scale.
    colours : str
        Colour scale, a name that matplotlib and Aladin share.
    combine : {'mean', 'maximum'}
        What a pixel of a lower order shows of the four below it.
    order_least : int
        The deepest order is at least this one; beyond the map's own, pixels are repeated.
    stretch : {'linear', 'asinh'}
        Colours follow x = (value - low) / (high - low), or asinh(10 x) / asinh(10), Aladin's stretch of that name.
    ticks : tuple of float
        Values to label on the colour scale, besides its ends.
    observed : function of (first, n), optional
        Whether any of these NESTED pixels was observed: maps of a part of the sky are not read elsewhere.
    """

    name: str
    title: str
    read: Callable[[int, int], NDArray[np.float32]]
    nside: int
    unit: str
    low: float
    high: float
    colours: str = "viridis"
    combine: Combine = "mean"
    order_least: int = 0
    stretch: Stretch = "linear"
    ticks: tuple[float, ...] = ()
    observed: Callable[[int, int], bool] | None = None

    def __post_init__(self) -> None:
        if not self.name or not all(c.isascii() and (c.isalnum() or c in "-_") for c in self.name):
            raise ValueError(f"layer name '{self.name}' is not valid; expected letters, digits, '-' and '_'")
        if self.nside < 1 or self.nside & (self.nside - 1):
            raise ValueError(f"layer '{self.name}' has nside {self.nside}, expected a power of two")
        if not self.low < self.high:
            raise ValueError(f"layer '{self.name}' has colour limits {self.low} to {self.high}, expected low < high")

    @property
    def own_order(self) -> int:
        """Order at which a tile element is a pixel of the map."""
        return max(0, (self.nside // TILE_WIDTH).bit_length() - 1)

    @property
    def order(self) -> int:
        """Deepest order."""
        return max(self.own_order, self.order_least)

    def tile(self, order: int, npix: int) -> NDArray[np.float32]:
        """A tile: (512, 512) float32, first row at the top.

        Raises
        ------
        ValueError
            If the layer has no such tile.
        """
        if not 0 <= order <= self.order or not 0 <= npix < 12 * 4**order:
            raise ValueError(f"layer '{self.name}' has no tile {npix} of order {order}; its deepest is {self.order}")
        return self._show(order, self._run(order, npix))[_TILE_PIXELS]

    def _show(self, order: int, run: NDArray[np.float32]) -> NDArray[np.float32]:
        """A tile's NESTED pixels as they are shown: where a viewer skips some, in blocks of their maximum.

        A viewer without mipmaps (Aladin Lite) draws an order with one to two tile pixels a screen pixel, order 0 with
        any number of them. The deepest order stays as the map is.
        """
        if self.combine == "mean" or order >= self.order:
            return run
        block = _FAR_BLOCK if order == 0 else _NEAR_BLOCK
        return np.repeat(np.fmax.reduce(run.reshape(-1, block), axis=1), block)

    def _run(
        self, order: int, npix: int, visit: Callable[[int, int, NDArray[np.float32]], None] | None = None
    ) -> NDArray[np.float32]:
        """The NESTED pixels of a tile, lower orders from the four tiles below; ``visit`` sees each of them once.

        Where nothing was observed the tiles below are left out.
        """
        depth = self.nside.bit_length() - 1 - order  # of the map's pixels below the tile; negative: above it
        first, n = (npix << 2 * depth, 1 << 2 * depth) if depth >= 0 else (npix >> -2 * depth, 1)
        if self.observed is not None and not self.observed(first, n):
            return np.full(TILE_WIDTH**2, np.nan, np.float32)
        if order < self.own_order:
            below = [self._run(order + 1, 4 * npix + child, visit) for child in range(4)]
            run = combine_four(np.concatenate(below), self.combine)
        else:
            run = np.asarray(self.read(first, n), np.float32)
            if n < TILE_WIDTH**2:
                run = np.repeat(run, TILE_WIDTH**2 // n)
        if visit is not None:
            visit(order, npix, run)
        return run

    def whole_sky(self) -> NDArray[np.float32]:
        """The map at nside 512: (12 * 512^2,) float32 NESTED."""
        return np.concatenate([self._run(0, npix) for npix in range(12)])

    def allsky(self) -> NDArray[np.float32]:
        """The whole sky as one picture of 27 columns of 64-pixel tiles of order 3, first row at the top."""
        return _lay_out_sky([self._show(0, self._run(0, base)) for base in range(12)])

    def encode_fits(self, picture: NDArray[np.float32]) -> bytes:
        """A picture as FITS, float32; FITS counts rows from the bottom."""
        hdu = fits.PrimaryHDU(picture[::-1])
        if self.unit:
            hdu.header["BUNIT"] = self.unit
        buffer = io.BytesIO()
        hdu.writeto(buffer)
        return buffer.getvalue()

    def encode_png(self, picture: NDArray[np.float32]) -> bytes:
        """A picture as a coloured PNG, transparent where unobserved."""
        scaled = np.clip((picture - self.low) / (self.high - self.low), 0, 1)
        if self.stretch == "asinh":
            scaled = np.arcsinh(10 * scaled) / np.arcsinh(10)
        index = np.where(np.isfinite(picture), 1 + np.nan_to_num(scaled) * 254, 0).astype(np.uint8)
        image = Image.fromarray(index)
        colours = matplotlib.colormaps[self.colours](np.linspace(0, 1, 255))[:, :3]
        image.putpalette(np.vstack([np.zeros((1, 3)), np.round(255 * colours)]).astype(np.uint8).tobytes())
        buffer = io.BytesIO()
        image.save(buffer, "PNG", transparency=0, compress_level=1)
        return buffer.getvalue()

    def swatch(self, n: int = 9) -> list[str]:
        """The colours of the pictures from low to high, as ``#rrggbb``."""
        return [to_hex(colour) for colour in matplotlib.colormaps[self.colours](np.linspace(0, 1, n))]

    def encode(self, picture: NDArray[np.float32], ending: str) -> bytes:
        """A picture as 'fits' or 'png'."""
        return self.encode_png(picture) if ending == "png" else self.encode_fits(picture)

    def properties(self) -> str:
        """The file ``properties`` that describes a HiPS."""
        entries = {
            "creator_did": f"ivo://szeek.local/{self.name}",
            "obs_title": self.title,
            "obs_description": f"A pixel of an order below the map's own holds the {self.combine} of the four below.",
            "hips_version": "1.4",
            "hips_builder": f"SZeek {__version__}",
            "hips_frame": "galactic",
            "hips_order": self.order,
            "hips_order_min": 0,
            "hips_tile_width": TILE_WIDTH,
            "hips_tile_format": "fits png",
            "hips_pixel_bitpix": -32,
            "hips_pixel_cut": f"{self.low:g} {self.high:g}",
            "hips_data_range": f"{self.low:g} {self.high:g}",
            "hips_status": "private master unclonable",
            "dataproduct_type": "image",
            "moc_sky_fraction": f"{self._moc_sky_fraction:.6f}",
            "hips_initial_fov": "180",
            "hips_initial_ra": "266.405",
            "hips_initial_dec": "-28.936",
        }
        return "".join(f"{key:<20} = {value}\n" for key, value in entries.items())

    @cached_property
    def _observed(self) -> NDArray[np.int64]:
        """Pixels of nside 64 (or the map's) that hold anything observed, NESTED."""
        nside = min(64, self.nside)
        n = (self.nside // nside) ** 2
        chunk = max(1, 2**18 // n)
        seen = np.zeros(12 * nside**2, bool)
        for first in range(0, len(seen), chunk):
            here = slice(first, min(first + chunk, len(seen)))
            start, n_pixel = first * n, (here.stop - first) * n
            if self.observed is None or self.observed(start, n_pixel):
                seen[here] = np.isfinite(self.read(start, n_pixel)).reshape(-1, n).any(axis=1)
        return np.flatnonzero(seen)

    @property
    def _moc_sky_fraction(self) -> float:
        return self._observed.size / (12 * min(64, self.nside) ** 2)

    def moc(self) -> bytes:
        """Moc.fits: where the map is observed, as a multi-order coverage map in the frame of the HiPS, Galactic.

        Source: IVOA HiPS 1.1, Sect. 4.4.2: 'in the same reference frame(s) as the HiPS'. Viewers draw nothing outside
        it: in the ICRS of the MOC standard it hides maps of a part of the sky.
        """
        order = np.uint8(min(64, self.nside).bit_length() - 1)
        moc = MOC.from_healpix_cells(self._observed.astype(np.uint64), order, order)
        cards = {"PIXTYPE": "HEALPIX", "COORDSYS": "G"}
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "Moc.fits"
            moc.save(path, v1_compatible=True, fits_keywords=cards)
            return path.read_bytes()


def combine_four(pixels: NDArray[np.float32], how: Combine) -> NDArray[np.float32]:
    """Mean or maximum of each four NESTED neighbours, of those observed; NaN where none is.

    Examples
    --------
    >>> combine_four(np.array([1, 2, np.nan, 3], np.float32), "mean").tolist()
    [2.0]
    """
    four = [pixels[child::4] for child in range(4)]
    if how == "maximum":
        return np.fmax(np.fmax(four[0], four[1]), np.fmax(four[2], four[3]))
    total = four[0] + four[1] + four[2] + four[3]
    mean: NDArray[np.float32] = total * np.float32(0.25)
    (gaps,) = np.nonzero(np.isnan(total))
    if gaps.size:
        known = pixels.reshape(-1, 4)[gaps]
        n = np.isfinite(known).sum(axis=1)
        mean[gaps] = np.where(n > 0, np.nansum(known, axis=1) / np.maximum(n, 1), np.nan)
    return mean


def _lay_out_sky(base_runs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The twelve base pixels' NESTED runs of nside 512 as an Allsky picture."""
    n_column, per_base = 27, 4**_ALLSKY_ORDER
    n_row = -(-12 * per_base // n_column)
    picture = np.full((n_row * _ALLSKY_WIDTH, n_column * _ALLSKY_WIDTH), np.nan, np.float32)
    inner = tile_pixels(_ALLSKY_WIDTH)
    for base, base_run in enumerate(base_runs):
        for child, run in enumerate(base_run.reshape(per_base, -1)):
            row, column = divmod(base * per_base + child, n_column)
            rows = slice(row * _ALLSKY_WIDTH, (row + 1) * _ALLSKY_WIDTH)
            picture[rows, column * _ALLSKY_WIDTH : (column + 1) * _ALLSKY_WIDTH] = run[inner]
    return picture


def nested_reader(map_nested: NDArray[np.float32], factor: float = 1.0) -> Callable[[int, int], NDArray[np.float32]]:
    """Reader of a NESTED map in memory, or memory-mapped."""
    return lambda first, n: map_nested[first : first + n] * np.float32(factor)


def ring_reader(
    values: NDArray[np.float32], column: int, footprint: NDArray[np.bool_], factor: float = 1.0
) -> Callable[[int, int], NDArray[np.float32]]:
    """Reader of one band of interleaved RING maps, which may be memory-mapped: only what is asked for is read."""
    nside = healpy.npix2nside(len(values))

    def read(first: int, n: int) -> NDArray[np.float32]:
        ipix = healpy.nest2ring(nside, np.arange(first, first + n))
        return np.where(footprint[ipix], factor * values[ipix, column], np.nan).astype(np.float32)

    return read


def write_hips(layer: HipsLayer, folder: str | os.PathLike[str], formats: tuple[str, ...] = ("png", "fits")) -> Path:
    """Write a whole HiPS: properties, Moc.fits, Allsky pictures and every tile, whole or not at all.

    Parameters
    ----------
    layer : HipsLayer
        The map; orders beyond its own are not written.
    folder : path
        Must not exist yet.
    formats : tuple of {'png', 'fits'}
        Tile formats.

    Raises
    ------
    FileExistsError
        If the folder exists.

    Examples
    --------
    >>> import tempfile
    >>> p = np.full(12 * 64**2, 0.2, np.float32)  # NESTED
    >>> layer = HipsLayer("p", "p of a network", lambda first, n: p[first : first + n], 64, "", 0.0, 1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     hips = write_hips(layer, Path(folder) / "hips", formats=("png",))
    ...     sorted(path.name for path in hips.iterdir())
    ['Moc.fits', 'Norder0', 'Norder3', 'properties']
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"'{target}' exists; remove it or choose another folder for the HiPS")
    unknown = sorted(set(formats) - {"png", "fits"})
    if unknown or not formats:
        raise ValueError(f"tile formats {', '.join(unknown) or 'none'}; expected 'png', 'fits' or both")
    layer = replace(layer, order_least=0)
    with whole_folder(target) as staging:

        def write_tile(order: int, npix: int, run: NDArray[np.float32]) -> None:
            tiles = staging / f"Norder{order}" / f"Dir{npix // 10000 * 10000}"
            tiles.mkdir(parents=True, exist_ok=True)
            shown = layer._show(order, run)[_TILE_PIXELS]
            for ending in formats:
                (tiles / f"Npix{npix}.{ending}").write_bytes(layer.encode(shown, ending))

        sky = _lay_out_sky([layer._show(0, layer._run(0, base, write_tile)) for base in range(12)])
        (staging / f"Norder{_ALLSKY_ORDER}").mkdir(exist_ok=True)
        for ending in formats:
            (staging / f"Norder{_ALLSKY_ORDER}" / f"Allsky.{ending}").write_bytes(layer.encode(sky, ending))
        (staging / "properties").write_text(layer.properties(), encoding="utf-8")
        (staging / "Moc.fits").write_bytes(layer.moc())
    return target
