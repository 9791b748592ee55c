"""What a network takes for clusters: a thousand of each kind of impostor painted into a sky, and how many it reports.

python benchmarks/nulls.py RUN [--model szeek-1] [--each 1000] [--seed 1] [--threads 2]

The run is a simulated one on whose sky the network was not trained. Impostors lie in twelve tiles at b = +-42 deg, 50
arcmin from one another and from every halo of Y500 > 3e-4 arcmin^2; 'nothing' are positions where nothing was
painted, the chance rate. The matched-filter S/N maps are made anew, with the impostors in them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from astropy.table import Table

from szeek.assess.calibrate import Calibration
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import reddening_mag
from szeek.learn.model import find_model, load_model
from szeek.measure.pairs import list_pairs
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.instrument import Instrument
from szeek.physics.spectra import spectral_templates
from szeek.simulate.components.clusters import paint_clusters
from szeek.simulate.inject import draw_injections
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

#: MJy/sr arcmin^2 of a source of 1 Jy.
MJYSR_ARCMIN2_PER_JY = 1e-6 / (np.pi / 10800) ** 2
TILES = (*range(4, 12), *range(36, 40))
KINDS = ("cluster", "sign-flipped cluster", "radio source", "dusty galaxy", "cold clump", "nothing")


def impostors(kind: str, n: int, instrument: Instrument, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Size in arcmin, flux as 'Y500', and spectrum of n sources of a kind, (n,), (n,), (n, n_band)."""

    def log_uniform(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), n))

    point = np.full(n, 0.1)  # far below any beam
    per_jy = MJYSR_ARCMIN2_PER_JY / Y5R500_PER_Y500
    if kind in ("cluster", "sign-flipped cluster"):
        tsz = spectral_templates(instrument, ["tsz"])[0]
        return log_uniform(1, 15), log_uniform(5e-4, 5e-3), np.tile(tsz if kind == "cluster" else -tsz, (n, 1))
    if kind == "radio source":  # flat and steep ones, 0.1 to 3 Jy at 100 GHz
        rows = [spectral_templates(instrument, ["radio"], radio_index=a)[0] for a in rng.uniform(-1, 0.3, n)]
        return point, log_uniform(0.1, 3) * per_jy, np.stack(rows)
    if kind == "dusty galaxy":  # 0.3 to 10 Jy at 857 GHz
        rows = [
            spectral_templates(instrument, ["dust"], dust_temperature_k=t, dust_index=1.6)[0]
            for t in rng.uniform(18, 35, n)
        ]
        return point, log_uniform(0.3, 10) * per_jy, np.stack(rows)
    if kind == "cold clump":  # Planck 2015 results XXVIII: 13 to 14.5 K, beta about 2, some arcmin wide, 5 to 100 Jy
        rows = [
            spectral_templates(instrument, ["dust"], dust_temperature_k=t, dust_index=1.9)[0]
            for t in rng.uniform(10, 16, n)
        ]
        return rng.uniform(2, 8, n), log_uniform(5, 100) * per_jy, np.stack(rows)
    return point, np.full(n, 1e-30), np.zeros((n, len(instrument.bands)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a simulated run")
    parser.add_argument("--model", default="szeek-1")
    parser.add_argument("--each", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    instrument, rng = read_instrument(), np.random.default_rng(given.seed)
    maps = SkyMaps.open(given.run / "maps")
    haloes = select_clusters(read_catalogue(given.run / "simulated" / "truth.fits"), "truth")
    n, inside = given.each * len(KINDS), pixels_in_tiles(64, TILES)
    places = draw_injections(given.seed, n, footprint=inside, avoid=haloes, min_separation_arcmin=50)
    kind = np.repeat(KINDS, given.each)
    drawn = [impostors(name, given.each, instrument, rng) for name in KINDS]
    places["theta500_arcmin"], places["y500_arcmin2"] = (np.concatenate([d[k] for d in drawn]) for k in (0, 1))
    values = np.array(maps.values)
    beams = [band.fwhm_arcmin for band in maps.bands]
    paint_clusters(places, maps.nside, beams, np.concatenate([d[2] for d in drawn]), out=values)
    seen = pixels_in_tiles(maps.nside, TILES)
    values[~seen] = 0.0
    painted = SkyMaps(values, seen, maps.bands)
    model = load_model(given.model)
    p_map = predict(painted, model, rotations=4, threads=given.threads)
    sources = detect_sources(p_map, 0.1, weighted=True, deblend=True)
    calibration = Calibration.from_table(Table.read(find_model(given.model) / "calibration.ecsv"))
    dust = reddening_mag(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    purity = calibration.predict(sources["p"], dust)
    print("| painted, per 1000 | p > 0.1 | purity > 0.5 | purity > 0.8 |\n|---|---|---|---|")
    for name in KINDS:
        mine = places[kind == name]
        cells = []
        for kept in (np.ones(len(sources), bool), purity > 0.5, purity > 0.8):
            found = np.unique(list_pairs(sources[kept], mine, np.full(len(mine), 5.0))[1]).size
            cells.append(f"{1000 * found / len(mine):.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
