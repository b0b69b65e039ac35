"""Counts above a threshold: curves, their resamples, and intervals of shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binom, norm

from vae_anomaly.decisions.rates import (
    UNKNOWN,
    Interval,
    Share,
    checked_scores,
    exact_roc,
    operating_point,
    resamples,
)
from vae_anomaly.errors import InputError

scores = st.lists(
    st.sampled_from([-math.inf, -2.0, -0.5, 0.0, 0.25, 1.0, 3.0, math.inf]), min_size=1, max_size=15
)


@given(scores, scores)
def test_curve_counts_the_rows_above_each_score(
    normal: list[float], anomalous: list[float]
) -> None:
    roc = exact_roc(np.array(normal), np.array(anomalous))
    assert set(roc.values) >= {*normal, *anomalous}
    assert (np.diff(roc.values) > 0).all()
    for i, value in enumerate(roc.values):
        assert roc.false_alarms[i] == sum(score > value for score in normal)
        assert roc.detections[i] == sum(score > value for score in anomalous)


@given(scores, st.floats(allow_nan=False))
def test_curve_is_found_at_any_threshold(normal: list[float], value: float) -> None:
    roc = exact_roc(np.array(normal), np.empty(0))
    if value >= roc.values[0]:
        assert roc.false_alarms[roc.locate(value)] == sum(score > value for score in normal)


def test_curve_begins_with_every_row_and_ends_with_none() -> None:
    roc = exact_roc(np.array([1.0, 2.0]), np.array([2.0]))
    assert (roc.false_alarms[0], roc.detections[0]) == (2, 1)
    assert (roc.false_alarms[-1], roc.detections[-1]) == (0, 0)
    assert np.isfinite(roc.values).all()


# 29 means against their law at 5 standard errors: fails for fewer than one seed in 50,000
def test_resamples_draw_every_row_alike() -> None:
    generator = np.random.default_rng(0)
    normal, anomalous = generator.integers(0, 15, 60), generator.integers(5, 20, 9)
    roc = exact_roc(normal.astype(float), anomalous.astype(float))
    drawn = [resampled for _, resampled in resamples(roc, 4000, seed=1)]
    false_alarms = np.concatenate([curve.false_alarms for curve in drawn])
    detections = np.concatenate([curve.detections for curve in drawn])
    for found, above, n in (
        (false_alarms, roc.false_alarms, 60),
        (detections, roc.detections, 9),
    ):
        spread = np.sqrt(n * (above / n) * (1 - above / n))
        assert_allclose(found.mean(axis=0), above, atol=float(5 * spread.max() / math.sqrt(4000)))
        assert_allclose(found.std(axis=0), spread, rtol=0.1, atol=1e-12)
        assert (np.diff(found, axis=1) <= 0).all()
        assert set(found[:, 0]) == {n}
        assert set(found[:, -1]) == {0}


def test_resamples_are_the_same_for_the_same_seed() -> None:
    roc = exact_roc(np.arange(40.0), np.arange(20.0, 60.0))
    once, again, other = (next(resamples(roc, 7, seed=seed)).resampled for seed in (3, 3, 4))
    assert_array_equal(once.false_alarms, again.false_alarms)
    assert_array_equal(once.detections, again.detections)
    assert (once.detections != other.detections).any()


def test_resamples_come_in_batches_that_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    roc = exact_roc(np.arange(40.0), np.arange(20.0, 60.0))
    monkeypatch.setattr("vae_anomaly.decisions.rates.COUNTS_AT_ONCE", 3 * len(roc.values))
    sizes = [len(resampled.false_alarms) for _, resampled in resamples(roc, 7, seed=3)]
    assert sizes == [3, 3, 1]


def test_a_large_curve_is_thinned_to_a_quarter_of_a_standard_error() -> None:
    generator = np.random.default_rng(2)
    roc = exact_roc(generator.standard_normal(200_000), 1 + generator.standard_normal(3_000))
    thin, _ = next(resamples(roc, 1, seed=0))
    assert len(thin.values) < 10_000
    assert set(thin.values) <= set(roc.values)
    for above, n in ((thin.false_alarms, 200_000), (thin.detections, 3_000)):
        steps = -np.diff(2 * math.sqrt(n) * np.arcsin(np.sqrt(above / n)))
        whole = -np.diff(2 * math.sqrt(n) * np.arcsin(np.sqrt(np.array([1.0, 0.0]) / n)))
        # a step of the thinned curve is a quarter, and what a single row makes up
        assert steps.max() <= 0.25 + whole[0] + 1e-9
        assert above[-1] == 0


@pytest.mark.parametrize(("count", "total"), [(0, 5), (5, 5), (1, 5), (37, 100), (0, 0)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_interval_of_a_share_holds_the_share(count: int, total: int, confidence: float) -> None:
    found = Share(count, total).interval(confidence)
    if not total:
        assert found is UNKNOWN
        assert not found.known
        return
    assert 0 <= found.low <= found.value == count / total <= found.high <= 1
    assert found.low < found.high
    assert (found.low == 0) == (count == 0)
    assert (found.high == 1) == (count == total)


def test_interval_of_a_share_covers_as_often_as_it_should() -> None:
    """The exact coverage of the 95 % interval, averaged over rates, is within a point of 95 %."""
    n, ends = 40, []
    for count in range(n + 1):
        found = Share(count, n).interval(0.95)
        ends.append((found.low, found.high))
    low, high = np.array(ends).T
    rates = np.linspace(0.005, 0.995, 199)
    inside = (low <= rates[:, None]) & (rates[:, None] <= high)
    coverage = (binom.pmf(np.arange(n + 1), n, rates[:, None]) * inside).sum(axis=1)
    assert abs(coverage.mean() - 0.95) < 0.01
    assert coverage.min() > 0.88


def test_interval_of_a_share_is_wider_with_more_confidence_and_fewer_rows() -> None:
    def width(found: Interval) -> float:
        return found.high - found.low

    assert width(Share(10, 50).interval(0.99)) > width(Share(10, 50).interval(0.9))
    assert width(Share(10, 50).interval()) > width(Share(100, 500).interval())


def test_precision_agrees_with_the_delta_method_on_many_rows() -> None:
    point = operating_point(
        Interval(0, 0, 0), Share(2_000, 100_000), Share(8_000, 10_000), confidence=0.95
    )
    wrong, right = 2_000, 8_000
    log_odds = math.log(right / wrong)
    error = math.sqrt((1 - 0.02) / 2_000 + (1 - 0.8) / 8_000)
    ends = [1 / (1 + math.exp(-(log_odds + sign * norm.ppf(0.975) * error))) for sign in (-1, 1)]
    assert point.precision.value == 0.8
    assert_allclose([point.precision.low, point.precision.high], ends, atol=1e-3)


def test_precision_is_unknown_without_alarms_or_without_a_class() -> None:
    for normal, anomalous in (
        (Share(0, 10), Share(0, 10)),
        (Share(3, 10), Share(0, 0)),
        (Share(0, 0), Share(3, 10)),
    ):
        point = operating_point(Interval(0, 0, 0), normal, anomalous, confidence=0.95)
        assert not point.precision.known


@pytest.mark.parametrize(
    ("given_scores", "labels", "said"),
    [
        ([1.0, 2.0], [0], "both must be"),
        ([[1.0]], [[0]], "both must be"),
        ([], [], "at least one row"),
        ([1.0], [0.0], "give integers"),
        ([1.0, math.nan], [0, 1], "1 of 2 scores are NaN"),
    ],
)
def test_what_is_no_score_is_refused(given_scores: list, labels: list, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked_scores(given_scores, labels)


def test_float32_scores_keep_their_value() -> None:
    given_scores = np.array([0.1, 0.2], dtype=np.float32)
    found, labels = checked_scores(given_scores, np.array([0, 1], dtype=np.int32))
    assert found.dtype == np.float64
    assert labels.dtype == np.int64
    assert_array_equal(found.astype(np.float32), given_scores)
