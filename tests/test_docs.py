"""The documentation: pages one can read at a sitting, and plain English."""

import re
from pathlib import Path

import pytest

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


def test_phrases_are_refused_wherever_a_line_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    from check_prose import find_phrases, main

    text = "The folder is\nno model card.\nThere is no catalogue, and clusters light\n  up."
    assert [(line, phrase) for line, phrase, _ in find_phrases(text)] == [
        (1, "is no model card"),
        (3, "clusters light up"),
    ]
    assert main() == 0
