"""A candidate's dossier: cut-outs, spectrum, profile and numbers on one sheet; as page, PNG, PDF or a zipped set.

The spectrum is simple on purpose, to be judged by eye: in each band the mean of a disc of 8 arcmin radius less the
median of the ring of 15 to 25 arcmin, at the map's own resolution; its error is the scatter of the same number at 24
places 45 arcmin away. Two templates are fitted to it, the tSZ effect and Galactic dust.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from szeek.inputs.instrument import Instrument, list_instruments, read_instrument
from szeek.show import cutouts
from szeek.show.runfolder import RunFolder
from szeek.show.style import BLACK, BLUE, GREEN, ORANGE, VERMILION, journal, rc_settings
from szeek.sky.projection import field_directions, interpolate, sample_field
from szeek.sky.skymaps import SkyMaps

DISC_ARCMIN, RING_ARCMIN, AWAY_ARCMIN, N_AWAY = 8.0, (15.0, 25.0), 45.0, 24
_PIXEL_ARCMIN, _N_PIXEL = 1.5, 101
#: Dust as a modified black body: index and temperature, mean over the sky. Planck 2015 results X, A&A 594, A10.
DUST_BETA, DUST_KELVIN = 1.55, 20.3
_H_OVER_K = 0.0479924307  #: h / k in K per GHz


@dataclass(frozen=True)
class Spectrum:
    """Excess of a candidate in each band, and the two templates fitted to it.

    Parameters
    ----------
    freq_ghz, excess, error : (n_band,) float64
        Nominal frequency; excess and its error in kJy/sr.
    y, y_error : float
        Compton y of the disc, from the fit.
    dust : float
        Dust at 353 GHz in kJy/sr, from the fit.
    chi2 : float
        Of the fit, for n_band - 2 degrees of freedom.
    tsz, dust_shape : (n_band,) float64
        Templates: kJy/sr per unit y, and dust, 1 at 353 GHz.
    """

    freq_ghz: NDArray[np.float64]
    excess: NDArray[np.float64]
    error: NDArray[np.float64]
    y: float
    y_error: float
    dust: float
    chi2: float
    tsz: NDArray[np.float64]
    dust_shape: NDArray[np.float64]


def instrument_of(maps: SkyMaps) -> Instrument | None:
    """The experiment whose bands these are, None if none that the package knows."""
    for name in list_instruments():
        instrument = read_instrument(name)
        if instrument.band_names == tuple(band.name for band in maps.bands):
            return instrument
    return None


def measure_spectrum(maps: SkyMaps, instrument: Instrument, lon_deg: float, lat_deg: float) -> Spectrum | None:
    """Disc-less-ring excess of a position in every band, with the tSZ effect and dust fitted to it.

    Returns
    -------
    Spectrum or None
        None where the field is not observed well enough to measure it.
    """
    n = round(2 * (AWAY_ARCMIN + RING_ARCMIN[1] + 1) / _PIXEL_ARCMIN) | 1
    field = np.asarray(sample_field(maps, lon_deg, lat_deg, 0.0, n, n, _PIXEL_ARCMIN), float)
    per_unit = 1e3 * instrument.mjysr_per_kcmb / instrument.unit_per_kcmb  # kJy/sr per map unit
    axis = _PIXEL_ARCMIN * np.asarray(np.arange(n) - (n - 1) / 2, float)
    excess = _disc_less_ring(field, axis, 0.0, 0.0)
    angles = np.linspace(0, 2 * np.pi, N_AWAY, endpoint=False)
    away = np.array(
        [_disc_less_ring(field, axis, AWAY_ARCMIN * math.cos(a), AWAY_ARCMIN * math.sin(a)) for a in angles]
    )
    if not np.isfinite(excess).all() or np.isfinite(away).all(axis=1).sum() < N_AWAY // 2:
        return None
    excess, error = excess * per_unit, np.nanstd(away, axis=0, ddof=1) * per_unit
    freq_ghz = np.array([band.freq_ghz for band in maps.bands])
    tsz = 1e3 * instrument.tsz_kcmb * instrument.mjysr_per_kcmb
    dust_shape = _dust(freq_ghz)
    weight = 1.0 / np.maximum(error, 1e-12)
    design = np.stack([tsz, dust_shape], axis=1) * weight[:, None]
    covariance = np.linalg.inv(design.T @ design)
    y, dust = covariance @ design.T @ (excess * weight)
    chi2 = float((((excess - y * tsz - dust * dust_shape) * weight) ** 2).sum())
    return Spectrum(
        freq_ghz, excess, error, float(y), math.sqrt(covariance[0, 0]), float(dust), chi2, tsz, dust_shape
    )


def _disc_less_ring(
    field: NDArray[np.float64], axis: NDArray[np.float64], x_arcmin: float, y_arcmin: float
) -> NDArray[np.float64]:
    distance = np.hypot(axis[None, :] - x_arcmin, axis[:, None] - y_arcmin)
    disc = field[distance <= DISC_ARCMIN]
    ring = field[(distance >= RING_ARCMIN[0]) & (distance <= RING_ARCMIN[1])]
    return np.asarray(disc.mean(axis=0) - np.median(ring, axis=0))


def _dust(freq_ghz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Modified black body in brightness, 1 at 353 GHz."""

    def brightness(freq: NDArray[np.float64] | float) -> Any:
        return freq ** (3 + DUST_BETA) / np.expm1(_H_OVER_K * freq / DUST_KELVIN)

    return np.asarray(brightness(freq_ghz) / brightness(353.0))


@journal
def plot_dossier(run: RunFolder, row: int) -> Figure:
    """The sheet of one candidate.

    Parameters
    ----------
    run : RunFolder
        The run.
    row : int
        Number of the candidate, counted from the highest p.
    """
    candidate = _candidate(run, row)
    lon_deg, lat_deg = float(candidate["lon_deg"]), float(candidate["lat_deg"])
    cuts = cutouts.cut_out(lon_deg, lat_deg, maps=run.maps, p_map=run.p_ring, y_map=run.y_ring)
    figure = Figure(figsize=(11.7, 7.4))
    figure.text(0.03, 0.955, str(candidate["name"]), fontsize=17)
    figure.text(0.03, 0.925, _where(candidate), fontsize=10.5, color="0.3")
    _draw_cuts(figure, cuts)
    left, middle = figure.add_axes((0.065, 0.085, 0.27, 0.285)), figure.add_axes((0.405, 0.085, 0.24, 0.285))
    instrument = instrument_of(run.maps) if run.maps is not None else None
    spectrum = None
    if run.maps is not None and instrument is not None:
        spectrum = measure_spectrum(run.maps, instrument, lon_deg, lat_deg)
    _draw_spectrum(left, spectrum)
    _draw_profile(middle, run, lon_deg, lat_deg)
    lines = [f"{name:<18}{value}" for name, value in list_numbers(run, row)]
    if spectrum is not None:
        lines += [f"{'y from spectrum':<18}({1e6 * spectrum.y:.1f} ± {1e6 * spectrum.y_error:.1f}) × 10⁻⁶"]
    figure.text(0.685, 0.375, "\n".join(lines), fontsize=8.2, family="DejaVu Sans Mono", va="top", linespacing=1.5)
    return figure


def _candidate(run: RunFolder, row: int) -> Any:
    if run.candidates is None or not 0 <= row < len(run.candidates):
        n = 0 if run.candidates is None else len(run.candidates)
        raise IndexError(f"the run has {n} candidates, expected a number from 0 to {n - 1}, found {row}")
    return run.candidates[row]


def _where(candidate: Any) -> str:
    return (
        f"RA {float(candidate['ra_deg']):.4f}°, Dec {float(candidate['dec_deg']):+.4f}° (ICRS);  "
        f"l {float(candidate['lon_deg']):.3f}°, b {float(candidate['lat_deg']):+.3f}°;  cut-outs 1° on a "
        "side, Galactic north up, east left"
    )


def _draw_cuts(figure: Figure, cuts: list[cutouts.Cutout]) -> None:
    n_column = max(1, math.ceil(len(cuts) / 2))
    for index, cut in enumerate(cuts):
        row, column = divmod(index, n_column)
        width = min(0.225, 0.94 / n_column - 0.012)
        high = 0.215
        axes = figure.add_axes((0.03 + column * (0.94 / n_column), 0.68 - row * 0.255, width, high))
        norm = cutouts.colour_limits([cut])
        image = cutouts.draw_cutout(axes, cut, 60.0, norm, 5.0)
        unit = f" [{cut.unit}]" if cut.kind != "p" else ""
        axes.set_title((f"{cut.kind} GHz" if cut.kind.isdigit() else f"${cut.kind}$") + unit, fontsize=9, pad=2)
        bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
        bar.ax.tick_params(labelsize=7)


def _draw_spectrum(axes: Axes, spectrum: Spectrum | None) -> None:
    axes.set_title("excess within 8′ (ring 15′ – 25′)", fontsize=9)
    if spectrum is None:
        axes.text(0.5, 0.5, "no frequency maps here", transform=axes.transAxes, ha="center", color="0.4")
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
    axes.set_yscale("symlog", linthresh=max(1.0, float(np.min(spectrum.error))))
    axes.minorticks_off()
    axes.set_xticks(order, [f"{freq:g}" for freq in spectrum.freq_ghz])
    axes.set(xlabel="band [GHz]", ylabel="excess [kJy sr$^{-1}$]")
    axes.legend(fontsize=7.5, loc="upper left")


def _draw_profile(axes: Axes, run: RunFolder, lon_deg: float, lat_deg: float) -> None:
    axes.set_title("radial profile", fontsize=9)
    directions = field_directions(lon_deg, lat_deg, 0.0, _N_PIXEL, _N_PIXEL, _PIXEL_ARCMIN)
    axis = _PIXEL_ARCMIN * (np.arange(_N_PIXEL) - (_N_PIXEL - 1) / 2)
    distance = np.hypot(axis[None, :], axis[:, None])
    edges = np.arange(0, 61, 4.0)
    bins = np.digitize(distance, edges) - 1
    for single, factor, colour, marker, label in (
        (run.p_ring, 1.0, GREEN, "o", "$p$"),
        (run.y_ring, 1e6, VERMILION, "s", "$y$ [$10^{-6}$]"),
    ):
        if single is None:
            continue
        picture = factor * np.asarray(interpolate(single[:, None], directions)[..., 0], float)
        rings = [picture[(bins == k) & np.isfinite(picture)] for k in range(len(edges) - 1)]
        mean = np.array([ring.mean() if ring.size else np.nan for ring in rings])
        top = np.nanmax(np.abs(mean)) if np.isfinite(mean).any() else 1.0
        axes.plot(edges[:-1] + 2, mean / (top or 1.0), color=colour, marker=marker, markersize=3,
                  label=f"{label}, at most {top:.2g}")  # fmt: skip
    axes.axhline(0, color="0.7", linewidth=0.7)
    axes.set(xlabel="distance [arcmin]", ylabel="ring mean / largest", xlim=(0, 60))
    axes.legend(fontsize=7.5)


def list_numbers(run: RunFolder, row: int) -> list[tuple[str, str]]:
    """What the catalogue says of a candidate, as (name, value with unit and error); unknown values left out."""
    candidate = _candidate(run, row)

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
        ("tile", "sky tile", "{:.0f}"),
        ("fold", "training fold", "{:.0f}"),
        ("dust", "E(B-V)", "{:.3f} mag"),
    ):
        if (value := known(column)) is not None:
            numbers.append((name, form.format(value)))
    if (flux := known("y5r500_arcmin2")) is not None:
        error = known("y5r500_err_arcmin2")
        spread = f" ± {1e3 * error:.2f}" if error is not None else ""
        numbers.append(("Y5R500", f"({1e3 * flux:.2f}{spread}) × 10⁻³ arcmin²"))
    for column, name in (("kind", "kind"), ("match_name", "match"), ("match_survey", "in")):
        if column in candidate.colnames and str(candidate[column]):
            numbers.append((name, str(candidate[column])[:28]))
    for column, name, form in (
        ("match_sep_arcmin", "separation", "{:.1f} arcmin"),
        ("match_p_chance", "by chance", "{:.2g}"),
        ("match_z", "redshift", "{:.3f}"),
        ("match_m500_1e14msun", "M500", "{:.1f} × 10¹⁴ Msun"),
    ):
        if (value := known(column)) is not None:
            numbers.append((name, form.format(value)))
    return numbers


def picture_bytes(figure: Figure, ending: str) -> bytes:
    """A figure as PNG or PDF."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(rc_settings()):
        figure.savefig(buffer, format=ending, metadata={"CreationDate": None} if ending == "pdf" else None, dpi=130)
    return buffer.getvalue()


def render_page(run: RunFolder, row: int) -> str:
    """A candidate's dossier as a page of the explorer."""
    name = escape(str(_candidate(run, row)["name"]))
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in list_numbers(run, row))
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><link rel='icon' href='data:,'>"
        f"<link rel='stylesheet' href='/explorer.css'><title>{name} · dossier</title>"
    )
    sheet = f"<img class='sheet' src='/dossier/{row}.png' alt='Cut-outs, spectrum and profile of {name}'>"
    links = f"<p><a href='/dossier/{row}.pdf'>This sheet as PDF</a> · <a href='/'>Back to the sky</a></p>"
    body = f"<main><h1>{name}</h1>{sheet}<dl class='numbers'>{items}</dl>{links}</main>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body class='page'>{body}</body></html>"


def write_dossiers(
    run_folder: str | os.PathLike[str], out: str | os.PathLike[str], *, ending: str = "pdf", n_most: int | None = None
) -> Path:
    """Write the sheets of all candidates, highest p first, into one zip file, whole or not at all.

    Parameters
    ----------
    run_folder : path
        The run.
    out : path
        The zip file.
    ending : {'pdf', 'png'}
        Format of the sheets.
    n_most : int, optional
        Only this many.

    Raises
    ------
    ValueError
        If the format is another one, or the run has no candidate.
    """
    if ending not in ("pdf", "png"):
        raise ValueError(f"sheets as '{ending}' are unknown, expected 'pdf' or 'png'")
    run, target = RunFolder(run_folder), Path(out)
    if run.candidates is None or len(run.candidates) == 0:
        raise ValueError(f"'{run.path}' has no candidate; run `szeek detect` first")
    staging = target.with_name(f".{target.name}")
    n = len(run.candidates) if n_most is None else min(n_most, len(run.candidates))
    try:
        with zipfile.ZipFile(staging, "w", zipfile.ZIP_STORED) as archive:
            for row in range(n):
                name = "".join(c if c.isalnum() or c in "+-._" else "_" for c in str(run.candidates["name"][row]))
                archive.writestr(f"{row:05d}_{name}.{ending}", picture_bytes(plot_dossier(run, row), ending))
        staging.replace(target)
    finally:
        staging.unlink(missing_ok=True)
    return target
