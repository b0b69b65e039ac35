"""What training maximises is what the papers write: free bits, weights of the divergence, IWAE."""

from __future__ import annotations

import math
from itertools import pairwise

import naive
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from test_linear import of_weights
from test_vae import batch_of, generator, random_rows, untrained
from torch.distributions import Normal

from vae_anomaly.config import Training
from vae_anomaly.errors import ConfigError
from vae_anomaly.models.likelihoods import standard_normal
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.settings import Objective
from vae_anomaly.models.standardize import Batch, Windows
from vae_anomaly.models.training import seeded, train
from vae_anomaly.models.vae import VAE, Model, divergences, importance_bound
from vae_anomaly.models.variants import Gaussian
from vae_anomaly.models.variants.linear import Linear

# -------------------------------------------------------------------------------------- free bits


def between(vae: VAE, batch: Batch) -> tuple[float, torch.Tensor]:
    """An allowance that half of the latents hold less than on the mean of the rows, and which."""
    held = divergences(vae, batch).detach().mean(dim=0).sort()
    n_free = len(held.values) // 2
    return float(held.values[n_free - 1 : n_free + 1].mean()), held.indices[:n_free]


def gradients(vae: VAE, batch: Batch, variant: Gaussian) -> dict[str, torch.Tensor]:
    """Of the mean bound with respect to the encoder's parameters."""
    vae.zero_grad()
    torch.autograd.backward(variant.bound(vae.train(), batch, 1.0, generator()).mean())
    return {name: p.grad.clone() for name, p in vae.encoder.named_parameters()}  # type: ignore[union-attr]


def test_latents_below_the_allowance_have_no_gradient_and_those_above_that_of_the_elbo() -> None:
    """Through the divergence alone: a decoder of zeros leaves the likelihood none."""
    vae, batch = untrained(5, latent_dim=4, hidden=(7,)), batch_of(random_rows(30, 5))
    for parameter in vae.decoder.parameters():
        parameter.data.zero_()
    allowance, is_free = between(vae, batch)
    plain = gradients(vae, batch, Gaussian())
    freed = gradients(vae, batch, Gaussian(free_bits=allowance))
    of_free = torch.zeros(2, 4, dtype=torch.bool)  # outputs are means, then log sigmas
    of_free[:, is_free] = True
    outputs = [name for name in plain if len(plain[name]) == 8]
    assert len(outputs) == 2  # weight and bias
    for name in outputs:
        assert (freed[name][of_free.flatten()] == 0).all()
        assert (plain[name][of_free.flatten()] != 0).any(dim=-1).all()
        assert torch.equal(freed[name][~of_free.flatten()], plain[name][~of_free.flatten()])


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_free_bits_take_the_mean_over_the_rows_before_the_larger(beta: float) -> None:
    vae, batch = untrained(5, latent_dim=4, hidden=(7,)).train(), batch_of(random_rows(30, 5))
    allowance, _ = between(vae, batch)
    with torch.no_grad():
        variant = Gaussian(beta=beta, free_bits=allowance)
        got = variant.bound(vae, batch, 1.0, generator()).double().mean()
        noise = standard_normal((30, 4), generator())
        log_likelihood, divergence = (part.double() for part in vae.terms(batch, noise))
    cost = naive.free_bits(divergence.tolist(), allowance)
    row_by_row = float(divergence.clamp(min=allowance).sum(dim=-1).mean())
    assert abs(row_by_row - cost) > 0.1  # the other order is another objective
    assert_allclose(got, log_likelihood.mean() - beta * cost, rtol=1e-5)


# ---------------------------------------------------------------------- weight of the divergence

weights = pytest.mark.parametrize(
    ("cycles", "warmup"), [(1, 0.0), (1, 0.2), (1, 1.0), (2, 0.5), (4, 0.5), (5, 0.8), (8, 1.0)]
)


@weights
def test_weight_over_a_training_is_the_sawtooth(cycles: int, warmup: float) -> None:
    """One cycle is the warm-up of Bowman et al. (2016)."""
    objective = Objective(beta=3.0, cycles=cycles, warmup=warmup)
    for n_steps in (40, 360, 2000):
        got = [objective.weight(step / n_steps) for step in range(n_steps)]
        expected = [3 * naive.sawtooth(t, n_steps, cycles, warmup) for t in range(1, n_steps + 1)]
        assert_allclose(got, expected, atol=1e-9)
    assert objective.weight(1.0) == 3.0


@weights
def test_training_gives_the_divergence_the_weight_of_each_step(cycles: int, warmup: float) -> None:
    variant = Gaussian(beta=0.7, cycles=cycles, warmup=warmup, latent_dim=2, hidden=(6,))
    used: dict[bool, list[tuple[float, float]]] = {True: [], False: []}

    def bound(
        module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> torch.Tensor:
        """The member's, with the weight that it gives to the divergence of these very draws."""
        assert isinstance(module, VAE)
        same = torch.Generator().set_state(generator.get_state())
        nats = variant.bound(module, batch, progress, generator)
        with torch.no_grad():
            noise = standard_normal((*batch.x.shape[:-1], module.noise_dim), same)
            log_likelihood, divergence = (part.double() for part in module.terms(batch, noise))
            weight = (log_likelihood - nats.double()).sum() / divergence.sum()
        used[module.training].append((progress, float(weight)))
        return nats

    with seeded(0):
        module = variant.build(Shape(5))
    rows, n = batch_of(random_rows(300, 5)), 40
    training = Training(epochs=1, min_steps=n, max_steps=n, checks=2, batch_size=100)
    train(module, bound, Windows.whole(rows), training, held_out=rows, seed=0)
    assert [progress for progress, _ in used[True]] == [step / n for step in range(n)]
    expected = [0.7 * naive.sawtooth(t, n, cycles, warmup) for t in range(1, n + 1)]
    assert_allclose([weight for _, weight in used[True]], expected, atol=1e-4)
    assert used[False]  # held-out rows are judged by the whole weight, whenever
    assert_allclose(used[False], [(1.0, 0.7)] * len(used[False]), atol=1e-4)


# ---------------------------------------------------------------------- importance-weighted bound


def pca() -> VAE:
    """Probabilistic PCA, of which log p(x) is known, with a posterior that is far from exact."""
    with seeded(0):
        vae = Linear(latent_dim=2, noise="shared").build(Shape(6))
        for parameter in vae.encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return vae.eval()


@torch.no_grad()
def bounds(vae: VAE, rows: np.ndarray, n_samples: int, n_draws: int = 100) -> np.ndarray:
    """Importance-weighted bounds of each row, drawn many times over, (draws, n) nats."""
    batch = batch_of(torch.from_numpy(rows).float())
    many = Batch(*(part.expand(n_draws, *part.shape) for part in batch))
    nats = importance_bound(vae, many, n_samples=n_samples, generator=generator(n_samples))
    return nats.double().numpy()


def error_of_mean(nats: np.ndarray) -> float:
    """Standard error of the mean of (draws, n) nats over draws and rows."""
    return float(nats.mean(axis=1).std(ddof=1) / math.sqrt(len(nats)))


def test_more_samples_come_to_the_likelihood_from_below() -> None:
    """Within 4 standard errors (one in 10,000 seeds fails); with 500 samples within 0.05 nats."""
    vae, rows = pca(), np.random.default_rng(0).normal(size=(20, 6))
    exact = float(of_weights(vae.requires_grad_(False), rows).mean())
    drawn = [bounds(vae, rows, n_samples) for n_samples in (1, 5, 50, 500)]
    means, errors = [nats.mean() for nats in drawn], [error_of_mean(nats) for nats in drawn]
    for (low, one), (high, other) in pairwise(zip(means, errors, strict=True)):
        assert low < high + 4 * math.hypot(one, other)
    for mean, error in zip(means, errors, strict=True):
        assert mean < exact + 4 * error
    assert exact - means[0] > 0.5
    assert_allclose(means[-1], exact, atol=0.05)


def test_one_sample_has_the_mean_of_the_elbo() -> None:
    """In closed form; within 4 standard errors (one in 10,000 seeds fails)."""
    vae, rows = pca().requires_grad_(False), np.random.default_rng(0).normal(size=(20, 6))
    q = vae.posterior(batch_of(torch.from_numpy(rows).float()))
    layer, sigma = vae.decoder.net.layers[0], vae.decoder.sigma.double().expand(6).numpy()
    W, mean = layer.weight.double().numpy(), layer.bias.double().numpy()
    expected = [
        naive.linear_elbo(row, mu, s, loading=W, mean=mean, sigma=sigma)
        for row, mu, s in zip(rows, q.mean.double().numpy(), q.stddev.double().numpy(), strict=True)
    ]
    drawn = bounds(vae, rows, 1, n_draws=2000)
    assert_allclose(drawn.mean(), np.mean(expected), atol=4 * error_of_mean(drawn))
    assert error_of_mean(drawn) < 0.02


@pytest.mark.parametrize("n_samples", [1, 5])
def test_gradient_is_the_mean_of_those_of_the_samples_by_their_weights(n_samples: int) -> None:
    """Burda et al. (2016), equation 14: sum_i w_i grad log w(x, z_i), normalised and detached."""
    vae, batch = untrained(5, latent_dim=3, hidden=(7,)).train(), batch_of(random_rows(30, 5))
    noise = standard_normal((n_samples, 30, 3), generator())
    q = vae.posterior(batch)
    log_weights = []
    for one in noise:  # sample by sample
        z = q.mean + q.stddev * one
        p = Normal(vae.decoder.net(z, batch.context), vae.decoder.sigma)
        log_prior, log_posterior = (
            Normal(0.0, 1.0).log_prob(z),
            Normal(q.mean, q.stddev).log_prob(z),
        )
        log_weights.append(p.log_prob(batch.x).sum(-1) + (log_prior - log_posterior).sum(-1))
    raw = [log_weight.detach().double().exp() for log_weight in log_weights]
    total = sum(raw)
    naively = sum((w / total) * log_w for w, log_w in zip(raw, log_weights, strict=True))
    assert isinstance(naively, torch.Tensor)
    parameters = list(vae.parameters())
    expected = torch.autograd.grad(naively.mean(), parameters, retain_graph=True)
    bound = importance_bound(vae, batch, n_samples=n_samples, generator=generator())
    assert_allclose(bound.detach(), (total / n_samples).log(), atol=1e-4)
    got = torch.autograd.grad(bound.mean(), parameters)
    trained = Gaussian(n_samples=5).bound(vae, batch, 1.0, generator())
    of_member = torch.autograd.grad(trained.mean(), parameters)
    for mine, other, naive_one in zip(got, of_member, expected, strict=True):
        assert_allclose(mine, naive_one, rtol=1e-3, atol=1e-5)
        assert (naive_one != 0).any()
        if n_samples == 5:
            assert_allclose(other, naive_one, rtol=1e-3, atol=1e-5)


def test_free_bits_beside_several_samples_are_refused() -> None:
    for kind in (Objective, Gaussian):
        with pytest.raises(ConfigError, match="leave free_bits at 0, or n_samples at 1"):
            kind(free_bits=0.1, n_samples=5)
