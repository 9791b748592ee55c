"""Mock surveys through the likelihood of cosmocnc 1.2, as it is on PyPI: do Omega_m and sigma8 come back?

    szeek export RUN --to cosmocnc --out DIR/survey && szeek mock RUN -n 100 --no-false --out DIR/mocks
    COSMOCNC/bin/python benchmarks/counts_likelihood.py DIR/survey DIR/mocks --out counts.json

COSMOCNC is an environment of its own (pip install cosmocnc==1.2 astropy colossus). Everything else of the model is
held at its true value; flat priors; the unbinned likelihood of (S/N, z, patch) on a grid in Omega_m and sigma8
(Omega_m / 0.31)^0.3. The mass function is that with which the mocks were drawn (colossus: Tinker et al. 2008 on
Eisenstein & Hu), handed to cosmocnc in place of an emulator of the power spectrum, which would have to be downloaded;
its own, on the same spectrum, is up to 4 % lower, for it interpolates Tinker's table otherwise. One thread.
"""

import argparse
import contextlib
import io
import json
import time
from pathlib import Path

import numpy as np
from astropy.table import Table
from colossus.cosmology import cosmology as colossus_cosmology
from colossus.lss.mass_function import massFunction
from scipy.interpolate import RectBivariateSpline, RegularGridInterpolator

with contextlib.redirect_stdout(io.StringIO()):
    import cosmocnc


class EisensteinHu:
    """The linear power spectrum at a redshift, in Mpc, as cosmocnc asks for it."""

    def __init__(self, parameters):
        p = parameters
        values = {"flat": True, "H0": 100 * p["h"], "Om0": p["Om0"], "Ob0": p["Ob0"], "Tcmb0": 2.7255}
        values |= {"Neff": 3.046, "sigma8": p["sigma_8"], "ns": p["n_s"]}
        self.cosmology = colossus_cosmology.setCosmology("grid", params=values, persistence="")
        self.k = np.geomspace(1e-4, 50.0, 2048)

    def get_linear_power_spectrum(self, redshift):
        h = self.cosmology.h
        return self.k, self.cosmology.matterPowerSpectrum(self.k / h, redshift) / h**3


def haloes_per_z_and_mass(counts):
    """Haloes per steradian, redshift and ln M of colossus on the grid of cosmocnc."""
    h = colossus_cosmology.getCurrent().h
    coarse = np.linspace(counts.ln_M[0], counts.ln_M[-1], 200)
    mass = np.exp(coarse) * 1e14 * h
    volume = counts.cosmology.background_cosmology.differential_comoving_volume(counts.redshift_vec).value
    rows = [massFunction(mass, z, mdef="500c", model="tinker08", q_out="dndlnM") for z in counts.redshift_vec]
    rows = [np.exp(np.interp(counts.ln_M, coarse, np.log(row + 1e-300))) for row in rows]
    return np.array(rows) * h**3 * volume[:, None]


class Likelihood:
    """cosmocnc with an exported survey."""

    def __init__(self, folder, n_z, n_points, catalogue, with_false=False):
        stated = json.loads((folder / "params.json").read_text())
        self.cosmo, self.scaling = stated["cosmo_params"], stated["scal_rel_params"]
        self.cosmo = {**cosmocnc.cosmo_params_default, **self.cosmo}
        self.scaling = {**cosmocnc.scaling_relation_params_default, **self.scaling}
        params = {**cosmocnc.cnc_params_default, **stated["cnc_params"]}
        params |= {"survey_sr": str(folder / "survey_sr_szeek.py"), "survey_cat": str(folder / "survey_cat_szeek.py")}
        params |= {"cosmology_tool": "astropy", "power_spectrum_type": "own", "number_cores_data": 1}
        params |= {"n_z": n_z, "n_points": n_points, "cluster_catalogue": catalogue}
        params |= {"non_validated_clusters": with_false}
        self.counts = cosmocnc.cluster_number_counts(cnc_params=params)
        self.counts.cosmo_params, self.counts.scal_rel_params = self.cosmo, self.scaling
        self.with_false = with_false
        with contextlib.redirect_stdout(io.StringIO()):
            self.counts.initialise()
        self.n_false = self.scaling["f_false_detection"] * self.counts.catalogue.n_clusters if with_false else 0.0

    def set(self, omega_m, sigma8):
        """Expected counts in a cosmology."""
        cosmo = {**self.cosmo, "Om0": omega_m, "sigma_8": sigma8}
        with contextlib.redirect_stdout(io.StringIO()):
            self.counts.update_params(cosmo, self.scaling)
            self.counts.cosmology.power_spectrum = EisensteinHu(cosmo)
            self.counts.get_hmf()
            self.counts.hmf_matrix = haloes_per_z_and_mass(self.counts)
            self.counts.get_number_counts()
            if self.with_false:  # cosmocnc takes a share: the same number in every cosmology
                self.scaling["f_false_detection"] = self.n_false / (self.n_false + float(self.counts.n_tot))
                self.counts.scal_rel_params = self.scaling
                self.counts.get_number_counts()

    def log_likelihood(self):
        """Of its catalogue, by cosmocnc."""
        return float(self.counts.get_log_lik())

    def log_likelihoods(self, clusters, n_mocks):
        """The same of many at once, from cosmocnc's counts: its function makes an interpolator per patch and mock."""
        snr, z, patch, mock = clusters
        counts = self.counts
        total = np.full(n_mocks, -float(counts.n_tot))
        for number in range(counts.n_patches):
            axes = (counts.redshift_vec, counts.obs_select_vec)
            mine = patch == number
            density = RegularGridInterpolator(axes, counts.abundance_tensor[number])((z[mine], snr[mine]))
            total += np.bincount(mock[mine], np.log(density), n_mocks)
        return total


def read_mocks(folder, files):
    """S/N as survey_sr_szeek.py writes it, redshift, patch and mock of all clusters; and cosmocnc files of them."""
    columns = []
    for number, file in enumerate(files):
        table = Table.read(file)
        snr, z = (np.array(table[name], float) for name in ("FIXED_SNR", "MATCH_Z"))
        patch, names = np.array(table["PATCH"], int), np.array(table["NAME"], str)
        if number == 0:
            np.savez(folder / "first-mock.npz", name=names, snr=snr, z=z, patch=patch, validated=np.isfinite(z))
        written = np.where(snr > 40, 40 * (1 + np.log(np.maximum(snr, 40) / 40)), snr)
        columns.append((written, z, patch, np.full(len(z), number)))
    return [np.concatenate(column) for column in zip(*columns, strict=True)]


def summarise(grid, log_likelihood, truth):
    """Mean, standard deviation and the share of one marginal that lies below the truth."""
    weight = np.exp(log_likelihood - log_likelihood.max())
    weight /= weight.sum()
    mean = float(weight @ grid)
    fine = np.linspace(grid[0], grid[-1], 2001)
    density = np.maximum(np.interp(fine, grid, weight), 0)
    below = np.interp(truth, fine, np.cumsum(density) / density.sum())
    return {"true": truth, "mean": mean, "sigma": float(np.sqrt(weight @ (grid - mean) ** 2)), "below": float(below)}


def posteriors(values, omega_m, combined, truth):
    """Marginals of Omega_m, sigma8 and their combination of one log likelihood, splined onto a finer grid."""
    fine_om, fine_s = (np.linspace(axis[0], axis[-1], 241) for axis in (omega_m, combined))
    sigma8 = fine_s[None, :] / (fine_om[:, None] / 0.31) ** 0.3
    jacobian = (fine_om[:, None] / 0.31) ** -0.3  # flat in (Omega_m, sigma8)
    edges = np.linspace(sigma8.min(), sigma8.max(), 161)
    log_l = RectBivariateSpline(omega_m, combined, values)(fine_om, fine_s)
    weight = np.exp(log_l - log_l.max()) * jacobian
    in_sigma8 = np.histogram(sigma8, edges, weights=weight)[0]
    return {
        "omega_m": summarise(fine_om, np.log(weight.sum(axis=1)), truth[0]),
        "sigma8": summarise((edges[1:] + edges[:-1]) / 2, np.log(in_sigma8 + 1e-300), truth[1]),
        "s8": summarise(fine_s, np.log(weight.sum(axis=0)), truth[1] * (truth[0] / 0.31) ** 0.3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("survey", type=Path)
    parser.add_argument("mocks", type=Path)
    parser.add_argument("--out", type=Path, default=Path("counts.json"))
    parser.add_argument("--n-grid", type=int, default=9)
    parser.add_argument("--half-width", type=float, nargs=2, default=(0.12, 0.03), help="of Omega_m and of S8")
    parser.add_argument("--n-z", type=int, default=76)
    parser.add_argument("--n-points", type=int, default=2048)
    given = parser.parse_args()
    began = time.process_time()
    files = sorted(given.mocks.glob("mock-*.fits"))
    clusters = read_mocks(given.survey, files)
    likelihood = Likelihood(given.survey, given.n_z, given.n_points, "first-mock.npz")
    truth = likelihood.cosmo["Om0"], likelihood.cosmo["sigma_8"]
    n_drawn = len(clusters[0]) / len(files)
    likelihood.set(*truth)
    n_tot, seconds = float(likelihood.counts.n_tot), time.process_time() - began
    print(f"{n_drawn:.1f} clusters drawn on average, cosmocnc expects {n_tot:.1f}; {seconds:.0f} s", flush=True)
    one = likelihood.log_likelihood()
    ours = likelihood.log_likelihoods(clusters, len(files))
    print(f"log likelihood of the first mock {one:.6f} by cosmocnc, {ours[0]:.6f} here", flush=True)
    assert abs(one - ours[0]) < 1e-6 * abs(one)
    omega_m = truth[0] + np.linspace(-1, 1, given.n_grid) * given.half_width[0]
    combined = truth[1] * (truth[0] / 0.31) ** 0.3 + np.linspace(-1, 1, given.n_grid) * given.half_width[1]
    values = np.empty((len(files), given.n_grid, given.n_grid))
    for i, om in enumerate(omega_m):
        for j, s8 in enumerate(combined):
            likelihood.set(om, s8 / (om / 0.31) ** 0.3)
            values[:, i, j] = likelihood.log_likelihoods(clusters, len(files))
        print(f"{i + 1}/{given.n_grid}, {time.process_time() - began:.0f} s", flush=True)
    result = marginalise(values, omega_m, combined, truth)
    result |= {"n_mocks": len(files), "n_drawn": n_drawn, "n_expected": n_tot}
    result["cpu_s"] = round(time.process_time() - began)
    given.out.write_text(json.dumps(result, indent=1))
    np.savez(given.out.with_suffix(".npz"), values=values, omega_m=omega_m, combined=combined, truth=truth)
    print(json.dumps(result, indent=1))


def marginalise(values, omega_m, combined, truth):
    """Bias in standard deviations and coverage of the 68 % interval, of mocks."""
    each = [posteriors(value, omega_m, combined, truth) for value in values]
    result = {}
    for name in each[0]:
        mean, sigma, below = (np.array([one[name][key] for one in each]) for key in ("mean", "sigma", "below"))
        true = each[0][name]["true"]
        pull = (mean - true) / sigma
        inside = np.abs(below - 0.5) <= 0.34135
        result[name] = {
            "true": true, "mean": float(mean.mean()), "sigma": float(sigma.mean()),
            "bias_in_sigma": float(pull.mean()), "error_of_bias": float(pull.std() / np.sqrt(len(pull))),
            "pull_sd": float(pull.std()), "inside_68": int(inside.sum()),
        }  # fmt: skip
    return result


if __name__ == "__main__":
    main()
