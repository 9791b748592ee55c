"""What a network takes for clusters: a thousand of each kind of impostor painted into a sky, and how many it reports.

python benchmarks/nulls.py RUN [--model szeek-1] [--each 1000] [--seed 1] [--threads 2]

The run is a simulated one on whose sky the network was not trained. Of a full sky, impostors lie in twelve tiles at b
= +-42 deg, 50 arcmin from one another and from every halo of Y500 > 3e-4 arcmin^2; of a field anywhere in it, 15
arcmin from one another and from haloes of Y500 > 5e-5 arcmin^2, and they are fainter, sources by a factor ten,
clusters by five. 'nothing' are positions where nothing was painted, the chance rate. The matched-filter S/N maps are
made anew, with the impostors in them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table

from szeek.assess.calibrate import Calibration
from szeek.assess.classes import class_probabilities, find_class_sources, name_classes, split_calibrations
from szeek.find.detect import detect_sources
from szeek.find.predict import predict, predict_classes
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.reddening import reddening_mag
from szeek.learn.model import find_model, load_model
from szeek.measure.pairs import list_pairs
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.instrument import Instrument
from szeek.physics.spectra import spectral_templates
from szeek.simulate.components.clusters import paint_clusters
from szeek.simulate.imagepainting import paint_clusters_on
from szeek.simulate.inject import draw_injections
from szeek.sky.imagemaps import Pixels
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

#: MJy/sr arcmin^2 of a source of 1 Jy.
MJYSR_ARCMIN2_PER_JY = 1e-6 / (np.pi / 10800) ** 2
TILES = (*range(4, 12), *range(36, 40))
KINDS = ("cluster", "sign-flipped cluster", "radio source", "dusty galaxy", "cold clump", "nothing")


class Ground(NamedTuple):
    """What impostors are like in full-sky maps or in a field, and how far they are apart."""

    apart_arcmin: float
    least_y500_arcmin2: float
    match_arcmin: float
    y500_arcmin2: tuple[float, float]
    theta500_arcmin: tuple[float, float]
    fainter: float


FULL_SKY = Ground(50.0, 3e-4, 5.0, (5e-4, 5e-3), (1.0, 15.0), 1.0)
FIELD = Ground(15.0, 5e-5, 2.5, (1e-4, 1e-3), (0.7, 5.0), 10.0)


def impostors(
    kind: str, n: int, instrument: Instrument, rng: np.random.Generator, ground: Ground
) -> tuple[np.ndarray, ...]:
    """Size in arcmin, flux as 'Y500', and spectrum of n sources of a kind, (n,), (n,), (n, n_band)."""

    def log_uniform(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), n))

    point = np.full(n, 0.1)  # far below any beam
    per_jy = MJYSR_ARCMIN2_PER_JY / Y5R500_PER_Y500 / ground.fainter
    if kind in ("cluster", "sign-flipped cluster"):
        tsz = spectral_templates(instrument, ["tsz"])[0]
        signed = tsz if kind == "cluster" else -tsz
        return log_uniform(*ground.theta500_arcmin), log_uniform(*ground.y500_arcmin2), np.tile(signed, (n, 1))
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


def paint_in_sky(maps: SkyMaps, places: Table, spectra: np.ndarray) -> SkyMaps:
    """The tiles with the impostors, and nothing elsewhere."""
    values = np.array(maps.values)
    paint_clusters(places, maps.nside, [band.fwhm_arcmin for band in maps.bands], spectra, out=values)
    seen = pixels_in_tiles(maps.nside, TILES)
    values[~seen] = 0.0
    return SkyMaps(values, seen, maps.bands)


def paint_in_field(maps: MapSet, places: Table, spectra: np.ndarray) -> MapSet:
    """The groups of a field with the impostors; what was not observed stays so."""
    groups = []
    for columns, group in zip(maps.columns, maps.groups, strict=True):
        fwhm_arcmin, own = np.array([band.fwhm_arcmin for band in group.bands]), spectra[:, columns]
        if isinstance(group, SkyMaps):
            values = np.array(group.values)
            paint_clusters(places, group.nside, fwhm_arcmin, own, out=values)
            values[~group.footprint] = 0.0
            groups.append(replace(group, values=values))
            continue
        images = [np.asarray(part.values, np.float32) * np.float32(part.factor) for part in group.signal]
        unseen = [image == 0.0 for image in images]
        paint_clusters_on(group.grid, places, fwhm_arcmin, own, images)
        for image, lost in zip(images, unseen, strict=True):
            image[lost] = 0.0
        groups.append(replace(group, signal=tuple(Pixels(image) for image in images)))
    return replace(maps, groups=tuple(groups), snr=None, theta500_arcmin=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a simulated run")
    parser.add_argument("--model", default="szeek-1")
    parser.add_argument("--each", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    model, maps = load_model(given.model), open_maps(given.run / "maps")
    field = isinstance(maps, MapSet)
    instrument, rng = model.instrument, np.random.default_rng(given.seed)
    if [band.name for band in maps.bands] != list(instrument.band_names):
        parser.error(f"the maps have other bands than {given.model}, expected {', '.join(instrument.band_names)}")
    ground = FIELD if field else FULL_SKY
    haloes = read_catalogue(given.run / "simulated" / "truth.fits")
    haloes = select_clusters(haloes, f"truth>{ground.least_y500_arcmin2}")
    n = given.each * len(KINDS)
    places = draw_injections(
        given.seed, n, footprint=maps.seen if field else pixels_in_tiles(64, TILES), avoid=haloes,
        min_separation_arcmin=ground.apart_arcmin,
    )  # fmt: skip
    kind = np.repeat(KINDS, given.each)
    drawn = [impostors(name, given.each, instrument, rng, ground) for name in KINDS]
    places["theta500_arcmin"], places["y500_arcmin2"] = (np.concatenate([d[k] for d in drawn]) for k in (0, 1))
    spectra = np.concatenate([d[2] for d in drawn])
    painted = paint_in_field(maps, places, spectra) if field else paint_in_sky(maps, places, spectra)
    p_map = (predict_classes if model.classes else predict)(painted, model, rotations=4, threads=given.threads)
    classes = {name: np.ascontiguousarray(p_map[:, k]) for k, name in enumerate(model.classes, 1)}
    p_map = np.ascontiguousarray(p_map[:, 0]) if classes else p_map
    sources = detect_sources(p_map, 0.1, weighted=True, deblend=True)
    calibration = Calibration.from_table(Table.read(find_model(given.model) / "calibration.ecsv"))
    dust = reddening_mag(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    purity = calibration.predict(sources["p"], dust)
    cuts = {"p > 0.1": np.ones(len(sources), bool), "purity > 0.5": purity > 0.5, "purity > 0.8": purity > 0.8}
    if classes:  # and what else it takes them for
        of_class = split_calibrations(Table.read(find_model(given.model) / "class-calibration.ecsv"))
        sources["purity"] = purity
        for name, p in class_probabilities(sources, classes, of_class).items():
            sources[name] = p
        called = name_classes(sources, classes)
        cuts["purity > 0.5 and likeliest a cluster"] = (purity > 0.5) & (called == "cluster")
        for name, p_of_class in classes.items():
            listed = find_class_sources({name: p_of_class}, 0.05, calibrations=of_class)
            cuts[f"called {name}"] = listed[np.asarray(listed["purity"]) > 0.5]
    print("| painted, per 1000 | " + " | ".join(cuts) + " |\n|" + "---|" * (len(cuts) + 1))
    for name in KINDS:
        mine = places[kind == name]
        cells = []
        for kept in cuts.values():
            taken = kept if isinstance(kept, Table) else sources[kept]
            found = np.unique(list_pairs(taken, mine, np.full(len(mine), ground.match_arcmin))[1]).size
            cells.append(f"{1000 * found / len(mine):.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
