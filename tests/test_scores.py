"""The battery that every score passes, over the table that lists them, and each one's oracle."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from linear_plant import D, fitted, normal_rows, with_gaps
from numpy.testing import assert_allclose
from test_vae import batch_of, linear_vae, random_rows

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import VAE
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.scores import SCORES, fixed_noise, score_name

everywhere = pytest.mark.parametrize(
    ("variant", "name"), [(variant, name) for variant in VARIANTS for name in SCORES]
)


def trained(variant: str = "gaussian") -> VAE:
    return fitted(variant).scorer.module


def batch(n: int, *, seed: int = 3, variant: str = "gaussian") -> Batch:
    """Rows as a member's networks see them; nothing of the first is observed."""
    rows = with_gaps(normal_rows(n, seed))
    rows[0] = np.nan
    return fitted(variant).scorer.standardizer(torch.from_numpy(rows))


def judged(variant: str, name: str, rows: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    score, module, normal = SCORES[name], trained(variant), batch(200, seed=4, variant=variant)
    with torch.no_grad():
        return score.score(module, rows, score.fit(module, normal))


@everywhere
def test_contributions_sum_to_a_finite_score(variant: str, name: str) -> None:
    score, contributions = judged(variant, name, batch(50, variant=variant))
    assert score.shape == (50,)
    assert contributions.shape == (50, D)
    assert score.isfinite().all()
    assert_allclose(contributions.sum(dim=1), score, rtol=1e-5, atol=1e-5)


@everywhere
def test_missing_entries_contribute_nothing(variant: str, name: str) -> None:
    rows = batch(50, variant=variant)
    score, contributions = judged(variant, name, rows)
    assert not rows.observed.all()
    assert (contributions[~rows.observed] == 0).all()
    assert score[0] == 0  # nothing of it was observed


@everywhere
def test_scoring_twice_gives_the_same_numbers_and_draws_none(variant: str, name: str) -> None:
    before = torch.get_rng_state()
    first, second = (judged(variant, name, batch(50, variant=variant)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@everywhere
def test_further_from_normal_scores_higher(variant: str, name: str) -> None:
    rows = batch(50, variant=variant)
    means = []
    for away in (0.0, 1.0, 3.0, 10.0):
        push = torch.zeros(D).index_fill(0, torch.tensor([2]), away)
        means.append(float(judged(variant, name, rows._replace(x=rows.x + push))[0].mean()))
    assert means == sorted(means)
    assert means[-1] > 3 * means[0]


def test_reconstruction_equals_its_naive_twin() -> None:
    rows = batch(30)
    score, contributions = judged("gaussian", "reconstruction", rows)
    state = {name: tensor.numpy() for name, tensor in trained().state_dict().items()}

    def layers(net: str) -> list[tuple[np.ndarray, np.ndarray]]:
        names = [n for n in state if n.startswith(net) and n.endswith("weight")]
        return [(state[n], state[n.replace("weight", "bias")]) for n in names]

    variance = np.exp(2 * state["decoder.log_sigma"].astype(float)) + 0.01**2
    for row in range(30):
        x, seen = rows.x[row].tolist(), rows.observed[row].tolist()
        mu = np.split(naive.perceptron(x, layers("encoder.net")), 2)[0]
        expected = naive.perceptron(mu.tolist(), layers("decoder.net"))
        terms = [(x[j] - expected[j]) ** 2 / variance[j] if seen[j] else 0.0 for j in range(D)]
        assert_allclose(contributions[row], terms, rtol=1e-3, atol=1e-4)
        assert_allclose(score[row], sum(terms), rtol=1e-3)


# ------------------------------------------------------------------------------------- importance


def many(vae: VAE, rows: Batch, n_samples: int) -> dict[str, torch.Tensor]:
    return fixed_noise(vae, rows, n_samples=n_samples)


def test_importance_is_the_closed_form_of_factor_analysis() -> None:
    vae, W, mean, sigma = linear_vae(d=6, k=2)
    x = random_rows(20, 6)
    x[torch.rand(20, 6, generator=torch.Generator().manual_seed(2)) < 0.2] = torch.nan
    x[3] = torch.nan
    rows = batch_of(x)
    with torch.no_grad():
        got, _ = SCORES["importance"].score(vae, rows, many(vae, rows, 50_000))
    expected = [-naive.factor_analysis(row, W, mean, sigma) for row in x.double().numpy()]
    assert_allclose(got, expected, atol=0.1)


def test_importance_error_is_what_other_noise_scatters_by() -> None:
    vae, x, n_times = linear_vae(d=6, k=2)[0], random_rows(20, 6), 400
    rows = batch_of(x.repeat(n_times, 1))  # each time by other noise
    noise = {"noise": torch.randn(64, len(rows.x), 2, generator=torch.Generator().manual_seed(7))}
    with torch.no_grad():
        scores, _ = SCORES["importance"].score(vae, rows, noise)
        errors = SCORES["importance"].error(vae, rows, noise)
    scatter = scores.reshape(n_times, 20).std(dim=0)
    assert_allclose(errors.reshape(n_times, 20).mean(dim=0), scatter, rtol=0.25)


def test_importance_of_coins_is_their_density_and_of_other_values_grows_beyond() -> None:
    vae, rows = trained("bernoulli"), batch(50, variant="bernoulli")
    score, coins = SCORES["importance"], rows._replace(x=(rows.x > 0.5).float())
    noise = fixed_noise(vae, rows)
    with torch.no_grad():
        got, _ = score.score(vae, coins, noise)
        weights = vae.log_weights(coins, noise["noise"])
        beyond = [
            score.score(vae, rows._replace(x=rows.x + push), noise)[0][1:]
            for push in (2.0, 3.0, 10.0)
        ]
    assert_allclose(got[1:], np.log(16) - weights.logsumexp(dim=0)[1:], rtol=1e-5, atol=1e-5)
    assert (beyond[0] < beyond[1]).all()
    assert (beyond[1] < beyond[2]).all()


def test_more_samples_leave_less_error_and_other_scores_have_none() -> None:
    vae, rows = linear_vae(d=6, k=2)[0], batch_of(random_rows(20, 6))
    rows.observed[0] = False
    with torch.no_grad():
        errors = [SCORES["importance"].error(vae, rows, many(vae, rows, s)) for s in (16, 6400)]
        exact = SCORES["reconstruction"].error(vae, rows, {})
    assert (errors[0][1:] > 5 * errors[1][1:]).all()
    assert errors[0][0] == 0  # nothing of it was observed
    assert (exact == 0).all()


def test_auto_is_resolved_and_unknown_scores_are_refused() -> None:
    assert score_name("auto") in SCORES
    assert [score_name(name) for name in SCORES] == list(SCORES)
    with pytest.raises(ConfigError, match="did you mean 'reconstruction'"):
        score_name("reconstuction")
