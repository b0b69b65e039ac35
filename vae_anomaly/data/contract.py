"""From a batch of rows to accepted and rejected ones: what a row must have to be a reading.

Every row ends in exactly one of the two tables. What becomes of it does not depend on the rows
beside it, but for an hour that clocks show twice (`data.clocks`). How a cell is read, `data.cells`
says; why a row is refused, `data.refusals`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Contract, Sensor
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
from vae_anomaly.data.quality import CellCounts, Codes, count_cells, read_codes, with_bad_cells
from vae_anomaly.data.refusals import REASONS, REJECTED_SCHEMA, Fault, rejected_rows, shown
from vae_anomaly.data.schemas import samples_schema
from vae_anomaly.data.times import read_times
from vae_anomaly.errors import ContractError

__all__ = [
    "Checked",
    "check_batch",
    "check_header",
]


@dataclass(frozen=True)
class Checked:
    """The rows of a batch: `accepted` as readings, `rejected` with the reason of each.

    `cells` says what became of every cell of every sensor, in the rows of both.
    """

    accepted: pa.Table
    rejected: pa.Table
    cells: CellCounts = field(default_factory=Counter)


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
            f"the header is one column, {shown(there[0])}; set source.delimiter to {signs[0]!r}"
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
        The rows' asset if the contract names no column for it.
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
        read = _read(sensor, cells[sensor.name], contract, decimal, code)
        counts += count_cells(read, code, ~is_broken)
        is_sample = contract.is_shaped
        reads[sensor.name] = with_bad_cells(read, cells[sensor.name], code) if is_sample else read
    for name, kind in contract.carried.items():
        reads[name] = (
            read_names(name, cells[name])
            if kind == "text"
            else read_numbers(
                name, cells[name], decimal, truths=True, no_value=contract.quality.texts
            )
        )
    return _told_apart(batch, contract, decimal, reads, is_broken, counts)


def _read(
    sensor: Sensor, cells: pa.Array, contract: Contract, decimal: str, code: Codes | None
) -> Read:
    """A sensor's column, or one of the context; only there may a level be one that none names."""
    no_value, is_good = contract.quality.texts, None if code is None else code.is_good
    if sensor.kind != "categorical":
        return read_sensor(cells, sensor, decimal, no_value=no_value, is_good=is_good)
    named_only = sensor.name in contract.sensor_names
    return read_category(cells, sensor, no_value=no_value, is_good=is_good, named_only=named_only)


def _told_apart(
    batch: pa.RecordBatch,
    contract: Contract,
    decimal: str,
    reads: dict[str, Read],
    is_broken: Mask,
    counts: CellCounts,
) -> Checked:
    """Rows without a fault as readings, the others with the first reason that applies."""
    faults = [Fault("broken_line", "", is_broken)]
    for read in reads.values():
        faults += [Fault(reason, read.column, mask) for reason, mask in read.faults.items()]
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
    return Checked(accepted, rejected_rows(batch, table, why, faults, contract, decimal), counts)


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
    if (column := contract.asset_column) is not None:
        reads["asset"] = read_names(column, cells[column], missing="no_asset")
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
        unknown = -1 if contract.is_shaped else None
        reads["label"] = read_labels(
            contract.label, cells[contract.label], decimal, unknown=unknown
        )
    reads["mode"] = Read("", pa.nulls(n_rows, pa.string()), {})
    if contract.mode is not None:
        reads["mode"] = read_names(contract.mode, cells[contract.mode])
    return reads


def _quality_columns(contract: Contract) -> set[str]:
    """Columns with quality codes."""
    sensors = (*contract.sensors, *contract.context)
    return {contract.quality.column, *(sensor.quality for sensor in sensors)} - {""}


def _place(column: str, contract: Contract) -> str:
    """Where plant.yml names a column."""
    if column in contract.sensor_names or column in contract.context_names:
        return "sensors" if column in contract.sensor_names else "context"
    if column in contract.carried:
        return "run_condition"
    places = {contract.time.column: "time", contract.asset_column: "asset", contract.label: "label"}
    if column in _quality_columns(contract):
        return "quality"
    return places.get(column, "mode")
