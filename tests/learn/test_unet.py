import math

import numpy as np
import pytest
import torch
from torch import nn

from szeek.learn.model import build_network
from szeek.learn.train import cross_entropy
from szeek.learn.unet import Dropout, UNet


def test_paper_s_network_has_23_convolutions_and_486033_weights():
    network = UNet()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23
    # by hand: a 3x3 convolution has (9 n_in + 1) n_out weights, an up-convolution (4 n_in n_out + n_out)
    filters, n_in, expected = (8, 16, 32, 64, 128), 6, 0
    for n in filters:
        expected += (9 * n_in + 1) * n + (9 * n + 1) * n
        n_in = n
    for n in filters[-2::-1]:
        expected += (4 * 2 * n + 1) * n + (9 * 2 * n + 1) * n + (9 * n + 1) * n
    expected += 8 + 1
    assert sum(w.numel() for w in network.parameters()) == expected == 486_033


def test_output_does_not_depend_on_pixels_further_than_the_margin():
    """In the interior the network is a convolution: fields cut differently give the same p there."""
    network = build_network(6, {"dropout": 0.0, "batch_norm": True})
    network.start(np.random.default_rng(1), 0.01)
    network.eval()
    x = torch.randn(1, 6, 256, 256, generator=torch.Generator().manual_seed(1))
    far = x.clone()
    far[:, :, :, 240:] = 5.0
    with torch.inference_mode():
        a, b = network(x), network(far)
    assert not torch.equal(a[0, :, 230:], b[0, :, 230:])
    # reach of the receptive field: 2 convolutions per level, each 2^level pixels, and the poolings
    torch.testing.assert_close(a[0, :, :96], b[0, :, :96])


@pytest.mark.parametrize("rng", [lambda: np.random.default_rng(1), lambda: torch.Generator().manual_seed(1)])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_rate_scale_and_gradient(rate, rng):
    drop = Dropout(rate)
    drop.rng = rng()
    x = torch.ones(20, 8, 128, 128, requires_grad=True)
    y = drop(x)
    kept = (y != 0).float().mean().item()
    # binomial error of 2.6 million draws: 0.00025 at 0.2
    assert kept == pytest.approx(1 - rate, abs=0.001)
    assert y.max().item() == pytest.approx(1 / (1 - rate), rel=2e-4)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())
    drop.eval()
    assert drop(x) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["rows", "channels last", "with gaps"])
def test_dropout_is_the_product_of_input_mask_and_scale(dtype, layout):
    """Value and gradient, to the bit, against the product written out; same draws whatever the layout allows."""
    x = torch.randn(3, 8, 16, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "with gaps":
        x = x[..., ::2]
    x.requires_grad_()
    drop = Dropout(0.2)
    drop.rng = np.random.default_rng(1)
    y = drop(x)
    draws = np.random.default_rng(1).integers(0, 2**64, x.numel() // 4, np.uint64).view(np.int16)
    noise = torch.from_numpy(draws)
    noise = noise.view(3, 16, 32, 8).permute(0, 3, 1, 2) if layout == "channels last" else noise.view(x.shape)
    kept = noise >= round(0.2 * 65536) - 32768
    scale = 65536 / (65536 - round(0.2 * 65536))
    assert torch.equal(y, x * kept * scale)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    y.backward(gradient)
    assert torch.equal(x.grad, gradient * kept * scale)


def test_dropout_masks_are_independent_of_memory_format_in_distribution_and_differ_between_calls():
    drop = Dropout(0.2)
    drop.rng = np.random.default_rng(1)
    x = torch.ones(2, 8, 16, 16).contiguous(memory_format=torch.channels_last)
    first, second = drop(x), drop(x)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(first, second)
    per_channel = (first != 0).float().mean(dim=(0, 2, 3))
    assert per_channel.min() > 0.7 and per_channel.max() < 0.9


def test_one_step_equals_plain_pytorch_without_dropout():
    """Same weights after one step as torch.nn layers written out by hand, to 1e-6."""
    ours = build_network(6, {"dropout": 0.0, "filters": (8, 16)})
    ours.start(np.random.default_rng(2), 0.01)
    plain = UNet(6, (8, 16), 0.0)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(4, 6, 32, 32, generator=torch.Generator().manual_seed(3))
    target = (torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(4)) < 0.01).float()
    for network, loss in (
        (ours, lambda z: cross_entropy(z, target)),
        (plain, lambda z: nn.BCEWithLogitsLoss()(z, target.float())),
    ):
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
        loss(network(x)).backward()
        optimiser.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_start_gives_the_base_rate_and_a_head_that_can_say_yes():
    network = build_network(6)
    network.start(np.random.default_rng(1), 0.002)
    network.eval()
    assert network.head.bias.item() == pytest.approx(math.log(0.002 / 0.998))
    weights = network.head.weight.flatten()
    assert (weights > 0).sum() == (weights < 0).sum() == 4


def test_cross_entropy_by_hand_and_ignored_pixels():
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 50.0]]])
    target = torch.tensor([[[1.0, 0.0], [0.0, -1.0]]])
    # -log(1/2), -log(1 - s(2)), -log(1 - s(-1)); the last pixel does not count
    expected = (math.log(2) + math.log1p(math.exp(2)) + math.log1p(math.exp(-1))) / 3
    assert cross_entropy(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_of_a_target_between_is_least_where_p_is_the_target():
    """ln(1 + e^z) - t z by hand, and no slope at p = t."""
    logits = torch.tensor([[[2.0]]], requires_grad=True)
    assert cross_entropy(logits, torch.tensor([[[0.25]]])).item() == pytest.approx(math.log1p(math.exp(2)) - 0.5)
    cross_entropy(logits, torch.tensor([[[1 / (1 + math.exp(-2))]]])).backward()
    assert logits.grad.item() == pytest.approx(0, abs=1e-6)
