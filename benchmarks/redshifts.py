"""Redshifts and chance of galaxy peaks at a network's sources, held against the truth of a simulated sky.

python benchmarks/redshifts.py RUN --seed N [--tiles 1 6 9 14] [--p 0.1] [--null-sets 3]

RUN holds a prediction on the sky of that seed. Galaxies are drawn of the sky (`szeek.simulate.components.galaxies`),
peaks of richness measured at the sources of the tiles and at random positions 1 to 4 deg from them. Of the sources
with f_cont below a limit it prints how many have no halo of Y500 > 1e-4 arcmin2, beside what f_cont promises: at most
the limit times the share of all sources that have none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from szeek.assess.match import shift_directions
from szeek.assess.sources import find_sources
from szeek.find.predict import read_prediction
from szeek.measure.pairs import direction_table, list_pairs, table_vectors
from szeek.measure.richness import contamination, measure_richness
from szeek.simulate.components.galaxies import draw_galaxies
from szeek.simulate.density import all_density_shells
from szeek.simulate.haloes import draw_haloes
from szeek.sky.tiles import tile_of

LIMITS = (0.05, 0.1, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 6, 9, 14])
    parser.add_argument("--p", type=float, default=0.1)
    parser.add_argument("--null-sets", type=int, default=3)
    parser.add_argument("--y500", type=float, default=1e-4, help="least flux of what counts as true, arcmin2")
    given = parser.parse_args()
    shells = all_density_shells(given.seed, 1)
    haloes = draw_haloes(given.seed, shells=shells)
    galaxies = draw_galaxies(haloes, shells, given.seed, given.tiles)
    sources = find_sources(read_prediction(given.run / "prediction.fits"), given.p, deblend=True)
    inside = np.isin(tile_of(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"])), given.tiles)
    sources = sources[inside]["lon_deg", "lat_deg", "p"]
    vectors = np.tile(table_vectors(sources), (given.null_sets, 1))
    nulls = direction_table(shift_directions(vectors, None, np.random.default_rng(1), 1.0, 4.0))
    found, empty = measure_richness(sources, galaxies), measure_richness(nulls, galaxies)
    f_cont = contamination(found["galaxy_snr"], found["galaxy_z"], empty["galaxy_snr"], empty["galaxy_z"])
    bright = haloes[np.asarray(haloes["y500_arcmin2"]) > given.y500]
    row, halo, _ = list_pairs(sources, bright, 5.0)
    order = np.argsort(np.asarray(bright["y500_arcmin2"])[halo], kind="stable")  # the brightest is written last
    z_halo = np.full(len(sources), np.nan)
    z_halo[row[order]] = np.asarray(bright["z"])[halo[order]]
    true = np.isfinite(z_halo)
    share_false = float(np.mean(~true))
    print(json.dumps({"galaxies": len(galaxies), "sources": len(sources), "without halo": round(share_false, 3)}))
    for limit in LIMITS:
        chosen = f_cont < limit
        n, n_false = int(chosen.sum()), int((chosen & ~true).sum())
        apart = ((np.asarray(found["galaxy_z"]) - z_halo) / (1 + z_halo))[chosen & true]
        near = z_halo[true] < 0.35
        line = {
            "f_cont": limit, "n": n, "false": n_false, "promised": round(limit * share_false * n, 1),
            "z bias": round(float(np.median(apart)), 4),
            "z scatter": round(float(1.48 * np.median(np.abs(apart - np.median(apart)))), 4),
            "outliers": round(float(np.mean(np.abs(apart) > 0.1)), 3),
            "found below z = 0.35": round(float((chosen[true] & near).sum() / near.sum()), 3),
        }  # fmt: skip
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
