"""A network for y maps: what it learns where foregrounds are known; a resumed training is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from szeek.config import Config, load_config
from szeek.filter.ilc import list_spectra
from szeek.filter.ymap import Combined, Foregrounds, local_scatter
from szeek.find.predict import find_foregrounds
from szeek.inputs.instrument import read_instrument
from szeek.learn.foregrounds import train_foregrounds
from szeek.sky.harmonics import beam_window, filter_alm, synthesise, white_alm
from szeek.sky.skymaps import Band, SkyMaps
from szeek.sky.tiles import pixels_in_tiles
from szeek.verbs import make_y_map, run

NSIDE = 64
N_PIX = 12 * NSIDE**2
SMALL = {
    "input": {"background_nside": 2},  # cells of 29 deg, wider than what is to be seen
    "patches": {"n_patches": 250, "size": 32, "pixel_arcmin": 27.5, "validation_fraction": 0.04},
    "split": {"validation_tiles": [9, 38, 40, 41, 42]},
    "network": {"filters": (8, 16)},
    "train": {"batch": 4, "max_epochs": 4, "learning_rate": 0.005},
}


def smooth_field(rng: np.random.Generator) -> NDArray[np.float32]:
    """A Gaussian field of 3 deg, rms 1."""
    field = synthesise(filter_alm(white_alm(128, rng), beam_window(180.0, 128)), NSIDE, 1)
    return field / field.std()


def one_sky(seed: int) -> tuple[Combined, NDArray[np.float32], Table]:
    """Two maps without y, whose product the ILC took for y beside the painted one, and noise that nothing tells."""
    rng = np.random.default_rng(seed)
    first, second, painted = (smooth_field(rng) for _ in range(3))
    left = 1e-6 * (first * second + 0.3 * rng.standard_normal(N_PIX).astype(np.float32))
    painted *= np.float32(2e-6)
    y = left + painted
    y[:100] = np.nan
    seen = np.isfinite(y)
    free = SkyMaps(
        np.stack([first, second], axis=1) * seen[:, None],
        seen,
        tuple(Band(f"free-{k}", 0.0, 10.0, "1") for k in "12"),
    )
    haloes = Table({"lon_deg": rng.uniform(0, 360, 60), "lat_deg": rng.uniform(-60, 60, 60)})
    return Combined(y, local_scatter(y), free, np.zeros((7, 6))), painted, haloes


def config(**changes: dict[str, object]) -> Config:
    sections = {name: {**values, **changes.get(name, {})} for name, values in SMALL.items()}
    return load_config("szeek-y", **sections)


def test_a_product_of_maps_is_told_from_them(tmp_path: Path) -> None:
    """No linear combination tells a product: the network takes off most of what noise alone does not explain."""
    model = train_foregrounds([one_sky(1), one_sky(2)], config(), tmp_path, threads=2)
    combined, painted, _ = one_sky(3)
    foregrounds = find_foregrounds(tmp_path, rotations=1, threads=2)
    assert isinstance(foregrounds, Foregrounds) and foregrounds.reference.shape == (7, 6)
    told = foregrounds.tell(combined.free)
    assert np.array_equal(np.isfinite(told), combined.free.footprint)
    seen = combined.free.footprint & ~pixels_in_tiles(NSIDE, config().split.held_out)
    before, after = (np.var((y - painted)[seen]) for y in (combined.y, combined.y - told))
    noise = (0.3e-6) ** 2
    assert after - noise < 0.5 * (before - noise)
    assert model.card["curve"][-1]["valid_loss"] < 0.8 * model.card["curve"][0]["valid_loss"]


def test_a_resumed_training_has_the_bits_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    skies, short = [one_sky(1)], config(train={"max_epochs": 1})
    whole = train_foregrounds(skies, short, tmp_path / "whole", threads=1)
    train_foregrounds(skies, short, tmp_path / "parts", threads=1, stop_after_steps=7)
    parts = train_foregrounds(skies, short, tmp_path / "parts", threads=2)
    for name, tensor in whole.network.state_dict().items():
        assert tensor.equal(parts.network.state_dict()[name]), name


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    combined, painted, haloes = one_sky(1)
    with pytest.raises(ValueError, match="the painted y has 12288 pixels, expected 49152"):
        train_foregrounds([(combined, painted[: N_PIX // 4], haloes)], config(), tmp_path)
    with pytest.raises(ValueError, match=r"which has no use for network\.members, split\.folds"):
        load_config("szeek-y", network={"members": 2}, split={"folds": 4})
    real = load_config("szeek-y", sky={"simulate": False, "maps": {"143": tmp_path / "m143.fits"}})
    with pytest.raises(ValueError, match="known on simulated skies alone"):
        run(real, tmp_path / "real")


def test_a_run_trains_one_and_a_y_map_takes_it(tmp_path: Path) -> None:
    """From nothing to the y map; the reference, a mean of weights, obeys their constraints at every scale."""
    small = config(train={"max_epochs": 1}, patches={"n_patches": 60})
    small = small.model_copy(update={"sky": small.sky.model_copy(update={"nside": 512, "further_seeds": ()})})
    done = run(small, tmp_path / "run", threads=2)
    assert done.report is None and done.detected is None
    reference = find_foregrounds(tmp_path / "run").reference
    passed = reference @ list_spectra(read_instrument("planck-hfi"))
    np.testing.assert_allclose(passed[:, 0], 1.0, atol=1e-3)
    np.testing.assert_allclose(passed[:, 1] / np.abs(reference).sum(axis=1), 0.0, atol=1e-3)
    folder, made = make_y_map(tmp_path / "run", model=str(tmp_path / "run"), threads=2)
    assert fits.getheader(folder / "y.fits", 1)["MODEL"] == str(tmp_path / "run") and made.sigma_y > 0
