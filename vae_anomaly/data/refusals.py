"""Why a row is refused, and what the quarantine says of it.

A rejected row has one reason, the first of ``REASONS`` that applies (and for one reason, the first
column in the order of the contract). A row that keeps the contract can be refused by what the lake
holds (`conflicting`, see `data.duplicates`) or by the moment of the ingest (`time_ahead`, see
`data.ahead`).
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_anomaly.config import Contract, Sensor, TimeColumn
from vae_anomaly.data.batches import OWN
from vae_anomaly.data.cells import Mask, as_texts
from vae_anomaly.data.times import MOMENT

__all__ = ["DETAILS", "REASONS", "REJECTED_SCHEMA", "Fault", "raw_cells", "refused_readings",
           "rejected_rows", "shown"]  # fmt: skip

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
    "not_a_level": "A text of a categorical sensor is none of the levels that the contract names.",
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
    "not_a_level": "column '{column}': {value} is none of the contract's levels {levels}",
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


class Fault(NamedTuple):
    """Rows to which a reason applies, by a column of the file."""

    reason: str
    column: str
    mask: Mask


def rejected_rows(
    batch: pa.RecordBatch,
    table: pa.Table,
    why: npt.NDArray[np.int64],
    faults: list[Fault],
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
            value=shown(texts.get(faults[place].column, raw)[at]), **facts[place]
        )
        for at, place in enumerate(places)
    ]
    told = table.take(which)
    reason = [faults[place].reason for place in places]
    columns = [rows["_row"], reason, detail, raw, told["asset"], told["time"]]
    return pa.table(columns, schema=REJECTED_SCHEMA)


def refused_readings(rows: pa.Table, reason: str, details: list[str]) -> pa.Table:
    """Rows that keep the contract and are refused for another reason, each with its detail.

    Parameters
    ----------
    rows : pa.Table
        Columns of accepted rows.
    reason : str
    details : list of str
        One a row.
    """
    raw = raw_cells(rows)
    columns = [rows["row"], [reason] * len(raw), details, raw, rows["asset"], rows["time"]]
    return pa.table(columns, schema=REJECTED_SCHEMA)


def raw_cells(rows: pa.Table) -> list[str]:
    """(n,) a JSON object of the values of each row that keeps the contract."""
    values = rows.drop_columns(["row"]).to_pylist()
    return [
        json.dumps({k: None if v is None else str(v) for k, v in row.items()}) for row in values
    ]


def _facts(fault: Fault, contract: Contract) -> dict[str, object]:
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
        "levels": ", ".join(sensor.levels),
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


def shown(value: str | None) -> str:
    """A cell's text, cut short."""
    return repr(value if value is None or len(value) <= 60 else f"{value[:60]}...")
