"""Alarms are the same whatever the cut of the stream, and those of the standard's state diagram."""

from __future__ import annotations

from itertools import pairwise

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vae_anomaly.config import AlarmRule
from vae_anomaly.decisions.alarms import (
    ACTIVE,
    ENDED,
    LATCHED,
    SUPPRESSED,
    Episode,
    Evidence,
    Progress,
    advance,
    answered,
    episodes,
)

SECOND = 1_000_000


@st.composite
def rules(draw: st.DrawFn) -> AlarmRule:
    raise_after = draw(st.integers(1, 5))
    return AlarmRule(
        raise_after=raise_after,
        out_of=raise_after + draw(st.integers(0, 4)),
        clear_after=draw(st.integers(1, 4)),
        min_gap_s=draw(st.sampled_from([0.0, 3.0, 12.0])),
        latched=draw(st.booleans()),
        re_alarm_s=draw(st.sampled_from([0.0, 4.0])),
    )


@st.composite
def streams(draw: st.DrawFn) -> Evidence:
    steps = draw(st.lists(st.integers(1, 5), min_size=1, max_size=50))
    kinds = st.sampled_from(["over", "over", "clear", "clear", "between", "off"])
    kind = np.array(draw(st.lists(kinds, min_size=len(steps), max_size=len(steps))))
    time = np.cumsum(steps).astype(np.int64) * SECOND
    return Evidence(time, kind == "over", kind == "clear", kind == "off")


def part(rows: Evidence, start: int, end: int) -> Evidence:
    return Evidence(
        *(getattr(rows, n)[start:end] for n in ("time", "exceeds", "clear", "suppressed"))
    )


def seen(text: str, **settings: object) -> list[Episode]:
    """Alarms of rows a second apart: x over, . clear, - between, o off."""
    kind = np.array(list(text))
    rows = Evidence(np.arange(len(text)) * SECOND, kind == "x", kind == ".", kind == "o")
    return episodes(rows, AlarmRule.model_validate(settings))


@given(streams(), rules())
def test_alarms_are_those_of_the_state_diagram(rows: Evidence, rule: AlarmRule) -> None:
    assert episodes(rows, rule) == naive.alarms(rows, rule)


@given(streams(), rules(), st.lists(st.integers(0, 50), max_size=8))
def test_alarms_are_the_same_however_the_stream_is_cut(
    rows: Evidence, rule: AlarmRule, cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    progress, told, owner = Progress(), {}, []
    for start, end in pairwise(edges):
        n_before = len(progress.recent)
        found = advance(part(rows, start, end), rule, progress)
        progress = found.progress
        told |= {alarm.start: alarm for alarm in found.alarms}
        owner = [*owner[: len(owner) - n_before], *found.owner.tolist()]
    whole = advance(rows, rule, Progress())
    assert list(told.values()) == whole.alarms
    assert owner == whole.owner.tolist()
    assert progress == whole.progress


@given(streams(), rules())
def test_every_row_over_the_threshold_has_at_most_one_alarm_and_is_counted_there(
    rows: Evidence, rule: AlarmRule
) -> None:
    found = advance(rows, rule, Progress())
    for alarm in found.alarms:
        assert alarm.n_over == int((found.owner == alarm.start).sum())
        assert alarm.start <= alarm.raised <= alarm.end
        assert alarm.closed is None or alarm.closed > alarm.end


@given(streams(), st.integers(1, 4), st.integers(0, 3))
def test_a_longer_on_delay_raises_no_more_rows(rows: Evidence, k: int, more: int) -> None:
    short = advance(rows, AlarmRule(raise_after=k, out_of=k + more), Progress())
    long = advance(rows, AlarmRule(raise_after=k + 1, out_of=k + 1 + more), Progress())
    first = {alarm.raised for alarm in short.alarms}
    assert min(first, default=0) <= min((a.raised for a in long.alarms), default=2**62)
    assert bool(first) >= bool(long.alarms)


def test_on_delay_counts_rows_among_the_last() -> None:
    assert not seen("x..x..x", raise_after=2, out_of=3)
    (alarm,) = seen(".x.x.", raise_after=2, out_of=3)
    assert (alarm.start, alarm.raised, alarm.n_over) == (1 * SECOND, 3 * SECOND, 2)


def test_deadband_keeps_an_alarm_until_scores_are_clear() -> None:
    (alarm,) = seen("x---x--.", clear_after=1)
    assert (alarm.state, alarm.end, alarm.closed) == (ENDED, 4 * SECOND, 7 * SECOND)


def test_a_row_is_clear_by_the_share_of_normal_rows_that_score_as_high() -> None:
    rule = AlarmRule(clear_p_value=0.05)
    exceeds = np.array([True, False, False])
    rows = Evidence.of(np.arange(3), exceeds, ~exceeds & False, np.array([0.001, 0.03, 0.2]), rule)
    assert rows.clear.tolist() == [False, False, True]


def test_off_delay_bridges_short_returns() -> None:
    (alarm,) = seen("x..x...", clear_after=3)
    assert alarm.closed == 6 * SECOND


def test_what_is_raised_again_within_the_minimum_gap_is_the_same_alarm() -> None:
    (alarm,) = seen("x.x.x.", min_gap_s=2)
    assert (alarm.n_raised, alarm.n_over) == (3, 3)
    assert len(seen("x...x.", min_gap_s=2)) == 2


def test_latched_alarm_waits_for_a_person() -> None:
    (alarm,) = seen("x...x..", latched=True)
    assert (alarm.state, alarm.n_raised) == (LATCHED, 2)
    assert answered(alarm).state == ENDED
    progress = Progress((), 0, answered(Episode(0, 0, 0, 1)))
    rows = Evidence(np.array([SECOND]), *(np.array([flag]) for flag in (False, True, False)))
    (after,) = advance(rows, AlarmRule(latched=True), progress).alarms
    assert after.state == ENDED


def test_a_stop_cuts_an_alarm_off_and_the_count_begins_anew() -> None:
    first, second = seen("xxoxx", raise_after=2, min_gap_s=100)
    assert (first.state, first.closed) == (SUPPRESSED, 2 * SECOND)
    assert (second.start, second.state) == (3 * SECOND, ACTIVE)
    assert not seen("xoxox", raise_after=2, out_of=5)


def test_an_alarm_that_lasts_is_announced_again() -> None:
    (alarm,) = seen("xxxxxxx", re_alarm_s=3)
    assert alarm.n_announced == 3


def test_a_machine_that_is_well_leaves_nothing_to_know() -> None:
    exceeds = np.array([True, False, False, False])
    rows = Evidence(np.arange(4) * SECOND, exceeds, ~exceeds, np.zeros(4, bool))
    assert advance(rows, AlarmRule(), Progress()).progress.is_idle
    assert not advance(rows, AlarmRule(raise_after=2, out_of=5), Progress()).progress.is_idle


def test_no_rows_change_nothing() -> None:
    empty = np.zeros(0, np.int64)
    rows = Evidence(empty, *(np.zeros(0, bool) for _ in range(3)))
    progress = Progress((), 1, Episode(0, 0, 0, 1))
    assert advance(rows, AlarmRule(), progress).progress == progress


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"raise_after": 3, "out_of": 2}, "raise_after=3 rows among out_of=2"),
        ({"clear_after": 0}, "greater than or equal to 1"),
        ({"clear_p_value": 1.0}, "less than 1"),
        ({"min_gap_s": -1}, "greater than or equal to 0"),
        ({"hysteresis": 1}, "Extra inputs"),
    ],
)
def test_impossible_rules_are_refused(given_: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AlarmRule.model_validate(given_)


def test_raise_after_alone_means_one_after_another() -> None:
    assert AlarmRule.model_validate({"raise_after": 4}).out_of == 4


def test_rule_reads_as_a_sentence() -> None:
    rule = AlarmRule(
        raise_after=2, out_of=3, clear_after=3, clear_p_value=0.05, min_gap_s=60, latched=True
    )
    assert rule.in_words() == (
        "2 of 3 rows over the threshold raise an alarm, 3 clear rows one after another end it; "
        "clear is a score that 5.00% of normal rows reach; what is raised again within 60 s is the "
        "same alarm; it stays until a person has answered it"
    )
