"""Figures of scores, thresholds and contributions equal brute force, with intervals that hold."""

from __future__ import annotations

import math
from collections.abc import Callable

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binom
from sklearn.metrics import roc_curve

from vae_anomaly.decisions.evaluation import (
    auroc,
    average_precision,
    detection_by_class,
    flagged_share,
    rates_at,
    roc_points,
    top_sensor_share,
)
from vae_anomaly.decisions.rates import FloatArray, IntArray, Interval
from vae_anomaly.errors import InputError

tied = st.sampled_from([-math.inf, -2.0, 0.0, 0.5, 0.75, 3.0, math.inf])
some = st.lists(tied, min_size=1, max_size=15)

TWINS: dict[Callable[..., Interval], Callable[..., float]] = {
    auroc: naive.auroc,
    average_precision: naive.average_precision,
}
both = pytest.mark.parametrize("figure", TWINS)


def rows(normal: list[float], anomalous: list[float]) -> tuple[FloatArray, IntArray]:
    return np.array([*normal, *anomalous]), np.repeat([0, 1], [len(normal), len(anomalous)])


def simulated(n_normal: int, n_anomalous: int, shift: float, seed: int) -> tuple:
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal(n_normal)
    return rows(list(normal), list(shift + 1.5 * generator.standard_normal(n_anomalous)))


# --------------------------------------------------------------------------- over all thresholds


@both
@settings(max_examples=60)
@given(normal=some, anomalous=some, confidence=st.sampled_from([0.5, 0.95, 0.999]))
def test_equals_brute_force_within_its_interval(
    figure: Callable[..., Interval],
    normal: list[float],
    anomalous: list[float],
    confidence: float,
) -> None:
    found = figure(*rows(normal, anomalous), confidence=confidence)
    assert_allclose(found.value, TWINS[figure](normal, anomalous), atol=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


@both
def test_is_unchanged_by_increasing_maps_order_class_and_unknown_rows(
    figure: Callable[..., Interval],
) -> None:
    scores, labels = simulated(200, 20, 1.0, 0)
    order = np.random.default_rng(1).permutation(220)
    plain = figure(scores, labels)
    assert figure(np.exp(3 * scores), labels) == plain
    assert figure(scores[order], 4 * labels[order]) == plain
    assert figure(np.append(scores, [9.0, -9.0]), np.append(labels, [-1, -1])) == plain


@both
def test_interval_is_wider_with_more_confidence_and_fewer_rows(
    figure: Callable[..., Interval],
) -> None:
    scores, labels = simulated(200, 20, 1.0, 0)
    wide, plain = figure(scores, labels, confidence=0.99), figure(scores, labels)
    many = figure(np.repeat(scores, 10), np.repeat(labels, 10))
    assert wide.low < plain.low < plain.high < wide.high
    assert many.high - many.low < 0.5 * (plain.high - plain.low)


@both
def test_interval_is_not_empty_where_the_score_is_perfect(
    figure: Callable[..., Interval],
) -> None:
    for n_anomalous in (1, 5, 50):
        found = figure(*rows([0.0] * 500, [1.0] * n_anomalous))
        assert (found.value, found.high) == (1, 1)
        assert found.low < 1 - 0.8 / (n_anomalous + 1)


@both
@pytest.mark.parametrize("labels", [[0, 0], [1, 2], [0, -1], [-1, -1]])
def test_a_missing_class_is_refused(figure: Callable[..., Interval], labels: list[int]) -> None:
    with pytest.raises(InputError, match="needs normal and anomalous rows; there are"):
        figure([1.0, 2.0], labels)


def test_auroc_of_reversed_scores_is_the_complement() -> None:
    scores, labels = simulated(200, 20, 1.0, 0)
    forward, backward = auroc(scores, labels), auroc(-scores, labels)
    assert_allclose(
        [backward.value, backward.low, backward.high],
        [1 - forward.value, 1 - forward.high, 1 - forward.low],
        atol=1e-9,
    )


def held(figure: Callable[..., Interval], case: tuple[int, int, float], truth: float) -> int:
    """In how many of 300 samples the 95 % interval holds the truth."""
    return sum(
        found.low <= truth <= found.high
        for found in (figure(*simulated(*case, seed)) for seed in range(300))
    )


# Were the coverage 90 %, each of the 15 checks would fail for one set of seeds in 100,000
@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.5, 4.0])
@pytest.mark.parametrize(("n_normal", "n_anomalous"), [(50, 5), (300, 20), (300, 200)])
def test_intervals_hold_as_often_as_they_should(
    n_normal: int, n_anomalous: int, shift: float
) -> None:
    case = n_normal, n_anomalous, shift
    truth = np.mean([auroc(*simulated(5000, 5000, shift, 900 + i)).value for i in range(4)])
    assert held(auroc, case, float(truth)) >= binom.ppf(1e-5, 300, 0.9)
    if n_anomalous >= 20:  # what AP is of few rows depends on how many they are
        many = [average_precision(*simulated(*case, 10_000 + i)).value for i in range(400)]
        assert held(average_precision, case, float(np.mean(many))) >= binom.ppf(1e-5, 300, 0.9)


# ------------------------------------------------------------------------------------ the curve


@given(some, some)
def test_roc_points_of_few_rows_are_the_exact_curve(
    normal: list[float], anomalous: list[float]
) -> None:
    found = roc_points(*rows(normal, anomalous))
    for alarms, hits, threshold in zip(
        found.false_alarm_rate, found.detection_rate, found.threshold, strict=True
    ):
        assert alarms == sum(score > threshold for score in normal) / len(normal)
        assert hits == sum(score > threshold for score in anomalous) / len(anomalous)
    assert (np.diff(found.threshold) < 0).all()
    assert (found.false_alarm_rate[0], found.detection_rate[0]) == (0, 0)


def test_roc_points_are_scikit_learn_s() -> None:
    scores, labels = simulated(300, 40, 1.0, 3)
    found = roc_points(scores, labels)
    alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert_allclose(found.false_alarm_rate, alarms)
    assert_allclose(found.detection_rate, hits)


@pytest.mark.parametrize("max_points", [3, 10, 200])
def test_thinned_curve_is_part_of_the_exact_one_and_leaves_no_gap(max_points: int) -> None:
    scores, labels = simulated(20_000, 3_000, 1.0, 4)
    exact, found = (
        roc_points(scores, labels, max_points=10**6),
        roc_points(scores, labels, max_points=max_points),
    )
    assert len(found.threshold) <= max_points
    place = np.searchsorted(-exact.threshold, -found.threshold)
    assert_array_equal(exact.threshold[place], found.threshold)
    assert_array_equal(exact.false_alarm_rate[place], found.false_alarm_rate)
    assert_array_equal(exact.detection_rate[place], found.detection_rate)
    for rate in (found.false_alarm_rate, found.detection_rate):
        assert (rate[0], rate[-1]) == (0, 1)
        assert np.diff(rate).max() <= math.pi / (max_points - 2) + 0.02


def test_roc_points_refuse_one_class_and_too_few_points() -> None:
    with pytest.raises(InputError, match="an ROC curve needs"):
        roc_points([1.0, 2.0], [0, 0])
    with pytest.raises(InputError, match="max_points=2"):
        roc_points([1.0, 2.0], [0, 1], max_points=2)


def test_average_precision_of_few_faults_is_less_sure_than_of_as_many_rows() -> None:
    scores, labels = np.arange(100.0), np.repeat([0, 1], [60, 40])
    scores[70:80] = 0.5
    rows_alone, faults = (
        average_precision(scores, labels),
        average_precision(scores, labels, n_trials=4),
    )
    assert rows_alone.value == faults.value
    assert faults.low < rows_alone.low < rows_alone.high < faults.high
    assert average_precision(scores, labels, n_trials=40) == rows_alone
    for n_trials in (0, 41):
        with pytest.raises(InputError, match="give 1 to 40"):
            average_precision(scores, labels, n_trials=n_trials)


# ------------------------------------------------------------------------------- at one threshold


@given(some, some, tied)
def test_rates_are_counts(normal: list[float], anomalous: list[float], threshold: float) -> None:
    scores, labels = rows(normal, anomalous)
    found = rates_at(threshold, np.append(scores, 1.0), np.append(labels, -1))
    alarms = sum(score > threshold for score in normal)
    hits = sum(score > threshold for score in anomalous)
    assert found.false_alarm_rate.value == alarms / len(normal)
    assert found.detection_rate.value == hits / len(anomalous)
    assert found.precision.known == bool(alarms + hits)
    assert (found.n_normal, found.n_anomalous) == (len(normal), len(anomalous))
    assert found.threshold == Interval(threshold, threshold, threshold)


def test_rates_of_a_class_without_rows_are_unknown() -> None:
    normal, unlabelled = rates_at(0.5, [1.0, 0.0], [0, 0]), rates_at(0.5, [1.0, 0.0], [-1, -1])
    assert normal.false_alarm_rate.known
    assert not normal.detection_rate.known
    assert not normal.precision.known
    assert not unlabelled.false_alarm_rate.known
    assert (unlabelled.n_normal, unlabelled.n_anomalous) == (0, 0)


def test_score_at_the_threshold_is_no_alarm() -> None:
    assert rates_at(2.0, [2.0, 2.0], [0, 1]).detection_rate.value == 0
    assert flagged_share(2.0, [2.0, 3.0]).value == 0.5


def test_detection_of_each_class_adds_up_to_detection_of_all() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, 4, 500)
    scores = generator.standard_normal(500) + np.maximum(labels, 0)
    found = detection_by_class(1.0, scores, labels)
    assert list(found) == [1, 2, 3]
    hits = sum(found[fault].value * (labels == fault).sum() for fault in found)
    assert_allclose(hits / (labels > 0).sum(), rates_at(1.0, scores, labels).detection_rate.value)
    for fault, rate in found.items():
        assert rate.value == (scores[labels == fault] > 1.0).mean()
        assert rate.low < rate.value < rate.high


def test_detection_by_class_needs_a_class() -> None:
    with pytest.raises(InputError, match="no row has a positive label"):
        detection_by_class(1.0, [1.0], [0])


@pytest.mark.parametrize("figure", [rates_at, detection_by_class])
def test_threshold_that_is_nan_is_refused(figure: Callable) -> None:
    with pytest.raises(InputError, match="calibrate first"):
        figure(math.nan, [1.0], [1])
    with pytest.raises(InputError, match="calibrate first"):
        flagged_share(math.nan, [1.0])


# ----------------------------------------------------------------------------------- the sensors


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 4), min_size=5, max_size=5), st.integers(-1, 4)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 3),
)
def test_top_sensor_share_is_how_often_the_planted_one_leads(
    entries: list[tuple[list[int], int]], top: int
) -> None:
    known = [(terms, planted) for terms, planted in entries if planted >= 0]
    terms, planted = [t for t, _ in entries], [p for _, p in entries]
    if not known:
        with pytest.raises(InputError, match="no row has a faulted sensor"):
            top_sensor_share(terms, planted, top=top)
        return
    expected = [
        sum(other >= row[own] for i, other in enumerate(row) if i != own) < top
        for row, own in known
    ]
    assert top_sensor_share(terms, planted, top=top).value == sum(expected) / len(expected)


def test_equal_contributions_name_no_sensor() -> None:
    assert top_sensor_share(np.zeros((4, 3)), [0, 0, 1, 2]).value == 0


@pytest.mark.parametrize(
    ("contributions", "planted", "said"),
    [
        ([1.0, 2.0], [0, 0], r"must be \(n, d\)"),
        ([[1.0, 2.0]], [0, 0], r"must be \(n, d\)"),
        ([[1.0, 2.0]], [2], "below 2"),
        ([[1.0, 2.0]], [0.0], "whole numbers"),
        ([[1.0, math.nan]], [0], "NaN"),
    ],
)
def test_contributions_that_do_not_fit_are_refused(
    contributions: list, planted: list, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        top_sensor_share(contributions, planted)
