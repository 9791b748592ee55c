"""Mock catalogues without maps: haloes from the mass function, fluxes from the scaling relation, noise, selection.

As nemoMock (https://nemo-sz.readthedocs.io) does for matched filters. Positions are not clustered.
"""

from __future__ import annotations

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from szeek.counts.masses import MassRelation
from szeek.counts.massfunction import CosmologyParameters, halo_counts
from szeek.counts.survey import FALSE_EDGES, Survey, highest_snr
from szeek.physics.scaling import theta500_from_mass, y500_from_mass

Floats = NDArray[np.float64]

_MASS_RANGE_1E14MSUN = (0.7, 40.0)
_Z_RANGE = (0.01, 1.5)


class MockSurvey:
    """Draws catalogues of one survey and cosmology; the mass function is tabulated once.

    Parameters
    ----------
    survey : Survey
    relation : MassRelation
    parameters : CosmologyParameters

    Examples
    --------
    >>> from szeek.counts.survey import DetectionModel
    >>> noise, everywhere, none_false = np.full((768, 2), 3e-4), np.ones(768), np.zeros(80)
    >>> law = DetectionModel(snr50=4.0, width=0.5)
    >>> survey = Survey(np.array([2.0, 20.0]), noise, everywhere, np.zeros(768, int), law, 4.5, none_false)
    >>> mock = MockSurvey(survey)
    >>> one, more = mock.draw(seed=1), MockSurvey(survey, parameters=CosmologyParameters(sigma8=0.9)).draw(seed=1)
    >>> bool(one["FIXED_SNR"].min() >= 4.5), len(more) > len(one)  # more clusters, where sigma8 is higher
    (True, True)
    """

    def __init__(
        self,
        survey: Survey,
        relation: MassRelation = MassRelation(),  # noqa: B008 - frozen
        parameters: CosmologyParameters = CosmologyParameters(),  # noqa: B008 - frozen
    ) -> None:
        self.survey, self.relation, self.parameters = survey, relation, parameters
        self._z = np.linspace(*_Z_RANGE, 299)
        self._log_mass = np.log(np.geomspace(*_MASS_RANGE_1E14MSUN, 400))
        counts = halo_counts(self._z, np.exp(self._log_mass), parameters)
        steps = np.diff(self._log_mass) * (counts[:, 1:] + counts[:, :-1]) / 2
        self._of_mass = np.concatenate([np.zeros((len(self._z), 1)), np.cumsum(steps, axis=1)], axis=1)
        per_z = self._of_mass[:, -1]
        self._of_z = np.append(0.0, np.cumsum(np.diff(self._z) * (per_z[1:] + per_z[:-1]) / 2))

    @property
    def n_haloes(self) -> float:
        """Haloes expected in the survey above 7e13 Msun."""
        return float(self._of_z[-1] * self.survey.sky_fraction.sum())

    def draw(self, seed: int, *, false: bool = False) -> Table:
        """One catalogue.

        Parameters
        ----------
        seed : int
        false : bool
            With false candidates, as many as PURITY says, without redshift.

        Returns
        -------
        Table
            ``NAME``, ``RA``, ``DEC``, ``GLON``, ``GLAT``, ``SNR``, ``MATCH_Z`` as the catalogue of candidates has
            them; ``FIXED_SNR`` and ``PATCH``; ``TRUE_M500`` (1e14 Msun), ``TRUE_Y500`` (arcmin^2), ``TRUE_THETA500``
            (arcmin), NaN of false ones.
        """
        rng, survey = np.random.default_rng([seed, 28]), self.survey
        number = rng.poisson(self.n_haloes)
        z = np.interp(rng.uniform(0, self._of_z[-1], number), self._of_z, self._z)
        mass = self._draw_masses(z, rng)
        pixel = rng.choice(len(survey.covered), number, p=survey.covered / survey.covered.sum())
        background = self.parameters.background
        mean = y500_from_mass(mass, z, self.relation.mass_bias, background)
        flux = mean * np.exp(self.relation.scatter_ln * rng.standard_normal(number))
        size = theta500_from_mass(mass, z, self.relation.mass_bias, background)
        model = survey.detection
        measured = model.snr_factor * np.exp(model.snr_scatter_ln * rng.standard_normal(number))
        q = measured * flux / survey.noise(size, pixel)
        snr = q + rng.standard_normal(number)
        share = model.found(snr, size, survey.patch_log_dust[survey.patch[pixel]])
        kept = (snr >= survey.snr_min) & (rng.uniform(size=number) < share)
        columns = {"FIXED_SNR": snr, "MATCH_Z": z, "TRUE_M500": mass, "TRUE_Y500": flux, "TRUE_THETA500": size}
        columns = {name: column[kept] for name, column in columns.items()}
        pixel = pixel[kept]
        if false:
            columns, pixel = self._add_false(columns, pixel, rng)
        columns = {"SNR": highest_snr(columns["FIXED_SNR"]), **columns}
        lon_deg, lat_deg = _scatter_in_pixels(survey.nside, pixel, rng)
        icrs = SkyCoord(lon_deg, lat_deg, unit="deg", frame="galactic").icrs
        meta = {"SEED": seed, "ORIGIN": survey.origin, "SNR_MIN": survey.snr_min}
        meta |= {"MASSBIAS": self.relation.mass_bias, "YSCATTER": self.relation.scatter_ln}
        meta |= {"OMEGA_M": self.parameters.omega_m, "SIGMA8": self.parameters.sigma8, "HUBBLE": self.parameters.h}
        return Table(
            {
                "NAME": [f"MOCK {seed:04d}-{k:05d}" for k in range(len(pixel))],
                "RA": icrs.ra.deg,
                "DEC": icrs.dec.deg,
                "GLON": lon_deg,
                "GLAT": lat_deg,
                "PATCH": survey.patch[pixel],
                **columns,
            },
            meta=meta,
        )

    def count_faint(self, y500_arcmin2: float, n_draws: int = 20) -> Floats:
        """Clusters fainter than a flux that are expected in the catalogue, in bins of S/N.

        A calibration of PURITY has a flux below which nothing counts as true, but noise makes some of what is fainter
        bright enough. For a likelihood these are clusters, and not false.

        Parameters
        ----------
        y500_arcmin2 : float
            True Y500.
        n_draws : int
            Catalogues over which the number is averaged.

        Returns
        -------
        (80,) float64
            In the bins of :attr:`szeek.counts.survey.Survey.false_counts`.

        Examples
        --------
        >>> from szeek.counts.survey import DetectionModel
        >>> noise, everywhere, none_false = np.full((768, 2), 3e-4), np.ones(768), np.zeros(80)
        >>> law = DetectionModel(snr50=4.0, width=0.5)
        >>> survey = Survey(np.array([2.0, 20.0]), noise, everywhere, np.zeros(768, int), law, 4.5, none_false)
        >>> mock = MockSurvey(survey)
        >>> faint, all_of_them = (mock.count_faint(flux, n_draws=1).sum() for flux in (1e-3, 1.0))
        >>> bool(faint < all_of_them), bool(all_of_them == len(mock.draw(0)))
        (True, True)
        """
        drawn = [self.draw(seed) for seed in range(n_draws)]
        snr = [np.asarray(one["FIXED_SNR"])[np.asarray(one["TRUE_Y500"]) < y500_arcmin2] for one in drawn]
        counts = np.histogram(np.minimum(np.concatenate(snr), FALSE_EDGES[-1]), FALSE_EDGES)[0]
        return np.asarray(counts / n_draws)

    def _draw_masses(self, z: Floats, rng: np.random.Generator) -> Floats:
        """Masses of haloes of these redshifts: the cumulative mass functions of the two nearest, interpolated."""
        place = (z - self._z[0]) / (self._z[1] - self._z[0])
        below = np.minimum(place.astype(int), self._z.size - 2)
        row = np.where(rng.uniform(size=z.size) < place - below, below + 1, below)
        mass = np.empty(z.size)
        draw = rng.uniform(size=z.size)
        for k in np.unique(row):
            mine = row == k
            mass[mine] = np.interp(draw[mine] * self._of_mass[k, -1], self._of_mass[k], self._log_mass)
        return np.exp(mass)

    def _add_false(
        self, columns: dict[str, Floats], pixel: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[dict[str, Floats], NDArray[np.int64]]:
        survey = self.survey
        number = rng.poisson(survey.n_false)
        edges, density = FALSE_EDGES[:-1], survey.false_density[1]
        chosen = rng.choice(edges, number, p=density / density.sum()) if number else np.zeros(0)
        snr = np.maximum(chosen + FALSE_EDGES[1] * rng.uniform(size=number), survey.snr_min)
        where = rng.choice(len(survey.covered), number, p=survey.covered / survey.covered.sum())
        nothing = np.full(number, np.nan)
        added = {name: snr if name == "FIXED_SNR" else nothing for name in columns}
        both = {name: np.concatenate([columns[name], added[name]]) for name in columns}
        return both, np.concatenate([pixel, where])


def _scatter_in_pixels(
    nside: int, pixel: NDArray[np.int64], rng: np.random.Generator, fine: int = 1 << 20
) -> tuple[Floats, Floats]:
    """Galactic longitude and latitude (degrees) uniform inside RING pixels, by drawing a nested descendant."""
    per_pixel = (fine // nside) ** 2
    nested = healpy.ring2nest(nside, pixel) * per_pixel + rng.integers(0, per_pixel, len(pixel))
    lon_deg, lat_deg = healpy.pix2ang(fine, nested, nest=True, lonlat=True)
    return np.asarray(lon_deg), np.asarray(lat_deg)
