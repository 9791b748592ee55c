"""Maps of several grids that are searched together: groups of bands, each sampled where it is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from numpy.typing import NDArray

from szeek.files import whole_file, whole_folder, write_json
from szeek.sky.further import FurtherMap, open_further, save_further
from szeek.sky.grids import ImageGrid
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.partial import PartialMap
from szeek.sky.skymaps import FILTER_CARD, Band, SkyMaps, check_replaceable

#: Resolution at which it is kept where each band was observed: 13.7 arcmin; and of the points that tell.
COVERAGE_NSIDE = 256
_PROBE_NSIDE = 1024
#: Cells that are looked into or not: 55 arcmin.
_COARSE_NSIDE = 64
#: Finest maps of p: 0.43 arcmin.
_MAX_ORDER = 13


@dataclass(frozen=True)
class MapSet:
    """Groups of bands, each on a grid of its own.

    What SZeek makes of them is HEALPix RING, Galactic, of :attr:`nside`; the maps themselves are never resampled but
    where they are looked at.

    Parameters
    ----------
    groups : tuple of SkyMaps or ImageMaps
        Bands that come and go together.
    coverage : (12 COVERAGE_NSIDE^2, n_band) bool
        RING: where each band was observed somewhere (:func:`measure_coverage`).
    snr : PartialMap, optional
        S/N of a matched filter, one column per size in ``theta500_arcmin``.
    theta500_arcmin : tuple of float
    further : tuple of FurtherMap, optional
        What other light shows there, for networks that see it.

    Examples
    --------
    >>> from szeek.sky.skymaps import Band
    >>> maps = SkyMaps(np.zeros((192, 1), np.float32), np.ones(192, bool), (Band("143", 143.0, 7.3, "K_CMB"),))
    >>> MapSet((maps,), np.ones((12 * COVERAGE_NSIDE**2, 1), bool)).n_band
    1
    """

    groups: tuple[SkyMaps | ImageMaps, ...]
    coverage: NDArray[np.bool_]
    snr: PartialMap | None = None
    theta500_arcmin: tuple[float, ...] = ()
    further: tuple[FurtherMap, ...] = ()

    def __post_init__(self) -> None:
        names = [band.name for band in self.bands]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"band {', '.join(twice)} is in more than one group, expected each once")
        if self.coverage.shape != (12 * COVERAGE_NSIDE**2, len(names)):
            raise ValueError(
                f"coverage has shape {self.coverage.shape}, expected {(12 * COVERAGE_NSIDE**2, len(names))}"
            )

    @classmethod
    def of(cls, *groups: SkyMaps | ImageMaps) -> MapSet:
        """The set of these groups.

        Raises
        ------
        ValueError
            If two groups have a band of the same name, or groups do not overlap anywhere.
        """
        coverage = np.concatenate([measure_coverage(group) for group in groups], axis=1)
        out = cls(groups, coverage)
        seen = [coverage[:, columns].any(axis=1) for columns in out.columns]
        for number, group in enumerate(groups):
            names = ", ".join(band.name for band in group.bands)
            if not seen[number].any():
                raise ValueError(f"no pixel of {names} is observed")
            others = [other for k, other in enumerate(seen) if k != number]
            if others and not (seen[number] & np.any(others, axis=0)).any():
                raise ValueError(f"{names} overlap with none of the other bands, expected maps of the same sky")
        return out

    @property
    def bands(self) -> tuple[Band, ...]:
        """Of all groups, in order."""
        return tuple(band for group in self.groups for band in group.bands)

    @property
    def n_band(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @property
    def columns(self) -> list[NDArray[np.int64]]:
        """Numbers of the bands of each group."""
        ends = np.cumsum([group.n_band for group in self.groups])
        return [np.arange(end - group.n_band, end) for end, group in zip(ends, self.groups, strict=True)]

    @property
    def pixel_arcmin(self) -> float:
        """Of the finest group."""
        return min(
            float(healpy.nside2resol(group.nside, arcmin=True)) if isinstance(group, SkyMaps) else group.pixel_arcmin
            for group in self.groups
        )

    @property
    def nside(self) -> int:
        """HEALPix resolution of what is made of the maps: the one nearest to the finest group's pixels."""
        order = np.log2(healpy.nside2resol(1, arcmin=True) / self.pixel_arcmin)
        return int(1 << int(np.clip(np.rint(order), 0, _MAX_ORDER)))

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Where any group has all of its bands, (12 COVERAGE_NSIDE^2,) bool, RING."""
        return np.asarray(np.any([self.coverage[:, columns].all(axis=1) for columns in self.columns], axis=0))

    def sees(self, vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether any group has all of its bands at these directions, (n, 3): (n,) bool."""
        known = np.isfinite(nearest(self, vectors))
        return np.asarray(np.any([known[:, columns].all(axis=1) for columns in self.columns], axis=0))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write what is needed to open the maps again: HEALPix maps themselves, and where those of images are.

        Raises
        ------
        ValueError
            If the folder is there and holds anything but saved maps: it would be lost.
        """
        target = check_replaceable(folder)
        with whole_folder(target) as staging:
            records: list[dict[str, Any]] = []
            for number, group in enumerate(self.groups):
                if isinstance(group, SkyMaps):
                    group.save(staging / f"group-{number}")
                    records.append({"kind": "healpix"})
                    continue
                if group.keep is not None:
                    np.save(staging / f"keep-{number}.npy", group.keep)
                signal, ivar = [], []
                for band, values, weight in zip(group.bands, group.signal, group.ivar, strict=True):
                    signal.append(_store(values, staging, f"{number}-{band.name}"))
                    ivar.append(None if weight is None else _store(weight, staging, f"{number}-{band.name}-ivar"))
                stored = replace(group, signal=tuple(signal), ivar=tuple(ivar))
                records.append({"kind": "image", "keep": group.keep is not None, **stored.to_dict()})
            np.save(staging / "coverage.npy", self.coverage)
            write_json({"groups": records}, staging / "maps.json")
            self.save_snr(staging)
            save_further(self.further, staging)
        return target

    def save_snr(self, folder: str | os.PathLike[str]) -> None:
        """Add the S/N maps to a folder that holds the maps; filter.json comes last and makes them valid."""
        card = Path(folder) / FILTER_CARD
        card.unlink(missing_ok=True)
        if self.snr is not None:
            for name, array in (("snr.npy", self.snr.values), ("snr-runs.npy", self.snr.runs)):
                with whole_file(card.with_name(name)) as staging:
                    np.save(staging, array)
        write_json({"theta500_arcmin": self.theta500_arcmin}, card)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> MapSet:
        """Memory-map the maps that :meth:`save` wrote; nothing is read before it is used."""
        source = Path(folder)
        if not (source / "maps.json").is_file():
            raise FileNotFoundError(f"'{source}' holds no saved maps: maps.json not found")
        groups: list[SkyMaps | ImageMaps] = []
        for number, record in enumerate(json.loads((source / "maps.json").read_text())["groups"]):
            if record["kind"] == "healpix":
                groups.append(SkyMaps.open(source / f"group-{number}"))
            else:
                keep = np.load(source / f"keep-{number}.npy", mmap_mode="r") if record["keep"] else None
                groups.append(ImageMaps.from_dict(record, source, keep))
        maps = cls(tuple(groups), np.load(source / "coverage.npy"), further=open_further(source))
        card = source / FILTER_CARD
        sizes = tuple(json.loads(card.read_text())["theta500_arcmin"]) if card.is_file() else ()
        if not sizes:
            return maps
        runs, values = np.load(source / "snr-runs.npy"), np.load(source / "snr.npy", mmap_mode="r")
        return replace(maps, snr=PartialMap(maps.nside, runs, values), theta500_arcmin=sizes)


def _store(part: Pixels, folder: Path, name: str) -> Pixels:
    """Pixels that are in a file: their own, or a new one in the folder."""
    if part.file is not None and part.file.is_absolute():
        return part
    path = folder / f"{name}.npy"
    with path.open("wb") as file:
        array = np.asarray(part.values)
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        offset = file.tell()
        array.tofile(file)
    return Pixels(part.values, part.factor, Path(path.name), offset)


def measure_coverage(group: SkyMaps | ImageMaps) -> NDArray[np.bool_]:
    """Where each band of a group was observed somewhere: (12 COVERAGE_NSIDE^2, n_band) bool, RING.

    Looked at in 16 points of each cell.
    """
    n_probe = (_PROBE_NSIDE // COVERAGE_NSIDE) ** 2
    if isinstance(group, SkyMaps) and group.nside < COVERAGE_NSIDE:
        cells = np.stack(healpy.pix2vec(COVERAGE_NSIDE, np.arange(12 * COVERAGE_NSIDE**2)), axis=1)
        seen = group.footprint[healpy.vec2pix(group.nside, *cells.T)]
        return np.broadcast_to(seen[:, None], (len(seen), group.n_band)).copy()
    if isinstance(group, SkyMaps) and group.nside <= _PROBE_NSIDE:
        nested = group.footprint[healpy.nest2ring(group.nside, np.arange(len(group.footprint)))]
        seen = nested.reshape(12 * COVERAGE_NSIDE**2, -1).any(axis=1)
        seen = seen[healpy.ring2nest(COVERAGE_NSIDE, np.arange(len(seen)))]
        return np.broadcast_to(seen[:, None], (len(seen), group.n_band)).copy()
    out = np.zeros((12 * COVERAGE_NSIDE**2, group.n_band), bool)
    whole = np.arange(12 * _COARSE_NSIDE**2)
    coarse = whole if isinstance(group, SkyMaps) else whole[_may_touch(group.grid)]
    n_cell = (COVERAGE_NSIDE // _COARSE_NSIDE) ** 2
    block = (1 << 15) // n_cell
    for first in range(0, len(coarse), block):
        cells = (coarse[first : first + block, None] * n_cell + np.arange(n_cell)).ravel()
        nested = (cells[:, None] * n_probe + np.arange(n_probe)).ravel()
        vectors = np.stack(healpy.pix2vec(_PROBE_NSIDE, nested, nest=True), axis=1)
        if isinstance(group, SkyMaps):
            seen = np.repeat(group.footprint[healpy.vec2pix(group.nside, *vectors.T)][:, None], group.n_band, axis=1)
        else:
            seen = np.isfinite(group.nearest(vectors))
        out[healpy.nest2ring(COVERAGE_NSIDE, cells)] = seen.reshape(len(cells), n_probe, -1).any(axis=1)
    return out


def _may_touch(grid: ImageGrid) -> NDArray[np.bool_]:
    """Which cells of _COARSE_NSIDE, NESTED, an image may reach into: not those far beyond its sides."""
    cells = np.arange(12 * _COARSE_NSIDE**2)
    corners = np.moveaxis(healpy.boundaries(_COARSE_NSIDE, cells, step=1, nest=True), 1, 2)
    touches = np.ones(len(cells), bool)
    for at, n in zip(grid.pixels(corners), grid.shape, strict=True):
        seen = np.isfinite(at).any(axis=1)
        low, high = (np.where(seen, end(np.where(np.isfinite(at), at, fill), axis=1), 0.0)
                     for end, fill in ((np.min, np.inf), (np.max, -np.inf)))  # fmt: skip
        touches &= seen & (low - (high - low) - 2 < n) & (high + (high - low) + 2 > 0)
    return touches


def open_maps(folder: str | os.PathLike[str]) -> SkyMaps | MapSet:
    """Memory-map saved maps of either kind.

    Examples
    --------
    >>> import tempfile
    >>> from szeek.sky.skymaps import Band
    >>> maps = SkyMaps(np.zeros((192, 1), np.float32), np.ones(192, bool), (Band("143", 143.0, 7.3, "K_CMB"),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     open_maps(maps.save(f"{folder}/maps")).nside
    4
    """
    return MapSet.open(folder) if (Path(folder) / "maps.json").is_file() else SkyMaps.open(folder)


def nearest(maps: SkyMaps | MapSet, vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """The nearest pixels' values in every band: (n, n_band) float32, NaN where a band was not observed.

    Parameters
    ----------
    maps : SkyMaps or MapSet
    vectors : (n, 3) float64
        Galactic, anywhere on the sky.
    """
    if isinstance(maps, MapSet):
        return np.concatenate(
            [g.nearest(vectors) if isinstance(g, ImageMaps) else nearest(g, vectors) for g in maps.groups], axis=1
        )
    ipix = healpy.vec2pix(maps.nside, *vectors.T)
    values: NDArray[np.float32] = maps.values[ipix]
    values[~maps.footprint[ipix]] = np.nan
    return values


def draw_seen(maps: MapSet, n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """About n random directions where a group was observed, fewer at the borders: (m, 3), and values (m, n_band)."""
    rng = np.random.default_rng(seed)
    cells = healpy.ring2nest(COVERAGE_NSIDE, np.flatnonzero(maps.seen))
    n_child = (maps.nside // COVERAGE_NSIDE) ** 2 if maps.nside > COVERAGE_NSIDE else 1
    nested = rng.choice(cells, n) * n_child + rng.integers(0, n_child, n)
    vectors = np.stack(healpy.pix2vec(max(maps.nside, COVERAGE_NSIDE), nested, nest=True), axis=1)
    values = nearest(maps, vectors)
    seen = np.any([np.isfinite(values[:, columns]).all(axis=1) for columns in maps.columns], axis=0)
    return vectors[seen], values[seen]


def sees(maps: SkyMaps | MapSet, vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether all bands of any group were observed at directions (n, 3), (n,) bool."""
    if isinstance(maps, MapSet):
        return maps.sees(vectors)
    return np.asarray(maps.footprint[healpy.vec2pix(maps.nside, *vectors.T)])
