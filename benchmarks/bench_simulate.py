"""CPU seconds and peak memory of a simulated sky: python benchmarks/bench_simulate.py [--nside 512] [--steps yes]."""

from __future__ import annotations

import tempfile
import time

from rows import Row, peak_gib, run, use_threads

from szeek.simulate.sky import SimulateConfig, simulate_sky

#: Seconds on two quiet cores, and GiB, that a sky may cost.
_REACH = {512: (30.0, 8.0), 2048: (360.0, 8.0)}


def measure(nside: int = 512, steps: str = "") -> list[Row]:
    """One sky on one thread; ``steps`` prints the time of each."""
    use_threads(1)
    start = time.process_time()

    def tell(step: str) -> None:
        if steps:
            print(f"{time.process_time() - start:8.1f} CPU s {peak_gib():6.2f} GiB  {step}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        simulate_sky(SimulateConfig(nside=nside, seed=1, threads=1), folder, progress=tell)
    seconds, (reach_s, reach_gib) = time.process_time() - start, _REACH.get(nside, _REACH[2048])
    against = f"{reach_s:g} s on two cores"
    return [
        Row(f"simulated sky, nside {nside}", against, seconds, "core-s", 2 * reach_s, "at most", 1, peak_gib()),
        Row("simulated sky: memory", f"nside {nside}", peak_gib(), "GiB", reach_gib, "at most", 1),
    ]


if __name__ == "__main__":
    run(measure, nside=512, steps="")
