"""The second stage: from the purity that the microwave maps give, and the X-ray S/N there, to one probability."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from szeek.files import write_json

Floats = NDArray[np.float64]

#: Least and greatest S/N that count: below, photons are lacking by chance; above, an AGN is as bright as a cluster.
SNR_RANGE = (-1.0, 6.0)
_PURITY_CLIP = 1e-4
_RIDGE = 1e-3


@dataclass(frozen=True)
class XrayPurity:
    """Probability of a cluster from PURITY and the X-ray S/N.

    logit = a + b logit(PURITY) + c S + d S logit(PURITY), S the S/N within :data:`SNR_RANGE`

    The last term is there because the two are no independent witnesses: a cluster that is bright in one is bright in
    the other.

    Parameters
    ----------
    coefficients : tuple of 4 float
        a, b, c, d.
    n_sources, n_clusters : int
        What they were fitted on.
    made_from : str
        Network, skies and tiles.

    Examples
    --------
    >>> stage = XrayPurity((-2.0, 1.0, 0.8, 0.0))
    >>> stage.predict([0.5, 0.5, 0.5], [0.0, 6.0, np.nan]).round(3).tolist()
    [0.119, 0.943, 0.5]
    """

    coefficients: tuple[float, float, float, float]
    n_sources: int = 0
    n_clusters: int = 0
    made_from: str = ""

    def predict(self, purity: ArrayLike, xray_snr: ArrayLike) -> Floats:
        """The probability, (n,) float64: PURITY itself where there are no X-rays, NaN where PURITY is not known.

        Parameters
        ----------
        purity, xray_snr : (n,) float
        """
        known = np.asarray(purity, np.float64)
        snr = np.broadcast_to(np.asarray(xray_snr, np.float64), known.shape)
        joint = expit(_design(known, np.nan_to_num(snr)) @ np.array(self.coefficients))
        return np.where(np.isfinite(snr), joint, known)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(asdict(self), path)

    @classmethod
    def read(cls, path: Path) -> XrayPurity:
        """Read what :meth:`write` wrote.

        Raises
        ------
        ValueError
            If the file holds something else.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            a, b, c, d = (float(value) for value in content.pop("coefficients"))
            return cls((a, b, c, d), **content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{path}' is no second stage of X-rays ({error}); fit it again") from error


def fit_xray_purity(purity: ArrayLike, xray_snr: ArrayLike, real: ArrayLike, made_from: str = "") -> XrayPurity:
    """Fit the second stage by logistic regression on sources of which it is known whether they are clusters.

    Parameters
    ----------
    purity, xray_snr : (n,) float
        Of sources that neither the network nor its calibration was trained on; those without X-rays are left out.
    real : (n,) bool
    made_from : str
        Network, skies and tiles, for the record.

    Raises
    ------
    ValueError
        If fewer than ten sources of either kind have X-rays.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> real = rng.uniform(size=4000) < 0.3
    >>> snr = rng.normal(np.where(real, 2.0, 0.0))  # ln odds of the S/N: 2 S - 2
    >>> stage = fit_xray_purity(np.full(4000, 0.3), snr, real)
    >>> bool(abs(stage.predict([0.3], [1.0])[0] - 0.3) < 0.04)
    True
    """
    known, snr, truth = (np.asarray(values, np.float64) for values in (purity, xray_snr, real))
    used = np.isfinite(known) & np.isfinite(snr)
    n, n_true = int(used.sum()), int(truth[used].sum())
    if min(n_true, n - n_true) < _LEAST_SOURCES:
        raise ValueError(
            f"{n_true} clusters and {n - n_true} other sources have X-rays, expected at least {_LEAST_SOURCES} of "
            "each; lower the threshold of the detection, or take more tiles"
        )
    design, y = _design(known[used], snr[used]), truth[used]

    def loss(values: Floats) -> tuple[float, Floats]:
        score = design @ values
        slope = design.T @ (expit(score) - y) + 2 * _RIDGE * values
        return float((np.logaddexp(0, score) - y * score).sum() + _RIDGE * values @ values), slope

    a, b, c, d = minimize(loss, np.array([0.0, 1.0, 0.0, 0.0]), jac=True, method="BFGS").x.tolist()
    return XrayPurity((a, b, c, d), n, n_true, made_from)


_LEAST_SOURCES = 10


def _design(purity: Floats, snr: Floats) -> Floats:
    odds, s = logit(np.clip(purity, _PURITY_CLIP, 1 - _PURITY_CLIP)), np.clip(snr, *SNR_RANGE)
    return np.stack([np.ones(odds.shape), odds, s, s * odds], axis=-1)
