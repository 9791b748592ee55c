"""benchmarks/history.jsonl, a line for each measurement, and what the documentation says of the latest ones.

A line holds date, commit, processor, cores and a note, and either the ``rows`` of benchmarks or a ``scaling`` table
of bench_scaling.py. docs/conf.py takes the figures of docs/scaling.md from here, so that they cannot go stale.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rows import Row, cores

HISTORY = Path(__file__).with_name("history.jsonl")


def read() -> list[dict[str, Any]]:
    """All lines, oldest first."""
    return [json.loads(line) for line in HISTORY.read_text().splitlines()] if HISTORY.is_file() else []


def append(
    note: str, rows: list[Row] | None = None, scaling: dict[str, list[dict[str, float]]] | None = None
) -> None:
    """Add a line for what was just measured."""
    entry: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": cores(),
        "note": note,
    }
    if rows is not None:
        entry["rows"] = [asdict(row) for row in rows]
    if scaling is not None:
        entry["scaling"] = scaling
    with HISTORY.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def _processor() -> str:
    """Name of the processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit measured, with a + where files other than the history have changed since."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        folder = str(HISTORY.parents[1])
        return subprocess.run(["git", "-C", folder, *words], check=False, capture_output=True, text=True)

    name = git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = git("diff", "--quiet", "HEAD", "--", ".", f":!benchmarks/{HISTORY.name}").returncode
    return f"{name}+" if name and changed else name or "unknown"


# --- for the documentation -------------------------------------------------------------------------------


def latest_rows() -> dict[str, tuple[Row, dict[str, Any]]]:
    """The latest row of each benchmark, with the line that it stands in."""
    return {row["what"]: (Row(**row), entry) for entry in read() for row in entry.get("rows", [])}


def latest_scaling(kind: str) -> list[dict[str, float]]:
    """The latest table of bench_scaling.py of a kind: nside, shards, workers or bands."""
    tables = [entry["scaling"][kind] for entry in read() if kind in entry.get("scaling", {})]
    if not tables:
        raise ValueError(f"history.jsonl holds no scaling with {kind}; run benchmarks/bench_scaling.py {kind}")
    table: list[dict[str, float]] = tables[-1]
    return table


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    text = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in text)


def _rows_table() -> str:
    lines = []
    for row, entry in latest_rows().values():
        reach = "" if row.reach is None else f"{row.wanted} {row.reach:g}" + ("" if row.reached else ", **missed**")
        memory = "" if row.peak_gib is None else f"{row.peak_gib:.2f} GiB"
        measured = (f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.3g}") + f" {row.unit}"
        lines.append([row.what, row.against, measured, reach, memory, row.note, entry["date"][:10]])
    return _markdown(["what", "against", "measured", "to reach", "memory", "in figures", "on"], lines)


#: Columns of each scaling table: what it says, and how it is written.
_COLUMNS: dict[str, dict[str, Callable[[dict[str, float]], str]]] = {
    "nside": {
        "nside": lambda r: f"{r['nside']:.0f}",
        "pixel": lambda r: f"{1.7177 * 2048 / r['nside']:.2f} arcmin",
        "sky measured": lambda r: f"1/{1 / r['share']:.0f}",
        "fields, CPU s": lambda r: f"{r['network_s']:.1f}",
        "ns a pixel": lambda r: f"{r['ns']:.0f}",
        "whole maps, CPU s": lambda r: f"{r['rest_s']:.1f}",
        "all sky, CPU s": lambda r: f"{r['whole_s']:.0f}" + ("" if r["share"] == 1 else " (extrapolated)"),
        "detection, CPU s": lambda r: f"{r['detect_s']:.2f}",
        "memory": lambda r: f"{r['gib']:.2f} GiB",
    },
    "shards": {
        "shards": lambda r: f"{r['n']:.0f}",
        "CPU s together": lambda r: f"{r['sum_s']:.1f}",
        "CPU s of the longest": lambda r: f"{r['longest_s']:.2f}",
        "speed-up with a core each": lambda r: f"{r['alone_s'] / r['longest_s']:.1f}",
    },
    "bands": {
        "bands": lambda r: f"{r['n']:.0f}",
        "predict, CPU s": lambda r: f"{r['whole_s']:.1f}",
        "memory": lambda r: f"{r['gib']:.2f} GiB",
    },
}
_COLUMNS["workers"] = {"workers" if name == "shards" else name: tell for name, tell in _COLUMNS["shards"].items()} | {
    "one process without Dask, CPU s": lambda r: f"{r['here_s']:.1f}",
    "memory of the largest": lambda r: f"{r['gib']:.2f} GiB",
}


def _scaling_table(kind: str) -> str:
    columns = _COLUMNS[kind]
    return _markdown(list(columns), [[tell(row) for tell in columns.values()] for row in latest_scaling(kind)])


def substitutions() -> dict[str, str]:
    """What docs/scaling.md says in double braces: tables, and the figures of the plan that rest on measured ones."""
    rows = latest_rows()
    nside = {row["nside"]: row for row in latest_scaling("nside")}
    bands = {row["n"]: row for row in latest_scaling("bands")}
    patch_ms = rows["patch extraction"][0].figures["ms_a_patch"]
    ns_a_value = 1e6 * patch_ms / (64 * 64 * 6)
    rate = rows["training step, batch 128"][0].figures["flop_per_s"]
    ns_a_pixel = nside[8192]["ns"] * bands[9]["whole_s"] / bands[6]["whole_s"]
    sky_s = 238e6 * 1.21 * 1e-9 * ns_a_pixel
    patch_plan_ms = 1e-6 * 224**2 * 9 * ns_a_value
    last = read()[-1]
    return {
        "table": _rows_table(),
        **{f"{kind}_table": _scaling_table(kind) for kind in _COLUMNS},
        "processor": f"{last['processor']}, {last['cores']} cores",
        "evaluations": f"{rows['evaluations a pixel'][0].value:.2f}",
        "whole_maps_s": f"{nside[2048]['rest_s']:.0f}",
        "ns_a_pixel": f"{ns_a_pixel:.0f}",
        "core_minutes": f"{sky_s / 60:.1f}",
        "core_hours_of_injection": f"{800 * sky_s / 3600:.0f}",
        "training_gflop_per_s": f"{rate / 1e9:.0f}",
        "training_core_hours": f"{9.8e15 / rate / 3600:.0f}",
        "ns_a_value": f"{ns_a_value:.1f}",
        "patch_ms": f"{patch_ms:.2f}",
        "patch_plan_ms": f"{patch_plan_ms:.1f}",
        "feeding_cores": f"{1840e-3 * patch_plan_ms:.0f}",
    }
