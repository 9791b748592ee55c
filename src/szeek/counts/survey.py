"""What a likelihood of cluster counts needs of a survey: noise and sky of its patches, what is found, what is false.

    q = f Y500 / sigma(theta500, position),        ln Y500 scatters by sigma_lnY about the mean at a mass
    fixed S/N = q + N(0, 1) = sqrt(SNR^2 - 3)      of the matched filter
    logit P(found | S/N, theta500) = (S/N - S50 - a ln(theta500 / 5 arcmin)) / w + d (ln dust - mean) + shift

The network finds clusters; S/N is only what they are counted by: that at a cluster's own place and size, which is
lower than the SNR of the catalogue, the highest over both. The last line is fitted to the injections of a
:class:`szeek.assess.selection.Selection`. Positions are pixels of the selection's noise; patches are pixels of like
noise, for likelihoods that take a few.

Source: the form of Planck's counts, Planck 2015 results XXIV (A&A 594, A24), Sect. 2, with a threshold in S/N that is
not sharp; for the fixed S/N, Vanderlinde et al. (2010), ApJ 722, 1180.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from szeek.assess.selection import Selection, log_dust, mean_log_dust
from szeek.counts.massfunction import CosmologyParameters
from szeek.files import whole_file

Floats = NDArray[np.float64]

#: Parameters over which the SNR of the catalogue is the highest: two of the place, and the size.
_N_FREE = 3
#: S/N at which tables of completeness are given.
SNR_GRID = tuple(np.round(np.arange(0.0, 15.01, 0.1), 1).tolist())
#: Bins of S/N in which false candidates are counted.
FALSE_EDGES = np.round(np.arange(0.0, 20.01, 0.25), 2)
#: Size at which :attr:`DetectionModel.snr50` is.
PIVOT_ARCMIN = 5.0
#: Above it the ratio of measured and true S/N is read: what is found there does not depend on noise.
_BRIGHT_SNR, _FEWEST_BRIGHT, _HIGHEST_RATIO = 7.0, 20.0, 2.0
_LEAST_PROBABILITY = 1e-9
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
_SKY_DEG2 = 41252.96


def fixed_snr(snr: ArrayLike) -> Floats:
    """S/N at a cluster's own place and size, given the highest over both: less by what noise adds on average.

    Source: Vanderlinde et al. (2010), ApJ 722, 1180.

    Examples
    --------
    >>> fixed_snr([4.5, 10.0]).round(2).tolist()
    [4.15, 9.85]
    """
    return np.asarray(np.sqrt(np.maximum(np.asarray(snr, float) ** 2 - _N_FREE, 0.0)))


def highest_snr(fixed: ArrayLike) -> Floats:
    """Inverse of :func:`fixed_snr`."""
    return np.asarray(np.sqrt(np.maximum(np.asarray(fixed, float), 0.0) ** 2 + _N_FREE))


@dataclass(frozen=True)
class DetectionModel:
    """P(found | S/N, size, dust); see the head of this module.

    Parameters
    ----------
    snr50 : float
        S/N at which half of the clusters of 5 arcmin are found at mean dust.
    width, size_slope, dust_slope : float
        w, a and d.
    mean_log_dust : float
        Of ln (E(B-V) + 0.03 mag), over the injections.
    shift : float
        Of the logit, for the looks of clusters being others than those injected.
    snr_factor, snr_scatter_ln : float
        f: S/N that haloes have at their own place and size over Y500 / sigma, and its scatter beyond noise; 1 and 0
        where not measured.

    Examples
    --------
    >>> DetectionModel(snr50=4.0, width=0.5).found([4.0, 6.0], 5.0, 0.0).round(3).tolist()  # 1 / (1 + exp(-4))
    [0.5, 0.982]
    """

    snr50: float
    width: float
    size_slope: float = 0.0
    dust_slope: float = 0.0
    mean_log_dust: float = 0.0
    shift: float = 0.0
    snr_factor: float = 1.0
    snr_scatter_ln: float = 0.0

    def found(self, snr: ArrayLike, theta500_arcmin: ArrayLike, log_dust: ArrayLike) -> Floats:
        """Share of clusters found that have this S/N, noise included; all broadcast together."""
        size = np.log(np.asarray(theta500_arcmin, float) / PIVOT_ARCMIN)
        logit = (np.asarray(snr, float) - self.snr50 - self.size_slope * size) / self.width
        logit = logit + self.dust_slope * (np.asarray(log_dust, float) - self.mean_log_dust) + self.shift
        return np.asarray(1 / (1 + np.exp(-np.clip(logit, -500, 500))))

    def found_of_q(self, q: ArrayLike, theta500_arcmin: ArrayLike, log_dust: ArrayLike) -> Floats:
        """Share found of clusters of true q = f Y500 / sigma, averaged over the noise."""
        q, size, dust = (np.asarray(v, float)[..., None] for v in (q, theta500_arcmin, log_dust))
        return np.asarray(self.found(q + _NODES, size, dust) @ _WEIGHTS / _WEIGHTS.sum())

    @classmethod
    def fit(cls, selection: Selection) -> DetectionModel:
        """Most likely values for the injections of a selection.

        Where each injection's own S/N in the maps is known (``snr_there``) it is used; in selections written before
        it was kept, the noise is averaged over instead.
        """
        table = selection.injections
        size, noise, flux = (
            np.asarray(table[name], float) for name in ("theta500_arcmin", "noise_arcmin2", "y500_arcmin2")
        )
        dust = log_dust(table["lon_deg"], table["lat_deg"])
        mean, found, q = float(dust.mean()), np.isfinite(np.asarray(table["p"], float)), flux / noise
        factor, scatter = 1.0, 0.0
        if "snr_there" in table.colnames:
            there = np.asarray(table["snr_there"], float)
            haloes = np.asarray(table["weight"], float) if "weight" in table.colnames else np.ones(len(table))
            factor, scatter = _compare_snr(there, q, haloes)
            snr, weights = there[:, None], np.ones(1)
            used = np.isfinite(there)
        else:
            snr, weights = q[:, None] + _NODES, _WEIGHTS / _WEIGHTS.sum()
            used = np.isfinite(q)
        snr, size, dust, found = snr[used], size[used, None], dust[used, None], found[used]

        def cost(values: Floats) -> float:
            model = cls(values[0], float(np.exp(values[1])), values[2], values[3], mean)
            share = selection.chance + (1 - selection.chance) * (model.found(snr, size, dust) @ weights)
            share = np.clip(share, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
            prior = (values[1] / 2) ** 2 + values[2] ** 2 / 8 + values[3] ** 2 / 8  # what nothing tells stays small
            return float(prior - np.where(found, np.log(share), np.log1p(-share)).sum())

        best = minimize(cost, [4.0, -0.5, 0.0, 0.0], method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-4}).x
        return cls(
            snr50=float(best[0]),
            width=float(np.exp(best[1])),
            size_slope=float(best[2]),
            dust_slope=float(best[3]),
            mean_log_dust=mean,
            shift=float(np.asarray(selection.slopes["shift"]).sum()),
            snr_factor=factor,
            snr_scatter_ln=scatter,
        )


def _compare_snr(there: Floats, q: Floats, haloes: Floats) -> tuple[float, float]:
    """Median of measured over true S/N where it is high, and its scatter in the logarithm beside the noise.

    Each injection counts as the haloes that it stands for: what lowers the S/N goes with flux and size, in whose
    logarithms clusters are injected evenly. Where few stand for nearly all of the haloes, each
    counts as one. The scatter is that of a lognormal law of the same mean square: counts above a threshold fall about
    as its power -2, so that this is what they depend on, and not how far those with a radio galaxy fall below.
    """
    bright = np.isfinite(there) & (q > _BRIGHT_SNR)
    ratio, q, weight = (np.asarray(column[bright]) for column in (there / q, q, haloes))
    if len(ratio) < _FEWEST_BRIGHT:
        return 1.0, 0.0
    if weight.sum() ** 2 < _FEWEST_BRIGHT * (weight**2).sum() or not weight.any():
        weight = np.ones(len(ratio))
    order = np.argsort(ratio)
    ratio, q, share = ratio[order], q[order], weight[order] / weight.sum()
    factor = float(np.interp(0.5, np.cumsum(share) - share / 2, ratio))
    square = float(share @ (np.clip(ratio, 0.0, _HIGHEST_RATIO) ** 2 - q**-2.0))
    return factor, math.sqrt(max(math.log(max(square, factor**2) / factor**2) / 2, 0.0))


@dataclass(frozen=True)
class Survey:
    """A survey as likelihoods of counts take it.

    Parameters
    ----------
    theta500_arcmin : (n_size,) float64
    noise_arcmin2 : (n_pix, n_size) float64
        Sigma of Y500; HEALPix RING, Galactic. NaN where nothing is seen.
    covered : (n_pix,) float64
        Share of each pixel that belongs to the survey.
    patch : (n_pix,) int64
        Number of the pixel's patch; -1 outside.
    detection : DetectionModel
    snr_min : float
        Fixed S/N from which clusters are counted.
    false_counts : (80,) float64
        Candidates that are expected to be no clusters, in bins of fixed S/N 0.25 wide from 0.
    cosmology : CosmologyParameters
        With which masses of the catalogue were made; sigma and completeness do not depend on it.
    origin : str
        Run that it comes of.

    Examples
    --------
    >>> noise, everywhere, none_false = np.full((768, 2), 3e-4), np.ones(768), np.zeros(80)
    >>> law = DetectionModel(snr50=4.0, width=0.5)
    >>> survey = Survey(np.array([2.0, 20.0]), noise, everywhere, np.zeros(768, int), law, 4.5, none_false)
    >>> round(survey.area_deg2), survey.n_patches, survey.noise(5.0, [0]).round(6).tolist()
    (41253, 1, [0.0003])
    """

    theta500_arcmin: Floats
    noise_arcmin2: Floats
    covered: Floats
    patch: NDArray[np.int64]
    detection: DetectionModel
    snr_min: float
    false_counts: Floats
    cosmology: CosmologyParameters = field(default_factory=CosmologyParameters)
    origin: str = ""

    @property
    def nside(self) -> int:
        """Resolution of the pixels."""
        return int(healpy.npix2nside(len(self.covered)))

    @property
    def n_patches(self) -> int:
        """How many patches there are."""
        return int(self.patch.max()) + 1

    @property
    def area_deg2(self) -> float:
        """Area of the survey."""
        return float(self.covered.mean() * _SKY_DEG2)

    @cached_property
    def sky_fraction(self) -> Floats:
        """Of the whole sky, by patch."""
        inside = self.patch >= 0
        return np.bincount(self.patch[inside], self.covered[inside], self.n_patches) / len(self.covered)

    @cached_property
    def patch_noise_arcmin2(self) -> Floats:
        """Sigma of Y500 by patch and size, (n_patch, n_size): geometric mean over the area."""
        return np.exp(self._mean_by_patch(np.log(self.noise_arcmin2)))

    @cached_property
    def patch_log_dust(self) -> Floats:
        """Mean ln (E(B-V) + 0.03 mag) by patch."""
        return self._mean_by_patch(mean_log_dust(self.nside)[:, None])[:, 0]

    @property
    def patch_spread(self) -> float:
        """Standard deviation of ln sigma within patches, at the sizes' mean: what patches neglect."""
        inside = self.patch >= 0
        level = np.log(self.noise_arcmin2[inside]) - np.log(self.patch_noise_arcmin2)[self.patch[inside]]
        return float(np.sqrt(np.average(level.mean(axis=1) ** 2, weights=self.covered[inside])))

    def _mean_by_patch(self, values: Floats) -> Floats:
        inside = self.patch >= 0
        weight, number = self.covered[inside], self.patch[inside]
        total = np.bincount(number, weight, self.n_patches)
        columns = [np.bincount(number, weight * column, self.n_patches) / total for column in values[inside].T]
        return np.stack(columns, axis=1)

    def noise(self, theta500_arcmin: ArrayLike, pixel: ArrayLike) -> Floats:
        """Sigma of Y500 in arcmin^2 in these pixels, straight lines in ln sigma against ln theta500."""
        return interpolate_noise(self.theta500_arcmin, self.noise_arcmin2, theta500_arcmin, pixel)

    def locate(self, lon_deg: ArrayLike, lat_deg: ArrayLike) -> NDArray[np.int64]:
        """Patch of Galactic positions; -1 outside."""
        return np.asarray(self.patch[healpy.ang2pix(self.nside, lon_deg, lat_deg, lonlat=True)])

    @property
    def false_density(self) -> tuple[Floats, Floats]:
        """False candidates per unit of S/N, normalised to 1 above ``snr_min``: S/N and density."""
        counted = np.where(FALSE_EDGES[:-1] >= self.snr_min - 1e-6, self.false_counts, 0.0)
        total = counted.sum()
        width = float(FALSE_EDGES[1])
        centres = FALSE_EDGES[:-1] + width / 2
        return centres, counted / (total * width) if total > 0 else np.zeros(centres.size)

    @property
    def n_false(self) -> float:
        """False candidates expected above ``snr_min``."""
        return float(self.false_counts[FALSE_EDGES[:-1] >= self.snr_min - 1e-6].sum())

    def completeness(self) -> tuple[Floats, Floats, Floats]:
        """:data:`SNR_GRID`, and the share found there by (patch, size, S/N) and by (patch, size, true q)."""
        grid = np.array(SNR_GRID)
        where = (grid, self.theta500_arcmin[:, None], self.patch_log_dust[:, None, None])
        return grid, self.detection.found(*where), self.detection.found_of_q(*np.broadcast_arrays(*where))

    def tables(self) -> dict[str, Table]:
        """All of it as tables, by name: what files of any format hold."""
        grid, of_snr, of_q = self.completeness()
        meta = {
            "ORIGIN": self.origin, "SNR_MIN": self.snr_min, "NSIDE": self.nside,
            "ORDERING": "RING", "COORDSYS": "G", "N_FALSE": self.n_false,
            "DETECT": json.dumps(asdict(self.detection)), "COSMO": json.dumps(asdict(self.cosmology)),
        }  # fmt: skip
        patches = {
            "SKYFRAC": self.sky_fraction, "NOISE_Y500": self.patch_noise_arcmin2, "LOG_DUST": self.patch_log_dust,
            "FOUND_OF_SNR": of_snr, "FOUND_OF_Q": of_q,
        }  # fmt: skip
        pixels = {"PATCH": self.patch, "COVERED": self.covered, "NOISE_Y500": self.noise_arcmin2}
        return {
            "PATCHES": Table(patches, meta=meta),
            "SIZES": Table({"THETA500": self.theta500_arcmin}),
            "SNR": Table({"SNR": grid}),
            "FALSE": Table({"SNR_LOW": FALSE_EDGES[:-1], "N_FALSE": self.false_counts}),
            "PIXELS": Table(pixels),
        }

    @classmethod
    def from_tables(cls, tables: Mapping[str, Table], meta: Mapping[str, str | float]) -> Survey:
        """Inverse of :meth:`tables`; ``meta`` is that of PATCHES."""
        pixels = tables["PIXELS"]
        return cls(
            theta500_arcmin=np.array(tables["SIZES"]["THETA500"], float),
            noise_arcmin2=np.array(pixels["NOISE_Y500"], float),
            covered=np.array(pixels["COVERED"], float),
            patch=np.array(pixels["PATCH"], np.int64),
            detection=DetectionModel(**json.loads(str(meta["DETECT"]))),
            snr_min=float(meta["SNR_MIN"]),
            false_counts=np.array(tables["FALSE"]["N_FALSE"], float),
            cosmology=CosmologyParameters(**json.loads(str(meta["COSMO"]))),
            origin=str(meta["ORIGIN"]),
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write a FITS file with a table per extension, whole or not at all."""
        hdus: list[fits.PrimaryHDU | fits.BinTableHDU] = [fits.PrimaryHDU()]
        for name, table in self.tables().items():
            hdu = fits.table_to_hdu(Table({column: table[column] for column in table.colnames}))
            hdu.name = name
            hdu.header.update(table.meta)
            hdus.append(hdu)
        with whole_file(Path(path)) as staging:
            fits.HDUList(hdus).writeto(staging, overwrite=True)
        return Path(path)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Survey:
        """Inverse of :meth:`write`.

        Raises
        ------
        ValueError
            If it is another file.
        """
        with fits.open(path) as hdus:
            if "PATCHES" not in hdus or "PIXELS" not in hdus:
                names = ", ".join(hdu.name for hdu in hdus)
                raise ValueError(f"'{path}' has {names}, expected a survey of `szeek export` with PATCHES and PIXELS")
            tables = {name: Table(hdus[name].data) for name in ("PIXELS", "SIZES", "FALSE")}
            return cls.from_tables(tables, hdus["PATCHES"].header)


def interpolate_noise(sizes: Floats, noise: Floats, theta500_arcmin: ArrayLike, row: ArrayLike) -> Floats:
    """Sigma at sizes and rows of a table, straight lines in the logarithms; beyond the table as at its ends."""
    size, number = np.broadcast_arrays(np.asarray(theta500_arcmin, float), np.asarray(row, int))
    at = np.interp(np.log(size), np.log(sizes), np.arange(sizes.size))
    below = np.minimum(at.astype(int), sizes.size - 2)
    log_noise, share = np.log(noise), at - below
    return np.asarray(np.exp((1 - share) * log_noise[number, below] + share * log_noise[number, below + 1]))


def group_pixels(noise_arcmin2: Floats, covered: Floats, n_patches: int) -> NDArray[np.int64]:
    """Number of each pixel's patch: patches of like noise and equal area, the least noise first; -1 outside."""
    inside = np.flatnonzero(covered > 0)
    level = np.log(noise_arcmin2[inside]).mean(axis=1)
    order = np.argsort(level, kind="stable")
    before = np.cumsum(covered[inside][order]) - covered[inside][order] / 2
    number = np.minimum((before / covered[inside].sum() * n_patches).astype(int), n_patches - 1)
    patch = np.full(len(covered), -1, np.int64)
    patch[inside[order]] = np.unique(number, return_inverse=True)[1]
    return patch


def make_survey(
    selection: Selection,
    footprint: NDArray[np.bool_],
    candidates: Table,
    *,
    snr_min: float = 4.5,
    n_patches: int = 20,
    origin: str = "",
) -> Survey:
    """A survey from what was measured of a run.

    Parameters
    ----------
    selection : Selection
    footprint : (12 nside^2,) bool
        Sky of the survey, RING, Galactic, at least as fine as the selection's noise.
    candidates : Table
        ``SNR``, ``PURITY``, ``GLON`` and ``GLAT``; those inside tell how many are false.
    snr_min : float
        Fixed S/N from which clusters are counted.
    n_patches : int
        Of like noise and equal area; at most one per pixel of the noise.
    origin : str
        Name of the run.

    Raises
    ------
    ValueError
        If no sky is left, or nothing is found at ``snr_min``.

    Examples
    --------
    >>> flux = np.geomspace(1e-4, 1e-2, 200)
    >>> injections = Table({"lon_deg": np.arange(200.0), "lat_deg": [50.0] * 200, "y500_arcmin2": flux})
    >>> injections["theta500_arcmin"], injections["noise_arcmin2"] = 5.0, 3e-4
    >>> injections["p"] = np.where(flux > 1e-3, 0.9, np.nan)  # found above 1e-3 arcmin^2, a true S/N of 3.3
    >>> selection = Selection(injections, np.array([1.0, 32.0]), np.full((768, 2), 3e-4), p_max=0.1)
    >>> candidates = Table({"SNR": [6.0], "PURITY": [0.8], "GLON": [10.0], "GLAT": [40.0]})
    >>> survey = make_survey(selection, np.ones(12 * 64**2, bool), candidates, n_patches=4)
    >>> survey.n_patches, round(survey.n_false, 2), bool(3 < survey.detection.snr50 < 4)
    (4, 0.2, True)
    """
    noise = selection.noise_arcmin2
    known = np.isfinite(noise).all(axis=1)
    nside = healpy.npix2nside(len(noise))
    covered = np.where(known, healpy.ud_grade(footprint.astype(float), nside), 0.0)
    if not covered.any():
        raise ValueError("no sky of the footprint has a measured selection; give another footprint or tile")
    if n_patches < 1:
        raise ValueError(f"n_patches is {n_patches}, expected at least 1")
    detection = DetectionModel.fit(selection)
    at_cut = float(detection.found(snr_min, PIVOT_ARCMIN, detection.mean_log_dust))
    if at_cut < 0.1:
        raise ValueError(
            f"snr_min is {snr_min:g}, where {at_cut:.0%} of clusters are found; expected at least "
            f"{detection.snr50:.1f}, where half are"
        )
    patch = group_pixels(noise, covered, n_patches)
    snr, purity = (np.ma.filled(np.asarray(candidates[name], float), np.nan) for name in ("SNR", "PURITY"))
    snr = fixed_snr(snr)
    inside = patch[healpy.ang2pix(nside, candidates["GLON"], candidates["GLAT"], lonlat=True)] >= 0
    counted = np.isfinite(snr) & np.isfinite(purity) & inside
    false_counts = np.histogram(snr[counted], FALSE_EDGES, weights=1 - purity[counted])[0]
    return Survey(
        theta500_arcmin=selection.theta500_arcmin,
        noise_arcmin2=noise,
        covered=covered,
        patch=patch,
        detection=detection,
        snr_min=snr_min,
        false_counts=false_counts,
        origin=origin,
    )
