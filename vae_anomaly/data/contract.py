"""From a batch of rows to accepted and rejected ones: what a row must have to be a reading.

Every row ends in exactly one of the two tables. A rejected row has one reason, the first of
``REASONS`` that applies (and for one reason, the first column in the order of the contract).
A column is read as a whole where pyarrow can do that, and cell by cell, still vectorised, where it
cannot; what becomes of a row never depends on the rows beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Contract, Sensor, TimeColumn
from vae_anomaly.data.sources import OWN
from vae_anomaly.errors import ContractError

__all__ = [
    "REASONS",
    "REJECTED_SCHEMA",
    "Checked",
    "check_batch",
    "check_header",
    "readings_schema",
]

#: Why a row is rejected: code → one sentence. The first that applies is the row's.
REASONS: dict[str, str] = {
    "broken_line": "The line does not have the columns of the header.",
    "no_asset": "The cell that names the asset is empty.",
    "bad_text": "The name of an asset or a mode is not a text in the file's encoding.",
    "no_time": "The cell with the time is empty.",
    "bad_time": "The time cannot be read, or lies outside the years 1900 to 2199.",
    "nonexistent_local_time": "The zone's clocks were put forward past this local time.",
    "not_a_number": "A cell holds something that is not a number.",
    "not_finite": "A number is infinite.",
    "missing_value": "A cell is empty where the contract refuses missing values.",
    "below_range": "A value lies below the sensor's physical range.",
    "above_range": "A value lies above the sensor's physical range.",
    "not_binary": "A value of a binary sensor is neither 0 nor 1.",
    "bad_label": "The label is not a whole number.",
}

#: What `detail` says of a rejected row.
DETAILS: dict[str, str] = {
    "broken_line": "the line does not have the {n_columns} columns of the header",
    "no_asset": "column '{column}' is empty; it must name the asset",
    "bad_text": "column '{column}': {value} is not a text; set source.encoding to the file's",
    "no_time": "column '{column}' is empty; it must hold a time",
    "bad_time": "column '{column}': {value} is not a time of 1900 to 2199 {time_format}",
    "nonexistent_local_time": "column '{column}': {value} was skipped by the clocks of {zone}",
    "not_a_number": "column '{column}': {value} is not a number with decimal sign '{decimal}'",
    "not_finite": "column '{column}': {value} is not finite; numbers of float64 are allowed",
    "missing_value": "column '{column}' is empty, and the contract refuses missing values",
    "below_range": "column '{column}': {value} is below the lowest allowed, {low}",
    "above_range": "column '{column}': {value} is above the highest allowed, {high}",
    "not_binary": "column '{column}': {value} is not 0 or 1, as the contract's kind 'binary' says",
    "bad_label": "column '{column}': {value} is not a label; whole numbers and none are allowed",
}

MOMENT = pa.timestamp("us", "UTC")

#: Columns of a rejected row; `raw` is a JSON object of the row's cells, or the broken line.
REJECTED_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.string()),
        ("asset", pa.string()),
        ("time", MOMENT),
    ]
)

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


@dataclass(frozen=True)
class Checked:
    """The rows of a batch: `accepted` as readings, `rejected` with the reason of each."""

    accepted: pa.Table
    rejected: pa.Table


def readings_schema(contract: Contract) -> pa.Schema:
    """Columns of the table of readings under a contract.

    ``asset, time``, the sensors, the context, ``label`` (null = unknown), ``mode``, the file's
    ``content_id``, the ``row`` in it, and ``ingest``, the number of the commit.
    """
    numbers = [(name, pa.float64()) for name in contract.sensor_names + contract.context_names]
    return pa.schema(
        [
            ("asset", pa.string()),
            ("time", MOMENT),
            *numbers,
            ("label", pa.int32()),
            ("mode", pa.string()),
            ("content_id", pa.string()),
            ("row", pa.int64()),
            ("ingest", pa.int64()),
        ]
    )


def check_header(names: Iterable[str], contract: Contract) -> None:
    """Check that a file has every column that the contract names.

    Raises
    ------
    ContractError
        Columns are missing; the message names them, the closest that the file has, and what to do.

    Examples
    --------
    >>> contract = Contract(time="time", sensors=("PT-101",))
    >>> check_header(["time", "PT_101"], contract)
    Traceback (most recent call last):
    ...
    vae_anomaly.errors.ContractError: column 'PT-101' is missing; the file has 'PT_101'. Rename it \
or change contract.sensors in plant.yml.
    """
    there = [name for name in names if name not in OWN]
    missing = [name for name in contract.columns() if name not in set(there)]
    if not missing:
        return
    if len(there) == 1 and (signs := [sign for sign in ";\t|," if sign in there[0]]):
        raise ContractError(
            f"the header is one column, {_shown(there[0])}; set source.delimiter to {signs[0]!r}"
        )
    first, *others = missing
    near = get_close_matches(first, there, n=1) or there[:5]
    has = ", ".join(f"'{name}'" for name in near)
    also = f" Also missing: {', '.join(others[:20])}." if others else ""
    raise ContractError(
        f"column '{first}' is missing; the file has {has}. "
        f"Rename it or change contract.{_place(first, contract)} in plant.yml.{also}"
    )


def check_batch(
    batch: pa.RecordBatch, contract: Contract, *, asset: str, decimal: str = "."
) -> Checked:
    """Tell the rows of a batch that keep the contract from those that do not.

    Parameters
    ----------
    batch : pa.RecordBatch
        As `sources.read_batches` gives it: the file's columns, ``_row`` and ``_broken``.
        Cells may be texts (surrounding spaces do not count) or have a type of Parquet.
    contract : Contract
        What a row must have.
    asset : str
        The rows' asset if the contract names no column for it: the file's stem.
    decimal : {'.', ','}
        Decimal sign of numbers in texts; signs between thousands are refused.

    Returns
    -------
    Checked
        Of `accepted` the columns are those of `readings_schema`, but for ``content_id`` and
        ``ingest``; of `rejected`, those of ``REJECTED_SCHEMA``. Together they have each row once,
        both in the order of the batch. A missing value is null. A local time that the clocks
        showed twice is taken as the first.

    Raises
    ------
    ContractError
        The batch lacks a column of the contract, or the contract's time format cannot be read.

    Examples
    --------
    >>> cells = {"time": [b"2026-03-09T10:00:00Z", b"soon"], "pressure": [b"1.5", b"1.6"]}
    >>> batch = pa.record_batch(cells | {"_row": [1, 2], "_broken": pa.nulls(2, pa.string())})
    >>> checked = check_batch(batch, Contract(time="time", sensors=("pressure",)), asset="pump")
    >>> checked.accepted["pressure"].to_pylist(), checked.rejected["reason"].to_pylist()
    ([1.5], ['bad_time'])
    """
    check_header(batch.schema.names, contract)
    reads = _reads(batch, contract, asset, decimal)
    faults = [_Fault("broken_line", "", _mask(batch["_broken"].is_valid()))]
    for read in reads.values():
        faults += [_Fault(reason, read.column, mask) for reason, mask in read.faults.items()]
    order = list(REASONS)
    faults = sorted(
        (f for f in faults if f.mask.any()), key=lambda fault: order.index(fault.reason)
    )
    columns = {name: read.values for name, read in reads.items()} | {"row": batch["_row"]}
    fields = [field for field in readings_schema(contract) if field.name in columns]
    table = pa.table([columns[field.name] for field in fields], schema=pa.schema(fields))
    if not faults:
        return Checked(table, REJECTED_SCHEMA.empty_table())
    why = np.full(batch.num_rows, -1)  # (n,) place of the row's fault in `faults`
    for place, fault in enumerate(faults):
        why[fault.mask & (why < 0)] = place
    accepted = table.filter(pa.array(why < 0))
    return Checked(accepted, _rejected(batch, table, why, faults, contract, decimal))


class _Read(NamedTuple):
    """A column as it was understood, and the rows in which it was not."""

    column: str
    values: pa.Array
    faults: dict[str, Mask]


class _Fault(NamedTuple):
    """Rows to which a reason applies, by a column of the file."""

    reason: str
    column: str
    mask: Mask


def _reads(batch: pa.RecordBatch, contract: Contract, asset: str, decimal: str) -> dict[str, _Read]:
    """Each column of the readings, in the order of the contract."""
    n_rows = batch.num_rows
    cells = {name: _plain(batch[name]) for name in contract.columns()}
    reads = {"asset": _Read("", pa.repeat(pa.scalar(asset, pa.string()), n_rows), {})}
    if contract.asset is not None:
        reads["asset"] = _names(contract.asset, cells[contract.asset], missing="no_asset")
    reads["time"] = _times(cells[contract.time.column], contract.time)
    for sensor in (*contract.sensors, *contract.context):
        reads[sensor.name] = _measured(cells[sensor.name], sensor, decimal)
    reads["label"] = _Read("", pa.nulls(n_rows, pa.int32()), {})
    if contract.label is not None:
        reads["label"] = _labels(contract.label, cells[contract.label], decimal)
    reads["mode"] = _Read("", pa.nulls(n_rows, pa.string()), {})
    if contract.mode is not None:
        reads["mode"] = _names(contract.mode, cells[contract.mode])
    return reads


def _rejected(
    batch: pa.RecordBatch,
    table: pa.Table,
    why: npt.NDArray[np.int64],
    faults: list[_Fault],
    contract: Contract,
    decimal: str,
) -> pa.Table:
    """The rows that have a fault, with what the file says in them."""
    which = pa.array(np.flatnonzero(why >= 0))
    rows = batch.take(which)
    texts = {name: _texts(rows[name]) for name in batch.schema.names if name not in OWN}
    raw = [
        json.dumps(dict(zip(texts, row, strict=True)), ensure_ascii=False) if line is None else line
        for line, row in zip(
            rows["_broken"].to_pylist(), zip(*texts.values(), strict=True), strict=True
        )
    ]
    places = why[why >= 0].tolist()
    facts = [
        _facts(fault, contract) | {"decimal": decimal, "n_columns": len(texts)} for fault in faults
    ]
    detail = [
        DETAILS[faults[place].reason].format(
            value=_shown(texts.get(faults[place].column, raw)[at]), **facts[place]
        )
        for at, place in enumerate(places)
    ]
    told = table.take(which)
    reason = [faults[place].reason for place in places]
    columns = [rows["_row"], reason, detail, raw, told["asset"], told["time"]]
    return pa.table(columns, schema=REJECTED_SCHEMA)


def _facts(fault: _Fault, contract: Contract) -> dict[str, object]:
    """What the contract allows where a fault is."""
    sensors = {sensor.name: sensor for sensor in (*contract.sensors, *contract.context)}
    sensor = sensors.get(fault.column, Sensor(name="none"))
    form = contract.time.format
    return {
        "column": fault.column,
        "low": f"{sensor.low} {sensor.unit}".rstrip(),
        "high": f"{sensor.high} {sensor.unit}".rstrip(),
        "zone": contract.time.zone,
        "time_format": f"in the format {form}" if form else "in ISO 8601",
    }


def _place(column: str, contract: Contract) -> str:
    """Where plant.yml names a column."""
    if column in contract.sensor_names or column in contract.context_names:
        return "sensors" if column in contract.sensor_names else "context"
    places = {contract.time.column: "time", contract.asset: "asset", contract.label: "label"}
    return places.get(column, "mode")


def _shown(value: str | None) -> str:
    """A cell's text, cut short."""
    return repr(value if value is None or len(value) <= 60 else f"{value[:60]}...")


# ------------------------------------------------------------------------- texts, names, numbers


def _plain(column: pa.Array) -> pa.Array:
    """A column without dictionary or extension; texts as the bytes that they claim to be texts."""
    if isinstance(column, pa.ExtensionArray):
        return _plain(column.storage)
    if pa.types.is_dictionary(column.type):
        return _plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(column.type):
        return _plain(pc.run_end_decode(column))
    is_text = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
        pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary,
    )  # fmt: skip
    return column.cast(pa.binary()) if any(is_(column.type) for is_ in is_text) else column


def _texts(column: pa.Array) -> list[str | None]:
    """Cells as texts, whatever they are."""
    cells = _plain(column)
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
        return pa.array(_texts(cells), pa.string())


def _is_missing(trimmed: pa.Array) -> pa.Array:
    return pc.is_in(pc.ascii_lower(trimmed), pa.array([*MISSING, None], pa.string()))


def _mask(values: pa.Array) -> Mask:
    mask: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return mask


def _names(column: str, cells: pa.Array, *, missing: str | None = None) -> _Read:
    """Names of assets or modes; where one is missing, the reason `missing` applies, if any."""
    is_bad = np.zeros(len(cells), dtype=bool)
    try:
        texts = cells.cast(pa.string())
    except pa.ArrowException:  # a type without texts, or bytes that are no text
        decoded = map(_utf8, cells.to_pylist()) if pa.types.is_binary(cells.type) else []
        texts = pa.array(list(decoded) or [None] * len(cells), pa.string())
        is_bad = _mask(pc.and_(cells.is_valid(), texts.is_null()))
    trimmed = pc.utf8_trim(texts, SPACES)
    is_missing = _is_missing(trimmed)
    faults = {"bad_text": is_bad}
    if missing is not None:
        faults[missing] = _mask(is_missing) & ~is_bad
    return _Read(column, pc.if_else(is_missing, None, trimmed), faults)


def _utf8(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def _numbers(column: str, cells: pa.Array, decimal: str, *, truths: bool) -> _Read:
    """Float64, null where missing; with `truths`, the texts true and false are 1 and 0."""
    kind = cells.type
    if pa.types.is_binary(kind):
        texts = _decoded(cells)
        values = _whole_column(texts, decimal)
        if values is not None:
            return _Read(column, values, {})
        return _cell_by_cell(column, texts, decimal, truths=truths)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        none = pa.nulls(len(cells), pa.float64())
        return _Read(column, none, {"not_a_number": _mask(cells.is_valid())})
    values = cells.cast(pa.float64(), safe=False)
    values = pc.if_else(pc.is_nan(values), None, values)
    return _Read(column, values, {"not_finite": _mask(pc.is_inf(values))})


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


def _cell_by_cell(column: str, texts: pa.Array, decimal: str, *, truths: bool) -> _Read:
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
        "not_a_number": ~(_mask(is_missing) | _mask(is_infinite) | _mask(is_number)),
        "not_finite": _mask(is_infinite) | _mask(pc.is_inf(values)),
    }
    return _Read(column, values, faults)


def _measured(cells: pa.Array, sensor: Sensor, decimal: str) -> _Read:
    """Values of a sensor, held against its range."""
    is_binary = sensor.kind == "binary"
    read = _numbers(sensor.name, cells, decimal, truths=is_binary)
    faults = dict(read.faults)
    if sensor.missing == "refused":
        faults["missing_value"] = _mask(read.values.is_null())
    if sensor.low is not None:
        faults["below_range"] = _mask(pc.less(read.values, sensor.low))
    if sensor.high is not None:
        faults["above_range"] = _mask(pc.greater(read.values, sensor.high))
    if is_binary:
        is_either = pc.or_(pc.equal(read.values, 0), pc.equal(read.values, 1))
        faults["not_binary"] = _mask(pc.invert(is_either))
    return read._replace(faults=faults)


def _labels(column: str, cells: pa.Array, decimal: str) -> _Read:
    """Classes as int32, null where unknown: where the cell is empty or negative."""
    read = _numbers(column, cells, decimal, truths=True)
    values = read.values
    is_whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**31))
    is_class = pc.and_(is_whole, pc.greater_equal(values, 0))
    is_bad = ~(_mask(values.is_null()) | _mask(is_whole))
    for mask in read.faults.values():
        is_bad = is_bad | mask
    return _Read(column, pc.if_else(is_class, values, None).cast(pa.int32()), {"bad_label": is_bad})


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


def _times(cells: pa.Array, time: TimeColumn) -> _Read:
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
    return _Read(time.column, moments, faults)


def _clock(cells: pa.Array, time_format: str | None) -> _Clock:
    """Times of a column of any type; a number is no time, for its epoch is not known."""
    kind = cells.type
    if pa.types.is_binary(kind):
        return _clock_of_texts(_decoded(cells), time_format)
    is_there = _mask(cells.is_valid())
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
        is_there = _mask(counts.is_valid())
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

    month = _integers(text("m")) + _mask(pc.not_equal(text("b"), "")) * (
        pc.fill_null(pc.index_in(text("b"), pa.array(MONTHS)), 0).to_numpy() + 1
    )
    short_year = _integers(text("y"), -1)
    century = np.where(short_year < 0, 0, np.where(short_year < 69, 2000, 1900))  # as POSIX has it
    year = np.where(short_year < 0, _integers(text("Y")), century + short_year)
    noon_hour = _integers(text("I"), -1)
    hour = np.where(noon_hour < 0, _integers(text("H")), noon_hour % 12)
    hour = hour + 12 * _mask(pc.equal(text("p"), "pm"))
    minute, second = _integers(text("M")), _integers(text("S"))
    fraction = _integers(pc.utf8_slice_codeunits(pc.utf8_rpad(text("f"), 6, "0"), 0, 6))
    zone = _integers(pc.utf8_rpad(pc.replace_substring_regex(text("z"), "[^0-9]", ""), 4, "0"))
    ahead = (zone // 100 * 60 + zone % 100) * np.where(_mask(pc.starts_with(text("z"), "-")), -1, 1)
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (_integers(text("d")) - 1)
    minutes = days.astype(np.int64) * 1440 + hour * 60 + minute - ahead
    is_date = (month >= 1) & (month <= 12) & (days.astype("datetime64[M]") == months)
    is_clock = (hour < 24) & (minute < 60) & (second < 60) & (noon_hour != 0) & (noon_hour <= 12)
    is_zone = (zone // 100 < 24) & (zone % 100 < 60)
    is_known = _mask(parts.is_valid()) & is_date & is_clock & is_zone
    is_utc = _mask(pc.not_equal(text("z"), ""))
    micros = minutes * 60 * SECOND_US + second * SECOND_US + fraction
    return _Clock(micros, is_known, _mask(_is_missing(trimmed)), is_utc)


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
