"""How often the flags of candidates are right, on a simulated sky.

python benchmarks/flags.py RUN [--tiles odd]

The truth is drawn again from the seed of the run's sky: compact sources and cold clumps with their fluxes, the
Galaxy's dust emission by itself, the haloes. The first table has the share that is flagged of the candidates with a
true property (completeness) and of those without it (false rate), the second that of true clusters and of other
candidates; with Wilson's binomial interval (68.3 per cent), over the candidates for which the flag was checked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from astropy.stats import binom_conf_interval
from astropy.table import Table

from szeek.assess.calibrate import judge_sources
from szeek.assess.match import match
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.measure.candidates import list_sources, read_candidates
from szeek.measure.flags import FLAGS, measure_dust_excess
from szeek.measure.pairs import list_pairs, truth_radius
from szeek.physics.instrument import Instrument
from szeek.simulate.components.dust import draw_galaxy
from szeek.simulate.components.sources import (
    Sources,
    draw_cluster_galaxies,
    draw_cold_clumps,
    draw_dusty_sources,
    draw_radio_sources,
)
from szeek.simulate.sky import core_fwhm_arcmin
from szeek.sky.harmonics import band_limit, beam_window, pixel_window
from szeek.sky.healpix import unit_vectors
from szeek.sky.skymaps import Band, SkyMaps
from szeek.sky.tiles import tile_of

#: Truth: compact sources above this flux, a clump nearer than half its size, dust uneven by this, haloes this large.
LEAST_JY, BRIGHT_JY, CLUMP_ARCMIN, DUST_MJYSR, LARGE_ARCMIN = 0.3, 1.0, 5.0, 0.5, 8.0
TILES = {"all": range(48), "even": range(0, 48, 2), "odd": range(1, 48, 2)}


def select(sources: Sources, chosen: np.ndarray) -> Sources:
    """Some of the sources."""
    return Sources(*(getattr(sources, field.name)[chosen] for field in dataclasses.fields(Sources)))


def is_near(candidates: Table, sources: Sources, radius_arcmin: float) -> np.ndarray:
    """Whether each candidate lies within a radius of any of the sources."""
    where = Table({"lon_deg": sources.lon_deg, "lat_deg": sources.lat_deg})
    near = np.zeros(len(candidates), bool)
    near[list_pairs(candidates, where, radius_arcmin)[0]] = True
    return near


def near_compact(candidates: Table, kinds: list[Sources], instrument: Instrument, least_jy: float) -> np.ndarray:
    """Whether a source above a flux in a band is within the beam of that band, (n, n_band)."""
    bands = [
        np.any([is_near(candidates, select(k, k.flux_jy[:, b] > least_jy), band.fwhm_arcmin) for k in kinds], axis=0)
        for b, band in enumerate(instrument.bands)
    ]
    return np.stack(bands, axis=1)


def true_dust_excess(candidates: Table, instrument: Instrument, nside: int, seed: int) -> np.ndarray:
    """What :func:`measure_dust_excess` gives on the Galaxy's emission alone, (n,) in MJy/sr."""
    lmax, last = band_limit(nside), len(instrument.bands) - 1
    window = beam_window(core_fwhm_arcmin(instrument)[last], lmax) * pixel_window(nside, lmax)
    brightness = draw_galaxy(instrument, nside, seed).band_map(last, nside, window)
    band: Band = instrument.bands[last]
    maps = SkyMaps(brightness[:, None], np.ones(brightness.size, bool), (band,))
    vectors = unit_vectors(np.asarray(candidates["lon_deg"]), np.asarray(candidates["lat_deg"]))
    return measure_dust_excess(maps, vectors, instrument)


def halo_size_arcmin(candidates: Table, haloes: Table) -> np.ndarray:
    """theta500 of the halo that each candidate is, NaN for none."""
    matches = match(candidates, haloes, truth_radius(haloes))
    size = np.full(len(candidates), np.nan)
    size[matches["source"]] = np.asarray(haloes["theta500_arcmin"], float)[matches["cluster"]]
    return size


def share(hit: np.ndarray) -> str:
    """Number, share that is True and its interval, as cells of a table."""
    if not hit.size:
        return "0 | -"
    low, high = binom_conf_interval(hit.sum(), hit.size, interval="wilson")
    return f"{hit.size} | {hit.mean():.3f} ({low:.3f} - {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run on a simulated sky, its candidates measured")
    parser.add_argument("--tiles", choices=TILES, default="all", help="sky tiles that count")
    args = parser.parse_args()
    record = json.loads((args.run / "simulated" / "simulate.json").read_text())["config"]
    instrument, seed = read_instrument(record["instrument"]), record["seed"]
    haloes = read_catalogue(args.run / "simulated" / "truth.fits")
    candidates = list_sources(read_candidates(Path(args.run) / "candidates.fits"))
    candidates = candidates[np.isin(tile_of(candidates["lon_deg"], candidates["lat_deg"]), TILES[args.tiles])]
    candidates["row"] = np.arange(len(candidates))
    judged, real = judge_sources(candidates, haloes, range(48))
    is_cluster = np.zeros(len(candidates), bool)
    is_cluster[judged["row"][real]] = True

    galaxies = draw_cluster_galaxies(haloes, instrument, seed)
    dusty_members, radio_members = (
        select(galaxies, galaxies.fwhm_arcmin > 0),
        select(galaxies, galaxies.fwhm_arcmin == 0),
    )
    clumps = draw_cold_clumps(instrument, seed)
    points = [draw_radio_sources(instrument, seed), draw_dusty_sources(instrument, seed), radio_members]
    above, bright = (near_compact(candidates, points, instrument, jy) for jy in (LEAST_JY, BRIGHT_JY))
    none = ~near_compact(candidates, [*points, dusty_members, clumps], instrument, LEAST_JY).any(axis=1)
    members = near_compact(candidates, [dusty_members], instrument, BRIGHT_JY)[:, -1]
    clump = is_near(candidates, clumps, CLUMP_ARCMIN)
    dust = np.abs(true_dust_excess(candidates, instrument, record["nside"], seed)) > DUST_MJYSR
    size = halo_size_arcmin(candidates, haloes)
    flags, checked = (np.asarray(candidates[name]) for name in ("flags", "checked"))

    rows = [("point_source", f"a source > {LEAST_JY} Jy at {band.name} GHz within its beam", above[:, b])
            for b, band in enumerate(instrument.bands)]  # fmt: skip
    rows += [("point_source", f"a source > {BRIGHT_JY:g} Jy at {band.name} GHz", bright[:, b])
             for b, band in enumerate(instrument.bands) if band.freq_ghz > 500]  # fmt: skip
    rows += [
        (
            "point_source",
            f"a cluster whose galaxies' dust is > {BRIGHT_JY:g} Jy at {instrument.band_names[-1]} GHz",
            members,
        ),
        ("point_source", f"nothing of these > {LEAST_JY} Jy in any band, nor a clump", none),
        ("cold_clump", f"a clump within {CLUMP_ARCMIN:g} arcmin", clump),
        ("cold_clump", "none", ~clump),
        ("dust", f"dust uneven by > {DUST_MJYSR} MJy/sr at 857 GHz", dust),
        ("dust", "dust less uneven", ~dust),
        ("large", f"a halo of theta500 > {LARGE_ARCMIN:g} arcmin", size > LARGE_ARCMIN),
        ("large", f"a halo of theta500 < {LARGE_ARCMIN / 2:g} arcmin", size < LARGE_ARCMIN / 2),
    ]
    print("| flag | candidates with | number | flagged |")
    print("|---|---|---|---|")
    for name, words, true in rows:
        known, hit = (checked & FLAGS[name]) > 0, (flags & FLAGS[name]) > 0
        print(f"| {name} | {words} | {share(hit[known & true])} |")
    print()
    print("| flag | true clusters | of them flagged | other candidates | of them flagged |")
    print("|---|---|---|---|---|")
    for name, bit in FLAGS.items():
        known, hit = (checked & bit) > 0, (flags & bit) > 0
        print(f"| {name} | {share(hit[known & is_cluster])} | {share(hit[known & ~is_cluster])} |")


if __name__ == "__main__":
    main()
