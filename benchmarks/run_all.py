"""Every benchmark, one table, and a line in history.jsonl.

python benchmarks/run_all.py [--only predict,training] [--note "busy machine"]

Each benchmark runs in a process of its own, on one thread, so that peak memories are its own and CPU seconds mean
the same on a busy machine. The history keeps date, commit, machine and every figure; a figure that was reached
before and is not any more is named at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import history
from rows import Row, table

HERE = Path(__file__).parent
BENCHMARKS = (
    "start",
    "sampler",
    "training",
    "network",
    "predict",
    "shipped",
    "detect",
    "measure",
    "selection",
    "conversion",
    "painting",
    "stack",
    "simulate",
)


def run_one(name: str) -> list[Row]:
    """The rows of one benchmark; its output on failure."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [sys.executable, str(HERE / f"bench_{name}.py"), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **threads})
    if done.returncode:
        sys.exit(f"bench_{name}.py failed:\n{done.stderr}")
    return [Row(**json.loads(line)) for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="some of them, by name")
    parser.add_argument("--note", default="", help="kept in the history")
    parser.add_argument("--dry", action="store_true", help="write no history")
    given = parser.parse_args()
    rows = []
    for name in given.only.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += run_one(name)
    print(table(rows))
    reached = {row["what"] for entry in history.read() for row in entry.get("rows", []) if Row(**row).reached}
    lost = [row.what for row in rows if not row.reached and row.what in reached]
    if lost:
        print("reached before, and not now:", "; ".join(lost))
    if not given.dry:
        history.append(given.note, rows=rows)


if __name__ == "__main__":
    main()
