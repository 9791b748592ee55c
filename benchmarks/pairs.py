"""How close two clusters may be and still be two: pairs painted into a run's maps, deblended and not.

python benchmarks/pairs.py RUN [--model szeek-act] [--number 800] [--tile 4 --tile 11 ...] [--threads 2]

RUN has maps and, unless another is named, a model. Pairs are of equal flux and 3 to 1. A pair is separated where each
cluster has a source of its own, and found where at least one has. S/N maps are computed with the pairs in the maps.

                                              full sky, with clusters.fits     simulated field
    apart, arcmin                             4, 6, 8, 10                      2, 3, 4, 6, 8, 10
    Y500 of the first, arcmin^2               3e-3                             3e-4
    theta500 of both, arcmin                  4                                2
    a source counts within, arcmin            3                                1.5
    pairs lie from one another and others     50 arcmin, known clusters        25 arcmin, haloes of Y500 > 5e-5
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import astropy.units as u
import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from ground_fields import seen_by_all

from szeek.assess.match import match
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.learn.model import load_model
from szeek.simulate.inject import draw_injections, inject_clusters
from szeek.sky.healpix import unit_vectors
from szeek.sky.mapset import MapSet, nearest, open_maps
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles, pixels_near_tiles

RATIOS = (1.0, 3.0)


class Pairs(NamedTuple):
    """Distance of the members, flux of the first, size of both, matching radius of sources, room about a pair."""

    separations_arcmin: tuple[float, ...]
    y500_arcmin2: float
    theta500_arcmin: float
    radius_arcmin: float
    room_arcmin: float


FULL_SKY = Pairs((4.0, 6.0, 8.0, 10.0), 3e-3, 4.0, 3.0, 50.0)
FIELD = Pairs((2.0, 3.0, 4.0, 6.0, 8.0, 10.0), 3e-4, 2.0, 1.5, 25.0)


def draw_pairs(first: Table, separations_arcmin: tuple[float, ...], seed: int = 1) -> tuple[Table, Table]:
    """Brighter and fainter members, at each separation and ratio in turn, in random directions."""
    k, n = np.arange(len(first)), len(separations_arcmin)
    apart = np.array(separations_arcmin)[k % n]
    ratio = np.array(RATIOS)[k // n % 2]
    angle = np.random.default_rng(seed).uniform(0, 360, len(first))
    here = SkyCoord(first["lon_deg"], first["lat_deg"], unit="deg")  # any frame: only offsets are taken
    there = here.directional_offset_by(angle * u.deg, apart * u.arcmin)
    second = first.copy()
    second["lon_deg"], second["lat_deg"] = there.ra.deg, there.dec.deg
    second["y500_arcmin2"] = np.asarray(first["y500_arcmin2"]) / ratio
    for table in (first, second):
        table["separation_arcmin"], table["ratio"] = apart, ratio
    return first, second


def count_separated(sources: Table, first: Table, second: Table, pairs: Pairs) -> list[str]:
    """Fractions separated / found, one of each ratio and separation."""
    cells = []
    for ratio in RATIOS:
        for apart in pairs.separations_arcmin:
            mine = (first["ratio"] == ratio) & (first["separation_arcmin"] == apart)
            both = vstack([first[mine], second[mine]], metadata_conflicts="silent")
            hit = np.zeros(len(both), bool)
            hit[match(sources, both, pairs.radius_arcmin)["cluster"]] = True
            one, other = np.split(hit, 2)
            cells.append(f"{(one & other).mean():.2f} / {(one | other).mean():.2f}")
    return cells


def draw_centres(run: Path, footprint: np.ndarray, number: int, pairs: Pairs, field: bool) -> Table:
    """First members of the pairs, away from what is there."""
    known = read_catalogue(run / "simulated" / "truth.fits" if field else run / "clusters.fits")
    return draw_injections(
        5,
        number,
        y500_range_arcmin2=(pairs.y500_arcmin2, pairs.y500_arcmin2),
        theta500_range_arcmin=(pairs.theta500_arcmin, pairs.theta500_arcmin),
        footprint=footprint,
        avoid=select_clusters(known, "truth>5e-5") if field else known,
        min_separation_arcmin=pairs.room_arcmin,
    )


def main(given: argparse.Namespace) -> None:
    """Paint, predict and print."""
    maps, model = open_maps(given.run / "maps"), load_model(given.model or given.run)
    field = isinstance(maps, MapSet)
    pairs, tiles = FIELD if field else FULL_SKY, given.tile or list(range(48))
    where: np.ndarray | None = None
    cut: SkyMaps | MapSet = replace(maps, snr=None, theta500_arcmin=())
    if isinstance(maps, SkyMaps):
        where = pixels_in_tiles(maps.nside, tiles) & maps.footprint
        near = healpy.ud_grade(pixels_near_tiles(64, tiles, 5.0).astype(np.float32), maps.nside) > 0.5
        cut = replace(cut, footprint=maps.footprint & near)
    centres = draw_centres(given.run, seen_by_all(given.run) if field else where, given.number, pairs, field)
    first, second = draw_pairs(centres, pairs.separations_arcmin)
    if field:  # both where all bands are seen, whatever the cells of the coverage say
        seen = np.ones(len(first), bool)
        for table in (first, second):
            vectors = unit_vectors(np.asarray(table["lon_deg"]), np.asarray(table["lat_deg"]))
            seen &= np.isfinite(nearest(maps, vectors)).all(axis=1)
        first, second = first[seen], second[seen]
    both = vstack([first, second], metadata_conflicts="silent")
    painted = inject_clusters(cut, both, model.instrument, threads=given.threads)
    rotations = int(model.card["config"]["predict"]["rotations"])
    p_map = predict(painted, model, rotations=rotations, where=where, threads=given.threads)
    print(f"{len(first)} pairs")
    print("ratio, arcmin:", "  ".join(f"{r:g}:1 {s:g}" for r in RATIOS for s in pairs.separations_arcmin))
    for name, deblend in (("undeblended", False), ("deblended", True)):
        sources = detect_sources(p_map, 0.1, weighted=True, deblend=deblend)
        print(f"{name}:", "  ".join(count_separated(sources, first, second, pairs)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="")
    parser.add_argument("--number", type=int, default=800, help="of pairs; a field has room for 600")
    parser.add_argument("--tile", type=int, action="append")
    parser.add_argument("--threads", type=int)
    main(parser.parse_args())
