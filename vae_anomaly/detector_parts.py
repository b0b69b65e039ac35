"""How rows of X become series and parts: what trains, stops the training and sets the threshold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.errors import InputError
from vae_anomaly.models.standardize import Series

__all__ = [
    "CALIBRATE",
    "STOP",
    "TABLE_STOP",
    "Calibration",
    "Order",
    "only",
    "parts_of",
    "series_order",
    "with_context",
]

#: Shares of the normal rows that stop the training and that set the threshold; the rest trains.
STOP, CALIBRATE = 0.1, 0.2

#: Share that stops the training in a table: a tenth of a hundred rows would choose the weights by
#: chance. On the mean of ADBench it makes no difference.
TABLE_STOP = 0.16


class Order(NamedTuple):
    """Rows with each series together (n,), and how many of its own stand before each (n,)."""

    rows: NDArray[np.int64]
    run: NDArray[np.int64]


def series_order(groups: ArrayLike | None, n_rows: int) -> Order:
    """The order that keeps each group's rows together, and theirs among themselves.

    Parameters
    ----------
    groups : array-like of shape (n_rows,) or None
        Separates series; by default all rows are one.
    n_rows : int

    Raises
    ------
    InputError
        There is not one entry a row.
    """
    if groups is None:
        return Order(np.arange(n_rows), np.arange(n_rows))
    names = np.asarray([str(name) for name in np.asarray(groups, dtype=object).ravel()])
    if names.shape != (n_rows,):
        raise InputError(f"groups has shape {names.shape}; give one entry a row, ({n_rows},)")
    _, code = np.unique(names, return_inverse=True)
    rows = np.argsort(code, kind="stable")
    at = np.arange(n_rows)
    starts = np.diff(code[rows], prepend=-1) != 0
    return Order(rows, at - np.maximum.accumulate(np.where(starts, at, 0)))


class Calibration(NamedTuple):
    """Rows that set a threshold, which of them do (n,), and those before that their scores need."""

    series: Series
    held: NDArray[np.bool_]


def with_context(series: Series, held: NDArray[np.bool_], reach: int) -> Calibration:
    """The held rows (n,) of a series, and as many rows before each as their scores look back on."""
    at, run = np.flatnonzero(held), series.run.numpy()
    steps = np.zeros(len(held) + 1, np.int64)
    np.add.at(steps, at - np.minimum(run[at], reach), 1)
    np.add.at(steps, at + 1, -1)
    needed = np.cumsum(steps[:-1]) > 0
    return Calibration(only(series, needed), held[needed])


def parts_of(
    label: NDArray[np.int64], order: Order, seed: int, *, is_series: bool, learns_labels: bool
) -> NDArray[np.int64]:
    """(n,) 0 trains, 1 stops, 2 calibrates; −1 is none of them.

    In a table, that is what anomalies are, unless labels are learnt: then they train and stop.
    """
    n = len(label)
    part = np.full(n, -1)
    if not is_series:
        rng = np.random.default_rng(seed)
        normal = rng.permutation(np.flatnonzero(label <= 0))
        part[normal] = _shares(len(normal), TABLE_STOP)
        for kind in np.unique(label[label > 0]) if learns_labels else ():
            own = rng.permutation(np.flatnonzero(label == kind))
            part[own] = np.arange(len(own)) < round(STOP * len(own))
        return part
    starts = np.flatnonzero(order.run == 0)
    for start, stop in zip(starts, np.append(starts[1:], n), strict=True):
        part[start:stop] = _shares(stop - start, STOP)
    return part


def _shares(n: int, share: float) -> NDArray[np.int64]:
    """(n,) parts in order: two rows at least train and stop, one at least calibrates."""
    n_stop, n_calibrate = max(min(2, n // 2), round(share * n)), max(1, round(CALIBRATE * n))
    n_calibrate = min(n_calibrate, n - n_stop)
    return np.repeat([0, 1, 2], [n - n_stop - n_calibrate, n_stop, n_calibrate])


def only(series: Series, chosen: NDArray[np.bool_]) -> Series:
    """The chosen rows; each knows only the chosen rows directly before it."""
    at = np.arange(len(chosen))
    broken = ~np.concatenate([[False], chosen[:-1]]) | (series.run.numpy() == 0)
    run = at - np.maximum.accumulate(np.where(broken, at, 0))
    keep = torch.from_numpy(chosen)
    return Series(series.rows[keep], torch.from_numpy(run[chosen]), series.label[keep])
