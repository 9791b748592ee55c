"""The verb that looks at the installation."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    self_test: Annotated[bool, typer.Option(help="run the network and the compiled functions too")] = True,
) -> None:
    """Check the installation: versions, cores, memory, disk, caches, GPU, data, and a self-test of seconds.

    Exit status 1 if something does not work. Please add the output to a bug report.
    """
    from szeek.pipeline.doctor import examine

    checks = examine(self_test=self_test)
    for check in checks:
        typer.echo(f"{'FAILED ' if check.failed else ''}{check.what}: {check.found}")
        if check.advice:
            typer.echo(f"    {check.advice}")
    failed = [check.what for check in checks if check.failed]
    typer.echo(f"does not work: {', '.join(failed)}" if failed else "no fault found")
    if failed:
        raise typer.Exit(1)
