"""The battery that every score passes, over the table that lists them, and each one's oracle."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
import torch
from linear_plant import JUDGED, D, fitted, normal_rows, with_gaps
from numpy.testing import assert_allclose, assert_array_equal
from test_vae import batch_of, linear_vae, random_rows

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.standardize import Batch, joined, take
from vae_anomaly.models.vae import VAE
from vae_anomaly.scoring.scores import SCORES, exemplars, residual, score_name
from vae_anomaly.scoring.scores.bounds import fixed_noise

everywhere = pytest.mark.parametrize(("variant", "name"), JUDGED)


def trained(variant: str = "gaussian") -> VAE:
    return fitted(variant).scorer.module


def batch(n: int, *, seed: int = 3, variant: str = "gaussian") -> Batch:
    """Rows as a member's networks see them; nothing of the first is observed."""
    rows = with_gaps(normal_rows(n, seed))
    rows[0] = np.nan
    return fitted(variant).scorer.standardizer(torch.from_numpy(rows))


def judged(variant: str, name: str, rows: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return SCORES[name].score(trained(variant), rows, fitted_tensors(name, variant))


def fitted_tensors(name: str, variant: str = "gaussian") -> dict[str, torch.Tensor]:
    return SCORES[name].fit(trained(variant), *(with_values(seed, variant) for seed in (4, 5)))


def with_values(seed: int, variant: str = "gaussian") -> Batch:
    """Rows that a score can be fitted on."""
    return take(batch(200, seed=seed, variant=variant), torch.arange(1, 200))


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
    return fixed_noise(vae, rows, rows, n_samples=n_samples)


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


def test_density_is_exact_where_the_posterior_is() -> None:
    """Of one latent the linear encoder has no correlations to lack: then Laplace is no estimate."""
    vae, W, mean, sigma = linear_vae(d=6, k=1)
    rows = batch_of(random_rows(20, 6))
    density = SCORES["density"]
    with torch.no_grad():
        got, _ = density.score(vae, rows, density.fit(vae, rows, rows))
    expected = [-naive.factor_analysis(row, W, mean, sigma) for row in rows.x.double().numpy()]
    assert_allclose(got, expected, rtol=1e-4)


def test_density_sees_a_lone_sensor_at_a_level_that_it_never_had() -> None:
    """Its network has learnt to pass it on, so that what is left of it is nothing."""
    vae, *_ = linear_vae(d=1, k=1)
    with torch.no_grad():
        vae.decoder.net.layers[0].weight.fill_(10.0)
        vae.encoder.net.layers[0].weight[0], vae.encoder.net.layers[0].bias[0] = 0.1, 0.0
        rows = batch_of(torch.tensor([[0.5], [60.0]]))
        level, left = (
            SCORES[name].score(vae, rows, SCORES[name].fit(vae, rows, rows))[0]
            for name in ("density", "reconstruction")
        )
    assert level[1] - level[0] > 15
    assert (left - left[0]).abs().max() < 3


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
    noise = fixed_noise(vae, rows, rows)
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


# ------------------------------------------------------------- entry by entry, and of the residual


def reading_of(rows: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and noise that the trained member expects, and the latents."""
    with torch.no_grad():
        z = trained().embed(rows)
        p = trained().likelihood(z, rows.context)
    return p.mean.double().numpy(), p.stddev.double().numpy(), z.double().numpy()


def test_squared_error_and_likelihood_equal_their_naive_twins() -> None:
    rows = batch(30)
    mean, sigma, _ = reading_of(rows)
    squares, _ = judged("gaussian", "squared_error", rows)
    nats, _ = judged("gaussian", "likelihood", rows)
    for i in range(30):
        seen = [j for j in range(D) if rows.observed[i, j]]
        x = rows.x[i].tolist()
        assert_allclose(squares[i], sum((x[j] - mean[i, j]) ** 2 for j in seen), rtol=1e-4)
        expected = -sum(naive.normal_log_density(x[j], mean[i, j], sigma[i, j]) for j in seen)
        assert_allclose(nats[i], expected, rtol=1e-4, atol=1e-4)


def test_elbo_is_the_bound_of_factor_analysis_and_below_its_density() -> None:
    vae, W, mean, sigma = linear_vae(d=6, k=2)
    rows = batch_of(random_rows(20, 6))
    with torch.no_grad():
        got, _ = SCORES["elbo"].score(vae, rows, many(vae, rows, 50_000))
        q = vae.posterior(rows)
    for i, row in enumerate(rows.x.double().numpy()):
        mu, s = q.mean[i].double().numpy(), q.stddev[i].double().numpy()
        bound = naive.linear_elbo(row, mu, s, loading=W, mean=mean, sigma=sigma)
        assert_allclose(got[i], -bound, atol=0.1)
        assert got[i] >= -naive.factor_analysis(row, W, mean, sigma) - 0.1


def test_residual_is_the_marginal_mahalanobis_distance_of_what_is_observed() -> None:
    rows, tensors = batch(60), fitted_tensors("residual")
    rows.observed[1] = torch.tensor([True] + [False] * (D - 1))
    with torch.no_grad():
        score, contributions = SCORES["residual"].score(trained(), rows, tensors)
    covariance = np.linalg.inv(tensors["residual_precision"].numpy())
    r = rows.x.double().numpy() - reading_of(rows)[0] - tensors["residual_mean"].numpy()
    r[~rows.observed.numpy()] = np.nan
    expected = [naive.marginal_mahalanobis(row, covariance) for row in r]
    assert_allclose(score, expected, rtol=1e-4, atol=1e-5)
    whole = rows.observed.all(dim=1).numpy()
    own = r[whole] * (r[whole] @ np.linalg.inv(covariance))
    assert_allclose(contributions[whole], own, rtol=1e-4, atol=1e-4)


def test_residual_of_few_held_out_rows_learns_from_training_rows_too() -> None:
    known = batch(300, seed=5)
    few, more = (SCORES["residual"].fit(trained(), batch(n, seed=4), known) for n in (8, 200))
    alone = SCORES["residual"].fit(trained(), batch(200, seed=4), batch(8, seed=9))
    assert torch.equal(more["residual_precision"], alone["residual_precision"])
    variance = few["residual_precision"].inverse().diagonal()
    assert_allclose(variance, more["residual_precision"].inverse().diagonal(), rtol=0.5)


def test_residual_of_very_many_columns_is_that_of_probabilistic_principal_components(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(residual, "WIDEST", D - 1)
    monkeypatch.setattr(residual, "AXES", 2)
    rows, tensors = batch(30), fitted_tensors("residual")
    held = with_values(4)
    r = held.x.double().numpy() - reading_of(held)[0]
    r[~held.observed.numpy()] = 0.0
    r = (r - tensors["residual_mean"].numpy()) * held.observed.numpy()
    variances, axes = np.linalg.eigh(r.T @ r / len(r))
    variances[:-2] = variances[:-2].mean()  # all but the first two axes alike
    precision = axes @ np.diag(1 / variances) @ axes.T
    score, contributions = SCORES["residual"].score(trained(), rows, tensors)
    own = rows.x.double().numpy() - reading_of(rows)[0] - tensors["residual_mean"].numpy()
    own *= rows.observed.numpy()  # a gap counts as what is expected
    assert_allclose(contributions.detach(), own * (own @ precision), rtol=1e-3, atol=1e-4)
    assert_allclose(score.detach(), (own * (own @ precision)).sum(axis=1), rtol=1e-3, atol=1e-5)


def test_residual_of_many_columns_and_few_rows_has_a_finite_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(residual, "WIDEST", D - 1)
    few = take(with_values(4), torch.arange(2))
    tensors = SCORES["residual"].fit(trained(), few, take(with_values(5), torch.arange(2)))
    score, _ = SCORES["residual"].score(trained(), batch(30), tensors)
    assert score.isfinite().all()
    assert (score >= 0).all()


# ------------------------------------------------------------------------ of the latents, exemplars


def test_aggregate_is_the_energy_of_a_mixture_that_stands_for_the_training_rows() -> None:
    rows, tensors = batch(30), fitted_tensors("aggregate")
    with torch.no_grad():
        score, _ = SCORES["aggregate"].score(trained(), rows, tensors)
    mean, variance, share = (
        tensors[name].tolist() for name in ("mixture_mean", "mixture_variance", "mixture_log_share")
    )
    assert len(mean) <= 128
    assert_allclose(np.exp(share).sum(), 1.0)
    z = reading_of(rows)[2]
    expected = [naive.mixture_energy(row.tolist(), mean, variance, np.exp(share)) for row in z]
    assert_allclose(score[1:], expected[1:], rtol=1e-5, atol=1e-5)


def test_mixture_keeps_mean_and_variance_of_the_aggregated_posterior() -> None:
    known = batch(3000, seed=5)
    tensors = SCORES["aggregate"].fit(trained(), known, known)
    share = tensors["mixture_log_share"].exp()[:, None]
    mean = (share * tensors["mixture_mean"]).sum(dim=0)
    second = (share * (tensors["mixture_variance"] + tensors["mixture_mean"].square())).sum(dim=0)
    with torch.no_grad():
        z, sigma = trained().embed(known).double(), trained().spread(known).double()
    assert_allclose(mean, z.mean(dim=0), atol=1e-6)
    expected = z.var(dim=0, correction=0) + sigma.square().mean(dim=0)
    assert_allclose(second - mean.square(), expected, rtol=1e-4)


def test_latents_without_spread_and_fewer_rows_than_parts_still_have_a_density() -> None:
    codes = fitted("vq").scorer.module
    few = batch(5, seed=5, variant="vq")
    tensors = SCORES["aggregate"].fit(codes, few, few)
    assert len(tensors["mixture_mean"]) <= 5
    assert (tensors["mixture_variance"] > 0).all()
    score, _ = SCORES["aggregate"].score(codes, batch(50, variant="vq"), tensors)
    assert score.isfinite().all()


def test_latent_distance_is_the_mahalanobis_distance_of_the_posterior_mean() -> None:
    rows, tensors = batch(30), fitted_tensors("latent_distance")
    with torch.no_grad():
        score, _ = SCORES["latent_distance"].score(trained(), rows, tensors)
    covariance = np.linalg.inv(tensors["latent_precision"].numpy())
    z = reading_of(rows)[2] - tensors["latent_mean"].numpy()
    expected = [naive.marginal_mahalanobis(row, covariance) for row in z]
    assert_allclose(score[1:], expected[1:], rtol=1e-4)
    with torch.no_grad():
        normal = trained().embed(batch(200, seed=4)).double().numpy()
    assert_allclose(covariance, np.cov(normal.T, bias=True), rtol=0.1, atol=0.05)


def test_exemplars_give_the_distance_of_a_brute_force_search() -> None:
    rows, tensors = batch(60), fitted_tensors("exemplars")
    score, contributions = SCORES["exemplars"].score(trained(), rows, tensors)
    others = tensors["exemplars"].tolist()
    typical = float(tensors["typical"])
    for i in range(1, 60):
        far = naive.nearest_distance(rows.x[i].tolist(), rows.observed[i].tolist(), others)
        assert_allclose(score[i], np.log(1 + far / typical), rtol=1e-5, atol=1e-5)
    push = rows._replace(x=rows.x + torch.zeros(D).index_fill(0, torch.tensor([2]), 50.0))
    _, contributions = SCORES["exemplars"].score(trained(), push, tensors)
    assert (contributions.argmax(dim=1)[rows.observed[:, 2]] == 2).all()


def test_exemplars_are_measured_by_how_far_each_is_from_the_others() -> None:
    tensors = SCORES["exemplars"].fit(trained(), with_values(4), with_values(5))
    rows = tensors["exemplars"].tolist()
    assert len(rows) == 398  # those held out and those trained on
    far = [
        naive.nearest_distance(row, [True] * D, rows[:i] + rows[i + 1 :])
        for i, row in enumerate(rows)
    ]
    assert_allclose(tensors["typical"], np.mean(far), rtol=1e-6)
    expected = np.log(1 + np.array(far) / np.mean(far))
    far_of, local_of = exemplars.leave_one_out(tensors)
    assert_allclose(far_of, expected, rtol=1e-5)
    assert_allclose(
        local_of, local_outlier_factors(rows, rows, skip_self=True), rtol=1e-4, atol=1e-5
    )


def test_row_that_is_an_exemplar_is_measured_from_the_others_unless_rows_repeat() -> None:
    known = take(batch(150, seed=5), torch.arange(1, 100))
    known = known._replace(observed=torch.ones(99, D, dtype=torch.bool))
    none, new = take(known, torch.arange(0)), batch(50)
    tensors = SCORES["exemplars"].fit(trained(), none, known)
    order = torch.randperm(99, generator=torch.Generator().manual_seed(0))
    score, _ = SCORES["exemplars"].score(trained(), take(known, order), tensors)
    expected = exemplars.leave_one_out(tensors)
    assert_allclose(score, expected[0], rtol=1e-5)
    some, _ = SCORES["local_outlier_factor"].score(trained(), take(known, order), tensors)
    assert_allclose(some, expected[1], rtol=1e-4, atol=1e-5)
    among = joined([known, new])
    for name in ("exemplars", "local_outlier_factor"):
        together, _ = SCORES[name].score(trained(), among, tensors)
        assert torch.equal(together[99:], SCORES[name].score(trained(), new, tensors)[0])


def local_outlier_factors(
    rows: list[list[float]], others: list[list[float]], *, skip_self: bool
) -> list[float]:
    """Logarithms, of rows without gaps, by brute force; the k-th row is no neighbour of its own."""

    def nearest(row: list[float], but: int) -> list[tuple[float, int]]:
        far = [(math.dist(row, other), j) for j, other in enumerate(others) if j != but]
        return sorted(far)[:5]

    radius = [float(np.mean([d for d, _ in nearest(row, j)])) for j, row in enumerate(others)]
    floor = 0.1 * float(np.mean(radius))
    found = []
    for i, row in enumerate(rows):
        near = nearest(row, i if skip_self else -1)
        own = np.mean([d for d, _ in near])
        theirs = np.mean([radius[j] for _, j in near])
        found.append(math.log((own + floor) / (theirs + floor)))
    return found


def test_local_outlier_factor_is_that_of_a_brute_force_search() -> None:
    rows, tensors = with_values(60), fitted_tensors("local_outlier_factor")
    rows = rows._replace(observed=torch.ones_like(rows.observed))
    score, contributions = SCORES["local_outlier_factor"].score(trained(), rows, tensors)
    expected = local_outlier_factors(
        rows.x.tolist(), tensors["exemplars"].tolist(), skip_self=False
    )
    assert_allclose(score, expected, rtol=1e-4, atol=1e-5)
    assert_allclose(contributions.sum(dim=1), score, rtol=1e-4, atol=1e-5)


def test_a_row_in_a_dense_place_stands_out_where_one_as_far_off_in_a_thin_place_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    dense = 0.01 * torch.randn(300, D, generator=generator)
    thin = torch.randn(300, D, generator=generator) + 50.0
    known = batch_of(torch.cat([dense, thin]))
    tensors = SCORES["local_outlier_factor"].fit(trained(), take(known, torch.arange(0)), known)
    off = torch.zeros(D).index_fill(0, torch.tensor([0]), 1.0)
    rows = batch_of(torch.stack([off, off + 50.0]))
    by_distance = SCORES["exemplars"].score(trained(), rows, tensors)[0]
    by_density = SCORES["local_outlier_factor"].score(trained(), rows, tensors)[0]
    assert by_distance[0] < 1.5 * by_distance[1]
    assert by_density[0] > by_density[1] + 1.0


@pytest.mark.parametrize(("m", "k"), [(1, 1), (6, 6), (511, 6), (2047, 3), (2048, 6), (4097, 6)])
def test_smallest_are_those_of_a_sort(m: int, k: int) -> None:
    values = torch.randn(70, m, generator=torch.Generator().manual_seed(m))
    values[3] = 0.5  # all alike
    found = exemplars.smallest(values, k)
    assert_array_equal(values.gather(1, found), values.sort(dim=1).values[:, :k])
    assert all(len(set(row)) == k for row in found.tolist())


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_exemplars_judge_with_as_many_neighbours_as_there_are(n: int) -> None:
    known = batch_of(torch.randn(n, D, generator=torch.Generator().manual_seed(n)))
    tensors = SCORES["local_outlier_factor"].fit(trained(), take(known, torch.arange(0)), known)
    rows = batch_of(torch.randn(9, D, generator=torch.Generator().manual_seed(9)))
    for name in ("exemplars", "local_outlier_factor"):
        score, _ = SCORES[name].score(trained(), rows, tensors)
        assert score.isfinite().all()
        assert SCORES[name].score(trained(), known, tensors)[0].isfinite().all()


def test_rows_that_repeat_one_another_are_at_no_distance_and_others_at_a_finite_one() -> None:
    known = batch(100, seed=5)._replace(observed=torch.ones(100, D, dtype=torch.bool))
    tensors = SCORES["exemplars"].fit(trained(), known, known)
    assert tensors["typical"] == 1  # for want of one
    assert (SCORES["exemplars"].score(trained(), known, tensors)[0] == 0).all()
    rows = known._replace(x=known.x + 3.0)
    score, _ = SCORES["exemplars"].score(trained(), rows, tensors)
    others = tensors["exemplars"].tolist()
    expected = [naive.nearest_distance(row, [True] * D, others) for row in rows.x.tolist()]
    assert_allclose(score, np.log1p(expected), rtol=1e-5)


def test_levels_differ_by_one_however_far_their_codes_lie_apart() -> None:
    rows = batch_of(torch.tensor([[0.0, 7.0], [0.0, 2.0]]))
    tensors = {
        "exemplars": torch.tensor([[0.0, 2.0], [2.0, 7.0]]),
        "is_code": torch.tensor([False, True]),
        "typical": torch.ones((), dtype=torch.float64),
        "radius": torch.ones(2, dtype=torch.float64),
        "typical_radius": torch.ones((), dtype=torch.float64),
        "repeats": torch.tensor(True),
    }
    score, contributions = SCORES["exemplars"].score(trained(), rows, tensors)
    assert_allclose(score, [np.log(2), 0.0], rtol=1e-6)
    assert contributions[0].argmax() == 1
    assert_allclose(contributions.sum(dim=1), score, atol=1e-6)


# -------------------------------------------------------------------------------------------- sums


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("fused_without_exemplars", ("residual", "aggregate")),
        ("fused", ("residual", "aggregate", "exemplars", "local_outlier_factor")),
    ],
)
def test_fused_is_the_sum_of_its_parts_in_deviations_of_normal_rows(
    name: str, parts: tuple[str, ...]
) -> None:
    rows, normal = batch(50), joined([with_values(5), with_values(4)])
    score, contributions = judged("gaussian", name, rows)

    def values(part: str, some: Batch) -> np.ndarray:
        found = judged("gaussian", part, some)[0].double().numpy()
        if part == "residual":
            n_observed = some.observed.sum(dim=1).clamp(min=1).numpy()
            return np.log(np.maximum(found * D / n_observed, 1e-12))
        return found

    expected = np.zeros(49)
    for part in parts:
        of_exemplars = ("exemplars", "local_outlier_factor")
        if part in of_exemplars:
            left_out = exemplars.leave_one_out(fitted_tensors(part))
            reference = left_out[of_exemplars.index(part)].numpy()
        else:
            reference = values(part, normal)
        expected += (values(part, rows)[1:] - reference.mean()) / reference.std()
    assert_allclose(score[1:], expected, rtol=1e-3, atol=1e-3)
    deviance = judged("gaussian", "reconstruction", rows)[1]
    named = contributions.masked_fill(~rows.observed, -torch.inf).argmax(dim=1)
    assert torch.equal(named[1:], deviance[1:].argmax(dim=1))
