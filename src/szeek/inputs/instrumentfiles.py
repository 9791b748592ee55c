"""An instrument file: its keys, what is refused, and the instrument that is made of it.

What a file leaves out is computed: tSZ response and unit conversion from the bandpass, or from a flat band; the FWHM
from the beam's table.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from szeek.physics.bandpass import Bandpass
from szeek.physics.beams import BeamTable, first_points, start_at_zero, transform_profile
from szeek.physics.instrument import BandDetails, Instrument
from szeek.physics.tsz import bandpass_response
from szeek.sky.skymaps import Band

Floats = NDArray[np.float64]

#: Fields of an instrument that are arrays over its bands.
ARRAYS = ("mjysr_per_kcmb", "tsz_kcmb", "noise_uk_deg")
#: A table of l and b_l counts as normalised where b_0 is within this of 1.
_NORMALISED = 1e-3
#: A bandpass of fewer rows is interpolated to this many.
_FINE = 1000
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BandpassTable(_Record):
    """A bandpass in the instrument file itself."""

    freq_ghz: tuple[float, ...]
    transmission: tuple[float, ...]


class BeamColumns(_Record):
    """A beam's transform in the instrument file itself."""

    ell: tuple[float, ...]
    b_ell: tuple[float, ...]


class BandRecord(_Record):
    """One band of an instrument file; see the user guide for what each key means."""

    name: Annotated[str, Field(min_length=1)]
    freq_ghz: _Positive | None = None
    width_ghz: _Positive | None = None
    bandpass: str | BandpassTable | None = None
    bandpass_response: Literal["intensity", "rayleigh-jeans"] = "intensity"
    unit: Literal["K_CMB", "MJy/sr"] = "K_CMB"
    published_unit: str = ""
    mjysr_per_kcmb: _Positive | None = None
    tsz_kcmb: Annotated[float, Field(allow_inf_nan=False)] | None = None
    fwhm_arcmin: _Positive | None = None
    beam: str | BeamColumns | None = None
    beam_column: Annotated[int, Field(ge=2)] = 2
    beam_from_ell: Annotated[float, Field(ge=0)] = 0.0
    beam_normalise: bool | None = None
    beam_profile: str | None = None
    pixel_window: bool = True
    noise_uk_arcmin: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    noise_uk_deg: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    knee_ell: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    slope: Annotated[float, Field(le=0, allow_inf_nan=False)] = 0.0


class InstrumentRecord(_Record):
    """A whole instrument file."""

    name: str = ""
    bands: tuple[BandRecord, ...]


def build_instrument(values: Mapping[str, Any], origin: str, folder: Path) -> Instrument:
    """Make an instrument of what a file holds.

    Parameters
    ----------
    values : mapping
        The file as read.
    origin : str
        What to call it in errors.
    folder : Path
        Where the tables lie that it names.

    Raises
    ------
    ValueError
        If a key is unknown, a value is refused, or two contradict each other.
    FileNotFoundError
        If a table does not exist.
    """
    try:
        record = InstrumentRecord.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{origin} is refused: {_describe(error, values)}") from None
    if not record.bands:
        raise ValueError(f"{origin} has no bands, expected a table [[bands]] for each")
    names = [band.name for band in record.bands]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{origin} has the band '{twice[0]}' twice, expected a name of its own for each")
    made = [_make_band(band, f"{origin}: band '{band.name}'", folder) for band in record.bands]
    return Instrument(
        record.name,
        tuple(each.band for each in made),
        details=tuple(each.details for each in made),
        **{name: np.array([getattr(each, name) for each in made]) for name in ARRAYS},
    )


def record_bands(instrument: Instrument) -> list[dict[str, Any]]:
    """The bands of an instrument as an instrument file has them, tables inline."""
    bands = []
    for number, (band, detail) in enumerate(zip(instrument.bands, instrument.details, strict=True)):
        record: dict[str, Any] = {
            "name": band.name,
            "freq_ghz": float(band.freq_ghz),
            "fwhm_arcmin": float(band.fwhm_arcmin),
            "unit": band.unit,
            **{name: float(getattr(instrument, name)[number]) for name in ARRAYS},
            "knee_ell": detail.knee_ell,
            "slope": detail.slope,
            "pixel_window": detail.pixel_window,
            "published_unit": detail.published_unit,
        }
        if (passed := detail.bandpass) is not None:
            record["bandpass"] = {
                "freq_ghz": passed.freq_ghz.tolist(), "transmission": passed.transmission.tolist()
            }  # fmt: skip
        if detail.beam is not None:
            record["beam"] = {"ell": detail.beam.ell.tolist(), "b_ell": detail.beam.b_ell.tolist()}
            record["beam_normalise"] = False  # it has been, where it should
        bands.append(record)
    return bands


class _Made(NamedTuple):
    """A band, with its entries of the instrument's arrays."""

    band: Band
    mjysr_per_kcmb: float
    tsz_kcmb: float
    noise_uk_deg: float
    details: BandDetails


def _make_band(record: BandRecord, label: str, folder: Path) -> _Made:
    """One band from its record and the tables named there."""
    passed, beam = _make_bandpass(record, label, folder), _make_beam(record, label, folder)
    if record.freq_ghz is not None:
        freq_ghz = record.freq_ghz
    elif passed is not None:
        freq_ghz = passed.mean_freq_ghz
    else:
        raise ValueError(f"{label} has neither freq_ghz nor bandpass, expected one of the two at least")
    if passed is None and record.width_ghz is not None:
        if not record.width_ghz < 2 * freq_ghz:
            raise ValueError(f"{label}: width_ghz is {record.width_ghz:g}, expected less than twice {freq_ghz:g} GHz")
        passed = Bandpass.flat(freq_ghz, 0.5 * record.width_ghz / freq_ghz)
    if record.fwhm_arcmin is not None:
        fwhm_arcmin = record.fwhm_arcmin
    elif beam is not None:
        fwhm_arcmin = beam.fwhm_arcmin
    else:
        raise ValueError(f"{label} has no beam, expected fwhm_arcmin, beam or beam_profile")
    if (record.knee_ell > 0) != (record.slope < 0):
        raise ValueError(
            f"{label}: knee_ell is {record.knee_ell:g} and slope {record.slope:g}, expected a knee above 0 and a "
            "slope below 0, or neither: the noise power is white times 1 + (l / knee_ell)^slope"
        )
    averaged = passed or Bandpass.flat(freq_ghz)
    conversion, response = record.mjysr_per_kcmb, record.tsz_kcmb
    return _Made(
        Band(record.name, freq_ghz, fwhm_arcmin, record.unit),
        averaged.mjysr_per_kcmb(freq_ghz) if conversion is None else conversion,
        bandpass_response(averaged) if response is None else response,
        _white_noise(record, label),
        BandDetails(passed, beam, record.knee_ell, record.slope, record.pixel_window, record.published_unit),
    )


def _white_noise(record: BandRecord, label: str) -> float:
    """White noise per deg."""
    if record.noise_uk_deg is not None and record.noise_uk_arcmin is None:
        return record.noise_uk_deg
    if record.noise_uk_arcmin is not None and record.noise_uk_deg is None:
        return record.noise_uk_arcmin / 60
    number = "no" if record.noise_uk_deg is None else "two values of the"
    raise ValueError(f"{label} has {number} noise, expected one of noise_uk_arcmin and noise_uk_deg")


def _make_bandpass(record: BandRecord, label: str, folder: Path) -> Bandpass | None:
    """The measured transmission, in terms of intensity."""
    if record.bandpass is None:
        if record.bandpass_response != "intensity":
            raise ValueError(f"{label} has bandpass_response but no bandpass, expected both or neither")
        return None
    if record.width_ghz is not None:
        raise ValueError(f"{label} has bandpass and width_ghz, expected one of the two")
    if isinstance(record.bandpass, str):
        what = f"{label}: bandpass '{record.bandpass}'"
        freq_ghz, transmission = _read_columns(folder / record.bandpass, label, 2)[:2]
    else:
        what = f"{label}: bandpass"
        freq_ghz, transmission = _as_columns(record.bandpass.freq_ghz, record.bandpass.transmission, what)
    if not (freq_ghz[0] > 0 and (np.diff(freq_ghz) >= 0).all()):  # a few of Planck's are the same in float32
        raise ValueError(f"{what} has frequencies that are not sorted from above 0, expected GHz, increasing")
    transmission = np.maximum(transmission, 0.0)  # noise in the wings
    if not transmission.any():
        raise ValueError(f"{what} is nowhere above 0, expected a transmission in the second column")
    if record.freq_ghz is not None and not freq_ghz[0] < record.freq_ghz < freq_ghz[-1]:
        raise ValueError(
            f"{what} covers {freq_ghz[0]:g} to {freq_ghz[-1]:g} GHz and freq_ghz is {record.freq_ghz:g}, expected a "
            "table in GHz that holds the band"
        )
    if freq_ghz.size < _FINE:  # linear between the rows, but the spectra that it is multiplied with are not
        fine = np.union1d(freq_ghz, np.linspace(freq_ghz[0], freq_ghz[-1], _FINE))
        freq_ghz, transmission = fine, np.interp(fine, freq_ghz, transmission)
    if record.bandpass_response == "rayleigh-jeans":
        transmission = transmission / freq_ghz**2
    return Bandpass(freq_ghz, transmission)


def _make_beam(record: BandRecord, label: str, folder: Path) -> BeamTable | None:
    """The measured beam, from multipole 0 on."""
    if record.beam is None:
        if record.beam_normalise is not None or record.beam_from_ell or record.beam_column != 2:
            raise ValueError(f"{label} says how to read a table of l and b_l but names none, expected beam")
        return None if record.beam_profile is None else _transform(record.beam_profile, label, folder)
    if record.beam_profile is not None:
        raise ValueError(f"{label} has beam and beam_profile, expected one of the two")
    if isinstance(record.beam, str):
        what = f"{label}: beam '{record.beam}'"
        columns = _read_columns(folder / record.beam, label, record.beam_column)
        ell, b_ell = columns[0], columns[record.beam_column - 1]
    else:
        what = f"{label}: beam"
        ell, b_ell = _as_columns(record.beam.ell, record.beam.b_ell, what)
    if not (ell[0] >= 0 and (np.diff(ell) > 0).all()):
        raise ValueError(f"{what} has multipoles that do not increase from 0, expected l, sorted")
    used = ell >= record.beam_from_ell
    ell, b_ell = ell[used], b_ell[used]
    if ell.size < 2 or not (b_ell[first_points(ell)] > 0).all():
        raise ValueError(
            f"{what} has fewer than two values from l = {record.beam_from_ell:g} on, or its first are not above 0; "
            "expected b_l"
        )
    if record.beam_normalise is None and (ell[0] > 0 or abs(b_ell[0] - 1) > _NORMALISED):
        found = f"starts at l = {ell[0]:g}" if ell[0] > 0 else f"is {b_ell[0]:.4g} at l = 0"
        raise ValueError(
            f"{what} {found}, expected 1 at l = 0; state beam_normalise = true to divide it by its value at l = 0 "
            "(that of a Gaussian through its first points where it starts higher), or false if the maps are "
            "calibrated with the table as it is"
        )
    table = start_at_zero(ell, b_ell)
    return BeamTable(table.ell, table.b_ell / table.b_ell[0]) if record.beam_normalise else table


def _transform(name: str, label: str, folder: Path) -> BeamTable:
    """The transform of an angular profile."""
    what = f"{label}: beam_profile '{name}'"
    radius_deg, profile = _read_columns(folder / name, label, 2)[:2]
    if not (radius_deg[0] >= 0 and (np.diff(radius_deg) > 0).all() and radius_deg[-1] <= 180):
        raise ValueError(f"{what} has angles that do not increase from 0 to at most 180, expected deg, sorted")
    if not (profile[0] > 0 and (profile < 0.5 * profile[0]).any()):
        raise ValueError(f"{what} does not fall to half of its first value, expected a beam's profile")
    return transform_profile(radius_deg, profile)


def _as_columns(first: tuple[float, ...], second: tuple[float, ...], what: str) -> tuple[Floats, Floats]:
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"{what} has {len(first)} and {len(second)} values, expected as many of both, 2 at least")
    values = np.array([first, second], np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{what} holds NaN or Inf, expected finite numbers")
    return values[0], values[1]


def _read_columns(path: Path, label: str, n_column: int) -> Floats:
    """Columns of a text table, as many as there are, of shape (n, n_row)."""
    if not path.is_file():
        raise FileNotFoundError(f"{label}: table '{path}' does not exist")
    try:
        columns = np.loadtxt(path, np.float64, ndmin=2).T
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{label}: '{path}' is no table of numbers: {error}") from None
    if len(columns) < n_column or columns.shape[1] < 2 or not np.isfinite(columns).all():
        raise ValueError(
            f"{label}: '{path}' has {len(columns)} columns and {columns.shape[1]} rows, expected at least {n_column} "
            "columns and 2 rows of finite numbers"
        )
    return np.asarray(columns)


def _describe(error: ValidationError, values: Mapping[str, Any]) -> str:
    """What pydantic refuses, in one line, with the bands' names; of an unknown key also the nearest that there is."""
    lines = []
    for item in error.errors():
        where, model = list(item["loc"]), InstrumentRecord if len(item["loc"]) < 3 else BandRecord
        words = [str(part) for part in where]
        if len(where) > 1 and where[0] == "bands" and isinstance(where[1], int):
            name = values["bands"][where[1]]
            label = name.get("name", f"number {where[1] + 1}") if isinstance(name, dict) else f"number {where[1] + 1}"
            words = [f"band '{label}'", *words[2:]]
        hint = item["msg"]
        if item["type"] == "extra_forbidden":
            near = get_close_matches(str(where[-1]), model.model_fields, 1, 0.5)
            hint = "unknown key" + (f", did you mean '{near[0]}'?" if near else "")
        found = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
        lines.append(f"{': '.join(words)}: {hint}{found}")
    return "; ".join(lines)
