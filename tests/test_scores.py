"""The battery that every score passes, over the table that lists them, and each one's oracle."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from linear_plant import D, fitted, normal_rows, with_gaps
from numpy.testing import assert_allclose

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import VAE
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.scores import SCORES, score_name

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


def test_auto_is_resolved_and_unknown_scores_are_refused() -> None:
    assert score_name("auto") in SCORES
    assert [score_name(name) for name in SCORES] == list(SCORES)
    with pytest.raises(ConfigError, match="did you mean 'reconstruction'"):
        score_name("reconstuction")
