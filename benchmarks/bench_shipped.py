"""The shipped finder on a full sky, from FITS files to measured candidates, by stage, as the README has it.

python benchmarks/bench_shipped.py [--sky demo/simulated] [--model szeek-1] [--threads 1]

Times are CPU seconds of `szeek predict --model szeek-1` on six full-sky maps of nside 2048, report left out. Without
--sky one is simulated first. SZiFi's cost is a constant, 2.1 core-s per deg^2 with its own set-up and 0.4 pruned, for
it does not install from a registry.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from astropy.table import Table
from rows import Memory, Row, run, use_threads

from szeek.simulate.sky import SimulateConfig, simulate_sky
from szeek.verbs import config_of_model
from szeek.verbs import run as run_stages

SKY_DEG2 = 41252.96
STAGES = ("maps", "filter", "predict", "detect", "measure")
SZIFI_CORE_S_PER_DEG2, SZIFI_PRUNED_CORE_S_PER_DEG2 = 2.1, 0.4


def measure(sky: str = "", model: str = "szeek-1", threads: int = 1) -> list[Row]:
    """Every stage once, in order, in this process."""
    use_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        simulated = Path(sky) if sky else Path(scratch) / "sky"
        if not sky:
            simulate_sky(SimulateConfig(companions=False, threads=threads), simulated)
        files = json.loads((simulated / "simulate.json").read_text())["maps"]
        maps = {band: str((simulated / name).resolve()) for band, name in files.items()}
        config, folder = config_of_model(model, sky={"maps": maps}), Path(scratch) / "run"
        seconds: dict[str, float] = {}
        with Memory() as memory:
            for stage in STAGES:
                before = time.process_time()
                run_stages(config, folder, until=stage, threads=threads)
                seconds[stage] = time.process_time() - before
        n_candidates = len(Table.read(folder / "candidates.fits"))
    total = sum(seconds.values())
    note = f"{n_candidates} candidates; " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    what = f"full sky with {model}, FITS files to measured candidates"
    return [
        Row(what, "200 core-s", total, "core-s", 200.0, "at most", threads, memory.gib, note, seconds),
        Row(f"{what}, per deg^2", f"SZiFi's own set-up, {SZIFI_CORE_S_PER_DEG2} core-s",
            SZIFI_CORE_S_PER_DEG2 * SKY_DEG2 / total, "times cheaper", 500.0, "at least", threads),
        Row(f"{what}, per deg^2, pruned", f"SZiFi pruned, {SZIFI_PRUNED_CORE_S_PER_DEG2} core-s",
            SZIFI_PRUNED_CORE_S_PER_DEG2 * SKY_DEG2 / total, "times cheaper", 100.0, "at least", threads),
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, sky="", model="szeek-1", threads=1)
