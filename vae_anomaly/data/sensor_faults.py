"""Sensors at fault themselves, apart from what they measure: stuck, missing, out of range.

How long a sensor reads the same, or nothing, in normal rows is learnt in training. A sensor that
does so for more than twice the longest time is at fault, whatever the model says of the row.

Of N lengths that fall off geometrically the longest is about as long as one in N, and twice that as
one in N²: a false call comes about once in N times the rows of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Sensor
from vae_anomaly.data.windows import Matrix, cut

__all__ = ["FaultyCells", "SensorLimits", "faulty_cells", "sensor_limits"]

#: A sensor is at fault that goes on for more than so many times the longest of training.
MARGIN = 2

#: A sensor that moved less often in training has not shown how long it may stand still.
FEWEST_MOVES = 100

#: Longest wait, so that what is read back is bounded: no further than `smoothing: auto` looks.
LONGEST_ROWS = 256


@dataclass(frozen=True)
class SensorLimits:
    """How a sensor is in normal rows of training; of those not named nothing is known.

    Attributes
    ----------
    stuck : mapping of str to int
        Rows in succession that read the same, from which on it is at fault.
    missing : mapping of str to int
        Rows in succession without a value, from which on it is at fault.
    seen : mapping of str to (float, float)
        The lowest and the highest reading.
    """

    stuck: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def left_context(self) -> int:
        """Rows that must stand before a row to say whether its sensors are at fault."""
        return max([1, *self.stuck.values(), *self.missing.values()]) - 1


class FaultyCells(NamedTuple):
    """Rows (k,) in which the sensor of this number is at fault, rising, and in what way."""

    sensor: int
    fault: Literal["stuck", "missing", "out of range"]
    rows: np.ndarray

    def but(self, taken: np.ndarray) -> FaultyCells:
        """Without the rows of a mask (n,)."""
        return self._replace(rows=self.rows[~taken[self.rows]])


def sensor_limits(train: Matrix, sensors: Sequence[Sensor]) -> SensorLimits:
    """Learn from the normal rows of training what each sensor reads, and how long it stands still.

    Not watched for being stuck: binary and categorical sensors, which stand still by nature; those
    with fewer than 100 moves; and those that a fault of would show only after more than 256 rows.

    Parameters
    ----------
    train : Matrix
        Rows of training; a labelled anomaly (label > 0) ends what goes on, and does not count.
    sensors : sequence of Sensor
        Of the first columns.

    Examples
    --------
    >>> values = np.repeat(np.arange(200.0), 2)[:, None]  # each reading comes twice
    >>> label = np.zeros(400, np.int64)
    >>> sensor_limits(Matrix(values, np.arange(400), label), [Sensor(name="flow")])
    SensorLimits(stuck={'flow': 5}, missing={'flow': 1}, seen={'flow': (0.0, 199.0)})
    """
    normal = train.label <= 0
    run = cut(train.run, ~normal)
    stuck, missing, seen = {}, {}, {}
    for number, sensor in enumerate(sensors):
        values = train.values[:, number]
        same = _same_as_before(values) & (run > 0)
        n_moves = int((~same & normal & ~np.isnan(values)).sum())
        is_watched = sensor.kind == "continuous" and n_moves >= FEWEST_MOVES
        if is_watched and (rows := _limit(1 + _longest(same, run))) <= LONGEST_ROWS:
            stuck[sensor.name] = rows
        if (rows := _limit(_longest(np.isnan(values) & normal, run))) <= LONGEST_ROWS:
            missing[sensor.name] = rows
        known = values[normal & ~np.isnan(values)]
        if sensor.kind != "categorical" and len(known):
            seen[sensor.name] = (float(known.min()), float(known.max()))
    return SensorLimits(stuck, missing, seen)


def faulty_cells(
    table: pa.Table, run: np.ndarray, sensors: Sequence[Sensor], limits: SensorLimits
) -> Iterator[FaultyCells]:
    """Which sensors are at fault in which rows; each is the same in any cut of a stream.

    A value outside the physical range of its sensor has been refused by an ingest: it is found in
    rows that come another way.

    Parameters
    ----------
    table : pa.Table
        Readings sorted by asset and time, with `limits.left_context` rows before those that count.
    run : ndarray of shape (n,)
        How many rows of the same unbroken series stand directly before each.
    sensors : sequence of Sensor
    limits : SensorLimits

    Examples
    --------
    >>> table = pa.table({"flow": [1.0, 2.0, 2.0, 2.0, None, 99.0]})
    >>> flow = Sensor(name="flow", high=10)
    >>> limits = SensorLimits(stuck={"flow": 3}, missing={"flow": 1})
    >>> [(c.fault, c.rows.tolist()) for c in faulty_cells(table, np.arange(6), [flow], limits)]
    [('stuck', [3]), ('missing', [4]), ('out of range', [5])]
    """
    for number, sensor in enumerate(sensors):
        column = table[sensor.name]
        if sensor.name in limits.stuck:
            same = _same_as_before(pc.fill_null(column, float("nan")).to_numpy())
            n_before = limits.stuck[sensor.name] - 1
            yield FaultyCells(number, "stuck", _last_of(same, n_before, run, n_before))
        if sensor.name in limits.missing:
            n_rows = limits.missing[sensor.name]
            gone = pc.is_null(column, nan_is_null=True).to_numpy()
            yield FaultyCells(number, "missing", _last_of(gone, n_rows, run, n_rows - 1))
        if sensor.low is not None or sensor.high is not None:
            yield FaultyCells(number, "out of range", _outside(column, sensor))


def _same_as_before(values: np.ndarray) -> np.ndarray:
    """(n,) whether each value is the one before it; a missing one is like none."""
    same = np.zeros(len(values), bool)
    same[1:] = values[1:] == values[:-1]
    return same


def _longest(holds: np.ndarray, run: np.ndarray) -> int:
    """Most rows of one series in succession for which something holds (n,)."""
    at = np.arange(len(holds))
    first = np.maximum(at - run, np.maximum.accumulate(np.where(holds, 0, at + 1)))
    return int((at - first + 1).max(initial=0))


def _limit(longest: int) -> int:
    return MARGIN * longest + 1


def _last_of(holds: np.ndarray, n_rows: int, run: np.ndarray, n_before: int) -> np.ndarray:
    """Rows that are at least the n-th in succession for which something holds (n,).

    All of these and, of the series, so many before the last of them must be of one.
    """
    at = np.flatnonzero(holds)  # few: to look at them alone keeps scoring fast
    last, first = at[n_rows - 1 :], at[: max(0, len(at) - n_rows + 1)]
    found: np.ndarray = last[(last - first == n_rows - 1) & (run[last] >= n_before)]
    return found


def _outside(column: pa.ChunkedArray, sensor: Sensor) -> np.ndarray:
    """Rows in which a sensor reads what it cannot."""
    ends = pc.min_max(column)
    low = -np.inf if sensor.low is None else sensor.low
    high = np.inf if sensor.high is None else sensor.high
    lowest, highest = ends["min"].as_py(), ends["max"].as_py()
    if lowest is None or (lowest >= low and highest <= high):
        return np.zeros(0, np.int64)
    values = pc.fill_null(column, float("nan")).to_numpy()
    return np.flatnonzero((values < low) | (values > high))
