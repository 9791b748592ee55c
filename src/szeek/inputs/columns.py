"""Which column of a table means what, and its values as numbers, words and positions.

The exact name counts before one in other letters, the specific name before the general; of two that are equally good
and differ, the user is asked. What cannot be understood is refused with column and row.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from astropy.coordinates import FK4, ICRS, Angle, BaseCoordinateFrame, Galactic, SkyCoord
from astropy.table import Column, Table
from astropy.units import Unit, UnitBase, UnitConversionError, UnrecognizedUnit, dimensionless_unscaled
from numpy.typing import NDArray

from szeek.inputs.tablefiles import MISSING

log = logging.getLogger(__name__)

#: What a column may mean -> its names, in small letters, the best first; names of one group are equally good. Names
#: are compared without regard to marks: 'S/N' is s_n.
ROLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "name": (
        ("name",), ("cluster_name", "clname", "cl_name"), ("cluster",), ("designation",), ("main_id",),
        ("source_name",), ("object", "objname", "object_name"), ("source",), ("id", "cluster_id"),
    ),
    "redshift": (
        ("redshift", "z_spec", "zspec", "spec_z", "specz", "z_cl", "zcl", "z_cluster", "zcluster", "cluster_z",
         "z_best", "zbest"),
        ("z",),
        ("z_phot", "zphot", "photo_z", "photoz", "z_photo", "zphoto", "z_lambda", "zlambda"),
    ),
    "richness": (("richness",), ("lambda", "lambda_chisq")),
    "snr": (("snr",), ("s_n", "signal_to_noise", "sn_ratio")),
    "m500": (("m500_1e14msun",), ("m500", "m500c", "m_500", "mass_500")),
    "theta500": (("theta500_arcmin",), ("theta500", "theta_500")),
    "y500": (("y500_arcmin2",),),
}  # fmt: skip
#: Roles whose columns are read from any table only where name or unit say what their numbers are in.
_IN_UNIT = {"m500": Unit(1e14 * Unit("solMass")), "theta500": Unit("arcmin"), "y500": Unit("arcmin2")}
#: Names of positions that may be chosen, beside the roles.
POSITIONS = ("ra", "dec", "glon", "glat")

#: Bands beside which a column z is a magnitude.
_BANDS = frozenset("ugriy")
_UCDS = {"redshift": "src.redshift", "name": "meta.id;meta.main", "ra": "pos.eq.ra;meta.main"}
_UCDS |= {"dec": "pos.eq.dec;meta.main"}

_BASES = {
    "ra": "ra|alpha|right_?ascension|r_a",
    "dec": "dec|de|decl|delta|declination",
    "glon": "l|lii|l_ii|glon|gal_?lon|gal_?l|galactic_?longitude|lon(?=_deg)",
    "glat": "b|bii|b_ii|glat|gal_?lat|gal_?b|galactic_?latitude|lat(?=_deg)",
    "elon": "elon|ecl_?lon|ecliptic_?longitude",
    "elat": "elat|ecl_?lat|ecliptic_?latitude",
}
_PAIRS = (("ra", "dec"), ("glon", "glat"), ("elon", "elat"))
_TAIL = (
    r"_*(?P<frame>j?2000(_0)?|icrs|fk5|b?1950(_0)?|fk4|b(?=h|m|s|$))?"
    r"_*(?P<unit>deg|degrees?|degs|hours?|hrs?|h|rad|radians?)?"
)
_NAME = {what: re.compile(rf"_*(?P<base>{base}){_TAIL}") for what, base in _BASES.items()}

_IS_FRAME = re.compile(r"[jb]?(2000|1950)(\.0)?|icrs|fk[45]")
_SEXAGESIMAL = re.compile(
    r"([+-]?)\s*(\d{1,3})\s*[\s:hd°]\s*(\d{1,2}(?:\.\d*)?)\s*(?:[\s:m'\u2032]\s*(?:(\d{1,2}(?:\.\d*)?)\s*(?:s|\"|\u2033|'')?)?)?"
)
_ANGLE_WORDS = {"degree": "deg", "degrees": "deg", "degs": "deg", "°": "deg", "h": "hourangle", "hr": "hourangle"}
_ANGLE_WORDS |= {"hrs": "hourangle", "hour": "hourangle", "hours": "hourangle", "radian": "rad", "radians": "rad"}
#: A list whose right ascensions all lie below 24 and whose declinations span more than this is no field of degrees.
_FIELD_DEG = 30.0


def folded(name: str) -> str:
    """A column's name in small letters, every mark an underscore: 'S/N' is s_n, '_RA.icrs' _ra_icrs."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def way_out(role: str, example: str) -> str:
    """How a column is chosen, in words."""
    return f"say which it is: pass columns={{'{role}': '{example}'}}"


def _bracket(name: str) -> tuple[str, str]:
    """A column's name, and what stands in brackets behind it."""
    found = re.fullmatch(r"(.*?)\s*[\[(]([^\])]*)[\])]\s*", name)
    return (found[1], found[2].strip()) if found else (name, "")


def parse_unit(text: str) -> UnitBase | None:
    """The unit that a text means, with the spellings of catalogues; None where it means none that is known.

    Examples
    --------
    >>> parse_unit("10+14Msun"), parse_unit("10^-3 arcmin^2"), parse_unit("counts?")
    (Unit("1e+14 solMass"), Unit("0.001 arcmin2"), None)
    """
    plain = re.sub(r"^\s*10(?:\*\*|\^)?\{?([+-]\d+|(?<=[*^{])\d+)[}^]?\s*\*?\s*", r"1e\1 ", text.strip(' "[]'))
    plain = re.sub(r"\b(?:M_?sun|M_?sol|M_?solar)\b|M(?:☉|⊙)", "solMass", plain, flags=re.IGNORECASE)
    unit = Unit(plain, parse_strict="silent")
    return None if isinstance(unit, UnrecognizedUnit) else unit


@dataclass
class CatalogueColumns:
    """The columns of a table by what they mean.

    Parameters
    ----------
    table : Table
        From :func:`szeek.inputs.tablefiles.read_tables`.
    given : mapping of role to column
        What the user has chosen: roles of :data:`ROLES`, and 'ra', 'dec', 'glon', 'glat'.
    """

    table: Table
    given: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names: list[str] = list(self.table.colnames)
        roles = {"z": "redshift", "lon": "glon", "lat": "glat"}
        self.given = {roles.get(role, role): self._column_named(role, name) for role, name in self.given.items()}
        if unknown := sorted(set(self.given) - set(ROLES) - set(POSITIONS)):
            raise ValueError(
                f"columns are given for {', '.join(unknown)}; expected {', '.join((*ROLES, *POSITIONS))}"
            )

    def _column_named(self, role: str, name: str) -> str:
        alike = [other for other in self.names if folded(other) == folded(name)]
        if name in self.names or len(alike) == 1:
            return name if name in self.names else alike[0]
        raise ValueError(
            f"the column {name}, given for {role}, is not there; found {', '.join(self.names[:40])}: name one of them"
        )

    def has(self, names: frozenset[str]) -> bool:
        """Whether the table has columns of all these (folded) names."""
        return names <= {folded(name) for name in self.names}

    def first(self, *names: str) -> str | None:
        """The first of these columns that is there: by its exact name, else without regard to capitals and marks."""
        for wanted in names:
            if wanted in self.names:
                return wanted
            if found := [name for name in self.names if folded(name) == folded(wanted)]:
                return found[0]
        return None

    def find(self, role: str) -> str | None:
        """The column of a role in a table of any origin; None where there is none.

        Raises
        ------
        ValueError
            If two columns are equally good and hold different values.
        """
        if role in self.given:
            return self.given[role]
        for group in ROLES[role]:
            found = [name for name in self.names if folded(name) in group or self._stem(name) in group]
            found = [name for name in found if not (role == "redshift" and self.is_magnitude(name))]
            found = [name for name in found if name in group] or found
            if len(found) > 1 and role != "name":
                found = self._ask(role, found)
            if found:
                return found[0]
        return next((name for name in self.names if self._ucd(name) == _UCDS.get(role, "-")), None)

    def _stem(self, name: str) -> str:
        """A name without the unit in brackets behind it; with the frame, as in RA (J2000)."""
        bare, inside = _bracket(name)
        return folded(f"{bare}_{inside}" if _IS_FRAME.fullmatch(inside.lower()) else bare)

    def _ask(self, role: str, found: list[str]) -> list[str]:
        """One of several equally good columns, if they agree wherever both have a value; the one with most values."""
        values = {name: self._parsed(name, 0.0) for name in found}
        first, *others = found
        for other in others:
            differ = np.abs(values[first] - values[other]) > 1e-3 * np.abs(values[first]) + 1e-4
            if np.any(differ):
                row = int(np.flatnonzero(differ)[0])
                raise ValueError(
                    f"the columns {first} and {other} may both be the {role}, and differ (in row {row}: "
                    f"{values[first][row]:g}, {values[other][row]:g}); {way_out(role, first)}"
                )
        return sorted(found, key=lambda name: -int(np.isfinite(values[name]).sum()))

    def is_magnitude(self, name: str) -> bool:
        """Whether a column called as a redshift is a magnitude: by its unit, its UCD or the bands beside it."""
        if str(self.table[name].unit or "").strip().lower() in ("mag", "abmag", "vegamag", "mmag"):
            return True
        if self._ucd(name).startswith(("phot.mag", "phot_mag")):
            return True
        return folded(name) == "z" and len(_BANDS & {folded(other) for other in self.names}) >= 2

    def _ucd(self, name: str) -> str:
        return str(self.table[name].meta.get("ucd", "")).strip().lower()

    # --- values ------------------------------------------------------------------------------------------

    def numbers(
        self,
        role: str,
        *names: str,
        above: float = -np.inf,
        unit: UnitBase | None = None,
        assumed: float | None = None,
    ) -> NDArray[np.float64]:
        """A role's numbers, NaN where missing, not finite or not above ``above``; all NaN without a column.

        Parameters
        ----------
        role : str
            A role that the user may have chosen a column for.
        *names : str
            Columns of a known catalogue, the best first; without names, those of :data:`ROLES`.
        above : float
            Lower values are marks of missing ones.
        unit : Unit, optional
            In which the numbers are returned.
        assumed : float, optional
            Factor to that unit where the column states none that is known; without it, such a column is not read.
        """
        column = self.given.get(role) or (self.first(*names) if names else self.find(role))
        if column is None:
            return np.full(len(self.table), np.nan)
        values = self._parsed(column, above)
        if role == "redshift":
            return self._checked_redshift(column, values)
        stated = self._unit(column)
        if unit is None:
            if stated is not None and not stated.is_equivalent(dimensionless_unscaled):
                raise ValueError(f"the column {column} is in '{stated}', expected a number without unit; "
                                 f"{way_out(role, 'NAME')}")  # fmt: skip
            return values
        if stated is not None and stated != dimensionless_unscaled:
            try:
                return np.asarray(values * stated.to(unit))
            except UnitConversionError:
                raise ValueError(
                    f"the column {column} is in '{stated}', expected {unit} or what can be converted to it; "
                    f"{way_out(role, 'NAME')}"
                ) from None
        if assumed is None:
            log.warning("the column %s states no unit and is not read; expected %s", column, unit)
            return np.full(len(self.table), np.nan)
        return np.asarray(values * assumed)

    def _unit(self, column: str) -> UnitBase | None:
        """The unit that a column states, in its metadata or behind its name; None where it is none that is known."""
        unit = self.table[column].unit
        if unit is None:
            unit = _bracket(column)[1] or None
        return None if unit is None else parse_unit(str(unit))

    def _checked_redshift(self, column: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        stated = self._unit(column)
        if stated is not None and not stated.is_equivalent(dimensionless_unscaled) and str(stated) != "redshift":
            raise ValueError(
                f"the column {column} is in '{stated}', expected redshifts, which have no unit; "
                f"{way_out('redshift', 'NAME')}"
            )
        values = np.where(values < 90.0, values, np.nan)  # 99, 999 are marks of missing ones
        if np.any(values > 8.0):
            row = int(np.flatnonzero(values > 8.0)[0])
            raise ValueError(
                f"the column {column} holds {values[row]:g} in row {row}, expected redshifts; "
                f"{way_out('redshift', 'NAME')}"
            )
        return values

    def _parsed(self, column: str, above: float = -np.inf) -> NDArray[np.float64]:
        """A column's numbers; words of :data:`~szeek.inputs.tablefiles.MISSING` and what is not above are NaN."""
        values = self._flat(column)
        if values.dtype.kind in "US":
            parsed = np.full(len(values), np.nan)
            for row, text in enumerate(self._texts(column)):
                if text:
                    try:
                        parsed[row] = float(text.replace("\u2212", "-").replace("D", "E").replace("d", "e"))
                    except ValueError:
                        raise ValueError(
                            f"the column {column} holds '{text}' in row {row}, expected a number{_comma(text)}; mend "
                            "it, or leave the field empty where the value is missing"
                        ) from None
        elif values.dtype.kind in "biuf":
            parsed = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
        else:
            raise ValueError(f"the column {column} holds {values.dtype}, expected numbers; convert it")
        return np.where(np.isfinite(parsed) & (parsed > above), parsed, np.nan)

    def words(self, role: str, *names: str, prefix: str = "") -> list[str]:
        """A role's text, '' where missing, beginning with ``prefix``; all '' without a column."""
        column = self.given.get(role) or (self.first(*names) if names else self.find(role))
        if column is None:
            return [""] * len(self.table)
        start = prefix.strip()
        return [text if not text or text.startswith(start) else prefix + text for text in self._texts(column)]

    def _texts(self, column: str) -> list[str]:
        values = np.ma.asarray(self._flat(column))
        texts = np.strings.strip(np.ma.filled(values.astype(str), ""))
        gone = np.ma.getmaskarray(values)
        return [
            "" if miss or text.lower() in MISSING else text for text, miss in zip(texts.tolist(), gone, strict=True)
        ]

    def _flat(self, column: str) -> Column:
        values = self.table[column]
        if values.ndim > 1:
            raise ValueError(
                f"the column {column} holds {' x '.join(map(str, values.shape[1:]))} values in each row, expected "
                "one; split it into columns"
            )
        return values

    # --- positions ---------------------------------------------------------------------------------------

    def position(self, *names: str) -> SkyCoord:
        """Position of every row, in the frame that columns or file state (ICRS, or Galactic, where they state none).

        Parameters
        ----------
        *names : str
            The two columns of a known catalogue that are called as no other's; used where they are there.

        Raises
        ------
        ValueError
            If there is none, two disagree, one is not on the sphere, or its frame or unit is unclear.
        """
        known = [self.first(name) for name in names]
        if set(POSITIONS) & set(self.given):
            pairs = [self._given_pair()]
        elif names and known[0] and known[1]:
            pairs = [_Pair(("ra", "dec"), known[0], known[1], "", 0)]
        else:
            pairs = self._pairs()
        if not pairs:
            split = self._split_position()
            if split is not None:
                return split
            raise ValueError(
                f"no position: expected RA and DEC or GLON and GLAT, found {', '.join(self.names[:60])}; rename the "
                "columns, or pass columns={'ra': 'NAME', 'dec': 'NAME'}"
            )
        best = pairs[0]
        chosen = self._coordinates(best)
        for other in pairs[1:]:
            if other.rank != best.rank:
                break
            apart = chosen.separation(self._coordinates(other).transform_to(chosen.frame)).arcmin
            if np.any(apart > 1.0):
                row = int(np.flatnonzero(apart > 1.0)[0])
                raise ValueError(
                    f"the columns {best.lon}, {best.lat} and {other.lon}, {other.lat} may both be the position, and "
                    f"are {apart[row]:.3g} arcmin apart in row {row}; say which: pass columns={{'{best.what[0]}': "
                    f"'{best.lon}', '{best.what[1]}': '{best.lat}'}}"
                )
        return chosen

    def has_position(self) -> bool:
        """Whether the table names a position, be it good or not."""
        return bool(self._pairs()) or self.first("RAh", "RABh") is not None

    def galactic_position(self) -> SkyCoord:
        """The Galactic position of a survey that gives it as its own, else any."""
        pairs = [pair for pair in self._pairs() if pair.what[0] == "glon"]
        return self._coordinates(pairs[0]) if pairs and not set(POSITIONS) & set(self.given) else self.position()

    def position_of(self, lon: str, lat: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Two columns as angles in degrees, as :meth:`position` checks them."""
        pair = _Pair(("glon", "glat"), self.first(lon) or lon, self.first(lat) or lat, "", 0)
        coordinates = self._coordinates(pair).galactic
        return np.asarray(coordinates.l.deg), np.asarray(coordinates.b.deg)

    def _given_pair(self) -> _Pair:
        for what in _PAIRS[:2]:
            if set(what) & set(self.given):
                if lacking := [name for name in what if name not in self.given]:
                    raise ValueError(f"{lacking[0]} is not given beside {' and '.join(set(what) & set(self.given))}; "
                                     f"pass columns={{'{lacking[0]}': 'NAME'}} too")  # fmt: skip
                lon, lat = self.given[what[0]], self.given[what[1]]
                tag = _frame_tag(_NAME[what[0]].fullmatch(self._stem(lon)))
                return _Pair(what, lon, lat, tag, 0)
        raise AssertionError("no position is given")

    def _pairs(self) -> list[_Pair]:
        """Pairs of columns that may be the position, the best first."""
        found: list[_Pair] = []
        for k, what in enumerate(_PAIRS):
            sides = [self._named(part) for part in what]
            for lon, (tag, rank) in sides[0].items():
                partners = [lat for lat, (other, at) in sides[1].items() if (other, at) == (tag, rank)]
                partners = partners or [lat for lat, (other, _) in sides[1].items() if other == tag]
                alike = [lat for lat in partners if _same_style(lon, lat)] or partners
                if alike:
                    found.append(_Pair(what, lon, alike[0], tag, 100 * k + rank))
        if not any(pair.what == ("ra", "dec") for pair in found):
            by_ucd = [next((n for n in self.names if self._ucd(n) == _UCDS[part]), None) for part in ("ra", "dec")]
            if by_ucd[0] and by_ucd[1]:
                found.append(_Pair(("ra", "dec"), by_ucd[0], by_ucd[1], "", 50))
        return sorted(found, key=lambda pair: pair.rank)

    def _named(self, part: str) -> dict[str, tuple[str, int]]:
        """Columns called as one coordinate -> frame in their name, and how good the name is (0 the best)."""
        found = {}
        for name in self.names:
            match = _NAME[part].fullmatch(self._stem(name))
            if match is None or self.table[name].dtype.kind not in "iufUS":
                continue
            unit = self._unit(name)
            if unit is not None and not _is_angle(unit) and match["base"] in ("l", "b", "alpha", "delta", "de"):
                continue  # a luminosity, a magnitude, a spectral index
            if (match["unit"] == "h" and self.first(name[:-1] + "m")) or name.endswith(("-", "E_", "B_")):
                continue  # hours beside minutes and seconds, and the sign of a declination
            tag = _frame_tag(match)
            rank = {"icrs": 10, "j2000": 10, "": 20, "b1950": 40}[tag] - 5 * name.startswith("_")
            # L and B are a luminosity and a magnitude where another pair is there
            found[name] = tag, rank + 300 * (name in ("L", "B"))
        return found

    def _coordinates(self, pair: _Pair) -> SkyCoord:
        lon, lat = self._degrees(pair.lon, pair.what[0]), self._degrees(pair.lat, pair.what[1])
        bad = ~((np.abs(lon) <= 360.0) & (np.abs(lat) <= 90.0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"{int(bad.sum())} entries have no position on the sphere, the first in row {row} "
                f"({pair.lon} = {lon[row]}, {pair.lat} = {lat[row]}); expected degrees: remove or mend them"
            )
        if pair.what == ("ra", "dec"):
            self._refuse_hours(pair, lon, lat)
        return SkyCoord(lon, lat, unit="deg", frame=self._frame(pair))

    def _refuse_hours(self, pair: _Pair, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> None:
        """Right ascensions without unit that all lie below 24, or angles of radians, over far more than a field."""
        if self._angle_unit(pair.lon) is not None or self._is_sexagesimal(pair.lon) or len(lon) < 3:
            return
        if lon.min() >= 0.0 and lon.max() <= 24.0 and np.ptp(lat) > _FIELD_DEG:
            raise ValueError(
                f"the column {pair.lon} states no unit, and all its values lie below 24 (up to {lon.max():.2f}) "
                f"while {pair.lat} runs from {lat.min():.1f} to {lat.max():.1f}: right ascension in hours? Name the "
                "column ra_hours, or ra_deg if these are degrees, or write it with a unit"
            )
        inside = lon.min() >= 0.0 and lon.max() <= 2 * np.pi and np.abs(lat).max() <= np.pi / 2
        if inside and len(lon) >= 10 and np.ptp(lon) > 4.5 and np.ptp(lat) > 2.0:
            raise ValueError(
                f"the columns {pair.lon}, {pair.lat} state no unit, and fill 0 to 2 pi and -pi/2 to pi/2: radians? "
                "Name them ra_rad and dec_rad, or ra_deg and dec_deg if these are degrees, or write them with a unit"
            )

    def _frame(self, pair: _Pair) -> BaseCoordinateFrame:
        """The frame of a pair: of its columns, of their names, of the file, else ICRS or what its kind has."""
        stated = [self.table[name].meta.get("frame") for name in (pair.lon, pair.lat)]
        own = next((frame for frame in stated if frame is not None), None)
        if None not in stated and not _same_frame(stated[0], stated[1]):
            raise ValueError(
                f"the columns {pair.lon} and {pair.lat} refer to two frames, {_frame_name(stated[0])} and "
                f"{_frame_name(stated[1])}; expected one: mend the file"
            )
        whole = self.table.meta.get("frame")
        if own is None and whole is None and "frames" in self.table.meta:
            kind = _kind(pair.what)
            fitting = [frame for frame in self.table.meta["frames"] if _kind_of(frame) == kind]
            distinct = [f for k, f in enumerate(fitting) if not any(_same_frame(f, g) for g in fitting[:k])]
            if len(distinct) > 1 and not pair.tag:
                raise ValueError(
                    f"the file states the frames {', '.join(map(_frame_name, distinct))} and not which {pair.lon} is "
                    "in; refer the columns to one (FIELD ref), or convert them to ICRS and name them RA_ICRS, DE_ICRS"
                )
            whole = distinct[0] if len(distinct) == 1 else None
        if pair.what != ("ra", "dec"):
            by_name: BaseCoordinateFrame = Galactic() if pair.what[0] == "glon" else _ECLIPTIC
            if own is not None and _kind_of(own) == _kind(pair.what):
                return own
            if own is not None:
                raise ValueError(f"the columns {pair.lon} and {pair.lat} refer to the frame {_frame_name(own)}, "
                                 f"expected {_kind(pair.what)}; rename them or mend the file")  # fmt: skip
            return whole if whole is not None and _kind_of(whole) == _kind(pair.what) else by_name
        tagged: BaseCoordinateFrame | None = _TAGS.get(pair.tag)
        if own is not None and tagged is not None and _kind_of(own) == "equatorial" and not _same_epoch(own, tagged):
            raise ValueError(f"the column {pair.lon} refers to the frame {_frame_name(own)}, its name says "
                             f"{_frame_name(tagged)}; rename it or mend the file")  # fmt: skip
        frame = own if own is not None else whole
        if own is None and tagged is not None and not _same_epoch(whole, tagged):
            frame = tagged
        if frame is not None and _kind_of(frame) != "equatorial":
            raise ValueError(
                f"the columns {pair.lon} and {pair.lat} are stated to be in the frame {_frame_name(frame)}, expected "
                "an equatorial one; rename them GLON and GLAT, or mend the file"
            )
        return ICRS() if frame is None else frame

    def _split_position(self) -> SkyCoord | None:
        """Right ascension and declination in columns of hours, minutes, seconds, as CDS tables have them."""
        for tag in ("", "B"):
            hours, minutes, seconds = (self.first(f"RA{tag}{part}") for part in "hms")
            sign, degrees, arcmin, arcsec = (self.first(f"DE{tag}{part}") for part in "-dms")
            if hours is None or minutes is None or degrees is None or arcmin is None:
                continue
            ra = self._parsed(hours) + self._parsed(minutes) / 60.0
            dec = np.abs(self._parsed(degrees)) + self._parsed(arcmin) / 60.0
            if seconds is not None:
                ra = ra + np.nan_to_num(self._parsed(seconds)) / 3600.0
            if arcsec is not None:
                dec = dec + np.nan_to_num(self._parsed(arcsec)) / 3600.0
            if sign is not None:
                south = np.array([text == "-" for text in _raw(self.table[sign])])
            else:
                south = np.signbit(self._parsed(degrees))
            whole = self.table.meta.get("frame")
            frame = (
                _TAGS["b1950"] if tag else whole if whole is not None and _kind_of(whole) == "equatorial" else ICRS()
            )
            if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
                row = int(np.flatnonzero(~np.isfinite(ra + dec))[0])
                raise ValueError(
                    f"row {row} has no position in {hours}, {minutes}, {degrees}, {arcmin}; remove or mend it"
                )
            return SkyCoord(15.0 * ra, np.where(south, -dec, dec), unit="deg", frame=frame)
        return None

    def _stated(self, column: str) -> str:
        return str(self.table[column].unit or "").strip('" ').lower()

    def _is_sexagesimal(self, column: str) -> bool:
        return self.table[column].dtype.kind in "US" and any(not _is_number(t) for t in self._texts(column) if t)

    def _angle_unit(self, column: str) -> UnitBase | None:
        """The angle that a column's numbers are in, by its unit or name; None where neither says.

        Raises
        ------
        ValueError
            If it states a unit of no angle.
        """
        unit = self.table[column].unit
        text = "" if unit is None else str(unit).strip().strip('"')
        if not text:
            inside = _bracket(column)[1].strip('"')
            inside = "" if _IS_FRAME.fullmatch(inside.lower()) else inside
            named = [
                m["unit"] for regex in _NAME.values() if (m := regex.fullmatch(self._stem(column))) and m["unit"]
            ]
            text = inside or (named[0] if named else "")
        if not text or text.lower() in ("h:m:s", "hms", "d:m:s", "dms", "hh:mm:ss", "dd:mm:ss"):
            return None
        found = Unit(_ANGLE_WORDS.get(text.lower(), text), parse_strict="silent")
        if isinstance(found, UnrecognizedUnit) or not _is_angle(found):
            raise ValueError(f"column {column} is in '{text}', expected an angle; state deg, hourangle or rad")
        return found

    def _degrees(self, column: str, part: str) -> NDArray[np.float64]:
        """An angle in degrees: of numbers by unit or name, degrees where neither says; of sexagesimal text."""
        unit = self._angle_unit(column)
        if not self._is_sexagesimal(column):
            numbers = self._parsed(column, -np.inf)
            text = self._stated(column)
            if text in ("h:m:s", "d:m:s"):
                raise ValueError(
                    f"column {column} is in '{text}' and holds numbers, expected text as 12:59:48.7; mend it"
                )
            return numbers if unit is None else np.asarray(numbers * unit.to("deg"))
        stated = self._stated(column)
        degrees = part != "ra" or stated in ("d:m:s", "dms") or (unit is not None and unit == Unit("deg"))
        out = np.full(len(self.table), np.nan)
        for row, text in enumerate(self._texts(column)):
            if text:
                out[row] = _angle_degrees(text, column, row, degrees)
        return out


@dataclass(frozen=True)
class _Pair:
    """Two columns that may be a position: what they are, the frame in their names, and how good they are (0 best)."""

    what: tuple[str, str]
    lon: str
    lat: str
    tag: str
    rank: int


_ECLIPTIC = SkyCoord(0.0, 0.0, unit="deg", frame="barycentricmeanecliptic").frame.replicate_without_data()
_TAGS: dict[str, BaseCoordinateFrame] = {"icrs": ICRS(), "j2000": ICRS(), "b1950": FK4(equinox="B1950")}


def _frame_tag(match: re.Match[str] | None) -> str:
    tag = (match["frame"] if match else None) or ""
    return {"": "", "icrs": "icrs"}.get(tag, "b1950" if "1950" in tag or tag in ("fk4", "b") else "j2000")


def _same_style(lon: str, lat: str) -> bool:
    return (
        lon.startswith("_") == lat.startswith("_")
        and lon.isupper() == lat.isupper()
        and lon.islower() == lat.islower()
    )


def _kind(what: tuple[str, str]) -> str:
    return {"ra": "equatorial", "glon": "galactic", "elon": "ecliptic"}[what[0]]


def _kind_of(frame: BaseCoordinateFrame) -> str:
    names = {"icrs": "equatorial", "fk5": "equatorial", "fk4": "equatorial", "fk4noeterms": "equatorial"}
    names |= {"barycentricmeanecliptic": "ecliptic"}
    return names.get(str(frame.name), str(frame.name))


def _same_frame(one: BaseCoordinateFrame, other: BaseCoordinateFrame) -> bool:
    return type(one) is type(other) and bool(one.is_equivalent_frame(other))


def _same_epoch(one: BaseCoordinateFrame | None, other: BaseCoordinateFrame) -> bool:
    """Whether two equatorial frames differ by no more than FK5 J2000 and ICRS do."""
    if one is None or _kind_of(one) != "equatorial":
        return False
    years = [2000.0 if frame.name == "icrs" else float(frame.equinox.jyear) for frame in (one, other)]
    return abs(years[0] - years[1]) < 0.1


def _frame_name(frame: BaseCoordinateFrame) -> str:
    equinox = getattr(frame, "equinox", None)
    if equinox is None:
        return str(frame.name).upper()
    year = f"B{equinox.byear:g}" if "fk4" in str(frame.name) else f"J{equinox.jyear:g}"
    return f"{str(frame.name).upper()} {year}"


def _is_angle(unit: UnitBase) -> bool:
    return bool(unit.is_equivalent("deg")) or str(unit) in ("h", "hourangle")


def _is_number(text: str) -> bool:
    try:
        float(text.replace("\u2212", "-"))
    except ValueError:
        return False
    return True


def _comma(text: str) -> str:
    """What is wrong with a number that has a decimal comma."""
    has_comma = re.fullmatch(r"[+-]?\d*,\d+", text)
    return ", with a decimal point (other numbers of the file have points)" if has_comma else ""


def _raw(column: Column) -> list[str]:
    return [
        str(value).strip().replace("\u2212", "-") for value in np.ma.filled(np.ma.asarray(column).astype(str), "")
    ]


def _angle_degrees(text: str, column: str, row: int, degrees: bool) -> float:
    """One sexagesimal angle in degrees; hours unless ``degrees`` or its own letters say so."""
    plain = text.replace("\u2212", "-").replace("\u2013", "-").strip().lower()
    found = _SEXAGESIMAL.fullmatch(plain)
    try:
        if found:
            whole, minutes, seconds = float(found[2]), float(found[3]), float(found[4] or 0.0)
            if minutes >= 60.0 or seconds > 60.0:
                raise ValueError("minutes or seconds of 60 and more")
            value = (whole + minutes / 60.0 + seconds / 3600.0) * (-1.0 if found[1] == "-" else 1.0)
            in_degrees = "d" in plain or "°" in plain or (degrees and "h" not in plain)
            return value if in_degrees else 15.0 * value
        if _is_number(plain):
            raise ValueError("a plain number among sexagesimal ones")
        if _comma(plain):
            raise ValueError(_comma(plain).lstrip(", "))
        return float(Angle(plain, "deg" if degrees else "hourangle").deg)
    except ValueError as error:
        raise ValueError(
            f"column {column} holds no angles ('{text}' in row {row}: {error}); expected degrees or hh:mm:ss"
        ) from None
