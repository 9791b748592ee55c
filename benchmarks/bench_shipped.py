"""The shipped finder on a full sky, from FITS files to measured candidates, by stage, as the README has it.

python benchmarks/bench_shipped.py [--sky demo/simulated] [--model szeek-1] [--area 200] [--threads 1]

Times are CPU seconds of `szeek predict --model szeek-1` on six full-sky maps of nside 2048, report left out. Without
--sky one is simulated first; with --area a mask leaves so many square degrees around the north Galactic pole. SZiFi's
cost is a constant, 2.1 core-s per deg^2 with its own set-up and 0.4 pruned, for it does not install from a registry.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table
from rows import Memory, Row, run, use_threads

from szeek.simulate.sky import SimulateConfig, simulate_sky
from szeek.verbs import config_of_model
from szeek.verbs import run as run_stages

SKY_DEG2, MASK_NSIDE = 41252.96, 512
#: Orientations that are averaged: as szeek-1 has them, and one alone.
ROTATIONS = (4, 1)
STAGES = ("maps", "filter", "predict", "detect", "measure")
SZIFI_CORE_S_PER_DEG2, SZIFI_PRUNED_CORE_S_PER_DEG2 = 2.1, 0.4


def measure(sky: str = "", model: str = "szeek-1", area: float = 0.0, threads: int = 1) -> list[Row]:
    """Every stage once, in order, in this process, and what follows the filter again with one orientation."""
    use_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        simulated = Path(sky) if sky else Path(scratch) / "sky"
        if not sky:
            simulate_sky(SimulateConfig(companions=False, threads=threads), simulated)
        files = json.loads((simulated / "simulate.json").read_text())["maps"]
        maps = {band: str((simulated / name).resolve()) for band, name in files.items()}
        seen, masks = SKY_DEG2, []
        if area:
            seen, mask = area, Path(scratch) / "mask.fits"
            disc = healpy.query_disc(MASK_NSIDE, (0.0, 0.0, 1.0), np.arccos(1 - 2 * area / SKY_DEG2))
            inside = np.bincount(disc, minlength=12 * MASK_NSIDE**2).astype(np.float32)
            healpy.write_map(mask, inside, coord="G", dtype=np.float32)
            masks = [str(mask)]
        rows, seconds = [], dict[str, float]()
        for rotations in ROTATIONS:
            config = config_of_model(model, sky={"maps": maps, "masks": masks}, predict={"rotations": rotations})
            with Memory() as memory:
                for stage in STAGES[STAGES.index("predict") :] if rows else STAGES:
                    before = time.process_time()
                    run_stages(config, Path(scratch) / "run", until=stage, threads=threads)
                    seconds[stage] = time.process_time() - before
            n_candidates = len(Table.read(Path(scratch) / "run" / "candidates.fits"))
            what = f"{seen:.0f} deg^2 with {model}, {rotations} orientations"
            rows += report(what, seen, seconds, n_candidates, threads, memory.gib)
    return rows


def report(
    what: str, seen: float, seconds: dict[str, float], n_candidates: int, threads: int, gib: float
) -> list[Row]:
    """The rows of one prediction."""
    total = sum(seconds.values())
    note = f"{n_candidates} candidates; " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    what = f"{what}, FITS files to measured candidates"
    cost = Row(what, "", total, "core-s", None, "at most", threads, gib, note, dict(seconds))
    if seen < SKY_DEG2:
        return [cost]
    return [
        replace(cost, against="200 core-s", reach=200.0),
        Row(f"{what}, per deg^2", f"SZiFi's own set-up, {SZIFI_CORE_S_PER_DEG2} core-s",
            SZIFI_CORE_S_PER_DEG2 * SKY_DEG2 / total, "times cheaper", 500.0, "at least", threads),
        Row(f"{what}, per deg^2, pruned", f"SZiFi pruned, {SZIFI_PRUNED_CORE_S_PER_DEG2} core-s",
            SZIFI_PRUNED_CORE_S_PER_DEG2 * SKY_DEG2 / total, "times cheaper", 100.0, "at least", threads),
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, sky="", model="szeek-1", area=0.0, threads=1)
