"""What each ingredient of szeek-1 is worth: short trainings that differ in one thing, scored on eight held-out tiles.

All are of one sky, and of the paper's width and 64-pixel patches in float32 where they do not say otherwise.

szeek run szeek-1 --out RUN --until filter
python benchmarks/ablations.py RUN --out FOLDER [--epochs 3] [--only base,bfloat16] [--sky OTHER] [--threads 1]

The run is a simulated one with S/N maps made; with --sky the scores are of every second tile of another one's sky,
whose three times as many clusters tell smaller differences. Each training is kept in a folder of its own, with its
scores on every sky, and not repeated; the table is printed from all that were asked for.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from ingredients import INGREDIENTS, trying, undo_focal

from szeek.assess.recovery import completeness_purity
from szeek.config import load_config
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.learn.train import train
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

#: Two polar, two of middle latitude, one each side of the plane, beside the three that choose the epoch.
TEST_TILES = (1, 6, 14, 32, 45)
VALIDATION_TILES = (9, 38, 41)
#: Of another sky, all of which is held out.
OTHER_TILES = tuple(range(0, 48, 2))

#: szeek-1 at the paper's width and patches of its size, in float32, on one sky.
BASE: dict[str, dict[str, Any]] = {
    "sky": {"further_seeds": []},
    "labels": {"selections": ["truth"]},
    "patches": {"size": 64},
    "network": {"filters": [8, 16, 32, 64, 128]},
    "train": {"bfloat16": False, "batch": 32},
}
#: What differs from it.
CHANGES: dict[str, dict[str, Any]] = {
    "base": {},
    "bfloat16": {"train": {"bfloat16": True}},
    "wide in bfloat16": {"network": {"filters": [16, 32, 64, 128, 256]}, "train": {"bfloat16": True}},
    "patches of 128 pixels": {"patches": {"size": 128}, "train": {"batch": 8}},
    "no S/N maps": {"input": {"theta500_arcmin": []}},
    "labels of all surveys": {"labels": {"selections": ["planck", "mcxcwp", "rm50"], "disc_theta500": 0.0}},
    "labels of all surveys with a quarter of MCXC and a tenth of rm50": {
        "labels": {
            "selections": ["planck", "mcxcwp", "rm50"],
            "targets": {"mcxcwp": 0.25, "rm50": 0.1},
            "disc_theta500": 0.0,
        }
    },
    "labels of Planck": {"labels": {"selections": ["planck"], "disc_theta500": 0.0}},
    "labels of Planck_z": {"labels": {"selections": ["planck_z"], "disc_theta500": 0.0}},
    "discs of 10 arcmin": {"labels": {"disc_theta500": 0.0}},
    "discs of 5 arcmin": {"labels": {"disc_arcmin": 5.0, "disc_theta500": 0.0}},
    "every patch with a cluster": {"patches": {"empty_fraction": 0.0}},
    "no mirrored patches": {"patches": {"mirror": False}},
    "no batch normalisation": {"network": {"batch_norm": False}},
    "dropout 0.2": {"network": {"dropout": 0.2}},
    "paper's normalisation": {"input": {"kind": "left-gaussian"}},
    "constant rate 1e-4": {"train": {"schedule": "constant", "learning_rate": 1e-4}},
    "another seed": {"seed": 2},
    "labels of Planck_z without the rest": {
        "labels": {"selections": ["planck_z"], "ignore": ["planck_no-z", "mcxcwp", "rm50"], "disc_theta500": 0.0}
    },
    "Planck_z and half of the truth": {"labels": {"selections": ["planck_z", "truth"], "targets": {"truth": 0.5}}},
    "Planck_z and a quarter of the truth": {
        "labels": {"selections": ["planck_z", "truth"], "targets": {"truth": 0.25}}
    },
    "Planck_z and half of the truth with another seed": {
        "labels": {"selections": ["planck_z", "truth"], "targets": {"truth": 0.5}},
        "seed": 2,
    },
    "positive-unlabelled loss": {"labels": {"selections": ["planck_z"], "disc_theta500": 0.0}},
    **{name: {} for name in INGREDIENTS if name != "positive-unlabelled loss"},
}


def measure(run: Path, folder: Path, name: str, epochs: int, other: Path | None, threads: int) -> dict[str, Any]:
    """Train one variant on the run's sky and score it there or on another one's."""
    mine = {key: value for key, value in CHANGES[name].items() if key != "seed"}
    changes: dict[str, Any] = {key: {**BASE.get(key, {}), **mine.get(key, {})} for key in {**BASE, **mine}}
    changes.setdefault("train", {}).update(max_epochs=epochs, patience=epochs)
    changes.setdefault("patches", {}).update(n_patches=12_000, validation_fraction=1 / 6)
    changes["split"] = {"test_tiles": TEST_TILES, "validation_tiles": VALIDATION_TILES}
    config = load_config("szeek-1", seed=CHANGES[name].get("seed", 1), **changes)
    maps, truth, clusters = read_sky(run)
    clusters = vstack([clusters, select_clusters(truth, "truth")], metadata_conflicts="silent")
    began = time.process_time()
    with trying(name):
        model = train(maps, clusters, config, folder, threads=threads)
    cost = folder / "train_cpu_s"  # of a training that is there already, what it took then
    if not cost.is_file():
        cost.write_text(str(time.process_time() - began))
    tiles = (*TEST_TILES, *VALIDATION_TILES)
    if other is not None:
        tiles = OTHER_TILES
        maps, truth, clusters = read_sky(other)
    where = pixels_in_tiles(maps.nside, tiles)
    began = time.process_time()
    p_map = predict(maps, model, rotations=config.predict.rotations, where=where, threads=threads)
    predict_s = time.process_time() - began
    if name == "focal loss":  # or most of the sky would lie above the detection's threshold
        p_map = undo_focal(p_map)
    score = score_tiles(p_map, truth, select_clusters(clusters, "planck_z"), tiles)
    best = min(row["valid_loss"] for row in model.card["curve"])
    return {
        "name": name,
        "valid_loss": best,
        "train_cpu_s": float(cost.read_text()),
        "predict_cpu_s": predict_s,
        **score,
    }


def read_sky(run: Path) -> tuple[SkyMaps, Table, Table]:
    """Maps, haloes and known clusters of a simulated run."""
    truth = read_catalogue(run / "simulated" / "truth.fits")
    return SkyMaps.open(run / "maps"), truth, read_catalogue(run / "clusters.fits")


def score_tiles(p_map: np.ndarray, truth: Table, planck_z: Table, tiles: tuple[int, ...]) -> dict[str, Any]:
    """Completeness at purity 0.9, 0.8 and 0.5 in the tiles."""
    sources = detect_sources(p_map, 0.05, weighted=True, deblend=True, min_prominence=0.05)
    rows = completeness_purity(sources, truth, planck_z, tiles=tiles, purities=(0.9, 0.8, 0.5), thresholds=())
    return {
        sample: [[float(row[f"completeness{end}"]) for end in ("", "_low", "_high")] for row in mine]
        for sample in dict.fromkeys(rows["sample"])
        if len(mine := rows[rows["sample"] == sample])
    } | {"n": {str(row["sample"]): int(row["n_sample"]) for row in rows}}


def table(scores: list[dict[str, Any]]) -> str:
    """The scores as Markdown."""
    samples = ("planck_z", "y500>5e-4", "y500>1e-3", "y500>2e-3")
    lines = [
        "| what differs | validation loss | " + " | ".join(samples) + " | core-min |",
        "|---" * (len(samples) + 3) + "|",
    ]
    for score in scores:
        cells = [" / ".join(f"{value:.2f}" for value, _, _ in score[sample]) for sample in samples]
        cost = f"{score['train_cpu_s'] / 60:.1f}"
        lines.append(" | ".join([f"| {score['name']}", f"{score['valid_loss']:.5f}", *cells, f"{cost} |"]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a simulated run, S/N maps made")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--epochs", type=int, default=3, help="of 10,000 patches each")
    parser.add_argument("--only", default=",".join(CHANGES), help="some of them, by name")
    parser.add_argument("--sky", type=Path, help="folder of another run, on whose sky the scores are made")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    names = given.only.split(",")
    scores = []
    for name in names:
        folder = given.out / name.replace(" ", "-").replace("/", "-").replace("'", "")
        kept = folder / ("score.json" if given.sky is None else f"score-{given.sky.resolve().name}.json")
        if not kept.is_file():
            print(f"{name} ...", flush=True)
            score = measure(given.run, folder, name, given.epochs, given.sky, given.threads)
            kept.write_text(json.dumps(score, indent=1))
        scores.append(json.loads(kept.read_text()))
        print(table(scores[-1:]).splitlines()[-1], flush=True)
    print(table(scores))


if __name__ == "__main__":
    main()
