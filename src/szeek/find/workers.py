"""A prediction by the workers of a Dask cluster: one field, one task.

Each worker memory-maps the maps and reads the network from a folder that all machines see, so that it holds the pages
of the fields it works on and nothing else. The map is that of a single machine bit for bit, where the processors
are of one kind.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from szeek.find.predict import check_seen, empty_map, plan_fields, predict_field, put_on_device
from szeek.find.shards import with_snr_maps
from szeek.learn.device import DeviceSky, pick_device
from szeek.learn.model import Model, load_model
from szeek.learn.patches import LocalMaps
from szeek.parallel import Progress, spread, submit
from szeek.sky.fields import Field, owns_seen_pixels, place_field
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client


def predict_on_cluster(
    client: Client,
    maps: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    margin: int = 16,
    rotations: int = 1,
    where: NDArray[np.bool_] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """:func:`~szeek.find.predict.predict` by the workers of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Of any cluster: LocalCluster, dask-jobqueue's SLURMCluster. A worker with several threads computes as many
        fields at once.
    maps : path
        Folder of a saved SkyMaps that every worker sees under this name.
    model : path
        Folder with model.json that every worker sees, or a shipped model's name.
    margin, rotations, where, progress
        As of :func:`~szeek.find.predict.predict`; so are the errors, and those of
        :func:`~szeek.find.shards.with_snr_maps`.
    device : str
        Of each worker, by the name that it has there; maps and network are copied to it once.

    Returns
    -------
    (n_pix,) float32
        RING; NaN outside the footprint and ``where``.

    Examples
    --------
    ::

        with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
            p_map = predict_on_cluster(client, "my-run/maps", "my-run")
    """
    network = load_model(model)
    sky = with_snr_maps(SkyMaps.open(maps), network)
    wanted = sky.footprint if where is None else sky.footprint & where
    fields = plan_fields(sky, network, margin=margin, rotations=rotations)
    fields = [field for field in fields if owns_seen_pixels(field, sky.nside, wanted)]
    fields.sort(key=lambda field: -field.ny * field.nx)
    folders = _full_path(maps), _full_path(model)
    # a task and not data sent along: what a task made can be made again where its worker is lost
    background = submit(client, _background, folders, network.normaliser.background_nside)
    p_map = empty_map(len(sky.footprint))
    shared = folders, background, rotations, device
    work = spread(_predict_one, fields, *shared, client=client, progress=progress, stage="predict", detail="fields")
    for number, values in work:
        place_field(fields[number], values, p_map)
    check_seen(p_map, wanted)
    if where is not None:
        p_map[~where] = np.nan
    return p_map


def _full_path(source: str | os.PathLike[str]) -> str:
    """A folder by its full name, for workers that stand elsewhere; a shipped model's name as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else str(source)


# --- in the worker ---------------------------------------------------------------------------------------

#: Maps and model by folders, what is written there, and device; filled by one thread at a time.
_opened: dict[tuple[object, ...], tuple[LocalMaps | DeviceSky, Model]] = {}
_filling = Lock()


def _open_once(
    folders: tuple[str, str], background: NDArray[np.float32] | None, device: str
) -> tuple[LocalMaps | DeviceSky, Model]:
    """Maps and model, opened once by a process, and again when they were written again; the last alone is kept."""
    cards = Path(folders[0]) / "bands.json", Path(folders[0]) / "filter.json", Path(folders[1]) / "model.json"
    key = folders, tuple(card.stat().st_mtime_ns for card in cards if card.is_file()), device
    with _filling:
        if key not in _opened:
            _opened.clear()
            model = load_model(folders[1])
            sky = LocalMaps(with_snr_maps(SkyMaps.open(folders[0]), model), background)
            _opened[key] = put_on_device(sky, model, pick_device(device))
        return _opened[key]


def _background(folders: tuple[str, str], nside: int) -> NDArray[np.float32] | None:
    return LocalMaps.prepare(SkyMaps.open(folders[0]), nside).background


def _predict_one(
    field: Field, folders: tuple[str, str], background: NDArray[np.float32] | None, rotations: int, device: str
) -> NDArray[np.float32]:
    torch.set_num_threads(1)  # one core a task, see szeek.parallel
    return predict_field(*_open_once(folders, background, device), field, rotations)
