"""Published cluster catalogues -> one cluster table; Planck_z, Planck_no-z, MCXCwP, RM50 and RM30 from it."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from astropy.units import Unit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from szeek.arguments import plain_table
from szeek.files import whole_file
from szeek.inputs.columns import ROLES, CatalogueColumns, folded
from szeek.inputs.tablefiles import MISSING, read_tables
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.sky.healpix import unit_vectors

log = logging.getLogger(__name__)

#: Columns of every cluster table: name -> (unit, description). Missing numbers are NaN, missing words ''.
COLUMNS: dict[str, tuple[str | None, str]] = {
    "name": (None, "name in its survey"),
    "lon_deg": ("deg", "Galactic longitude"),
    "lat_deg": ("deg", "Galactic latitude"),
    "ra_deg": ("deg", "right ascension, ICRS"),
    "dec_deg": ("deg", "declination, ICRS"),
    "z": (None, "redshift"),
    "m500_1e14msun": ("1e14 Msun", "mass within R500"),
    "y500_arcmin2": ("arcmin2", "Compton y integrated within the sphere R500"),
    "theta500_arcmin": ("arcmin", "angular R500"),
    "richness": (None, "optical richness lambda"),
    "snr": (None, "signal-to-noise ratio of the SZ detection"),
    "survey": (None, "catalogue that the entry is from"),
    "counterparts": (None, "other names, and the names that the survey itself gives to counterparts"),
}
_WORDS = ("name", "survey", "counterparts")

#: An MCXC cluster is 'in PSZ2' where PSZ2 names it; where no names are given (mocks), within this radius. On the real
#: files names give 1193 MCXCwP as in Bonjean (2020), Table 1; the radius gives 1194 and differs in 13 of 1743.
MCXC_MATCH_ARCMIN = 6.6
#: A redMaPPer cluster is 'in PSZ2 or MCXC' within this radius of either. On redMaPPer v6.3 it gives RM30 = 14,956, as
#: Bonjean (2020), Table 1 has it, and RM50 = 4,643, where Table 1 has 5,067 (on v5.10: 15,458 and 5,089). No radius
#: and no redshift condition gives both: PSZ2 itself names 268 of the 5,087 clusters of v6.3 with richness > 50 as its
#: counterparts, so that at most 4,819 are 'not in PSZ2'; 5,067 is all but 20 of them.
REDMAPPER_MATCH_ARCMIN = 11.35

SELECTIONS = ("planck_z", "planck_no-z", "planck", "mcxcwp", "rm50", "rm30", "all", "truth")
#: Faintest halo of a simulated sky that counts as a cluster: below it S/N in HFI maps falls under 2.
TRUTH_Y500_ARCMIN2 = 3e-4


def read_catalogue(
    path: str | os.PathLike[str], survey: str | None = None, *, columns: Mapping[str, str] | None = None
) -> Table:
    """Read a published cluster catalogue, or one that :func:`write_catalogue` wrote, as a cluster table.

    PSZ2, MCXC, MCXC-II, redMaPPer, SPT, ACT (DR5, DR5-MCMF, DR6) and the SZ meta-catalogue are told by their columns,
    in the layouts of their archives, of VizieR and of HEASARC; any other file with positions is read for name,
    position, redshift, richness and S/N, and for M500 and theta500 where their unit is stated. Positions may be
    numbers in the unit that the column states (degrees where none) or sexagesimal text, right ascension then in
    hours, in the frame that the file states. docs/inputs.md lists every name and keyword that is read.

    Parameters
    ----------
    path : path
        FITS (binary or ASCII table), VOTable, ECSV, IPAC, CDS or delimited text, plain or compressed with gzip,
        bzip2 or xz.
    survey : str, optional
        Name for the `survey` column: 'PSZ2', 'MCXC' or 'REDMAPPER' to let a list stand in for that survey; 'CAMIRA'
        for its file without a header. By default as the file's columns tell, else the file's name.
    columns : mapping of str to str, optional
        Columns to read, where their names do not tell: 'name', 'ra' and 'dec', or 'glon' and 'glat', 'redshift',
        'richness', 'snr', 'm500', 'theta500' -> the file's column, as in ``{"redshift": "z_spec"}``.

    Returns
    -------
    Table
        The columns of :data:`COLUMNS`, one row per entry of the file, positions in degrees.

    Raises
    ------
    FileNotFoundError, OSError
        No such file, or no table in it.
    ValueError
        The table is empty, has no positions, or positions outside the sphere or in no unit of angle; two columns are
        equally good for one quantity; a number cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "mine.csv"
    ...     _ = file.write_text("name,ra,dec,redshift\\nComa,194.95,27.98,0.0231\\n")
    ...     coma = read_catalogue(file)[0]
    >>> str(coma["name"]), round(float(coma["lat_deg"]), 1), float(coma["z"])
    ('Coma', 88.0, 0.0231)
    """
    path = Path(path)
    table = _choose_table(read_tables(path, _HEADERLESS.get((survey or "").upper(), ())), path)
    if not len(table):
        raise ValueError(f"'{path}' has no entries, expected at least one cluster")
    try:
        return _interpret(table, path, survey, columns or {})
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from error


def list_columns(path: str | os.PathLike[str]) -> list[str]:
    """Names of the columns of a catalogue's file, as ``columns`` of :func:`read_catalogue` names them."""
    return list(_choose_table(read_tables(path), Path(path)).colnames)


def write_catalogue(table: Table, path: str | os.PathLike[str]) -> Path:
    """Write a cluster table as FITS, VOTable (.vot, .xml), ECSV or CSV by its ending, whole or not at all.

    Columns of :data:`COLUMNS` that the table lacks are written as missing; others are kept.

    Raises
    ------
    ValueError
        If the ending is none of these, or the table has no positions.

    Examples
    --------
    >>> import tempfile
    >>> table = Table({"name": ["Coma"], "lon_deg": [58.1], "lat_deg": [88.0], "z": [0.0231]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_catalogue(table, Path(folder) / "known.fits").name
    'known.fits'
    """
    path = Path(path)
    formats = {".fits": "fits", ".vot": "votable", ".xml": "votable", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}
    if path.suffix not in formats:
        raise ValueError(f"'{path.name}' has no known ending, expected one of {', '.join(formats)}")
    clusters = _complete(plain_table(table, "table"))
    for name in clusters.colnames:
        if name in COLUMNS:
            clusters[name].unit = _UNITS["m500"] if COLUMNS[name][0] == "1e14 Msun" else COLUMNS[name][0]
            clusters[name].description = COLUMNS[name][1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as staging:
        clusters.write(staging, format=formats[path.suffix], overwrite=True)
    return path


def select_clusters(catalogues: Iterable[Table] | Table, selection: str) -> Table:
    """Pick one of the paper's samples from cluster tables; works alike on real and on mock catalogues.

    ============= =========================================================================================
    planck_z      PSZ2 with a redshift (1094)
    planck_no-z   PSZ2 without (559)
    planck        all of PSZ2 (1653)
    mcxcwp        MCXC not in PSZ2 (1193), see :data:`MCXC_MATCH_ARCMIN`
    rm50, rm30    redMaPPer with richness > 50, > 30, in neither PSZ2 nor MCXC, see :data:`REDMAPPER_MATCH_ARCMIN`
    all           planck, mcxcwp and rm30 together
    truth         haloes of a simulated sky with Y500 > 3e-4 arcmin^2; 'truth>1e-4': above that flux
    ============= =========================================================================================

    Any other name is that of a survey, all of whose entries it picks.

    Source: Bonjean (2020), Table 1.

    Parameters
    ----------
    catalogues : Table or iterable of Table
        Cluster tables (:func:`read_catalogue`), told apart by their `survey` column.
    selection : str
        A name of the table above or of a survey, upper or lower case.

    Raises
    ------
    ValueError
        If the selection is unknown, or a catalogue that it needs is not given.

    Examples
    --------
    >>> from astropy.table import Table
    >>> psz2 = Table({"name": ["A", "B"], "lon_deg": [10.0, 20.0], "lat_deg": [50.0, 60.0], "z": [0.1, float("nan")],
    ...               "survey": ["PSZ2", "PSZ2"]})
    >>> select_clusters(psz2, "planck_no-z")["name"].tolist()
    ['B']
    """
    word = selection.lower()
    one = isinstance(catalogues, Table | Mapping) or hasattr(catalogues, "columns")
    tables = [plain_table(table, "catalogues") for table in ([catalogues] if one else catalogues)]
    pool = vstack([_complete(t) for t in tables], metadata_conflicts="silent") if tables else _empty()
    if word not in SELECTIONS and truth_cut(word) is None:
        own = np.array([str(survey).lower() == word for survey in pool["survey"]], bool)
        if not own.any():
            surveys = "".join(f", {name}" for name in sorted(set(pool["survey"])))
            raise ValueError(f"selection '{selection}' is unknown, expected one of {', '.join(SELECTIONS)}{surveys}")
        return pool[own]
    return _select(pool, word)


def truth_cut(selection: str) -> float | None:
    """Least Y500 in arcmin^2 of a selection of true haloes, 'truth' or 'truth>FLUX'; None of any other.

    Raises
    ------
    ValueError
        If the flux is no positive number.

    Examples
    --------
    >>> truth_cut("truth"), truth_cut("truth>1e-4"), truth_cut("planck_z")
    (0.0003, 0.0001, None)
    """
    name, more, flux = selection.lower().partition(">")
    if name.strip() != "truth":
        return None
    if not more:
        return TRUTH_Y500_ARCMIN2
    try:
        cut = float(flux)
    except ValueError:
        cut = math.nan
    if not 0.0 < cut < math.inf:
        raise ValueError(f"selection '{selection}' has the flux '{flux}', expected arcmin^2 as in 'truth>1e-4'")
    return cut


def find_cluster(table: Table, name: str) -> Table:
    """Rows whose name or counterparts contain `name`, blanks and case ignored.

    Examples
    --------
    >>> from astropy.table import Table
    >>> t = Table({"name": ["MCXC J1259.7+2756"], "counterparts": ["Coma"]})
    >>> len(find_cluster(t, "coma")), len(find_cluster(t, "J1259.7 +2756")), len(find_cluster(t, "Virgo"))
    (1, 1, 0)
    """
    wanted = "".join(name.split()).upper()
    texts = [f"{row['name']};{row['counterparts']}" for row in table]
    return table[np.array([wanted in "".join(text.split()).upper() for text in texts], bool)]


def separation_arcmin(table: Table, others: Table) -> NDArray[np.float64]:
    """Distance of each row of `table` to the nearest of `others`, arcmin, shape (n,); infinite without others."""
    table, others = plain_table(table, "table"), plain_table(others, "others")
    if not len(others) or not len(table):
        return np.full(len(table), np.inf)
    here, there = (
        unit_vectors(np.asarray(rows["lon_deg"], float), np.asarray(rows["lat_deg"], float))
        for rows in (table, others)
    )
    chord = cKDTree(there).query(here)[0]
    return np.asarray(np.degrees(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))) * 60.0)


def _select(pool: Table, word: str) -> Table:
    if (cut := truth_cut(word)) is not None:
        haloes = _of(pool, "TRUTH", word)
        return haloes[np.asarray(haloes["y500_arcmin2"]) > cut]
    psz2 = _of(pool, "PSZ2", word)
    if word.startswith("planck"):
        has_z = np.isfinite(psz2["z"])
        return psz2 if word == "planck" else psz2[has_z if word == "planck_z" else ~has_z]
    mcxc = _of(pool, "MCXC", word)
    if word == "mcxcwp":
        named = {part.strip() for text in psz2["counterparts"] for part in str(text).split(";")}
        if any(part.startswith("MCXC ") for part in named):
            return mcxc[[str(name) not in named for name in mcxc["name"]]]
        return mcxc[separation_arcmin(mcxc, psz2) > MCXC_MATCH_ARCMIN]
    redmapper = _of(pool, "REDMAPPER", word)
    if word in ("rm50", "rm30"):
        rich = redmapper[redmapper["richness"] > float(word[2:])]
        nearest = np.minimum(separation_arcmin(rich, psz2), separation_arcmin(rich, mcxc))
        return rich[nearest > REDMAPPER_MATCH_ARCMIN]
    return vstack([psz2, _select(pool, "mcxcwp"), _select(pool, "rm30")], metadata_conflicts="silent")


def _of(pool: Table, survey: str, selection: str) -> Table:
    rows = pool[np.asarray(pool["survey"] == survey, bool)]
    if not len(rows):
        found = sorted(set(pool["survey"])) if len(pool) else ["none"]
        raise ValueError(
            f"selection '{selection}' needs {survey}, found the surveys {', '.join(found)}; add its file, or let a "
            f"list of your own stand in for it as {survey}=FILE, or select a survey by its name, as in "
            f'[labels] selections = ["{found[0].lower()}"]'
        )
    return rows


# --- columns of a file -> cluster table ------------------------------------------------------------------


def _choose_table(tables: list[Table], path: Path) -> Table:
    """The table of a file that is the catalogue: a known survey's, else the first with positions."""
    if len(tables) == 1:
        return tables[0]
    known = [table for table in tables if any(s.tells(CatalogueColumns(table)) for s in _SURVEYS)]
    placed = known or [table for table in tables if CatalogueColumns(table).has_position()]
    if not placed:
        return tables[0]
    if len(placed) > 1:
        names = ", ".join(f"'{table.meta.get('name', '')}' ({len(table)} rows)" for table in placed)
        log.warning("'%s' holds %d tables with positions, %s; the first is read", path, len(placed), names)
    return placed[0]


def _interpret(table: Table, path: Path, survey: str | None, given: Mapping[str, str]) -> Table:
    found = CatalogueColumns(table, given)
    if found.has(frozenset({"lon_deg", "lat_deg", "survey"})):
        return _from_own(found)
    wanted = None if survey is None else survey.upper()
    known = next((s for s in _SURVEYS if s.tells(found) and wanted in (None, s.name)), None)
    if known is not None:
        return known.read(found)
    return _from_any(found, wanted or path.name.split(".")[0].upper())


def _numbers(table: Table, column: str) -> NDArray[np.float64]:
    """Column of a cluster table as float64, NaN where masked or not finite; all NaN without the column."""
    if column not in table.colnames:
        return np.full(len(table), np.nan)
    values = np.ma.filled(np.ma.asarray(table[column], np.float64), np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _words(table: Table, column: str) -> list[str]:
    """Column of a cluster table as stripped text, '' where missing."""
    texts = np.strings.strip(np.ma.filled(np.ma.asarray(table[column]).astype(str), ""))
    return ["" if text.lower() in MISSING else text for text in texts.tolist()]


def _join(*columns: list[str]) -> list[str]:
    return ["; ".join(dict.fromkeys(part for part in row if part)) for row in zip(*columns, strict=True)]


def _build(survey: str, name: list[str], position: SkyCoord, **columns: object) -> Table:
    """Assemble a cluster table from a position in any frame and whatever columns the survey has."""
    galactic, icrs = position.transform_to("galactic"), position.transform_to("icrs")
    return _complete(
        Table(
            {
                "name": np.array(name, str),
                "lon_deg": galactic.l.deg,
                "lat_deg": galactic.b.deg,
                "ra_deg": icrs.ra.deg,
                "dec_deg": icrs.dec.deg,
                "survey": np.full(len(name), survey),
                **columns,
            }
        )
    )


def _complete(table: Table) -> Table:
    """The columns of COLUMNS in their order, missing ones filled, followed by any others; no masks."""
    n = len(table)
    columns: dict[str, object] = {}
    for name in COLUMNS:
        if name in _WORDS:
            columns[name] = np.array(_words(table, name), str) if name in table.colnames else np.full(n, "")
        else:
            columns[name] = _numbers(table, name)
    columns.update({name: table[name] for name in table.colnames if name not in COLUMNS})
    clusters = Table(columns, meta=dict(table.meta))
    if np.isnan(clusters["ra_deg"]).any() and not np.isnan(clusters["lon_deg"]).any() and n:
        icrs = SkyCoord(clusters["lon_deg"], clusters["lat_deg"], unit="deg", frame="galactic").icrs
        clusters["ra_deg"], clusters["dec_deg"] = icrs.ra.deg, icrs.dec.deg
    return clusters


def _empty() -> Table:
    return _complete(Table({"name": np.zeros(0, str), "lon_deg": np.zeros(0), "lat_deg": np.zeros(0)}))


def _from_own(found: CatalogueColumns) -> Table:
    """What :func:`write_catalogue` wrote, and simulated skies, with whatever columns they have besides."""
    position = found.position_of("lon_deg", "lat_deg")
    table = found.table
    renamed = {name: name.lower() for name in table.colnames if name.lower() in COLUMNS and name != name.lower()}
    if renamed:
        table.rename_columns(list(renamed), list(renamed.values()))
    table.meta.clear()  # FITS and VOTable leave their own comments there
    table["lon_deg"], table["lat_deg"] = position
    for role, name in _OWN_ROLES.items():
        if role in found.given:
            table[name] = found.numbers(role, unit=_UNITS.get(role), assumed=1.0)
    return _complete(table)


#: Surveys whose files are columns of numbers without a header, by the name that the file is given with:
#: Oguri 2014 (MNRAS 444, 147), CAMIRA of SDSS DR8, v2.0, which gives two richnesses.
_HEADERLESS = {"CAMIRA": ("ra", "dec", "redshift", "richness", "second_richness")}

#: Columns of a cluster table by role, and their units.
_OWN_ROLES = {
    "redshift": "z",
    "richness": "richness",
    "snr": "snr",
    "m500": "m500_1e14msun",
    "theta500": "theta500_arcmin",
}
_UNITS = {"m500": Unit(1e14 * Unit("solMass")), "theta500": Unit("arcmin"), "y500": Unit("arcmin2")}


# --- surveys ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Survey:
    """A published catalogue: how its tables are told from others, and what it calls things, in whatever layout.

    A table is the survey's if it has all columns of one of ``needs`` (names folded: 'S/N' is s_n) and none of
    ``lacks``; HEASARC's tables, which are all alike, by the beginning of their names.
    """

    name: str
    needs: tuple[str, ...]  # columns between blanks
    names: tuple[str, ...] = ("NAME",)
    prefix: str = ""  # of its names, which some layouts leave out
    heasarc: str = ""  # how all names of HEASARC's table begin
    lacks: str = ""
    only: bool = False  # no columns but these: names so common that a list of anyone's may have them
    galactic: bool = False  # the survey's own positions are Galactic
    at: tuple[str, ...] = ()  # its positions, where they are called as no other's
    redshift: tuple[str, ...] = ("REDSHIFT", "Z")
    m500: tuple[str, ...] = ()
    m500_1e14msun: float | None = None  # factor where the column states no unit
    snr: tuple[str, ...] = ("SNR", "S/N")
    richness: tuple[str, ...] = ()
    y5r500: tuple[str, ...] = ()
    r500_deg: tuple[str, ...] = ()
    counterparts: tuple[tuple[str, str], ...] = ()  # column, what its names begin with

    def tells(self, found: CatalogueColumns) -> bool:
        """Whether a table is this survey's."""
        columns = {folded(name) for name in found.names}
        if columns & set(self.lacks.split()):
            return False
        if self.heasarc and {"name", "lii", "bii"} <= columns:
            names = found.words("name", "name")
            return bool(names) and all(name.startswith(self.heasarc) for name in names)
        return any(set(needs.split()) <= columns and not (self.only and set(needs.split()) < columns)
                   for needs in self.needs)  # fmt: skip

    def read(self, found: CatalogueColumns) -> Table:
        """The survey's columns as a cluster table."""
        if self.name == "META":
            return _from_meta(found)
        position = found.galactic_position() if self.galactic else found.position(*self.at)
        columns: dict[str, NDArray[np.float64]] = {
            "z": found.numbers("redshift", *self.redshift, above=0.0),
            "snr": found.numbers("snr", *self.snr, above=-90.0),
        }
        if self.richness:
            columns["richness"] = found.numbers("richness", *self.richness, above=0.0)
        if self.m500:
            columns["m500_1e14msun"] = found.numbers(
                "m500", *self.m500, above=0.0, unit=_UNITS["m500"], assumed=self.m500_1e14msun
            )
        if self.y5r500:
            y5r500 = found.numbers("y500", *self.y5r500, above=0.0, unit=_UNITS["y500"], assumed=1e-3)
            columns["y500_arcmin2"] = y5r500 / Y5R500_PER_Y500
        if self.r500_deg:
            columns["theta500_arcmin"] = found.numbers(
                "theta500", *self.r500_deg, above=0.0, unit=_UNITS["theta500"], assumed=60.0
            )
        if self.name.startswith("MCXC"):
            columns["theta500_arcmin"] = _mcxc_theta500(found)
        names = found.words("name", *self.names, prefix=self.prefix)
        others = [found.words("counterparts", column, prefix=start) for column, start in self.counterparts]
        return _build(
            self.name,
            _fill_names(names, self.prefix or f"{self.name} ", position),
            position,
            counterparts=_join(*others) if others else [""] * len(names),
            **columns,
        )


def _mcxc_theta500(found: CatalogueColumns) -> NDArray[np.float64]:
    """R500 in Mpc over the scale in kpc per arcsec."""
    r500_mpc = found.numbers("theta500", "R500", "RADIUS_500", above=0.0, unit=Unit("Mpc"), assumed=1.0)
    scale = found.numbers("theta500", "SCALE", "ANGULAR_SCALE", above=0.0, unit=Unit("kpc / arcsec"), assumed=1.0)
    return r500_mpc * 1e3 / scale / 60.0


def _from_meta(found: CatalogueColumns) -> Table:
    """SZ meta-catalogue: the survey is that of the coordinates; mass, S/N and Y of PSZ2 where it is in it."""
    survey = np.array(found.words("survey", "COORD_SOURCE"), str)
    act = np.array(found.words("survey", "ACT_CATALOG"), str)
    mass = [found.numbers("m500", c, above=0.0, unit=_UNITS["m500"], assumed=1.0)
            for c in ("PSZ2_MSZ", "ACT_M500", "SPT_M500")]  # fmt: skip
    y5r500 = found.numbers("y500", "PSZ2_Y5R500", above=0.0, unit=_UNITS["y500"], assumed=1e-3)
    named = ("PSZ2_NAME", "PSZ1_NAME", "ACT_NAME", "SPT_NAME", "AMI_NAME", "CARMA_NAME")
    clusters = _build(
        "META",
        found.words("name", "NAME"),
        found.galactic_position(),
        z=found.numbers("redshift", "REDSHIFT", above=0.0),
        m500_1e14msun=_first(*mass),
        y500_arcmin2=y5r500 / Y5R500_PER_Y500,
        snr=_first(*(found.numbers("snr", c) for c in ("PSZ2_SNR", "ACT_SNR", "SPT_SNR"))),
        counterparts=_join(
            found.words("counterparts", "ALT_NAME"),
            *(found.words("counterparts", c) for c in named),
            found.words("counterparts", "PSZ2_MCXC", prefix="MCXC "),
        ),
    )
    clusters["survey"] = np.where(act == "ACT2013", "ACT2013", survey)
    return clusters


def _first(*columns: NDArray[np.float64]) -> NDArray[np.float64]:
    found = columns[0].copy()
    for column in columns[1:]:
        found = np.where(np.isfinite(found), found, column)
    return found


_SURVEYS = (
    _Survey("META", ("coord_source psz2_name act_catalog",)),
    # Planck 2015 results XXVII (A&A 594, A27): REDSHIFT -1 and MSZ 0 are missing, Y5R500 in 1e-3 arcmin^2
    _Survey(
        "PSZ2", ("glon glat q_neural y5r500 msz", "psz2 glon glat y5r500", "psz2 glon glat msz"),
        names=("NAME", "PSZ2"), prefix="PSZ2 ", heasarc="PSZ2 G", galactic=True,
        m500=("MSZ", "MASS_SZ"), m500_1e14msun=1.0, y5r500=("Y5R500",),
        counterparts=(("REDSHIFT_ID", ""), ("REDSHIFT_SOURCE_NAME", ""), ("IDExt", ""), ("MCXC", "MCXC "),
                      ("MCXC_ID", "MCXC "), ("REDMAPPER", ""), ("REDMAPPER_ID", ""), ("RM", ""), ("ACT", ""),
                      ("ACT_ID", ""), ("SPT", ""), ("SPT_ID", "")),
    ),
    # Sadibekova et al. 2024 (A&A 688, A187): MCXC with errors of L500 and the redshift's type
    _Survey(
        "MCXC-II", ("mcxc l500 m500 e_l500", "mcxc m500 z_type", "mcxc m500 ztype", "name_mcxc m500"),
        names=("MCXC", "NAME_MCXC"), prefix="MCXC ", lacks="psz2", m500=("M500",), m500_1e14msun=1.0,
        counterparts=(("OName", ""), ("OLDNAME", ""), ("AName", "")),
    ),
    # Piffaretti et al. 2011 (A&A 534, A109): M500 in 1e14 Msun, R500 in Mpc, Scale in kpc per arcsec
    _Survey(
        "MCXC", ("mcxc m500 scale", "mcxc m500 l500", "mcxc m500 r500"),
        names=("MCXC", "NAME"), prefix="MCXC ", heasarc="MCXC J", lacks="psz2",
        m500=("M500", "MASS_500"), m500_1e14msun=1.0,
        counterparts=(("OName", ""), ("X_RAY_NAME", ""), ("AName", ""), ("ALT_NAME", ""), ("ALT_NAMES", "")),
    ),
    # Rykoff et al. 2016 (ApJS 224, 1), SDSS DR8 v6.3: Z_SPEC -1 is missing; Rykoff et al. 2014 (ApJ 785, 104), v5.10:
    # photometric redshift; r500, which a re-published list has, in degrees
    _Survey(
        "REDMAPPER", ("name ra dec lambda z_spec", "name ra dec lambda redshift", "raj2000 dej2000 lambda"),
        names=("NAME", "RMJ", "redMaPPer", "ID"), heasarc="RMJ",
        redshift=("Z_SPEC", "zspec", "redshift", "Z_LAMBDA", "zlambda", "zph", "z"),
        richness=("LAMBDA",), r500_deg=("r500",),
    ),
    # Bleem et al. 2015 (ApJS 216, 27), 2020 (ApJS 247, 25): M500 in 1e14 Msun; redshift missing or 0 if unconfirmed
    _Survey(
        "SPT", ("spt_cl raj2000 dej2000", "spt_id xi redshift", "spt_cl radeg dedeg"), names=("SPT_ID", "SPT-CL"),
        prefix="SPT-CL", at=("SPT_RA", "SPT_DEC"), snr=("XI", "S/N"),
        m500=("M500", "M500c"), m500_1e14msun=1.0,
    ),
    _Survey("SPT", ("name ra dec redshift r500",), only=True, r500_deg=("r500",)),
    # Hilton et al. 2021 (ApJS 253, 3): a re-published list has no names, so they are made as ACT does
    _Survey("ACT", ("ra dec z m500",), only=True, prefix="ACT-CL ", m500=("M500",), m500_1e14msun=1.0),
    # Klein et al. 2024 (A&A 690, A322), ACT DR5 MCMF: best of two optical counterparts, M500 in Msun
    _Survey(
        "ACT_DR5_MCMF", ("name raj2000 dej2000 z1c m500_1c", "name z1c l1c"), redshift=("z1C",), m500=("M500-1C",),
        m500_1e14msun=1e-14, richness=("L1C",),
    ),
    # Bulbul et al. 2024 (A&A 685, A106), eRASS1: a redshift for every entry; masses in a unit that the file states
    _Survey("ERASS1", ("name ra dec best_z ext_like",), redshift=("BEST_Z",), richness=("LAMBDA_NORM",)),
    # Wen, Han & Liu 2012 (ApJS 199, 34) as VizieR serves it: RL* is the richness, and not all have a spectrum
    _Survey(
        "WHL", ("whl raj2000 dej2000", "whl ra_icrs de_icrs"), names=("WHL",), prefix="WHL ",
        redshift=("zph", "zphot", "zsp"), richness=("RL*", "RL*500"),
    ),
    # Hilton et al. 2021 and the DR6 catalogue, as LAMBDA and VizieR serve them
    _Survey(
        "ACT", ("name redshift snr fixed_y_c", "act_cl raj2000 dej2000"), names=("name", "ACT-CL"), prefix="ACT-CL ",
        m500=("M500cCal", "M500c"), m500_1e14msun=1.0,
    ),
)  # fmt: skip


def _from_any(found: CatalogueColumns, survey: str) -> Table:
    """What a list has where there is no survey of that layout: PGCC, PCCS2, VizieR's others, your own."""
    position = found.position()
    redshift = found.numbers("redshift", above=0.0)
    like = [name for name in found.names if re.search(_LIKE_REDSHIFT, folded(name))]
    if found.find("redshift") is None and like:
        magnitude = " (z beside other bands is a magnitude)" if found.is_magnitude(like[0]) else ""
        log.warning(
            "%s: no redshifts are read, though there are the columns %s%s; choose one: --column redshift=%s, columns "
            "in Python and under [sky]", survey, ", ".join(like[:8]), magnitude, like[0],
        )  # fmt: skip
    return _build(
        survey,
        _fill_names(found.words("name"), f"{survey} ", position),
        position,
        z=redshift,
        richness=found.numbers("richness", above=0.0),
        snr=found.numbers("snr", above=-90.0),
        m500_1e14msun=_stated(found, "m500"),
        theta500_arcmin=_stated(found, "theta500"),
        y500_arcmin2=_stated(found, "y500"),
    )


#: Names that look like redshifts, folded.
_LIKE_REDSHIFT = r"^z.{0,2}$|^z_|_z$|redshift|^zsp|^zph|^cz$"


def _stated(found: CatalogueColumns, role: str) -> NDArray[np.float64]:
    """Mass, size or flux in the unit of :data:`COLUMNS`, where the column's name or metadata state its own."""
    column = found.find(role)
    own = column is not None and folded(column) == ROLES[role][0][0]
    return found.numbers(role, above=0.0, unit=_UNITS[role], assumed=1.0 if own else None)


def _fill_names(names: list[str], prefix: str, position: SkyCoord) -> list[str]:
    """Names, made from the position where there are none, which is said."""
    missing = [not name for name in names]
    if not any(missing):
        return names
    made = _names_from_positions(f"{prefix}J", position)
    log.warning(
        "%d of %d entries have no name and are named by their positions, as '%s'; call a column name, or choose "
        "one: --column name=NAME, columns in Python and under [sky]",
        sum(missing), len(names), made[missing.index(True)],
    )  # fmt: skip
    return [there or own for there, own in zip(names, made, strict=True)]


def _names_from_positions(prefix: str, position: SkyCoord) -> list[str]:
    """IAU style, truncated: PREFIXhhmm.m+ddmm."""
    icrs = position.transform_to("icrs")
    minutes = np.floor(icrs.ra.deg * 4.0 * 10.0 + 1e-6) / 10.0
    dec = icrs.dec.deg
    size = np.floor(np.abs(dec) * 60.0 + 1e-6).astype(int)
    return [
        f"{prefix}{int(m // 60):02d}{m % 60:04.1f}{'-' if d < 0 else '+'}{s // 60:02d}{s % 60:02d}"
        for m, d, s in zip(minutes, dec, size, strict=True)
    ]
