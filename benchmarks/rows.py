"""What every benchmark gives back: rows of one table, from medians of interleaved repeats on set threads."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Row:
    """One figure with what it is measured against and what it must reach, if anything; ``figures`` are behind it."""

    what: str
    against: str
    value: float
    unit: str
    reach: float | None
    wanted: Literal["at least", "at most"]
    threads: int
    peak_gib: float | None = None
    note: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the figure is as good as it must be."""
        if self.reach is None:
            return True
        return self.value >= self.reach if self.wanted == "at least" else self.value <= self.reach


def interleave(*functions: Callable[[], object], repeats: int = 5) -> list[float]:
    """Median seconds of each, run in turns, so that whatever else the machine does hits all alike.

    CPU seconds of this process: with one thread those of a machine that does nothing else. Give each a call
    beforehand if it compiles or allocates.
    """
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for k, function in enumerate(functions):
            start = time.process_time()
            function()
            seconds[k].append(time.process_time() - start)
    return [float(np.median(s)) for s in seconds]


def matrix_rate(n: int = 1536, repeats: int = 5) -> float:
    """Float32 matrix product of PyTorch on its present threads, FLOP per CPU second; what 'GEMM peak' means here."""
    import torch

    a = torch.randn(n, n)
    a @ a
    (seconds,) = interleave(lambda: a @ a, repeats=repeats)
    return 2 * n**3 / seconds


def peak_gib() -> float:
    """Largest resident size of this process so far, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Memory:
    """Largest resident size, with and without mapped files, sampled twenty times a second while it is entered."""

    def __enter__(self) -> Memory:
        self.gib, self.with_files_gib, self._stop = 0.0, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            with open("/proc/self/status") as status:
                kib = {
                    line.split(":")[0]: int(line.split()[1])
                    for line in status
                    if line.startswith(("VmRSS", "RssAnon"))
                }
            self.gib = max(self.gib, kib["RssAnon"] / 2**20)
            self.with_files_gib = max(self.with_files_gib, kib["VmRSS"] / 2**20)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def use_threads(threads: int) -> None:
    """Set the threads of everything that has some."""
    import numba
    import torch

    torch.set_num_threads(threads)
    numba.set_num_threads(threads)


def run(measure: Callable[..., list[Row]], **options: Any) -> None:
    """Command line of a benchmark: ``measure``'s keyword arguments as options, and ``--json`` for run_all.py."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    given = vars(parser.parse_args())
    as_json = given.pop("json")
    rows = measure(**given)
    print("\n".join(json.dumps(asdict(row)) for row in rows) if as_json else table(rows))


def table(rows: list[Row]) -> str:
    """The rows for people, one line each."""
    lines = [("what", "against", "measured", "to reach", "", "threads", "peak GiB")]
    for row in rows:
        mark = "" if row.reach is None else "yes" if row.reached else "NO"
        memory = "" if row.peak_gib is None else f"{row.peak_gib:.2f}"
        measured = f"{row.value:.3g} {row.unit}"
        reach = "" if row.reach is None else f"{row.wanted} {row.reach:g}"
        lines.append((row.what, row.against, measured, reach, mark, str(row.threads), memory))
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    notes = [f"  {row.what}: {row.note}" for row in rows if row.note]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:], *notes])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
