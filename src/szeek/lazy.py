"""Public names of a package, loaded when they are first asked for: `szeek --help` must not wait for PyTorch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.resources import files
from typing import Any


def load_lazily(package: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose public names are imported under ``if TYPE_CHECKING:`` only.

    That block is read as it stands, so that names and homes are written once, where type checkers read them too.

    Examples
    --------
    >>> import szeek.sky
    >>> szeek.sky.SkyMaps.__module__
    'szeek.sky.skymaps'
    """
    homes: dict[str, str] = {}

    def get(name: str) -> Any:
        if not homes:
            tree = ast.parse((files(package) / "__init__.py").read_text(encoding="utf-8"))
            block = next(node for node in tree.body if isinstance(node, ast.If))
            for line in block.body:
                if isinstance(line, ast.ImportFrom) and line.module:
                    homes.update({alias.name: line.module for alias in line.names})
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
