"""Stacked y flux at the haloes of a simulated sky against the truth, taken apart into what the y map is made of.

python benchmarks/recover_y.py RUN [--nside 1024] [--y500 3e-4]

The y map is a linear combination of the bands, so that what it shows at haloes is a sum: their gas seen through the
combination, which takes it for cold; the infrared and radio emission of their galaxies; and the rest of the sky,
which must give nothing. The combination is fitted to the run's bands, then applied to each part alone. A line is a
stacked aperture flux over that of the painted y behind 10 arcmin; errors are bootstraps over sources and over blocks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import healpy
import numpy as np

from szeek.filter.ilc import NeedletILC
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev
from szeek.physics.tsz import band_response
from szeek.simulate.components.clusters import paint_clusters, paint_y
from szeek.simulate.components.sources import draw_cluster_galaxies, paint_sources
from szeek.simulate.sky import core_fwhm_arcmin
from szeek.sky.skymaps import SkyMaps
from szeek.stack.profiles import measure_fluxes
from szeek.stack.stacks import bootstrap_weights, sky_blocks

APERTURES = ((10.0, (15.0, 25.0)), (15.0, (20.0, 35.0)), (25.0, (35.0, 50.0)))


def y_of_parts(run: Path, nside: int) -> dict[str, np.ndarray]:
    """The y map, the y maps of gas and galaxies alone, and the painted y, (12 nside^2,) each."""
    instrument = read_instrument()
    beams = core_fwhm_arcmin(instrument)
    bands = SkyMaps.open(run / "maps").values
    truth = read_catalogue(run / "simulated" / "truth.fits")
    seed = json.loads((run / "simulated" / "simulate.json").read_text())["config"]["seed"]
    combination = NeedletILC(instrument, nside, beams)
    coarse = [healpy.ud_grade(np.ascontiguousarray(bands[:, k]), nside) for k in range(bands.shape[1])]
    parts = {"y map": combination.fit(np.stack(coarse, axis=1).astype(np.float32))}
    temperature = electron_temperature_kev(
        MASS_BIAS * np.asarray(truth["m500_1e14msun"]), np.asarray(truth["z"], float)
    )
    for name, t_e_kev in (("gas, were it cold", 0 * temperature), ("gas", temperature)):
        parts[name] = combination.combine(paint_clusters(truth, nside, beams, band_response(instrument, t_e_kev)))
    empty = np.zeros((12 * nside**2, len(beams)), np.float32)
    galaxies = draw_cluster_galaxies(truth, instrument, seed)
    parts["galaxies"] = combination.combine(paint_sources(galaxies, instrument, nside, beams, out=empty))
    return {**parts, "painted": paint_y(truth, nside, NeedletILC.fwhm_arcmin)}


def main(run: Path, nside: int, y500: float) -> None:
    truth = read_catalogue(run / "simulated" / "truth.fits")
    haloes = truth[(truth["y500_arcmin2"] > y500) & (np.abs(truth["lat_deg"]) > 20)]
    block = sky_blocks(np.asarray(haloes["lon_deg"]), np.asarray(haloes["lat_deg"]))
    maps = y_of_parts(run, nside)
    print(f"{len(haloes)} haloes, nside {nside}\n\n| disc, arcmin | part | over painted y | source | block |")
    print("|---|---|---|---|---|")
    for radius, annulus in APERTURES:
        flux = measure_fluxes(np.stack(list(maps.values()), axis=1), haloes, radius, annulus)
        found = dict(zip(maps, flux.T, strict=True))
        found["y map less gas and galaxies"] = found["y map"] - found["gas"] - found["galaxies"]
        for name, values in found.items():
            errors = []
            for group in (np.arange(len(haloes)), block):
                drawn = bootstrap_weights(group.max() + 1, 500, 0)
                upper, lower = (drawn @ np.bincount(group, v) for v in (values, found["painted"]))
                errors.append(float((upper / lower).std(ddof=1)))
            ratio = values.mean() / found["painted"].mean()
            print(f"| {radius:g} | {name} | {ratio:.4f} | {errors[0]:.4f} | {errors[1]:.4f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--nside", type=int, default=1024)
    parser.add_argument("--y500", type=float, default=3e-4, help="least Y500, arcmin^2")
    given = parser.parse_args()
    main(given.run, given.nside, given.y500)
