"""From a batch of rows to accepted and rejected ones: what a row must have to be a reading.

Every row ends in exactly one of the two tables. A rejected row has one reason, the first of
``REASONS`` that applies (and for one reason, the first column in the order of the contract).
What becomes of a row never depends on the rows beside it. How a cell is read, `data.cells` says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Contract, Sensor, TimeColumn
from vae_anomaly.data.batches import OWN
from vae_anomaly.data.cells import (
    Mask,
    Read,
    as_mask,
    as_plain,
    as_texts,
    read_category,
    read_labels,
    read_names,
    read_numbers,
    read_sensor,
)
from vae_anomaly.data.clocks import FileClock
from vae_anomaly.data.long import read_values
from vae_anomaly.data.quality import CellCounts, count_cells, read_codes
from vae_anomaly.data.times import MOMENT, read_times
from vae_anomaly.errors import ContractError

__all__ = [
    "REASONS",
    "REJECTED_SCHEMA",
    "Checked",
    "check_batch",
    "check_header",
    "readings_schema",
    "samples_schema",
]

#: Why a row is rejected: code → one sentence. The first that applies is the row's.
REASONS: dict[str, str] = {
    "broken_line": "The line does not have the columns of the header.",
    "no_asset": "The cell that names the asset is empty.",
    "bad_text": "The name of an asset or a mode is not a text in the file's encoding.",
    "no_time": "The cell with the time is empty.",
    "no_tag": "The cell of a long table that names the tag is empty.",
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
    "no_tag": "column '{column}' is empty; it must name the tag",
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


@dataclass(frozen=True)
class Checked:
    """The rows of a batch: `accepted` as readings, `rejected` with the reason of each.

    `cells` says what became of every cell of every sensor, in the rows of both.
    """

    accepted: pa.Table
    rejected: pa.Table
    cells: CellCounts = field(default_factory=Counter)


def readings_schema(contract: Contract) -> pa.Schema:
    """Columns of the table of readings under a contract.

    ``asset, time``, the sensors, the context, what the run condition asks for beside them,
    ``label`` (null = unknown), ``mode``, the file's ``content_id``, the ``row`` in it, and
    ``ingest``, the number of the commit. Where readings are formed from samples, they have no
    ``content_id`` and ``row``, and ``filled`` is the number of sensor and context cells without a
    sample of their own (null without resampling).
    """
    filled = [("filled", pa.int32())] if contract.is_shaped else []
    values = [
        (sensor.name, pa.string() if sensor.kind == "categorical" else pa.float64())
        for sensor in (*contract.sensors, *contract.context)
    ]
    kinds = {"number": pa.float64(), "text": pa.string()}
    carried = [(name, kinds[kind]) for name, kind in contract.carried.items()]
    return pa.schema(
        [
            ("asset", pa.string()),
            ("time", MOMENT),
            *values,
            *carried,
            ("label", pa.int32()),
            ("mode", pa.string()),
            ("content_id", pa.string()),
            ("row", pa.int64()),
            ("ingest", pa.int64()),
            *filled,
        ]
    )


def samples_schema(contract: Contract) -> pa.Schema:
    """Columns of the table of samples: the accepted rows, where readings are formed from them.

    In the wide layout those of the readings. In the long one ``sensor`` (the tag), ``value`` (null
    = missing) and ``text`` (of a tag whose values are names), beside asset, time and provenance.
    """
    if contract.long is None:
        schema = readings_schema(contract)
        return schema.remove(schema.get_field_index("filled")) if contract.is_shaped else schema
    return pa.schema(
        [
            ("asset", pa.string()),
            ("time", MOMENT),
            ("sensor", pa.string()),
            ("value", pa.float64()),
            ("text", pa.string()),
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
    batch: pa.RecordBatch,
    contract: Contract,
    *,
    asset: str,
    decimal: str = ".",
    clock: FileClock | None = None,
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
    clock : FileClock, optional
        What the batches of the file before this one said of its clocks; it takes in this one too.
        Without one, a local time that the clocks showed twice is taken as the first.

    Returns
    -------
    Checked
        Of `accepted` the columns are those of `readings_schema`, but for ``content_id`` and
        ``ingest``; of `rejected`, those of ``REJECTED_SCHEMA``. Together they have each row once,
        both in the order of the batch. A missing value is null.

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
    is_broken = as_mask(batch["_broken"].is_valid())
    cells = {name: as_plain(batch[name]) for name in contract.columns()}
    reads = _keys(batch, cells, contract, asset, decimal, clock)
    if contract.long is not None:
        values = read_values(cells, contract, decimal, ~is_broken)
        found = reads | values.reads
        return _told_apart(batch, contract, decimal, found, is_broken, values.counts)
    codes = {name: read_codes(cells[name], contract.quality) for name in _quality_columns(contract)}
    counts: CellCounts = Counter()
    for sensor in (*contract.sensors, *contract.context):
        code = codes.get(sensor.quality or contract.quality.column)
        reader = read_category if sensor.kind == "categorical" else read_sensor
        read = reads[sensor.name] = reader(
            cells[sensor.name],
            sensor,
            decimal,
            no_value=contract.quality.texts,
            is_good=None if code is None else code.is_good,
        )
        counts += count_cells(read, code, ~is_broken)
    for name, kind in contract.carried.items():
        reads[name] = (
            read_names(name, cells[name])
            if kind == "text"
            else read_numbers(
                name, cells[name], decimal, truths=True, no_value=contract.quality.texts
            )
        )
    return _told_apart(batch, contract, decimal, reads, is_broken, counts)


def _told_apart(
    batch: pa.RecordBatch,
    contract: Contract,
    decimal: str,
    reads: dict[str, Read],
    is_broken: Mask,
    counts: CellCounts,
) -> Checked:
    """Rows without a fault as readings, the others with the first reason that applies."""
    faults = [_Fault("broken_line", "", is_broken)]
    for read in reads.values():
        faults += [_Fault(reason, read.column, mask) for reason, mask in read.faults.items()]
    order = list(REASONS)
    faults = sorted(
        (f for f in faults if f.mask.any()), key=lambda fault: order.index(fault.reason)
    )
    columns = {name: read.values for name, read in reads.items()} | {"row": batch["_row"]}
    fields = [field for field in samples_schema(contract) if field.name in columns]
    table = pa.table([columns[field.name] for field in fields], schema=pa.schema(fields))
    if not faults:
        return Checked(table, REJECTED_SCHEMA.empty_table(), counts)
    why = np.full(batch.num_rows, -1)  # (n,) place of the row's fault in `faults`
    for place, fault in enumerate(faults):
        why[fault.mask & (why < 0)] = place
    accepted = table.filter(pa.array(why < 0))
    return Checked(accepted, _rejected(batch, table, why, faults, contract, decimal), counts)


class _Fault(NamedTuple):
    """Rows to which a reason applies, by a column of the file."""

    reason: str
    column: str
    mask: Mask


def _keys(
    batch: pa.RecordBatch,
    cells: dict[str, pa.Array],
    contract: Contract,
    asset: str,
    decimal: str,
    clock: FileClock | None,
) -> dict[str, Read]:
    """Asset, time, label and mode of the rows."""
    n_rows = batch.num_rows
    reads = {"asset": Read("", pa.repeat(pa.scalar(asset, pa.string()), n_rows), {})}
    if contract.asset is not None:
        reads["asset"] = read_names(contract.asset, cells[contract.asset], missing="no_asset")
    assets = reads["asset"].values
    if contract.long is not None:  # an export goes through its tags by time, or one after another
        tags = as_texts(cells[contract.long.tag])
        assets = pc.binary_join_element_wise(assets, pa.array(tags, pa.string()), "\n")
    steps = cells.get(contract.time.column, pc.subtract(batch["_row"], 1))
    is_by_order = clock is not None and contract.time.ambiguous == "order"
    later = clock.later(assets) if clock is not None and is_by_order else None
    reads["time"] = read_times(steps, contract.time, decimal=decimal, later=later)
    if clock is not None:
        clock.note(assets, reads["time"].values, batch["_row"])
    if contract.long is not None:
        return reads
    reads["label"] = Read("", pa.nulls(n_rows, pa.int32()), {})
    if contract.label is not None:
        reads["label"] = read_labels(contract.label, cells[contract.label], decimal)
    reads["mode"] = Read("", pa.nulls(n_rows, pa.string()), {})
    if contract.mode is not None:
        reads["mode"] = read_names(contract.mode, cells[contract.mode])
    return reads


def _quality_columns(contract: Contract) -> set[str]:
    """Columns with quality codes."""
    sensors = (*contract.sensors, *contract.context)
    return {contract.quality.column, *(sensor.quality for sensor in sensors)} - {""}


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
    texts = {name: as_texts(rows[name]) for name in batch.schema.names if name not in OWN}
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
    if contract.long is not None:  # cells of every tag stand in one column
        for sensor in (
            *contract.sensor_names,
            *contract.context_names,
            contract.label,
            contract.mode,
        ):
            if sensor is not None:
                texts[sensor] = texts[contract.long.value]
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
    time, column = contract.time, fault.column
    if contract.long is not None and column in {*sensors, contract.label, contract.mode}:
        column = f"{contract.long.value}' of tag '{column}"
    return {
        "column": column,
        "low": f"{sensor.low} {sensor.unit}".rstrip(),
        "high": f"{sensor.high} {sensor.unit}".rstrip(),
        "zone": contract.time.zone,
        "time_format": _time_format(time),
    }


def _time_format(time: TimeColumn) -> str:
    """How a time has to be written."""
    if time.epoch is not None:
        return f"as a number of {time.epoch} since 1970"
    if time.step_s is not None:
        return f"as a number of steps of {time.step_s:g} s"
    return f"in the format {time.format}" if time.format else "in ISO 8601"


def _place(column: str, contract: Contract) -> str:
    """Where plant.yml names a column."""
    if column in contract.sensor_names or column in contract.context_names:
        return "sensors" if column in contract.sensor_names else "context"
    if column in contract.carried:
        return "run_condition"
    places = {contract.time.column: "time", contract.asset: "asset", contract.label: "label"}
    if column in _quality_columns(contract):
        return "quality"
    return places.get(column, "mode")


def _shown(value: str | None) -> str:
    """A cell's text, cut short."""
    return repr(value if value is None or len(value) <= 60 else f"{value[:60]}...")
