"""Six Planck-layout files -> SkyMaps on disk, against six healpy.read_map calls: seconds, ratio and memory.

    python benchmarks/bench_conversion.py [--nside 2048] [--columns 10]

Each side runs in a process of its own, after the files were read once (warm page cache), three times; the best of
each is compared. Memory is the peak resident size of the process, pages of the mapped output included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

from szeek.inputs.instrument import read_instrument

OURS = """
import json, resource, sys, time
from szeek.inputs.mapfiles import read_skymaps
files, out = json.loads(sys.argv[1]), sys.argv[2]
read_skymaps({k: files[k] for k in files}, out=out, check=False) if sys.argv[3] == 'warm' else None
start = time.perf_counter()
read_skymaps(files, out=out, check=sys.argv[4] == 'check')
print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""
HEALPY = """
import json, resource, sys, time
import healpy, numpy as np
files = json.loads(sys.argv[1])
start = time.perf_counter()
maps = np.stack([healpy.read_map(path, field=0, dtype=np.float32) for path in files.values()], axis=1) \\
    if sys.argv[3] == 'stack' else [healpy.read_map(path, field=0, dtype=np.float32) for path in files.values()]
print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def write_file(path: Path, nside: int, n_column: int, unit: str, seed: int) -> None:
    """PR3 layout, one pixel a row, written in blocks so that the writer needs no memory to speak of."""
    n_pix, rng = 12 * nside**2, np.random.default_rng(seed)
    names = ["I_STOKES"] + [f"COLUMN{i}" for i in range(1, n_column)]
    hdu = fits.BinTableHDU.from_columns([fits.Column(n, "E", array=np.zeros(1, np.float32)) for n in names])
    header = hdu.header
    header["NAXIS2"], header["NSIDE"], header["ORDERING"], header["COORDSYS"] = n_pix, nside, "NESTED", "GALACTIC"
    header["TUNIT1"], header["PIXTYPE"] = unit, "HEALPIX"
    with path.open("wb") as stream:
        stream.write(fits.PrimaryHDU().header.tostring().encode())
        stream.write(header.tostring().encode())
        block = min(n_pix, 1 << 18)
        for _ in range(0, n_pix, block):
            stream.write(rng.normal(0, 1e-4, (block, n_column)).astype(">f4").tobytes())
        stream.write(b"\0" * (-n_pix * n_column * 4 % 2880))


def measure(script: str, *arguments: str, repeats: int = 3) -> tuple[float, float]:
    """Best seconds and largest GiB of so many runs."""
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True).stdout)
        for _ in range(repeats)
    ]
    return min(r[0] for r in runs), max(r[1] for r in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nside", type=int, default=1024)
    parser.add_argument(
        "--columns", type=int, default=3, help="columns of each file: 10 as in PR3, 1 for the least I/O"
    )
    parser.add_argument("--folder", default=None, help="where the files go (default: a temporary folder)")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        files = {}
        for seed, band in enumerate(read_instrument().bands):
            files[band.name] = str(Path(folder) / f"{band.name}.fits")
            write_file(Path(files[band.name]), arguments.nside, arguments.columns, band.unit, seed)
        names, out = json.dumps(files), str(Path(folder) / "maps")
        ours, ours_gib = measure(OURS, names, out, "cold", "no", repeats=arguments.repeats)
        theirs, theirs_gib = measure(HEALPY, names, out, "list", repeats=arguments.repeats)
    print(f"nside {arguments.nside}, {arguments.columns} columns:")
    print(f"  read_skymaps(out=)   {ours:7.2f} s  peak {ours_gib:.2f} GiB")
    print(f"  6 x healpy.read_map  {theirs:7.2f} s  peak {theirs_gib:.2f} GiB")
    print(f"  ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
