"""What stacks at known clusters give back of what was painted, in all sixteen maps of a simulated sky.

python benchmarks/recover_stacks.py RUN [--y500 5e-4]

Aperture fluxes at isolated haloes of 0.1 < z < 0.3 and |b| > 25 deg, less those at as many positions of the same
latitude and dust level, beside the flux that the simulation put there: a small disc in the bands, y and 100 um, where
CMB and dust are the noise, a wide one elsewhere. 'field' says that what was painted is the large-scale structure
about the haloes, whose flux has no number by hand; galaxies have it besides their members.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table
from scipy.optimize import brentq
from scipy.spatial import cKDTree

from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import read_column_map
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.instrument import Instrument
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev
from szeek.physics.tsz import band_response
from szeek.physics.xray import ROSAT_FLUX_PER_RATE, absorption
from szeek.pipeline.products import RunFolder
from szeek.pipeline.stack import open_run_maps
from szeek.simulate.components.clusters import paint_y
from szeek.simulate.components.companions import GALAXIES_PER_ARCMIN2, GALAXY_KINDS
from szeek.simulate.components.infrared import IRIS, KINDS
from szeek.simulate.components.sources import draw_cluster_galaxies
from szeek.simulate.components.xray import cluster_flux
from szeek.simulate.sky import core_fwhm_arcmin
from szeek.sky.healpix import unit_vectors
from szeek.stack.nulls import dust_map, matched_positions
from szeek.stack.products import measure_spectrum
from szeek.stack.profiles import gaussian_aperture_fraction, measure_fluxes

WIDE: tuple[float, tuple[float, float]] = (25.0, (35.0, 50.0))
SMALL: tuple[float, tuple[float, float]] = (10.0, (15.0, 25.0))
ARCMIN2_SR = (np.pi / 10800) ** 2


def choose(truth: Table, y500: float) -> np.ndarray:
    """Rows of bright haloes at middle latitudes without a neighbour of half the limit within 50 arcmin."""
    bright = np.asarray(truth["y500_arcmin2"]) > y500 / 2
    tree = cKDTree(unit_vectors(np.asarray(truth["lon_deg"], float), np.asarray(truth["lat_deg"], float))[bright])
    z = np.asarray(truth["z"])
    wanted = (np.asarray(truth["y500_arcmin2"]) > y500) & (z > 0.1) & (z < 0.3) & (np.abs(truth["lat_deg"]) > 25)
    wanted &= np.asarray(truth["theta500_arcmin"]) < 8
    rows = np.flatnonzero(wanted)
    at = unit_vectors(np.asarray(truth["lon_deg"][rows], float), np.asarray(truth["lat_deg"][rows], float))
    alone = [len(near) == 1 for near in tree.query_ball_point(at, 2 * np.sin(np.radians(50 / 60) / 2))]
    return rows[np.array(alone, bool)]


def gas_flux(haloes: Table, fwhm_arcmin: float) -> np.ndarray:
    """Flux in y of each halo in the small aperture, behind a beam: the haloes painted alone, (n,) in arcmin^2."""
    return measure_fluxes(paint_y(haloes, 2048, fwhm_arcmin), haloes, *SMALL)[:, 0]


def galaxy_flux(truth: Table, rows: np.ndarray, instrument: Instrument, beams: np.ndarray, seed: int) -> np.ndarray:
    """Mean flux of the galaxies painted into the chosen haloes in the small aperture, map unit arcmin2, (n_band,)."""
    sources = draw_cluster_galaxies(truth, instrument, seed)
    mine = np.isin(sources.lon_deg, np.asarray(truth["lon_deg"], float)[rows])
    per_jy = 1e-6 * instrument.unit_per_kcmb / instrument.mjysr_per_kcmb / ARCMIN2_SR
    kept = [
        [gaussian_aperture_fraction(np.hypot(beam, own), *SMALL) for beam in beams]
        for own in sources.fwhm_arcmin[mine]
    ]
    return (sources.flux_jy[mine] * np.array(kept)).sum(axis=0) / len(rows) * per_jy


def expected(truth: Table, rows: np.ndarray, seed: int) -> dict[str, float]:
    """Mean flux painted at the chosen haloes, map unit arcmin^2."""
    hfi, mass, z = read_instrument(), np.asarray(truth["m500_1e14msun"])[rows], np.asarray(truth["z"])[rows]
    beams, response = core_fwhm_arcmin(hfi), band_response(hfi, electron_temperature_kev(MASS_BIAS * mass, z))
    gas = np.stack([gas_flux(truth[rows], beam) for beam in beams], axis=1)
    bands = (gas * response).mean(axis=0) + galaxy_flux(truth, rows, hfi, beams, seed)
    place = (np.asarray(truth[name])[rows] for name in ("lon_deg", "lat_deg"))
    left = absorption(healpy.get_interp_val(read_column_map("h1_nh_HI4PI"), *place, lonlat=True))
    rates = cluster_flux(truth, seed)[rows] * left / ROSAT_FLUX_PER_RATE
    out = dict(zip(hfi.band_names, bands.tolist(), strict=True))
    out["y"] = float(gas_flux(truth[rows], 10.0).mean())
    iris_beam = np.array([IRIS.bands[0].fwhm_arcmin])
    out["iris_100um"] = float(galaxy_flux(truth, rows, IRIS, iris_beam, seed)[0])
    out |= {"xray": float(rates.mean()), "kappa": np.nan}
    star_rates, masses = 0.0, 0.0
    for name, (share, _, members) in GALAXY_KINDS.items():
        n = members * mass.mean()
        out[f"galaxies_{name}"] = float(n / share / GALAXIES_PER_ARCMIN2)
        if name in KINDS:
            star_rates += n * KINDS[name].rate_moments()[0]
            masses += n * KINDS[name].mass_moments()[0]
    # per deg^2 times arcmin^2
    return out | {"sfr": 3600 * star_rates, "stellar_mass": 3600 * masses}


def main(run: Path, y500: float) -> None:
    truth = read_catalogue(run / "simulated" / "truth.fits")
    seed = json.loads((run / "simulated" / "simulate.json").read_text())["config"]["seed"]
    rows = choose(truth, y500)
    haloes, painted = truth[rows], expected(truth, rows, seed)
    maps, _ = open_run_maps(RunFolder(run))
    nulls = matched_positions(haloes, dust_map(maps["bands"]), seed=1)
    print(f"{len(rows)} haloes\n\n| map | disc | painted | found | found / painted | sigma | nulls, sigma |")
    print("|---|---|---|---|---|---|---|")
    for name, sky in maps.items():
        aperture = SMALL if name in ("bands", "y", "iris_100um") else WIDE
        flux, null = (measure_fluxes(sky, where, *aperture) for where in (haloes, nulls))
        if name == "xray":  # counts per second and pixel: per pixel's area
            pixel_arcmin2 = 4 * np.pi / ARCMIN2_SR / sky.values.shape[0]
            flux, null = flux / pixel_arcmin2, null / pixel_arcmin2
        for k, band in enumerate(sky.bands):
            own, far = flux[:, k], null[:, k]
            error, null_error = own.std(ddof=1) / len(own) ** 0.5, far.std(ddof=1) / len(far) ** 0.5
            found = own.mean() - far.mean()
            both = np.hypot(error, null_error)
            known = painted[band.name]
            ratio = "" if np.isnan(known) else f"{found / known:.2f} ± {abs(both / known):.2f}"
            print(
                f"| {band.name} | {aperture[0]:g} | {'field' if np.isnan(known) else f'{known:.3g}'} | {found:.3g} ± "
                f"{both:.2g} | {ratio} | {found / both:.1f} | {far.mean() / null_error:.1f} |"
            )
    y = Y5R500_PER_Y500 * float(np.mean(haloes["y500_arcmin2"]))
    # the Gaussian extent that leaves as much in the small aperture behind 10 arcmin as the painted profiles do
    extent = brentq(lambda own: gaussian_aperture_fraction(np.hypot(10.0, own), *SMALL) - painted["y"] / y, 0.1, 20.0)
    spectrum = measure_spectrum(maps["bands"], haloes, nulls, read_instrument(), extent_arcmin=extent)
    fit = spectrum.meta["fit"]["tsz"]
    print(
        f"\nSix bands fitted: Y5R500 {fit['amplitude']:.3g} ± {fit['error']:.2g} arcmin^2, painted {y:.3g}: "
        f"{fit['amplitude'] / y:.2f} ± {fit['error'] / y:.2f}; chi^2 {spectrum.meta['chi2']:.1f} for 2"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--y500", type=float, default=5e-4, help="least Y500 in arcmin^2")
    arguments = parser.parse_args()
    main(arguments.run, arguments.y500)
