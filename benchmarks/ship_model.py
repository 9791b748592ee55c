"""The files that ship with a network beside its weights: calibration, position errors, flux correction, card.

python benchmarks/ship_model.py RUN OUT [--n 2000] [--threads 2]

RUN is a finished training on simulated skies (`szeek run szeek-2 --until train`). The tiles that were held out of it,
on all of its skies, are predicted; PURITY and position errors are fitted to what is found there, and the flux
correction to injections in the first of these skies (`szeek selection`). What is fitted is then measured on other
skies (performance page), never on these.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from astropy.table import vstack

from szeek.assess.calibrate import (
    expected_calibration_error,
    fit_calibration,
    judge_sources,
    measure_reliability,
    predict_out_of_fold,
)
from szeek.assess.selection import fit_position_errors, halo_offsets
from szeek.assess.sources import LOWEST_P, find_sources
from szeek.config import Config
from szeek.files import write_json, write_table
from szeek.find.predict import predict, write_prediction
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.reddening import reddening_mag
from szeek.learn.model import load_model
from szeek.pipeline.searches import SelectionOptions
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles
from szeek.verbs import measure_selection

SHIPPED = ("model.safetensors", "model.json")
WORDS = {
    "training_data": "simulated skies of szeek {version}, nside 2048, seeds {seeds} in turn, {n_patches:,} patches "
    "of {size} x {size} pixels; dust, temperature, radio galaxies and pressure profile of each cluster drawn at "
    "random (szeek.physics.looks); labels: mock Planck_z for 1, haloes with Y500 > 3e-4 arcmin^2 for 1/2; "
    "`szeek run {preset}` trains the same anew",
    "intended_use": "Finding clusters in Planck HFI maps (100 to 857 GHz, full sky or cut-outs of some degrees), "
    "and as a start for work with other maps.",
    "limits": "Trained on simulated skies and on no real one. p is a score: clusters below Planck's detection limit "
    "were to be answered with 1/2; PURITY, by reddening, is the probability of a halo with Y500 > 3e-4 arcmin^2, "
    "and as good as the simulation is. Clusters larger than about 20 arcmin in theta500 are often missed, and some "
    "bright ones of 6 to 17 arcmin. Bands other than the six of HFI are refused; beams and noise other than those "
    "of HFI are not known to it. Some radio sources are reported: for a sample of small p cut them out.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    model = load_model(given.run)
    record = json.loads((given.run / "run.json").read_text())
    config = Config.model_validate(record["config"])
    tiles = config.split.held_out
    options = {"margin": config.predict.margin, "rotations": config.predict.rotations}
    skies = [given.run, *(given.run / f"sky-{seed}" for seed in config.sky.further_seeds)]
    judged, real, groups, offsets = [], [], [], []
    for number, sky in enumerate(skies):
        maps = SkyMaps.open(sky / "maps")
        where = pixels_in_tiles(maps.nside, tiles)
        p_map = predict(maps, model, where=where, threads=given.threads, **options)
        if sky is given.run:
            write_prediction(p_map, given.run / "prediction.fits")
        truth = read_catalogue(sky / "simulated" / "truth.fits")
        sources = find_sources(p_map, LOWEST_P, deblend=config.detect.deblend)
        table, is_real = judge_sources(sources, truth, tiles)
        judged.append(table)
        real.append(is_real)
        groups.append(12 * tiles.nside**2 * number + np.asarray(table["tile"]))
        haloes = select_clusters(truth, "truth")
        haloes = haloes[tiles.contain(np.asarray(haloes["lon_deg"]), np.asarray(haloes["lat_deg"]))]
        offsets.append(halo_offsets(find_sources(p_map, config.detect.p_max, deblend=True), haloes, where))
    sources, is_real, group = vstack(judged), np.concatenate(real), np.concatenate(groups)
    p = np.asarray(sources["p"], float)
    dust = reddening_mag(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    fit = {"groups": group, "n_dust_bins": 2, "seed": config.seed}
    calibration = fit_calibration(p, is_real, dust, **fit)
    honest = predict_out_of_fold(p, is_real, dust, **fit)
    error = expected_calibration_error(measure_reliability(honest, is_real))
    given.out.mkdir(parents=True, exist_ok=True)
    write_table(calibration.to_table(), given.out / "calibration.ecsv")
    write_table(fit_position_errors(vstack(offsets)).to_table(), given.out / "positions.ecsv")
    measure_selection(given.run, SelectionOptions(given.n, tiles.numbers), threads=given.threads)
    for name in ("fluxes.ecsv", "detections.ecsv"):
        shutil.copy(given.run / name, given.out / name)
    for name in SHIPPED:
        shutil.copy(given.run / name, given.out / name)
    card = json.loads((given.out / "model.json").read_text())
    n_patches = config.patches.n_training * config.train.max_epochs
    seeds = ", ".join(map(str, (config.seed, *config.sky.further_seeds)))
    words = {"preset": card["preset"], "version": card["szeek"], "seeds": seeds}
    words |= {"n_patches": n_patches, "size": config.patches.size}
    card |= {name: text.format(**words) for name, text in WORDS.items()}
    # which sky it was trained on, the words say; on which it is used, and what is measured there, is not its own
    card["config"] = {name: part for name, part in card["config"].items() if name not in ("sky", "model", "measure")}
    card["calibration"] = {
        "sources": len(p), "clusters": int(is_real.sum()), "skies": len(skies), "tiles": list(tiles),
        "error_out_of_fold": round(float(error), 4),
    }  # fmt: skip
    write_json(card, given.out / "model.json")
    print(json.dumps(card["calibration"]))


if __name__ == "__main__":
    main()
