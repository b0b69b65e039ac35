"""Alarms are judged fault by fault as one would by hand, with intervals that hold."""

from __future__ import annotations

import math
from dataclasses import asdict

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import binom

from vae_anomaly.decisions.episodes import Episodes, Timeline, runs, timeline
from vae_anomaly.decisions.events import EventFigures, event_figures, time_quantile
from vae_anomaly.errors import InputError

DAY = 86_400.0


@st.composite
def plants(draw: st.DrawFn) -> tuple[list[str], list[float], list[int], list[bool], list[bool]]:
    """Assets, times with gaps, labels, and two choices of rows, of up to three assets."""
    asset: list[str] = []
    time: list[float] = []
    for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 40]), min_size=1, max_size=12))
        asset += [name] * len(steps)
        time += np.cumsum(steps).astype(float).tolist()
    size = {"min_size": len(asset), "max_size": len(asset)}
    label = draw(st.lists(st.sampled_from([-1, 0, 0, 0, 1, 1, 2]), **size))
    flagged = draw(st.lists(st.booleans(), **size))
    return asset, time, label, flagged, draw(st.lists(st.booleans(), **size))


def judged(
    asset: list[str], time: list[float], label: list[int], flagged: list[bool], reach: int = 0
) -> EventFigures:
    rows = timeline(asset, time)
    return event_figures(runs(flagged, rows), rows, label=label, reach=reach)


def of(over: str, label: str, **more: int) -> EventFigures:
    """One asset, a row a minute: `x` is over the threshold, digits are labels and `?` unknown."""
    y = [-1 if c == "?" else int(c) for c in label]
    return judged(["p"] * len(y), [60.0 * i for i in range(len(y))], y, [c == "x" for c in over],
                  **more)  # fmt: skip


# --------------------------------------------------------------------------------------- counts


@settings(max_examples=60)
@given(plants(), st.integers(0, 4), st.sampled_from([None, 1.0, 5.0]))
def test_counts_are_those_of_one_alarm_at_a_time(
    plant: tuple, reach: int, max_gap_s: float | None
) -> None:
    asset, time, label, flagged, _ = plant
    rows = timeline(asset, time, max_gap_s=max_gap_s)
    alarms = runs(flagged, rows)
    found = event_figures(alarms, rows, label=label, reach=reach)
    listed = list(zip(alarms.asset, alarms.start_s, alarms.end_s, strict=True))
    slow = naive.event_counts(
        list(zip(asset, time, strict=True)), label, listed, reach=reach, max_gap_s=max_gap_s
    )
    for name, value in slow.items():
        assert_allclose(getattr(found, name), value, err_msg=name)
    assert found.n_events == len(found.delays_s)
    assert found.n_found == sum(map(math.isfinite, found.delays_s))
    n_alarms = found.n_found + found.n_repeats + found.n_false + found.n_unjudged
    assert n_alarms == len(alarms)


@given(plants(), st.sampled_from([None, 1.0, 5.0]))
def test_runs_are_the_longest_without_a_gap(plant: tuple, max_gap_s: float | None) -> None:
    asset, time, _, flagged, _ = plant
    rows = timeline(asset, time, max_gap_s=max_gap_s)
    found = runs(flagged, rows)
    slow = naive.stretches(list(zip(asset, time, strict=True)), flagged, max_gap_s)
    assert found.asset.tolist() == [asset[run[0]] for run in slow]
    assert found.start_s.tolist() == [time[run[0]] for run in slow]
    ends = [time[run[-1]] + rows.lasts_s[run[-1]] for run in slow]
    assert found.end_s.tolist() == ends


@pytest.mark.parametrize(
    ("over", "label", "found", "false", "repeats", "standing"),
    [
        ("...xx..", "0111110", 1, 0, 0, 0),
        (".x.x.x.", "0011100", 1, 2, 0, 0),
        ("..x.x..", "0011100", 1, 0, 1, 0),
        ("xxxxxxx", "0011100", 0, 1, 0, 1),  # it always stands, and says nothing
        (".xx.x..", "0011100", 1, 1, 0, 0),  # raised before, and again within
        (".......", "0110110", 0, 0, 0, 0),
        ("..x..x.", "0110110", 2, 0, 0, 0),
        (".xxxxx.", "0110110", 1, 0, 0, 1),  # the second begins under the first one's alarm
        ("....xx.", "0011000", 0, 1, 0, 0),  # too late
        (".x.....", "??11000", 0, 0, 0, 0),  # nobody knows
    ],
)
def test_an_alarm_is_judged_by_when_it_is_raised(
    over: str, label: str, found: int, false: int, repeats: int, standing: int
) -> None:
    figures = of(over, label)
    counts = figures.n_found, figures.n_false, figures.n_repeats, figures.n_standing
    assert counts == (found, false, repeats, standing)


def test_rows_that_look_back_on_a_fault_belong_to_it() -> None:
    late = of("....x..", "0110000", reach=2)
    assert (late.n_found, late.n_false, late.delay_s.value) == (1, 0, 180)
    assert_allclose(late.normal_days * DAY, 3 * 60)
    next_one = of("....x..", "0110110", reach=9)
    assert next_one.delays_s == (math.inf, 0)


def test_delay_is_the_median_over_all_faults_and_a_missed_one_is_infinitely_late() -> None:
    two_of_three = of(".x....x.......", "01100110001100")
    assert two_of_three.delays_s == (0, 60, math.inf)
    assert two_of_three.delay_s.value == 60
    assert two_of_three.slow_delay_s.value == math.inf
    assert of("..............", "01100110001100").delay_s.value == math.inf


def test_without_labels_only_alarms_a_day_are_known() -> None:
    found = of("x.xx....", "????????")
    assert (found.n_unjudged, found.n_events, found.normal_days) == (2, 0, 0)
    assert_allclose(found.alarms_per_day.value, 2 / (8 * 60 / DAY))
    for figure in (found.detection_rate, found.delay_s, found.false_alarms_per_day):
        assert not figure.known
    assert not found.precision.known


def test_without_faults_false_alarms_are_known_and_detection_is_not() -> None:
    found = of("x.xx....", "00000000")
    assert (found.n_false, found.n_events) == (2, 0)
    assert found.false_alarms_per_day == found.alarms_per_day
    assert not found.detection_rate.known
    assert not found.precision.known


def test_precision_counts_the_right_and_the_false() -> None:
    assert of("x...x.x.x", "000011100").precision.value == 1 / 3  # one right, one repeat, two false
    assert not of(".........", "000011100").precision.known


@pytest.mark.parametrize(
    ("over", "label", "said"),
    [
        ("x.xx....", "????????", "360 (44–1,300) alarms per asset and day"),
        ("x.......", "00000000", "no fault in these rows, 180 (4.6–1,003) false alarms per asset"),
        ("....x..x", "00111000", "1 of 1 faults found, in 2 min (median), 288 (7.3–1,605) false"),
        (".xxx....", "00110000", "0 of 1 faults found, 1 begun under an alarm that stood already,"),
        ("...x....", "00111111", "1 of 1 faults found, in 60 s (median), 0 (0–2,656) false"),
        ("...x....", "??111111", "1 of 1 faults found, in 60 s (median)"),
    ],
)
def test_figures_are_said_in_a_line(over: str, label: str, said: str) -> None:
    assert of(over, label).in_words().startswith(said)


# ----------------------------------------------------------------------------------- properties


@settings(max_examples=40)
@given(plants(), st.integers(-(10**6), 10**6), st.integers(0, 3))
def test_another_origin_of_time_changes_nothing(plant: tuple, shift: int, reach: int) -> None:
    asset, time, label, flagged, _ = plant
    moved = [t + shift for t in time]
    assert_same(judged(asset, time, label, flagged, reach),
                judged(asset, moved, label, flagged, reach))  # fmt: skip


@settings(max_examples=40)
@given(plants(), st.integers(0, 3))
def test_another_order_of_assets_changes_nothing(plant: tuple, reach: int) -> None:
    asset, time, label, flagged, _ = plant
    order = sorted(range(len(asset)), key=lambda i: ("bca".index(asset[i]), i))
    turned = ([own[i] for i in order] for own in (asset, time, label, flagged))
    there, back = judged(asset, time, label, flagged, reach), judged(*turned, reach)
    assert sorted(there.delays_s) == sorted(back.delays_s)
    assert_same(there, back)


def test_a_series_may_be_split_where_there_is_neither_fault_nor_alarm() -> None:
    rng = np.random.default_rng(0)
    n, cut = 4000, 2880  # of 30 s, so that a day ends where the series is cut
    label, over = np.zeros(n, int), rng.random(n) < 0.02
    for start in (100, 900, 2000, 3100):
        label[start : start + 40] = 1
    over[cut - 5 : cut + 5] = False
    time = 30.0 * np.arange(n)
    whole = judged(["a"] * n, time.tolist(), label.tolist(), over.tolist(), 5)
    names = ["a"] * cut + ["b"] * (n - cut)
    assert_same(whole, judged(names, time.tolist(), label.tolist(), over.tolist(), 5))


def assert_same(there: EventFigures, back: EventFigures) -> None:
    one, other = asdict(there), asdict(back)
    del one["delays_s"], other["delays_s"]
    for name, value in one.items():
        if isinstance(value, dict):
            assert_allclose(list(other[name].values()), list(value.values()), err_msg=name)
        else:
            assert_allclose(other[name], value, err_msg=name)


@settings(max_examples=40)
@given(plants(), st.integers(0, 3))
def test_intervals_hold_their_figures(plant: tuple, reach: int) -> None:
    for figure in asdict(judged(*plant[:4], reach)).values():
        if isinstance(figure, dict) and not math.isnan(figure["value"]):
            assert figure["low"] <= figure["value"] <= figure["high"]


# ------------------------------------------------------------------------------------ intervals


def simulated(seed: int) -> EventFigures:
    """Ten assets, four days of a row in ten minutes, 30 faults of which 60 % raise an alarm."""
    rng = np.random.default_rng(seed)
    n_assets, n = 10, 576
    label, over = np.zeros((n_assets, n), int), rng.random((n_assets, n)) < 1 / 288
    for asset in range(n_assets):
        for start in (100, 300, 500):
            label[asset, start : start + 12] = 1
            over[asset, start - 1 : start + 12] = False
            if rng.random() < 0.6:
                over[asset, start + int(min(rng.geometric(0.3), 11))] = True
    names = np.repeat([f"p{k}" for k in range(n_assets)], n)
    rows = timeline(names, np.tile(600.0 * np.arange(n), n_assets))
    return event_figures(runs(over.ravel(), rows), rows, label=label.ravel())


@pytest.mark.slow
def test_intervals_hold_as_often_as_they_should() -> None:
    """Were the coverage 90 %, each of the 3 checks would fail for one set of seeds in 100,000."""
    # 537 rows of an asset in 4 stretches can raise a false alarm; two neighbours raise one
    alarms = 537 / 288 - 533 / 288**2
    per_day = alarms / ((576 - 36) / 144)
    figures = [simulated(seed) for seed in range(300)]
    least = binom.ppf(1e-5, 300, 0.9)
    for name, truth in (
        ("false_alarms_per_day", per_day),
        ("detection_rate", 0.6),
        ("precision", 18 / (18 + 10 * alarms)),
    ):
        held = [getattr(f, name).low <= truth <= getattr(f, name).high for f in figures]
        assert sum(held) >= least, (name, sum(held))
    mean = np.mean([f.false_alarms_per_day.value for f in figures])
    assert_allclose(mean, per_day, rtol=0.02)  # 12,000 asset-days: a standard error is 0.9 %


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_interval_of_a_delay_holds_as_often_as_it_should(share: float) -> None:
    """Order statistics hold at least as often as they say: this fails for 1 seed in 1,000."""
    rng = np.random.default_rng(0)
    truth = -60 * math.log(1 - share)
    found = [time_quantile(rng.exponential(60, 25), share) for _ in range(150)]
    assert sum(f.low <= truth <= f.high for f in found) >= binom.ppf(0.001, 150, 0.95)


def test_few_delays_leave_an_end_open() -> None:
    assert time_quantile([3.0, 1.0, 2.0], 0.5) == time_quantile([1.0, 2.0, 3.0], 0.5)
    few = time_quantile([3.0, 1.0, 2.0], 0.5)
    assert (few.value, few.low, few.high) == (2, 0, math.inf)
    assert not time_quantile([], 0.5).known


# ----------------------------------------------------------------------------------------- input


def rows_of(n: int) -> Timeline:
    return timeline(["a"] * n, 60.0 * np.arange(n))


@pytest.mark.parametrize(
    ("asset", "time", "said"),
    [
        ([], [], "at least one row"),
        (["a"], [0.0, 1.0], "give one asset and one number"),
        (["a", "a"], [1.0, 1.0], "sorted by asset, then by time"),
        (["a", "a"], [2.0, 1.0], "sorted by asset, then by time"),
        (["a", "b", "a"], [1.0, 1.0, 2.0], "sorted by asset, then by time"),
        (["a", "a"], [0.0, math.nan], "1 of 2 times"),
        (["a"], [math.inf], "1 of 1 times"),
        (["a", "a"], np.array([0, 1], "datetime64[s]"), "number of seconds"),
    ],
)
def test_rows_out_of_order_are_refused(asset: list, time: list, said: str) -> None:
    with pytest.raises(InputError, match=said):
        timeline(asset, time)


def test_a_gap_that_is_not_positive_is_refused() -> None:
    for gap in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="max_gap_s"):
            timeline(["a"], [0.0], max_gap_s=gap)


@pytest.mark.parametrize("raised", [-1.0, 180.0, math.nan])
def test_an_alarm_where_nothing_was_scored_is_refused(raised: float) -> None:
    with pytest.raises(InputError, match=r"nothing was scored of asset|an episode"):
        event_figures(alarm("a", raised), rows_of(3), label=[0, 0, 0])
    with pytest.raises(InputError, match="nothing was scored of asset 'b'"):
        event_figures(alarm("b", 60.0), rows_of(3), label=[0, 0, 0])


def alarm(asset: str, *raised: float) -> Episodes:
    starts = np.array(raised)
    return Episodes(np.array([asset] * len(starts)), starts, starts + 90)


def test_alarms_that_overlap_are_refused() -> None:
    with pytest.raises(InputError, match="two episodes of asset 'a' overlap"):
        event_figures(alarm("a", 0.0, 60.0), rows_of(3), label=[0, 0, 0])


def test_what_is_no_episode_is_refused() -> None:
    with pytest.raises(InputError, match="ends at 1 s"):
        Episodes(np.array(["a"]), np.array([2.0]), np.array([1.0]))
    with pytest.raises(InputError, match=r"all must be \(k,\)"):
        Episodes(np.array(["a"]), np.array([2.0, 3.0]), np.array([3.0]))


@pytest.mark.parametrize("label", [[0, 0], [0.0, 0.0, 0.0]])
def test_labels_that_do_not_fit_are_refused(label: list) -> None:
    with pytest.raises(InputError, match="give a whole number for each of the 3 rows"):
        event_figures(alarm("a"), rows_of(3), label=label)


@pytest.mark.parametrize("flagged", [[True], [0, 1, 0]])
def test_flags_that_do_not_fit_are_refused(flagged: list) -> None:
    with pytest.raises(InputError, match="one truth value for each of the 3 rows"):
        runs(flagged, rows_of(3))
