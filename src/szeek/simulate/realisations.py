"""Several simulated skies, which differ in their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from szeek.parallel import Progress, spread
from szeek.simulate.sky import SimulateConfig, SimulatedSky, simulate_sky

if TYPE_CHECKING:
    from distributed import Client


def simulate_skies(
    skies: Sequence[tuple[SimulateConfig, Path]],
    *,
    client: Client | None = None,
    progress: Progress | None = None,
) -> list[SimulatedSky]:
    """Simulate skies, each into a folder of its own.

    Parameters
    ----------
    skies : sequence of (SimulateConfig, Path)
        As :func:`~szeek.simulate.sky.simulate_sky` takes them.
    client : distributed.Client, optional
        One sky is one task of this Dask cluster, whose workers must see the folders; on one core each.
    progress : Progress, optional
        Called as progress('sky', done, total, 'skies').

    Returns
    -------
    list of SimulatedSky
        In the order of the skies.
    """
    alone = {} if client is None else {"threads": 1}
    pieces = [(config.model_copy(update=alone), folder.resolve()) for config, folder in skies]
    done = dict(spread(_simulate, pieces, client=client, progress=progress, stage="sky", detail="skies"))
    return [done[number] for number in range(len(pieces))]


def _simulate(sky: tuple[SimulateConfig, Path]) -> SimulatedSky:
    return simulate_sky(*sky)
