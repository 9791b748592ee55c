"""Are the bands what they are called? The sky itself tells: one CMB, dust that rises, beams that shrink.

Three statements about covariances between *different* bands, so that noise drops out:

* the CMB has the same amplitude, in K_CMB, in every band up to 217 GHz, and about 90 uK on degree scales;
* dust (and the infrared background) rises from 217 GHz to the highest band like a modified blackbody;
* the CMB's fine structure is the more washed out the wider the beam.

Where one fails, every wrong unit of a band and every exchange of two files is undone in turn, and the one that
puts all three right is named.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import healpy
import numpy as np
from numpy.typing import NDArray
from scipy import special

from szeek.physics.instrument import Instrument
from szeek.sky.mapset import MapSet, nearest
from szeek.sky.skymaps import SkyMaps

log = logging.getLogger(__name__)

#: rms of the CMB in nside-128 cells about their nside-8 mean; 90 uK in the real Planck maps around Coma.
CMB_RMS_KCMB = 90e-6
#: Interstellar dust: Planck 2013 results XI (A&A 571, A11), all-sky mean T and beta.
DUST_K, DUST_BETA = 19.7, 1.62
#: Multipole that differences of cells of nside n weigh most, over n: 0.63 at n = 1024 in the real Coma maps.
MULTIPOLE_PER_NSIDE = 0.63

_CMB_BELOW_GHZ, _DUST_ABOVE_GHZ = 300.0, 200.0
_N_TILES = 64  # of nside 8, the quieter half of them 1700 deg^2: enough for 1 % on every number here
_TILE_NSIDE, _DEGREE_NSIDE, _FINE_NSIDE = 8, 128, 1024  # for Planck's beams
_PLANCK_FWHM_ARCMIN = 9.68  # of its widest, at 100 GHz
_FINEST_SAMPLES_NSIDE = 8192
_N_PARTS = 16
#: rms of degree scales below which there is no CMB, and above which there is more than any sky and noise, K_CMB.
_FAINT_KCMB, _BRIGHT_KCMB = 30e-6, 3e-3

#: Lower and higher than any sky by far: the Galactic centre is 0.3 K_CMB at 353 GHz and 2e4 MJy/sr at 857 GHz.
_NO_SKY = {"K_CMB": (-1.0, 10.0), "MJy/sr": (-100.0, 1e6)}


class BandError(ValueError):
    """A band is mis-scaled, or two are exchanged."""


@dataclass(frozen=True)
class BandStatistics:
    """Covariances between bands in K_CMB^2 on two scales, shape (n_band, n_band).

    ``degree``: cells of nside 128 about their nside-8 mean. ``fine``: cells of nside 1024, or the maps' own, about
    the mean of their 16 siblings. ``n_degree`` and ``n_fine`` cells went in. Where the widest beam is narrower than
    Planck's, all of them are smaller by ``zoom``, a power of two. Of a set of maps, ``without`` are the same without
    each of up to 16 parts of the sky: their scatter tells how well the numbers are known.
    """

    degree: NDArray[np.float64]
    fine: NDArray[np.float64]
    n_degree: int
    n_fine: int
    nside_degree: int
    nside_fine: int
    zoom: int = 1
    without: tuple[BandStatistics, ...] = ()


@dataclass(frozen=True)
class _Mistake:
    """A hypothesis: `matrix` turns the maps as given into the maps as they ought to be."""

    sentence: str
    matrix: NDArray[np.float64]


_Products = tuple[NDArray[np.float64], int]
_Tile = tuple[_Products, _Products]


def measure_bands(skymaps: SkyMaps | MapSet, instrument: Instrument) -> BandStatistics:
    """Band covariances on degree and fine scales, over the least dusty half of up to 64 high-latitude tiles.

    Cells that stand out by more than five robust sigmas in any band (sources, clusters) are left out.
    """
    nside = _coarsest_nside(skymaps)
    zoom = _zoom(instrument, nside)
    nside_fine, nside_degree = min(nside, zoom * _FINE_NSIDE), min(nside, zoom * _DEGREE_NSIDE)
    tiles = []
    for cells in _tiles(skymaps, nside_fine, zoom):
        cells = cells / instrument.unit_per_kcmb
        fine = cells.reshape(-1, 16, skymaps.n_band) - _mean_of(cells, 16)[:, None]
        coarse = _mean_of(cells, (nside_fine // nside_degree) ** 2)
        tiles.append((_products(coarse - np.nanmean(coarse, axis=0)), _products(fine)))
    top = int(np.argmax([band.freq_ghz for band in instrument.bands]))
    if instrument.bands[top].freq_ghz >= _CMB_BELOW_GHZ:
        # of its variance, dust, the quieter half: a few dusty tiles would outweigh all others' CMB
        tiles.sort(key=lambda tile: float(tile[0][0][top, top] / max(tile[0][1], 1)))
        tiles = tiles[: max(8, len(tiles) // 2)]

    def average(some: list[_Tile]) -> BandStatistics:
        zero: _Products = (np.zeros((skymaps.n_band,) * 2), 0)
        (degree, n_degree), (fine_sum, n_fine) = (
            (sum((t[k][0] for t in some), zero[0]), sum(t[k][1] for t in some)) for k in (0, 1)
        )
        return BandStatistics(
            degree / max(n_degree, 1), fine_sum / max(n_fine, 1), n_degree, n_fine, nside_degree, nside_fine, zoom
        )

    n_part = min(_N_PARTS, len(tiles)) if isinstance(skymaps, MapSet) else 0
    without = [average([t for k, t in enumerate(tiles) if k % n_part != part]) for part in range(n_part)]
    return replace(average(tiles), without=tuple(without))


def _coarsest_nside(maps: SkyMaps | MapSet) -> int:
    """Of the group of the largest pixels."""
    if isinstance(maps, SkyMaps):
        return maps.nside
    return min(replace(maps, groups=(group,), coverage=maps.coverage[:, columns]).nside
               for group, columns in zip(maps.groups, maps.columns, strict=True))  # fmt: skip


def _zoom(instrument: Instrument, nside: int) -> int:
    """How many times smaller than Planck's the scales are that tell, by its beams and the pixels."""
    widest = max((band.fwhm_arcmin for band in instrument.bands if band.freq_ghz < _CMB_BELOW_GHZ), default=math.inf)
    by_beam = math.log2(_PLANCK_FWHM_ARCMIN / widest) if widest < math.inf else 0.0
    return 1 << max(0, min(round(by_beam), int(math.log2(nside / _FINE_NSIDE))))


def check_bands(
    skymaps: SkyMaps | MapSet,
    instrument: Instrument,
    units_in: tuple[str, ...] | None = None,
    names: tuple[str, ...] | None = None,
) -> None:
    """Refuse maps whose bands are mis-scaled or exchanged, and say which.

    Source: Planck 2018 results III (A&A 641, A3), Sect. 5: HFI bands agree on the CMB to better than 0.2 % up to
    217 GHz.

    Parameters
    ----------
    skymaps : SkyMaps or MapSet
        Maps in the instrument's units; of a set, where all of its bands are.
    instrument : Instrument
        The same bands: units, factors, beams.
    units_in : tuple of str, optional
        The unit of each file as labelled (an exchange of files carries the label with it).
    names : tuple of str, optional
        What to call each band in a message; by default the band's name.

    Raises
    ------
    BandError
        With a sentence that names the mistake where one explains everything, else the numbers.

    Notes
    -----
    Of maps with fewer than three CMB bands no more than the brightness is checked; of nside below 32, of less than
    about 20 deg^2 or without a CMB common to the bands nothing is; that is logged as a warning. An exchange among
    100, 143 and 217 GHz maps that are all in K_CMB shows in the beams only, hence needs nside 512 or more.
    """
    if isinstance(skymaps, SkyMaps):
        _refuse_marks(skymaps, names or instrument.band_names)
    cmb = [b for b, band in enumerate(instrument.bands) if band.freq_ghz < _CMB_BELOW_GHZ]
    nside = _coarsest_nside(skymaps)
    if len(cmb) < 3 or nside < 32:
        log.warning("bands not checked against each other: needs three CMB bands and nside 32 or more")
        if cmb and nside >= _DEGREE_NSIDE:
            _check_brightness(measure_bands(skymaps, instrument), instrument, cmb, names or instrument.band_names)
        return
    measured = measure_bands(skymaps, instrument)
    if measured.n_degree < 30:
        log.warning("bands not checked against each other: the footprint is too small")
        return
    correlation = _correlation(measured.degree)
    if max(correlation[i, j] for i, j in combinations(range(skymaps.n_band), 2)) < 0.3:
        log.warning("bands not checked against each other: they share no CMB signal")
        return
    deviations = _deviations(measured, np.eye(skymaps.n_band), instrument, cmb)
    if _fits(deviations):
        log.info("bands agree: %s", _describe(deviations))
        return
    units = units_in or tuple(band.unit for band in instrument.bands)
    labels = tuple(f"'{n}'" for n in (names or instrument.band_names))
    scored = []
    for mistake in _mistakes(instrument, units, labels):
        tried = _deviations(measured, mistake.matrix, instrument, cmb)
        if _fits(tried):
            scored.append((sum(min(abs(d), 5.0) ** 2 for d in tried.values()), mistake.sentence))
    if scored:
        raise BandError(f"{min(scored)[1]} ({_describe(deviations)})")
    raise BandError(
        f"the bands do not belong together ({_describe(deviations)}), and no single wrong unit or exchange of two "
        "files explains it; check each file's band, unit and ordering, or pass check=False to do without this check"
    )


def _check_brightness(
    measured: BandStatistics, instrument: Instrument, cmb: list[int], names: tuple[str, ...]
) -> None:
    """Refuse a band whose rms on degree scales is below that of the CMB, or above any sky with its noise."""
    if measured.n_degree < 30:
        return
    for b in cmb:
        rms = float(np.sqrt(measured.degree[b, b]))
        if _FAINT_KCMB < rms < _BRIGHT_KCMB or rms == 0.0:
            continue
        words = {6: "uK_CMB, not K_CMB", 3: "mK_CMB, not K_CMB", -3: "K_CMB, not mK_CMB", -6: "K_CMB, not uK_CMB"}
        held = words.get(3 * round(math.log10(rms / CMB_RMS_KCMB) / 3), "no such map")
        raise BandError(
            f"'{names[b]}' has an rms of {rms * 1e6:.3g} uK_CMB on degree scales, expected about "
            f"{CMB_RMS_KCMB * 1e6:.0f}: it holds {held}; pass unit={{'{instrument.band_names[b]}': ...}}, or "
            "check=False to do without this check"
        )


def _deviations(
    measured: BandStatistics, matrix: NDArray[np.float64], instrument: Instrument, cmb: list[int]
) -> dict[str, float]:
    """Each statement's deviation from what it should be, in units of what is tolerated: all below 1 is good."""
    names = instrument.band_names
    degree, fine = (matrix @ c @ matrix.T for c in (measured.degree, measured.fine))
    found: dict[str, float] = {}
    amplitudes, typical = _cmb_amplitudes(degree, cmb)
    parts = [(matrix @ part.degree @ matrix.T, matrix @ part.fine @ matrix.T) for part in measured.without]
    for b, amplitude in amplitudes.items():
        logs = [_log_of(found_there[b] / usual) for found_there, usual in (_cmb_amplitudes(d, cmb) for d, _ in parts)]
        tolerated = max(1.2, float(np.exp(_jackknife(logs, sigmas=3.0))))
        found[f"CMB at {names[b]} is {amplitude / typical:.3g} of the others"] = _log_ratio(
            amplitude, typical, tolerated
        )
    if measured.nside_degree == measured.zoom * _DEGREE_NSIDE:
        found[f"CMB rms on degree scales is {typical * 1e6:.3g} uK"] = _log_ratio(typical, CMB_RMS_KCMB, 3.0)

    freq = [band.freq_ghz for band in instrument.bands]
    dusty = [int(b) for b in np.argsort(freq, kind="stable") if freq[b] > _DUST_ABOVE_GHZ]
    top = dusty[-1] if dusty else 0
    others = [b for b in range(len(freq)) if b != top]
    if len(dusty) >= 3 and np.max(_correlation(fine)[top, others]) > 0.4:
        slope = fine[:, top] / fine[top, top] * instrument.mjysr_per_kcmb
        expected = _dust_mjysr(np.array([band.freq_ghz for band in instrument.bands]))
        for low, high in pairwise(dusty):
            # 5 sigma, so that the ratio is known to 20 %: in a small clean field dust is lost in noise or CMB
            if _correlation(fine)[low, top] < 5.0 / np.sqrt(measured.n_fine):
                continue
            ratio = slope[low] / slope[high]
            found[f"dust at {names[low]} is {ratio:.2g} of that at {names[high]}"] = _log_ratio(
                ratio, expected[low] / expected[high], 3.0
            )

    if measured.nside_fine >= 512 and measured.n_fine > 3000:
        multipole = MULTIPOLE_PER_NSIDE * measured.nside_fine
        for i, j in combinations(cmb, 2):
            k = next(k for k in cmb if k not in (i, j))
            sigma_i, sigma_j = (
                np.radians(instrument.bands[b].fwhm_arcmin / 60) / np.sqrt(8 * np.log(2)) for b in (i, j)
            )
            expected_log = -0.5 * multipole**2 * (sigma_i**2 - sigma_j**2)
            ratio = fine[i, k] / fine[j, k]
            ratio *= amplitudes[j] / amplitudes[i]
            if abs(expected_log) < 0.015 or min(_correlation(fine)[i, k], _correlation(fine)[j, k]) < 0.1:
                continue
            if parts:  # amplitudes were found alike above, and are not known as well as this
                ratio *= amplitudes[i] / amplitudes[j]
            logs = [_log_of(f[i, k] / f[j, k]) for _, f in parts]
            if not _jackknife(logs) < 0.3 * abs(expected_log):
                continue  # in a small or noisy field it is not known well enough
            # 1 with the right beams, 0 with equal ones (smoothed or noise-only maps pass), -1 when exchanged
            agreement = float(np.log(ratio)) / expected_log
            found[f"fine structure at {names[i]} is {ratio:.2g} of that at {names[j]}"] = (1.0 - agreement) / 1.5
    return found


def _cmb_amplitudes(degree: NDArray[np.float64], cmb: list[int]) -> tuple[dict[int, float], float]:
    """The CMB's amplitude in each of its bands, from the covariances with the two most like it, and their median."""
    amplitudes, likeness = {}, _correlation(degree)
    for b in cmb:
        i, j = sorted((k for k in cmb if k != b), key=lambda k: -likeness[b, k])[:2]
        squared = degree[b, i] * degree[b, j] / degree[i, j]
        amplitudes[b] = np.sqrt(squared) if squared > 0 and degree[i, j] > 0 else np.nan
    usable = [a for a in amplitudes.values() if np.isfinite(a)]
    return amplitudes, float(np.median(usable)) if usable else np.nan


def _log_of(ratio: float) -> float:
    return math.log(ratio) if ratio > 0 else math.nan


def _jackknife(logs: list[float], sigmas: float = 1.0) -> float:
    """Standard errors of a number, from its values without each part of the data; 0 without parts, as for Planck.

    Few parts know the error badly: it is multiplied so that the number is as seldom beyond as a Gaussian one
    (Student's t).
    """
    if not logs:
        return 0.0
    known = np.array([value for value in logs if math.isfinite(value)])
    if len(known) < max(len(logs), 2):
        return math.inf
    by_chance = special.stdtrit(len(known) - 1, special.ndtr(sigmas))
    return float(by_chance * np.sqrt((len(known) - 1) * known.var()))


def _fits(deviations: dict[str, float]) -> bool:
    return all(abs(d) < 1.0 or (text.startswith("fine") and d < 1.0) for text, d in deviations.items())


def _describe(deviations: dict[str, float]) -> str:
    bad = [text for text, d in deviations.items() if not _fits({text: d})]
    return "; ".join(bad or deviations)


def _mistakes(instrument: Instrument, units: tuple[str, ...], labels: tuple[str, ...]) -> Iterator[_Mistake]:
    """Every wrong unit of one band or of all, and every exchange of two files, with what undoes it."""
    factors = instrument.mjysr_per_kcmb
    n = len(labels)
    for b, label in enumerate(labels):
        for word, factor in (
            ("is 1e6 times too bright: it holds uK_CMB, not K_CMB", 1e6),
            ("is 1e6 times too faint: it holds K_CMB, not uK_CMB", 1e-6),
            ("is 1e3 times too bright: it holds mK_CMB, not K_CMB", 1e3),
            ("is 1e3 times too faint: it holds K_CMB, not mK_CMB", 1e-3),
            (f"is {factors[b]:.5g} times too bright: it holds MJy/sr, not K_CMB", factors[b]),
            (f"is {factors[b]:.5g} times too faint: it holds K_CMB but is labelled MJy/sr", 1 / factors[b]),
        ):
            matrix = np.eye(n)
            matrix[b, b] = 1 / factor
            yield _Mistake(f"{label} {word}; pass unit={{'{instrument.band_names[b]}': ...}}", matrix)
    for word, scale in (
        ("all bands are 1e6 times too bright: they hold uK_CMB, not K_CMB; pass unit='uK_CMB'", np.full(n, 1e-6)),
        ("all bands are 1e6 times too faint: they hold K_CMB, not uK_CMB; pass unit='K_CMB'", np.full(n, 1e6)),
        ("all bands hold MJy/sr, not K_CMB; pass unit='MJy/sr'", 1 / factors),
        ("all bands hold K_CMB but are labelled MJy/sr; pass unit='K_CMB'", factors),
    ):
        yield _Mistake(word, np.diag(scale))
    in_kcmb = np.array([b.unit == "K_CMB" for b in instrument.bands])
    if not in_kcmb.all() and in_kcmb.any():
        for word, power in (
            ("1e6 times too bright: they hold uK_CMB; pass unit='uK_CMB'", -6),
            ("1e3 times too bright: they hold mK_CMB; pass unit='mK_CMB'", -3),
            ("1e3 times too faint: they hold K_CMB, not mK_CMB; pass unit='K_CMB'", 3),
            ("1e6 times too faint: they hold K_CMB, not uK_CMB; pass unit='K_CMB'", 6),
        ):
            yield _Mistake(f"the K_CMB bands are {word} for them", np.diag(np.where(in_kcmb, 10.0**power, 1.0)))
    for i, j in combinations(range(n), 2):
        matrix = np.eye(n)
        matrix[[i, j]] = matrix[[j, i]]
        if "JY" in units[j].upper():
            matrix[i, j] *= factors[j] / factors[i]
        if "JY" in units[i].upper():
            matrix[j, i] *= factors[i] / factors[j]
        yield _Mistake(
            f"{labels[i]} and {labels[j]} are exchanged: each holds the sky of the other's band; "
            "give them the other way",
            matrix,
        )


def _refuse_marks(skymaps: SkyMaps, names: tuple[str, ...]) -> None:
    """Refuse a band whose lowest or highest value is beyond any sky and occurs again and again: a mark, -999 say."""
    parts = [slice(first, first + (1 << 20)) for first in range(0, len(skymaps.values), 1 << 20)]
    lowest = np.min([skymaps.values[part].min(axis=0) for part in parts], axis=0)
    highest = np.max([skymaps.values[part].max(axis=0) for part in parts], axis=0)
    for b, band in enumerate(skymaps.bands):
        low, high = _NO_SKY.get(band.unit, (-np.inf, np.inf))
        for value in (lowest[b], highest[b]):
            if low < value < high:
                continue
            n = sum(int(np.count_nonzero(skymaps.values[part, b] == value)) for part in parts)
            if n >= 10:
                raise BandError(
                    f"{n} pixels of '{names[b]}' are exactly {value:.6g} {band.unit}, a mark of what was not "
                    f"observed that the header does not state; state it as the file has it, "
                    f"'{names[b]}[BAD_DATA=-999]', or pass check=False to do without this check"
                )


def _tiles(skymaps: SkyMaps | MapSet, nside_cell: int, zoom: int) -> Iterator[NDArray[np.float64]]:
    """Cell means of nside-8 tiles in NESTED order, NaN where less than all of a cell is seen: (n_cell, n_band)."""
    nside_tile, n_tiles = zoom * _TILE_NSIDE, zoom * _N_TILES
    if isinstance(skymaps, MapSet):
        yield from _tiles_of_set(skymaps, nside_cell, nside_tile, n_tiles)
        return
    per_tile, per_cell = (skymaps.nside // nside_tile) ** 2, (skymaps.nside // nside_cell) ** 2
    centres = np.abs(healpy.pix2ang(nside_tile, np.arange(12 * nside_tile**2), nest=True, lonlat=True)[1])
    given = 0
    for tile in _spread_out(np.flatnonzero(centres > 30.0)) + _spread_out(np.flatnonzero(centres <= 30.0)):
        if given == n_tiles or (given and centres[tile] <= 30.0):
            return
        # the tile's centre and a few more points first: most tiles of a cut-out need no more than this
        probe = tile * per_tile + np.linspace(0, per_tile - 1, 65).astype(np.int64)
        if not skymaps.footprint[healpy.nest2ring(skymaps.nside, probe)].any():
            continue
        ipix = healpy.nest2ring(skymaps.nside, np.arange(tile * per_tile, (tile + 1) * per_tile))
        seen = skymaps.footprint[ipix]
        if seen.mean() < 0.2:
            continue
        values = skymaps.values[ipix].astype(np.float64)
        values[~seen] = np.nan
        given += 1
        yield values.reshape(-1, per_cell, skymaps.n_band).mean(axis=1)


def _tiles_of_set(maps: MapSet, nside_cell: int, nside_tile: int, n_tiles: int) -> Iterator[NDArray[np.float64]]:
    """The same of a set, from its nearest pixels about the middle of up to 16 parts of each cell."""
    nside = min(maps.nside, 4 * nside_cell, _FINEST_SAMPLES_NSIDE)
    per_tile, per_cell = (nside // nside_tile) ** 2, (nside // nside_cell) ** 2
    seen = healpy.reorder(maps.coverage.all(axis=1), r2n=True).reshape(12 * nside_tile**2, -1).mean(axis=1)
    latitude = np.abs(healpy.pix2ang(nside_tile, np.arange(len(seen)), nest=True, lonlat=True)[1])
    good = seen >= 0.2
    chosen = _spread_out(np.flatnonzero(good & (latitude > 30.0)))
    for tile in (chosen or _spread_out(np.flatnonzero(good)))[:n_tiles]:
        ipix = np.arange(tile * per_tile, (tile + 1) * per_tile)
        values = nearest(maps, np.stack(healpy.pix2vec(nside, ipix, nest=True), axis=1)).astype(np.float64)
        yield values.reshape(-1, per_cell, maps.n_band).mean(axis=1)


def _spread_out(tiles: NDArray[np.int64]) -> list[int]:
    """The same tiles in an order whose every beginning covers the sky evenly (golden-ratio steps)."""
    return [int(t) for t in tiles[np.argsort((np.arange(len(tiles)) * 0.6180339887) % 1.0)]]


def _mean_of(cells: NDArray[np.float64], n_child: int) -> NDArray[np.float64]:
    """Mean over groups of `n_child` cells of which more than half are seen, else NaN."""
    groups = cells.reshape(-1, n_child, cells.shape[1])
    seen = np.isfinite(groups)
    n_seen = seen.sum(axis=1)
    total = np.where(seen, groups, 0.0).sum(axis=1)
    return np.where(2 * n_seen > n_child, total / np.maximum(n_seen, 1), np.nan)


def _products(differences: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Sum over cells of the products of bands, and the number of cells; sources, beyond 5 robust sigmas, left out."""
    rows = differences.reshape(-1, differences.shape[-1])
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows):
        spread = 1.4826 * np.median(np.abs(rows), axis=0)
        rows = rows[(np.abs(rows) <= 5.0 * spread).all(axis=1)]
    return rows.T @ rows, len(rows)


def _correlation(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    return np.asarray(covariance / np.outer(spread, spread))


def _log_ratio(found: float, expected: float, tolerated: float) -> float:
    """log(found / expected) in units of log(tolerated); infinite for a ratio that is no positive number."""
    ratio = found / expected
    return float(np.log(ratio) / np.log(tolerated)) if np.isfinite(ratio) and ratio > 0 else float("inf")


def _dust_mjysr(freq_ghz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Modified blackbody, arbitrary scale, in brightness per unit frequency."""
    x = freq_ghz / 20.837 / DUST_K  # h nu / k T, h / k = 1 K / 20.837 GHz
    return np.asarray(freq_ghz ** (3.0 + DUST_BETA) / np.expm1(x))
