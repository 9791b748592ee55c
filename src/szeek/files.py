"""Files that are written whole: under a temporary name beside the final one, then renamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from astropy.table import Table


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


def write_text(text: str, path: Path) -> None:
    """Write a text file."""
    with whole_file(path) as staging:
        staging.write_text(text)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON file."""
    write_text(json.dumps(content, indent=1), path)


def write_table(table: Table, path: Path) -> None:
    """Write a table in the format of the file's ending."""
    with whole_file(path) as staging:
        table.write(staging, overwrite=True)
