"""A challenger that is as good holds, one that is worse does not."""

from __future__ import annotations

import numpy as np
import pytest

from vae_anomaly.decisions.comparison import alarms_compared, faults_compared
from vae_anomaly.errors import InputError


def test_difference_of_faults_is_that_of_the_shares() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.random((2, 400)) < [[0.8], [0.7]]
    found = faults_compared(ours, theirs, max_loss=0.1)
    assert found.difference.value == pytest.approx(ours.mean() - theirs.mean())
    spread = np.std(ours.astype(float) - theirs) / np.sqrt(400)  # 1.28 spreads: an end errs 1 in 10
    assert found.difference.high - found.difference.low == pytest.approx(2.56 * spread, rel=0.1)
    assert found.holds


@pytest.mark.parametrize(("loss", "least", "most"), [(0.0, 0.6, 1.0), (0.2, 0.0, 0.2)])
def test_faults_hold_as_often_as_the_docs_say(loss: float, least: float, most: float) -> None:
    """20 faults, 100 challengers; 74 % and 7 % in truth: outside once in 500 and in 10,000."""
    generator = np.random.default_rng(1)
    n_held = 0
    for _ in range(100):
        draw = generator.random(20)
        lost, won = draw < 0.05 + loss * 0.75, draw > 0.95 + loss * 0.25
        n_held += faults_compared(~lost, ~won, max_loss=0.1).holds
    assert least <= n_held / 100 <= most


def test_more_alarms_hold_within_the_ratio_the_budget_or_one_more() -> None:
    days, champion = np.ones(28), np.tile([1, 0, 0, 0], 7)
    assert alarms_compared(champion, champion, days, max_ratio=1.5).holds
    one_more = champion + (np.arange(28) == 1)
    assert alarms_compared(one_more, champion, days, max_ratio=1.0).holds
    threefold = alarms_compared(3 * champion, champion, days, max_ratio=1.5)
    assert threefold.challenger.value == pytest.approx(21 / 4)
    assert threefold.difference.value == pytest.approx(14 / 4)
    assert "5.2 against the champion's 1.8 on the same days, which is 3 times" in threefold.reason
    assert threefold.reason.endswith("at most 1.5 times may be")
    assert alarms_compared(3 * champion, champion, days, max_ratio=1.5, budget_per_week=10.0).holds


def test_figures_of_other_rows_are_refused() -> None:
    with pytest.raises(InputError, match="of the same faults"):
        faults_compared([True], [True, False], max_loss=0.1)
    with pytest.raises(InputError, match="of the same days"):
        alarms_compared([1], [1, 2], [1.0], max_ratio=1.5)
    assert faults_compared([], [], max_loss=0.1).holds
    assert not faults_compared([], [], max_loss=0.1).champion.known


def test_a_single_fault_has_no_interval() -> None:
    found = faults_compared([False], [True], max_loss=0.1)
    assert found.reason == (
        "faults found: 1 fewer than the champion, 0 of 1 against 1; of all such faults that is "
        "100.0%, and at most 10.0% may be lost"
    )
    assert found.n_faults == 1


def test_few_faults_may_be_found_more_often_after_all() -> None:
    found = faults_compared([True, False, False], [False, True, True], max_loss=0.1)
    assert "1 fewer than the champion, 1 of 3 against 2" in found.reason
    ends = f"(between {found.difference.high:.1%} more and {-found.difference.low:.1%})"
    assert ends in found.reason


def test_what_is_not_shown_is_not_called_worse() -> None:
    champion = np.arange(20) < 18
    found = faults_compared(np.roll(champion, 1), champion, max_loss=0.0)  # loses one, gains one
    assert found.difference.value == 0
    assert f"at most 0.0% of them, 18 of 20 against 18: {-found.difference.low:.1%}" in found.reason
    days, alarms = np.ones(20), np.tile([0, 1], 10)
    more = alarms + (np.arange(20) < 4)
    found = alarms_compared(more, alarms, days, max_ratio=1.5, budget_per_week=1.0)
    assert "1.4 times as many; that it is at most 1.5 times is not shown" in found.reason
    assert f"{found.challenger.high:.2g} cannot be ruled out, and the budget is 1" in found.reason
    found = alarms_compared(alarms, 0 * alarms, days, max_ratio=1.5)
    assert found.reason.endswith("may be, or one alarm more in all")
