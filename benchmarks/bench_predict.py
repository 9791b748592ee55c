"""Full-sky prediction against the network's arithmetic at this machine's matrix-product rate.

python benchmarks/bench_predict.py MAPS [threads]    MAPS: a folder that SkyMaps.save wrote, e.g. demo/maps

The limit is the multiplications and additions of one evaluation a pixel (23.7 kFLOP of the paper's network) over
the rate of a float32 matrix product on the same number of cores, measured in the same run.
"""

import resource
import sys
import time

import numpy as np
import torch
from torch import nn

from szeek.config import load_config
from szeek.find.detect import detect_sources
from szeek.find.fields import cover_sphere
from szeek.find.predict import predict
from szeek.learn.model import Model, build_network
from szeek.learn.normalise import fit_normaliser
from szeek.learn.threads import available_cores
from szeek.sky.skymaps import SkyMaps


def count_flop_per_pixel(network: nn.Module) -> float:
    """Multiplications and additions of the convolutions, per pixel of the input."""
    total, size = 0.0, 64

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        kernel = module.weight[0, 0].numel()
        channels = module.in_channels if isinstance(module, nn.Conv2d) else module.in_channels / kernel
        total += 2 * kernel * channels * output[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(hook)
    network.eval()
    network(torch.zeros(1, 6, size, size))
    return total / size**2


def measure_matrix_rate(threads: int, n: int = 2048) -> float:
    """Float32 matrix product, FLOP per second, median of nine."""
    torch.set_num_threads(threads)
    a, times = torch.randn(n, n), []
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * n**3 / float(np.median(times[1:]))


def main(folder: str, threads: int | None = None) -> None:
    """Predict and detect once, untrained weights (they cost the same)."""
    cores = threads or available_cores()
    maps = SkyMaps.open(folder)
    config = load_config("demo")
    network = build_network(maps.n_band, config.network.model_dump())
    network.start(np.random.default_rng(1), 0.01)
    flop = count_flop_per_pixel(build_network(maps.n_band, config.network.model_dump()))
    normaliser = fit_normaliser(maps, "local-whitened", background_nside=config.input.background_nside)
    pixel = config.patches.pixel_arcmin
    model = Model(network, normaliser, tuple(b.name for b in maps.bands), pixel, config.network.model_dump())
    rate = measure_matrix_rate(cores)
    pixels = 4 * np.pi * (180 * 60 / np.pi / pixel) ** 2
    limit_s = flop * pixels / rate
    start, cpu = time.perf_counter(), time.process_time()
    p_map = predict(maps, model, threads=cores)
    wall_s, core_s = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    detect_sources(p_map, float(np.quantile(p_map[::97], 0.99)))
    detect_s = time.perf_counter() - start
    evaluations = sum(f.ny * f.nx for f in cover_sphere(maps.nside, pixel, 16, network.stride)) / pixels
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"network {flop / 1e3:.1f} kFLOP a pixel; matrix product {rate / 1e9:.0f} GFLOP/s on {cores} cores")
    print(f"nside {maps.nside}: {wall_s:.1f} s, {wall_s / limit_s:.1f} x the limit of {limit_s:.1f} s; ", end="")
    print(f"{evaluations:.2f} evaluations a pixel; {core_s / 41252.96 * 1e3:.2f} core-milliseconds per deg^2")
    print(f"detection of 1 % of the pixels {detect_s:.1f} s; peak memory with mapped files {peak:.2f} GiB")


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in sys.argv[2:3]))
