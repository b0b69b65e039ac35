"""Rows of a chunk told apart by what the table holds: fresh, landed, the same, or conflicting.

Rows are of one key when their asset and time are equal, in a long table their tag too. The first
row of a key stays, whatever comes after it. Rows ahead of their time are none of these, unless an
earlier attempt has landed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import ANY_TIME
from vae_anomaly.data.ahead import Moments, is_ahead, refused_ahead
from vae_anomaly.data.lake import rows, rows_before
from vae_anomaly.data.refusals import refused_readings
from vae_anomaly.data.times import microseconds

__all__ = ["Sorted", "told_apart"]

#: Columns of names that, with the time, tell rows apart.
KEYS = ("asset", "sensor")


@dataclass(frozen=True)
class Sorted:
    """A chunk's valid rows, told apart by what `readings` holds."""

    fresh: pa.Table  # not there yet: to be appended
    n_there: int  # there already, under this content and row: landed by an earlier attempt
    n_duplicate: int  # there already, with the same values
    conflicting: pa.Table  # there already, with other values; as the quarantine has them
    ahead: pa.Table  # after the last moment that it may have; as the quarantine has them


def told_apart(
    table: DeltaTable, chunk: pa.Table, content_id: str, *, latest: Moments | int = ANY_TIME
) -> Sorted:
    """Tell a chunk's fresh rows from those that `readings`, or the chunk itself, has already.

    Parameters
    ----------
    table : DeltaTable
        The readings, or samples.
    chunk : pa.Table
        Rows that keep the contract.
    content_id : str
        Whose rows they are.
    latest : (n,) int64 or int
        Last moment that each row may have, in microseconds since 1970.
    """
    chunk = chunk.combine_chunks()
    n = chunk.num_rows
    if not n:
        return Sorted(chunk, 0, 0, _conflicting(chunk), refused_ahead(chunk, latest))
    keys = _Keys.of(chunk)
    mine = np.zeros(n, bool)
    rival = np.zeros(n, bool)  # the key is taken by another row of the table
    same = np.zeros(n, bool)  # ... which has the same values
    names = [name for name in chunk.column_names if name not in (*KEYS, "time", "row")]
    values = {name: rows_before(table, name) for name in names}
    for near in _there(table, chunk):
        at, found = keys.find(near)  # (m,) place of each row's key
        there = near.filter(pa.array(found))
        if not there.num_rows:
            continue
        own = pc.equal(there["content_id"], content_id).to_numpy(zero_copy_only=False)
        its_row = there["row"].to_numpy()
        every, source = keys.with_key_of(at[found])  # each chunk row of these keys
        own_row = own[source] & (its_row[source] == chunk["row"].to_numpy()[every])
        mine[every[own_row]] = True
        rival[every[~own_row]] = True
        equal = _equal(chunk.take(every), there.take(source), values)
        same[every[equal & ~own_row]] = True
    ahead = is_ahead(chunk["time"], latest) & ~mine
    first = keys.first_of_each(~ahead)  # (n,) row of the chunk that came first with this key
    inside = (first != np.arange(n)) & ~mine  # a later row of the chunk with the same key
    alike = _equal(chunk, chunk.take(first), dict.fromkeys(values, 0))
    same[inside & ~rival] = alike[inside & ~rival]
    taken = (rival | inside) & ~mine & ~ahead
    fresh = chunk.filter(pa.array(~taken & ~mine & ~ahead))
    conflicting = _conflicting(chunk.filter(pa.array(taken & ~same)))
    n_duplicate = int((taken & same).sum())
    too_soon = refused_ahead(chunk.filter(pa.array(ahead)), np.broadcast_to(latest, n)[ahead])
    return Sorted(fresh, int(mine.sum()), n_duplicate, conflicting, too_soon)


@dataclass(frozen=True)
class _Keys:
    """The keys of a chunk's rows, (asset, time) or (asset, tag, time), as one number each."""

    known: dict[str, pa.Array]  # the chunk's distinct assets, and tags in a long table
    times: np.ndarray  # its distinct times, rising
    code: np.ndarray  # (n,) one number a key
    order: np.ndarray  # rows by (code, row)

    @classmethod
    def of(cls, chunk: pa.Table) -> _Keys:
        known = {name: pc.unique(chunk[name]) for name in KEYS if name in chunk.column_names}
        moments = microseconds(chunk["time"])
        times = np.unique(moments)
        code = _codes(chunk, known) * len(times) + np.searchsorted(times, moments)
        return cls(known, times, code, np.argsort(code, kind="stable"))

    def first_of_each(self, among: np.ndarray) -> np.ndarray:
        """(n,) for each row among some, the first of them with the same key; else the row."""
        order = self.order[among[self.order]]
        sorted_code = self.code[order]
        starts = np.flatnonzero(np.diff(sorted_code, prepend=-1))
        first = np.arange(len(self.code))
        first[order] = np.repeat(order[starts], np.diff(starts, append=len(order)))
        return first

    def find(self, there: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(m,) place in `order` of the first row with the key of each row there; (m,) found."""
        series = _codes(there, self.known)
        moment = microseconds(there["time"])
        rank = np.searchsorted(self.times, moment).clip(max=len(self.times) - 1)
        code = series * len(self.times) + rank
        sorted_code = self.code[self.order]
        at = np.searchsorted(sorted_code, code).clip(max=len(sorted_code) - 1)
        return at, (series >= 0) & (self.times[rank] == moment) & (sorted_code[at] == code)

    def with_key_of(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every row of the chunk with the keys at these places, and the place each came from."""
        sorted_code = self.code[self.order]
        ends = np.searchsorted(sorted_code, sorted_code[at], side="right")
        lengths = ends - at
        source = np.repeat(np.arange(len(at)), lengths)
        offset = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.order[at[source] + offset], source


def _there(table: DeltaTable, chunk: pa.Table) -> Iterator[pa.Table]:
    """Rows of `readings` within the chunk's assets and times, streamed."""
    span = pc.min_max(chunk["time"])
    where = (
        (pc.field("time") >= span["min"])
        & (pc.field("time") <= span["max"])
        & pc.field("asset").isin(pc.unique(chunk["asset"]))
    )
    if "sensor" in chunk.column_names:  # a range, for statistics rule out by it
        tags = pc.min_max(chunk["sensor"])
        where &= (pc.field("sensor") >= tags["min"]) & (pc.field("sensor") <= tags["max"])
    columns = [*chunk.column_names, "content_id", "ingest"]
    known = {field.name for field in table.schema().fields}
    for batch in rows(table, columns=[name for name in columns if name in known], where=where):
        yield pa.Table.from_batches([batch])


def _equal(left: pa.Table, right: pa.Table, columns: dict[str, int]) -> np.ndarray:
    """(n,) whether two rows agree in every column; missing agrees with missing.

    A column comes with the last ingest before it was there: a row of the table on the right that
    is as old says nothing of it, and agrees.
    """
    equal = np.ones(left.num_rows, bool)
    for name, since in columns.items():
        a, b = left[name], right[name]
        both = pc.fill_null(pc.equal(a, b), False)
        if pa.types.is_floating(a.type):  # a bad sample is as bad as another
            both = pc.or_(both, pc.fill_null(pc.and_(pc.is_nan(a), pc.is_nan(b)), False))
        neither = pc.and_(pc.is_null(a), pc.is_null(b))
        agrees = pc.or_(both, neither).to_numpy(zero_copy_only=False)
        equal &= agrees | (right["ingest"].to_numpy() <= since) if since else agrees
    return equal


def _conflicting(rows_out: pa.Table) -> pa.Table:
    """The rows that other values of the same key keep out, as the quarantine has them."""
    key = "asset, time and tag" if "sensor" in rows_out.column_names else "asset and time"
    detail = f"another row with this {key}, but other values, was there first and stays"
    return refused_readings(rows_out, "conflicting", [detail] * rows_out.num_rows)


def _codes(table: pa.Table, known: dict[str, pa.Array]) -> np.ndarray:
    """(n,) a number for the series of each row, −1 where it is none of the known ones."""
    codes = np.zeros(table.num_rows, np.int64)
    for name, names in known.items():
        place = pc.fill_null(pc.index_in(table[name], value_set=names), -1).to_numpy()
        codes = np.where((codes < 0) | (place < 0), -1, codes * len(names) + place)
    return codes
