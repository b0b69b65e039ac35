"""Latents and rows that a model makes, in standardised units."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from linear_plant import fitted, normal_rows
from numpy.testing import assert_allclose
from torch import Tensor

from vae_anomaly.errors import InputError
from vae_anomaly.models.generate import decode, interpolate, near, traverse
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import VAE
from vae_anomaly.models.variants import VARIANTS, Gaussian


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def linear_vae() -> VAE:
    """A factor analysis with random weights: of 4 sensors and 2 latents all is known."""
    with seeded(3):
        module = Gaussian(hidden=(), latent_dim=2, noise=0.5).build(Shape(4)).eval()
    assert isinstance(module, VAE)
    return module


def batch() -> Batch:
    standardizer = fitted().scorer.standardizer
    return standardizer(torch.from_numpy(normal_rows(200, 7)))


# ----------------------------------------------------------------------------- against closed forms


def test_draws_of_a_linear_model_have_its_mean_and_covariance() -> None:
    """x = W z + b + noise with z ~ N(0, I) has mean b and covariance W W' + sigma² I."""
    vae, n = linear_vae(), 40_000
    with torch.no_grad():
        b, *ends = vae.likelihood(torch.eye(3, 2).roll(1, 0), torch.zeros(3, 0)).mean.double()
    w, b = np.stack([end - b for end in ends], axis=1), b.numpy()  # the images of 0 and the axes
    context = torch.zeros(n, 0)
    x = decode(vae, vae.draw(context, generator()), context, generator()).double().numpy()
    covariance = w @ w.T + 0.25 * np.eye(4)
    error = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / n)
    assert (np.abs(x.mean(axis=0) - b) < 4 * np.sqrt(np.diag(covariance) / n)).all()
    assert (np.abs(np.cov(x.T) - covariance) < 4 * error).all()


def test_latents_near_a_row_have_its_posterior_mean_and_spread() -> None:
    module, row = fitted().scorer.module, Batch(*(part[:1] for part in batch()))
    many = Batch(*(part.expand(20_000, *part.shape[1:]) for part in row))
    z = near(module, many, generator(), temperature=2.0).double()
    mean, spread = (part.detach()[0].double() for part in (module.embed(row), module.spread(row)))
    assert ((z.mean(dim=0) - mean).abs() < 4 * 2 * spread / math.sqrt(20_000)).all()
    assert_allclose(z.std(dim=0), 2 * spread, rtol=0.03)


def test_great_circle_is_the_rotation_in_the_plane_of_its_ends() -> None:
    angle, turn = 2.0, torch.linspace(0, 1, 7) * 2.0
    start = torch.tensor([3.0, 0.0, 0.0])
    end = 3 * torch.tensor([math.cos(angle), math.sin(angle), 0.0])
    expected = 3 * torch.stack([turn.cos(), turn.sin(), torch.zeros(7)], dim=1)
    assert_allclose(interpolate(start, end, 7, spherical=True), expected, atol=1e-6)


# --------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("dim", [2, 3, 50])
def test_spherical_way_keeps_the_norm_of_equal_ends_and_moves_evenly(dim: int) -> None:
    a, b = (torch.randn(dim, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    way = interpolate(a / a.norm(), b / b.norm(), 9, spherical=True)
    assert_allclose(way.norm(dim=1), np.ones(9), rtol=1e-5)
    steps = (way[1:] - way[:-1]).norm(dim=1)
    assert_allclose(steps, np.full(8, steps.mean()), rtol=1e-3)


def test_norm_changes_evenly_between_unequal_ends() -> None:
    way = interpolate(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0]), 5, spherical=True)
    assert_allclose(way.norm(dim=1), [1, 2, 3, 4, 5], rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "end"),
    [([1.0, 2.0], [2.0, 4.0]), ([1.0, 2.0], [-1.0, -2.0]), ([0.0, 0.0], [1.0, 2.0]),
     ([1.0, 2.0], [1.0, 2.0]), ([0.0, 0.0], [0.0, 0.0])],
)  # fmt: skip
def test_way_between_parallel_latents_is_straight(start: list[float], end: list[float]) -> None:
    a, b = torch.tensor(start), torch.tensor(end)
    assert torch.equal(interpolate(a, b, 5, spherical=True), interpolate(a, b, 5))


@pytest.mark.parametrize("spherical", [False, True])
def test_ends_of_a_way_are_the_given_ones_and_it_can_be_gone_back(spherical: bool) -> None:
    a, b = torch.randn(2, 6, generator=generator())
    there = interpolate(a, b, 8, spherical=spherical)
    assert torch.equal(there[0], a)
    assert torch.equal(there[-1], b)
    assert_allclose(interpolate(b, a, 8, spherical=spherical).flip(0), there, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_member_decodes_draws_neighbours_and_ways(variant: str) -> None:
    module, rows = fitted(variant).scorer.module, batch()
    context = torch.zeros(5, 0)
    ways = interpolate(*module.embed(rows)[:2].detach(), 5, spherical=True)
    for z in (module.draw(context, generator()), near(module, rows, generator())[:5], ways):
        for x in (decode(module, z, context), decode(module, z, context, generator())):
            assert x.shape == (5, rows.x.shape[1])
            assert x.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_seed_draws_the_same_rows(variant: str) -> None:
    module, context = fitted(variant).scorer.module, torch.zeros(50, 0)

    def rows() -> Tensor:
        noise = generator()
        return decode(module, module.draw(context, noise), context, noise)

    assert torch.equal(rows(), rows())


def test_only_one_latent_moves_at_a_time() -> None:
    z, values = torch.randn(4, generator=generator()), torch.linspace(-3, 3, 5).expand(4, 5)
    moved = traverse(z, values)
    for latent in range(4):
        assert torch.equal(moved[latent, :, latent], values[latent])
        others = [other for other in range(4) if other != latent]
        assert torch.equal(moved[latent][:, others], z[others].expand(5, 3))


def test_no_way_and_no_neighbourhood_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        interpolate(torch.zeros(2), torch.ones(2), 1)
    with pytest.raises(InputError, match="temperature=-1"):
        near(fitted().scorer.module, batch(), generator(), temperature=-1)
