"""Compact sources: radio galaxies, dusty galaxies, cluster members, cold clumps; and how they are painted.

    dN/dS from published counts  ->  flux in every band from a spectrum with scatter  ->  a beam-shaped spot

Sources fainter than the limits below are the Gaussian shot noise of the CIB (:mod:`szeek.simulate.components.cib`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import healpy
import numba
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.inputs.reddening import read_column_map
from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.instrument import Instrument
from szeek.physics.scaling import MASS_BIAS
from szeek.simulate.components.dust import modified_blackbody
from szeek.simulate.haloes import random_generator
from szeek.sky.harmonics import FWHM_PER_SIGMA, Floats
from szeek.sky.healpix import pixel_window_sigma_rad, ring_above, ring_start

Map32 = NDArray[np.float32]

# Euclidean-normalised counts S^2.5 dN/dS in Jy^1.5/sr.
# Radio, 143 GHz: model C2Ex of Tucci et al. (2011, A&A 533, A57) as compared with Planck's counts in Planck
# Intermediate Results VII (2013, A&A 550, A133); shot noise below 350 mJy is then 6 Jy^2/sr (Planck 2013 XXX:
# 6.05 +- 1.47). The authors' own table has 0.8 of these at 10 to 30 mJy, 0.9 at 0.1 Jy, 1.0 at 0.3 Jy, 1.1 at 1 Jy,
# 1.2 to 1.4 above 3 Jy.
RADIO_COUNTS_JY = np.array([0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 20.0])
RADIO_COUNTS = np.array([1.6, 2.5, 4.0, 6.0, 9.0, 13.0, 13.0, 9.0, 6.0])
# Dusty, 857 GHz: Bethermin et al. (2012, ApJ 757, L23) below 0.3 Jy, plateau of the local galaxies from Planck
# Intermediate Results VII (2013). Shot noise below 710 mJy is then 5,300 Jy^2/sr (published: 5,628).
DUSTY_COUNTS_JY = np.array([0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0])
DUSTY_COUNTS = np.array([14000.0, 10000.0, 5000.0, 1500.0, 700.0, 600.0, 600.0, 600.0])
RADIO_LIMIT_JY, DUSTY_LIMIT_JY = 0.003, 0.06

# Spectral index of radio sources, S ~ nu^alpha: -0.5 below 143 GHz and -0.7 above on average, with a
# scatter of 0.3 (Planck Intermediate Results VII; Planck early results XIII).
_RADIO_INDEX_LOW, _RADIO_INDEX_HIGH, _RADIO_INDEX_SCATTER = -0.45, -0.65, 0.3
# Observed dust temperature T/(1+z): 22 K of local galaxies (Planck Intermediate Results VII) at
# 0.5 Jy; 14 K at 0.06 Jy, where z is about 1 (Bethermin et al. 2012).
_DUSTY_BETA, _DUSTY_SCATTER_K = 1.75, 2.5

# Dust of cluster galaxies: 1.1e10 Msun at T = 24 K, beta = 1.5, in clusters of 5.6e14 Msun at z = 0.26; their masses
# are those of the Planck catalogue, (1-b) M500. Planck Intermediate Results XLIII (2016, A&A 596, A104);
# kappa(353 GHz) = 0.0431 m^2/kg there.
_CLUSTER_DUST_MSUN, _CLUSTER_DUST_K, _CLUSTER_DUST_BETA = 1.1e10, 24.2, 1.5
_CLUSTER_DUST_M500, _CLUSTER_DUST_KAPPA = 5.6, 0.0431
# Radio galaxies in clusters: about a tenth of clusters host one above 1e24 W/Hz at 150 GHz, luminosity function
# ~ L^-0.6 per ln L (Gupta et al. 2017, MNRAS 467, 3737).
_CLUSTER_RADIO_FRACTION, _CLUSTER_RADIO_W_HZ, _CLUSTER_RADIO_SLOPE = 0.1, 1e24, 0.6

# Planck 2015 results XXVIII (A&A 594, A28): 13,188 sources; T = 13-14.5 K, beta about 2; sizes 8-10 arcmin.
_CLUMP_NUMBER, _CLUMP_K, _CLUMP_SCATTER_K, _CLUMP_BETA = 13188, 14.0, 1.2, 2.0
_CLUMP_FWHM_ARCMIN, _CLUMP_AXIS_SCATTER = 8.5, 1.0
_CLUMP_CONTRAST, _CLUMP_CONTRAST_SCATTER_LN = 0.25, 0.5

_SPOT_RADIUS_SIGMA = 3.7
_TABLE_STEPS = 256  # per unit of d^2 / (2 sigma^2)
_N_ZONES = 96


@dataclass(frozen=True)
class Sources:
    """Compact sources of one kind.

    Parameters
    ----------
    lon_deg, lat_deg : (n,) float64
        Galactic.
    flux_jy : (n, n_band) float64
    fwhm_arcmin : (n,) float64
        Own extent before the beam; 0 for a point.
    """

    lon_deg: Floats
    lat_deg: Floats
    flux_jy: Floats
    fwhm_arcmin: Floats

    def __len__(self) -> int:
        return self.lon_deg.size

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Sources:
        """Some of them."""
        return Sources(self.lon_deg[index], self.lat_deg[index], self.flux_jy[index], self.fwhm_arcmin[index])

    def shot_noise(self, flux_cut_jy: Floats) -> Floats:
        """Sum of S_i S_j / 4 pi over the sources below the cuts in both bands, (n_band, n_band), Jy^2/sr."""
        below = np.where(self.flux_jy < flux_cut_jy, self.flux_jy, 0.0)
        return below.T @ below / (4 * np.pi)


def draw_directions(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """``n`` directions uniform on the sphere: longitude and latitude in deg."""
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def counts_above(flux_jy: Floats, counts: Floats, limit_jy: float) -> tuple[float, Floats, Floats]:
    """Number per sr above a flux, and the table (flux, cumulative number from the faint end) to draw from.

    Counts S^2.5 dN/dS are interpolated in logarithms.
    """
    grid = np.geomspace(limit_jy, flux_jy[-1], 2000)
    density = np.exp(np.interp(np.log(grid), np.log(flux_jy), np.log(counts))) * grid**-2.5
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    return float(cumulative[-1]), grid, cumulative


def draw_fluxes(flux_jy: Floats, counts: Floats, limit_jy: float, rng: np.random.Generator) -> Floats:
    """Fluxes in Jy of a Poisson number of sources over the whole sky."""
    per_sr, grid, cumulative = counts_above(flux_jy, counts, limit_jy)
    n = int(rng.poisson(4 * np.pi * per_sr))
    return np.interp(rng.uniform(0, per_sr, n), cumulative, grid)


def draw_radio_sources(instrument: Instrument, seed: int) -> Sources:
    """Radio galaxies above 3 mJy at 143 GHz."""
    rng = random_generator(seed, "radio sources")
    flux = draw_fluxes(RADIO_COUNTS_JY, RADIO_COUNTS, RADIO_LIMIT_JY, rng)
    return Sources(*draw_directions(flux.size, rng), _radio_spectrum(flux, instrument, rng), np.zeros(flux.size))


#: Counts of radio galaxies below those of RADIO_COUNTS go on as S^2.5 dN/dS ~ S^0.5, down to this flux at 143 GHz;
#: what is fainter adds 0.003 Jy^2/sr to the shot noise.
FAINT_RADIO_JY, _FAINT_RADIO_SLOPE = 1e-4, 0.5


def draw_faint_radio_sources(instrument: Instrument, seed: int, nside: int, cell: int) -> Sources:
    """Radio galaxies between 0.1 and 3 mJy at 143 GHz in one HEALPix pixel, RING, Galactic.

    Source: Tucci et al. (2011) as :data:`RADIO_COUNTS` has it at 3 mJy, extrapolated with the slope that the counts
    of De Zotti et al. (2005, A&A 431, 893) have there.
    """
    rng = random_generator(seed, f"faint radio sources of cell {cell}")
    flux_jy = np.array([FAINT_RADIO_JY, RADIO_LIMIT_JY])
    counts = RADIO_COUNTS[0] * (flux_jy / RADIO_LIMIT_JY) ** _FAINT_RADIO_SLOPE
    per_sr, grid, cumulative = counts_above(flux_jy, counts, FAINT_RADIO_JY)
    n = int(rng.poisson(per_sr * healpy.nside2pixarea(nside)))
    flux = np.interp(rng.uniform(0, per_sr, n), cumulative, grid)
    fine = 1 << 20
    descendants = (fine // nside) ** 2
    nested = healpy.ring2nest(nside, cell) * descendants + rng.integers(0, descendants, n)
    lon_deg, lat_deg = healpy.pix2ang(fine, nested, nest=True, lonlat=True)
    return Sources(lon_deg, lat_deg, _radio_spectrum(flux, instrument, rng), np.zeros(n))


def _radio_spectrum(flux_143_jy: Floats, instrument: Instrument, rng: np.random.Generator) -> Floats:
    """Fluxes in every band of radio sources of given flux at 143 GHz, (n, n_band)."""
    log_ratio = np.log([b.freq_ghz / 143.0 for b in instrument.bands])
    offset = _RADIO_INDEX_SCATTER * rng.standard_normal(flux_143_jy.size)[:, None]
    index = np.where(log_ratio < 0, _RADIO_INDEX_LOW, _RADIO_INDEX_HIGH) + offset
    return np.asarray(flux_143_jy[:, None] * np.exp(index * log_ratio))


def draw_dusty_sources(instrument: Instrument, seed: int) -> Sources:
    """Dusty galaxies above 60 mJy at 857 GHz."""
    rng = random_generator(seed, "dusty sources")
    flux = draw_fluxes(DUSTY_COUNTS_JY, DUSTY_COUNTS, DUSTY_LIMIT_JY, rng)
    temperature = np.interp(np.log(flux), np.log([0.06, 0.5]), [14.0, 22.0])
    temperature = np.clip(temperature + _DUSTY_SCATTER_K * rng.standard_normal(flux.size), 9.0, 35.0)
    lon_deg, lat_deg = draw_directions(flux.size, rng)
    spectrum = _dust_spectrum(temperature, _DUSTY_BETA, instrument)
    return Sources(lon_deg, lat_deg, flux[:, None] * spectrum, np.zeros(flux.size))


def _dust_spectrum(temperature_k: Floats, beta: float, instrument: Instrument) -> Floats:
    """Flux in every band relative to 857 GHz, (n, n_band)."""
    reference = modified_blackbody(857.0, temperature_k, beta)
    bands = [modified_blackbody(b.freq_ghz, temperature_k, beta) / reference for b in instrument.bands]
    return np.stack(bands, axis=1)


def draw_cluster_galaxies(
    haloes: Table,
    instrument: Instrument,
    seed: int,
    *,
    component: str = "cluster galaxies",
    faintest_jy: float = 0.05,
    radio: bool = True,
) -> Sources:
    """Infrared and radio emission of the galaxies in clusters.

    Dust scales with mass and as (1 + z)^2 with the star formation of cluster galaxies (Planck Intermediate
    Results XLIII), scatter 0.4 in ln, spread over the cluster; a radio galaxy sits near the centre. Masses are true.
    Columns ``dust_factor`` and
    ``radio_factor`` multiply the dust and the share of clusters with a radio galaxy. Dust below ``faintest_jy`` at
    857 GHz, and radio galaxies below 2 mJy at 143 GHz, are left out; all of the latter without ``radio``.
    """
    rng = random_generator(seed, component)
    z = np.asarray(haloes["z"], dtype=np.float64)
    mass = np.asarray(haloes["m500_1e14msun"], dtype=np.float64)
    scatter = np.exp(0.4 * rng.standard_normal(z.size) - 0.08)  # mean 1
    times = scatter * _factor(haloes, "dust_factor")
    flux = cluster_dust_jy(mass, z, instrument, times)
    distance_m = _luminosity_distance_m(z)
    extent = np.asarray(haloes["theta500_arcmin"], dtype=np.float64)
    lon_deg = np.asarray(haloes["lon_deg"], dtype=np.float64)
    lat_deg = np.asarray(haloes["lat_deg"], dtype=np.float64)
    dusty = _cluster_dust_jy(mass, z, [857.0], times)[:, 0] > faintest_jy
    share = _CLUSTER_RADIO_FRACTION * np.clip(mass / 3.0, 0.2, 3.0) * _factor(haloes, "radio_factor")
    loud = rng.uniform(size=z.size) < share
    luminosity = _CLUSTER_RADIO_W_HZ * rng.uniform(size=z.size) ** (-1 / _CLUSTER_RADIO_SLOPE)
    radio_jy = np.minimum(luminosity, 3e26) / (4 * np.pi * distance_m**2) * 1e26
    loud &= (radio_jy > 2e-3) & radio
    return Sources(
        np.concatenate([lon_deg[dusty], lon_deg[loud]]),
        np.concatenate([lat_deg[dusty], lat_deg[loud]]),
        np.concatenate([flux[dusty], _radio_spectrum(radio_jy[loud], instrument, rng)]),
        np.concatenate([extent[dusty], np.zeros(np.count_nonzero(loud))]),
    )


def cluster_dust_jy(m500_1e14msun: Floats, z: Floats, instrument: Instrument, times: Floats | float = 1.0) -> Floats:
    """Mean flux of the dust of member galaxies in each band, (n, n_band) float64 in Jy.

    Source: Planck Intermediate Results XLIII (2016), Sect. 5, as :func:`draw_cluster_galaxies` has it.

    Parameters
    ----------
    m500_1e14msun, z : (n,) float64
        True mass, redshift.
    instrument : Instrument
    times : (n,) float64
        Of the mean.
    """
    return _cluster_dust_jy(m500_1e14msun, z, [band.freq_ghz for band in instrument.bands], times)


def _cluster_dust_jy(m500_1e14msun: Floats, z: Floats, freq_ghz: Sequence[float], times: Floats | float) -> Floats:
    dust_kg = _CLUSTER_DUST_MSUN * 1.989e30 * MASS_BIAS * m500_1e14msun / _CLUSTER_DUST_M500
    dust_kg = dust_kg * ((1 + z) / 1.26) ** 2 * times
    # kappa B_nu at the emitted frequency; MJy/sr x m^2 / m^2 x 1e6 = Jy
    per_brightness = dust_kg * _CLUSTER_DUST_KAPPA * (1 + z) / _luminosity_distance_m(z) ** 2 * 1e6
    brightness = [modified_blackbody_redshifted(freq, z) for freq in freq_ghz]
    return np.asarray(per_brightness[:, None] * np.stack(brightness, axis=1))


def _luminosity_distance_m(z: Floats) -> Floats:
    grid = np.geomspace(1e-3, 4.0, 500)
    return np.asarray(np.interp(z, grid, COSMOLOGY.luminosity_distance(grid).to_value("m")))


def _factor(haloes: Table, name: str) -> Floats:
    """How a halo differs from what is published; 1 where it does not."""
    return np.asarray(haloes[name], np.float64) if name in haloes.colnames else np.ones(len(haloes))


def modified_blackbody_redshifted(freq_ghz: float, z: Floats) -> Floats:
    """Brightness of cluster dust at the frequency emitted, (n,) float64 in MJy/sr, optical depth 1 at 353 GHz."""
    emitted = freq_ghz * (1 + z)
    at_observed = modified_blackbody(freq_ghz, _CLUSTER_DUST_K / (1 + z), _CLUSTER_DUST_BETA)
    # B_nu'(T) = (1+z)^3 B_nu(T/(1+z)); the power law is that of the emitted frequency
    return np.asarray(at_observed * (1 + z) ** 3 * (emitted / freq_ghz) ** _CLUSTER_DUST_BETA)


def draw_cold_clumps(instrument: Instrument, seed: int) -> Sources:
    """Galactic cold clumps: where the dust column is high, a fraction of the local brightness in a spot.

    Source: Planck 2015 results XXVIII (PGCC). Deviation: contrasts are lognormal about a quarter of the local
    857 GHz brightness, not the catalogue's fluxes.
    """
    rng = random_generator(seed, "cold clumps")
    column = read_column_map("dust_ebv_Planck13")
    weight = np.where(column > 0.15, np.minimum(column, 6.0) ** 1.3, 0.0)
    pixel = rng.choice(column.size, _CLUMP_NUMBER, p=weight / weight.sum())
    lon_deg, lat_deg = healpy.pix2ang(64, pixel, lonlat=True)
    scatter = 0.5 * rng.standard_normal((2, _CLUMP_NUMBER))
    lat_deg = np.clip(lat_deg + scatter[0], -90, 90)
    lon_deg = (lon_deg + scatter[1] / np.maximum(np.cos(np.radians(lat_deg)), 0.05)) % 360
    fwhm = np.clip(_CLUMP_FWHM_ARCMIN + _CLUMP_AXIS_SCATTER * rng.standard_normal(_CLUMP_NUMBER), 5.0, 13.0)
    temperature = np.clip(_CLUMP_K + _CLUMP_SCATTER_K * rng.standard_normal(_CLUMP_NUMBER), 9.0, 19.0)
    background = column[pixel] * modified_blackbody(857.0, 19.7, 1.62) / 1.49e4
    contrast = _CLUMP_CONTRAST * np.exp(_CLUMP_CONTRAST_SCATTER_LN * rng.standard_normal(_CLUMP_NUMBER))
    solid_angle = 2 * np.pi * (np.radians(fwhm / 60) / FWHM_PER_SIGMA) ** 2
    flux_857 = 1e6 * contrast * np.minimum(background, 300.0) * solid_angle
    spectrum = _dust_spectrum(temperature, _CLUMP_BETA, instrument)
    return Sources(lon_deg, lat_deg, flux_857[:, None] * spectrum, fwhm)


def paint_sources(
    sources: Sources,
    instrument: Instrument,
    nside: int,
    fwhm_arcmin: Floats,
    *,
    out: Map32,
    faintest: float = 0.02,
    threads: int = 0,
) -> Map32:
    """Add sources to interleaved maps, each a Gaussian of beam, pixel window and own extent.

    Parameters
    ----------
    sources : Sources
    instrument : Instrument
    nside : int
    fwhm_arcmin : (n_band,) float64
        Beams.
    out : (12 nside^2, n_band) float32, C order, RING, map units
        Added to, and returned.
    faintest : float
        A source is left out of a band where its peak is below this fraction of the band's noise in a pixel;
        there it is part of the shot noise.
    threads : int
        0 uses all that numba has. The result has the same bits for any number.
    """
    if out.shape != (12 * nside * nside, len(instrument.bands)) or out.dtype != np.float32:
        raise ValueError(f"out is {out.dtype} {out.shape}, expected float32 (12 nside^2, n_band)")
    if len(sources) == 0:
        return out
    beam = np.radians(fwhm_arcmin / 60) / FWHM_PER_SIGMA
    own = np.radians(sources.fwhm_arcmin / 60) / FWHM_PER_SIGMA
    variance = beam**2 + pixel_window_sigma_rad(nside) ** 2 + own[:, None] ** 2
    per_jy = 1e-6 * instrument.unit_per_kcmb / instrument.mjysr_per_kcmb
    peak = sources.flux_jy * per_jy / (2 * np.pi * variance)
    pixel_deg = np.degrees(np.sqrt(4 * np.pi / (12 * nside * nside)))
    noise = instrument.noise_uk_deg * np.where(instrument.unit_per_kcmb == 1.0, 1e-6, 1e-3) / pixel_deg
    peak = np.where(np.abs(peak) > faintest * noise, peak, 0.0)

    reach = np.where(peak != 0.0, variance, 0.0).max(axis=1)
    keep = np.flatnonzero(reach > 0)
    theta = np.radians(90.0 - sources.lat_deg[keep])
    order = keep[np.argsort(theta, kind="stable")]
    steps = np.arange(int(_TABLE_STEPS * _SPOT_RADIUS_SIGMA**2 / 2) + 2) / _TABLE_STEPS
    previous = numba.get_num_threads()
    numba.set_num_threads(min(threads, previous) if threads else previous)
    try:
        _paint(
            nside,
            np.radians(90.0 - sources.lat_deg[order]),
            np.radians(sources.lon_deg[order]),
            peak[order].astype(np.float32),
            (0.5 / variance[order]).astype(np.float64),
            _SPOT_RADIUS_SIGMA * np.sqrt(reach[order]),
            np.exp(-steps).astype(np.float32),
            out,
        )
    finally:
        numba.set_num_threads(previous)
    return out


# The parallel loop is a thin shell about a plain function: numba compiles what stands inside it several times over.
@numba.njit(cache=True, parallel=True)
def _paint(nside, theta, phi, peak, inverse, radius, table, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Zones of rings run in parallel; each paints, in order of colatitude, what reaches into it."""
    n_ring = 4 * nside - 1
    largest = radius.max()
    for zone in numba.prange(_N_ZONES):
        first_ring = 1 + zone * n_ring // _N_ZONES
        last_ring = (zone + 1) * n_ring // _N_ZONES
        _paint_zone(nside, first_ring, last_ring, theta, phi, peak, inverse, radius, largest, table, out)


@numba.njit(cache=True)
def _paint_zone(  # type: ignore[no-untyped-def]  # pragma: no cover
    nside, first_ring, last_ring, theta, phi, peak, inverse, radius, largest, table, out
):
    """Paint the rings first_ring ... last_ring."""
    if last_ring < first_ring:
        return
    n_band = peak.shape[1]
    limit = _SPOT_RADIUS_SIGMA**2 / 2
    top = np.arccos(ring_start(nside, first_ring)[2]) - largest
    bottom = np.arccos(ring_start(nside, last_ring)[2]) + largest
    for i in range(np.searchsorted(theta, top), np.searchsorted(theta, bottom)):
        cos_t, sin_t = np.cos(theta[i]), np.sin(theta[i])
        ring_0 = max(first_ring, ring_above(nside, np.cos(max(theta[i] - radius[i], 0.0))))
        ring_1 = min(last_ring, ring_above(nside, np.cos(min(theta[i] + radius[i], np.pi))) + 1)
        for ring in range(ring_0, ring_1 + 1):
            start, count, z, first_lon = ring_start(nside, ring)
            s = np.sqrt((1.0 - z) * (1.0 + z))
            # cos(dphi) at the edge of the disc
            edge = (np.cos(radius[i]) - z * cos_t) / max(s * sin_t, 1e-12)
            if edge >= 1.0:
                continue
            half = np.pi if edge <= -1.0 else np.arccos(edge)
            step = 2 * np.pi / count
            low = int(np.ceil((phi[i] - half - first_lon) / step))
            high = int(np.floor((phi[i] + half - first_lon) / step))
            if high - low >= count:
                low, high = 0, count - 1
            base = 4 * np.sin((np.arccos(z) - theta[i]) / 2) ** 2
            for k in range(low, high + 1):
                d2 = base + 4 * s * sin_t * np.sin((first_lon + k * step - phi[i]) / 2) ** 2
                pixel = start + k % count
                for b in range(n_band):
                    x = d2 * inverse[i, b]
                    if x < limit and peak[i, b] != 0.0:
                        t = x * _TABLE_STEPS
                        n = int(t)
                        f = np.float32(t - n)
                        out[pixel, b] += peak[i, b] * (table[n] + f * (table[n + 1] - table[n]))
