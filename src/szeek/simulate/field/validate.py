"""Holds a simulated field against published spectra, source counts and numbers of clusters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.physics.instrument import Instrument
from szeek.physics.tsz import tsz_spectrum
from szeek.simulate.components.sources import Sources, draw_dusty_sources
from szeek.simulate.field.coverage import depth
from szeek.simulate.field.diffuse import (
    CLUSTERED_BETA,
    SHOT_BETA,
    SHOT_CUT_JY,
    SHOT_D3000_UK2,
    cib_power_jy2_sr,
    fine_cmb_spectrum,
    grey_body,
    narrow_beam,
)
from szeek.simulate.field.lattice import STEP_ARCMIN, Lattice, multipoles
from szeek.simulate.field.paint import paint_sources_on
from szeek.simulate.field.simulate import FieldOptions, field_instrument, field_lattice

Floats = NDArray[np.float64]

_ARCMIN = np.pi / 180 / 60
#: A check: what, its source, published, ours, tolerance (relative), spread of single fields (relative, or NaN).
Check = tuple[str, str, float, float, float, float]

# Reichardt et al. (2021), D_3000 in uK^2 at 150 GHz but for tSZ, which is at 143 GHz: Sect. 5 and abstract.
_TSZ_143, _KSZ, _CLUSTERED_1H, _CLUSTERED_2H, _RADIO = 3.42, 3.0, 2.21, 1.82, 1.01
_RADIO_INDEX, _TSZ_CIB = -0.76, 0.076
_MULTIPOLES = (3000, 4000, 5000)
# Choi et al. (2020, JCAP 12, 045): tSZ at 150 GHz, and radio sources below 15 mJy.
_ACT_TSZ, _ACT_RADIO = 5.29, 3.74
# Everett et al. (2020, ApJ 900, 55): sources in 2530 deg^2 above these fluxes in at least one band.
_SPT_CUTS_MJY = {95.0: 9.8, 150.0: 5.8, 220.0: 20.4}
_SPT_SYNCHROTRON, _SPT_DUSTY, _SPT_DEG2 = 3980, 865, 2530.0
# Clusters of S/N > 4: Hilton et al. (2021, ApJS 253, 3), 4195 in 13,211 deg^2; ACT DR6, 10,040 in 16,293 deg^2.
_ACT_DR6_PER_DEG2, _ACT_DR5_PER_DEG2 = 10040 / 16293, 4195 / 13211
#: Radio shot noise below 15 mJy at 143 GHz of the counts that sources are drawn from, Jy^2/sr.
_RADIO_SHOT_15_MJY = 0.38
# Where spectra are measured: beyond this depth, and so far inside; the outer rim serves the whitening filter alone.
_LEAST_DEPTH, _APODISATION_ARCMIN = 0.3, (0.0, 30.0)


def check_field(folder: Path, record: Mapping[str, Any]) -> list[Check]:
    """Checks of a simulated field.

    Parameters
    ----------
    folder : Path
        What :func:`szeek.simulate.field.simulate.simulate_field` wrote.
    record : mapping
        Its simulate.json.

    Returns
    -------
    list of tuple
        Counts and shot noise of sources; power and number of clusters; spectra of maps at 0.5 arcmin, sources masked,
        less their noise.
    """
    options = FieldOptions(**record["config"])
    instrument = field_instrument(options.instrument)
    lattice = field_lattice(options.field).without_margin()
    sources, truth = (Table.read(folder / record["catalogues"][name]) for name in ("sources", "truth"))
    checks = [
        *_check_counts(sources, instrument, lattice),
        *_check_clusters(truth, instrument, lattice, options.seed),
    ]
    if options.field.pixel_arcmin == STEP_ARCMIN:
        checks += _check_spectra(folder, record, sources, instrument, lattice)
    return checks


def _nearest(instrument: Instrument, freq_ghz: float) -> int | None:
    """Number of the band within a tenth of a frequency."""
    freq = np.array([band.freq_ghz for band in instrument.bands])
    nearest = int(np.argmin(np.abs(np.log(freq / freq_ghz))))
    return nearest if abs(freq[nearest] / freq_ghz - 1) < 0.1 else None


def _check_counts(sources: Table, instrument: Instrument, lattice: Lattice) -> list[Check]:
    """Numbers of sources, and the shot noise of the radio sources."""
    bands = {freq: _nearest(instrument, freq) for freq in _SPT_CUTS_MJY}
    columns = {
        freq: np.asarray(sources[f"flux_mjy_{instrument.band_names[band]}"])
        for freq, band in bands.items()
        if band is not None
    }
    if 150.0 not in columns or 220.0 not in columns:
        return []
    seen = np.any([columns[freq] > _SPT_CUTS_MJY[freq] for freq in columns], axis=0)
    dusty = columns[220.0] > columns[150.0]
    area = lattice.area_deg2
    checks: list[Check] = []
    for name, number, kind in (("radio", _SPT_SYNCHROTRON, ~dusty), ("dusty", _SPT_DUSTY, dusty)):
        ours = int((seen & kind & (sources["fwhm_arcmin"] < 4)).sum())
        published = number / _SPT_DEG2
        checks.append(
            (f"{name} sources of SPT-SZ's depth per deg^2", "Everett et al. (2020)", published, ours / area, 0.35,
             1 / np.sqrt(max(published * area, 1.0)))
        )  # fmt: skip
    band = bands[150.0]
    flux_jy = columns[150.0][~dusty] * 1e-3
    per_jy2 = _band_power(3000) * 1e12 / (instrument.mjysr_per_kcmb[band] * 1e6) ** 2
    for cut, published, source in (
        (SHOT_CUT_JY, _RADIO, "Reichardt et al. (2021)"),
        (0.015, _ACT_RADIO, "Choi et al. (2020)"),
    ):
        power = (flux_jy[flux_jy < cut] ** 2).sum() / (area * np.radians(1.0) ** 2) * per_jy2
        checks.append(
            (f"D_3000 of radio sources below {1e3 * cut:g} mJy, 150 GHz, uK^2", source, published, power, 0.8, 0.05)
        )
    return checks


def _band_power(ell: float) -> float:
    return ell * (ell + 1) / (2 * np.pi)


def _check_clusters(truth: Table, instrument: Instrument, lattice: Lattice, seed: int) -> list[Check]:
    """tSZ power of the haloes, one by one, and how many a matched filter would detect."""
    band = _nearest(instrument, 150.0)
    if band is None:
        return []
    flux = Y5R500_PER_Y500 * np.asarray(truth["y500_arcmin2"]) * _ARCMIN**2
    theta = np.asarray(truth["theta500_arcmin"]) * _ARCMIN
    shape = profile_transform(np.minimum(3000 * theta, 400.0))
    per_y2 = ((flux * shape) ** 2).sum() / (lattice.area_deg2 * np.radians(1.0) ** 2) * _band_power(3000)
    ours = per_y2 * (instrument.tsz_kcmb[band] * 1e6) ** 2
    to_band = float(instrument.tsz_kcmb[band] / (2.7255 * tsz_spectrum([143.0])[0])) ** 2
    to_act = float(instrument.tsz_kcmb[band] / (2.7255 * tsz_spectrum([150.0])[0])) ** 2
    spread = 0.35 * np.sqrt(100 / lattice.area_deg2)  # one-halo sums of fields of 100 deg^2
    name = f"D_3000 of tSZ, {instrument.bands[band].freq_ghz:.0f} GHz, uK^2"
    checks: list[Check] = [
        (name, "Reichardt et al. (2021)", _TSZ_143 * to_band, ours, 0.4, spread),
        (name, "Choi et al. (2020)", _ACT_TSZ * to_act, ours, 0.4, spread),
    ]
    deep = depth(lattice, band)
    sizes = np.geomspace(0.2, 100.0, 40)
    sigma = np.exp(
        np.interp(
            np.log(truth["theta500_arcmin"]), np.log(sizes), np.log(matched_filter_sigma(instrument, sizes, seed))
        )
    )
    row, column = lattice.places(np.asarray(truth["ra_deg"]), np.asarray(truth["dec_deg"]))
    at = [
        np.clip(np.rint(place).astype(np.int64), 0, n - 1)
        for place, n in zip((row, column), lattice.shape, strict=True)
    ]
    snr = np.asarray(truth["y500_arcmin2"]) / sigma * np.sqrt(deep[at[0], at[1]])
    area = float((lattice.pixel_sr[:, None] * (deep > 0)).sum() * np.degrees(1.0) ** 2)
    for published, source in ((_ACT_DR6_PER_DEG2, "ACT DR6"), (_ACT_DR5_PER_DEG2, "Hilton et al. (2021), ACT DR5")):
        checks.append(
            ("clusters of S/N > 4 per deg^2, ideal filter", source, published, (snr > 4).sum() / area, 0.5, 0.1)
        )
    return checks


def published_model_uk2(freq_ghz: float, ell: float) -> float:
    """D_l in uK^2 at a frequency with sources above 6.4 mJy at 150 GHz masked, l of 2000 to 6000.

    Source: Reichardt et al. (2021), their model with its best parameters, and the CMB of Planck 2018.
    """
    x = ell / 3000.0
    in_kelvin = _rayleigh(150.0) / _rayleigh(freq_ghz)
    tsz = _TSZ_143 * float(tsz_spectrum([freq_ghz])[0] / tsz_spectrum([143.0])[0]) ** 2
    shot = SHOT_D3000_UK2 * float(grey_body(freq_ghz, SHOT_BETA, 150.0)[0]) ** 2 * in_kelvin**2 * x**2
    clustered = _CLUSTERED_1H + _CLUSTERED_2H
    clustered *= float(grey_body(freq_ghz, CLUSTERED_BETA, 150.0)[0]) ** 2 * in_kelvin**2 * x**0.8
    radio = _RADIO * (freq_ghz / 150.0) ** (2 * _RADIO_INDEX) * in_kelvin**2 * x**2
    sign = float(np.sign(tsz_spectrum([freq_ghz])[0]))
    correlated = 2 * sign * _TSZ_CIB * np.sqrt(tsz * (shot + clustered))
    cmb = float(np.interp(ell, multipoles(), fine_cmb_spectrum())) * _band_power(ell) * 1e12
    return float(cmb + tsz + _KSZ + shot + clustered + radio + correlated)


def _rayleigh(freq_ghz: float) -> float:
    """dB/dT of the CMB up to a factor."""
    x = freq_ghz / (20.836619 * 2.7255)
    return float(x**4 * np.exp(x) / np.expm1(x) ** 2)


def _check_spectra(
    folder: Path, record: Mapping[str, Any], sources: Table, instrument: Instrument, lattice: Lattice
) -> list[Check]:
    """Auto spectra of the maps, less their sources above SPT's cut and their noise."""
    middle = _nearest(instrument, 150.0)
    if middle is None:
        return []
    flux = np.stack([np.asarray(sources[f"flux_mjy_{name}"]) * 1e-3 for name in instrument.band_names], axis=1)
    bright = np.flatnonzero(flux[:, middle] > SHOT_CUT_JY)
    lon_deg, lat_deg = (np.asarray(sources[name], np.float64)[bright] for name in ("lon_deg", "lat_deg"))
    model = np.zeros((*lattice.shape, len(instrument.bands)), np.float32)
    known = Sources(lon_deg, lat_deg, flux[bright], np.asarray(sources["fwhm_arcmin"], np.float64)[bright])
    paint_sources_on(lattice, known, 1.0 / instrument.mjysr_per_kcmb, model)
    ell = multipoles()
    whiten = np.minimum(ell / 3000.0, 2.0) ** 2  # of a CMB and an atmosphere that fall steeply
    at = np.array(_MULTIPOLES, float)
    edges = np.ravel([(middle - 150.0, middle + 150.0) for middle in _MULTIPOLES])
    checks: list[Check] = []
    for freq in (98.0, 150.0, 220.0):
        band = _nearest(instrument, freq)
        if band is None:
            continue
        name = instrument.band_names[band]
        values = np.asarray(fits.getdata(folder / record["maps"][name]), np.float32)
        ivar = np.asarray(fits.getdata(folder / record["ivar"][name]), np.float64)
        beam, deep = instrument.beam(ell)[:, band], depth(lattice, band)
        values = values - lattice.convolve([model[:, :, band]], [[beam / narrow_beam(ell)]])[0]
        outer, inner = (_rise(deep > _LEAST_DEPTH, start) for start in _APODISATION_ARCMIN)
        values = (values - np.average(values, weights=outer)).astype(np.float32) * outer.astype(np.float32)
        seen = lattice.convolve([values], [[whiten]])[0] * inner
        power = measure_spectrum(seen, seen, lattice, edges)[::2] * inner.size / (inner**2).sum()
        power /= np.interp(at, ell, whiten) ** 2
        used = inner > 0
        weight = inner[used] ** 2 / (inner**2).sum()
        pixel_sr = np.broadcast_to(lattice.pixel_sr[:, None], ivar.shape)[used]
        white = (instrument.noise_uk_deg[band] * np.pi / 180) ** 2
        red = instrument.noise_power(at)[:, band] * 1e12 - white
        power -= (weight * pixel_sr / ivar[used]).sum() + red * (weight / deep[used]).sum()
        power /= np.interp(at, ell, beam) ** 2
        freq_ghz = instrument.bands[band].freq_ghz
        for multipole, value in zip(_MULTIPOLES, power, strict=True):
            check = f"D_{multipole} at {freq_ghz:.0f} GHz, uK^2"
            published = published_model_uk2(freq_ghz, multipole)
            ours = float(value) * _band_power(multipole)
            checks.append((check, "Reichardt et al. (2021)", published, ours, 0.2, np.nan))
    return checks


def _rise(seen: NDArray[np.bool_], start_arcmin: float) -> Floats:
    """From 0 to 1 over 20 arcmin, beginning so far inside what is seen."""
    inside = seen.copy()
    inside[[0, -1]] = inside[:, [0, -1]] = False
    away = distance_transform_edt(inside) * STEP_ARCMIN - start_arcmin
    return np.asarray(np.sin(np.pi / 2 * np.clip(away / 20.0, 0, 1)) ** 2)


def measure_spectrum(
    first: NDArray[np.floating], second: NDArray[np.floating], lattice: Lattice, edges: Floats
) -> Floats:
    """Mean C_l between multipoles of two maps of a field, as on a plane at its middle declination.

    Parameters
    ----------
    first, second : (ny, nx) float
        Weighted already; divided by the mean square of the weights by the caller.
    lattice : Lattice
    edges : (n + 1,) float64

    Returns
    -------
    (n,) float64
    """
    step = np.radians(lattice.dec_deg[1] - lattice.dec_deg[0])
    cosine = float(np.cos(np.radians(lattice.dec_deg)).mean())
    k_y = 2 * np.pi * scipy.fft.fftfreq(lattice.shape[0], step)
    k_x = 2 * np.pi * scipy.fft.rfftfreq(lattice.shape[1], step) / cosine
    ell = np.hypot(k_y[:, None], k_x)
    wave = scipy.fft.rfft2(first)
    power = (wave * np.conj(wave if second is first else scipy.fft.rfft2(second))).real * step**2 * cosine
    power /= lattice.shape[0] * lattice.shape[1]
    weight = np.full(ell.shape, 2.0)
    weight[:, 0] = 1.0
    total, _ = np.histogram(ell, edges, weights=power * weight)
    modes, _ = np.histogram(ell, edges, weights=weight)
    return np.asarray(total / modes)


def matched_filter_sigma(instrument: Instrument, theta500_arcmin: Floats, seed: int) -> Floats:
    """Noise of Y500, arcmin^2, of a matched filter over all bands at the instrument's median depth, (n,).

    sigma^-2 = int l dl / 2 pi  t^T C^-1 t,  with t = response x beam x profile and C of CMB, dusty and radio galaxies
    (below 15 mJy) and noise: what a filter of known spectra reaches at best.

    Source: Melin et al. (2006, A&A 459, 341).
    """
    ell = multipoles()[5:]
    freq = np.array([band.freq_ghz for band in instrument.bands])
    per_jy = 1e-6 / instrument.mjysr_per_kcmb
    dust = np.sqrt(cib_power_jy2_sr(instrument, draw_dusty_sources(instrument, seed)))[:, 5:] * per_jy[:, None]
    radio = np.sqrt(_RADIO_SHOT_15_MJY) * (freq / 143.0) ** -0.6 * per_jy
    beams = instrument.beam(ell)
    covariance = np.einsum("il,jl->lij", dust, dust) + np.outer(radio, radio)
    covariance += fine_cmb_spectrum()[5:, None, None]
    covariance *= beams[:, :, None] * beams[:, None, :]
    covariance += np.einsum("li,ij->lij", instrument.noise_power(ell), np.eye(freq.size))
    signal = beams * instrument.tsz_kcmb
    gain = np.einsum("li,li->l", signal, np.linalg.solve(covariance, signal[:, :, None])[:, :, 0])
    kept = (ell > 300) & (beams.max(axis=1) > 1e-3)
    out = []
    for theta in np.atleast_1d(theta500_arcmin):
        shape = profile_transform(np.minimum(ell * theta * _ARCMIN, 400.0))
        out.append(np.trapezoid(np.where(kept, ell * shape**2 * gain, 0.0), ell) / (2 * np.pi))
    return np.asarray(np.array(out) ** -0.5 / _ARCMIN**2 / Y5R500_PER_Y500)
