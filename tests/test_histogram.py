"""Histograms over the bits of floats: exact at their edges, and the same in any order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from vae_anomaly.decisions import choices
from vae_anomaly.decisions.histogram import BITS, Histogram, binned_roc
from vae_anomaly.decisions.rates import exact_roc
from vae_anomaly.decisions.thresholds import RULES, Target, calibrate, calibrate_histograms
from vae_anomaly.errors import CalibrationError, InputError

#: Every float but NaN: tiny, huge, infinite, -0.0.
floats = st.lists(st.floats(-1e300) | st.just(-math.inf), min_size=1, max_size=30)


def above(scores: list[float], value: float) -> int:
    return sum(score > value for score in scores)


@given(floats, floats)
def test_counts_are_exact_at_the_ends_of_the_bins(
    normal: list[float], anomalous: list[float]
) -> None:
    roc = binned_roc(*(Histogram.of(np.array(part)) for part in (normal, anomalous)))
    assert (roc.values[1:] > roc.values[:-1]).all()
    for i, value in enumerate(roc.values):
        assert roc.false_alarms[i] == above(normal, value)
        assert roc.detections[i] == above(anomalous, value)
    exact = exact_roc(np.array(normal), np.array(anomalous))
    for value in exact.values[1:]:  # each score is in the bin whose end is next above it
        end = roc.values[np.searchsorted(roc.values, value)]
        assert value <= end
        assert math.isinf(end) or abs(value) < 1e-300 or end - value <= abs(value) * 2.0**-BITS


@given(st.lists(floats, min_size=1, max_size=5), st.randoms())
def test_parts_add_up_in_any_order(parts: list[list[float]], random: object) -> None:
    whole = Histogram.of(np.concatenate([np.array(part) for part in parts]))
    random.shuffle(parts)  # type: ignore[attr-defined]
    total = Histogram.of(np.array([]))
    for part in parts:
        total += Histogram.of(np.array(part))
    assert_array_equal(total.keys, whole.keys)
    assert_array_equal(total.counts, whole.counts)
    assert total.n_rows == sum(map(len, parts))


@pytest.mark.parametrize("rule", ["false_alarm_rate", "conformal"])
@pytest.mark.parametrize("rate", [0.001, 0.03])
def test_a_binned_threshold_keeps_the_promise_and_is_a_thousandth_higher_at_most(
    rule: str, rate: float
) -> None:
    generator = np.random.default_rng(0)
    normal, anomalous = generator.lognormal(size=50_000), generator.lognormal(2, 1, size=500)
    asked = Target(false_alarm_rate=rate)
    exact = calibrate(
        np.append(normal, anomalous), np.repeat([0, 1], [50_000, 500]), rule=rule, target=asked
    ).threshold.value
    found = calibrate_histograms(
        Histogram.of(normal), Histogram.of(anomalous), rule=rule, target=asked
    )
    assert exact <= found.threshold.value <= exact * (1 + 2.0**-BITS)
    assert found.operating_point.false_alarm_rate.value <= rate
    assert found.operating_point.false_alarm_rate.value == (normal > found.threshold.value).mean()


def test_very_many_rows_are_counted_in_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    scores = np.append(generator.lognormal(size=5000), generator.lognormal(3, size=200))
    labels = np.repeat([0, 1], [5000, 200])
    targets = {"cost": Target(missed_cost=5.0), "fixed": Target(value=3.0)}
    for rule in RULES:
        asked = targets.get(rule, Target())
        exact = calibrate(scores, labels, rule=rule, target=asked, bootstrap=100)
        monkeypatch.setattr(choices, "EXACT_ROWS", 5000)
        binned = calibrate(scores, labels, rule=rule, target=asked, bootstrap=100)
        monkeypatch.undo()
        ours, other = exact.operating_point, binned.operating_point
        assert abs(ours.false_alarm_rate.value - other.false_alarm_rate.value) < 0.005, rule
        assert abs(ours.detection_rate.value - other.detection_rate.value) < 0.03, rule


def test_empty_histograms_are_refused() -> None:
    empty, one = Histogram.of(np.array([])), Histogram.of(np.array([1.0]))
    with pytest.raises(InputError, match="empty"):
        calibrate_histograms(empty, empty)
    with pytest.raises(CalibrationError, match="needs at least 99"):
        calibrate_histograms(empty, one)
