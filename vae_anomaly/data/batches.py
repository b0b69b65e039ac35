"""Batches as every reader of files makes them: their columns, their size, and how reading fails.

A batch has the file's columns and two of ours: ``_row`` (int64), the number of the data row in its
file, and ``_broken`` (string), the text of a line that does not have the header's columns.
"""

from __future__ import annotations

import lzma
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from vae_anomaly.errors import SourceError

__all__ = [
    "MAX_BATCH_BYTES",
    "OWN",
    "UNREADABLE",
    "checked_names",
    "gathered",
    "numbered",
    "sliced",
    "until_failure",
]

#: Columns of a batch that are ours.
OWN = ("_row", "_broken")

#: As many columns as a spreadsheet may have.
MAX_COLUMNS = 1 << 14
#: Bytes that a batch may hold; wide or heavy rows come in smaller batches.
MAX_BATCH_BYTES = 1 << 26

#: Bytes of the pieces that batches are gathered from, beside which a batch is large.
PIECE_BYTES = 1 << 22

#: What a file that cannot be read makes its reader raise.
UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    UnicodeError,
    pa.ArrowException,
    MemoryError,
)

Part = TypeVar("Part")


def checked_names(names: list[str]) -> list[str]:
    """Column names, each once; a nameless column is called by its place."""
    if len(names) > MAX_COLUMNS:
        raise SourceError(f"its header has {len(names):,} columns; at most {MAX_COLUMNS:,} can be")
    names = [name or f"column {place}" for place, name in enumerate(names, 1)]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise SourceError(f"its header has column '{name}' {times} times; rename or remove some")
    taken = sorted(set(names) & set(OWN))
    if taken:
        raise SourceError(f"its column '{taken[0]}' has a name that is ours; rename it")
    return names


def numbered(
    columns: Sequence[pa.Array], names: Sequence[str], first: int, broken: pa.Array
) -> pa.RecordBatch:
    """A batch with our two columns beside the file's."""
    rows = pa.array(np.arange(first, first + len(broken), dtype=np.int64))
    return pa.RecordBatch.from_arrays([*columns, rows, broken], [*names, *OWN])


def until_failure(parts: Iterator[Part], failures: list[Exception]) -> Iterator[Part]:
    """The parts that come; what ends them is put aside, so that they are delivered first."""
    try:
        yield from parts
    except (SourceError, *UNREADABLE) as error:
        failures.append(error)


def gathered(blocks: Iterator[pa.RecordBatch], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Blocks of any size as batches of `batch_rows` rows, or of fewer that are heavy.

    Of the empty blocks, one is left where nothing else comes. What ends the blocks is raised behind
    the rows before it.
    """
    failures: list[Exception] = []
    held: list[pa.RecordBatch] = []
    for block in until_failure(blocks, failures):
        held.append(block)
        n_rows = sum(part.num_rows for part in held)
        if n_rows >= batch_rows or sum(part.nbytes for part in held) >= MAX_BATCH_BYTES:
            whole = pa.concat_batches(held)
            n_full = n_rows - n_rows % batch_rows or n_rows
            yield from (whole.slice(at, batch_rows) for at in range(0, n_full, batch_rows))
            held = [whole.slice(n_full)]
    if held and (not failures or any(part.num_rows for part in held)):
        yield pa.concat_batches(held)
    if failures:
        raise failures[0]


def sliced(batch: pa.RecordBatch, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Pieces of a batch of at most so many rows and about so many bytes as can be gathered well."""
    heaviest = max(batch.nbytes / max(batch.num_rows, 1), 1)
    n_rows = int(min(max(PIECE_BYTES / heaviest, 1), batch_rows))
    for at in range(0, batch.num_rows, n_rows):
        yield batch.slice(at, n_rows)
