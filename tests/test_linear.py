"""The linear VAE comes to the closed-form solutions of PCA and factor analysis."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import naive
import numpy as np
import pytest
import torch
from linear_plant import K, normal_rows
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA, FactorAnalysis

from vae_anomaly.config import Training
from vae_anomaly.errors import ConfigError
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch, Windows
from vae_anomaly.models.training import seeded, train
from vae_anomaly.models.vae import VAE, importance_bound
from vae_anomaly.models.variants.linear import Linear

Noise = Literal["shared", "sensor"]

LONG = Training(
    epochs=1, min_steps=2500, max_steps=2500, checks=10, patience=10, learning_rate=1e-2
)


class Plane(NamedTuple):
    """Standardised rows near a plane of k dimensions: to train on, and fresh ones."""

    k: int
    train: np.ndarray
    fresh: np.ndarray


def plane(name: str) -> Plane:
    if name == "plant":
        return _standardised(K, normal_rows(2000, 0), normal_rows(500, 1))
    rng = np.random.default_rng(4)
    W, noise = rng.normal(size=(20, 4)), rng.uniform(0.2, 0.8, 20)
    rows = rng.normal(size=(3500, 4)) @ W.T + noise * rng.normal(size=(3500, 20))
    return _standardised(4, rows[:3000], rows[3000:])


def _standardised(k: int, train: np.ndarray, fresh: np.ndarray) -> Plane:
    center, scale = train.mean(axis=0), train.std(axis=0)
    return Plane(k, (train - center) / scale, (fresh - center) / scale)


def batch(rows: np.ndarray) -> Batch:
    x = torch.from_numpy(rows).float()
    n = len(x)
    return Batch(x, ~x.isnan(), torch.zeros(n, 0), torch.zeros(n, dtype=torch.int64))


@lru_cache
def trained(name: str, noise: Noise) -> VAE:
    some = plane(name)
    variant = Linear(latent_dim=some.k, noise=noise)
    with seeded(0):
        vae = variant.build(Shape(some.train.shape[1]))
    windows = Windows.whole(batch(some.train))
    train(vae, variant.bound, windows, LONG, held_out=batch(some.fresh), seed=0)
    return vae.requires_grad_(False)


def closed_form(name: str, noise: Noise) -> np.ndarray:
    """Log-likelihood of the fresh rows under the most likely model, in closed form."""
    some = plane(name)
    model = PCA(some.k) if noise == "shared" else FactorAnalysis(some.k, tol=1e-6, max_iter=5000)
    return model.fit(some.train).score_samples(some.fresh)


def of_weights(vae: VAE, rows: np.ndarray) -> np.ndarray:
    """Log-likelihood of rows under the density that the decoder's weights say, in closed form."""
    layer = vae.decoder.net.layers[0]
    W, mean = layer.weight.double().numpy(), layer.bias.double().numpy()
    sigma = vae.decoder.sigma.double().numpy() * np.ones(len(mean))
    return np.array([naive.factor_analysis(row, W, mean, sigma) for row in rows])


everywhere = pytest.mark.parametrize(
    ("name", "noise"),
    [(name, noise) for name in ("plant", "wide") for noise in ("shared", "sensor")],
)


@pytest.mark.slow
@everywhere
def test_held_out_likelihood_comes_to_the_closed_form(name: str, noise: Noise) -> None:
    best = closed_form(name, noise)
    got = of_weights(trained(name, noise), plane(name).fresh)
    print(f"{name}, {noise}: {got.mean():.3f} nats, closed form {best.mean():.3f}")
    assert_allclose(got.mean(), best.mean(), atol=0.03)
    assert np.corrcoef(got, best)[0, 1] > 0.99


@pytest.mark.slow
@everywhere
def test_bounds_come_to_the_likelihood(name: str, noise: Noise) -> None:
    """The posterior is exact but for rotations that the bound itself rules out."""
    vae, fresh = trained(name, noise), plane(name).fresh
    exact = of_weights(vae, fresh)
    noises = torch.Generator().manual_seed(0)
    weighted = importance_bound(vae, batch(fresh), n_samples=2000, generator=noises)
    assert_allclose(weighted.mean(), exact.mean(), atol=0.02)
    single = Linear().bound(vae, batch(fresh), 1.0, noises)
    assert exact.mean() - 0.2 < float(single.mean()) < exact.mean() + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plant", "wide"])
def test_columns_of_the_decoder_span_the_principal_components(name: str) -> None:
    some = plane(name)
    W = trained(name, "shared").decoder.net.layers[0].weight.double().numpy()
    principal = PCA(some.k).fit(some.train).components_.T
    cosines = np.linalg.svd(np.linalg.qr(W).Q.T @ principal, compute_uv=False)
    assert cosines.min() > 0.99


def test_untrained_importance_weights_integrate_the_latent_out() -> None:
    with seeded(0):
        vae = Linear(latent_dim=2).build(Shape(6)).eval().requires_grad_(False)
    rows = np.random.default_rng(0).normal(size=(20, 6))
    got = importance_bound(
        vae, batch(rows), n_samples=20_000, generator=torch.Generator().manual_seed(0)
    )
    assert_allclose(got, of_weights(vae, rows), atol=0.05)


def test_one_noise_or_one_a_sensor() -> None:
    for noise, n_sigmas in (("shared", 1), ("sensor", 6)):
        vae = Linear(latent_dim=2, noise=noise).build(Shape(6))  # type: ignore[arg-type]
        assert vae.decoder.log_sigma.shape == (n_sigmas,)
        p = vae.likelihood(torch.zeros(5, 2), torch.zeros(5, 0))
        assert p.stddev.shape == (5, 6)


def test_hidden_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden=\(64,\) is not allowed; give \(\)"):
        Linear(hidden=(64,))
    with pytest.raises(ConfigError, match="backbone='temporal' is not allowed"):
        Linear(backbone="temporal")
