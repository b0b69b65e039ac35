"""Alarms, and what people said of them: a table that only grows, in which the last entry holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

import pyarrow as pa

from vae_anomaly.data.lake import (
    ALARMS,
    LABELS,
    Lake,
    as_timestamp,
    commit,
    rows,
    transaction_number,
    until_committed,
)

__all__ = [
    "FAILURE",
    "FALSE_ALARM",
    "FAULT",
    "VERDICTS_OF_PEOPLE",
    "Alarm",
    "Said",
    "Verdict",
    "append",
    "content_id",
    "holding",
    "raised_alarms",
    "read_said",
]

Verdict = Literal["fault", "false_alarm", "maintenance", "unknown", "failure"]

FAULT: Final = "fault"
FALSE_ALARM: Final = "false_alarm"

#: Said of a moment: that the machine failed then. It is about no alarm.
FAILURE: Final = "failure"

#: What people may say of an alarm, a span or, of a failure, a moment.
VERDICTS_OF_PEOPLE: tuple[Verdict, ...] = (
    "fault", "false_alarm", "maintenance", "unknown", "failure",
)  # fmt: skip

#: Transaction that each commit raises to the number of its last entry: two at once cannot both be
#: first, so that the order of what was said is the same for everybody who reads it.
SAID: Final = "said"


@dataclass(frozen=True)
class Said:
    """What a person said of an alarm, or of a span of time of an asset.

    Attributes
    ----------
    asset : str
    start, end : int
        Microseconds since 1970, both included; those of an alarm as they were when it was said.
    verdict : str
    alarm_id : str or None
        None for a span.
    fault : str or None
        Name of the fault.
    who, comment : str
    label_id : str
        Of the content: what was read from a file before is known by it.
    number : int
        Place in the order of what was said; 0 until it is written.
    """

    asset: str
    start: int
    end: int
    verdict: Verdict
    alarm_id: str | None = None
    fault: str | None = None
    who: str = ""
    comment: str = ""
    label_id: str = ""
    number: int = 0

    @property
    def about(self) -> str | tuple[str, int, int]:
        """The alarm or the span that it is about."""
        return self.alarm_id or (self.asset, self.start, self.end)

    def in_words(self) -> str:
        """The verdict, with the name of the fault.

        Examples
        --------
        >>> Said("pump", 0, 9, "fault", fault="worn bearing").in_words()
        'fault: worn bearing'
        """
        said = self.verdict.replace("_", " ")
        return f"{said}: {self.fault}" if self.fault else said


@dataclass(frozen=True)
class Alarm:
    """An alarm of the table: whose it is, from when to when (µs since 1970), and its state."""

    alarm_id: str
    asset: str
    start: int
    end: int
    state: str


def content_id(*content: str | int | None) -> str:
    """Name of what was said, by its content: sixteen hexadecimal digits."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def read_said(lake: Lake) -> list[Said]:
    """All that was ever said, in its order; nothing where nobody said anything."""
    table = lake.found(LABELS)
    if table is None:
        return []
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    return [_of_row(row) for row in sorted(found, key=lambda row: row["number"])]


def holding(said: Iterable[Said]) -> list[Said]:
    """The last entry about each alarm and each span, in the order in which they were said."""
    last = {entry.about: entry for entry in said}
    return sorted(last.values(), key=lambda entry: entry.number)


def raised_alarms(lake: Lake) -> dict[str, Alarm]:
    """All alarms by their ids.

    Raises
    ------
    LakeError
        No alarm was ever raised.
    """
    columns = ["alarm_id", "asset", "start", "end", "state"]
    batches = list(rows(lake.open(ALARMS), columns=columns))
    table = pa.Table.from_batches(
        batches, pa.schema([lake.schema(ALARMS).field(c) for c in columns])
    )
    for name in ("start", "end"):
        at = columns.index(name)
        table = table.set_column(at, name, table[name].cast(pa.int64()))
    return {row["alarm_id"]: Alarm(**row) for row in table.to_pylist()}


def append(lake: Lake, choose: Callable[[Sequence[Said]], Sequence[Said]]) -> tuple[Said, ...]:
    """Write entries behind all others, and return them as written.

    Parameters
    ----------
    lake : Lake
    choose : callable
        Given all that was said before, the entries to write; asked again where somebody else was
        first. One without a `label_id` gets one of its own.
    """
    written: list[Said] = []

    def attempt() -> bool:
        table = lake.writable(LABELS)
        before = read_said(lake)
        last = transaction_number(table, SAID) or 0
        written[:] = [_numbered(entry, last + n) for n, entry in enumerate(choose(before), start=1)]
        if not written:
            return True
        now = datetime.now(UTC)
        entries = [_as_row(entry, now) for entry in written]
        data = pa.Table.from_pylist(entries, schema=lake.schema(LABELS))
        return commit(table, data, {SAID: written[-1].number})

    until_committed(attempt)
    return tuple(written)


def _numbered(entry: Said, number: int) -> Said:
    name = entry.label_id or content_id(
        entry.alarm_id, entry.asset, entry.start, entry.end, entry.verdict, entry.fault, entry.who,
        entry.comment, number,
    )  # fmt: skip
    return replace(entry, number=number, label_id=name)


def _as_row(entry: Said, now: datetime) -> dict[str, object]:
    moments = {"start": as_timestamp(entry.start).as_py(), "end": as_timestamp(entry.end).as_py()}
    return {**vars(entry), **moments, "said_at": now}


def _of_row(row: dict[str, object]) -> Said:
    start, end = (_micros(row[name]) for name in ("start", "end"))
    names = ("asset", "verdict", "alarm_id", "fault", "who", "comment", "label_id", "number")
    return Said(start=start, end=end, **{name: row[name] for name in names})  # type: ignore[arg-type]


def _micros(moment: object) -> int:
    value = pa.scalar(moment, pa.timestamp("us", "UTC")).value
    assert isinstance(value, int)
    return value
