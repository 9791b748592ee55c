"""Several simulated skies or fields, which differ in their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from szeek.parallel import Progress, spread
from szeek.simulate.field.simulate import FieldOptions, SimulatedField, simulate_field
from szeek.simulate.sky import SimulateConfig, SimulatedSky, simulate_sky

if TYPE_CHECKING:
    from distributed import Client


def simulate_skies(
    skies: Sequence[tuple[SimulateConfig | FieldOptions, Path]],
    *,
    client: Client | None = None,
    progress: Progress | None = None,
) -> list[SimulatedSky | SimulatedField]:
    """Simulate skies or fields, each into a folder of its own.

    Parameters
    ----------
    skies : sequence of (SimulateConfig or FieldOptions, Path)
        As :func:`~szeek.simulate.sky.simulate_sky` and
        :func:`~szeek.simulate.field.simulate.simulate_field` take them.
    client : distributed.Client, optional
        One sky is one task of this Dask cluster, whose workers must see the folders; on one core each.
    progress : Progress, optional
        Called as progress('sky', done, total, 'skies').

    Returns
    -------
    list of SimulatedSky or SimulatedField
        In the order of the skies.

    Examples
    --------
    >>> skies = [(SimulateConfig(nside=512, seed=seed), Path(f"sky-{seed}")) for seed in (1, 2)]
    >>> simulate_skies(skies)  # doctest: +SKIP
    >>> simulate_skies(skies[:0])  # none
    []
    """
    alone = {} if client is None else {"threads": 1}
    pieces = [(config.model_copy(update=alone), folder.resolve()) for config, folder in skies]
    done = dict(spread(_simulate, pieces, client=client, progress=progress, stage="sky", detail="skies"))
    return [done[number] for number in range(len(pieces))]


def _simulate(sky: tuple[SimulateConfig | FieldOptions, Path]) -> SimulatedSky | SimulatedField:
    return simulate(*sky)


def simulate(
    options: SimulateConfig | FieldOptions, out: Path, *, progress: Progress | None = None
) -> SimulatedSky | SimulatedField:
    """Simulate a full sky or a field into a folder."""
    if isinstance(options, FieldOptions):
        return simulate_field(options, out, progress=progress)
    return simulate_sky(options, out, progress=progress)
