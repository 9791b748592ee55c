"""Maps + network -> one p map of the whole sky, without hole, seam or double edge."""

from __future__ import annotations

import copy
import math
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import healpy
import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray
from torch import Tensor

from szeek.arguments import plain_mask
from szeek.files import write_blocks
from szeek.filter.ymap import Foregrounds
from szeek.inputs.healpix_files import describe_healpix
from szeek.learn.device import DeviceSky, cuts_by_numba, pick_device
from szeek.learn.foregrounds import UNIT_Y
from szeek.learn.model import Model, load_model
from szeek.learn.patches import LocalMaps
from szeek.learn.unet import Ensemble, UNet
from szeek.parallel import Progress, one_torch_thread, spread, submit
from szeek.sky.fields import (
    Field,
    cover_sphere,
    gather_field,
    gather_on_device,
    meets,
    own_runs,
    owns_seen_pixels,
    place_field,
)
from szeek.sky.mapset import MapSet
from szeek.sky.partial import PartialMap, write_partial_map
from szeek.sky.projection import EVERYWHERE
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client

#: Names of the column that holds p: SZeek's own, and those of others.
P_COLUMNS = ("P_CLUSTER", "P", "PROB", "PROBABILITY", "I_STOKES", "TEMPERATURE", "SIGNAL")
#: Values of the largest map of p that is kept in memory: nside 4096, 0.8 GB.
_LARGEST_IN_MEMORY = 12 * 4096**2
#: Files that list their pixels are read as whole maps up to this nside.
_LARGEST_WHOLE_NSIDE = 2048
#: Fields under way at once on a GPU: one is cut while another is computed, and another is taken back.
_FIELDS_ON_DEVICE = 4


def predict(
    maps: SkyMaps | MapSet,
    model: Model,
    *,
    margin: int = 16,
    rotations: int = 1,
    where: NDArray[np.bool_] | None = None,
    threads: int | None = None,
    client: Client | None = None,
    device: str = "cpu",
    background: NDArray[np.float32] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32] | PartialMap:
    """Probability of a cluster at every pixel of the maps.

    Source: Bonjean (2020), Sect. 3.3. Deviation: overlapping fields as large as memory likes, evaluated by the
    same convolutions, instead of patches of the training's size.

    Parameters
    ----------
    maps : SkyMaps or MapSet
        Of the bands that the model was trained on; any nside, any footprint. Matched-filter S/N maps are made where
        the model wants them and the maps come without. A set may lack whole groups of a model of several.
    model : Model
    margin : int
        Pixels around each field that are computed and not used, at least 16.
    rotations : {1, 2, 4, 8}
        Orientations (and, for 8, flips) of each field that are averaged.
    where : (n_pix,) bool, optional
        Compute only these pixels, RING; the maps are seen beyond them. Default: the whole footprint. For a set of
        maps: cells of its coverage, of which whole fields are computed.
    threads : int, optional
        Fields computed at once, one core each; the machine's cores by default. The result does not depend on it.
    client : distributed.Client, optional
        Compute the fields on the workers of this Dask cluster, for which the maps must be mapped from a folder that
        they see, and hold the S/N maps that the model wants. The map is the same on processors of one kind.
    device : str, optional
        Where, as :func:`~szeek.learn.device.pick_device` has it; of each worker, by the name that it has there.
        Another device than 'cpu' gives p to rounding.
    background : (12 background_nside^2, n_band) float32, optional
        Local background of other maps (:func:`szeek.learn.normalise.local_background`), to be taken off instead of
        that of these: of maps into which clusters were injected, that before.
    progress : Progress, optional
        Called as progress(stage, done, total, detail), in fields.

    Returns
    -------
    (n_pix,) float32, or PartialMap
        RING; NaN outside the footprint and ``where``; as :func:`empty_map` makes it. Of a set of maps only the fields
        that were computed.

    Raises
    ------
    ValueError
        If the bands differ from the model's, the footprint is empty, margin or rotations are out of range, the
        device is not there, or :func:`with_snr_maps` refuses the maps for workers.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.learn.model import load_model
    >>> from szeek.simulate.inject import inject_clusters
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> one = Table({"lon_deg": [120.0], "lat_deg": [50.0], "y500_arcmin2": [5e-3], "theta500_arcmin": [10.0]})
    >>> p_map = predict(inject_clusters(maps, one, planck), load_model("bonjean2020-planckz"), threads=1)
    >>> lon_deg, lat_deg = healpy.pix2ang(512, np.nanargmax(p_map), lonlat=True)
    >>> np.array_equal(np.isfinite(p_map), maps.footprint), bool(np.hypot(lon_deg - 120, lat_deg - 50) < 0.5)
    (True, True)
    """
    task = _Task.plan(maps, model, margin=margin, rotations=rotations, where=where)
    maps = model.prepare(maps, threads) if client is None else with_snr_maps(maps, model)
    work = predict_fields(
        maps, model, task.fields, rotations=rotations, threads=threads, client=client, device=device,
        background=background, progress=progress,
    )  # fmt: skip
    return task.collect(work, maps)


def predict_classes(
    maps: SkyMaps | MapSet,
    model: Model,
    *,
    margin: int = 16,
    rotations: int = 1,
    where: NDArray[np.bool_] | None = None,
    threads: int | None = None,
    client: Client | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> NDArray[np.float32] | PartialMap:
    """Probability of all that the model tells apart, clusters first, then ``model.classes``.

    Parameters and errors as of :func:`predict`.

    Returns
    -------
    (n_pix, 1 + n_class) float32, or PartialMap

    Examples
    --------
    >>> from szeek.learn.model import load_model
    >>> model = load_model("bonjean2020-planckz")  # which knows clusters alone
    >>> maps = SkyMaps(np.zeros((12 * 64**2, 6), np.float32), np.ones(12 * 64**2, bool), model.instrument.bands)
    >>> predict_classes(maps, model).shape
    (49152, 1)
    """
    task = _Task.plan(maps, model, margin=margin, rotations=rotations, where=where)
    maps = model.prepare(maps, threads) if client is None else with_snr_maps(maps, model)
    work = predict_fields(
        maps, model, task.fields, rotations=rotations, threads=threads, client=client, device=device,
        classes=True, progress=progress,
    )  # fmt: skip
    return task.collect(work, maps, 1 + len(model.classes))


def find_foregrounds(
    source: str | os.PathLike[str],
    *,
    rotations: int = 4,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Foregrounds:
    """What a network says of foregrounds and noise in the ILC's y, for :func:`szeek.filter.ymap.make_y_map`.

    Parameters
    ----------
    source : str or path
        Network that has learnt it: a shipped model's name, or a folder.
    rotations, threads, progress
        As of :func:`predict`.

    Raises
    ------
    FileNotFoundError, ValueError
        As of :func:`~szeek.learn.model.load_model`; when it is asked, if the maps are of other bands than its own.

    Examples
    --------
    >>> from szeek.sky.skymaps import Band
    >>> bands = tuple(Band(f"free-{k}", 0.0, 10.0, "1") for k in range(1, 6))
    >>> seen = np.zeros(12 * 64**2, bool)
    >>> seen[healpy.query_disc(64, healpy.ang2vec(120, 50, lonlat=True), np.radians(8))] = True
    >>> noise = np.random.default_rng(1).normal(size=(seen.size, 5)).astype(np.float32) * seen[:, None]
    >>> left = find_foregrounds("szeek-y", threads=1).tell(SkyMaps(noise, seen, bands))
    >>> bool(np.array_equal(np.isfinite(left), seen))
    True
    """
    model = load_model(source, target="foregrounds")

    def tell(free: SkyMaps) -> NDArray[np.float32]:
        found = predict(free, model, rotations=rotations, threads=threads, progress=progress)
        assert not isinstance(found, PartialMap)  # as free is no set
        return found * np.float32(UNIT_Y)

    return Foregrounds(str(source), np.array(model.card["reference_weights"]), tell)


class _Task(NamedTuple):
    """Which fields are computed, and which pixels are wanted of them."""

    fields: list[Field]
    wanted: NDArray[np.bool_]
    where: NDArray[np.bool_] | None

    @classmethod
    def plan(
        cls,
        maps: SkyMaps | MapSet,
        model: Model,
        *,
        margin: int,
        rotations: int,
        where: NDArray[np.bool_] | None,
    ) -> _Task:
        where = None if where is None else plain_mask(where, "where")
        fields = plan_fields(maps, model, margin=margin, rotations=rotations)
        seen = maps.seen if isinstance(maps, MapSet) else maps.footprint
        wanted = seen if where is None else seen & where
        return cls([field for field in fields if _owns_seen(field, maps, wanted)], wanted, where)

    def collect(
        self, work: Iterator[tuple[Field, NDArray[np.float32]]], maps: SkyMaps | MapSet, n_column: int = 0
    ) -> NDArray[np.float32] | PartialMap:
        """The map of what :func:`predict_fields` gives, of one value a pixel or of several."""
        if isinstance(maps, MapSet):
            runs = np.concatenate([own_runs(field, maps.nside) for field in self.fields])
            part = PartialMap.empty(maps.nside, runs, n_column)
            for field, values in work:
                part.place(own_runs(field, maps.nside), values)
            return part
        p_map = empty_map(len(maps.footprint), n_column)
        for field, values in work:
            place_field(field, values, p_map)
        check_seen(p_map, self.wanted)
        if self.where is not None:
            p_map[~self.where] = np.nan
        return p_map


def _owns_seen(field: Field, maps: SkyMaps | MapSet, wanted: NDArray[np.bool_]) -> bool:
    """Whether a field owns a pixel that is wanted; of a set of maps, whether it may."""
    owns = meets if isinstance(maps, MapSet) else owns_seen_pixels
    return owns(field, maps.nside, wanted)


def plan_fields(maps: SkyMaps | MapSet, model: Model, *, margin: int = 16, rotations: int = 1) -> list[Field]:
    """The fields to compute for these maps, from north to south; parameters and errors as of :func:`predict`."""
    model.check_bands(maps)
    if margin < 16:
        raise ValueError(f"margin is {margin} pixels, expected at least 16")
    if rotations not in (1, 2, 4, 8):
        raise ValueError(f"rotations is {rotations}, expected 1, 2, 4 or 8")
    seen = maps.seen if isinstance(maps, MapSet) else maps.footprint
    if not seen.any():
        raise ValueError("the maps' footprint is empty: no pixel is seen in every band")
    fields = cover_sphere(maps.nside, model.pixel_arcmin, margin, model.network.stride)
    return [field for field in fields if _owns_seen(field, maps, seen)]


def put_on_device(sky: LocalMaps, model: Model, device: torch.device) -> tuple[LocalMaps | DeviceSky, Model]:
    """Maps and model as :func:`predict_field` takes them: as they are on a CPU, else copies on the device."""
    model.network.eval()
    if cuts_by_numba(device):
        return sky, model
    network = copy.deepcopy(model.network).to(device)
    if isinstance(sky.maps, MapSet) or sky.further:  # cut on the CPU: these maps are files
        return sky, replace(model, network=network)
    return DeviceSky(sky, model.normaliser, device), replace(model, network=network)


@torch.inference_mode()
def predict_field(
    sky: LocalMaps | DeviceSky, model: Model, field: Field, rotations: int, classes: bool = False
) -> NDArray[np.float32]:
    """Values of the pixels that one field owns, in the order of :func:`~szeek.sky.fields.own_runs`.

    (n_own,) float32, or with ``classes`` (n_own, n_class).
    """
    place, pixel_arcmin = (field.lon_deg, field.lat_deg, 0.0), model.pixel_arcmin
    gathered: list[NDArray[np.float32]]
    if isinstance(sky, LocalMaps):
        cut = sky.sample(*place, field.ny, field.nx, pixel_arcmin)
        x = model.normaliser(cut[None])
        device = next(model.network.parameters()).device
        p = _mean_over_rotations(model.network, x.to(device), rotations, classes).cpu()
        if isinstance(sky.maps, MapSet):
            p[:, torch.from_numpy(~model.normaliser.sees(cut))] = torch.nan
            gathered = [gather_field(field, one.numpy(), pixel_arcmin, EVERYWHERE, sky.maps.nside) for one in p]
        else:
            gathered = [gather_field(field, one.numpy(), pixel_arcmin, sky.maps.footprint) for one in p]
    else:
        x = sky.cut([place], field.ny, field.nx, pixel_arcmin)
        p = _mean_over_rotations(model.network, x, rotations, classes)
        gathered = [gather_on_device(field, one, pixel_arcmin, sky.rings, sky.footprint).cpu().numpy() for one in p]
    return np.stack(gathered, axis=-1) if classes else gathered[0]


def predict_fields(
    maps: SkyMaps | MapSet,
    model: Model,
    fields: Sequence[Field],
    *,
    rotations: int = 1,
    threads: int | None = None,
    client: Client | None = None,
    device: str = "cpu",
    background: NDArray[np.float32] | None = None,
    classes: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[Field, NDArray[np.float32]]]:
    """Each field with its values, as they are done, one core each; parameters as of :func:`predict`.

    Maps must hold the S/N maps that the model wants.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.learn.model import load_model
    >>> bands, seen = read_instrument().bands, np.zeros(12 * 256**2, bool)
    >>> seen[healpy.query_disc(256, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))] = True
    >>> maps = SkyMaps(np.ones((seen.size, 6), np.float32) * seen[:, None], seen, bands)
    >>> model = load_model("bonjean2020-planckz")
    >>> done = list(predict_fields(maps, model, plan_fields(maps, model), threads=1))
    >>> len(done), all(np.nanmin(p) >= 0 and np.nanmax(p) <= 1 for _, p in done)
    (2, True)
    """
    # the largest first, so that none is left alone at the end
    fields = sorted(fields, key=lambda field: -field.ny * field.nx)
    if client is not None:
        # a task and not data sent along: what a task made can be made again where its worker is lost
        there = submit(client, _prepare_in_worker, pickle.dumps((maps, model)), background)
        work = spread(
            _predict_one, fields, there, rotations, device, classes,
            client=client, progress=progress, stage="predict", detail="fields",
        )  # fmt: skip
        yield from ((fields[number], values) for number, values in work)
        return
    at = pick_device(device)
    sky = _local_maps(maps, model, background)
    here = put_on_device(sky, model, at)
    at_once = threads if at.type == "cpu" else threads or _FIELDS_ON_DEVICE
    with one_torch_thread():
        work = spread(
            lambda field: predict_field(*here, field, rotations, classes), fields,
            threads=at_once, progress=progress, stage="predict", detail="fields",
        )  # fmt: skip
        yield from ((fields[number], values) for number, values in work)


def _local_maps(maps: SkyMaps | MapSet, model: Model, background: NDArray[np.float32] | None) -> LocalMaps:
    """The maps as the model's input is cut from them."""
    seen = model.normaliser
    return LocalMaps.prepare(maps, seen.background_nside, background, model.bands, seen.further)


def _prepare_in_worker(
    pickled: bytes, background: NDArray[np.float32] | None
) -> tuple[bytes, NDArray[np.float32] | None]:
    """Maps and model as they came, and the maps' local background where none is given."""
    maps, model = pickle.loads(pickled)
    return pickled, _local_maps(maps, model, background).background


#: What a worker has opened, of the last prediction alone: (pickled maps and model, device, what predict_field takes).
_held: list[tuple[bytes, str, tuple[LocalMaps | DeviceSky, Model]]] = []
_holding = Lock()


def _predict_one(
    field: Field, prepared: tuple[bytes, NDArray[np.float32] | None], rotations: int, device: str, classes: bool
) -> NDArray[np.float32]:
    """A field, in a worker.

    Maps and model are unpickled here and not by Dask: it would take maps that are not there for a broken connection,
    and try again for ever.
    """
    torch.set_num_threads(1)  # one core a task, see szeek.parallel
    pickled, background = prepared
    with _holding:  # one thread opens them
        if not any(held is pickled and at == device for held, at, _ in _held):
            maps, model = pickle.loads(pickled)
            sky = LocalMaps(maps, background, model.bands, model.normaliser.further)
            _held[:] = [(pickled, device, put_on_device(sky, model, pick_device(device)))]
        there = _held[0][2]
    return predict_field(*there, field, rotations, classes)


def with_snr_maps(maps: SkyMaps | MapSet, model: Model) -> SkyMaps | MapSet:
    """The maps with the S/N maps that the model wants, which must be there: no shard makes those of the whole sky.

    Raises
    ------
    ValueError
        If the model wants matched-filter S/N maps and the maps hold none, or those of other sizes.
    """
    wanted = model.normaliser.theta500_arcmin
    if wanted and maps.theta500_arcmin != wanted:
        raise ValueError(
            f"the model wants matched-filter S/N maps for {wanted} arcmin, the maps hold {maps.theta500_arcmin}; "
            "give the folder 'maps' of a run of the same preset (szeek run --until filter makes them once for all)"
        )
    return model.prepare(maps)


def check_seen(p_map: NDArray[np.float32], footprint: NDArray[np.bool_]) -> None:
    """Refuse a map without a value at a pixel that the maps saw."""
    missed = sum(int(np.isnan(p_map[part][footprint[part]]).sum()) for part in _blocks(len(p_map)))
    if missed:
        raise RuntimeError(f"{missed} seen pixels got no value; the maps hold NaN inside their footprint")


def empty_map(n_pix: int, n_column: int = 0) -> NDArray[np.float32]:
    """A map of NaN; a large one in a temporary file without a name, so that memory does not grow with nside."""
    shape = (n_pix, n_column) if n_column else (n_pix,)
    if math.prod(shape) <= _LARGEST_IN_MEMORY:
        return np.full(shape, np.nan, np.float32)
    with tempfile.TemporaryFile() as file:
        file.truncate(4 * math.prod(shape))
        p_map = np.memmap(file, np.float32, "r+", shape=shape)  # keeps the file; it goes when the map does
    p_map[:] = np.nan
    return p_map


def _blocks(n_pix: int, size: int = 1 << 22) -> Iterator[slice]:
    return (slice(first, min(n_pix, first + size)) for first in range(0, n_pix, size))


def _mean_over_rotations(network: UNet | Ensemble, x: Tensor, rotations: int, classes: bool) -> Tensor:
    """Mean p, or value, over orientations of one field, on their device.

    (1, channels, ny, nx) -> (n_class, ny, nx) float32.

    Of clusters alone, or of all classes.
    """
    total: Tensor | None = None
    for k in range(rotations):
        turns = k % 4 if rotations > 2 else 2 * k
        turned = x.rot90(turns, (2, 3))
        turned = (turned.flip(2) if k >= 4 else turned).contiguous(memory_format=torch.channels_last)
        logits = network.classify(turned)[0].permute(2, 0, 1) if classes else network(turned)
        p = logits if network.linear else torch.sigmoid(logits)
        p = (p.flip(1) if k >= 4 else p).rot90(-turns, (1, 2))
        total = p.contiguous() if total is None else total + p
    assert total is not None
    return total / rotations


def write_prediction(
    p_map: NDArray[np.float32] | PartialMap, path: str | os.PathLike[str], **provenance: str
) -> Path:
    """Write a p map as HEALPix FITS: NESTED, Galactic, float32, UNSEEN outside the footprint.

    A partial map is written as the pixels that were seen, RING, with their numbers in the column PIXEL (INDXSCHM
    EXPLICIT, which healpy.read_map reads as well).

    Parameters
    ----------
    p_map : (n_pix,) float32, or PartialMap
        RING, NaN outside the footprint, as :func:`predict` returns it.
    path : path
    **provenance : str
        Header cards, e.g. ``MODEL='szeek-1'``.

    Examples
    --------
    >>> import tempfile
    >>> p_map = np.full(12 * 16**2, 0.01, np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_prediction(p_map, Path(folder) / "prediction.fits", model="szeek-2")
    ...     bool(np.array_equal(read_prediction(file), p_map))
    True
    """
    target = Path(path)
    cards = {"CREATOR": "SZeek", **{key.upper()[:8]: value for key, value in provenance.items()}}
    if isinstance(p_map, PartialMap):
        return write_partial_map(p_map, target, ("P_CLUSTER",), **cards)
    n_pix = len(p_map)
    nside = healpy.npix2nside(n_pix)
    row = math.gcd(n_pix, 1024)
    column = fits.Column("P_CLUSTER", f"{row}E", unit="1", array=np.zeros((1, row), np.float32))
    header = fits.BinTableHDU.from_columns([column]).header
    header["NAXIS2"] = n_pix // row
    header.update({"PIXTYPE": "HEALPIX", "ORDERING": "NESTED", "COORDSYS": "G", "NSIDE": nside, "FIRSTPIX": 0})
    header.update({"LASTPIX": n_pix - 1, "INDXSCHM": "IMPLICIT", "OBJECT": "FULLSKY", "BAD_DATA": healpy.UNSEEN})
    header.update(cards)

    def nested(part: slice) -> NDArray[np.float32]:
        values: NDArray[np.float32] = p_map[healpy.nest2ring(nside, np.arange(part.start, part.stop))]
        values[np.isnan(values)] = healpy.UNSEEN
        return values

    write_blocks(map(nested, _blocks(n_pix)), header, target)
    return target


def read_whole_prediction(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read a p map of the whole sky, or of a part of it that is no finer than nside 2048: (n_pix,) float32, RING.

    Raises
    ------
    ValueError
        If it is a finer map of a part of the sky; and as of :func:`read_prediction`.
    """
    p_map = read_prediction(path)
    if isinstance(p_map, PartialMap):
        raise ValueError(
            f"'{path}' is a map of a part of the sky at nside {p_map.nside}, expected at most "
            f"{_LARGEST_WHOLE_NSIDE}; degrade it"
        )
    return p_map


def read_prediction(path: str | os.PathLike[str], frame: str | None = None) -> NDArray[np.float32] | PartialMap:
    """Read what :func:`write_prediction` wrote, or any HEALPix file of one map.

    Parameters
    ----------
    path : path
    frame : str, optional
        'galactic', 'icrs' or 'ecliptic': overrules the header. A map that is not Galactic is interpolated.

    Returns
    -------
    (n_pix,) float32, or PartialMap
        RING, Galactic, NaN outside the footprint; as :func:`empty_map` makes it. A file that lists its pixels is read
        as a partial map where its nside is above 2048.

    Raises
    ------
    OSError
        If it is not a FITS file, or truncated.
    ValueError
        If it holds no HEALPix map, or does not say its frame or ordering.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_prediction(np.full(12 * 16**2, 0.01, np.float32), Path(folder) / "prediction.fits")
    ...     p_map = read_prediction(file)
    >>> p_map.shape, p_map.dtype.name
    ((3072,), 'float32')
    """
    file = describe_healpix(path, wanted=P_COLUMNS)
    where, ordering = file.require_frame(frame), file.require_ordering()
    if file.pixels is not None and file.nside > _LARGEST_WHOLE_NSIDE and (where, ordering) == ("galactic", "RING"):
        pixels, values = zip(*file.read_blocks(), strict=True)
        return PartialMap.from_pixels(file.nside, np.concatenate(pixels), np.concatenate(values))
    return file.read_ring(frame, out=empty_map(12 * file.nside**2))
