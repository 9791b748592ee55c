"""Six Planck-layout files -> SkyMaps on disk, against six healpy.read_map calls: seconds, ratio and memory.

python benchmarks/bench_conversion.py [--nside 2048] [--columns 10]

Each side runs in a process of its own on one thread, in turns; medians of CPU seconds. Memory is the peak resident
size of the process, pages of the mapped output included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from rows import Row, run

from szeek.inputs.instrument import read_instrument

OURS = """
import json, resource, sys, time
from szeek.inputs.mapfiles import read_skymaps
files, out = json.loads(sys.argv[1]), sys.argv[2]
start = time.process_time()
read_skymaps(files, out=out, check=False)
print(json.dumps([time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""
HEALPY = """
import json, resource, sys, time
import healpy, numpy as np
files = json.loads(sys.argv[1])
start = time.process_time()
maps = [healpy.read_map(path, field=0, dtype=np.float32) for path in files.values()]
print(json.dumps([time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
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


def convert(script: str, *arguments: str) -> tuple[float, float]:
    """CPU seconds and peak GiB of one run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def measure(nside: int = 1024, columns: int = 3, repeats: int = 3) -> list[Row]:
    """Files as Planck writes them, of noise; 10 columns as in PR3, 1 for the least to read."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for seed, band in enumerate(read_instrument().bands):
            files[band.name] = str(Path(folder) / f"{band.name}.fits")
            write_file(Path(files[band.name]), nside, columns, band.unit, seed)
        names, out = json.dumps(files), str(Path(folder) / "maps")
        runs = [(convert(OURS, names, out), convert(HEALPY, names)) for _ in range(repeats)]
    ours, theirs = (float(np.median([run[side][0] for run in runs])) for side in (0, 1))
    peak = max(run[0][1] for run in runs)
    note = f"{ours:.1f} against {theirs:.1f} s, nside {nside}, {columns} columns"
    what, against = "conversion of six maps", "six healpy.read_map"
    rows = [Row(what, against, theirs / ours, "times faster", 1.0, "at least", 1, peak, note)]
    if nside == 2048:
        rows.append(Row(f"{what}: memory", "nside 2048", peak, "GiB", 2.5, "at most", 1))
    return rows


if __name__ == "__main__":
    run(measure, nside=1024, columns=3, repeats=3)
