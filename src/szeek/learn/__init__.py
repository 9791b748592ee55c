"""The network, its input, its training. The training function is :func:`szeek.train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.learn.device import pick_device
    from szeek.learn.foregrounds import train_foregrounds
    from szeek.learn.labels import ClusterLabels
    from szeek.learn.model import Model, find_model, list_models, load_model
    from szeek.learn.normalise import Normaliser, fit_normaliser
    from szeek.learn.patches import Patches
    from szeek.learn.unet import Ensemble, UNet

__all__ = [
    "ClusterLabels",
    "Ensemble",
    "Model",
    "Normaliser",
    "Patches",
    "UNet",
    "find_model",
    "fit_normaliser",
    "list_models",
    "load_model",
    "pick_device",
    "train_foregrounds",
]

__getattr__ = load_lazily(__name__)
