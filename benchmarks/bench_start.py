"""How long `szeek --help` takes to answer: it must not wait for PyTorch."""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
from rows import Row, run


def measure(repeats: int = 7) -> list[Row]:
    """CPU seconds of the process, its start included; and that nothing heavy is imported."""
    seconds = []
    for _ in range(repeats + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "szeek.cli", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "szeek.cli", "--help"], check=True, capture_output=True, text=True
    ).stderr
    names = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in listed.splitlines()}
    heavy = sorted(names & {"torch", "numba", "astropy", "healpy", "matplotlib", "scipy", "distributed"})
    note = f"imports of heavy packages: {', '.join(heavy) or 'none'}"
    value = float(np.median(seconds[1:]))
    return [Row("start of szeek --help", "CPU seconds of the process", value, "s", 0.3, "at most", 1, None, note)]


if __name__ == "__main__":
    run(measure, repeats=7)
