"""Detection at nside 2048 with a tenth of the pixels above the threshold; target 10 s and 1.5 GiB on 2 cores.

Run: python benchmarks/bench_detect.py [nside]
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

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


def main() -> None:
    nside = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    detect_sources(np.eye(1, 12 * 4**2, 5, dtype=np.float32)[0])  # compile
    detect_sources(np.eye(1, 12 * 4**2, 5, dtype=np.float32)[0], deblend=True)
    p_map = make_map(nside, 0.10)
    above = float(np.mean(p_map > 0.1))
    rows = {}
    for deblend in (False, True):
        start = time.perf_counter()
        sources = detect_sources(p_map, 0.1, deblend=deblend)
        rows["deblended_s" if deblend else "plain_s"] = round(time.perf_counter() - start, 2)
        rows["deblended_sources" if deblend else "plain_sources"] = len(sources)
        rows["deblended_peak_gib" if deblend else "plain_peak_gib"] = round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2
        )
    print(json.dumps({"nside": nside, "fraction_above": round(above, 4), **rows}))


if __name__ == "__main__":
    main()
