"""From brightness to what the network sees.

Two inputs exist. The paper's: each band minus the mean, over the sigma, of a Gaussian fitted to the left
side of its pixel histogram. Ours: each band minus a local median (1.8 deg), the bands rotated so that
they are uncorrelated with unit variance (whitened), and compressed by asinh. In the whitened space the CMB
is one direction and dust another, and what is left over is where the tSZ effect stands out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import healpy
import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from torch import Tensor

from szeek.sky.further import N_COLUMN, Kind
from szeek.sky.mapset import COVERAGE_NSIDE, MapSet, nearest
from szeek.sky.skymaps import SkyMaps


@dataclass(frozen=True)
class Normaliser:
    """Affine map of the bands, then asinh if ``stretch``; outside the footprint (NaN) becomes 0.

    Parameters
    ----------
    kind : {'left-gaussian', 'local-whitened'}
    offset : (n_band,) float32
        Subtracted, in map units.
    matrix : (n_band, n_band) float32
        Applied to what is left.
    background_nside : int
        Nside of the cells whose median is subtracted first; 0 for none.
    theta500_arcmin : tuple of float
        Sizes of the matched-filter S/N maps that follow the bands; only compressed.
    groups : tuple of int
        Numbers of bands that come and go together, where there are several such groups: each is 0 where one of its
        bands was not observed, and the network is told by a channel of its own, 1 where it was.
    further : tuple of (str, kind)
        Names and kinds of the maps in other light that follow (:class:`szeek.sky.further.FurtherMap`); each only
        compressed, 0 where it was not observed, and told of by a channel as well.

    Examples
    --------
    >>> normaliser = Normaliser("left-gaussian", np.zeros(6, np.float32), np.eye(6, dtype=np.float32))
    >>> normaliser.theta500_arcmin
    ()
    """

    kind: Literal["left-gaussian", "local-whitened"]
    offset: NDArray[np.float32]
    matrix: NDArray[np.float32]
    background_nside: int = 0
    theta500_arcmin: tuple[float, ...] = ()
    groups: tuple[int, ...] = ()
    further: tuple[tuple[str, Kind], ...] = ()

    @property
    def n_input(self) -> int:
        """Number of bands, S/N maps and columns of further maps."""
        return len(self.offset) + len(self.theta500_arcmin) + sum(N_COLUMN[kind] for _, kind in self.further)

    @property
    def n_channel(self) -> int:
        """Number of these, and of groups and further maps to be told of."""
        return self.n_input + len(self.groups) + len(self.further)

    def sees(self, field: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where any group was observed, of a field (ny, nx, n_input): (ny, nx)."""
        out = np.zeros(field.shape[:2], bool)
        for bands in self._columns():
            out |= ~np.isnan(field[..., bands]).any(axis=-1)
        return out

    def _columns(self) -> list[slice]:
        sizes = self.groups or (len(self.offset),)
        return [slice(sum(sizes[:k]), sum(sizes[: k + 1])) for k in range(len(sizes))]

    def __call__(self, fields: NDArray[np.float32]) -> Tensor:
        """Fields (n, ny, nx, n_input), minus background where there is one -> network input.

        Returns
        -------
        (n, n_channel, ny, nx) float32 tensor, channels last in memory
        """
        x = np.empty((*fields.shape[:3], self.n_channel), np.float32)
        for field, out in zip(fields, x, strict=True):
            self.write(field, out)
        return torch.from_numpy(x).permute(0, 3, 1, 2)

    def write(self, field: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Network input of one field (ny, nx, n_input) into ``out``, which has the channels that tell too."""
        if field.shape[-1] != self.n_input:
            beside = f" and {', '.join(name for name, _ in self.further)}" if self.further else ""
            raise ValueError(
                f"fields have {field.shape[-1]} channels, expected {len(self.offset)} bands and S/N maps for the "
                f"sizes {self.theta500_arcmin} arcmin{beside}"
            )
        if self.further:
            self._write_further(field, out)
            return
        if self.groups:
            self._write_groups(field, out)
            return
        _normalise(
            np.ascontiguousarray(field).reshape(-1, self.n_channel),
            self.offset,
            self.matrix,
            self.kind == "local-whitened",
            out.reshape(-1, self.n_channel),
        )

    def _write_further(self, field: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """The bands as without further maps, then each of these and whether it was observed."""
        bands = replace(self, further=())
        written = np.empty((*field.shape[:2], bands.n_channel), np.float32)
        bands.write(field[..., : bands.n_input], written)
        out[..., : bands.n_channel] = written
        first, to = bands.n_input, bands.n_channel
        for _, kind in self.further:
            values = field[..., first : first + N_COLUMN[kind]]
            seen = ~np.any(np.isnan(values), axis=-1, keepdims=True)
            out[..., to : to + N_COLUMN[kind]] = np.where(seen, np.arcsinh(values), 0.0)
            out[..., to + N_COLUMN[kind]] = seen[..., 0]
            first, to = first + N_COLUMN[kind], to + N_COLUMN[kind] + 1

    def _write_groups(self, field: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Each group by itself, what tells of them, and the S/N, which needs any of them."""
        n_band, stretch = len(self.offset), self.kind == "local-whitened"
        for number, bands in enumerate(self._columns()):
            part = np.ascontiguousarray(field[..., bands]).reshape(-1, bands.stop - bands.start)
            written, matrix = np.empty_like(part), np.ascontiguousarray(self.matrix[bands, bands])
            _normalise(part, self.offset[bands], matrix, stretch, written)
            out[..., bands] = written.reshape(*field.shape[:2], -1)
            out[..., n_band + number] = ~np.isnan(field[..., bands]).any(axis=-1)
        snr = np.arcsinh(field[..., n_band:])
        out[..., n_band + len(self.groups) :] = np.where(self.sees(field)[..., None] & ~np.isnan(snr), snr, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for the model card."""
        return {
            "kind": self.kind,
            "offset": self.offset.tolist(),
            "matrix": self.matrix.tolist(),
            "background_nside": self.background_nside,
            "theta500_arcmin": list(self.theta500_arcmin),
            **({"groups": list(self.groups)} if self.groups else {}),
            **({"further": [list(one) for one in self.further]} if self.further else {}),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Normaliser:
        """Inverse of :meth:`to_dict`."""
        return cls(
            record["kind"],
            np.array(record["offset"], np.float32),
            np.array(record["matrix"], np.float32),
            record["background_nside"],
            tuple(record.get("theta500_arcmin", ())),
            tuple(record.get("groups", ())),
            tuple((name, kind) for name, kind in record.get("further", ())),
        )


#: Pixels that are normalised together: loops over them become vector instructions, and they stay in the first cache.
_TOGETHER = 64


@njit(cache=True, nogil=True, inline="always")
def _asinh(y):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    size = np.log(abs(y) + np.sqrt(y * y + np.float32(1.0)))
    return size if y > np.float32(0.0) else -size


@njit(cache=True, nogil=True)
def _normalise(values, offset, matrix, stretch, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """All of it in one pass: as matrix product and asinh of PyTorch it took 11 % of a training step."""
    n_band, zero = offset.size, np.float32(0.0)
    x, y = np.zeros((n_band, _TOGETHER), np.float32), np.empty(_TOGETHER, np.float32)
    unseen = np.empty(_TOGETHER, np.bool_)
    for first in range(0, values.shape[0], _TOGETHER):
        n = min(_TOGETHER, values.shape[0] - first)
        # loops over all of _TOGETHER, whose number the compiler knows; views, whose indices it knows not negative
        block, target = values[first : first + n], out[first : first + n]
        unseen[:] = False
        for b in range(n_band):
            band = x[b]
            for k in range(n):
                band[k] = block[k, b] - offset[b]
            for k in range(_TOGETHER):
                unseen[k] |= band[k] != band[k]
        for a in range(n_band):
            y[:] = zero
            for b in range(n_band):
                band, factor = x[b], matrix[a, b]
                for k in range(_TOGETHER):
                    y[k] += factor * band[k]
            if stretch:
                for k in range(_TOGETHER):
                    y[k] = _asinh(y[k])
            for k in range(n):
                target[k, a] = zero if unseen[k] else y[k]
        for a in range(n_band, values.shape[1]):
            for k in range(n):
                y[k] = _asinh(block[k, a])
            for k in range(n):
                target[k, a] = zero if unseen[k] or np.isnan(y[k]) else y[k]


def fit_left_gaussian(values: NDArray[np.float32], n_bins: int = 400) -> tuple[float, float]:
    """Mean and sigma of a Gaussian fitted to the left side of a histogram, up to its mode.

    Source: Bonjean (2020), Sect. 3.1, Fig. 2: the right side holds dust and sources, the left does not.

    Parameters
    ----------
    values : (n,) float32
        Pixel values of one band, without NaN.

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(2.0, 0.5, 200_000).astype(np.float32)
    >>> mean, sigma = fit_left_gaussian(np.concatenate([x, np.linspace(4, 40, 20_000, dtype=np.float32)]))
    >>> abs(mean - 2.0) < 0.03 and abs(sigma - 0.5) < 0.03
    True
    """
    low, median = np.percentile(values, [0.1, 50])
    if not median > low:
        raise ValueError(f"values have no spread: 0.1 % and 50 % quantiles are both {median:g}")
    # Bins fine enough for the narrow core of a band with bright dust, reaching as far right as left
    counts, edges = np.histogram(values, bins=n_bins, range=(low, 2 * median - low))
    centres = 0.5 * (edges[1:] + edges[:-1])
    width = edges[1] - edges[0]
    mode = int(np.argmax(np.convolve(counts, np.ones(9) / 9, mode="same")))
    left = slice(0, max(mode + 1, 8))
    start = (float(counts[mode]), 0.0, 0.7 * (centres[mode] - low) / width / 2 + 2)
    shape, _ = curve_fit(
        lambda x, height, mean, sigma: height * np.exp(-0.5 * ((x - mean) / sigma) ** 2),
        (centres[left] - centres[mode]) / width,
        counts[left],
        p0=start,
        sigma=np.sqrt(counts[left] + 1.0),
        maxfev=10_000,
    )
    return float(centres[mode] + shape[1] * width), float(abs(shape[2]) * width)


def local_background(maps: SkyMaps | MapSet, nside: int) -> NDArray[np.float32]:
    """Median of each band in the HEALPix cells of a coarser nside: (12 nside^2, n_band) float32, RING.

    Cells without a seen pixel take the median of the seen cells around them, so that interpolation at
    the edge of a footprint never meets an undefined value. One pixel in four is used: beams are wider.
    """
    fine = maps.nside
    if nside >= fine or fine % nside:
        raise ValueError(f"background nside {nside} must be a proper divisor of the maps' nside {fine}")
    n_fine = (fine // nside) ** 2
    step = 4 if n_fine >= 1024 else 1
    background = np.full((12 * nside * nside, maps.n_band), np.nan, np.float32)
    if isinstance(maps, MapSet):
        _set_background(maps, nside, background)
        return background
    cells_ring = healpy.nest2ring(nside, np.arange(12 * nside * nside))
    block = max(1, 2**19 // n_fine)
    for first in range(0, len(background), block):
        cells = np.arange(first, min(first + block, len(background)))
        nested = (cells[:, None] * n_fine + np.arange(0, n_fine, step)[None, :]).ravel()
        pixels = healpy.nest2ring(fine, nested)
        seen = maps.footprint[pixels].reshape(len(cells), -1)
        if not seen.any():
            continue
        values = maps.values[pixels].reshape(len(cells), -1, maps.n_band)
        whole = seen.all(axis=1)
        background[cells_ring[cells[whole]]] = np.median(values[whole], axis=1)
        for k in np.flatnonzero(~whole & (seen.sum(axis=1) >= 8)):
            background[cells_ring[cells[k]]] = np.median(values[k, seen[k]], axis=0)
    _fill_around(background, nside)
    return background


#: Points of a cell from which the median of a set of maps is taken, about.
_PROBES = 8192


def _set_background(maps: MapSet, nside: int, background: NDArray[np.float32]) -> None:
    """The same of a set of maps, whose bands are seen in parts of the sky of their own."""
    n_fine = (maps.nside // nside) ** 2
    step = max(1, n_fine // _PROBES)
    nested = np.flatnonzero(_any_child(np.asarray(maps.coverage.any(axis=1)), nside))
    for cell in nested:
        children = cell * n_fine + np.arange(0, n_fine, step)
        values = nearest(maps, np.stack(healpy.pix2vec(maps.nside, children, nest=True), axis=1))
        ring = healpy.nest2ring(nside, cell)
        for band in np.flatnonzero(np.isfinite(values).sum(axis=0) >= 8):
            background[ring, band] = np.median(values[np.isfinite(values[:, band]), band])
    _fill_around(background, nside)


def _any_child(coverage: NDArray[np.bool_], nside: int) -> NDArray[np.bool_]:
    """Which cells of a coarser nside, NESTED, have a covered one (RING) in them."""
    fine = healpy.reorder(coverage.astype(np.uint8), r2n=True)
    return np.asarray(fine.reshape(12 * nside**2, -1).any(axis=1))


def _fill_around(background: NDArray[np.float32], nside: int) -> None:
    """Two rings of neighbours around the seen cells take their mean, band by band; the rest becomes 0."""
    for band in background.T:
        for _ in range(2):
            empty = np.flatnonzero(np.isnan(band))
            if not len(empty):
                break
            neighbours = healpy.get_all_neighbours(nside, empty)
            around = np.where(neighbours >= 0, band[neighbours], np.nan)
            count = np.isfinite(around).sum(axis=0)
            total = np.nansum(around, axis=0)
            band[empty] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    np.nan_to_num(background, copy=False, nan=0.0)


def fit_normaliser(
    maps: SkyMaps | MapSet,
    kind: Literal["left-gaussian", "local-whitened"] = "left-gaussian",
    *,
    use: NDArray[np.bool_] | None = None,
    background_nside: int = 32,
    background: NDArray[np.float32] | None = None,
) -> Normaliser:
    """Fit the normalisation to the maps' own pixels.

    Source: Bonjean (2020), Sect. 3.1 for 'left-gaussian'.

    Parameters
    ----------
    maps : SkyMaps or MapSet
        The groups of a set are whitened each by itself.
    kind : {'left-gaussian', 'local-whitened'}
    use : (n_pix,) bool, optional
        Pixels to fit to (the training tiles); all of the footprint by default. Of a set: cells of its coverage.
    background_nside : int
        Cells of the local median, 'local-whitened' only.
    background : (12 background_nside^2, n_band) float32, optional
        From :func:`local_background`, if it is there already.

    Raises
    ------
    ValueError
        If fewer than 1000 pixels are left to fit to, or a band is constant.

    Examples
    --------
    >>> from szeek.sky.skymaps import Band
    >>> noise = np.random.default_rng(1).normal(2.0, 3.0, (12 * 32**2, 1)).astype(np.float32)
    >>> maps = SkyMaps(noise, np.ones(len(noise), bool), (Band("143", 143.0, 7.3, "K_CMB"),))
    >>> normaliser = fit_normaliser(maps)
    >>> float(normaliser.offset[0].round()), float((1 / normaliser.matrix[0, 0]).round())
    (2.0, 3.0)
    """
    if isinstance(maps, MapSet):
        return _fit_groups(maps, kind, use, background_nside, background)
    usable = maps.footprint if use is None else maps.footprint & use
    pixels = np.flatnonzero(usable)
    if len(pixels) < 1000:
        raise ValueError(f"{len(pixels)} pixels to fit the normalisation to, expected at least 1000")
    pixels = pixels[:: max(1, len(pixels) // 3_000_000)]
    n_band = maps.n_band
    if kind == "left-gaussian":
        values = maps.values[pixels]
        fits = [fit_left_gaussian(values[:, b]) for b in range(n_band)]
        offset = np.array([mean for mean, _ in fits], np.float32)
        return Normaliser(
            kind, offset, np.diag([1 / sigma for _, sigma in fits]).astype(np.float32), 0, maps.theta500_arcmin
        )
    if background is None:
        background = local_background(maps, background_nside)
    cell = healpy.vec2pix(background_nside, *healpy.pix2vec(maps.nside, pixels))
    values = (maps.values[pixels] - background[cell]).astype(np.float64)
    matrix = _whiten(values, cell, [band.name for band in maps.bands])
    return Normaliser(
        kind, np.zeros(n_band, np.float32), matrix.astype(np.float32), background_nside, maps.theta500_arcmin
    )


def _fit_groups(
    maps: MapSet,
    kind: Literal["left-gaussian", "local-whitened"],
    use: NDArray[np.bool_] | None,
    background_nside: int,
    background: NDArray[np.float32] | None,
) -> Normaliser:
    """Each group by itself, from up to 3 million points."""
    if background is None and kind == "local-whitened":
        background = local_background(maps, background_nside)
    cells = np.flatnonzero(maps.coverage.any(axis=1) if use is None else maps.coverage.any(axis=1) & use)
    per_cell = 1 << max(0, int(np.log2(3_000_000 / max(1, len(cells))) // 2 * 2))  # a power of 4
    per_cell = min(per_cell, (maps.nside // COVERAGE_NSIDE) ** 2) if maps.nside > COVERAGE_NSIDE else 1
    nside = COVERAGE_NSIDE * math.isqrt(per_cell)
    nested = healpy.ring2nest(COVERAGE_NSIDE, cells)[:, None] * per_cell + np.arange(per_cell)
    vectors = np.stack(healpy.pix2vec(nside, nested.ravel(), nest=True), axis=1)
    values = nearest(maps, vectors)
    offset, matrix = np.zeros(maps.n_band, np.float32), np.zeros((maps.n_band, maps.n_band), np.float32)
    for columns, group in zip(maps.columns, maps.groups, strict=True):
        seen = np.isfinite(values[:, columns]).all(axis=1)
        names = [band.name for band in group.bands]
        if seen.sum() < 1000:
            raise ValueError(
                f"{seen.sum()} points of {', '.join(names)} to fit the normalisation to, expected at least 1000"
            )
        mine = values[np.ix_(seen, columns)]
        if background is None:
            fits = [fit_left_gaussian(band) for band in mine.T]
            offset[columns], matrix[columns, columns] = zip(*((mean, 1 / sigma) for mean, sigma in fits), strict=True)
            continue
        cell = healpy.vec2pix(background_nside, *vectors[seen].T)
        apart = (mine - background[np.ix_(cell, columns)]).astype(np.float64)
        matrix[np.ix_(columns, columns)] = _whiten(apart, cell, names)
    groups = tuple(group.n_band for group in maps.groups) if len(maps.groups) > 1 else ()
    background_nside = background_nside if kind == "local-whitened" else 0
    return Normaliser(kind, offset, matrix, background_nside, maps.theta500_arcmin, groups)


def _whiten(values: NDArray[np.float64], cell: NDArray[np.int64], names: list[str]) -> NDArray[np.float64]:
    """Matrix that makes bands uncorrelated with unit variance, (n_band, n_band)."""
    covariance = _clean_sky_covariance(values, cell, names)
    power, axes = np.linalg.eigh(covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance))))
    scale = 1 / np.sqrt(np.diag(covariance))
    matrix: NDArray[np.float64] = (axes / np.sqrt(power)).T * scale
    # an eigenvector's sign is arbitrary: the largest entry is made positive, so that equal maps give equal inputs
    matrix *= np.sign(matrix[np.arange(len(names)), np.abs(matrix / scale).argmax(axis=1)])[:, None]
    return matrix


def _clean_sky_covariance(
    values: NDArray[np.float64], cell: NDArray[np.int64], names: list[str]
) -> NDArray[np.float64]:
    """Covariance of the background-subtracted bands over the quieter half of the cells.

    The dustiest cells would otherwise decide it alone: the variance at 857 GHz spans four decades.
    """
    order = np.argsort(cell, kind="stable")
    values, cell = values[order], cell[order]
    _, starts = np.unique(cell, return_index=True)
    counts = np.diff(np.append(starts, len(cell)))
    products = np.einsum("pi,pj->pij", values, values).reshape(len(values), -1)
    per_cell = np.add.reduceat(products, starts) / counts[:, None]
    per_cell = per_cell[counts >= 16] if (counts >= 16).any() else per_cell
    n_band = len(names)
    loudness = per_cell[:, n_band * n_band - 1]
    quiet: NDArray[np.float64] = per_cell[loudness <= np.median(loudness)].mean(axis=0).reshape(n_band, n_band)
    if not np.all(np.diag(quiet) > 0):
        constant = [name for name, variance in zip(names, np.diag(quiet), strict=True) if not variance > 0]
        raise ValueError(f"band {', '.join(constant)} is constant over the sky; it carries no signal")
    return quiet
