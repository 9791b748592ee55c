"""Stacking 20,000 sources against healpy.get_interp_val per source, its memory, and how often maps are read.

python benchmarks/bench_stack.py [--n-source 20000] [--nside 2048]
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from unittest import mock

import healpy
import numpy as np
from astropy.table import Table
from rows import Memory, Row, interleave, peak_gib, run, use_threads

from szeek.sky.projection import PIXEL_ARCMIN, field_directions, sample_field
from szeek.stack import stacks
from szeek.stack.products import EDGES_ARCMIN, StackOptions, stack_sources
from szeek.stack.stacks import Field, stack_at

SIZE = 120


def stack_with_healpy(y_map: np.ndarray, lon_deg: np.ndarray, lat_deg: np.ndarray) -> np.ndarray:
    """The plain loop: directions of a field, get_interp_val, sum."""
    total = np.zeros((SIZE, SIZE))
    for lon, lat in zip(lon_deg, lat_deg, strict=True):
        directions = field_directions(lon, lat, 0.0, SIZE, SIZE, PIXEL_ARCMIN).reshape(-1, 3)
        theta, phi = healpy.vec2ang(directions)
        total += healpy.get_interp_val(y_map, theta, phi).reshape(SIZE, SIZE)
    return total / len(lon_deg)


def random_positions(n: int) -> Table:
    """Anywhere on the sky."""
    rng = np.random.default_rng(0)
    return Table({"lon_deg": rng.uniform(0, 360, n), "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n)))})


def stack_memory_gib(n_source: int, nside: int) -> float:
    """What a stack with rings and groups of both kinds takes beside the map; for a process of its own."""
    sky = np.random.default_rng(0).standard_normal(12 * nside**2, np.float32)
    field = Field(edges_arcmin=EDGES_ARCMIN)
    stack_at(sky, random_positions(2), field)  # compile
    with Memory() as before:
        time.sleep(0.2)
    with Memory() as meanwhile:
        stack_at(sky, random_positions(n_source), field, n_threads=1)
    return meanwhile.gib - before.gib


def count_reads(n_map: int = 16, n_source: int = 200, n_null_sets: int = 5) -> tuple[float, float]:
    """Fields sampled for each source or null position, and maps served by each, in the stacks of a run's maps."""
    rng = np.random.default_rng(1)
    sources = random_positions(n_source)
    sources["p"] = rng.random(n_source)
    sky = rng.standard_normal((12 * 64**2, n_map)).astype(np.float32)
    with mock.patch.object(stacks, "sample_field", side_effect=sample_field) as sampler:
        with tempfile.TemporaryDirectory() as folder:
            options = StackOptions(n_null_sets=n_null_sets)
            stack_sources({"maps": sky}, sources, np.ones(12 * 64**2), folder, options)
        served = {call.args[0].shape[1] for call in sampler.call_args_list}
    return sampler.call_count / (n_source * (1 + n_null_sets)), float(min(served))


def measure(n_source: int = 20_000, nside: int = 2048, n_healpy: int = 500) -> list[Row]:
    """healpy's loop on some of the sources, in turns with ours on all; then both on the same, for their values."""
    use_threads(1)
    positions = random_positions(n_source)
    lon_deg, lat_deg = np.asarray(positions["lon_deg"]), np.asarray(positions["lat_deg"])
    y_map = np.random.default_rng(0).standard_normal(12 * nside**2, np.float32)
    stack_at(y_map, positions[:2])  # compile
    plain = stack_with_healpy(y_map, lon_deg[:n_healpy], lat_deg[:n_healpy])
    field = Field(background_arcmin=None)
    few = stack_at(y_map, positions[:n_healpy], field, angle_deg=0.0)
    np.testing.assert_allclose(few.mean[..., 0], plain, atol=1e-6)
    mine, peer = interleave(
        lambda: stack_at(y_map, positions, field, angle_deg=0.0),
        lambda: stack_with_healpy(y_map, lon_deg[:n_healpy], lat_deg[:n_healpy]),
        repeats=3,
    )
    peer *= n_source / n_healpy
    note = f"{mine:.1f} against {peer:.1f} s for {n_source:,} cut-outs of {SIZE} x {SIZE}"
    against = f"healpy.get_interp_val per source, nside {nside}"
    memory = []
    for n in (n_source // 10, n_source):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            memory.append(process.submit(stack_memory_gib, n, nside).result())
    few_sources, all_sources = (f"{n:,} sources" for n in (n_source // 10, n_source))
    sizes = (
        f"{1024 * memory[0]:.0f} MiB for {few_sources}, {1024 * memory[1]:.0f} MiB for {all_sources}, beside the map"
    )
    reads, served = count_reads()
    what = f"each serves all {served:.0f} maps; profiles in bins of p need no more"
    return [
        Row("stacking", against, peer / mine, "times faster", 3.0, "at least", 1, peak_gib(), note),
        Row(
            "stacking: memory",
            few_sources,
            memory[1] / memory[0],
            "times as much",
            1.2,
            "at most",
            1,
            memory[1],
            sizes,
        ),
        Row(
            "stacking: fields sampled",
            "sources and five null sets",
            reads,
            "a position",
            1.0,
            "at most",
            1,
            None,
            what,
        ),
    ]


if __name__ == "__main__":
    run(measure, n_source=20_000, nside=2048, n_healpy=500)
