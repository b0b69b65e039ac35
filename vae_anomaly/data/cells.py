"""Cells of a column as texts, names, numbers, labels and moments in UTC.

Each reader takes a whole column of any type that a source may have, texts as bytes, and says in
which rows it was not understood and why, by the codes of ``contract.REASONS``. A column is read as
a whole where pyarrow can do that, and cell by cell, still vectorised, where it cannot.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Sensor, TimeColumn
from vae_anomaly.errors import ContractError

__all__ = [
    "MOMENT",
    "Mask",
    "Read",
    "as_mask",
    "as_plain",
    "as_texts",
    "read_labels",
    "read_names",
    "read_sensor",
    "read_times",
]

#: Type of a time, everywhere: microseconds in UTC.
MOMENT = pa.timestamp("us", "UTC")

#: Texts that stand for a missing value, in small letters.
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "nat", "null", "none")
#: What may surround a cell's text; the last one is the no-break space.
SPACES = " \t\r\n\v\f\u00a0"

NUMBERS = {
    sign: rf"^[+-]?(?:[0-9]+(?:[{sign}][0-9]*)?|[{sign}][0-9]+)(?:[eE][+-]?[0-9]+)?$"
    for sign in ".,"
}
INFINITE = r"(?i)^[+-]?inf(?:inity)?$"

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CLOCK = r"(?P<H>[0-9]{2})(?::(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?)?"
ZONE = r"(?P<z>Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
ISO_8601 = rf"(?P<Y>[0-9]{{4}})-(?P<m>[0-9]{{2}})-(?P<d>[0-9]{{2}})(?:[T ]{CLOCK}(?: ?{ZONE})?)?"
#: What each directive of a strptime format reads.
DIRECTIVES = {
    "%Y": "(?P<Y>[0-9]{4})",
    "%y": "(?P<y>[0-9]{2})",
    "%m": "(?P<m>[0-9]{1,2})",
    "%b": f"(?P<b>{'|'.join(MONTHS)})",
    "%d": "(?P<d>[0-9]{1,2})",
    "%H": "(?P<H>[0-9]{1,2})",
    "%I": "(?P<I>[0-9]{1,2})",
    "%p": "(?P<p>[AP]M)",
    "%M": "(?P<M>[0-9]{1,2})",
    "%S": "(?P<S>[0-9]{1,2})",
    "%f": "(?P<f>[0-9]{1,9})",
    "%z": ZONE,
    "%%": "%",
}

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
EPOCH = datetime(1970, 1, 1)
FIRST_US, END_US = ((datetime(year, 1, 1) - EPOCH).days * DAY_US for year in (1900, 2200))

Mask = npt.NDArray[np.bool_]
Micros = npt.NDArray[np.int64]


class Read(NamedTuple):
    """A column as it was understood, and the rows in which it was not."""

    column: str
    values: pa.Array
    faults: dict[str, Mask]


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


def _decoded(cells: pa.Array) -> pa.Array:
    """Bytes as texts; bytes that are no text look like ``\\x81``, which nothing accepts."""
    try:
        return cells.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(as_texts(cells), pa.string())


def _is_missing(trimmed: pa.Array) -> pa.Array:
    return pc.is_in(pc.ascii_lower(trimmed), pa.array([*MISSING, None], pa.string()))


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
    is_missing = _is_missing(trimmed)
    faults = {"bad_text": is_bad}
    if missing is not None:
        faults[missing] = as_mask(is_missing) & ~is_bad
    return Read(column, pc.if_else(is_missing, None, trimmed), faults)


def _utf8(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def _numbers(column: str, cells: pa.Array, decimal: str, *, truths: bool) -> Read:
    """Float64, null where missing; with `truths`, the texts true and false are 1 and 0."""
    kind = cells.type
    if pa.types.is_binary(kind):
        texts = _decoded(cells)
        values = _whole_column(texts, decimal)
        if values is not None:
            return Read(column, values, {})
        return _cell_by_cell(column, texts, decimal, truths=truths)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        none = pa.nulls(len(cells), pa.float64())
        return Read(column, none, {"not_a_number": as_mask(cells.is_valid())})
    values = cells.cast(pa.float64(), safe=False)
    values = pc.if_else(pc.is_nan(values), None, values)
    return Read(column, values, {"not_finite": as_mask(pc.is_inf(values))})


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


def _cell_by_cell(column: str, texts: pa.Array, decimal: str, *, truths: bool) -> Read:
    """Numbers where the cells are, whatever stands in the others."""
    trimmed = pc.utf8_trim(texts, SPACES)
    if truths:
        truth = pc.index_in(pc.ascii_lower(trimmed), pa.array(["false", "true"]))
        trimmed = pc.coalesce(truth.cast(pa.string()), trimmed)
    is_missing = _is_missing(trimmed)
    is_infinite = pc.match_substring_regex(trimmed, INFINITE)
    is_number = pc.match_substring_regex(trimmed, NUMBERS[decimal])
    plain = pc.replace_substring(pc.if_else(is_number, trimmed, None), decimal, ".")
    values = plain.cast(pa.float64())
    faults = {
        "not_a_number": ~(as_mask(is_missing) | as_mask(is_infinite) | as_mask(is_number)),
        "not_finite": as_mask(is_infinite) | as_mask(pc.is_inf(values)),
    }
    return Read(column, values, faults)


def read_sensor(cells: pa.Array, sensor: Sensor, decimal: str) -> Read:
    """Values of a sensor, held against its range."""
    is_binary = sensor.kind == "binary"
    read = _numbers(sensor.name, cells, decimal, truths=is_binary)
    faults = dict(read.faults)
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


def read_labels(column: str, cells: pa.Array, decimal: str) -> Read:
    """Classes as int32, null where unknown: where the cell is empty or negative."""
    read = _numbers(column, cells, decimal, truths=True)
    values = read.values
    is_whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**31))
    is_class = pc.and_(is_whole, pc.greater_equal(values, 0))
    is_bad = ~(as_mask(values.is_null()) | as_mask(is_whole))
    for mask in read.faults.values():
        is_bad = is_bad | mask
    return Read(column, pc.if_else(is_class, values, None).cast(pa.int32()), {"bad_label": is_bad})


# ------------------------------------------------------------------------------------------- time


class _Clock(NamedTuple):
    """What a column of times says: microseconds since 1970, of UTC or of the wall's clock."""

    micros: Micros
    is_known: Mask
    is_missing: Mask
    is_utc: Mask


class _Utc(NamedTuple):
    """Microseconds since 1970 in UTC, and where the wall's clock never showed such a time."""

    micros: Micros
    is_skipped: Mask


def read_times(cells: pa.Array, time: TimeColumn) -> Read:
    """Moments in UTC."""
    clock = _clock(cells, time.format)
    is_known = clock.is_known & (clock.micros >= FIRST_US) & (clock.micros < END_US)
    utc, is_skipped = np.where(is_known, clock.micros, 0), np.zeros(len(cells), dtype=bool)
    is_local = is_known & ~clock.is_utc
    if time.zone != "UTC" and is_local.any():
        utc[is_local], is_skipped[is_local] = _from_zone(utc[is_local], time.zone)
    faults = {
        "no_time": clock.is_missing,
        "bad_time": ~clock.is_missing & ~is_known,
        "nonexistent_local_time": is_skipped,
    }
    moments = pa.array(utc, mask=~is_known | is_skipped).cast(MOMENT)
    return Read(time.column, moments, faults)


def _clock(cells: pa.Array, time_format: str | None) -> _Clock:
    """Times of a column of any type; a number is no time, for its epoch is not known."""
    kind = cells.type
    if pa.types.is_binary(kind):
        return _clock_of_texts(_decoded(cells), time_format)
    is_there = as_mask(cells.is_valid())
    is_utc = np.full(len(cells), pa.types.is_timestamp(kind) and kind.tz is not None)
    unit_ns = 0
    if pa.types.is_timestamp(kind):
        unit_ns = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[kind.unit]
    elif pa.types.is_date(kind):
        unit_ns = 86_400 * 10**9 if pa.types.is_date32(kind) else 10**6
    if not unit_ns:
        return _Clock(np.zeros(len(cells), np.int64), is_there & False, ~is_there, is_utc)
    stored = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    counts = cells.view(stored).fill_null(0).to_numpy().astype(np.int64)
    limit = END_US * 1000 // unit_ns  # far beyond it, microseconds do not fit into int64
    is_known = is_there & (counts > -limit) & (counts < limit)
    counts = np.where(is_known, counts, 0)
    micros = counts // 1000 if unit_ns == 1 else counts * (unit_ns // 1000)
    return _Clock(micros, is_known, ~is_there, is_utc)


def _clock_of_texts(texts: pa.Array, time_format: str | None) -> _Clock:
    """Times of texts, in the format or in ISO 8601."""
    if time_format is not None:
        return _matched(texts, _pattern(time_format))
    for kind in (pa.timestamp("us"), MOMENT):
        try:
            counts = texts.cast(kind).view(pa.int64())
        except pa.ArrowInvalid:
            continue
        is_there = as_mask(counts.is_valid())
        is_utc = np.full(len(texts), kind.tz is not None)
        return _Clock(counts.fill_null(0).to_numpy(), is_there, ~is_there, is_utc)
    return _matched(texts, f"(?i)^{ISO_8601}$")


def _matched(texts: pa.Array, pattern: str) -> _Clock:
    """Times of texts, taken apart by a pattern, each cell for itself."""
    trimmed = pc.utf8_trim(texts, SPACES)
    parts = pc.extract_regex(trimmed, pattern)

    def text(name: str) -> pa.Array:
        if parts.type.get_field_index(name) < 0:
            return pa.repeat("", len(texts))
        return pc.ascii_lower(pc.fill_null(pc.struct_field(parts, name), ""))

    month = _integers(text("m")) + as_mask(pc.not_equal(text("b"), "")) * (
        pc.fill_null(pc.index_in(text("b"), pa.array(MONTHS)), 0).to_numpy() + 1
    )
    short_year = _integers(text("y"), -1)
    century = np.where(short_year < 0, 0, np.where(short_year < 69, 2000, 1900))  # as POSIX has it
    year = np.where(short_year < 0, _integers(text("Y")), century + short_year)
    noon_hour = _integers(text("I"), -1)
    hour = np.where(noon_hour < 0, _integers(text("H")), noon_hour % 12)
    hour = hour + 12 * as_mask(pc.equal(text("p"), "pm"))
    minute, second = _integers(text("M")), _integers(text("S"))
    fraction = _integers(pc.utf8_slice_codeunits(pc.utf8_rpad(text("f"), 6, "0"), 0, 6))
    zone = _integers(pc.utf8_rpad(pc.replace_substring_regex(text("z"), "[^0-9]", ""), 4, "0"))
    ahead = (zone // 100 * 60 + zone % 100) * np.where(
        as_mask(pc.starts_with(text("z"), "-")), -1, 1
    )
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (_integers(text("d")) - 1)
    minutes = days.astype(np.int64) * 1440 + hour * 60 + minute - ahead
    is_date = (month >= 1) & (month <= 12) & (days.astype("datetime64[M]") == months)
    is_clock = (hour < 24) & (minute < 60) & (second < 60) & (noon_hour != 0) & (noon_hour <= 12)
    is_zone = (zone // 100 < 24) & (zone % 100 < 60)
    is_known = as_mask(parts.is_valid()) & is_date & is_clock & is_zone
    is_utc = as_mask(pc.not_equal(text("z"), ""))
    micros = minutes * 60 * SECOND_US + second * SECOND_US + fraction
    return _Clock(micros, is_known, as_mask(_is_missing(trimmed)), is_utc)


def _integers(digits: pa.Array, default: int = 0) -> Micros:
    """Digits as integers, the default where there are none."""
    filled = pc.if_else(pc.equal(digits, ""), str(default), digits)
    values: Micros = filled.cast(pa.int64()).to_numpy()
    return values


@lru_cache(maxsize=64)
def _pattern(time_format: str) -> str:
    """Regular expression of a strptime format."""
    pieces = re.findall(r"%.?|[ ]+|[^% ]+", time_format)
    unknown = [piece for piece in pieces if piece.startswith("%") and piece not in DIRECTIVES]
    if unknown:
        raise ContractError(
            f"time.format {time_format!r} has {unknown[0]}; allowed are {', '.join(DIRECTIVES)}"
        )
    needed = (("%Y", "%y"), ("%m", "%b"), ("%d",))
    if any(sum(pieces.count(piece) for piece in either) != 1 for either in needed):
        raise ContractError(
            f"time.format {time_format!r} must have the year (%Y or %y), the month (%m or %b) and "
            "the day (%d), each once"
        )
    doubled = [piece for piece in DIRECTIVES if pieces.count(piece) > 1 and piece != "%%"]
    if doubled or ("%I" in pieces) != ("%p" in pieces) or {"%I", "%H"} <= set(pieces):
        raise ContractError(
            f"time.format {time_format!r} must have each part of a time once: %H, or %I with %p"
        )
    patterns = (
        DIRECTIVES.get(piece) or ("[ ]+" if piece[0] == " " else re.escape(piece))
        for piece in pieces
    )
    return f"(?i)^{''.join(patterns)}$"


def _from_zone(wall: Micros, zone: str) -> _Utc:
    """Moments at which the clocks of a zone showed these times; the first where they did twice."""
    days, place = np.unique(wall // DAY_US, return_inverse=True)
    offsets = [_offset_of_day(zone, int(day)) for day in days]
    is_steady = np.array([offset is not None for offset in offsets])[place]
    utc = wall - np.array([offset or 0 for offset in offsets])[place]
    times, place = np.unique(wall[~is_steady], return_inverse=True)
    moments = [_moment(zone, int(micros)) for micros in times]
    is_skipped = np.zeros(len(wall), dtype=bool)
    is_skipped[~is_steady] = np.array([moment is None for moment in moments], dtype=bool)[place]
    utc[~is_steady] = np.array([moment or 0 for moment in moments], dtype=np.int64)[place]
    return _Utc(utc, is_skipped)


@lru_cache(maxsize=1 << 16)
def _offset_of_day(zone: str, day: int) -> int | None:
    """Microseconds by which a zone's clocks were ahead of UTC on a day, if not set around it."""
    midnight = EPOCH.replace(tzinfo=UTC) + timedelta(days=day)
    around = (midnight + timedelta(days=more) for more in (-1, 0, 1, 2))
    offsets = {moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in around}
    ahead = offsets.pop()
    return None if offsets or ahead is None else ahead // timedelta(microseconds=1)


def _moment(zone: str, wall_us: int) -> int | None:
    """Microseconds in UTC at which a zone's clocks first showed a time, none if they never did."""
    wall = EPOCH + timedelta(microseconds=wall_us)
    moment = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    if moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != wall:
        return None
    return (moment.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)
