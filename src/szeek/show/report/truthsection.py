"""The section of a small simulated sky: what was found, beside what is there."""

from __future__ import annotations

import healpy
import numpy as np
from astropy.table import Table

from szeek.assess.calibrate import judge_sources
from szeek.assess.match import match
from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2
from szeek.measure.pairs import truth_radius
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.figures.cutouts import cut_out, plot_truth
from szeek.show.report.parts import Block, Cell, Column, Figures, Section, number, table_block
from szeek.sky.skymaps import SkyMaps

#: A larger footprint is too large for one picture.
LARGEST_DEG2 = 1000.0
_ROWS = 40
#: Pixels along a side of the pictures.
_N_PIXEL = 500


def shows_truth(run: RunFolder) -> bool:
    """Whether a run is of a simulated sky that is small enough to be shown whole."""
    if not run.is_simulated or not run.has(products.TRUTH) or run.candidates is None:
        return False
    maps = run.maps
    return isinstance(maps, SkyMaps) and maps.footprint.mean() * 4 * np.pi * np.degrees(1) ** 2 < LARGEST_DEG2


def section_truth(run: RunFolder, made: Figures) -> Section:
    """The sky, p, and the candidates beside the true haloes, as pictures and as a table."""
    part = Section("truth", "What was found, beside the truth")
    maps, sources, truth = run.maps, run.candidates, run.table(products.TRUTH)
    assert isinstance(maps, SkyMaps) and sources is not None and truth is not None  # shows_truth says so
    haloes = truth[np.asarray(truth["y500_arcmin2"]) > TRUTH_Y500_ARCMIN2]
    seen = np.flatnonzero(maps.footprint)
    centre = np.stack(healpy.pix2vec(maps.nside, seen), axis=1).mean(axis=0)
    lon_deg, lat_deg = (float(angle[0]) for angle in healpy.vec2ang(centre, lonlat=True))
    width_deg = 1.25 * float(np.sqrt(len(seen) * healpy.nside2pixarea(maps.nside, degrees=True)))
    cuts = cut_out(
        lon_deg,
        lat_deg,
        maps=maps,
        p_map=run.p_map,
        width_arcmin=60 * width_deg,
        pixel_arcmin=60 * width_deg / _N_PIXEL,
    )
    nearest_band = min(range(maps.n_band), key=lambda k: abs(maps.bands[k].freq_ghz - 143.0))
    shown = [cuts[nearest_band], cuts[-1]]
    part.add(
        made.block(
            "truth",
            plot_truth(shown, sources, haloes, lon_deg=lon_deg, lat_deg=lat_deg, width_deg=width_deg),
            f"Left: the sky at {shown[0].kind} GHz, where the effect is a decrement that the CMB hides. Right: p, "
            f"the {len(sources)} candidates (white circles), and the {len(haloes)} true haloes of Y500 > "
            f"{TRUTH_Y500_ARCMIN2:g} arcmin² (squares; larger for a larger flux). Galactic north up.",
            "The simulated sky, p, candidates and true haloes",
            vector=False,
            wide=True,
        )
    )
    part.add(Block("text", text=_sentence(run, sources, truth)), _table(run, sources, haloes))
    return part


def _sentence(run: RunFolder, sources: Table, truth: Table) -> str:
    """How many candidates are haloes, and how many their PURITY leads one to expect."""
    _, real = judge_sources(sources, truth, range(48), radius_arcmin=run.radius_arcmin)
    said = f"{int(real.sum())} of the {real.size} candidates are true haloes"
    if "purity" in sources.colnames and np.isfinite(np.asarray(sources["purity"], float)).any():
        purity = np.asarray(sources["purity"], float)
        said += f"; by the column PURITY {np.nansum(purity):.0f} were expected"
    return said + "."


def _table(run: RunFolder, sources: Table, haloes: Table) -> Block:
    pairs = match(sources, haloes, truth_radius(haloes, run.radius_arcmin))
    halo_of = dict(zip(pairs["source"].tolist(), pairs["cluster"].tolist(), strict=True))
    apart = dict(zip(pairs["source"].tolist(), pairs["separation_arcmin"].tolist(), strict=True))
    columns = [Column("candidate"), Column("p", "", True), Column("purity", "", True), Column("kind")]
    columns += [Column("S/N", "", True), Column("true Y500", "10⁻³ arcmin²", True), Column("true z", "", True)]
    columns += [Column("true M500", "10¹⁴ Msun", True), Column("separation", "arcmin", True)]
    rows: list[list[Cell | str]] = []
    for index in range(min(len(sources), _ROWS)):
        source = sources[index]
        halo = haloes[halo_of[index]] if index in halo_of else None
        found = [
            number(source[name], decimals=2) if name in sources.colnames else Cell("", "") for name in ("p", "purity")
        ]
        rows.append(
            [
                str(source["name"]),
                *found,
                str(source["kind"]) if "kind" in sources.colnames else "",
                number(source["snr"], decimals=1) if "snr" in sources.colnames else Cell("", ""),
                number(1e3 * halo["y500_arcmin2"], decimals=2) if halo is not None else Cell("none", ""),
                number(None if halo is None else halo["z"], decimals=3),
                number(None if halo is None else halo["m500_1e14msun"], decimals=1),
                number(apart.get(index), decimals=1),
            ]
        )
    caption = "The candidates of highest p, and the true halo of each; none: no halo above that flux is there"
    return table_block(caption, columns, rows)
