"""How a network fares on a sky that is not as the one it was trained on.

python benchmarks/other_sky.py RUN [--model szeek-1] [--seed 1] [--threads 2]

The run is a simulated one of a seed that no network was trained on. Its maps are changed in one respect at a time,
and then in all at once, as a survey might differ from what the simulation takes for granted:

    noise    white noise a quarter higher in every band
    gains    100 to 857 GHz off by +1, -1, +1, -2, +5 and -5 %
    beams    5 % wider than stated: maps smoothed, and the white noise that this takes away put back
    dust     30 % of the 857 GHz map (at 10 arcmin) added with another spectrum, 15 K and beta = 1.3

S/N maps are made anew of each. Completeness of Planck_z and of haloes of Y500 > 5e-4 arcmin^2 at purity 0.9, 0.8 and
0.5 in eight tiles, chance taken out, for the network and for the matched filter, which measures its noise on the maps
themselves; and of the sources of PURITY > 0.5 what PURITY says and what is true.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek.assess.calibrate import Calibration, judge_sources
from szeek.assess.recovery import completeness_purity
from szeek.find.baselines import find_by_matched_filter
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import reddening_mag
from szeek.learn.model import find_model, load_model
from szeek.physics.spectra import spectral_templates
from szeek.simulate.components.noise import add_white_noise, noise_generator, noise_pattern, white_level
from szeek.sky.harmonics import add_alm, analyse, beam_window, filter_alm, synthesise
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

TILES = (1, 6, 9, 14, 32, 38, 41, 45)
CHANGES = ("noise", "gains", "beams", "dust")
MORE_NOISE, GAINS, WIDER_BEAM = 1.25, (1.01, 0.99, 1.01, 0.98, 1.05, 0.95), 1.05
DUST_SHARE, DUST_TEMPERATURE_K, DUST_INDEX, DUST_FWHM_ARCMIN = 0.3, 15.0, 1.3, 10.0


def smooth(values: np.ndarray, fwhm_arcmin: float, threads: int) -> np.ndarray:
    """A RING map smoothed with a Gaussian."""
    nside = healpy.get_nside(values)
    lmax = 2 * nside
    alm = filter_alm(analyse(values, lmax, threads), beam_window(fwhm_arcmin, lmax))
    return np.asarray(synthesise(alm, nside, threads), np.float32)


def broadening(values: np.ndarray, noise: np.ndarray, fwhm_arcmin: float, threads: int) -> np.ndarray:
    """What a wider beam changes of a RING map that holds such noise, another draw of which is given.

    Smoothed by W(l), a mode keeps W^2 of its noise; sqrt(1 - W^2) times other noise makes that whole.
    """
    nside = healpy.get_nside(values)
    lmax = 2 * nside
    window = beam_window(fwhm_arcmin, lmax)
    alm = filter_alm(analyse(values, lmax, threads), window - 1)
    add_alm(alm, analyse(noise, lmax, threads), np.sqrt(1 - window**2))
    return np.asarray(synthesise(alm, nside, threads), np.float32)


def change(maps: SkyMaps, changes: tuple[str, ...], seed: int, threads: int) -> SkyMaps:
    """The maps with some of the changes; S/N maps are left out, to be made anew."""
    values, instrument = np.array(maps.values), read_instrument()
    pattern, level = noise_pattern(maps.nside), white_level(instrument, maps.nside)
    if "beams" in changes:
        for b, band in enumerate(maps.bands):
            noise = np.zeros(len(values), np.float32)
            add_white_noise(noise, float(level[b]), pattern, noise_generator(seed, band.name, "wider beam"))
            added_fwhm_arcmin = band.fwhm_arcmin * np.sqrt(WIDER_BEAM**2 - 1)
            values[:, b] += broadening(np.ascontiguousarray(values[:, b]), noise, added_fwhm_arcmin, threads)
    if "dust" in changes:
        spectrum = spectral_templates(
            instrument, ["dust"], dust_temperature_k=DUST_TEMPERATURE_K, dust_index=DUST_INDEX
        )[0]
        dust = smooth(values[:, -1], DUST_FWHM_ARCMIN, threads)
        values += DUST_SHARE * dust[:, None] * (spectrum / spectrum[-1]).astype(np.float32)
    if "noise" in changes:
        for b, band in enumerate(maps.bands):
            column = np.ascontiguousarray(values[:, b])
            add_white_noise(
                column, level[b] * np.sqrt(MORE_NOISE**2 - 1), pattern, noise_generator(seed, band.name, "other sky")
            )
            values[:, b] = column
    if "gains" in changes:
        values *= np.array(GAINS, np.float32)
    return SkyMaps(values, maps.footprint, maps.bands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a simulated run")
    parser.add_argument("--model", default="szeek-1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("nothing", *CHANGES, "all"), help="one of the changes")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    maps = SkyMaps.open(given.run / "maps")
    truth = read_catalogue(given.run / "simulated" / "truth.fits")
    planck_z = select_clusters(read_catalogue(given.run / "clusters.fits"), "planck_z")
    model = load_model(given.model)
    calibration = Calibration.from_table(Table.read(find_model(given.model) / "calibration.ecsv"))
    where = pixels_in_tiles(maps.nside, TILES)
    print("| changed | finder | Planck_z | $Y_{500}$ > 5e-4 | PURITY > 0.5: sources, mean, true |")
    print("|---|---|---|---|---|")
    tried = {"nothing": (), **{name: (name,) for name in CHANGES}, "all": CHANGES}
    for changes in [tried[given.only]] if given.only else tried.values():
        changed = change(maps, changes, given.seed, given.threads)
        p_map = predict(changed, model, rotations=4, where=where, threads=given.threads)
        found = {
            f"`{given.model}`": detect_sources(p_map, 0.03, weighted=True, deblend=True, min_prominence=0.03),
            "matched filter": find_by_matched_filter(changed, tiles=TILES, threads=given.threads),
        }
        for finder, sources in found.items():
            rows = completeness_purity(sources, truth, planck_z, tiles=TILES, purities=(0.9, 0.8, 0.5), thresholds=())
            cells = [
                " / ".join(f"{c:.2f}" for c in rows["completeness"][rows["sample"] == sample])
                for sample in ("planck_z", "y500>5e-4")
            ]
            said = ""
            if finder != "matched filter":
                judged, real = judge_sources(sources, truth, TILES)
                place = np.asarray(judged["lon_deg"]), np.asarray(judged["lat_deg"])
                purity = calibration.predict(np.asarray(judged["p"]), reddening_mag(*place))
                sure = purity > 0.5
                said = f"{sure.sum()}, {purity[sure].mean():.2f}, {real[sure].mean():.2f}"
            print(f"| {', '.join(changes) or 'nothing'} | {finder} | {cells[0]} | {cells[1]} | {said} |", flush=True)


if __name__ == "__main__":
    main()
