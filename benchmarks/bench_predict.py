"""Full-sky prediction and detection against the network's arithmetic at this machine's matrix-product rate.

python benchmarks/bench_predict.py [--maps demo/maps] [--nside 2048] [--threads 1]

The limit is the multiplications and additions of one evaluation a pixel (23.7 kFLOP of the paper's network) over
the rate of a float32 matrix product on as many threads, measured in the same run. Without --maps a sky of noise is
written and memory-mapped: it costs the same. Times are CPU seconds.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rows import Memory, Row, matrix_rate, run, use_threads
from torch import nn

from szeek.config import load_config
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import Model, build_network
from szeek.learn.normalise import fit_normaliser
from szeek.sky.fields import cover_sphere
from szeek.sky.skymaps import SkyMaps

SKY_DEG2 = 41252.96


def count_flop_per_pixel(network: nn.Module) -> float:
    """Multiplications and additions of the convolutions, per pixel of the input."""
    total, size = 0.0, 64

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        kernel = module.weight[0, 0].numel()
        channels = module.in_channels if isinstance(module, nn.Conv2d) else module.in_channels / kernel
        total += 2 * kernel * channels * output[0].numel()

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(hook) for layer in layers]
    was_training = network.training
    network.eval()(torch.zeros(1, layers[0].in_channels, size, size))
    network.train(was_training)
    for one in hooks:
        one.remove()
    return total / size**2


def write_noise(nside: int, folder: Path) -> Path:
    """A saved SkyMaps of white noise, six bands, a ring's worth of it over and over."""
    row = np.random.default_rng(1).normal(size=(12 * nside, 6)).astype(np.float32)
    bands = read_instrument().bands
    return SkyMaps(np.tile(row, (nside, 1)), np.ones(12 * nside**2, bool), bands).save(folder / "maps")


def make_model(maps: SkyMaps) -> Model:
    """The demo's network and input, untrained: it costs the same."""
    config = load_config("demo")
    network = build_network(maps.n_band, config.network.model_dump())
    network.start(np.random.default_rng(1), 0.01)
    normaliser = fit_normaliser(maps, "local-whitened", background_nside=config.input.background_nside)
    names = tuple(band.name for band in maps.bands)
    return Model(network, normaliser, names, config.patches.pixel_arcmin, config.network.model_dump())


def measure(nside: int = 2048, threads: int = 1, maps: str = "") -> list[Row]:
    """Predict and detect once; matrix products before and after."""
    use_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(maps) if maps else _in_a_process_of_its_own(nside, Path(scratch))
        sky = SkyMaps.open(folder)
        return _measure(sky, make_model(sky), threads)


def _in_a_process_of_its_own(nside: int, scratch: Path) -> Path:
    """Write the noise without its 1.2 GB counting as this process's memory."""
    import subprocess
    import sys

    code = f"import sys, pathlib; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_predict as b; "
    code += f"b.write_noise({nside}, pathlib.Path({str(scratch)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    return scratch / "maps"


def _measure(sky: SkyMaps, model: Model, threads: int) -> list[Row]:
    flop = count_flop_per_pixel(build_network(sky.n_band))
    pixels = 4 * np.pi * (180 * 60 / np.pi / model.pixel_arcmin) ** 2
    rate = [matrix_rate()]
    with Memory() as memory:
        before = time.process_time()
        p_map = predict(sky, model, threads=threads)
        predicted = time.process_time()
        threshold = float(np.quantile(p_map[::97], 0.999))
        start = time.process_time()
        sources = detect_sources(p_map, threshold)
        detect_s = time.process_time() - start
    seconds = predicted - before + detect_s
    rate.append(matrix_rate())
    # the rate is FLOP per CPU second, so that the limit is in CPU seconds too, whatever the number of threads
    limit_s = flop * pixels / float(np.median(rate))
    fields = cover_sphere(sky.nside, model.pixel_arcmin, 16, model.network.stride)
    evaluations = sum(f.ny * f.nx for f in fields) / pixels
    per_deg2 = seconds / SKY_DEG2
    note = (
        f"{seconds:.1f} s of which detection {detect_s:.1f} ({len(sources)} sources); limit {limit_s:.1f} s at "
        f"{np.median(rate) / 1e9:.0f} GFLOP/s"
    )
    what = f"full-sky prediction and detection, nside {sky.nside}"
    arithmetic = "network's arithmetic once a pixel"
    mapped = f"{memory.with_files_gib:.2f} GiB with the pages of the mapped maps and of libraries"
    cost = f"{1e3 * per_deg2:.2f} core-milliseconds per deg^2"
    return [
        Row(what, arithmetic, seconds / limit_s, "times the limit", 6.0, "at most", threads, memory.gib, note),
        Row("evaluations a pixel", "one", evaluations, "", 1.6, "at most", threads),
        Row("prediction's cost", "SZiFi's own set-up, 2.1 core-s/deg^2", 2.1 / per_deg2, "times cheaper", 1000.0,
            "at least", threads, None, cost),
        Row("prediction's cost, pruned", "SZiFi pruned, 0.4 core-s/deg^2", 0.4 / per_deg2, "times cheaper", 200.0,
            "at least", threads),
        Row("prediction's memory", "without mapped files", memory.gib, "GiB", 2.5, "at most", threads, None, mapped),
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, nside=2048, threads=1, maps="")
