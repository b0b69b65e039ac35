"""The beta-VAE's objective, against the sums that its papers write down."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import VAE
from vae_anomaly.models.variants.beta import Beta


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(n: int = 40, d: int = 5) -> Batch:
    x = torch.randn(n, d, generator=generator(1))
    return Batch(x, x.abs() < 2, torch.zeros(n, 0), torch.zeros(n, dtype=torch.int64))


def untrained(variant: Beta) -> VAE:
    with seeded(0):
        module = replace(variant, hidden=(6,), latent_dim=3).build(Shape(5))
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def by_hand(module: VAE, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood of one sample, and divergence, of each row; number by number."""
    q = module.posterior(batch)
    noise = torch.randn(q.mean.shape, generator=generator())
    p = module.likelihood(q.mean + q.stddev * noise, batch.context)
    fit, divergence = [], []
    for i in range(len(batch.x)):
        mu, sd = p.mean[i].double().numpy(), p.stddev[i].double().numpy()
        error = ((batch.x[i].double().numpy() - mu) / sd) ** 2
        nats = -0.5 * (error + np.log(2 * np.pi * sd**2))
        fit.append(nats[batch.observed[i].numpy()].sum())
        divergence.append(
            naive.divergence_from_standard_normal(q.mean[i].tolist(), q.stddev[i].tolist())
        )
    return np.array(fit), np.array(divergence)


@torch.no_grad()
@pytest.mark.parametrize(
    ("settings", "progress", "weight", "capacity"),
    [
        ({"beta": 4.0, "warmup": 0.0}, 0.5, 4.0, 0.0),
        ({"beta": 4.0, "warmup": 0.5}, 0.25, 2.0, 0.0),
        ({"beta": 50.0, "warmup": 0.0, "capacity": 3.0, "rise": 0.8}, 0.0, 50.0, 0.0),
        ({"beta": 50.0, "warmup": 0.0, "capacity": 3.0, "rise": 0.8}, 0.4, 50.0, 1.5),
        ({"beta": 50.0, "warmup": 0.0, "capacity": 3.0, "rise": 0.8}, 0.8, 50.0, 3.0),
        ({"beta": 50.0, "warmup": 0.0, "capacity": 3.0, "rise": 0.0}, 0.0, 50.0, 3.0),
        ({"beta": 50.0, "warmup": 0.2, "capacity": 3.0, "rise": 0.8}, 1.0, 50.0, 3.0),
    ],
)
def test_bound_is_what_the_papers_write(
    settings: dict[str, float], progress: float, weight: float, capacity: float
) -> None:
    variant = Beta(**settings)
    module, batch = untrained(variant), rows()
    fit, divergence = by_hand(module, batch)
    assert (divergence < 3).any()  # on both sides of the capacity
    assert (divergence > 3).any()
    expected = fit - weight * np.abs(divergence - capacity)
    got = variant.bound(module, batch, progress, generator())
    assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_divergence_is_led_to_the_capacity() -> None:
    """Of each row, not only on average: rows below are drawn up, rows above down."""
    variant = Beta(beta=100.0, warmup=0.0, capacity=2.0, rise=0.5)
    module, batch = untrained(variant).train(), rows(n=200)
    step = torch.optim.Adam(module.parameters(), lr=1e-2)
    for i in range(600):
        step.zero_grad()
        torch.autograd.backward(-variant.bound(module, batch, i / 600, generator(i)).mean())
        step.step()
    divergence = torch.from_numpy(by_hand(module.eval().requires_grad_(False), batch)[1])
    assert_allclose(divergence.mean(), 2.0, atol=0.1)
    assert float((divergence - 2.0).abs().median()) < 0.1


def test_contradictions_are_refused() -> None:
    for settings in ({"free_bits": 0.1}, {"n_samples": 5}):
        with pytest.raises(ConfigError, match="a capacity says by itself"):
            Beta(capacity=5.0, **settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"capacity=-1\.0 is not allowed; give at least 0 nats"):
        Beta(capacity=-1.0)
    with pytest.raises(ConfigError, match=r"rise=2\.0 is not allowed"):
        Beta(rise=2.0)
