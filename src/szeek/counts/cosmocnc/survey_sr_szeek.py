"""Scaling relation, noise and selection of an SZeek survey for cosmocnc 1.2 (cnc_params["survey_sr"]).

Three layers, of the selection observable q_szeek, FIXED_SNR of the catalogue, the S/N at a cluster's place and size:

    0   ln M500 -> ln q,  q = f Y500(M, z) / sigma(theta500, patch);  scatter sigma_lnq about it
    1   ln q -> S/N = q with noise of 1
    2   S/N -> S/N; its "derivative" is 1 / P(found | S/N, theta500, patch), which thins the counts

S/N above 40 is written as 40 [1 + ln(S/N / 40)], in the catalogue too: noise does not matter there, and cosmocnc's
even grid would else be too coarse for it at low redshift.

Parameters (scal_rel_params): alpha, beta, log10_Y_star and bias_sz (1-b) of Planck 2013 results XX, eq. 7; sigma_lnq,
to which the scatter of S/N at a flux is added; and, if given, snr_factor, instead of the measured f.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
BRIGHT = 40.0
_CRITICAL_DENSITY = 2.77536627e11  # h^2 Msun / Mpc^3


@cache
def read_survey() -> dict[str, Any]:
    """What is found, from the file beside this one."""
    return dict(json.loads((FOLDER / "survey.json").read_text()))


def compress(snr: Any) -> Any:
    """S/N as it is written."""
    return np.where(snr > BRIGHT, BRIGHT * (1 + np.log(np.maximum(snr, BRIGHT) / BRIGHT)), snr)


class scaling_relations:
    """What cosmocnc asks of an observable."""

    def __init__(self, observable: str = "q_szeek", cnc_params: Any = None, catalogue: Any = None) -> None:
        if observable != "q_szeek":
            raise ValueError(f"observable '{observable}' is unknown to this survey, expected q_szeek")
        self.observable = observable
        self.cnc_params = cnc_params
        self.catalogue = catalogue
        self.preprecompute = False
        self.n_layers = 3
        self.pivot_arcmin, self.detection = read_survey()["pivot_arcmin"], read_survey()["detection"]

    def get_n_layers(self) -> int:
        return self.n_layers

    def initialise_scaling_relation(self, cosmology: Any = None) -> None:
        self.log_theta = np.log(np.loadtxt(FOLDER / "thetas.txt"))
        self.skyfracs = np.atleast_1d(np.loadtxt(FOLDER / "skyfracs.txt"))
        # as Planck published it: sizes one after the other, the patches of each together
        noise = np.loadtxt(FOLDER / "noise.txt")
        self.log_noise = np.log(noise.reshape(self.log_theta.size, self.skyfracs.size))
        self.log_dust = np.atleast_1d(np.loadtxt(FOLDER / "dust.txt"))
        self.pdf_false_detection = np.load(FOLDER / "false.npy")

    def precompute_scaling_relation(self, params: Any = None, other_params: Any = None, patch_index: int = 0) -> None:
        self.params = params
        self.patch = int(patch_index)
        # the data of one cluster do not care how probable it was to be found
        self.n_layers = 2 if "cluster_index" in other_params else 3
        h = other_params["H0"] / 100.0
        e_z, d_a = other_params["E_z"], other_params["D_A"]
        bias = params["bias_sz"]
        factor = params.get("snr_factor", self.detection["snr_factor"])
        density = 500 * _CRITICAL_DENSITY * h**2 * e_z**2
        r500_mpc = (3 * bias * 1e14 / (4 * np.pi * density)) ** (1 / 3)  # of 1e14 Msun
        self.log_theta_of_1 = np.log(np.degrees(r500_mpc / d_a) * 60)
        y_mpc2 = 1e-4 * 10 ** params["log10_Y_star"] * (h / 0.7) ** (params["alpha"] - 2) * e_z ** params["beta"]
        y_mpc2 = y_mpc2 * (bias / 6.0) ** params["alpha"]
        self.log_y_of_1 = np.log(factor * y_mpc2 / d_a**2 * np.degrees(1.0) ** 2 * 3600)

    def eval_scaling_relation(self, x0: Any, layer: int = 0, patch_index: int = 0, other_params: Any = None) -> Any:
        if layer == 0:
            log_theta = self.log_theta_of_1 + x0 / 3
            log_sigma = np.interp(log_theta, self.log_theta, self.log_noise[:, self.patch])
            x1 = self.log_y_of_1 + self.params["alpha"] * x0 - log_sigma
            self.mean_log_q, self.mean_log_theta = x1, log_theta
        elif layer == 1:
            x1 = compress(np.exp(x0))
        else:
            x1 = x0
        self.x1 = x1
        return x1

    def eval_derivative_scaling_relation(
        self, x0: Any, layer: int = 0, patch_index: int = 0, scalrel_type_deriv: str = "analytical"
    ) -> Any:
        return 1 / self.found(x0) if layer == 2 else np.gradient(self.x1, x0)

    def found(self, snr: Any) -> Any:
        """P(found | S/N) in the patch of now, at the size that belongs to that S/N at the redshift of now."""
        size = np.interp(np.log(np.maximum(snr, 0.1)), self.mean_log_q, self.mean_log_theta) - np.log(
            self.pivot_arcmin
        )
        law = self.detection
        logit = (snr - law["snr50"] - law["size_slope"] * size) / law["width"]
        logit = logit + law["dust_slope"] * (self.log_dust[self.patch] - law["mean_log_dust"])
        return 1 / (1 + np.exp(-np.clip(logit + law["shift"], -30, 30)))

    def get_cutoff(self, layer: int = 0) -> float:
        return float(-np.inf)


class scatter:
    """Covariance of an observable's scatter, by layer."""

    def __init__(self, params: Any = None, catalogue: Any = None) -> None:
        self.params = params
        self.snr_scatter_ln = read_survey()["detection"]["snr_scatter_ln"]

    def get_cov(
        self,
        observable1: Any = None,
        observable2: Any = None,
        patch1: int = 0,
        patch2: int = 0,
        layer: int = 0,
        other_params: Any = None,
    ) -> float:
        if observable1 != observable2:
            return 0.0
        if layer == 0:
            return float(self.params["sigma_lnq"] ** 2 + self.snr_scatter_ln**2)
        return 1.0 if layer == 1 else 0.0
