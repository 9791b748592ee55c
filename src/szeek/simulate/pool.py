"""Pieces of a sky that do not depend on one another, each on one thread: the same bits for any number of threads.

A small transform on two threads is hardly faster than on one; two of them side by side are done in half the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def side_by_side(make: Callable[[Piece], Result], pieces: Iterable[Piece], threads: int = 0) -> list[Result]:
    """``[make(piece) for piece in pieces]``, as many at once as there are threads; 0 uses all cores.

    ``make`` must leave numba's parallel loops alone, which one thread at a time may run.

    Examples
    --------
    >>> side_by_side(abs, [-1, 2, -3], threads=2)
    [1, 2, 3]
    """
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        return list(pool.map(make, pieces))
