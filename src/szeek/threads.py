"""How SZeek uses cores: one Python thread a core, each with a PyTorch that does not start threads of its own.

PyTorch's own thread team meets at a barrier after every layer; on a machine that does anything else the barriers wait
for the slowest, and a training step became six times slower (measured). Fields and shards are independent, so
whole ones are given to each core instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch on the calling thread alone; as it was before, afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def core_pool(threads: int | None = None) -> ThreadPoolExecutor:
    """Threads to give whole fields or shards to, the machine's cores by default."""
    # PyTorch's setting holds per thread of the operating system
    return ThreadPoolExecutor(threads or available_cores(), initializer=torch.set_num_threads, initargs=(1,))
