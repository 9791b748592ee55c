"""Sharing work out: independent pieces, by the threads of this process or by the workers of a Dask scheduler.

A field of a prediction or of the matched filter, a stack, a training of an ensemble, the sky of a seed: no piece
needs what another one gives, so that any stage is a function of a piece. Maps are never sent: those that are mapped
from a folder go to a worker by the names of their files (:class:`~szeek.sky.skymaps.SkyMaps`), and a worker holds the
pages of the pieces it works on and nothing else. A result goes to the caller at once and leaves the worker.

Here a core gets one Python thread with a PyTorch that starts no threads of its own: PyTorch's thread team meets at a
barrier after every layer, and on a machine that does anything else the barriers wait for the slowest (a training step
became six times slower).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from distributed import Client

Piece = TypeVar("Piece")
Result = TypeVar("Result")

#: How often a piece that fails by itself, at a file server that hiccups say, is tried again. How many of its workers
#: may be lost is Dask's own setting, distributed.scheduler.allowed-failures, three unless told otherwise.
_RETRIES = 3
#: glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD; and the largest that the latter may be.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _LARGEST_THRESHOLD = -1, -3, 32 << 20


class Progress(Protocol):
    """Called as progress(stage, done, total, detail) while work is done."""

    def __call__(self, stage: str, done: int, total: int, detail: str = "", /) -> None:
        """Note how far a stage is.

        Parameters
        ----------
        stage : str
            One word: 'filter', 'train', 'predict', ...
        done, total : int
            Pieces of work done, and in all; total is 0 where it is not known.
        detail : str
            What the pieces are, or what is being done.
        """


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch on the calling thread alone; as it was before, afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def core_pool(threads: int | None = None) -> ThreadPoolExecutor:
    """Threads to give whole fields or shards to, the machine's cores by default."""
    return ThreadPoolExecutor(threads or available_cores(), initializer=_calm_torch)


def side_by_side(make: Callable[[Piece], Result], pieces: Iterable[Piece], threads: int = 0) -> list[Result]:
    """``[make(piece) for piece in pieces]``, as many at once as there are threads; 0 uses all cores.

    For pieces that each run on one thread: a small transform on two threads is hardly faster than on one, two of them
    side by side are done in half the time. ``make`` must leave numba's parallel loops alone, which one thread at a
    time may run.

    Examples
    --------
    >>> side_by_side(abs, [-1, 2, -3], threads=2)
    [1, 2, 3]
    """
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        return list(pool.map(make, pieces))


def _calm_torch() -> None:
    """One thread for PyTorch, which keeps its setting per thread of the operating system; where it is in use."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@contextmanager
def connect(scheduler: str | None) -> Iterator[Client | None]:
    """A client of a running Dask scheduler, given by its address or its scheduler file; None for none.

    Raises
    ------
    ValueError
        If Dask is not installed.
    OSError
        If nothing answers there.
    """
    if scheduler is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("a Dask cluster needs the extra 'cluster': pip install 'szeek[cluster]'") from None
    where = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
    with Client(**where) as client:  # type: ignore[no-untyped-call]
        yield client


def spread(
    function: Callable[..., Result],
    pieces: Sequence[Piece],
    *shared: Any,
    client: Client | None = None,
    threads: int | None = 1,
    progress: Progress | None = None,
    stage: str = "work",
    detail: str = "",
) -> Iterator[tuple[int, Result]]:
    """``function(piece, *shared)`` of every piece.

    Parameters
    ----------
    function : callable
        Of a module, so that a worker finds it; what it gives may depend on its arguments alone.
    pieces : sequence
        The longest first, so that none is left alone at the end.
    *shared
        Further arguments, the same for all pieces: maps mapped from a folder that every worker sees, small things, or
        a task of the cluster.
    client : distributed.Client, optional
        Of any cluster: LocalCluster, dask-jobqueue's SLURMCluster. A worker with several threads works on as many
        pieces at once. What a lost worker had under way goes to another one. Default: here.
    threads : int, optional
        Pieces at once where they are worked on here; None for one a core.
    progress : Progress, optional
        Called as progress(stage, done, total, detail) after each piece.
    stage, detail : str
        What it is called with.

    Yields
    ------
    (int, result)
        Number of a piece and what the function gave: in the order of the pieces here, as they are done on a cluster.

    Examples
    --------
    >>> dict(spread(pow, [2, 3, 4], 2))
    {0: 4, 1: 9, 2: 16}
    """
    done = _here(function, pieces, shared, threads) if client is None else _there(client, function, pieces, shared)
    for count, result in enumerate(done, start=1):
        yield result
        if progress is not None:
            progress(stage, count, len(pieces), detail)


def _here(
    function: Callable[..., Result], pieces: Sequence[Any], shared: tuple[Any, ...], threads: int | None
) -> Iterator[tuple[int, Result]]:
    if threads == 1:
        yield from ((number, function(piece, *shared)) for number, piece in enumerate(pieces))
        return
    with core_pool(threads) as pool:
        try:
            yield from enumerate(pool.map(lambda piece: function(piece, *shared), pieces))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _there(
    client: Client, function: Callable[..., Result], pieces: Sequence[Any], shared: tuple[Any, ...]
) -> Iterator[tuple[int, Result]]:
    from distributed import as_completed

    tasks = [submit(client, function, piece, *shared) for piece in pieces]
    numbers = {task.key: number for number, task in enumerate(tasks)}
    try:
        for task, result in as_completed(tasks, with_results=True):  # type: ignore[no-untyped-call]
            yield numbers[task.key], result
            task.release()
    except BaseException:
        client.cancel(tasks)  # type: ignore[no-untyped-call]
        raise


def submit(client: Client, function: Callable[..., Any], *arguments: Any) -> Any:
    """A task of the cluster; what it gave can be made again where its worker is lost."""
    return client.submit(_in_worker, function, *arguments, pure=False, retries=_RETRIES)


# --- in the worker ---------------------------------------------------------------------------------------


def _in_worker(function: Callable[..., Result], *arguments: Any) -> Result:
    _keep_memory()
    return function(*arguments)


@cache
def _keep_memory() -> None:
    """Let glibc keep freed memory of some megabytes, as it does by itself in any process but a Dask worker.

    Dask's nanny sets MALLOC_TRIM_THRESHOLD_, which also ends the growth of the size from which memory comes from
    the system anew: every activation of a network would be made of fresh pages, at twice the CPU time.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ and hasattr(ctypes.CDLL(None), "mallopt"):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)
