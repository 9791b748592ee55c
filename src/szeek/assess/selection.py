r"""Completeness by injection: clusters painted into the maps and looked for with the very network and detection used.

    q = Y500 / sigma(theta500, position),     logit C(Y500, theta500, position) = logit C_theta(q) + b ln E(B-V) + ...

sigma is the error of the matched filter's flux in the field around the position: it carries how noise, dust and beams
vary over the sky, and what is left, C_theta(q), is counted from the injections. Not the filter decides what is
found, but the network; q only says which injections are alike. What q does not know - dust that is not Gaussian, and
how clusters look - is a logistic regression beside it.

Source: the selection function of PSZ2 in this form, Planck 2015 results XXVII (A&A 594, A27), Sect. 3.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from szeek.assess.match import match, shift_directions
from szeek.assess.recovery import wilson_interval
from szeek.files import whole_file
from szeek.filter.layout import field_nside, list_fields
from szeek.filter.parts import open_parts, share_pixels
from szeek.filter.states import FieldState
from szeek.inputs.reddening import reddening_mag
from szeek.measure.pairs import direction_table, list_pairs, table_vectors, truth_radius
from szeek.parallel import Progress, spread
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.instrument import Instrument
from szeek.physics.scaling import MASS_BIAS, theta500_from_mass, y500_from_mass
from szeek.sky.healpix import nside_of
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client

Floats = NDArray[np.float64]

#: Sizes at which the noise is kept; between them it is interpolated.
NOISE_THETA500_ARCMIN = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_N_THETA, _PER_BIN, _FEWEST = 4, 40, 20
#: Fewest sources in a bin of p from which position errors are read, and most bins.
_PER_POSITION_BIN, _MOST_POSITION_BINS = 100, 20
#: Columns of the injections in which looks are varied, by their names in :class:`szeek.assess.looks.LookFit`;
#: profile_balance is 1 for a cool-core, -1 for a disturbed cluster.
VARIED = {
    "dust": "dust_factor",
    "temperature": "temperature_factor",
    "radio": "radio_factor",
    "profile": "profile_balance",
}
_LEAST_REDDENING_MAG = 0.03
_CLIP = 1e-6  # of p: between knots errors are straight lines in the logit of p, which saturates


class Completeness(NamedTuple):
    """Completeness, each float64 of the query's shape; NaN where nothing is seen.

    ``low`` and ``high`` bound the 68.3 % interval that the number of injections leaves; ``systematic`` is the error
    from what is not known of how clusters look (:mod:`szeek.assess.looks`), 0 where that was not varied.
    """

    value: Floats
    low: Floats
    high: Floats
    systematic: Floats


@dataclass(frozen=True)
class Selection:
    """What is known of what is found.

    Parameters
    ----------
    injections : Table
        ``lon_deg``, ``lat_deg``, ``y500_arcmin2``, ``theta500_arcmin``, ``noise_arcmin2`` (sigma of Y500 there),
        ``p`` of the source that was found (NaN: none), ``offset_arcmin``, and ``before``: whether a source was there
        without it; ``snr_there``, the S/N in the maps at its own place and size, and ``weight``, the haloes of the
        mass function that it stands for, where these were measured; with :data:`VARIED` where looks were varied.
    theta500_arcmin : (n_size,) float64
    noise_arcmin2 : (12 nside^2, n_size) float64
        Sigma of Y500 for each size in the HEALPix pixels of nside 8, RING, Galactic; NaN where nothing is seen.
    p_max : float
        Threshold of the detection.
    chance : float
        Fraction of the injected positions that had a source before; taken out of the completeness.
    look : Table, optional
        What is known of the looks that were varied (:meth:`szeek.assess.looks.LookFit.to_table`).

    Examples
    --------
    >>> flux = np.geomspace(1e-4, 1e-2, 200)
    >>> injections = Table({"lon_deg": np.arange(200.0), "lat_deg": [50.0] * 200, "y500_arcmin2": flux})
    >>> injections["theta500_arcmin"], injections["noise_arcmin2"] = 5.0, 3e-4
    >>> injections["p"] = np.where(flux > 1e-3, 0.9, np.nan)  # found above 1e-3 arcmin^2
    >>> selection = Selection(injections, np.array([1.0, 32.0]), np.full((768, 2), 3e-4), p_max=0.1)
    >>> selection.completeness([2e-4, 5e-3], 5.0, 120.0, 45.0).value.round(2).tolist()
    [0.0, 1.0]
    """

    injections: Table
    theta500_arcmin: Floats
    noise_arcmin2: Floats
    p_max: float
    chance: float = 0.0
    look: Table | None = None

    @cached_property
    def slopes(self) -> Table:
        """What each look changes in the logit of completeness: ``slope``, ``slope_err``, ``shift`` and ``error``.

        A logistic regression of what was found on the looks, and on the reddening, beside flux, size and noise.
        ``shift`` is what the mean of the injections' looks, being another than that of ``look``, makes of it, and
        ``error`` what the error of that mean leaves. The last row is that of the reddening, whose shift and error
        belong to a place.
        """
        names = [] if self.look is None else [str(name) for name in self.look["name"]]
        table = self.injections
        looks = [np.asarray(table[VARIED[name]], float) for name in names]
        x = np.stack([*looks, log_dust(table["lon_deg"], table["lat_deg"])], axis=1)
        expected = self._at_noise(*(table[n] for n in ("y500_arcmin2", "theta500_arcmin", "noise_arcmin2")))[0]
        mean = x.mean(axis=0)
        slope, covariance = _fit_logistic(x - mean, np.isfinite(np.asarray(table["p"], float)), expected)
        slope_err = np.sqrt(np.diag(covariance))
        wanted, uncertain = (
            np.append([] if self.look is None else np.asarray(self.look[name], float), extra)
            for name, extra in (("mean", mean[-1]), ("error", 0.0))
        )
        columns = {
            "name": [*names, "reddening"],
            "slope": slope,
            "slope_err": slope_err,
            "shift": slope * (wanted - mean),
            "error": np.hypot(slope, slope_err) * uncertain,
        }
        return Table(columns, meta={"mean_log_reddening": float(mean[-1])})

    @cached_property
    def _curves(self) -> list[tuple[float, Floats, Floats, Floats, Floats]]:
        """For each range of sizes: mean ln theta500, then ln q, completeness and its interval at the knots."""
        table = self.injections
        size = np.log(np.asarray(table["theta500_arcmin"], float))
        log_q = np.log(np.asarray(table["y500_arcmin2"], float) / np.asarray(table["noise_arcmin2"], float))
        found = np.isfinite(np.asarray(table["p"], float))
        curves = []
        # equal counts, and fewer ranges of size rather than of flux where there are few injections
        n_theta = int(np.clip(len(size) // (4 * _PER_BIN), 1, _N_THETA))
        for mine in np.array_split(np.argsort(size, kind="stable"), n_theta):
            order = mine[np.argsort(log_q[mine])]
            parts = np.array_split(order, max(round(len(order) / _PER_BIN), min(4, len(order) // 10), 1))
            n = np.array([len(part) for part in parts])
            n_found = np.array([int(found[part].sum()) for part in parts])
            knots = np.array([log_q[part].mean() for part in parts])
            rising = isotonic_regression(self._true(n_found / n), weights=n).x
            low, high = (self._true(np.asarray(end)) for end in wilson_interval(n_found, n))
            low, high = np.minimum(low, rising), np.maximum(high, rising)
            curves.append((float(size[mine].mean()), knots, rising, low, high))
        return curves

    def _true(self, fraction: Floats) -> Floats:
        return np.asarray(np.clip((fraction - self.chance) / (1 - self.chance), 0.0, 1.0))

    def noise(self, theta500_arcmin: ArrayLike, ipix: ArrayLike) -> Floats:
        """Sigma of Y500 in arcmin^2 at sizes and pixels of nside 8, broadcast together."""
        size, pixel = np.broadcast_arrays(np.asarray(theta500_arcmin, float), np.asarray(ipix, int))
        grid = np.log(self.theta500_arcmin)
        at = np.interp(np.log(size), grid, np.arange(grid.size))
        below = np.minimum(at.astype(int), grid.size - 2)
        share = at - below
        log_noise = np.log(self.noise_arcmin2)
        return np.asarray(np.exp((1 - share) * log_noise[pixel, below] + share * log_noise[pixel, below + 1]))

    def completeness(
        self, y500_arcmin2: ArrayLike, theta500_arcmin: ArrayLike, lon_deg: ArrayLike, lat_deg: ArrayLike
    ) -> Completeness:
        """Fraction of clusters of this flux and size that are found at these positions.

        Parameters
        ----------
        y500_arcmin2, theta500_arcmin : float array
            Positive; beyond what was injected the value at the nearest flux or size is taken.
        lon_deg, lat_deg : float array
            Galactic. All four are broadcast together.

        Returns
        -------
        Completeness
        """
        lon, lat = np.asarray(lon_deg, float), np.asarray(lat_deg, float)
        pixel = healpy.ang2pix(nside_of(self.noise_arcmin2), lon, lat, lonlat=True)
        return self._at(y500_arcmin2, theta500_arcmin, pixel, log_dust(lon_deg, lat_deg))

    def _at(
        self,
        y500_arcmin2: ArrayLike,
        theta500_arcmin: ArrayLike,
        pixel: ArrayLike,
        log_reddening: ArrayLike | None = None,
    ) -> Completeness:
        """Completeness in pixels of nside 8, at their mean reddening where none is given."""
        if log_reddening is None:
            log_reddening = mean_log_dust(nside_of(self.noise_arcmin2))[np.asarray(pixel, int)]
        flux, size, at, dust = np.broadcast_arrays(
            *(np.asarray(part, float) for part in (y500_arcmin2, theta500_arcmin)),
            np.asarray(pixel, int),
            np.asarray(log_reddening, float),
        )
        if not (np.all(flux > 0) and np.all(size > 0)):
            raise ValueError("y500_arcmin2 and theta500_arcmin must be positive everywhere")
        value, low, high = self._at_noise(flux, size, self.noise(size, at))
        slopes = self.slopes
        away = dust - slopes.meta["mean_log_reddening"]
        shift = float(slopes["shift"].sum()) + slopes["slope"][-1] * away
        value, low, high = (_shift_logit(part, shift) for part in (value, low, high))
        error = np.hypot(self.look_error, slopes["slope_err"][-1] * away)
        return Completeness(value, low, high, value * (1 - value) * error)

    @property
    def look_error(self) -> float:
        """Error of the logit of completeness from what is not known of how clusters look."""
        return float(np.sqrt((np.asarray(self.slopes["error"]) ** 2).sum()))

    def _at_noise(self, y500_arcmin2: ArrayLike, theta500_arcmin: ArrayLike, noise: ArrayLike) -> tuple[Floats, ...]:
        """Completeness and its statistical interval, of clusters that look as those injected."""
        size = np.asarray(theta500_arcmin, float)
        log_q = np.log(np.asarray(y500_arcmin2, float) / np.asarray(noise, float))
        centres = np.array([curve[0] for curve in self._curves])
        place = np.interp(np.log(size), centres, np.arange(centres.size))
        below = np.clip(place.astype(int), 0, max(centres.size - 2, 0))
        share = place - below
        columns = []
        for column in (2, 3, 4):
            of_size = np.stack([np.interp(log_q, curve[1], curve[column]) for curve in self._curves])
            here = np.take_along_axis(of_size, below[None], axis=0)[0]
            above = np.take_along_axis(of_size, np.minimum(below + 1, centres.size - 1)[None], axis=0)[0]
            columns.append(np.where(np.isnan(log_q), np.nan, (1 - share) * here + share * above))
        return tuple(columns)

    def completeness_cube(self, y500_arcmin2: ArrayLike, theta500_arcmin: ArrayLike) -> Completeness:
        """Completeness of every pixel of the noise, (12 nside^2, n_theta, n_y) each."""
        flux, size = np.asarray(y500_arcmin2, float), np.asarray(theta500_arcmin, float)
        return self._at(flux[None, None, :], size[None, :, None], np.arange(len(self.noise_arcmin2))[:, None, None])

    def completeness_of_mass(self, m500_1e14msun: ArrayLike, z: ArrayLike, mass_bias: float = MASS_BIAS) -> Floats:
        """Completeness of mass and redshift, mean over the seen sky, for the mean relations of Planck.

        Source: Planck 2013 results XX (A&A 571, A20), eqs. 7 and 9, as :mod:`szeek.physics.gas` has them. The
        relation's scatter of 17 % is not averaged over.

        Parameters
        ----------
        m500_1e14msun, z : float array
            True M500c and redshift, broadcast together.
        mass_bias : float
            (1-b).
        """
        mass, redshift = np.broadcast_arrays(np.asarray(m500_1e14msun, float), np.asarray(z, float))
        flux, size = (f(mass, redshift, mass_bias)[..., None] for f in (y500_from_mass, theta500_from_mass))
        return np.asarray(self._at(flux, size, self._seen).value.mean(axis=-1))

    def area_deg2(self, y500_arcmin2: float, theta500_arcmin: float, at_least: float = 0.5) -> float:
        """Area in which a cluster of this flux and size is found with at least this probability."""
        value = self._at(y500_arcmin2, theta500_arcmin, self._seen).value
        return float((value >= at_least).sum() * healpy.nside2pixarea(nside_of(self.noise_arcmin2), degrees=True))

    @property
    def _seen(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.isfinite(self.noise_arcmin2).all(axis=1))

    def draw_found(self, clusters: Table, seed: int) -> Table:
        """A mock catalogue: of these clusters, those that would be found.

        Parameters
        ----------
        clusters : Table
            ``lon_deg``, ``lat_deg``, ``y500_arcmin2``, ``theta500_arcmin``.
        seed : int

        Returns
        -------
        Table
            Its rows that were drawn, with ``completeness`` added.
        """
        columns = ("y500_arcmin2", "theta500_arcmin", "lon_deg", "lat_deg")
        value = np.nan_to_num(self.completeness(*(np.asarray(clusters[name], float) for name in columns)).value)
        drawn = np.random.default_rng([seed, 0]).random(len(clusters)) < value
        mock = clusters[drawn]
        mock["completeness"] = value[drawn]
        return mock

    def write(
        self,
        path: str | os.PathLike[str],
        y500_arcmin2: ArrayLike | None = None,
        *,
        spectra: Mapping[str, Table] | None = None,
    ) -> Path:
        """Write selection.fits, whole or not at all: INJECTIONS, NOISE, LOOK, and the cube COMPLETENESS with errors.

        Parameters
        ----------
        path : path
        y500_arcmin2 : (n_y,) float64, optional
            Fluxes of the cube; 16 over the range that was injected by default.
        spectra : mapping of str to Table, optional
            Stacked spectra of known and of injected clusters (:func:`szeek.assess.looks.stack_spectra`), by the name
            of their extension.
        """
        injected = np.asarray(self.injections["y500_arcmin2"], float)
        flux = np.geomspace(injected.min(), injected.max(), 16) if y500_arcmin2 is None else np.asarray(y500_arcmin2)
        cube = self.completeness_cube(flux, self.theta500_arcmin)
        meta = {"NSIDE": nside_of(self.noise_arcmin2), "ORDERING": "RING", "COORDSYS": "G"}
        meta |= {"P_MAX": self.p_max, "CHANCE": self.chance}
        noise = Table({"NOISE_Y500": self.noise_arcmin2.astype(np.float32)}, meta=meta)
        names = ("COMPLETENESS", "LOW", "HIGH", "SYSTEMATIC")
        pixels = Table({n: c.astype(np.float32) for n, c in zip(names, cube, strict=True)}, meta=meta)
        hdus = [fits.PrimaryHDU()]
        parts = {"INJECTIONS": self.injections, "NOISE": noise, "COMPLETENESS": pixels}
        if self.look is not None:
            added = self.slopes[: len(self.look)]
            look = self.look.copy()
            look["slope"], look["slope_err"] = added["slope"], added["slope_err"]
            parts["LOOK"] = look
        parts |= spectra or {}
        for name, table in parts.items():
            hdu = fits.table_to_hdu(table)
            hdu.name = name
            hdus.append(hdu)
        for name, values in (("THETA500", self.theta500_arcmin), ("Y500", flux)):
            axis = fits.table_to_hdu(Table({name: np.asarray(values, float)}))
            axis.name = name
            hdus.append(axis)
        target = Path(path)
        with whole_file(target) as staging:
            fits.HDUList(hdus).writeto(staging, overwrite=True)
        return target

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Selection:
        """Inverse of :meth:`write`."""
        with fits.open(path) as hdus:
            tables = {name: Table(hdus[name].data) for name in ("INJECTIONS", "NOISE", "THETA500")}
            header = hdus["NOISE"].header
            look = Table(hdus["LOOK"].data) if "LOOK" in hdus else None
            return cls(
                tables["INJECTIONS"],
                np.array(tables["THETA500"]["THETA500"], np.float64),
                np.array(tables["NOISE"]["NOISE_Y500"], np.float64),
                float(header["P_MAX"]),
                float(header["CHANCE"]),
                look,
            )


def measure_noise(
    maps: SkyMaps | MapSet,
    instrument: Instrument,
    theta500_arcmin: Sequence[float] = NOISE_THETA500_ARCMIN,
    *,
    filtered: Mapping[int, FieldState] | None = None,
    threads: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> Floats:
    """Error of Y500 of a matched filter in each field of the sky.

    Parameters
    ----------
    maps : SkyMaps or MapSet
    instrument : Instrument
    theta500_arcmin : sequence of float
    filtered : mapping of int to FieldState, optional
        What the filter has learnt of the fields of these maps: these fields alone, in a third of the time.
    threads : int, optional
        Fields at once; the result does not depend on it.
    client : distributed.Client, optional
        Filter the fields on the workers of this Dask cluster, for which the maps must be mapped from a folder.
    progress : Progress, optional
        Called as progress(stage, done, total, detail), in fields.

    Returns
    -------
    (12 nside^2, n_size) float64
        arcmin^2, HEALPix RING of the fields' nside, 8 for Planck; NaN for pixels without a field. Where a survey ends
        in a field, the mean by area.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * planck.tsz_response * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> louder = SkyMaps(2 * values, maps.footprint, maps.bands)
    >>> once, twice = (measure_noise(each, planck, [5.0], threads=1) for each in (maps, louder))
    >>> known = np.isfinite(once)
    >>> int(known.sum()), np.allclose(twice[known] / once[known], 2, rtol=1e-3)
    (5, True)
    """
    fields = list_fields(maps)
    if filtered is not None:
        fields = fields[np.isin(fields["pixel"], list(filtered))]
    noise = np.full((12 * field_nside(maps) ** 2, len(theta500_arcmin)), np.nan)

    where = [(int(row["pixel"]), float(row["lon_deg"]), float(row["lat_deg"])) for row in fields]
    places = [(place, (filtered or {}).get(place[0])) for place in where]
    sizes = tuple(theta500_arcmin)
    work = spread(
        _noise_in_field, places, maps, instrument, sizes, client=client, threads=threads,
        progress=progress, stage="noise", detail="fields",
    )  # fmt: skip
    for number, values in work:
        noise[fields["pixel"][number]] = values
    return noise


def _noise_in_field(
    place: tuple[tuple[int, float, float], FieldState | None],
    maps: SkyMaps | MapSet,
    instrument: Instrument,
    theta500_arcmin: Sequence[float],
) -> list[float]:
    where, known = place
    parts = open_parts(maps, where, instrument, known=known)
    weights = [float(owned.sum()) for owned in share_pixels(parts, maps, where[0])]
    errors = [[field.flux_error(theta) / Y5R500_PER_Y500 for theta in theta500_arcmin] for field in parts]
    return errors[0] if len(parts) == 1 else [float(each) for each in np.average(errors, axis=0, weights=weights)]


def match_injections(injections: Table, sources: Table, radius_arcmin: float = 5.0) -> Table:
    """The injections with ``p``, ``offset_arcmin`` and position of the source that was found, NaN where none was.

    Parameters
    ----------
    injections : Table
        What was painted: ``lon_deg``, ``lat_deg``, ``theta500_arcmin``.
    sources : Table
        Sources above the threshold in the maps with them.
    radius_arcmin : float
        Least matching radius.
    """
    matches, table = match(sources, injections, truth_radius(injections, radius_arcmin)), injections.copy()
    columns = {
        "p": matches["p"],
        "offset_arcmin": matches["separation_arcmin"],
        "found_lon_deg": sources["lon_deg"][matches["source"]],
        "found_lat_deg": sources["lat_deg"][matches["source"]],
    }
    for name, values in columns.items():
        table[name] = np.full(len(table), np.nan)
        table[name][matches["cluster"]] = values
    return table


def judge_injections(
    injections: Table,
    before: Table,
    noise_arcmin2: Floats,
    p_max: float,
    theta500_arcmin: Sequence[float] = NOISE_THETA500_ARCMIN,
    look: Table | None = None,
    radius_arcmin: float = 5.0,
) -> Selection:
    """Which injections were found, and at what p and distance.

    Parameters
    ----------
    injections : Table
        From :func:`match_injections`, with ``y500_arcmin2``.
    before : Table
        Sources above ``p_max`` in the maps without them.
    noise_arcmin2 : (12 nside^2, n_size) float64
        From :func:`measure_noise`.
    p_max : float
    theta500_arcmin : sequence of float
        Sizes of the noise.
    look : Table, optional
        What is known of how clusters look, where the injections' looks were varied.
    radius_arcmin : float
        Least matching radius.

    Returns
    -------
    Selection
        Without injections where no noise is known.

    Raises
    ------
    ValueError
        If fewer than 20 injections are left.

    Examples
    --------
    >>> injections = Table({"lon_deg": np.arange(40.0), "lat_deg": [50.0] * 40, "theta500_arcmin": [5.0] * 40})
    >>> injections["y500_arcmin2"] = np.geomspace(1e-4, 1e-2, 40)
    >>> sources = injections["lon_deg", "lat_deg"][20:]  # the brighter half was found
    >>> sources["p"] = 0.9
    >>> matched, noise = match_injections(injections, sources), np.full((768, 6), 3e-4)
    >>> selection = judge_injections(matched, sources[:0], noise, p_max=0.1)
    >>> int(np.isfinite(selection.injections["p"]).sum()), selection.chance
    (20, 0.0)
    """
    sizes = np.asarray(theta500_arcmin, float)
    columns = ["lon_deg", "lat_deg", "y500_arcmin2", "theta500_arcmin", "p", "offset_arcmin"]
    columns += [name for name in ("snr_there", "weight") if name in injections.colnames]
    if look is not None:
        cool, disturbed = (np.asarray(injections["profile"]) == name for name in ("cool-core", "disturbed"))
        injections = Table({**{name: injections[name] for name in injections.colnames if name != "profile"}})
        injections["profile_balance"] = cool.astype(float) - disturbed
        columns += VARIED.values()
    table = Table({name: np.asarray(injections[name], float) for name in columns})
    pixel = healpy.ang2pix(nside_of(noise_arcmin2), table["lon_deg"], table["lat_deg"], lonlat=True)
    table["noise_arcmin2"] = Selection(table, sizes, noise_arcmin2, p_max).noise(table["theta500_arcmin"], pixel)
    table["before"] = np.zeros(len(table), bool)
    table["before"][list_pairs(before, table, truth_radius(table, radius_arcmin))[1]] = True
    known = np.isfinite(table["noise_arcmin2"])
    if known.sum() < _FEWEST:
        raise ValueError(f"{known.sum()} injections lie where the noise is known, expected at least {_FEWEST}")
    return Selection(table[known], sizes, noise_arcmin2, p_max, float(table["before"][known].mean()), look)


@dataclass(frozen=True)
class PositionErrors:
    """Radii around a source of some p that hold its cluster in 68 and 95 %: straight lines in ln odds between knots.

    Parameters
    ----------
    p, r68_arcmin, r95_arcmin : (n_knot,) float64
    """

    p: Floats
    r68_arcmin: Floats
    r95_arcmin: Floats

    def predict(self, p: ArrayLike) -> tuple[Floats, Floats]:
        """The two radii in arcmin for sources of these p."""
        score, knots = _logit(p), _logit(self.p)
        return np.interp(score, knots, self.r68_arcmin), np.interp(score, knots, self.r95_arcmin)

    def to_table(self) -> Table:
        """One row per knot, for ECSV."""
        return Table({"p": self.p, "r68_arcmin": self.r68_arcmin, "r95_arcmin": self.r95_arcmin})

    @classmethod
    def from_table(cls, table: Table) -> PositionErrors:
        """Inverse of :meth:`to_table`."""
        return cls(*(np.array(table[name], np.float64) for name in ("p", "r68_arcmin", "r95_arcmin")))


def fit_position_errors(found: Table, population: Table | None = None) -> PositionErrors:
    """Position errors from the offsets of clusters that were found, in bins of p of equal weight.

    Offsets are quantiles of what was found, not of a Rayleigh law: clusters that are large, disturbed or have
    neighbours make their tail longer.

    Parameters
    ----------
    found : Table
        Haloes from :func:`halo_offsets`; or the injections of a :class:`Selection`, without those where a source was
        before, whose offset may be that source's.
    population : Table, optional
        ``y500_arcmin2``, ``theta500_arcmin`` of the clusters of a sky: injections are weighted to have their fluxes
        and sizes. The errors would else be those of the mixture that was injected.

    Raises
    ------
    ValueError
        If fewer than 20 were found.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> found = Table({"p": rng.uniform(0.1, 0.9, 2000), "offset_arcmin": rng.rayleigh(1.0, 2000)})
    >>> r68_arcmin, r95_arcmin = fit_position_errors(found).predict([0.5])
    >>> [round(float(r[0])) for r in (10 * r68_arcmin, r95_arcmin)]  # of a Rayleigh law: 1.51 and 2.45 arcmin
    [15, 2]
    """
    own = np.isfinite(np.asarray(found["p"], float))
    if "before" in found.colnames:
        own &= ~np.asarray(found["before"], bool)
    if own.sum() < _FEWEST:
        raise ValueError(f"{own.sum()} clusters were found, expected at least {_FEWEST} for position errors")
    weight = np.asarray(found["weight"], float) if "weight" in found.colnames else np.ones(len(found))
    if population is not None:
        weight = weight * _likeness(found, population, found)
    p, offset, weight = (np.asarray(column, float)[own] for column in (found["p"], found["offset_arcmin"], weight))
    # weights differ: so many sources of equal weight would tell as much
    effective = weight.sum() ** 2 / (weight**2).sum()
    n_bin = int(np.clip(effective / _PER_POSITION_BIN, 1, _MOST_POSITION_BINS))
    order = np.argsort(p, kind="stable")
    place = _running_sum(weight[order]) / weight.sum() * n_bin
    rows = [
        (_quantiles(p[part], weight[part], (0.5,))[0], *_quantiles(offset[part], weight[part], (0.683, 0.954)))
        for part in (order[np.ceil(place).astype(int) == k + 1] for k in range(n_bin))
        if weight[part].sum() > 0
    ]
    return PositionErrors(*(np.array(column) for column in zip(*rows, strict=True)))


def halo_offsets(
    sources: Table,
    haloes: Table,
    footprint: NDArray[np.bool_] | None = None,
    *,
    n_shifts: int = 10,
    seed: int = 0,
    radius_arcmin: float = 5.0,
) -> Table:
    """Offsets of sources from the haloes of a simulated sky that they are matched to, and those of chance matches.

    Parameters
    ----------
    sources, haloes : Table
        As for :func:`szeek.assess.match.match`; the haloes with ``theta500_arcmin``.
    footprint : (n_pix,) bool, optional
        Where sources were looked for.
    n_shifts : int
        How often all haloes are shifted, as in :func:`szeek.assess.match.chance_rate`.
    seed : int
    radius_arcmin : float
        Least matching radius.

    Returns
    -------
    Table
        ``p``, ``offset_arcmin`` and ``weight``: 1 of a match; of one at shifted positions minus the share of haloes
        that are not found, over n_shifts: sums are what is left without chance.
    """
    rng = np.random.default_rng([seed, 1])
    radius, vectors = truth_radius(haloes, radius_arcmin), table_vectors(haloes)
    shifted = (direction_table(shift_directions(vectors, footprint, rng)) for _ in range(n_shifts))
    matches = match(sources, haloes, radius)
    chance = vstack([match(sources, there, radius) for there in shifted], metadata_conflicts="silent")
    n, n_chance = len(haloes), len(chance) / n_shifts
    # a halo that was found has its own source, nearer than one of chance
    unfound = (n - len(matches)) / (n - n_chance) if n > n_chance else 0.0
    both = vstack([matches, chance], metadata_conflicts="silent")
    weight = np.repeat([1.0, -unfound / n_shifts], [len(matches), len(chance)])
    columns = {"p": both["p"], "offset_arcmin": both["separation_arcmin"], "weight": weight}
    return Table({name: np.asarray(column, float) for name, column in columns.items()})


def _fit_logistic(x: Floats, found: NDArray[np.bool_], expected: Floats) -> tuple[Floats, Floats]:
    """Slopes b of logit P(found) = logit expected + x b, and their covariance: Newton's method, weakly damped."""
    offset = _logit(np.clip(expected, 0.01, 0.99))
    # a prior of unit width per standard deviation of x: slopes that nothing tells stay small
    damping = np.diag(np.maximum(x.var(axis=0), 1e-12))
    slope = np.zeros(x.shape[1])
    for _ in range(30):
        probability = 1 / (1 + np.exp(-(offset + x @ slope)))
        hessian = (x * (probability * (1 - probability))[:, None]).T @ x + damping
        step = np.linalg.solve(hessian, x.T @ (found - probability) - damping @ slope)
        slope = slope + step
        if np.abs(step).max() < 1e-8:
            break
    return slope, np.asarray(np.linalg.inv(hessian), float)


def log_dust(lon_deg: ArrayLike, lat_deg: ArrayLike) -> Floats:
    """ln (E(B-V) + 0.03 mag) at positions: dust of less than that is lost in the CIB."""
    return np.asarray(np.log(reddening_mag(lon_deg, lat_deg) + _LEAST_REDDENING_MAG))


@cache
def mean_log_dust(nside: int) -> Floats:
    """The same in the pixels of a map, RING, on average."""
    fine = 8 * nside
    lon_deg, lat_deg = healpy.pix2ang(fine, np.arange(12 * fine**2), lonlat=True)
    return np.asarray(healpy.ud_grade(log_dust(lon_deg, lat_deg), nside))


def _shift_logit(value: Floats, shift: ArrayLike) -> Floats:
    """Probabilities moved by this much in the logit; 0 and 1 stay."""
    odds = value * np.exp(np.asarray(shift))
    return np.asarray(odds / (1 - value + odds))


def _running_sum(weight: Floats) -> Floats:
    """Cumulative sum that never falls, though some weights are negative, and ends at the sum."""
    return np.asarray(np.minimum(np.maximum.accumulate(np.cumsum(weight)), weight.sum()))


def _logit(p: ArrayLike) -> Floats:
    score = np.clip(np.asarray(p, float), _CLIP, 1 - _CLIP)
    return np.asarray(np.log(score / (1 - score)))


def _likeness(injections: Table, population: Table, wanted: Table) -> Floats:
    """Number of the population over that of the injections, in cells of flux and size."""
    flux, size = (np.log(np.asarray(injections[name], float)) for name in ("y500_arcmin2", "theta500_arcmin"))
    edges = [np.linspace(v.min() - 1e-6, v.max() + 1e-6, n) for v, n in ((flux, 13), (size, 7))]

    def count(table: Table) -> Floats:
        x, y = (np.log(np.asarray(table[name], float)) for name in ("y500_arcmin2", "theta500_arcmin"))
        return np.asarray(np.histogram2d(x, y, bins=edges)[0], float)

    ratio = count(population) / np.maximum(count(injections), 1)
    cell = [
        np.clip(np.searchsorted(e, np.log(np.asarray(wanted[name], float)), side="right") - 1, 0, len(e) - 2)
        for e, name in zip(edges, ("y500_arcmin2", "theta500_arcmin"), strict=True)
    ]
    return np.asarray(ratio[cell[0], cell[1]], float)


def _quantiles(values: Floats, weight: Floats, shares: Sequence[float]) -> list[float]:
    order = np.argsort(values)
    cumulative = _running_sum(weight[order])
    return [float(values[order][np.searchsorted(cumulative, s * cumulative[-1])]) for s in shares]


def predicted_counts(
    selection: Selection, clusters: Table, edges: ArrayLike, *, n_bootstrap: int = 100, seed: int = 0
) -> Table:
    """How many clusters of a sky should be found in bins of flux, for a comparison with how many are.

    Parameters
    ----------
    selection : Selection
    clusters : Table
        ``lon_deg``, ``lat_deg``, ``y500_arcmin2``, ``theta500_arcmin``; ``found`` (bool) if it is known.
    edges : (n_bin + 1,) float64
        Of Y500, arcmin^2.
    n_bootstrap : int
        Draws of the injections for the error of the completeness.
    seed : int
        Of the draws.

    Returns
    -------
    Table
        ``y500_low``, ``y500_high``, ``n``, ``expected``, ``variance`` (binomial, of the injections' number, and of
        what is not known of how clusters look), ``systematic`` (that last part, a standard deviation), ``n_found``
        where known; ``meta['covariance']`` (n_bin, n_bin) is that of the bins, which share injections. Where every
        injection was found its own error is 0, which is too small.
    """
    flux = np.asarray(clusters["y500_arcmin2"], float)
    position = [np.asarray(clusters[name], float) for name in ("theta500_arcmin", "lon_deg", "lat_deg")]
    value = selection.completeness(flux, *position).value
    borders = np.asarray(edges, float)
    rng, n = np.random.default_rng([seed, 2]), len(selection.injections)
    systematic = selection.completeness(flux, *position).systematic
    drawn = []
    for _ in range(n_bootstrap):
        again = replace(selection, injections=selection.injections[np.sort(rng.integers(0, n, n))])
        drawn.append(again.completeness(flux, *position).value)
    bins = [(flux >= below) & (flux < above) & np.isfinite(value) for below, above in pairwise(borders.tolist())]
    scatter = np.array([[one[mine].sum() for mine in bins] for one in drawn])
    binomial = np.array([(value[mine] * (1 - value[mine])).sum() for mine in bins])
    common = np.array([systematic[mine].sum() for mine in bins])  # all bins go up or down together
    covariance = np.diag(binomial) + np.atleast_2d(np.cov(scatter, rowvar=False)) + np.outer(common, common)
    counts = Table(
        {
            "y500_low": borders[:-1],
            "y500_high": borders[1:],
            "n": [int(mine.sum()) for mine in bins],
            "expected": [float(value[mine].sum()) for mine in bins],
            "variance": np.diag(covariance),
            "systematic": common,
        },
        meta={"covariance": covariance},
    )
    if "found" in clusters.colnames:
        found = np.asarray(clusters["found"], bool)
        counts["n_found"] = [int(found[mine].sum()) for mine in bins]
    return counts
