"""A network that says what foregrounds and noise leave in a y map, from what holds no y.

    F(free) ~ ILC - y

The ILC of :mod:`szeek.filter.ilc` is the best linear combination of the bands whose weights change over degrees. What
is left in it - dust, infrared background, sources, noise - shows in what the bands hold beside the SZ effect and the
CMB (``free``) as well, in a way that depends on place and shape: a network learns it from simulated skies, whose y is
known. As the input of F is the same with and without a cluster's gas, taking F off changes the response to the SZ
effect by nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from szeek.config import Config
from szeek.filter.ymap import Combined
from szeek.learn.model import Model
from szeek.learn.normalise import fit_normaliser
from szeek.learn.patches import LocalMaps, Patches, PatchStream
from szeek.learn.train import fit_network, new_model
from szeek.parallel import Progress
from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import sample_field
from szeek.sky.tiles import pixels_in_tiles

#: What the network says is in units of this y.
UNIT_Y = 1e-6
#: Deviation over the local scatter beyond which it counts linearly: a bright cluster's hot gas is no foreground.
_BEYOND = 4.0


@dataclass(frozen=True)
class MapTarget:
    """A map as the target of any field.

    Parameters
    ----------
    values : (12 nside^2,) float32
        RING; NaN where nothing is to be learnt.
    vectors : (n, 3) float64
        Of what patches are placed by.

    Examples
    --------
    >>> target = MapTarget(np.full(12 * 16**2, 2.0, np.float32), np.array([[1.0, 0.0, 0.0]]))
    >>> float(target.draw(0.0, 0.0, 0.0, 16, 16, 10.0).mean())
    2.0
    """

    values: NDArray[np.float32]
    vectors: NDArray[np.float64]

    def draw(
        self, lon_deg: float, lat_deg: float, angle_deg: float, ny: int, nx: int, pixel_arcmin: float
    ) -> NDArray[np.float32]:
        """Values of a field, (ny, nx) float32. Field as in :func:`~szeek.sky.projection.sample_field`."""
        column = self.values[:, None]
        return np.asarray(sample_field(column, lon_deg, lat_deg, angle_deg, ny, nx, pixel_arcmin)[..., 0])


def train_foregrounds(
    skies: Sequence[tuple[Combined, NDArray[np.float32], Table]],
    config: Config,
    folder: str | os.PathLike[str],
    *,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    stop_after_steps: int | None = None,
) -> Model:
    """Train a network on simulated skies and write it to ``folder``; goes on from the checkpoint there.

    Parameters
    ----------
    skies : sequence of (Combined, (12 nside^2,) float32, Table)
        ILC and signal-free maps of each sky, all with the same reference; the y that was painted into it, RING, at
        the ILC's resolution and the nside of the signal-free maps; and its haloes, about which patches are placed.
    config : Config
        Its ``network.target`` is 'foregrounds'.
    folder, threads, device, progress, stop_after_steps
        As of :func:`~szeek.learn.train.train`.

    Raises
    ------
    ValueError
        If the painted y is of another nside, or no patch fits footprint and tiles.

    Examples
    --------
    Noise that the ILC and a signal-free map have in common is told from it:

    >>> import tempfile
    >>> from szeek.config import load_config
    >>> from szeek.sky.skymaps import Band, SkyMaps
    >>> noise, n_pix = np.random.default_rng(1).normal(size=(12 * 64**2, 1)).astype(np.float32), 12 * 64**2
    >>> free = SkyMaps(noise, np.ones(n_pix, bool), (Band("free-1", 0.0, 10.0, "1"),))
    >>> sky = Combined(2e-6 * noise[:, 0], np.full(n_pix, 2e-6, np.float32), free, np.zeros((7, 6)))
    >>> haloes = Table({"lon_deg": [10.0, 200.0, 90.0], "lat_deg": [10.0, -40.0, 42.0]})
    >>> config = load_config(
    ...     "szeek-y",
    ...     patches={"n_patches": 40, "size": 32, "pixel_arcmin": 27.5},
    ...     split={"validation_tiles": [9, 38, 40, 41, 42]},
    ...     network={"filters": (4, 8)},
    ...     train={"batch": 4, "max_epochs": 3},
    ... )
    >>> with tempfile.TemporaryDirectory() as place:
    ...     model = train_foregrounds([(sky, np.zeros(n_pix, np.float32), haloes)], config, place, threads=1)
    >>> losses = [row["train_loss"] for row in model.card["curve"]]
    >>> losses[-1] < losses[0]
    True
    """
    background_nside = config.input.background_nside

    def prepare(combined: Combined, painted: NDArray[np.float32], haloes: Table) -> Patches:
        if painted.size != len(combined.free.values):
            raise ValueError(f"the painted y has {painted.size} pixels, expected {len(combined.free.values)}")
        known = combined.free.footprint
        left = np.where(known, (combined.y - painted + np.median(painted[known])) / UNIT_Y, np.nan)
        maps = [np.asarray(values, np.float32) for values in (left, combined.sigma / UNIT_Y)]
        vectors = unit_vectors(np.asarray(haloes["lon_deg"], float), np.asarray(haloes["lat_deg"], float))
        sky = LocalMaps.prepare(combined.free, background_nside)
        target, scatter = (MapTarget(values, vectors) for values in maps)
        return Patches(sky, target, config.patches, config.split, config.seed, [scatter])

    patches = PatchStream([prepare(*sky) for sky in skies])
    first = patches.skies[0].sky
    normaliser = fit_normaliser(
        skies[0][0].free,
        "local-whitened",
        use=pixels_in_tiles(skies[0][0].free.nside, config.split.training),
        background_nside=background_nside,
        background=first.background,
    )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    model = new_model(patches, normaliser, config)
    model.card["reference_weights"] = skies[0][0].reference.tolist()
    return fit_network(
        model, patches, config, target, deviation,
        threads=threads, device=device, progress=progress, stop_after_steps=stop_after_steps,
    )  # fmt: skip


def deviation(said: Tensor, targets: Tensor) -> Tensor:
    """Mean squared deviation over the scatter, growing linearly beyond four: Huber's loss.

    Parameters
    ----------
    said : (n, ny, nx, 1) float32
    targets : (n, ny, nx, 2) float32
        What it should say, NaN where that is not known, and the local scatter.

    Examples
    --------
    >>> targets = torch.tensor([[2.0, 2.0], [10.0, 1.0], [np.nan, 1.0]]).view(1, 1, 3, 2)
    >>> float(deviation(torch.zeros(1, 1, 3, 1), targets))  # 2 (1/2 1^2 + 4 (10 - 4/2)) / 2
    32.5
    """
    known = ~targets.isnan().any(dim=-1)
    # chosen first: the gradient of what is not known would be 0 x NaN
    given = targets[known]
    off = (said[known][:, 0] - given[:, 0]) / given[:, 1]
    return 2 * functional.huber_loss(off, torch.zeros_like(off), delta=_BEYOND)
