"""The path of a GPU, on every device that is there: what it computes is what numba and the CPU compute."""

import healpy
import numpy as np
import pytest
import torch
from smallmaps import BANDS, make_maps, make_model
from test_train import SMALL, make_sky

from szeek.config import load_config
from szeek.find import predict as prediction
from szeek.find.predict import predict
from szeek.learn import device as devices
from szeek.learn.device import DeviceSky, make_rng, pick_device
from szeek.learn.normalise import Normaliser
from szeek.learn.patches import LocalMaps
from szeek.learn.train import train
from szeek.sky.fields import cover_sphere
from szeek.sky.healpix import interpolation_weights_torch, ring_table
from szeek.sky.skymaps import SkyMaps

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    """A device on which PyTorch cuts the fields; also the CPU, where numba does it otherwise."""
    for module in (devices, prediction):
        monkeypatch.setattr(module, "cuts_by_numba", lambda device: False)
    return request.param


@pytest.mark.parametrize("nside", [1, 2, 64])
def test_neighbours_are_those_of_healpy(nside):
    """Random directions, close to the poles, on the equator, on axes, and every pixel's centre."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(20_000, 3))
    vectors[:1000, :2] *= 1e-3
    vectors[1000:2000, 2] = 0
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    vectors = np.concatenate([vectors, axes, np.stack(healpy.pix2vec(nside, np.arange(12 * nside**2)), axis=1)])
    sky = rng.normal(size=12 * nside**2)
    pixels, weights = interpolation_weights_torch(
        nside, torch.from_numpy(ring_table(nside)), torch.from_numpy(vectors)
    )
    ours = (sky[pixels.numpy()] * weights.numpy()).sum(1)
    np.testing.assert_allclose(ours, healpy.get_interp_val(sky, *healpy.vec2ang(vectors)), atol=1e-9)
    assert weights.min() > -1e-12


@pytest.mark.parametrize("kind", ["left-gaussian", "local-whitened"])
def test_a_field_cut_on_the_device_is_that_of_numba(device, kind):
    """To float32 rounding; at the poles, across longitude 0, over the rim of the hole and within it."""
    rng = np.random.default_rng(5)
    base = make_maps()
    maps = SkyMaps(
        base.values, base.footprint, BANDS, rng.normal(size=(len(base.values), 2)).astype(np.float32), (3.0, 9.0)
    )
    normaliser = Normaliser(
        kind,
        rng.normal(size=6).astype(np.float32),
        rng.normal(size=(6, 6)).astype(np.float32),
        2 if kind == "local-whitened" else 0,
        maps.theta500_arcmin,
    )
    sky = LocalMaps.prepare(maps, normaliser.background_nside)
    places = [(0.0, 90.0, 10.0), (100.0, -88.0, 45.0), (359.9, 2.0, 200.0), (215.0, 10.0, 77.0), (200.0, 30.0, 0.0)]
    mirrored = [False, True, True, True, False]
    fields = [sky.sample(*place, 48, 32, 55.0) for place in places]
    expected = normaliser(np.stack([f[:, ::-1] if m else f for f, m in zip(fields, mirrored, strict=True)]))
    x = DeviceSky(sky, normaliser, torch.device(device)).cut(places, 48, 32, 55.0, mirrored).cpu()
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x, expected, rtol=2e-6, atol=2e-6)
    assert torch.equal(x == 0, expected == 0)
    assert 0.1 < (x[3] == 0).float().mean() < 0.9 and not x[4].any()


@pytest.mark.parametrize("rotations", [1, 8])
def test_prediction_on_the_device_is_that_of_numba(device, rotations, request):
    maps, model = make_maps(), make_model()
    p_map = predict(maps, model, rotations=rotations, device=device)
    request.getfixturevalue("monkeypatch").undo()
    expected = predict(maps, model, rotations=rotations)
    np.testing.assert_array_equal(np.isnan(p_map), np.isnan(expected))
    np.testing.assert_allclose(p_map[maps.footprint], expected[maps.footprint], atol=1e-6)
    assert next(model.network.parameters()).device.type == "cpu"


def test_a_hole_in_the_cover_is_found_on_the_device(device, monkeypatch):
    """Fields too small for what they own leave pixels without a value, which is an error and no map."""
    maps = make_maps()
    short = [
        f.__class__(f.lon_deg, f.lat_deg, f.ny - 40, f.nx, f.rings, f.part, f.n_parts)
        for f in cover_sphere(64, 55.0, 16, 2)
    ]
    monkeypatch.setattr(prediction, "cover_sphere", lambda *_: short)
    with pytest.raises(RuntimeError, match="seen pixels got no value"):
        predict(maps, make_model(), device=device)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_training_on_the_device_is_that_of_the_cpu(device, batch_norm, tmp_path, monkeypatch):
    """Six steps and two epochs over two skies in turn, mirrored patches, broken off and continued."""
    if device != "cpu":  # masks come from another generator there
        monkeypatch.setitem(SMALL["network"], "dropout", 0.0)
    changes = {
        "patches": {**SMALL["patches"], "n_patches": 33, "mirror": True},
        "train": {**SMALL["train"], "max_epochs": 2},
    }
    network = {**SMALL["network"], "batch_norm": batch_norm}
    config = load_config("bonjean2020", **{**SMALL, **changes, "network": network})
    sky, further = make_sky(), [make_sky(seed=2)]
    options = {"further": further, "threads": 1}
    train(*sky, config, tmp_path / "there", device=device, stop_after_steps=3, **options)
    there = train(*sky, config, tmp_path / "there", device=device, **options)
    monkeypatch.undo()
    here = train(*sky, config, tmp_path / "here", **options)
    for name, weight in here.network.state_dict().items():
        torch.testing.assert_close(there.network.state_dict()[name], weight, rtol=0, atol=2e-5, msg=name)
    assert [row["train_loss"] for row in there.card["curve"]] == pytest.approx(
        [row["train_loss"] for row in here.card["curve"]], rel=1e-5
    )
    assert [row["valid_loss"] for row in there.card["curve"]] == pytest.approx(
        [row["valid_loss"] for row in here.card["curve"]], rel=1e-5
    )


def test_random_streams_are_functions_of_the_numbers():
    a, b = make_rng(torch.device("cpu"), [1, 2]), make_rng(torch.device("cpu"), [1, 2])
    assert a.integers(1 << 40) == b.integers(1 << 40)


def test_devices_that_are_not_there():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device 'gpu' is unknown, expected auto, cpu, cuda or cuda:N"):
        pick_device("gpu")
    with pytest.raises(ValueError, match=r"device 'cuda:99' is not there: PyTorch .* finds \d+ CUDA GPUs"):
        pick_device("cuda:99")
