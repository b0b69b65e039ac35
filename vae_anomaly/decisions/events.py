"""How well alarms do, fault by fault: what is found, how late, and how often for nothing.

An alarm is judged by the moment at which it is raised, since that is when somebody is called.
Raised on a normal row it is false, even where it still stands when a fault begins: nothing was
wrong when it called, and an alarm that always stands would otherwise find everything at once. Such
a fault is found only by an alarm raised within it; that it began under one is counted apart. Of the
alarms raised within one fault the first is right and the others are repeats, which are neither
right nor false. Nothing is point-adjusted: no row counts as detected because another one is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import quantile_test

from vae_anomaly.decisions.episodes import BoolArray, Episodes, Placed, Timeline, placed, runs
from vae_anomaly.decisions.occurrences import DAY_S, Occurrences, by_asset_day
from vae_anomaly.decisions.rates import (
    UNKNOWN,
    IntArray,
    Interval,
    Share,
    check_share,
    interval_ends,
)
from vae_anomaly.errors import InputError

__all__ = [
    "EventFigures",
    "duration_text",
    "event_figures",
    "rate_text",
    "time_quantile",
]

#: Pairs of counts behind the interval of precision, as for rows.
N_DRAWS = 2000


@dataclass(frozen=True)
class EventFigures:
    """What alarms find and cost; a figure that the rows cannot tell is `UNKNOWN`.

    Attributes
    ----------
    n_events, n_found : int
        Faults, and those in which an alarm was raised.
    n_standing : int
        Faults that are not found, and began while an alarm stood that was raised before.
    n_false, n_repeats, n_unjudged : int
        Alarms raised on normal rows, in a fault that had one, and on rows of unknown label.
    normal_days, days : float
        Days of all assets together that were scored and normal, or scored at all.
    detection_rate : Interval
        Share of the faults that are found.
    delay_s : Interval
        Median over all faults of the time from the first row to the alarm. A fault that is not
        found is infinitely late, so that no method is the faster for missing the hard ones.
    slow_delay_s : Interval
        The same that nine of ten faults do not exceed.
    false_alarms_per_day : Interval
        Per asset, in normal time.
    alarms_per_day : Interval
        All of them, per asset, whatever the labels.
    precision : Interval
        Share of right alarms among the right and the false ones, for as many faults as here.
    delays_s : tuple of float
        Of each fault, by asset and time; infinite where it is not found.
    """

    n_events: int
    n_found: int
    n_standing: int
    n_false: int
    n_repeats: int
    n_unjudged: int
    normal_days: float
    days: float
    detection_rate: Interval
    delay_s: Interval
    slow_delay_s: Interval
    false_alarms_per_day: Interval
    alarms_per_day: Interval
    precision: Interval
    delays_s: tuple[float, ...]

    def in_words(self) -> str:
        """What was found, how fast and at what cost, in a line for who runs the plant."""
        if not (self.n_events or self.normal_days):
            return f"{rate_text(self.alarms_per_day)} alarms per asset and day"
        said = [f"{self.n_found} of {self.n_events} faults found"]
        if not self.n_events:
            said = ["no fault in these rows"]
        elif np.isfinite(self.delay_s.value):
            said.append(f"in {duration_text(self.delay_s.value)} (median)")
        if self.n_standing:
            said.append(f"{self.n_standing} begun under an alarm that stood already")
        if self.normal_days:
            said.append(f"{rate_text(self.false_alarms_per_day)} false alarms per asset and day")
        return ", ".join(said)


def event_figures(
    alarms: Episodes,
    rows: Timeline,
    *,
    label: ArrayLike,
    reach: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> EventFigures:
    """Judge alarms by the faults in the labels.

    Parameters
    ----------
    alarms : Episodes
        Those of one asset do not overlap.
    rows : Timeline
        When the n rows were that could have raised an alarm.
    label : array-like of shape (n,), integers
        0 normal, positive anomalous, negative unknown. A fault is a run of positive rows, whatever
        their classes; a gap between rows ends it.
    reach : int
        How many rows a score looks back on. So many rows behind a fault still belong to it, unless
        they are of the next: an alarm there is of the fault, and the time is not normal.
    confidence : float
        Of the intervals.
    seed : int
        Of the draws behind the interval of precision.

    Returns
    -------
    EventFigures

    Raises
    ------
    InputError
        An alarm is raised where there is no row, alarms overlap, or labels do not fit the rows.

    Examples
    --------
    >>> from vae_anomaly.decisions.episodes import timeline
    >>> rows = timeline(["pump"] * 8, 600 * np.arange(8))
    >>> over = np.array([True, False, False, True, True, False, True, False])
    >>> found = event_figures(runs(over, rows), rows, label=[0, 0, 1, 1, 1, 1, 1, 0])
    >>> found.n_events, found.n_found, found.delay_s.value, found.n_repeats, found.n_false
    (1, 1, 600.0, 1, 1)
    """
    check_share("confidence", confidence)
    row_label = _checked_label(label, rows)
    alarm = placed(alarms, rows)
    faults = runs(row_label > 0, rows)
    first = rows.rows_at(faults.asset, faults.start_s)
    fault_of = _fault_of(row_label, rows, first, reach)
    is_normal = (row_label == 0) & (fault_of < 0)

    own, is_false = fault_of[alarm.row], is_normal[alarm.row]
    inside = own >= 0
    delays = np.full(len(faults), np.inf)
    np.minimum.at(delays, own[inside], alarm.start_s[inside] - faults.start_s[own[inside]])
    found = Share(int(np.isfinite(delays).sum()), len(faults))
    missed_under_one = _under_alarm(first, rows, alarm) & np.isinf(delays)
    false_alarms = by_asset_day(rows, alarm.row[is_false], is_normal)
    every_alarm = by_asset_day(rows, alarm.row, np.ones_like(is_normal))
    return EventFigures(
        n_events=len(faults),
        n_found=found.count,
        n_standing=int(missed_under_one.sum()),
        n_false=false_alarms.count,
        n_repeats=int(inside.sum()) - found.count,
        n_unjudged=int((~is_false & ~inside).sum()),
        normal_days=false_alarms.total_days,
        days=every_alarm.total_days,
        detection_rate=found.interval(confidence),
        delay_s=time_quantile(delays, 0.5, confidence=confidence),
        slow_delay_s=time_quantile(delays, 0.9, confidence=confidence),
        false_alarms_per_day=false_alarms.interval(confidence),
        alarms_per_day=every_alarm.interval(confidence),
        precision=_precision(found, false_alarms, confidence, seed),
        delays_s=tuple(delays.tolist()),
    )


def time_quantile(
    times_s: ArrayLike, share: float, *, longest_s: float = np.inf, confidence: float = 0.95
) -> Interval:
    """Time that a share of them does not exceed, such as the median delay of an alarm.

    The interval is that of order statistics, which holds for any law; an end that these are too
    few for is 0 or the longest time there is. It takes 6 times for both ends of a 95 % interval of
    the median.

    Parameters
    ----------
    times_s : array-like of shape (k,)
        Seconds; infinite where what was waited for did not come.
    share : float
        0.5 is the median.
    longest_s : float
        No time is longer.
    confidence : float
        Of the interval.

    Returns
    -------
    Interval
        `UNKNOWN` without times.

    Raises
    ------
    InputError
        `share` or `confidence` is no share, or a time is NaN.

    References
    ----------
    Conover (1999), Practical Nonparametric Statistics, section 3.2.

    Examples
    --------
    >>> time_quantile([60.0, 120.0, 300.0, 30.0, np.inf, 90.0, 60.0], 0.5)
    Interval(value=90.0, low=30.0, high=inf)
    """
    check_share("share", share)
    check_share("confidence", confidence)
    times = np.asarray(times_s, np.float64)
    if times.ndim != 1 or np.isnan(times).any():
        raise InputError(
            f"times have shape {times.shape}, {int(np.isnan(times).sum())} of them NaN; give (k,) "
            "seconds, infinite where what was waited for did not come"
        )
    if not len(times):
        return UNKNOWN
    value = float(np.quantile(times, share, method="inverted_cdf"))
    found = np.asarray(quantile_test(times, p=share).confidence_interval(confidence), np.float64)
    low, high = np.where(np.isnan(found), [0.0, longest_s], found).tolist()
    return Interval(value, low, high)


def rate_text(rate: Interval) -> str:
    """A rate with its interval, to two digits.

    Examples
    --------
    >>> rate_text(Interval(0.412, 0.0, 23.7))
    '0.41 (0–24)'
    """
    return f"{_short(rate.value)} ({_short(rate.low)}–{_short(rate.high)})"


def duration_text(seconds: float) -> str:
    """A duration in the largest unit of which it is two or more.

    Examples
    --------
    >>> duration_text(90), duration_text(720), duration_text(1e4), duration_text(4e5)
    ('90 s', '12 min', '2.8 h', '4.6 days')
    """
    for size, unit in ((DAY_S, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s"


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 10 else f"{figure:.2g}"


# ------------------------------------------------------------------------------------ where is what


def _fault_of(label: IntArray, rows: Timeline, first: IntArray, reach: int) -> IntArray:
    """(n,) the fault that each row is in, or at most `reach` rows behind; -1 for none."""
    here = np.arange(len(label))
    latest = np.searchsorted(first, here, side="right") - 1
    last = np.maximum.accumulate(np.where(label > 0, here, -1))
    near = (last >= 0) & (here - last <= reach) & (rows.stretch[last] == rows.stretch)
    return np.where(near, latest, -1)


def _under_alarm(first: IntArray, rows: Timeline, alarm: Placed) -> BoolArray:
    """(k,) whether an alarm stands at each first row that was raised before it."""
    before = np.searchsorted(alarm.row, first) - 1
    first, before, known = first[before >= 0], before[before >= 0], before >= 0
    same = rows.code[alarm.row[before]] == rows.code[first]
    known[known] = same & (alarm.end_s[before] > rows.time_s[first])
    return known


def _precision(found: Share, false_alarms: Occurrences, confidence: float, seed: int) -> Interval:
    n_alarms = found.count + false_alarms.count
    if not (found.total and false_alarms.total_days and n_alarms):
        return UNKNOWN
    generator = np.random.default_rng(seed)
    right = found.total * generator.beta(*found.posterior, N_DRAWS)
    wrong = false_alarms.draws(N_DRAWS, generator)
    low, high = np.quantile(right / (right + wrong), interval_ends(confidence))
    value = found.count / n_alarms
    return Interval(value, min(float(low), value), max(float(high), value))


def _checked_label(label: ArrayLike, rows: Timeline) -> IntArray:
    found = np.asarray(label)
    if found.shape != rows.time_s.shape or not np.issubdtype(found.dtype, np.integer):
        raise InputError(
            f"labels have shape {found.shape} and type {found.dtype}; give a whole number for each "
            f"of the {len(rows)} rows: 0 normal, positive an anomaly, negative unknown"
        )
    return found.astype(np.int64)
