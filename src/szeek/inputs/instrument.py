"""An experiment's bands: beam, unit, unit conversion, tSZ response, noise."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from szeek.sky.skymaps import Band


@dataclass(frozen=True)
class Instrument:
    """What SZeek needs to know about an experiment; arrays run over its bands.

    Parameters
    ----------
    name : str
        File name of the experiment, e.g. ``'planck-hfi'``.
    bands : tuple of Band
        Name, frequency, beam and map unit of each band.
    mjysr_per_kcmb : (n_band,) float64
        Conversion from K_CMB to MJy/sr (IRAS convention).
    tsz_kcmb : (n_band,) float64
        Non-relativistic tSZ response: K_CMB per unit Compton y, band-averaged.
    noise_uk_deg : (n_band,) float64
        White noise: uK_CMB deg where the map unit is K_CMB, kJy/sr deg where it is MJy/sr.
    """

    name: str
    bands: tuple[Band, ...]
    mjysr_per_kcmb: NDArray[np.float64]
    tsz_kcmb: NDArray[np.float64]
    noise_uk_deg: NDArray[np.float64]

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order of frequency."""
        return tuple(band.name for band in self.bands)

    @property
    def unit_per_kcmb(self) -> NDArray[np.float64]:
        """Map unit per K_CMB in each band: 1 for K_CMB maps, ``mjysr_per_kcmb`` for MJy/sr maps."""
        return np.array(
            [1.0 if b.unit == "K_CMB" else f for b, f in zip(self.bands, self.mjysr_per_kcmb, strict=True)]
        )

    @property
    def tsz_response(self) -> NDArray[np.float64]:
        """tSZ signal per unit Compton y, in each band's map unit."""
        return self.tsz_kcmb * self.unit_per_kcmb

    def select(self, columns: Sequence[int]) -> Instrument:
        """Some of the bands, in the order given."""
        of_band = {k: getattr(self, k)[list(columns)] for k in ("mjysr_per_kcmb", "tsz_kcmb", "noise_uk_deg")}
        return Instrument(self.name, tuple(self.bands[k] for k in columns), **of_band)


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
