"""Whether what is found of known clusters is what injections say, flux for flux as the maps have it.

The share of clusters that a network finds against the S/N that they have in the maps, noise included, hardly depends
on how many clusters of each flux there are, on where they lie, or on what a catalogue says of their flux. So it can
be counted on injections once, kept beside the network, and held against the clusters that are known in any maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import chdtrc

from szeek.measure.pairs import list_pairs

Floats = NDArray[np.float64]

#: Borders of the bins of S/N.
SNR_BINS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, np.inf)
#: Surveys that found clusters by their SZ effect: their entries are not independent of the maps.
SZ_SURVEYS = ("PSZ2", "PSZ1", "ACT", "SPT", "TRUTH")
#: Below it, what is found is not what is expected.
LEAST_PROBABILITY = 0.01
_FEWEST = 20
#: Share of known clusters that are listed beside their place or lie in the hole of a compact source, as no injection
#: does: of 52 above S/N 5 in four tiles of a simulated sky 4 are missed, two of these beside another cluster. Those
#: with another known one this near are left out.
_ODD_SHARE, _ALONE_ARCMIN = 0.05, 15.0


@dataclass(frozen=True)
class DetectionCheck:
    """Known clusters in bins of the S/N that they have in the maps: how many are found, how many are expected.

    Parameters
    ----------
    snr : list of float
        Lower edges of the bins.
    n_known, n_found : list of int
    n_expected : list of float
        From injections of the same S/N.
    probability : float
        Of a chi-square as large as that of all bins together.
    """

    snr: list[float]
    n_known: list[int]
    n_found: list[int]
    n_expected: list[float]
    probability: float

    def warn(self) -> list[str]:
        """A sentence where the probability is below 0.01, nothing otherwise."""
        if self.probability >= LEAST_PROBABILITY:
            return []
        return [
            f"{sum(self.n_found)} of {sum(self.n_known)} known clusters are found where {sum(self.n_expected):.0f} "
            f"are expected from their S/N in the maps (probability {self.probability:.2g}): completeness and purity "
            "do not hold for this sky"
        ]


@dataclass(frozen=True)
class DetectionCurve:
    """Injected clusters, and those found, in bins of the S/N that they have in the maps.

    Parameters
    ----------
    n, n_found : (7,) int64
        In the bins of :data:`SNR_BINS`.
    p_max : float
        Threshold of the detection.
    look_error : float
        Error of the logit of completeness from what is not known of how clusters look.
    """

    n: NDArray[np.int64]
    n_found: NDArray[np.int64]
    p_max: float
    look_error: float = 0.0

    @classmethod
    def count(cls, snr: Floats, found: NDArray[np.bool_], p_max: float, look_error: float = 0.0) -> DetectionCurve:
        """Count injections of these S/N.

        Examples
        --------
        >>> snr = np.repeat([2.5, 9.0], 50)
        >>> DetectionCurve.count(snr, snr > 5, 0.1).n_found.tolist()
        [0, 0, 0, 0, 0, 0, 50]
        """
        edges = np.asarray(SNR_BINS)
        n, n_found = (np.histogram(values, edges)[0].astype(np.int64) for values in (snr, snr[found]))
        return cls(n, n_found, p_max, look_error)

    def check(self, snr: Floats, found: NDArray[np.bool_]) -> DetectionCheck | None:
        """Hold known clusters against it; None where too few are alike.

        Parameters
        ----------
        snr : (m,) float64
            Of the known clusters in the maps; NaN where they are not seen.
        found : (m,) bool
            Whether a source is matched to them.
        """
        rows = []
        for k, (low, high) in enumerate(pairwise(SNR_BINS)):
            mine = (snr >= low) & (snr < high)
            n, n_injected = int(mine.sum()), int(self.n[k])
            if n == 0 or n_injected < _FEWEST:
                continue
            share = self.n_found[k] / n_injected
            # of a share that is 0 or 1 as the sample can show it
            uncertain = (self.n_found[k] + 0.5) / (n_injected + 1)
            variance = uncertain * (1 - uncertain) * n * (1 + n / n_injected) + (_ODD_SHARE * n) ** 2
            rows.append((low, n, int(found[mine].sum()), float(n * share), float(variance)))
        if not rows or sum(row[1] for row in rows) < _FEWEST:
            return None
        lows, ns, n_found, expected, variances = (list(column) for column in zip(*rows, strict=True))
        chi2 = sum((a - b) ** 2 / v for a, b, v in zip(n_found, expected, variances, strict=True))
        return DetectionCheck(lows, ns, n_found, expected, float(chdtrc(len(rows), chi2)))

    def to_table(self) -> Table:
        """One row per bin, for ECSV."""
        meta = {"p_max": self.p_max, "look_error": self.look_error}
        return Table({"snr": SNR_BINS[:-1], "n": self.n, "n_found": self.n_found}, meta=meta)

    @classmethod
    def from_table(cls, table: Table) -> DetectionCurve:
        """Inverse of :meth:`to_table`."""
        if not np.array_equal(np.asarray(table["snr"], float), SNR_BINS[:-1]):
            raise ValueError(f"the bins of S/N begin at {list(table['snr'])}, expected {list(SNR_BINS[:-1])}")
        n, n_found = (np.array(table[name], np.int64) for name in ("n", "n_found"))
        return cls(n, n_found, float(table.meta["p_max"]), float(table.meta["look_error"]))


def independent_clusters(catalogue: Table) -> Table:
    """Clusters of known size that were not found by their SZ effect, without another one beside them."""
    by_sz = np.isin(np.char.upper(np.asarray(catalogue["survey"], str)), SZ_SURVEYS)
    listed = catalogue[(np.asarray(catalogue["theta500_arcmin"], float) > 0) & ~by_sz]
    first, second, _ = list_pairs(listed, listed, np.full(len(listed), _ALONE_ARCMIN))
    beside = np.zeros(len(listed), bool)
    beside[first[first != second]] = True
    return listed[~beside]
