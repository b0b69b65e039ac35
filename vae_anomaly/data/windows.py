"""Sorted readings → matrices whose rows know how much of their own series stands before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Contract

__all__ = ["Matrix", "by_asset", "cut", "matrix_of", "runs", "sorted_readings"]


@dataclass(frozen=True)
class Matrix:
    """Rows of one or more series, in time order within each.

    Attributes
    ----------
    values : ndarray of shape (n, d + c)
        Sensors, then context, in float64 and their own units; NaN = missing. A categorical sensor
        is the code of its level, from 0 on in the order of the contract; categorical context is a
        column a level, 1 where it holds.
    run : ndarray of shape (n,)
        How many rows of the same unbroken series stand directly before each row.
    label : ndarray of shape (n,)
        0 normal, positive an anomaly (its class), −1 unknown.
    """

    values: np.ndarray
    run: np.ndarray
    label: np.ndarray


def matrix_of(table: pa.Table, contract: Contract, aside: np.ndarray | None = None) -> Matrix:
    """Turn readings, sorted by asset and time, into a matrix.

    A new series starts with each asset, and after a gap of more than
    ``contract.sampling.max_gap_s`` seconds.

    Parameters
    ----------
    table : pa.Table
        Readings, as `sorted_readings` gives them; a missing `label` column means unknown.
    contract : Contract
        Names the sensors and the context.
    aside : ndarray of shape (n,), optional
        Rows that belong to no series: no window reaches into them or across.
    """
    width = len(contract.sensors) + contract.context_width
    values = np.empty((table.num_rows, width), np.float64)
    for at, column in enumerate(_columns(table, contract)):
        values[:, at] = pc.fill_null(column, float("nan")).to_numpy()
    if "label" in table.column_names:
        label = pc.fill_null(table["label"].cast(pa.int64()), -1).to_numpy().copy()
    else:
        label = np.full(table.num_rows, -1, np.int64)
    run = runs(table, contract.sampling.max_gap_s)
    return Matrix(values, run if aside is None else cut(run, aside), label)


def _columns(table: pa.Table, contract: Contract) -> Iterator[pa.ChunkedArray]:
    """One column a sensor; one for an entry of the context, or one a level of it."""
    for sensor in contract.sensors:
        cells = table[sensor.name]
        if sensor.kind == "categorical":
            cells = pc.index_in(cells, pa.array(sensor.levels, pa.string()))
        yield cells.cast(pa.float64(), safe=False)
    for entry in contract.context:
        if entry.kind != "categorical":
            yield table[entry.name].cast(pa.float64(), safe=False)
        for level in entry.levels:
            yield pc.equal(table[entry.name], level).cast(pa.float64())


def cut(run: np.ndarray, aside: np.ndarray) -> np.ndarray:
    """(n,) runs of series that end where a row is set aside, and begin anew behind it.

    Examples
    --------
    >>> cut(np.array([0, 1, 2, 3, 4]), np.array([False, False, True, False, False]))
    array([0, 1, 0, 0, 1])
    """
    starts = (run == 0) | aside
    starts[1:] |= aside[:-1]
    at = np.arange(len(run))
    since: np.ndarray = at - np.maximum.accumulate(np.where(starts, at, 0))
    return since


def runs(table: pa.Table, max_gap_s: float | None) -> np.ndarray:
    """(n,) rows of the same unbroken series directly before each row of a sorted table.

    Examples
    --------
    >>> t = pa.array([0, 1, 9, 10], pa.timestamp("s", "UTC"))
    >>> runs(pa.table({"asset": ["a", "a", "a", "b"], "time": t}), max_gap_s=5.0)
    array([0, 1, 0, 0])
    """
    n = table.num_rows
    if n == 0:
        return np.zeros(0, np.int64)
    asset = table["asset"].combine_chunks().dictionary_encode().indices.to_numpy()
    moment = table["time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    starts = np.ones(n, bool)
    starts[1:] = asset[1:] != asset[:-1]
    if max_gap_s is not None:
        starts[1:] |= np.diff(moment) > max_gap_s * 1e6
    at = np.arange(n)
    return at - np.maximum.accumulate(np.where(starts, at, 0))


def by_asset(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Each asset's rows of a table, in the order of time; a view, not a copy, of each."""
    rows = sorted_readings(table)
    if not rows.num_rows:
        return
    ends = pc.run_end_encode(rows["asset"].combine_chunks())
    start = 0
    for asset, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
        yield asset, rows.slice(start, end - start)
        start = end


def sorted_readings(table: pa.Table) -> pa.Table:
    """A table in the order of its series: by asset, then time."""
    return table.sort_by([("asset", "ascending"), ("time", "ascending")]).combine_chunks()
