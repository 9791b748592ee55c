"""Prediction over a Dask cluster, and in shards through the command line: the map of one process, bit for bit."""

import os
import shutil
import signal

import dask
import distributed
import numpy as np
import pytest
from commandline import szeek, szeek_process
from smallmaps import make_maps, make_model

from szeek.find.predict import predict, read_prediction
from szeek.learn.model import load_model
from szeek.parallel import connect
from szeek.sky.skymaps import SkyMaps


@pytest.fixture(scope="module")
def maps():
    return make_maps()


@pytest.fixture(scope="module")
def files(maps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    maps.save(folder / "maps")
    make_model().save(folder / "model")
    return folder / "maps", folder / "model", predict(maps, make_model(), rotations=2)


@pytest.fixture
def client(tmp_path):
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=str(tmp_path)
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_worker_killed_in_the_middle_costs_nothing_but_time(files, client):
    """kill -9 while a fifth and again while half of the fields are done; the nanny starts new ones."""
    folder, model, expected = files
    killed = []

    def progress(stage, done, total, detail):
        if done in (total // 5, total // 2):
            victim = min(client.run(os.getpid, on_error="ignore").values())
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    p_map = predict(SkyMaps.open(folder), load_model(model), client=client, rotations=2, progress=progress)
    np.testing.assert_array_equal(p_map, expected)
    assert len(set(killed)) == 2


def test_written_again_maps_are_read_again(files, client, maps, tmp_path):
    _, model, expected = files
    maps.save(tmp_path / "maps")
    model = load_model(model)
    found = predict(SkyMaps.open(tmp_path / "maps"), model, client=client, rotations=2)
    np.testing.assert_array_equal(found, expected)
    other = type(maps)(maps.values[::-1].copy(), maps.footprint, maps.bands)
    other.save(tmp_path / "maps")
    found = predict(SkyMaps.open(tmp_path / "maps"), model, client=client)
    np.testing.assert_array_equal(found, predict(other, make_model()))


def test_an_error_in_a_worker_reaches_the_caller(files, client, maps, tmp_path):
    """The maps vanish, and then a worker: the one that takes its place finds none."""
    maps.save(tmp_path / "maps")

    def progress(stage, done, total, detail):
        if done == 1:
            shutil.rmtree(tmp_path / "maps")
            for pid in client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(FileNotFoundError, match=r"values\.npy"):
        predict(SkyMaps.open(tmp_path / "maps"), load_model(files[1]), client=client, progress=progress)


@pytest.fixture
def no_report(monkeypatch):
    """Without the figures of the report, which has its own tests."""
    monkeypatch.setattr("szeek.verbs.write_report", lambda folder: None)


@pytest.mark.usefixtures("no_report")
def test_job_array_through_the_command_line(files, tmp_path):
    """One part by a process of its own; the other, and what joins them, by this one."""
    folder, model, expected = files
    words = ("predict", "--map", folder, "--model", model, "--out", tmp_path, "--rotations", 2)
    for number, task in ((2, szeek_process), (1, szeek)):
        done = task(*words, "--shard", f"{number}/2")
        assert done.returncode == 0 and done.stdout.startswith(f"part {number} of 2: "), done.stderr
    assert not (tmp_path / "prediction.fits").exists()
    done = szeek(*words, "--gather")
    assert done.returncode == 0 and "candidates above p = 0.1" in done.stdout, done.stderr
    np.testing.assert_array_equal(read_prediction(tmp_path / "prediction.fits"), expected)
    (tmp_path / "prediction.part-1-of-2.fits").unlink()
    (tmp_path / "prediction.fits").unlink()  # one that is there is kept, as in any run
    done = szeek(*words, "--gather")
    assert done.returncode == 1 and done.stderr.endswith("lacks 1 of 2 parts of the prediction: --shard 1/2\n")
    done = szeek(*words, "--gather", "--shard", "1/2")
    assert done.returncode == 1 and "first every shard, then gather" in done.stderr


@pytest.mark.usefixtures("no_report")
def test_scheduler_through_the_command_line(files, client, tmp_path):
    folder, model, expected = files
    words = ("predict", "--map", folder, "--model", model, "--out", tmp_path, "--rotations", 2)
    done = szeek(*words, "--scheduler", client.scheduler.address)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_prediction(tmp_path / "prediction.fits"), expected)


def test_no_scheduler_there():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(OSError, match="Timed out"),
        connect("tcp://127.0.0.1:1"),
    ):
        pass
