"""Refuses phrases that are no plain English, in every text that a user or developer reads; part of `make check`.

A phrase gets here once it has been put right everywhere; the list is the package's own.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What is refused, as a regular expression, and what to say instead.
PHRASES = {
    r"clusters? lights? up": "the signal of the clusters is detected",
    r"if need be": "created if missing; where needed",
    r"is no (?:model card|file|folder)": "is not a ...",
    r"told \(": "called as progress(stage, done, total)",
    r"lists? of one.s own": "your own list",
    r"what nothing speaks? against": "no inconsistency found",
    r"crowd(?:ed|s)? less": "before the halo-density cap",
    r"made anew": "made again",
    r"of its own making": "that it simulates",
    r"(?:is|was) not any more": "no longer",
}
#: Texts that are looked at.
PATTERNS = (
    "*.md",
    "docs/*.md",
    "src/szeek/**/*.py",
    "src/szeek/**/*.toml",
    "src/szeek/**/*.html",
    "src/szeek/**/*.j2",
)


def find_phrases(text: str) -> list[tuple[int, str, str]]:
    """Line, phrase and what to say instead, of every phrase that is refused.

    Examples
    --------
    >>> find_phrases("a folder, created\\nif need be")
    [(2, 'if need be', 'created if missing; where needed')]
    """
    return sorted(
        (text.count("\n", 0, match.start()) + 1, " ".join(match.group().split()), better)
        for phrase, better in PHRASES.items()
        for match in re.finditer(phrase.replace(" ", r"\s+"), text, re.IGNORECASE)
    )


def main() -> int:
    """Print what was found; exit status 1 if anything was."""
    n_found = 0
    for path in sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)}):
        for line, phrase, better in find_phrases(path.read_text(encoding="utf-8")):
            print(f"{path.relative_to(ROOT)}:{line}: '{phrase}'; say: {better}")
            n_found += 1
    return 1 if n_found else 0


if __name__ == "__main__":
    sys.exit(main())
