"""What a step did is told so that it needs no statistician."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vae_anomaly.config import Budget
from vae_anomaly.decisions.budget import BudgetChoice, History, within_budget
from vae_anomaly.decisions.evaluation import rates_at
from vae_anomaly.decisions.thresholds import Threshold
from vae_anomaly.package import Calibration
from vae_anomaly.report import calibrate_table
from vae_anomaly.steps.calibrate import CalibrateReport

#: Two weeks of an asset, a row an hour.
N = 336


def calibrated(*, n_faulty: int = 0, budget: Budget | None = None) -> CalibrateReport:
    """Two weeks of scores with memory, of which the last rows are faulty."""
    generator = np.random.default_rng(0)
    score = np.convolve(generator.normal(size=N + 5), np.ones(6) / np.sqrt(6), mode="valid")
    label = np.zeros(N, np.int64)
    label[N - n_faulty :] = 1
    score[label > 0] += 6
    choice: BudgetChoice | None = None
    value = 2.0
    if budget is not None:
        time = np.arange(N) * 3_600_000_000
        choice = within_budget({"*": [History(time, score, label == 0, label > 0)]}, budget)
        value = choice.thresholds["*"]
    point = rates_at(value, score, label)
    held = Calibration(
        Threshold(value, "test", point.false_alarm_rate.value, N), point,
        np.sort(score).astype(np.float32),
    )  # fmt: skip
    folder = Path("training")
    if choice is None:
        return CalibrateReport(folder, folder, "digest", {"*": held})
    return CalibrateReport(folder, folder, "digest", {"*": held}, choice.rule, choice)


def test_a_calibration_without_faults_has_no_column_for_them() -> None:
    table = calibrate_table(calibrated())
    assert table.columns == ("scorer", "threshold", "false alarms", "normal")
    assert table.rows[0][-1] == "336"
    assert table.summary.endswith("no row here is known to be faulty, and all count as normal.")
    with_faults = calibrate_table(calibrated(n_faulty=12))
    assert with_faults.columns[4:] == ("detected", "faulty")
    assert with_faults.rows[0][3::2] == ("324", "12")
    lines = (with_faults.columns, *with_faults.rows)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    assert sum(widths) + len(widths) - 1 <= 80, "it fits a terminal"
    assert "count as normal" not in with_faults.summary


def test_a_budget_is_told_as_rows_over_the_threshold_and_alarms_of_them() -> None:
    report = calibrated(n_faulty=12, budget=Budget(alarms=2, per="week"))
    assert report.budget is not None
    table = calibrate_table(report)
    assert table.columns[2] == "normal over it"
    _, rows_over, expected, faults, by_budget, quiet = table.notes
    point = report.calibrations["*"].operating_point
    forecast, rule = report.budget.forecast, report.alarm_rule
    of = f"{rule.raise_after} of {rule.out_of} rows"
    assert rows_over == (
        f"{point.false_alarm_rate.value:.2%} of normal rows lie over the threshold, and the rule "
        f"({of}) makes {forecast.per_week:.2g} alarms per asset and week of them."
    )
    days = forecast.length_s / 86_400
    fresh = forecast.expected(forecast.length_s)
    assert f"In the next {days:.3g} days, those of all assets added up, that is" in expected
    assert expected.endswith(f"it is between {fresh.low:.0f} and {fresh.high:.0f}.")
    assert faults.startswith("1 of 1 known faults in these rows found, in ")
    first, *_, last = report.budget.curve
    assert by_budget.endswith(f"{last.n_found} at {last.alarms_per_week:.2g}.")
    assert (
        f"score of {first.smallest_shift:.2g} standard deviations raises an alarm within" in quiet
    )
    assert quiet.endswith(f"at {last.alarms_per_week:.2g}, one of {last.smallest_shift:.2g}.")
