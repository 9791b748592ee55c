"""Folds: the 48 tiles dealt out to networks, each of which is trained without its own and predicts only them."""

from __future__ import annotations

import math

import healpy
import numpy as np
from numpy.typing import NDArray

from szeek.config import Config
from szeek.sky.tiles import TILE_NSIDE

_FOLDS = 6  # random stream; 1 to 5 are those of patches and training
_N_VALIDATION = 3


def fold_of_tile(n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each of the 48 tiles, (48,) int64.

    Tiles of like Galactic latitude are dealt out together, so that every fold has its share of clean and dusty sky.

    Examples
    --------
    >>> np.bincount(fold_of_tile(6, 1)).tolist()
    [8, 8, 8, 8, 8, 8]
    """
    rng = np.random.default_rng([seed, _FOLDS])
    theta, _ = healpy.pix2ang(TILE_NSIDE, np.arange(12 * TILE_NSIDE**2))
    # shuffled within equal |b|, which the stable sort keeps
    shuffled = rng.permutation(len(theta))
    order = shuffled[np.argsort(-np.abs(np.cos(theta[shuffled])).round(6), kind="stable")]
    fold = np.empty(len(order), np.int64)
    for first in range(0, len(order), n_folds):
        dealt = order[first : first + n_folds]
        fold[dealt] = rng.permutation(n_folds)[: len(dealt)]
    return fold


def fold_config(config: Config, fold: int) -> Config:
    """The configuration of one fold's training: its tiles are kept out, three of the next fold's validate.

    A guard band of a patch diagonal lies between the kept-out tiles and all training patches.
    """
    of_tile = fold_of_tile(config.split.folds, config.seed)
    following = np.flatnonzero(of_tile == (fold + 1) % config.split.folds)
    split = config.split.model_copy(
        update={
            "folds": 0,
            "test_tiles": tuple(int(tile) for tile in np.flatnonzero(of_tile == fold)),
            "validation_tiles": tuple(int(tile) for tile in following[:: max(1, len(following) // _N_VALIDATION)]),
            "guard_deg": math.sqrt(2) * config.patches.size * config.patches.pixel_arcmin / 60,
        }
    )
    return config.model_copy(update={"split": split})
