"""Why a challenger is not promoted, in words that need no statistician."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vae_anomaly.config import Budget, Gate
from vae_anomaly.decisions.episodes import runs, timeline
from vae_anomaly.decisions.evaluation import rates_at
from vae_anomaly.decisions.events import event_figures
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.steps.figures import Figures
from vae_anomaly.steps.gate import as_json, on_test_part, rows_over

#: Ten days of one asset, a row an hour, and a fault in the last one.
N = 240
FAULT = slice(230, 240)


def figures(*over: int | slice, labelled: bool = True) -> Figures:
    """Of a method that is over its threshold in these rows, each run of them an alarm."""
    score = np.zeros(N)
    for place in over:
        score[place] = 1.0
    label = np.zeros(N, np.int64)
    label[FAULT] = 1
    rows = timeline(["a"] * N, 3600.0 * np.arange(N))
    known = label if labelled else np.full(N, -1)
    events = event_figures(runs(score > 0, rows), rows, label=known)
    point = rates_at(0.5, score, label if labelled else np.zeros(N, np.int64))
    return Figures("x", None, point, events)


def reasons(ours: Figures, theirs: Figures, budget: Budget | None = None) -> dict[str, str]:
    found = on_test_part(Gate(max_false_alarm_rate=0.06), ours, theirs, budget)
    json.loads(as_json(found))  # as it is kept in MLflow
    return {figure.figure: figure.reason for figure in found if not figure.holds}


def test_too_many_false_alarms_are_told_with_what_may_be() -> None:
    ours, theirs = figures(*range(5, 200, 40), FAULT), figures(FAULT)
    said = reasons(ours, theirs, Budget(alarms=1, per="week"))
    name = "false alarms per asset and week"
    mine, other = (7 * f.events.false_alarms_per_day.high for f in (ours, theirs))
    assert list(said) == [name]
    assert said[name].startswith(f"{name}: too many cannot be ruled out, 3.7 (between 1.2 and ")
    assert said[name].endswith(f"the upper end may be {1.5 * other:.2g}, 1.5 times the champion's")
    assert mine > 1.5 * other > 1
    said = reasons(ours, theirs, Budget(alarms=5, per="week"))
    assert said[name].endswith("the upper end may be the budget of 5")


def test_a_fault_under_a_standing_alarm_is_told_beside_the_one_that_is_lost() -> None:
    said = reasons(figures(slice(225, 240)), figures(FAULT))
    assert said["faults found"] == (
        "faults found: 1 fewer than the champion, 0 of 1 against 1; of all such faults that is "
        "100.0%, and at most 10.0% may be lost; 1 of those missed began under an alarm that stood "
        "already, which finds none"
    )


def test_without_labels_rows_are_flagged_and_no_false_alarms() -> None:
    ours, theirs = figures(slice(0, 24), labelled=False), figures(labelled=False)
    (found,) = reasons(ours, theirs).values()
    assert found.startswith("flagged rows: too many, 10.00% is above max_false_alarm_rate 6.00%")


@pytest.mark.parametrize(
    ("other", "limit"),
    [(0.03, "max_false_alarm_rate 5.00% may be"), (0.06, "9.00%, 1.5 times as many, may be")],
)
def test_rows_over_the_threshold_are_told_with_their_limit(other: float, limit: str) -> None:
    mine, theirs = (Interval(share, share, share) for share in (0.12, other))
    said = rows_over(Gate(), mine, theirs).reason
    assert said.endswith(f"12.00% of those outside of faults against the champion's {other:.2%}; "
                         f"at most {limit}")  # fmt: skip
