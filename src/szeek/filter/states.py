"""What the filter has learnt of each field, kept so that sources can be measured without learning it again.

What is expensive in a field is finding its compact sources and the power of its noise, twice; cutting it out of the
maps and transforming it is cheap. So the first two are kept, in one file for the whole sky, and a
:class:`~szeek.filter.matchedfilter.FilteredField` continues from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from szeek.files import whole_file

Floats = NDArray[np.float64]

#: Of the file; another one is not read.
FORMAT = 1
NO_SOURCES = np.zeros((0, 0))
#: What is of the same shape in every field.
_STACKED = ("unit", "inverse", "first_weights", "first_information")


@dataclass(frozen=True)
class FieldState:
    """What the filter has learnt of one field.

    Parameters
    ----------
    unit : (n_band,) float64
        Rms of each band, in its map unit: the maps' fingerprint. NaN of a band that is not used in this field.
    holes : (n_hole, 4) float64
        What was filled in: kind (compact sources of round 0 or 1, or a cluster, 2), row, column, and how far the hole
        reaches, in pixels. Kind 3 is not filled in: it is near a bright source that was subtracted.
    inverse : (n_used, n_pair) float64
        Inverse cross-power of the bands in those units without the clusters, at the multipoles that are used: its
        lower triangles, row by row.
    first_weights : (n_used, n_band) float64
        Weights of the bands for the tSZ spectrum before that, by the power with the clusters in it, which found them.
    first_information : (n_used,) float64
        Inverse variance that these weights give.
    sources : (n_source, 2 + n_band) float64, optional
        Compact sources that were subtracted: row, column, flux in map unit x sr of each band.
    beside : tuple of FieldState
        The same field with other bands, where groups of bands end in it (:mod:`szeek.filter.parts`).
    """

    unit: Floats
    holes: Floats
    inverse: Floats
    first_weights: Floats
    first_information: Floats
    sources: Floats = field(default_factory=lambda: NO_SOURCES)
    beside: tuple[FieldState, ...] = ()

    @classmethod
    def pack(
        cls,
        unit: Floats,
        holes: Floats,
        inverse: Floats,
        first_weights: Floats,
        first_information: Floats,
        sources: Floats,
    ) -> FieldState:
        """The state of a field whose inverse cross-power is (n_used, n_band, n_band)."""
        row, column = np.tril_indices(len(unit))
        lower = 0.5 * (inverse[:, row, column] + inverse[:, column, row])
        return cls(unit, holes, lower, first_weights, first_information, sources)

    def fits(self, unit: Floats, n_used: int) -> bool:
        """Whether it can be of a field with this rms in the bands and so many multipoles."""
        return (
            len(self.inverse) == n_used
            and self.unit.shape == unit.shape
            and np.allclose(self.unit, unit, rtol=1e-5, atol=0.0, equal_nan=True)
        )

    def full_inverse(self, columns: NDArray[np.int64] | None = None) -> Floats:
        """The inverse cross-power, (n_used, n_band, n_band), of all bands or of some."""
        row, column = np.tril_indices(len(self.unit))
        full = np.empty((len(self.inverse), len(self.unit), len(self.unit)))
        full[:, row, column] = full[:, column, row] = self.inverse
        return full if columns is None else full[np.ix_(np.arange(len(full)), columns, columns)]


def write_states(states: Mapping[int, FieldState], path: str | os.PathLike[str]) -> None:
    """Write the states of fields, by the HEALPix pixel that a field owns, as one safetensors file."""
    parts = [(pixel, part) for pixel, state in states.items() for part in (state, *state.beside)]
    of = [part for _, part in parts]
    tensors = {
        "pixel": np.array([pixel for pixel, _ in parts], np.int64),
        **{name: np.array([getattr(state, name) for state in of]) for name in _STACKED},
        "holes": np.concatenate([np.zeros((0, 4)), *(state.holes for state in of)]),
        "n_hole": np.array([len(state.holes) for state in of], np.int64),
    }
    if any(len(state.sources) for state in of):
        tensors["sources"] = np.concatenate([state.sources for state in of if len(state.sources)])
        tensors["n_source"] = np.array([len(state.sources) for state in of], np.int64)
    with whole_file(Path(path)) as staging:
        try:
            save_file(tensors, staging, {"szeek_states": json.dumps(FORMAT)})
            staging.chmod(0o644)  # safetensors leaves it to its owner alone
        except SafetensorError as error:
            raise OSError(f"'{path}' cannot be written: {error}") from error


def read_states(path: str | os.PathLike[str]) -> dict[int, FieldState]:
    """Read what :func:`write_states` wrote.

    Raises
    ------
    ValueError
        If it is another file, or of another version.

    Examples
    --------
    >>> state = FieldState(np.ones(2), np.zeros((0, 4)), np.ones((5, 3)), np.ones((5, 2)), np.ones(5))
    >>> write_states({7: state}, "states.safetensors")
    >>> read_states("states.safetensors")[7].full_inverse().shape
    (5, 2, 2)
    >>> Path("states.safetensors").unlink()
    """
    try:
        with safe_open(Path(path), "np") as file:
            found = (file.metadata() or {}).get("szeek_states")
            if found != json.dumps(FORMAT):
                raise ValueError(
                    f"'{path}' holds field states of format {found}, expected {FORMAT}; run the filter stage again"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a file of field states ({error}); run the filter stage again") from None
    rows = {"holes": tensors["n_hole"]} | ({"sources": tensors["n_source"]} if "sources" in tensors else {})
    parts = {name: np.split(tensors[name], np.cumsum(n)[:-1]) if len(n) else [] for name, n in rows.items()}
    states: dict[int, FieldState] = {}
    for k, pixel in enumerate(tensors["pixel"].tolist()):
        unit, inverse, weights, information = (tensors[name][k] for name in _STACKED)
        sources = parts["sources"][k] if "sources" in parts else NO_SOURCES
        state = FieldState(unit, parts["holes"][k], inverse, weights, information, sources)
        first = states.get(pixel)
        states[pixel] = state if first is None else replace(first, beside=(*first.beside, state))
    return states
