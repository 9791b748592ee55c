"""Stacking 20,000 sources against healpy.get_interp_val per source.

python benchmarks/bench_stack.py [--n-source 20000] [--nside 2048]
"""

from __future__ import annotations

import healpy
import numpy as np
from astropy.table import Table
from rows import Row, interleave, peak_gib, run, use_threads

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


def measure(n_source: int = 20_000, nside: int = 2048, n_healpy: int = 500) -> list[Row]:
    """healpy's loop on some of the sources, in turns with ours on all; then both on the same, for their values."""
    use_threads(1)
    rng = np.random.default_rng(0)
    y_map = rng.standard_normal(12 * nside**2, np.float32)
    lon_deg, lat_deg = rng.uniform(0, 360, n_source), np.degrees(np.arcsin(rng.uniform(-1, 1, n_source)))
    positions = Table({"lon_deg": lon_deg, "lat_deg": lat_deg})
    stack_at(y_map, positions[:2])  # compile
    plain = stack_with_healpy(y_map, lon_deg[:n_healpy], lat_deg[:n_healpy])
    few = stack_at(y_map, positions[:n_healpy], angle_deg=0.0, background_arcmin=None)
    np.testing.assert_allclose(few.mean[..., 0], plain, atol=1e-6)
    mine, peer = interleave(
        lambda: stack_at(y_map, positions, angle_deg=0.0, background_arcmin=None),
        lambda: stack_with_healpy(y_map, lon_deg[:n_healpy], lat_deg[:n_healpy]),
        repeats=3,
    )
    peer *= n_source / n_healpy
    note = f"{mine:.1f} against {peer:.1f} s for {n_source:,} cut-outs of {SIZE} x {SIZE}"
    against = f"healpy.get_interp_val per source, nside {nside}"
    return [Row("stacking", against, peer / mine, "times faster", 3.0, "at least", 1, peak_gib(), note)]


if __name__ == "__main__":
    run(measure, n_source=20_000, nside=2048, n_healpy=500)
