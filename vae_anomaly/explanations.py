"""What a verdict says of its reasons: sensors, directions, what was expected, sensor faults."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from vae_anomaly.config import Contract
from vae_anomaly.data.schemas import N_TOP
from vae_anomaly.data.sensor_faults import FaultyCells, SensorLimits
from vae_anomaly.data.windows import Matrix
from vae_anomaly.scoring.scorer import Scorer

__all__ = ["changed_constants", "fault_names", "shares", "top_sensors"]


def top_sensors(
    scorer: Scorer,
    matrix: Matrix,
    contributions: np.ndarray,
    at: np.ndarray,
    contract: Contract,
    faults: Sequence[FaultyCells],
    limits: SensorLimits,
) -> dict[str, pa.Array]:
    """The columns ``top_...`` of verdicts: the sensors behind each anomaly, null in other rows.

    Parameters
    ----------
    scorer : Scorer
    matrix : Matrix
        Of n rows, left context included.
    contributions : ndarray of shape (n, d)
    at : ndarray of shape (m,)
        The anomalous rows.
    contract : Contract
    faults : sequence of FaultyCells
        Of these rows.
    limits : SensorLimits
        What each sensor has read in training. A model sees what it is to explain, and follows a
        strong fault, sometimes beyond it: what no normal row read is not expected.
    """
    n, names = len(contributions), np.asarray(contract.sensor_names)
    nowhere = (-np.inf, np.inf)
    seen = np.array([limits.seen.get(name, nowhere) for name in contract.sensor_names])  # (d, 2)
    expected = _expected(scorer, matrix, at).clip(seen[:, 0], seen[:, 1])  # (m, d)
    own = contributions[at]
    top = np.argsort(-own, axis=1, kind="stable")[:, :N_TOP]  # (m, k)
    of = np.arange(len(at))[:, None]
    stuck = _stuck(at, faults, len(names))
    direction = _directions(matrix.values[at[:, None], top], expected[of, top], top, contract)
    direction[stuck[of, top]] = "frozen"
    count = np.zeros(n, np.int64)
    count[at] = top.shape[1]

    def lists(values: np.ndarray, kind: pa.DataType) -> pa.Array:
        return _lists(pa.array(values.reshape(-1), kind), count)

    return {
        "top_sensors": lists(names[top], pa.string()),
        "top_contributions": lists(own[of, top], pa.float64()),
        "top_shares": lists(shares(own)[of, top], pa.float64()),
        "top_directions": lists(direction, pa.string()),
        "top_expected": lists(expected[of, top], pa.float64()),
    }


def shares(contributions: np.ndarray) -> np.ndarray:
    """(n, d) share of each sensor in what speaks against a row: contributions above 0.

    A contribution below 0 says that the sensor is more normal than the others make it likely to be.

    Examples
    --------
    >>> shares(np.array([[6.0, 2.0, -1.0], [-1.0, -2.0, -3.0]]))
    array([[0.75, 0.25, 0.  ],
           [0.  , 0.  , 0.  ]])
    """
    against = contributions.clip(min=0)
    total = against.sum(axis=1, keepdims=True)
    share: np.ndarray = np.divide(against, total, out=np.zeros_like(against), where=total > 0)
    return share


def changed_constants(scorer: Scorer, matrix: Matrix, contract: Contract) -> pa.Array:
    """Names of the sensors that were constant in training and are not so in a row; else null."""
    standardizer = scorer.standardizer
    changed = standardizer.changed(torch.from_numpy(matrix.values)).numpy()
    names = np.asarray(contract.sensor_names)[standardizer.constants.numpy()]
    return _lists(pa.array(names[np.nonzero(changed)[1]], pa.string()), changed.sum(axis=1))


def fault_names(faults: Sequence[FaultyCells], contract: Contract, n_rows: int) -> pa.Array:
    """Sensor faults of each row, such as ``flow: stuck``; null where there is none."""
    none = np.zeros(0, np.int64)
    rows = np.concatenate([none, *(cells.rows for cells in faults)])
    texts = [f"{contract.sensor_names[cells.sensor]}: {cells.fault}" for cells in faults]
    which = np.repeat(np.arange(len(faults)), [len(cells.rows) for cells in faults])
    names = pa.array(texts, pa.string()).take(pa.array(which[np.argsort(rows, kind="stable")]))
    return _lists(names, np.bincount(rows, minlength=n_rows))


def _directions(
    values: np.ndarray, expected: np.ndarray, top: np.ndarray, contract: Contract
) -> np.ndarray:
    """(m, k) what each value is beside the expected one; a level is not higher than another."""
    direction = np.where(values > expected, "high", "low").astype(object)
    for number, sensor in enumerate(contract.sensors):
        if sensor.kind == "categorical":
            other = (top == number) & np.isfinite(expected)
            direction[other] = [f"not {sensor.levels[int(code)]}" for code in expected[other]]
    direction[values == expected] = "as expected"
    direction[np.isnan(values)] = "missing"
    return direction


def _stuck(at: np.ndarray, faults: Sequence[FaultyCells], n_sensors: int) -> np.ndarray:
    """(m, d) whether a sensor is stuck in the rows `at`."""
    stuck = np.zeros((len(at), n_sensors), bool)
    for cells in faults:
        if cells.fault == "stuck":
            stuck[:, cells.sensor] = np.isin(at, cells.rows)
    return stuck


def _expected(scorer: Scorer, matrix: Matrix, at: np.ndarray) -> np.ndarray:
    """(m, d) what the model expected at the rows `at`, each with its own window."""
    lag = np.arange(scorer.window - 1, -1, -1)
    rows = at[:, None] - lag  # (m, w)
    inside = lag <= matrix.run[at][:, None]
    picked = rows[inside]
    run = (np.minimum(matrix.run[at], scorer.window - 1)[:, None] - lag)[inside]
    last = np.cumsum(inside.sum(axis=1)) - 1
    with torch.inference_mode():
        windows = torch.from_numpy(matrix.values[picked]), torch.from_numpy(run)
        values: np.ndarray = scorer.expected(*windows).numpy()
    found: np.ndarray = values[last]
    return found


def _lists(flat: pa.Array, count: np.ndarray) -> pa.Array:
    """(n,) lists of so many of the values each, one after another; null where there are none."""
    ends = np.concatenate([[0], np.cumsum(count)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat, mask=pa.array(count == 0))
