"""The training doctor: what it says of a latent that collapsed, and what it does about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_plant import faulty_rows, normal_rows, series
from sklearn.metrics import roc_auc_score

from vae_anomaly.config import Training
from vae_anomaly.models.doctor import Latent, common_causes, remedies
from vae_anomaly.models.settings import Objective
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import active_units
from vae_anomaly.models.variants import Gaussian
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer


def batch_of(rows: np.ndarray) -> Batch:
    x = torch.from_numpy(rows).float()
    return Batch(x, torch.ones_like(x) > 0, x[:, :0], torch.zeros(len(x), dtype=torch.int64))


def caused(n: int, seed: int, n_causes: int, n_sensors: int = 6) -> np.ndarray:
    """Rows whose sensors follow so many causes, and each its own noise."""
    loading = 3 * np.random.default_rng(99).normal(size=(n_causes, n_sensors))
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, n_causes)) @ loading + generator.normal(size=(n, n_sensors))


@pytest.mark.parametrize("n_causes", [0, 1, 2])
def test_common_causes_are_counted(n_causes: int) -> None:
    rows = caused(2000, 0, n_causes)
    assert common_causes(batch_of((rows - rows.mean(axis=0)) / rows.std(axis=0)), 0) == n_causes


def test_a_cause_that_the_context_explains_is_none() -> None:
    cause = np.random.default_rng(0).normal(size=(2000, 1))
    rows = cause @ np.ones((1, 6)) + np.random.default_rng(1).normal(size=(2000, 6))
    batch = batch_of(rows)
    assert common_causes(batch, 0) == 1
    assert common_causes(batch._replace(context=torch.from_numpy(cause).float()), 0) == 0


def test_too_little_is_held_against_what_the_rows_have_use_for() -> None:
    one = Objective()
    assert Latent(n_active=0, n_latents=3, n_causes=0).is_collapsed(one)
    assert Latent(n_active=1, n_latents=3, n_causes=2).is_collapsed(one)
    assert not Latent(n_active=2, n_latents=3, n_causes=3).is_collapsed(one)
    assert not Latent(n_active=1, n_latents=1, n_causes=5).is_collapsed(one)
    assert not Latent(n_active=1, n_latents=3, n_causes=2).is_collapsed(Objective(beta=4.0))


def test_remedies_are_mild_first_and_never_weaken_what_is_set() -> None:
    mild, strong = (changed for _, changed in remedies(Gaussian(warmup=0.0)))
    assert (mild.warmup, mild.free_bits) == (0.5, 0.0)
    assert strong.warmup == mild.warmup
    assert strong.free_bits > 0
    assert list(remedies(Gaussian(warmup=0.8, free_bits=1.0))) == []


def fitted(seed: int, variant: Gaussian, n_causes: int) -> FittedScorer:
    return fit_scorer(
        series(caused(1500, seed, n_causes)),
        series(caused(300, seed + 50, n_causes)),
        n_context=0,
        variant=variant,
        training=Training(),
        seed=seed,
    )


def n_active(found: FittedScorer, seed: int, n_causes: int) -> int:
    rows = torch.from_numpy(caused(300, seed + 50, n_causes))
    with torch.no_grad():
        return active_units(found.scorer.module, found.scorer.standardizer(rows))


@pytest.mark.slow
def test_a_decoder_that_is_too_strong_collapses_and_is_trained_again() -> None:
    """Five layers, no warm-up: one of two causes is found; with the doctor, both are."""
    deep = Gaussian(hidden=(128,) * 4, latent_dim=4, warmup=0.0)
    found = fitted(1, deep, n_causes=2)
    (event,) = found.history.events
    print(event)
    assert event.seen == "1 of 4 latents are active on held-out rows"
    assert "trained again with a warm-up over 0.5 of the steps: 2 active" in event.done
    assert event.done.endswith("this one is kept")
    assert n_active(found, seed=1, n_causes=2) == 2
    assert found.history.attempt == 2
    first = max(check.held_out_bound for check in found.history.others)
    assert found.history.best.held_out_bound > first + 1.0
    assert str(event) in found.notes


@pytest.mark.slow
def test_a_latent_that_is_of_no_use_is_not_forced_and_said_to_be_unused() -> None:
    """With a fixed noise twice as large as the sensors' own spread nothing is worth its nats."""
    found = fit_scorer(
        series(normal_rows(1500, 0)),
        series(normal_rows(300, 50)),
        n_context=0,
        variant=Gaussian(noise=2.0, warmup=0.0),
        training=Training(),
        seed=0,
    )
    assert found.history.attempt == 1
    assert len(found.history.events) == 2
    assert all(event.done.endswith("the one before is kept") for event in found.history.events)
    assert "the latent is not used, although the sensors show 2 common causes" in found.notes[-1]


def test_a_latent_that_is_used_gives_the_doctor_nothing_to_do() -> None:
    found = fit_scorer(
        series(normal_rows(1500, 0)),
        series(normal_rows(300, 1)),
        n_context=0,
        variant=Gaussian(),
        training=Training(min_steps=300, max_steps=300, learning_rate=1e-2),
        seed=0,
    )
    rows = faulty_rows(600, 2)
    score = found.scorer(*series(rows.rows)[:2])[0]
    assert found.history.events == ()
    assert found.history.attempt == 1
    assert roc_auc_score(rows.is_faulty, score) > 0.9


def test_noise_rarely_shows_a_common_cause() -> None:
    """In at most 3 of 40 tables; more would have a probability of 2 % at the rate of 1 in 40."""
    tables = (np.random.default_rng(seed).normal(size=(400, 8)) for seed in range(40))
    found = [common_causes(batch_of(rows), seed) for seed, rows in enumerate(tables)]
    assert sum(n > 0 for n in found) <= 3
