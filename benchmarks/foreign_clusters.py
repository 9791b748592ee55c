"""Completeness and purity where clusters look otherwise than in the skies that a network was trained on.

python benchmarks/foreign_clusters.py RUN OUT [--model szeek-1] [--only dust-3 ...] [--n 2000] [--threads 2]
python benchmarks/foreign_clusters.py RUN OUT --train [--only all ...]

RUN is a simulated run (`szeek run demo --seed N --until maps`) of a seed that no network was trained on. Its haloes
are taken out of its maps and painted again with another look, which the injections are not told; then `szeek predict`
and `szeek selection` search eight tiles of these maps as they would a user's, with the mock catalogues of the run.
What they say is found is held against the haloes that are, in six bins of flux and four of reddening, and PURITY
against what is true. With --train the network is one of the preset demo, trained on the whole sky of that look and
the catalogues that surveys would make of it, and searches the four tiles that the training held out.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table
from scipy.special import chdtrc

from szeek.assess.calibrate import expected_calibration_error, judge_sources, measure_reliability
from szeek.assess.match import match
from szeek.assess.recovery import completeness_purity
from szeek.assess.selection import Selection, predicted_counts
from szeek.config import load_config
from szeek.files import write_table
from szeek.inputs.catalogues import select_clusters
from szeek.inputs.instrument import read_instrument
from szeek.inputs.knownclusters import read_clusters
from szeek.inputs.reddening import reddening_mag
from szeek.measure.pairs import truth_radius
from szeek.physics.looks import ClusterLook
from szeek.pipeline.searches import SelectionOptions
from szeek.simulate.components.sources import draw_cluster_galaxies, paint_sources
from szeek.simulate.density import all_density_shells
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.sky import core_fwhm_arcmin, paint_haloes
from szeek.simulate.surveys import mock_mcxc, mock_psz2, mock_redmapper
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_near_tiles
from szeek.verbs import measure_selection, run

TILES = (1, 6, 9, 14, 32, 38, 41, 45)
SURVEYS = {"PSZ2": mock_psz2, "MCXC": mock_mcxc, "REDMAPPER": mock_redmapper}
LOOKS = {
    "published": ClusterLook(),
    "dust-0": ClusterLook(dust=0.0),
    "dust-0.5": ClusterLook(dust=0.5),
    "dust-2": ClusterLook(dust=2.0),
    "dust-3": ClusterLook(dust=3.0),
    "cool-core": ClusterLook(profile="cool-core"),
    "disturbed": ClusterLook(profile="disturbed"),
    "not-relativistic": ClusterLook(temperature=0.0),
    "radio-2": ClusterLook(radio=2.0),
    "planck-2013": ClusterLook(profile="planck-2013"),
    "mcdonald-2014": ClusterLook(profile="mcdonald-2014"),
    "he-2021": ClusterLook(profile="he-2021"),
    "y-slope-1.6": ClusterLook(y_slope=1.6),
    "all": ClusterLook(dust=2.0, temperature=0.0, radio=2.0, profile="he-2021", y_slope=1.7),
}
FLUX_ARCMIN2 = (3e-4, 4.5e-4, 7e-4, 1e-3, 1.5e-3, 2.5e-3, np.inf)


def paint(look: ClusterLook, seed: int, nside: int, threads: int) -> tuple[np.ndarray, Table]:
    """Clusters of a look, and the galaxies in them, in maps of their own; and the haloes."""
    instrument, shells = read_instrument(), all_density_shells(seed, threads)
    beams = core_fwhm_arcmin(instrument)
    haloes = draw_haloes(seed, shells=shells, look=look)
    out = np.zeros((12 * nside**2, len(instrument.bands)), np.float32)
    paint_haloes(haloes, instrument, nside, beams, out=out, threads=threads)
    paint_sources(draw_cluster_galaxies(haloes, instrument, seed), instrument, nside, beams, out=out, threads=threads)
    return out, haloes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="szeek-1")
    parser.add_argument("--only", nargs="*", choices=LOOKS, default=list(LOOKS))
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    maps = SkyMaps.open(given.run / "maps")
    seed = json.loads((given.run / "run.json").read_text())["config"]["seed"]
    near = healpy.ud_grade(pixels_near_tiles(64, TILES, 8.0).astype(np.float32), maps.nside) > 0.5
    if given.train:
        near[:] = True
    published, _ = paint(ClusterLook(), seed, maps.nside, given.threads)
    for name in given.only:
        folder = given.out / name
        changed, haloes = paint(LOOKS[name], seed, maps.nside, given.threads)
        changed += maps.values
        changed -= published
        changed[~near] = 0.0
        SkyMaps(changed, near & maps.footprint, maps.bands).save(folder / "sky")
        del changed
        files = {survey: given.run / "simulated" / f"{survey.lower()}.fits" for survey in SURVEYS}
        if given.train:
            files = {survey: folder / f"{survey.lower()}.fits" for survey in SURVEYS}
            for survey, draw in SURVEYS.items():
                write_table(draw(haloes, seed), files[survey])
        scored = score(folder, haloes, files, given)
        model = "trained there" if given.train else given.model
        print(json.dumps({"look": name, "model": model, **scored}), flush=True)
        shutil.rmtree(folder / "sky")


def score(folder: Path, haloes: Table, files: dict[str, Path], given: argparse.Namespace) -> dict[str, object]:
    """Predict (or train), measure the selection, and compare with the haloes."""
    surveys = SURVEYS if given.train else ("PSZ2", "MCXC")
    mocks = [f"{survey}={files[survey].resolve()}" for survey in surveys]
    sky = {"simulate": False, "saved_maps": str((folder / "sky").resolve()), "catalogues": mocks}
    if given.train:
        settings = load_config("demo", sky=sky)
        tiles = settings.split.held_out.numbers
    else:
        settings, tiles = load_config("szeek-1", model=str(given.model), sky=sky), TILES
    out = folder / "run"
    run(settings, out, until="detect", threads=given.threads)
    said = measure_selection(out, SelectionOptions(given.n, tiles), threads=given.threads)
    truth = select_clusters(haloes, "truth")
    tile = healpy.ang2pix(2, truth["lon_deg"], truth["lat_deg"], lonlat=True)
    truth = truth[np.isin(tile, tiles)]
    sources = Table.read(out / "sources.fits")
    truth["found"] = False
    truth["found"][match(sources, truth, truth_radius(truth))["cluster"]] = True
    selection = Selection.read(out / "selection.fits")
    counts = predicted_counts(selection, truth, FLUX_ARCMIN2)
    apart = np.asarray(counts["n_found"] - counts["expected"])
    chi2 = float(apart @ np.linalg.solve(counts.meta["covariance"], apart))
    dust = reddening_mag(np.asarray(truth["lon_deg"]), np.asarray(truth["lat_deg"]))
    by_dust = []
    for low, high in zip((0, 0.035, 0.075, 0.28), (0.035, 0.075, 0.28, np.inf), strict=True):
        part = predicted_counts(selection, truth[(dust >= low) & (dust < high)], (3e-4, np.inf))
        by_dust.append([int(part["n_found"][0]), float(part["expected"][0]), float(np.sqrt(part["variance"][0]))])
    judged, real = judge_sources(sources, haloes, tiles)
    purity = np.asarray(judged["purity"], float) if "purity" in judged.colnames else np.full(len(judged), np.nan)
    known = select_clusters(read_clusters(mocks), "planck_z")
    rows = completeness_purity(sources, haloes, known, tiles=tiles, purities=(0.9, 0.8, 0.5), thresholds=())
    at_purity = {
        sample: [round(float(c), 3) for c in rows["completeness"][rows["sample"] == sample]]
        for sample in ("planck_z", "y500>5e-4", "y500>1e-3")
    }
    return {
        "found": np.asarray(counts["n_found"]).tolist(),
        "expected": np.round(np.asarray(counts["expected"], float), 1).tolist(),
        "error": np.round(np.sqrt(np.asarray(counts["variance"], float)), 1).tolist(),
        "systematic": np.round(np.asarray(counts["systematic"], float), 1).tolist(),
        "probability": float(chdtrc(len(counts), chi2)),
        "by_reddening": by_dust,
        "look_fit": said.look,
        "n_look": said.n_look,
        "known": None if said.known is None else said.known.probability,
        "calibration_error": float(expected_calibration_error(measure_reliability(purity, real))),
        "calibration_error_by_chance": _error_by_chance(purity),
        "purity": [[low, *_said_and_true(purity, real, low)] for low in (0.2, 0.4, 0.6, 0.8)],
        "completeness": at_purity,
    }


def _error_by_chance(purity: np.ndarray) -> list[float]:
    """Calibration error if every source is a cluster with its purity: the mean, and what one of twenty exceeds."""
    rng = np.random.default_rng(1)
    drawn = [rng.random(purity.size) < purity for _ in range(200)]
    errors = [expected_calibration_error(measure_reliability(purity, real)) for real in drawn]
    return [round(float(np.mean(errors)), 4), round(float(np.quantile(errors, 0.95)), 4)]


def _said_and_true(purity: np.ndarray, real: np.ndarray, low: float) -> list[float]:
    """Sources of a range of PURITY: number, mean, and the share that is real."""
    mine = (purity >= low) & (purity < low + 0.2)
    if not mine.any():
        return []
    return [int(mine.sum()), round(float(purity[mine].mean()), 3), round(float(real[mine].mean()), 3)]


if __name__ == "__main__":
    main()
