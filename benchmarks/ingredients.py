"""Losses, targets and blocks that szeek-1 was tried with and did not take up.

Each stands in for a part of the training while :func:`trying` is open, so that the package has no option that none of
its networks uses. ``ablations.py`` measures what they give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from astropy.table import Table
from torch import Tensor, nn
from torch.nn import functional

from szeek.config import Config
from szeek.inputs.catalogues import select_clusters
from szeek.learn.labels import ClusterLabels
from szeek.learn.train import cross_entropy, make_labels
from szeek.learn.unet import UNet
from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import field_directions

#: Range of ln(Y500 / arcmin^2) that a target between 0 and 1 spans.
_LN_Y500 = (math.log(1e-4), math.log(1e-1))


# -- losses of logits (n, ny, nx) and targets (n, ny, nx), as szeek.learn.train.cross_entropy --


def focal(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy times (1 - p of what is there)^gamma; Lin et al. (2017), arXiv:1708.02002, Eq. 4."""
    each = functional.binary_cross_entropy_with_logits(logits, (targets == 1).to(logits), reduction="none")
    return ((1 - torch.exp(-each)) ** gamma * each).mean()


def undo_focal(p: np.ndarray, gamma: float = 2.0) -> np.ndarray:
    """The probability for which the focal loss is least at p; it pulls p towards 1/2.

    Source: the zero of its derivative, as in Charoenphakdee et al. (2021), arXiv:2011.09172.
    """
    q = np.clip(np.asarray(p, np.float64), 1e-9, 1 - 1e-9)

    def slope(v: np.ndarray) -> np.ndarray:
        return ((1 - v) ** gamma - gamma * (1 - v) ** (gamma - 1) * v * np.log(v)) / v

    return (slope(1 - q) / (slope(1 - q) + slope(q))).astype(np.asarray(p).dtype)


def positive_unlabelled(logits: Tensor, targets: Tensor, prior: float = 0.0086) -> Tensor:
    """Non-negative risk of positive and unlabelled pixels; Kiryo et al. (2017), arXiv:1703.00593, Eq. 6.

    The prior is the fraction of pixels within 5 arcmin of a halo of Y500 > 3e-4 arcmin^2: 0.0086 +- 0.0003 in 4,000
    patches of the training on the sky of seed 5, 0.0052 of the pixels being labelled.
    """
    labelled = targets == 1
    yes, no = functional.softplus(-logits), functional.softplus(logits)
    n = labelled.sum().clamp(min=1)
    as_yes, as_no = prior * (yes * labelled).sum() / n, prior * (no * labelled).sum() / n
    return as_yes + (no.mean() - as_no).clamp(min=0)


def entropy_and_flux(output: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, and in the discs the error of ln Y500 from a second output where there is one."""
    inside = targets > 0
    if output.dim() == 3:  # of validation, logits alone
        return cross_entropy(output, inside.float())
    low, high = _LN_Y500
    ln_y500 = low + targets * (high - low)
    error = functional.smooth_l1_loss(output[..., 1], ln_y500 - math.log(1e-3), reduction="none")
    return cross_entropy(output[..., 0], inside.float()) + (error * inside).mean()


# -- targets --


class _Drawn:
    """Targets drawn from the separation of every pixel from the clusters about; stands in for ClusterLabels."""

    def __init__(self, discs: ClusterLabels) -> None:
        self.discs, self.vectors = discs, discs.vectors

    def draw(
        self, lon_deg: float, lat_deg: float, angle_deg: float, ny: int, nx: int, pixel_arcmin: float
    ) -> np.ndarray:
        """(ny, nx) float32."""
        rays = field_directions(lon_deg, lat_deg, angle_deg, ny, nx, pixel_arcmin)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        reach_rad = math.radians(math.hypot(nx, ny) * pixel_arcmin / 60)
        near = np.flatnonzero(self.vectors @ unit_vectors(lon_deg, lat_deg) > math.cos(reach_rad))
        target = np.zeros((ny, nx), np.float32)
        for k in near:
            separation_rad = 2 * np.arcsin(0.5 * np.linalg.norm(rays - self.vectors[k], axis=-1))
            np.maximum(target, self.levels(k, separation_rad / self.discs.radius_rad[k]), out=target)
        return target

    def levels(self, k: int, distance: np.ndarray) -> np.ndarray:
        """Of cluster k, at distances in radii of its disc."""
        raise NotImplementedError


class SoftTargets(_Drawn):
    """A Gaussian at every cluster, as wide at half its height as its disc."""

    def levels(self, k: int, distance: np.ndarray) -> np.ndarray:
        """1 at the cluster, 1/2 at the rim of its disc."""
        return np.asarray(0.5 ** (distance**2), np.float32)


class FluxTargets(_Drawn):
    """Discs that hold their cluster's Y500; the brighter of two that overlap."""

    def __init__(self, discs: ClusterLabels, y500_arcmin2: np.ndarray) -> None:
        super().__init__(discs)
        low, high = _LN_Y500
        self.level = np.clip((np.log(y500_arcmin2) - low) / (high - low), 0.01, 1)

    def levels(self, k: int, distance: np.ndarray) -> np.ndarray:
        """Between 0 and 1 in the disc."""
        return np.where(distance <= 1, self.level[k], 0).astype(np.float32)


def soft_targets(clusters: Table, config: Config) -> SoftTargets:
    """In the place of szeek.learn.train.make_labels."""
    return SoftTargets(make_labels(clusters, config))


def flux_targets(clusters: Table, config: Config) -> FluxTargets:
    """In the place of szeek.learn.train.make_labels."""
    chosen = [select_clusters(clusters, name)["y500_arcmin2"] for name in config.labels.selections]
    return FluxTargets(make_labels(clusters, config), np.concatenate([np.asarray(y500, float) for y500 in chosen]))


# -- networks --


class FluxUNet(UNet):
    """A second output beside the logit, ln(Y500 / 1e-3 arcmin^2), while it trains."""

    def __init__(self, n_band: int, filters: tuple[int, ...], **options: Any) -> None:
        super().__init__(n_band, filters, **options)
        self.flux = nn.Conv2d(filters[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, ny, nx, 2) in training, else logits (n, ny, nx)."""
        features = self.features(x).permute(0, 2, 3, 1)
        heads = (self.head, self.flux) if self.training else (self.head,)
        out = [functional.linear(features, head.weight.flatten(1), head.bias)[..., 0] for head in heads]
        return torch.stack(out, dim=-1) if self.training else out[0]


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; He et al. (2015), arXiv:1512.03385, Fig. 2."""

    def __init__(self, n_in: int, n_out: int, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        assert batch_norm and not dropout, "as the networks are that this is compared with"
        self.layers = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_out, ny, nx)."""
        return functional.relu(self.layers(x) + self.shortcut(x))


class DilatedBlock(nn.Sequential):
    """Two convolutions, the second of every other pixel; Yu & Koltun (2015), arXiv:1511.07122."""

    def __init__(self, n_in: int, n_out: int, dropout: float, batch_norm: bool) -> None:
        assert batch_norm and not dropout, "as the networks are that this is compared with"
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=2, dilation=2, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
        )


#: What each puts in the place of what.
INGREDIENTS: dict[str, dict[str, Callable[..., Any]]] = {
    "focal loss": {"train.cross_entropy": focal},
    "positive-unlabelled loss": {"train.cross_entropy": positive_unlabelled},
    "soft targets": {"train.make_labels": soft_targets},
    "a head for Y500": {
        "train.make_labels": flux_targets,
        "train.cross_entropy": entropy_and_flux,
        "model.UNet": FluxUNet,
    },
    "residual blocks": {"unet._TwoConvolutions": ResidualBlock},
    "dilated convolutions": {"unet._TwoConvolutions": DilatedBlock},
}


@contextmanager
def trying(name: str) -> Iterator[None]:
    """Train with an ingredient while this is open; anything else trains as the package does."""
    with ExitStack() as stack:
        for what, other in INGREDIENTS.get(name, {}).items():
            stack.enter_context(patch(f"szeek.learn.{what}", other))
        yield
