"""The one type that all of SZeek works on: several frequency maps of the same sky."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.units import Quantity
from numpy.typing import NDArray

from szeek.files import file_of, whole_file, whole_folder, write_json
from szeek.sky.further import FurtherMap, open_further, save_further
from szeek.sky.healpix import nside_of

#: File beside saved maps that says for which sizes there are S/N maps; it makes them valid.
FILTER_CARD = "filter.json"
#: Elements of an array that are written at once.
_SAVED_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class Band:
    """One frequency band of a map set: name, nominal frequency, beam and brightness unit.

    Examples
    --------
    >>> Band("143", 143.0, 7.3, "K_CMB").unit
    'K_CMB'
    """

    name: str
    freq_ghz: float
    fwhm_arcmin: float
    unit: str  #: 'K_CMB' or 'MJy/sr'


@dataclass(frozen=True)
class SkyMaps:
    """Maps of one sky in several bands, interleaved so that the bands of a pixel share a cache line.

    Always HEALPix RING, Galactic coordinates: bilinear sampling needs the ring neighbours of a
    direction, and a field of constant latitude then reads runs of consecutive pixels.

    Parameters
    ----------
    values : (n_pix, n_band) float32
        Brightness, each band in its own ``unit``; 0 outside the footprint (never NaN), so that a
        small cut-out costs no memory: untouched pages of a zero array do not exist.
    footprint : (n_pix,) bool
        True where every band was observed.
    bands : tuple of Band
        One record per column of ``values``.
    snr : (n_pix, n_size) float32, optional
        S/N of a matched filter, one column per size in ``theta500_arcmin``
        (:func:`szeek.filter.snrmaps.add_snr_maps`).
    theta500_arcmin : tuple of float
    ivar : tuple of ((n_pix,) float32 or None), optional
        Inverse variance of a pixel of each band, where it is known, in unit^-2; used by the filter of a MapSet.
    further : tuple of FurtherMap, optional
        What other light shows there, for networks that see it.

    Examples
    --------
    >>> band = Band("143", 143.0, 7.3, "K_CMB")
    >>> maps = SkyMaps(np.zeros((12 * 16**2, 1), np.float32), np.ones(12 * 16**2, bool), (band,))
    >>> maps.nside, maps.n_band, maps.is_full_sky
    (16, 1, True)
    """

    values: NDArray[np.float32]
    footprint: NDArray[np.bool_]
    bands: tuple[Band, ...]
    snr: NDArray[np.float32] | None = None
    theta500_arcmin: tuple[float, ...] = ()
    ivar: tuple[NDArray[np.float32] | None, ...] = ()
    further: tuple[FurtherMap, ...] = ()

    def __post_init__(self) -> None:
        for name in ("values", "footprint", "snr"):
            array = getattr(self, name)
            if isinstance(array, np.ma.MaskedArray | Quantity):
                raise TypeError(
                    f"{name} is a {type(array).__name__}, whose mask or unit would be lost; expected an array: fill "
                    "it with 0 and leave masked pixels out of the footprint, take .value in the units of the bands"
                )
            if array is not None and not array.dtype.isnative:  # as FITS files are
                object.__setattr__(self, name, array.astype(array.dtype.newbyteorder("=")))
        n_pix = self.values.shape[0]
        if self.values.ndim != 2 or 12 * math.isqrt(n_pix // 12) ** 2 != n_pix:
            raise ValueError(f"values has shape {self.values.shape}, expected (12 nside^2, n_band)")
        if self.values.dtype != np.float32:
            raise TypeError(f"values is {self.values.dtype}, expected float32")
        if self.footprint.shape != (n_pix,) or self.footprint.dtype != np.bool_:
            raise ValueError(f"footprint is {self.footprint.dtype} {self.footprint.shape}, expected bool ({n_pix},)")
        if self.values.shape[1] != len(self.bands):
            raise ValueError(f"values has {self.values.shape[1]} columns for {len(self.bands)} bands")
        shapes = [(n_pix,) if part is None else part.shape for part in self.ivar]
        if self.ivar and shapes != [(n_pix,)] * len(self.bands):
            raise ValueError(f"ivar has the shapes {shapes}, expected ({n_pix},) for each of {len(self.bands)} bands")
        found = None if self.snr is None else self.snr.shape
        if found != ((n_pix, len(self.theta500_arcmin)) if self.theta500_arcmin else None):
            raise ValueError(f"snr has shape {found}, expected one column for each of {self.theta500_arcmin} arcmin")

    def __reduce__(self) -> tuple[Any, ...]:
        """Maps go to another process by the names of the files they are mapped from; what is in memory, whole."""
        return _unpickle, (*map(file_of, (self.values, self.footprint)), self.bands, file_of(self.snr),
                           self.theta500_arcmin, self.further, *map(file_of, self.ivar))  # fmt: skip

    @property
    def nside(self) -> int:
        """HEALPix resolution parameter."""
        return nside_of(self.values)

    @property
    def n_band(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @cached_property
    def is_full_sky(self) -> bool:
        """Whether every pixel was observed; asked once, so that sampling need not look up each pixel."""
        return bool(self.footprint.all())

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the maps to a folder (values.npy, footprint.npy, bands.json; snr.npy, ivar), whole or not at all.

        Raises
        ------
        ValueError
            If it is there and holds anything but saved maps: it would be lost.
        """
        target = check_replaceable(folder)
        with whole_folder(target) as staging:
            _save_array(self.values, staging / "values.npy")
            _save_array(self.footprint, staging / "footprint.npy")
            (staging / "bands.json").write_text(json.dumps([asdict(band) for band in self.bands], indent=1))
            for band, ivar in zip(self.bands, self.ivar, strict=False):
                if ivar is not None:
                    _save_array(ivar, staging / f"ivar-{band.name}.npy")
            self.save_snr(staging)
            save_further(self.further, staging)
        return target

    def save_snr(self, folder: str | os.PathLike[str]) -> None:
        """Add the S/N maps to a folder that holds the maps: snr.npy, and last filter.json, which makes it valid."""
        card = Path(folder) / FILTER_CARD
        card.unlink(missing_ok=True)
        if self.snr is not None:
            with whole_file(card.with_name("snr.npy")) as staging:  # the old one may be what self.snr is mapped from
                _save_array(self.snr, staging)
        write_json({"theta500_arcmin": self.theta500_arcmin}, card)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> SkyMaps:
        """Memory-map the maps that :meth:`save` wrote; nothing is read before it is used."""
        source = Path(folder)
        missing = [n for n in ("values.npy", "footprint.npy", "bands.json") if not (source / n).is_file()]
        if missing:
            raise FileNotFoundError(f"'{source}' is no saved SkyMaps: {', '.join(missing)} not found")
        bands = tuple(Band(**record) for record in json.loads((source / "bands.json").read_text()))
        values, footprint = (np.load(source / name, mmap_mode="r") for name in ("values.npy", "footprint.npy"))
        files = [source / f"ivar-{band.name}.npy" for band in bands]
        ivar = tuple(np.load(file, mmap_mode="r") if file.is_file() else None for file in files)
        known = ivar if any(part is not None for part in ivar) else ()
        maps = cls(values, footprint, bands, ivar=known, further=open_further(source))
        card = source / FILTER_CARD
        sizes = tuple(json.loads(card.read_text())["theta500_arcmin"]) if card.is_file() else ()
        if not sizes:
            return maps
        return replace(maps, snr=np.load(source / "snr.npy", mmap_mode="r"), theta500_arcmin=sizes)


def _save_array(array: NDArray[Any], path: Path) -> None:
    """numpy.save without blocks of zeros, which take no space on the disk: a small cut-out is a small file."""
    whole = np.ascontiguousarray(array)
    flat = whole.reshape(-1)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        for first in range(0, flat.size, _SAVED_AT_ONCE):
            block = flat[first : first + _SAVED_AT_ONCE]
            if block.any():
                file.write(block.tobytes())
            else:
                file.seek(block.nbytes, os.SEEK_CUR)
        file.truncate()


def _unpickle(*parts: Any) -> SkyMaps:
    values, footprint, bands, snr, sizes, further, *ivar = (
        np.load(part, mmap_mode="r") if isinstance(part, Path) else part for part in parts
    )
    return SkyMaps(values, footprint, bands, snr, sizes, tuple(ivar), further)


def check_replaceable(folder: str | os.PathLike[str]) -> Path:
    """The folder as a path, if maps may be written there: it is new, empty, or holds saved maps.

    Raises
    ------
    ValueError
        If it is a file, or a folder of other things.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise ValueError(f"'{target}' is a file, expected a folder for the maps; give another")
    saved = any((target / card).is_file() for card in ("bands.json", "maps.json"))
    others = target.is_dir() and any(target.iterdir()) and not saved
    if others:
        raise ValueError(f"'{target}' holds other files, which saved maps would replace; give a new or empty folder")
    return target
