"""A threshold raised over false alarms that people marked, as far as that costs little.

Marked alarms are replayed through the real alarm logic. An alarm is silenced by the threshold at
its level: the highest score that as many rows reach as its on-delay asks for, among as many as it
looks at. From the lowest on, the threshold rises from level to level until a confirmed event would
be lost, or the smallest lasting shift that is found soon would grow by too much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vae_anomaly.config import AlarmRule
from vae_anomaly.decisions.alarms import Evidence, episodes
from vae_anomaly.decisions.budget import History, smallest_shift
from vae_anomaly.decisions.episodes import BoolArray
from vae_anomaly.decisions.rates import FloatArray
from vae_anomaly.decisions.thresholds import conformal_p_values
from vae_anomaly.errors import InputError

__all__ = ["MOST_GROWTH", "Marked", "Recalibration", "Span", "recalibrated"]

#: By how much the smallest lasting shift may grow that is found soon, as a share of it: what a
#: threshold gains in quiet it loses in sight. In twelve simulated plants 15 % cost no event of the
#: next week, and 25 % one of 64 (benchmarks/results/feedback.md).
MOST_GROWTH = 0.15


class Span(NamedTuple):
    """From `start` to before `end`, in microseconds since 1970."""

    start: int
    end: int


@dataclass(frozen=True)
class Marked:
    """Rows of one asset that a model has judged, in the order of time, and what people said.

    Attributes
    ----------
    history : History
        Time and score (n,), and which rows are normal and had no part in training or test.
    judged : ndarray of shape (n,)
        Rows that raise alarms when they are over the threshold; at the others the machine is off,
        or under maintenance.
    false_alarms, events : tuple of Span
        What people marked as false alarms, and what they confirmed as faults.
    """

    history: History
    judged: BoolArray
    false_alarms: tuple[Span, ...] = ()
    events: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Recalibration:
    """A threshold, and what replay says of it beside the one that is in use.

    Attributes
    ----------
    threshold : float
    n_false, n_removed : int
        Marked false alarms that the present threshold raises, and those that the new one does not.
    n_events, n_lost : int
        Confirmed events in which the present threshold raises an alarm, and those in which the new
        one does not.
    growth : float
        How much larger the smallest lasting shift is that is found soon, as a factor; NaN where it
        is not known.
    """

    threshold: float
    n_false: int
    n_removed: int
    n_events: int
    n_lost: int
    growth: float


def recalibrated(
    rows: Sequence[Marked],
    rule: AlarmRule,
    *,
    floor: float,
    present: float,
    most_growth: float = MOST_GROWTH,
) -> Recalibration:
    """The threshold of one scorer by what people said of its alarms.

    Parameters
    ----------
    rows : sequence of Marked
        Of each asset that the scorer judges.
    rule : AlarmRule
        What makes an alarm of rows over the threshold.
    floor : float
        Threshold to begin with, which is not gone below.
    present : float
        The one that is in use, which the counts are held against.
    most_growth : float
        By how much the smallest lasting shift may grow that is found soon, as a share of it.

    Returns
    -------
    Recalibration

    Raises
    ------
    InputError
        The growth is below 0 or no number.

    Examples
    --------
    The false alarm in row 50 is silenced; the fault in row 150 stays found.

    >>> time, score, is_normal = np.arange(200), np.sin(np.arange(200)), np.ones(200, bool)
    >>> score[50], score[150], is_normal[150] = 3.2, 9.0, False
    >>> history = History(time, score, is_normal)
    >>> marked = Marked(history, np.ones(200, bool), (Span(50, 51),), (Span(150, 151),))
    >>> found = recalibrated([marked], AlarmRule(), floor=3.0, present=3.0)
    >>> found.threshold, found.n_removed, found.n_lost, round(found.growth, 2)
    (3.2, 1, 0, 1.1)
    """
    if not 0 <= most_growth < math.inf:
        raise InputError(
            f"most_growth={most_growth:g} is no share; 0.15 lets the smallest shift grow by 15 %"
        )
    replay = _Replay(rows, rule)
    before, at_floor = replay.raised(present), replay.raised(floor)
    chosen, found = floor, at_floor
    allowed = replay.shift(floor) * (1 + most_growth)
    for level in replay.levels(floor):
        if not replay.shift(level) <= allowed:  # neither where one of them is not known
            break
        raised = replay.raised(level)
        if at_floor.events - raised.events:
            break
        chosen, found = level, raised
    return Recalibration(
        chosen,
        len(before.false_alarms),
        len(before.false_alarms - found.false_alarms),
        len(before.events),
        len(before.events - found.events),
        replay.shift(chosen) / replay.shift(present),
    )


class _Raised(NamedTuple):
    """False alarms and events in which an alarm is raised: asset and place of each."""

    false_alarms: set[tuple[int, int]]
    events: set[tuple[int, int]]


@dataclass(frozen=True)
class _Replay:
    """The rows of a scorer under an alarm rule, at any threshold."""

    rows: Sequence[Marked]
    rule: AlarmRule

    def raised(self, threshold: float) -> _Raised:
        """What alarms lie in at a threshold."""
        found = _Raised(set(), set())
        for number, asset in enumerate(self.rows):
            alarms = np.array(list(self._alarms(asset, threshold)), np.int64).reshape(-1, 2)
            for spans, into in zip((asset.false_alarms, asset.events), found, strict=True):
                into.update(
                    (number, place)
                    for place, span in enumerate(spans)
                    if ((alarms[:, 0] < span.end) & (alarms[:, 1] >= span.start)).any()
                )
        return found

    def _alarms(self, asset: Marked, threshold: float) -> Iterator[tuple[int, int]]:
        history = asset.history
        over = asset.judged & (history.score > threshold)
        rows = Evidence.of(history.time, over, ~asset.judged, self._p_value(asset), self.rule)
        return ((alarm.start, alarm.end) for alarm in episodes(rows, self.rule.replayed))

    def _p_value(self, asset: Marked) -> FloatArray:
        """(n,) what the off-delay asks for, held against the normal rows of all assets."""
        if not self.rule.clear_p_value:
            return np.ones(len(asset.judged))
        normal = np.concatenate([a.history.score[a.history.is_normal] for a in self.rows])
        return conformal_p_values(np.nan_to_num(asset.history.score), normal)

    def shift(self, threshold: float) -> float:
        """The smallest lasting shift that is found soon; NaN where none is needed, or known."""
        found = smallest_shift([a.history for a in self.rows], threshold, self.rule)
        return found if found is not None and found > 0 else np.nan

    def levels(self, floor: float) -> list[float]:
        """Levels of the marked false alarms above a threshold, rising."""
        found = {_level(a, span, self.rule) for a in self.rows for span in a.false_alarms}
        return sorted(level for level in found if level > floor)


def _level(asset: Marked, alarm: Span, rule: AlarmRule) -> float:
    """The lowest threshold at which the rows of an alarm raise none."""
    time = asset.history.time
    own = slice(*np.searchsorted(time, [alarm.start, alarm.end]))
    score = np.where(asset.judged[own], asset.history.score[own], -np.inf)
    padded = np.pad(score, rule.out_of - 1, constant_values=-np.inf)
    if len(padded) < rule.out_of:
        return -np.inf
    windows = np.lib.stride_tricks.sliding_window_view(padded, rule.out_of)
    place = rule.out_of - rule.raise_after
    return float(np.partition(windows, place, axis=1)[:, place].max())
