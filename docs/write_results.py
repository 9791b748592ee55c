"""Writes the tables of measured numbers into the pages, from docs/results/*.ecsv.

A comment `<!-- results/NAME.ecsv -->` in a page stands above the table that this program writes below it. The file
holds numbers, and in its header what they are of: `weights`, `sky`, `command`, and `commit`, the one of this
repository that first held them; `layout` says how columns make the cells of the page. A test compares the two.

    python docs/write_results.py
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from astropy.table import Table

DOCS = Path(__file__).parent
#: What the header of every file says.
PROVENANCE = ("weights", "sky", "command", "commit")
_PLACE = re.compile(r"(<!-- results/([\w-]+)\.ecsv -->\n\n)((?:\|.*\n)*)\n*")


def draw_table(table: Table) -> str:
    """A table as Markdown: its `layout`, head and cell of each column, filled with the columns of each row.

    Examples
    --------
    >>> layout = [("finder", "{finder}"), ("found", "{n} of {of}, {share:.2f}")]
    >>> rows = Table({"finder": ["szeek-1"], "n": [30], "of": [40], "share": [0.75]}, meta={"layout": layout})
    >>> print(draw_table(rows))
    | finder | found |
    |---|---|
    | szeek-1 | 30 of 40, 0.75 |
    <BLANKLINE>
    """
    layout = [(head, cell, set(re.findall(r"{(\w+)", cell))) for head, cell in table.meta["layout"]]
    lines = [[head for head, _, _ in layout]]
    for row in table:
        known = {name: row[name] for name in table.colnames if row[name] is not np.ma.masked}
        lines.append([cell.format(**known) if names <= set(known) else "" for _, cell, names in layout])
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    text = "\n".join([rows[0], "|" + "---|" * len(layout), *rows[1:]]) + "\n"
    return re.sub(r"\|  (?=\|)", "| ", text)


def fill_page(text: str, folder: Path = DOCS / "results") -> str:
    """A page with the tables of the files that it names, an empty line below each."""
    filled = _PLACE.sub(lambda found: found[1] + draw_table(Table.read(folder / f"{found[2]}.ecsv")) + "\n", text)
    return filled.rstrip("\n") + "\n"


def main() -> None:
    """Rewrite every page that names a file."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        filled = fill_page(text)
        if filled != text:
            page.write_text(filled, encoding="utf-8")
            print(page.relative_to(DOCS))


if __name__ == "__main__":
    main()
