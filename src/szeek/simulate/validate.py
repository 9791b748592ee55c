"""Holds a simulated sky against published numbers and against the real sky, and writes a page about it."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from szeek.inputs.instrument import read_instrument
from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.instrument import Instrument
from szeek.physics.scaling import MASS_BIAS, theta500_from_mass, y500_from_mass
from szeek.simulate.components.cib import FLUX_CUT_JY
from szeek.simulate.components.clusters import paint_y
from szeek.simulate.components.cmb import lensed_spectrum
from szeek.simulate.components.sources import (
    DUSTY_COUNTS,
    DUSTY_COUNTS_JY,
    counts_above,
    draw_dusty_sources,
    draw_radio_sources,
)
from szeek.simulate.field.validate import check_field
from szeek.simulate.haloes import group_background
from szeek.simulate.realsky import (
    MULTIPOLE_EDGES,
    FieldSpectra,
    cluster_weight,
    cut_fields,
    find_alike,
    measure_spectra,
    peak_fluxes,
    read_cutouts,
)
from szeek.simulate.sky import SimulateConfig, core_fwhm_arcmin
from szeek.sky.harmonics import Floats, add_alm, analyse, beam_window, pixel_window, power_spectrum

#: Fluxes above which the peaks of a field are counted, by band.
_FIELD_FLUXES_JY = {
    "100": (0.3, 0.4, 0.5),
    "143": (0.25, 0.3, 0.4),
    "217": (0.2, 0.25, 0.3),
    "353": (0.3, 0.5, 0.8),
    "545": (0.5, 0.8, 1.5),
    "857": (0.8, 1.5, 3.0),
}
_COLUMNS = ("check", "source", "published", "ours", "tolerance", "spread", "status")
_N_FIELD = 12

# Twentieths of the 1,094 redshifts and masses (MSZ, 1e14 Msun) of the union catalogue, HFI_PCCS_SZ-union_R2.08.fits.
_PSZ2_CONFIRMED = 1094
_PSZ2_Z = (
    0.0111, 0.0493, 0.0673, 0.0829, 0.0980, 0.1220, 0.1470, 0.1643, 0.1834, 0.2060, 0.2240,
    0.2438, 0.2670, 0.2919, 0.3161, 0.3419, 0.3686, 0.4150, 0.4797, 0.5631, 0.9720,
)  # fmt: skip
_PSZ2_M500_1E14MSUN = (
    0.785, 1.844, 2.276, 2.681, 3.078, 3.431, 3.739, 4.010, 4.258, 4.464, 4.743,
    4.992, 5.233, 5.478, 5.728, 5.963, 6.266, 6.732, 7.303, 8.076, 16.116,
)  # fmt: skip
#: Pairs of its entries within so many arcmin, and their standard deviation over five simulated skies.
_PSZ2_PAIRS = {30: (50, 9), 120: (622, 37)}
#: Multiple of sqrt(1/n + 1/m) that the two-sample statistic exceeds in 1 % of draws from one distribution.
_KS_ONE_PERCENT = 1.628

# tSZ power 1e12 l (l + 1) C_l / 2 pi of Planck's y maps (2015 results XXII), other foregrounds marginalised, in two
# of its bins: table of Bolliet et al. (2018, MNRAS 477, 4957), errors 0.034 and 0.060.
_Y_POWER = {(223, 292): 0.179, (380, 493): 0.262}
#: Standard deviation of that power over ten simulated skies, seeds 1 to 10.
_Y_POWER_SPREAD = {(223, 292): 0.030, (380, 493): 0.012}

# Coma as in the PSZ2 catalogue (G057.80+88.00: MSZ, which is for h = 0.7, redshift, Y5R500), and y at its centre on
# MILCA's 10 arcmin map.
_COMA_M500_1E14MSUN, _COMA_Z, _COMA_Y5R500_ARCMIN2, _COMA_Y = 7.165 * 0.7 / COSMOLOGY.h, 0.0231, 0.1984, 6.5e-5

# CIB in Jy^2/sr at l = 1505 and 1956, shot noise and clustering, as Planck 2013 results XXX measured it.
_CIB = {("545", "857"): (9310.0, 7380.0), ("353", "545"): (1930.0, 1520.0), ("353", "857"): (3240.0, 2540.0)}
_CIB_MULTIPOLES = (1505.0, 1956.0)

# Sources per sr above fluxes in Jy, from differential counts that the authors of models have tabulated. Radio: C2Ex
# of Tucci et al. (2011, A&A 533, A57; ns_148GHz_modC2Ex.dat), up to 20 Jy; De Zotti et al. (2005, A&A 431, 893).
# Dusty: Bethermin et al. (2011, A&A 529, A4), made before Planck.
_RADIO_ABOVE_JY = {
    (148.0, "Tucci et al. 2011"): {0.1: 158.9, 0.3: 46.6, 1.0: 9.89},
    (100.0, "De Zotti et al. 2005"): {0.1: 316.0, 0.3: 101.0, 1.0: 18.9},
    (217.0, "De Zotti et al. 2005"): {0.1: 290.0, 0.3: 91.2, 1.0: 16.6},
}
_DUSTY_ABOVE_JY = {"353": {0.1: 101.0, 0.3: 13.7, 1.0: 0.835}, "545": {0.1: 1030.0, 0.3: 138.0, 1.0: 17.8}}


def validate_sky(folder: str | Path, *, cutouts: str | Path | None = None) -> Table:
    """Check a simulated sky or field; write validation.html and validation.ecsv beside it.

    Parameters
    ----------
    folder : path
        What :func:`szeek.simulate.sky.simulate_sky` or :func:`szeek.simulate.field.simulate.simulate_field` wrote.
    cutouts : path, optional
        Folder of the real cut-outs hfi_{band}_coma.fits; without it the comparison with the real sky is left out.

    Returns
    -------
    Table
        One row per check: check, source, published, ours, tolerance (relative; absolute for correlations),
        spread (standard deviation of single simulated fields, clusters or skies about ours, same measure; NaN where
        it is not known), status: 'ok' within the tolerance, 'scatter' beyond it but within two spreads, so that the
        one real field or cluster cannot tell, else 'off'.

    Raises
    ------
    FileNotFoundError
        If the folder holds no whole simulated sky.

    Examples
    --------
    >>> validate_sky("sky")["check", "published", "ours", "status"]  # doctest: +SKIP
    >>> validate_sky("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: 'nowhere' holds no whole simulated sky: simulate.json not found; simulate it first
    """
    sky = Path(folder)
    if not (sky / "simulate.json").is_file():
        raise FileNotFoundError(f"'{sky}' holds no whole simulated sky: simulate.json not found; simulate it first")
    record = json.loads((sky / "simulate.json").read_text())
    if "companions" not in record["config"]:  # options of a field of a ground-based survey
        table = Table(rows=[_row(*check) for check in check_field(sky, record)], names=_COLUMNS)
        return _write_validation(table, [], f"Simulated field, seed {record['config']['seed']}", sky)
    config = SimulateConfig(**record["config"])
    instrument = read_instrument(config.instrument)
    beams = core_fwhm_arcmin(instrument, config.rimo)
    maps = _read_maps([sky / record["maps"][name] for name in instrument.band_names])
    rows = [
        *_check_spectra(maps, instrument, beams),
        *_check_counts(instrument, config.seed),
        *_check_survey(Table.read(sky / "psz2.fits")),
        *_check_gas(Table.read(sky / "truth.fits"), config.seed),
    ]
    figures = []
    if record["y_map"]:
        rows.append(_check_y_map(sky / record["y_map"]))
    if cutouts is not None and config.nside >= 1024:
        real_rows, figure = compare_with_real(maps, instrument, Path(cutouts), beams)
        rows += real_rows
        figures.append(figure)
    table = Table(rows=rows, names=_COLUMNS)
    return _write_validation(table, figures, f"Simulated sky, nside {config.nside}, seed {config.seed}", sky)


def _write_validation(table: Table, figures: list[Figure], title: str, folder: Path) -> Table:
    table.write(folder / "validation.ecsv", overwrite=True)
    (folder / "validation.html").write_text(_page(table, figures, title))
    return table


def _row(
    check: str, source: str, published: float, ours: float, tolerance: float, spread: float = np.nan
) -> tuple[object, ...]:
    status = _status(ours / published - 1, tolerance, spread)
    return check, source, float(published), float(ours), tolerance, float(spread), status


def _status(apart: float, tolerance: float, spread: float) -> str:
    if abs(apart) <= tolerance:
        return "ok"
    return "scatter" if abs(apart) <= 2 * spread else "off"


def _read_maps(paths: list[Path]) -> NDArray[np.float32]:
    """Simulated maps, interleaved, (12 nside^2, n_band) float32 RING."""
    maps = None
    for index, path in enumerate(paths):
        with fits.open(path) as hdus:
            values = healpy.reorder(np.ravel(hdus[1].data.field(0)).astype(np.float32), n2r=True)
        if maps is None:
            maps = np.empty((values.size, len(paths)), np.float32)
        maps[:, index] = values
    assert maps is not None
    return maps


def _high_latitude_fields() -> list[tuple[float, float, float]]:
    return [(lon, lat, 0.0) for lat in (-65.0, 65.0) for lon in range(15, 360, 60)]


def _check_spectra(maps: NDArray[np.float32], instrument: Instrument, fwhm: Floats) -> list[tuple[object, ...]]:
    """RMS, CMB, noise and CIB in twelve fields at \\|b\\| = 65."""
    nside = healpy.npix2nside(maps.shape[0])
    fields = cut_fields(maps, instrument, _high_latitude_fields(), (330, 512))
    rows = []
    rms = np.median([field.std(axis=(1, 2)) for field in fields], axis=0) / instrument.mjysr_per_kcmb
    cmb = lensed_spectrum(2500)
    ell = np.arange(2501.0)
    for index, name in enumerate(("100", "143", "217")):
        window = beam_window(float(fwhm[index]), 2500) * pixel_window(nside, 2500)
        # structure larger than the field is not in its rms: multipoles above 180 / 10
        expected = np.sqrt(np.sum(((2 * ell + 1) * cmb * window**2)[18:]) / (4 * np.pi)) * 1e6
        noise = instrument.noise_uk_deg[index] / np.degrees(healpy.nside2resol(nside))
        total = float(np.hypot(expected, 0.75 * noise))
        rows.append(_row(f"rms {name} GHz, |b| = 65, uK", "Planck 2018 VI, I", total, rms[index] * 1e6, 0.10))
    power = np.median([measure_spectra(field, instrument).power for field in fields], axis=0)
    middle = 0.5 * (MULTIPOLE_EDGES[1:] + MULTIPOLE_EDGES[:-1])
    for n in (2, 3):
        low, high = MULTIPOLE_EDGES[n : n + 2].astype(int)
        window = beam_window(float(fwhm[1]), high) * pixel_window(nside, high)
        ell_bin = np.arange(low, high)
        weights = 2 * ell_bin + 1
        theory = np.average((lensed_spectrum(2500)[: high + 1] * window**2)[low:high], weights=weights)
        ours = power[n, 0, 1] / instrument.mjysr_per_kcmb[0] / instrument.mjysr_per_kcmb[1]
        other = beam_window(float(fwhm[0]), high)
        same = beam_window(float(fwhm[1]), high)
        ours *= float(np.mean((same / other)[low:high]))
        theory *= _interpolation_loss((low + high) // 2, nside)
        rows.append(_row(f"CMB 100x143, {low}-{high}, uK^2", "Planck 2018 VI", theory * 1e12, ours * 1e12, 0.15))
    if nside == 2048:
        n = int(np.searchsorted(MULTIPOLE_EDGES, 1500))
        centre = int(middle[n])
        for pair, measured in _CIB.items():
            a, b = (instrument.band_names.index(name) for name in pair)
            window = np.prod([beam_window(float(f), centre)[-1] for f in fwhm[[a, b]]])
            window *= pixel_window(nside, centre)[-1] ** 2
            ours = power[n, a, b] * 1e12 / window / _interpolation_loss(centre, nside)
            published = float(np.exp(np.interp(np.log(centre), np.log(_CIB_MULTIPOLES), np.log(measured))))
            names = "x".join(pair)
            rows.append(_row(f"CIB {names}, l = {centre}, Jy^2/sr", "Planck 2013 XXX", published, ours, 0.2))
        for index in range(3):
            ours = np.sqrt(power[-1, index, index] / _interpolation_loss(int(middle[-1]), nside))
            ours *= 1e6 / instrument.mjysr_per_kcmb[index] * 180 / np.pi
            name = instrument.band_names[index]
            rows.append(
                _row(f"noise {name} GHz, uK deg", "Planck 2018 I, Table 4", instrument.noise_uk_deg[index], ours, 0.2)
            )
    return rows


def _interpolation_loss(ell: int, nside: int) -> float:
    """Power that bilinear interpolation at random offsets keeps: mean over directions of (2 + cos l p)/3 per axis."""
    pixel = float(healpy.nside2resol(nside))
    angle = np.linspace(0, np.pi / 2, 64)
    along, across = (2 + np.cos(ell * pixel * np.cos(angle))) / 3, (2 + np.cos(ell * pixel * np.sin(angle))) / 3
    return float(np.mean(along * across))


def _check_counts(instrument: Instrument, seed: int) -> list[tuple[object, ...]]:
    """Numbers of sources per sr above three fluxes against the count models, and shot noise against Planck's."""
    rows = []
    radio = draw_radio_sources(instrument, seed)
    for (freq_ghz, source), above in _RADIO_ABOVE_JY.items():
        band = int(np.argmin([abs(one.freq_ghz - freq_ghz) for one in instrument.bands]))
        flux = radio.flux_jy[:, band] * (freq_ghz / instrument.bands[band].freq_ghz) ** -0.65
        for limit, published in above.items():
            ours = np.count_nonzero(flux > limit) / (4 * np.pi)
            rows.append(_row(f"radio > {limit} Jy at {freq_ghz:g} GHz per sr", source, published, ours, 0.15))
    dusty = draw_dusty_sources(instrument, seed)
    for name, above in _DUSTY_ABOVE_JY.items():
        flux = dusty.flux_jy[:, instrument.band_names.index(name)]
        for limit, published in above.items():
            ours = np.count_nonzero(flux > limit) / (4 * np.pi)
            check = f"dusty > {limit} Jy at {name} GHz per sr"
            rows.append(_row(check, "Bethermin et al. 2011", published, ours, 0.15))
    for limit in (0.1, 0.3, 1.0):
        published = counts_above(DUSTY_COUNTS_JY, DUSTY_COUNTS, limit)[0]
        ours = np.count_nonzero(dusty.flux_jy[:, 5] > limit) / (4 * np.pi)
        source = "Bethermin et al. 2012, Planck Int. VII"
        rows.append(_row(f"dusty > {limit} Jy at 857 GHz per sr", source, published, ours, 0.15))
    cut = np.array([FLUX_CUT_JY[name] for name in instrument.band_names])
    # Planck 2013 XXX: radio shot noise below the flux cuts
    for band, published in ((1, 6.05), (2, 3.12)):
        name = f"radio shot noise {instrument.band_names[band]} GHz, Jy^2/sr"
        rows.append(_row(name, "Planck 2013 XXX", published, radio.shot_noise(cut)[band, band], 0.3))
    return rows


def _check_survey(psz2: Table) -> list[tuple[object, ...]]:
    """Number and pairs of mock PSZ2 clusters; redshifts and masses by a two-sample Kolmogorov-Smirnov statistic."""
    real = "PSZ2, Planck 2015 XXVII"
    rows = [
        _row("PSZ2 entries, S/N > 4.5", real, 1653, len(psz2), 0.15),
        _row("PSZ2 entries, S/N > 6", real, 693, int(np.count_nonzero(psz2["snr"] > 6)), 0.2),
    ]
    tree = cKDTree(healpy.ang2vec(np.asarray(psz2["lon_deg"]), np.asarray(psz2["lat_deg"]), lonlat=True))
    for reach_arcmin, (pairs, scatter) in _PSZ2_PAIRS.items():
        ours = len(tree.query_pairs(2 * np.sin(np.radians(reach_arcmin / 60) / 2)))
        rows.append(_row(f"PSZ2 pairs within {reach_arcmin} arcmin", real, pairs, ours, 0.2, scatter / pairs))
    confirmed = psz2[np.isfinite(psz2["z"])]
    limit = _KS_ONE_PERCENT * float(np.sqrt(1 / len(confirmed) + 1 / _PSZ2_CONFIRMED))
    for name, column, twentieths in (("z", "z", _PSZ2_Z), ("M500", "m500_1e14msun", _PSZ2_M500_1E14MSUN)):
        distance = largest_step(np.asarray(confirmed[column], np.float64), np.array(twentieths))
        status = "ok" if distance <= limit else "off"
        check = f"PSZ2 {name}: largest difference of cumulative shares (tolerance: 1 % level)"
        rows.append((check, real, 0.0, distance, limit, np.nan, status))
    return rows


def largest_step(values: Floats, quantiles: Floats) -> float:
    """Largest difference, at the quantiles 0 ... 1 of another sample, of the two samples' cumulative shares.

    The two-sample Kolmogorov-Smirnov statistic to within half a step between quantiles.

    Examples
    --------
    >>> largest_step(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.5, 5.0]))
    0.0
    """
    share = np.searchsorted(np.sort(values), quantiles, side="right") / values.size
    return float(np.abs(share - np.linspace(0, 1, quantiles.size))[:-1].max())


def _check_gas(truth: Table, seed: int) -> list[tuple[object, ...]]:
    """Compton y of haloes and groups: mean, power, and a cluster like Coma."""
    background = group_background(seed)
    mean_y = 1.79 * float(np.sum(truth["y500_arcmin2"])) / (4 * np.pi * np.degrees(60.0) ** 2)
    # Hill et al. (2015, PRL 115, 261301): 1.58e-6 for the hot gas of groups and clusters, of which hydrostatic masses
    # with (1-b) = 0.64 leave 0.64^1.79.
    published_y = 1.58e-6 * MASS_BIAS**1.79
    source = "Hill et al. 2015 x (1-b)^1.79"
    rows = [_row("mean y of groups and clusters", source, published_y, mean_y + float(np.mean(background)), 0.5)]
    nside, lmax = 512, max(high for _, high in _Y_POWER)
    alm = analyse(paint_y(truth, nside, 10.0), lmax)
    power = beam_window(10.0, lmax) * pixel_window(nside, lmax)
    add_alm(alm, analyse(background, lmax), power)
    power = power_spectrum(alm) / power**2
    ell = np.arange(lmax + 1.0)
    for (low, high), published in _Y_POWER.items():
        ours = 1e12 * float(np.mean((ell * (ell + 1) * power)[low : high + 1])) / (2 * np.pi)
        check = f"1e12 l (l+1) C_l / 2 pi of y, {low}-{high}"
        spread = _Y_POWER_SPREAD[low, high] / published
        rows.append(_row(check, "Planck 2015 XXII, Bolliet et al. 2018", published, ours, 0.25, spread))
    y500 = float(y500_from_mass(np.array([_COMA_M500_1E14MSUN]), np.array([_COMA_Z]), 1.0)[0])
    check = "Y5R500 of Coma's mass, arcmin^2"
    rows.append(_row(check, "PSZ2 G057.80+88.00", _COMA_Y5R500_ARCMIN2, Y5R500_PER_Y500 * y500, 0.20))
    peaks = _peaks_like_coma(truth) / _COMA_Y
    check = "y at the centre of clusters of Coma's mass, 10 arcmin"
    ours, spread = float(np.median(peaks)), float(np.std(peaks))
    rows.append(_row(check, "MILCA around Coma", _COMA_Y, _COMA_Y * ours, 0.25, spread))
    return rows


def _peaks_like_coma(truth: Table) -> Floats:
    """Peak y at 10 arcmin of 192 clusters of Coma's mass and redshift, (192,).

    They have the amplitudes, concentrations, elongations and clumps of the 192 most massive haloes of the sky that
    are in no merging pair.
    """
    single = truth[np.asarray(truth["pair_id"]) < 0]
    some = single[np.argsort(-np.asarray(single["m500_1e14msun"]), kind="stable")[:192]]
    mass, z = np.asarray(some["m500_1e14msun"]), np.asarray(some["z"])
    amplitude = np.asarray(some["y500_arcmin2"]) / y500_from_mass(mass, z)
    coma = np.full(len(some), _COMA_M500_1E14MSUN), np.full(len(some), _COMA_Z)
    some["lon_deg"], some["lat_deg"] = healpy.pix2ang(4, np.arange(len(some)), lonlat=True)
    some["theta500_arcmin"] = theta500_from_mass(*coma, 1.0)
    some["y500_arcmin2"] = amplitude * y500_from_mass(*coma, 1.0)
    y = paint_y(some, 1024, 10.0, pixel_window=False)
    vectors = healpy.ang2vec(some["lon_deg"], some["lat_deg"], lonlat=True)
    return np.array([y[healpy.query_disc(1024, vector, np.radians(1 / 6))].max() for vector in vectors])


def _check_y_map(path: Path) -> tuple[object, ...]:
    """RMS of the y map at high latitude against MILCA's (2.3e-6 beside Coma, l > 20 or so)."""
    with fits.open(path) as hdus:
        values = np.ravel(hdus[1].data.field(0))
    nside = healpy.npix2nside(values.size)
    lat = healpy.pix2ang(nside, np.arange(values.size), nest=True, lonlat=True)[1]
    spread = 0.5 * np.subtract(*np.percentile(values[np.abs(lat) > 50], [84, 16]))
    return _row("y map, half of the 16-84 % range, |b| > 50", "MILCA around Coma", 2.2e-6, float(spread), 0.3)


def compare_with_real(
    maps: NDArray[np.float32], instrument: Instrument, folder: Path, fwhm: Floats
) -> tuple[list[tuple[object, ...]], Figure]:
    """Auto spectra and correlation coefficients of fields like Coma's against the real cut-outs.

    Rows: ratio ours / real of each band in 300-500, 500-1500 and 1500-2000; correlation coefficients at 500-1500;
    what 217 GHz has beyond 143 GHz, which no chance correlation of the one real field's CMB touches; widths of the
    pixel histograms; peaks above three fluxes. ``published`` is 1 for ratios. The tolerance is the target (10 % at
    500 < l < 1500, 20 % outside and for histograms, 0.05 for correlations), whatever one field's sample variance.
    """
    real_field, centre = read_cutouts(folder, instrument)
    shape = (real_field.shape[1], real_field.shape[2])
    weight = cluster_weight(shape, 256, 256)  # Coma
    real = measure_spectra(real_field, instrument, weight=weight)
    fields = cut_fields(maps, instrument, find_alike(centre, _N_FIELD), shape)
    ours = [measure_spectra(field, instrument, weight=weight) for field in fields]
    counts = _check_field_counts(real_field, fields, instrument, weight == 1)
    fields, real_field = [_small_scales(field) for field in fields], _small_scales(real_field)
    power = np.median([spectra.power for spectra in ours], axis=0)
    mean = FieldSpectra(power, 0)
    rows: list[tuple[object, ...]] = []
    width = np.diff(MULTIPOLE_EDGES) * (MULTIPOLE_EDGES[1:] + MULTIPOLE_EDGES[:-1])  # modes in a bin
    for low, high, tolerance in ((300, 500, 0.2), (500, 1500, 0.1), (1500, 2000, 0.2)):
        inside = (MULTIPOLE_EDGES[:-1] >= low) & (MULTIPOLE_EDGES[1:] <= high)
        ratio = np.average(mean.auto[inside] / real.auto[inside], axis=0, weights=width[inside])
        single = [np.average(one.auto[inside] / mean.auto[inside], axis=0, weights=width[inside]) for one in ours]
        for name, value, spread in zip(instrument.band_names, ratio, np.std(single, axis=0), strict=True):
            check = f"auto spectrum {name} GHz, l = {low}-{high}, ours / real"
            rows.append(_row(check, "real HFI cut-outs", 1.0, value, tolerance, spread))
        if low == 500:
            weights = width[inside]
            apart = np.average((mean.correlation - real.correlation)[inside], axis=0, weights=weights)
            spread = np.std([np.average(one.correlation[inside], axis=0, weights=weights) for one in ours], axis=0)
            upper = np.triu_indices(len(instrument.bands), 1)
            for a, b in zip(*upper, strict=True):
                check = f"correlation {instrument.band_names[a]}x{instrument.band_names[b]}, l = {low}-{high}"
                value = float(np.average(real.correlation[inside, a, b], weights=weights))
                status = _status(float(apart[a, b]), 0.05, float(spread[a, b]))
                rows.append(
                    (check, "real HFI cut-outs", value, value + float(apart[a, b]), 0.05, float(spread[a, b]), status)
                )
            pure = FieldSpectra(_without_chance(real.power, mean.power, instrument, fwhm)[inside], 0)
            apart = np.average(mean.correlation[inside] - pure.correlation, axis=0, weights=weights)
            largest = float(np.abs(apart).max())
            check = f"largest of the 15 differences, CMB x far infrared as 100x857 has it taken out, l = {low}-{high}"
            rows.append((check, "real HFI cut-outs", 0.0, largest, 0.05, np.nan, _status(largest, 0.05, 0.0)))
    return [
        *rows,
        *_check_colours(real, ours, instrument, fwhm),
        *_check_widths(real_field, fields, instrument),
        *counts,
    ], _figure(real_field, real, fields, ours, instrument)


def _small_scales(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """A field (n_band, ny, nx) less itself smoothed with sigma = 17 arcmin: what lies above l of 300, as spectra do.

    Below that real maps hold the solar dipole, and fields of equal mean E(B-V) differ in their large-scale cirrus.
    """
    return np.asarray(field - gaussian_filter(field, (0, 10, 10), mode="nearest"))


def _without_chance(
    real: NDArray[np.float64], ours: NDArray[np.float64], instrument: Instrument, fwhm: Floats
) -> NDArray[np.float64]:
    """Real spectra (n_bin, n_band, n_band) less the chance correlation of the one field's CMB and far infrared.

    100 GHz holds hardly any dust: what 100 x 857 GHz has beyond ours is CMB x far infrared. In bands a and b, with K
    from K_CMB to MJy/sr, B the beams and r_b = ours of b x 857 over 857 x 857, that is d (K_a r_b + K_b r_a) B_a B_b.
    """
    middle = (0.5 * (MULTIPOLE_EDGES[1:] + MULTIPOLE_EDGES[:-1])).astype(int)
    beam = np.stack([beam_window(float(f), 4000)[middle] for f in fwhm], axis=1)
    kelvin = instrument.mjysr_per_kcmb * beam
    chance = (real - ours)[:, 0, -1] / kelvin[:, 0] / beam[:, -1]
    infrared = ours[:, :, -1] / ours[:, -1:, -1] * beam[:, -1:]
    both = kelvin[:, :, None] * infrared[:, None, :]
    return np.asarray(real - chance[:, None, None] * (both + np.swapaxes(both, 1, 2)))


def _check_colours(
    real: FieldSpectra, ours: list[FieldSpectra], instrument: Instrument, fwhm: Floats
) -> list[tuple[object, ...]]:
    """217 - 143 GHz, in which the CMB drops out, against 545 and 857 GHz: dust and CIB alone, 500 < l < 1500."""
    inside = (MULTIPOLE_EDGES[:-1] >= 500) & (MULTIPOLE_EDGES[1:] <= 1500)
    middle = (0.5 * (MULTIPOLE_EDGES[1:] + MULTIPOLE_EDGES[:-1])).astype(int)
    rows = []
    share = [
        1 / k / beam_window(float(f), 4000)[middle] for k, f in zip(instrument.mjysr_per_kcmb, fwhm, strict=True)
    ]
    for third in (4, 5):
        excess = [
            (one.power[:, 2, third] * share[2] - one.power[:, 1, third] * share[1])[inside] for one in (real, *ours)
        ]
        ratio = np.mean(np.array(excess[1:]) / np.median(excess[1:], axis=0), axis=1)
        value = float(np.mean(np.median(excess[1:], axis=0) / excess[0]))
        check = f"(217 - 143) x {instrument.band_names[third]} GHz, l = 500-1500, ours / real"
        rows.append(_row(check, "real HFI cut-outs", 1.0, value, 0.10, float(np.std(ratio))))
    return rows


def _check_widths(
    real_field: NDArray[np.float64], fields: list[NDArray[np.float64]], instrument: Instrument
) -> list[tuple[object, ...]]:
    """Widths of the pixel histograms of small scales: the 16-84 % range, ours / real."""
    rows = []
    real, *ours = (np.subtract(*np.percentile(f, [84, 16], axis=(1, 2))) for f in (real_field, *fields))
    for index, name in enumerate(instrument.band_names):
        ratio = np.array([one[index] for one in ours]) / real[index]
        check = f"16-84 % range of pixels {name} GHz, l > 300, ours / real"
        rows.append(_row(check, "real HFI cut-outs", 1.0, float(np.median(ratio)), 0.2, float(np.std(ratio))))
    return rows


def _check_field_counts(
    real_field: NDArray[np.float64],
    fields: list[NDArray[np.float64]],
    instrument: Instrument,
    inside: NDArray[np.bool_],
) -> list[tuple[object, ...]]:
    """Peaks of a beam's size above three fluxes in each band; the spread holds the Poisson error.

    Away from Coma, and in the least dusty three quarters of each field: the knots of the real one's cirrus cloud
    would pass for galaxies.
    """
    rows = []
    dust = [gaussian_filter(field[-1], 15) for field in (real_field, *fields)]  # 26 arcmin
    clear = [inside & (one < np.quantile(one, 0.75)) for one in dust]
    for index, band in enumerate(instrument.bands):
        real, *ours = (
            peak_fluxes(field[index], band.fwhm_arcmin)[mask]
            for field, mask in zip((real_field, *fields), clear, strict=True)
        )
        for limit in _FIELD_FLUXES_JY.get(band.name, ()):
            number = max(int(np.count_nonzero(real > limit)), 1)
            numbers = [np.count_nonzero(field > limit) for field in ours]
            check = f"peaks > {limit} Jy at {band.name} GHz in the field"
            spread = float(np.std(numbers)) / number
            rows.append(_row(check, "real HFI cut-outs", number, float(np.mean(numbers)), 0.3, spread))
    return rows


def _figure(
    real_field: NDArray[np.float64],
    real: FieldSpectra,
    fields: list[NDArray[np.float64]],
    ours: list[FieldSpectra],
    instrument: Instrument,
) -> Figure:
    """Auto spectra, ours / real with targets shaded, pixel histograms; black: real, median ratio; grey: fields."""
    figure = Figure(figsize=(15, 8.5), layout="constrained")
    axes = figure.subplots(3, len(instrument.bands))
    middle = 0.5 * (MULTIPOLE_EDGES[1:] + MULTIPOLE_EDGES[:-1])
    for index, band in enumerate(instrument.bands):
        spectrum, ratio, histogram = axes[:, index]
        for one in ours:
            spectrum.loglog(middle, one.auto[:, index] * 1e12, color="0.7", lw=0.8)
            ratio.semilogx(middle, one.auto[:, index] / real.auto[:, index], color="0.7", lw=0.8)
        spectrum.loglog(middle, real.auto[:, index] * 1e12, color="k", lw=1.5)
        median = np.median([one.auto[:, index] for one in ours], axis=0)
        ratio.semilogx(middle, median / real.auto[:, index], color="k", lw=1.5)
        for low, high, target in ((300, 500, 0.2), (500, 1500, 0.1), (1500, 2000, 0.2)):
            ratio.fill_between((low, high), 1 - target, 1 + target, color="C0", alpha=0.2, lw=0)
        ratio.set(ylim=(0.5, 1.5), xlabel="multipole l")
        spectrum.set_title(f"{band.name} GHz")
        for axis in (spectrum, ratio):
            axis.set_xticks([300, 1000, 3000], ["300", "1000", "3000"])
            axis.set_xticks([], minor=True)
        values = real_field[index] - np.median(real_field[index])
        reach = np.percentile(np.abs(values), 99.5) * 1.5
        bins = np.linspace(-reach, reach, 80)
        for field in fields:
            histogram.hist(
                (field[index] - np.median(field[index])).ravel(), bins, histtype="step", color="0.7", lw=0.8
            )
        histogram.hist(values.ravel(), bins, histtype="step", color="k", lw=1.5)
        histogram.set(yscale="log", xlabel="MJy/sr, l > 300")
    axes[0, 0].set_ylabel("C_l, Jy$^2$/sr, beam in")
    axes[1, 0].set_ylabel("C_l, ours / real")
    axes[2, 0].set_ylabel("pixels")
    return figure


def _page(table: Table, figures: list[Figure], title: str) -> str:
    """The validation as one self-contained HTML page."""
    lines = []
    for row in table:
        cells = [html.escape(str(row["check"])), html.escape(str(row["source"]))]
        cells += [f"{row[name]:.4g}" for name in ("published", "ours", "tolerance", "spread")]
        cells.append(str(row["status"]))
        lines.append(f"<tr class='{row['status']}'>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    images = []
    for figure in figures:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=90)
        code = base64.b64encode(stream.getvalue()).decode("ascii")
        images.append(
            "<img alt='spectra and histograms, real (black) and simulated (grey)'"
            f" src='data:image/png;base64,{code}'>"
        )
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    style = (
        "body{font:15px sans-serif;max-width:1200px;margin:2em auto}td,th{padding:.2em .7em;text-align:left}"
        "tr.off td:last-child{color:#b00;font-weight:bold}img{width:100%}"
    )
    return (
        f"<!doctype html><meta charset='utf-8'><title>Validation of a simulated sky</title><style>{style}</style>"
        f"<h1>{title}</h1>"
        f"<table><tr>{head}</tr>{''.join(lines)}</table>{''.join(images)}"
    )
