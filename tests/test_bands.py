"""Bands are as wide as they say: closed forms, brute force, and readings that fall into them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_plant import NOISE, QUICK, D, K, fitted, loading, normal_rows, series, suited, with_gaps
from numpy.testing import assert_allclose
from scipy.stats import binom
from test_vae import batch_of, linear_vae, random_rows, untrained

from vae_anomaly.data.windows import Matrix
from vae_anomaly.latent import band
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.bands import expected_band, posterior_points
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scorer import Scorer

everyone = pytest.mark.parametrize("variant", VARIANTS)


def fit(variant: str, rows: np.ndarray, *, steps: int) -> Scorer:
    training = QUICK.model_copy(update={"min_steps": steps, "max_steps": steps})
    member, stop = suited(variant), series(rows[: len(rows) // 4])
    return fit_scorer(
        series(rows), stop, n_context=0, variant=member, training=training, seed=0
    ).scorer


@pytest.mark.parametrize("k", [0, 1, 5, 8, 20])
def test_points_stand_for_a_standard_normal_up_to_the_third_degree(k: int) -> None:
    points = posterior_points(k).double()
    assert points.shape == (2 * max(8, k), k)
    assert_allclose(points.mean(dim=0), 0.0, atol=1e-6)
    assert_allclose(points.T @ points / len(points), np.eye(k), atol=1e-6)
    third = torch.einsum("si,sj,sk->ijk", points, points, points) / len(points)
    assert_allclose(third, 0.0, atol=1e-6)
    assert torch.equal(posterior_points(k), posterior_points(k))


def test_of_factor_analysis_it_is_the_variance_of_a_second_reading() -> None:
    vae, W, mean, sigma = linear_vae(d=6, k=2)
    batch = batch_of(random_rows(20, 6))
    with torch.no_grad():
        z, spread = vae.embed(batch).numpy(), vae.spread(batch).numpy()
    found = expected_band(vae, batch)
    assert_allclose(found.expected, z @ W.T + mean, atol=1e-5)
    assert_allclose(found.sigma**2, sigma**2 + spread**2 @ (W**2).T, rtol=1e-4)


def test_of_a_curved_decoder_it_is_near_that_of_many_samples() -> None:
    vae, batch = untrained(5, latent_dim=3, hidden=(8,)), batch_of(random_rows(30, 5))
    with torch.no_grad():
        noise = torch.randn(40_000, 1, 3, generator=torch.Generator().manual_seed(1))
        p = vae.likelihood(vae.embed(batch) + vae.spread(batch) * noise, batch.context)
        expected = (p.variance.mean(dim=0) + p.mean.var(dim=0)).sqrt()
        alone = vae.likelihood(vae.embed(batch), batch.context).stddev
    assert (expected > 1.05 * alone).any()
    assert_allclose(expected_band(vae, batch).sigma, expected, rtol=0.1)


def second_readings_inside(inside: np.ndarray, tolerance: float) -> bool:
    """Whether the share within two sigma is 0.9545, give or take; wrong once in 5000 times."""
    n, hits = inside.size, inside.sum()
    low, high = binom.ppf(1e-4, n, 0.9545 - tolerance), binom.ppf(1 - 1e-4, n, 0.9545 + tolerance)
    return bool(low <= hits <= high)


def test_second_readings_of_the_same_state_fall_into_two_sigma() -> None:
    """But for the correlations of the posterior, which the encoder leaves out."""
    vae, W, mean, sigma = linear_vae(d=6, k=2)
    rng, n = np.random.default_rng(11), 5000
    state = rng.normal(size=(n, 2)) @ W.T + mean
    first, second = (state + sigma * rng.normal(size=(n, 6)) for _ in range(2))
    found = expected_band(vae, batch_of(torch.from_numpy(first).float()))
    inside = np.abs(second - found.expected.numpy()) < 2 * found.sigma.numpy()
    assert all(second_readings_inside(column, 0.005) for column in inside.T), inside.mean(axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["linear", "gaussian"])
def test_second_readings_of_a_plant_fall_into_two_sigma_of_what_was_learnt(variant: str) -> None:
    """All sensors together; a single one errs as far as its noise is learnt from 1500 rows."""
    rng, n = np.random.default_rng(11), 5000
    state, unit = rng.normal(size=(n, K)) @ loading().T, 10.0 ** (np.arange(D) - 2)
    first, second = ((state + NOISE * rng.normal(size=(n, D))) * unit + 50 for _ in range(2))
    scorer = fit(variant, normal_rows(1500, 0), steps=1000)
    found = scorer.expected_band(*series(first)[:2])
    inside, own = (
        np.abs(read - found.expected.numpy()) < 2 * found.sigma.numpy() for read in (second, first)
    )
    assert second_readings_inside(inside, 0.01), inside.mean(axis=0)
    assert (inside.mean(axis=0) > 0.9).all()
    assert own.mean() > inside.mean()  # what the model has seen lies closer


@everyone
@pytest.mark.parametrize(("window", "n_context"), [(1, 0), (3, 1)])
def test_band_is_as_the_expected_value_and_the_same_however_rows_are_split(
    variant: str, window: int, n_context: int
) -> None:
    scorer = fitted(variant, window=window, n_context=n_context).scorer
    rows, run, _ = series(with_gaps(normal_rows(1500, 3, n_context)), runs=(1300, 200))
    whole = scorer.expected_band(rows, run)
    assert torch.equal(whole.expected, scorer.expected(rows, run))
    assert whole.sigma.shape == (1500, D)
    assert whole.sigma.dtype == torch.float64
    assert (whole.sigma > 0).all()
    for start, stop in ((0, 1), (700, 1350), (1299, 1301), (1499, 1500)):
        first = max(0, start - window + 1)
        known = torch.minimum(run[first:stop], torch.arange(stop - first))
        part = scorer.expected_band(rows[first:stop], known)
        for some, every in zip(part, whole, strict=True):
            assert torch.equal(some[start - first :], every[start:stop])


def test_latents_that_are_codes_leave_the_noise_alone() -> None:
    scorer, (rows, run, _) = fitted("vq").scorer, series(normal_rows(50, 3))
    batch = scorer.standardizer(rows)
    with torch.no_grad():
        p = scorer.module.likelihood(scorer.module.embed(batch), batch.context)
    own = p.stddev.double() * scorer.standardizer.scale[:D]
    assert_allclose(scorer.expected_band(rows, run).sigma, own, rtol=1e-6)


def test_sensors_that_never_varied_have_their_constant_and_no_width() -> None:
    rows = normal_rows(200, 0)
    rows[:, 1], rows[:, 4] = 7.5, np.nan
    scorer = fit("linear", rows, steps=10)
    found = scorer.expected_band(*series(normal_rows(20, 3))[:2])
    assert (found.expected[:, 1] == 7.5).all()
    assert found.expected[:, 4].isnan().all()
    assert ((found.sigma == 0) == torch.tensor([False, True, False, False, True, False])).all()


def test_codes_have_no_width() -> None:
    scorer, levels = fitted().scorer, (0, 2, 0, 0, 3, 0)
    coded = Scorer(scorer.standardizer, scorer.module, variant=scorer.variant, levels=levels)
    sigma = coded.expected_band(*series(normal_rows(20, 3))[:2]).sigma
    assert ((sigma == 0) == (torch.tensor(levels) > 0)).all()


def test_band_of_the_latent_room_is_the_same() -> None:
    scorer, rows = fitted(window=3).scorer, normal_rows(60, 3)
    run = np.arange(60)
    found = band(scorer, Matrix(rows, run, np.zeros(60, np.int64)), np.arange(60))
    twin = scorer.expected_band(torch.from_numpy(rows), torch.from_numpy(run))
    assert_allclose(found.expected, twin.expected, rtol=1e-6)
    assert_allclose(found.sigma, twin.sigma, rtol=1e-5)


def test_no_rows_have_no_band() -> None:
    rows, run, _ = series(normal_rows(5, 3))
    assert fitted().scorer.expected_band(rows[:0], run[:0]).sigma.shape == (0, D)
