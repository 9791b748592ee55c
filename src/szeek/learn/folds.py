"""Folds: sky tiles dealt out to networks, each of which is trained without its own and predicts only them."""

from __future__ import annotations

import math

import healpy
import numpy as np
from numpy.typing import NDArray

from szeek.config import Config
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import TILE_NSIDE

_FOLDS = 6  # random stream; 1 to 5 are those of patches and training
_N_VALIDATION = 3


def covered_share(maps: SkyMaps | MapSet, nside: int) -> NDArray[np.float64]:
    """Share of each tile that the maps cover, (12 nside^2,), RING; all of the paper's 48 where maps are one sky.

    Examples
    --------
    >>> from szeek.sky.skymaps import Band
    >>> seen = np.arange(12 * 16**2) < 512
    >>> maps = SkyMaps(np.zeros((seen.size, 1), np.float32), seen, (Band("143", 143.0, 7.3, "K_CMB"),))
    >>> covered_share(maps, 2).min(), covered_share(maps, 4).round(2)[[0, 100]].tolist()
    (np.float64(1.0), [1.0, 0.0])
    """
    if isinstance(maps, SkyMaps) and nside == TILE_NSIDE:
        return np.ones(12 * nside**2)
    seen = maps.seen if isinstance(maps, MapSet) else maps.footprint
    share = healpy.reorder(seen.astype(np.uint8), r2n=True).reshape(12 * nside**2, -1).mean(axis=1)
    return np.asarray(healpy.reorder(share, n2r=True), float)


def fold_of_tile(n_folds: int, seed: int, covered: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
    """Fold of each tile, (n_tile,) int64, -1 of one that is not covered.

    Tiles that are covered alike, and of these tiles of like Galactic latitude, are dealt out together, so that every
    fold has its share of whole and cut tiles, and of clean and dusty sky.

    Parameters
    ----------
    n_folds : int
    seed : int
    covered : (12 nside^2,) float64, optional
        Share of each tile that the maps cover (:func:`covered_share`), RING; by default all of the paper's 48.

    Raises
    ------
    ValueError
        If fewer tiles than folds are covered.

    Examples
    --------
    >>> np.bincount(fold_of_tile(6, 1)).tolist()
    [8, 8, 8, 8, 8, 8]
    """
    share = np.ones(12 * TILE_NSIDE**2) if covered is None else covered
    nside = healpy.npix2nside(len(share))
    n_covered = int((share > 0.0).sum())
    if n_covered < n_folds:
        raise ValueError(
            f"the maps cover {n_covered} tiles of nside {nside}, expected at least one for each of {n_folds} folds; "
            "set split.nside to smaller tiles, or fewer folds"
        )
    rng = np.random.default_rng([seed, _FOLDS])
    theta, _ = healpy.pix2ang(nside, np.arange(len(share)))
    # shuffled within equal share and |b|, which the stable sort keeps
    shuffled = rng.permutation(len(theta))
    order = shuffled[np.lexsort((-np.abs(np.cos(theta[shuffled])).round(6), -share[shuffled].round(1)))]
    order = order[share[order] > 0.0]
    fold = np.full(len(share), -1)
    for first in range(0, len(order), n_folds):
        dealt = order[first : first + n_folds]
        fold[dealt] = rng.permutation(n_folds)[: len(dealt)]
    return fold


def fold_config(config: Config, fold: int, covered: NDArray[np.float64] | None = None) -> Config:
    """The configuration of one fold's training: its tiles are kept out, three of the next fold's validate.

    A guard band of a patch diagonal lies between the kept-out tiles and all training patches. Of a survey the tiles
    that it covers best validate; parameters and errors as of :func:`fold_of_tile`.
    """
    of_tile = fold_of_tile(config.split.folds, config.seed, covered)
    following = np.flatnonzero(of_tile == (fold + 1) % config.split.folds)
    validation = following[:: max(1, len(following) // _N_VALIDATION)]
    if covered is not None and covered.min() < 1.0:
        validation = following[np.argsort(-covered[following], kind="stable")][:_N_VALIDATION]
    split = config.split.model_copy(
        update={
            "folds": 0,
            "test_tiles": tuple(int(tile) for tile in np.flatnonzero(of_tile == fold)),
            "validation_tiles": tuple(int(tile) for tile in validation),
            "guard_deg": math.sqrt(2) * config.patches.size * config.patches.pixel_arcmin / 60,
        }
    )
    return config.model_copy(update={"split": split})
