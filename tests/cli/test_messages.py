"""Errors end in one line, and name a way out that the command at hand has."""

import ast
import builtins
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup, TyperOption
from typer.testing import CliRunner

import szeek
from szeek.cli import app
from szeek.cli.app import main
from szeek.cli.messages import SKY_KEYS, describe_error, fit_to_command
from szeek.cli.pipeline import describe_candidates
from szeek.config import Config, SkyConfig
from szeek.pipeline.measure import Measured
from szeek.pipeline.stages import Detected, Maps, Predicted
from szeek.verbs import RunResult

SOURCE = Path(szeek.__file__).parent
GROUP = typer.main.get_command(app)


def options_of(command):
    return {
        word
        for option in command.params
        if isinstance(option, TyperOption)
        for word in (*option.opts, *option.secondary_opts)
    }


VERBS = {name: options_of(command) for name, command in GROUP.commands.items()}


def texts(tree):
    """Every text of a module but its docstrings, with the place holders of f-strings as {}."""
    places = (ast.Module, ast.ClassDef, ast.FunctionDef)
    inside = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, places) and n.body[:1] and isinstance(n.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in inside:
            inside |= {id(part) for part in ast.walk(node)}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def arguments(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (argument.arg for argument in (*node.args.args, *node.args.kwonlyargs))


MODULES = {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def test_every_argument_that_a_message_names_is_one():
    known = {name for tree in MODULES.values() for name in arguments(tree)}
    named = {
        (path.name, name)
        for path, tree in MODULES.items()
        for text in texts(tree)
        for name in re.findall(r"\bpass (\w+)=", text)
    }
    assert len(named) > 5
    assert {(path, name) for path, name in named if name not in known} == set()


def test_every_option_that_a_message_names_is_one():
    """Of the verb in whose function it stands, of the one that it names, or of any."""
    wrong = set()
    for path, tree in MODULES.items():
        verbs = {
            id(part): node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and path.parent.name == "cli" and node.name in VERBS
            for part in ast.walk(node)
        }
        for node in ast.walk(tree):
            for text in texts(node) if isinstance(node, ast.Raise) else ():
                verb = re.search(r"szeek (\w+)", text)
                verb = verb[1] if verb else verbs.get(id(node))
                known = VERBS.get(verb) or set().union(*VERBS.values())
                wrong |= {
                    (path.name, option) for option in re.findall(r"--[a-z][a-z-]*", text) if option not in known
                }
    assert wrong == set()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "way_out",
    ["frame='galactic' or 'icrs'", "unit='K_CMB'", "unit={'545': 'MJy/sr'}", "ordering='RING'", "check=False",
     "fwhm_arcmin=", "columns="],
)  # fmt: skip
def test_the_way_out_is_one_of_the_command_at_hand(verb, way_out):
    text = fit_to_command(f"it does not say; pass {way_out}", app, [verb, "--map", "run", "--out", "frame"])
    assert set(re.findall(r"--[a-z][a-z-]*", text)) <= VERBS[verb]
    name = way_out.partition("=")[0]
    if verb == "run" and name in SKY_KEYS:
        assert f"under [sky] set {name} = " in text
    elif "--" + {"fwhm_arcmin": "beam", "columns": "column"}.get(name, name) not in VERBS[verb]:
        assert f"from Python pass {way_out}" in text
    else:
        assert "pass" not in text and "give --" in text


def test_ways_out_by_hand():
    by_band = "545 is in K_CMB; pass unit={'545': 'MJy/sr', '857': ...}; check it"
    assert fit_to_command(by_band, app, ["predict"]) == "545 is in K_CMB; give --unit 545=MJy/sr, 857=...; check it"
    assert "under [sky] set unit = {545 = 'MJy/sr', 857 = ...}; check" in fit_to_command(
        by_band, app, ["run", "c.toml"]
    )
    assert fit_to_command("or pass check=False to go on", app, ["train"]) == "or give --no-check to go on"
    assert fit_to_command("or pass check=False to go on", app, ["run"]) == "or under [sky] set check = false to go on"
    assert fit_to_command("no beam; pass fwhm_arcmin=", app, ["stack"]) == "no beam; give --beam "
    two = "pass columns={'ra': 'x', 'dec': 'y'}"
    assert fit_to_command(two, app, ["assess"]) == "give --column ra=x --column dec=y"
    assert fit_to_command(two, app, ["run"]) == "under [sky] set columns = {ra = 'x', dec = 'y'}"
    assert fit_to_command("nothing to pass here", app, ["data", "fetch"]) == "nothing to pass here"
    assert set(SKY_KEYS) <= set(SkyConfig.model_fields)


def test_all_verbs_are_there():
    assert isinstance(GROUP, TyperGroup) and len(VERBS) > 10


def test_the_handler_imports_nothing(monkeypatch):
    """What failed may be the import of the very library that a sentence could be made with."""
    with pytest.raises(ValueError) as refused:
        Config.model_validate({"sky": {"nsid": 1}})

    def fail(name, *_):
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr(builtins, "__import__", fail)
    errors = (ValueError("a"), OSError(2, "No such file", "b"), OSError("c"), ImportError("d", name="matplotlib"))
    said = [describe_error(error) for error in errors]
    keys = describe_error(refused.value)
    monkeypatch.setitem(sys.modules, "pydantic", None)  # as after an import that failed half way
    monkeypatch.delitem(sys.modules, "szeek.config")
    half_way = describe_error(refused.value)
    monkeypatch.undo()
    assert said[:3] == ["a", "'b': No such file", "c"]
    assert said[3].startswith("matplotlib cannot be imported (d)")
    assert keys == "refused: sky.nsid: unknown key, did you mean 'nside'? (found 1)"
    assert "sky.nsid" in half_way


def test_a_library_that_cannot_be_imported_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "szeek.verbs", None)
    monkeypatch.setattr(sys, "argv", ["szeek", "detect", "p.fits", "--out", "o"])
    monkeypatch.setenv("MPLBACKEND", "module://of_another.environment")
    with pytest.raises(SystemExit) as end:
        main()
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 1 and len(lines) == 1
    assert lines[0].startswith("szeek: szeek.verbs cannot be imported")


def test_the_version_is_that_of_the_package():
    said = CliRunner().invoke(app, ["--version"])
    assert said.exit_code == 0 and said.output == f"szeek {szeek.__version__}\n"


def test_a_run_says_how_many_sources_of_other_classes_it_found():
    done = RunResult(
        Path("run"), 0.1, None, Maps(), Predicted(133.1), Detected(12, {"radio": 41, "co": 5}), Measured(12)
    )
    assert describe_candidates(done).splitlines() == [
        "12 candidates above p = 0.1 in 133.1 deg^2: run/candidates.fits",
        "sources of other classes: 41 radio, 5 co: run/class-sources.fits",
    ]


DROPPED = """
import signal, sys, time
from szeek.cli import main

class Finalised:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def work():
    item = Finalised()
    del item  # the interrupt is raised in there, and Python drops it
    time.sleep(60)

sys.modules["szeek.cli.app"].app = work
main()
"""


def test_an_interrupt_that_python_drops_is_not_lost():
    """In a finaliser, or in a callback of C code: a batch system sends its SIGTERM once."""
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=50)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.strip() == (
        "szeek: interrupted; what is finished is whole, and the same command goes on from here"
    )


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_linear_algebra_starts_no_threads_unless_told_to(given, expected):
    """OpenBLAS reads its variable when numpy is imported, once."""
    before = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    words = "import sys, os, szeek.cli; print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", words], env={**before, **given}, capture_output=True, text=True, timeout=50
    )
    assert done.stdout.split() == [expected, "False"]
