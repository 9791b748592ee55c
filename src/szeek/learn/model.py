"""A trained network with its card: model.safetensors holds the weights, model.json everything else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from szeek._version import __version__
from szeek.files import whole_file, write_json
from szeek.filter.snrmaps import add_snr_maps
from szeek.filter.states import FieldState
from szeek.inputs.instrument import read_instrument
from szeek.learn.device import multiplies_bfloat16
from szeek.learn.normalise import Normaliser
from szeek.learn.unet import Ensemble, UNet
from szeek.physics.instrument import Instrument
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client

_CARD_KEYS = ("network", "normaliser", "bands", "pixel_arcmin")


#: Share of the training's area without a group of bands from which on a network can do without it.
LEAST_WITHOUT = 0.05


@dataclass
class Model:
    """A network, the normalisation of its input, and the card that says where they come from.

    Parameters
    ----------
    network : UNet or Ensemble
    normaliser : Normaliser
    bands : tuple of str
        Names of the bands, in the order of the input.
    pixel_arcmin : float
        Pixel size the network was trained at.
    card : dict
        Preset, seed, instrument, configuration, training curve, scores: anything JSON holds. The instrument is a name
        where it ships with the package, else all of it (:func:`szeek.inputs.instrument.record_instrument`).

    Examples
    --------
    >>> model = load_model("bonjean2020-planckz")
    >>> model.pixel_arcmin, model.instrument.name
    (1.7177, 'planck-hfi')
    """

    network: UNet | Ensemble
    normaliser: Normaliser
    bands: tuple[str, ...]
    pixel_arcmin: float
    network_config: dict[str, Any]
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def instrument(self) -> Instrument:
        """The experiment whose maps the network was trained on."""
        return read_instrument(self.card.get("instrument", "planck-hfi"))

    def prepare(
        self,
        maps: SkyMaps | MapSet,
        threads: int | None = None,
        client: Client | None = None,
        noise: Mapping[int, FieldState] | None = None,
    ) -> SkyMaps | MapSet:
        """The maps with the S/N maps that the network was trained with; refuses maps of other bands.

        ``noise`` is for injected maps, see :func:`szeek.filter.snrmaps.add_snr_maps`.
        """
        self.check_bands(maps)
        sizes = self.normaliser.theta500_arcmin
        return add_snr_maps(maps, sizes, instrument=self.instrument, noise=noise, threads=threads, client=client)

    def check_bands(self, maps: SkyMaps | MapSet) -> None:
        """Refuse maps of other bands than the network was trained on, and further maps that it does not see.

        Of several groups whole ones may be missing, if they were in part of the training; further maps always.
        """
        for one in maps.further:
            if (one.name, one.kind) not in self.normaliser.further:
                known = ", ".join(f"'{name}' ({kind})" for name, kind in self.normaliser.further) or "none"
                raise ValueError(
                    f"the map '{one.name}' ({one.kind}) is given beside the bands, but the further maps that the "
                    f"network sees are {known}; leave it out, or use a network that was trained with it"
                )
        found = tuple(band.name for band in maps.bands)
        there: tuple[str, ...] = ()
        missing: tuple[str, ...] = ()
        first = 0
        for number, n_band in enumerate(self.normaliser.groups):
            names = self.bands[first : first + n_band]
            there += names if names[0] in found else ()
            if names[0] not in found and self.card.get("share_without", [1.0] * (number + 1))[number] < LEAST_WITHOUT:
                missing += names
            first += n_band
        if there and missing:
            raise ValueError(
                f"the maps lack the bands {', '.join(missing)}, without which the network was not trained; give them "
                f"as well, or use a network that was trained on {', '.join(found)} alone"
            )
        if found != self.bands and (not there or sorted(found) != sorted(there)):
            raise ValueError(
                f"the maps hold the bands {', '.join(found)}, but the model was trained on {', '.join(self.bands)}; "
                "give maps of these bands, or train a model on yours"
            )

    @torch.inference_mode()
    def predict(self, fields: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of each pixel of a stack of fields, (n, ny, nx, n_band) -> (n, ny, nx), both float32."""
        self.network.eval()
        p: NDArray[np.float32] = torch.sigmoid(self.network(self.normaliser(fields))).numpy()
        return p

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart beside clusters."""
        return tuple(self.network_config.get("classes", ()))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write model.safetensors and model.json, each whole or not at all; the card last."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        save_tensors(weights, target / "model.safetensors")
        card = {
            "szeek": __version__,
            "network": self.network_config,
            "normaliser": self.normaliser.to_dict(),
            "bands": list(self.bands),
            "pixel_arcmin": self.pixel_arcmin,
            **self.card,
        }
        write_json(card, target / "model.json")
        return target


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all; a full disk is an OSError, as of any other file."""
    with whole_file(path) as staging:
        try:
            save_file(tensors, staging, metadata)
            staging.chmod(0o644)  # safetensors leaves it to its owner alone
        except SafetensorError as error:
            raise OSError(f"'{path}' cannot be written: {error}") from error


def list_models() -> list[str]:
    """Names of the trained models that ship with the package.

    Examples
    --------
    >>> [name for name in list_models() if name.startswith("szeek")]
    ['szeek-1', 'szeek-1x', 'szeek-2', 'szeek-act', 'szeek-components', 'szeek-joint', 'szeek-y']
    """
    folder = resources.files("szeek") / "models"
    return sorted(f.name for f in folder.iterdir() if f.is_dir()) if folder.is_dir() else []


def find_model(source: str | os.PathLike[str]) -> Path:
    """Folder of a model: your own, a run's, or by name one that ships with the package.

    Raises
    ------
    FileNotFoundError
        If there is no such model.

    Examples
    --------
    >>> find_model("szeek-2").name
    'szeek-2'
    """
    folder = Path(source)
    if (folder / "model.json").is_file():
        return folder
    shipped = resources.files("szeek") / "models" / str(source)
    if not (shipped / "model.json").is_file():
        raise FileNotFoundError(
            f"'{source}' is neither a folder with model.json nor a shipped model "
            f"({', '.join(list_models()) or 'none ships with this version'})"
        )
    return Path(str(shipped))


def load_model(
    source: str | os.PathLike[str], *, bfloat16: bool = False, target: Literal["clusters", "foregrounds"] = "clusters"
) -> Model:
    """Load a model that ships with the package by name, or from your own folder or run.

    Parameters
    ----------
    source : str or path
    target : str
        What it is to have learnt, see ``network.target`` of the configuration.
    bfloat16 : bool
        Evaluate it in mixed precision where the processor multiplies bfloat16 (AVX512-BF16, AMX), in float32
        elsewhere.

    Raises
    ------
    FileNotFoundError
        If there is no such model.
    ValueError
        If the card lacks an entry, the weights do not fit the network that the card describes, or it learnt another
        target.

    Examples
    --------
    >>> model = load_model("bonjean2020-planckz")
    >>> model.bands
    ('100', '143', '217', '353', '545', '857')
    >>> model.predict(np.zeros((1, 64, 64, 6), np.float32)).shape
    (1, 64, 64)
    """
    folder = find_model(source)
    card = json.loads((folder / "model.json").read_text())
    missing = [key for key in _CARD_KEYS if key not in card]
    if missing:
        raise ValueError(f"'{folder / 'model.json'}' lacks {', '.join(missing)}; it is not an SZeek model card")
    if (learnt := card["network"].get("target", "clusters")) != target:
        raise ValueError(
            f"the network '{source}' has learnt {learnt}, expected one that has learnt {target}; "
            + ("use it with `szeek ymap --model`" if learnt == "foregrounds" else "szeek-y is one")
        )
    normaliser = Normaliser.from_dict(card["normaliser"])
    network = build_network(normaliser.n_channel, card["network"])
    try:
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"'{folder / 'model.safetensors'}' does not fit its card: {error}") from None
    for part in network.modules():
        if isinstance(part, UNet):
            part.mixed_precision = bfloat16 and multiplies_bfloat16()
    own = {key: value for key, value in card.items() if key not in (*_CARD_KEYS, "szeek")}
    return Model(
        network,
        normaliser,
        tuple(card["bands"]),
        card["pixel_arcmin"],
        card["network"],
        own,
    )


def build_network(n_channel: int, config: dict[str, Any] | None = None) -> UNet | Ensemble:
    """A network with untrained weights, channels last in memory (half the time of channels first on a CPU)."""
    options = dict(config or {})
    n_member = options.pop("members", 1)
    members = [build_unet(n_channel, options) for _ in range(n_member)]
    return members[0] if n_member == 1 else Ensemble(members)


def build_unet(n_channel: int, config: dict[str, Any]) -> UNet:
    """One network; ``config`` as the section network of a configuration, without members."""
    options = dict(config)
    filters: Sequence[int] = options.pop("filters", (8, 16, 32, 64, 128))
    n_class = 1 + len(options.pop("classes", ()))
    target = options.pop("target", "clusters")
    network = UNet(n_channel, tuple(filters), n_class=n_class, **options)
    network.linear = target == "foregrounds"
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
