"""Published cluster catalogues -> one cluster table; Planck_z, Planck_no-z, MCXCwP, RM50 and RM30 from it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.parsers.expat import ExpatError

import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table, vstack
from astropy.units import Unit, UnitsWarning
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from szeek.physics.gas import Y5R500_PER_Y500

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

# Units written in ways that FITS does not know; astropy warns of each, and they are read by name here.
_FOREIGN_UNITS = r"'(degrees|None|Msol|10\^14 Msol|10\+14Msun|10\^-3 arcmin\^2)'"


@dataclass(frozen=True)
class _Survey:
    """How one published file is recognised and read."""

    name: str
    needs: frozenset[str]  # columns, upper case, that tell it from the others
    read: Callable[[Table], Table]
    only: bool = False  # no columns but these: names so common that a list of anyone's may have them


def read_catalogue(path: str | os.PathLike[str], survey: str | None = None) -> Table:
    """Read a published cluster catalogue, or one that :func:`write_catalogue` wrote, as a cluster table.

    PSZ2, MCXC, redMaPPer (SDSS DR8 v6.3 and v5.10), SPT-SZ, ACT DR5 and the SZ meta-catalogue are told by their
    columns; any other file with RA/Dec or GLON/GLAT columns is read for name, position, redshift, richness and S/N.
    Positions may be numbers in the unit that the column states (degrees where none) or sexagesimal text, right
    ascension then in hours.

    Parameters
    ----------
    path : path
        FITS (binary or ASCII table), VOTable, ECSV, CSV or other text with delimiters, plain or gzipped.
    survey : str, optional
        Name for the `survey` column: 'PSZ2', 'MCXC' or 'REDMAPPER' to let a list stand in for that survey. By default
        as the file's columns tell, else the file's name.

    Returns
    -------
    Table
        The columns of :data:`COLUMNS`, one row per entry of the file, positions in degrees.

    Raises
    ------
    FileNotFoundError, OSError
        No such file, or no table in it.
    ValueError
        The table is empty, has no positions, or positions outside the sphere or in no unit of angle.
    """
    path = Path(path)
    table = _read_table(path)
    if not len(table):
        raise ValueError(f"'{path}' has no entries, expected at least one cluster")
    names = {name.upper() for name in table.colnames}
    known = [
        s
        for s in _SURVEYS
        if s.needs <= names and not (s.only and names > s.needs) and (survey is None or survey.upper() == s.name)
    ]
    try:
        if {"LON_DEG", "LAT_DEG", "SURVEY"} <= names:
            return _from_own(table)
        if known:
            return known[0].read(table)
        return _from_any(table, (survey or path.name.split(".")[0]).upper())
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from error


def write_catalogue(table: Table, path: str | os.PathLike[str]) -> Path:
    """Write a cluster table as FITS, VOTable (.vot, .xml), ECSV or CSV by its ending, whole or not at all.

    Columns of :data:`COLUMNS` that the table lacks are written as missing; others are kept.

    Raises
    ------
    ValueError
        If the ending is none of these, or the table has no positions.
    """
    path = Path(path)
    formats = {".fits": "fits", ".vot": "votable", ".xml": "votable", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}
    if path.suffix not in formats:
        raise ValueError(f"'{path.name}' has no known ending, expected one of {', '.join(formats)}")
    clusters = _complete(table)
    for name in clusters.colnames:
        if name in COLUMNS:
            clusters[name].unit = None if COLUMNS[name][0] == "1e14 Msun" else COLUMNS[name][0]
            clusters[name].description = COLUMNS[name][1]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, staging = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        clusters.write(staging, format=formats[path.suffix], overwrite=True)
        Path(staging).replace(path)
    except BaseException:
        Path(staging).unlink(missing_ok=True)
        raise
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
    truth         haloes of a simulated sky with Y500 > 3e-4 arcmin^2
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
    tables = [catalogues] if isinstance(catalogues, Table) else list(catalogues)
    pool = vstack([_complete(t) for t in tables], metadata_conflicts="silent") if tables else _empty()
    if word not in SELECTIONS:
        own = np.array([str(survey).lower() == word for survey in pool["survey"]], bool)
        if not own.any():
            surveys = "".join(f", {name}" for name in sorted(set(pool["survey"])))
            raise ValueError(f"selection '{selection}' is unknown, expected one of {', '.join(SELECTIONS)}{surveys}")
        return pool[own]
    return _select(pool, word)


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
    if not len(others) or not len(table):
        return np.full(len(table), np.inf)
    chord = cKDTree(_vectors(others)).query(_vectors(table))[0]
    return np.asarray(np.degrees(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))) * 60.0)


def _select(pool: Table, word: str) -> Table:
    if word == "truth":
        haloes = _of(pool, "TRUTH", word)
        return haloes[np.asarray(haloes["y500_arcmin2"]) > TRUTH_Y500_ARCMIN2]
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


# --- files -> columns ------------------------------------------------------------------------------------


def _read_table(path: Path) -> Table:
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' is no file")
    name = path.name.removesuffix(".gz").lower()
    kind = {".fits": "fits", ".fit": "fits", ".vot": "votable", ".xml": "votable", ".ecsv": "ascii.ecsv"}.get(
        Path(name).suffix, "ascii.csv"
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f".*{_FOREIGN_UNITS}.*", category=UnitsWarning)
            warnings.filterwarnings("ignore", message=".*may have been truncated")
            warnings.filterwarnings("ignore", message=".*hdu= was not specified")
            table = Table.read(path, format=kind)
            if kind == "ascii.csv" and len(table.colnames) == 1:
                other = next((mark for mark in (";", "|", "\t") if mark in table.colnames[0]), None)
                options = {"format": "ascii.csv", "delimiter": other} if other else {"format": "ascii"}
                table = Table.read(path, **options)
            return table
    except (OSError, ValueError, TypeError, IndexError, KeyError, EOFError, ExpatError) as error:
        raise OSError(f"'{path}' holds no readable {kind} table ({error})") from error


def _numbers(table: Table, column: str | None, missing_below: float = -np.inf) -> NDArray[np.float64]:
    """Column as float64, NaN where masked, not finite or not above `missing_below`; all NaN without the column."""
    if column is None or column not in table.colnames:
        return np.full(len(table), np.nan)
    values = np.ma.filled(np.ma.asarray(table[column], np.float64), np.nan)
    return np.where(np.isfinite(values) & (values > missing_below), values, np.nan)


def _words(table: Table, column: str, prefix: str = "") -> list[str]:
    """Column as stripped text, '' where missing, with `prefix` where not."""
    texts = np.strings.strip(np.ma.filled(np.ma.asarray(table[column]).astype(str), ""))
    missing = np.isin(texts, ("", "null", "NULL", "--", "N/A"))
    return list(np.where(missing, "", np.strings.add(prefix, texts)).tolist())


def _join(*columns: list[str]) -> list[str]:
    return ["; ".join(dict.fromkeys(part for part in row if part)) for row in zip(*columns, strict=True)]


def _build(survey: str, name: list[str], position: SkyCoord, **columns: object) -> Table:
    """Assemble a cluster table from a position in any frame and whatever columns the survey has."""
    galactic, icrs = position.galactic, position.icrs
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


def _from_own(table: Table) -> Table:
    renamed = {name: name.lower() for name in table.colnames if name.lower() in COLUMNS and name != name.lower()}
    if renamed:
        table.rename_columns(list(renamed), list(renamed.values()))
    table.meta.clear()  # FITS and VOTable leave their own comments there
    _directions(table, "lon_deg", "lat_deg")
    return _complete(table)


def _equatorial(table: Table, ra: str, dec: str) -> SkyCoord:
    return SkyCoord(*_directions(table, ra, dec), unit="deg", frame="icrs")


def _galactic(table: Table, lon: str, lat: str) -> SkyCoord:
    return SkyCoord(*_directions(table, lon, lat), unit="deg", frame="galactic")


def _directions(table: Table, lon: str, lat: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lon_deg, lat_deg = _degrees(table, lon), _degrees(table, lat)
    bad = ~((np.abs(lon_deg) <= 360.0) & (np.abs(lat_deg) <= 90.0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{int(bad.sum())} entries have no position on the sphere, the first in row {row} "
            f"({lon} = {lon_deg[row]}, {lat} = {lat_deg[row]}); expected degrees: remove or mend them"
        )
    return lon_deg, lat_deg


def _degrees(table: Table, column: str) -> NDArray[np.float64]:
    """An angle in degrees: of numbers by the column's unit, degrees where it has none; of sexagesimal text."""
    values = table[column]
    unit = str(values.unit or "").strip().lower()
    if values.dtype.kind in "USO":
        texts = _words(table, column)
        is_number = all(_is_number(text) for text in texts)
        hours = column.upper().startswith(("RA", "_RA")) and not is_number
        try:
            return np.array([Angle(text, "hourangle" if hours else "deg").deg if text else np.nan for text in texts])
        except ValueError as error:
            raise ValueError(f"column {column} holds no angles ({error}); expected degrees or hh:mm:ss") from None
    numbers = _numbers(table, column)
    if unit in ("", "deg", "degree", "degrees"):
        return numbers
    try:
        return np.asarray(
            (numbers * Unit("hourangle" if unit in ("h", "hr", "hour", "hours") else unit)).to_value("deg")
        )
    except (ValueError, TypeError):
        raise ValueError(f"column {column} is in '{unit}', expected an angle; state deg, hourangle or rad") from None


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _from_psz2(table: Table) -> Table:
    """Planck 2015 results XXVII (A&A 594, A27): REDSHIFT -1 and MSZ 0 are missing, Y5R500 in 1e-3 arcmin^2."""
    return _build(
        "PSZ2",
        _words(table, "NAME"),
        _galactic(table, "GLON", "GLAT"),
        z=_numbers(table, "REDSHIFT", 0.0),
        m500_1e14msun=_numbers(table, "MSZ", 0.0),
        y500_arcmin2=_numbers(table, "Y5R500", 0.0) * 1e-3 / Y5R500_PER_Y500,
        snr=_numbers(table, "SNR"),
        counterparts=_join(
            _words(table, "REDSHIFT_ID"),
            _words(table, "MCXC", "MCXC "),
            _words(table, "REDMAPPER"),
            _words(table, "ACT"),
            _words(table, "SPT"),
        ),
    )


def _from_mcxc(table: Table) -> Table:
    """Piffaretti et al. 2011 (A&A 534, A109): M500 in 1e14 Msun, R500 in Mpc, Scale in kpc per arcsec."""
    theta = _numbers(table, "R500", 0.0) * 1e3 / _numbers(table, "Scale", 0.0) / 60.0
    return _build(
        "MCXC",
        _words(table, "MCXC", "MCXC "),
        _equatorial(table, "RAdeg", "DEdeg"),
        z=_numbers(table, "z"),
        m500_1e14msun=_numbers(table, "M500", 0.0),
        theta500_arcmin=theta,
        counterparts=_join(_words(table, "OName"), _words(table, "AName")),
    )


def _from_redmapper_v63(table: Table) -> Table:
    """Rykoff et al. 2016 (ApJS 224, 1), SDSS DR8: Z_SPEC -1 is missing."""
    return _build(
        "REDMAPPER",
        _words(table, "NAME"),
        _equatorial(table, "RA", "DEC"),
        z=_numbers(table, "Z_SPEC", 0.0),
        richness=_numbers(table, "LAMBDA"),
    )


def _from_redmapper_v510(table: Table) -> Table:
    """Rykoff et al. 2014 (ApJ 785, 104): photometric redshift; r500 in degrees."""
    return _build(
        "REDMAPPER",
        _words(table, "name"),
        _equatorial(table, "RA", "dec"),
        z=_numbers(table, "redshift", 0.0),
        richness=_numbers(table, "lambda"),
        theta500_arcmin=_numbers(table, "r500", 0.0) * 60.0,
    )


def _from_spt(table: Table) -> Table:
    """Bleem et al. 2015 (ApJS 216, 27): r500 in degrees; redshift missing or 0 where unconfirmed."""
    return _build(
        "SPT",
        _words(table, "name"),
        _equatorial(table, "RA", "dec"),
        z=_numbers(table, "redshift", 0.0),
        theta500_arcmin=_numbers(table, "r500", 0.0) * 60.0,
    )


def _from_act_dr5(table: Table) -> Table:
    """Hilton et al. 2021 (ApJS 253, 3): no names in the file, so made from the position as ACT does."""
    position = _equatorial(table, "RA", "DEC")
    return _build(
        "ACT",
        _names_from_positions("ACT-CL J", position),
        position,
        z=_numbers(table, "z", 0.0),
        m500_1e14msun=_numbers(table, "M500", 0.0),
    )


def _from_act_fits(table: Table) -> Table:
    """Hilton et al. 2021 and the DR6 catalogue, as LAMBDA serves them: M500cCal or M500c in 1e14 Msun."""
    clusters = _from_any(table, "ACT")
    by_upper = {name.upper(): name for name in table.colnames}
    clusters["m500_1e14msun"] = _numbers(table, by_upper.get("M500CCAL", by_upper.get("M500C")), 0.0)
    return clusters


def _from_meta(table: Table) -> Table:
    """SZ meta-catalogue: the survey is that of the coordinates; mass, S/N and Y of PSZ2 where it is in it."""
    survey = np.array(_words(table, "COORD_SOURCE"), str)
    act = np.array(_words(table, "ACT_CATALOG"), str)
    clusters = _build(
        "META",
        _words(table, "NAME"),
        _galactic(table, "GLON", "GLAT"),
        z=_numbers(table, "REDSHIFT", 0.0),
        m500_1e14msun=_first(
            _numbers(table, "PSZ2_MSZ", 0.0), _numbers(table, "ACT_M500", 0.0), _numbers(table, "SPT_M500", 0.0)
        ),
        y500_arcmin2=_numbers(table, "PSZ2_Y5R500", 0.0) * 1e-3 / Y5R500_PER_Y500,
        snr=_first(_numbers(table, "PSZ2_SNR"), _numbers(table, "ACT_SNR"), _numbers(table, "SPT_SNR")),
        counterparts=_join(
            _words(table, "ALT_NAME"),
            *(_words(table, c) for c in ("PSZ2_NAME", "PSZ1_NAME", "ACT_NAME", "SPT_NAME", "AMI_NAME", "CARMA_NAME")),
            _words(table, "PSZ2_MCXC", "MCXC "),
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
    _Survey("META", frozenset({"COORD_SOURCE", "PSZ2_NAME", "ACT_CATALOG"}), _from_meta),
    _Survey("PSZ2", frozenset({"GLON", "GLAT", "Q_NEURAL", "Y5R500", "MSZ"}), _from_psz2),
    _Survey("MCXC", frozenset({"MCXC", "RADEG", "DEDEG", "L500", "SCALE"}), _from_mcxc),
    _Survey("REDMAPPER", frozenset({"NAME", "RA", "DEC", "LAMBDA", "Z_SPEC"}), _from_redmapper_v63),
    _Survey("REDMAPPER", frozenset({"NAME", "RA", "DEC", "LAMBDA", "REDSHIFT"}), _from_redmapper_v510),
    _Survey("REDMAPPER", frozenset({"RAJ2000", "DEJ2000", "LAMBDA"}), lambda table: _from_any(table, "REDMAPPER")),
    _Survey("SPT", frozenset({"NAME", "RA", "DEC", "REDSHIFT", "R500"}), _from_spt, only=True),
    _Survey("ACT", frozenset({"RA", "DEC", "Z", "M500"}), _from_act_dr5, only=True),
    _Survey("ACT", frozenset({"NAME", "REDSHIFT", "SNR", "FIXED_Y_C"}), _from_act_fits),
)


def _from_any(table: Table, survey: str) -> Table:
    """Name, position, redshift, richness and S/N where there is no reader: PGCC, PCCS2, VizieR, one's own."""
    by_upper = {name.upper(): name for name in table.colnames}

    def find(*names: str) -> str | None:
        return next((by_upper[n] for n in names if n in by_upper), None)

    ra = find("_RAJ2000", "RA_DEG", "RADEG", "RA", "RA_ICRS", "RAICRS", "ALPHA_J2000", "RA_J2000", "RAJ2000")
    dec = find("_DEJ2000", "DEC_DEG", "DECDEG", "DEDEG", "DEC", "DE_ICRS", "DEICRS", "DELTA_J2000", "DEC_J2000")
    dec = dec or find("DEJ2000", "DECJ2000", "DE", "DECLINATION")
    lon = find("GLON", "L", "LON_DEG", "GLON_DEG", "L_DEG", "GAL_LON", "GAL_L")
    lat = find("GLAT", "B", "LAT_DEG", "GLAT_DEG", "B_DEG", "GAL_LAT", "GAL_B")
    if ra and dec:
        position = _equatorial(table, ra, dec)
    elif lon and lat:
        position = _galactic(table, lon, lat)
    else:
        raise ValueError(
            f"no position: expected RA and DEC or GLON and GLAT, found {', '.join(table.colnames)}; "
            "rename the columns"
        )
    name = find("NAME", "ID", "DESIGNATION", "MAIN_ID")
    names = _words(table, name) if name else _names_from_positions(f"{survey} J", position)
    return _build(
        survey,
        names,
        position,
        z=_numbers(table, find("Z", "REDSHIFT", "ZSPEC", "Z_SPEC", "ZLAMBDA", "Z_LAMBDA"), 0.0),
        richness=_numbers(table, find("LAMBDA", "RICHNESS")),
        snr=_numbers(table, find("SNR", "S/N")),
    )


def _names_from_positions(prefix: str, position: SkyCoord) -> list[str]:
    """IAU style, truncated: PREFIXhhmm.m+ddmm."""
    minutes = np.floor(position.icrs.ra.deg * 4.0 * 10.0 + 1e-6) / 10.0
    dec = position.icrs.dec.deg
    size = np.floor(np.abs(dec) * 60.0 + 1e-6).astype(int)
    return [
        f"{prefix}{int(m // 60):02d}{m % 60:04.1f}{'-' if d < 0 else '+'}{s // 60:02d}{s % 60:02d}"
        for m, d, s in zip(minutes, dec, size, strict=True)
    ]


def _vectors(table: Table) -> NDArray[np.float64]:
    lon, lat = np.radians(np.asarray(table["lon_deg"], float)), np.radians(np.asarray(table["lat_deg"], float))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
