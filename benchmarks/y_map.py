"""A y map against the truth of a simulated sky, and against MILCA in the real Coma field.

python benchmarks/y_map.py RUN [--nside 1024] [--model szeek-y] [--map NAME=FILE] [--p RUN2]
    [--coma FOLDER --psz2 FILE]

The needlet ILC with the CMB nulled, and with CIB, CIB and its moments, or radio sources nulled too, fitted to the
run's bands; with --model the first of them less what a network says of foregrounds; further y maps of the same sky by
name, columns Y and SIGMA_Y. Above |b| = 30 deg, errors from the tiles:

    fluxes          disc of 15 arcmin less the ring from 20 to 35, at haloes above 5e-4 arcmin^2: slope against the
                    painted y behind 10 arcmin, ratio of the sums, scatter (1.48 x median absolute deviation)
    transfer        cross spectrum with the painted y over its power
    coverage        share of pixels within SIGMA_Y of the painted y, of which the median is taken off as off Y
    residuals       correlation of Y less painted y with the painted dust (857 GHz) and CIB (353 GHz); power of the
                    CMB in Y over that of Y
    null            fluxes in the map of the sky without its SZ effect, by the same weights and by weights of its own

With --p a run that has predicted: fluxes in its map of p, made y by the paper's law (szeek.stack.scaling), in its
held-out tiles. With --coma the real cut-outs: centre, profile, noise and the three infrared entries of PSZ2.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek.filter.ilc import NeedletILC
from szeek.filter.ymap import local_scatter, make_y_map
from szeek.find.predict import find_foregrounds
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.inputs.stackmaps import read_stack_map
from szeek.inputs.surveymaps import read_maps
from szeek.pipeline.products import RunFolder
from szeek.simulate.components.cib import FLUX_CUT_JY, draw_cib
from szeek.simulate.components.clusters import paint_y
from szeek.simulate.components.cmb import draw_cmb
from szeek.simulate.components.dust import draw_galaxy
from szeek.simulate.components.sources import draw_dusty_sources
from szeek.simulate.density import all_density_shells
from szeek.simulate.haloes import group_background
from szeek.simulate.sky import core_fwhm_arcmin, paint_haloes, paint_sky_y
from szeek.sky.harmonics import (
    analyse,
    band_limit,
    beam_window,
    filter_alm,
    pixel_window,
    power_spectrum,
    synthesise,
)
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import Tiles, tile_of
from szeek.stack.profiles import measure_fluxes
from szeek.stack.scaling import convert_to_y, fit_pixels
from szeek.stack.stacks import bootstrap_weights

HFI = read_instrument("planck-hfi")
BEAMS = core_fwhm_arcmin(HFI)
VARIANTS: dict[str, tuple[str, ...]] = {
    "NILC": (),
    "NILC, cib": ("cib",),
    "NILC, cib-moments": ("cib-moments",),
    "NILC, radio": ("radio",),
}
LAT_DEG, Y500_ARCMIN2 = 30.0, 5e-4
DISC, RING = 15.0, (20.0, 35.0)
ELL_EDGES = (100, 250, 400, 550, 700, 850, 1000)
NSIDE_SPECTRA = 512


class Truth:
    """What was painted, (12 nside^2,) float32 each: y, and at NSIDE_SPECTRA dust, CIB and CMB, behind 10 arcmin."""

    def __init__(self, run: Path, nside: int) -> None:
        config = json.loads((run / "simulated" / "simulate.json").read_text())["config"]
        seed, made = config["seed"], config["nside"]
        self.haloes = read_catalogue(run / "simulated" / "truth.fits")
        shells = all_density_shells(seed, 1)
        self.groups = analyse(group_background(seed, shells=shells), 512, 1, iterations=1)
        self.y = paint_sky_y(self.haloes, seed, nside, 10.0, 1)
        lmax = band_limit(made)  # that of the sky: the draws are others at another one
        beam = beam_window(10.0, lmax)
        dusty = draw_dusty_sources(HFI, seed).shot_noise(np.array([FLUX_CUT_JY[name] for name in HFI.band_names]))
        cib = draw_cib(HFI, lmax, seed, shot_painted_jy2_sr=dusty, shells=shells, threads=1)[3]
        self.others = {
            "dust": draw_galaxy(HFI, made, seed, 1).band_map(5, NSIDE_SPECTRA, beam, 1),
            "cib": synthesise(filter_alm(cib, beam), NSIDE_SPECTRA, 1),
            "cmb": synthesise(filter_alm(draw_cmb(lmax, seed), beam), NSIDE_SPECTRA, 1),
        }

    def paint_bands(self, nside: int) -> np.ndarray:
        """The SZ effect in every band, (12 nside^2, n_band) float32."""
        out = np.zeros((12 * nside**2, 6), np.float32)
        paint_haloes(self.haloes, HFI, nside, BEAMS, out=out, threads=1)
        for band, response in enumerate(HFI.tsz_response):
            window = beam_window(BEAMS[band], 512) * pixel_window(nside, 512) * response
            out[:, band] += synthesise(filter_alm(self.groups, window), nside, 1)
        return out


def ratio_with_error(upper: np.ndarray, lower: np.ndarray, group: np.ndarray) -> str:
    """sum(upper) / sum(lower), and its bootstrap error over groups."""
    number = np.unique(group, return_inverse=True)[1]
    drawn = bootstrap_weights(number.max() + 1, 500, 0)
    above, below = (drawn @ np.bincount(number, values) for values in (upper, lower))
    return f"{upper.sum() / lower.sum():.3f} ± {(above / below).std(ddof=1):.3f}"


def robust_scatter(values: np.ndarray) -> float:
    """Standard deviation by the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def compare_fluxes(maps: dict[str, np.ndarray], truth: np.ndarray, haloes: Table) -> None:
    tile = tile_of(np.asarray(haloes["lon_deg"]), np.asarray(haloes["lat_deg"]))
    flux = measure_fluxes(np.stack([truth, *maps.values()], axis=1), haloes, DISC, RING, n_threads=1)
    seen = np.isfinite(flux).all(axis=1)
    flux, tile = flux[seen], tile[seen]
    print(f"\n{len(flux)} haloes, {len(np.unique(tile))} tiles\n\n| map | slope | ratio | scatter, 1e-4 arcmin^2 |")
    print("|---|---|---|---|")
    true = flux[:, 0]
    for name, found in zip(maps, flux[:, 1:].T, strict=True):
        slope = float(found @ true / (true @ true))
        left = found - slope * true
        scatter = [robust_scatter(left), *(robust_scatter(left[tile != t]) for t in np.unique(tile))]
        error = np.std(scatter[1:]) * np.sqrt(len(scatter) - 2)  # jackknife over tiles
        slopes = ratio_with_error(found * true, true * true, tile), ratio_with_error(found, true, tile)
        print(f"| {name} | {slopes[0]} | {slopes[1]} | {1e4 * scatter[0]:.2f} ± {1e4 * error:.2f} |")


def compare_spectra(maps: dict[str, np.ndarray], truth: Truth, seen: np.ndarray) -> None:
    """Transfer function, and correlations of the residuals, from spectra of single tiles."""
    coarse = {name: healpy.ud_grade(values, NSIDE_SPECTRA).astype(np.float32) for name, values in maps.items()}
    y = healpy.ud_grade(truth.y, NSIDE_SPECTRA).astype(np.float32)
    where = healpy.ud_grade(seen.astype(np.float32), NSIDE_SPECTRA) > 0.999
    lon, lat = healpy.pix2ang(NSIDE_SPECTRA, np.arange(y.size), lonlat=True)
    tile = tile_of(lon, lat)
    sums: dict[tuple[str, str], list[np.ndarray]] = {}
    for number in np.unique(tile):
        inside = where & (tile == number) & (np.abs(lat) > LAT_DEG)
        if inside.mean() < 0.25 / 48:
            continue
        window = beam_window(60.0, 1500)
        soft = synthesise(filter_alm(analyse(inside.astype(np.float32), 1500, 1), window), NSIDE_SPECTRA, 1)
        soft = np.clip(2 * soft - 1, 0, 1) * inside

        def alm_of(values: np.ndarray, soft: np.ndarray = soft) -> np.ndarray:
            return analyse((values - np.average(values, weights=soft)) * soft, ELL_EDGES[-1], 1)

        painted = alm_of(y)
        others = {name: alm_of(values) for name, values in truth.others.items()}
        for name, values in coarse.items():
            found = alm_of(values)
            pairs = {"transfer": (found, painted), "truth": (painted, painted), "power": (found, found),
                     "residual": (found - painted, found - painted)}  # fmt: skip
            for other, alm in others.items():
                pairs |= {other: (found - painted, alm), f"{other} power": (alm, alm)}
            for what, (one, two) in pairs.items():
                spectrum = power_spectrum(one, two) * (2 * np.arange(ELL_EDGES[-1] + 1) + 1)
                binned = [spectrum[a:b].sum() for a, b in pairwise(ELL_EDGES)]
                sums.setdefault((name, what), []).append(np.array(binned))

    def jackknife(make: object, name: str, *needed: str) -> tuple[np.ndarray, np.ndarray]:
        parts = [np.array(sums[name, what]) for what in needed]
        n = len(parts[0])
        whole = make(*(p.sum(axis=0) for p in parts))  # type: ignore[operator]
        left = np.array([make(*(np.delete(p, k, 0).sum(axis=0) for p in parts)) for k in range(n)])  # type: ignore[operator]
        return whole, np.sqrt((n - 1) * left.var(axis=0))

    print("\n| map | quantity | " + " | ".join(f"{a}-{b}" for a, b in pairwise(ELL_EDGES)))
    print("|---|---|" + "---|" * (len(ELL_EDGES) - 1))
    for name in maps:
        for label, make, needed in (
            ("transfer", lambda a, b: a / b, ("transfer", "truth")),
            ("corr. with dust", lambda a, b, c: a / np.sqrt(b * c), ("dust", "residual", "dust power")),
            ("corr. with CIB", lambda a, b, c: a / np.sqrt(b * c), ("cib", "residual", "cib power")),
            ("CMB power over all, 1e-4", lambda a, b, c: 1e4 * a * a / (b * c), ("cmb", "power", "cmb power")),
        ):
            value, error = jackknife(make, name, *needed)
            cells = " | ".join(f"{v:.3f} ± {e:.3f}" for v, e in zip(value, error, strict=True))
            print(f"| {name} | {label} | {cells} |")
        residual = np.array(sums[name, "residual"]).sum(axis=0)
        first = np.array(sums[next(iter(maps)), "residual"]).sum(axis=0)
        print(f"| {name} | residual power over the first map's | " + " | ".join(f"{v:.3f}" for v in residual / first))


def compare_errors(
    maps: dict[str, np.ndarray], sigmas: dict[str, np.ndarray], truth: np.ndarray, seen: np.ndarray
) -> None:
    print("\n| map | coverage | lowest and highest tile | median sigma, 1e-6 | std of Y less y, 1e-6 | at y > 1e-5 |")
    print("|---|---|---|---|---|---|")
    pixels = np.flatnonzero(seen)[::7]
    lon, lat = healpy.pix2ang(healpy.npix2nside(seen.size), pixels, lonlat=True)
    pixels = pixels[np.abs(lat) > LAT_DEG]
    tile = tile_of(lon[np.abs(lat) > LAT_DEG], lat[np.abs(lat) > LAT_DEG])
    true = truth[pixels] - np.median(truth[pixels])
    for name, y in maps.items():
        left, sigma = y[pixels] - np.median(y[pixels]) - true, sigmas[name][pixels]
        covered = np.abs(left) < sigma
        by_tile = np.array([covered[tile == t].mean() for t in np.unique(tile)])
        share, error, at_clusters = covered.mean(), by_tile.std() / np.sqrt(by_tile.size), covered[true > 1e-5].mean()
        print(
            f"| {name} | {share:.3f} ± {error:.3f} | {by_tile.min():.3f}, {by_tile.max():.3f} | "
            f"{1e6 * np.median(sigma):.2f} | {1e6 * left.std():.2f} | {at_clusters:.3f} |"
        )


def compare_law(run: Path) -> None:
    """Fluxes in the p map that the paper's law makes y, and in the simulated y map, in the held-out tiles."""
    folder = RunFolder(run)
    nested = np.asarray(folder.p_ring)
    y_map = read_stack_map("y", run / "simulated" / "y_map.fits", unit="y", fwhm_arcmin=10.0)
    tiles = Tiles((*folder.held_out["test"], *folder.held_out["validation"]), folder.tile_nside)
    law = fit_pixels(nested, y_map, np.isfinite(nested), tiles, folder.p_max)
    assert law is not None
    truth = read_catalogue(run / "simulated" / "truth.fits")
    haloes = truth[(truth["y500_arcmin2"] > Y500_ARCMIN2) & (np.abs(truth["lat_deg"]) > LAT_DEG)]
    haloes = haloes[np.isin(tile_of(haloes["lon_deg"], haloes["lat_deg"]), list(tiles))]
    made = np.nan_to_num(convert_to_y(nested, law))
    print(f"\nlaw of pixels: y = {law.amplitude:.3g} exp({law.slope:.3f} (logit p - {law.pivot:.2f}))")
    compare_fluxes({"y from p": made, "simulated y map": y_map.values[:, 0]}, paint_y(truth, 2048, 10.0), haloes)


def compare_coma(folder: Path, psz2: Path, model: str) -> None:
    """The real cut-outs against both halves of MILCA."""
    maps = read_maps({band: folder / f"hfi_{band}_coma.fits" for band in HFI.band_names}, HFI, unit="MJy/sr")
    halves = [read_stack_map("milca", folder / f"milca_{half}_coma.fits", unit="y") for half in ("first", "last")]
    seen = halves[0].footprint & halves[1].footprint
    made = {
        name: make_y_map(maps, HFI, BEAMS, deproject=deproject, threads=1) for name, deproject in VARIANTS.items()
    }
    if model:
        made[model] = make_y_map(maps, HFI, BEAMS, foregrounds=find_foregrounds(model, threads=1), threads=1)
    shown = {name: found.y for name, found in made.items()}
    shown |= {f"MILCA, {half}": m.values[:, 0] for half, m in zip(("first", "last"), halves, strict=True)}
    shown["MILCA, mean"] = 0.5 * (halves[0].values[:, 0] + halves[1].values[:, 0])
    shown["MILCA, half difference"] = 0.5 * (halves[0].values[:, 0] - halves[1].values[:, 0])
    seen &= np.all([np.isfinite(y) for y in shown.values()], axis=0)
    pixels = np.flatnonzero(seen)
    vectors = np.stack(healpy.pix2vec(2048, pixels), axis=1)
    coma = healpy.ang2vec(57.80, 88.00, lonlat=True)
    near = np.degrees(np.arccos(np.clip(vectors @ coma, -1, 1))) * 60
    peak = vectors[np.argmax(np.where(near < 10, shown["MILCA, mean"][pixels], -1))]
    from_peak = np.degrees(np.arccos(np.clip(vectors @ peak, -1, 1))) * 60
    far = near > 150
    edges = np.array([0, 10, 20, 30, 40, 50, 60])
    rng = np.random.default_rng(0)
    elsewhere = [
        np.degrees(np.arccos(np.clip(vectors @ centre, -1, 1))) * 60
        for centre in vectors[far][rng.choice(far.sum(), 60)]
    ]
    elsewhere = [d for d in elsewhere if near[np.argmin(d)] > 200]
    entries = Table.read(psz2, hdu=1)
    at = healpy.ang2vec(np.asarray(entries["GLON"]), np.asarray(entries["GLAT"]), lonlat=True)
    infrared = [row for row, v in zip(entries, at, strict=True) if (vectors @ v).max() > np.cos(np.radians(3 / 60))]
    infrared = [row for row in infrared if 0 <= row["Q_NEURAL"] < 0.05]
    print("\n| map | centre | " + " | ".join(f"{a}-{b}'" for a, b in pairwise(edges)), end="")
    print(" | std away | " + " | ".join(str(row["NAME"]) for row in infrared) + " |")
    print("|---|---|" + "---|" * (len(edges) + len(infrared)))
    for name, y in shown.items():
        values = y[pixels] - np.median(y[pixels][far])
        cells = [f"{1e6 * values[np.argmin(from_peak)]:.1f} ± {1e6 * values[far].std():.1f}"]
        for low, high in pairwise(edges):
            ring = values[(from_peak >= low) & (from_peak < high)].mean()
            null = [values[(d >= low) & (d < high) & far].mean() for d in elsewhere]
            cells.append(f"{1e6 * ring:.2f} ± {1e6 * np.std(null):.2f}")
        cells.append(f"{1e6 * values[far].std():.2f}")
        for row in infrared:
            place = healpy.ang2vec(row["GLON"], row["GLAT"], lonlat=True)
            cells.append(f"{1e6 * values[np.argmax(vectors @ place)]:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def main(run: Path, nside: int, model: str, files: dict[str, Path]) -> None:
    truth = Truth(run, nside)
    bands = SkyMaps.open(run / "maps").values
    bands = np.stack([healpy.ud_grade(np.ascontiguousarray(band), nside) for band in bands.T], axis=1)
    bands = bands.astype(np.float32)
    maps, sigmas, seen = {}, {}, np.ones(len(bands), bool)
    for name, deproject in VARIANTS.items():
        ilc = NeedletILC(HFI, nside, BEAMS, 1, deproject=deproject)
        maps[name] = ilc.fit(bands)
        seen &= ilc.kept
        if not deproject:
            first = ilc
    if model:
        whole = SkyMaps(bands, np.ones(len(bands), bool), HFI.bands)
        told = make_y_map(whole, HFI, BEAMS, foregrounds=find_foregrounds(model, threads=1), threads=1)
        seen &= np.isfinite(told.y)
        maps[model] = np.where(seen, told.y, 0)
    for name, file in files.items():
        y, sigma = (healpy.ud_grade(healpy.read_map(file, field=k), nside).astype(np.float32) for k in (0, 1))
        seen &= y > healpy.UNSEEN / 2
        maps[name], sigmas[name] = np.where(seen, y, 0), sigma
    for name in [name for name in maps if name not in files]:
        maps[name] -= np.median(maps[name][seen])
        sigmas[name] = local_scatter(np.where(seen, maps[name], np.nan))
    haloes = truth.haloes[(truth.haloes["y500_arcmin2"] > Y500_ARCMIN2) & (np.abs(truth.haloes["lat_deg"]) > LAT_DEG)]
    haloes = haloes[
        seen[healpy.ang2pix(nside, np.asarray(haloes["lon_deg"]), np.asarray(haloes["lat_deg"]), lonlat=True)]
    ]
    gas = truth.paint_bands(nside)
    shown = {**maps, "gas alone": first.combine(gas)}
    shown["sky without SZ"] = maps["NILC"] - shown["gas alone"]
    if model:
        shown[f"sky without SZ, {model}"] = maps[model] - shown["gas alone"]
    bands -= gas
    del gas
    shown["sky without SZ, refitted"] = NeedletILC(HFI, nside, BEAMS, 1).fit(bands)
    compare_fluxes(shown, truth.y, haloes)
    compare_errors(maps, sigmas, truth.y, seen)
    compare_spectra(maps, truth, seen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--nside", type=int, default=1024)
    parser.add_argument("--model", default="", help="network that says what foregrounds leave")
    parser.add_argument("--map", action="append", default=[], help="NAME=FILE")
    parser.add_argument("--p", type=Path)
    parser.add_argument("--coma", type=Path)
    parser.add_argument("--psz2", type=Path, help="HFI_PCCS_SZ-union_R2.08.fits")
    given = parser.parse_args()
    if given.coma is not None:
        compare_coma(given.coma, given.psz2, given.model)
    if given.p is not None:
        compare_law(given.p)
    main(
        given.run,
        given.nside,
        given.model,
        {name: Path(file) for name, _, file in (m.partition("=") for m in given.map)},
    )
