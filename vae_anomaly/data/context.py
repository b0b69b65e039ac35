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


@dataclass(frozen=True)
class _Reach:
    """How far back of a new row others are needed: rows, and from there on microseconds."""

    left_context: int
    max_gap_s: float | None
    look_back: int

    def is_in(self, times: np.ndarray, first: int) -> bool:
        """Whether rising times hold all that is needed before a row."""
        there = int(np.searchsorted(times, first))
        if there < self.left_context or not self.look_back:
            return there >= self.left_context
        earliest = times[there - self.left_context] if self.left_context else first
        return bool(there and times[0] <= earliest - self.look_back)


def with_left_context(
    readings: DeltaTable,
    fresh: pa.Table,
    left_context: int,
    max_gap_s: float | None,
    look_back_s: float = 0.0,
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
    look_back_s : float, optional
        Seconds before each of all these rows that must be there too, and one row more: they say
        whether a machine has been running for so long.

    Returns
    -------
    pa.Table
        Sorted by asset and time, with a column `_fresh`.
    """
    table = fresh.append_column("_fresh", pa.repeat(True, fresh.num_rows))
    reach = _Reach(left_context, max_gap_s, int(look_back_s * 1e6))
    if (left_context or look_back_s) and fresh.num_rows:
        spans = _Spans.of(fresh)
        before = pc.min(fresh["ingest"]).as_py()  # numbers rise: what is lower was there before
        times = _known_times(readings, spans, before, reach)
        needed = {
            asset: _needed(known, _times_of(fresh, asset), left_context, reach.look_back)
            for asset, known in times.items()
        }
        known = _read(readings, needed, before)
        known = known.append_column("_fresh", pa.repeat(False, known.num_rows))
        table = pa.concat_tables([table, known], promote_options="default")
    return sorted_readings(table)


def _known_times(
    readings: DeltaTable, spans: _Spans, before: int, reach: _Reach
) -> dict[str, np.ndarray]:
    """Rising times of the older rows of each asset, from far enough back to its last new row."""
    found: dict[str, np.ndarray] = {}
    oldest = _oldest(readings)
    look_s = FIRST_LOOK_S + reach.look_back / 1e6
    if reach.max_gap_s is not None:
        look_s = reach.max_gap_s * (reach.left_context + bool(reach.look_back))
        look_s += reach.look_back / 1e6
    waiting = spans
    while len(waiting.assets):
        times = _times_within(readings, waiting, int(look_s * 1e6), before)
        enough = np.array(
            [
                reach.max_gap_s is not None
                or first - look_s * 1e6 <= oldest
                or reach.is_in(times[asset], first)
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


def _needed(
    known: np.ndarray, fresh: np.ndarray, left_context: int, look_back: int = 0
) -> np.ndarray:
    """Known times among the `left_context` rows before a new one, and `look_back` before those."""
    times = np.concatenate([known, fresh])
    is_fresh = np.repeat([False, True], [len(known), len(fresh)])
    order = np.argsort(times, kind="stable")
    at = np.arange(len(times))
    following = np.where(is_fresh[order], at, len(times) + left_context)
    following = np.minimum.accumulate(following[::-1])[::-1]
    keep = following - at <= left_context
    rising = times[order]
    if look_back:
        first = np.searchsorted(rising, rising[keep] - look_back, side="right") - 1
        change = np.zeros(len(times) + 1, np.int64)
        np.add.at(change, np.maximum(first, 0), 1)
        np.add.at(change, np.flatnonzero(keep), -1)
        keep = keep | (np.cumsum(change)[:-1] > 0)
    needed: np.ndarray = rising[keep & ~is_fresh[order]]
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
