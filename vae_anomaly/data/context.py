"""The rows that stand before new ones: what windows and smoothing look back on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.data.lake import as_timestamp, rows
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

    def only(self, chosen: np.ndarray) -> _Spans:
        """The spans of some of the assets."""
        return _Spans(self.assets.filter(pa.array(chosen)), self.first[chosen], self.last[chosen])


def with_left_context(
    readings: DeltaTable, fresh: pa.Table, left_context: int, max_gap_s: float | None
) -> pa.Table:
    """New rows among the older ones that their windows and smoothing look back on.

    First only times are read, then no more rows than are needed: memory stays flat, however far
    back a late row lies.

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
        spans = _Spans.of(fresh)
        before = pc.min(fresh["ingest"]).as_py()  # numbers rise: what is lower was there before
        times = _known_times(readings, spans, before, left_context, max_gap_s)
        needed = {
            asset: _needed(known, _times_of(fresh, asset), left_context)
            for asset, known in times.items()
        }
        known = _read(readings, needed, before)
        known = known.append_column("_fresh", pa.repeat(False, known.num_rows))
        table = pa.concat_tables([table, known], promote_options="default")
    return sorted_readings(table)


def _known_times(
    readings: DeltaTable, spans: _Spans, before: int, left_context: int, max_gap_s: float | None
) -> dict[str, np.ndarray]:
    """Rising times of the older rows of each asset, from far enough back to its last new row."""
    found: dict[str, np.ndarray] = {}
    oldest = _oldest(readings)
    look_s = FIRST_LOOK_S if max_gap_s is None else max_gap_s * left_context
    waiting = spans
    while len(waiting.assets):
        times = _times_within(readings, waiting, int(look_s * 1e6), before)
        enough = np.array(
            [
                max_gap_s is not None
                or first - look_s * 1e6 <= oldest
                or np.searchsorted(times[asset], first) >= left_context
                for asset, first in zip(waiting.assets.to_pylist(), waiting.first, strict=True)
            ]
        )
        found |= {a: times[a] for a in waiting.assets.filter(pa.array(enough)).to_pylist()}
        waiting = waiting.only(~enough)
        look_s *= GROWTH
    return found


def _times_within(
    readings: DeltaTable, spans: _Spans, look: int, before: int
) -> dict[str, np.ndarray]:
    """Rising times of the older rows of each asset, from `look` before its first new row on."""
    names = spans.assets.to_pylist()
    found: dict[str, list[np.ndarray]] = {name: [np.zeros(0, np.int64)] for name in names}
    where = _between(spans.assets, int(spans.first.min()) - look, int(spans.last.max()), before)
    for batch in rows(readings, columns=["asset", "time"], where=where):
        at = pc.index_in(batch["asset"], value_set=spans.assets).to_numpy()
        moment = batch["time"].cast(pa.int64()).to_numpy()
        near = (moment >= spans.first[at] - look) & (moment <= spans.last[at])
        for number in np.unique(at[near]):
            found[names[number]].append(moment[near & (at == number)])
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in found.items()}


def _needed(known: np.ndarray, fresh: np.ndarray, left_context: int) -> np.ndarray:
    """Those of the known times that are among the `left_context` rows before a new one."""
    times = np.concatenate([known, fresh])
    is_fresh = np.repeat([False, True], [len(known), len(fresh)])
    order = np.argsort(times, kind="stable")
    at = np.arange(len(times))
    following = np.where(is_fresh[order], at, len(times) + left_context)
    following = np.minimum.accumulate(following[::-1])[::-1]
    keep = (following - at <= left_context) & ~is_fresh[order]
    needed: np.ndarray = times[order][keep]
    return needed


def _read(readings: DeltaTable, needed: dict[str, np.ndarray], before: int) -> pa.Table:
    """The older rows of these assets and times."""
    wanted = {asset: times for asset, times in needed.items() if len(times)}
    schema = pa.schema(readings.schema().to_arrow())
    if not wanted:
        return schema.empty_table()
    assets = pa.array(list(wanted), pa.string())
    first = min(int(times[0]) for times in wanted.values())
    last = max(int(times[-1]) for times in wanted.values())
    pieces = []
    for batch in rows(readings, where=_between(assets, first, last, before)):
        asset = np.asarray(batch["asset"].to_pylist(), dtype=object)
        moment = batch["time"].cast(pa.int64()).to_numpy()
        keep = np.zeros(len(moment), bool)
        for name in set(asset.tolist()):
            own = asset == name
            keep[own] = np.isin(moment[own], wanted[name])
        pieces.append(batch.filter(pa.array(keep)))
    return pa.Table.from_batches(pieces) if pieces else schema.empty_table()


def _between(assets: pa.Array, first: int, last: int, before: int) -> pc.Expression:
    return (
        (pc.field("time") >= as_timestamp(first))
        & (pc.field("time") <= as_timestamp(last))
        & pc.field("asset").isin(assets)
        & (pc.field("ingest") < before)
    )


def _times_of(fresh: pa.Table, asset: str) -> np.ndarray:
    own = fresh.filter(pc.field("asset") == asset)
    times: np.ndarray = own["time"].cast(pa.int64()).to_numpy()
    return times


def _oldest(readings: DeltaTable) -> int:
    """Microseconds of the oldest row, from the statistics of the data files."""
    actions = pa.table(readings.get_add_actions(flatten=True))
    return int(pc.min(actions["min.time"].cast(pa.timestamp("us", "UTC"))).cast(pa.int64()).as_py())
