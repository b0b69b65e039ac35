"""Marked false alarms raise a threshold, as far as no confirmed event is lost and sight is kept."""

from __future__ import annotations

import numpy as np
import pytest

from vae_anomaly.config import AlarmRule
from vae_anomaly.decisions.alarms import Evidence, episodes
from vae_anomaly.decisions.budget import History, smallest_shift
from vae_anomaly.decisions.recalibration import (
    MOST_GROWTH,
    Marked,
    Recalibration,
    Span,
    recalibrated,
)

RULE = AlarmRule(raise_after=2, out_of=3, clear_after=3)


def alarms(score: np.ndarray, threshold: float, rule: AlarmRule) -> list[Span]:
    over = score > threshold
    rows = Evidence(np.arange(len(score)), over, ~over, np.zeros(len(score), bool))
    return [Span(alarm.start, alarm.end + 1) for alarm in episodes(rows, rule)]


def normal_scores(seed: int, n: int = 1500) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=n + 2)
    return (noise[2:] + noise[1:-1] + noise[:-2]) / np.sqrt(3)


def marked(score: np.ndarray, false_alarms: list[Span], events: list[Span]) -> Marked:
    time = np.arange(len(score))
    is_normal = np.ones(len(score), bool)
    for span in events:
        is_normal[span.start : span.end] = False
    history = History(time, score, is_normal)
    return Marked(history, np.ones(len(score), bool), tuple(false_alarms), tuple(events))


@pytest.mark.parametrize("rule", [AlarmRule(), RULE, AlarmRule(raise_after=3, out_of=5)])
@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_brute_force_at_every_threshold(seed: int, rule: AlarmRule) -> None:
    """And the threshold is the highest level before the first that costs too much."""
    score, floor = normal_scores(seed), 1.5
    events = [Span(at, at + 8) for at in (300, 700, 1100)]
    for number, span in enumerate(events):
        score[span.start : span.end] += 4 - number
    at_floor = alarms(score, floor, rule)
    false = [a for a in at_floor if not any(a.start < e.end and a.end > e.start for e in events)]
    rows = marked(score, false, events)
    found = recalibrated([rows], rule, floor=floor, present=floor)

    def met(spans: list[Span], threshold: float) -> int:
        now = alarms(score, threshold, rule)
        return sum(any(a.start < s.end and a.end > s.start for a in now) for s in spans)

    best = floor
    for level in np.unique(score[score > floor]):
        grown = smallest_shift([rows.history], level, rule) / smallest_shift(  # type: ignore[operator]
            [rows.history], floor, rule
        )
        if met(events, level) < met(events, floor) or grown > 1 + MOST_GROWTH:
            break
        best = level if met(false, level) < met(false, best) else best
    assert found.threshold == best > floor
    assert found.n_false == len(false)
    assert found.n_removed == len(false) - met(false, best) > 0
    assert (found.n_events, found.n_lost) == (3, 0)
    assert 1 < found.growth <= 1 + MOST_GROWTH


def test_the_threshold_stops_below_a_confirmed_event() -> None:
    score = normal_scores(5)
    score[[100, 200, 300]] = 5.0, 5.2, 5.4
    rows = marked(score, [Span(100, 101), Span(300, 301)], [Span(200, 201)])
    found = recalibrated([rows], AlarmRule(), floor=4.8, present=4.8)
    assert found == Recalibration(5.0, 2, 1, 1, 0, pytest.approx(found.growth))


def test_one_wild_false_alarm_does_not_take_the_sight() -> None:
    score = normal_scores(6)
    score[[100, 200]] = 4.2, 40.0
    rows = marked(score, [Span(100, 101), Span(200, 201)], [])
    found = recalibrated([rows], AlarmRule(), floor=4.0, present=4.0)
    assert (found.threshold, found.n_removed) == (4.2, 1)


def test_without_marks_nothing_changes_and_a_higher_floor_is_kept() -> None:
    rows = marked(normal_scores(7), [], [])
    assert recalibrated([rows], RULE, floor=2.0, present=2.0) == Recalibration(2, 0, 0, 0, 0, 1)
    assert recalibrated([rows], RULE, floor=2.5, present=2.0).threshold == 2.5


def test_a_word_taken_back_lowers_the_threshold_to_its_floor() -> None:
    score = normal_scores(8)
    score[100] = 4.4
    rows = marked(score, [], [Span(100, 101)])
    found = recalibrated([rows], AlarmRule(), floor=4.1, present=4.4)
    assert (found.threshold, found.n_events, found.n_lost) == (4.1, 0, 0)
    assert found.growth < 1


def test_increasing_maps_of_the_score_choose_the_same_alarms() -> None:
    score = normal_scores(9)
    score[[100, 200, 300]] = 3.6, 3.8, 5.0
    false, events = [Span(100, 101), Span(200, 201)], [Span(300, 301)]
    plain, scaled = (
        recalibrated([marked(f * score + b, false, events)], AlarmRule(), floor=f * 3.5 + b,
                     present=f * 3.5 + b)
        for f, b in ((1, 0), (8, 16))
    )  # fmt: skip
    assert scaled.threshold == 8 * plain.threshold + 16
    assert scaled.n_removed == plain.n_removed == 2


def test_no_known_shift_raises_nothing() -> None:
    score = np.full(5, 1.0)
    score[2] = 4.0
    rows = marked(score, [Span(2, 3)], [])
    found = recalibrated([rows], AlarmRule(), floor=3.0, present=3.0)
    assert (found.threshold, found.n_false, found.n_removed) == (3.0, 1, 0)
    assert np.isnan(found.growth)
