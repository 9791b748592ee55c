"""The whole job through the command line on a small simulated sky; what is skipped, continued and refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits, votable
from astropy.table import Table
from commandline import szeek, szeek_process

from szeek.assess.detections import DetectionCurve
from szeek.assess.selection import PositionErrors, Selection
from szeek.config import load_config
from szeek.find.predict import predict, predict_classes, read_prediction
from szeek.learn.folds import fold_of_tile
from szeek.learn.model import load_model
from szeek.pipeline.products import RunFolder
from szeek.pipeline.stage import Run, _open_record, stage_key
from szeek.pipeline.stages import MAPS, SKY, TRAIN, _with_truth
from szeek.sky.mapset import open_maps
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles, tile_of
from szeek.verbs import STAGES, detect, list_stages, measure_purity, measure_selection, run

CONFIG = """
preset = "demo"
[sky]
nside = 256
[patches]
n_patches = 240
validation_fraction = 0.2
size = 32
pixel_arcmin = 13.74
[network]
filters = [4, 8]
[labels]
disc_arcmin = 40.0
[input]
background_nside = 16
[train]
max_epochs = 2
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    (folder / "small.toml").write_text(CONFIG)
    done = szeek_process("run", folder / "small.toml", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "is detected at their positions" in done.stderr  # the finding about one's maps is said, not only kept
    assert done.stdout.strip().splitlines()[-1] == f"report: {folder / 'run' / 'report.html'}"
    return folder / "run"


def test_selection_of_a_run(job, tmp_path):
    """The verb paints, finds again and writes; the network is a toy, so that only the books are checked here."""
    folder = tmp_path / "run"
    shutil.copytree(job, folder)
    done = szeek("selection", folder, "--number", 150, "--tile", 6, "--tile", 9)
    assert done.returncode == 0, done.stderr
    assert "injected clusters found at p > 0.1" in done.stdout
    assert "haloes found (expected) by Y500" in done.stdout
    selection = Selection.read(folder / "selection.fits")
    table = selection.injections
    tiles = tile_of(np.asarray(table["lon_deg"]), np.asarray(table["lat_deg"]))
    assert 100 < len(table) <= 150 and set(tiles) == {6, 9}
    assert np.isfinite(table["noise_arcmin2"]).all() and np.isnan(selection.noise_arcmin2).any()
    value, low, high, systematic = selection.completeness(1e-2, 5.0, 112.5, 41.81)
    assert 0 <= low <= value <= high <= 1 and systematic >= 0
    # the curve that known clusters are held against on every run counts the injections that have an S/N
    assert "dust in clusters, from" in done.stdout
    curve = DetectionCurve.from_table(Table.read(folder / "detections.ecsv"))
    assert curve.p_max == 0.1 and 0 < curve.n.sum() <= len(table) and np.all(curve.n_found <= curve.n)
    # what lies beside the map fills POS_ERR: 3 arcmin at p = 1e-6, 1 at 1 - 1e-6, straight in ln odds (13.8155)
    errors = PositionErrors(*(np.array(column) for column in ([0.0, 1.0], [3.0, 1.0], [6.0, 2.0])))
    errors.to_table().write(folder / "positions.ecsv", overwrite=True)
    done = szeek("detect", folder, "--out", tmp_path / "again", "--p-max", 0.01)
    assert done.returncode == 0, done.stderr
    found = Table.read(tmp_path / "again" / "candidates.fits")
    assert len(found)
    p = np.asarray(found["P"], float)
    way = (np.log(p / (1 - p)) + 13.8155) / 27.6310
    np.testing.assert_allclose(found["POS_ERR"], 3 - 2 * way, rtol=1e-5)
    np.testing.assert_allclose(found["POS_ERR95"], 6 - 4 * way, rtol=1e-5)


def test_purity_of_a_run_from_null_skies(job, tmp_path):
    """The toy network finds what it finds: sources are those of the run, and shares are shares."""
    folder = tmp_path / "run"
    shutil.copytree(job, folder)
    done = szeek("purity", folder, "--tile", 6)
    assert done.returncode == 0, done.stderr
    table = Table.read(folder / "purity.ecsv")
    candidates = Table.read(job / "candidates.fits")
    assert table["n"][0] == ((candidates["TILE"] == 6) & (candidates["P"] > 0.1)).sum()
    assert {"n_flipped", "purity_rotated", "confirmed", "purity_true"} <= set(table.colnames)
    assert (np.diff(table["n_flipped"]) <= 0).all()
    known = np.asarray(table["purity_true"])
    assert ((known[np.isfinite(known)] >= 0) & (known[np.isfinite(known)] <= 1)).all()


def test_a_check_left_out_makes_no_stage_anew(tmp_path):
    """Nor do checkpoints at other times: the products are the same."""
    job = Run(load_config("demo"), tmp_path)
    other = Run(load_config("demo", sky={"check": False}, train={"checkpoint_s": 1.0}), tmp_path)
    for stage in list_stages(job.config):
        assert stage_key(stage, job, {"stages": {}}) == stage_key(stage, other, {"stages": {}})


def test_the_same_command_from_another_folder_makes_no_stage_anew(tmp_path, monkeypatch):
    """Paths in a file are relative to it: files named by another way are the same as long as they are unchanged."""
    for name in ("a.fits", "b.csv"):
        (tmp_path / name).touch()
    text = 'preset = "demo"\n[sky]\ncatalogues = ["PSZ2=b.csv"]\n[sky.maps]\n100 = "a.fits"\n'
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.chdir(tmp_path)

    def key(source):
        return stage_key(MAPS, Run(load_config(source), tmp_path), {"stages": {}})

    here = key("mine.toml")
    assert key(tmp_path / "mine.toml") == here
    os.utime("a.fits", (1, 1))
    assert key("mine.toml") != here
    here = key("mine.toml")
    (tmp_path / "mine.toml").write_text(text.replace("PSZ2=", "MCXC="))
    assert key("mine.toml") != here


def test_other_weights_to_begin_with_train_anew(tmp_path):
    """Weights count by their content: a copy in another folder trains nothing anew."""

    def key(name, weights):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "model.json").touch()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        job = Run(load_config("demo", train={"start_from": str(tmp_path / name)}), tmp_path)
        return stage_key(TRAIN, job, {"stages": {}})

    before = key("a", b"old")
    assert key("b", b"old") == before
    assert key("a", b"new") != before


def test_a_mask_makes_the_maps_anew_and_none_makes_nothing_anew(tmp_path):
    """The mask counts by its name, column and content, the user's own on a simulated sky too."""
    for name in ("a.fits", "b.fits"):
        (tmp_path / name).touch()

    def key(stage, *masks):
        job = Run(load_config("demo", sky={"masks": [str(tmp_path / mask) for mask in masks]}), tmp_path)
        return stage_key(stage, job, {"stages": {}})

    before = key(MAPS, "a.fits")
    assert len({before, key(MAPS), key(MAPS, "b.fits"), key(MAPS, "a.fits", "b.fits")}) == 4
    assert key(SKY, "a.fits") == key(SKY)  # what is simulated is the same behind it
    os.utime(tmp_path / "a.fits", (1, 1))
    assert key(MAPS, "a.fits") != before
    with pytest.raises(FileNotFoundError, match=r"none\.fits' is named in the configuration but does not exist"):
        key(MAPS, "none.fits")


def test_the_record_has_the_device_that_was_asked_for(tmp_path):
    assert _open_record(Run(load_config("demo"), tmp_path, device="cuda:1"))["device"] == "cuda:1"


@pytest.mark.parametrize("work", [measure_selection, measure_purity])
def test_what_searches_a_run_once_more_wants_a_run(work, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no run.json .*, expected the folder of a run; `szeek run`"):
        work(tmp_path)


def test_one_way_to_share_a_run_at_a_time(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="scheduler is given under torchrun"):
        run(load_config("demo"), tmp_path / "run", scheduler="tcp://nowhere:1")
    assert not (tmp_path / "run").exists()


def test_all_products_are_there_and_open(job):
    assert healpy.read_map(job / "prediction.fits").size == 12 * 256**2
    table = Table.read(job / "candidates.fits")
    assert {"NAME", "RA", "DEC", "GLON", "GLAT", "POS_ERR", "P"} <= set(table.colnames)
    assert votable.parse(job / "candidates.vot", verify="exception").get_first_table().nrows == len(table)
    assert len(Table.read(job / "recovery.ecsv")) > 10
    record = json.loads((job / "run.json").read_text())
    assert record["config"]["preset"] == "demo" and record["versions"]["torch"]
    assert set(record["timings"]) == set(STAGES)
    assert "is detected" in record["stages"]["maps"]["preflight"]
    assert "<html" in (job / "report.html").read_text()[:200]
    assert not [p for p in job.rglob(".*") if p.is_file()]


def test_the_configuration_that_was_kept_repeats_the_run(job):
    assert load_config(job / "config.toml") == load_config(job.parent / "small.toml")


@pytest.fixture
def no_report(monkeypatch):
    """What runs in this process leaves out the figures of its report, half of what a small run costs."""
    monkeypatch.setattr("szeek.verbs.write_report", lambda folder: None)


@pytest.mark.usefixtures("no_report")
def test_unchanged_stages_are_skipped_and_changed_ones_done_again(job, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(job, folder)
    times = {name: (folder / name).stat().st_mtime_ns for name in ("model.safetensors", "prediction.fits")}
    done = []
    run(load_config(job.parent / "small.toml"), folder, progress=lambda *a: done.append((a[0], a[3])))
    assert {text for _, text in done} == {"unchanged"} and len(done) == len(STAGES)
    # another threshold: the network and its map stay, the candidates are made again
    done.clear()
    other = load_config(job.parent / "small.toml", detect={"p_max": 0.3})
    run(other, folder, progress=lambda *a: done.append((a[0], a[3])))
    again = [stage for stage, text in done if text != "unchanged"]
    assert set(again) == {"calibrate", "detect", "measure", "assess", "report"}
    assert times == {name: (folder / name).stat().st_mtime_ns for name in times}
    # a product that a stage need not have left, but did, is missed too
    (folder / "clusters.fits").unlink()
    done.clear()
    run(other, folder, until="maps", progress=lambda *a: done.append((a[0], a[3])))
    assert ("maps", "unchanged") not in done
    assert (folder / "clusters.fits").read_bytes() == (job / "clusters.fits").read_bytes()


def test_a_run_killed_at_any_stage_ends_with_the_same_bits(job, tmp_path):
    """Killed while it reads maps, trains and measures; its sky is the job's, made in most of a minute."""
    folder = tmp_path / "run"
    shutil.copytree(job / "simulated", folder / "simulated")
    record = json.loads((job / "run.json").read_text())
    record["stages"] = {"sky": record["stages"]["sky"]}
    (folder / "run.json").write_text(json.dumps(record))
    (tmp_path / "small.toml").write_text(CONFIG.replace("max_epochs = 2", "max_epochs = 2\ncheckpoint_s = 0.01"))
    words = ["run", str(tmp_path / "small.toml"), "--out", str(folder), "--until", "measure"]
    for begun, after in (
        (lambda: "maps" in json.loads((folder / "run.json").read_text())["stages"], "clusters.fits"),
        ((folder / "checkpoint.safetensors").exists, "model.json"),
        ((folder / "sources.fits").exists, "candidates.fits"),
    ):
        command = [sys.executable, "-m", "szeek.cli", *words]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not begun():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / after).exists()
    ended = szeek_process(*words)
    assert ended.returncode == 0 and "sky: unchanged" in ended.stderr
    assert (job / "model.safetensors").read_bytes() == (tmp_path / "run" / "model.safetensors").read_bytes()
    np.testing.assert_array_equal(
        healpy.read_map(job / "prediction.fits"), healpy.read_map(tmp_path / "run" / "prediction.fits")
    )
    for name in ("sources.fits", "candidates.fits", "photometry.fits"):
        assert_same_table(job / name, tmp_path / "run" / name)
    assert not [path for path in (tmp_path / "run").rglob(".*") if path.is_file()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_no_broken_file_and_says_how_to_go_on(number, tmp_path):
    """By Ctrl-C, or by the SIGTERM with which batch systems end a job."""
    (tmp_path / "small.toml").write_text(CONFIG)
    words = [sys.executable, "-m", "szeek.cli", "run", str(tmp_path / "small.toml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (tmp_path / "run" / "simulated" / "truth.fits").exists():  # written half way through the stage
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + number, errors
    assert errors.splitlines()[-1].endswith("the same command goes on from here")
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "simulated" / "simulate.json").exists()


def test_folds_predict_every_pixel_by_a_network_that_never_saw_it(job, tmp_path):
    """Each tile of the map is what the network of its fold gives, and the catalogue says which that was."""
    folder = tmp_path / "run"
    shutil.copytree(job, folder)
    config = load_config(job.parent / "small.toml", split={"folds": 3}, train={"max_epochs": 1})
    run(config, folder, until="measure")
    of_tile = fold_of_tile(3, config.seed)
    p_map = read_prediction(folder / "prediction.fits")
    maps = SkyMaps.open(folder / "maps")
    for fold in range(3):
        model = load_model(folder / f"fold-{fold}")
        assert not set(np.flatnonzero(of_tile == fold)) - set(model.card["config"]["split"]["test_tiles"])
    mine = pixels_in_tiles(256, np.flatnonzero(of_tile == 2))
    np.testing.assert_array_equal(p_map[mine], predict(maps, model, rotations=4, where=mine)[mine])
    table = Table.read(folder / "candidates.fits")
    np.testing.assert_array_equal(table["FOLD"], of_tile[table["TILE"]])
    assert len(table) > 0


@pytest.mark.usefixtures("no_report")
def test_predict_detect_and_assess_on_files(job, tmp_path):
    maps = str(job / "simulated" / "szeek_sim_{band}_256.fits")
    known = job / "simulated" / "psz2.fits"
    found = szeek("predict", "--model", job, "--map", maps, "--catalogue", known, "--out", tmp_path / "again")
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == f"report: {tmp_path / 'again' / 'report.html'}"
    np.testing.assert_array_equal(
        healpy.read_map(tmp_path / "again" / "prediction.fits"), healpy.read_map(job / "prediction.fits")
    )
    north = healpy.pix2ang(64, np.arange(12 * 64**2), lonlat=True)[1] > 0
    healpy.write_map(tmp_path / "north.fits", [north, ~north], column_names=["N", "S"], coord="G", dtype=np.float32)
    half = (f"--mask=N={tmp_path / 'north.fits'}", "--out", tmp_path / "half")
    found = szeek("predict", "--model", job, "--map", maps, *half)
    assert found.returncode == 0, found.stderr
    p, seen = read_prediction(tmp_path / "half" / "prediction.fits"), healpy.pix2ang(256, np.arange(12 * 256**2))[0]
    assert np.isnan(p[seen > 1.6]).all() and np.isfinite(p[seen < 1.5]).all()
    assert np.all(Table.read(tmp_path / "half" / "candidates.fits")["GLAT"] > -1)
    refused = szeek("predict", "--model", job, "--map", job / "maps", *half)
    assert refused.returncode == 1 and "which holds maps already read; expected map files" in refused.stderr
    found = szeek("detect", tmp_path / "again", "--p-max", 0.2, "--out", tmp_path / "detected")
    assert found.returncode == 0, found.stderr
    table = Table.read(tmp_path / "detected" / "candidates.fits")
    assert np.all(table["P"] >= 0.2) and found.stdout.startswith(f"{len(table)} candidates")
    same = szeek("predict", "--model", job, "--map", job / "maps", "--catalogue", known, "--out", tmp_path / "linked")
    assert same.returncode == 0, same.stderr
    assert_same_table(tmp_path / "linked" / "candidates.fits", tmp_path / "again" / "candidates.fits")
    np.testing.assert_array_equal(
        healpy.read_map(tmp_path / "linked" / "prediction.fits"), healpy.read_map(job / "prediction.fits")
    )
    assert (tmp_path / "linked" / "maps" / "values.npy").is_symlink()  # nothing is copied
    refused = szeek("detect", tmp_path / "again", "--purity", 0.8, "--out", tmp_path / "pure")
    if (job / "calibration.ecsv").is_file():
        assert refused.returncode == 0 and "for a purity of 0.8" in refused.stdout
    else:  # a sky too small to calibrate on
        assert "holds no calibration.ecsv" in refused.stderr and refused.returncode == 1
    found = szeek("assess", tmp_path / "again", "--catalogue", known, "--out", tmp_path / "assessed", "--tile", 6)
    assert found.returncode == 0, found.stderr
    assert "planck_z: " in found.stdout and (tmp_path / "assessed" / "recovery.ecsv").is_file()


def assert_same_table(one, other):
    """Two FITS tables hold the same, bit for bit."""
    with fits.open(one) as a, fits.open(other) as b:
        assert a[1].data.dtype == b[1].data.dtype
        assert a[1].data.tobytes() == b[1].data.tobytes()


def test_detect_on_a_run_gives_the_runs_own_candidates(job, tmp_path):
    """Settings, calibration, maps and known clusters are those of the run, to which the new folder links."""
    found = szeek_process("detect", job, "--out", tmp_path / "again")
    assert found.returncode == 0, found.stderr
    assert_same_table(tmp_path / "again" / "candidates.fits", job / "candidates.fits")
    assert_same_table(tmp_path / "again" / "photometry.fits", job / "photometry.fits")
    # a folder that continues a run is a run's folder itself
    result = detect(tmp_path / "again", tmp_path / "third", p_max=0.3)
    table = Table.read(tmp_path / "third" / "candidates.fits")
    assert len(table) == result.detected.n_sources and (table["P"] > 0.3).all() and np.isfinite(table["SNR"]).any()
    refused = szeek("detect", tmp_path / "again", "--out", job)
    assert refused.returncode == 1 and "is the folder of another run, expected a new one" in refused.stderr


def test_a_run_of_an_older_version_is_refused_and_its_network_is_of_use(job, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(job, folder)
    record = json.loads((folder / "run.json").read_text())
    record["versions"]["szeek"] = "0.1.0"
    (folder / "run.json").write_text(json.dumps(record))
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    refused = szeek("run", job.parent / "small.toml", "--out", folder)
    assert refused.returncode == 1 and "is a run of SZeek 0.1.0" in refused.stderr
    assert f"szeek predict --model {folder} --map {folder / 'maps'}" in refused.stderr
    refused = szeek("detect", folder, "--p-max", 0.5)  # it would put another record in the old one's place
    assert refused.returncode == 1 and "is a run of SZeek 0.1.0" in refused.stderr
    assert before == {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    found = szeek_process("detect", folder, "--out", tmp_path / "again")
    assert found.returncode == 0, found.stderr
    assert_same_table(tmp_path / "again" / "candidates.fits", job / "candidates.fits")


def test_a_folder_is_not_predicted_onto_itself(job):
    refused = szeek("predict", "--model", "szeek-1", "--map", job / "maps", "--out", job)
    assert refused.returncode == 1 and "lies in" in refused.stderr and "give another --out" in refused.stderr
    refused = szeek("predict", "--model", job, "--map", "{band}.fits", "--out", job)
    assert refused.returncode == 1 and "is the folder of the network that is given" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "no-such.toml", "--out", "x"], "neither a file nor a preset; presets are bonjean2020"),
        (["run", "bonjean2020", "--out", "x"], "names no maps; give [sky] maps"),
        (["predict", "--model", "nothing", "--map", "{band}.fits", "--out", "x"], "neither a folder with model.json"),
        (["train", "bonjean2020", "--map", "100", "--out", "x"], "neither BAND=FILE nor a single pattern"),
        (["run", "demo", "--out", "x", "--device", "abacus"], "device 'abacus' is unknown, expected auto, cpu, cuda"),
        (["run", "demo", "--out", "x", "--device", "cuda:99"], "device 'cuda:99' is not there: PyTorch"),
        (["predict", "--model", "szeek-1", "--map", "maps", "--mask", "no.fits", "--out", "x"], "neither BAND=FILE"),
        (["detect", "nowhere", "--out", "x"], "'nowhere' does not exist, expected a p map or the folder of a run"),
        (["detect", "nowhere"], "give --out"),
        (
            ["predict", "--model", "szeek-1", "--map", "{band}.fits", "--mask", "no.fits", "--out", "x"],
            "no.fits' is no",
        ),
        (["stack", "x", "--bins", "3"], "--bins go with --map"),
        (["report", "nowhere"], "'nowhere' is not a folder"),
    ],
)
def test_errors_are_one_line_that_says_the_way_out(words, message, tmp_path):
    failed = szeek(*words, cwd=tmp_path)
    assert failed.returncode == 1
    assert message in failed.stderr and "Traceback" not in failed.stderr
    assert failed.stderr.startswith("szeek: ") and len(failed.stderr.strip().splitlines()) == 1


def test_a_process_ends_with_the_same_line(tmp_path):
    words = ("run", "bonjean2020", "--out", "x")
    here, there = szeek(*words, cwd=tmp_path), szeek_process(*words, cwd=tmp_path)
    assert (there.returncode, there.stdout, there.stderr) == (here.returncode, here.stdout, here.stderr)


def test_training_keeps_the_masks_of_its_configuration(tmp_path):
    (tmp_path / "mine.toml").write_text('preset = "demo"\n[sky]\nmasks = ["mine.fits"]\n')
    words = ("train", "mine.toml", "--map", "{band}.fits", "--catalogue", "c.csv", "--out", "x")
    for more, missing in (((), "mine.fits"), (("--mask", "N=other.fits"), "other.fits")):
        failed = szeek(*words, *more, cwd=tmp_path)
        assert failed.returncode == 1 and f"{missing}' is not a file" in failed.stderr


def test_help_teaches_every_verb_and_loads_no_torch():
    shown = szeek_process("--help", env={**os.environ, "COLUMNS": "120"})
    for verb in ("simulate", "train", "predict", "detect", "assess", "report", "run"):
        assert verb in shown.stdout
    heavy = ("torch", "numba", "healpy", "matplotlib", "scipy")
    code = f"import sys, szeek.cli.app; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_there():
    import szeek

    for name in szeek.__all__:
        assert getattr(szeek, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'utils'"):
        _ = szeek.utils
    assert Path(szeek.__file__).name == "__init__.py"


def test_a_network_of_several_classes_writes_a_map_and_sources_of_each(job, tmp_path):
    """The books of it: a toy network on a coarse sky, so that p itself is not looked at."""
    shutil.copytree(job, tmp_path / "run")
    config = tmp_path / "classes.toml"
    config.write_text(CONFIG.replace("filters = [4, 8]", 'filters = [4, 8]\nclasses = ["radio", "clump"]'))
    done = run(load_config(config), tmp_path / "run", until="measure")
    folder = RunFolder(done.folder)
    assert list(folder.class_maps) == ["radio", "clump"]
    model = load_model(done.folder)
    maps = open_maps(done.folder / "maps")
    options = load_config(config).predict
    p = predict_classes(maps, model, margin=options.margin, rotations=options.rotations)
    np.testing.assert_array_equal(p[:, 0], folder.p_map)
    for k, name in enumerate(("radio", "clump"), 1):
        np.testing.assert_array_equal(p[:, k], folder.class_maps[name])
    sources = folder.table("class-sources.fits")
    assert set(sources["class"]) <= {"radio", "clump"} and {"p", "flux_143_mjy"} <= set(sources.colnames)
    candidates = folder.table("candidates.fits")
    assert np.isfinite(candidates["P_RADIO"]).all() and np.isfinite(candidates["P_CLUMP"]).all()
    assert np.isnan(candidates["P_CO"]).all()  # no class of this network
    assert set(candidates["CLASS"]) <= {"cluster", "radio", "clump"}
    # a lower threshold, in a folder of its own: the maps of the classes are read where they are
    again = detect(done.folder, tmp_path / "again", p_max=0.05)
    lower = RunFolder(again.candidates.parent)
    assert list(lower.class_maps) == ["radio", "clump"]
    assert len(lower.table("class-sources.fits")) >= len(sources)
    assert np.isfinite(lower.table("candidates.fits")["P_RADIO"]).all()
    truth = folder.table("simulated/classes.fits")
    assert set(truth["survey"]) == {"RADIO", "DUSTY", "CLUMP", "CO"}


def test_a_sky_of_an_earlier_version_has_no_classes_to_train_on(tmp_path):
    config = load_config("demo", network={"classes": ["radio"]})
    clusters = Table({"name": ["A"], "survey": ["PSZ2"], "lon_deg": [1.0], "lat_deg": [2.0]})
    with pytest.raises(FileNotFoundError, match=r"classes\.fits' is missing: .* remove the folder '.*simulated'"):
        _with_truth(Run(config, tmp_path), clusters)


def test_a_network_to_begin_with_is_looked_for_before_slow_work(tmp_path):
    config = load_config("demo", train={"start_from": str(tmp_path / "nowhere")})
    with pytest.raises(FileNotFoundError, match=r"nowhere' is neither a folder with model\.json nor a shipped model"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "small.toml").write_text('preset = "demo"\n[train]\nstart_from = "mine"\n')
    assert load_config(tmp_path / "small.toml").train.start_from == str(tmp_path / "mine")
