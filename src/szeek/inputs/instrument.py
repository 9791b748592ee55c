"""Experiments: those that ship with the package, your own, and Planck's instrument model files."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from szeek.inputs.instrumentfiles import ARRAYS, build_instrument, record_bands
from szeek.physics.bandpass import Bandpass
from szeek.physics.instrument import Instrument


def list_instruments() -> list[str]:
    """Names of the experiments that ship with the package.

    Examples
    --------
    >>> [name for name in list_instruments() if name.startswith("planck")]
    ['planck-hfi', 'planck-lfi']
    """
    folder = resources.files("szeek.inputs") / "instruments"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def read_instrument(source: str | os.PathLike[str] | Mapping[str, Any] = "planck-hfi") -> Instrument:
    """Read an experiment that ships with the package, or your own from a TOML file.

    Parameters
    ----------
    source : str, path or mapping
        Name of an experiment that ships, or a TOML file, or several joined by '+' whose bands are put one after the
        other; 'BAND=FILE' among them gives a band another beam, a table of l and b_l. A trained model's
        ``model.json`` stands for the experiment that it was trained on. A mapping holds what a file would
        (:func:`record_instrument`).

    Returns
    -------
    Instrument

    Raises
    ------
    ValueError
        If no experiment of that name ships with the package, or a file is refused; the message names file, band and
        key.
    FileNotFoundError
        If a file, or a table that it names, does not exist.

    Examples
    --------
    >>> read_instrument("planck-hfi").band_names
    ('100', '143', '217', '353', '545', '857')
    """
    if isinstance(source, Mapping):
        return build_instrument(source, f"instrument '{source.get('name', '')}'", Path())
    texts = split_instrument(source)
    parts = [_read_one(text) for text in texts if _beam_of(text) is None]
    beams = dict(beam for text in texts if (beam := _beam_of(text)) is not None)
    if not parts:
        raise ValueError(f"'{source}' gives beams of no experiment, expected one before them: 'act-dr6+{source}'")
    names = [name for part in parts for name in part.band_names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"'{source}' has the band {', '.join(twice)} more than once, expected names of their own; rename it in a "
            "TOML file of your own (`szeek instruments NAME` prints those that ship) and name that file instead"
        )
    joined = Instrument(
        "+".join(part.name for part in parts),
        tuple(band for part in parts for band in part.bands),
        details=tuple(detail for part in parts for detail in part.details),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS},
    )
    return _with_beams(joined, beams) if beams else joined


def _beam_of(text: str) -> tuple[str, str] | None:
    """Band and file of a part of a combination that gives a beam."""
    band, equals, file = text.partition("=")
    return (band, file) if equals and not Path(text).is_file() else None


def _with_beams(instrument: Instrument, beams: Mapping[str, str]) -> Instrument:
    """The experiment with beams from tables of l and b_l."""
    if unknown := [name for name in beams if name not in instrument.band_names]:
        raise ValueError(
            f"a beam is given for {', '.join(unknown)}; {instrument.name} has the bands "
            f"{', '.join(instrument.band_names)}"
        )
    records = []
    for record in record_bands(instrument):
        if record["name"] in beams:
            record = {key: value for key, value in record.items() if key not in ("beam_normalise", "fwhm_arcmin")}
            record["beam"] = beams[record["name"]]
        records.append(record)
    return build_instrument({"name": instrument.name, "bands": records}, f"'{instrument.name}'", Path())


def split_instrument(source: str | os.PathLike[str]) -> list[str]:
    """The experiments of a combination: names or files, joined by '+'.

    Examples
    --------
    >>> split_instrument("my-telescope.toml+planck-hfi")
    ['my-telescope.toml', 'planck-hfi']
    """
    whole = os.fspath(source)
    return [whole] if Path(whole).is_file() else whole.split("+")


def read_shipped(name: str) -> str:
    """The file of an experiment that ships, as it is: numbers with their sources."""
    return (resources.files("szeek.inputs") / "instruments" / f"{name}.toml").read_text(encoding="utf-8")


def ships(source: str | os.PathLike[str]) -> bool:
    """Whether an experiment, or every part of a combination, ships with the package."""
    return set(split_instrument(source)) <= set(list_instruments())


def record_instrument(source: str | os.PathLike[str] | Instrument) -> str | dict[str, Any]:
    """What a model's card keeps of an experiment: its name where it ships, else all of it.

    Parameters
    ----------
    source : str, path or Instrument
        An Instrument is taken whole.

    Returns
    -------
    str or dict
        A dict holds numbers and text only, and :func:`read_instrument` makes the same instrument of it.

    Examples
    --------
    >>> record_instrument("planck-hfi")
    'planck-hfi'
    >>> record_instrument(read_instrument("planck-hfi"))["bands"][0]["fwhm_arcmin"]
    9.68
    """
    if not isinstance(source, Instrument):
        if ships(source):
            return os.fspath(source)
        source = read_instrument(source)
    return {"name": source.name, "bands": record_bands(source)}


def _read_one(source: str) -> Instrument:
    if source in list_instruments():
        return build_instrument(tomllib.loads(read_shipped(source)), f"'{source}.toml'", Path())
    path = Path(source)
    if not path.is_file():
        if path.suffix in (".toml", ".json"):
            raise FileNotFoundError(f"instrument file '{source}' does not exist")
        near = get_close_matches(source, list_instruments(), 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"experiment '{source}' is unknown, expected one of {', '.join(list_instruments())}, or a TOML file{hint}"
        )
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no valid {path.suffix.lstrip('.').upper() or 'TOML'}: {error}") from None
    if path.suffix == ".json":  # a model's card: what it was trained on
        values = values.get("instrument", values)
    if isinstance(values, str):
        return read_instrument(values)
    return build_instrument({"name": path.stem, **values}, f"'{path}'", path.parent)


def read_beams(path: str | os.PathLike[str]) -> dict[str, float]:
    """Read the beams of a Planck HFI instrument model (RIMO).

    Parameters
    ----------
    path : path
        E.g. ``HFI_RIMO_R3.00.fits``, with the extension MAP_PARAMS.

    Returns
    -------
    dict
        Band name ('100' to '857') to FWHM in arcmin of the Gaussian fit, column FWHMGAUS.

    Raises
    ------
    ValueError
        If the file has no such extension or column.
    """
    with fits.open(path) as hdus:
        if "MAP_PARAMS" not in hdus or "FWHMGAUS" not in hdus["MAP_PARAMS"].columns.names:
            raise ValueError(
                f"'{path}' has no column FWHMGAUS in MAP_PARAMS, expected an HFI instrument model (RIMO)"
            )
        table = hdus["MAP_PARAMS"].data
        return {str(np.ravel(row["FREQUENCY"])[0]).strip(): float(row["FWHMGAUS"]) for row in table}


def read_bandpasses(path: str | os.PathLike[str]) -> dict[str, Bandpass]:
    """Read the band-averaged transmissions of a Planck HFI instrument model (RIMO).

    Parameters
    ----------
    path : path
        E.g. ``HFI_RIMO_R3.00.fits``, with extensions BANDPASS_F100 to BANDPASS_F857.

    Returns
    -------
    dict
        Band name ('100' to '857') to Bandpass.

    Raises
    ------
    ValueError
        If the file holds no such extension.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.table import Table
    >>> wave = Table({"WAVENUMBER": [0.0, 4.0, 5.0, 6.0], "TRANSMISSION": [0.0, 0.5, 1.0, 0.5]})  # 1/cm
    >>> hdu = fits.table_to_hdu(wave)
    >>> hdu.name = "BANDPASS_F143"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "rimo.fits"
    ...     fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    ...     read_bandpasses(path)["143"].freq_ghz.round(1).tolist()
    [119.9, 149.9, 179.9]
    """
    passes = {}
    with fits.open(path) as hdus:
        for hdu in hdus[1:]:
            if not hdu.name.startswith("BANDPASS_F"):
                continue
            freq_ghz = np.asarray(hdu.data["WAVENUMBER"], np.float64) * 29.9792458  # 1/cm
            transmission = np.asarray(hdu.data["TRANSMISSION"], np.float64)
            inside = (freq_ghz > 1.0) & np.isfinite(transmission)
            passes[hdu.name.removeprefix("BANDPASS_F")] = Bandpass(freq_ghz[inside], transmission[inside])
    if not passes:
        raise ValueError(f"'{path}' has no extension BANDPASS_F..., expected an HFI instrument model (RIMO)")
    return passes
