"""How close two clusters may be and still be two: pairs painted into a run's maps, deblended and not.

python benchmarks/pairs.py RUN [--number 800] [--tile 4 --tile 11 ...]

RUN has maps, clusters.fits and a model. Pairs are 4, 6, 8 and 10 arcmin apart, of equal flux and 3 to 1; the first
has Y500 = 3e-3 arcmin^2, both theta500 = 4 arcmin. A pair is separated where each has a source of its own within 3
arcmin, and found where at least one has.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack

from szeek.assess.match import match
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import load_model
from szeek.simulate.inject import draw_injections, inject_clusters
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles, pixels_near_tiles

SEPARATIONS_ARCMIN, RATIOS = (4.0, 6.0, 8.0, 10.0), (1.0, 3.0)
Y500_ARCMIN2, THETA500_ARCMIN, RADIUS_ARCMIN = 3e-3, 4.0, 3.0


def draw_pairs(first: Table, seed: int = 1) -> tuple[Table, Table]:
    """Brighter and fainter members, at each separation and ratio in turn, in random directions."""
    k = np.arange(len(first))
    apart = np.array(SEPARATIONS_ARCMIN)[k % 4]
    ratio = np.array(RATIOS)[k // 4 % 2]
    angle = np.random.default_rng(seed).uniform(0, 360, len(first))
    here = SkyCoord(first["lon_deg"], first["lat_deg"], unit="deg")  # any frame: only offsets are taken
    there = here.directional_offset_by(angle * u.deg, apart * u.arcmin)
    second = first.copy()
    second["lon_deg"], second["lat_deg"] = there.ra.deg, there.dec.deg
    second["y500_arcmin2"] = np.asarray(first["y500_arcmin2"]) / ratio
    for table in (first, second):
        table["separation_arcmin"], table["ratio"] = apart, ratio
    return first, second


def count_separated(sources: Table, first: Table, second: Table) -> list[str]:
    """Fractions separated / found, one of each ratio and separation."""
    cells = []
    for ratio in RATIOS:
        for apart in SEPARATIONS_ARCMIN:
            mine = (first["ratio"] == ratio) & (first["separation_arcmin"] == apart)
            both = vstack([first[mine], second[mine]], metadata_conflicts="silent")
            hit = np.zeros(len(both), bool)
            hit[match(sources, both, RADIUS_ARCMIN)["cluster"]] = True
            one, other = np.split(hit, 2)
            cells.append(f"{(one & other).mean():.2f} / {(one | other).mean():.2f}")
    return cells


def main(run: Path, number: int, tiles: list[int]) -> None:
    """Paint, predict and print."""
    maps, model = SkyMaps.open(run / "maps"), load_model(run)
    where = pixels_in_tiles(maps.nside, tiles) & maps.footprint
    near = healpy.ud_grade(pixels_near_tiles(64, tiles, 5.0).astype(np.float32), maps.nside) > 0.5
    centres = draw_injections(
        5,
        number,
        y500_range_arcmin2=(Y500_ARCMIN2, Y500_ARCMIN2),
        theta500_range_arcmin=(THETA500_ARCMIN, THETA500_ARCMIN),
        footprint=where,
        avoid=read_catalogue(run / "clusters.fits"),
        min_separation_arcmin=50.0,
    )
    first, second = draw_pairs(centres)
    cut = replace(maps, footprint=maps.footprint & near, snr=None, theta500_arcmin=())
    painted = inject_clusters(cut, vstack([first, second], metadata_conflicts="silent"), read_instrument())
    rotations = int(model.card["config"]["predict"]["rotations"])
    p_map = predict(painted, model, rotations=rotations, where=where)
    print("ratio, arcmin:", "  ".join(f"{r:g}:1 {s:g}" for r in RATIOS for s in SEPARATIONS_ARCMIN))
    for name, deblend in (("undeblended", False), ("deblended", True)):
        sources = detect_sources(p_map, 0.1, weighted=True, deblend=deblend)
        print(f"{name}:", "  ".join(count_separated(sources, first, second)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--number", type=int, default=800)
    parser.add_argument("--tile", type=int, action="append")
    given = parser.parse_args()
    main(given.run, given.number, given.tile or list(range(48)))
