"""Where the network runs, and its input cut there: on the CPU by numba, on any other device by PyTorch.

A GPU takes fields faster than a CPU cuts them. There the maps, the local background and the S/N maps are copied to
the device once (1.2 GB for six bands at nside 2048), and all fields of a batch are cut at once by PyTorch operations:
the same bilinear interpolation as :mod:`szeek.sky.projection`, with directions and weights in float64 here as there,
and the same normalisation. What is left to the CPU is to draw where patches lie, and their targets. On the device
'cpu' these operations give what numba gives, to the rounding of float32, which the tests hold them to; numba is
faster there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from szeek.learn.normalise import Normaliser
from szeek.learn.patches import LocalMaps, PatchStream
from szeek.sky.healpix import interpolation_weights_torch, nside_of, ring_table
from szeek.sky.mapset import MapSet
from szeek.sky.projection import field_basis
from szeek.sky.skymaps import SkyMaps

#: Rows of a map that are copied at a time: 24 MB of six bands.
_BLOCK = 1 << 20


def pick_device(name: str) -> torch.device:
    """The device of a name: 'cpu', 'cuda', 'cuda:1', any other of PyTorch's, or 'auto' for a GPU where there is one.

    Under torchrun 'cuda' is the GPU of the process's number on its machine.

    Raises
    ------
    ValueError
        If PyTorch knows no such device, or finds none.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device '{name}' is unknown, expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda":
        n_gpu = torch.cuda.device_count()
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        if index >= n_gpu:
            raise ValueError(f"device '{name}' is not there: PyTorch {torch.__version__} finds {n_gpu} CUDA GPUs")
        # ten bits of mantissa would change p by a thousandth
        torch.backends.cudnn.allow_tf32 = False
        return torch.device("cuda", index)
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"device '{name}' is not there, or has no float64 for directions: {error}") from None
    return device


@cache
def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself, by what Linux says of it; elsewhere that is no gain."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not words.isdisjoint(("amx_bf16", "avx512_bf16", "bf16"))


def cuts_by_numba(device: torch.device) -> bool:
    """Whether fields are cut by numba, before they go to the network."""
    return device.type == "cpu"


def make_rng(device: torch.device, words: Sequence[int]) -> np.random.Generator | torch.Generator:
    """Random stream of a step, from numbers alone; on the device where its draws are needed."""
    if device.type == "cpu":
        return np.random.default_rng(words)
    seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(seed)


class DeviceSky:
    """Maps on a device, and the network's input cut from them.

    Parameters
    ----------
    sky : LocalMaps
    normaliser : Normaliser
    device : torch.device

    Attributes
    ----------
    footprint : (n_pix,) bool tensor, or None for the whole sky
    """

    def __init__(self, sky: LocalMaps, normaliser: Normaliser, device: torch.device) -> None:
        maps = sky.maps
        assert isinstance(maps, SkyMaps)
        self.device, self.nside = device, maps.nside
        self.footprint = None if maps.is_full_sky else _copy(maps.footprint, device)
        self._values = _copy(maps.values, device)
        self._snr = None if maps.snr is None else _copy(maps.snr, device)
        self._background = None if sky.background is None else _copy(sky.background, device)
        self._offset = torch.from_numpy(normaliser.offset).to(device)
        self._matrix = torch.from_numpy(normaliser.matrix).to(device)
        self._stretch = normaliser.kind == "local-whitened"
        self.rings = torch.from_numpy(ring_table(self.nside)).to(device)
        self._coarse_nside = 0 if sky.background is None else nside_of(sky.background)
        self._coarse_rings = torch.from_numpy(ring_table(max(1, self._coarse_nside))).to(device)

    def cut(
        self,
        places: Sequence[tuple[float, float, float]],
        ny: int,
        nx: int,
        pixel_arcmin: float,
        mirrored: Sequence[bool] | None = None,
    ) -> Tensor:
        """The network's input of several fields, all at once.

        Parameters
        ----------
        places : sequence of (lon_deg, lat_deg, angle_deg)
            Centres and orientations, as in :func:`~szeek.sky.projection.sample_field`.
        ny, nx : int
        pixel_arcmin : float
        mirrored : sequence of bool, optional
            Fields whose columns run the other way.

        Returns
        -------
        (n, n_band + n_size, ny, nx) float32 tensor on the device, channels last in memory
        """
        bases = np.stack([field_basis(*place) for place in places])
        if mirrored is not None:
            bases[np.asarray(mirrored, bool), 1] *= -1
        pixel_rad = math.radians(pixel_arcmin / 60)
        # (n, 1, 1, 3) each
        centre, along_x, along_y = torch.from_numpy(bases).to(self.device)[:, :, None, None, :].unbind(1)
        x = pixel_rad * (torch.arange(nx, dtype=torch.float64, device=self.device) - 0.5 * (nx - 1))
        y = pixel_rad * (torch.arange(ny, dtype=torch.float64, device=self.device) - 0.5 * (ny - 1))
        directions = (centre + x[:, None] * along_x + y[:, None, None] * along_y).reshape(-1, 3)
        return self._input(directions).view(len(places), ny, nx, -1).permute(0, 3, 1, 2)

    def _input(self, directions: Tensor) -> Tensor:
        """Bands minus background, normalised, and S/N at directions: (n, 3) float64 -> (n, channels) float32."""
        pixels, weights = interpolation_weights_torch(self.nside, self.rings, directions)
        inside = weights if self.footprint is None else _seen(self.footprint, pixels, weights)
        bands = _blend(self._values, pixels, inside)
        if self._background is not None:
            bands = bands - _blend(
                self._background, *interpolation_weights_torch(self._coarse_nside, self._coarse_rings, directions)
            )
        bands = bands - self._offset
        seen = ~bands.isnan().any(1, keepdim=True)
        bands = bands @ self._matrix.T
        if self._stretch:
            bands = bands.asinh()
        zero = bands.new_zeros(())
        bands = torch.where(seen, bands, zero)
        if self._snr is None:
            return bands
        snr = _blend(self._snr, pixels, weights).asinh()
        return torch.cat([bands, torch.where(seen & ~snr.isnan(), snr, zero)], dim=1)


class Feed:
    """Batches of a training: the network's input and its targets, on the network's device.

    Parameters
    ----------
    patches : PatchStream
    normaliser : Normaliser
    device : torch.device
    """

    def __init__(self, patches: PatchStream, normaliser: Normaliser, device: torch.device) -> None:
        self.patches, self.normaliser, self.device = patches, normaliser, device
        # images and further maps are files: they are cut where those are
        apart = any(isinstance(of.sky.maps, MapSet) or of.sky.further for of in patches.skies)
        numba = cuts_by_numba(device) or apart
        self._skies = [] if numba else [DeviceSky(of.sky, normaliser, device) for of in patches.skies]

    def batch(self, indices: Iterable[int], part: str = "training") -> tuple[Tensor, Tensor]:
        """Patches of these numbers: (n, channels, size, size) and (n, size, size, n_class), both float32."""
        config = self.patches.skies[0].config
        numbers = list(indices)
        # one kind of work after the other: the processor's caches hold one at a time
        plans = [self.patches.of(i).plan(i, part) for i in numbers]
        drawn = np.stack([self.patches.of(i).target(plan) for i, plan in zip(numbers, plans, strict=True)])
        if not self._skies:
            cut = np.empty((len(numbers), config.size, config.size, self.normaliser.n_channel), np.float32)
            for i, plan, out in zip(numbers, plans, cut, strict=True):
                self.normaliser.write(self.patches.of(i).field(plan), out)
            return torch.from_numpy(cut).permute(0, 3, 1, 2).to(self.device), torch.from_numpy(drawn).to(self.device)
        parts, order = [], []
        for k, sky in enumerate(self._skies):
            mine = [n for n, i in enumerate(numbers) if i % len(self._skies) == k]
            if mine:
                places, mirrored = zip(*((plans[n].place, plans[n].mirrored) for n in mine), strict=True)
                parts.append(sky.cut(places, config.size, config.size, config.pixel_arcmin, mirrored))
                order += mine
        x = parts[0] if len(parts) == 1 else torch.cat(parts)[torch.tensor(order, device=self.device).argsort()]
        return x, torch.from_numpy(drawn).to(self.device, non_blocking=True)


def _seen(footprint: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """Weights of the pixels in the footprint alone; NaN where they are less than half."""
    weights = weights * footprint[pixels]
    total = weights.sum(-1, keepdim=True)
    return torch.where(total < 0.5, math.nan, weights / total)


def _blend(values: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of four pixels in every band: (n, n_band) float32."""
    return (values[pixels] * weights.float().unsqueeze(-1)).sum(1)


def _copy(array: NDArray[np.float32] | NDArray[np.bool_], device: torch.device) -> Tensor:
    """A map on the device, copied block by block: it may be a mapped file, larger than what memory is free."""
    target = torch.empty(array.shape, dtype=torch.bool if array.dtype == np.bool_ else torch.float32, device=device)
    for first in range(0, len(array), _BLOCK):
        target[first : first + _BLOCK] = torch.from_numpy(np.array(array[first : first + _BLOCK]))
    return target
