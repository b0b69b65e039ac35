"""Rows of a matrix as the windows that a scorer sees, and windows as a matrix again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.data.windows import Matrix
from vae_anomaly.errors import InputError
from vae_anomaly.models.standardize import Batch
from vae_anomaly.scoring.scorer import Scorer

__all__ = ["batch_of", "matrix_of_windows", "raw_windows", "refuse_misfits", "restored"]


def raw_windows(scorer: Scorer, matrix: Matrix, index: np.ndarray) -> np.ndarray:
    """(m, w, d + c) the windows that end at some rows; NaN before their series begins.

    Raises
    ------
    InputError
        The matrix does not have the scorer's columns, or has no such row.
    """
    refuse_misfits(scorer, matrix, index)
    lag = np.arange(scorer.window - 1, -1, -1)
    at = np.maximum(index[:, None] - lag, 0)  # (m, w)
    inside = lag <= matrix.run[index][:, None]
    windows: np.ndarray = np.where(inside[..., None], matrix.values[at], np.nan)
    return windows


def refuse_misfits(scorer: Scorer, matrix: Matrix, index: np.ndarray) -> None:
    """Raise an InputError where a matrix does not have the scorer's columns, or no such rows."""
    n_columns = len(scorer.standardizer.center)
    if matrix.values.ndim != 2 or matrix.values.shape[1] != n_columns:
        raise InputError(
            f"rows of shape {matrix.values.shape}; this model takes {n_columns} columns: "
            f"{scorer.standardizer.n_features} sensors, then its context"
        )
    if len(index) and not 0 <= index.min() <= index.max() < len(matrix.run):
        raise InputError(f"row {index.max()} is asked for; there are {len(matrix.run)}, from 0 on")


def batch_of(scorer: Scorer, windows: np.ndarray) -> Batch:
    """Raw windows (m, w, d + c) standardised as the module sees them, x (m, w * d_active)."""
    single = scorer.standardizer(torch.from_numpy(np.ascontiguousarray(windows)))
    return Batch(
        x=single.x.flatten(1),
        observed=single.observed.flatten(1),
        context=single.context[:, -1],
        label=single.label[:, -1],
    )


def restored(scorer: Scorer, x: Tensor) -> np.ndarray:
    """Standardised windows (m, w * d_active) in the plant's units, (m, w, d)."""
    values: np.ndarray = scorer.standardizer.restored(x.reshape(len(x), scorer.window, -1)).numpy()
    return values


def matrix_of_windows(sensors: np.ndarray, context: np.ndarray, label: int) -> Matrix:
    """Windows (m, w, d) with their context (m, w, c) one below the other, each a series."""
    m, w, d = sensors.shape
    return Matrix(
        np.concatenate([sensors, context], axis=2).reshape(m * w, d + context.shape[2]),
        np.tile(np.arange(w), m),
        np.full(m * w, label, np.int64),
    )
