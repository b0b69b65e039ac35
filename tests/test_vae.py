"""The bounds are bounds, on the densities that they say."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import naive
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from vae_anomaly.models.likelihoods import SMALLEST_SIGMA, LocationScale
from vae_anomaly.models.networks import MLP, Linear, Shape, Sizes, join
from vae_anomaly.models.priors import StandardNormal
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import VAE, elbo, importance_bound
from vae_anomaly.models.variants import Gaussian


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(x: torch.Tensor, n_context: int = 0) -> Batch:
    """Rows (*, n, d), NaN = missing, with a context drawn at random."""
    context = torch.randn(*x.shape[:-1], n_context, generator=generator(1))
    label = torch.zeros(x.shape[:-1], dtype=torch.int64)
    return Batch(x.nan_to_num(0.0), ~x.isnan(), context, label)


def random_rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def untrained(n_features: int, n_context: int = 0, **settings: object) -> VAE:
    with seeded(0):
        vae = Gaussian(**settings).build(Shape(n_features, n_context))  # type: ignore[arg-type]
        for parameter in vae.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return vae.eval()


@torch.no_grad()
def linear_vae(d: int, k: int) -> tuple[VAE, np.ndarray, np.ndarray, np.ndarray]:
    """Factor analysis, whose encoder is the exact posterior but for its correlations."""
    vae = untrained(d, latent_dim=k, hidden=())
    decoder, encoder = vae.decoder.net.layers[0], vae.encoder.net.layers[0]
    W, mean = decoder.weight.numpy(), decoder.bias.numpy()
    sigma = vae.decoder.sigma.numpy()
    precision = np.eye(k) + (W.T / sigma**2) @ W
    gain = np.linalg.solve(precision, W.T / sigma**2)
    log_sigma = 0.5 * np.log(np.diag(np.linalg.inv(precision)))
    encoder.weight.copy_(torch.from_numpy(np.vstack([gain, np.zeros_like(gain)])))
    encoder.bias.copy_(torch.from_numpy(np.concatenate([-gain @ mean, log_sigma])))
    return vae, W, mean, sigma


def test_without_hidden_layers_it_is_factor_analysis() -> None:
    vae, W, mean, sigma = linear_vae(d=6, k=2)
    x = random_rows(20, 6)
    with torch.no_grad():
        got = importance_bound(vae, batch_of(x), n_samples=20_000, generator=generator())
    expected = [naive.factor_analysis(row, W, mean, sigma) for row in x.double().numpy()]
    assert_allclose(got, expected, atol=0.05)


def test_missing_entries_are_integrated_out() -> None:
    vae, W, mean, sigma = linear_vae(d=6, k=2)
    x = random_rows(20, 6)
    x[torch.rand(20, 6, generator=generator(2)) < 0.3] = torch.nan
    x[3] = torch.nan
    with torch.no_grad():
        got = importance_bound(vae, batch_of(x), n_samples=50_000, generator=generator())
    expected = [naive.factor_analysis(row, W, mean, sigma) for row in x.double().numpy()]
    assert_allclose(got, expected, atol=0.1)
    assert_allclose(got[3], 0.0, atol=0.01)  # nothing seen: probability one


@pytest.mark.parametrize("n_context", [0, 2])
def test_mean_bounds_stay_below_the_integrated_density(n_context: int) -> None:
    vae = untrained(5, n_context, latent_dim=1, hidden=(6,))
    batch = batch_of(random_rows(8, 5), n_context)
    z = torch.linspace(-12, 12, 4001)[:, None, None].expand(-1, 8, 1)  # (g, n, 1)
    with torch.no_grad():
        log_joint = vae.likelihood(z, batch.context).log_prob(batch.x).sum(dim=-1)
        log_joint += vae.prior(batch.context).log_prob(z)
        log_density = log_joint.logsumexp(dim=0) + math.log(24 / 4000)
        many = Batch(*(part.expand(4000, *part.shape) for part in batch))
        single = elbo(vae, many, generator=generator()).mean(dim=0)
        weighted = [
            importance_bound(vae, many, n_samples=s, generator=generator()).mean(dim=0)
            for s in (1, 5, 25)
        ]
    assert_allclose(weighted[0], single, atol=0.1)  # one sample: the same bound, another estimate
    rising = [single, *weighted[1:], log_density]
    assert all((low <= high + 0.02).all() for low, high in pairwise(rising))
    assert (single < log_density - 0.1).any()


def test_divergence_is_that_of_two_gaussians() -> None:
    vae, batch = untrained(4, latent_dim=3), batch_of(random_rows(10, 4))
    with torch.no_grad():
        without = elbo(vae, batch, generator=generator(), beta=0.0)
        half = elbo(vae, batch, generator=generator(), beta=0.5)
        q = vae.posterior(batch)
    pairs = zip(q.mean.tolist(), q.stddev.tolist(), strict=True)
    divergence = [naive.divergence_from_standard_normal(mu, sigma) for mu, sigma in pairs]
    assert_allclose(without - half, np.multiply(0.5, divergence), rtol=1e-4)


def test_entries_that_are_missing_cannot_matter() -> None:
    vae, batch = untrained(4), batch_of(random_rows(10, 4))
    hidden = batch.observed.clone()
    hidden[:, 2] = False
    silent = vae.decoder.sigma.detach().clone()
    bound = elbo(vae, batch._replace(observed=hidden), generator=generator())
    bound.sum().backward()
    assert bound.isfinite().all()
    assert vae.decoder.log_sigma.grad is not None
    assert vae.decoder.log_sigma.grad[2] == 0
    assert (vae.decoder.log_sigma.grad[[0, 1, 3]] != 0).all()
    assert torch.equal(silent, vae.decoder.sigma)


def test_ensemble_axis_goes_through() -> None:
    vae, batch = untrained(4, 2), batch_of(random_rows(3, 10, 4), n_context=2)
    assert elbo(vae, batch, generator=generator()).shape == (3, 10)
    assert importance_bound(vae, batch, n_samples=5, generator=generator()).shape == (3, 10)


def test_same_generator_same_bound() -> None:
    vae, batch = untrained(4), batch_of(random_rows(10, 4))
    before = torch.get_rng_state()
    assert torch.equal(
        elbo(vae, batch, generator=generator(3)), elbo(vae, batch, generator=generator(3))
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_learned_noise_cannot_vanish_and_fixed_noise_is_not_learned() -> None:
    sizes = Sizes(Shape(3), latent_dim=2, hidden=())
    learned, fixed = LocationScale(sizes), LocationScale(sizes, noise=0.2)
    learned.log_sigma.data.fill_(-100.0)
    assert_allclose(learned.sigma.detach(), SMALLEST_SIGMA)
    assert_allclose(fixed.sigma, 0.2, rtol=1e-6)
    assert "log_sigma" in dict(learned.named_parameters())
    assert "log_sigma" not in dict(fixed.named_parameters())


def test_prior_is_standard_normal() -> None:
    sizes = Sizes(Shape(3, 1), latent_dim=2, hidden=())
    prior = StandardNormal(sizes)(torch.zeros(4, 7, 1))
    assert prior.batch_shape == (4, 7)
    assert_allclose(prior.log_prob(torch.zeros(4, 7, 2)), -math.log(2 * math.pi), rtol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_padding_changes_no_output(*, bias: bool) -> None:
    layer, x = Linear(7, 5, bias=bias), random_rows(40, 7)
    assert_allclose(layer.eval()(x).detach(), layer.train()(x).detach(), atol=1e-6)


@pytest.mark.parametrize("hidden", [(), (10,), (64, 64), (100, 24)])
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (5, 7), (10, 10), (33, 3), (20, 20)])
def test_rows_come_out_the_same_wherever_they_stand(
    n_in: int, n_out: int, hidden: tuple[int, ...]
) -> None:
    net, x = MLP(n_in, n_out, hidden).eval(), random_rows(1024, n_in)
    none = x[:, :0]
    places = torch.randperm(1024, generator=generator())
    with torch.no_grad():
        assert torch.equal(net(x, none)[places], net(x[places], none))


def test_context_is_joined_to_every_sample() -> None:
    a, context = random_rows(5, 3, 2), random_rows(3, 4)
    joined = join(a, context)
    assert joined.shape == (5, 3, 6)
    assert torch.equal(joined[4, :, 2:], context)
    assert join(a, context[:, :0]) is a


@pytest.mark.parametrize(("scaling", "middle"), [("standard", 0.0), ("range", 0.5)])
def test_what_is_missing_looks_like_the_middle_to_the_encoder(
    scaling: Literal["standard", "range"], middle: float
) -> None:
    """Not like the lowest value that a sensor ever had, which 0 means where scaling is 'range'."""
    vae = untrained(4, scaling=scaling)
    gap = batch_of(torch.full((1, 4), torch.nan))
    same = batch_of(torch.full((1, 4), middle))
    assert torch.equal(vae.embed(gap), vae.embed(same))
