"""The Bernoulli VAE is that of the textbooks, and knows pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_plant import QUICK, series
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from vae_anomaly.config import Training
from vae_anomaly.errors import ConfigError
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import VAE
from vae_anomaly.models.variants import VARIANTS, variant_of
from vae_anomaly.models.variants.bernoulli import Bernoulli
from vae_anomaly.scoring.fitting import fit_scorer

TEXTBOOK = Bernoulli(hidden=(400,), latent_dim=20, scaling=(0, 255), warmup=0.0)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of 8 × 8 pixels from 0 to 16, and what they show."""
    pixels, digit = load_digits(return_X_y=True)
    return pixels.astype(np.float64), digit


def textbook_loss(vae: VAE, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """F.binary_cross_entropy_with_logits (sum) + KL of each row, layer by layer.

    As in the VAE example that everyone starts from, but for SiLU in place of ReLU.
    """
    first, last = (vae.encoder.net.layers[i] for i in (0, 2))
    h = functional.silu(functional.linear(x, first.weight, first.bias))
    mu, log_sigma = functional.linear(h, last.weight, last.bias).chunk(2, dim=-1)
    logvar = 2 * log_sigma
    z = mu + torch.exp(0.5 * logvar) * noise
    first, last = (vae.decoder.net.layers[i] for i in (0, 2))
    h = functional.silu(functional.linear(z, first.weight, first.bias))
    logits = functional.linear(h, last.weight, last.bias)
    bce = functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=-1)
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=-1)


@pytest.mark.parametrize("training", [True, False])
def test_bound_is_binary_cross_entropy_plus_divergence_of_the_textbook(*, training: bool) -> None:
    with seeded(0):
        vae = TEXTBOOK.build(Shape(784)).train(training)
    x = torch.rand(32, 784, generator=torch.Generator().manual_seed(1))
    batch = Batch(x, x >= 0, torch.zeros(32, 0), torch.zeros(32, dtype=torch.int64))
    noise = torch.randn(32, 20, generator=torch.Generator().manual_seed(2))
    bound = TEXTBOOK.bound(vae, batch, 1.0, torch.Generator().manual_seed(2))
    loss = textbook_loss(vae, x, noise)
    assert_allclose(-bound.detach(), loss.detach(), rtol=1e-5)
    mine, theirs = (
        torch.autograd.grad(value.mean(), list(vae.parameters())) for value in (-bound, loss)
    )
    for got, expected in zip(mine, theirs, strict=True):
        assert_allclose(got, expected, rtol=1e-3, atol=1e-6)


def test_textbook_has_784_400_20_units() -> None:
    with seeded(0):
        vae = TEXTBOOK.build(Shape(784))
    shapes = [tuple(p.shape) for name, p in vae.named_parameters() if name.endswith("weight")]
    assert shapes == [(400, 784), (40, 400), (400, 20), (784, 400)]


def test_only_values_from_0_to_1_can_be_fed() -> None:
    with pytest.raises(ConfigError, match=r"scaling='standard' is not allowed; give 'range'"):
        Bernoulli(scaling="standard")
    with pytest.raises(ConfigError, match="scaling"):
        Bernoulli(scaling=(255.0, 0.0))
    assert variant_of("bernoulli", {"scaling": [0, 255]}) == Bernoulli(scaling=(0, 255))
    assert VARIANTS["bernoulli"]().scaling == "range"


@pytest.mark.slow
def test_a_digit_that_was_held_out_of_training_is_an_anomaly() -> None:
    """Sevens among other digits, never seen in training; AUROC 0.8 and more, chance is 0.5."""
    pixels, digit = digits()
    train, test = np.arange(1200), np.arange(1200, 1797)
    known = train[digit[train] != 7]
    scorer = fit_scorer(
        series(pixels[known[:-100]]),
        series(pixels[known[-100:]]),
        n_context=0,
        variant=Bernoulli(hidden=(128,), latent_dim=10, scaling=(0, 16)),
        training=Training(epochs=60, min_steps=300, checks=10),
        seed=0,
    ).scorer
    score, contributions = scorer(*series(pixels[test])[:2])
    assert roc_auc_score(digit[test] == 7, score) > 0.8
    white = np.full((1, 64), 16.0)
    outside = np.full((1, 64), 40.0)
    inside_score, outside_score = (float(scorer(*series(a)[:2])[0]) for a in (white, outside))
    assert outside_score > inside_score > float(score.max())
    assert_allclose(contributions.sum(dim=1), score, rtol=1e-4)
    expected = scorer.expected(*series(pixels[test])[:2])
    assert float(expected.min()) >= 0
    assert float(expected.max()) <= 16


def test_columns_of_zeros_and_ones_are_learnt() -> None:
    """Four valves that open and shut together: one that does not is found, and named."""
    rng = np.random.default_rng(0)
    together = rng.integers(0, 2, 600)
    valves = np.where(rng.random((600, 8)) < 0.01, 1 - together[:, None], together[:, None])
    rows = valves.astype(np.float64)
    scorer = fit_scorer(
        series(rows[:500]), series(rows[500:]), n_context=0,
        variant=Bernoulli(hidden=(16,), latent_dim=2), training=QUICK, seed=0,
    ).scorer  # fmt: skip
    stuck = np.ones((1, 8))
    stuck[0, 3] = 0.0
    score, contributions = scorer(*series(np.vstack([np.ones((1, 8)), stuck]))[:2])
    assert score[1] > 10 * score[0]
    assert contributions[1].argmax() == 3
