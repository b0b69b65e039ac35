"""Cells of a column as texts, names, numbers and labels.

Each reader takes a whole column of any type that a source may have, texts as bytes, and says in
which rows it was not understood and why, by the codes of ``refusals.REASONS``. A column is read as
a whole where pyarrow can do that, and cell by cell, still vectorised, where it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Sensor

__all__ = [
    "SPACES",
    "Mask",
    "Read",
    "as_mask",
    "as_plain",
    "as_texts",
    "decode_texts",
    "means_missing",
    "read_category",
    "read_labels",
    "read_names",
    "read_numbers",
    "read_sensor",
]

#: Texts that stand for a missing value, in small letters.
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "nat", "null", "none")
#: What may surround a cell's text; the last one is the no-break space.
SPACES = " \t\r\n\v\f\u00a0"

NUMBERS = {
    sign: rf"^[+-]?(?:[0-9]+(?:[{sign}][0-9]*)?|[{sign}][0-9]+)(?:[eE][+-]?[0-9]+)?$"
    for sign in ".,"
}
INFINITE = r"(?i)^[+-]?inf(?:inity)?$"

Mask = npt.NDArray[np.bool_]


class Read(NamedTuple):
    """A column as it was understood, and the rows in which it was not.

    Attributes
    ----------
    column : str
        Its name in the file.
    values : pa.Array of shape (n,)
        What was understood; null where missing or not understood.
    faults : dict of str to Mask
        Reason → rows in which it applies.
    no_value : pa.Array of shape (n,), optional
        The text of each cell that says it has no value, null in the others; none if no cell does.
    """

    column: str
    values: pa.Array
    faults: dict[str, Mask]
    no_value: pa.Array | None = None


# ------------------------------------------------------------------------- texts, names, numbers


def as_plain(column: pa.Array) -> pa.Array:
    """A column without dictionary or extension; texts as the bytes that they claim to be texts."""
    if isinstance(column, pa.ExtensionArray):
        return as_plain(column.storage)
    if pa.types.is_dictionary(column.type):
        return as_plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(column.type):
        return as_plain(pc.run_end_decode(column))
    is_text = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
        pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary,
    )  # fmt: skip
    return column.cast(pa.binary()) if any(is_(column.type) for is_ in is_text) else column


def as_texts(column: pa.Array) -> list[str | None]:
    """Cells as texts, whatever they are."""
    cells = as_plain(column)
    if pa.types.is_binary(cells.type):
        return [
            None if c is None else c.decode("utf-8", "backslashreplace") for c in cells.to_pylist()
        ]
    try:
        texts: list[str | None] = cells.cast(pa.string()).to_pylist()
    except pa.ArrowException:  # a list or a structure
        try:
            texts = [None if cell is None else str(cell) for cell in cells.to_pylist()]
        except (ValueError, OverflowError):
            texts = [f"a value of type {cells.type}" for _ in cells]
    return texts


def decode_texts(cells: pa.Array) -> pa.Array:
    """Bytes as texts; bytes that are no text look like ``\\x81``, which nothing accepts."""
    try:
        return cells.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(as_texts(cells), pa.string())


def means_missing(trimmed: pa.Array, more: Sequence[str] = ()) -> pa.Array:
    """Whether a text without surrounding blanks stands for a missing value."""
    known = [*MISSING, *(text.lower() for text in more), None]
    return pc.is_in(pc.ascii_lower(trimmed), pa.array(known, pa.string()))


def as_mask(values: pa.Array) -> Mask:
    """Truths as an array; null is false."""
    mask: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return mask


def read_names(column: str, cells: pa.Array, *, missing: str | None = None) -> Read:
    """Names of assets or modes; where one is missing, the reason `missing` applies, if any."""
    is_bad = np.zeros(len(cells), dtype=bool)
    try:
        texts = cells.cast(pa.string())
    except pa.ArrowException:  # a type without texts, or bytes that are no text
        decoded = map(_utf8, cells.to_pylist()) if pa.types.is_binary(cells.type) else []
        texts = pa.array(list(decoded) or [None] * len(cells), pa.string())
        is_bad = as_mask(pc.and_(cells.is_valid(), texts.is_null()))
    trimmed = pc.utf8_trim(texts, SPACES)
    is_missing = means_missing(trimmed)
    faults = {"bad_text": is_bad}
    if missing is not None:
        faults[missing] = as_mask(is_missing) & ~is_bad
    return Read(column, pc.if_else(is_missing, None, trimmed), faults)


def _utf8(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def read_numbers(
    column: str, cells: pa.Array, decimal: str, *, truths: bool, no_value: Sequence[str] = ()
) -> Read:
    """Float64, null where missing; with `truths`, the texts true and false are 1 and 0.

    Texts of `no_value`, whatever their case, mean a missing value, as do NaN, N/A and the like.
    """
    kind = cells.type
    if pa.types.is_binary(kind):
        texts = decode_texts(cells)
        values = _whole_column(texts, decimal)
        if values is not None:
            return Read(column, values, {})
        return _cell_by_cell(column, texts, decimal, truths=truths, more=no_value)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        none = pa.nulls(len(cells), pa.float64())
        return Read(column, none, {"not_a_number": as_mask(cells.is_valid())})
    values = cells.cast(pa.float64(), safe=False)
    is_nan = pc.is_nan(values)
    said = pc.if_else(is_nan, "NaN", None) if pc.any(is_nan).as_py() else None
    values = pc.if_else(is_nan, None, values)
    return Read(column, values, {"not_finite": as_mask(pc.is_inf(values))}, said)


def _whole_column(texts: pa.Array, decimal: str) -> pa.Array | None:
    """Numbers, if every cell is one or empty; pyarrow takes no text that NUMBERS refuses."""
    if decimal == ",":
        if pc.any(pc.match_substring(texts, ".")).as_py():
            return None
        texts = pc.replace_substring(texts, ",", ".")
    try:
        values = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return None if pc.all(pc.is_finite(values)).as_py() is False else values


def _cell_by_cell(
    column: str, texts: pa.Array, decimal: str, *, truths: bool, more: Sequence[str]
) -> Read:
    """Numbers where the cells are, whatever stands in the others."""
    trimmed = pc.utf8_trim(texts, SPACES)
    if truths:
        truth = pc.index_in(pc.ascii_lower(trimmed), pa.array(["false", "true"]))
        trimmed = pc.coalesce(truth.cast(pa.string()), trimmed)
    no_value = means_missing(trimmed, more)
    is_infinite = pc.match_substring_regex(trimmed, INFINITE)
    is_number = pc.match_substring_regex(trimmed, NUMBERS[decimal])
    plain = pc.replace_substring(pc.if_else(is_number, trimmed, None), decimal, ".")
    values = plain.cast(pa.float64())
    faults = {
        "not_a_number": ~(as_mask(no_value) | as_mask(is_infinite) | as_mask(is_number)),
        "not_finite": as_mask(is_infinite) | as_mask(pc.is_inf(values)),
    }
    is_said = pc.and_(no_value, pc.not_equal(trimmed, ""))
    return Read(column, values, faults, pc.if_else(is_said, trimmed, None))


def read_sensor(
    cells: pa.Array,
    sensor: Sensor,
    decimal: str,
    *,
    no_value: Sequence[str] = (),
    is_good: Mask | None = None,
) -> Read:
    """Values of a sensor, held against its range.

    Parameters
    ----------
    cells : pa.Array
        The column as `as_plain` gives it.
    sensor : Sensor
    decimal : {'.', ','}
    no_value : sequence of str
        Texts that mean no value, beside those that always do.
    is_good : Mask, optional
        Cells whose value counts; the others are missing, whatever stands in them.
    """
    is_binary = sensor.kind == "binary"
    read = read_numbers(sensor.name, cells, decimal, truths=is_binary, no_value=no_value)
    faults = dict(read.faults)
    if is_good is not None:
        read = read._replace(values=pc.if_else(pa.array(is_good), read.values, None))
        faults = {reason: mask & is_good for reason, mask in faults.items()}
    if sensor.missing == "refused":
        faults["missing_value"] = as_mask(read.values.is_null())
    if sensor.low is not None:
        faults["below_range"] = as_mask(pc.less(read.values, sensor.low))
    if sensor.high is not None:
        faults["above_range"] = as_mask(pc.greater(read.values, sensor.high))
    if is_binary:
        is_either = pc.or_(pc.equal(read.values, 0), pc.equal(read.values, 1))
        faults["not_binary"] = as_mask(pc.invert(is_either))
    return read._replace(faults=faults)


def read_category(
    cells: pa.Array,
    sensor: Sensor,
    *,
    no_value: Sequence[str] = (),
    is_good: Mask | None = None,
    named_only: bool = False,
) -> Read:
    """Texts of a categorical column; with `named_only`, those that are none of its levels are bad.

    Other parameters as for `read_sensor`; a text of `no_value` that is a level is the level.
    """
    read = read_names(sensor.name, cells)
    texts, faults = read.values, dict(read.faults)
    is_level = pc.is_in(texts, pa.array(sensor.levels, pa.string()))
    is_said = pc.and_(
        means_missing(texts, no_value), pc.and_(texts.is_valid(), pc.invert(is_level))
    )
    values = pc.if_else(is_said, None, texts)
    if named_only:
        faults["not_a_level"] = as_mask(pc.and_(values.is_valid(), pc.invert(is_level)))
    if is_good is not None:
        values = pc.if_else(pa.array(is_good), values, None)
        faults = {reason: mask & is_good for reason, mask in faults.items()}
    if sensor.missing == "refused":
        faults["missing_value"] = as_mask(values.is_null()) & ~faults["bad_text"]
    said = pc.if_else(is_said, texts, None) if pc.any(is_said).as_py() else None
    return Read(sensor.name, values, faults, said)


def read_labels(column: str, cells: pa.Array, decimal: str, *, unknown: int | None = None) -> Read:
    """Classes as int32; null where the cell is empty, and `unknown` where it is negative."""
    read = read_numbers(column, cells, decimal, truths=True)
    values = read.values
    is_whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**31))
    is_class = pc.and_(is_whole, pc.greater_equal(values, 0))
    is_bad = ~(as_mask(values.is_null()) | as_mask(is_whole))
    for mask in read.faults.values():
        is_bad = is_bad | mask
    is_negative = pc.and_(is_whole, pc.invert(is_class))
    values = pc.if_else(
        is_class, values, pc.if_else(is_negative, pa.scalar(unknown, pa.float64()), None)
    )
    return Read(column, values.cast(pa.int32()), {"bad_label": is_bad})
