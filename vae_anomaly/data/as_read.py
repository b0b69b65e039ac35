"""Rows that a model made, as the plant would read them: within range, with levels, as a table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vae_anomaly.config import Contract, Sensor
from vae_anomaly.data.windows import Matrix

__all__ = ["AsRead", "as_read", "sensor_table"]


class AsRead(NamedTuple):
    """Rows within the ranges of a contract, and how many cells of each sensor were outside."""

    matrix: Matrix
    n_clipped: dict[str, int]


def as_read(matrix: Matrix, contract: Contract) -> AsRead:
    """Rows whose sensors stay within their physical ranges, as a sensor at its limit reads.

    A binary sensor reads 0 or 1, a categorical one a level that it has; context is left as it is.

    Examples
    --------
    >>> contract = Contract(time="t", sensors=({"name": "flow", "low": 0.0, "high": 9.0},))
    >>> rows = Matrix(np.array([[-1.0], [4.0], [np.nan]]), np.arange(3), np.zeros(3, np.int64))
    >>> found = as_read(rows, contract)
    >>> found.matrix.values.ravel(), found.n_clipped
    (array([ 0.,  4., nan]), {'flow': 1})
    """
    values = matrix.values.copy()
    n_clipped: dict[str, int] = {}
    for column, sensor in enumerate(contract.sensors):
        own = values[:, column]
        low, high = _limits(sensor)
        outside = int(((own < low) | (own > high)).sum())
        if sensor.kind == "continuous" and outside:
            n_clipped[sensor.name] = outside
        values[:, column] = np.clip(own, low, high)
        if sensor.kind != "continuous":
            values[:, column] = np.rint(values[:, column])
    return AsRead(Matrix(values, matrix.run, matrix.label), n_clipped)


def _limits(sensor: Sensor) -> tuple[float, float]:
    if sensor.kind == "binary":
        return 0.0, 1.0
    if sensor.kind == "categorical":
        return 0.0, len(sensor.levels) - 1.0
    low = -np.inf if sensor.low is None else sensor.low
    high = np.inf if sensor.high is None else sensor.high
    return low, high


def sensor_table(matrix: Matrix, contract: Contract) -> pa.Table:
    """Sensors and context of a matrix as columns of their own names and units; missing is null.

    Examples
    --------
    >>> contract = Contract(time="t", sensors=("flow",))
    >>> rows = Matrix(np.array([[1.0], [np.nan]]), np.arange(2), np.zeros(2, np.int64))
    >>> sensor_table(rows, contract).to_pydict()
    {'flow': [1.0, None]}
    """
    columns: dict[str, pa.Array] = {}
    at = 0
    for sensor in contract.sensors:
        own = matrix.values[:, at]
        columns[sensor.name] = _levels(own, sensor) if sensor.levels else _numbers(own)
        at += 1
    for entry in contract.context:
        width = len(entry.levels) or 1
        own = matrix.values[:, at : at + width]
        if entry.levels:  # a column a level: the strongest holds, and none if none does
            code = np.where(own.max(axis=1) > 0, own.argmax(axis=1), np.nan)
            columns[entry.name] = _levels(code, entry)
        else:
            columns[entry.name] = _numbers(own[:, 0])
        at += width
    return pa.table(columns)


def _numbers(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)  # NaN is null


def _levels(code: np.ndarray, sensor: Sensor) -> pa.Array:
    index = pa.array(np.nan_to_num(code).astype(np.int32), mask=np.isnan(code))
    return pa.array(sensor.levels, pa.string()).take(index)
