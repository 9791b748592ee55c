"""Ways to run the network, by the rule that one is used where it is 1.1 times as fast and p moves by at most 1e-4.

python benchmarks/bench_network.py

Channels last against channels first, bfloat16 against float32, torch.compile against none; and what PyTorch's cutting
of patches (the path of a GPU) costs on a CPU.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from bench_training import Step, pair
from rows import Row, interleave, run, use_threads
from torch import Tensor

from szeek.inputs.instrument import read_instrument
from szeek.learn.device import DeviceSky
from szeek.learn.normalise import Normaliser
from szeek.learn.patches import LocalMaps
from szeek.sky.skymaps import SkyMaps


@torch.inference_mode()
def measure_prediction() -> list[Row]:
    """One field of 512 x 512, the paper's network."""
    network = pair(0.2)[0].eval()
    first = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    compiled = torch.compile(network)
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(1, 512, 512, 6)).astype(np.float32)).permute(
        0, 3, 1, 2
    )
    planes = x.contiguous()

    def in_bfloat16() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = network(x)
            return logits.float()

    ways = {
        "as it is": lambda: network(x),
        "channels first": lambda: first(planes),
        "bfloat16": in_bfloat16,
        "torch.compile": lambda: compiled(x),
    }
    p = {name: torch.sigmoid(way()) for name, way in ways.items()}  # compiles
    seconds = dict(zip(ways, interleave(*ways.values(), repeats=9), strict=True))
    rows = []
    for name in list(ways)[1:]:
        moved = float((p[name] - p["as it is"]).abs().max())
        note = f"p moves by {moved:.1e} at most"
        ratio = seconds["as it is"] / seconds[name]
        what = f"prediction, {name}"
        rows.append(Row(what, "channels last, float32", ratio, "times faster", None, "at least", 1, None, note))
    return rows


def measure_training() -> list[Row]:
    """A step at batch 20, dropout 0.2."""
    last, half = (Step(pair(0.2)[0], 20, True) for _ in range(2))
    first = Step(pair(0.2)[0].to(memory_format=torch.contiguous_format), 20, False)

    def in_bfloat16() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half()

    last(), first(), in_bfloat16()
    seconds = interleave(last, first, in_bfloat16, repeats=9)
    against = "channels last, float32"
    return [
        Row(f"training step, {name}", against, seconds[0] / mine, "times faster", None, "at least", 1)
        for name, mine in zip(("channels first", "bfloat16"), seconds[1:], strict=True)
    ]


def measure_cutting() -> list[Row]:
    """Twenty patches cut and normalised by PyTorch on the CPU, against numba."""
    rng, nside = np.random.default_rng(3), 1024
    values = np.tile(rng.normal(size=(12 * nside, 6)).astype(np.float32), (nside, 1))
    sky = LocalMaps(SkyMaps(values, np.ones(len(values), bool), read_instrument().bands), None)
    normaliser = Normaliser("left-gaussian", np.zeros(6, np.float32), np.eye(6, dtype=np.float32))
    there = DeviceSky(sky, normaliser, torch.device("cpu"))
    places = [
        (float(rng.uniform(0, 360)), float(rng.uniform(-80, 80)), float(rng.uniform(0, 360))) for _ in range(20)
    ]

    def by_torch() -> Tensor:
        return there.cut(places, 64, 64, 1.7177)

    def by_numba() -> Tensor:
        return normaliser(np.stack([sky.sample(*place, 64, 64, 1.7177) for place in places]))

    off = float((by_torch() - by_numba()).abs().max())
    theirs, mine = interleave(by_numba, by_torch, repeats=15)
    note = f"{1e3 * mine / 20:.2f} against {1e3 * theirs / 20:.2f} ms a patch; largest difference {off:.1e}"
    what = "patches cut by PyTorch, on the CPU"
    return [Row(what, "numba", theirs / mine, "times faster", None, "at least", 1, None, note)]


def measure() -> list[Row]:
    """All rows on one thread."""
    use_threads(1)
    return [*measure_prediction(), *measure_training(), *measure_cutting()]


if __name__ == "__main__":
    run(measure)
