"""The documentation: pages one can read at a sitting, and plain English."""

import ast
import doctest
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import typer
from astropy.table import MaskedColumn, Table

from szeek.config import load_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: Most words of a page's prose; tables and code do not count. Results are apart, whose pages the index lists last.
MOST_WORDS = 1500


def toctrees() -> dict[str, list[str]]:
    """Pages of the index by the caption of their list."""
    found = {}
    for block in re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL):
        caption = re.search(r":caption: (.*)", block)
        assert caption is not None
        found[caption.group(1)] = [line for line in block.splitlines() if line and not line.startswith(":")]
    return found


def prose_of(page: Path) -> str:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))


def test_every_page_has_its_place_in_the_index() -> None:
    listed = {name for pages in toctrees().values() for name in pages}
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= listed
    assert list(toctrees()) == ["Getting started", "User guide", "Reference", "Method", "Results"]


def test_pages_are_short() -> None:
    results = toctrees()["Results"]
    pages = [page for page in DOCS.glob("*.md") if page.stem not in results]
    long = {page.name: n for page in pages if (n := len(prose_of(page).split())) > MOST_WORDS}
    assert not long


def test_internal_links_of_committed_pages_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *DOCS.glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)", page.read_text(encoding="utf-8")):
            generated = target.removeprefix("../").startswith("reference/")
            assert generated or (page.parent / f"{target}.md").exists(), f"{page.name}: {target}"


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    yield import_module("write_reference")
    sys.path.remove(str(DOCS))


def blocks_of(page: Path, *languages: str) -> list[str]:
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def szeek_lines() -> Iterator[tuple[str, list[str]]]:
    """Words after `szeek` of every command line of the pages, whole lines of blocks and those inside sentences."""
    for page in (*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("slurm/*")):
        text = page.read_text(encoding="utf-8")
        lines = text.replace("\\\n", " ").splitlines() if page.parent != DOCS and page.parent != ROOT else []
        for block in blocks_of(page, "sh", "bash"):
            lines += block.replace("\\\n", " ").splitlines()
        lines += re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for line in lines:
            for found in re.findall(r"(?:^|[\s;&|(])szeek +([a-z][^;&|]*)", line):
                words = shlex.split(found.replace("[", "").replace("]", ""), comments=True)
                if words:
                    yield f"{page.name}: {line}", words


def test_every_command_line_of_the_pages_is_one(reference: ModuleType) -> None:
    """Verb and options exist, options that take a value have one, and there are no more arguments than it takes."""
    commands = dict(reference.list_commands())
    n_lines = 0
    for where, words in szeek_lines():
        n_verb = next((n for n in (1, 2) if " ".join(("szeek", *words[:n])) in commands), 0)
        assert n_verb, where
        command = commands[" ".join(("szeek", *words[:n_verb]))]
        try:
            left = command.make_parser(typer.Context(command)).parse_args(words[n_verb:])[1]
        except Exception as error:  # of click: no such option, or no value
            pytest.fail(f"{where}: {error}")
        assert not left, where
        n_lines += 1
    assert n_lines > 100


def test_every_configuration_of_the_pages_is_one(tmp_path: Path) -> None:
    blocks = [block for page in DOCS.glob("*.md") for block in blocks_of(page, "toml") if "[[bands]]" not in block]
    assert len(blocks) > 5
    for block in blocks:
        file = tmp_path / "config.toml"
        file.write_text(block, encoding="utf-8")
        load_config(file)  # refuses keys and values that it does not know


def test_every_import_of_the_pages_is_there() -> None:
    """Python of the pages parses, and what it takes from szeek has that name there."""
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for block in blocks_of(page, "python"):
            if ">>>" in block:
                continue
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("szeek"):
                    module = import_module(str(node.module))
                    missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                    assert not missing, f"{page.name}: {node.module} has no {', '.join(missing)}"


def test_examples_of_the_pages_run() -> None:
    n_examples = 0
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for number, block in enumerate(block for block in blocks_of(page, "python") if ">>>" in block):
            example = doctest.DocTestParser().get_doctest(block, {}, f"{page.name} {number}", str(page), 0)
            said: list[str] = []
            assert doctest.DocTestRunner().run(example, out=said.append).failed == 0, "".join(said)
            n_examples += 1
    assert n_examples > 1


def test_tables_of_measured_numbers_are_those_of_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is on a page, says what its numbers are of, and is what the page shows."""
    monkeypatch.syspath_prepend(str(DOCS))
    from write_results import PROVENANCE, fill_page

    named = []
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert fill_page(text) == text, f"{page.name}: run docs/write_results.py"
        named += re.findall(r"<!-- results/([\w-]+)\.ecsv -->", text)
    files = sorted((DOCS / "results").glob("*.ecsv"))
    assert len(files) >= 30 and sorted(named) == sorted(file.stem for file in files)
    for file in files:
        meta = Table.read(file).meta
        assert all(meta[key] for key in PROVENANCE), file.name


def test_the_readme_quotes_the_numbers_of_the_results() -> None:
    columns = [f"planck_z_at_purity_{purity}" for purity in ("09", "08", "05")]
    results = Table.read(DOCS / "results" / "found-seed5.ecsv")
    shares = {row["finder"]: [row[name] for name in columns] for row in results}
    quoted = re.search(r"\| finder \| 0\.9 \| 0\.8 \| 0\.5 \|\n.*\n((?:\|.*\n)+)", (ROOT / "README.md").read_text())
    assert quoted is not None
    for line in quoted[1].splitlines():
        finder, *said = (cell.strip() for cell in line.strip("|").split("|"))
        assert said == [f"{share:.2f}" for share in shares[finder]], finder


def test_a_table_has_its_numbers_as_its_layout_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    from write_results import draw_table

    share = MaskedColumn([0.75, 0.0], mask=[False, True])
    table = Table({"finder": ["szeek-1", "a filter"], "n": [30, 20], "share": share})
    table.meta["layout"] = [["finder", "{finder}"], ["found", "{n}, {share:.2f}"]]
    assert draw_table(table).splitlines() == [
        "| finder | found |",
        "|---|---|",
        "| szeek-1 | 30, 0.75 |",
        "| a filter | |",  # not known
    ]


def test_phrases_are_refused_wherever_a_line_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    from check_prose import find_phrases, main

    text = "The folder is\nno model card.\nThere is no catalogue, and clusters light\n  up."
    assert [(line, phrase) for line, phrase, _ in find_phrases(text)] == [
        (1, "is no model card"),
        (3, "clusters light up"),
    ]
    assert main() == 0
