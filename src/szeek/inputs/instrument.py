"""Experiments: those that ship with the package, and Planck's instrument model files."""

from __future__ import annotations

import os
import tomllib
from importlib import resources

import numpy as np
from astropy.io import fits

from szeek.physics.instrument import Instrument
from szeek.physics.tsz import Bandpass
from szeek.sky.skymaps import Band


def list_instruments() -> list[str]:
    """Names of the experiments that ship with the package."""
    folder = resources.files("szeek.inputs") / "instruments"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def read_instrument(name: str = "planck-hfi") -> Instrument:
    """Read an experiment that ships with the package.

    Raises
    ------
    ValueError
        If no experiment of that name ships with the package.

    Examples
    --------
    >>> read_instrument("planck-hfi").band_names
    ('100', '143', '217', '353', '545', '857')
    """
    if name not in list_instruments():
        raise ValueError(f"experiment '{name}' is unknown, expected one of {', '.join(list_instruments())}")
    text = (resources.files("szeek.inputs") / "instruments" / f"{name}.toml").read_text()
    rows = tomllib.loads(text)["bands"]
    bands = tuple(Band(r["name"], r["freq_ghz"], r["fwhm_arcmin"], r["unit"]) for r in rows)
    column = {k: np.array([r[k] for r in rows]) for k in ("mjysr_per_kcmb", "tsz_kcmb", "noise_uk_deg")}
    return Instrument(name, bands, **column)


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
