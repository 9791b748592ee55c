"""Patch extraction: six bands, random orientation, against healpy.get_interp_val map by map.

python benchmarks/bench_sampler.py [--nside 2048]    (2048: 1.2 GB of maps twice over)
"""

import healpy
import numpy as np
from rows import Row, interleave, run, use_threads

from szeek.sky.projection import field_directions, sample_field


def measure(nside: int = 2048, n_patches: int = 40) -> list[Row]:
    """Alternate the two on the same patches; every patch somewhere else, so that neither finds a warm cache."""
    use_threads(1)
    rng = np.random.default_rng(1)
    interleaved = np.tile(rng.normal(size=(12 * nside, 6)).astype(np.float32), (nside, 1))
    planes = [np.ascontiguousarray(interleaved[:, band]) for band in range(6)]
    places = np.stack(
        [rng.uniform(0, 360, n_patches), np.degrees(np.arcsin(rng.uniform(-1, 1, n_patches))),
         rng.uniform(0, 360, n_patches)], axis=1
    ).tolist()  # fmt: skip
    sample_field(interleaved, 0.0, 0.0)  # compile
    results: list[list[np.ndarray]] = [[], []]
    upcoming = [iter(places), iter(places)]

    def ours() -> None:
        results[0].append(sample_field(interleaved, *next(upcoming[0])))

    def theirs() -> None:
        theta, phi = healpy.vec2ang(field_directions(*next(upcoming[1]), 64, 64))
        bands = [healpy.get_interp_val(plane, theta, phi) for plane in planes]
        results[1].append(np.stack(bands, axis=-1).reshape(64, 64, 6))

    mine, peer = interleave(ours, theirs, repeats=n_patches)
    off = float(np.abs(np.array(results[0]) - np.array(results[1])).max())
    note = f"{1e3 * mine:.2f} against {1e3 * peer:.2f} ms a patch of 64 x 64 x 6; largest difference {off:.1e}"
    against = f"healpy.get_interp_val, nside {nside}"
    figures = {"ms_a_patch": 1e3 * mine}
    return [Row("patch extraction", against, peer / mine, "times faster", 6.0, "at least", 1, None, note, figures)]


if __name__ == "__main__":
    run(measure, nside=2048, n_patches=40)
