"""Whether an installation can do its work: versions, cores, memory, disk, caches, GPU, data, and a short test."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import healpy
import numpy as np
import torch
from astropy.table import Table

from szeek._version import __version__
from szeek.inputs.download import data_folder, fetch, list_datasets
from szeek.learn.model import list_models, load_model
from szeek.measure.candidates import make_candidates, read_candidates, write_candidates
from szeek.parallel import available_cores
from szeek.sky.projection import interpolate

_PACKAGES = ("numpy", "scipy", "astropy", "healpy", "ducc0", "numba", "torch", "matplotlib", "pydantic")
#: What a run on full-sky maps of nside 2048 needs.
_NEEDED_MEMORY_GIB, _NEEDED_DISK_GB = 8.0, 4.0
#: Mean p of the patch of the self-test by szeek-2, and how far builds of PyTorch may differ.
_EXPECTED_P, _P_TOLERANCE = 0.0208, 1e-3


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    found: str
    advice: str = ""  #: what to do; '' where nothing is to be done
    failed: bool = False  #: whether SZeek does not work with this


def examine(*, self_test: bool = True) -> list[Check]:
    """Look at an installation.

    Parameters
    ----------
    self_test : bool
        Run the network and the compiled functions too; takes seconds, or half a minute where they are compiled first.

    Returns
    -------
    list of Check
        Nothing raises: what does not work is a check that failed.

    Examples
    --------
    >>> [check.what for check in examine(self_test=False)][:3]
    ['szeek', 'python', 'packages']
    """
    looks: list[Callable[[], Check]] = [
        *(_szeek, _python, _packages, _cores, _memory, _disk, _caches, _gpu, _data),
        *((_network, _compiled, _files) if self_test else ()),
    ]
    return [_look(look) for look in looks]


def _look(look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # whatever it is, the other checks say more
        return Check(look.__name__.strip("_"), f"{type(error).__name__}: {error}", "see the message", failed=True)


def _szeek() -> Check:
    return Check("szeek", f"{__version__} in {Path(__file__).parents[1]}; networks: {', '.join(list_models())}")


def _python() -> Check:
    return Check("python", f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}")


def _packages() -> Check:
    return Check("packages", ", ".join(f"{name} {version(name)}" for name in _PACKAGES))


def _cores() -> Check:
    limits = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if name in os.environ]
    return Check("cores", ", ".join([f"{available_cores()} for this process", *limits]))


def _memory() -> Check:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    if limit.is_file() and limit.read_text().strip().isdigit():
        total = min(total, int(limit.read_text()) / 2**30)
    advice = "" if total >= _NEEDED_MEMORY_GIB else f"full-sky maps need {_NEEDED_MEMORY_GIB:g} GiB; use cut-outs"
    return Check("memory", f"{total:.1f} GiB", advice)


def _disk() -> Check:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 1e9
    advice = []
    if not os.access(here, os.W_OK):
        advice.append("name a folder that can be written to with --out")
    if free < _NEEDED_DISK_GB:
        advice.append(f"a demo run needs {_NEEDED_DISK_GB:g} GB")
    return Check("disk", f"{free:.1f} GB free in {here}", "; ".join(advice))


def _caches() -> Check:
    folder = os.environ.get("NUMBA_CACHE_DIR")
    own = Path(tempfile.gettempdir()) / "szeek-"
    if folder is not None and folder.startswith(str(own)):
        return Check(
            "caches",
            "package and home folder cannot be written to: compiled functions are kept for this command alone",
            "set NUMBA_CACHE_DIR to a folder that can be written to, and later commands start faster",
        )
    return Check("caches", f"compiled functions in {folder or 'the package or the cache folder of the user'}")


def _gpu() -> Check:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check("GPU", ", ".join(names), "pass --device auto to use it")
    return Check("GPU", "none that PyTorch sees; the CPU is enough")


def _data() -> Check:
    try:
        folder = data_folder()
    except OSError as error:
        return Check("data", str(error), "set SZEEK_DATA to a folder; nothing else needs one")
    if not folder.is_dir():
        return Check("data", f"no folder {folder}; `szeek data fetch` creates it")
    found = [
        dataset.name
        for dataset in list_datasets()
        if dataset.files
        and all(state.state == "present" for state in fetch([dataset.name], folder=folder, dry_run=True))
    ]
    return Check("data", f"{', '.join(found) or 'no data set that is whole'} in {folder}")


def _network() -> Check:
    """A fixed patch through a network that ships."""
    begin = time.perf_counter()
    model = load_model("szeek-2")
    n_channel = model.normaliser.n_input
    y, x = np.mgrid[:64, :64]
    blob = np.exp(-((x - 32.0) ** 2 + (y - 32.0) ** 2) / 40.0)
    patch = np.stack([(k - 2) * blob for k in range(n_channel)], axis=-1)[None].astype(np.float32)
    p = float(model.predict(patch).mean())
    seconds = time.perf_counter() - begin
    if abs(p - _EXPECTED_P) > _P_TOLERANCE:
        advice = "install PyTorch anew; if that does not help, please report it"
        return Check("network", f"mean p {p:.4f}, expected {_EXPECTED_P:.4f}", advice, failed=True)
    return Check("network", f"ran in {seconds:.1f} s, p as expected")


def _compiled() -> Check:
    """A map of z, interpolated."""
    begin = time.perf_counter()
    z = np.asarray(healpy.pix2vec(64, np.arange(12 * 64**2))[2], np.float32)
    directions = healpy.ang2vec(np.radians([20.0, 75.0, 140.0]), np.radians([1.0, 120.0, 300.0]))
    found = interpolate(z[:, None], directions)[:, 0]
    seconds = time.perf_counter() - begin
    worst = float(np.abs(found - directions[:, 2]).max())
    if not worst < 2e-3:  # the square of half a pixel
        return Check("compiled functions", f"interpolation is off by {worst:.2g}", "please report it", failed=True)
    return Check("compiled functions", f"ran in {seconds:.1f} s, as exact as expected")


def _files() -> Check:
    """A catalogue, written and read."""
    table = make_candidates(Table({"lon_deg": [57.8], "lat_deg": [88.0], "p": [0.9]}))
    with tempfile.TemporaryDirectory() as folder:
        write_candidates(table, Path(folder) / "candidates.fits")
        found = read_candidates(Path(folder) / "candidates.fits")["NAME"][0]
    return Check("files", f"a catalogue was written and read ({found})")
