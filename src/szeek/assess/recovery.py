"""How much of a catalogue is recovered, how many sources are new, and completeness and purity where truth is
known."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.arguments import plain_array, plain_mask, plain_table
from szeek.assess.match import chance_rate, further_peaks, match
from szeek.find.detect import detect_sources
from szeek.measure.pairs import list_pairs, truth_radius
from szeek.sky.mapset import COVERAGE_NSIDE
from szeek.sky.partial import PartialMap
from szeek.sky.tiles import TILE_NSIDE, Tiles, pixels_in_tiles, tile_of

ALL_TILES = -1  #: in a column ``tile``: all selected tiles together
_POSITION_NSIDE = 8192  # random positions are centres of its pixels, 0.43 arcmin
_N_RANDOM = 200_000  # positions for the chance rates
_M500_MIN_1E14MSUN = 1.0  # of haloes that count as true
_FEWEST_DETECTIONS = 10  # that tell a purity


@dataclass(frozen=True)
class HaloCuts:
    """Which haloes of a simulated sky count: least Y500 of all, and of the samples whose completeness is measured.

    Parameters
    ----------
    least_y500_arcmin2 : float
        Of what counts as true.
    y500_arcmin2, m500_1e14msun : tuple of float
        Samples: haloes above each Y500, and above each M500.
    """

    least_y500_arcmin2: float = 3e-4
    y500_arcmin2: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    m500_1e14msun: tuple[float, ...] = ()

    def samples(self, haloes: Table) -> dict[str, NDArray[np.bool_]]:
        """Rows of each sample, by its name.

        Examples
        --------
        >>> haloes = Table({"y500_arcmin2": [4e-4, 6e-4], "m500_1e14msun": [1.5, 3.0]})
        >>> {name: rows.tolist() for name, rows in HaloCuts(3e-4, (5e-4,), (1.0,)).samples(haloes).items()}
        {'y500>5e-4': [False, True], 'm500>1e14': [True, True]}
        """
        y500, m500 = np.asarray(haloes["y500_arcmin2"]), np.asarray(haloes["m500_1e14msun"])
        by_flux = {f"y500>{cut:.0e}".replace("e-0", "e-"): y500 > cut for cut in self.y500_arcmin2}
        return by_flux | {f"m500>{cut:g}e14": m500 > cut for cut in self.m500_1e14msun}


#: For beams as narrow as those of surveys from the ground.
GROUND_CUTS = HaloCuts(5e-5, (1e-4, 2e-4, 5e-4), (2.0, 3.0))


def wilson_interval(
    n_success: NDArray[np.int64] | int, n: NDArray[np.int64] | int, n_sigma: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Binomial confidence interval of a fraction: Wilson's score interval.

    It is never empty and stays within [0, 1] also for 0 of n and n of n. Source: Wilson (1927), J. Am. Stat.
    Assoc. 22, 209; recommended with Jeffreys' by Brown, Cai & DasGupta (2001), Stat. Sci. 16, 101.

    Parameters
    ----------
    n_success, n : int or array of int
        ``n_success`` of ``n``.
    n_sigma : float
        Width in Gaussian standard deviations: 1 for 68.3 %.

    Returns
    -------
    low, high : float64
        0 and 1 where n is 0.

    Examples
    --------
    >>> low, high = wilson_interval(40, 40)
    >>> round(float(low), 4), float(high)
    (0.9756, 1.0)
    """
    k, m = np.asarray(n_success, float), np.asarray(n, float)
    if np.any(k < 0) or np.any(k > m):
        raise ValueError(f"{n_success} successes of {n}, expected 0 <= n_success <= n")
    z2 = n_sigma**2
    centre = (k + z2 / 2) / (m + z2)
    half = n_sigma / (m + z2) * np.sqrt(np.where(m > 0, k * (m - k) / np.maximum(m, 1), 0) + z2 / 4)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def measure_recovery(
    detections: NDArray[np.float32] | PartialMap | Table,
    catalogues: Mapping[str, Table],
    p_max: Sequence[float] = tuple(np.round(np.arange(0.05, 0.96, 0.05), 2)),
    *,
    tiles: Iterable[int] | Tiles | None = None,
    known: Iterable[str] | None = None,
    footprint: NDArray[np.bool_] | None = None,
    radius_arcmin: float = 5.0,
    n_shifts: int = 10,
    seed: int = 0,
) -> Table:
    """Recovered fraction of each catalogue and number of unmatched sources, against the threshold.

    Source: Bonjean (2020), Fig. 3. Deviation: errors (Wilson's binomial interval, 68.3 %), a chance rate
    beside each fraction, and every tile by itself.

    Parameters
    ----------
    detections : (12 nside^2,) float32, PartialMap or Table
        The p map (RING, Galactic, NaN outside the footprint): sources are detected again at each threshold,
        as in the paper. Or a source list: then those with p above the threshold count, which merges fewer
        areas.
    catalogues : mapping of name to Table
        Clusters to recover (``lon_deg``, ``lat_deg``), e.g. planck_z, planck_no-z, mcxcwp.
    p_max : sequence of float
        Thresholds.
    tiles : Tiles or iterable of int, optional
        Count in these tiles only, of the paper's 48 where no size is given; matching still sees the sources beyond
        their borders. Default: all.
    known : iterable of str, optional
        A source counts as unmatched if it is in none of these catalogues. Default: all of ``catalogues``.
    footprint : (12 nside^2,) bool, optional
        RING map of where sources could be found; clusters outside do not count. Default: where a p map is not
        NaN, or the whole sky with a source list.
    radius_arcmin : float
        Matching radius.
    n_shifts, seed
        For the chance rate, see :func:`szeek.assess.match.chance_rate`.

    Returns
    -------
    Table
        One row per threshold, tile and catalogue: ``p_max``, ``tile`` (-1: all together), ``catalogue``,
        ``n_clusters``, ``n_recovered``, ``recovered`` (NaN without clusters), ``recovered_low``,
        ``recovered_high``, ``chance`` (chance rate in all tiles together), ``n_sources`` and ``n_unmatched``
        (sources in the tile; in none of the known catalogues; the same in the rows of each catalogue).

    Raises
    ------
    ValueError
        If there is no catalogue, no threshold, a name in ``known`` is not among the catalogues, or there is no such
        tile.

    Examples
    --------
    >>> known = Table({"lon_deg": [10.0, 60.0], "lat_deg": [40.0, 50.0]})
    >>> sources = Table({"lon_deg": [10.0], "lat_deg": [40.01], "p": [0.9]})
    >>> rows = measure_recovery(sources, {"planck_z": known}, p_max=[0.1])
    >>> [int(row["n_recovered"]) for row in rows if row["tile"] == -1]
    [1]
    """
    chosen = _chosen_tiles(tiles)
    if not catalogues or len(p_max) == 0:
        raise ValueError(f"{len(catalogues)} catalogues and {len(p_max)} thresholds, expected at least one of each")
    known_names = list(catalogues) if known is None else list(known)
    if unknown := sorted(set(known_names) - set(catalogues)):
        raise ValueError(f"known names {', '.join(unknown)}, expected some of {', '.join(catalogues)}")
    catalogues = {name: plain_table(table, name) for name, table in catalogues.items()}
    footprint = None if footprint is None else plain_mask(footprint, "footprint")
    if isinstance(detections, Table):
        detections = plain_table(detections, "detections")
    elif isinstance(detections, PartialMap):
        footprint = detections.coverage(COVERAGE_NSIDE) if footprint is None else footprint
    else:
        detections = plain_array(detections, "detections")
        footprint = ~np.isnan(detections) if footprint is None else footprint
    here = {name: table[_inside(table, chosen, footprint)] for name, table in catalogues.items()}
    region = _tile_footprint(chosen, footprint)
    rows = []
    for threshold in p_max:
        if isinstance(detections, Table):
            sources = detections[np.asarray(detections["p"]) > threshold]
        else:
            sources = detect_sources(detections, threshold)
        source_tile = tile_of(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]), chosen.nside)
        unmatched = np.ones(len(sources), bool)
        for name in known_names:
            unmatched[match(sources, catalogues[name], radius_arcmin)["source"]] = False
        for name, clusters in here.items():
            recovered = np.zeros(len(clusters), bool)
            recovered[match(sources, clusters, radius_arcmin)["cluster"]] = True
            cluster_tile = tile_of(np.asarray(clusters["lon_deg"]), np.asarray(clusters["lat_deg"]), chosen.nside)
            chance = chance_rate(sources, clusters, radius_arcmin, region, n_shifts=n_shifts, seed=seed).clusters
            for tile in (ALL_TILES, *chosen):
                in_tile = np.isin(source_tile, chosen.numbers if tile == ALL_TILES else (tile,))
                mine = np.ones(len(clusters), bool) if tile == ALL_TILES else cluster_tile == tile
                n, k = int(mine.sum()), int(recovered[mine].sum())
                low, high = wilson_interval(k, n)
                rows.append(
                    {
                        "p_max": float(threshold),
                        "tile": tile,
                        "catalogue": name,
                        "n_clusters": n,
                        "n_recovered": k,
                        "recovered": k / n if n else np.nan,
                        "recovered_low": float(low),
                        "recovered_high": float(high),
                        "chance": chance,
                        "n_sources": int(in_tile.sum()),
                        "n_unmatched": int((in_tile & unmatched).sum()),
                    }
                )
    return Table(rows, meta={"radius_arcmin": radius_arcmin, "known": known_names, "interval": "Wilson, 68.3 %"})


def completeness_purity(
    sources: Table,
    truth: Table,
    planck_z: Table | None = None,
    *,
    tiles: Iterable[int] | Tiles | None = None,
    footprint: NDArray[np.bool_] | None = None,
    purities: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
    thresholds: Sequence[float] = (0.1,),
    cuts: HaloCuts | None = None,
    radius_arcmin: float = 5.0,
    seed: int = 0,
) -> Table:
    r"""Completeness at given purity, on a sky with known truth, pooled over held-out tiles.

    The match set is the haloes with M500 above 1e14 Msun and Y500 above the cut. Matching is greedy and one-to-one,
    from the highest p down, within 5 arcmin or 0.6 theta500 where that is larger; further peaks inside an extended
    halo (0.6 theta500 > 5 arcmin) already found count neither way. A fraction f measured where a random position
    matches with probability c is t = (f - c) / (1 - c) without chance, since f = t + (1 - t) c. 'At purity P' is
    the lowest threshold whose cumulative purity is still at least P, with at least 10 detections.

    Parameters
    ----------
    sources : Table
        Detections: ``lon_deg``, ``lat_deg``, ``p`` (any score), down to a threshold low enough to reach the
        purities asked for; out of sample in ``tiles``.
    truth : Table
        Haloes: ``lon_deg``, ``lat_deg``, ``m500_1e14msun``, ``y500_arcmin2``, ``theta500_arcmin``.
    planck_z : Table, optional
        Mock Planck_z, whose completeness is measured beside the haloes' (matched by itself, same rules).
    tiles : Tiles or iterable of int, optional
        The held-out tiles. Default: the whole sky.
    footprint : (12 nside^2,) bool, optional
        RING map of where sources could be found. Default: the whole sky.
    purities : sequence of float
        Purities P to reach.
    thresholds : sequence of float
        Rows at fixed thresholds p >= t besides, whatever their purity.
    cuts : HaloCuts, optional
        Least Y500 of the match set, and the samples within it.
    radius_arcmin : float
        Least matching radius.
    seed : int
        Of the 200,000 random positions, uniform in the tiles and the footprint, for the chance rates.

    Returns
    -------
    Table
        One row per purity asked for or threshold, and sample (``'planck_z'``, ``'y500>5e-4'``,
        ``'m500>2e14'``, ..., all within the match set but Planck_z): ``purity_asked`` (NaN in rows of
        fixed threshold), ``p_threshold`` (NaN where the purity is never reached; all that follows is
        NaN or 0 then), ``n_detections`` (without further peaks), ``n_true``, ``purity``, ``purity_low``,
        ``purity_high``, ``purity_tile_std``, ``purity_chance``, ``median_offset_arcmin`` (of true
        detections), ``sample``, ``n_sample``, ``n_found``, ``completeness``, ``completeness_low``,
        ``completeness_high``, ``completeness_tile_std``, ``completeness_chance``. Errors are Wilson's 68.3 %
        interval with the chance rate taken out of its ends.

    Raises
    ------
    ValueError
        If no halo of the match set lies in the tiles and the footprint, or a purity is not within (0, 1].

    Examples
    --------
    >>> haloes = Table({"lon_deg": [10.0, 60.0], "lat_deg": [40.0, 50.0], "y500_arcmin2": [1e-3, 2e-3]})
    >>> haloes["m500_1e14msun"], haloes["theta500_arcmin"] = 5.0, 6.0
    >>> sources = Table({"lon_deg": [10.0], "lat_deg": [40.01], "p": [0.9]})
    >>> row = completeness_purity(sources, haloes, purities=())[0]
    >>> str(row["sample"]), int(row["n_found"]), int(row["n_sample"])
    ('y500>5e-4', 1, 2)
    """
    chosen = _chosen_tiles(tiles)
    if bad := [purity for purity in purities if not 0 < purity <= 1]:
        raise ValueError(f"purities {bad}, expected values in (0, 1]")
    y500_arcmin2 = np.asarray(truth["y500_arcmin2"])
    cuts = cuts or HaloCuts()
    in_set = (np.asarray(truth["m500_1e14msun"]) > _M500_MIN_1E14MSUN) & (y500_arcmin2 > cuts.least_y500_arcmin2)
    haloes = truth[in_set]
    inside = _inside(haloes, chosen, footprint)
    if not inside.any():
        raise ValueError(
            f"no halo of the {len(truth)} in the truth table has M500 > {_M500_MIN_1E14MSUN:g}e14 Msun, Y500 > "
            f"{cuts.least_y500_arcmin2:g} arcmin^2 and lies in tiles {list(chosen)} within the footprint"
        )
    positions = _random_positions(chosen, footprint, seed)

    radius = truth_radius(haloes, radius_arcmin)
    matches = match(sources, haloes, radius)
    further = further_peaks(sources, haloes, radius, matches, radius_arcmin)
    offset_arcmin = np.full(len(sources), np.nan)  # NaN: a false detection
    offset_arcmin[matches["source"]] = matches["separation_arcmin"]
    counted = _inside(sources, chosen, footprint) & ~further
    detections = sources[counted]
    offset_arcmin = offset_arcmin[counted]
    p = np.asarray(detections["p"], float)
    detection_tile = tile_of(np.asarray(detections["lon_deg"]), np.asarray(detections["lat_deg"]), chosen.nside)
    purity_chance = np.unique(list_pairs(positions, haloes, radius)[0]).size / len(positions)

    samples = {}
    if planck_z is not None:
        samples["planck_z"] = _Sample(
            sources, planck_z, truth_radius(planck_z, radius_arcmin), chosen, footprint, positions
        )
    for name, above in cuts.samples(haloes).items():
        samples[name] = _Sample(sources, haloes, radius, chosen, footprint, positions, matches, above)

    asked = [(purity, _threshold_at_purity(p, ~np.isnan(offset_arcmin), purity, purity_chance))
             for purity in purities] + [(np.nan, threshold) for threshold in thresholds]  # fmt: skip
    rows = []
    for purity, threshold in asked:
        kept = p >= threshold  # none where the threshold is NaN
        true = kept & ~np.isnan(offset_arcmin)
        common = {
            "purity_asked": purity,
            "p_threshold": threshold,
            "n_detections": int(kept.sum()),
            "n_true": int(true.sum()),
            **_fraction("purity", true[kept], detection_tile[kept], purity_chance),
            "median_offset_arcmin": float(np.median(offset_arcmin[true])) if true.any() else np.nan,
        }
        rows += [{**common, "sample": name, **sample.completeness(threshold)} for name, sample in samples.items()]
    return Table(
        rows,
        meta={
            "tiles": list(chosen),
            "m500_min_1e14msun": _M500_MIN_1E14MSUN,
            "y500_min_arcmin2": cuts.least_y500_arcmin2,
            "interval": "Wilson, 68.3 %, chance rate taken out",
        },
    )


class _Sample:
    """Clusters whose completeness is measured: the p at which each was found, and p found near random
    positions."""

    def __init__(
        self,
        sources: Table,
        clusters: Table,
        radius_arcmin: NDArray[np.float64],
        tiles: Tiles,
        footprint: NDArray[np.bool_] | None,
        positions: Table,
        matches: Table | None = None,
        chosen: NDArray[np.bool_] | None = None,
    ) -> None:
        matches = match(sources, clusters, radius_arcmin) if matches is None else matches
        found_p = np.full(len(clusters), -np.inf)
        found_p[matches["cluster"]] = matches["p"]
        counted = _inside(clusters, tiles, footprint)
        if chosen is not None:
            counted &= chosen
        self.found_p = found_p[counted]
        self.tile = tile_of(np.asarray(clusters["lon_deg"]), np.asarray(clusters["lat_deg"]), tiles.nside)[counted]
        self.random_p = np.full(len(positions), -np.inf)
        if counted.any():
            radii = np.resize(radius_arcmin[counted], len(positions))
            source, position, _ = list_pairs(sources, positions, radii)
            np.maximum.at(self.random_p, position, np.asarray(sources["p"], float)[source])

    def completeness(self, threshold: float) -> dict[str, float]:
        found = self.found_p >= threshold
        row: dict[str, float] = {"n_sample": found.size, "n_found": int(found.sum())}
        if np.isnan(threshold):
            return row | _fraction("completeness", found[:0], self.tile[:0], np.nan)
        return row | _fraction("completeness", found, self.tile, float(np.mean(self.random_p >= threshold)))


def _fraction(name: str, success: NDArray[np.bool_], tile: NDArray[np.int64], chance: float) -> dict[str, float]:
    """Fraction without chance, its interval, its scatter between tiles, and the chance rate."""

    def without_chance(fraction: NDArray[np.float64] | float) -> float:
        return float((fraction - chance) / (1 - chance))

    if success.size == 0:
        value = low = high = std = np.nan
    else:
        value = without_chance(success.mean())
        low, high = (max(0.0, without_chance(end)) for end in wilson_interval(int(success.sum()), success.size))
        by_tile = [without_chance(success[tile == t].mean()) for t in np.unique(tile)]
        std = float(np.std(by_tile, ddof=1)) if len(by_tile) > 1 else np.nan
    return {
        name: value,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_tile_std": std,
        f"{name}_chance": chance,
    }


def _threshold_at_purity(p: NDArray[np.float64], true: NDArray[np.bool_], purity: float, chance: float) -> float:
    """Lowest p down to which the cumulative purity, without chance, is still at least ``purity``; NaN if
    none."""
    order = np.argsort(-p, kind="stable")
    n = np.arange(1, p.size + 1)
    cumulative = (np.cumsum(true[order]) / n - chance) / (1 - chance)
    last_of_tie = np.append(np.diff(p[order]) != 0, True)[: p.size]
    good = last_of_tie & (n >= _FEWEST_DETECTIONS) & (cumulative >= purity)
    return float(p[order][np.flatnonzero(good)[-1]]) if good.any() else np.nan


def _chosen_tiles(tiles: Iterable[int] | Tiles | None) -> Tiles:
    if tiles is None:
        return Tiles(tuple(range(12 * TILE_NSIDE**2)))
    given = Tiles.given(tiles)
    chosen, n_tile = tuple(sorted(set(given))), 12 * given.nside**2
    if not chosen or chosen[0] < 0 or chosen[-1] >= n_tile:
        raise ValueError(f"tiles {list(chosen)}, expected at least one of 0 to {n_tile - 1}")
    return Tiles(chosen, given.nside)


def _inside(table: Table, tiles: Tiles, footprint: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    lon_deg, lat_deg = np.asarray(table["lon_deg"], float), np.asarray(table["lat_deg"], float)
    inside = tiles.contain(lon_deg, lat_deg)
    if footprint is not None:
        inside &= footprint[healpy.ang2pix(healpy.npix2nside(footprint.size), lon_deg, lat_deg, lonlat=True)]
    return inside


def _tile_footprint(tiles: Tiles, footprint: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Where shifted clusters may land: the tiles within the footprint. None: anywhere."""
    if len(tiles) == 12 * tiles.nside**2:
        return footprint
    if footprint is None:
        return pixels_in_tiles(64, tiles)
    return footprint & pixels_in_tiles(healpy.npix2nside(footprint.size), tiles)


def _random_positions(tiles: Tiles, footprint: NDArray[np.bool_] | None, seed: int) -> Table:
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"random_positions")]))
    parent = rng.choice(healpy.ring2nest(tiles.nside, np.array(tiles.numbers)), _N_RANDOM)
    n_child = (_POSITION_NSIDE // tiles.nside) ** 2
    ipix = parent * n_child + rng.integers(0, n_child, _N_RANDOM)
    lon_deg, lat_deg = healpy.pix2ang(_POSITION_NSIDE, ipix, nest=True, lonlat=True)
    positions = Table({"lon_deg": lon_deg, "lat_deg": lat_deg})
    return positions[_inside(positions, tiles, footprint)]
