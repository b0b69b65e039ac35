"""The figures of ISA-18.2, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vae_anomaly.decisions.alarm_load import alarm_load
from vae_anomaly.errors import InputError

SECOND, MINUTE, DAY = 10**6, 60 * 10**6, 86_400.0


def test_rate_peak_and_flood_are_those_of_a_count_by_hand() -> None:
    # ten-minute periods with 2, 12, 7, 5, 4 and 11 alarms: a flood from the second to the fourth,
    # and another one in the last
    counts = (2, 12, 7, 5, 4, 11)
    raised = np.concatenate([
        (10 * number * MINUTE) + np.arange(n) * 40 * SECOND for number, n in enumerate(counts)
    ])  # fmt: skip
    found = alarm_load(raised, np.zeros(len(raised)), np.ones(len(raised)), asset_s=10 * DAY)
    assert (found.n_alarms, found.peak, found.n_chattering) == (41, 12, 0)
    assert found.flood_share == pytest.approx(4 / 6)
    assert found.per_asset_day.value == pytest.approx(4.1)


def test_peak_is_of_any_ten_minutes() -> None:
    raised = np.array([*range(590, 596), *range(601, 607)]) * SECOND
    assert alarm_load(raised, np.arange(12), np.ones(12), asset_s=DAY).peak == 12


def test_chattering_is_of_one_asset() -> None:
    raised = np.array([0, 20, 40, 300, 320, 340, 900]) * SECOND
    asset = np.array(["a", "a", "a", "a", "b", "a", "b"])
    found = alarm_load(raised, asset, np.array([1, 1, 1, 1, 1, 1, 3]), asset_s=DAY)
    assert found.n_chattering == 3 + 1


def test_order_of_alarms_makes_no_difference() -> None:
    generator = np.random.default_rng(0)
    raised = generator.integers(0, 4 * 3600, 60) * SECOND
    asset, times = generator.integers(0, 3, 60), generator.integers(1, 4, 60)
    order = generator.permutation(60)
    assert alarm_load(raised, asset, times, asset_s=DAY) == alarm_load(
        raised[order], asset[order], times[order], asset_s=DAY
    )


def test_no_alarm_is_a_rate_with_an_upper_end() -> None:
    found = alarm_load([], [], [], asset_s=5 * DAY)
    assert (found.n_alarms, found.peak, found.flood_share) == (0, 0, 0.0)
    assert found.per_asset_day.low == 0 < found.per_asset_day.high < 1


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="2 times, 1 assets and 2 counts"):
        alarm_load([1, 2], ["a"], [1, 1], asset_s=1.0)
    with pytest.raises(InputError, match="nothing was watched"):
        alarm_load([], [], [], asset_s=0.0)
