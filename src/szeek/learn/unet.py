"""The U-Net: six normalised bands in, one logit per pixel out; one of each class where there are several.

Source: Bonjean (2020), Sect. 3.2 (after Ronneberger et al. 2015): five levels of 8 to 128 filters, two
3 x 3 convolutions each with ReLU and dropout, 2 x 2 max-pooling, 2 x 2 up-convolutions, concatenations with
the encoder, a last 1 x 1 convolution. 23 convolutions, 486,033 weights for six bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


class _KeepSome(torch.autograd.Function):
    """Multiply by a mask of random integers above a threshold, over the kept fraction."""

    @staticmethod
    def forward(ctx, x, noise, threshold):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(noise)
        ctx.threshold = threshold
        return _kept(x, noise, threshold)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (noise,) = ctx.saved_tensors
        return _kept(gradient, noise, ctx.threshold), None, None


def _kept(x: Tensor, noise: Tensor, threshold: int) -> Tensor:
    """``x * (noise >= threshold)`` over the kept fraction."""
    scale = 65536 / (32768 - threshold)
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        return (x * (noise >= threshold)).mul_(scale)
    # one pass through memory, where PyTorch makes six: the mask, the mask as floats, the product, the product anew
    if x.dim() == 4 and noise.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(x)
        flat = [part.permute(0, 2, 3, 1).reshape(-1) for part in (x, noise, out)]
    else:
        x, noise = x.contiguous(), noise.contiguous()
        out = torch.empty_like(x)
        flat = [part.view(-1) for part in (x, noise, out)]
    values, draws, kept = (_array(part) for part in flat)
    if x.dtype == torch.float32:
        _keep_float32(values, draws, kept, threshold, scale)
        return out
    _keep_bits(values, draws, kept, threshold)
    return out.mul_(scale)


def _array(x: Tensor) -> NDArray[Any]:
    """The values, or of bfloat16, which NumPy has not, the bits."""
    array: NDArray[Any] = (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).detach().numpy()
    return array


@njit(cache=True, nogil=True)
def _keep_float32(
    x: NDArray[np.float32], noise: NDArray[np.int16], out: NDArray[np.float32], threshold: int, scale: float
) -> None:
    factor = np.float32(scale)
    for i in range(x.size):
        out[i] = x[i] * (factor if noise[i] >= threshold else np.float32(0))


@njit(cache=True, nogil=True)
def _keep_bits(x: NDArray[np.int16], noise: NDArray[np.int16], out: NDArray[np.int16], threshold: int) -> None:
    for i in range(x.size):
        out[i] = x[i] if noise[i] >= threshold else np.int16(0)


class Dropout(nn.Module):
    """Dropout whose masks come from 16-bit integers of one generator: numpy's on a CPU, PyTorch's elsewhere.

    PyTorch draws a float per activation, which takes half of a training step on a CPU. The rate is right to
    1 / 65536, and ``rng`` set before each step makes a step a pure function of its number.
    """

    rng: np.random.Generator | torch.Generator

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.threshold = round(rate * 65536) - 32768

    def forward(self, x: Tensor) -> Tensor:
        """Drop a fraction ``rate`` of the activations while training."""
        if not self.training or self.rate == 0.0:
            return x
        if x.is_contiguous(memory_format=torch.channels_last):
            noise = self._draw(x.permute(0, 2, 3, 1).shape, x.device).permute(0, 3, 1, 2)
        else:
            noise = self._draw(x.shape, x.device)
        dropped: Tensor = _KeepSome.apply(x, noise, self.threshold)  # type: ignore[no-untyped-call]
        return dropped

    def _draw(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Random 16-bit integers, in the order of the activations' memory."""
        if isinstance(self.rng, torch.Generator):
            return torch.randint(-32768, 32768, shape, dtype=torch.int16, device=device, generator=self.rng)
        n = shape.numel()
        words = self.rng.integers(0, 2**64, (n + 3) // 4, np.uint64).view(np.int16)[:n]
        return torch.from_numpy(words).view(shape)


class _TwoConvolutions(nn.Module):
    def __init__(self, n_in: int, n_out: int, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n in (n_in, n_out):
            layers.append(nn.Conv2d(n, n_out, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(n_out))
            layers.append(nn.ReLU(inplace=True))
            if dropout:
                layers.append(Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class UNet(nn.Module):
    """The network; (n, n_band, ny, nx) -> logits (n, ny, nx), ny and nx multiples of :attr:`stride`.

    Parameters
    ----------
    n_band : int
        Bands of the input.
    filters : sequence of int
        Filters per level, top first.
    dropout : float
        Rate after each 3 x 3 convolution.
    batch_norm : bool
        Batch normalisation between convolution and ReLU. Deviation: the paper has none.
    n_class : int
        Classes that are told apart, the first of them clusters; a pixel may be of several. As in the paper's outlook
        (Sect. 6), which has one.

    Examples
    --------
    >>> sum(weight.numel() for weight in UNet().parameters())
    486033
    >>> UNet(6, (8, 16), dropout=0.0, n_class=3).classify(torch.zeros(1, 6, 32, 32)).shape
    torch.Size([1, 32, 32, 3])
    """

    def __init__(
        self,
        n_band: int = 6,
        filters: Sequence[int] = (8, 16, 32, 64, 128),
        dropout: float = 0.2,
        batch_norm: bool = False,
        n_class: int = 1,
    ) -> None:
        super().__init__()
        self.stride = 2 ** (len(filters) - 1)
        #: Evaluate in mixed precision on a CPU: p differs by some thousandths.
        self.mixed_precision = False
        #: What it says is no logit of p but a value.
        self.linear = False
        ins = (n_band, *filters[:-1])
        self.encoder = nn.ModuleList(
            _TwoConvolutions(i, o, dropout, batch_norm) for i, o in zip(ins, filters, strict=True)
        )
        pairs = list(zip(filters[:0:-1], filters[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairs)
        self.decoder = nn.ModuleList(_TwoConvolutions(2 * o, o, dropout, batch_norm) for _, o in pairs)
        self.head = nn.Conv2d(filters[0], n_class, 1)

    def features(self, x: Tensor) -> Tensor:
        """What the head sees, (n, filters[0], ny, nx)."""
        skipped: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(functional.max_pool2d(x, 2) if level else x)  # (n, filters[level], ny / 2^level, ...)
            skipped.append(x)
        skipped.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([up(x), skipped.pop()], dim=1))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Logits of p, the first class's."""
        return self.classify(x)[..., 0]

    def classify(self, x: Tensor) -> Tensor:
        """Logits of every class, (n, ny, nx, n_class)."""
        if self.mixed_precision and not self.training and x.device.type == "cpu":
            with torch.autocast("cpu", torch.bfloat16):
                features = self.features(x).float()
        else:
            features = self.features(x)
        # the 1 x 1 convolution as a matrix product: PyTorch has no fast convolution to a single filter
        features = features.permute(0, 2, 3, 1)
        return functional.linear(features, self.head.weight.flatten(1), self.head.bias)

    def start(self, rng: np.random.Generator, base_rate: float) -> None:
        """Draw the weights (He initialisation) and set the last layer so that p starts at the base rate.

        A head whose weights on ReLU features all turn negative can never say yes again; starting half of
        them positive, with the bias at logit(base_rate), keeps it alive.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan_in = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_channels
                draw = rng.normal(0.0, math.sqrt(2 / fan_in), tuple(module.weight.shape))
                with torch.no_grad():
                    module.weight.copy_(torch.from_numpy(draw.astype(np.float32)))
                    if module.bias is not None:
                        module.bias.zero_()
        with torch.no_grad():
            n = self.head.in_channels
            signs = torch.tensor([1.0, -1.0]).repeat((n + 1) // 2)[:n].view(1, n, 1, 1)
            self.head.weight.copy_(self.head.weight.abs() * signs * 0.5)
            self.head.bias.fill_(math.log(base_rate / (1 - base_rate)))  # type: ignore[union-attr]


class Ensemble(nn.Module):
    """Several networks of one input; (n, n_band, ny, nx) -> the logit of their mean p, (n, ny, nx).

    Parameters
    ----------
    members : sequence of UNet
        Alike but for their weights.

    Examples
    --------
    >>> sum(weight.numel() for weight in Ensemble([UNet(), UNet()]).parameters())
    972066
    """

    def __init__(self, members: Sequence[UNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.linear = False  # see UNet
        self.stride = members[0].stride

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the mean p."""
        return self.classify(x)[..., 0]

    def classify(self, x: Tensor) -> Tensor:
        """Logits of the mean p of every class, (n, ny, nx, n_class)."""
        members = [member for member in self.members if isinstance(member, UNet)]
        return torch.logit(torch.stack([torch.sigmoid(member.classify(x)) for member in members]).mean(0))
