"""The command line: in this process, or in one of its own, which takes seconds to start."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import warnings
from typing import Any

import pytest

from szeek.cli import main


def szeek(*words: object, cwd: str | os.PathLike[str] = ".") -> subprocess.CompletedProcess[str]:
    """What ``szeek WORDS`` answers, in this process; as in one of its own, a warning is no error."""
    arguments = [str(word) for word in words]
    code, out, err = 0, io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd), warnings.catch_warnings():
        warnings.simplefilter("default")
        patch.setattr(sys, "argv", ["szeek", *arguments])
        patch.setenv("MPLBACKEND", "agg")  # `main` sets it: what it was comes back
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def szeek_process(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "szeek.cli", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)
