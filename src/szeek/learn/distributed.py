"""Training by several processes, on one machine or many, under PyTorch's torchrun.

Rank r of n works off shards r, r + n, r + 2 n, ... of each batch and so cuts only their patches; the gradients,
weighted with the shards' shares of the batch, are summed over the ranks in one message a step (2 MB for the paper's
network). All ranks then take the same step, and their weights stay equal. Only rank 0 writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

#: How long ranks wait for the first one, which reads or simulates the maps meanwhile.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Ranks:
    """This process's number and how many there are; a process by itself is rank 0 of 1."""

    rank: int = 0
    world: int = 1

    def share(self, n: int) -> range:
        """Which of n pieces of work are this rank's.

        Examples
        --------
        >>> list(Ranks(1, 4).share(10))
        [1, 5, 9]
        """
        return range(self.rank, n, self.world)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, of one dtype, by its sum over the ranks."""
        if self.world == 1:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def sum_floats(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks, number by number, in double precision."""
        total = torch.tensor(values, dtype=torch.float64)
        self.sum([total])
        summed: list[float] = total.tolist()
        return summed

    def follow_first(self, decision: bool) -> bool:
        """Rank 0's decision, on every rank; waits for rank 0."""
        return bool(self.sum_floats([float(decision and self.rank == 0)])[0])


def current_ranks() -> Ranks:
    """The ranks that :func:`join_ranks` joined, or a process by itself."""
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size())
    return Ranks()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Meet the other processes that torchrun started (it sets RANK and WORLD_SIZE); nothing happens without it."""
    joins = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ and current_ranks().world == 1
    if joins:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield current_ranks()
        if joins and backend == "gloo":
            distributed.barrier()  # one that leaves while others still talk may die at its exit, inside PyTorch
    finally:
        if joins:
            distributed.destroy_process_group()
