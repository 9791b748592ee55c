"""What a report is made of: sections of paragraphs, figures and sortable tables."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from szeek.show.figures.style import save_figure


@dataclass(frozen=True)
class Column:
    """Head of a report table's column."""

    name: str
    unit: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """One entry of a report table: the text that is read, the value that is sorted by (None: the text)."""

    text: str
    sort: float | str | None = None
    link: str = ""


@dataclass(frozen=True)
class Link:
    """A place in the explorer."""

    text: str
    link: str


@dataclass(frozen=True)
class Block:
    """A paragraph, listing, row of links, figure or table of a section."""

    kind: str  #: 'text', 'code', 'links', 'figure' or 'table'
    text: str = ""
    caption: str = ""
    source: str = ""
    alt: str = ""
    wide: bool = False
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    links: tuple[Link, ...] = ()


@dataclass
class Section:
    """One part of the report: what can be shown, notes on what cannot, and warnings of what does not hold."""

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        """Show these after what is there."""
        self.blocks += blocks

    def missing(self, product: str, stage: str) -> None:
        """Note that a product is not in the run folder, and which stage makes it."""
        self.absent.append(f"Not in this run: {product}. {stage}")


def number(value: Any, digits: int | None = 3, *, decimals: int | None = None) -> Cell:
    """A number as a table shows and sorts it; NaN and masked values are an empty cell.

    Examples
    --------
    >>> number(0.123456).text, number(20204, 0).text, number(float("nan")).text, number(5.0, decimals=2).text
    ('0.123', '20204', '', '5.00')
    """
    if value is None or np.ma.is_masked(value) or not math.isfinite(float(value)):
        return Cell("", "")
    exact = float(value)
    if decimals is not None:
        return Cell(f"{exact:.{decimals}f}".replace("-", "−"), exact)
    if not digits or exact == int(exact):
        return Cell(f"{exact:.0f}".replace("-", "−"), exact)
    return Cell(f"{exact:.{digits}g}".replace("-", "−"), exact)


def percent(fraction: Any, low: Any = None, high: Any = None) -> Cell:
    """A fraction in per cent with its asymmetric error.

    Examples
    --------
    >>> percent(0.89).text, percent(0.5, 0.42, 0.58).text, percent(float("nan")).text
    ('89 %', '50 +8 −8 %', '')
    """
    if fraction is None or not math.isfinite(float(fraction)):
        return Cell("", "")
    value = 100 * float(fraction)
    if low is None or high is None or not (math.isfinite(float(low)) and math.isfinite(float(high))):
        return Cell(f"{value:.3g} %" if value >= 1 else f"{value:.2g} %", value)
    return Cell(f"{value:.0f} +{100 * float(high) - value:.0f} −{value - 100 * float(low):.0f} %", value)


def table_block(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell | str]]) -> Block:
    """A sortable table; plain strings become text cells."""
    cells = tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows)
    return Block("table", caption=caption, columns=tuple(columns), rows=cells)


class Figures:
    """Turns figures into blocks of the report and keeps each as PNG and PDF in the run's figures/ folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def block(
        self, name: str, figure: Figure, caption: str, alt: str, *, vector: bool = True, wide: bool = False
    ) -> Block:
        """Save a figure and embed it: SVG where it is lines, PNG where it is a picture of the sky."""
        self.folder.mkdir(parents=True, exist_ok=True)
        png = save_figure(figure, self.folder / f"{name}.png")
        figure.set_layout_engine("none")  # the layout is found; the other formats need not look for it again
        save_figure(figure, self.folder / f"{name}.pdf")
        if vector:
            with tempfile.TemporaryDirectory() as scratch:
                data, kind = save_figure(figure, Path(scratch) / "figure.svg").read_bytes(), "image/svg+xml"
        else:
            data, kind = png.read_bytes(), "image/png"
        source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        return Block("figure", caption=caption, source=source, alt=alt, wide=wide)
