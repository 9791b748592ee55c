"""One simulated sky through the whole chain, maps to likelihood of cosmocnc 1.2: is the true cosmology inside 95 %?

    szeek run demo --seed 3 --out RUN && szeek selection RUN --tile 6 --tile 9 --tile 38 --tile 41 -n 2000
    szeek export RUN --to cosmocnc --tile 6 --tile 9 --tile 38 --tile 41 --patches 10
    COSMOCNC/bin/python benchmarks/counts_of_sky.py RUN --out sky.json

The tiles are those that the training held out. Two catalogues of the same candidates are tried: *followed up*, in
which each candidate on a halo of the sky has that halo's redshift and the others are left out, as after optical
follow-up; and *as exported*, with redshifts of known clusters only and the false candidates that PURITY expects.
COSMOCNC, mass function and grid are those of counts_likelihood.py; all but Omega_m and sigma8 is held at the truth.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from counts_likelihood import Likelihood, posteriors

#: Haloes that a candidate may be, and how far from it, as `szeek run` matches them.
LEAST_Y500_ARCMIN2 = 1e-4
RADIUS_ARCMIN, THETA500_FRACTION = 5.0, 0.6


def find_haloes(run, names):
    """Redshift of the brightest halo on which each candidate of these names lies; NaN where there is none."""
    table = Table.read(run / "candidates.fits")
    row = {str(name).strip(): number for number, name in enumerate(table["NAME"])}
    table = table[[row[name] for name in names]]
    truth = Table.read(run / "simulated" / "truth.fits")
    truth = truth[truth["y500_arcmin2"] > LEAST_Y500_ARCMIN2]
    places = SkyCoord(table["GLON"], table["GLAT"], unit="deg", frame="galactic")
    haloes = SkyCoord(truth["lon_deg"], truth["lat_deg"], unit="deg", frame="galactic")
    near, halo, apart, _ = haloes.search_around_sky(places, 1 * units.deg)
    reach = np.maximum(RADIUS_ARCMIN, THETA500_FRACTION * np.array(truth["theta500_arcmin"])[halo])
    inside = apart.arcmin <= reach
    near, halo = near[inside], halo[inside]
    order = np.argsort(np.array(truth["y500_arcmin2"])[halo], kind="stable")  # the brightest is written last
    z = np.full(len(names), np.nan)
    z[near[order]] = np.array(truth["z"])[halo[order]]
    return z


def write_followed(run, folder):
    """The catalogue after follow-up, beside the one exported."""
    with np.load(folder / "catalogue.npz") as file:
        columns = {name: file[name] for name in file.files}
    z = find_haloes(run, [str(name).strip() for name in columns["name"]])
    real = np.isfinite(z)
    columns = {name: values[real] for name, values in columns.items()}
    columns |= {"z": z[real], "validated": np.ones(int(real.sum()), bool)}
    np.savez(folder / "followed-up.npz", **columns)
    return int(real.sum()), int((~real).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--survey", type=Path, help="default: RUN/exports/cosmocnc")
    parser.add_argument("--out", type=Path, default=Path("sky.json"))
    parser.add_argument("--n-grid", type=int, default=9)
    parser.add_argument("--half-width", type=float, nargs=2, default=(0.15, 0.04), help="of Omega_m and of S8")
    parser.add_argument("--n-z", type=int, default=76)
    parser.add_argument("--n-points", type=int, default=2048)
    given = parser.parse_args()
    began = time.process_time()
    folder = given.survey or given.run / "exports" / "cosmocnc"
    n_real, n_false = write_followed(given.run, folder)
    followed = Likelihood(folder, given.n_z, given.n_points, "followed-up.npz")
    exported = Likelihood(folder, given.n_z, given.n_points, "catalogue.npz", with_false=True)
    truth = followed.cosmo["Om0"], followed.cosmo["sigma_8"]
    omega_m = truth[0] + np.linspace(-1, 1, given.n_grid) * given.half_width[0]
    combined = truth[1] * (truth[0] / 0.31) ** 0.3 + np.linspace(-1, 1, given.n_grid) * given.half_width[1]
    values = np.empty((2, given.n_grid, given.n_grid))
    for i, om in enumerate(omega_m):
        for j, s8 in enumerate(combined):
            for number, likelihood in enumerate((followed, exported)):
                likelihood.set(om, s8 / (om / 0.31) ** 0.3)
                values[number, i, j] = likelihood.log_likelihood()
        print(f"{i + 1}/{given.n_grid}, {time.process_time() - began:.0f} s", flush=True)
    followed.set(*truth)
    result = {"n_candidates": n_real + n_false, "n_on_haloes": n_real}
    result["n_expected"] = float(followed.counts.n_tot)
    result["n_false_expected"] = exported.n_false
    for name, value in zip(("followed up", "as exported"), values, strict=True):
        result[name] = posteriors(value, omega_m, combined, truth)
    result["cpu_s"] = round(time.process_time() - began)
    given.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
