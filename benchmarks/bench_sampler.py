"""Patch extraction: six bands, random orientation, against healpy.get_interp_val map by map.

python benchmarks/bench_sampler.py [nside]    (2048: 1.2 GB of maps twice over)
"""

import sys
import time

import healpy
import numpy as np

from szeek.sky.projection import field_directions, sample_field


def main(nside: int = 2048, n_patches: int = 60) -> None:
    """Alternate the two on the same patches and print medians; the ratio is what counts."""
    rng = np.random.default_rng(1)
    interleaved = np.tile(rng.normal(size=(12 * nside, 6)).astype(np.float32), (nside, 1))
    planes = [np.ascontiguousarray(interleaved[:, band]) for band in range(6)]
    sample_field(interleaved, 0.0, 0.0)  # compile
    ours, theirs, difference = [], [], 0.0
    for _ in range(n_patches):
        place = rng.uniform(0, 360), float(np.degrees(np.arcsin(rng.uniform(-1, 1)))), rng.uniform(0, 360)
        start = time.perf_counter()
        a = sample_field(interleaved, *place)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        theta, phi = healpy.vec2ang(field_directions(*place, 64, 64))
        b = np.stack([healpy.get_interp_val(plane, theta, phi) for plane in planes], axis=-1).reshape(a.shape)
        theirs.append(time.perf_counter() - start)
        difference = max(difference, float(np.abs(a - b).max()))
    mine, peer = np.median(ours), np.median(theirs)
    print(f"patch 64 x 64 x 6, nside {nside}: szeek {1e3 * mine:.2f} ms, healpy {1e3 * peer:.2f} ms, ", end="")
    print(f"ratio {peer / mine:.1f}; largest difference {difference:.1e}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
