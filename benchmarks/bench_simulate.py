"""CPU seconds and peak memory of a simulated sky, component by component.

python benchmarks/bench_simulate.py [--nside 2048]
"""

from __future__ import annotations

import tempfile
import time

from rows import Memory, Row, peak_gib, run, use_threads

from szeek.simulate.sky import SimulateConfig, simulate_sky

#: Seconds on two quiet cores, and GiB, that a sky may cost.
_REACH = {512: (30.0, 8.0), 2048: (360.0, 8.0)}


class Steps:
    """CPU seconds and largest memory of each step of a simulation, told of each step as it starts."""

    def __init__(self) -> None:
        self.cost: dict[str, tuple[float, float]] = {}
        self._step = ""
        self._start, self._memory = time.process_time(), Memory()

    def __call__(self, step: str) -> None:
        if self._step:
            self._memory.__exit__()
            seconds, gib = self.cost.get(self._step, (0.0, 0.0))
            self.cost[self._step] = (seconds + time.process_time() - self._start, max(gib, self._memory.gib))
        self._step = "six bands" if step.startswith("band ") else "" if step == "done" else step
        self._start = time.process_time()
        if self._step:
            self._memory = Memory()
            self._memory.__enter__()


def measure(nside: int = 512) -> list[Row]:
    """One sky on one thread, all compiled code cached: as a whole, then each component."""
    use_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        simulate_sky(SimulateConfig(nside=64, seed=1, threads=1), folder)  # compiles
    steps = Steps()
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        simulate_sky(SimulateConfig(nside=nside, seed=1, threads=1), folder, progress=steps)
    seconds, (reach_s, reach_gib) = time.process_time() - start, _REACH.get(nside, _REACH[2048])
    sky, against = f"simulated sky, nside {nside}", f"{reach_s:g} s on two cores"
    parts = [
        Row(f"{sky}: {step}", "whole sky", cpu_s, "core-s", None, "at most", 1, gib)
        for step, (cpu_s, gib) in steps.cost.items()
    ]
    return [
        Row(sky, against, seconds, "core-s", 2 * reach_s, "at most", 1, peak_gib()),
        Row("simulated sky: memory", f"nside {nside}", peak_gib(), "GiB", reach_gib, "at most", 1),
        *parts,
    ]


if __name__ == "__main__":
    run(measure, nside=512)
