"""What szeek-1 was compared with does what its names say, and leaves the package as it was."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from szeek.config import load_config
from szeek.learn import train as training
from szeek.learn.labels import ClusterLabels
from szeek.learn.model import build_unet

ROOT = Path(__file__).parents[2]
FIELD = (30.0, 40.0, 20.0, 64, 64, 1.7177)


@pytest.fixture
def ingredients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import ingredients

    return ingredients


@pytest.fixture
def discs() -> ClusterLabels:
    """Two that overlap: 10 arcmin wide at the middle, 20 arcmin wide 6 arcmin beside it."""
    return ClusterLabels(np.array([30.0, 30.13]), np.array([40.0, 40.0]), np.array([10.0, 20.0]))


def test_losses_of_an_undecided_network(ingredients) -> None:
    """At p = 1/2 everywhere every pixel's cross-entropy is ln 2."""
    logits, targets = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert float(ingredients.focal(logits, targets)) == pytest.approx(math.log(2) / 4)  # (1 - 1/2)^2
    # prior x ln 2 + (ln 2 - prior x ln 2)
    assert float(ingredients.positive_unlabelled(logits, targets)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("probability", [0.003, 0.1, 0.5, 0.8])
def test_p_of_a_network_of_focal_loss_can_be_undone(ingredients, probability: float) -> None:
    def risk(p: float) -> float:
        logits = torch.tensor([[[math.log(p / (1 - p))]]], dtype=torch.float64)
        yes, no = (
            float(ingredients.focal(logits, torch.tensor([[[label]]], dtype=torch.float64))) for label in (1, 0)
        )
        return probability * yes + (1 - probability) * no

    least = minimize_scalar(risk, bounds=(1e-4, 1 - 1e-4), method="bounded", options={"xatol": 1e-9}).x
    assert abs(least - 0.5) <= abs(probability - 0.5)
    assert ingredients.undo_focal(np.array([least]))[0] == pytest.approx(probability, rel=1e-4)


def test_positive_unlabelled_loss_forgives_what_is_not_labelled(ingredients) -> None:
    """Twenty clusters in 1,000 pixels, ten of them labelled, all found with ln odds of 8."""
    targets = torch.zeros(1, 1, 1000)
    targets[..., :10] = 1
    logits = torch.full((1, 1, 1000), -8.0)
    logits[..., :20] = 8.0
    # of the unlabelled risk, 20 x 8 / 1000, the prior's share is taken off: 0.02 x 8
    assert float(ingredients.positive_unlabelled(logits, targets, prior=0.02)) == pytest.approx(0, abs=1e-3)
    assert float(training.cross_entropy(logits, targets)) == pytest.approx(10 * 8 / 1000, abs=1e-3)


def test_targets_lie_where_the_discs_do(ingredients, discs: ClusterLabels) -> None:
    drawn = discs.draw(*FIELD) == 1
    soft = ingredients.SoftTargets(discs).draw(*FIELD)
    assert drawn[soft > 0.5].all() and not drawn[soft < 0.5].any()
    assert soft.max() > 0.96  # within half a pixel of the centre of the wider one
    flux = ingredients.FluxTargets(discs, np.array([1e-2, 1e-3])).draw(*FIELD)
    np.testing.assert_array_equal(flux > 0, drawn)
    # 1e-4 ... 1e-1 from 0 to 1: a third each decade; the brighter one on top
    np.testing.assert_allclose(np.unique(flux), [0, 1 / 3, 2 / 3], rtol=1e-6)
    brighter = ClusterLabels(np.array([30.0]), np.array([40.0]), 10.0).draw(*FIELD) == 1
    np.testing.assert_allclose(flux[brighter], 2 / 3, rtol=1e-6)


def test_flux_head_learns_from_discs_alone(ingredients) -> None:
    low, high = math.log(1e-4), math.log(1e-1)
    targets = torch.tensor([[[0.4, 0.0]]])
    truth = low + 0.4 * (high - low) - math.log(1e-3)
    right = torch.tensor([[[[9.0, truth], [-9.0, 50.0]]]])
    wrong = torch.tensor([[[[9.0, truth + 3.0], [-9.0, 0.0]]]])
    entropy = float(ingredients.entropy_and_flux(right[..., 0], targets))
    assert float(ingredients.entropy_and_flux(right, targets)) == pytest.approx(entropy, abs=1e-6)
    # |3| - 1/2, over two pixels
    assert float(ingredients.entropy_and_flux(wrong, targets)) == pytest.approx(entropy + 2.5 / 2)


def test_package_is_as_it_was_after_a_trial(ingredients) -> None:
    settings = load_config("szeek-1").network.model_dump(exclude={"members"})

    def count_weights() -> int:
        return sum(weight.numel() for weight in build_unet(9, settings).parameters())

    usual, counts = count_weights(), {}
    for name in ingredients.INGREDIENTS:
        with ingredients.trying(name):
            counts[name] = count_weights() - usual
            assert build_unet(9, settings).eval()(torch.zeros(1, 9, 64, 64)).shape == (1, 64, 64)
        assert count_weights() == usual
        assert training.cross_entropy.__module__ == training.make_labels.__module__ == "szeek.learn.train"
    assert counts["a head for Y500"] == 16 + 1
    assert counts["dilated convolutions"] == 0
    # a 1 x 1 convolution beside each block: 9 inputs up to 256, and what comes up doubled down again
    down = [(9, 16), (16, 32), (32, 64), (64, 128), (128, 256)]
    up = [(256, 128), (128, 64), (64, 32), (32, 16)]
    assert counts["residual blocks"] == sum(i * o + o for i, o in (*down, *up))
