"""Batches as every reader of files makes them: their columns, their size, and how reading fails.

A batch has the file's columns and two of ours: ``_row`` (int64), the number of the data row in its
file, and ``_broken`` (string), the text of a line that does not have the header's columns.
"""

from __future__ import annotations

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
    "numbered",
    "until_failure",
]

#: Columns of a batch that are ours.
OWN = ("_row", "_broken")

#: As many columns as a spreadsheet may have.
MAX_COLUMNS = 1 << 14
#: Bytes that a batch may hold; wide or heavy rows come in smaller batches.
MAX_BATCH_BYTES = 1 << 26

#: What a file that cannot be read makes its reader raise.
UNREADABLE = (OSError, EOFError, zlib.error, UnicodeError, pa.ArrowException, MemoryError)

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
