"""Measuring against the number of candidates: photometry, flags and the catalogue of 1000 to 100,000 of a full sky.

python benchmarks/bench_measure.py [--nside 2048] [--of 256]

One part in ``of`` of a sky of Planck's white noise is seen, with as many candidates to the square degree as the full
sky would have; what is done with maps takes ``of`` times that. What the filter has learnt of the fields is given, as
in a run. Names, identification and files are those of all candidates.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table, hstack
from rows import Row, peak_gib, run

from szeek.filter.snrmaps import filter_sky
from szeek.filter.states import FieldState
from szeek.inputs.instrument import read_instrument
from szeek.measure.candidates import make_candidates, write_candidates
from szeek.measure.flags import set_flags
from szeek.measure.identify import identify_sources
from szeek.measure.photometry import measure_sources
from szeek.sky.skymaps import SkyMaps

NUMBERS = (1000, 10_000, 100_000)


def make_maps(nside: int, of: int) -> SkyMaps:
    """White noise of Planck's bands in a disc at the north Galactic pole."""
    instrument, rng = read_instrument("planck-hfi"), np.random.default_rng(1)
    values = np.zeros((12 * nside**2, len(instrument.bands)), np.float32)
    seen = healpy.query_disc(nside, healpy.ang2vec(0.0, 90.0, lonlat=True), np.arccos(1 - 2 / of))
    pixel_deg = np.sqrt(healpy.nside2pixarea(nside, degrees=True))
    for k, band in enumerate(instrument.bands):
        noise = instrument.noise_uk_deg[k] * (1e-6 if band.unit == "K_CMB" else 1e-3) / pixel_deg
        values[seen, k] = rng.normal(0, noise, seen.size)
    footprint = np.zeros(12 * nside**2, bool)
    footprint[seen] = True
    return SkyMaps(values, footprint, instrument.bands)


def place(n: int, of: int = 1) -> Table:
    """Positions on the sky, or on the part of it that is seen, away from its border, with p."""
    rng = np.random.default_rng(n)
    lat_deg = np.degrees(np.arcsin(rng.uniform(-1 if of == 1 else 1 - 1.8 / of, 1, n)))
    return Table({"lon_deg": rng.uniform(0, 360, n), "lat_deg": lat_deg, "p": rng.uniform(0.1, 1, n)})


def measure_number(n: int, of: int, maps: SkyMaps, states: dict[int, FieldState], folder: Path) -> dict[str, float]:
    """CPU seconds of each part for n candidates on the full sky."""
    positions = place(max(1, n // of), of)
    start = time.process_time()
    found = measure_sources(maps, positions["lon_deg", "lat_deg"], filtered=states, threads=1)
    photometry = of * (time.process_time() - start)
    sources = hstack([positions, found])
    start = time.process_time()
    sources = set_flags(sources, maps, None)
    flags = of * (time.process_time() - start)
    every = sources[np.arange(n) % len(sources)]
    for name, values in place(n).columns.items():
        every[name] = values
    known = place(10_000)
    known["name"] = [f"known {k}" for k in range(len(known))]
    known["survey"], known["z"], known["m500_1e14msun"] = "PSZ2", 0.2, 3.0
    start = time.process_time()
    every = identify_sources(every, known, 5.0)
    identify, start = time.process_time() - start, time.process_time()
    write_candidates(make_candidates(every), folder / "candidates.fits")
    return {"photometry": photometry, "flags": flags, "identify": identify, "files": time.process_time() - start}


def measure(nside: int = 2048, of: int = 256) -> list[Row]:
    """Every number once."""
    maps = make_maps(nside, of)
    states = filter_sky(maps, threads=1).states
    measured: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        measure_number(of, of, maps, states, Path(folder))  # compiles
        for n in NUMBERS:
            measured[n] = measure_number(n, of, maps, states, Path(folder))
    totals = {n: sum(parts.values()) for n, parts in measured.items()}
    note = "; ".join(
        f"{n}: {totals[n]:.0f} s ({', '.join(f'{name} {s:.1f}' for name, s in parts.items())})"
        for n, parts in measured.items()
    )
    figures = {f"{n} {name}": s for n, parts in measured.items() for name, s in parts.items()}
    more = (totals[NUMBERS[2]] - totals[NUMBERS[1]]) / 60
    return [
        Row("100,000 candidates measured", "10,000 candidates", more, "core-min more", 5.0, "at most", 1, peak_gib(),
            note, figures)
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, nside=2048, of=256)
