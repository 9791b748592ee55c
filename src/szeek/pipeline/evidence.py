"""What other light says of a run's candidates: X-rays, galaxies, catalogues; and the same at random positions."""

from __future__ import annotations

import logging
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table, hstack
from numpy.typing import NDArray

from szeek.assess.calibrate import judge_sources
from szeek.assess.match import shift_directions
from szeek.assess.witness import XrayPurity, fit_xray_purity
from szeek.files import whole_file
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.galaxies import read_galaxies
from szeek.inputs.knownclusters import read_clusters
from szeek.inputs.photons import read_photons
from szeek.measure.counterparts import find_counterparts
from szeek.measure.pairs import direction_table, table_vectors
from szeek.measure.richness import RichnessOptions, contamination, measure_richness, share_above
from szeek.measure.xray import XrayOptions, chance_of_snr, measure_xray
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.stage import Facts, Run, Stage
from szeek.sky.further import open_further
from szeek.sky.healpix import nside_of
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.photons import PhotonMap, join_fields
from szeek.sky.tiles import Tiles

log = logging.getLogger(__name__)

#: Positions, and what they say of their own, that the product repeats from the catalogue.
_KEPT = ("name", "ra_deg", "dec_deg", "lon_deg", "lat_deg", "p", "purity")
#: Columns of the product, ours -> its name, unit, description.
COLUMNS: dict[str, tuple[str, str, str]] = {
    "name": ("NAME", "", "name in candidates.fits"),
    "ra_deg": ("RA", "deg", "right ascension, ICRS"),
    "dec_deg": ("DEC", "deg", "declination, ICRS"),
    "lon_deg": ("GLON", "deg", "Galactic longitude"),
    "lat_deg": ("GLAT", "deg", "Galactic latitude"),
    "p": ("P", "", "score of the network"),
    "purity": ("PURITY", "", "probability of a cluster, by the microwave maps"),
    "xray_radius_arcmin": ("X_RADIUS", "arcmin", "aperture: theta500 and PSF in quadrature"),
    "xray_exposure_s": ("X_EXPOSURE", "s", "mean exposure in the aperture"),
    "xray_counts": ("X_COUNTS", "ct", "photons in the aperture"),
    "xray_background": ("X_BACKGROUND", "ct", "photons expected there, from the ring about it"),
    "xray_rate": ("X_RATE", "ct / s", "count rate over the background"),
    "xray_rate_err": ("X_RATE_ERR", "ct / s", "its error (68 %)"),
    "xray_flux": ("X_FLUX", "erg / (s cm2)", "flux in the aperture"),
    "xray_flux_err": ("X_FLUX_ERR", "erg / (s cm2)", "its error (68 %)"),
    "xray_snr": ("X_SNR", "", "significance over the background, Li & Ma"),
    "xray_fixed_snr": ("X_SNR_FIXED", "", "as X_SNR, in the aperture of a source of unknown size"),
    "purity_xray": ("PURITY_X", "", "probability of a cluster, by microwave maps and X-rays together"),
    "xray_p_chance": ("X_PCHANCE", "", "share of random positions of like exposure that have as much"),
    "galaxy_z": ("G_Z", "", "redshift where galaxies stand out most"),
    "galaxy_z_err": ("G_Z_ERR", "", "its error (68 %)"),
    "galaxy_richness": ("G_RICHNESS", "", "galaxies there over the background"),
    "galaxy_density": ("G_DENSITY", "", "over-density of galaxies there"),
    "galaxy_snr": ("G_SNR", "", "richness over its Poisson error"),
    "galaxy_f_cont": ("F_CONT", "", "share of random positions over share of candidates with such a peak"),
    "counterparts": ("COUNTERPARTS", "", "catalogues with an entry within the position error"),
    "counterpart_p_chance": ("C_PCHANCE", "", "probability of the least likely of them by chance, as is"),
}  # fmt: skip
_COUNTERPART_COLUMNS: dict[str, tuple[str, str, str]] = {
    "candidate": ("CANDIDATE", "", "name in candidates.fits"),
    "catalogue": ("CATALOGUE", "", "catalogue of the entry"),
    "name": ("NAME", "", "its name there"),
    "separation_arcmin": ("SEPARATION", "arcmin", "from the candidate"),
    "p_chance": ("PCHANCE", "", "probability of an entry so near by chance"),
    "z": ("REDSHIFT", "", "its redshift"),
    "richness": ("RICHNESS", "", "its richness"),
    "m500_1e14msun": ("M500", "1e14 Msun", "its mass"),
}


@dataclass(frozen=True)
class EvidenceOptions:
    """What the candidates are held against.

    Parameters
    ----------
    xray : tuple of str
        Map of photons, as :func:`~szeek.inputs.photons.read_photons` reads it, or images of fields.
    exposure : tuple of str or float
        Their exposures in the same order, or one number of seconds.
    galaxies : tuple of str
        Files of galaxies with photometric redshifts.
    catalogues : tuple of str
        Files of clusters, or NAME=FILE.
    columns : dict of str to str
        Columns of these catalogues where their names do not tell.
    galaxy_columns : dict of str to str
        Columns of the galaxies where their names do not tell.
    xray_options, richness_options
    n_null_sets : int
        How many random positions are drawn for each candidate, 1 to 4 deg away.
    seed : int
        Of the random positions.
    """

    xray: tuple[str, ...] = ()
    exposure: tuple[str | float, ...] = ()
    galaxies: tuple[str, ...] = ()
    catalogues: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    galaxy_columns: dict[str, str] = field(default_factory=dict)
    xray_options: XrayOptions = field(default_factory=XrayOptions)
    richness_options: RichnessOptions = field(default_factory=RichnessOptions)
    n_null_sets: int = 10
    seed: int = 0

    def check(self) -> None:
        """Refuse options with which nothing can be done, before anything is read.

        Raises
        ------
        ValueError
        """
        if not (self.xray or self.galaxies or self.catalogues):
            raise ValueError("no evidence is given, expected X-rays, galaxies or catalogues: give --xray, --galaxies "
                             "or --catalogue")  # fmt: skip
        if self.xray and not self.exposure:
            raise ValueError(f"the exposure of '{self.xray[0]}' is not given; give --exposure, a map or seconds")
        if len(self.exposure) not in (1, len(self.xray)) and self.xray:
            raise ValueError(
                f"{len(self.exposure)} exposures are given for {len(self.xray)} maps, expected one for each, in "
                "their order, or one number of seconds"
            )
        if self.n_null_sets < 1:
            raise ValueError(f"n_null_sets is {self.n_null_sets}, expected at least 1")


@dataclass(frozen=True)
class Evidence(Facts):
    """How many candidates have evidence of each kind, and how many random positions, as a share.

    ``xray`` and ``galaxies`` hold the number of candidates that were measured, the number of those with a chance (or
    f_cont) below 0.05, and the share of random positions with the same; ``catalogues`` the number of candidates with
    an entry of each survey, and the share of random positions.
    """

    n_candidates: int = 0
    xray: tuple[int, int, float] | None = None
    galaxies: tuple[int, int, float] | None = None
    catalogues: dict[str, tuple[int, float]] = field(default_factory=dict)


#: Below this chance evidence is counted in the summary.
SMALL_CHANCE = 0.05
_NULL_DEG = (1.0, 4.0)


def evidence_stage(options: EvidenceOptions) -> Stage:
    """Measure X-rays, galaxies and catalogues at a run's candidates and at random positions about them.

    Random positions lie 1 to 4 deg from the candidates, inside the maps: as many near the plane, in long exposures or
    in a survey's corner as candidates are. They may fall on a cluster, as a false candidate may.
    """

    def work(run: Run, progress: Progress | None) -> Evidence:
        return _measure(run, options, progress)

    return Stage(
        "evidence",
        work,
        reads=(products.CANDIDATES,),
        writes=(products.EVIDENCE,),
        may_write=(products.XRAY_PURITY,),
        facts=Evidence,
        options=asdict(options),
    )


def _measure(run: Run, options: EvidenceOptions, progress: Progress | None) -> Evidence:
    options.check()
    candidates = run.products.candidates
    assert candidates is not None
    if not len(candidates):
        raise ValueError(f"'{run.folder}' has no candidate; lower the threshold: szeek detect --p-max")
    # all files are opened before anything is measured
    photons = _read_fields(options) if options.xray else None
    z_range = (0.0, options.richness_options.z_range[1] + 0.3)
    galaxies = (
        read_galaxies(options.galaxies, z_range=z_range, columns=options.galaxy_columns) if options.galaxies else None
    )
    clusters = read_clusters(options.catalogues, options.columns) if options.catalogues else None
    nulls = _random_positions(run, candidates, options)
    table = candidates[[name for name in _KEPT if name in candidates.colnames]]
    xray = counted = None
    if photons is not None:
        _say(progress, "X-rays")
        found, empty = (measure_xray(rows, photons, options.xray_options) for rows in (candidates, nulls))
        of_null = (empty["xray_snr"], empty["xray_exposure_s"])
        found["xray_p_chance"] = chance_of_snr(found["xray_snr"], found["xray_exposure_s"], *of_null)
        unsized = candidates["lon_deg", "lat_deg"]
        found["xray_fixed_snr"] = measure_xray(unsized, photons, options.xray_options)["xray_snr"]
        stage = _fit_stage(run, candidates, found["xray_fixed_snr"]) or run.products.xray_purity
        if stage is not None and "purity" in candidates.colnames:
            found["purity_xray"] = stage.predict(candidates["purity"], found["xray_fixed_snr"])
        xray = _summary(found["xray_p_chance"], chance_of_snr(*of_null, *of_null))
        table = hstack([table, found])
    if galaxies is not None:
        _say(progress, "galaxies")
        found, empty = (measure_richness(rows, galaxies, options.richness_options) for rows in (candidates, nulls))
        peaks = (found["galaxy_snr"], found["galaxy_z"], empty["galaxy_snr"], empty["galaxy_z"])
        found["galaxy_f_cont"] = contamination(*peaks)
        counted = _summary(found["galaxy_f_cont"], _null_contamination(found, empty))
        table = hstack([table, found])
    listed, named = Table(), dict[str, tuple[int, float]]()
    if clusters is not None:
        _say(progress, "catalogues")
        listed = find_counterparts(candidates, clusters, run.radius_arcmin)
        by_chance = find_counterparts(nulls, clusters, run.radius_arcmin)
        for survey in sorted(set(np.asarray(clusters["survey"], str))):
            n, n_null = (int((np.asarray(rows["catalogue"], str) == survey).sum()) for rows in (listed, by_chance))
            named[survey] = n, n_null / len(nulls)
        table["counterparts"], table["counterpart_p_chance"] = _counterparts_of(table["name"], listed)
    write_evidence(table, listed, run.target(products.EVIDENCE))
    return Evidence(len(candidates), xray, counted, named)


def _read_fields(options: EvidenceOptions) -> PhotonMap:
    exposures = options.exposure * len(options.xray) if len(options.exposure) == 1 else options.exposure
    return join_fields([read_photons(*pair) for pair in zip(options.xray, exposures, strict=True)])


def _fit_stage(run: Run, candidates: Table, xray_snr: NDArray[np.float64]) -> XrayPurity | None:
    """The second stage of a simulated run that trained its network, fitted on its held-out tiles and kept with it."""
    home = run.products
    if any(one.kind == "photons" for one in open_further(home.file(products.MAPS))):  # PURITY has them already
        return None
    tiles = tuple(tile for tiles in home.held_out.values() for tile in tiles)
    if not (home.is_simulated and not home.stated.get("model") and home.has(products.TRUTH) and tiles):
        return None
    judged = candidates["lon_deg", "lat_deg", "p", "purity"]
    judged["xray_snr"] = xray_snr
    judged, real = judge_sources(judged, read_catalogue(home.file(products.TRUTH)), Tiles(tiles, home.tile_nside))
    try:
        stage = fit_xray_purity(judged["purity"], judged["xray_snr"], real, f"simulated run, tiles {tiles}")
    except ValueError as error:
        log.warning("no second stage is fitted: %s", error)
        return None
    stage.write(run.target(products.XRAY_PURITY))
    return stage


def _say(progress: Progress | None, what: str) -> None:
    if progress is not None:
        progress("evidence", 0, 0, what)


def _random_positions(run: Run, candidates: Table, options: EvidenceOptions) -> Table:
    """Positions 1 to 4 deg from the candidates, inside the maps where these are there, with all their columns."""
    rng = np.random.default_rng(np.random.SeedSequence([options.seed, zlib.crc32(b"evidence")]))
    footprint = None
    if run.products.has(products.MAPS):
        maps = open_maps(run.file(products.MAPS))
        seen = np.asarray(maps.seen if isinstance(maps, MapSet) else maps.footprint)
        nside = min(nside_of(seen), 512)
        footprint = np.asarray(healpy.ud_grade(seen.astype(np.float32), nside) > 0.5)
    rows = np.tile(np.arange(len(candidates)), options.n_null_sets)
    vectors = shift_directions(table_vectors(candidates)[rows], footprint, rng, *_NULL_DEG)
    nulls = candidates[rows]
    places = direction_table(vectors)
    nulls["lon_deg"], nulls["lat_deg"] = places["lon_deg"], places["lat_deg"]
    nulls["name"] = np.arange(len(nulls)).astype(str)
    return nulls


def _summary(chance: NDArray[np.float64], null_chance: NDArray[np.float64]) -> tuple[int, int, float]:
    chance, null_chance = np.asarray(chance, float), np.asarray(null_chance, float)
    measured = int(np.isfinite(chance).sum())
    share = (
        float(np.mean(null_chance[np.isfinite(null_chance)] < SMALL_CHANCE))
        if np.isfinite(null_chance).any()
        else 0.0
    )
    return measured, int((chance < SMALL_CHANCE).sum()), share


def _null_contamination(found: Table, empty: Table) -> NDArray[np.float64]:
    """f_cont that each random position would have as one more candidate."""
    here = empty["galaxy_snr"], empty["galaxy_z"]
    n = np.isfinite(found["galaxy_snr"]).sum()
    above = (n * share_above(*here, found["galaxy_snr"], found["galaxy_z"]) + 1) / (n + 1)
    return np.asarray(np.minimum(share_above(*here, *here) / above, 1.0))


def _counterparts_of(names: NDArray[np.str_], listed: Table) -> tuple[list[str], NDArray[np.float64]]:
    """Of each candidate the catalogues that list something there, and the least chance of these."""
    texts: dict[str, list[str]] = {}
    least: dict[str, float] = {}
    for row in listed:
        texts.setdefault(str(row["candidate"]), []).append(str(row["catalogue"]))
        least[str(row["candidate"])] = min(float(row["p_chance"]), least.get(str(row["candidate"]), 1.0))
    own = [str(name) for name in names]
    return [", ".join(texts.get(name, [])) for name in own], np.array([least.get(name, np.nan) for name in own])


def write_evidence(table: Table, counterparts: Table, path: Path) -> None:
    """Write the product: extension EVIDENCE, a row for each candidate, and COUNTERPARTS, a row for each entry."""
    hdus = [fits.PrimaryHDU()]
    for name, rows, columns in (("EVIDENCE", table, COLUMNS), ("COUNTERPARTS", counterparts, _COUNTERPART_COLUMNS)):
        out = Table()
        for ours, (title, unit, _) in columns.items():
            if ours in rows.colnames:
                values = np.asarray(rows[ours])
                if values.dtype.kind == "U":
                    values = np.char.encode(values, "ascii", "replace").astype(
                        f"S{max(1, values.dtype.itemsize // 4)}"
                    )
                elif ours not in ("ra_deg", "dec_deg", "lon_deg", "lat_deg"):
                    values = values.astype(np.float32)
                out[title] = values
                if unit:
                    out[title].unit = unit
        hdu = fits.table_to_hdu(out)
        hdu.name = name
        about_of = {title: about for title, _, about in columns.values()}
        for k, title in enumerate(out.colnames, 1):
            hdu.header[f"TCOMM{k}"] = about_of[title]
        hdus.append(hdu)
    with whole_file(path) as staging:
        fits.HDUList(hdus).writeto(staging, overwrite=True)
