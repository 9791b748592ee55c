"""The files that ship with a network beside its weights: calibration, position errors, flux correction, card.

python benchmarks/ship_model.py RUN OUT [--fields FIELD ...] [--dust-bins 2] [--classes RUN] [--n 2000] [--half]

RUN is a finished training on simulated skies (`szeek run szeek-2 --until train`). The tiles that were held out of it,
on all of its skies, are predicted; PURITY and position errors are fitted to what is found there, and the flux
correction to injections in the first of these skies (`szeek selection`). Of a network for fields (`szeek-act`) all
that is done on FIELDs of other seeds, which have maps (`szeek run field.toml --out FIELD --until filter`); whole
skies are FIELDs too. RUN may be a shipped network, to be calibrated anew (`--n 0`). What is fitted is then measured
on other skies (performance page), never on these. Of a network for y maps (`szeek-y`) the card alone is written.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import healpy
import numpy as np
from astropy.table import Table, vstack
from safetensors.torch import load_file

from szeek.assess.calibrate import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    judge_sources,
    measure_reliability,
    predict_out_of_fold,
)
from szeek.assess.classes import join_calibrations, judge_class_sources
from szeek.assess.selection import fit_position_errors, halo_offsets
from szeek.assess.sources import LOWEST_P, find_sources
from szeek.config import Config, load_config
from szeek.files import write_json, write_table
from szeek.find.predict import predict, predict_classes, write_prediction
from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2, read_catalogue, select_clusters, truth_cut
from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import reddening_mag
from szeek.learn.model import Model, load_model, save_tensors
from szeek.measure.pairs import beam_radius
from szeek.pipeline.searches import SelectionOptions
from szeek.sky.healpix import nside_of
from szeek.sky.mapset import open_maps
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import Tiles, pixels_in_tiles
from szeek.verbs import measure_selection, run

SHIPPED = ("model.safetensors", "model.json")
WORDS = {
    "szeek-2": {
        "training_data": "simulated skies of szeek {version}, nside 2048, seeds {seeds} in turn, {n_patches:,} "
        "patches of {size} x {size} pixels; dust, temperature, radio galaxies and pressure profile of each cluster "
        "drawn at random (szeek.physics.looks); labels: mock Planck_z for 1, haloes with Y500 > 3e-4 arcmin^2 for "
        "1/2; `szeek run {preset}` trains the same anew",
        "intended_use": "Finding clusters in Planck HFI maps (100 to 857 GHz, full sky or cut-outs of some degrees), "
        "and as a start for work with other maps.",
        "limits": "Trained on simulated skies and on no real one. p is a score: clusters below Planck's detection "
        "limit were to be answered with 1/2; PURITY, by reddening, is the probability of a halo with Y500 > 3e-4 "
        "arcmin^2, and as good as the simulation is. Clusters larger than about 20 arcmin in theta500 are often "
        "missed, and some bright ones of 6 to 17 arcmin. Bands other than the six of HFI are refused; beams and "
        "noise other than those of HFI are not known to it. Some radio sources are reported: for a sample of small "
        "p cut them out.",
    },
    "szeek-1x": {
        "training_data": "simulated skies of szeek {version}, nside 2048, seeds {seeds} in turn, {n_patches:,} "
        "patches of {size} x {size} pixels, from the weights of szeek-2 on; clusters as of szeek-2, with photons "
        "of a survey like ROSAT's: 300 s in the median, gas correlated with what is painted, AGN, stars and "
        "background (szeek.simulate.components.xray); a quarter of the patches without X-rays; `szeek run {preset}` "
        "trains the same anew",
        "intended_use": "Finding clusters in Planck HFI maps (100 to 857 GHz, full sky or cut-outs of some degrees) "
        "with a map of X-ray photons beside them where there is one.",
        "limits": "Trained on simulated skies and on no real one. p is a score; PURITY, by reddening, is the "
        "probability of a halo with Y500 > 3e-4 arcmin^2 where there are X-rays as deep as ROSAT's, and of those of "
        "szeek-2 where there are none. With photons a third as many PURITY is off by 0.06 in the mean. X-ray groups "
        "below 7e13 Msun and AGN inside clusters are not in its training. Clusters that are bright in X-rays for "
        "their SZ effect are favoured. Bands other than the six of HFI are refused; beams and noise other than those "
        "of HFI are not known to it.",
    },
    "szeek-components": {
        "training_data": "simulated skies of szeek {version}, nside 2048, seeds {seeds} in turn, {n_patches:,} "
        "patches of {size} x {size} pixels, from the weights of szeek-2 on; clusters as of szeek-2; radio sources "
        "above 40 mJy at 143 GHz, dusty galaxies above 60 mJy at 353 GHz, all cold clumps, cells of 55 arcmin with "
        "CO above 2 K km/s; `szeek run {preset}` trains the same anew",
        "intended_use": "Finding clusters in Planck HFI maps (100 to 857 GHz, full sky or cut-outs of some degrees), "
        "and telling what else is there: a map of p and a catalogue of each class, and the class of each candidate.",
        "limits": "Trained on simulated skies and on no real one. p is a score; PURITY is the probability of a halo "
        "with Y500 > 3e-4 arcmin^2, that of the other classes of what the training counted. CO is that of the "
        "package's model, which follows the dust in excess of H I at 1 deg: a class of the sky, not a map of the "
        "line. Clusters larger than about 20 arcmin in theta500 are often missed. Bands other than the six of HFI "
        "are refused; beams and noise other than those of HFI are not known to it.",
    },
    "szeek-act": {
        "training_data": "simulated fields of szeek {version}, 600 deg^2 each, seeds {seeds} in turn, {n_patches:,} "
        "patches of {size} x {size} pixels of 0.5 arcmin; dust, temperature, radio galaxies and pressure profile of "
        "each cluster drawn at random (szeek.physics.looks); labels: haloes with Y500 > 5e-5 arcmin^2; "
        "`szeek run {preset}` trains the same anew",
        "intended_use": "Finding clusters in maps of ACT DR6 or alike: bands f090, f150 and f220 with inverse "
        "variances, beams of 2.1, 1.4 and 1.0 arcmin, white noise of about 9 to 16, 9 to 16 and 30 to 52 uK arcmin.",
        "limits": "Trained on simulated fields and on no real one: without stripes along the scan, lensed dusty "
        "galaxies and the holes that surveys cut around the brightest sources. PURITY is the probability of a halo "
        "with Y500 > 5e-5 arcmin^2, and as good as the simulation is. Clusters larger than about 10 arcmin in "
        "theta500 are Planck's: their flux lies where the atmosphere is brighter than they are. Maps without one of "
        "the three bands are refused.",
    },
    "szeek-joint": {
        "training_data": "simulated fields of szeek {version}, 600 deg^2 each, seeds {seeds} in turn, seen by Planck "
        "HFI and, in the southern 85 %, by ACT DR6, {n_patches:,} patches of {size} x {size} pixels of 0.5 arcmin; "
        "dust, temperature, radio galaxies and pressure profile of each cluster drawn at random "
        "(szeek.physics.looks); labels: haloes with Y500 > 5e-5 arcmin^2; `szeek run {preset}` trains the same anew",
        "intended_use": "Finding clusters in maps of ACT DR6 or alike together with those of Planck HFI: bands f090, "
        "f150 and f220 with inverse variances, and the six of HFI, of the same part of the sky.",
        "limits": "Trained on simulated fields and on no real one: without stripes along the scan, lensed dusty "
        "galaxies and the holes that surveys cut around the brightest sources. PURITY is the probability of a halo "
        "with Y500 > 5e-5 arcmin^2 where both experiments observe, and as good as the simulation is. Half "
        "of the clusters of 10 to 15 arcmin in theta500 are missed at purity 0.8; szeek-2 finds a few more of those "
        "in Planck's maps. What it finds where Planck alone observes was not measured.",
    },
    "szeek-y": {
        "training_data": "simulated skies of szeek {version}, at nside 1024, seeds {seeds} in turn, {n_patches:,} "
        "patches of {size} x {size} pixels of 3.4 arcmin; dust, temperature, radio galaxies and pressure profile of "
        "each cluster drawn at random (szeek.physics.looks); target: the needlet ILC's y less the painted y, over "
        "the local scatter; `szeek run {preset}` trains the same anew",
        "intended_use": "Taking off what foregrounds and noise leave in a y map of Planck HFI maps (100 to 857 GHz, "
        "full sky or a field of some degrees): `szeek ymap --model szeek-y`.",
        "limits": "Trained on simulated skies and on no real one. Its input holds neither the SZ effect of cold "
        "electrons nor the CMB, so that the response to both stays 1 and 0 whatever it says; dust and radio galaxies "
        "that sit in clusters are taken off as far as the simulated ones are like the real ones. Hot gas stays 5 to "
        "10 % low. Bands other than the six of HFI are refused.",
    },
}


class Sky(NamedTuple):
    """A sky on which is measured: where it was held out, and of what size tiles are there."""

    folder: Path
    where: np.ndarray
    tiles: Tiles


def held_out_skies(given: argparse.Namespace, config: Config) -> list[Sky]:
    """The fields, all of them; or the held-out tiles of the skies of the training."""
    if given.fields:
        whole = Tiles(tuple(range(12 * config.split.nside**2)), config.split.nside)
        maps = [open_maps(field / "maps") for field in given.fields]
        seen = [sky.footprint if isinstance(sky, SkyMaps) else sky.seen for sky in maps]
        return [Sky(field, where, whole) for field, where in zip(given.fields, seen, strict=True)]
    tiles = config.split.held_out
    folders = [given.run, *(given.run / f"sky-{seed}" for seed in config.sky.further_seeds)]
    return [Sky(folder, pixels_in_tiles(config.sky.nside, tiles), tiles) for folder in folders]


def halve_weights(file: Path) -> None:
    """Keep what mixed precision rounds anyway, the weights of convolutions, in bfloat16: half of the file."""
    tensors = load_file(file)
    save_tensors({name: x.bfloat16() if x.dim() == 4 else x for name, x in tensors.items()}, file)


def calibrate_classes(
    model: Model, run: Path, seed: int, threads: int, options: dict[str, int]
) -> dict[str, Calibration]:
    """Probability of each further class against p, on the tiles of odd number of a sky that was not trained on."""
    tiles = Tiles(tuple(range(1, 48, 2)), 2)
    maps = open_maps(run / "maps")
    p = predict_classes(maps, model, where=pixels_in_tiles(maps.nside, tiles), threads=threads, **options)
    truth, calibrations = Table.read(run / "simulated" / "classes.fits"), {}
    for k, name in enumerate(model.classes, 1):
        own = truth[np.char.lower(np.asarray(truth["survey"], str)) == name]
        found = find_sources(np.ascontiguousarray(p[:, k]), LOWEST_P, deblend=True)
        judged, real = judge_class_sources(found, own, tiles)
        dust = reddening_mag(np.asarray(judged["lon_deg"]), np.asarray(judged["lat_deg"]))
        score, groups = np.asarray(judged["p"], float), np.asarray(judged["tile"])
        calibrations[name] = fit_calibration(score, real, dust, groups=groups, n_dust_bins=8, seed=seed)
        print(f"{name}: {len(judged)} sources, {real.sum()} right", flush=True)
    return calibrations


def measure_injections(given: argparse.Namespace, config: Config) -> None:
    """Flux correction and detections by S/N, from injections into the first sky, with the network just written."""
    measured, tiles = given.run, config.split.held_out.numbers
    if given.fields:
        measured, tiles = given.fields[0], None
        run_config = json.loads((measured / "run.json").read_text())["config"] | {"model": str(given.out.resolve())}
        run(Config.model_validate(run_config), measured, until="detect", threads=given.threads)
    measure_selection(measured, SelectionOptions(given.n, tiles), threads=given.threads)
    for name in ("fluxes.ecsv", "detections.ecsv"):
        shutil.copy(measured / name, given.out / name)


def write_card(out: Path, config: Config, calibration: dict[str, object]) -> None:
    """Say in the card what the training saw, and what the network is for."""
    card = json.loads((out / "model.json").read_text())
    n_patches = config.patches.n_training * config.train.max_epochs
    seeds = ", ".join(map(str, (config.seed, *config.sky.further_seeds)))
    words = {"preset": card["preset"], "version": card["szeek"], "seeds": seeds}
    words |= {"n_patches": n_patches, "size": config.patches.size}
    card |= {name: text.format(**words) for name, text in WORDS[card["preset"]].items()}
    # which sky it was trained on, the words say; on which it is used, and what is measured there, is not its own
    card["config"] = {name: part for name, part in card["config"].items() if name not in ("sky", "model", "measure")}
    if calibration:
        card["calibration"] = calibration
    write_json(card, out / "model.json")


def copy_model(given: argparse.Namespace, halve: bool) -> None:
    """Weights and card."""
    given.out.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED if given.out.resolve() != given.run.resolve() else ():
        shutil.copy(given.run / name, given.out / name)
    if halve:
        halve_weights(given.out / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fields", type=Path, nargs="+", default=[])
    parser.add_argument("--dust-bins", type=int, default=2)
    parser.add_argument("--classes", type=Path, help="sky of another seed, for the further classes of a network")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--half", action="store_true", help="keep the convolutions' weights in bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    record, preset = given.run / "run.json", json.loads((given.run / "model.json").read_text())["preset"]
    if record.is_file():
        config = Config.model_validate(json.loads(record.read_text())["config"])
    else:
        config = load_config(str(preset))
    if config.network.target == "foregrounds":
        copy_model(given, given.half)
        write_card(given.out, config, {})
        return
    model = load_model(given.run)
    if model.classes and given.classes is None:
        parser.error(f"the network tells {', '.join(model.classes)} apart, expected --classes with a sky to fit on")
    if config.preset not in WORDS:
        parser.error(f"preset {config.preset} has no text for its card, expected {', '.join(WORDS)}; write one here")
    cuts = [truth_cut(name) for name in config.labels.selections]
    least = min((cut for cut in cuts if cut is not None), default=TRUTH_Y500_ARCMIN2)
    radius = beam_radius(config.assess.radius_arcmin, read_instrument(config.sky.instrument).bands)
    options = {"margin": config.predict.margin, "rotations": config.predict.rotations}
    skies = held_out_skies(given, config)
    judged, real, groups, offsets = [], [], [], []
    for number, (folder, where, tiles) in enumerate(skies):
        p_map = predict(open_maps(folder / "maps"), model, where=where, threads=given.threads, **options)
        if folder == given.run:
            write_prediction(p_map, given.run / "prediction.fits")
        truth = read_catalogue(folder / "simulated" / "truth.fits")
        sources = find_sources(p_map, LOWEST_P, deblend=config.detect.deblend)
        table, is_real = judge_sources(sources, truth, tiles, y500_min_arcmin2=least, radius_arcmin=radius)
        judged.append(table)
        real.append(is_real)
        groups.append(12 * tiles.nside**2 * number + np.asarray(table["tile"]))
        haloes = select_clusters(truth, f"truth>{least}")
        haloes = haloes[where[healpy.ang2pix(nside_of(where), haloes["lon_deg"], haloes["lat_deg"], lonlat=True)]]
        found = find_sources(p_map, config.detect.p_max, deblend=True)
        offsets.append(halo_offsets(found, haloes, where, radius_arcmin=radius))
    sources, is_real, group = vstack(judged), np.concatenate(real), np.concatenate(groups)
    p = np.asarray(sources["p"], float)
    dust = reddening_mag(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    fit = {"groups": group, "n_dust_bins": given.dust_bins, "seed": config.seed}
    calibration = replace(fit_calibration(p, is_real, dust, **fit), y500_min_arcmin2=least)
    honest = predict_out_of_fold(p, is_real, dust, **fit)
    error = expected_calibration_error(measure_reliability(honest, is_real))
    given.out.mkdir(parents=True, exist_ok=True)
    write_table(calibration.to_table(), given.out / "calibration.ecsv")
    if model.classes:
        of_class = calibrate_classes(model, given.classes, config.seed, given.threads, options)
        write_table(join_calibrations(of_class), given.out / "class-calibration.ecsv")
    write_table(fit_position_errors(vstack(offsets)).to_table(), given.out / "positions.ecsv")
    copy_model(given, config.predict.bfloat16 and given.half)
    calibrated = {
        "sources": len(p), "clusters": int(is_real.sum()), "skies": len(skies),
        **({} if given.fields else {"tiles": list(config.split.held_out)}),
        "error_out_of_fold": round(float(error), 4),
    }  # fmt: skip
    write_card(given.out, config, calibrated)
    if given.n:  # else what was measured before stays
        measure_injections(given, config)
    print(json.dumps(calibrated))


if __name__ == "__main__":
    main()
