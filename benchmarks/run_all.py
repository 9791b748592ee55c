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
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rows import Row, cores, table

HERE = Path(__file__).parent
HISTORY = HERE / "history.jsonl"
BENCHMARKS = ("start", "sampler", "training", "predict", "detect", "conversion", "painting", "stack", "simulate")


def run_one(name: str) -> list[Row]:
    """The rows of one benchmark; its output on failure."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [sys.executable, str(HERE / f"bench_{name}.py"), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **threads})
    if done.returncode:
        sys.exit(f"bench_{name}.py failed:\n{done.stderr}")
    return [Row(**json.loads(line)) for line in done.stdout.splitlines()]


def processor() -> str:
    """Name of the processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str:
    """The commit measured, with a + where files have changed since."""
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(words, check=False, capture_output=True, text=True).stdout.strip() or "unknown"


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
    before = [json.loads(line) for line in HISTORY.read_text().splitlines()] if HISTORY.is_file() else []
    reached = {row["what"] for entry in before for row in entry["rows"] if Row(**row).reached}
    lost = [row.what for row in rows if not row.reached and row.what in reached]
    if lost:
        print("reached before, and not now:", "; ".join(lost))
    if not given.dry:
        entry = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "processor": processor(),
            "cores": cores(),
            "note": given.note,
            "rows": [asdict(row) for row in rows],
        }
        with HISTORY.open("a") as file:
            file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
