"""Files are written whole or not at all, and a disk that is full is said of the file that did not fit."""

import errno

import pytest
import torch
from safetensors import SafetensorError

from szeek.config import load_config
from szeek.files import remove_path, whole_file, whole_files, whole_folder, write_text
from szeek.learn import model
from szeek.pipeline.stage import Facts, Run, Stage, do_stages


def test_an_error_leaves_the_earlier_file_and_nothing_beside_it(tmp_path):
    write_text("first", tmp_path / "a.txt")
    with pytest.raises(ValueError, match="half way"), whole_file(tmp_path / "a.txt") as staging:
        staging.write_text("second")
        raise ValueError("half way")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "first")]


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space") as caught, whole_file(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as write(2) has it, without a name
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.txt"))


def test_weights_that_do_not_fit_are_an_os_error(tmp_path, monkeypatch):
    """safetensors has an error of its own, which the command line would answer with a traceback."""

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(model, "save_file", full)
    with pytest.raises(OSError, match=r"model.safetensors' cannot be written: I/O error: No space left"):
        model.save_tensors({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_is_removed_is_the_link_and_not_what_lies_behind_it(tmp_path):
    """A user's big folder on scratch, linked into a run, may hold more than the run's own files."""
    scratch = tmp_path / "scratch"
    (scratch / "deep").mkdir(parents=True)
    (scratch / "deep" / "theirs.txt").write_text("kept")
    (tmp_path / "folder").symlink_to(scratch)
    (tmp_path / "file").symlink_to(scratch / "deep" / "theirs.txt")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "inside").symlink_to(scratch)
    for name in ("folder", "file", "dangling", "real", "never there"):
        remove_path(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
    assert (scratch / "deep" / "theirs.txt").read_text() == "kept"


def write_three(folder):
    with whole_file(folder / "a.txt") as staging:
        staging.write_text("whole")
        yield "a file"
    with whole_folder(folder / "b") as staging:
        (staging / "inside.txt").write_text("whole")
        yield "a folder"
    with whole_files(folder) as staging:
        (staging / "c.txt").write_text("whole")
        yield "files"


@pytest.mark.parametrize("n_begun", [1, 2, 3])
def test_what_a_killed_process_left_goes_when_it_is_written_again(n_begun, tmp_path):
    """A kill runs no clean-up: the generator is held where it stopped, its staging files stay."""
    killed = write_three(tmp_path)
    for _ in range(n_begun):
        next(killed)
    assert any(path.name.startswith(".") for path in tmp_path.iterdir())
    assert list(write_three(tmp_path)) == ["a file", "a folder", "files"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b", "c.txt"]


def test_a_stage_that_is_done_again_removes_the_scratch_of_a_killed_one(tmp_path):
    for name in (".maps-k1ll3d", ".other-k1ll3d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "values.npy").write_text("half")
    do_stages(Run(load_config("demo"), tmp_path), [Stage("maps", lambda run, progress: Facts())])
    assert not (tmp_path / ".maps-k1ll3d").exists() and (tmp_path / ".other-k1ll3d").exists()
