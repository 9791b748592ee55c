"""What is cut out of maps before they are stacked: masks that are given, and catalogued point sources.

A catalogue that is not there cuts nothing. That is said, with the command that brings it, and never passed over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.arguments import plain_mask, plain_table
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.download import list_datasets, locate
from szeek.inputs.masks import find_masks, mask_sources, read_mask
from szeek.sky.skymaps import SkyMaps

#: Radius that is cut out around a catalogued point source: about a beam at 353 GHz, and 1.5 PSF of ROSAT.
CUT_ARCMIN = {"bands": 5.0, "y": 5.0, "xray": 3.0}
#: Catalogues of the sources cut out of each map on the real sky. Bonjean (2020), Sect. 4.
CUT_FROM = {"bands": ("pccs2",), "y": ("pccs2",), "xray": ("2rxs", "csc", "3xmm")}


@dataclass
class Cuts:
    """Masks of maps, what they were made from and what they lack.

    Parameters
    ----------
    masks : dict of str to (12 nside^2,) bool
        True where pixels of that map count. Maps that all count are missing.
    used : dict of str to list of str
        What was cut out of each map, in words.
    lacking : dict of str to dict of str to str
        Map -> data set that should have been cut out and is not there -> the command that brings it.
    """

    masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    used: dict[str, list[str]] = field(default_factory=dict)
    lacking: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, name: str, keep: NDArray[np.bool_], words: str) -> None:
        """Put one more mask on a map."""
        self.masks[name] = self.masks[name] & keep if name in self.masks else keep
        self.used.setdefault(name, []).append(words)

    def warning(self) -> str:
        """What was not cut out of which map, and how to get it; '' where nothing lacks."""
        said = [
            f"{dataset} sources are not cut out of {name}: {command}"
            for name, datasets in self.lacking.items()
            for dataset, command in datasets.items()
        ]
        return "; ".join(said)

    def record(self) -> dict[str, Any]:
        """For stacks.json."""
        return {"cut_out": self.used, "not_cut_out": self.lacking}


def cut_maps(
    groups: Mapping[str, SkyMaps],
    given: Mapping[str, str | os.PathLike[str] | NDArray[np.bool_]],
    *,
    real_sky: bool = False,
    sources: Sequence[tuple[str | os.PathLike[str] | Table, float]] = (),
) -> Cuts:
    """Masks of maps that are to be stacked.

    Source: Bonjean (2020), Sect. 4: PCCS sources cut out of the Planck maps, 2RXS, Chandra and 3XMM sources out of
    ROSAT.

    Parameters
    ----------
    groups : mapping of name to SkyMaps
    given : mapping of name to path or (12 nside^2,) bool
        HEALPix masks (True, 1: pixel counts) of some of the maps.
    real_sky : bool
        Cut out the catalogued point sources of :data:`CUT_FROM`, as far as they are in the data folder.
    sources : sequence of (path or Table, float)
        Catalogues to cut out of every map, each with its radius in arcmin.

    Returns
    -------
    Cuts

    Raises
    ------
    ValueError
        If a mask is of a map that is not there.

    Examples
    --------
    >>> from szeek.sky.skymaps import Band
    >>> flat = SkyMaps(np.ones((12 * 64**2, 1), np.float32), np.ones(12 * 64**2, bool), (Band("y", 0.0, 10.0, "y"),))
    >>> cuts = cut_maps({"y": flat}, {}, sources=[(Table({"lon_deg": [57.8], "lat_deg": [88.0]}), 90.0)])
    >>> cuts.used, int(np.count_nonzero(~cuts.masks["y"]))
    ({'y': ['1 source, 90 arcmin']}, 16)
    """
    if unknown := sorted(set(given) - set(groups)):
        raise ValueError(f"masks of {', '.join(unknown)}, expected some of {', '.join(groups)}")
    cuts = Cuts()
    for name, mask in given.items():
        if isinstance(mask, np.ndarray):
            cuts.add(name, plain_mask(mask, f"mask of {name}"), "a mask")
        else:
            ((file, column),) = find_masks([os.fspath(mask)])  # refuses several columns of which none is named
            keep = read_mask(file, columns=(column,), nside=groups[name].nside)
            cuts.add(name, keep, f"mask {Path(mask).name}")
    for source, radius_arcmin in sources:
        table = plain_table(source, "a catalogue to cut out") if isinstance(source, Table) else read_catalogue(source)
        what = "" if isinstance(source, Table) else f"{Path(source).name}: "
        _cut_sources(cuts, groups, list(groups), table, radius_arcmin, what)
    for name in CUT_FROM if real_sky else ():
        for dataset in CUT_FROM[name] if name in groups else ():
            try:
                files = locate(dataset)
            except FileNotFoundError:
                cuts.lacking.setdefault(name, {})[dataset] = way_to_get(dataset)
                continue
            for file in files.values():
                found = read_catalogue(file, survey=dataset.upper())
                _cut_sources(cuts, groups, [name], found, CUT_ARCMIN[name], f"{dataset}: ")
    return cuts


def way_to_get(dataset: str) -> str:
    """The command that brings a data set: `szeek data fetch`, or `szeek data add` where there is no public file.

    Examples
    --------
    >>> way_to_get("psz2")
    '`szeek data fetch psz2`'
    """
    known = {entry.name: entry for entry in list_datasets()}
    if dataset in known and not known[dataset].files:
        return f"`szeek data add {dataset} PATH` ({known[dataset].note})"
    return f"`szeek data fetch {dataset}`"


def _cut_sources(
    cuts: Cuts, groups: Mapping[str, SkyMaps], names: list[str], table: Table, radius_arcmin: float, what: str
) -> None:
    """Discs about the sources, made once for each nside."""
    keep = {nside: mask_sources(table, nside, radius_arcmin) for nside in {groups[name].nside for name in names}}
    words = f"{what}{len(table)} source{'s' * (len(table) != 1)}, {radius_arcmin:g} arcmin"
    for name in names:
        cuts.add(name, keep[groups[name].nside], words)
