"""The rows that stand before new ones: what windows and smoothing look back on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.data.lake import rows
from vae_anomaly.data.windows import sorted_readings

__all__ = ["with_left_context"]

#: Seconds to look back at first, where the plant states no longest gap; grows by GROWTH.
FIRST_LOOK_S, GROWTH = 3600.0, 8


@dataclass(frozen=True)
class _Spans:
    """First and last time of each asset's new rows, in microseconds."""

    assets: pa.Array
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, fresh: pa.Table) -> _Spans:
        table = fresh.group_by("asset").aggregate([("time", "min"), ("time", "max")])
        first, last = (table[f"time_{end}"].cast(pa.int64()).to_numpy() for end in ("min", "max"))
        return cls(table["asset"].combine_chunks(), first, last)


def with_left_context(
    readings: DeltaTable, fresh: pa.Table, left_context: int, max_gap_s: float | None
) -> pa.Table:
    """New rows among the older ones that their windows and smoothing look back on.

    Parameters
    ----------
    readings : DeltaTable
        At a version that holds the new rows.
    fresh : pa.Table
        New rows, with the columns of `readings` and perhaps more.
    left_context : int
        Rows of the same asset that must stand before a row.
    max_gap_s : float, optional
        A longer gap ends a series, so nothing before it is looked for.

    Returns
    -------
    pa.Table
        Sorted by asset and time, with a column `_fresh`.
    """
    table = fresh.append_column("_fresh", pa.repeat(True, fresh.num_rows))
    if left_context and fresh.num_rows:
        known = _known_rows(readings, fresh, left_context, max_gap_s)
        known = known.append_column("_fresh", pa.repeat(False, known.num_rows))
        table = pa.concat_tables([table, known], promote_options="default")
        table = sorted_readings(table)
        return table.filter(pa.array(_needed(table, left_context)))
    return sorted_readings(table)


def _known_rows(
    readings: DeltaTable, fresh: pa.Table, left_context: int, max_gap_s: float | None
) -> pa.Table:
    """Older rows of the same assets, from far enough back to the last new row of each."""
    spans = _Spans.of(fresh)
    oldest = _oldest(readings)
    look_s = FIRST_LOOK_S if max_gap_s is None else max_gap_s * left_context
    while True:
        since = int(spans.first.max() - look_s * 1e6)  # as far as any asset is looked back
        known = _read(readings, spans, look_s, pc.min(fresh["ingest"]).as_py())
        if max_gap_s is not None or since <= oldest or _enough(known, spans, left_context):
            return known
        look_s *= GROWTH


def _read(readings: DeltaTable, spans: _Spans, look_s: float, ingest: int) -> pa.Table:
    look = int(look_s * 1e6)
    where = (
        (pc.field("time") >= _time(int(spans.first.min()) - look))
        & (pc.field("time") <= _time(int(spans.last.max())))
        & pc.field("asset").isin(spans.assets)
        & (pc.field("ingest") < ingest)
    )
    pieces = []
    for batch in rows(readings, where=where):
        at = pc.index_in(batch["asset"], value_set=spans.assets).to_numpy()
        moment = batch["time"].cast(pa.int64()).to_numpy()
        near = (moment >= spans.first[at] - look) & (moment <= spans.last[at])
        pieces.append(batch.filter(pa.array(near)))
    schema = pa.schema(readings.schema().to_arrow())
    return pa.Table.from_batches(pieces) if pieces else schema.empty_table()


def _enough(known: pa.Table, spans: _Spans, left_context: int) -> bool:
    """Whether every asset has its rows before the first new one."""
    at = pc.index_in(known["asset"], value_set=spans.assets).to_numpy()
    before = known["time"].cast(pa.int64()).to_numpy() < spans.first[at]
    counts = np.bincount(at[before], minlength=len(spans.assets))
    return bool((counts >= left_context).all())


def _needed(table: pa.Table, left_context: int) -> np.ndarray:
    """(n,) whether a row is new, or one of the `left_context` rows before a new one."""
    fresh = table["_fresh"].to_numpy()
    at = np.arange(len(fresh))
    following = np.where(fresh, at, len(fresh) + left_context)
    following = np.minimum.accumulate(following[::-1])[::-1]
    return following - at <= left_context


def _oldest(readings: DeltaTable) -> int:
    """Microseconds of the oldest row, from the statistics of the data files."""
    actions = pa.table(readings.get_add_actions(flatten=True))
    return int(pc.min(actions["min.time"].cast(pa.timestamp("us", "UTC"))).cast(pa.int64()).as_py())


def _time(microseconds: int) -> pa.Scalar:
    return pa.scalar(microseconds, pa.timestamp("us", "UTC"))
