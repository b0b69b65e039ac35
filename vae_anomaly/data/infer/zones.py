"""Local time shows itself where clocks are changed: an hour comes twice, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

__all__ = ["ZONES", "Changes", "find_changes", "find_zones"]

#: Zones that are tried, one or two for each rule of changing clocks; of equal ones the first is
#: proposed and the others are named.
ZONES = (
    "Europe/Berlin", "Europe/London", "Europe/Helsinki", "America/New_York", "America/Chicago",
    "America/Denver", "America/Los_Angeles", "America/St_Johns", "America/Santiago",
    "Asia/Jerusalem", "Australia/Sydney", "Australia/Adelaide", "Pacific/Auckland",
)  # fmt: skip
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Changes:
    """Times of the wall's clock (microseconds) behind which an hour was missing, or came again."""

    forward: tuple[int, ...]
    back: tuple[int, ...]


def find_changes(moments: np.ndarray, group: np.ndarray, period_s: float) -> Changes:
    """Places where rows skip an hour or fall back by one, and go on at their pace.

    Parameters
    ----------
    moments : ndarray of shape (n,)
        Times by the wall's clock, in microseconds.
    group : ndarray of shape (n,)
        Rows that follow one another.
    period_s : float
        Seconds between them.
    """
    period = period_s * 1e6
    if not 0 < period <= HOUR_US:
        return Changes((), ())
    order = np.argsort(group, kind="stable")
    own, of = moments[order], group[order]
    steps = np.diff(own)
    together = of[1:] == of[:-1]
    near = max(0.25 * period, 1e6)
    skips = together & (np.abs(steps - HOUR_US - period) <= near)
    falls = together & (np.abs(steps + HOUR_US - period) <= near)
    return Changes(
        tuple(sorted({int(m) for m in own[:-1][skips]})),
        tuple(sorted({int(m) for m in own[:-1][falls]})),
    )


def find_zones(changes: Changes, first: int, last: int, period_s: float) -> tuple[str, ...]:
    """Zones whose clocks were changed where the rows show it, at every such place and no other.

    Parameters
    ----------
    changes : Changes
    first, last : int
        The span of the times, in microseconds of the wall's clock.
    period_s : float
        How far before the change the last row may stand.
    """
    return tuple(zone for zone in ZONES if _fits(zone, changes, (first, last), period_s))


def _fits(zone: str, changes: Changes, span: tuple[int, int], period_s: float) -> bool:
    """Whether the rows show each change of a zone's clocks, and no other.

    A missing hour can be a gap in the rows, an hour that comes twice is none: missing hours beside
    those of the clocks count against a zone only where no hour comes twice.
    """
    slack = 1.25 * period_s * 1e6

    def seen(at: int, hours: Iterable[int]) -> bool:
        return any(0 < hour - at <= slack for hour in hours)

    back, forward = (_transitions(zone, *span, back=way) for way in (True, False))
    if not back and not forward:
        return False
    is_met = all(any(seen(at, [hour]) for at in changes.back) for hour in back) and all(
        any(seen(at, [hour]) for at in changes.forward) for hour in forward
    )
    is_explained = all(seen(at, back) for at in changes.back) and (
        bool(back) or all(seen(at, forward) for at in changes.forward)
    )
    return is_met and is_explained


def _transitions(zone: str, first: int, last: int, *, back: bool) -> list[int]:
    """Wall times at which clocks are changed within a span, as microseconds."""
    return [wall for wall, ahead in _changes_of(zone, first, last) if (ahead < 0) == back]


def _changes_of(zone: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    """(wall time just before the change, microseconds that clocks went ahead) of each change."""
    rules = ZoneInfo(zone)
    for day in range(first // DAY_US, last // DAY_US + 1):
        start = (EPOCH + timedelta(days=day)).replace(tzinfo=UTC) - timedelta(hours=14)
        before = start.astimezone(rules).utcoffset() or timedelta()
        if before == (start + timedelta(days=2)).astimezone(rules).utcoffset():
            continue
        for hour in range(48 * 2):
            moment = start + timedelta(minutes=30 * hour)
            old = moment.astimezone(rules).utcoffset() or timedelta()
            new = (moment + timedelta(minutes=30)).astimezone(rules).utcoffset() or timedelta()
            if old != new:
                at = (moment + timedelta(minutes=30)).replace(tzinfo=None) + old - EPOCH
                wall = at // timedelta(microseconds=1)
                if first <= wall <= last and wall // DAY_US == day:
                    yield wall, (new - old) // timedelta(microseconds=1)
