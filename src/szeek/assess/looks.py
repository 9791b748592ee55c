r"""How the clusters of the maps at hand look: the dust in them, fitted to those that are known.

    v_i = M_i (Y_i t + X_i dt_i + R_i r) + delta M'_i d_i        for each known cluster i, in every band at once

v is what the matched filter sees in each band at a cluster's position and size, M and M' what it sees of a source of
unit flux, of the gas and of the galaxies (:mod:`szeek.measure.photometry`). t is the tSZ spectrum without and dt_i
the change with relativistic electrons of the mean temperature of its mass, d_i the mean dust of its member galaxies.
Fluxes Y_i and R_i and the size X_i of the relativistic change are free for each cluster, so that neither the
catalogue's fluxes, nor its selection by flux, nor temperatures matter; delta, in units of what is published, is
common to all. Where clusters are few or faint the published value, with a wide error, decides.

Temperatures are taken as published: 1,500 known clusters of a full sky tell their mean to 150 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.filter.layout import field_nside, list_fields
from szeek.filter.parts import assign_directions, open_parts
from szeek.filter.states import FieldState
from szeek.parallel import Progress, spread
from szeek.physics.gas import profile_transform
from szeek.physics.instrument import Instrument
from szeek.physics.looks import ClusterLook
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev, y500_from_mass
from szeek.physics.spectra import spectral_templates
from szeek.physics.tsz import band_response
from szeek.simulate.components.sources import cluster_dust_jy
from szeek.sky.healpix import unit_vectors
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client

Floats = NDArray[np.float64]

#: What is taken to be known without any cluster: the published means, and how far off they may be, which is a
#: judgement. Dust: subsamples of Planck Intermediate Results XLIII differ by a factor of two. Temperature: X-ray
#: calibrations differ by 15 %, and what a beam weighs by pressure is not what X-rays weigh by density squared. Radio:
#: few are known at these frequencies. Profile, the share of cool-core less that of disturbed clusters: by four
#: measures 44 to 64 % of X-ray selected clusters have cool cores, but 28 to 39 % of those that Planck found
#: (Andrade-Santos et al. 2017, ApJ 843, 76).
PRIOR = {"dust": (1.0, 0.5), "temperature": (1.0, 0.4), "radio": (1.0, 0.5), "profile": (0.0, 0.5)}
#: Fluxes and sizes between which known clusters are used, arcmin^2 and arcmin: beyond, they are too faint to tell
#: anything, or larger than the filter's local background.
_LEAST_Y500_ARCMIN2, _LARGEST_THETA500_ARCMIN = 5e-4, 25.0
_FEWEST, _FEWEST_BANDS, _N_BOOTSTRAP = 20, 3, 200
#: Borders of the bins of flux and size in which spectra are stacked.
_STACKED_Y5R500_ARCMIN2, _STACKED_THETA500_ARCMIN = (0.0, 2e-3, np.inf), (0.0, 6.0, np.inf)
_LEAST_FLUX_ARCMIN2, _SURE = 1e-5, 0.2
#: Share by which dust may come out wrong: on simulated skies beams that are 5 to 10 % narrower in the bands that see
#: it raise it by 0.15, those of catalogued positions and masses lower it by as much.
_SYSTEMATIC = 0.1
_MOST_DUST = 10.0
#: Looks are varied about no smaller mean than this, or nothing would be told of them.
_LEAST_MEAN = 0.25
_ARCMIN = np.pi / 10800
_FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))


@dataclass(frozen=True)
class LookFit:
    """Dust, temperature, radio galaxies (times what is published) and profile of clusters, with their errors.

    Parameters
    ----------
    mean, error : dict of str to float
        Of 'dust', from the known clusters and the published value together; of 'temperature', 'radio' and 'profile'
        (share of cool-core less that of disturbed clusters), as published: too few clusters are bright enough, hold a
        bright radio galaxy or are resolved.
    n_clusters : int
        Known clusters that it was fitted to; 0 where there were too few.
    from_clusters : dict of str to (float, float)
        'dust' and its error from the clusters alone; empty where there were too few.
    """

    mean: dict[str, float]
    error: dict[str, float]
    n_clusters: int
    from_clusters: dict[str, tuple[float, float]]

    def to_table(self) -> Table:
        """A row for each: ``name``, ``mean``, ``error``, and those from the clusters alone."""
        names = list(self.mean)
        alone = [self.from_clusters.get(name, (np.nan, np.nan)) for name in names]
        return Table(
            {
                "name": names,
                "mean": [self.mean[name] for name in names],
                "error": [self.error[name] for name in names],
                "clusters_mean": [value for value, _ in alone],
                "clusters_error": [error for _, error in alone],
            },
            meta={"N_KNOWN": self.n_clusters},
        )

    @property
    def varied(self) -> ClusterLook:
        """Clusters of that look on average, each another one, so that what looks change can be measured."""
        dust, temperature, radio = (max(self.mean[name], _LEAST_MEAN) for name in ("dust", "temperature", "radio"))
        return ClusterLook(dust=dust, temperature=temperature, radio=radio, vary=True)


def published_look() -> LookFit:
    """What is known without any cluster."""
    return LookFit(
        {name: mean for name, (mean, _) in PRIOR.items()}, {name: err for name, (_, err) in PRIOR.items()}, 0, {}
    )


class LookSums(NamedTuple):
    """What one cluster adds to the normal equation of the dust, and the dust that it was painted with.

    Parameters
    ----------
    normal, right : float
        delta is the sum of ``right`` over that of ``normal``.
    painted : float
        NaN for a cluster that was not.
    spectrum, spectrum_err : (n_band,) float64
        Flux in each band over the size of that of the non-relativistic tSZ effect of the cluster's flux.
    y5r500_arcmin2, theta500_arcmin : float
        Flux, as all bands together have it, and the size that it was measured at.
    """

    normal: float
    right: float
    painted: float
    spectrum: Floats
    spectrum_err: Floats
    y5r500_arcmin2: float
    theta500_arcmin: float


def sum_looks(
    maps: SkyMaps | MapSet,
    clusters: Table,
    instrument: Instrument,
    filtered: Mapping[int, FieldState],
    *,
    injected: bool = False,
    threads: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> list[LookSums]:
    """Look at known or injected clusters in the maps they are in.

    Parameters
    ----------
    maps : SkyMaps or MapSet
    clusters : Table
        ``lon_deg``, ``lat_deg``, ``z``, ``m500_1e14msun`` (X-ray calibrated, or true of survey 'TRUTH'),
        ``theta500_arcmin``; rows where one of them is not known are left out, as are faint ones by ``y500_arcmin2``
        or, where that is not known, by mass, and of a cluster that is listed twice the second.
    instrument : Instrument
    filtered : mapping of int to FieldState
        What the filter has learnt of the fields of these maps; clusters elsewhere are left out.
    injected : bool
        The clusters were injected into these maps, and ``filtered`` is what was learnt of them before.
    threads, client, progress
        As for :func:`szeek.measure.photometry.measure_sources`.
    """
    known = _usable(clusters)
    vectors = unit_vectors(np.asarray(known["lon_deg"], float), np.asarray(known["lat_deg"], float)).reshape(-1, 3)
    pixel = np.asarray(healpy.vec2pix(field_nside(maps), *vectors.T), int)
    fields = list_fields(maps)
    fields = fields[np.isin(fields["pixel"], pixel) & np.isin(fields["pixel"], list(filtered))]
    spots = []
    for row in fields:
        state = filtered[int(row["pixel"])]
        place = int(row["pixel"]), float(row["lon_deg"]), float(row["lat_deg"])
        spots.append(_Spots(place, state, injected, known[pixel == row["pixel"]]))
    work = spread(
        _sum_field, spots, maps, instrument, client=client, threads=threads,
        progress=progress, stage="look", detail="fields",
    )  # fmt: skip
    by_field = dict(work)
    return [part for number in sorted(by_field) for part in by_field[number]]


class _Spots(NamedTuple):
    """Clusters in a field, and what is known of it."""

    place: tuple[int, float, float]
    state: FieldState
    injected: bool
    clusters: Table


def _usable(clusters: Table) -> Table:
    columns = ("lon_deg", "lat_deg", "z", "m500_1e14msun", "theta500_arcmin")
    values = {name: np.asarray(clusters[name], float) for name in columns}
    survey = np.asarray(clusters["survey"], str)
    values["m500_1e14msun"] = values["m500_1e14msun"] * np.where(survey == "TRUTH", MASS_BIAS, 1.0)
    good = np.all([value > 0 for name, value in values.items() if name != "lat_deg"], axis=0)
    good &= np.isfinite(values["lat_deg"]) & (values["theta500_arcmin"] < _LARGEST_THETA500_ARCMIN)
    painted = "dust_factor" in clusters.colnames
    values["painted"] = np.asarray(clusters["dust_factor"], float) if painted else np.full(len(clusters), np.nan)
    table, flux = Table(values)[good], np.asarray(clusters["y500_arcmin2"], float)[good]
    by_mass = y500_from_mass(np.asarray(table["m500_1e14msun"]), np.asarray(table["z"]), mass_bias=1.0)
    table = table[np.where(np.isfinite(flux), flux, by_mass) > _LEAST_Y500_ARCMIN2]
    fine = healpy.ang2pix(1024, table["lon_deg"], table["lat_deg"], lonlat=True)
    _, first = np.unique(fine, return_index=True)
    return table[np.sort(first)]


def _sum_field(spots: _Spots, maps: SkyMaps | MapSet, instrument: Instrument) -> list[LookSums]:
    """What each cluster of a field adds that is seen in all bands."""
    table = spots.clusters
    vectors = unit_vectors(np.asarray(table["lon_deg"]), np.asarray(table["lat_deg"])).reshape(-1, 3)
    known, noise = (None, spots.state) if spots.injected else (spots.state, None)
    parts = open_parts(maps, spots.place, instrument, keep=vectors, known=known, noise=noise)
    field = parts[0]
    if len(field.columns) < maps.n_band or maps.n_band < _FEWEST_BANDS:
        return []
    seen = (assign_directions(parts, vectors) == 0) & field.is_valid(vectors)
    sums = field.ring_sums(vectors)
    theta = np.asarray(table["theta500_arcmin"])
    gas = profile_transform(field.ell * (theta[:, None] * _ARCMIN))
    galaxies = np.exp(-0.5 * (field.ell * (theta[:, None] * _ARCMIN / _FWHM_PER_SIGMA)) ** 2)
    unit = field.unit / _ARCMIN**2
    own = field.information(gas) / np.outer(unit, unit)
    cross = field.information(gas, galaxies) / np.outer(unit, unit)
    columns = [instrument.band_names.index(band.name) for band in maps.bands]
    still = band_response(instrument)[columns]
    kelvin = electron_temperature_kev(np.asarray(table["m500_1e14msun"]), np.asarray(table["z"]))
    moving = band_response(instrument, kelvin)[:, columns] - still
    per_jy = 1e-6 * (instrument.unit_per_kcmb / instrument.mjysr_per_kcmb)[columns] / _ARCMIN**2
    # the dust's mean belongs to true masses
    mass = np.asarray(table["m500_1e14msun"]) / MASS_BIAS
    dust = cluster_dust_jy(mass, np.asarray(table["z"]), instrument)[:, columns] * per_jy
    radio = spectral_templates(instrument, ["radio"])[0][columns]
    stacked = []
    for k in np.flatnonzero(seen):
        area = float(vectors[k] @ field.basis[0]) ** 3
        v, m, across = gas[k] @ sums[k] / unit / area, own[k] / area**2, cross[k] / area**2
        normal, right, flux = _add_cluster(v, m, across @ dust[k], (still, moving[k], radio))
        scale = np.sqrt(np.diag(m))
        covariance = np.linalg.inv(m / np.outer(scale, scale)) / np.outer(scale, scale)
        unit_flux = max(flux, _LEAST_FLUX_ARCMIN2) * np.abs(still)
        stacked.append(
            LookSums(
                normal,
                right,
                float(table["painted"][k]),
                covariance @ v / unit_flux,
                np.sqrt(np.diag(covariance)) / unit_flux,
                flux,
                float(theta[k]),
            )
        )
    return stacked


def _add_cluster(
    v: Floats, m: Floats, dust: Floats, spectra: tuple[Floats, Floats, Floats]
) -> tuple[float, float, float]:
    """Normal equation of the dust with all spectra projected out; and the flux at the published temperature."""
    scale = np.sqrt(np.diag(m))
    root = np.linalg.cholesky(m / np.outer(scale, scale))

    def whiten(x: Floats) -> Floats:
        return np.asarray(np.linalg.solve(root, x / scale))

    still, moving, radio = (whiten(m @ spectrum) for spectrum in spectra)
    data, dusty = whiten(v), whiten(dust)
    flux = float(np.linalg.lstsq(np.stack([still + moving, radio, dusty], axis=1), data, rcond=None)[0][0])
    # three bands tell dust from gas of one temperature and radio
    other = [still, moving, radio] if len(v) > _FEWEST_BANDS else [still + moving, radio]
    basis = np.linalg.qr(np.stack(other, axis=1))[0]
    apart = dusty - basis @ (basis.T @ dusty)
    return float(apart @ apart), float(apart @ data), max(flux, 0.0)


def fit_look(known: Sequence[LookSums], injected: Sequence[LookSums] = ()) -> LookFit:
    """Dust of known clusters, with what is published where they tell little.

    Parameters
    ----------
    known : sequence of LookSums
        Of the clusters of the maps.
    injected : sequence of LookSums, optional
        Of injected ones, whose dust is known. By how much it comes out wrong, because pixels and profiles are not
        quite those of the filter, the known ones are corrected.

    Returns
    -------
    LookFit
        The published one where there are fewer than 20 clusters.
    """
    published = published_look()
    if len(known) < _FEWEST:
        return published
    value, variance = _solve(known, "right")
    if len(injected) >= _FEWEST:
        seen, seen_variance = _solve(injected, "right")
        painted, _ = _solve(injected, "painted")
        value, variance = value - (seen - painted), variance + seen_variance
    variance += (_SYSTEMATIC * value) ** 2
    prior, prior_error = PRIOR["dust"]
    prior_error *= max(1.0, value)  # of a factor of two: dust that is three times as strong is not pulled back to one
    weight, prior_weight = 1 / variance, prior_error**-2
    best = (weight * value + prior_weight * prior) / (weight + prior_weight)
    mean = published.mean | {"dust": float(np.clip(best, 0.0, _MOST_DUST))}
    error = published.error | {"dust": (weight + prior_weight) ** -0.5}
    return LookFit(mean, error, len(known), {"dust": (value, variance**0.5)})


def _solve(parts: Sequence[LookSums], what: Literal["right", "painted"]) -> tuple[float, float]:
    """Dust that fits all clusters, or was painted, and its variance from drawing others."""
    normal = np.array([part.normal for part in parts])
    right = np.array([part.right if what == "right" else part.normal * part.painted for part in parts])
    drawn = np.random.default_rng(len(parts)).integers(0, len(parts), (_N_BOOTSTRAP, len(parts)))
    values = right[drawn].sum(axis=1) / normal[drawn].sum(axis=1)
    return float(right.sum() / normal.sum()), float(values.var(ddof=1))


def stack_spectra(parts: Sequence[LookSums], bands: Sequence[str]) -> Table:
    """Median spectra of clusters in two bins of flux by two of size, to hold known clusters against injected ones.

    Parameters
    ----------
    parts : sequence of LookSums
    bands : sequence of str
        Their names, for the table's header.

    Returns
    -------
    Table
        ``y5r500_low``, ``y5r500_high`` (arcmin^2), ``theta500_low``, ``theta500_high`` (arcmin), ``n``,
        ``spectrum`` and ``spectrum_err`` (n_band,): medians of :class:`LookSums` over the clusters of S/N 5 or more
        in one band, and their errors from the median deviation; NaN where there is none.
    """
    flux, size = (np.array([getattr(part, name) for part in parts]) for name in ("y5r500_arcmin2", "theta500_arcmin"))
    # of fainter ones the flux, over which spectra are taken, is not known well enough
    sure = np.array([part.spectrum_err.min() < _SURE for part in parts], bool)
    rows = []
    for y_low, y_high in pairwise(_STACKED_Y5R500_ARCMIN2):
        for t_low, t_high in pairwise(_STACKED_THETA500_ARCMIN):
            inside = sure & (flux > y_low) & (flux < y_high) & (size >= t_low) & (size < t_high)
            mine = [part for part, used in zip(parts, inside, strict=True) if used]
            mean, error = np.full(len(bands), np.nan), np.full(len(bands), np.nan)
            if len(mine) > 1:
                values = np.array([part.spectrum for part in mine])
                mean = np.median(values, axis=0)  # a few hold a bright radio source
                error = 1.25 * 1.4826 * np.median(np.abs(values - mean), axis=0) / np.sqrt(len(mine))
            rows.append((y_low, y_high, t_low, t_high, len(mine), mean, error))
    names = ("y5r500_low", "y5r500_high", "theta500_low", "theta500_high", "n", "spectrum", "spectrum_err")
    return Table(rows=rows, names=names, meta={"BANDS": ",".join(bands)})
