"""A candidate's dossier: cut-outs, spectrum, profile, numbers and known clusters on one sheet."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from astropy.table import Row
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from szeek.inputs.catalogues import separation_arcmin
from szeek.measure.flags import FLAGS, name_flags
from szeek.pipeline.products import RunFolder
from szeek.show.figures import cutouts
from szeek.show.figures.spectrum import Spectrum, instrument_of, measure_spectrum
from szeek.show.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    RAISED,
    VERMILION,
    figure_text,
    journal,
    label_p,
    plain_text,
    rc_settings,
)
from szeek.sky.projection import field_directions
from szeek.sky.tiles import tile_of

#: Known clusters within this radius are listed, nearest first, this many at most.
KNOWN_ARCMIN, N_KNOWN = 15.0, 4
_PIXEL_ARCMIN, _N_PIXEL = 1.5, 101
_WIDTH, _HEIGHT = 11.69, 8.27  # inches: A4, landscape
_DRAWING = threading.Lock()  # matplotlib's settings are one for the process


class Known(NamedTuple):
    """A known cluster near a candidate."""

    name: str
    survey: str
    separation_arcmin: float
    z: float
    m500_1e14msun: float


@journal
def plot_dossier(run: RunFolder, row: int) -> Figure:
    """The sheet of one candidate.

    Parameters
    ----------
    run : RunFolder
        The run.
    row : int
        Number of the candidate, counted from the highest p.

    Raises
    ------
    IndexError
        If the run has no such candidate.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.table import Table
    >>> from szeek.measure.candidates import make_candidates, write_candidates
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sources = Table({"lon_deg": [57.8], "lat_deg": [88.0], "p": [0.9]})
    ...     _ = write_candidates(make_candidates(sources), f"{folder}/candidates.fits")
    ...     figure = plot_dossier(RunFolder(folder), 0)
    >>> figure.texts[0].get_text()
    'SZeek G057.80+88.00'
    """
    candidate = candidate_of(run, row)
    lon_deg, lat_deg = float(candidate["lon_deg"]), float(candidate["lat_deg"])
    cuts = cutouts.cut_out(
        lon_deg, lat_deg, maps=run.maps, p_map=run.p_map, y_map=run.y_ring, y_fwhm_arcmin=run.y_fwhm_arcmin
    )
    figure = Figure(figsize=(_WIDTH, _HEIGHT))
    figure.text(0.03, 0.955, str(candidate["name"]), fontsize=17, parse_math=False)
    figure.text(0.03, 0.93, describe_place(candidate), fontsize=10.5, color="0.3")
    _draw_cuts(figure, cuts)
    left, middle = figure.add_axes((0.065, 0.07, 0.265, 0.24)), figure.add_axes((0.405, 0.07, 0.24, 0.24))
    spectrum = spectrum_of(run, row)
    _draw_spectrum(left, spectrum)
    _draw_profile(middle, run, lon_deg, lat_deg)
    _write_numbers(figure, list_numbers(run, row, spectrum), list_known(run, row))
    return figure


def candidate_of(run: RunFolder, row: int) -> Any:
    """A row of the candidates, counted from the highest p."""
    if run.candidates is None or not 0 <= row < len(run.candidates):
        n = 0 if run.candidates is None else len(run.candidates)
        raise IndexError(f"row {row} does not exist, expected 0 to {n - 1}: the run has {n} candidates")
    return run.candidates[row]


def describe_place(candidate: Any) -> str:
    """Position of a candidate in both frames, and how its cut-outs lie."""
    place = (
        f"RA {float(candidate['ra_deg']):.4f}°, Dec {float(candidate['dec_deg']):+.4f}° (ICRS);  "
        f"l {float(candidate['lon_deg']):.3f}°, b {float(candidate['lat_deg']):+.3f}°"
    ).replace("-", "−")
    return f"{place};  cut-outs 1° on a side, Galactic north up, east left; circle: 5′ radius, disc: beam"


def _shorten(text: str, n: int) -> str:
    return text if len(text) <= n else f"{text[: n - 1]}…"


def _draw_cuts(figure: Figure, cuts: list[cutouts.Cutout]) -> None:
    """Two rows of square cut-outs, each with its own colour bar."""
    n_column = max(1, math.ceil(len(cuts) / 2))
    side = min(2.0, (_WIDTH - 0.7) / n_column - 0.65)  # inches
    for index, cut in enumerate(cuts):
        row, column = divmod(index, n_column)
        x, y = 0.35 + column * (_WIDTH - 0.5) / n_column, 5.42 - row * 2.33
        axes = figure.add_axes((x / _WIDTH, y / _HEIGHT, side / _WIDTH, side / _HEIGHT))
        image = cutouts.draw_cutout(axes, cut, 60.0, cutouts.colour_limits([cut]), 5.0)
        unit = f" [{cut.unit}]" if cut.kind != "p" else ""
        symbol = f"${cut.kind}$" if cut.kind in ("p", "y") else cut.kind
        axes.set_title((f"{cut.kind} GHz" if cut.kind.isdigit() else symbol) + unit, fontsize=9, pad=3)
        place = ((x + side + 0.06) / _WIDTH, y / _HEIGHT, 0.09 / _WIDTH, side / _HEIGHT)
        bar = figure.colorbar(image, cax=figure.add_axes(place))
        if cut.kind == "p":
            label_p(bar)
        bar.ax.tick_params(labelsize=7)
        bar.ax.minorticks_off()


def _write_numbers(figure: Figure, numbers: list[tuple[str, str]], near: list[Known]) -> None:
    """Names and values in two columns, then the known clusters."""
    lines = [(figure_text(name), figure_text(_shorten(value, 46))) for name, value in numbers]
    lines += [("", ""), (f"known within {KNOWN_ARCMIN:g}′", "" if near else "none")]
    for one in near:
        z = f",  $z$ = {one.z:.3f}" if math.isfinite(one.z) else ""
        lines.append((f"   {one.separation_arcmin:.1f}′", plain_text(_shorten(one.name, 28)) + z))
    for index, (name, value) in enumerate(lines):
        height = 0.326 - 0.0144 * index
        figure.text(0.69, height, name, fontsize=8.5, color="0.3")
        figure.text(0.79, height, value, fontsize=8.5)


def _draw_spectrum(axes: Axes, spectrum: Spectrum | None) -> None:
    axes.set_title("excess within 8′ (ring 15′ – 25′)", fontsize=9)
    if spectrum is None:
        axes.text(0.5, 0.5, "no frequency maps", transform=axes.transAxes, ha="center", color="0.4")
        axes.set(xticks=[], yticks=[])
        return
    model = spectrum.y * spectrum.tsz + spectrum.dust * spectrum.dust_shape
    order = np.arange(len(model))
    axes.axhline(0, color="0.7", linewidth=0.7)
    axes.plot(order, spectrum.y * spectrum.tsz, color=BLUE, linestyle="--", linewidth=1, label="tSZ")
    axes.plot(order, spectrum.dust * spectrum.dust_shape, color=ORANGE, linestyle=":", linewidth=1.2, label="dust")
    axes.plot(
        order, model, color=VERMILION, linewidth=1, label=f"both, $\\chi^2$ = {spectrum.chi2:.1f} / {len(model) - 2}"
    )
    axes.errorbar(
        order,
        spectrum.excess,
        yerr=spectrum.error,
        color=BLACK,
        marker="o",
        markersize=4,
        linestyle="none",
        capsize=2,
    )
    # linear up to a power of ten near the smallest error, so that zero and the first decade keep apart
    first = math.ceil(math.log10(max(1.0, float(np.min(spectrum.error)))))
    last = math.ceil(math.log10(max(10.0**first, float(np.max(np.abs(spectrum.excess) + spectrum.error)))))
    decades = [10.0**k for k in range(first, last + 1)]
    axes.set_yscale("symlog", linthresh=decades[0])
    axes.set_yticks([*(-np.array(decades[::-1])), 0.0, *decades])
    axes.minorticks_off()
    axes.set_xticks(order, [f"{freq:g}" for freq in spectrum.freq_ghz])
    axes.set(xlabel="band [GHz]", ylabel="excess [kJy sr$^{-1}$]")
    low = float(np.sum((spectrum.excess / spectrum.error)[:3])) < 0  # where the legend hides no point
    axes.legend(fontsize=7.5, loc="upper left" if low else "lower left")


def _draw_profile(axes: Axes, run: RunFolder, lon_deg: float, lat_deg: float) -> None:
    axes.set_title("radial profile", fontsize=9)
    directions = field_directions(lon_deg, lat_deg, 0.0, _N_PIXEL, _N_PIXEL, _PIXEL_ARCMIN)
    axis = _PIXEL_ARCMIN * (np.arange(_N_PIXEL) - (_N_PIXEL - 1) / 2)
    distance = np.hypot(axis[None, :], axis[:, None])
    edges = np.arange(0, 61, 4.0)
    bins = np.digitize(distance, edges) - 1
    for single, factor, colour, marker, label in (
        (run.p_map, 1.0, GREEN, "o", "$p$"),
        (run.y_ring, 1e6, VERMILION, "s", "$y$ [$10^{-6}$]"),
    ):
        if single is None:
            continue
        picture = factor * cutouts.picture_of(single, directions)
        rings = [picture[(bins == k) & np.isfinite(picture)] for k in range(len(edges) - 1)]
        mean = np.array([ring.mean() if ring.size else np.nan for ring in rings])
        top = np.nanmax(np.abs(mean)) if np.isfinite(mean).any() else 1.0
        axes.plot(edges[:-1] + 2, mean / (top or 1.0), color=colour, marker=marker, markersize=3,
                  label=f"{label}; 1 is {top:.2g}")  # fmt: skip
    axes.axhline(0, color="0.7", linewidth=0.7)
    axes.set(xlabel="distance [arcmin]", ylabel="ring mean / largest", xlim=(0, 60))
    if axes.get_legend_handles_labels()[0]:  # neither p nor y: no ring to name
        axes.legend(fontsize=7.5)


def spectrum_of(run: RunFolder, row: int) -> Spectrum | None:
    """Spectrum of a candidate; None without maps of known bands there."""
    if run.maps is None or (instrument := instrument_of(run)) is None:
        return None
    candidate = candidate_of(run, row)
    return measure_spectrum(run.maps, instrument, float(candidate["lon_deg"]), float(candidate["lat_deg"]))


def list_known(run: RunFolder, row: int) -> list[Known]:
    """Known clusters near a candidate, of all catalogues of the run, nearest first."""
    if run.clusters is None:
        return []
    separation = separation_arcmin(run.clusters, run.candidates[[row]] if run.candidates is not None else [])
    near = np.argsort(separation)[:N_KNOWN]
    return [
        Known(
            str(cluster["name"]), str(cluster["survey"]), float(separation[k]), float(cluster["z"]),
            float(cluster["m500_1e14msun"]),
        )
        for k, cluster in zip(near.tolist(), run.clusters[near], strict=True)
        if separation[k] <= KNOWN_ARCMIN
    ]  # fmt: skip


def training_of(run: RunFolder, row: int) -> str:
    """Whether the network was trained on the sky of a candidate; '' where that is not recorded."""
    candidate = candidate_of(run, row)
    fold = int(candidate["fold"]) if "fold" in candidate.colnames else -1
    if fold >= 0:
        return f"fold {fold}, not trained on here"
    if run.given_model:  # trained elsewhere
        return ""
    tile = int(tile_of(float(candidate["lon_deg"]), float(candidate["lat_deg"]), run.tile_nside))
    for use, tiles in run.held_out.items():
        if tile in tiles:
            return f"held out ({use} tile {tile})"
    return f"trained on here (tile {tile})" if run.held_out else ""


def list_numbers(run: RunFolder, row: int, spectrum: Spectrum | None = None) -> list[tuple[str, str]]:
    """What is known of a candidate, as (name, value with unit and error); unknown values left out.

    Parameters
    ----------
    spectrum : Spectrum, optional
        Adds the fitted y.
    """
    candidate = candidate_of(run, row)

    def known(name: str) -> float | None:
        if name not in candidate.colnames:
            return None
        value = float(candidate[name])
        whole = np.asarray(candidate[name]).dtype.kind == "i"
        return None if not math.isfinite(value) or (whole and value < 0) else value

    numbers = []
    for column, name, form in (
        ("p", "p", "{:.3f}"),
        ("purity", "purity", "{:.2f}"),
        ("snr", "S/N", "{:.1f}"),
        ("area_arcmin2", "area", "{:.0f} arcmin²"),
        ("pos_err_arcmin", "position error", "{:.1f} arcmin"),
        ("dust", "E(B-V)", "{:.3f} mag"),
    ):
        if (value := known(column)) is not None:
            numbers.append((name, form.format(value).replace("-", "−")))
    if (flux := known("y5r500_arcmin2")) is not None:
        error = known("y5r500_err_arcmin2")
        spread = f" ± {1e3 * error:.2f}" if error is not None else ""
        numbers.append(("Y5R500", f"({1e3 * flux:.2f}{spread}) × 10⁻³ arcmin²".replace("-", "−")))
    if spectrum is not None:
        fitted = f"({1e6 * spectrum.y:.1f} ± {1e6 * spectrum.y_error:.1f}) × 10⁻⁶"
        numbers.append(("y from spectrum", fitted.replace("-", "−")))
    if trained := training_of(run, row):
        numbers.append(("training", trained))
    if "kind" in candidate.colnames and str(candidate["kind"]):
        numbers.append(("kind", str(candidate["kind"])))
    flags, unchecked = describe_flags(candidate)
    numbers.append(("flags", flags))
    if unchecked:
        numbers.append(("not checked", unchecked))
    if "match_name" in candidate.colnames and str(candidate["match_name"]):
        numbers.append(("match", _shorten(str(candidate["match_name"]), 28)))
    for column, name, form in (
        ("match_sep_arcmin", "separation", "{:.1f} arcmin"),
        ("match_p_chance", "by chance", "{:.2g}" if (known("match_p_chance") or 1) >= 1e-3 else "{:.1e}"),
        ("match_z", "redshift", "{:.3f}"),
        ("match_m500_1e14msun", "M500", "{:.1f} × 10¹⁴ Msun"),
    ):
        if (value := known(column)) is not None:
            mantissa, _, exponent = form.format(value).partition("e-")
            power = f" × 10⁻{exponent.lstrip('0').translate(RAISED)}" if exponent else ""
            numbers.append((name, mantissa + power))
    return [*numbers, *list_evidence(run, str(candidate["name"]))]


def list_evidence(run: RunFolder, name: str) -> list[tuple[str, str]]:
    """What other light says of a candidate, a line for each kind; empty where `szeek evidence` has not asked."""
    evidence = run.evidence
    if evidence is None or name not in (names := np.asarray(evidence["NAME"], str).tolist()):
        return []
    row = evidence[names.index(name)]

    def known(column: str) -> bool:
        return column in evidence.colnames and math.isfinite(float(row[column]))

    lines = []
    if known("X_SNR"):
        lines.append(("X-rays", f"S/N {row['X_SNR']:.1f}, by chance {row['X_PCHANCE']:.2g}".replace("-", "−")))
    if known("G_Z"):
        peak = f"z = {row['G_Z']:.2f}, richness {row['G_RICHNESS']:.0f}, f_cont {row['F_CONT']:.2g}"
        lines.append(("galaxies", peak.replace("-", "−")))
    if known("PURITY_X"):
        lines.append(("purity with X-rays", f"{row['PURITY_X']:.2f}"))
    if "COUNTERPARTS" in evidence.colnames and str(row["COUNTERPARTS"]):
        lines.append(("also listed in", _shorten(str(row["COUNTERPARTS"]), 40)))
    return lines


def describe_flags(candidate: Mapping[str, Any] | Row) -> tuple[str, str]:
    """What the flags of a candidate say, and which of them were not checked; 'none' where those checked are clear.

    Examples
    --------
    >>> every = sum(FLAGS.values())
    >>> describe_flags({"flags": FLAGS["dust"] | FLAGS["point_source"], "checked": every, "ps_band": "143"})
    ('point source (143), dust', '')
    >>> describe_flags({"flags": 0, "checked": every - FLAGS["co"] - FLAGS["cold_clump"], "ps_band": ""})
    ('none', 'cold clump, co')
    """
    flags, checked = int(candidate["flags"]), int(candidate["checked"])
    words = [name.replace("_", " ") for name in name_flags(flags)]
    if "point source" in words and candidate["ps_band"]:
        words[words.index("point source")] += f" ({candidate['ps_band']})"
    unchecked = [name.replace("_", " ") for name in name_flags(sum(FLAGS.values()) & ~(flags | checked))]
    found = ", ".join(words) if words else "none" if checked else "not checked"
    return found, ", ".join(unchecked) if checked else ""


def draw_sheet(run: RunFolder, row: int, ending: str) -> bytes:
    """The sheet of one candidate as 'png' or 'pdf'; safe to call from several threads.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.table import Table
    >>> from szeek.measure.candidates import make_candidates, write_candidates
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sources = Table({"lon_deg": [57.8], "lat_deg": [88.0], "p": [0.9]})
    ...     _ = write_candidates(make_candidates(sources), f"{folder}/candidates.fits")
    ...     sheet = draw_sheet(RunFolder(folder), 0, "png")
    >>> sheet[1:4]
    b'PNG'
    """
    with _DRAWING:
        figure, buffer = plot_dossier(run, row), io.BytesIO()
        with matplotlib.rc_context(rc_settings()):
            figure.savefig(
                buffer, format=ending, metadata={"CreationDate": None} if ending == "pdf" else None, dpi=130
            )
    return buffer.getvalue()
