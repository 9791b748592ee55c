"""Detection with a tenth of the pixels above the threshold, plain and deblended.

python benchmarks/bench_detect.py [--nside 2048]
"""

from __future__ import annotations

import time

import numpy as np
from rows import Row, peak_gib, run, use_threads

from szeek.find.detect import detect_sources


def make_map(nside: int, fraction: float, seed: int = 0) -> np.ndarray:
    """Blobs: runs of random length along the rings, until ``fraction`` of the pixels is above 0.1."""
    rng = np.random.default_rng(seed)
    n_pix = 12 * nside * nside
    p_map = np.zeros(n_pix, np.float32)
    filled = 0
    while filled < fraction * n_pix:
        start = rng.integers(0, n_pix - 16, n_pix // 200)
        for offset in range(8):
            p_map[start + offset] = rng.uniform(0.11, 1.0, start.size)
        filled = np.count_nonzero(p_map)
    return p_map


def measure(nside: int = 2048) -> list[Row]:
    """Once each, CPU seconds of one thread."""
    use_threads(1)
    detect_sources(np.eye(1, 12 * 4**2, 5, dtype=np.float32)[0])  # compile
    detect_sources(np.eye(1, 12 * 4**2, 5, dtype=np.float32)[0], deblend=True)
    p_map = make_map(nside, 0.10)
    above = f"{np.mean(p_map > 0.1):.1%} of nside {nside} above threshold"
    rows = []
    for deblend in (False, True):
        start = time.process_time()
        sources = detect_sources(p_map, 0.1, deblend=deblend)
        seconds, peak = time.process_time() - start, peak_gib()
        what = "detection, deblended" if deblend else "detection"
        rows.append(Row(what, above, seconds, "s", 10.0, "at most", 1, peak, f"{len(sources)} sources"))
        rows.append(Row(f"{what}: memory", above, peak, "GiB", 1.5, "at most", 1))
    return rows


if __name__ == "__main__":
    run(measure, nside=2048)
