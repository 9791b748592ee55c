"""The training loop, to be read from top to bottom.

Every random draw is a pure function of the seed and a number: patch i of (seed, i), the order of an epoch of
(seed, epoch), the dropout of a step of (seed, step). A checkpoint therefore holds weights, optimiser moments
and counters, and no generator state; a run that was killed goes on with the same bits.

A batch is worked off in shards, each by a copy of the network in a Python thread that keeps to one core, from
cutting its patches to its gradients, which are then averaged. PyTorch's own threads meet at a barrier after every
layer and wait there for whatever else the machine does; whole shards do not, and the bits do not depend on the
number of cores. Under torchrun the shards are dealt out to processes (:mod:`szeek.learn.distributed`).
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from szeek.arguments import plain_table
from szeek.config import Config, TrainConfig, without_defaults
from szeek.filter.snrmaps import add_snr_maps
from szeek.inputs.catalogues import select_clusters
from szeek.inputs.instrument import record_instrument
from szeek.learn.device import Feed, make_rng, pick_device
from szeek.learn.distributed import current_ranks
from szeek.learn.labels import IGNORED, ClusterLabels
from szeek.learn.model import Model, build_unet, load_model, save_tensors
from szeek.learn.normalise import Normaliser, fit_normaliser
from szeek.learn.patches import LocalMaps, Patches, PatchStream
from szeek.learn.unet import Dropout, Ensemble, UNet
from szeek.parallel import Progress, core_pool, one_torch_thread
from szeek.sky.mapset import COVERAGE_NSIDE, MapSet
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

#: Whatever stands for a sky.
Sky = TypeVar("Sky")
#: What a training makes small: of what the network says and what it should say.
Loss = Callable[[Tensor, Tensor], Tensor]

_ORDER, _WEIGHTS, _DROPOUT = 3, 4, 5  # random streams; 1 and 2 are the patches'


def train(
    maps: SkyMaps | MapSet,
    clusters: Table,
    config: Config,
    folder: str | os.PathLike[str],
    *,
    further: Sequence[tuple[SkyMaps | MapSet, Table]] = (),
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    stop_after_steps: int | None = None,
) -> Model:
    """Train a network and write it to ``folder``; goes on from the checkpoint there, if there is one.

    Source: Bonjean (2020), Sect. 3: Adam, binary cross-entropy, the weights of the best validation loss.

    Parameters
    ----------
    maps : SkyMaps
    clusters : Table
        Columns of ``read_catalogue``, of one or several surveys.
    config : Config
        Sections split, input, labels, patches, network and train are used.
    folder : path
        Receives model.safetensors, model.json and, while it trains, checkpoint.safetensors.
    further : sequence of (SkyMaps, Table), optional
        More skies of the same bands and their clusters, whose patches are seen in turn with those of the first:
        patch i comes from sky i mod n. The normalisation is fitted to the first.
    threads : int, optional
        Shards worked on at once by this process, one core each; the machine's cores by default. The bits do not
        depend on it.
    device : str, optional
        Where the network runs and its patches are cut, as :func:`~szeek.learn.device.pick_device` has it.
    progress : Progress, optional
        Called as progress('train', step, n_steps, detail) after every step; the detail holds epoch and loss. On a GPU
        the loss is that of the step before, so that the next step need not wait for it.
    stop_after_steps : int, optional
        Leave off after this many steps in this call, with a checkpoint; for testing resumption.

    Returns
    -------
    Model
        With the best validation loss so far.

    Raises
    ------
    ValueError
        If the selection of clusters is empty, no patch fits footprint and tiles, there are more ranks than shards, or
        the device is not there.

    Examples
    --------
    >>> import tempfile
    >>> from szeek.config import load_config
    >>> from szeek.inputs.instrument import read_instrument
    >>> rng, bands = np.random.default_rng(1), read_instrument("planck-hfi").bands
    >>> noise = SkyMaps(rng.normal(size=(12 * 64**2, 6)).astype(np.float32), np.ones(12 * 64**2, bool), bands)
    >>> where = {"lon_deg": rng.uniform(0, 360, 400), "lat_deg": rng.uniform(-60, 60, 400), "z": np.full(400, 0.2)}
    >>> clusters = Table({"name": [f"C{k}" for k in range(400)], "survey": ["PSZ2"] * 400, **where})
    >>> config = load_config(
    ...     "bonjean2020",
    ...     patches={"n_patches": 20, "size": 32, "pixel_arcmin": 27.5},
    ...     labels={"disc_arcmin": 120.0},
    ...     split={"validation_tiles": [9, 38, 40, 41, 42]},
    ...     network={"filters": (4, 8)},
    ...     train={"batch": 8, "max_epochs": 2},
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = train(noise, clusters, config, folder, threads=1)
    >>> [row["epoch"] for row in model.card["curve"]]
    [0, 1]
    """
    clusters = plain_table(clusters, "clusters")
    further = [(sky, plain_table(table, "clusters of a further sky")) for sky, table in further]
    if config.network.members > 1:
        return _train_members(
            maps, clusters, config, Path(folder), further, threads, device, progress, stop_after_steps
        )
    pick_device(device)  # one that is not there is refused before slow work
    ranks = current_ranks()
    if ranks.world > config.train.shards:
        raise ValueError(
            f"train.shards is {config.train.shards}, but {ranks.world} processes take part; set it to a multiple of "
            f"{ranks.world}, so that each has its share of every batch"
        )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    background_nside = config.input.background_nside if config.input.kind == "local-whitened" else 0
    seen = tuple((name, one.kind) for name, one in config.input.further.items())
    absent = [one.absent for one in config.input.further.values()]
    for sky_maps, _ in ((maps, clusters), *further):
        if (found := tuple((one.name, one.kind) for one in sky_maps.further)) != seen:
            raise ValueError(
                f"the maps have the further maps {_named(found)}, expected those of input.further: {_named(seen)}"
            )

    def prepare(maps: SkyMaps | MapSet, clusters: Table) -> Patches:
        labels = make_labels(clusters, config)  # first: an empty selection is refused before slow work
        classes = [_class_labels(clusters, name, config) for name in config.network.classes]
        maps = add_snr_maps(maps, config.input.theta500_arcmin, instrument=config.sky.instrument, threads=threads)
        sky = LocalMaps.prepare(maps, background_nside, further=seen)
        return Patches(sky, labels, config.patches, config.split, config.seed, classes, absent)

    before = load_model(config.train.start_from) if config.train.start_from else None
    if before is not None:
        _check_start(before, maps, config)
    for other, _ in further:
        if [band.name for band in other.bands] != [band.name for band in maps.bands]:
            raise ValueError(
                f"a further sky has the bands {', '.join(b.name for b in other.bands)}, expected those of the first: "
                f"{', '.join(b.name for b in maps.bands)}"
            )
    patches = PatchStream([prepare(*sky) for sky in ((maps, clusters), *further)])
    sky = patches.skies[0].sky
    maps = sky.maps
    if before is not None:
        normaliser = before.normaliser  # what its weights expect
    else:
        normaliser = fit_normaliser(
            maps,
            config.input.kind,
            use=pixels_in_tiles(COVERAGE_NSIDE if isinstance(maps, MapSet) else maps.nside, config.split.training),
            background_nside=background_nside,
            background=sky.background,
        )
    normaliser = replace(normaliser, further=seen)
    given = config.labels.class_weights
    weights = (1.0, *(given.get(name, 1.0) for name in config.network.classes))
    return fit_network(
        new_model(patches, normaliser, config, before), patches, config, target,
        lambda logits, targets: class_entropy(logits, targets, weights),
        threads=threads, device=device, progress=progress, stop_after_steps=stop_after_steps,
    )  # fmt: skip


def new_model(
    patches: PatchStream, normaliser: Normaliser, config: Config, before: Model | None = None
) -> Model:
    """A network with drawn weights, or those of the one before, and the card that says what it is trained on."""
    network = build_unet(normaliser.n_channel, config.network.model_dump(exclude={"members"}))
    rate = 0.5 if network.linear else _base_rate(config)
    network.start(np.random.default_rng([config.seed, _WEIGHTS]), base_rate=rate)
    if before is not None:
        _take_weights(network, before)
    skies = [one.sky.maps for one in patches.skies]
    return Model(
        network,
        normaliser,
        tuple(band.name for band in skies[0].bands),
        config.patches.pixel_arcmin,
        config.network.model_dump(mode="json"),
        {
            "preset": config.preset,
            "seed": config.seed,
            "instrument": record_instrument(config.sky.instrument),
            "config": config.model_dump(mode="json", exclude={"sky"}),
            **({"share_without": _share_without(skies)} if normaliser.groups else {}),
        },
    )


def fit_network(
    model: Model,
    patches: PatchStream,
    config: Config,
    folder: Path,
    loss: Loss,
    *,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    stop_after_steps: int | None = None,
) -> Model:
    """Fit a model's network to patches and write it to ``folder``; goes on from a checkpoint there.

    Parameters
    ----------
    model : Model
        As :func:`new_model` makes it; its network is changed.
    patches : PatchStream
    config : Config
        Sections patches, network and train are used, and the seed.
    folder : Path
    loss : callable
        Called with what the network says and the targets, (n, ny, nx, n_class) float32 tensors both.
    threads, device, progress, stop_after_steps
        As of :func:`train`.
    """
    where = pick_device(device)
    model.network.to(where)
    loop = _Loop(model, Feed(patches, model.normaliser, where), config, loss)
    with one_torch_thread(), core_pool(threads) as pool:
        loop.run(folder, pool, progress, stop_after_steps)
    model.network.to("cpu")
    return model


def _named(further: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"'{name}' ({kind})" for name, kind in further) or "none"


def _share_without(skies: Sequence[SkyMaps | MapSet]) -> list[float]:
    """Share of the area, of all skies, that each group of bands does not see."""
    sets = [maps for maps in skies if isinstance(maps, MapSet)]
    seen = np.concatenate([maps.coverage[maps.seen] for maps in sets])
    return [round(float(1 - seen[:, columns].all(axis=1).mean()), 3) for columns in sets[0].columns]


def _train_members(
    maps: SkyMaps | MapSet,
    clusters: Table,
    config: Config,
    folder: Path,
    further: Sequence[tuple[SkyMaps | MapSet, Table]],
    threads: int | None,
    device: str,
    progress: Progress | None,
    stop_after_steps: int | None,
) -> Model:
    """One network after the other, each in a folder of its own; a killed training goes on with the one it was in."""
    members = []
    for k in range(config.network.members):
        mine, home, skies = member_of(config, folder, further, k)
        member = train(
            maps, clusters, mine, home, further=skies, threads=threads, device=device, progress=progress,
            stop_after_steps=stop_after_steps,
        )  # fmt: skip
        members.append(member)
    return join_members(members, config, folder)


def member_of(config: Config, folder: Path, further: Sequence[Sky], k: int) -> tuple[Config, Path, Sequence[Sky]]:
    """Configuration, folder and further skies of the k-th member's own training; of one network, the same."""
    n = config.network.members
    if n == 1:
        return config, folder, further
    alone = {"seed": config.seed + k, "network": config.network.model_copy(update={"members": 1})}
    return config.model_copy(update=alone), folder / f"member-{k}", further[k::n]


def join_members(members: Sequence[Model], config: Config, folder: str | os.PathLike[str]) -> Model:
    """Make one model of several that differ in their weights alone, and write it; its p is the mean of theirs.

    Raises
    ------
    ValueError
        If they do not see the same input.
    """
    first = members[0]
    if any(member.normaliser.to_dict() != first.normaliser.to_dict() for member in members):
        raise ValueError("members of an ensemble must have one normalisation: train them with the same first sky")
    card = {
        **first.card,
        "seed": config.seed,
        "config": config.model_dump(mode="json", exclude={"sky"}),
        "best_epoch": [member.card["best_epoch"] for member in members],
        "finished": all(member.card["finished"] for member in members),
        "curve_of_member": {str(k): member.card["curve"] for k, member in enumerate(members) if k},
    }
    network = Ensemble([member.network for member in members if isinstance(member.network, UNet)])
    settings = config.network.model_dump(mode="json")
    model = Model(network, first.normaliser, first.bands, first.pixel_arcmin, settings, card)
    if current_ranks().rank == 0:
        model.save(folder)
    return model


def make_labels(clusters: Table, config: Config) -> ClusterLabels:
    """Discs of the selections that the configuration names, wider and fainter for some where it says so."""
    options = config.labels
    chosen = [select_clusters(clusters, name) for name in options.selections]
    ignored = [select_clusters(clusters, name) for name in options.ignore]
    disc_arcmin: float | NDArray[np.float64] = options.disc_arcmin
    if options.disc_theta500:
        disc_arcmin = np.fmax(disc_arcmin, options.disc_theta500 * _column(chosen, "theta500_arcmin"))
    return ClusterLabels(
        _column(chosen, "lon_deg"),
        _column(chosen, "lat_deg"),
        disc_arcmin,
        _column(ignored, "lon_deg"),
        _column(ignored, "lat_deg"),
        np.repeat([options.targets.get(name, 1.0) for name in options.selections], [len(table) for table in chosen]),
    )


def _class_labels(clusters: Table, name: str, config: Config) -> ClusterLabels:
    """Discs of a further class: entries of the survey of that name, each as large as it is."""
    chosen = select_clusters(clusters, name)
    disc_arcmin = np.full(len(chosen), config.labels.class_disc_arcmin)
    if "extent_arcmin" in chosen.colnames:
        disc_arcmin = np.fmax(disc_arcmin, np.ma.filled(np.ma.asarray(chosen["extent_arcmin"], float), np.nan))
    return ClusterLabels(np.asarray(chosen["lon_deg"], float), np.asarray(chosen["lat_deg"], float), disc_arcmin)


def _check_start(before: Model, maps: SkyMaps | MapSet, config: Config) -> None:
    """Refuse a network to begin with that is not like the one to be trained."""
    wanted = {
        "bands": [band.name for band in maps.bands],
        "filters": list(config.network.filters),
        "batch_norm": config.network.batch_norm,
        "members": 1,
        "sizes of S/N maps": list(config.input.theta500_arcmin),
    }
    theirs = {"filters": [8, 16, 32, 64, 128], "batch_norm": False, "members": 1, **before.network_config}
    found = {
        "bands": list(before.bands),
        **{key: theirs[key] for key in ("filters", "batch_norm", "members")},
        "sizes of S/N maps": list(before.normaliser.theta500_arcmin),
    }
    for key, value in wanted.items():
        if found[key] != value:
            raise ValueError(
                f"train.start_from is '{config.train.start_from}' with {key} {found[key]}, expected {value} of the "
                "configuration and maps; change those, or leave start_from out"
            )


def _take_weights(network: UNet, before: Model) -> None:
    """All weights of another network, and in the last layer those of the classes that both know.

    What the network sees beyond the other's input begins without weight: its p is the other's at first.
    """
    given, own = before.network.state_dict(), network.state_dict()
    first = next(name for name, tensor in own.items() if tensor.dim() == 4)
    n = given[first].shape[1]
    own[first].zero_()
    own[first][:, :n] = given[first]
    given[first] = own[first]
    rows = min(len(given["head.bias"]), len(own["head.bias"]))
    for name in ("head.weight", "head.bias"):
        own[name][:rows] = given[name][:rows]
        given[name] = own[name]
    network.load_state_dict(given)


def _column(tables: Sequence[Table], name: str) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *(np.asarray(table[name], float) for table in tables)])


def _base_rate(config: Config) -> float:
    """Fraction of a patch with one cluster that its disc covers; where p starts."""
    disc = math.pi * (0.5 * config.labels.disc_arcmin) ** 2
    return disc / (config.patches.size * config.patches.pixel_arcmin) ** 2


class _Loop:
    """State of a training: network, optimiser, counters, best weights so far."""

    def __init__(self, model: Model, feed: Feed, config: Config, loss: Loss) -> None:
        self.model, self.feed, self.config, self.loss = model, feed, config, loss
        self.network, self.device = model.network, feed.device
        self.ranks = current_ranks()
        self.copies = [copy.deepcopy(self.network) for _ in range(config.train.shards)]
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.train.learning_rate)
        self.step = 0  # steps done, over all epochs
        self.loss_sum = self._scalar(0.0)  # over the steps of the epoch under way
        self.best_loss, self.best_epoch = math.inf, -1
        self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.curve: list[dict[str, float]] = []
        self.seconds = 0.0  # of training, over all calls
        self.steps_per_epoch = math.ceil(config.patches.n_training / config.train.batch)

    def run(
        self,
        folder: Path,
        pool: ThreadPoolExecutor,
        progress: Progress | None,
        stop_after_steps: int | None,
    ) -> None:
        """Train until the patience or the epochs are used up; always leaves the best weights in the model."""
        checkpoint = folder / "checkpoint.safetensors"
        if self.ranks.follow_first(checkpoint.is_file()):
            self.load(checkpoint)
        train = self.config.train
        first, began, saved = self.step, time.monotonic() - self.seconds, time.monotonic()
        loss: Tensor | None = None
        while not self.finished():
            before, loss = loss, self._step(self._indices(), pool)
            self.loss_sum += loss
            self.step += 1
            self.seconds = time.monotonic() - began
            if self.step % self.steps_per_epoch == 0:
                self._end_epoch(pool)
                self.save(checkpoint)
                saved = time.monotonic()
            elif time.monotonic() - saved > train.checkpoint_s:
                self.save(checkpoint)
                saved = time.monotonic()
            if progress is not None:
                shown = float(loss if before is None or self.device.type == "cpu" else before)
                progress(
                    "train",
                    self.step,
                    self.steps_per_epoch * train.max_epochs,
                    f"epoch {self.step // self.steps_per_epoch}, loss {shown:.4f}, "
                    f"{self.step * train.batch / self.seconds:.0f} patches/s",
                )
            if stop_after_steps is not None and self.step - first >= stop_after_steps:
                self.save(checkpoint)
                break
        self.network.load_state_dict(self.best)
        self.model.card["curve"] = self.curve
        self.model.card["best_epoch"] = self.best_epoch
        self.model.card["finished"] = self.finished()
        if self.ranks.rank == 0:
            self.model.save(folder)

    def finished(self) -> bool:
        """Whether the patience or the epochs are used up."""
        epoch = self.step // self.steps_per_epoch
        waited = epoch - 1 - self.best_epoch
        return epoch >= self.config.train.max_epochs or (epoch > 0 and waited >= self.config.train.patience)

    def _indices(self) -> list[int]:
        """The patches of the next step: of a permutation of the set, or new ones in every epoch."""
        epoch, k = divmod(self.step, self.steps_per_epoch)
        n = self.config.patches.n_training
        if self.config.patches.fresh:
            order = np.arange(epoch * n, (epoch + 1) * n)
        else:
            order = np.random.default_rng([self.config.seed, _ORDER, epoch]).permutation(n)
        batch = self.config.train.batch
        indices: list[int] = order[k * batch : (k + 1) * batch].tolist()
        return indices

    def _scalar(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def _step(self, indices: list[int], pool: ThreadPoolExecutor) -> Tensor:
        """One step of the optimiser over the patches; returns the loss, which a GPU may still be computing."""
        shards = [list(s) for s in np.array_split(np.array(indices), len(self.copies)) if len(s)]
        mine = self.ranks.share(len(shards))
        losses = list(pool.map(self._gradients, mine, [shards[k] for k in mine]))
        shares = [len(shards[k]) / len(indices) for k in mine]
        copies = [self.copies[k] for k in mine]
        with torch.no_grad():
            sums = []
            for weight, *parts in zip(self.network.parameters(), *(c.parameters() for c in copies), strict=True):
                weight.grad = _weighted_sum(shares, [_gradient(p) for p in parts], weight)
                sums.append(weight.grad)
            for buffer, *parts in zip(self.network.buffers(), *(c.buffers() for c in copies), strict=True):
                if buffer.is_floating_point():
                    buffer.copy_(_weighted_sum(shares, parts, buffer))
                    sums.append(buffer)
                elif parts:
                    buffer.copy_(parts[0])
            self.ranks.sum(sums)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config.train, self.step, self.steps_per_epoch)
        self.optimiser.step()
        loss = self._scalar(0.0)
        for share, part in zip(shares, losses, strict=True):
            loss += share * part.double()
        self.ranks.sum([loss])
        return loss

    def _gradients(self, k: int, indices: list[int]) -> Tensor:
        """Cut the patches of shard k, and leave its gradients in the k-th copy of the network."""
        network = self.copies[k]
        network.load_state_dict(self.network.state_dict())
        network.train()
        network.zero_grad(set_to_none=True)
        _set_dropout_rng(network, make_rng(self.device, [self.config.seed, _DROPOUT, self.step, k]))
        x, targets = self.feed.batch(indices)  # (shard, n_band, size, size), (shard, size, size, n_class)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.train.bfloat16):
            logits = network.classify(x)
        loss = self.loss(logits.float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _validate(self, pool: ThreadPoolExecutor) -> float:
        self.network.eval()
        n, batch = self.config.patches.n_validation, self.config.train.batch
        parts = [range(first, min(n, first + batch)) for first in range(0, n, batch)]
        mine = self.ranks.share(len(parts))
        losses = np.zeros(len(parts))  # zero where another rank adds its own: the sum has the bits of one process
        losses[mine] = list(pool.map(self._loss_of, [parts[k] for k in mine]))
        return float(np.dot(self.ranks.sum_floats(losses.tolist()), [len(part) for part in parts])) / n

    @torch.inference_mode()
    def _loss_of(self, indices: range) -> float:
        x, targets = self.feed.batch(indices, "validation")
        return float(self.loss(self.network.classify(x), targets))

    def _end_epoch(self, pool: ThreadPoolExecutor) -> None:
        loss = self._validate(pool)
        epoch = self.step // self.steps_per_epoch - 1
        self.curve.append(
            {
                "epoch": epoch,
                "train_loss": float(self.loss_sum) / self.steps_per_epoch,
                "valid_loss": loss,
                "seconds": round(self.seconds, 1),
            }
        )
        self.loss_sum = self._scalar(0.0)
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all; only rank 0 does."""
        if self.ranks.rank > 0:
            return
        tensors: dict[str, Tensor] = {}
        for name, tensor in self.network.state_dict().items():
            tensors[f"network.{name}"] = tensor.contiguous()
        for name, tensor in self.best.items():
            tensors[f"best.{name}"] = tensor.contiguous()
        for k, state in self.optimiser.state_dict()["state"].items():
            for name, tensor in state.items():
                tensors[f"adam.{k}.{name}"] = tensor.contiguous()
        counters = {
            "step": self.step,
            "loss_sum": float(self.loss_sum),
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "curve": self.curve,
            "config": _identity(self.config),
        }
        save_tensors(tensors, path, {"counters": json.dumps(counters)})

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration; another one's is refused."""
        tensors: dict[str, Tensor] = {}
        with safe_open(path, "pt") as file:
            counters: dict[str, Any] = json.loads(file.metadata()["counters"])
            for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                tensors[name] = file.get_tensor(name)
        if without_defaults(counters["config"]) != _identity(self.config):
            raise ValueError(
                f"'{path}' belongs to a training with another configuration; remove it to begin anew, or train "
                "into another folder"
            )
        self.network.load_state_dict(_part(tensors, "network."))
        self.best = _part(tensors, "best.")
        state = self.optimiser.state_dict()
        for name, tensor in _part(tensors, "adam.").items():
            k, key = name.split(".")
            state["state"].setdefault(int(k), {})[key] = tensor
        self.optimiser.load_state_dict(state)
        self.step, self.loss_sum = counters["step"], self._scalar(counters["loss_sum"])
        self.best_loss, self.best_epoch = counters["best_loss"], counters["best_epoch"]
        self.curve, self.seconds = counters["curve"], counters["seconds"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _identity(config: Config) -> dict[str, Any]:
    """What a checkpoint must agree in: all that decides the numbers, and not how often it is written."""
    record: dict[str, Any] = config.model_dump(
        mode="json", include={"seed", "split", "input", "labels", "patches", "network", "train"}
    )
    del record["train"]["checkpoint_s"]
    return without_defaults(record)


def _weighted_sum(shares: list[float], parts: list[Tensor], like: Tensor) -> Tensor:
    """Of the shards' tensors; zero for a rank that has no shard of a short batch."""
    if not parts:
        return torch.zeros_like(like)
    total = shares[0] * parts[0]
    for share, part in zip(shares[1:], parts[1:], strict=True):
        total += share * part
    return total


def _gradient(weight: torch.nn.Parameter) -> Tensor:
    assert weight.grad is not None  # every weight is used in every step
    return weight.grad


def _set_dropout_rng(network: torch.nn.Module, rng: np.random.Generator | torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, Dropout):
            module.rng = rng


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step: constant, or one cycle (a fifth of the steps up, then a cosine down to zero).

    Examples
    --------
    >>> learning_rate(TrainConfig(), 10, 100)
    0.0001
    """
    if config.schedule == "constant":
        return config.learning_rate
    n_steps = steps_per_epoch * config.max_epochs
    rise = max(1, n_steps // 5)
    if step < rise:
        return config.learning_rate * (step + 1) / rise
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, n_steps - rise)))


def class_entropy(logits: Tensor, targets: Tensor, weights: Sequence[float]) -> Tensor:
    """Weighted sum over the classes of :func:`cross_entropy`, each by itself; (n, ny, nx, n_class) both."""
    losses = [w * cross_entropy(logits[..., k], targets[..., k]) for k, w in enumerate(weights)]
    return torch.stack(losses).sum()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over the pixels that count.

    Parameters
    ----------
    logits : (n, ny, nx) float32
    targets : (n, ny, nx) float32
        0 sky, up to 1 cluster, -1 ignored.

    Examples
    --------
    >>> float(cross_entropy(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)))
    0.6931471824645996
    """
    counts = (targets != IGNORED).float()
    loss = functional.binary_cross_entropy_with_logits(logits, targets.clamp(min=0), weight=counts, reduction="sum")
    return loss / counts.sum().clamp(min=1)
