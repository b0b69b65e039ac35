"""Priors p(z | c): their divergence, the densities they integrate to, and what is drawn."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats

from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import ConditionalNormal, StandardNormal
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import VAE, divergences, elbo, importance_bound
from vae_anomaly.models.variants import Gaussian


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditional(d: int = 4, n_context: int = 2, **settings: object) -> VAE:
    with seeded(0):
        shape = Shape(d, n_context)
        vae = Gaussian(prior="conditional", hidden=(6,), **settings).build(shape)  # type: ignore[arg-type]
        for name, parameter in vae.named_parameters():
            torch.nn.init.normal_(parameter, std=0.3 if "prior" not in name else 0.8)
    return vae.eval().requires_grad_(False)


def batch(n: int = 10, d: int = 4, n_context: int = 2) -> Batch:
    x, c = (torch.randn(n, k, generator=generator(k)) for k in (d, n_context))
    return Batch(x, torch.ones_like(x, dtype=torch.bool), c, torch.zeros(n, dtype=torch.int64))


def divergence_of_gaussians(mu: float, sd: float, prior_mu: float, prior_sd: float) -> float:
    """KL(N(mu, sd²) || N(prior_mu, prior_sd²))."""
    squares = (sd**2 + (mu - prior_mu) ** 2) / (2 * prior_sd**2)
    return math.log(prior_sd / sd) + squares - 0.5


def test_divergence_is_that_of_two_gaussians_number_by_number() -> None:
    vae, some = conditional(latent_dim=3), batch()
    q, prior = vae.posterior(some), vae.prior(some.context)
    assert (prior.mean.std(dim=0) > 0.1).all()  # it depends on the context
    parts = [t.double().numpy() for t in (q.mean, q.stddev, prior.mean, prior.stddev)]
    expected = np.vectorize(divergence_of_gaussians)(*parts)
    assert_allclose(divergences(vae, some), expected, rtol=1e-4, atol=1e-5)
    free, full = (elbo(vae, some, generator=generator(), beta=beta) for beta in (0.0, 1.0))
    assert_allclose(free - full, expected.sum(axis=1), rtol=1e-3)


def test_bounds_stay_below_the_density_that_integrates_over_the_prior() -> None:
    vae, some = conditional(d=5, latent_dim=1), batch(8, 5)
    z = torch.linspace(-15, 15, 6001)[:, None, None].expand(-1, 8, 1)  # (g, n, 1)
    mu, sd = (t.numpy() for t in (vae.prior(some.context).mean, vae.prior(some.context).stddev))
    log_prior = stats.norm(mu, sd).logpdf(z.numpy()).sum(axis=-1)
    log_joint = vae.likelihood(z, some.context).log_prob(some.x).sum(dim=-1) + torch.from_numpy(
        log_prior
    )
    log_density = log_joint.logsumexp(dim=0) + math.log(30 / 6000)
    many = Batch(*(part.expand(4000, *part.shape) for part in some))
    single = elbo(vae, many, generator=generator()).mean(dim=0)
    weighted = [
        importance_bound(vae, many, n_samples=s, generator=generator()).mean(dim=0) for s in (5, 25)
    ]
    rising = [single, *weighted, log_density]
    assert all((low <= high + 0.02).all() for low, high in pairwise(rising))
    exact = importance_bound(vae, some, n_samples=50_000, generator=generator())
    assert_allclose(exact, log_density, atol=0.15)


def test_latents_are_drawn_from_the_prior_of_their_context() -> None:
    """Kolmogorov-Smirnov on 20,000 fixed draws a latent; a right one fails once in a thousand."""
    vae = conditional(latent_dim=2)
    for value in (-1.5, 0.0, 2.0):
        context = torch.tensor([[value, -value]])
        prior = vae.prior(context)
        z = vae.draw(context.expand(20_000, -1), generator())
        assert z.shape == (20_000, 2)
        for k in range(2):
            expected = stats.norm(float(prior.mean[0, k]), float(prior.stddev[0, k]))
            assert stats.kstest(z[:, k].numpy(), expected.cdf).pvalue > 1e-3


@pytest.mark.slow
def test_trained_prior_follows_the_latents_of_its_context() -> None:
    """Two modes with other causes: the prior of each is where the posteriors of its rows are."""
    rng = np.random.default_rng(0)
    mode = rng.integers(0, 2, 3000)
    cause = np.where(mode == 1, 3.0 + 0.3 * rng.normal(size=3000), rng.normal(size=3000))
    x = np.outer(cause, [1.0, -1.0, 0.5, 2.0]) + 0.2 * rng.normal(size=(3000, 4))
    x, c = (torch.from_numpy(a).float() for a in ((x - x.mean(0)) / x.std(0), mode[:, None]))
    some = Batch(x, torch.ones_like(x, dtype=torch.bool), c, torch.zeros(3000, dtype=torch.int64))
    bounds = {}
    for prior in ("standard", "conditional"):
        variant = Gaussian(prior=prior, latent_dim=1, hidden=(16,))
        with seeded(0):
            vae = variant.build(Shape(4, 1)).train()
        step = torch.optim.Adam(vae.parameters(), lr=1e-2)
        for i in range(1500):
            step.zero_grad()
            torch.autograd.backward(-variant.bound(vae, some, i / 1500, generator(i)).mean())
            step.step()
        with torch.no_grad():
            bounds[prior] = float(variant.bound(vae.eval(), some, 1.0, generator()).mean())
    z, p = vae.embed(some).detach()[:, 0], vae.prior(some.context)
    for value in (0, 1):
        own = mode == value
        assert_allclose(p.mean[own].mean().detach(), z[own].mean(), atol=0.15)
        spread = math.hypot(float(z[own].std()), float(vae.spread(some).detach()[own].mean()))
        assert_allclose(p.stddev[own].mean().detach(), spread, rtol=0.15)
    assert bounds["conditional"] > bounds["standard"] - 0.05


def test_without_context_it_is_the_standard_normal() -> None:
    shape = Shape(4, n_context=0)
    sizes = Gaussian(latent_dim=3).sizes(shape)
    nothing = torch.zeros(5, 0)
    one, other = ConditionalNormal(sizes)(nothing), StandardNormal(sizes)(nothing)
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.stddev, other.stddev)
    assert not list(ConditionalNormal(sizes).parameters())
