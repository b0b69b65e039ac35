"""Rows whose time lies after now: a wrong clock, zone or format, and no reading.

One of them would be the latest of its asset for years, and all that comes after it would be late.
Whether a row is one depends on the moment at which it is first read. So the commit that first
leaves out a row of a file notes its moment (`data.landing`): an ingest that was killed refuses the
same rows when it is run again, and a file that grows, or a table that is read on, does not bring a
refused row in when its time has come.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import ANY_TIME, Limit
from vae_anomaly.data.cells import Mask, as_mask
from vae_anomaly.data.lake import QUARANTINE, Lake, rows, transaction_number
from vae_anomaly.data.refusals import raw_cells, refused_readings
from vae_anomaly.data.times import MOMENT, microseconds

__all__ = ["LOOK_AT", "NO_LIMIT", "READ_AT", "TIME_AHEAD", "Moments", "is_ahead", "limits",
           "refused_ahead"]  # fmt: skip

#: The reason for which they are refused.
TIME_AHEAD: Final = "time_ahead"

#: What stands before a content id, in the transaction of the moment at which it was first read.
READ_AT: Final = "read at:"

#: What to do about them.
LOOK_AT: Final = (
    "look at the clock that stamped them, and at contract.time (order of day and month, unit of "
    "epoch, zone); for a replay whose clock runs ahead set source.max_ahead_s: null"
)

#: Of a row, by column.
Cells = dict[str, str | None]

#: (n,) last moment that each row may have, in microseconds since 1970.
Moments = npt.NDArray[np.int64]


#: A row may lie as far ahead as one likes.
NO_LIMIT: Final = Limit()


def limits(lake: Lake, table: DeltaTable, chunk: pa.Table, path: str, limit: Limit) -> Moments:
    """(n,) last moment that each row of a file may have, in microseconds since 1970.

    A row that was refused before goes by the moment of that time: one with the same cells in every
    column that was there then, as a contract may gain some.

    Parameters
    ----------
    lake : Lake
    table : DeltaTable
        Where the rows are landed.
    chunk : pa.Table
        Rows that keep the contract.
    path : str
    limit : Limit
        Of the others.
    """
    latest = np.full(chunk.num_rows, limit.latest)
    quarantine = lake.found(QUARANTINE)
    if limit.latest == ANY_TIME or not chunk.num_rows or quarantine is None:
        return latest
    span = pc.min_max(chunk["time"])
    is_near = (pc.field("time") >= span["min"]) & (pc.field("time") <= span["max"])
    where = is_near & (pc.field("path") == path) & (pc.field("reason") == TIME_AHEAD)
    refused = rows(quarantine, columns=["content_id", "raw", "time"], where=where)
    first, times = _first_read(table, refused)
    before: dict[tuple[str | None, ...], list[tuple[Cells, int]]] = defaultdict(list)
    for raw, moment in first.items():
        cells: Cells = json.loads(raw)
        before[_key(cells)].append((cells, moment))
    near = np.flatnonzero(np.isin(microseconds(chunk["time"]), times))
    for at, raw in zip(near, raw_cells(chunk.take(near)), strict=True):
        cells = json.loads(raw)
        for other, moment in before.get(_key(cells), ()):
            if all(cells[name] == other[name] for name in cells.keys() & other.keys()):
                latest[at] = min(latest[at], moment + limit.ahead)
    return latest


def _first_read(
    table: DeltaTable, refused: Iterator[pa.RecordBatch]
) -> tuple[dict[str, int], list[int]]:
    """When the cells of refused rows were first read; the rows' times."""
    first: dict[str, int] = {}
    times: set[int] = set()
    read_at: dict[str, int | None] = {}
    for batch in refused:
        times.update(batch["time"].cast(pa.int64()).to_pylist())
        contents, cells = batch["content_id"].to_pylist(), batch["raw"].to_pylist()
        for content_id, raw in zip(contents, cells, strict=True):
            if content_id not in read_at:  # each look is one into the log
                read_at[content_id] = transaction_number(table, READ_AT + content_id)
            if (moment := read_at[content_id]) is not None:
                first[raw] = min(moment, first.get(raw, moment))
    return first, sorted(times)


def _key(cells: Cells) -> tuple[str | None, ...]:
    """What tells readings apart, in a long table the tag too."""
    return tuple(cells.get(name) for name in ("asset", "time", "sensor"))


def is_ahead(times: pa.Array | pa.ChunkedArray, latest: Moments | int) -> Mask:
    """(n,) which moments lie after the last one that a row may have, in microseconds since 1970.

    Examples
    --------
    >>> is_ahead(pa.array([1, 9, None], MOMENT), 5)
    array([False,  True, False])
    """
    return as_mask(pc.greater(times, _as_moments(latest, len(times))))


def refused_ahead(ahead: pa.Table, latest: Moments | int) -> pa.Table:
    """Rows after that moment, as the quarantine has them."""
    moments = _as_moments(latest, ahead.num_rows).to_pylist()
    details = [
        f"{time:%Y-%m-%d %H:%M:%S} UTC lies after {last:%Y-%m-%d %H:%M:%S} UTC, the moment of "
        f"ingest and source.max_ahead_s; {LOOK_AT}"
        for time, last in zip(ahead["time"].to_pylist(), moments, strict=True)
    ]
    return refused_readings(ahead, TIME_AHEAD, details)


def _as_moments(latest: Moments | int, n_rows: int) -> pa.Array:
    return pa.array(np.broadcast_to(latest, n_rows).astype(np.int64)).cast(MOMENT)
