r"""Flux, size and spectrum of candidates, or of any positions, from the frequency maps.

    A(theta) = M^-1 v,   M = int d^2k/(2 pi)^2 s B P^-1 B s,   v = int d^2k/(2 pi)^2 e^{ikx} s B P^-1 d

is the flux, in every band at once, of a source of the cluster's shape s(k theta500), and M^-1 its covariance: CMB,
dust and noise as the field has them (:mod:`szeek.filter.matchedfilter`). A source of spectrum t has the amplitude
t.v / t.M.t with the S/N t.v / sqrt(t.M.t). With the tSZ spectrum that is the matched filter itself; radio and dust
are tried in the same way, and the one that explains most says what kind of source it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.special import j1

from szeek.arguments import plain_table
from szeek.filter.layout import field_nside, list_fields
from szeek.filter.matchedfilter import FilteredField, beam_scale, check_bands_known
from szeek.filter.parts import assign_directions, open_parts
from szeek.filter.states import FieldState
from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2
from szeek.inputs.instrument import read_instrument
from szeek.measure.fluxes import TEMPERATURES_KEV, deproject, halo_population, infer_flux
from szeek.parallel import Progress, spread
from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.physics.instrument import Instrument
from szeek.physics.looks import VARIED_PROFILES
from szeek.physics.scaling import theta500_from_mass, y500_from_mass
from szeek.physics.spectra import spectral_templates
from szeek.physics.tsz import band_response
from szeek.sky.healpix import unit_vectors
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client

Floats = NDArray[np.float64]

#: Sizes theta500 at which S/N and flux are given, for beams as wide as HFI's; :func:`list_flux_sizes` for others.
SIZES_ARCMIN = np.geomspace(0.9, 60.0, 24)
_SMALLEST_ARCMIN = 0.3
KINDS = ("cluster", "radio", "dusty", "cold clump", "artefact")
#: Disc in which Compton y is summed, and the ring of its background: those of the stacks.
APERTURE_ARCMIN, RING_ARCMIN = 10.0, (15.0, 25.0)
_Y_FWHM_ARCMIN = 10.0

# Spectra tried beside tSZ: radio sources by index, dust by temperature and index (galaxies; cold clumps, Planck 2015
# results XXVIII, A&A 594, A28: 14 K and 2).
_RADIO = (-1.0, -0.5, 0.0, 0.5)
_DUST = ((25.0, 1.75), (20.0, 1.75), (14.0, 2.0), (11.0, 2.0))
_COLD_K, _EXTENDED_ARCMIN = 14.0, 2.5
# Dust of the galaxies in clusters, fitted with the flux: Planck intermediate results XLIII (A&A 596, A104), 24.2 K
# and 1.5 at a mean redshift of 0.26. The derivative is by the index.
_MEMBER_DUST_K, _MEMBER_DUST_INDEX, _INDEX_STEP = 24.2 / 1.26, 1.5, 0.1
# Below the first S/N there is nothing; above the second, tSZ beside radio and dust makes a cluster.
_LEAST_SNR, _CLUSTER_SNR = 3.0, 4.0

_SCALARS = (
    *("snr", "theta500_arcmin", "y5r500_arcmin2", "y5r500_err_arcmin2"),
    *("fixed_theta500_arcmin", "fixed_snr", "fixed_y5r500_arcmin2", "fixed_y5r500_err_arcmin2"),
    *("population_y5r500_arcmin2", "population_y5r500_err_arcmin2", "population_theta500_arcmin"),
    *("constrained_snr", "constrained_y5r500_arcmin2", "constrained_y5r500_err_arcmin2"),
    *("m500_1e14msun", "m500_err_1e14msun", "y_aperture_arcmin2", "y_aperture_err_arcmin2"),
    *("spectrum_theta500_arcmin", "tsz_snr", "radio_snr", "dust_snr", "chi2"),
)
_ARCMIN = math.pi / 10800
_MASSES_1E14MSUN = np.geomspace(0.03, 60.0, 600)


def list_flux_sizes(maps: SkyMaps | MapSet) -> Floats:
    """Sizes theta500 at which S/N and flux are given, arcmin: with narrow beams they begin at down to 0.3 arcmin."""
    scale = beam_scale(maps, maps.bands)
    if scale == 1.0:
        return SIZES_ARCMIN
    return np.geomspace(max(SIZES_ARCMIN[0] * scale, _SMALLEST_ARCMIN), SIZES_ARCMIN[-1], SIZES_ARCMIN.size)


def least_flux_arcmin2(maps: SkyMaps | MapSet) -> float:
    """Y500 of the faintest haloes that flux may come from, arcmin^2: 3e-4 with HFI's beams, less with narrow ones."""
    return TRUTH_Y500_ARCMIN2 * beam_scale(maps, maps.bands)


class Spectra(NamedTuple):
    """Spectra in the bands' map units.

    Tried are tSZ (n_band,), radio and dust (4, n_band). ``hot`` (n_temperature, n_band) is tSZ at
    :data:`szeek.measure.fluxes.TEMPERATURES_KEV`, ``members`` (2, n_band) the dust of member galaxies and its
    derivative by the index.
    """

    tsz: Floats
    radio: Floats
    dust: Floats
    hot: Floats
    members: Floats


def list_spectra(instrument: Instrument, names: Sequence[str]) -> Spectra:
    """The spectra in these of an instrument's bands."""
    columns = [instrument.band_names.index(name) for name in names]
    radio = [spectral_templates(instrument, ["radio"], radio_index=index)[0] for index in _RADIO]
    dust = [
        spectral_templates(instrument, ["dust"], dust_temperature_k=kelvin, dust_index=index)[0]
        for kelvin, index in _DUST
    ]
    flat, members, steep = (
        spectral_templates(instrument, ["dust"], dust_temperature_k=_MEMBER_DUST_K, dust_index=index)[0]
        for index in _MEMBER_DUST_INDEX + _INDEX_STEP * np.array([-0.5, 0.0, 0.5])
    )
    listed = (
        spectral_templates(instrument, ["tsz"])[0], np.array(radio), np.array(dust),
        band_response(instrument, TEMPERATURES_KEV), np.stack([members, (steep - flat) / _INDEX_STEP]),
    )  # fmt: skip
    return Spectra(*(spectrum[..., columns] for spectrum in listed))


class SpectrumFit(NamedTuple):
    """What a source's spectrum says.

    ``size`` is the number of the size of the single spectrum that fits best; at it tSZ, radio and dust are fitted
    together, each with its S/N, and ``chi2`` has n_band - 3 degrees of freedom.
    """

    kind: str
    size: int
    tsz_snr: float
    radio_snr: float
    dust_snr: float
    chi2: float


def fit_kind(v: Floats, information: Floats, spectra: Spectra, sizes_arcmin: Floats = SIZES_ARCMIN) -> SpectrumFit:
    """What kind of source there is.

    Every spectrum is tried alone, at every size; the one of the highest (positive) S/N names the kind:

    * below S/N 3: ``artefact``, there is nothing in the maps;
    * tSZ: ``cluster``; also where radio or dust is higher, but tSZ, fitted beside the best of both at the size where
      tSZ alone is best, is above S/N 4;
    * radio, of index -1 to 0.5: ``radio``;
    * dust of 14 K or colder, at a theta500 above 2.5 arcmin: ``cold clump``; other dust: ``dusty``.

    Parameters
    ----------
    v : (n_size, n_band) float64
        Weighted data, in 1 / (map unit x arcmin^2).
    information : (n_size, n_band, n_band) float64
        Inverse covariance M of the bands' fluxes.
    spectra : Spectra
    sizes_arcmin : (n_size,) float64

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck = read_instrument()
    >>> spectra = list_spectra(planck, planck.band_names)
    >>> information = np.broadcast_to(np.diag(100 / spectra.tsz**2), (1, 6, 6))
    >>> [fit_kind(a * information @ spectra.tsz, information, spectra, np.array([5.0])).kind for a in (0.01, 1.0)]
    ['artefact', 'cluster']
    """
    tried = np.concatenate([spectra.tsz[None], spectra.radio, spectra.dust])
    power = np.einsum("tb,kbc,tc->tk", tried, information, tried)
    snr = np.einsum("tb,kb->tk", tried, v) / np.sqrt(power)
    highest, size = snr.max(axis=1), snr.argmax(axis=1)
    n_radio = len(spectra.radio)
    radio, dust = 1 + int(highest[1 : 1 + n_radio].argmax()), 1 + n_radio + int(highest[1 + n_radio :].argmax())
    together = tried[[0, radio, dust]]
    winner = int(highest.argmax())
    best = int(size[winner])
    if highest[winner] < _LEAST_SNR:
        kind = "artefact"
    elif winner == 0 or (
        highest[0] > 0 and _fit_together(v, information, together, int(size[0]))[0][0] > _CLUSTER_SNR
    ):
        kind, best = "cluster", int(size[0])
    elif winner <= n_radio:
        kind = "radio"
    else:
        cold = _DUST[winner - 1 - n_radio][0] <= _COLD_K and sizes_arcmin[best] > _EXTENDED_ARCMIN
        kind = "cold clump" if cold else "dusty"
    (tsz_snr, radio_snr, dust_snr), chi2 = _fit_together(v, information, together, best)
    return SpectrumFit(kind, best, float(tsz_snr), float(radio_snr), float(dust_snr), chi2)


def _fit_together(v: Floats, information: Floats, spectra: Floats, size: int) -> tuple[Floats, float]:
    """S/N of each spectrum's amplitude in the fit of all to the band fluxes, and chi-square; NaN if bands are few."""
    if v.shape[1] < len(spectra):
        return np.full(len(spectra), np.nan), math.nan
    # band units differ by 1e5: scaled, the matrices are well conditioned
    scale = np.sqrt(np.diag(information[size]))
    m, data = information[size] / np.outer(scale, scale), v[size] / scale
    design = spectra * scale / np.linalg.norm(spectra * scale, axis=1)[:, None]
    normal = design @ m @ design.T
    amplitude = np.linalg.solve(normal, design @ data)
    chi2 = float(data @ np.linalg.solve(m, data) - amplitude @ normal @ amplitude)
    return amplitude / np.sqrt(np.diag(np.linalg.inv(normal))), max(chi2, 0.0)


class SizeFit(NamedTuple):
    """tSZ flux against size, and marginalised over it; ``snr``, ``flux``, ``error`` (n_size,) Y5R500 in arcmin^2."""

    snr: Floats
    flux: Floats
    error: Floats
    sizes_arcmin: Floats = SIZES_ARCMIN

    @property
    def best(self) -> int:
        """Number of the size of the highest S/N."""
        return int(self.snr.argmax())

    def marginalised(self) -> tuple[float, float]:
        """Mean and standard deviation of the flux for flat priors on size and flux."""
        log_weight = 0.5 * self.snr**2 + np.log(self.error * self.sizes_arcmin)  # the grid is even in ln theta
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        mean = float(weight @ self.flux)
        return mean, math.sqrt(float(weight @ (self.flux**2 + self.error**2)) - mean**2)

    def at(self, theta500_arcmin: ArrayLike) -> tuple[Floats, Floats]:
        """Flux and error at any sizes between the first and the last, by interpolation."""
        log_theta = np.log(np.clip(theta500_arcmin, self.sizes_arcmin[0], self.sizes_arcmin[-1]))
        known = np.column_stack([self.snr, np.log(self.error)])
        snr, log_error = np.moveaxis(CubicSpline(np.log(self.sizes_arcmin), known)(log_theta), -1, 0)
        return snr * np.exp(log_error), np.exp(log_error)


def fit_size(v: Floats, information: Floats, tsz: Floats, sizes_arcmin: Floats = SIZES_ARCMIN) -> SizeFit:
    """tSZ flux at every size; parameters as of :func:`fit_kind`.

    Examples
    --------
    >>> tsz = np.array([-1.0, -0.8])  # response of two bands
    >>> information = np.broadcast_to(np.diag([4.0, 4.0]), (1, 2, 2))  # errors of 0.5
    >>> v = 2.0 * information @ tsz  # of a source of flux 2
    >>> fit = fit_size(v, information, tsz, np.array([5.0]))
    >>> fit.flux.round(6).tolist(), fit.snr.round(2).tolist()  # 2 sqrt(4 x 1.64)
    ([2.0], [5.12])
    """
    power = np.einsum("b,kbc,c->k", tsz, information, tsz)
    signal = v @ tsz
    return SizeFit(signal / np.sqrt(power), signal / power, 1 / np.sqrt(power), sizes_arcmin)


def mass_from_flux(size_fit: SizeFit, z: float) -> tuple[float, float]:
    """M500 in 1e14 Msun, X-ray calibrated, and its error: where flux against size meets the mean relation at z.

    Source: Planck 2015 results XXVII (A&A 594, A27), Sect. 6.2; relations of Planck 2013 results XX (A&A 571, A20),
    eqs. 7 and 9. The error is that of the flux, without the relations' scatter.

    Returns
    -------
    float, float
        NaN where they do not meet: no signal.
    """
    mass = _MASSES_1E14MSUN
    redshift = np.full(mass.size, z)
    expected = Y5R500_PER_Y500 * y500_from_mass(mass, redshift, mass_bias=1.0)
    flux, error = size_fit.at(theta500_from_mass(mass, redshift, mass_bias=1.0))
    crossed = []
    for shift in (0.0, -1.0, 1.0):
        # in units of the flux expected: falls with mass
        below = np.flatnonzero((flux + shift * error) / expected < 1.0)
        k = int(below[0]) if below.size else 0
        if k == 0:
            crossed.append(np.nan)
            continue
        ends = np.log(np.maximum((flux + shift * error)[k - 1 : k + 1] / expected[k - 1 : k + 1], 1e-6))
        crossed.append(float(mass[k - 1] * (mass[k] / mass[k - 1]) ** (ends[0] / (ends[0] - ends[1]))))
    value, low, high = crossed
    return value, (high - low) / 2 if np.isfinite(low) else high - value


def measure_sources(
    maps: SkyMaps | MapSet,
    positions: Table,
    *,
    instrument: str | Instrument = "planck-hfi",
    filtered: Mapping[int, FieldState] | None = None,
    injected: bool = False,
    threads: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> Table:
    """Matched-filter flux, band fluxes, spectrum and kind at positions, whether anything was detected there or not.

    Source: Melin, Bartlett & Delabrouille (2006), Sect. 3; size and flux marginalised as in PSZ2 (Planck 2015 results
    XXVII, A&A 594, A27, Sect. 5), flat priors on both.

    Deviation: nothing within 10 arcmin of a position is filled in as a compact source.

    Parameters
    ----------
    maps : SkyMaps or MapSet
        Of nside 64 or more.
    positions : Table
        ``lon_deg``, ``lat_deg`` (Galactic); ``theta500_arcmin`` where there is a size to hold fixed, ``z`` where
        there is a redshift, NaN elsewhere.
    instrument : str or Instrument
        Response of the bands.
    filtered : mapping of int to FieldState, optional
        What the filter has learnt of the fields of these maps (:func:`szeek.filter.snrmaps.filter_sky`), by their
        pixels; a third of the time. The result does not depend on it.
    injected : bool
        Clusters were injected into these maps, and ``filtered`` is what the filter had learnt of them before.
    threads : int, optional
        Fields at once; the machine's cores by default. The result does not depend on it.
    client : distributed.Client, optional
        Measure on the workers of this Dask scheduler, for which the maps must be mapped from a folder.
    progress : Progress, optional
        Called as progress(stage, done, total, detail), in fields.

    Returns
    -------
    Table
        A row per position; NaN (``kind`` '') outside the footprint and within 0.3 deg of its border. Fluxes Y5R500
        are Compton y within 5 R500: 1.79 times Y500 (the integral of the profile: 1.796).

        ``snr``, ``theta500_arcmin`` : highest S/N over the sizes, and that size.
        ``y5r500_arcmin2``, ``y5r500_err_arcmin2`` : mean and standard deviation of the flux over all sizes.
        ``fixed_theta500_arcmin``, ``fixed_snr``, ``fixed_y5r500_arcmin2``, ``fixed_y5r500_err_arcmin2`` : at the size
        given, or else that of M500.
        ``population_y5r500_arcmin2``, ``population_y5r500_err_arcmin2``, ``population_theta500_arcmin`` : flux and
        apparent size with the population of haloes as prior, at the temperature of the gas, for the mean profiles of
        all, cool-core and disturbed clusters, beside dust of member galaxies
        (:func:`szeek.measure.fluxes.infer_flux`).
        ``constrained_snr``, ``constrained_y5r500_arcmin2``, ``constrained_y5r500_err_arcmin2`` : likewise beside dust
        of any amplitude and index; the highest S/N over the sizes, and the flux at the sizes of the above.
        ``m500_1e14msun``, ``m500_err_1e14msun`` : see :func:`mass_from_flux`.
        ``y_aperture_arcmin2``, ``y_aperture_err_arcmin2`` : Compton y in a disc of 10 arcmin less the ring of 15 to
        25, in the field's least-noise y map of 10 arcmin.
        ``spectrum_theta500_arcmin``, ``flux_mjy``, ``flux_err_mjy`` : (n_band,) flux densities for that size.
        ``kind``, ``tsz_snr``, ``radio_snr``, ``dust_snr``, ``chi2`` : see :func:`fit_kind`.
        ``size_snr``, ``size_y5r500_arcmin2``, ``size_y5r500_err_arcmin2`` : (24,) at :func:`list_flux_sizes`,
        which the table's ``meta["sizes_arcmin"]`` has too.

    Raises
    ------
    ValueError
        If a column is missing, the maps have bands that the instrument has not, or ``filtered`` is of other maps.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.simulate.inject import inject_clusters
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * planck.tsz_response * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> one = Table({"lon_deg": [120.0], "lat_deg": [50.0], "y500_arcmin2": [2e-2], "theta500_arcmin": [15.0]})
    >>> measured = measure_sources(inject_clusters(maps, one, planck), one, threads=1)
    >>> flux = float(measured["fixed_y5r500_arcmin2"][0]) / Y5R500_PER_Y500  # at its true size
    >>> str(measured["kind"][0]), round(flux, 2)
    ('cluster', 0.02)
    """
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    check_bands_known(maps, setup)
    positions = plain_table(positions, "positions")
    if missing := [name for name in ("lon_deg", "lat_deg") if name not in positions.colnames]:
        raise ValueError(f"the positions have columns {positions.colnames}, expected also {', '.join(missing)}")
    nothing = np.full(len(positions), np.nan)
    theta500, z = (
        np.asarray(positions[name], float) if name in positions.colnames else nothing
        for name in ("theta500_arcmin", "z")
    )
    vectors = unit_vectors(np.asarray(positions["lon_deg"], float), np.asarray(positions["lat_deg"], float))
    pixel = np.asarray(healpy.vec2pix(field_nside(maps), *vectors.reshape(-1, 3).T))
    fields = list_fields(maps)
    fields = fields[np.isin(fields["pixel"], pixel)]
    names = [band.name for band in maps.bands]
    spectra = list_spectra(setup, names)
    columns = [setup.band_names.index(name) for name in names]
    mjy = 1e9 * _ARCMIN**2 * (setup.mjysr_per_kcmb / setup.unit_per_kcmb)[columns]  # per map unit x arcmin^2
    spots = []
    rows = [np.flatnonzero(pixel == number) for number in fields["pixel"]]
    for field, mine in zip(fields, rows, strict=True):
        known = (filtered or {}).get(int(field["pixel"]))
        place = int(field["pixel"]), float(field["lon_deg"]), float(field["lat_deg"])
        spots.append(_Spots(place, vectors[mine], theta500[mine], z[mine], known, injected))
    sizes = list_flux_sizes(maps)
    out = _empty_table(len(positions), len(names))
    out.meta["sizes_arcmin"] = sizes.tolist()
    work = spread(
        _measure_in_field, spots, maps, setup, spectra, mjy, sizes, client=client, threads=threads,
        progress=progress, stage="measure", detail="fields",
    )  # fmt: skip
    arrays = {name: np.asarray(out[name]) for name in out.colnames}  # a column checks every value that it is given
    for number, found in work:
        for row, values in zip(rows[number], found, strict=True):
            for name, value in values.items():
                arrays[name][row] = value
    return out


class _Spots(NamedTuple):
    """Positions in a field, and what is known of it."""

    place: tuple[int, float, float]
    vectors: Floats
    theta500_arcmin: Floats
    z: Floats
    known: FieldState | None
    injected: bool


def _measure_in_field(
    spots: _Spots, maps: SkyMaps | MapSet, instrument: Instrument, spectra: Spectra, mjy: Floats, sizes_arcmin: Floats
) -> list[dict[str, Any]]:
    """A row of :func:`measure_sources` for each position; nothing for those that are not seen."""
    known, noise = (None, spots.known) if spots.injected else (spots.known, None)
    parts = open_parts(maps, spots.place, instrument, keep=spots.vectors, known=known, noise=noise)
    owner = assign_directions(parts, spots.vectors)
    found: list[dict[str, Any]] = [{} for _ in owner]
    for number, field in enumerate(parts):
        mine = np.flatnonzero((owner == number) & field.is_valid(spots.vectors))
        of_part = spots._replace(
            vectors=spots.vectors[mine], theta500_arcmin=spots.theta500_arcmin[mine], z=spots.z[mine]
        )
        if mine.size:
            rows = _measure_with(field, of_part, least_flux_arcmin2(maps), spectra, mjy, sizes_arcmin)
            for k, row in zip(mine, rows, strict=True):
                found[k] = row
    return found


def _measure_with(
    field: FilteredField, spots: _Spots, least: float, spectra: Spectra, mjy: Floats, sizes_arcmin: Floats
) -> list[dict[str, Any]]:
    """A row of :func:`measure_sources` for each position."""
    n_band = len(mjy)
    spectra, mjy = Spectra(*(spectrum[..., field.columns] for spectrum in spectra)), mjy[field.columns]
    sums = field.ring_sums(spots.vectors)
    kappa = field.ell * (sizes_arcmin[:, None] * _ARCMIN)
    shapes = np.stack([profile_transform(kappa, profile) for profile in VARIED_PROFILES])
    unit = field.unit / _ARCMIN**2
    mean = field.information(shapes)
    local = field.local_noise(shapes)
    y_aperture, y_error = field.sum_y(sums, _aperture(field.ell))
    found: list[dict[str, Any]] = []
    for k, vector in enumerate(spots.vectors):
        # a pixel of the field is larger than it seems, away from the centre
        area = float(vector @ field.basis[0]) ** 3
        v, m, share = shapes @ sums[k], mean, 1.0
        if local is not None:
            v, m, share = local.apply(v, m, vector)
        v, m = v / unit / area, m / np.outer(unit, unit) / area**2
        row = _describe(v, m, spectra, mjy, spots.theta500_arcmin[k], spots.z[k], sizes_arcmin, least)
        row |= {"y_aperture_arcmin2": y_aperture[k] * area, "y_aperture_err_arcmin2": y_error * share * area}
        for name in ("flux_mjy", "flux_err_mjy"):
            of_all = np.full(n_band, np.nan)
            of_all[field.columns] = row[name]
            row[name] = of_all
        found.append(row)
    return found


def _describe(
    v: Floats,
    information: Floats,
    spectra: Spectra,
    mjy: Floats,
    theta500_arcmin: float,
    z: float,
    sizes_arcmin: Floats,
    least_y500_arcmin2: float,
) -> dict[str, Any]:
    """A row of :func:`measure_sources` from v and M of each profile at every size."""
    profiles, (v, information) = (v, information), (v[0], information[0])
    sizes = fit_size(v, information, spectra.tsz, sizes_arcmin)
    fit = fit_kind(v, information, spectra, sizes_arcmin)
    flux, error = sizes.marginalised()
    mass, mass_error = mass_from_flux(sizes, z) if np.isfinite(z) and z > 0 else (np.nan, np.nan)
    if not np.isfinite(theta500_arcmin) and np.isfinite(mass):
        theta500_arcmin = float(theta500_from_mass(np.array([mass]), np.array([z]), mass_bias=1.0)[0])
    fixed_flux, fixed_error = sizes.at(theta500_arcmin) if np.isfinite(theta500_arcmin) else (np.nan, np.nan)
    haloes = halo_population(tuple(sizes_arcmin.tolist()), z, least_y500_arcmin2)
    # one band more than there is to fit
    n_fit = [min(n, len(spectra.tsz) - 1) for n in (1, 2)]
    beside_dust, constrained = (deproject(*profiles, spectra.members[:n]) for n in n_fit)
    inferred = infer_flux(*beside_dust, spectra.hot, sizes_arcmin, haloes)
    bound = infer_flux(*constrained, spectra.hot, sizes_arcmin, haloes, inferred.weight)
    bound_fit = fit_size(constrained[0][0], constrained[1][0], spectra.tsz, sizes_arcmin)
    scale = np.sqrt(np.diag(information[fit.size]))
    covariance = np.linalg.inv(information[fit.size] / np.outer(scale, scale)) / np.outer(scale, scale)
    return {
        "snr": sizes.snr[sizes.best],
        "theta500_arcmin": sizes_arcmin[sizes.best],
        "y5r500_arcmin2": flux,
        "y5r500_err_arcmin2": error,
        "fixed_theta500_arcmin": theta500_arcmin,
        "fixed_snr": fixed_flux / fixed_error,
        "fixed_y5r500_arcmin2": fixed_flux,
        "fixed_y5r500_err_arcmin2": fixed_error,
        "population_y5r500_arcmin2": inferred.flux,
        "population_y5r500_err_arcmin2": inferred.error,
        "population_theta500_arcmin": inferred.theta500_arcmin,
        "constrained_snr": bound_fit.snr[bound_fit.best],
        "constrained_y5r500_arcmin2": bound.flux,
        "constrained_y5r500_err_arcmin2": bound.error,
        "m500_1e14msun": mass,
        "m500_err_1e14msun": mass_error,
        "spectrum_theta500_arcmin": sizes_arcmin[fit.size],
        "flux_mjy": mjy * (covariance @ v[fit.size]),
        "flux_err_mjy": mjy * np.sqrt(np.diag(covariance)),
        "kind": fit.kind,
        "tsz_snr": fit.tsz_snr,
        "radio_snr": fit.radio_snr,
        "dust_snr": fit.dust_snr,
        "chi2": fit.chi2,
        "size_snr": sizes.snr,
        "size_y5r500_arcmin2": sizes.flux,
        "size_y5r500_err_arcmin2": sizes.error,
    }


def _empty_table(n_row: int, n_band: int) -> Table:
    """The columns of :func:`measure_sources`, nothing known."""
    vectors = {"flux_mjy": n_band, "flux_err_mjy": n_band}
    vectors |= dict.fromkeys(("size_snr", "size_y5r500_arcmin2", "size_y5r500_err_arcmin2"), SIZES_ARCMIN.size)
    table = Table({name: np.full(n_row, np.nan) for name in _SCALARS})
    table["kind"] = np.full(n_row, "", dtype=f"U{max(map(len, KINDS))}")
    for name, width in vectors.items():
        table[name] = np.full((n_row, width), np.nan)
    return table


def _aperture(ell: Floats) -> Floats:
    """Transform, in arcmin^2, of the sum over a disc less that of its background ring, at the y map's resolution."""

    def disc(radius_arcmin: float) -> Floats:
        x = ell * radius_arcmin * _ARCMIN
        return np.asarray(2 * j1(x) / x)

    inner, outer = RING_ARCMIN
    ring = (outer**2 * disc(outer) - inner**2 * disc(inner)) / (outer**2 - inner**2)
    sigma = _Y_FWHM_ARCMIN * _ARCMIN / math.sqrt(8 * math.log(2))
    area = math.pi * APERTURE_ARCMIN**2
    return np.asarray(area * (disc(APERTURE_ARCMIN) - ring) * np.exp(-0.5 * (ell * sigma) ** 2))
