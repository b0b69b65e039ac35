"""One battery over the table of baselines, and an oracle for each that has a closed form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from vae_anomaly.errors import InputError, PartsError
from vae_anomaly.scoring.baselines import BASELINES, SHRINKAGES, standard

MIXING = np.random.default_rng(7).normal(size=(2, 6))
CONTENT_BASED = [name for name in BASELINES if name != "random"]

every_baseline = pytest.mark.parametrize("name", BASELINES)
every_content_based = pytest.mark.parametrize("name", CONTENT_BASED)


def normal_rows(n: int, seed: int) -> np.ndarray:
    """Six sensors driven by two causes, with a little noise."""
    generator = np.random.default_rng(seed)
    causes = generator.normal(size=(n, 2))
    return causes @ MIXING + 0.1 * generator.normal(size=(n, 6))


def with_gaps(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(rows.shape) < 0.05, np.nan, rows)


@every_baseline
def test_a_broken_correlation_is_found(name: str) -> None:
    rows, labels = normal_rows(600, 1), np.repeat([0, 1], 300)
    rows[labels == 1, 2] += 1.2  # within the sensor's own range, against the other sensors
    scores = BASELINES[name](normal_rows(1000, 0), 0)(rows)
    area = roc_auc_score(labels, scores)
    assert np.abs(rows[labels == 1] / normal_rows(1000, 0).std(axis=0)).max(axis=1).mean() < 2.5
    # Chance: the standard deviation of the area is sqrt(601 / (12 * 300 * 300)) = 0.024.
    floor = {"random": 0.4, "isolation_forest": 0.6, "pca": 0.9}.get(name, 0.8)
    assert area > floor
    assert name != "random" or area < 0.6


@every_content_based
def test_rows_in_any_order_and_split_score_the_same(name: str) -> None:
    rows = with_gaps(normal_rows(200, 1))
    score = BASELINES[name](normal_rows(500, 0), 0)
    order = np.random.default_rng(0).permutation(200)
    assert_allclose(score(rows[order]), score(rows)[order], rtol=1e-9)
    parts = np.concatenate([score(rows[:1]), score(rows[1:150]), score(rows[150:])])
    assert_allclose(parts, score(rows), rtol=1e-9)


@every_baseline
def test_the_same_seed_gives_the_same_scores(name: str) -> None:
    train, rows = normal_rows(400, 0), normal_rows(50, 1)
    first, second = (BASELINES[name](train, 3)(rows) for _ in range(2))
    assert_array_equal(first, second)
    assert BASELINES[name](train, 3)(rows[:0]).shape == (0,)


@every_baseline
def test_missing_values_are_tolerated(name: str) -> None:
    scores = BASELINES[name](with_gaps(normal_rows(400, 0)), 0)(with_gaps(normal_rows(99, 1), 1))
    assert scores.shape == (99,)
    assert np.isfinite(scores).all()
    empty = BASELINES[name](normal_rows(400, 0), 0)(np.full((3, 6), np.nan))
    assert np.isfinite(empty).all()


@every_baseline
def test_change_of_units_leaves_scores_unchanged(name: str) -> None:
    train, rows = with_gaps(normal_rows(400, 0)), with_gaps(normal_rows(100, 1), 1)
    factor, offset = np.array([1.8, 1e3, 1e-3, 1.0, 2.0, 0.3]), np.array([32.0, 0, 273, 1e4, 0, 5])
    before = BASELINES[name](train, 0)(rows)
    after = BASELINES[name](train * factor + offset, 0)(rows * factor + offset)
    # A tree that a rounding sends the other way moves a forest's score by 1/100 of a depth.
    assert_allclose(after, before, rtol=1e-2 if name == "isolation_forest" else 1e-5)


@every_baseline
def test_constant_and_unobserved_columns_are_left_out(name: str) -> None:
    train, rows = normal_rows(300, 0), normal_rows(50, 1)
    useless = np.column_stack([np.full(300, 7.1), np.full(300, np.nan)])
    other = np.column_stack([np.arange(50.0), np.full(50, 3.0)])
    score = BASELINES[name](np.hstack([train, useless]), 0)
    assert_allclose(score(np.hstack([rows, other])), BASELINES[name](train, 0)(rows))


@every_content_based
def test_what_cannot_be_fitted_or_scored_is_refused(name: str) -> None:
    for useless in (normal_rows(1, 0), np.ones((50, 6)), np.full((50, 6), np.nan)):
        with pytest.raises(PartsError, match="two rows and one varying column"):
            BASELINES[name](useless, 0)
    with pytest.raises(InputError, match="6 columns"):
        BASELINES[name](normal_rows(50, 0), 0)(normal_rows(5, 0)[:, :4])


@pytest.mark.parametrize("n_columns", [1, 2])
@every_baseline
def test_few_rows_and_columns_suffice(name: str, n_columns: int) -> None:
    train = normal_rows(4, 0)[:, :n_columns]
    scores = BASELINES[name](train, 0)(np.vstack([train, 50 + train]))
    assert np.isfinite(scores).all()
    assert name in ("random", "isolation_forest") or scores[4:].min() >= scores[:4].max()


def test_mahalanobis_without_shrinkage_is_the_closed_form() -> None:
    train, rows = normal_rows(5000, 0), normal_rows(20, 1)
    centred = rows - train.mean(axis=0)
    precision = np.linalg.inv(np.cov(train.T, ddof=0))
    closed = np.einsum("ij,jk,ik->i", centred, precision, centred)
    # With 5,000 rows of 6 columns the likelihood chooses (next to) no shrinkage.
    assert_allclose(BASELINES["mahalanobis"](train, 0)(rows), closed, rtol=5e-3)


def test_mahalanobis_shrinks_where_rows_are_few_or_columns_repeat() -> None:
    train = normal_rows(8, 0)
    rows = normal_rows(50, 1)
    # Eight rows of six columns: without shrinkage fresh rows would look absurdly far.
    assert BASELINES["mahalanobis"](train, 0)(rows).mean() < 1000
    twice = BASELINES["mahalanobis"](np.hstack([train, train]), 0)(np.hstack([rows, rows]))
    assert np.isfinite(twice).all()
    assert SHRINKAGES[0] == 0


def test_pca_scores_the_residual_of_the_kept_components() -> None:
    train, rows = normal_rows(500, 0), normal_rows(20, 1)
    prepare = standard(train)
    _, values, right = np.linalg.svd(prepare(train), full_matrices=False)
    n_kept = int((np.cumsum(values**2) / (values**2).sum() < 0.9).sum()) + 1
    residual = prepare(rows) @ (np.eye(6) - right[:n_kept].T @ right[:n_kept])
    assert_allclose(BASELINES["pca"](train, 0)(rows), (residual**2).sum(axis=1))


def test_knn_is_the_mean_distance_to_the_five_nearest() -> None:
    train, rows = normal_rows(300, 0), normal_rows(20, 1)
    prepare = standard(train)
    distances = np.linalg.norm(prepare(rows)[:, None] - prepare(train)[None], axis=2)
    assert_allclose(
        BASELINES["knn"](train, 0)(rows), np.sort(distances, axis=1)[:, :5].mean(axis=1)
    )
