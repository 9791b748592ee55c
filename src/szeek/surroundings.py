"""What other libraries keep between runs, on a machine that gives them no place for it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path


def provide_caches(package: Path) -> None:
    """Give numba, matplotlib and astropy a temporary folder where they have none of their own to write to.

    In a container or on a batch node the package and the home folder are often read-only, or the user has no home.
    numba then refuses to compile anything that is to be cached, matplotlib complains at each start, and with no home
    astropy cannot be imported. To be called before any of them is imported. The folder is removed when the process
    ends; set NUMBA_CACHE_DIR to keep what is compiled.

    Parameters
    ----------
    package : Path
        Folder of the package whose kernels are compiled; numba keeps them in its ``__pycache__`` where it can.
    """
    home = Path(os.path.expanduser("~"))  # stays '~' for a user whom the machine does not know
    caches = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    asked = os.environ.get("NUMBA_CACHE_DIR")
    lacking = []
    if not any(map(_may_write, (Path(asked).absolute() if asked else caches, package / "__pycache__", caches))):
        lacking.append("NUMBA_CACHE_DIR")
    if "MPLCONFIGDIR" not in os.environ and not _may_write(settings):
        lacking.append("MPLCONFIGDIR")
    if not home.is_absolute():
        lacking += [name for name in ("ASTROPY_CACHE_DIR", "ASTROPY_CONFIG_DIR") if name not in os.environ]
    if not lacking:
        return
    with contextlib.suppress(OSError):  # nowhere to write at all: the command line says so
        folder = tempfile.mkdtemp(prefix="szeek-")
        atexit.register(_remove_own, folder, os.getpid())
        os.environ.update(dict.fromkeys(lacking, folder))
        if "NUMBA_CACHE_DIR" in lacking and "numba" in sys.modules:  # it has read the environment already
            sys.modules["numba"].config.CACHE_DIR = folder


def _may_write(folder: Path) -> bool:
    """Whether files may be written to a folder, which may have to be created."""
    there = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    return folder.is_absolute() and os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)


def _remove_own(folder: str, process: int) -> None:
    if os.getpid() == process:  # not in a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
