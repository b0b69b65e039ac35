"""A budget of alarms is kept on rows that nobody has seen, and refused where it cannot be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from vae_anomaly.config import (
    SECONDS,
    AlarmRule,
    Alarms,
    Budget,
    Calibration,
    Contract,
    PlantConfig,
    Source,
)
from vae_anomaly.data.windows import Matrix
from vae_anomaly.decisions.alarms import Evidence, episodes
from vae_anomaly.decisions.budget import (
    CANDIDATES,
    AlarmForecast,
    BudgetChoice,
    History,
    within_budget,
)
from vae_anomaly.errors import CalibrationError, InputError
from vae_anomaly.steps.alarm_rows import AssetState, take_in
from vae_anomaly.steps.budget import limits_of_budget
from vae_anomaly.steps.judged import Judged

HOUR = 3_600_000_000


def fleet(seed: int, *, n_assets: int, weeks: float, memory: float = 0.8) -> list[History]:
    """Normal hourly scores with memory, of machines that differ in nothing."""
    generator = np.random.default_rng(seed)
    n = int(weeks * 7 * 24)
    noise = generator.standard_t(8, size=(n, n_assets)) * np.sqrt(1 - memory**2)
    score = np.empty_like(noise)
    score[0] = noise[0]
    for row in range(1, n):
        score[row] = memory * score[row - 1] + noise[row]
    time = np.arange(n) * HOUR
    return [History(time, own, np.ones(n, bool)) for own in score.T]


def count(histories: list[History], threshold: float, rule: AlarmRule) -> int:
    """Alarms of each asset by itself."""
    total = 0
    for rows in histories:
        exceeds = rows.is_normal & (rows.score > threshold)
        clear = ~exceeds & rows.is_normal
        total += len(episodes(Evidence(rows.time, exceeds, clear, ~rows.is_normal), rule))
    return total


def halves(histories: list[History]) -> tuple[list[History], list[History]]:
    half = len(histories[0].time) // 2
    return tuple(
        [History(h.time[own], h.score[own], h.is_normal[own]) for h in histories]
        for own in (slice(half), slice(half, None))
    )


@pytest.mark.slow
def test_fresh_alarms_lie_in_the_stated_interval() -> None:
    """20 assets, ten weeks to calibrate on and ten fresh ones, 2 alarms per asset and week.

    A 95 % interval is missed more than 3 times in 20 with a chance of 1.6 %; seeds are fixed.
    """
    held, said = 0, []
    for seed in range(20):
        seen, fresh = halves(fleet(seed, n_assets=20, weeks=20))
        choice = within_budget({"*": seen}, Budget(alarms=2), multiples=())
        found = count(fresh, choice.thresholds["*"], choice.rule)
        expected = choice.forecast.expected(sum(rows.length_s for rows in fresh))
        held += expected.low <= found <= expected.high
        assert expected.high < 2 * expected.value + 2
        said.append(f"{found} of {expected.value:.0f} ({expected.low:.0f} to {expected.high:.0f})")
    print(f"\n{held} of 20 held: " + ", ".join(said))
    assert held >= 17


@pytest.mark.parametrize("rule", CANDIDATES[:3])
def test_threshold_is_the_lowest_from_above_that_keeps_the_budget(rule: AlarmRule) -> None:
    seen = fleet(3, n_assets=3, weeks=2)
    choice = within_budget({"*": seen}, Budget(alarms=2), rules=[rule])
    allowed = 2 * 3 * 2 - 1
    levels = np.unique(np.concatenate([rows.score for rows in seen]))[::-1]
    lowest = levels[0]
    for level in levels:
        if count(seen, level, rule) > allowed:
            break
        lowest = level
    assert choice.thresholds["*"] == lowest
    assert choice.forecast.n_expected == count(seen, lowest, rule) + 1 <= allowed + 1


def test_increasing_maps_of_the_score_change_no_alarm_of_a_rule() -> None:
    seen = fleet(4, n_assets=2, weeks=2)
    mapped = [History(h.time, np.exp(h.score) + 7, h.is_normal) for h in seen]
    for rule in CANDIDATES:
        plain, other = (
            within_budget({"*": h}, Budget(alarms=3), rules=[rule]) for h in (seen, mapped)
        )
        assert np.exp(plain.thresholds["*"]) + 7 == other.thresholds["*"]


def test_a_larger_budget_never_raises_the_threshold() -> None:
    seen = fleet(5, n_assets=4, weeks=3)
    values = [
        within_budget({"*": seen}, Budget(alarms=n), rules=CANDIDATES[1:2]).thresholds["*"]
        for n in (0.5, 1, 2, 4, 8)
    ]
    assert values == sorted(values, reverse=True)


def test_each_scorer_keeps_the_budget_of_its_own_assets() -> None:
    a, b = fleet(6, n_assets=1, weeks=6), fleet(7, n_assets=1, weeks=6)
    scaled = [History(h.time, 10 * h.score, h.is_normal) for h in b]
    choice = within_budget({"a": a, "b": scaled}, Budget(alarms=2))
    for name, rows in (("a", a), ("b", scaled)):
        assert count(rows, choice.thresholds[name], choice.rule) <= 11


def test_scores_with_spikes_get_an_on_delay_and_lasting_ones_do_not_wait_longer() -> None:
    generator = np.random.default_rng(8)
    n = 24 * 7 * 10
    spikes = generator.standard_t(2, n)
    rows = [History(np.arange(n) * HOUR, spikes, np.ones(n, bool))]
    assert within_budget({"*": rows}, Budget(alarms=1)).rule.raise_after > 1


def test_rows_that_are_not_normal_raise_nothing_and_are_not_counted_as_time() -> None:
    seen = fleet(9, n_assets=1, weeks=6)[0]
    is_normal = np.ones(len(seen.time), bool)
    is_normal[100:200] = False
    faulty = seen.score.copy()
    faulty[100:200] += 50
    rows = History(seen.time, faulty, is_normal)
    choice = within_budget({"*": [rows]}, Budget(alarms=2))
    assert choice.thresholds["*"] < 20
    assert rows.length_s == 3600 * is_normal.sum()


def test_known_faults_say_what_the_budget_finds_and_how_late() -> None:
    """Three faults of ten hours, the last one too weak to be found."""
    rows = fleet(14, n_assets=1, weeks=6)[0]
    is_faulty = np.zeros(len(rows.time), bool)
    score = rows.score.copy()
    for first, rise in ((200, 30.0), (400, 30.0), (600, 0.0)):
        is_faulty[first : first + 10] = True
        score[first : first + 10] += rise
    known = History(rows.time, score, ~is_faulty, is_faulty)
    choice = within_budget({"*": [known]}, Budget(alarms=1))
    assert (choice.n_found, choice.n_faults) == (2, 3)
    assert choice.delay_s == 3600 * (choice.rule.raise_after - 1)
    unknown = within_budget({"*": [History(rows.time, score, ~is_faulty)]}, Budget(alarms=1))
    assert (unknown.thresholds, unknown.rule) == (choice.thresholds, choice.rule)
    assert (unknown.n_found, unknown.n_faults, unknown.delay_s) == (0, 0, None)


def test_a_latched_rule_is_replayed_as_if_somebody_answered() -> None:
    seen = fleet(15, n_assets=2, weeks=4)
    plain, latched = (
        within_budget({"*": seen}, Budget(alarms=2), rules=[AlarmRule(latched=flag)])
        for flag in (False, True)
    )
    assert latched.thresholds == plain.thresholds
    assert latched.rule.latched


def test_a_minimum_gap_joins_no_alarms_of_different_assets() -> None:
    n = 24 * 7 * 2
    score = np.random.default_rng(16).random(n)
    first, second = score.copy(), score.copy()
    first[-3], second[0] = 5.0, 6.0  # the first is over before its asset ends
    assets = [History(np.arange(n) * HOUR, own, np.ones(n, bool)) for own in (first, second)]
    rule = AlarmRule(min_gap_s=86_400)
    choice = within_budget({"*": assets}, Budget(alarms=0.75), rules=[rule], multiples=())
    found = [count([rows], choice.thresholds["*"], rule) for rows in assets]
    assert choice.forecast.n_expected == sum(found) + 1


def test_rows_without_a_value_cut_no_replay_as_they_cut_no_alarm() -> None:
    """The same rows as a history, and as they are served: as many alarms."""
    generator = np.random.default_rng(17)
    n = 24 * 7 * 4
    values = generator.normal(size=(n, 1))
    values[generator.random(n) < 0.3] = np.nan
    time = pa.array(np.arange(n) * HOUR, pa.timestamp("us", "UTC"))
    label, run = np.full(n, -1), np.arange(n)
    read = ~np.isnan(values[:, 0])
    table = pa.table({"asset": pa.repeat("p1", n), "time": time})
    rows = Judged(Matrix(values, run, label), read, table)
    score = np.convolve(np.nan_to_num(values[:, 0]), np.ones(5) / 5, "same")
    plant = PlantConfig(
        name="p",
        source=Source(path="incoming"),
        contract=Contract(time="time", sensors=("flow",)),
        calibration=Calibration(budget=Budget(alarms=2)),
        alarms=Alarms(rule=AlarmRule(raise_after=3, out_of=4, clear_after=3)),
    )
    found = limits_of_budget(plant, {"*": rows}, {"*": score}, memory=1)
    rule, limit = found.choice.rule, np.float32(found.of["*"].value)
    verdicts = pa.table(
        {
            "time": time,
            "status": np.where(read, np.where(score > limit, "anomaly", "normal"), "not_scored"),
            "score": score,
            "p_value": pa.array(np.where(read, 0.5, np.nan), mask=~read),
            "top_sensors": pa.nulls(n, pa.list_(pa.string())),
            "top_contributions": pa.nulls(n, pa.list_(pa.float64())),
            "top_directions": pa.nulls(n, pa.list_(pa.string())),
            "model_version": pa.repeat("1", n),
        }
    )
    served, _ = take_in("p1", verdicts, AssetState(), rule)
    assert len(served) == found.choice.forecast.n_expected - 1 > 2


def test_too_short_a_history_is_refused_with_how_much_it_takes() -> None:
    seen = fleet(10, n_assets=2, weeks=0.5)
    with pytest.raises(CalibrationError, match=r"needs at least 30 days of normal rows .* are 7\."):
        within_budget({"*": seen}, Budget(alarms=1, per="month"))


def test_forecast_of_a_poisson_process_holds_as_often_as_it_says() -> None:
    """2,000 repetitions: a 95 % interval of counts holds 95 % or more, within 1.5 points."""
    generator = np.random.default_rng(11)
    held = 0
    for _ in range(2000):
        # the (c + 1)-th event of a unit process after c ones: as long a history as c + 1 takes
        length = generator.gamma(12)
        fresh = generator.poisson(8.0)
        expected = AlarmForecast(12, length).expected(8.0)
        held += expected.low <= fresh <= expected.high
    assert held / 2000 > 0.935


def test_bunches_widen_the_forecast() -> None:
    alone, bunched = (AlarmForecast(40, 100.0, b).expected(100.0) for b in (1.0, 4.0))
    assert bunched.value == alone.value == 40
    assert bunched.high > alone.high
    assert bunched.low < alone.low


def test_alarms_in_bunches_are_noticed() -> None:
    generator = np.random.default_rng(12)
    n = 24 * 7 * 12
    score = generator.random(n)
    for day in generator.choice(12 * 7, 10, replace=False):
        score[day * 24 : day * 24 + 24 : 3] += 5
    rows = [History(np.arange(n) * HOUR, score, np.ones(n, bool))]
    choice = within_budget({"*": rows}, Budget(alarms=10), rules=CANDIDATES[:1])
    assert choice.forecast.bunching > 3


def test_no_period_is_refused() -> None:
    with pytest.raises(InputError, match="no period"):
        AlarmForecast(1, 1.0).expected(0.0)


@pytest.mark.parametrize(
    ("text", "per_week"),
    [
        ("2 alarms per asset per week", 2),
        ("1 alarm a day", 7),
        ("0.5 alarms per asset per month", 0.5 * 7 / 30),
        (3, 3),
        ({"alarms": 1, "per": "hour"}, 168),
    ],
)
def test_budget_is_read_as_people_write_it(text: object, per_week: float) -> None:
    budget = Budget.model_validate(text)
    assert budget.per_second * SECONDS["week"] == pytest.approx(per_week)


@pytest.mark.parametrize(
    "text", ["few", "2 alarms", "-1 alarms per week", 0, True, "2 per fortnight"]
)
def test_what_is_no_budget_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate(text)


def test_curve_goes_on_to_larger_and_smaller_budgets() -> None:
    choice: BudgetChoice = within_budget({"*": fleet(13, n_assets=4, weeks=4)}, Budget(alarms=2))
    rates = [point.alarms_per_week for point in choice.curve]
    shifts = [point.smallest_shift for point in choice.curve]
    assert rates == sorted(rates)
    assert shifts == sorted(shifts, reverse=True)
