"""One look for every figure: journal serif type, thin ticks inwards, colours that colour-blind readers can tell."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec

import matplotlib
from markupsafe import Markup
from matplotlib.axis import Axis
from matplotlib.colorbar import Colorbar
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

#: Okabe & Ito (2008), 'Color universal design': eight colours that stay apart in the common colour-vision types.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip

#: One colour and one marker per catalogue, the same in every figure.
CATALOGUE_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "planck_z": BLUE,
        "planck_no-z": ORANGE,
        "mcxcwp": GREEN,
        "rm50": VERMILION,
        "rm30": PURPLE,
        "planck": BLUE,
        "psz2": BLUE,
        "truth": BLACK,
        "all": BLACK,
    }
)
CATALOGUE_MARKERS: Mapping[str, str] = MappingProxyType(
    {
        "planck_z": "o", "planck_no-z": "s", "mcxcwp": "^", "rm50": "D", "rm30": "v",
        "planck": "o", "psz2": "o", "truth": ".", "all": "o",
    }
)  # fmt: skip
CATALOGUE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "planck_z": "Planck_z", "planck_no-z": "Planck_no-z", "mcxcwp": "MCXCwP", "rm50": "RM50", "rm30": "RM30",
        "planck": "Planck (all PSZ2)", "psz2": "PSZ2", "truth": "true haloes", "all": "all catalogues",
    }
)  # fmt: skip

#: Colours of p: monotonic in lightness, so that they stay apart in grey print and for colour-blind readers.
P_COLOURS = "magma"
#: Below this p the colour scale is linear, above it logarithmic. With 0.1 it is the 'asinh' of sky viewers, which the
#: explorer sets: asinh(10 p) / asinh(10).
P_LINEAR = 0.1
#: Labels of the colour scale of p.
P_TICKS = (0.01, 0.1, 0.5, 0.9)

_JOURNAL: Any = {
    "font.family": ["STIXGeneral", "DejaVu Serif"],
    "mathtext.fontset": "stix",
    "font.size": 10,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "image.origin": "lower",
    "image.interpolation": "nearest",
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.fonttype": "path",  # no font needed where the picture is opened
    "svg.hashsalt": "szeek",  # the same figure is the same file
    "pdf.fonttype": 42,
}

_P = ParamSpec("_P")


def journal(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Let a function that draws a figure do so in the one style, whatever matplotlib's own settings are.

    Examples
    --------
    >>> @journal
    ... def plot_nothing() -> Figure:
    ...     return Figure(figsize=(2, 1))
    >>> plot_nothing().get_size_inches().tolist()
    [2.0, 1.0]
    """

    @functools.wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with matplotlib.rc_context(_JOURNAL):
            return draw(*args, **kwargs)

    return styled


def catalogue_look(name: str) -> tuple[str, str, str]:
    """Colour, marker and printed name of a catalogue selection; unknown ones are black circles.

    Examples
    --------
    >>> catalogue_look("mcxcwp")
    ('#009E73', '^', 'MCXCwP')
    """
    key = name.lower()
    return CATALOGUE_COLOURS.get(key, BLACK), CATALOGUE_MARKERS.get(key, "o"), CATALOGUE_NAMES.get(key, name)


def plain_text(text: str) -> str:
    r"""A name from a catalogue for use in a figure: dollar signs start no formula.

    Examples
    --------
    >>> plain_text("A$1$")
    'A\\$1\\$'
    """
    return text.replace("$", r"\$")


#: Words that have a symbol: as a figure sets it, and as HTML does.
_SYMBOLS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "p": ("$p$", "<i>p</i>"),
        "y": ("$y$", "<i>y</i>"),
        "E(B-V)": ("$E(B-V)$", "<i>E</i>(<i>B</i>\u2212<i>V</i>)"),
        "Y500": ("$Y_{500}$", "<i>Y</i><sub>500</sub>"),
        "Y5R500": ("$Y_{5R500}$", "<i>Y</i><sub>5<i>R</i>500</sub>"),
        "M500": ("$M_{500}$", "<i>M</i><sub>500</sub>"),
        "Msun": ("$M_\\odot$", "<i>M</i><sub>\u2609</sub>"),
    }
)

_RAISED = "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"  # not all are in the figures' type
_LOWERED = str.maketrans(_RAISED, "-0123456789")
#: Digits as exponents.
RAISED = str.maketrans("0123456789", _RAISED[1:])


def figure_text(text: str) -> str:
    r"""Words for use in a figure: quantities and units that have a symbol become formulas, nothing else does.

    Examples
    --------
    >>> figure_text("M500"), figure_text("3 × 10⁻⁴ Msun"), figure_text("A$1$ 500")
    ('$M_{500}$', '3 × 10$^{-4}$ $M_\\odot$', 'A\\$1\\$ 500')
    """
    words = " ".join(_SYMBOLS[word][0] if word in _SYMBOLS else plain_text(word) for word in text.split(" "))
    return re.sub(f"[{_RAISED}]+", lambda found: f"$^{{{found.group().translate(_LOWERED)}}}$", words)


def page_text(text: str) -> Markup:
    """The same for a page: HTML, everything else escaped.

    Examples
    --------
    >>> str(page_text("3.0 Msun")), str(page_text("<b>"))
    ('3.0 <i>M</i><sub>☉</sub>', '&lt;b&gt;')
    """
    return Markup(" ").join(Markup(_SYMBOLS[word][1]) if word in _SYMBOLS else word for word in text.split(" "))


def scale_p() -> AsinhNorm:
    """The colour scale of p in every picture: p = 0 to 1 -> asinh(10 p) / asinh(10).

    Most of the sky has p far below 0.1 and stays dark; 0.1, 0.5 and 0.9 lie at 0.29, 0.77 and 0.97 of the scale.

    Examples
    --------
    >>> [round(float(scale_p()(p)), 2) for p in (0.0, 0.01, 0.1, 0.5, 0.9, 1.0)]
    [0.0, 0.03, 0.29, 0.77, 0.97, 1.0]
    """
    return AsinhNorm(linear_width=P_LINEAR, vmin=0.0, vmax=1.0)


def label_p(bar: Colorbar) -> Colorbar:
    """Put the ticks of :data:`P_TICKS` on a colour bar of p."""
    bar.set_ticks(list(P_TICKS), labels=[f"{tick:g}" for tick in P_TICKS])
    bar.minorticks_off()
    return bar


def rc_settings() -> Any:
    """The style as matplotlib settings, for drawing that happens while a figure is saved."""
    return _JOURNAL


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a figure as PNG, PDF or SVG by its ending, whole or not at all, the same bytes for the same figure.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(Figure(), Path(folder) / "empty.png").name
    'empty.png'
    """
    kind = file.suffix.removeprefix(".")
    staging = file.with_name(f".{file.name}")
    try:
        with matplotlib.rc_context(_JOURNAL):
            figure.savefig(
                staging, format=kind, metadata={"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
            )
        staging.replace(file)
    finally:
        staging.unlink(missing_ok=True)
    return file


def plain_log(axis: Axis, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Label a logarithmic axis with plain numbers (0.02, 5, 300) instead of powers of ten."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
