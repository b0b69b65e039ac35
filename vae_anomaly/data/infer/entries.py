"""A line of plant.yml for each sensor and each operating condition, with what was seen of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vae_anomaly.data.infer.columns import Column
from vae_anomaly.data.infer.oddities import (
    UnitChange,
    count_resets,
    find_duplicates,
    find_unit_change,
    is_totaliser,
    quantity_of,
)
from vae_anomaly.data.infer.roles import share_missing
from vae_anomaly.data.infer.units import Range, physical_range, unit_of, without_sentinels
from vae_anomaly.data.infer.words import THOUSANDS

__all__ = ["Entry", "condition_entry", "sensor_entries"]

#: Share of the rows from which on a column without values is left out.
MOSTLY_MISSING = 0.9
#: Values of either kind that a binary sensor has shown.
EITHER_ROWS, EITHER_SHARE = 5, 0.001
#: Share of the rows that a column of unreadable numbers may keep out.
UNREADABLE = 0.05
#: Assets that are looked through for a change of units.
MOST_GROUPS = 200

Value = str | float | tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A line of `sensors` or `context`.

    Attributes
    ----------
    name : str
    settings : dict of str to Value
        What stands beside the name, in order.
    comment : str
    is_active : bool
        False where the line stands as a comment.
    note : str
        What a person must look at; empty where nothing is odd.
    """

    name: str
    settings: dict[str, Value] = field(default_factory=dict)
    comment: str = ""
    is_active: bool = True
    note: str = ""


def sensor_entries(
    columns: Mapping[str, Column],
    group: np.ndarray,
    units: Mapping[str, str],
    where: Callable[[int], str],
) -> tuple[Entry, ...]:
    """Lines of the sensors.

    Parameters
    ----------
    columns : mapping of str to Column
        Columns of numbers, each of shape (n,).
    group : ndarray of shape (n,)
        Rows that follow one another in time.
    units : mapping of str to str
        Units that stand elsewhere than in the name.
    where : callable
        Says of a row where in the files it is.
    """
    copies = find_duplicates({name: column.values for name, column in columns.items()})
    return tuple(
        _with_copy(_entry(column, group, units.get(name) or unit_of(name), where), copies)
        for name, column in columns.items()
    )


def condition_entry(column: Column) -> Entry:
    """The line of a column of texts that explains what the sensors show."""
    levels = tuple(sorted(column.texts))
    counts = ", ".join(f"{text} {n:,}" for text, n in column.texts.most_common(4))
    more = f" and {len(levels) - 4} more" if len(levels) > 4 else ""
    settings: dict[str, Value] = {"kind": "categorical", "levels": levels}
    return Entry(column.name, settings, f"{counts}{more}")


def _entry(column: Column, group: np.ndarray, unit: str, where: Callable[[int], str]) -> Entry:
    settings: dict[str, Value] = {"unit": unit} if unit else {}
    entry = Entry(column.name, settings)
    why, note = _why_left_out(column, group)
    if why:
        return replace(entry, comment=why, is_active=False, note=note)
    if column.is_constant:
        comment = f"constant {column.known[0] + 0.0:g}: only a change of it is reported"
        return replace(entry, comment=comment, note="constant")
    return _binary(column, settings) or _measured(column, entry, group, where)


def _why_left_out(column: Column, group: np.ndarray) -> tuple[str, str]:
    """Why a column is left out, and what a person reads of it; empty where it stays."""
    if not len(column.known):
        return "no number in it", ""
    n_thousands = sum(n for text, n in column.odd.items() if THOUSANDS.fullmatch(text))
    if n_thousands > UNREADABLE * column.n_rows:
        return f"numbers such as '{column.thousands}' have signs between thousands", ""
    missing = share_missing(column)
    if missing > MOSTLY_MISSING:
        return f"{missing:.0%} missing", "mostly missing"
    if column.is_constant and column.kind == "truths":
        return f"always {'true' if column.known[0] else 'false'}", ""
    if is_totaliser(column.values, group):
        return f"only ever rises ({_seen(column.known)}): a total, like no later value", "total"
    return "", ""


def _binary(column: Column, settings: dict[str, Value]) -> Entry | None:
    """The line of a column of 0 and 1; None of any other."""
    if set(column.distinct.tolist()) != {0.0, 1.0}:
        return None
    share = float((column.known == 1).mean())
    rarer = min(share, 1 - share) * len(column.known)
    seen = f"1 in {share:.3g} of the rows" if share < 0.001 else f"1 in {share:.1%} of the rows"
    if column.kind == "truths" or rarer >= max(EITHER_ROWS, EITHER_SHARE * len(column.known)):
        return Entry(column.name, settings | {"kind": "binary"}, seen)
    return Entry(column.name, settings, f"{seen}; kind: binary if nothing is between")


def _measured(
    column: Column, entry: Entry, group: np.ndarray, where: Callable[[int], str]
) -> Entry:
    """The line of a column of measurements: its range, and what is odd about it."""
    values, change, at = column.values, None, 0
    unit = str(entry.settings.get("unit", ""))
    if change_at := _unit_change(values, group, quantity_of(column.name, unit)):
        change, at, keep = change_at.change, change_at.row, change_at.is_before
        values = np.where(keep, values, np.nan)
    known = values[np.isfinite(values)]
    plain = without_sentinels(known)
    limits = physical_range(plain, unit)
    said = [f"seen {_seen(plain)}"]
    note = ""
    if len(plain) < len(known):
        odd = sorted({f"{v:g}" for v in np.setdiff1d(known, plain)})
        said.append(f"without {', '.join(odd)}, which devices send for no value")
        note = f"sends {', '.join(odd)}"
    missing = share_missing(column)
    if missing >= 0.01:
        said.append(f"{missing:.0%} missing")
    if resets := count_resets(column.values, group):
        said.append(f"rises and falls back {resets} times")
    if change is not None:
        limits, words = _before(limits, change, known)
        note = f"turns from {change.conversion} {where(at)}"
        said = [f"{note}; {words}", *said]
    low_high = {k: v for k, v in (("low", limits.low), ("high", limits.high)) if v is not None}
    return replace(entry, settings=entry.settings | low_high, comment="; ".join(said), note=note)


@dataclass(frozen=True)
class _Changed:
    change: UnitChange
    row: int
    is_before: np.ndarray  # (n,) rows in the first unit


def _unit_change(values: np.ndarray, group: np.ndarray, quantity: str) -> _Changed | None:
    """A change of units in one group of rows; what happens in several is the work of the plant."""
    order = np.argsort(group, kind="stable")
    edges = np.flatnonzero(np.diff(group[order], prepend=group[order][0] - 1))
    ends = [*edges[1:].tolist(), len(order)]
    found: list[_Changed] = []
    for start, end in list(zip(edges.tolist(), ends, strict=True))[:MOST_GROUPS]:
        own = order[start:end]
        change = find_unit_change(values[own], quantity)
        if change is not None:
            is_before = np.ones(len(values), dtype=bool)
            is_before[own[change.at :]] = False
            found.append(_Changed(change, int(own[change.at]), is_before))
    return found[0] if len(found) == 1 else None


def _before(limits: Range, change: UnitChange, known: np.ndarray) -> tuple[Range, str]:
    """The range of the first unit, and what becomes of the rows in the second."""
    if not change.is_apart:
        return limits, "no range tells the two apart: correct the file"
    middle = float(f"{change.limit:.4g}")
    if known.max() < change.limit:
        high = middle if limits.high is None else min(limits.high, middle)
        return replace(limits, high=high), "the range is that of before, so rows behind are refused"
    low = middle if limits.low is None else max(limits.low, middle)
    return replace(limits, low=low), "the range is that of before, so rows behind are refused"


def _with_copy(entry: Entry, copies: Mapping[str, str]) -> Entry:
    first = copies.get(entry.name)
    if first is None:
        return entry
    comment = f"follows '{first}' exactly, leave it out if it is a copy; {entry.comment}"
    return replace(entry, comment=comment, note=entry.note or "copy")


def _seen(values: np.ndarray) -> str:
    return f"{_figure(values.min())} to {_figure(values.max())}"


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.6g}"
