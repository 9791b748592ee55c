"""A training step against plain PyTorch, against the matrix-product rate, and with its input.

python benchmarks/bench_training.py
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from bench_predict import count_flop_per_pixel
from rows import Row, interleave, matrix_rate, peak_gib, run, use_threads
from torch import Tensor, nn
from torch.nn import functional

from szeek.config import load_config
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import build_network
from szeek.learn.train import _Loop, _set_dropout_rng, cross_entropy
from szeek.learn.unet import Dropout, UNet
from szeek.sky.skymaps import SkyMaps

FILTERS = (8, 16, 32, 64, 128)


class PlainUNet(nn.Module):
    """The paper's network the usual way; its parameters come in the order of SZeek's."""

    def __init__(self, dropout: float) -> None:
        super().__init__()

        def two(n_in: int, n_out: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for n in (n_in, n_out):
                layers += [nn.Conv2d(n, n_out, 3, padding=1), nn.ReLU(), nn.Dropout(dropout)]
            return nn.Sequential(*layers)

        self.encoder = nn.ModuleList(two(i, o) for i, o in zip((6, *FILTERS), FILTERS, strict=False))
        pairs = list(zip(FILTERS[:0:-1], FILTERS[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairs)
        self.decoder = nn.ModuleList(two(2 * o, o) for _, o in pairs)
        self.head = nn.Conv2d(FILTERS[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skipped = []
        for level, block in enumerate(self.encoder):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skipped.append(x)
        skipped.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([up(x), skipped.pop()], dim=1))
        return self.head(x)[:, 0]


def pair(dropout: float) -> tuple[UNet, PlainUNet]:
    """Ours and the plain one, with the same weights."""
    ours = build_network(6, {"filters": FILTERS, "dropout": dropout})
    ours.start(np.random.default_rng(1), 0.01)
    plain = PlainUNet(dropout)
    with torch.no_grad():
        for a, b in zip(plain.parameters(), ours.parameters(), strict=True):
            a.copy_(b)
    return ours.train(), plain.train()


class Step:
    """One step of Adam on a fixed batch, as often as it is called."""

    def __init__(self, network: nn.Module, batch: int, channels_last: bool) -> None:
        rng = np.random.default_rng(2)
        self.network, self.count = network, 0
        self.x = torch.from_numpy(rng.normal(size=(batch, 6, 64, 64)).astype(np.float32))
        if channels_last:
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.y = torch.from_numpy((rng.random((batch, 64, 64)) < 0.01).astype(np.float32))
        self.optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)

    def __call__(self) -> None:
        if isinstance(self.network, UNet):
            _set_dropout_rng(self.network, np.random.default_rng([1, self.count]))
        self.count += 1
        self.optimiser.zero_grad(set_to_none=True)
        cross_entropy(self.network(self.x), self.y).backward()
        self.optimiser.step()


def measure_input(preset: str, nside: int) -> tuple[float, float]:
    """CPU seconds of a step of `szeek train` with its patches made in it, and with them made beforehand."""
    rng, n, config = np.random.default_rng(3), 3000, load_config(preset)
    lon, lat = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    clusters = Table({"name": [f"C{k}" for k in range(n)], "lon_deg": lon, "lat_deg": lat, "z": np.full(n, 0.2)})
    clusters["survey"] = "PSZ2"
    values = np.tile(rng.normal(size=(12 * nside, 6)).astype(np.float32), (nside, 1))
    sizes = config.input.theta500_arcmin
    snr = np.tile(values[: 12 * nside, : len(sizes)], (nside, 1)) if sizes else None
    maps = SkyMaps(values, np.ones(len(values), bool), read_instrument().bands, snr, sizes)
    labels = config.labels.model_copy(update={"selections": ("planck_z",)})
    kept: list[_Loop] = []

    def keep(loop: _Loop, *_: object) -> None:
        kept.append(loop)

    from szeek.learn import train as training

    original, training._Loop.run = training._Loop.run, keep
    try:
        with tempfile.TemporaryDirectory() as folder:
            training.train(maps, clusters, config.model_copy(update={"labels": labels}), Path(folder), threads=1)
    finally:
        training._Loop.run = original
    loop = kept[0]
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        cut, batch = loop.feed.batch, config.train.batch
        shard = {size: cut(range(size)) for size in (batch // 2, batch)}

        def with_input() -> None:
            loop.feed.batch = cut
            loop._step(list(range(batch)), pool)

        def without() -> None:
            loop.feed.batch = lambda indices, part="training": shard[len(indices)]
            loop._step(list(range(batch)), pool)

        with_input()
        whole, network = interleave(with_input, without, repeats=25)
    return whole, network


def measure() -> list[Row]:
    """All rows on one thread."""
    use_threads(1)
    ours, plain = pair(0.0)
    Step(ours, 20, True)()
    Step(plain, 20, False)()
    off = max(float((a - b).detach().abs().max()) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))
    rows = [
        Row("weights after one step without dropout", "plain PyTorch", off, "largest difference", 1e-6, "at most", 1)
    ]
    drop = Dropout(0.2).train()
    drop.rng = np.random.default_rng(4)
    kept = np.mean([float((drop(torch.ones(1_000_000)) > 0).float().mean()) for _ in range(50)])
    rows.append(Row("dropout rate", "0.2 asked for", 100 * abs(1 - kept - 0.2), "% off", 0.1, "at most", 1))

    ours, plain = pair(0.2)
    a, b = Step(ours, 20, True), Step(plain, 20, False)
    a(), b()
    mine, peer = interleave(a, b, repeats=9)
    note = f"{1e3 * mine:.0f} against {1e3 * peer:.0f} ms a step"
    against = "plain PyTorch with nn.Dropout"
    rows.append(Row("training step, batch 20", against, peer / mine, "times faster", 1.4, "at least", 1, None, note))

    flop = 3 * count_flop_per_pixel(build_network(6, {"filters": FILTERS})) * 64 * 64 * 128
    step = Step(ours, 128, True)
    step()
    rate = matrix_rate()
    (seconds,) = interleave(step, repeats=5)
    rate = float(np.median([rate, matrix_rate()]))
    note = f"{flop / seconds / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s, forward and twice that for backward"
    share = 100 * flop / seconds / rate
    figures = {"flop_per_s": flop / seconds}
    what, against = "training step, batch 128", "matrix product"
    rows.append(Row(what, against, share, "%", 40.0, "at least", 1, peak_gib(), note, figures))

    for preset, side, reach in (("bonjean2020", 2048, 5.0), ("demo", 1024, None)):
        whole, network = measure_input(preset, side)
        note = f"{1e3 * whole:.0f} ms with its patches cut and normalised, {1e3 * network:.0f} without; {preset}"
        idle, what = 100 * (1 - network / whole), "training without network arithmetic"
        what += "" if reach else f", preset {preset}"
        rows.append(Row(what, "a step's time", idle, "%", reach, "at most", 1, None, note))
    return rows


if __name__ == "__main__":
    run(measure)
