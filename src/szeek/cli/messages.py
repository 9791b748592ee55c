"""Errors as one line that fits the command it is met in."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import typer
from typer.core import TyperGroup, TyperOption

#: Options that are not named as the argument that they set.
_OPTIONS = {"fwhm_arcmin": "beam", "columns": "column"}
#: Arguments that the section [sky] of a run's configuration sets.
SKY_KEYS = ("check", "columns", "frame", "ordering", "unit")
#: Arguments that a file's header can make needless.
_IN_HEADERS = ("frame", "ordering", "unit", "fwhm_arcmin")
_WAY_OUT = re.compile(r"\bpass (\w+)=(False|\{[^}]*\})?")


def describe_error(error: Exception) -> str:
    """An error in one line, whoever raised it; imports nothing, for an import may be what failed."""
    pydantic, config = sys.modules.get("pydantic"), sys.modules.get("szeek.config")
    if config is not None and isinstance(error, getattr(pydantic, "ValidationError", ())):
        return f"refused: {config.describe_refusal(error)}"
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"'{error.filename}': {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ImportError):
        return f"{error.name or 'a library'} cannot be imported ({error}); install szeek again in this environment"
    if "cannot cache function" in str(error):  # numba
        return "no folder can be written to for compiled functions; set NUMBA_CACHE_DIR to one"
    return str(error)


def fit_to_command(text: str, app: typer.Typer, words: Sequence[str]) -> str:
    """The way out that a message of the library names, such as ``pass frame='icrs'``, as the command at hand has it.

    Parameters
    ----------
    text : str
        Of an error.
    app : Typer
        The command line.
    words : sequence of str
        What it was called with.

    Returns
    -------
    str
        With the command's option or the key of its configuration instead of the argument; where it has neither, what
        can be done instead.

    Examples
    --------
    >>> from szeek.cli import app
    >>> for verb in ("predict", "run", "stack"):
    ...     fit_to_command("no COORDSYS; pass frame='icrs'", app, [verb])
    "no COORDSYS; give --frame 'icrs'"
    "no COORDSYS; under [sky] set frame = 'icrs'"
    "no COORDSYS; state it in the file's header, or from Python pass frame='icrs'"
    """
    command = typer.main.get_command(app)
    for word in words:
        if isinstance(command, TyperGroup) and word in command.commands:
            command = command.commands[word]
    options = {option.name: option for option in command.params if isinstance(option, TyperOption)}

    def fit(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or ""
        option = options.get(_OPTIONS.get(name, name))
        if option is not None and value == "False":
            return f"give {option.secondary_opts[0]}"
        if option is not None:
            given = re.sub(r"'(\w+)': '?(.*?)'?(?=[,}])", r"\1=\2", value).strip("{}")
            return f"give {option.opts[0]} " + (
                given.replace(", ", f" {option.opts[0]} ") if option.multiple else given
            )
        if command.name == "run" and name in SKY_KEYS:
            toml = "false" if value == "False" else re.sub(r"'(\w+)': ", r"\1 = ", value)
            return f"under [sky] set {name} = {toml}"
        instead = "state it in the file's header, or " if name in _IN_HEADERS else ""
        return f"{instead}from Python {found[0]}"

    return _WAY_OUT.sub(fit, text)
