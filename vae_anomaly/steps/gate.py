"""Whether a challenger may judge in the champion's place: what the gate of mlflow.yml looks at.

On the test part, at registration: row by row, and fault by fault. Beside the champion, in service:
both lines of verdicts, through the alarm logic and each with its own rule, on the very same rows;
a fault is what people confirmed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from pydantic import JsonValue

from vae_anomaly.config import Budget, Gate
from vae_anomaly.decisions.comparison import WEEK, Comparison, faults_compared
from vae_anomaly.decisions.occurrences import DAY_S
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.steps.figures import Figures
from vae_anomaly.tracking import Tracking, Version

__all__ = [
    "DECISION",
    "PROMOTED",
    "REASONS",
    "REFUSED",
    "WAITING",
    "Ruling",
    "as_json",
    "note_ruling",
    "on_test_part",
    "rows_over",
    "ruling",
]

#: Tags of a version that the gate has judged: the decision, why as a JSON list, and the figures.
DECISION, REASONS = "vae_anomaly.decision", "vae_anomaly.reasons"
FIGURES = "vae_anomaly.gate"

#: Decisions: it judges; it waits for a person or for more evidence; it is worse.
PROMOTED, WAITING, REFUSED = "promoted", "waiting", "refused"


@dataclass(frozen=True)
class Ruling:
    """What the gate says of a challenger.

    Attributes
    ----------
    decision : str
        `PROMOTED`, `WAITING` or `REFUSED`.
    reasons : tuple of str
        Why it is not promoted.
    figures : tuple of Comparison
    """

    decision: str
    reasons: tuple[str, ...] = ()
    figures: tuple[Comparison, ...] = ()


def ruling(gate: Gate, figures: Sequence[Comparison], *, missing: Iterable[str] = ()) -> Ruling:
    """Promote, wait or refuse, by figures that hold or do not.

    Parameters
    ----------
    gate : Gate
    figures : sequence of Comparison
    missing : iterable of str
        What was to be compared and could not be, or not yet.

    Examples
    --------
    >>> ruling(Gate(promote="manual"), ()).reasons
    ('mlflow.yml says gate.promote: manual; `vae-anomaly promote` promotes it',)
    """
    if worse := tuple(f.reason for f in figures if not f.holds):
        return Ruling(REFUSED, worse, tuple(figures))
    waits = list(missing)
    if gate.promote == "manual":
        waits.append("mlflow.yml says gate.promote: manual; `vae-anomaly promote` promotes it")
    return Ruling(WAITING if waits else PROMOTED, tuple(waits), tuple(figures))


def on_test_part(
    gate: Gate, ours: Figures, theirs: Figures, budget: Budget | None = None
) -> tuple[Comparison, ...]:
    """The challenger beside the champion on the same test part.

    Without labels there, only false alarms, that is flagged rows, can be compared. A plant with a
    budget asks for few alarms, and not for few rows over the threshold.
    """
    if budget is None:
        found = [_row_rate(gate, ours, theirs)]
    else:
        rates = (figures.operating_point.false_alarm_rate for figures in (ours, theirs))
        found = [rows_over(gate, *rates), _alarm_rate(gate, ours, theirs, budget)]
    mine, other = ours.operating_point, theirs.operating_point
    if mine.n_anomalous:
        found.append(
            _level("detection rate", mine.detection_rate, other.detection_rate,
                   gate.max_detection_loss, "{:.1%}")
        )  # fmt: skip
    if ours.auroc is not None and theirs.auroc is not None:
        found.append(
            _level("AUROC", ours.auroc, theirs.auroc, gate.max_auroc_loss, "{:.3f}", is_share=False)
        )
    delays = [np.array(figures.events.delays_s) for figures in (ours, theirs)]
    if len(delays[0]) and len(delays[0]) == len(delays[1]):
        each = faults_compared(
            *(np.isfinite(own) for own in delays), max_loss=gate.max_fault_loss,
            confidence=gate.confidence,
        )  # fmt: skip
        found.append(_told_why(each, ours.events.n_standing))
    return tuple(found)


def _told_why(faults: Comparison, n_standing: int) -> Comparison:
    """The comparison, with what may look like a fault that was found."""
    if faults.holds or not n_standing:
        return faults
    why = f"{n_standing} of those missed began under an alarm that stood already, which finds none"
    return replace(faults, reason=f"{faults.reason}; {why}")


def rows_over(gate: Gate, mine: Interval, other: Interval, *, where: str = "") -> Comparison:
    """Normal rows over the threshold, beside few alarms: one that always stands is but one."""
    figure = f"rows over the threshold{where}"
    of_champion = other.value * gate.max_false_alarm_ratio
    reason = ""
    if mine.value > max(gate.max_false_alarm_rate, of_champion):
        limit = f"max_false_alarm_rate {gate.max_false_alarm_rate:.2%}"
        if of_champion > gate.max_false_alarm_rate:
            limit = f"{of_champion:.2%}, {gate.max_false_alarm_ratio:g} times as many,"
        reason = (
            f"{figure}: too many, {mine.value:.2%} of those outside of faults against the "
            f"champion's {other.value:.2%}; at most {limit} may be"
        )
    return Comparison(figure, mine, other, reason=reason)


def _row_rate(gate: Gate, ours: Figures, theirs: Figures) -> Comparison:
    mine, other = (f.operating_point.false_alarm_rate for f in (ours, theirs))
    n_normal = ours.operating_point.n_normal
    figure = "false alarm rate" if ours.events.normal_days > 0 else "flagged rows"
    reasons = []
    if mine.value > gate.max_false_alarm_rate:
        reasons.append(f"above max_false_alarm_rate {gate.max_false_alarm_rate:.2%}")
    limit = max(other.value * gate.max_false_alarm_ratio, 1 / n_normal) if n_normal else np.inf
    if mine.value > limit:
        reasons.append(
            f"more than {gate.max_false_alarm_ratio:g} times the champion's {other.value:.2%}"
        )
    said = f"{figure}: too many, {mine.value:.2%} is {' and '.join(reasons)}" if reasons else ""
    return Comparison(figure, mine, other, reason=said)


def _alarm_rate(gate: Gate, ours: Figures, theirs: Figures, budget: Budget) -> Comparison:
    """Alarms that nothing was wrong for, or all where nothing is labelled; they are not paired."""
    labelled = ours.events.normal_days > 0
    name = "false_alarms_per_day" if labelled else "alarms_per_day"
    mine, other = (_per_week(getattr(figures.events, name)) for figures in (ours, theirs))
    figure = ("false " if labelled else "") + "alarms per asset and week"
    allowed, of_champion = budget.per_second * DAY_S * WEEK, other.high * gate.max_false_alarm_ratio
    reason = ""
    if mine.known and mine.high > max(allowed, of_champion):
        which = f"the budget of {allowed:.2g}"
        if of_champion > allowed:
            which = f"{of_champion:.2g}, {gate.max_false_alarm_ratio:g} times the champion's"
        reason = (
            f"{figure}: too many cannot be ruled out, {mine.value:.2g} (between {mine.low:.2g} and "
            f"{mine.high:.2g}) against the champion's {other.value:.2g} (between {other.low:.2g} "
            f"and {other.high:.2g}); the upper end may be {which}"
        )
    return Comparison(figure, mine, other, reason=reason, is_share=False)


def _level(
    figure: str, mine: Interval, other: Interval, margin: float, form: str, *, is_share: bool = True
) -> Comparison:
    lost = other.value - mine.value
    reason = ""
    if lost > margin:
        unit = " percentage points" if is_share else ""
        below, most = (form.format(size).replace("%", "") for size in (lost, margin))
        reason = (
            f"{figure}: {form.format(mine.value)} is {below}{unit} below the champion's "
            f"{form.format(other.value)}; at most {most} may be lost"
        )
    return Comparison(figure, mine, other, reason=reason, is_share=is_share)


def _per_week(rate: Interval) -> Interval:
    return Interval(*(WEEK * end for end in (rate.value, rate.low, rate.high)))


def as_json(figures: Iterable[Comparison]) -> str:
    """Figures as JSON; what is not known is null."""
    return json.dumps([_plain(asdict(figure)) for figure in figures])


def _plain(value: object) -> JsonValue:
    if isinstance(value, dict):
        return {str(name): _plain(own) for name, own in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    assert isinstance(value, str | bool | int)
    return value


def note_ruling(tracking: Tracking, version: Version, found: Ruling) -> None:
    """Tag a version with what the gate said of it; the decision comes last."""
    tags = {REASONS: json.dumps(found.reasons), FIGURES: as_json(found.figures)}
    tracking.set_tags(version, {**tags, DECISION: found.decision})
