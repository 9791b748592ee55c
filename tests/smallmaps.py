"""A sky and a network so small that a whole prediction takes a fraction of a second."""

from __future__ import annotations

import healpy
import numpy as np

from szeek.inputs.instrument import read_instrument
from szeek.learn.model import Model, build_network
from szeek.learn.normalise import Normaliser
from szeek.sky.skymaps import SkyMaps

BANDS = read_instrument().bands
CONFIG = {"filters": (4, 8), "dropout": 0.2}


def make_model(seed: int = 1, pixel_arcmin: float = 55.0) -> Model:
    """An untrained network of two levels behind a local background."""
    network = build_network(6, dict(CONFIG))
    network.start(np.random.default_rng(seed), 0.2)
    normaliser = Normaliser("local-whitened", np.zeros(6, np.float32), np.eye(6, dtype=np.float32), 2)
    return Model(network, normaliser, tuple(b.name for b in BANDS), pixel_arcmin, dict(CONFIG))


def make_maps(nside: int = 64) -> SkyMaps:
    """White noise, and a hole of 30 deg that swallows whole fields."""
    values = np.random.default_rng(2).normal(size=(12 * nside**2, 6)).astype(np.float32)
    seen = np.ones(len(values), bool)
    seen[healpy.query_disc(nside, healpy.ang2vec(200, 30, lonlat=True), np.radians(30))] = False
    return SkyMaps(values * seen[:, None], seen, BANDS)
