"""Writes the pages of docs/reference/ from the code: commands, configuration, products, columns and the API.

docs/conf.py calls it at each build, so that none of them can go stale; nothing of it is committed.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from szeek.cli.app import app
from szeek.config import Config, list_presets
from szeek.learn.model import list_models
from szeek.measure.candidates import explain_columns
from szeek.pipeline.products import PRODUCTS

#: Packages whose public names make the API, in the order of the data.
PACKAGES = (
    *("szeek", "szeek.sky", "szeek.physics", "szeek.inputs", "szeek.simulate", "szeek.filter", "szeek.learn"),
    *("szeek.find", "szeek.measure", "szeek.assess", "szeek.stack", "szeek.counts"),
    *("szeek.show.figures", "szeek.show.report", "szeek.show.explorer"),
)
#: Modules that are used by their own name.
MODULES = (
    *("szeek.verbs", "szeek.inputs.photons", "szeek.inputs.galaxies"),
    *("szeek.measure.xray", "szeek.measure.richness", "szeek.measure.counterparts", "szeek.pipeline.evidence"),
    "szeek.pipeline.counts",
)


def write_reference(folder: Path) -> None:
    """All pages, and a page for each package of the API."""
    folder.mkdir(exist_ok=True)
    pages = {
        "commands": describe_commands(),
        "configuration": describe_configuration(),
        "products": describe_products(),
        "columns": describe_columns(),
        "api": list_packages(),
        **{page_of(package): describe_package(package) for package in PACKAGES},
        **{page_of(module): describe_module(module) for module in MODULES},
    }
    for name, text in pages.items():
        file = folder / f"{name}.md"
        if not file.is_file() or file.read_text(encoding="utf-8") != text:  # Sphinx reads again what has changed
            file.write_text(text, encoding="utf-8")


def page_of(package: str) -> str:
    """Name of the page of a package."""
    return "api-" + package.removeprefix("szeek.").replace(".", "-")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


# --- commands ------------------------------------------------------------------------------------------------


def list_commands() -> Iterator[tuple[str, Any]]:
    """Each verb as it is typed, with its command."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for verb, inner in command.commands.items():
                yield from walk(f"{name} {verb}", inner)
        else:
            yield name, command

    yield from walk("szeek", typer.main.get_command(app))


def list_options(command: Any) -> list[Any]:
    """Arguments and options of a command, `--help` left out."""
    return [parameter for parameter in command.params if parameter.name != "help"]


def describe_commands() -> str:
    """The page of all commands."""
    parts = [
        "# Commands",
        "`szeek --help` lists the commands, `szeek VERB --help` prints what stands here. Exit status: 0 for "
        "success, 1 for an error, which is explained in one line, 2 for an option that does not exist, 128 plus the "
        "signal's number for an interrupt.",
    ]
    for name, command in list_commands():
        parts.append(f"## {name}")
        arguments = [p for p in list_options(command) if p.param_type_name == "argument"]
        words = [p.metavar or p.name.upper() for p in arguments]
        parts.append(f"```sh\n{' '.join((name, *words))} [OPTIONS]\n```")
        parts.append(inspect.cleandoc(command.help or ""))
        rows = []
        for parameter in list_options(command):
            is_argument = parameter.param_type_name == "argument"
            spelled = [parameter.metavar or parameter.name.upper()] if is_argument else parameter.opts
            spelled = [*spelled, *parameter.secondary_opts]
            default = parameter.default
            if parameter.required:
                said = "needed"
            elif default is None or default == "" or default == [] or default == () or callable(default):
                said = ""
            else:
                said = f"`{str(default).lower() if isinstance(default, bool) else default}`"
            rows.append((" ".join(f"`{word}`" for word in spelled), said, _one_line(parameter.help)))
        if rows:
            parts.append(_table(("option", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


# --- configuration -------------------------------------------------------------------------------------------


def list_keys(model: type[BaseModel] = Config, start: str = "") -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    """Every key with the section it stands in; sections of sections are keys of their own, and follow theirs."""
    for name, field in model.model_fields.items():
        yield start + name, model, field
        section = section_of(field)
        if section is not None:
            yield from list_keys(section, f"{start}{name}.")


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds, if it holds one."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            return kind
    return None


def meaning(key: str, model: type[BaseModel], field: FieldInfo) -> str:
    """What a key means: its description, else what the docstring of its section says under Parameters."""
    if field.description:
        return field.description
    name = key.rpartition(".")[2]
    found = re.search(rf"^{name} : .*\n((?:    .*\n?)+)", inspect.cleandoc(model.__doc__ or ""), re.MULTILINE)
    section = section_of(field)
    return _one_line(found.group(1) if found else section.__doc__ if section else "")


def _spell_type(kind: Any) -> str:
    """A type as a user of TOML reads it."""
    words = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "file"}
    if kind in words:
        return words[kind]
    inner = [part for part in get_args(kind) if part not in (type(None), Ellipsis)]
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_spell_type(part) for part in inner)
    if origin is tuple:
        return f"list of {_plural(inner[0])}"
    if origin is dict:
        return f"table of {_plural(inner[1])}, by name"
    return _spell_type(inner[0]) if inner else getattr(kind, "__name__", str(kind))


def _plural(kind: Any) -> str:
    word = _spell_type(kind)
    return word if word == "text" or not word.isalpha() else word + "s"


def _spell_limits(field: FieldInfo) -> str:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}
    limits = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    return ", " + ", ".join(limits) if limits else ""


def _spell_default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def describe_configuration() -> str:
    """The page of all keys."""
    parts = [
        "# Configuration",
        "A configuration is a TOML file; `szeek run my.toml` reads it. It names with `preset` the preset that it "
        "changes, and holds only what differs from it. `szeek config PRESET` prints a configuration as resolved. A "
        "key that is not listed here is refused. Relative paths are relative to the file.",
        f"Presets: {', '.join(f'`{name}`' for name in list_presets())}. "
        f"Networks that ship with the package, for `model`: {', '.join(f'`{name}`' for name in list_models())}.",
    ]
    sections: dict[str, list[tuple[str, ...]]] = {}
    titles = {"": "The top of the file"}
    for key, model, field in list_keys():
        section, _, name = key.rpartition(".")
        inner = section_of(field)
        if inner is not None:
            titles[key] = _one_line((inner.__doc__ or "").split("\n\n")[0])
            if section == "":
                continue
        kind = "section" if inner is not None else _spell_type(field.annotation) + _spell_limits(field)
        said = "" if inner is not None else _spell_default(field)
        sections.setdefault(section, []).append((f"`{name}`", kind, said, meaning(key, model, field)))
    for section, rows in sections.items():
        parts += [f"## [{section}]" if section else "## The top of the file"]
        parts += [titles[section]] if section else []
        parts.append(_table(("key", "value", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


# --- products and columns ------------------------------------------------------------------------------------


def describe_products() -> str:
    """The page of what a run leaves behind."""
    rows = [(f"`{name}`", product.holds, f"`{product.command}`") for name, product in PRODUCTS.items()]
    return "\n\n".join(
        [
            "# Products",
            "What a run leaves in its folder. Maps and catalogues open in healpy, astropy, TOPCAT, DS9 and Aladin as "
            "they are. A run does not make all of them: the last column names the command that writes the product.",
            _table(("file", "holds", "written by"), rows),
            "Columns of the candidate catalogue: {doc}`columns`. From Python, "
            "`szeek.pipeline.products.RunFolder(\"my-run\")` reads every product.",
        ]
    ) + "\n"  # fmt: skip


def describe_columns() -> str:
    """The page of the candidate catalogue's columns."""
    text = "\n".join(explain_columns().splitlines()[1:]).replace("## FLAGS", "## The bits of FLAGS")
    return (
        "# Columns of the candidate catalogue\n\n"
        "`candidates.fits`, `candidates.vot` and `candidates.csv` hold the same table; units and UCDs are in the "
        f"files.\n{text}\n\nHow each flag is set, and how often it is right: {{doc}}`../flags`.\n"
    )


# --- API -----------------------------------------------------------------------------------------------------


def list_public(package: str) -> list[tuple[str, Any]]:
    """Public names of a package with what they are, in alphabetical order as `__all__` has them."""
    module = import_module(package)
    return [(name, getattr(module, name)) for name in module.__all__ if name != "__version__"]


def list_packages() -> str:
    """The page that the pages of all packages hang from."""
    rows = [(f"{{doc}}`{package} <{page_of(package)}>`", _summary(package)) for package in (*PACKAGES, *MODULES)]
    return "\n\n".join(
        [
            "# API",
            "The packages stand in the order in which data flow; each uses those before it. Then come modules that "
            "are used by their own name. What is listed here is public; other modules may change without notice.",
            _table(("package", "holds"), rows),
            "```{toctree}\n:hidden:\n\n" + "\n".join(page_of(package) for package in (*PACKAGES, *MODULES)) + "\n```",
        ]
    ) + "\n"  # fmt: skip


def describe_module(module: str) -> str:
    """The page of a module."""
    return f"# {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"


def _comment(package: str, name: str) -> str:
    """The comment above a public constant, in the module that a package takes it from."""
    from sphinx.pycode import ModuleAnalyzer  # the tests need no Sphinx

    tree = ast.parse(inspect.getsource(import_module(package)))
    homes = (n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and name in {a.name for a in n.names})
    analyzer = ModuleAnalyzer.for_module(next(homes))
    analyzer.analyze()
    return " ".join(analyzer.attr_docs[("", name)]).strip()


def _summary(package: str) -> str:
    return (import_module(package).__doc__ or "").strip().splitlines()[0]


def describe_package(package: str) -> str:
    """The page of a package."""
    lines = []
    for name, value in list_public(package):
        home = next((p for p in PACKAGES[1:] if name in import_module(p).__all__), package)
        if package == "szeek" and home != package:  # has its place there
            lines.append(f"\n* :py:obj:`szeek.{name} <{home}.{name}>`")
            continue
        if inspect.isclass(value):
            lines.append(f"\n.. autoclass:: {package}.{name}\n   :members:")
        elif callable(value):
            lines.append(f"\n.. autofunction:: {package}.{name}")
        else:
            lines.append(f"\n.. py:data:: {package}.{name}\n\n   {_comment(package, name)}")
    return f"# {package}\n\n{_summary(package)}\n\n```{{eval-rst}}\n" + "\n".join(lines) + "\n```\n"
