"""Seconds and peak memory of each step of a simulated sky: python benchmarks/bench_simulate.py [nside] [threads]."""

from __future__ import annotations

import resource
import sys
import tempfile
import time

from szeek.simulate.sky import SimulateConfig, simulate_sky


def main() -> None:
    nside = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    start, cpu = time.perf_counter(), time.process_time()

    def tell(step: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{time.perf_counter() - start:8.1f} s {time.process_time() - cpu:8.1f} CPU s {peak:6.2f} GB  {step}",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        simulate_sky(SimulateConfig(nside=nside, seed=1, threads=threads), folder, progress=tell)
    tell("end")


if __name__ == "__main__":
    main()
