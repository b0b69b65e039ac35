"""How long before a failure the alarm was raised that lasted until it: machines run to failure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.decisions.episodes import (
    BoolArray,
    Episodes,
    NameArray,
    Placed,
    Timeline,
    placed,
)
from vae_anomaly.decisions.events import duration_text, rate_text, time_quantile
from vae_anomaly.decisions.occurrences import by_asset_day
from vae_anomaly.decisions.rates import FloatArray, Interval, Share, check_share
from vae_anomaly.errors import InputError

__all__ = ["LeadTimes", "lead_times"]


@dataclass(frozen=True)
class LeadTimes:
    """What alarms tell of failures to come; a figure that the rows cannot tell is `UNKNOWN`.

    Attributes
    ----------
    n_failures, n_warned, n_false : int
        Failures, those with a warning that lasted, and alarms raised further than the horizon from
        the next failure.
    healthy_days : float
        Days of all assets together that were scored so far from one.
    warned_rate : Interval
        Share of the failures with a warning.
    lead_s : Interval
        Median over all failures of the time from the warning to the failure; 0 without a warning.
    false_alarms_per_day : Interval
        Per asset, in healthy time.
    leads_s : tuple of float
        Of each failure, as they were given.
    """

    n_failures: int
    n_warned: int
    n_false: int
    healthy_days: float
    warned_rate: Interval
    lead_s: Interval
    false_alarms_per_day: Interval
    leads_s: tuple[float, ...]

    def in_words(self) -> str:
        """What was foretold, how early and at what cost, in a line for who runs the plant."""
        said = f"{self.n_warned} of {self.n_failures} failures foretold"
        if self.lead_s.value > 0:
            said += f", {duration_text(self.lead_s.value)} before (median)"
        if not self.healthy_days:
            return said
        return f"{said}, {rate_text(self.false_alarms_per_day)} false alarms per asset and day"


def lead_times(
    alarms: Episodes,
    rows: Timeline,
    *,
    failed: ArrayLike,
    failed_s: ArrayLike,
    horizon_s: float,
    max_pause_s: float = 0.0,
    confidence: float = 0.95,
) -> LeadTimes:
    """How early alarms tell of failures.

    A warning is what stands when the machine fails: from there back, alarms with pauses of at most
    `max_pause_s` between them are one, and it counts from when the first of them was raised. An
    alarm that was over for longer was withdrawn, and warns of nothing. One that was raised earlier
    than `horizon_s` before the failure is false, even where it stands until then: whoever answered
    it found a machine with a life ahead.

    Parameters
    ----------
    alarms : Episodes
        Those of one asset do not overlap.
    rows : Timeline
        When rows were scored.
    failed : array-like of shape (f,)
        The asset of each failure; one that does not fail has healthy rows alone.
    failed_s : array-like of shape (f,)
        When it failed, on the clock of the rows. Nothing before an earlier failure of the same
        asset tells of the next.
    horizon_s : float
        How long before a failure an alarm is of use.
    max_pause_s : float
        A pause that does not end a warning, nor one before the failure.
    confidence : float
        Of the intervals.

    Returns
    -------
    LeadTimes

    Raises
    ------
    InputError
        A failure is of an asset without rows, or an argument is out of range.

    References
    ----------
    Saxena et al. (2008), Metrics for evaluating performance of prognostic techniques, PHM: the
    prognostic horizon.

    Examples
    --------
    >>> from vae_anomaly.decisions.episodes import runs, timeline
    >>> rows = timeline(["engine"] * 8, 3600 * np.arange(8))
    >>> over = np.array([True, False, False, True, False, True, True, True])
    >>> found = lead_times(
    ...     runs(over, rows), rows, failed=["engine"], failed_s=[28_800], horizon_s=18_000
    ... )
    >>> found.leads_s, found.n_false
    ((10800.0,), 1)
    """
    check_share("confidence", confidence)
    if not (horizon_s > 0 and max_pause_s >= 0):
        raise InputError(
            f"horizon_s={horizon_s} must be above 0 seconds, and max_pause_s={max_pause_s} not "
            "below"
        )
    names, ends = _checked_failures(failed, failed_s, rows)
    alarm = placed(alarms, rows)
    near = np.zeros(len(rows), bool)
    leads = np.zeros(len(ends))
    for number, (name, end) in enumerate(zip(names, ends, strict=True)):
        earlier = ends[(names == name) & (ends < end)]
        begin = max(end - horizon_s, earlier.max(initial=-np.inf))
        of_asset = rows.assets[rows.code] == name
        near |= of_asset & (rows.time_s >= begin) & (rows.time_s < end)
        own = of_asset[alarm.row] & (alarm.start_s >= begin) & (alarm.start_s < end)
        leads[number] = _lead(alarm, own, end, max_pause_s)
    false_alarms = by_asset_day(rows, alarm.row[~near[alarm.row]], ~near)
    warned = Share(int((leads > 0).sum()), len(leads))
    return LeadTimes(
        n_failures=warned.total,
        n_warned=warned.count,
        n_false=false_alarms.count,
        healthy_days=false_alarms.total_days,
        warned_rate=warned.interval(confidence),
        lead_s=time_quantile(leads, 0.5, longest_s=horizon_s, confidence=confidence),
        false_alarms_per_day=false_alarms.interval(confidence),
        leads_s=tuple(leads.tolist()),
    )


def _lead(alarm: Placed, own: BoolArray, end: float, max_pause_s: float) -> float:
    """Time from the first alarm of those that last until the end; 0 where none does."""
    since = end
    for start_s, end_s in zip(alarm.start_s[own][::-1], alarm.end_s[own][::-1], strict=True):
        if end_s + max_pause_s < since:
            break
        since = start_s
    return float(end - since)


def _checked_failures(
    failed: ArrayLike, failed_s: ArrayLike, rows: Timeline
) -> tuple[NameArray, FloatArray]:
    names, ends = np.asarray(failed).astype(np.str_), np.asarray(failed_s, np.float64)
    if names.shape != ends.shape or ends.ndim != 1 or not np.isfinite(ends).all():
        raise InputError(
            f"assets that failed have shape {names.shape} and their times {ends.shape}; give one "
            "finite time for each"
        )
    strange = set(names.tolist()) - set(rows.assets.tolist())
    if strange:
        raise InputError(
            f"nothing was scored of the asset '{min(strange)}' that failed; there are rows of "
            f"{', '.join(sorted(rows.assets.tolist())[:5])}"
        )
    return names, ends
