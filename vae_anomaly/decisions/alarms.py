"""From verdicts to alarms: few episodes in place of many rows, whatever the cut of the stream.

The words are those of ISA-18.2 and IEC 62682: on-delay, off-delay, deadband, latching, suppression,
re-alarm. An asset's rows go through `advance` in the order of time, as many at once as there are;
what the rest of the stream has to know is its `Progress`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from vae_anomaly.config import AlarmRule
from vae_anomaly.decisions.episodes import BoolArray, Episodes, Timeline
from vae_anomaly.decisions.rates import FloatArray, IntArray

__all__ = [
    "ACTIVE",
    "ENDED",
    "LATCHED",
    "SUPPRESSED",
    "Advanced",
    "Episode",
    "Evidence",
    "Progress",
    "advance",
    "alarms_by",
    "answered",
    "episodes",
]


#: States of an alarm: rows are over the threshold; it is over; it is over, and waits for a person;
#: it was cut off by a stop or by maintenance.
ACTIVE, ENDED, LATCHED, SUPPRESSED = "active", "ended", "latched", "suppressed"

SECOND = 1_000_000  # microseconds


@dataclass(frozen=True)
class Evidence:
    """What rows of one asset say, in the order of time; all of shape (n,).

    Attributes
    ----------
    time : ndarray of int
        Microseconds since 1970.
    exceeds : ndarray of bool
        The score is over the threshold.
    clear : ndarray of bool
        The score lets an alarm end; never together with `exceeds`.
    suppressed : ndarray of bool
        The machine is off, or under maintenance: nothing is raised, and what is active ends.
    """

    time: IntArray
    exceeds: BoolArray
    clear: BoolArray
    suppressed: BoolArray

    @classmethod
    def of(
        cls,
        time: IntArray,
        exceeds: BoolArray,
        suppressed: BoolArray,
        p_value: FloatArray,
        rule: AlarmRule,
    ) -> Evidence:
        """Evidence of rows that have a score, or are suppressed; `p_value` (n,) of the scores."""
        clear = ~exceeds & ~suppressed & (p_value >= rule.clear_p_value)
        return cls(time, exceeds & ~suppressed, clear, suppressed)

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class Episode:
    """An alarm: from its first row over the threshold to its last.

    Attributes
    ----------
    start, raised, end : int
        Microseconds since 1970: the first of the rows that raised it, the row that did, and the
        last row over the threshold so far.
    closed : int or None
        The row by which it was over; None while it is not.
    state : str
    n_over : int
        Rows over the threshold.
    n_raised : int
        How often it was raised, within the minimum gap: what chatters is above 1.
    n_announced : int
        1, and one more for each re-alarm.
    answered : bool
        A person has said something of it, so that it need not wait for one.
    """

    start: int
    raised: int
    end: int
    n_over: int
    closed: int | None = None
    state: str = ACTIVE
    n_raised: int = 1
    n_announced: int = 1
    answered: bool = False


@dataclass(frozen=True)
class Progress:
    """Where an asset's stream stands: all that its next rows have to know.

    Attributes
    ----------
    recent : tuple of (int, int)
        Rows over the threshold that may still count towards an on-delay: how many rows ago, 0 for
        the last one, and their times.
    n_clear : int
        Clear rows one after another up to the last, while an alarm is active.
    last : Episode or None
        The alarm that is active, or that may still go on.
    """

    recent: tuple[tuple[int, int], ...] = ()
    n_clear: int = 0
    last: Episode | None = None

    @property
    def is_idle(self) -> bool:
        """Whether a stream without a past would go on in the same way."""
        return not self.recent and self.last is None


class Advanced(NamedTuple):
    """What rows did to the alarms of an asset.

    Attributes
    ----------
    alarms : list of Episode
        Those that began, went on or ended, as they stand now; the last may be active.
    progress : Progress
    owner : ndarray of shape (m,)
        `start` of the alarm that each row over the threshold belongs to, or -1: those of
        ``Progress.recent`` first, then those among the rows.
    """

    alarms: list[Episode]
    progress: Progress
    owner: IntArray


def episodes(rows: Evidence, rule: AlarmRule) -> list[Episode]:
    """All alarms of one asset's rows, in the order of time.

    Examples
    --------
    >>> exceeds = np.array([False, True, True, False, False, True])
    >>> rows = Evidence(np.arange(6), exceeds, ~exceeds, np.zeros(6, bool))
    >>> [(a.start, a.end, a.state) for a in episodes(rows, AlarmRule())]
    [(1, 2, 'ended'), (5, 5, 'active')]
    """
    return advance(rows, rule, Progress()).alarms


def alarms_by(rule: AlarmRule, exceeds: BoolArray, rows: Timeline) -> Episodes:
    """Alarms of rows over their thresholds (n,); each is over with the row that clears it.

    Without a deadband: every row that is not over the threshold is clear.

    Examples
    --------
    >>> from vae_anomaly.decisions.episodes import timeline
    >>> rows = timeline(["p1"] * 5, [0, 60, 120, 180, 240])
    >>> exceeds = np.array([False, True, True, False, False])
    >>> alarms_by(AlarmRule(raise_after=2, clear_after=2), exceeds, rows)
    Episodes(asset=array(['p1'], dtype='<U2'), start_s=array([120.]), end_s=array([240.]))
    """
    micros = np.round(rows.time_s * SECOND).astype(np.int64)
    asset, start, end = [], [], []
    for code, name in enumerate(rows.assets.tolist()):
        own = slice(*np.searchsorted(rows.code, [code, code + 1]))
        time, over = micros[own], exceeds[own]
        for alarm in episodes(Evidence(time, over, ~over, np.zeros_like(over)), rule.replayed):
            last = rows.time_s[own][-1] + rows.lasts_s[own][-1]
            asset.append(name)
            start.append(rows.time_s[own][np.searchsorted(time, alarm.raised)])
            end.append(last if alarm.closed is None else alarm.closed / SECOND)
    return Episodes(np.array(asset, dtype=np.str_), np.array(start, float), np.array(end, float))


def advance(rows: Evidence, rule: AlarmRule, progress: Progress) -> Advanced:
    """Take the next rows of one asset in.

    The alarms of a stream are the same however it is cut: one that was told before comes again,
    with the same start, when something of it changes.

    Parameters
    ----------
    rows : Evidence
        In the order of time, and later than those before.
    rule : AlarmRule
    progress : Progress
        Where the stream stood.

    Returns
    -------
    Advanced
    """
    marks = _Marks.of(rows, rule, progress)
    owner = np.full(len(marks.over), -1, np.int64)
    found: dict[int, Episode] = {}
    last, at, reset = progress.last, -1, marks.over[0] - 1 if len(marks.over) else -1
    while True:
        if last is not None and last.state == ACTIVE:
            closed = marks.closing(at)
            last = _followed(last, marks, rule, at, closed, owner)
            found[last.start] = last
            if closed is None:
                break
            reset = closed
        first = marks.raising(reset)
        if first is None:
            break
        at = int(marks.over[first + rule.raise_after - 1])
        owned = slice(first, first + rule.raise_after)
        last = _raised(last, rule, marks.over_time[owned])
        owner[owned] = last.start
    alarms = [alarm for alarm in found.values() if alarm != progress.last]
    return Advanced(alarms, _progress(marks, rule, last, reset, progress), owner)


def answered(alarm: Episode) -> Episode:
    """The alarm once a person has said something of it: if it waited for that, it is over.

    Examples
    --------
    >>> answered(Episode(0, 0, 5, 3, closed=9, state=LATCHED)).state
    'ended'
    """
    state = ENDED if alarm.state == LATCHED else alarm.state
    return replace(alarm, answered=True, state=state)


@dataclass(frozen=True)
class _Marks:
    """Places in the rows at which something may happen; rows of before have negative ones.

    Attributes
    ----------
    time : ndarray of shape (n,)
    over, over_time : ndarray of shape (m,)
        Rows over the threshold, those of before that still count included.
    begins : ndarray
        Those of `over`, by their number, that begin a complete on-delay.
    clears, stops : ndarray
        Rows that end an alarm, and rows that cut it off.
    clear_run : ndarray of shape (n,)
        Clear rows one after another, up to each.
    """

    time: IntArray
    over: IntArray
    over_time: IntArray
    begins: IntArray
    clears: IntArray
    stops: IntArray
    clear_run: IntArray

    @classmethod
    def of(cls, rows: Evidence, rule: AlarmRule, progress: Progress) -> _Marks:
        ago, then = np.array(progress.recent, np.int64).reshape(-1, 2).T
        own = np.flatnonzero(rows.exceeds & ~rows.suppressed)
        over = np.concatenate([-1 - ago, own])
        stops = np.flatnonzero(rows.suppressed)
        complete = over[rule.raise_after - 1 :]
        begin = over[: len(complete)]
        unbroken = np.searchsorted(stops, begin) == np.searchsorted(stops, complete)
        begins = (complete - begin < rule.out_of) & unbroken & (complete >= 0)
        run = _run_lengths(rows.clear & ~rows.suppressed, progress.n_clear)
        return cls(
            rows.time, over, np.concatenate([then, rows.time[own]]), np.flatnonzero(begins),
            np.flatnonzero(run >= rule.clear_after), stops, run,
        )  # fmt: skip

    def closing(self, after: int) -> int | None:
        """The first row after one by which an active alarm is over."""
        ends = (_next(self.clears, after), _next(self.stops, after))
        return min((row for row in ends if row is not None), default=None)

    def raising(self, reset: int) -> int | None:
        """Number in `over` of the row that begins the first on-delay after a row."""
        number = _next(self.over[self.begins], reset)
        return None if number is None else int(np.searchsorted(self.over, number))


def _next(places: IntArray, after: int) -> int | None:
    """The first of rising places after one."""
    at = int(np.searchsorted(places, after, side="right"))
    return int(places[at]) if at < len(places) else None


def _run_lengths(holds: BoolArray, before: int) -> IntArray:
    """(n,) how many rows one after another hold, up to each; `before` such rows stand before."""
    at = np.arange(len(holds))
    broken = np.maximum.accumulate(np.where(holds, -1, at)) if len(holds) else at
    return at - broken + np.where(broken < 0, before, 0)


def _raised(last: Episode | None, rule: AlarmRule, times: IntArray) -> Episode:
    """A new alarm, or the last one again, from the rows over the threshold that raised it."""
    start, raised, n_over = int(times[0]), int(times[-1]), len(times)
    if last is not None and (
        last.state == LATCHED
        or (last.state == ENDED and raised - last.end <= rule.min_gap_s * SECOND)
    ):
        return replace(
            last, end=raised, n_over=last.n_over + n_over, closed=None, state=ACTIVE,
            n_raised=last.n_raised + 1,
        )  # fmt: skip
    return Episode(start, raised, raised, n_over)


def _followed(
    alarm: Episode, marks: _Marks, rule: AlarmRule, at: int, closed: int | None, owner: IntArray
) -> Episode:
    """An active alarm after the rows behind `at`, up to the one that closes it, or all."""
    until = len(marks.time) - 1 if closed is None else closed
    own = slice(*np.searchsorted(marks.over, [at, until], side="right"))
    owner[own] = alarm.start
    times = marks.over_time[own]
    if len(times):
        alarm = replace(alarm, end=int(times[-1]), n_over=alarm.n_over + len(times))
    is_cut_off = closed is not None and _next(marks.stops, closed - 1) == closed
    alarm = _announced(alarm, marks, rule, until - is_cut_off)
    if closed is None:
        return alarm
    over = LATCHED if rule.latched and not alarm.answered else ENDED
    state = SUPPRESSED if is_cut_off else over
    return replace(alarm, closed=int(marks.time[closed]), state=state)


def _announced(alarm: Episode, marks: _Marks, rule: AlarmRule, last: int) -> Episode:
    """An alarm with the re-alarms up to the last row in which it was active."""
    if not rule.re_alarm_s or last < 0:
        return alarm
    lasting = int(marks.time[last]) - alarm.raised
    n_announced = 1 + int(lasting // (rule.re_alarm_s * SECOND))
    return replace(alarm, n_announced=max(alarm.n_announced, n_announced))


def _progress(
    marks: _Marks, rule: AlarmRule, last: Episode | None, reset: int, before: Progress
) -> Progress:
    """Where the stream stands after the rows; what cannot matter any more is left out."""
    n = len(marks.time)
    if not n:
        return replace(before, last=last)
    if last is not None and last.state == ACTIVE:
        return Progress((), int(marks.clear_run[-1]), last)
    first = max(reset, int(marks.stops[-1]) if len(marks.stops) else reset, n - rule.out_of)
    counting = slice(int(np.searchsorted(marks.over, first, side="right")), None)
    ago = n - 1 - marks.over[counting]
    recent = tuple(zip(ago.tolist(), marks.over_time[counting].tolist(), strict=True))
    if last is not None and last.state != LATCHED:
        over_since = int(marks.time[-1]) - last.end
        may_go_on = last.state == ENDED and over_since <= rule.min_gap_s * SECOND
        last = last if may_go_on and rule.min_gap_s else None
    return Progress(recent, 0, last)
