"""Progress on a terminal or in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from szeek.parallel import Progress


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Progress bars with rate and time left on a terminal, one line per step elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        last: dict[str, str] = {}

        def plain(stage: str, done: int, total: int, detail: str = "") -> None:
            tenth = f"{10 * done // total}" if total > 1 else detail
            if last.get(stage) != tenth:
                last[stage] = tenth
                share = f"{100 * done // total:3d} % " if total > 1 else ""
                print(f"{stage:>8}: {share}{detail}", file=sys.stderr, flush=True)

        yield plain
        return
    columns = (TextColumn("{task.fields[stage]:>8}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bars(*columns, TextColumn("{task.description}"), console=console) as bars:
        tasks: dict[str, Any] = {}

        def bar(stage: str, done: int, total: int, detail: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(detail, stage=stage, total=None)
            bars.update(tasks[stage], completed=done, total=total or None, description=detail)

        yield bar


