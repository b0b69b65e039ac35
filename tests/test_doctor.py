"""The training doctor: what it says of a latent that collapsed, and what it does about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_plant import faulty_rows, normal_rows, series
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from vae_anomaly.config import Training
from vae_anomaly.models.doctor import Latent, alone, common_causes, worth
from vae_anomaly.models.remedies import remedies
from vae_anomaly.models.settings import Objective
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import active_units
from vae_anomaly.models.variants import Gaussian, Linear, variant_of
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
    mild, strong = remedies(Gaussian(warmup=0.0), Training())
    assert (mild.variant.warmup, mild.variant.free_bits, mild.is_last) == (0.5, 0.0, False)
    assert strong.variant.warmup == mild.variant.warmup
    assert strong.variant.free_bits > 0
    assert strong.is_last
    assert list(remedies(Gaussian(warmup=0.8, free_bits=1.0), Training())) == []


def test_deep_perceptrons_become_shallow_and_other_networks_stay() -> None:
    deep = {"hidden": (32, 16, 8), "warmup": 0.8, "free_bits": 1.0}
    (only,) = remedies(Gaussian(**deep), Training())  # type: ignore[arg-type]
    assert only.variant.hidden == (32, 16)
    assert list(remedies(Gaussian(**deep, backbone="temporal"), Training())) == []  # type: ignore[arg-type]


def test_a_rate_far_above_the_default_is_the_first_suspect() -> None:
    default = Training().learning_rate
    high = Training(learning_rate=11 * default)
    first, *others = remedies(Gaussian(), high)
    assert first.training == Training()
    assert first.variant == Gaussian()
    assert all(remedy.training == Training() for remedy in others)
    usual = remedies(Gaussian(), Training(learning_rate=10 * default))
    assert {remedy.training.learning_rate for remedy in usual} == {10 * default}


@pytest.mark.parametrize("n_causes", [0, 1, 2])
def test_what_common_causes_are_worth_is_what_a_gaussian_of_their_covariance_gains(
    n_causes: int,
) -> None:
    """With the same noise and the same causes everywhere, the components are exact."""
    loading = np.array([[1.0] * 6, [1.0, -1.0] * 3])[:n_causes]
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, n_causes)) @ loading + rng.normal(size=(20_000, 6))
    correlation = (loading.T @ loading + np.eye(6)) / (n_causes + 1)
    gain = -0.5 * np.linalg.slogdet(correlation)[1]
    assert worth(batch_of(rows), n_causes) == pytest.approx(gain, abs=0.06)  # 5 deviations


def test_each_sensor_by_itself_is_a_gaussian_of_the_readings_that_were_learnt_from() -> None:
    rng = np.random.default_rng(0)
    rows, learnt = rng.normal(size=(50, 3)), 2 + 3 * rng.normal(size=(80, 3))
    seen = batch_of(learnt)
    seen.observed[:40, 0] = False
    judged = batch_of(rows)
    judged.observed[0, 1] = False
    half = [learnt[40:, 0], learnt[:, 1], learnt[:, 2]]
    expected = np.array(
        [norm(c.mean(), c.std()).logpdf(x) for c, x in zip(half, rows.T, strict=True)]
    )
    expected[1, 0] = 0
    assert_allclose(alone(judged, seen), expected.sum(axis=0), rtol=1e-5)


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
def test_what_is_made_to_collapse_recovers_for_every_seed() -> None:
    """Eight layers for ten sensors with two causes, and no warm-up."""
    for seed in range(3):
        rows, stop = caused(1000, seed, 2, 10), caused(300, seed + 50, 2, 10)
        deep = Gaussian(hidden=(32,) * 8, warmup=0.0)
        found = fit_scorer(
            series(rows), series(stop), n_context=0, variant=deep, training=Training(), seed=seed
        )  # fmt: skip
        first = [check for check in found.history.others if check.attempt == 1]
        before = max(first, key=lambda check: check.held_out_bound)
        after = found.history.best
        print(
            f"seed {seed}: {before.figures['active_units']:.0f} active units and a bound of "
            f"{before.held_out_bound:.2f} without the doctor, {after.figures['active_units']:.0f} "
            f"and {after.held_out_bound:.2f} with it"
        )
        assert before.figures["active_units"] <= 1
        assert after.figures["active_units"] >= 2
        assert after.held_out_bound > before.held_out_bound + 2.0
        assert not any("not used" in note for note in found.notes)


@pytest.mark.slow
def test_a_rate_at_which_nothing_is_learnt_is_said_and_lowered() -> None:
    """The linear member uses its latents at 1,000 times the default rate, to no end."""
    found = fit_scorer(
        series(caused(1500, 0, 2, 10)),
        series(caused(300, 50, 2, 10)),
        n_context=0,
        variant=Linear(),
        training=Training(learning_rate=5.0),
        seed=0,
    )
    (event,) = found.history.events
    print(event)
    assert "is not clearly above the" in event.seen
    assert "trained again with a learning rate of 0.005" in event.done
    assert event.done.endswith("this one is kept")
    assert max(check.learning_rate for check in found.history.checks) <= 0.005


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["gaussian", "linear", "student_t", "hierarchical"])
@pytest.mark.parametrize("n_causes", [0, 2])
def test_a_model_that_is_well_is_not_said_to_have_learnt_nothing(
    variant: str, n_causes: int
) -> None:
    found = fit_scorer(
        series(caused(800, 3, n_causes)),
        series(caused(200, 53, n_causes)),
        n_context=0,
        variant=variant_of(variant, {}),
        training=Training(),
        seed=3,
    )
    said = " ".join([*found.notes, *map(str, found.history.events)])
    assert "each sensor judged by itself" not in said


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
