"""Injection of 10,000 clusters over the whole sky through szeek-1, from its parts in one tile.

python benchmarks/bench_selection.py [--maps demo/maps] [--tile 6]

All clusters are painted; matched filters and network are measured in one of the 48 tiles and multiplied by the fields
and tiles of the sky. Without --maps a sky of white noise is written, without compact sources to fill in. CPU seconds.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from bench_predict import _in_a_process_of_its_own
from rows import Memory, Row, run, use_threads

from szeek.assess.selection import measure_noise
from szeek.filter.layout import FIELD_NSIDE, list_fields
from szeek.filter.snrmaps import add_snr_maps
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import find_model, load_model
from szeek.simulate.inject import draw_injections, inject_clusters
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

N_CLUSTERS, N_TILES, N_FIELDS = 10_000, 48, 12 * FIELD_NSIDE**2


def measure(nside: int = 2048, maps: str = "", tile: int = 6) -> list[Row]:
    """Each part once, on one thread."""
    use_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        sky = SkyMaps.open(Path(maps) if maps else _in_a_process_of_its_own(nside, Path(scratch)))
        return _measure(sky, tile)


def _measure(sky: SkyMaps, tile: int) -> list[Row]:
    model, instrument = load_model(find_model("szeek-1")), read_instrument()
    here = sky.footprint & pixels_in_tiles(sky.nside, [tile])
    clusters = draw_injections(1, N_CLUSTERS, footprint=np.asarray(sky.footprint), min_separation_arcmin=50.0)
    rotations = int(model.card["config"]["predict"]["rotations"])
    small = SkyMaps(np.zeros((12 * 64**2, 6), np.float32), np.ones(12 * 64**2, bool), sky.bands)
    inject_clusters(small, draw_injections(1, 1), instrument, galaxies_seed=1, threads=1)  # compile
    figures: dict[str, float] = {}
    start = time.process_time()

    def note_time(name: str, times: float = 1.0) -> None:
        nonlocal start
        figures[f"{name}_s"] = times * (time.process_time() - start)
        start = time.process_time()

    with Memory() as memory:
        start = time.process_time()
        painted = inject_clusters(sky, clusters, instrument, galaxies_seed=1, threads=1)
        note_time("paint")
        cut = SkyMaps(painted.values, here, sky.bands)
        per_field = N_FIELDS / len(list_fields(cut))
        filtered = add_snr_maps(cut, model.normaliser.theta500_arcmin, threads=1)
        note_time("filter", per_field)
        p_map = predict(filtered, model, rotations=rotations, threads=1)
        note_time("network", N_TILES)
        detect_sources(p_map, 0.1, weighted=True, deblend=True)
        note_time("detect")
        measure_noise(SkyMaps(sky.values, here, sky.bands), instrument, threads=1)
        note_time("noise", per_field)
    minutes = sum(figures.values()) / 2 / 60
    note = ", ".join(f"{name[:-2]} {seconds:.0f}" for name, seconds in figures.items()) + " CPU s"
    what = f"{N_CLUSTERS} injections through szeek-1"
    against = f"nside {sky.nside}, from tile {tile}, two cores"
    return [Row(what, against, minutes, "min", 20.0, "at most", 2, memory.gib, note, figures)]


if __name__ == "__main__":
    run(measure, nside=2048, maps="", tile=6)
