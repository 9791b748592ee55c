"""Frequency maps of any mix of grids -> one checked SkyMaps, or a MapSet of groups of bands on grids of their own."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from numpy.typing import NDArray

from szeek.config import named_file
from szeek.files import allocate_array
from szeek.inputs.bandcheck import BandError, check_bands
from szeek.inputs.fits_files import list_tiles, parse_part
from szeek.inputs.healpix_files import (
    HealpixFile,
    describe_healpix,
    healpix_of_healsparse,
    is_healsparse,
    mask_pixels,
)
from szeek.inputs.image_files import read_image
from szeek.inputs.instrument import read_instrument
from szeek.inputs.mapfiles import (
    Stated,
    check_band_names,
    check_stated_units,
    fill_skymaps,
    kcmb_per_unit,
    normalise_unit,
    stated_unit,
    unit_factor,
)
from szeek.inputs.masks import find_masks, keep_all, read_masks
from szeek.inputs.surveyimages import (
    LoadedImage,
    SurveyImage,
    describe_image,
    image_of_array,
    is_same_grid,
    join_tiles,
)
from szeek.physics.instrument import Instrument
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps, check_replaceable

log = logging.getLogger(__name__)

#: A file's name, or a map in memory: an ndmap of pixell (``.wcs``) or a map of healsparse (``.valid_pixels``).
MapSource = str | os.PathLike[str] | Any

#: Tangential cut-outs of pixels as large as these are sampled once on HEALPix.
_COARSE_ARCMIN = 0.9
#: HEALPix maps up to this resolution are one sky; finer ones are of a part of it, and what is made of them is too.
_LARGEST_NSIDE = 4096
_BLOCK_PIXELS = 1 << 20
#: Columns of a HEALPix file that are taken for an inverse variance where there are several.
_IVAR_COLUMNS = ("IVAR", "I_IVAR", "II_IVAR", "INVVAR", "WEIGHT", "WEIGHTS")
#: A map of the CMB that is nowhere negative has a dipole or zero level in it, which lies between these, K_CMB.
_ALL_POSITIVE_KCMB = (1e-4, 1e-2)


def read_maps(
    files: Mapping[str, MapSource],
    instrument: str | Instrument = "planck-hfi",
    *,
    ivar: Mapping[str, MapSource] | None = None,
    unit: Stated = None,
    frame: str | None = None,
    ordering: str | None = None,
    nside: int | None = None,
    masks: Sequence[str | os.PathLike[str] | NDArray[np.bool_]] = (),
    out: str | os.PathLike[str] | None = None,
    check: bool = True,
) -> SkyMaps | MapSet:
    """Read one map per band, of any mix of grids, into checked maps in the instrument's units.

    HEALPix maps of one resolution up to nside 4096, and tangential (TAN) cut-outs with pixels of 0.9 arcmin or more,
    become a SkyMaps, as in :func:`szeek.inputs.mapfiles.read_skymaps`. Everything else becomes a MapSet: bands that
    share a grid are a group, and images stay on their own pixels (CAR, CEA, SFL, TAN or ZEA), mapped from their files
    where these are plain FITS of floating point, else from a copy in ``out``. Of cubes of Stokes parameters the
    temperature is taken.

    Parameters
    ----------
    files : mapping of band name to path or map
        One for each band; a MapSet may do without some of the instrument's. FITS files as in :func:`read_skymaps`,
        also compressed by fpack; with * in its name, all tiles of one pixelisation. Maps in memory may be ndmaps of
        pixell or maps of healsparse.
    instrument : str or Instrument
        Bands, their units and conversion factors.
    ivar : mapping of band name to path or map, optional
        Inverse variance of a pixel: of an image on the same pixels, of a HEALPix map HEALPix of any nside; without a
        unit (BUNIT, TUNIT) in the inverse square of the map's. HEALPix maps that have one become a MapSet.
    unit, frame, ordering, nside, out, check
        As in :func:`read_skymaps`; nside is of cut-outs that become a SkyMaps.
    masks : sequence of path or (12 n^2,) bool
        HEALPix masks or images in any projection, 1 where the sky is to be used; what they do not cover is not.
        Arrays are RING, Galactic.

    Returns
    -------
    SkyMaps or MapSet
        In the order of the instrument's bands; of a set, within each group.

    Raises
    ------
    ValueError
        As :func:`read_skymaps`; an inverse variance is negative, exchanged with its map or on other pixels than it; a
        cube is none of Stokes parameters; groups do not overlap.
    OSError
        A file is missing, truncated or no FITS file; the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.io import fits
    >>> axes = {"CTYPE1": "RA---CAR", "CRPIX1": 50, "CDELT1": -1 / 120, "CTYPE2": "DEC--CAR", "CRPIX2": 50}
    >>> header = fits.Header({**axes, "CDELT2": 1 / 120, "BUNIT": "uK"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "f150.fits"
    ...     fits.writeto(file, np.full((100, 100), 30.0, np.float32), header)
    ...     maps = read_maps({"f150": file}, "act-dr6", check=False)  # a constant map would be refused
    >>> [(band.name, band.unit) for band in maps.bands], maps.nside  # of HEALPix pixels no larger than these
    ([('f150', 'K_CMB')], 8192)
    """
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    weights = dict(ivar or {})
    check_band_names(files, setup, all_of_them=False)
    check_stated_units(unit, setup)
    if lonely := [name for name in weights if name not in files]:
        raise ValueError(f"ivar names the band {', '.join(lonely)}, of which no map is given")
    target = check_replaceable(out) if out is not None else None
    names = [name for name in setup.band_names if name in files]
    found = {name: _describe(name, files[name], frame, ordering) for name in names}
    if _is_one_sky(list(found.values())) and not weights:
        check_band_names(files, setup, all_of_them=True)
        maps = [m if isinstance(m, HealpixFile) else read_image(files[name]) for name, m in found.items()]
        side = nside or max(m.nside for m in maps if m is not None)
        keeps = _Masks.read(masks, frame, ordering).of_pixels(side)
        return fill_skymaps(
            [m for m in maps if m is not None], setup, unit=unit, frame=frame, ordering=ordering, nside=nside,
            keeps=keeps, target=target, check=check,
        )  # fmt: skip
    if nside is not None:
        raise ValueError("nside is given for maps that stay on their own grids, expected it for TAN cut-outs only")
    with _scratch(target) as scratch:
        reader = _SetReader(setup, unit, frame, ordering, _Masks.read(masks, frame, ordering), scratch, check)
        groups = [reader.read_group(group, weights) for group in _group(found)]
        maps_read = MapSet.of(*groups)
        if check:
            own = setup.select([setup.band_names.index(band.name) for band in maps_read.bands])
            labels = [found[name].path.name for name in own.band_names]
            units = [stated_unit(unit, name) or found[name].unit or "" for name in own.band_names]
            check_bands(maps_read, own, tuple(units), tuple(labels))
        if target is None:
            return maps_read
        return MapSet.open(maps_read.save(target))


@contextmanager
def _scratch(target: Path | None) -> Iterator[Path | None]:
    """A folder for copies on the disk of the target, gone at the end; None where nothing is to be written."""
    if target is None:
        yield None
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        yield Path(folder)


def _describe(
    name: str, source: MapSource, frame: str | None, ordering: str | None = None, auxiliary: bool = False
) -> SurveyImage | HealpixFile:
    """What the header of a file, or a map in memory, says."""
    if not isinstance(source, str | os.PathLike):
        if hasattr(source, "wcs"):
            return image_of_array(name, source, frame)
        if hasattr(source, "valid_pixels"):
            if ordering == "RING":
                raise ValueError(f"ordering='RING' is given for {name}, a healsparse map, which is NESTED")
            return healpix_of_healsparse(name, source)
        raise TypeError(
            f"the map of {name} is a {type(source).__name__}, expected a file's name, an ndmap of pixell or a map of "
            "healsparse; write it to a FITS file"
        )
    files = list_tiles(source)
    if len(files) > 1:
        tiles = [_describe(name, file, frame, ordering, auxiliary) for file in files]
        images = [tile for tile in tiles if isinstance(tile, SurveyImage)]
        if len(images) < len(tiles):
            raise ValueError(f"'{source}' fits HEALPix maps, expected tiles that are images, or a single file")
        return join_tiles(images)
    source = files[0]
    if is_healsparse(source):
        return _describe(name, _read_healsparse(source), frame, ordering)
    image = describe_image(source, frame, auxiliary)
    if image is not None:
        return image
    return describe_healpix(source, wanted=_IVAR_COLUMNS, auxiliary=True) if auxiliary else describe_healpix(source)


def _read_healsparse(path: str | os.PathLike[str]) -> Any:
    file = parse_part(path).path
    try:
        import healsparse
    except ImportError:
        raise ValueError(
            f"'{file}' is a HealSparse map; install healsparse to read it, or write it out with its "
            "generate_healpix_map() and healpy.write_map"
        ) from None
    return healsparse.HealSparseMap.read(str(file))


def _is_one_sky(maps: Sequence[SurveyImage | HealpixFile]) -> bool:
    """Whether all bands are HEALPix of one coarse resolution, or files of tangential cut-outs with coarse pixels."""
    images = [m for m in maps if isinstance(m, SurveyImage)]
    if not images:
        sides = {m.nside for m in maps if isinstance(m, HealpixFile)}
        return len(sides) == 1 and max(sides) <= _LARGEST_NSIDE
    return len(images) == len(maps) and all(
        m.grid.projection == "TAN" and m.grid.pixel_arcmin >= _COARSE_ARCMIN and m.n_plane == 1 and m.is_file
        for m in images
    )


def _group(
    found: Mapping[str, SurveyImage | HealpixFile],
) -> list[dict[str, Any]]:
    """Bands that share a grid, in the order in which they come."""
    groups: list[dict[str, Any]] = []
    for name, one in found.items():
        for group in groups:
            other = next(iter(group.values()))
            if isinstance(one, HealpixFile) and isinstance(other, HealpixFile) and one.nside == other.nside:
                break
            if isinstance(one, SurveyImage) and isinstance(other, SurveyImage) and is_same_grid(one.grid, other.grid):
                break
        else:
            group = {}
            groups.append(group)
        group[name] = one
    return groups


@dataclass(frozen=True)
class _SetReader:
    """What the groups of a set are read with."""

    instrument: Instrument
    unit: Stated
    frame: str | None
    ordering: str | None
    masks: _Masks
    scratch: Path | None
    check: bool

    def read_group(
        self, group: Mapping[str, SurveyImage] | Mapping[str, HealpixFile], weights: Mapping[str, MapSource]
    ) -> SkyMaps | ImageMaps:
        columns = [self.instrument.band_names.index(name) for name in group]
        setup = self.instrument.select(columns)
        images = {name: one for name, one in group.items() if isinstance(one, SurveyImage)}
        if not images:
            maps = [one for one in group.values() if isinstance(one, HealpixFile)]
            unit = self.unit
            if isinstance(unit, Mapping):
                unit = {name: word for name, word in unit.items() if name in group}
            known = tuple(
                self._read_healpix_ivar(name, one, weights[name], setup, b) if name in weights else None
                for b, (name, one) in enumerate(zip(group, maps, strict=True))
            )
            weighed = [part for part in known if part is not None]
            kept = self.masks.of_pixels(maps[0].nside)

            def keeps(ipix: NDArray[np.int64]) -> NDArray[np.bool_]:
                left = np.ones(len(ipix), bool) if kept is None else kept(ipix)
                return np.asarray(np.all([left, *(part[ipix] > 0.0 for part in weighed)], axis=0))

            on_disk = self.scratch if any(one.is_whole_sky for one in maps) else None
            filled = fill_skymaps(
                maps, setup, unit=unit, frame=self.frame, ordering=self.ordering,
                keeps=None if not weighed and kept is None else keeps,
                target=None if on_disk is None else on_disk / "-".join(group), check=False,
            )  # fmt: skip
            return replace(filled, ivar=known) if weighed else filled
        signal, ivar = [], []
        for b, (name, image) in enumerate(images.items()):
            values, weight = self._read_band(name, image, weights.get(name), setup, b)
            signal.append(values)
            ivar.append(weight)
        grid = next(iter(images.values())).grid
        return ImageMaps(grid, setup.bands, tuple(signal), tuple(ivar), self.masks.on_image(grid, self.scratch))

    def _read_band(
        self, name: str, image: SurveyImage, source: MapSource | None, setup: Instrument, b: int
    ) -> tuple[Pixels, Pixels | None]:
        """Map and inverse variance of a band, in the band's unit and its inverse square."""
        factor = unit_factor(image.path, image.unit, self.unit, setup, b)
        if image.n_plane > 1:
            log.info("'%s': temperature is taken of %d Stokes parameters", image.path.name, image.n_plane)
        loaded = _times(image.load(self.scratch, name), factor)
        if source is None:
            self._check_signal(image, loaded, setup, b)
            return loaded.pixels, None
        weight = _describe(f"{name}, ivar", source, self.frame, auxiliary=True)
        if not isinstance(weight, SurveyImage) or not is_same_grid(weight.grid, image.grid):
            raise ValueError(
                f"the inverse variance '{weight.path}' has {_describe_grid(weight)}, expected the pixels of its map "
                f"'{image.path}', {_describe_grid(image)}; bring it to them"
            )
        given = image.unit if stated_unit(self.unit, name) is None else stated_unit(self.unit, name)
        inverse = _ivar_factor(weight, given or "", factor, setup, b)
        ivar = _times(weight.load(self.scratch, f"{name}-ivar"), inverse)
        if ivar.lowest < 0.0:
            _refuse_negative_ivar(image.path, weight.path, name, ivar.lowest / inverse, loaded.lowest)
        self._check_signal(image, loaded, setup, b)
        return loaded.pixels, ivar.pixels

    def _read_healpix_ivar(
        self, name: str, one: HealpixFile, source: MapSource, setup: Instrument, b: int
    ) -> NDArray[np.float32]:
        """Inverse variance of the pixels of a HEALPix map, (n_pix,) RING, in the inverse square of the band's unit.

        Where it comes at another nside variances go with the inverse area of pixels: those of smaller ones add up.
        """
        weight = _describe(f"{name}, ivar", source, self.frame, self.ordering, auxiliary=True)
        if not isinstance(weight, HealpixFile):
            raise ValueError(
                f"the inverse variance '{weight.path}' has {_describe_grid(weight)}, expected HEALPix pixels as its "
                f"map '{one.path}', {_describe_grid(one)}; bring it to them"
            )
        given = one.unit if stated_unit(self.unit, name) is None else stated_unit(self.unit, name)
        factor = _ivar_factor(weight, given or "", unit_factor(one.path, one.unit, self.unit, setup, b), setup, b)
        # of a part of the sky the memory of its own pixels
        file = self.scratch / f"{name}-ivar.npy" if self.scratch is not None and weight.is_whole_sky else None
        out, lowest = allocate_array(file, (12 * one.nside**2,)), np.inf
        for ipix, values in weight.read_ring_blocks(self.frame, self.ordering):
            known = np.isfinite(values)
            if known.any():
                lowest = min(lowest, float(values[known].min()))
                _add_ivar(out, one.nside, ipix[known], factor * values[known].astype(np.float64), weight.nside)
        if lowest < 0.0:
            blocks = (block[np.isfinite(block)] for _, block in one.read_blocks())
            lowest_of_map = min(float(block.min(initial=np.inf)) for block in blocks)
            _refuse_negative_ivar(one.path, weight.path, name, lowest, lowest_of_map)
        return out

    def _check_signal(self, image: SurveyImage, loaded: LoadedImage, setup: Instrument, b: int) -> None:
        """Refuse a map that is an inverse variance: nowhere negative, and not as bright as a sky with its dipole."""
        band = setup.bands[b]
        if not self.check or band.unit != "K_CMB" or not loaded.lowest >= 0.0 or not np.isfinite(loaded.median):
            return
        low, high = _ALL_POSITIVE_KCMB
        if not low < loaded.median < high:
            raise BandError(
                f"'{image.path}', given as the map of {band.name}, is nowhere negative and {loaded.median:.3g} K_CMB "
                "in the median, as no map of the CMB is: it is an inverse variance or hit map; give the map, or pass "
                "check=False to do without this check"
            )


def _refuse_negative_ivar(path: Path, weight: Path, name: str, lowest: float, lowest_of_map: float) -> None:
    if lowest_of_map >= 0.0:
        raise ValueError(
            f"'{path.name}' and '{weight.name}' are exchanged: the map of {name} is nowhere negative, and its "
            "inverse variance is; give them the other way"
        )
    raise ValueError(
        f"the inverse variance '{weight}' of {name} goes down to {lowest:.3g}, expected 0 where nothing was observed "
        "and more elsewhere; give the map of inverse variance (ivar)"
    )


def _add_ivar(
    out: NDArray[np.float32], nside: int, ipix: NDArray[np.int64], ivar: NDArray[np.float64], from_nside: int
) -> None:
    """Put inverse variances of the pixels of one nside into those of another, RING."""
    if from_nside == nside:
        out[ipix] = ivar
        return
    nested = healpy.ring2nest(from_nside, ipix)
    if from_nside > nside:
        parents = healpy.nest2ring(nside, nested // (from_nside // nside) ** 2)
        into, where = np.unique(parents, return_inverse=True)
        out[into] += np.bincount(where, ivar).astype(np.float32)
        return
    n_child = (nside // from_nside) ** 2
    out[healpy.nest2ring(nside, nested[:, None] * n_child + np.arange(n_child))] = (ivar / n_child)[:, None]


def _times(loaded: LoadedImage, factor: float) -> LoadedImage:
    part = loaded.pixels
    pixels = Pixels(part.values, part.factor * factor, part.file, part.offset)
    return LoadedImage(pixels, loaded.lowest * factor, loaded.highest * factor, loaded.median * factor)


def _describe_grid(one: SurveyImage | HealpixFile) -> str:
    if isinstance(one, HealpixFile):
        return f"HEALPix pixels of nside {one.nside}"
    rows, columns = one.grid.shape
    row, column = one.grid.reference
    return (
        f"{rows} x {columns} pixels of {one.grid.pixel_arcmin:.4g} arcmin in {one.grid.projection}, CRPIX "
        f"({column + 1:g}, {row + 1:g})"
    )


def _ivar_factor(weight: SurveyImage | HealpixFile, map_unit: str, factor: float, setup: Instrument, b: int) -> float:
    """Factor from the unit of an inverse variance to the inverse square of the band's."""
    if weight.unit is None:
        log.info("'%s' states no unit: the inverse square of its map's, %s, is taken", weight.path.name, map_unit)
        return factor**-2
    word = normalise_unit(weight.unit)
    found = re.fullmatch(r"\(?(.+?)\)?\s*(?:\*\*|\^)?\s*\(?-2\)?|1\s*/\s*\(?(.+?)\)?\s*(?:\*\*|\^)?\s*2", word)
    inner = next((text for text in found.groups() if text), "") if found else ""
    kcmb = kcmb_per_unit({"K": "K_CMB", "MK": "MK_CMB", "UK": "UK_CMB"}.get(inner, inner), setup, b)
    if kcmb is None:
        raise ValueError(
            f"'{weight.path}' is in '{weight.unit}', expected an inverse square such as uK^-2 or K^-2; state what is "
            f"right after the name: '{weight.path.name}[BUNIT=uK^-2]'"
        )
    return float((kcmb * setup.unit_per_kcmb[b]) ** -2)


# --- masks -----------------------------------------------------------------------------------------------------


def check_masks(masks: Sequence[str | os.PathLike[str]], frame: str | None, ordering: str | None) -> None:
    """Refuse masks that cannot be read, by their headers alone.

    Raises
    ------
    ValueError, FileNotFoundError
        As :func:`szeek.inputs.masks.find_masks`; an image is no sky.
    """
    find_masks(_sort_masks(masks)[0], frame, ordering)


def _sort_masks(masks: Sequence[str | os.PathLike[str]]) -> tuple[list[Path], list[SurveyImage]]:
    """Files of HEALPix masks, and masks that are images."""
    found = [(Path(mask), describe_image(named_file(Path(mask))[1], auxiliary=True)) for mask in masks]
    return [file for file, image in found if image is None], [image for _, image in found if image is not None]


@dataclass(frozen=True)
class _Masks:
    """HEALPix masks as one, RING and Galactic, and those that are images."""

    healpix: NDArray[np.bool_] | None
    images: tuple[tuple[SurveyImage, Pixels], ...]

    @classmethod
    def read(
        cls, masks: Sequence[str | os.PathLike[str] | NDArray[np.bool_]], frame: str | None, ordering: str | None
    ) -> _Masks:
        arrays = [mask for mask in masks if isinstance(mask, np.ndarray)]
        files, images = _sort_masks([mask for mask in masks if not isinstance(mask, np.ndarray)])
        kept = read_masks(files, frame, ordering)
        arrays += [] if kept is None else [kept]
        pixels = tuple((image, image.load(None, "mask").pixels) for image in images)
        return cls(keep_all(arrays) if arrays else None, pixels)

    def keeps(self, vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether all masks leave these directions, (n, 3): (n,) bool, by the nearest pixel of each."""
        keep = np.ones(len(vectors), bool)
        if self.healpix is not None:
            keep &= self.healpix[healpy.vec2pix(healpy.npix2nside(len(self.healpix)), *vectors.T)]
        return keep & self._keep_images(vectors)

    def _keep_images(self, vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
        keep = np.ones(len(vectors), bool)
        for image, pixels in self.images:
            row, column = image.grid.pixels(vectors)
            column = column % image.grid.period if image.grid.is_full_circle else column
            with np.errstate(invalid="ignore"):
                inside = (row > -0.5) & (row < image.grid.shape[0] - 0.5)
                inside &= (column > -0.5) & (column < image.grid.shape[1] - 0.5)
                i, j = (np.rint(at[inside]).astype(np.int64) for at in (row, column))
                keep[inside] &= pixels.values[i, j] * pixels.factor > 0.5
            keep[~inside] = False
        return keep

    def of_pixels(self, nside: int) -> Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None:
        """Which HEALPix pixels, RING, all of them leave; None without masks."""
        if self.healpix is None and not self.images:
            return None
        keep = None if self.healpix is None else mask_pixels(self.healpix, nside)

        def keeps(ipix: NDArray[np.int64]) -> NDArray[np.bool_]:
            kept = np.ones(len(ipix), bool) if keep is None else keep(ipix)
            if self.images:
                kept[kept] = self._keep_images(np.stack(healpy.pix2vec(nside, ipix[kept]), axis=1))
            return kept

        return keeps

    def on_image(self, grid: Any, scratch: Path | None) -> NDArray[np.bool_] | None:
        """The pixels of an image that all of them leave."""
        if self.healpix is None and not self.images:
            return None
        rows, columns = grid.shape
        keep = np.ones(grid.shape, bool)
        step = max(1, _BLOCK_PIXELS // columns)
        for first in range(0, rows, step):
            row = np.arange(first, min(first + step, rows), dtype=float)
            vectors = grid.directions(row[:, None], np.arange(columns, dtype=float)).reshape(-1, 3)
            sky = np.isfinite(vectors).all(axis=1)
            part = np.zeros(len(vectors), bool)
            part[sky] = self.keeps(vectors[sky])
            keep[first : first + step] = part.reshape(len(row), columns)
        return keep
