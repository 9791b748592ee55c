"""A Compton-y map with errors: the needlet ILC of maps of the whole sky or of a field, and its local scatter.

    Y = ILC - F(free)
    SIGMA_Y = what 68.27 % of |Y| lie below in cells of 0.9 deg, median of a cell and those about it

F, which may be left out, says what dust, infrared background, sources and noise left in the ILC. A network tells it
from what the bands hold beside the SZ effect and the CMB (``free``): whatever it says, Y passes the SZ effect with 1
and the CMB with 0.

The errors of Y are noise, cosmic infrared background, dust and sources in a mixture that changes over the sky, and
the map itself shows how large they are where it shows no cluster. About 0, not the cell's own mean, so that what is
left of large structures counts; 68 % of a cell and the median of nine cells do not feel a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from szeek._version import __version__
from szeek.files import write_blocks
from szeek.filter.ilc import FlatILC, NeedletILC
from szeek.physics.instrument import Instrument
from szeek.sky.harmonics import FWHM_PER_SIGMA, Floats, Map32
from szeek.sky.healpix import interpolation_sigma_rad, lonlat_deg, pixel_window_sigma_rad
from szeek.sky.partial import PartialMap, write_partial_map
from szeek.sky.projection import field_basis, interpolate, project, sample_field
from szeek.sky.skymaps import Band, SkyMaps

#: A footprint that fits into a disc of this radius is a flat field; a larger one is a sky with a mask.
_FIELD_RADIUS_DEG = 12.5
#: Cells in which the scatter is measured, 0.9 deg; of coarse maps larger ones, of so many pixels.
_CELL_NSIDE, _LEAST_PIXELS = 64, 256
#: Pixels of 3.4 arcmin hold maps of 10 arcmin.
FREE_NSIDE = 1024


@dataclass(frozen=True)
class YMap:
    """Compton y of a sky, and its errors.

    Parameters
    ----------
    y, sigma : (12 nside^2,) float32
        RING, Galactic; NaN where there is no value.
    fwhm_arcmin : float
        Resolution.
    deproject : tuple of str
        Spectra that were nulled beside the CMB's.
    model : str
        The network that told what foregrounds and noise left; empty without one.

    Examples
    --------
    >>> y = np.zeros(12 * 16**2, np.float32)
    >>> YMap(y, y + 1e-6).nside
    16
    """

    y: Map32
    sigma: Map32
    fwhm_arcmin: float = NeedletILC.fwhm_arcmin
    deproject: tuple[str, ...] = ()
    model: str = ""

    @property
    def nside(self) -> int:
        """HEALPix resolution."""
        return int(healpy.npix2nside(self.y.size))

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write a HEALPix file with the columns Y and SIGMA_Y; of less than half of the sky the pixels that it has.

        NESTED with UNSEEN where there is no value, or RING with the pixels' numbers in the column PIXEL; healpy reads
        both.

        Raises
        ------
        OSError
            If it cannot be written; nothing half-written is left.
        """
        target = Path(path)
        cards = {
            "CREATOR": f"SZeek {__version__}",
            "FWHM": (self.fwhm_arcmin, "[arcmin] resolution, Gaussian"),
            "DEPROJ": (",".join(("cmb", *self.deproject)), "spectra that Y does not respond to"),
            **({"MODEL": self.model} if self.model else {}),  # no comment: a folder's name may be long
            "RESPONSE": (1.0, "of Y to thermal SZ, cold electrons"),
            "ZERO": ("median", "Y has median 0: its mean is not known"),
        }
        seen = np.flatnonzero(np.isfinite(self.y))
        if 2 * seen.size < self.y.size:
            values = np.stack([self.y[seen], self.sigma[seen]], axis=1)
            part = PartialMap.from_pixels(self.nside, seen, values)
            return write_partial_map(part, target, ("Y", "SIGMA_Y"), **cards)  # type: ignore[arg-type]
        row = min(1024, self.y.size)
        names = [fits.Column(name, f"{row}E", unit="1", array=np.zeros((1, row), "f4")) for name in ("Y", "SIGMA_Y")]
        header = fits.BinTableHDU.from_columns(names).header
        header["NAXIS2"] = self.y.size // row
        header.update({"PIXTYPE": "HEALPIX", "ORDERING": "NESTED", "COORDSYS": "G", "NSIDE": self.nside})
        header.update({"FIRSTPIX": 0, "LASTPIX": self.y.size - 1, "INDXSCHM": "IMPLICIT", "OBJECT": "FULLSKY"})
        header.update({"BAD_DATA": healpy.UNSEEN, **cards})

        def blocks() -> Iterator[NDArray[np.float32]]:
            for first in range(0, self.y.size, 1 << 22):
                ipix = healpy.nest2ring(self.nside, np.arange(first, min(self.y.size, first + (1 << 22))))
                columns = np.stack([values[ipix].reshape(-1, row) for values in (self.y, self.sigma)], axis=1)
                yield np.where(np.isfinite(columns), columns, np.float32(healpy.UNSEEN)).ravel()

        write_blocks(blocks(), header, target)
        return target


@dataclass(frozen=True)
class Combined:
    """The ILC's y of a sky, and what its bands hold beside the SZ effect and the CMB.

    Parameters
    ----------
    y, sigma : (12 nside^2,) float32
        Compton y less its median, and its local scatter, RING; NaN where there is no value.
    free : SkyMaps
        The signal-free maps at 10 arcmin (:meth:`szeek.filter.ilc.NeedletILC.signal_free`), of nside 1024 at most
        where the sky is no flat field; seen where y is.
    reference : (7, n_band) float64
        Weights that the last of these compares the ILC's with.
    """

    y: Map32
    sigma: Map32
    free: SkyMaps
    reference: Floats


@dataclass(frozen=True)
class Foregrounds:
    """What says what foregrounds and noise left in the ILC: a network, or anything else.

    Parameters
    ----------
    name : str
        For the record.
    reference : (7, n_band) float64
        Weights that the signal-free maps are made with, those of the training.
    tell : callable
        Called with the signal-free maps of a sky; returns what is left in its ILC beside y, (n_pix,) float32, RING.

    Examples
    --------
    >>> nothing = Foregrounds("nothing", np.zeros((7, 6)), lambda free: np.zeros(len(free.values), np.float32))
    >>> nothing.name
    'nothing'
    """

    name: str
    reference: Floats
    tell: Callable[[SkyMaps], Map32]


def combine_bands(
    maps: SkyMaps,
    instrument: Instrument,
    beams_arcmin: Floats,
    *,
    deproject: Sequence[str] = (),
    reference: Floats | None = None,
    threads: int | None = None,
) -> Combined:
    """Compton y by the ILC of a whole sky or a flat field, and the maps that are free of it.

    Parameters and errors as of :func:`make_y_map`; ``reference`` is that of :class:`Foregrounds`, the sky's own mean
    weights without it.
    """
    ilc = _Combination(maps, instrument, beams_arcmin, deproject, threads)
    reference = ilc.mean_weights if reference is None else reference
    return Combined(ilc.y, local_scatter(ilc.y), ilc.free(reference), reference)


def make_y_map(
    maps: SkyMaps,
    instrument: Instrument,
    beams_arcmin: Floats,
    *,
    deproject: Sequence[str] = (),
    foregrounds: Foregrounds | None = None,
    threads: int | None = None,
) -> YMap:
    """Compton y of frequency maps at 10 arcmin, and its local scatter.

    On the sphere (:class:`szeek.filter.ilc.NeedletILC`), or where the footprint fits into a disc of 25 deg in a flat
    field (:class:`szeek.filter.ilc.FlatILC`).

    Parameters
    ----------
    maps : SkyMaps
    instrument : Instrument
        Of the maps' bands.
    beams_arcmin : (n_band,) float64
        FWHM.
    deproject : sequence of str
        Of 'cib', 'cib-moments' and 'radio', see :func:`szeek.filter.ilc.list_spectra`.
    foregrounds : Foregrounds, optional
        Says what is left in the ILC beside y, which is taken off: see :func:`szeek.find.predict.find_foregrounds`.
    threads : int, optional
        All cores without it; the result does not depend on it.

    Returns
    -------
    YMap
        Unbiased for any cluster of cold gas: signal passes with 1. No value where the Galactic plane is brighter
        than anything else, and within 10 arcmin of a field's border.

    Raises
    ------
    ValueError
        If a spectrum is unknown, there are more than bands, the maps have another number of bands than the
        instrument, or nothing is left of the sky within its border.

    Examples
    --------
    A sky of nothing but noise of 1 uK in every band:

    >>> from szeek.inputs.instrument import read_instrument
    >>> hfi = read_instrument("planck-hfi")
    >>> noise = np.random.default_rng(1).normal(0.0, 1e-6, (12 * 32**2, 6)) * hfi.unit_per_kcmb
    >>> maps = SkyMaps(noise.astype(np.float32), np.ones(len(noise), bool), hfi.bands)
    >>> found = make_y_map(maps, hfi, np.full(6, 10.0), threads=1)
    >>> bool(np.std(found.y) < 1e-6)  # 1 uK is y = 4e-7 at 143 GHz
    True
    """
    names = tuple(dict.fromkeys(deproject))
    ilc = _Combination(maps, instrument, beams_arcmin, deproject, threads)
    if foregrounds is None:
        return YMap(ilc.y, local_scatter(ilc.y), deproject=names)
    y = ilc.y - _refine(foregrounds.tell(ilc.free(foregrounds.reference)), maps.nside)
    y -= np.float32(np.nanmedian(y))
    return YMap(y, local_scatter(y), deproject=names, model=foregrounds.name)


def _refine(values: Map32, nside: int) -> Map32:
    """A map interpolated at the pixels of a finer nside, NaN where it is not known."""
    if healpy.npix2nside(values.size) == nside:
        return values
    known = np.isfinite(values)
    column = np.where(known, values, 0.0).astype(np.float32)[:, None]
    out = np.empty(12 * nside**2, np.float32)
    for part in np.array_split(np.arange(out.size), max(1, out.size >> 20)):
        out[part] = interpolate(column, np.stack(healpy.pix2vec(nside, part), axis=1), known)[:, 0]
    return out


class _Combination:
    """The ILC of a whole sky or a flat field: its y on the sphere, and, when asked, the maps that are free of it."""

    def __init__(
        self,
        maps: SkyMaps,
        instrument: Instrument,
        beams_arcmin: Floats,
        deproject: Sequence[str],
        threads: int | None,
    ) -> None:
        if maps.n_band != len(instrument.bands):
            expected = f"the {len(instrument.bands)} of {instrument.name}"
            raise ValueError(f"the maps have {maps.n_band} bands, expected {expected}")
        self._nside, self._seen = maps.nside, np.flatnonzero(maps.footprint)
        if not self._seen.size:
            raise ValueError("the maps' footprint is empty: no pixel is seen in every band")
        vectors = np.stack(healpy.pix2vec(maps.nside, self._seen[:: max(1, self._seen.size // 100_000)]), axis=1)
        centre = vectors.sum(axis=0)
        reach = vectors @ centre / np.linalg.norm(centre)
        self._ilc: NeedletILC | FlatILC
        if reach.min() > np.cos(np.radians(_FIELD_RADIUS_DEG)):
            fwhm_arcmin = self._cut_field(maps, beams_arcmin)
            self._ilc = FlatILC(instrument, self._pixel_arcmin, fwhm_arcmin, deproject=deproject)
            self.y = self._on_sphere(self._ilc.fit(self._field)[..., None], np.nan)[:, 0]
        else:
            self._ilc = NeedletILC(instrument, maps.nside, beams_arcmin, threads or 0, deproject=deproject)
            self.y = self._ilc.fit(maps.values, None if maps.is_full_sky else maps.footprint)
            self.y[~(self._ilc.kept & maps.footprint)] = np.nan
        if not np.isfinite(self.y).any():
            raise ValueError(
                "no pixel of the maps is 10 arcmin away from their border and their holes and off the plane"
            )
        self.y -= np.float32(np.nanmedian(self.y))

    @property
    def mean_weights(self) -> Floats:
        """Of :attr:`NeedletILC.mean_weights`."""
        return self._ilc.mean_weights

    def free(self, reference: Floats) -> SkyMaps:
        """The signal-free maps of :class:`Combined`."""
        if isinstance(self._ilc, FlatILC):
            free = self._on_sphere(self._ilc.signal_free(self._field, reference), 0.0)
        else:
            free = self._ilc.signal_free(min(self._nside, FREE_NSIDE), reference)
        known = healpy.ud_grade(np.isfinite(self.y).astype(np.float32), healpy.npix2nside(len(free))) == 1.0
        free[~known & free.any(axis=1)] = 0.0  # where it is anything else: a field's pages of zeros take no memory
        bands = tuple(Band(f"free-{k + 1}", 0.0, NeedletILC.fwhm_arcmin, "1") for k in range(free.shape[1]))
        return SkyMaps(free, known, bands)

    def _cut_field(self, maps: SkyMaps, beams_arcmin: Floats) -> Floats:
        """Cut the footprint out as a flat field; returns the FWHM of its bands."""
        vectors = np.stack(healpy.pix2vec(maps.nside, self._seen), axis=1)
        lon_deg, lat_deg = (float(angle) for angle in lonlat_deg(vectors.sum(axis=0)))
        self._pixel_arcmin = float(healpy.nside2resol(maps.nside, arcmin=True))
        basis = field_basis(lon_deg, lat_deg)
        x, y, _ = project(basis, vectors, self._pixel_arcmin)
        nx, ny = (2 * int(np.ceil(np.abs(offset).max())) + 1 for offset in (x, y))
        self._row, self._column = y + 0.5 * (ny - 1), x + 0.5 * (nx - 1)
        self._field = sample_field(maps, lon_deg, lat_deg, 0.0, ny, nx, self._pixel_arcmin)
        smoothing = np.hypot(pixel_window_sigma_rad(maps.nside), interpolation_sigma_rad(maps.nside, lat_deg))
        return np.asarray(np.hypot(beams_arcmin, np.degrees(smoothing) * 60 * FWHM_PER_SIGMA))

    def _on_sphere(self, flat: NDArray[np.float32], elsewhere: float) -> NDArray[np.float32]:
        """Maps of the field, (ny, nx, n), at the pixels of the footprint: (12 nside^2, n) float32."""
        ny, nx, n = flat.shape
        i, j = np.floor(self._row).astype(int), np.floor(self._column).astype(int)
        inside = (i >= 0) & (j >= 0) & (i < ny - 1) & (j < nx - 1)
        u, v = ((at - np.floor(at))[inside, None].astype(np.float32) for at in (self._row, self._column))
        i, j = i[inside], j[inside]
        upper, lower = ((1 - v) * flat[k, j] + v * flat[k, j + 1] for k in (i, i + 1))
        shape = (12 * self._nside**2, n)
        out = np.full(shape, elsewhere, np.float32) if elsewhere else np.zeros(shape, np.float32)
        out[self._seen[inside]] = (1 - u) * upper + u * lower
        return out


def local_scatter(y: Map32) -> Map32:
    """What 68.27 % of a map's absolute values lie below about each place, (12 nside^2,) float32 RING.

    NaN where the map is. In cells of 0.9 deg, larger ones where a map is coarser than nside 1024; the median of a
    cell and those about it, interpolated between cells.

    Parameters
    ----------
    y : (12 nside^2,) float32
        RING; NaN where there is no value.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(0.0, 2.0, 12 * 128**2).astype(np.float32)
    >>> round(float(np.median(local_scatter(noise))), 1)
    2.0
    """
    nside = healpy.npix2nside(y.size)
    cell_nside = max(1, min(_CELL_NSIDE, nside // int(np.sqrt(_LEAST_PIXELS))))
    n_cell, n_fine = 12 * cell_nside**2, (nside // cell_nside) ** 2
    scatter = np.full(n_cell + 1, np.nan)  # the last is that of no cell
    seen = np.flatnonzero(np.isfinite(y))
    cells = np.unique(healpy.nest2ring(cell_nside, healpy.ring2nest(nside, seen) // n_fine))
    for block in np.array_split(cells, max(1, seen.size >> 20)):
        nested = healpy.ring2nest(cell_nside, block)[:, None] * n_fine + np.arange(n_fine)
        values = y[healpy.nest2ring(nside, nested)]
        enough = np.isfinite(values).sum(axis=1) * 4 > n_fine
        if enough.any():
            scatter[block[enough]] = np.nanpercentile(np.abs(values[enough]), 68.27, axis=1)
    near = healpy.get_all_neighbours(cell_nside, np.arange(n_cell)).T
    about = scatter[np.concatenate([np.arange(n_cell)[:, None], near], axis=1)]
    known = np.isfinite(about).any(axis=1)
    level = np.zeros((n_cell, 1), np.float32)
    level[known, 0] = np.nanmedian(about[known], axis=1)
    out = np.full(y.size, np.nan, np.float32)
    for part in np.array_split(seen, max(1, seen.size >> 20)):
        out[part] = interpolate(level, np.stack(healpy.pix2vec(nside, part), axis=1), known)[:, 0]
    return out
