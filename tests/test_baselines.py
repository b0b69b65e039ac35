"""One battery over the table of baselines, and an oracle for each."""

from __future__ import annotations

import json
import math

import naive
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import nan_euclidean_distances

from vae_anomaly.errors import ConfigError, InputError, PackageError, PartsError
from vae_anomaly.models.covariance import SHRINKAGES
from vae_anomaly.models.standardize import Series
from vae_anomaly.scoring.baseline_fitting import fit_baseline, fit_changes, learn
from vae_anomaly.scoring.baselines import BASELINES, CHANCE, baseline_of
from vae_anomaly.scoring.baselines.gaussian import WIDEST
from vae_anomaly.scoring.scorer import BLOCK_ROWS, Scorer
from vae_anomaly.scoring.specification import build_scorer, scorer_spec

D = 6
MIXING = np.random.default_rng(7).normal(size=(2, D))

every = pytest.mark.parametrize("name", BASELINES)
shapes = pytest.mark.parametrize(
    ("window", "smoothing", "n_context"), [(1, None, 0), (1, 0.3, 1), (3, None, 1), (4, 0.3, 0)]
)


def normal_rows(n: int, seed: int) -> np.ndarray:
    """Six sensors driven by two causes, with a little noise."""
    generator = np.random.default_rng(seed)
    causes = generator.normal(size=(n, 2))
    return causes @ MIXING + 0.1 * generator.normal(size=(n, D))


def with_gaps(rows: np.ndarray, seed: int = 0, share: float = 0.05) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(rows.shape) < share, np.nan, rows)


def series(rows: np.ndarray, lengths: tuple[int, ...] = ()) -> Series:
    """One series, or several of these lengths."""
    run = np.concatenate([np.arange(n) for n in lengths or (len(rows),)])
    return Series(torch.from_numpy(rows), torch.from_numpy(run), torch.zeros(len(rows)).long())


def fitted(name: str, rows: np.ndarray, *, n_context: int = 0, seed: int = 0, **how) -> Scorer:
    return fit_baseline(series(rows), baseline=name, n_context=n_context, seed=seed, **how).scorer


def scores(name: str, train: np.ndarray, rows: np.ndarray, seed: int = 0) -> np.ndarray:
    return learn(name, torch.from_numpy(train), seed=seed)(torch.from_numpy(rows)).numpy()


def alone(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that are a series each."""
    return torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.int64)


# --------------------------------------------------------------------------------------- battery


@pytest.mark.parametrize("name", [*BASELINES, CHANCE])
def test_a_broken_correlation_is_found(name: str) -> None:
    rows, labels = normal_rows(600, 1), np.repeat([0, 1], 300)
    rows[labels == 1, 2] += 1.2  # within the sensor's own range, against the other sensors
    area = roc_auc_score(labels, scores(name, normal_rows(1000, 0), rows))
    assert np.abs(rows[labels == 1] / normal_rows(1000, 0).std(axis=0)).max(axis=1).mean() < 2.5
    # Chance: the standard deviation of the area is sqrt(601 / (12 * 300 * 300)) = 0.024.
    floor = {CHANCE: 0.4, "isolation_forest": 0.6}.get(name, 0.8)
    assert area > floor
    assert name != CHANCE or area < 0.6


@every
def test_the_faulted_sensor_contributes_most(name: str) -> None:
    scorer, rows = fitted(name, normal_rows(1000, 0)), normal_rows(600, 1)
    rows[np.arange(600), np.arange(600) % D] += 4.0 * normal_rows(1000, 0).std()
    _, contributions = scorer(*alone(rows))
    named = contributions.argmax(dim=1).numpy() == np.arange(600) % D
    assert named.mean() > (0.5 if name == "isolation_forest" else 0.7)


@every
@shapes
def test_contributions_sum_to_the_score_and_a_missing_entry_has_none(
    name: str, window: int, smoothing: float | None, n_context: int
) -> None:
    how = {"window": window, "smoothing": smoothing}
    scorer = fitted(name, with_gaps(normal_rows(700, 0)), n_context=n_context, **how)
    rows = with_gaps(normal_rows(60, 3), share=0.5)
    rows[10:20, : D - n_context], rows[30], rows[31] = np.nan, np.inf, -1e300
    score, contributions = scorer(*series(rows, lengths=(25, 1, 34))[:2])
    assert score.isfinite().all()
    assert contributions.isfinite().all()
    assert contributions.shape == (60, D - n_context)
    scale = contributions.abs().sum(dim=1)
    assert ((contributions.sum(dim=1) - score).abs() < 1e-4 * (1 + scale)).all()
    if scorer.window == 1 and smoothing is None:
        assert (contributions[np.isnan(rows[:, : D - n_context])] == 0).all()
        assert (score[10:20] == 0).all()


@every
@shapes
def test_a_row_has_the_same_bits_however_rows_are_split(
    name: str, window: int, smoothing: float | None, n_context: int
) -> None:
    how = {"window": window, "smoothing": smoothing}
    scorer = fitted(name, with_gaps(normal_rows(700, 0)), n_context=n_context, **how)
    n = 2 * BLOCK_ROWS + 300
    rows, run, _ = series(with_gaps(normal_rows(n, 3)), lengths=(n - 208, 1, 2, 5, 200))
    score, contributions = scorer(rows, run)
    for start, stop in ((0, 1), (1, BLOCK_ROWS + 1), (BLOCK_ROWS + 1, n - 100), (n - 100, n)):
        first = max(0, start - scorer.left_context)
        own = torch.minimum(run[first:stop], torch.arange(stop - first))
        part = scorer(rows[first:stop], own)
        assert torch.equal(part[0][start - first :], score[start:stop])
        assert torch.equal(part[1][start - first :], contributions[start:stop])


@every
def test_rows_in_another_order_have_the_same_bits(name: str) -> None:
    scorer = fitted(name, with_gaps(normal_rows(700, 0)))
    rows = with_gaps(normal_rows(1500, 3))
    order = np.random.default_rng(0).permutation(1500)
    score, contributions = scorer(*alone(rows))
    again, same = scorer(*alone(rows[order]))
    assert torch.equal(again, score[order])
    assert torch.equal(same, contributions[order])


@every
def test_what_is_written_and_read_scores_the_same(name: str) -> None:
    scorer = fitted(name, with_gaps(normal_rows(300, 0)), n_context=1, smoothing=0.3)
    spec = json.loads(json.dumps(scorer_spec(scorer)))
    again = build_scorer(spec)
    again.load_state_dict(scorer.state_dict())
    for n in (1, 7, 1000):
        given = series(with_gaps(normal_rows(n, 5)))[:2]
        for ours, theirs in zip(scorer(*given), again(*given), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(scorer.expected(*given), again.expected(*given))
    with pytest.raises(ConfigError, match="did you mean"):
        build_scorer({**spec, "baseline": f"{name}s"})
    with pytest.raises(PackageError):
        build_scorer({**spec, "baselin": name})


@every
def test_the_same_seed_gives_the_same_scores(name: str) -> None:
    train, rows = normal_rows(400, 0), normal_rows(50, 1)
    assert_array_equal(scores(name, train, rows, 3), scores(name, train, rows, 3))
    assert scores(name, train, rows[:0]).shape == (0,)


def test_chance_is_the_same_for_the_same_seed_and_nobody_can_deploy_it() -> None:
    train, rows = normal_rows(40, 0), normal_rows(50, 1)
    assert_array_equal(scores(CHANCE, train, rows, 3), scores(CHANCE, train, rows, 3))
    with pytest.raises(ConfigError, match="chance"):
        baseline_of(CHANCE)


@every
def test_change_of_units_leaves_scores_unchanged(name: str) -> None:
    train, rows = with_gaps(normal_rows(400, 0)), with_gaps(normal_rows(100, 1), 1)
    factor, offset = np.array([1.8, 1e3, 1e-3, 1.0, 2.0, 0.3]), np.array([32.0, 0, 273, 1e4, 0, 5])
    before = scores(name, train, rows)
    after = scores(name, train * factor + offset, rows * factor + offset)
    # A tree that a rounding sends the other way moves a forest's score by 1/100 of a depth.
    assert_allclose(after, before, rtol=1e-2 if name == "isolation_forest" else 1e-3)


@every
def test_constant_and_unobserved_columns_are_left_out(name: str) -> None:
    train, rows = normal_rows(300, 0), normal_rows(50, 1)
    useless = np.column_stack([np.full(300, 7.1), np.full(300, np.nan)])
    other = np.column_stack([np.full(50, 7.1), np.full(50, 3.0)])
    found = scores(name, np.hstack([train, useless]), np.hstack([rows, other]))
    assert_allclose(found, scores(name, train, rows), rtol=1e-5)


@every
def test_a_constant_that_changes_adds_what_has_not_happened_in_so_many_rows(name: str) -> None:
    train, rows = normal_rows(300, 0), normal_rows(50, 1)
    before, after = np.full((300, 1), 7.1), np.full((50, 1), 7.1)
    after[20:] += 0.1
    found = scores(name, np.hstack([train, before]), np.hstack([rows, after]))
    added = np.where(np.arange(50) < 20, 0.0, 2 * math.log(302))
    assert_allclose(found, scores(name, train, rows) + added, rtol=1e-5)


def test_changes_alone_judge_rows_of_which_no_sensor_varied() -> None:
    train = torch.from_numpy(np.full((98, 2), [7.5, np.nan]))
    rows = np.array([[7.5, 1.0], [7.6, 2.0], [np.nan, np.nan]])
    found = fit_changes(train, n_context=0)
    assert found.scorer.called == "baseline changes"
    assert found.notes[0].startswith("no sensor varies in training")
    score, contributions = found.scorer(*alone(rows))
    assert_allclose(score, [0, 2 * math.log(100), 0], rtol=1e-6)
    assert_allclose(contributions[1], [2 * math.log(100), 0], rtol=1e-6)
    assert found.scorer.expected(*alone(rows))[:, 0].tolist() == [7.5] * 3
    again = build_scorer(scorer_spec(found.scorer))
    again.load_state_dict(found.scorer.state_dict())
    assert torch.equal(again(*alone(rows))[0], score)


def test_without_a_constant_there_is_no_change_to_watch_for_and_no_plant_watches_but_that() -> None:
    for rows in (normal_rows(50, 0), np.full((50, 2), np.nan)):
        with pytest.raises(PartsError, match="no sensor is constant in the 50 normal rows"):
            fit_changes(torch.from_numpy(rows), n_context=0)
    with pytest.raises(ConfigError, match="'changes' is not known"):
        baseline_of("changes")


def test_an_average_of_changes_fades_and_normal_rows_lie_below_every_change() -> None:
    train = torch.full((400, 1), 7.5, dtype=torch.float64)
    scorer = fit_changes(train, n_context=0, smoothing="auto").scorer
    rows = torch.full((600, 1), 7.5, dtype=torch.float64)
    rows[300] = 8.0
    score = scorer(rows, torch.arange(600))[0]
    assert (score[:300] == score[0]).all()
    assert score[300] == score.max() > 10
    assert score[301] > score[0] + 1
    faded = int((score[300:] <= score[0]).nonzero()[0])
    assert 20 < faded < 150  # rows until nothing is left of it


@every
def test_what_cannot_be_fitted_or_scored_is_refused(name: str) -> None:
    for useless in (np.ones((50, D)), np.full((50, D), np.nan)):
        with pytest.raises(PartsError, match="no sensor varies"):
            fitted(name, useless)
    with pytest.raises(InputError, match="6"):
        fitted(name, normal_rows(50, 0))(*alone(normal_rows(5, 0)[:, :4]))
    wide = np.random.default_rng(0).normal(size=(30, WIDEST + 1))
    with pytest.raises(InputError, match="shorten the window"):
        fitted(name, wide)


@pytest.mark.parametrize("n_columns", [1, 2])
@every
def test_few_rows_and_columns_suffice(name: str, n_columns: int) -> None:
    train = normal_rows(8, 0)[:, :n_columns]
    found = scores(name, train, np.vstack([train, 50 + train]))
    assert np.isfinite(found).all()
    assert name == "isolation_forest" or found[10:].min() >= found[:8].max()


@every
def test_labelled_rows_are_not_learnt_from(name: str) -> None:
    normal, odd = normal_rows(300, 0), normal_rows(60, 1) + 30
    both = series(np.vstack([normal, odd]), lengths=(300, 60))
    labelled = both._replace(label=torch.from_numpy(np.repeat([0, 1], [300, 60])))
    rows = normal_rows(50, 2)
    learnt = fit_baseline(labelled, n_context=0, baseline=name, seed=0).scorer
    assert torch.equal(learnt(*alone(rows))[0], fitted(name, normal)(*alone(rows))[0])


@every
def test_what_context_explains_linearly_is_not_judged(name: str) -> None:
    generator = np.random.default_rng(0)

    def rows(n: int, low: float, high: float) -> np.ndarray:
        speed = generator.uniform(low, high, size=(n, 1))
        return np.hstack([normal_rows(n, int(generator.integers(99)))[:, :3] + 5 * speed, speed])

    told = fitted(name, rows(1000, 0, 1), n_context=1)
    inside, outside = (told(*alone(rows(500, *ends)))[0].median() for ends in ((0, 1), (3, 4)))
    assert outside < 2 * inside
    moved = rows(500, 0, 1)
    moved[:, 0] += 1.5
    assert told(*alone(moved))[0].median() > 1.05 * inside


@every
def test_expected_is_near_what_a_normal_sensor_reads(name: str) -> None:
    scorer, rows = fitted(name, normal_rows(1000, 0), n_context=1), normal_rows(400, 8)
    rows[0, 2], rows[1, :5] = np.nan, np.nan
    expected = scorer.expected(*series(rows)[:2])
    assert expected.shape == (400, 5)
    assert expected.isfinite().all()
    error = np.nanstd(rows[:, :5] - expected.numpy(), axis=0)
    assert (error < 0.7 * np.nanstd(rows[:, :5], axis=0))[1:].all()  # the first is mostly noise


@every
def test_uses_that_need_latents_are_refused_in_words(name: str) -> None:
    scorer, given = fitted(name, normal_rows(300, 0)), alone(normal_rows(3, 1))
    with pytest.raises(InputError, match=f"baseline '{name}' has no latents.*train a variant"):
        scorer.expected_band(*given)
    with pytest.raises(InputError, match=f"baseline {name} knows no classes"):
        scorer.class_probabilities(*given)
    assert (scorer.standard_error(*given) == 0).all()


# --------------------------------------------------------------------------------------- oracles


def standardised(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return (rows - np.nanmean(train, axis=0)) / np.nanstd(train, axis=0)


def test_mahalanobis_without_shrinkage_is_the_closed_form() -> None:
    train, rows = normal_rows(5000, 0), normal_rows(20, 1)
    centred = rows - train.mean(axis=0)
    precision = np.linalg.inv(np.cov(train.T, ddof=0))
    closed = np.einsum("ij,jk,ik->i", centred, precision, centred)
    # With 5,000 rows of 6 columns the likelihood chooses (next to) no shrinkage.
    assert_allclose(scores("mahalanobis", train, rows), closed, rtol=5e-3)


def test_mahalanobis_of_a_row_with_gaps_is_that_of_what_is_observed() -> None:
    train, rows = normal_rows(5000, 0), with_gaps(normal_rows(50, 1), share=0.4)
    found = scores("mahalanobis", train, rows)
    center, covariance = train.mean(axis=0), np.cov(train.T, ddof=0)
    for row, score in zip(rows, found, strict=True):
        known = ~np.isnan(row)
        off = (row - center)[known]
        closed = off @ np.linalg.solve(covariance[np.ix_(known, known)], off)
        assert_allclose(score, closed, rtol=5e-3, atol=1e-6)


def test_mahalanobis_given_context_is_that_of_the_regression_residual() -> None:
    train, rows = normal_rows(5000, 0), normal_rows(50, 1)
    judged, context = slice(None, 4), slice(4, None)
    center = train.mean(axis=0)
    slope, *_ = np.linalg.lstsq((train - center)[:, context], (train - center)[:, judged])
    rest = (train - center)[:, judged] - (train - center)[:, context] @ slope
    off = (rows - center)[:, judged] - (rows - center)[:, context] @ slope
    closed = np.einsum("ij,jk,ik->i", off, np.linalg.inv(rest.T @ rest / len(rest)), off)
    found = fitted("mahalanobis", train, n_context=2)(*alone(rows))[0]
    assert_allclose(found, closed, rtol=5e-3)


def test_mahalanobis_shrinks_where_rows_are_few_or_columns_repeat() -> None:
    train, rows = normal_rows(8, 0), normal_rows(50, 1)
    # Eight rows of six columns: without shrinkage fresh rows would look absurdly far.
    assert scores("mahalanobis", train, rows).mean() < 1000
    twice = scores("mahalanobis", np.hstack([train, train]), np.hstack([rows, rows]))
    assert np.isfinite(twice).all()
    assert SHRINKAGES[0] == 0


def test_pca_is_the_larger_of_the_two_statistics_of_scikit_learn() -> None:
    train, rows = normal_rows(2000, 0), normal_rows(200, 1)
    rows[100:, 2] += 1.2
    z, z_train = standardised(train, rows), standardised(train, train)

    def statistics(learnt: np.ndarray, judged: np.ndarray) -> np.ndarray:
        pca = PCA(0.9, svd_solver="full").fit(learnt)
        t2 = (pca.transform(judged) ** 2 / pca.explained_variance_).sum(axis=1)
        return np.stack([t2, ((judged - pca.inverse_transform(pca.transform(judged))) ** 2).sum(1)])

    folds = np.array_split(np.arange(2000), 5)
    held = [statistics(np.delete(z_train, fold, axis=0), z_train[fold]) for fold in folds]
    typical = np.hstack(held).mean(axis=1)
    # Centred on the mean of all rows here, on that of each fold's rows there.
    closed = (statistics(z_train, z) / typical[:, None]).max(axis=0)
    assert_allclose(scores("pca", train, rows), closed, rtol=0.02)


def test_cva_is_the_residual_statistic_of_the_textbook() -> None:
    generator = np.random.default_rng(0)
    train = np.zeros((4000, 3))
    for t in range(1, 4000):  # one slow mode, two of noise
        train[t] = 0.9 * train[t - 1] * [1, 0, 0] + generator.normal(size=3)
    train @= generator.normal(size=(3, 3))
    rows = train[:50]
    scorer = fitted("cva", train)
    found = scorer(*series(rows)[:2])[0].numpy()
    z_train, z = standardised(train, train), standardised(train, rows)
    closed = naive.canonical_residual(z_train.tolist(), z.tolist(), lags=3, kept=0.9)
    assert scorer.left_context == 2
    assert_allclose(found[2:], closed, rtol=0.02)


def test_cva_needs_rows_that_follow_each_other() -> None:
    rows = normal_rows(50, 0)
    single = Series(*alone(rows), torch.zeros(50, dtype=torch.int64))
    with pytest.raises(PartsError, match="learns from what follows"):
        fit_baseline(single, n_context=0, baseline="cva", seed=0)


def test_knn_is_the_mean_distance_to_the_five_nearest() -> None:
    train, rows = normal_rows(300, 0), with_gaps(normal_rows(20, 1), share=0.3)
    distances = nan_euclidean_distances(standardised(train, rows), standardised(train, train))
    nearest = np.sort(distances, axis=1)[:, :5].mean(axis=1)
    assert_allclose(scores("knn", train, rows), nearest, rtol=1e-5)


def test_the_forest_scores_as_scikit_learn_does() -> None:
    train, rows = normal_rows(600, 0), normal_rows(500, 1)
    rows[:100] *= 5
    scorer = fitted("isolation_forest", train, seed=4)
    prepared = (scorer.standardizer(torch.from_numpy(x)).x.numpy() for x in (train, rows))
    z_train, z = prepared
    theirs = -IsolationForest(random_state=4).fit(z_train).score_samples(z)
    assert_allclose(scorer(*alone(rows))[0], theirs, atol=1e-6)
