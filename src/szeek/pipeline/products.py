"""What lies in a run folder, read for showing: each product where it is there, None where it is not."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from szeek.measure.candidates import list_sources, read_candidates
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import TEST_TILE


class RunFolder:
    """The products of one run.

    Parameters
    ----------
    folder : path
        Holds some of config.toml, run.json, model.json, prediction.fits, candidates.fits, recovery.ecsv,
        assessment.json, clusters.fits, y_map.fits, maps/ and fields/.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        if not self.path.is_dir():
            raise NotADirectoryError(
                f"'{self.path}' is no folder; expected the folder of a run, as `szeek run` makes it"
            )

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON product, or None."""
        file = self.path / name
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"'{file}' is no JSON ({error}); run the stage that writes it again") from error
        if not isinstance(content, dict):
            raise ValueError(f"'{file}' holds a {type(content).__name__}, expected an object with named entries")
        return content

    def table(self, name: str) -> Table | None:
        """A table product (FITS, ECSV, VOTable or CSV), or None; text columns as str, missing text as ''."""
        file = self.path / name
        if not file.is_file():
            return None
        table = Table.read(file)
        for column in table.colnames:
            values = table[column]
            if values.dtype.kind in "SU":
                table[column] = np.char.strip(
                    np.asarray(values.filled("") if hasattr(values, "filled") else values, str)
                )
            elif values.dtype.kind == "f":
                table[column] = np.asarray(np.ma.filled(np.ma.asarray(values), np.nan), values.dtype)
        return table

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's configuration: run.json's, and what only its network's card says."""
        return {**((self.json("model.json") or {}).get("config") or {}),
                **((self.json("run.json") or {}).get("config") or {})}  # fmt: skip

    @property
    def title(self) -> str:
        """The run's own title, or its folder's name."""
        return str((self.json("run.json") or {}).get("title") or self.path.resolve().name)

    @property
    def p_max(self) -> float:
        """Threshold of the run's detection, or of the field that was predicted; 0.1 where neither is said."""
        said = [(field.json("field.json") or {}).get("p_max") for field in self.fields]
        return float((self.config.get("detect") or {}).get("p_max") or next(filter(None, said), 0.1))

    @property
    def is_simulated(self) -> bool | None:
        """Whether the sky was simulated; None where the run does not say."""
        flag = (self.config.get("sky") or {}).get("simulate")
        return None if flag is None else bool(flag)

    @property
    def held_out(self) -> dict[str, tuple[int, ...]]:
        """Sky tiles kept out of the training as 'test' and 'validation'; empty where the run does not say.

        With folds no network is kept from these; what each was kept from is in the catalogue's FOLD.
        """
        if self.folds:
            return {}
        split = self.config.get("split") or {}
        names = {"test": "test_tiles", "validation": "validation_tiles"}
        return {use: tuple(int(tile) for tile in split[name]) for use, name in names.items() if name in split}

    @property
    def folds(self) -> int:
        """Number of networks that share the sky, each kept from the tiles that it predicts; 0 for one network."""
        return int((self.config.get("split") or {}).get("folds", 0))

    @property
    def test_tile(self) -> int:
        """The first sky tile held out for testing; the paper's where the run does not say."""
        return next(iter((self.config.get("split") or {}).get("test_tiles") or ()), TEST_TILE)

    @property
    def radius_arcmin(self) -> float:
        """Radius of the assessment's matches, 5 arcmin where the run does not say."""
        return float((self.config.get("assess") or {}).get("radius_arcmin", 5.0))

    @cached_property
    def candidates(self) -> Table | None:
        """The candidates, highest p first; columns named as in a source table (``lon_deg``, ``p`` ...)."""
        if not (self.path / "candidates.fits").is_file():
            return None
        table = list_sources(read_candidates(self.path))
        return table[np.argsort(-np.asarray(table["p"], float), kind="stable")]

    @cached_property
    def clusters(self) -> Table | None:
        """The known clusters that the run was compared with, in the common catalogue columns."""
        return self.table("clusters.fits")

    @cached_property
    def p_nested(self) -> NDArray[np.float32] | None:
        """prediction.fits as it is: (12 nside^2,) float32 NESTED, NaN outside the footprint."""
        return self.healpix("prediction.fits", nested=True)

    @cached_property
    def p_ring(self) -> NDArray[np.float32] | None:
        """prediction.fits in RING order."""
        return None if self.p_nested is None else np.asarray(healpy.reorder(self.p_nested, n2r=True))

    @cached_property
    def y_nested(self) -> NDArray[np.float32] | None:
        """y_map.fits, the run's own or its simulated sky's: (12 nside^2,) float32 NESTED."""
        own = self.healpix("y_map.fits", nested=True)
        return self.healpix("simulated/y_map.fits", nested=True) if own is None else own

    @cached_property
    def y_ring(self) -> NDArray[np.float32] | None:
        """The y map in RING order."""
        return None if self.y_nested is None else np.asarray(healpy.reorder(self.y_nested, n2r=True))

    @cached_property
    def y_fwhm_arcmin(self) -> float:
        """Beam of the y map as its header has it (FWHM), 0 where it does not say."""
        for name in ("y_map.fits", "simulated/y_map.fits"):
            if (file := self.path / name).is_file():
                return float(fits.getheader(file, 1).get("FWHM", 0.0))
        return 0.0

    @cached_property
    def maps(self) -> SkyMaps | None:
        """The frequency maps, memory-mapped, where the run kept them in maps/."""
        return SkyMaps.open(self.path / "maps") if (self.path / "maps" / "bands.json").is_file() else None

    def healpix(self, name: str, *, nested: bool) -> NDArray[np.float32] | None:
        """A HEALPix FITS product in the wanted ordering, NaN for UNSEEN; None where there is none."""
        file = self.path / name
        if not file.is_file():
            return None
        values = np.asarray(healpy.read_map(file, nest=nested, dtype=np.float32))
        values[(values == np.float32(healpy.UNSEEN)) | ~np.isfinite(values)] = np.nan
        return values

    @property
    def fields(self) -> list[RunFolder]:
        """Small fields kept with the run (fields/NAME/ with field.json), by name."""
        return [RunFolder(file.parent) for file in sorted(self.path.glob("fields/*/field.json"))]
