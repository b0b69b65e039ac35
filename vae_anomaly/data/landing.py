"""Checked rows of a file → readings (or samples) and quarantine, each exactly once.

The commit to `readings` decides, alone: a row is *accepted* when `readings` holds it under this
content and row number. What is left of a chunk is thereby a *duplicate* (the same key and values
stand there already) or *conflicting* (other values; the first stays). So whoever is killed between
two commits, or meets a rival, looks again and comes to the same result. Rows that lie too far after
the moment of reading are refused as `time_ahead`; the commit that first leaves such a row out notes
that moment for the content, and every later attempt goes by it.

Where readings are formed from samples, all this is said of `samples` instead, and in a long table
the key of a row is its asset, tag and time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import Limit
from vae_anomaly.data.ahead import NO_LIMIT, READ_AT, limits
from vae_anomaly.data.contract import Checked
from vae_anomaly.data.duplicates import Sorted, told_apart
from vae_anomaly.data.lake import (
    INGEST,
    QUARANTINE,
    Lake,
    commit,
    rows,
    transaction_number,
    until_committed,
)

__all__ = ["CHUNK_ROWS", "LONG_CHUNK_ROWS", "Counts", "land"]

#: Rows of one commit: memory stays flat, and a commit costs little beside them.
CHUNK_ROWS = 100_000

#: Rows of a long table hold one value each.
LONG_CHUNK_ROWS = 500_000


@dataclass(frozen=True)
class Counts:
    """What became of the rows that were read; the three add up to the first."""

    n_read: int = 0
    n_accepted: int = 0
    n_quarantined: int = 0
    n_duplicate: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.n_read + other.n_read,
            self.n_accepted + other.n_accepted,
            self.n_quarantined + other.n_quarantined,
            self.n_duplicate + other.n_duplicate,
        )

    @property
    def complete(self) -> bool:
        return self.n_read == self.n_accepted + self.n_quarantined + self.n_duplicate


def land(
    lake: Lake,
    checked: Checked,
    *,
    content_id: str,
    path: str,
    last_row: int,
    limit: Limit = NO_LIMIT,
    comes_again: bool = False,
) -> Counts:
    """Append one chunk of a file to the lake, unless an earlier attempt did.

    Parameters
    ----------
    lake : Lake
        Where `readings` and `quarantine` are.
    checked : Checked
        The chunk, accepted and rejected by the contract.
    content_id : str
        Hash of the file's content and the contract.
    path : str
        The file, for the quarantine.
    last_row : int
        Number of the chunk's last row within the file.
    limit : Limit
        How far a row may lie after the moment of reading; a moment that an earlier attempt noted
        for this content holds in its place. By default, as far as one likes.
    comes_again : bool
        Rows of this path may have been read before, under other numbers: one that is refused for
        the same reason with the same cells is a duplicate.

    Returns
    -------
    Counts
        Of all the chunk's rows, whichever attempt landed them.

    Raises
    ------
    LakeError
        Other processes committed first too many times.
    """
    result: list[Sorted] = []

    def attempt() -> bool:
        table = lake.writable(lake.landing)
        noted = transaction_number(table, READ_AT + content_id)
        own = limit if noted is None else replace(limit, now=noted)
        latest = limits(lake, table, checked.accepted, path, own)
        told = told_apart(table, checked.accepted, content_id, latest=latest)
        result[:] = [told]
        is_first = noted is None and told.ahead.num_rows > 0
        if not told.fresh.num_rows and not is_first:
            return True
        number = (transaction_number(table, INGEST) or 0) + 1
        landed = max(last_row, transaction_number(table, content_id) or 0)
        data = _with_provenance(told.fresh, table, content_id, number)
        numbers = {INGEST: number, content_id: landed}
        if is_first:
            numbers[READ_AT + content_id] = limit.now
        return commit(table, data, numbers)

    until_committed(attempt)
    told = result[0]
    refused = pa.concat_tables([checked.rejected, told.conflicting, told.ahead])
    n_refused, n_again = refused.num_rows, 0
    if n_refused and comes_again:
        news: list[pa.Table] = []
        until_committed(lambda: _quarantine_once(lake, refused, content_id, path, news))
        n_again = n_refused - news[-1].num_rows
    elif n_refused:
        until_committed(lambda: _quarantine(lake, refused, content_id, path, last_row))
    return Counts(
        n_read=checked.accepted.num_rows + checked.rejected.num_rows,
        n_accepted=told.fresh.num_rows + told.n_there,
        n_quarantined=n_refused - n_again,
        n_duplicate=told.n_duplicate + n_again,
    )


def _quarantine(lake: Lake, refused: pa.Table, content_id: str, path: str, last_row: int) -> bool:
    table = lake.writable(QUARANTINE)
    landed = transaction_number(table, content_id) or 0
    refused = refused.filter(pc.field("row") > landed)
    if not refused.num_rows:
        return True
    return commit(table, _as_quarantine(lake, refused, content_id, path), {content_id: last_row})


def _quarantine_once(
    lake: Lake, refused: pa.Table, content_id: str, path: str, news: list[pa.Table]
) -> bool:
    """Quarantine those rows that the path's quarantine does not hold; `news` gets this pull's."""
    table = lake.writable(QUARANTINE)
    number = (transaction_number(table, path) or 0) + 1
    columns = ["content_id", "row", "reason", "raw"]
    where = (pc.field("path") == path) & pc.field("raw").isin(pc.unique(refused["raw"]))
    there: dict[tuple[str, str], tuple[str, int]] = {}
    for batch in rows(table, columns=columns, where=where):
        for row in batch.to_pylist():
            there[row["reason"], row["raw"]] = (row["content_id"], row["row"])
    is_fresh = np.zeros(refused.num_rows, bool)
    is_own = np.zeros(refused.num_rows, bool)
    cells = zip(*(refused[name].to_pylist() for name in ("reason", "raw", "row")), strict=True)
    for at, (reason, raw, row) in enumerate(cells):
        is_fresh[at] = (reason, raw) not in there
        first = there.setdefault((reason, raw), (content_id, row))
        is_own[at] = first == (content_id, row)
    news.append(refused.filter(pa.array(is_own)))
    fresh = refused.filter(pa.array(is_fresh))
    if not fresh.num_rows:
        return True
    return commit(table, _as_quarantine(lake, fresh, content_id, path), {path: number})


def _as_quarantine(lake: Lake, refused: pa.Table, content_id: str, path: str) -> pa.Table:
    now = datetime.now(UTC)
    data = _with_constant(refused, "content_id", pa.scalar(content_id))
    data = _with_constant(data, "path", pa.scalar(path))
    data = _with_constant(data, "quarantined_at", pa.scalar(now, pa.timestamp("us", "UTC")))
    schema = lake.schema(QUARANTINE)
    return data.select(schema.names).cast(schema)


def _with_provenance(fresh: pa.Table, table: DeltaTable, content_id: str, number: int) -> pa.Table:
    data = _with_constant(fresh, "content_id", pa.scalar(content_id))
    data = _with_constant(data, "ingest", pa.scalar(number, pa.int64()))
    schema = pa.schema(table.schema().to_arrow())
    for field in schema:  # columns of an earlier contract
        if field.name not in data.column_names:
            data = _with_constant(data, field.name, pa.scalar(None, field.type))
    return data.select(schema.names).cast(schema)


def _with_constant(table: pa.Table, name: str, value: pa.Scalar) -> pa.Table:
    return table.append_column(name, pa.repeat(value, table.num_rows))
