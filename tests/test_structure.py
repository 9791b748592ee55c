"""The house: data flow one way through the folders, signatures stay readable, public names are there."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import szeek

SOURCE = Path(szeek.__file__).parent
#: Folders in the order of the data; each may import those before it.
FOLDERS = [
    "sky",
    "physics",
    "inputs",
    "filter",
    "simulate",
    "learn",
    "find",
    "measure",
    "assess",
    "stack",
    "counts",
    "pipeline",
    "show",
    "cli",
]
MODULES = sorted(SOURCE.rglob("*.py"))
MOST_PARAMETERS = 10

#: Functions with more parameters than ten, and why.
LONG = {
    "cli": "one parameter per option of a verb",
}
#: Functions that take **keywords: Any, and why.
OPEN = {
    "config.load_config": "any section and key of a configuration, which it checks",
    "verbs.config_of_model": "changes of a configuration, as load_config",
}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imported_folders(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module] if node.module != "szeek" else [f"szeek.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        found |= {module.split(".")[1] for module in modules if module.startswith("szeek.")}
    return found & set(FOLDERS)


def is_compiled(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    words = [ast.unparse(decorator) for decorator in function.decorator_list]
    return any(word.startswith(("njit", "numba.njit", "intrinsic")) for word in words)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_imports_upwards(folder: str) -> None:
    above = FOLDERS[FOLDERS.index(folder) + 1 :]
    for path in (SOURCE / folder).rglob("*.py"):
        wrong = imported_folders(path) & set(above)
        assert not wrong, f"{name_of(path)} imports {wrong}, which come after {folder}"


def test_what_all_folders_share_imports_none_of_them() -> None:
    for path in SOURCE.glob("*.py"):
        if path.name not in ("__init__.py", "verbs.py"):  # the names at the top
            # config: tile numbers, and how clusters look, are settings
            allowed = {"sky", "physics"} if path.name == "config.py" else set()
            assert imported_folders(path) <= allowed, name_of(path)


def test_no_function_takes_more_than_ten_parameters() -> None:
    found = {}
    for path in MODULES:
        for function in functions(path):
            a = function.args
            names = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs) if arg.arg not in ("self", "cls")]
            where = f"{name_of(path)}.{function.name}"
            allowed = any(where == key or where.startswith(key + ".") for key in LONG)
            if len(names) > MOST_PARAMETERS and not is_compiled(function) and not allowed:
                found[where] = len(names)
    assert not found, "give them one typed object of options"


def test_no_function_hides_its_options() -> None:
    found = {}
    for path in MODULES:
        for function in functions(path):
            open_end = function.args.kwarg
            if open_end is not None and open_end.annotation is not None and ast.unparse(open_end.annotation) == "Any":
                found[f"{name_of(path)}.{function.name}"] = f"**{open_end.arg}"
    assert set(found) <= set(OPEN), sorted(set(found) - set(OPEN))


@pytest.mark.parametrize("name", ["szeek", *(f"szeek.{folder}" for folder in FOLDERS)])
def test_public_names_are_there(name: str) -> None:
    """A function must not have the name of a module beside it, which would take its place once it is loaded."""
    package = import_module(name)
    for public in getattr(package, "__all__", []):
        if name != "szeek.show":  # which exports its folders
            assert not isinstance(getattr(package, public), ModuleType), public
    with pytest.raises(AttributeError, match="no attribute 'utils'"):
        _ = package.utils


def test_every_test_file_has_a_name_of_its_own() -> None:
    """pytest imports them by their names alone: of two alike the second stops the collection."""
    names = [file.name for file in (Path(__file__).parent).rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
