"""Files that are written whole: under a temporary name beside the final one, then renamed."""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray


def remove_path(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link (never what it points to); nothing where none is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name of the same ending to write to; what is there becomes ``path``, or is removed on an error.

    Raises
    ------
    OSError
        Names the file, also where the disk is full.

    Examples
    --------
    >>> with whole_file(Path("a.txt")) as staging:
    ...     _ = staging.write_text("whole")
    >>> Path("a.txt").read_text()
    'whole'
    >>> Path("a.txt").unlink()
    """
    staging = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield staging
        staging.replace(path)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk does not say of which file
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which then takes the place of ``path``; what was there before goes.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is untouched.
    """
    staging = path.with_name(f".{path.name}.tmp")
    remove_path(staging)  # of a process that was killed
    staging.mkdir(parents=True)
    try:
        yield staging
        remove_path(path)
        staging.rename(path)
    finally:
        remove_path(staging)


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A temporary folder for files that belong together: all of them go to ``folder``, or none on an error."""
    staging = folder / ".staging.tmp"
    remove_path(staging)  # of a process that was killed
    staging.mkdir(parents=True)
    try:
        yield staging
        for file in sorted(staging.iterdir()):
            file.replace(folder / file.name)
    finally:
        remove_path(staging)


def write_text(text: str, path: Path) -> None:
    """Write a text file."""
    with whole_file(path) as staging:
        staging.write_text(text, encoding="utf-8")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON file."""
    write_text(json.dumps(content, indent=1), path)


def write_table(table: Table, path: Path) -> None:
    """Write a table in the format of the file's ending."""
    with whole_file(path) as staging:
        table.write(staging, overwrite=True)


def write_blocks(
    blocks: Iterable[NDArray[np.float32] | NDArray[np.uint8]], header: fits.Header, path: Path
) -> None:
    """Write a binary table as a FITS file, block by block: a copy of it may not fit into memory.

    Parameters
    ----------
    blocks : iterable of (n,) float32 or uint8
        Values in the order of rows and columns, or the bytes of rows as FITS has them.
    header : Header
        Of the table's extension.
    path : path
    """
    n = 0
    with whole_file(path) as staging, staging.open("wb") as stream:
        stream.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        stream.write(header.tostring().encode("ascii"))
        for block in blocks:
            written = (block if block.dtype == np.uint8 else block.astype(">f4")).tobytes()
            stream.write(written)
            n += len(written)
        stream.write(bytes(-n % 2880))


def allocate_array(path: Path | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros in memory, or in a .npy file whose disk space is claimed first: a full disk must not end in SIGBUS.

    Raises
    ------
    OSError
        If there is no room; names the folder and how much is needed.
    """
    if path is None:
        return np.zeros(shape, np.float32)
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as handle:
            try:
                os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
            except OSError as error:
                needed = f"{error.strerror}; the maps need {path.stat().st_size / 1e9:.2g} GB there"
                raise OSError(error.errno, needed, str(path.parent.parent)) from None
    return values


def is_mapped(array: NDArray[Any] | None) -> TypeGuard[np.memmap[Any, Any]]:
    """Whether all of an array is mapped from a file, and nothing but it."""
    return isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and bool(array.filename)


def file_of(array: NDArray[Any] | None) -> NDArray[Any] | Path | None:
    """The .npy file that all of an array is mapped from, if there is one, else the array."""
    if is_mapped(array):
        file = Path(str(array.filename))
        return file if file.suffix == ".npy" else array
    return array
