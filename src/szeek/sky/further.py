"""What other light shows of a sky, for the network to see beside the bands."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from szeek.files import whole_file, write_json
from szeek.sky.partial import PartialMap

Kind = Literal["photons", "density"]

#: Columns of each kind: S/N of photons in two windows, a density over its own scatter.
N_COLUMN: dict[Kind, int] = {"photons": 2, "density": 1}
_CARD = "further.json"


@dataclass(frozen=True)
class FurtherMap:
    """One map beside the bands, as the network is given it.

    Parameters
    ----------
    name : str
        As the configuration calls it (``[input.further.NAME]``).
    kind : {'photons', 'density'}
    values : PartialMap
        (n, :data:`N_COLUMN`) float32, in units of their own scatter; NaN, or no pixel, where nothing was observed.

    Examples
    --------
    >>> one = FurtherMap("xray", "photons", PartialMap.empty(64, [(0, 10)], 2))
    >>> one.name, one.values.nside
    ('xray', 64)
    """

    name: str
    kind: Kind
    values: PartialMap

    def __post_init__(self) -> None:
        found = self.values.values.shape[1:]
        if found != (N_COLUMN[self.kind],):
            raise ValueError(f"map '{self.name}' has columns {found}, expected {N_COLUMN[self.kind]} of {self.kind}")


def save_further(further: Sequence[FurtherMap], folder: str | os.PathLike[str]) -> None:
    """Write them into a folder that holds saved maps, in place of those there; the card comes last."""
    target = Path(folder)
    (target / _CARD).unlink(missing_ok=True)
    for one in further:
        for name, array in ((f"{one.name}.npy", one.values.values), (f"{one.name}-runs.npy", one.values.runs)):
            with whole_file(target / f"further-{name}") as staging:
                np.save(staging, array)
    if further:
        record = [{"name": one.name, "kind": one.kind, "nside": one.values.nside} for one in further]
        write_json({"further": record}, target / _CARD)


def open_further(folder: str | os.PathLike[str]) -> tuple[FurtherMap, ...]:
    """Memory-map what :func:`save_further` wrote; none where nothing was."""
    source = Path(folder)
    if not (source / _CARD).is_file():
        return ()
    out = []
    for record in json.loads((source / _CARD).read_text())["further"]:
        runs = np.load(source / f"further-{record['name']}-runs.npy")
        values = np.load(source / f"further-{record['name']}.npy", mmap_mode="r")
        out.append(FurtherMap(record["name"], record["kind"], PartialMap(record["nside"], runs, values)))
    return tuple(out)
