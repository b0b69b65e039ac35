"""Likelihoods are densities, their deviance is what it says, and samples follow them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats

from vae_anomaly.models.likelihoods import (
    LARGEST_SWING,
    BernoulliLikelihood,
    Likelihood,
    Noise,
    NormalLikelihood,
    StudentTLikelihood,
    location_scale,
)
from vae_anomaly.models.networks import Shape, Sizes

NOISES: tuple[Noise, ...] = ("learned", "conditional")

#: Each likelihood of one value, and what scipy calls it.
CONTINUOUS: dict[str, tuple[Callable[[], Likelihood], stats.rv_frozen]] = {
    "normal": (
        lambda: NormalLikelihood(torch.tensor([0.4]), torch.tensor([0.7])),
        stats.norm(0.4, 0.7),
    ),
    "student_t, nu=2.5": (
        lambda: StudentTLikelihood(torch.tensor([0.4]), torch.tensor([0.7]), 2.5),
        stats.t(2.5, 0.4, 0.7),
    ),
    "student_t, nu=7": (
        lambda: StudentTLikelihood(torch.tensor([0.4]), torch.tensor([0.7]), 7.0),
        stats.t(7, 0.4, 0.7),
    ),
}
continuous = pytest.mark.parametrize("name", CONTINUOUS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(p: Likelihood, n: int = 20_000) -> np.ndarray:
    noise = generator()
    return torch.cat([p.draw(noise) for _ in range(n)]).numpy()


@continuous
def test_density_mean_and_spread_are_those_of_scipy(name: str) -> None:
    make, expected = CONTINUOUS[name]
    x = torch.linspace(-6, 6, 41)
    assert_allclose(make().log_prob(x), expected.logpdf(x.numpy()), rtol=1e-5, atol=1e-5)
    assert_allclose(make().mean, expected.mean(), rtol=1e-6)
    assert_allclose(make().stddev, expected.std(), rtol=1e-5)


@continuous
def test_deviance_is_twice_what_the_likelihood_falls_short(name: str) -> None:
    p = CONTINUOUS[name][0]()
    x = torch.linspace(-6, 6, 1201)
    short = 2 * (p.log_prob(p.mean) - p.log_prob(x))
    assert_allclose(p.deviance(x), short, atol=1e-4)
    assert_allclose(p.deviance(p.mean), 0.0)


@continuous
def test_samples_follow_the_density(name: str) -> None:
    """Kolmogorov-Smirnov on 20,000 fixed draws; a right sampler fails once in a thousand seeds."""
    make, expected = CONTINUOUS[name]
    assert stats.kstest(drawn(make()), expected.cdf).pvalue > 1e-3


def test_student_t_with_many_degrees_is_the_gaussian() -> None:
    loc, scale, x = torch.tensor([0.4]), torch.tensor([0.7]), torch.linspace(-2, 3, 11)
    robust, plain = StudentTLikelihood(loc, scale, 1e5), NormalLikelihood(loc, scale)
    assert_allclose(robust.deviance(x), plain.deviance(x), rtol=1e-3)
    assert_allclose(robust.log_prob(x), plain.log_prob(x), atol=1e-2)


def test_far_values_stay_finite() -> None:
    far, zero, one = torch.tensor([-1e6, 1e6]), torch.zeros(2), torch.ones(2)
    for p in (
        NormalLikelihood(zero, 0.01 * one),
        StudentTLikelihood(zero, 0.01 * one, 2.5),
        BernoulliLikelihood(torch.tensor([40.0, -40.0])),
    ):
        assert p.deviance(far).isfinite().all()
        assert p.log_prob(far).isfinite().all()


# --------------------------------------------------------------------------------------- bernoulli


def test_bernoulli_is_binary_cross_entropy() -> None:
    logits, x = torch.linspace(-6, 6, 25)[:, None], torch.linspace(0, 1, 11)
    p = BernoulliLikelihood(logits)
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(
        logits.expand(-1, 11), x.expand(25, -1), reduction="none"
    )
    assert_allclose(p.log_prob(x), expected, rtol=1e-6, atol=1e-6)
    total = p.log_prob(torch.zeros(1)).exp() + p.log_prob(torch.ones(1)).exp()
    assert_allclose(total, 1.0, rtol=1e-6)
    assert_allclose(p.mean, p.log_prob(torch.ones(1)).exp(), rtol=1e-5)
    assert_allclose(p.stddev, (p.mean * (1 - p.mean)).sqrt(), rtol=1e-5)


def test_bernoulli_deviance_is_twice_the_divergence_of_two_coins() -> None:
    for x in (0.0, 0.1, 0.5, 0.93, 1.0):
        for p in (0.02, 0.5, 0.9):
            terms = [(x, p), (1 - x, 1 - p)]
            divergence = sum(a * math.log(a / b) for a, b in terms if a > 0)
            coin = BernoulliLikelihood(torch.logit(torch.tensor([p])))
            got = coin.deviance(torch.tensor([x]))
            assert_allclose(got, 2 * divergence, atol=1e-5)


@pytest.mark.parametrize("logit", [-30.0, -3.0, 0.0, 0.7, 5.0, 30.0])
def test_the_further_outside_the_more_anomalous(logit: float) -> None:
    """Beyond an edge the deviance grows, and never falls below that of the edge."""
    p = BernoulliLikelihood(torch.tensor([logit]))
    above = p.deviance(torch.tensor([1.0, 1.01, 1.1, 2.0, 10.0, 1e6]))
    below = p.deviance(torch.tensor([0.0, -0.01, -0.1, -1.0, -9.0, -1e6]))
    for outside in (above, below):
        assert (outside.diff() > 0).all()
    inside = p.deviance(torch.linspace(0, 1, 101))
    assert float(inside.min()) >= 0
    assert float(above[-2]) > float(inside.max())
    assert torch.equal(p.log_prob(torch.tensor([1.0, -7.0])), p.log_prob(torch.tensor([9.0, 0.0])))


def test_bernoulli_samples_are_zeros_and_ones_with_the_mean() -> None:
    """10,000 draws: five standard errors, which a right sampler leaves once in two million."""
    p = BernoulliLikelihood(torch.logit(torch.tensor([0.2, 0.7])))
    samples = drawn(p, 10_000).reshape(-1, 2)
    assert set(np.unique(samples)) == {0.0, 1.0}
    assert_allclose(samples.mean(axis=0), [0.2, 0.7], atol=5 * 0.5 / 100)


# ---------------------------------------------------------------------------- noise and context


def test_noise_follows_the_context_where_it_is_asked_to() -> None:
    """Two modes whose noise is known, and around a mean that the decoder cannot miss."""
    mode = torch.arange(2000) % 2
    noise = torch.where(mode == 1, 0.4, 0.1)[:, None]
    x = noise * torch.randn(2000, 3, generator=generator())
    context = 2.0 * mode[:, None] - 1
    decoder = location_scale(Sizes(Shape(3, n_context=1), 1, ()), "conditional")
    assert torch.equal(decoder(torch.zeros(1, 1), torch.ones(1, 1)).stddev[0], decoder.sigma)
    step = torch.optim.Adam(decoder.parameters(), lr=2e-2)
    for _ in range(500):
        step.zero_grad()
        torch.autograd.backward(-decoder(torch.zeros(2000, 1), context).log_prob(x).mean())
        step.step()
    found = decoder(torch.zeros(2, 1), torch.tensor([[-1.0], [1.0]])).stddev.detach()
    assert_allclose(found, [[0.1] * 3, [0.4] * 3], rtol=0.06)  # three standard errors
    strange = decoder(torch.zeros(2, 1), torch.tensor([[-1e6], [1e6]])).stddev.detach()
    assert (strange <= math.exp(LARGEST_SWING) * decoder.sigma * 1.001).all()
    assert (strange >= math.exp(-LARGEST_SWING) * decoder.sigma * 0.999).all()


def test_without_context_conditional_noise_is_learned_noise() -> None:
    decoders = [location_scale(Sizes(Shape(3), 1, ()), noise) for noise in NOISES]
    names = [[name for name, _ in decoder.named_parameters()] for decoder in decoders]
    assert names[0] == names[1]
