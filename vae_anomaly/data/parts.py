"""train | stop | calibrate | test: which rows of the lake do which job.

*train* fits the weights; *stop* ends the training and scales the scores; *calibrate* sets the
thresholds and nothing else; *test* is looked at once. Between two parts of one asset a gap of one
window is left out, so that no row helps in two jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import PARTS, Part, PartRange
from vae_anomaly.data.lake import as_timestamp, rows
from vae_anomaly.data.told import Told
from vae_anomaly.data.windows import sorted_readings
from vae_anomaly.errors import PartsError

__all__ = ["UNKNOWN", "Interval", "PartRows", "asset_times", "read_part", "split"]


#: Label of a row of which nothing is known.
UNKNOWN = -1


@dataclass(frozen=True)
class Interval:
    """Rows of one asset that belong to one part, both ends included.

    Times are microseconds since 1970, UTC. Rows from `context_start` on are read as the left
    context of the first windows, and are not judged. What people `told` of rows takes the place of
    their labels, in the left context too.
    """

    part: Part
    asset: str
    context_start: int
    start: int
    end: int
    n_rows: int
    told: tuple[Told, ...] = ()


@dataclass(frozen=True)
class PartRows:
    """Readings of one part, sorted by asset and time.

    Attributes
    ----------
    table : pa.Table
        The readings, left context included.
    judged : ndarray of shape (n,)
        False for the rows that are left context only.
    """

    table: pa.Table
    judged: np.ndarray


def asset_times(readings: DeltaTable) -> dict[str, np.ndarray]:
    """Times of each asset's rows, rising, in microseconds since 1970."""
    found: dict[str, list[np.ndarray]] = {}
    for batch in rows(readings, columns=["asset", "time"]):
        encoded = batch["asset"].dictionary_encode()
        moment = batch["time"].cast(pa.int64()).to_numpy()
        code = encoded.indices.to_numpy()
        for number, asset in enumerate(encoded.dictionary.to_pylist()):
            found.setdefault(asset, []).append(moment[code == number])
    return {asset: np.sort(np.concatenate(pieces)) for asset, pieces in sorted(found.items())}


def split(
    times: Mapping[str, np.ndarray],
    ranges: Sequence[PartRange],
    *,
    gap: int,
    left_context: int = 0,
    look_back_s: float = 0.0,
) -> tuple[Interval, ...]:
    """Cut each asset's rows into parts.

    Parameters
    ----------
    times : mapping of str to ndarray of shape (n_rows,)
        Rising times of each asset's rows, in microseconds.
    ranges : sequence of PartRange
        Which share or period of which assets belongs to which part.
    gap : int
        Rows left out after the end of a part where the next part of the asset follows at once.
    left_context : int
        Rows before a part that its first windows may look back on.
    look_back_s : float, optional
        Seconds before those that say whether a machine has been running for so long.

    Returns
    -------
    tuple of Interval

    Raises
    ------
    PartsError
        A row belongs to two parts, or a range names assets that do not exist.

    Examples
    --------
    >>> hours = {"pump": np.arange(10) * 3_600_000_000}
    >>> halves = [PartRange(part="train", share=(0, 0.5)), PartRange(part="test", share=(0.5, 1))]
    >>> [(i.part, i.n_rows) for i in split(hours, halves, gap=1)]
    [('train', 5), ('test', 4)]
    """
    if not times:
        raise PartsError(
            "the readings hold no rows: none of the source was accepted; `vae-anomaly survey` says "
            "why"
        )
    intervals: list[Interval] = []
    for entry in ranges:
        if not any(_matches(asset, entry) for asset in times):
            raise PartsError(
                f"part '{entry.part}' is to hold {', '.join(entry.assets)}, but the readings have "
                f"only {', '.join(sorted(times))}; change parts in plant.yml"
            )
    for asset, moments in times.items():
        spans = sorted(
            (span, entry.part)
            for entry in ranges
            if _matches(asset, entry)
            for span in _span(moments, entry)
        )
        for i, ((start, stop), part) in enumerate(spans):
            before = spans[i - 1] if i else None
            if before is not None and start < before[0][1]:
                raise PartsError(
                    f"rows of asset '{asset}' belong to '{before[1]}' and to '{part}'; "
                    "let the shares or periods of parts.listed not overlap"
                )
            first = start
            if before is not None and before[1] != part:
                first = max(start, before[0][1] + gap)
            if first < stop:
                at = max(0, first - left_context)
                if look_back_s:
                    long_ago = moments[at] - int(look_back_s * 1e6)
                    at = max(0, int(np.searchsorted(moments, long_ago, side="right")) - 1)
                context = moments[at]
                bounds = (int(context), int(moments[first]), int(moments[stop - 1]))
                intervals.append(Interval(part, asset, *bounds, stop - first))
    return tuple(sorted(intervals, key=lambda i: (PARTS.index(i.part), i.asset, i.start)))


def _matches(asset: str, entry: PartRange) -> bool:
    return any(asset == pattern or fnmatchcase(asset, pattern) for pattern in entry.assets)


def _span(moments: np.ndarray, entry: PartRange) -> list[tuple[int, int]]:
    """First and one past the last row of a range; nothing where it holds no row."""
    low, high = (round(share * len(moments)) for share in entry.share)
    if entry.start is not None:
        low = max(low, int(np.searchsorted(moments, entry.start.timestamp() * 1e6)))
    if entry.end is not None:
        high = min(high, int(np.searchsorted(moments, entry.end.timestamp() * 1e6)))
    return [(low, high)] if low < high else []


def read_part(
    readings: DeltaTable, intervals: Sequence[Interval], *, look_ahead_s: float = 0.0
) -> PartRows:
    """Read the rows of some intervals, with the left context of each, and some seconds behind.

    Raises
    ------
    PartsError
        There are no intervals, so nothing could be read.
    """
    if not intervals:
        raise PartsError("the part holds no rows; change parts in plant.yml, or ingest more")
    far = [replace(i, end=i.end + int(look_ahead_s * 1e6)) for i in intervals]
    where = (
        (pc.field("time") >= as_timestamp(min(i.context_start for i in intervals)))
        & (pc.field("time") <= as_timestamp(max(i.end for i in far)))
        & pc.field("asset").isin(sorted({i.asset for i in intervals}))
    )
    pieces = [
        piece
        for batch in rows(readings, where=where)
        if (piece := batch.filter(pa.array(_within(batch, far, context=True)))).num_rows
    ]
    if not pieces:
        raise PartsError("the readings no longer hold the rows of this part; run again")
    table = _labelled(sorted_readings(pa.Table.from_batches(pieces)), intervals)
    return PartRows(table, _within(table, intervals, context=False))


def _labelled(table: pa.Table, intervals: Sequence[Interval]) -> pa.Table:
    """The rows with the labels that people told."""
    told = {(i.asset, span) for i in intervals for span in i.told}
    if not told:
        return table
    label = pc.fill_null(table["label"], UNKNOWN).to_numpy().copy()
    asset = table["asset"].to_numpy()
    moment = table["time"].cast(pa.int64()).to_numpy()
    for name in {name for name, _ in told}:
        own = np.flatnonzero(asset == name)
        for span in (span for of, span in told if of == name):
            first, last = np.searchsorted(moment[own], [span.start, span.end])
            label[own[first:last]] = span.label
    known = pa.array(label, pa.int32(), mask=label == UNKNOWN)
    return table.set_column(table.schema.get_field_index("label"), "label", known)


def _within(
    table: pa.RecordBatch | pa.Table, intervals: Sequence[Interval], *, context: bool
) -> np.ndarray:
    """(n,) whether each row lies in one of the intervals."""
    column = table["asset"]
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column.dictionary_encode()
    number = {asset: code for code, asset in enumerate(encoded.dictionary.to_pylist())}
    code = encoded.indices.to_numpy()
    moment = table["time"].cast(pa.int64()).to_numpy()
    inside = np.zeros(len(code), bool)
    for interval in intervals:
        start = interval.context_start if context else interval.start
        own = code == number.get(interval.asset, -1)
        inside |= own & (moment >= start) & (moment <= interval.end)
    return inside
