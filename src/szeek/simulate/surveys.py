"""Mock survey catalogues: what Planck, X-ray and optical surveys would list of a known sky.

    PSZ2       Y500 / sigma(theta500, place) + noise > 4.5 in one of three pipelines; 13 % spurious
    MCXC       flux above the limit of the ROSAT surveys, and of serendipitous fields that go deeper
    redMaPPer  richness above 20 S(z) in the SDSS footprint, 0.08 < z < 0.55

Each has the common catalogue columns and ``truth_row``, the row of the halo table (-1: nothing there).
Masses inside the relations are X-ray calibrated ones, (1-b) times the true mass, where the relation was so
calibrated.
"""

from __future__ import annotations

from collections.abc import Callable

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from szeek.physics.cosmology import COSMOLOGY, angular_diameter_distance_mpc
from szeek.physics.scaling import MASS_BIAS, theta500_from_mass, y500_from_mass
from szeek.simulate.density import random_generator

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
_CM_PER_MPC = 3.0856775815e24

# --- PSZ2 -------------------------------------------------------------------------------------------------------
# Noise of Planck's matched filter on Y500: fitted to the published tables of the cosmology sample (SZ_thetas.txt,
# SZ_ylims.txt, SZ_skyfracs.txt of the Planck likelihood code; Planck 2015 results XXIV), 417 patches on
# 62.2 % of the sky: a median in ln theta500, and the patches' offsets by their rank in noise. 7 % rms.
_NOISE_THETA_ARCMIN = (1.0, 2.0, 3.5, 6.0, 10.0, 18.0, 32.0, 60.0, 100.0)
_NOISE_LN_SIGMA = (-9.301, -9.228, -8.979, -8.627, -8.214, -7.657, -7.051, -6.153, -4.876)
# Offset of ln sigma against the fraction of the whole sky that is less noisy. Past 62 % extrapolated to the edge
# of the PSZ2 mask.
_NOISE_SKY_FRACTION = (0.003, 0.012, 0.031, 0.062, 0.124, 0.218, 0.311, 0.404, 0.498, 0.56, 0.591, 0.61, 0.836)
_NOISE_OFFSET = (-0.492, -0.424, -0.314, -0.209, -0.107, -0.033, 0.0, 0.038, 0.103, 0.165, 0.237, 0.292, 0.42)
#: Share of the sky that the PSZ2 union catalogue covers. Planck 2015 results XXVII (A&A 594, A27).
PSZ2_SKY_FRACTION = 0.836
_SNR_MIN = 4.5
# The union of three pipelines keeps whatever one of them sees: 1653 entries against 1271 of MMF3 alone
# (Planck 2015 results XXVII). With 0.6 of their noise variance in common the union has
# its size within 10 %, and the redshifts and masses of three skies pass a two-sample test at the 1 % level.
_PIPELINES, _COMMON_NOISE = 3, 0.6
# 83-90 % of the 1653 entries are clusters (same paper, abstract): 13 % of them are not.
_N_SPURIOUS = 215.0
_SPURIOUS_SNR_SCALE = 0.55
# Share of the real detections of an S/N that have a redshift: REDSHIFT > 0 in HFI_PCCS_SZ-union_R2.08, over the
# purity at that S/N.
_REDSHIFT_SNR = (4.7, 5.2, 5.7, 6.5, 7.5, 9.0, 12.0)
_REDSHIFT_SHARE = (0.58, 0.64, 0.71, 0.82, 0.85, 0.89, 0.97)
# Offset of the position per axis, arcmin: from PSZ2 - MCXC pairs (median 1.55, 1.32, 1.05 and 0.92 arcmin at
# S/N of 5, 6, 8 and 15).
_POSITION_FLOOR_ARCMIN, _POSITION_NOISE_ARCMIN = 0.7, 5.3
#: Masses of the catalogue are for this Hubble constant; of a given flux and redshift they go as 1/h.
_PSZ2_H = 0.7

# --- MCXC -------------------------------------------------------------------------------------------------------
# L500 E^-7/3 = 10^0.274 1e44 erg/s (M500 / 3e14 Msun)^1.64, scatter 0.183 dex: Arnaud et al. (2010), eq. 10. The
# 0.62 brings the counts at 1e-11 and 2e-11 erg/s/cm2 to those of MCXC: X-ray counts want a lower sigma8 than
# the CMB (e.g. Boehringer et al. 2014, REFLEX II).
_LX_NORM, _LX_SLOPE, _LX_SCATTER_DEX = 0.62 * 10**0.274, 1.64, 0.183
# Scatters of L and Y at one mass go together in LoCuSS (Mulroy et al. 2019, MNRAS 484, 60); 0.5 is taken.
_LX_Y_CORRELATION = 0.5
_LEAST_SCATTERED = 10  # haloes, below which no scatter of Y500 is to be told
_MCXC_STREAM = "mock MCXC"
# (name, least |b|, greatest |b|, z above, share of sky, flux limit in 1e-12 erg/s/cm2 (0.1-2.4 keV), completeness).
# Piffaretti et al. (2011), and the fluxes of the catalogue's own rows.
_X_SURVEYS = (
    ("all sky", 20.0, 90.0, 0.0, 1.0, 2.2, 0.95),
    ("Galactic plane", 3.0, 20.0, 0.0, 1.0, 3.0, 0.45),
    ("massive and distant", 20.0, 90.0, 0.3, 1.0, 1.0, 0.2),
    ("serendipitous", 25.0, 90.0, 0.0, 0.026, 0.18, 0.9),
    ("deep fields", 25.0, 90.0, 0.0, 0.006, 0.08, 0.9),
)

# --- redMaPPer --------------------------------------------------------------------------------------------------
# Mean richness: slope of McClintock et al. (2019), scatter of Rozo & Rykoff (2014) beside Poisson. Normalised on
# the counts of the SDSS DR8 catalogue, which with the Planck cosmology lie a third below what the lensing masses
# predict, as in DES Year 1 (Abbott et al. 2020).
_RICHNESS_NORM, _RICHNESS_PIVOT_1E14MSUN, _RICHNESS_SLOPE, _RICHNESS_SCATTER_LN = 19.5, 1.2, 0.8, 0.25
_RICHNESS_MIN = 20.0
# Beyond z = 0.35 the missing faint members are corrected for, which costs noise (S) and, in the counts of the
# catalogue against this mass function, raises the richness: exp(3 (z - 0.35)).
_RICHNESS_DRIFT = 3.0
_REDMAPPER_Z = (0.08, 0.55)


def _common_table(
    survey: str,
    name: Callable[[SkyCoord], list[str]],
    lon_deg: Floats,
    lat_deg: Floats,
    truth_row: Rows,
    **columns: Floats,
) -> Table:
    """The common catalogue columns, with NaN where a survey says nothing."""
    position = SkyCoord(lon_deg, lat_deg, unit="deg", frame="galactic")
    icrs = position.icrs
    missing = np.full(lon_deg.size, np.nan)
    table = Table({"name": name(position) if lon_deg.size else np.zeros(0, "U18")})
    table["lon_deg"], table["lat_deg"] = lon_deg, lat_deg
    table["ra_deg"], table["dec_deg"] = icrs.ra.deg, icrs.dec.deg
    for column in ("z", "m500_1e14msun", "y500_arcmin2", "theta500_arcmin", "richness", "snr"):
        table[column] = columns.get(column, missing).astype(np.float64)
    table["survey"] = np.full(lon_deg.size, survey, dtype="U9")
    table["truth_row"] = truth_row
    return table


def _shift(
    lon_deg: Floats, lat_deg: Floats, sigma_arcmin: Floats | float, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Positions with a Gaussian error per axis."""
    vector = healpy.ang2vec(lon_deg, lat_deg, lonlat=True).reshape(-1, 3)
    sigma = np.radians(np.broadcast_to(sigma_arcmin, lon_deg.shape) / 60.0)
    moved = vector + sigma[:, None] * random.standard_normal(vector.shape)
    lon, lat = healpy.vec2ang(moved, lonlat=True)
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)


def planck_noise_arcmin2(theta500_arcmin: ArrayLike, sky_fraction: ArrayLike) -> Floats:
    """Noise of Planck's matched filter on Y500.

    Source: Planck 2015 results XXIV; a fit to its published table, 7 % rms.

    Parameters
    ----------
    theta500_arcmin : (n,) float64
        Filter size.
    sky_fraction : (n,) float64
        Share of the whole sky, 0 to 0.836, that is less noisy than this place.

    Returns
    -------
    (n,) float64
        sigma of Y500, arcmin^2.

    Examples
    --------
    >>> float(planck_noise_arcmin2(6.0, 0.311).round(6))
    0.000179
    """
    offset = np.interp(np.asarray(sky_fraction, np.float64), _NOISE_SKY_FRACTION, _NOISE_OFFSET)
    log_theta = np.log(np.asarray(theta500_arcmin, np.float64))
    return np.asarray(np.exp(np.interp(log_theta, np.log(_NOISE_THETA_ARCMIN), _NOISE_LN_SIGMA) + offset))


def _sky_fraction(lon_deg: Floats, lat_deg: Floats, dust: NDArray[np.floating] | None) -> Floats:
    """Share of the sky that has less dust than each place; without a map, dust falls with |b|."""
    if dust is None:
        return np.asarray(1.0 - np.sin(np.radians(np.abs(lat_deg))))
    level = np.asarray(dust, np.float64)
    if level.ndim != 1 or not healpy.isnpixok(level.size) or not np.isfinite(level).all():
        raise ValueError(f"dust has shape {level.shape}, expected one finite HEALPix RING map")
    nside = min(healpy.npix2nside(level.size), 64)
    level = healpy.ud_grade(level, nside)
    rank = np.empty(level.size)
    rank[np.argsort(level, kind="stable")] = (np.arange(level.size) + 0.5) / level.size
    return np.asarray(rank[healpy.ang2pix(nside, lon_deg, lat_deg, lonlat=True)])


def _name_psz2(position: SkyCoord) -> list[str]:
    return [
        f"PSZ2 G{np.floor(lon * 100) / 100:06.2f}{np.trunc(lat * 100) / 100:+06.2f}"
        for lon, lat in zip(position.l.deg, position.b.deg, strict=True)
    ]


def _name_mcxc(position: SkyCoord) -> list[str]:
    """'MCXC J0000.1+0816': hours, minutes and tenths; degrees and minutes, all truncated."""
    icrs = position.icrs
    names = []
    for ra, dec in zip(icrs.ra.deg * 40, np.abs(icrs.dec.deg) * 60, strict=True):  # tenths of a minute; arcmin
        tenths, arcmin = int(ra), int(dec)
        names.append(f"{tenths // 600:02d}{tenths % 600 / 10:04.1f}?{arcmin // 60:02d}{arcmin % 60:02d}")
    return _sign("MCXC J", names, icrs)


def _name_redmapper(position: SkyCoord) -> list[str]:
    """'RMJ155820.0+271400.3': to tenths of a second and of an arcsecond, truncated."""
    icrs = position.icrs
    names = []
    for ra, dec in zip(icrs.ra.deg * 2400, np.abs(icrs.dec.deg) * 36000, strict=True):  # tenths of seconds
        parts = [f"{t // 36000:02d}{t % 36000 // 600:02d}{t % 600 / 10:04.1f}" for t in (int(ra), int(dec))]
        names.append("?".join(parts))
    return _sign("RMJ", names, icrs)


def _sign(prefix: str, names: list[str], icrs: SkyCoord) -> list[str]:
    signs = np.where(icrs.dec.deg < 0, "-", "+")
    return [prefix + name.replace("?", sign) for name, sign in zip(names, signs, strict=True)]


def _check_truth(haloes: Table) -> None:
    needed = ("lon_deg", "lat_deg", "z", "m500_1e14msun", "y500_arcmin2", "theta500_arcmin")
    if missing := [name for name in needed if name not in haloes.colnames]:
        raise ValueError(f"the haloes have no column {', '.join(missing)}, expected a truth table")


def mock_psz2(
    haloes: Table,
    seed: int,
    *,
    dust: NDArray[np.floating] | None = None,
    map_noise: NDArray[np.floating] | None = None,
) -> Table:
    """The catalogue that Planck's matched filters would make of these haloes, over the union of three pipelines.

    Source: Planck 2015 results XXVII (PSZ2) and XXIV (noise). Deviation: the pipelines share one noise table and
    differ in half of the noise variance, which brings the union to its size.

    Parameters
    ----------
    haloes : Table
        Truth, see :func:`szeek.simulate.haloes.draw_haloes`.
    seed : int
        Seed of the survey's noise.
    dust : (n_pix,) float, optional
        Dust brightness, HEALPix RING, Galactic: sets where the noise is high, the masked 16.4 % of the sky, and
        where spurious entries crowd. Without it they follow Galactic latitude.
    map_noise : (n_halo,) float, optional
        Deviate of the maps' noise at each halo (:func:`szeek.simulate.mapnoise.noise_deviates`), which the
        pipelines have in common. Without it the catalogue has noise of its own, and faint entries that
        cannot be seen in any map.

    Returns
    -------
    Table
        Common columns, survey 'PSZ2', highest S/N first; ``z`` and the mass NaN where not confirmed;
        ``truth_row`` is -1 for the spurious entries.

    Raises
    ------
    ValueError
        If a column is missing or ``dust`` is no finite HEALPix map.

    Examples
    --------
    >>> from astropy.table import Table
    >>> haloes = Table({"lon_deg": [58.1], "lat_deg": [88.0], "z": [0.0231], "m500_1e14msun": [10.0]})
    >>> haloes["y500_arcmin2"], haloes["theta500_arcmin"] = 0.06, 48.0
    >>> found = mock_psz2(haloes, seed=1)
    >>> int(found["truth_row"][0]), bool(found["snr"][0] > 20)  # it leads the list, spurious entries follow
    (0, True)
    """
    _check_truth(haloes)
    random = random_generator(seed, "mock PSZ2")
    lon, lat, z, y500, theta = (
        np.asarray(haloes[name], np.float64)
        for name in ("lon_deg", "lat_deg", "z", "y500_arcmin2", "theta500_arcmin")
    )
    place = _sky_fraction(lon, lat, dust)
    snr_true = y500 / planck_noise_arcmin2(theta, place)
    common, own = random.standard_normal(lon.size), random.standard_normal((_PIPELINES, lon.size)).max(axis=0)
    if map_noise is not None:
        common = np.asarray(map_noise, np.float64)
    snr = snr_true + np.sqrt(_COMMON_NOISE) * common + np.sqrt(1 - _COMMON_NOISE) * own
    # A halo far below the noise is no cluster that Planck found: its place holds a noise peak, which the spurious
    # entries stand for.
    rows = np.flatnonzero((snr > _SNR_MIN) & (snr_true > 2.0) & (place < PSZ2_SKY_FRACTION))
    snr, place = snr[rows], place[rows]
    sigma = np.hypot(_POSITION_FLOOR_ARCMIN, _POSITION_NOISE_ARCMIN / snr)
    lon, lat = _shift(lon[rows], lat[rows], sigma, random)
    y_seen = y500[rows] * snr / snr_true[rows]
    confirmed = random.uniform(size=rows.size) < np.interp(snr, _REDSHIFT_SNR, _REDSHIFT_SHARE)
    z_seen = np.where(confirmed, z[rows], np.nan)
    mass = MASS_BIAS * (y_seen / y500_from_mass(np.ones(rows.size), z[rows])) ** (1 / 1.79)
    theta_seen = theta500_from_mass(mass, z[rows], mass_bias=1.0)

    false_lon, false_lat = _draw_spurious(random, dust)
    n_false = false_lon.size
    false_snr = _SNR_MIN + random.exponential(_SPURIOUS_SNR_SCALE, n_false)
    false_theta = random.lognormal(np.log(5.0), 0.5, n_false)
    false_y = false_snr * planck_noise_arcmin2(false_theta, _sky_fraction(false_lon, false_lat, dust))
    missing = np.full(n_false, np.nan)
    table = _common_table(
        "PSZ2",
        _name_psz2,
        np.append(lon, false_lon),
        np.append(lat, false_lat),
        np.append(rows, np.full(n_false, -1)),
        z=np.append(z_seen, missing),
        m500_1e14msun=np.append(np.where(confirmed, mass * COSMOLOGY.h / _PSZ2_H, np.nan), missing),
        y500_arcmin2=np.append(y_seen, false_y),
        theta500_arcmin=np.append(theta_seen, false_theta),
        snr=np.append(snr, false_snr),
    )
    return table[np.argsort(-table["snr"], kind="stable")]


def _draw_spurious(random: np.random.Generator, dust: NDArray[np.floating] | None) -> tuple[Floats, Floats]:
    """Positions of spurious detections: in the unmasked sky, in proportion to its noise rank plus a constant."""
    nside = 64
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    place = _sky_fraction(lon, lat, dust)
    weight = np.where(place < PSZ2_SKY_FRACTION, 0.3 + place, 0.0)
    number = random.poisson(_N_SPURIOUS)
    pixels = random.choice(weight.size, number, p=weight / weight.sum())
    return _shift(lon[pixels], lat[pixels], np.full(number, 20.0), random)


def draw_xray_luminosity(haloes: Table, seed: int, random: np.random.Generator | None = None) -> Floats:
    """X-ray luminosity of each halo within R500, 0.1 - 2.4 keV, in 1e44 erg/s: the same in every survey of a sky.

    The deviation from the mean relation goes with that of Y500, with a correlation of 0.5.

    Source: Arnaud et al. (2010), Eq. 10, for slope and scatter; normalised on the counts of MCXC.

    Parameters
    ----------
    haloes : Table
        Truth.
    seed : int
        Of the sky.
    random : numpy.random.Generator, optional
        That of the mock MCXC, where the caller goes on drawing from it.

    Returns
    -------
    (n,) float64
    """
    random = random_generator(seed, _MCXC_STREAM) if random is None else random
    z, mass, y500 = (np.asarray(haloes[name], np.float64) for name in ("z", "m500_1e14msun", "y500_arcmin2"))
    mean = _LX_NORM * COSMOLOGY.efunc(z) ** (7 / 3) * (MASS_BIAS * mass / 3.0) ** _LX_SLOPE
    own = random.standard_normal(z.size)
    if z.size < _LEAST_SCATTERED:
        return np.asarray(mean * 10 ** (_LX_SCATTER_DEX * own))
    # what is left of Y500 beyond a power of the mass: another look of clusters has another slope
    log_mass, excess = np.log(mass), np.log(y500 / y500_from_mass(mass, z))
    excess -= np.polyval(np.polyfit(log_mass, excess, 1), log_mass)
    gas = excess / max(float(excess.std()), 1e-6)
    both = _LX_Y_CORRELATION * gas + np.sqrt(1 - _LX_Y_CORRELATION**2) * own
    return np.asarray(mean * 10 ** (_LX_SCATTER_DEX * both))


def flux_of_luminosity(luminosity_1e44: Floats, z: Floats) -> Floats:
    """Flux in erg/s/cm2 of a luminosity in 1e44 erg/s, without K-correction."""
    distance_cm = angular_diameter_distance_mpc(z) * (1 + z) ** 2 * _CM_PER_MPC  # luminosity distance
    return np.asarray(luminosity_1e44 * 1e44 / (4 * np.pi * distance_cm**2))


def mock_mcxc(haloes: Table, seed: int) -> Table:
    """A meta-catalogue of X-ray clusters: flux-limited over the sky, deeper in small fields.

    Source: Piffaretti et al. (2011) for the surveys; luminosities from Arnaud et al. (2010).

    Parameters
    ----------
    haloes : Table
        Truth. Haloes below 7e13 Msun, if absent there, are absent here: MCXC has about 150 such groups.
    seed : int
        Seed of the scatter and of the fields.

    Returns
    -------
    Table
        Common columns, survey 'MCXC', all with a redshift; ``m500_1e14msun`` is inferred from the luminosity.

    Examples
    --------
    >>> from astropy.table import Table
    >>> haloes = Table({"lon_deg": [58.1], "lat_deg": [88.0], "z": [0.0231], "m500_1e14msun": [10.0]})
    >>> haloes["y500_arcmin2"], haloes["theta500_arcmin"] = 0.06, 48.0
    >>> mock_mcxc(haloes, seed=1).colnames[:3]
    ['name', 'lon_deg', 'lat_deg']
    """
    _check_truth(haloes)
    random = random_generator(seed, _MCXC_STREAM)
    lon, lat, z = (np.asarray(haloes[name], np.float64) for name in ("lon_deg", "lat_deg", "z"))
    efunc = COSMOLOGY.efunc(z) ** (7 / 3)
    luminosity = draw_xray_luminosity(haloes, seed, random)
    flux = flux_of_luminosity(luminosity, z) / 1e-12
    chosen = np.zeros(z.size, bool)
    latitude = np.abs(lat)
    nside = 64  # 0.84 deg^2, a ROSAT field
    field = healpy.ang2pix(nside, lon, lat, lonlat=True)
    for _, b_min, b_max, z_above, share, limit, completeness in _X_SURVEYS:
        pointed = random.uniform(size=12 * nside**2) < share
        # Surveys fade in over a tenth of a dex about their limit.
        fades = np.exp(0.25 * random.standard_normal(z.size))
        kept = random.uniform(size=z.size) < completeness
        inside = (latitude > b_min) & (latitude <= b_max) & (z > z_above) & pointed[field]
        chosen |= inside & kept & (flux * fades > limit)
    rows = np.flatnonzero(chosen)
    lon, lat = _shift(lon[rows], lat[rows], 0.3, random)
    seen = 3.0 * (luminosity[rows] / efunc[rows] / 10**0.274) ** (1 / _LX_SLOPE)
    return _common_table(
        "MCXC",
        _name_mcxc,
        lon,
        lat,
        rows,
        z=z[rows],
        m500_1e14msun=seen,
        theta500_arcmin=theta500_from_mass(seen, z[rows], mass_bias=1.0),
    )


def in_sdss(lon_deg: Floats, lat_deg: Floats) -> NDArray[np.bool_]:
    """True inside a simple outline of the SDSS DR8 footprint of redMaPPer, about 10,400 deg^2.

    Source: Rykoff et al. (2014): the northern cap at b > 24 deg, and the southern one.
    """
    icrs = SkyCoord(lon_deg, lat_deg, unit="deg", frame="galactic").icrs
    ra, dec = icrs.ra.deg, icrs.dec.deg
    north = (ra > 113) & (ra < 256) & (dec > -3) & (dec < 67) & (lat_deg > 24)
    ra = (ra + 180) % 360 - 180
    south = (ra > -42) & (ra < 36) & (dec > -11) & (dec < 34) & (lat_deg < -25)
    return np.asarray(north | south)


def mock_redmapper(haloes: Table, seed: int) -> Table:
    """A catalogue of optically selected clusters in the SDSS footprint, richness above 20 S(z).

    Source: Rykoff et al. (2014): footprint, redshift range, and the depth factor S(z) beyond z = 0.35.

    Parameters
    ----------
    haloes : Table
        Truth, down to 7e13 Msun for a complete sample at richness > 30.
    seed : int
        Seed of the scatter.

    Returns
    -------
    Table
        Common columns, survey 'REDMAPPER', richest first; ``richness`` filled, no mass.

    Examples
    --------
    >>> from astropy.table import Table
    >>> haloes = Table({"lon_deg": [58.1], "lat_deg": [88.0], "z": [0.12], "m500_1e14msun": [10.0]})
    >>> haloes["y500_arcmin2"], haloes["theta500_arcmin"] = 0.002, 9.0
    >>> bool(mock_redmapper(haloes, seed=1)["richness"][0] > 20)
    True
    """
    _check_truth(haloes)
    random = random_generator(seed, "mock redMaPPer")
    lon, lat, z, mass = (
        np.asarray(haloes[name], np.float64) for name in ("lon_deg", "lat_deg", "z", "m500_1e14msun")
    )
    mean = _RICHNESS_NORM * (mass / _RICHNESS_PIVOT_1E14MSUN) ** _RICHNESS_SLOPE
    mean *= np.exp(_RICHNESS_DRIFT * np.clip(z - 0.35, 0.0, 0.25))
    depth = _depth_factor(z)
    scatter = np.sqrt(_RICHNESS_SCATTER_LN**2 + depth / mean)
    richness = mean * np.exp(scatter * random.standard_normal(z.size))
    chosen = (z > _REDMAPPER_Z[0]) & (z < _REDMAPPER_Z[1]) & (richness > _RICHNESS_MIN * depth)
    rows = np.flatnonzero(chosen)
    rows = rows[in_sdss(lon[rows], lat[rows])]
    # Photometric redshifts: sigma_z = 0.006 (1+z); centres: a fifth are misplaced, by about 0.2 Mpc.
    z_seen = z[rows] + 0.006 * (1 + z[rows]) * random.standard_normal(rows.size)
    distance_mpc = angular_diameter_distance_mpc(z[rows])
    off_arcmin = np.degrees(0.2 / distance_mpc) * 60 * (random.uniform(size=rows.size) < 0.2)
    lon, lat = _shift(lon[rows], lat[rows], np.hypot(0.2, off_arcmin), random)
    table = _common_table("REDMAPPER", _name_redmapper, lon, lat, rows, z=z_seen, richness=richness[rows])
    return table[np.argsort(-table["richness"], kind="stable")]


def _depth_factor(z: Floats) -> Floats:
    """S(z): how much the least richness rises where SDSS no longer sees 0.2 L*; from the catalogue's rows."""
    beyond = np.clip(z - 0.35, 0.0, 0.25)
    return np.asarray(np.exp(4.0 * beyond + 6.0 * beyond**2))
