"""`szeek data`: list, fetch, verify and add survey files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from szeek.inputs.download import FileState

data_app = typer.Typer(
    no_args_is_help=True, help="Survey files: what there is, what is here, fetch, verify, bring your own."
)

_Folder = Annotated[Path | None, typer.Option("--folder", help="Data folder (default: $SZEEK_DATA, else the cache).")]


@data_app.command("list")
def list_files(
    used_for: Annotated[
        str | None, typer.Option("--for", help="Only what this needs: bonjean2020, stacks, masks, cross-checks, ...")
    ] = None,
    folder: _Folder = None,
) -> None:
    """What is known, what is here, how many GB are missing, on what terms."""
    from szeek.inputs import download

    folder = folder or download.data_folder()
    typer.echo(f"data folder: {folder}")
    missing, unknown = 0.0, 0
    for dataset in download.list_datasets(used_for):
        typer.echo(f"\n{dataset.name}: {dataset.title}\n  {dataset.citation}; {dataset.licence}")
        if dataset.note:
            typer.echo(f"  {dataset.note}")
        if not dataset.files:
            continue
        for state in download.fetch([dataset.name], folder=folder, dry_run=True):
            typer.echo(f"  {_line(state)}")
            if state.state in ("absent", "partial"):
                size = state.file.size / 1e9 if state.file.size else state.file.about_gb
                missing, unknown = missing + (size or 0.0), unknown + (size is None)
    typer.echo(f"\nmissing: {missing:.1f} GB" + (f" and {unknown} files of unknown size" if unknown else ""))


@data_app.command("fetch")
def fetch_files(
    names: Annotated[list[str], typer.Argument(help="Data sets, e.g. planck-pr3 psz2 mcxc redmapper.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, and stop.")] = False,
    parallel: Annotated[int, typer.Option(help="Files at a time.", min=1)] = 3,
    folder: _Folder = None,
) -> None:
    """Fetch data sets; broken transfers go on where they stopped, also in a later call."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from szeek.inputs import download

    if dry_run:
        for state in download.fetch(names, folder=folder, dry_run=True):
            typer.echo(_line(state))
            for url in state.file.urls if state.state in ("absent", "partial") else ():
                typer.echo(f"    from {url}")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, TaskID] = {}

        def show(_: str, had: int, total: int, path: str = "") -> None:
            if path not in tasks:
                tasks[path] = bars.add_task(Path(path).name, total=total or None)
            bars.update(tasks[path], completed=had, total=total or None)

        states = download.fetch(names, folder=folder, n_parallel=parallel, progress=show)
    for state in states:
        typer.echo(_line(state))


@data_app.command("verify")
def verify_files(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; all that are here without any.")] = None,
    folder: _Folder = None,
) -> None:
    """Read every file again and compare it with its checksum; fails where one is wrong."""
    from szeek.inputs import download

    states = download.verify(names or None, folder=folder)
    for state in states:
        if names or state.state not in ("absent", "partial"):
            typer.echo(_line(state))
    if any(state.state == "wrong" for state in states):
        raise typer.Exit(1)


@data_app.command("add")
def add_files(
    name: Annotated[str, typer.Argument(help="Data set that the file belongs to.")],
    path: Annotated[Path, typer.Argument(help="Your file, or a folder of them; used where it lies.")],
    folder: _Folder = None,
) -> None:
    """Use a file that you have instead of fetching it."""
    from szeek.inputs import download

    typer.echo(f"{name}: {download.add(name, path, folder=folder)}")


def _line(state: FileState) -> str:
    size = f"{state.n_bytes / 1e9:.3f} GB" if state.n_bytes else ""
    if state.state == "absent":
        known = state.file.size / 1e9 if state.file.size else state.file.about_gb
        size = f"about {known:.2g} GB" if known else "size unknown until fetched"
    return "  ".join(part for part in (f"{state.state:9}", str(state.path), size, state.how) if part)
