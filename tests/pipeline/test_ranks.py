"""Training by two gloo processes under torchrun, against one process with the whole batch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import healpy
import numpy as np
import pytest
from commandline import szeek
from planck_like import HFI, planck_like_sky, write_planck_set

from szeek.config import load_config
from szeek.inputs.catalogues import write_catalogue
from szeek.learn import train as training
from szeek.learn.distributed import Ranks
from szeek.learn.model import load_model
from szeek.learn.train import train

sys.path.insert(0, str(Path(__file__).parents[1] / "learn"))
from test_train import SMALL, make_sky

TWO = {**SMALL, "network": {"filters": (4, 8), "dropout": 0.2, "batch_norm": True}}
FOUR = {**TWO, "train": {**SMALL["train"], "shards": 4}}

#: Trains as the tests do; what each rank cuts is noted, and a rank that writes where only the first may fails.
SCRIPT = f"""
import json, sys
from pathlib import Path
sys.path[:0] = {sys.path!r}
from test_train import make_sky
from szeek.config import load_config
from szeek.learn import train as training
from szeek.learn.distributed import join_ranks
from szeek.learn.patches import Patches

folder, trainings = Path(sys.argv[1]), json.loads(sys.argv[2])
plan, seen = Patches.plan, []
def note(self, index, part="training"):
    seen.append([part, int(index)])
    return plan(self, index, part)
Patches.plan = note
with join_ranks() as ranks:
    if ranks.rank:
        training.save_file = training.Model.save = None
    for name, (changes, stop) in trainings.items():
        seen.clear()
        config = load_config("bonjean2020", **changes)
        training.train(*make_sky(), config, folder / name, threads=1, stop_after_steps=stop)
        (folder / name / f"cut-{{ranks.rank}}.json").write_text(json.dumps(seen))
"""

#: Name: changes of the configuration, and how many steps are done.
TRAININGS = {"two": (TWO, None), "part": (TWO, 7), "four": (FOUR, None), "four-step": (FOUR, 1)}


def launch_two(*words):
    """Two processes under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *map(str, words)], check=False, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def in_two(tmp_path_factory):
    """Folder of all trainings by two ranks, one after the other: processes take longer to start than these do."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "job.py").write_text(SCRIPT)
    done = launch_two(folder / "job.py", folder, json.dumps(TRAININGS))
    assert done.returncode == 0, done.stderr
    return folder


def weights(model):
    return {name: tensor.numpy() for name, tensor in model.network.state_dict().items()}


@pytest.fixture(scope="module")
def sky():
    return make_sky()


def test_two_ranks_with_a_shard_each_give_the_bits_of_one_process(sky, in_two, tmp_path):
    """15 steps, dropout and batch normalisation on; broken off after 7 steps, and continued by one process."""
    one = train(*sky, load_config("bonjean2020", **TWO), tmp_path / "one")
    two = load_model(in_two / "two")
    shutil.copytree(in_two / "part", tmp_path / "part")
    continued = train(*sky, load_config("bonjean2020", **TWO), tmp_path / "part")
    assert len(load_model(in_two / "part").card["curve"]) == 1
    for other in (two, continued):
        assert [(row["train_loss"], row["valid_loss"]) for row in other.card["curve"]] == [
            (row["train_loss"], row["valid_loss"]) for row in one.card["curve"]
        ]
        for name, tensor in weights(one).items():
            np.testing.assert_array_equal(weights(other)[name], tensor, err_msg=name)


def test_each_rank_cuts_its_own_patches(in_two):
    cut = [json.loads((in_two / "two" / f"cut-{rank}.json").read_text()) for rank in (0, 1)]
    for part, n in (("training", 35), ("validation", 9)):
        first, second = ([index for name, index in one if name == part] for one in cut)
        # three epochs: every patch three times, by the two of them together
        assert sorted(first + second) == sorted(3 * list(range(n)))
        assert abs(len(first) - len(second)) <= 3 * 8


def test_more_shards_than_ranks_differ_by_rounding_alone(sky, in_two, tmp_path):
    """Sums in another order: one step moves each weight the same way, to the last digits."""
    one = train(*sky, load_config("bonjean2020", **FOUR), tmp_path / "one", stop_after_steps=1)
    two = load_model(in_two / "four-step")
    start = load_config("bonjean2020", **FOUR).train.learning_rate
    a, b = (np.concatenate([v.ravel() for v in weights(m).values()]) for m in (one, two))
    assert np.abs(a - b).max() < 1e-3 * start
    one = train(*sky, load_config("bonjean2020", **FOUR), tmp_path / "one")
    two = load_model(in_two / "four")
    np.testing.assert_allclose(
        [row["valid_loss"] for row in two.card["curve"]], [row["valid_loss"] for row in one.card["curve"]], rtol=1e-4
    )


def test_more_ranks_than_shards_are_refused(sky, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "current_ranks", lambda: Ranks(0, 3))
    with pytest.raises(ValueError, match="shards is 2, but 3 processes take part; set it to a multiple of 3"):
        train(*sky, load_config("bonjean2020", **SMALL), tmp_path)


@pytest.mark.parametrize(("n", "world"), [(0, 2), (1, 4), (10, 3), (64, 64)])
def test_shares_of_the_ranks_are_everything_once(n, world):
    assert sorted(k for rank in range(world) for k in Ranks(rank, world).share(n)) == list(range(n))


SMALL_TOML = """
preset = "bonjean2020"
[sky]
catalogues = ["clusters.fits"]
[sky.maps]
{maps}
[input]
kind = "local-whitened"
background_nside = 16
[split]
folds = 3
[labels]
selections = ["planck_z"]
disc_arcmin = 40.0
[patches]
n_patches = 60
validation_fraction = 0.2
size = 32
pixel_arcmin = 13.74
[network]
filters = [4, 8]
[train]
max_epochs = 1
"""


def test_folds_through_the_command_line(tmp_path):
    """torchrun -m szeek.cli run: the first process reads the maps, both train each fold, only the first writes."""
    values, clusters = planck_like_sky(128)
    # half-degree pixels would drown them: one bright pixel each
    host = healpy.ang2pix(128, clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    values = values.copy()
    values[host] += np.asarray(HFI.tsz_response) * 1e-3
    clusters["survey"], clusters["z"] = "PSZ2", 0.2
    write_catalogue(clusters, tmp_path / "clusters.fits")
    files = write_planck_set(tmp_path / "sky", values)
    maps = "\n".join(f'"{band}" = "{file.relative_to(tmp_path)}"' for band, file in files.items())
    (tmp_path / "small.toml").write_text(SMALL_TOML.format(maps=maps))
    words = ["run", str(tmp_path / "small.toml"), "--until", "train", "--threads", "1", "--out"]
    done = szeek(*words, tmp_path / "one")
    assert done.returncode == 0, done.stderr
    for _ in range(2):  # the second finds nothing to do
        done = launch_two("-m", "szeek.cli", *words, tmp_path / "two")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"products up to 'train': {tmp_path / 'two'}\n"
    for fold in range(3):
        one, two = ((tmp_path / name / f"fold-{fold}" / "model.safetensors").read_bytes() for name in ("one", "two"))
        assert one == two
    assert "train: unchanged" in done.stderr
