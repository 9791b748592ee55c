"""Stacking against healpy.get_interp_val per source, at nside 2048; target three times as fast.

Run: python benchmarks/bench_stack.py [n_source] [nside]
"""

from __future__ import annotations

import json
import resource
import sys
import time

import healpy
import numpy as np
from astropy.table import Table

from szeek.sky.projection import PIXEL_ARCMIN, field_directions
from szeek.stack.stacks import stack_at

SIZE = 120


def stack_with_healpy(y_map: np.ndarray, lon_deg: np.ndarray, lat_deg: np.ndarray) -> np.ndarray:
    """The plain loop: directions of a field, get_interp_val, sum."""
    total = np.zeros((SIZE, SIZE))
    for lon, lat in zip(lon_deg, lat_deg, strict=True):
        directions = field_directions(lon, lat, 0.0, SIZE, SIZE, PIXEL_ARCMIN).reshape(-1, 3)
        theta, phi = healpy.vec2ang(directions)
        total += healpy.get_interp_val(y_map, theta, phi).reshape(SIZE, SIZE)
    return total / len(lon_deg)


def main() -> None:
    n_source = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    nside = int(sys.argv[2]) if len(sys.argv) > 2 else 2048
    rng = np.random.default_rng(0)
    y_map = rng.standard_normal(12 * nside**2, np.float32)
    lon_deg, lat_deg = rng.uniform(0, 360, n_source), np.degrees(np.arcsin(rng.uniform(-1, 1, n_source)))
    positions = Table({"lon_deg": lon_deg, "lat_deg": lat_deg})
    stack_at(y_map, positions[:2])  # compile

    clocks = time.perf_counter, time.process_time  # a busy machine spoils the first, threads do not help the second
    before = [clock() for clock in clocks]
    stack = stack_at(y_map, positions, angle_deg=0.0, background_arcmin=None)
    ours_s = [clock() - start for clock, start in zip(clocks, before, strict=True)]
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    n_healpy = min(n_source, 1000)
    before = [clock() for clock in clocks]
    plain = stack_with_healpy(y_map, lon_deg[:n_healpy], lat_deg[:n_healpy])
    healpy_s = [(clock() - start) * n_source / n_healpy for clock, start in zip(clocks, before, strict=True)]
    few = stack_at(y_map, positions[:n_healpy], angle_deg=0.0, background_arcmin=None)
    np.testing.assert_allclose(few.mean[..., 0], plain, atol=1e-6)
    row = {
        "nside": nside,
        "sources": stack.n_source,
        "stack_s": round(ours_s[0], 2),
        "healpy_s": round(healpy_s[0], 2),
    }
    row |= {"ratio": round(healpy_s[0] / ours_s[0], 2), "ratio_cpu": round(healpy_s[1] / ours_s[1], 2)}
    print(json.dumps(row | {"peak_gib": round(peak_gib, 2)}))


if __name__ == "__main__":
    main()
