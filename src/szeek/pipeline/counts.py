"""From a run to cluster counts: masses of its candidates, its survey for likelihoods, and mock catalogues of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import astropy.cosmology
import healpy
import numpy as np
from astropy.table import Table, hstack
from numpy.typing import NDArray

from szeek.assess.selection import Selection
from szeek.counts.exports import export_survey
from szeek.counts.masses import MassRelation, list_mass_curves, list_masses
from szeek.counts.massfunction import CosmologyParameters
from szeek.counts.mocks import MockSurvey
from szeek.counts.survey import Survey, fixed_snr, make_survey
from szeek.files import whole_folder, write_table
from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2
from szeek.inputs.masks import read_mask
from szeek.measure.candidates import read_candidates
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.sky.healpix import nside_of
from szeek.sky.mapset import MapSet
from szeek.sky.tiles import pixels_in_tiles

#: Share of a footprint that may lie outside the maps, for its border.
_OUTSIDE = 0.01


@dataclass(frozen=True)
class CountOptions:
    """What is counted, and where.

    Parameters
    ----------
    snr_min : float
        S/N from which clusters are counted, at their own place and size (:func:`szeek.counts.survey.fixed_snr`).
    n_patches : int
        Patches of like noise.
    footprint : Path, optional
        HEALPix mask, 1 inside; all of the run's sky by default.
    tiles : tuple of int, optional
        Only there: where a network was trained on these maps its held-out tiles are the honest choice.
    catalogue : Path, optional
        Another catalogue of the same run, or a mock one; candidates.fits by default.
    cosmology : str
        Name in astropy.cosmology of the one that is expected; refused where the run has another.
    relation : MassRelation
    """

    snr_min: float = 4.5
    n_patches: int = 20
    footprint: Path | None = None
    tiles: tuple[int, ...] | None = None
    catalogue: Path | None = None
    cosmology: str = ""
    relation: MassRelation = field(default_factory=MassRelation)


@dataclass(frozen=True)
class Exported:
    """What was exported: the folder, the survey, and how many clusters, of which with a redshift."""

    folder: Path
    survey: Survey
    n_clusters: int
    n_with_z: int
    has_purity: bool


def measure_masses(
    folder: RunFolder,
    relation: MassRelation = MassRelation(),  # noqa: B008 - frozen
    *,
    cosmology: str = "",
    progress: Progress | None = None,
) -> Table:
    """Masses of a run's candidates, and M(z) of each; see :mod:`szeek.counts.masses`.

    Parameters
    ----------
    folder : RunFolder
        With candidates and photometry.
    relation : MassRelation
    cosmology : str
        As of :class:`CountOptions`.
    progress : Progress, optional

    Raises
    ------
    FileNotFoundError
        If candidates or photometry are missing.
    ValueError
        If photometry is that of other candidates, or the run has another cosmology.
    """
    _check_cosmology(cosmology)
    folder.need(products.CANDIDATES, products.PHOTOMETRY)
    candidates = read_candidates(folder.file(products.CANDIDATES))
    photometry = Table.read(folder.file(products.PHOTOMETRY))
    names, measured = (np.char.strip(np.asarray(column, str)) for column in (candidates["NAME"], photometry["name"]))
    if not np.array_equal(names, measured):
        raise ValueError(
            f"'{folder.file(products.PHOTOMETRY)}' lists {len(measured)} positions that are not the {len(names)} of "
            f"{products.CANDIDATES}; run `szeek photometry {folder.path}`"
        )
    if progress is not None:
        progress("masses", 0, len(names), "candidates")
    calibration = folder.calibration
    least = TRUTH_Y500_ARCMIN2 if calibration is None else calibration.y500_min_arcmin2
    masses = list_masses(photometry, candidates["MATCH_Z"], relation, y500_min_arcmin2=least)
    curves = list_mass_curves(photometry)
    table = hstack([Table({"NAME": names}), masses, curves], metadata_conflicts="silent")
    table.meta = {**masses.meta, **_cosmology_cards(CosmologyParameters())}
    table.meta |= {f"Z{k}": z for k, z in enumerate(curves.meta["REDSHIFTS"], 1)}
    return table


def write_masses(table: Table, folder: RunFolder) -> Path:
    """Write masses.fits into the run's folder."""
    write_table(table, folder.path / products.MASSES)
    return folder.path / products.MASSES


def export_run(
    folder: RunFolder, kind: str, out: Path | None = None, options: CountOptions = CountOptions()
) -> Exported:
    """Write a run's survey and catalogue for a likelihood code.

    Parameters
    ----------
    folder : RunFolder
        With candidates and a selection.
    kind : str
        One of :data:`szeek.counts.exports.FORMATS`.
    out : Path, optional
        exports/KIND in the run's folder by default; what was there goes.
    options : CountOptions

    Raises
    ------
    FileNotFoundError
        If a product is missing.
    ValueError
        If catalogue and selection are of different runs or thresholds, the footprint lies outside the maps, the
        run has another cosmology, or nothing is left.
    """
    survey, catalogue, has_purity = open_survey(folder, options)
    target = out or folder.path / products.EXPORTS / kind
    if target.exists() and not _is_export(target):
        raise ValueError(f"'{target}' holds other files, which an export would replace; give another --out")
    export_survey(kind, survey, catalogue, options.relation, target)
    (target / "SZEEK.txt").write_text(f"{kind} export of {survey.origin}, by SZeek\n")
    n_with_z = int(np.isfinite(np.asarray(catalogue["Z"], float)).sum())
    return Exported(target, survey, len(catalogue), n_with_z, has_purity)


def _is_export(target: Path) -> bool:
    return target.is_dir() and ((target / "SZEEK.txt").is_file() or not any(target.iterdir()))


def open_survey(folder: RunFolder, options: CountOptions = CountOptions()) -> tuple[Survey, Table, bool]:
    """The survey of a run, its clusters inside, and whether the candidates have a PURITY; as :func:`export_run`."""
    _check_cosmology(options.cosmology)
    folder.need(products.SELECTION)
    selection = Selection.read(folder.file(products.SELECTION))
    candidates = _read_own_candidates(folder, selection)
    if not np.isfinite(np.asarray(candidates["SNR"], float)).any():
        raise ValueError(
            f"no candidate of '{folder.path}' has an SNR, which counts need; run `szeek photometry {folder.path}`"
        )
    footprint = _footprint(folder, options)
    inside = footprint[healpy.ang2pix(nside_of(footprint), candidates["GLON"], candidates["GLAT"], lonlat=True)]
    survey = make_survey(
        selection,
        footprint,
        candidates[inside],
        snr_min=options.snr_min,
        n_patches=options.n_patches,
        origin=str(folder.title),
    )
    if (calibration := folder.calibration) is not None:  # its false ones hold haloes too, fainter than its cut
        faint = MockSurvey(survey, options.relation).count_faint(calibration.y500_min_arcmin2)
        survey = replace(survey, false_counts=np.maximum(survey.false_counts - faint, 0.0))
    listed = candidates[inside]
    if options.catalogue is None:
        listed["Z"] = listed["MATCH_Z"]
        listed["VALIDATED"] = np.asarray(listed["MATCH_NAME"], str) != ""
        if folder.has(products.MASSES):
            listed = _with_masses(listed, folder)
    else:
        listed = _read_other(options.catalogue, folder, survey)
    listed["PATCH"] = survey.locate(np.asarray(listed["GLON"], float), np.asarray(listed["GLAT"], float))
    listed["FIXED_SNR"] = fixed_snr(np.ma.filled(np.ma.asarray(listed["SNR"], float), np.nan))
    kept = (np.asarray(listed["FIXED_SNR"]) >= survey.snr_min) & (np.asarray(listed["PATCH"]) >= 0)
    if not kept.any():
        raise ValueError(f"no candidate of '{folder.path}' lies inside the survey with an S/N of {survey.snr_min:g}")
    return survey, listed[kept], bool(np.isfinite(np.asarray(candidates["PURITY"], float)).any())


def draw_mocks(
    folder: RunFolder,
    n: int,
    out: Path | None = None,
    options: CountOptions = CountOptions(),
    *,
    parameters: CosmologyParameters = CosmologyParameters(),  # noqa: B008 - frozen
    seed: int = 0,
    false: bool = True,
    progress: Progress | None = None,
) -> tuple[Path, list[int]]:
    """Write mock catalogues of a run's survey, without maps.

    Parameters
    ----------
    folder : RunFolder
        With candidates and a selection.
    n : int
        How many.
    out : Path, optional
        mocks/ in the run's folder by default; what was there goes.
    options : CountOptions
    parameters : CosmologyParameters
        In which haloes are drawn.
    seed : int
        Of the first; the others follow.
    false : bool
        With false candidates.
    progress : Progress, optional

    Returns
    -------
    Path, list of int
        The folder with mock-0000.fits, ..., and survey.fits; how many entries each has.
    """
    survey, _, _ = open_survey(folder, options)
    mock = MockSurvey(survey, options.relation, parameters)
    target = out or folder.path / products.MOCKS
    if target.exists() and not (target / "survey.fits").is_file() and any(target.iterdir()):
        raise ValueError(f"'{target}' holds other files, which mock catalogues would replace; give another --out")
    sizes = []
    with whole_folder(target) as staging:
        survey.write(staging / "survey.fits")
        for number in range(n):
            table = mock.draw(seed + number, false=false)
            table.write(staging / f"mock-{number:04d}.fits")
            sizes.append(len(table))
            if progress is not None:
                progress("mocks", number + 1, n, "catalogues")
    return target, sizes


# --- what is refused ---------------------------------------------------------------------------------------------


def _check_cosmology(name: str) -> None:
    """Refuse a cosmology that is not the run's: every run has that of :mod:`szeek.physics.cosmology`."""
    if not name:
        return
    known = list(astropy.cosmology.realizations.available)
    if name not in known:
        raise ValueError(f"cosmology '{name}' is unknown, expected one of {', '.join(known)}")
    stated, own = getattr(astropy.cosmology, name), CosmologyParameters()
    if not (np.isclose(stated.h, own.h, atol=5e-4) and np.isclose(stated.Om0, own.omega_m, atol=2e-3)):
        raise ValueError(
            f"cosmology '{name}' has h {stated.h:.4f} and Omega_m {stated.Om0:.4f}, expected the run's, "
            f"h {own.h:.4f} and Omega_m {own.omega_m:.4f}: sizes, masses and mocks are made with it. "
            "Noise and completeness depend on no cosmology; change it in the likelihood"
        )


def _cosmology_cards(parameters: CosmologyParameters) -> dict[str, float]:
    return {"HUBBLE": parameters.h, "OMEGA_M": parameters.omega_m, "SIGMA8": parameters.sigma8}


def _read_own_candidates(folder: RunFolder, selection: Selection) -> Table:
    folder.need(products.CANDIDATES)
    if not np.isclose(selection.p_max, folder.p_max, rtol=1e-6):
        raise ValueError(
            f"'{folder.file(products.SELECTION)}' counts sources of p > {selection.p_max:g}, but the catalogue of "
            f"'{folder.path}' has p > {folder.p_max:g}; run `szeek selection {folder.path}` again"
        )
    return read_candidates(folder.file(products.CANDIDATES))


def _read_other(path: Path, folder: RunFolder, survey: Survey) -> Table:
    """A catalogue that is given: of the same run, or a mock of it."""
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist, expected a catalogue of candidates or a mock one")
    table = Table.read(path)
    if "TRUE_M500" not in table.colnames:
        theirs = RunFolder(path.parent).file(products.PREDICTION).resolve()
        own = folder.file(products.PREDICTION).resolve()
        if theirs != own:
            raise ValueError(
                f"'{path}' comes of '{theirs}', but the selection of '{folder.path}' belongs to '{own}': two runs; "
                "give the catalogue of that run, or make a selection of this one"
            )
        table = read_candidates(path)
        table["VALIDATED"] = np.asarray(table["MATCH_NAME"], str) != ""
    else:
        if str(table.meta.get("ORIGIN", "")) != survey.origin:
            raise ValueError(
                f"'{path}' is a mock of '{table.meta.get('ORIGIN', '')}', expected one of '{survey.origin}'"
            )
        made = CosmologyParameters(h=table.meta["HUBBLE"], omega_m=table.meta["OMEGA_M"], sigma8=table.meta["SIGMA8"])
        if unlike := survey.cosmology.differences(made):
            raise ValueError(f"'{path}' was drawn with {unlike}: another cosmology than the run's")
    table["Z"] = np.ma.filled(np.ma.asarray(table["MATCH_Z"]), np.nan)
    return table


def _with_masses(listed: Table, folder: RunFolder) -> Table:
    masses = Table.read(folder.file(products.MASSES))
    row = {str(name).strip(): number for number, name in enumerate(masses["NAME"])}
    names = [str(name).strip() for name in listed["NAME"]]
    if missing := [name for name in names if name not in row]:
        raise ValueError(
            f"'{folder.file(products.MASSES)}' lacks {missing[0]} and {len(missing) - 1} more candidates; run "
            f"`szeek masses {folder.path}` again"
        )
    chosen = masses[[row[name] for name in names]]
    chosen.remove_columns(["NAME", "Z"])
    return hstack([listed, chosen], metadata_conflicts="silent")


def _footprint(folder: RunFolder, options: CountOptions) -> NDArray[np.bool_]:
    """Sky that is counted in: (12 nside^2,) bool, RING, Galactic."""
    folder.need(products.MAPS)
    maps = folder.maps
    assert maps is not None
    seen = np.asarray(maps.seen if isinstance(maps, MapSet) else maps.footprint)
    if options.footprint is not None:
        wanted = read_mask(options.footprint, nside=nside_of(seen))
        if not wanted.any():
            raise ValueError(f"'{options.footprint}' is 0 everywhere, expected 1 inside the footprint")
        outside = float((wanted & ~seen).sum() / wanted.sum())
        if outside > _OUTSIDE:
            raise ValueError(
                f"{outside:.0%} of the footprint '{options.footprint}' lie outside the maps of '{folder.path}', "
                f"expected at most {_OUTSIDE:.0%}; cut it to the maps"
            )
        seen = seen & wanted
    if options.tiles is not None:
        seen = seen & pixels_in_tiles(nside_of(seen), options.tiles)
    if not seen.any():
        raise ValueError(f"nothing of the maps of '{folder.path}' lies in the footprint and tiles that are given")
    return seen
