"""Which cells count: quality codes, texts that mean no value, and what became of every cell.

A cell ends in exactly one state: *value*; *empty*; *text* (it says that there is no value, as
``I/O Timeout`` does); *quality* (its code is not a good one); *refused* (its row is in the
quarantine because of it). The states of a sensor add up to the rows that were read. In a long table
there are also cells of tags that the contract does not name: they are counted by tag, as *unused*,
and belong to no sensor.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Quality
from vae_anomaly.data.cells import (
    SPACES,
    Mask,
    Read,
    as_mask,
    as_texts,
    decode_texts,
    means_missing,
)

__all__ = [
    "STATES",
    "Cell",
    "CellCounts",
    "Codes",
    "count_cells",
    "read_codes",
    "with_bad_cells",
]

#: What a cell can become; the first is the good one.
STATES = ("value", "empty", "text", "quality", "refused")

#: A column with more codes than these is no column of codes; the rest is counted together.
MOST_CODES = 50
OTHER_CODES = "other codes"


class Cell(NamedTuple):
    """What became of some cells of a sensor; `text` is the text, the code or the reason."""

    sensor: str
    state: str
    text: str = ""


#: How many cells became what.
CellCounts = Counter[Cell]


class Codes(NamedTuple):
    """A column of quality codes: each as a text, and whether it is a good one."""

    texts: pa.Array
    is_good: Mask


def read_codes(cells: pa.Array, quality: Quality) -> Codes:
    """Codes of a column of any type; an empty cell is no good code.

    Examples
    --------
    >>> read_codes(pa.array([192, 0, None]), Quality(good=("192",))).is_good.tolist()
    [True, False, False]
    """
    if pa.types.is_floating(cells.type) and pc.all(pc.equal(cells, pc.floor(cells))).as_py():
        cells = cells.cast(pa.int64(), safe=False)
    texts = pc.utf8_trim(pa.array(as_texts(cells), pa.string()), SPACES)
    good = pa.array([code.lower() for code in quality.good], pa.string())
    return Codes(pc.fill_null(texts, ""), as_mask(pc.is_in(pc.utf8_lower(texts), good)))


def count_cells(read: Read, codes: Codes | None, is_row: Mask) -> CellCounts:
    """What became of a sensor's cells.

    Parameters
    ----------
    read : Read
        The column as it was understood.
    codes : Codes, optional
        Quality codes of the column's cells, where it has any.
    is_row : Mask
        Lines that were rows; the others have no cells.
    """
    counts: CellCounts = Counter()
    left = is_row.copy()

    def take(state: str, mask: Mask, text: str = "") -> None:
        nonlocal left
        n = int(np.count_nonzero(mask & left))
        if n:
            counts[Cell(read.column, state, text)] += n
            left &= ~mask

    if codes is not None:
        counts += _by_text(read.column, "quality", codes.texts, left & ~codes.is_good)
        left &= codes.is_good
    for reason, mask in read.faults.items():
        take("refused", mask, reason)
    if read.no_value is not None:
        said = left & as_mask(read.no_value.is_valid())
        counts += _by_text(read.column, "text", read.no_value, said)
        left &= ~said
    take("empty", as_mask(read.values.is_null()))
    take("value", left)
    return counts


def with_bad_cells(read: Read, cells: pa.Array, codes: Codes | None) -> Read:
    """A column of float64 in which NaN says that a cell tells of a fault, null that it is empty.

    A table that was merged of tags of several rates has empty cells where a tag has no sample: they
    say nothing of the sensor. A code that is not good does, and so does a text such as ``Bad``; not
    so NaN and N/A, which are how programs write an empty cell.

    Parameters
    ----------
    read : Read
        The column as it was understood.
    cells : pa.Array
        The column as `as_plain` gives it.
    codes : Codes, optional
        Quality codes of the column's cells; where cell and code are empty, there is no sample.
    """
    is_bad = np.zeros(len(cells), bool)
    if read.no_value is not None:
        is_bad |= ~as_mask(means_missing(read.no_value))
    if codes is not None:
        is_said = as_mask(pc.not_equal(codes.texts, "")) | _is_there(cells)
        is_bad |= ~codes.is_good & is_said
    if not is_bad.any():
        return read
    return read._replace(values=pc.if_else(pa.array(is_bad), np.nan, read.values))


def _is_there(cells: pa.Array) -> Mask:
    """Cells in which anything stands."""
    if pa.types.is_binary(cells.type):
        return ~as_mask(means_missing(pc.utf8_trim(decode_texts(cells), SPACES)))
    if pa.types.is_floating(cells.type):
        return as_mask(pc.invert(pc.is_nan(cells)))
    return as_mask(cells.is_valid())


def _by_text(sensor: str, state: str, texts: pa.Array, mask: Mask) -> CellCounts:
    counts: CellCounts = Counter()
    found = texts.filter(pa.array(mask)).value_counts().to_pylist()
    found.sort(key=lambda entry: (-entry["counts"], entry["values"]))
    for place, entry in enumerate(found):
        text = entry["values"] if place < MOST_CODES else OTHER_CODES
        counts[Cell(sensor, state, text)] += entry["counts"]
    return counts
