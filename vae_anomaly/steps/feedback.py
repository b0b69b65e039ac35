"""What people said of alarms → which rows are learnt as normal, as anomalies, or not at all.

==============  =============================================================================
fault           the rows are anomalies, of the class of the fault's name
false alarm     the rows are normal, whatever label they came with; where the plant has no labels of
                its own they are as unlabelled as all its other normal rows, or a rule with labels
                would take a handful of false alarms for a fair sample of normal rows
maintenance,    the rows belong to no part
unknown
failure         its moment belongs to no part, unless it lies in a fault, which it is of then
nothing yet     rows of an alarm that is active or latched are neither trained nor calibrated on; in
                the part `test` they stay, or its false alarms would be left out of their own count
==============  =============================================================================

Rows of an alarm that is active reach on: what comes behind the last verdict may be of it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import JsonValue

from vae_anomaly.data.exclusions import Excluded, without
from vae_anomaly.data.lake import ALARMS, Lake
from vae_anomaly.data.parts import UNKNOWN, Interval
from vae_anomaly.data.told import FOREVER, Told, disjoint
from vae_anomaly.decisions.alarms import ACTIVE, LATCHED
from vae_anomaly.steps.said import (
    FAILURE,
    FALSE_ALARM,
    FAULT,
    Alarm,
    Said,
    holding,
    raised_alarms,
    read_said,
)

__all__ = ["Cut", "Feedback", "fault_classes", "read_feedback", "with_feedback"]

#: Label of a normal row.
NORMAL = 0

#: Class of a fault without a name; named ones follow in the order in which they were first named.
UNNAMED = 1


@dataclass(frozen=True)
class Feedback:
    """Spans of each asset, no two of them overlapping.

    Attributes
    ----------
    said : mapping of str to tuple of Told
        What people said.
    with_open : mapping of str to tuple of Told
        The same, and below it the alarms that nobody has answered.
    """

    said: Mapping[str, tuple[Told, ...]] = field(default_factory=dict)
    with_open: Mapping[str, tuple[Told, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Intervals of the parts with what was said of their rows, and how many rows that takes out.

    Attributes
    ----------
    intervals : tuple of Interval
    lost : mapping of str to int
        Rows of each part.
    content : tuple
        What was said of rows of the parts; empty where nothing was.
    """

    intervals: tuple[Interval, ...]
    lost: dict[str, int]
    content: tuple[JsonValue, ...]


def read_feedback(lake: Lake, *, numbered: bool) -> Feedback:
    """What people said so far, and the alarms that wait for an answer.

    Parameters
    ----------
    lake : Lake
    numbered : bool
        The plant's own labels are numbers of classes; see `fault_classes`.
    """
    alarms = raised_alarms(lake) if lake.found(ALARMS) is not None else {}
    entries = read_said(lake)
    classes = fault_classes(entries, numbered=numbered)
    said: dict[str, list[Told]] = {}
    failures: dict[str, list[Told]] = {}
    for entry in holding(entries):
        told = _told(entry, alarms, classes, NORMAL if numbered else UNKNOWN)
        kind = failures if entry.verdict == FAILURE else said
        kind.setdefault(entry.asset, []).append(told)
    answered = {entry.alarm_id for entry in entries}
    below: dict[str, list[Told]] = {}
    for alarm in alarms.values():
        if alarm.state in (ACTIVE, LATCHED) and alarm.alarm_id not in answered:
            end = FOREVER if alarm.state == ACTIVE else alarm.end + 1
            below.setdefault(alarm.asset, []).append(Told(alarm.start, end, UNNAMED, counts=False))
    laid = {
        asset: _with_failures(said.get(asset, ()), failures.get(asset, ()))
        for asset in {*said, *failures}
    }
    with_open = {
        asset: disjoint([*below.get(asset, ()), *laid.get(asset, ())]) for asset in {*laid, *below}
    }
    return Feedback(laid, with_open)


def _with_failures(told: Sequence[Told], failures: Sequence[Told]) -> tuple[Told, ...]:
    """Spans with the moments of failures laid over them, but for those within a fault.

    A machine that fails in the course of a fault does not make two faults of it.
    """
    spans = disjoint(told)
    faults = [span for span in spans if span.is_fault]
    alone = [f for f in failures if not any(s.start <= f.start < s.end for s in faults)]
    return disjoint([*spans, *alone])


def fault_classes(said: Iterable[Said], *, numbered: bool) -> dict[str, int]:
    """Class of each name of a fault, by the order in which the names were first said.

    Parameters
    ----------
    said : iterable of Said
    numbered : bool
        The plant's own labels are numbers of classes. A fault whose name is such a number is of
        that class then, and any other of class 1, so that no name takes a number that has a
        meaning already.

    Examples
    --------
    >>> said = [Said("a", 0, 1, "fault", fault=name) for name in ("leak", "3", "leak")]
    >>> fault_classes(said, numbered=False), fault_classes(said, numbered=True)
    ({'leak': 2, '3': 3}, {'leak': 1, '3': 3})
    """
    classes: dict[str, int] = {}
    for entry in said:
        name = entry.fault
        if name is None or name in classes:
            continue
        is_class = name.isascii() and name.isdigit() and int(name) > 0
        own = int(name) if is_class else UNNAMED
        classes[name] = own if numbered else UNNAMED + 1 + len(classes)
    return classes


def _told(
    entry: Said, alarms: Mapping[str, Alarm], classes: Mapping[str, int], normal: int
) -> Told:
    """The span of an entry; that of an alarm as it stands now."""
    start, end = entry.start, entry.end + 1
    alarm = alarms.get(entry.alarm_id or "")
    if alarm is not None:
        lasts = alarm.state == ACTIVE and entry.verdict != FALSE_ALARM
        start, end = alarm.start, FOREVER if lasts else alarm.end + 1
    if entry.verdict == FALSE_ALARM:
        return Told(start, end, normal)
    label = UNNAMED if entry.fault is None else classes[entry.fault]
    return Told(start, end, label, counts=entry.verdict == FAULT)


def with_feedback(
    intervals: Sequence[Interval], feedback: Feedback, times: Mapping[str, np.ndarray]
) -> Cut:
    """Intervals with what was said of their rows, cut where rows belong to no part.

    Parameters
    ----------
    intervals : sequence of Interval
    feedback : Feedback
    times : mapping of str to ndarray
        Rising times of each asset's rows, as `parts.asset_times` gives them.
    """
    kept: list[Interval] = []
    lost: dict[str, int] = {}
    content: list[JsonValue] = []
    for interval in intervals:
        spans = feedback.said if interval.part == "test" else feedback.with_open
        told = tuple(
            span
            for span in spans.get(interval.asset, ())
            if span.start <= interval.end and span.end > interval.context_start
        )
        out = [Excluded(s.start, s.end, ("*",)) for s in told if not s.counts]
        pieces, n = without([replace(interval, told=told)], out, times)
        kept += pieces
        lost[interval.part] = lost.get(interval.part, 0) + n.get(interval.part, 0)
        content += [[interval.part, interval.asset, *vars(span).values()] for span in told]
    return Cut(tuple(kept), {part: n for part, n in lost.items() if n}, tuple(content))
