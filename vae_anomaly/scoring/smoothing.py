"""Smoothing of scores: a cut-off EWMA, whose memory is a fixed number of rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_anomaly.errors import InputError

__all__ = ["ewma", "kernel_length"]

#: Weight of the rows that a kernel leaves out.
CUT_WEIGHT = 1e-4


def ewma(values: Tensor, run: Tensor, rate: float) -> Tensor:
    """Exponentially weighted moving average (n, ...) of each row and those of its series before it.

    Weights rate * (1 - rate)^lag, cut off where the rest weighs below 1e-4 and normalised over the
    rows that exist. A sum over 2m rows is one over m rows and the same m rows earlier, so that
    every row is summed in the same order, wherever the rows are cut.

    Parameters
    ----------
    values : Tensor of shape (n, ...)
    run : Tensor of shape (n,)
        How many rows of the same series stand directly before each.
    rate : float
        Weight of the row itself, in (0, 1].

    References
    ----------
    Roberts (1959), Control Chart Tests Based on Geometric Moving Averages.
    """
    length, kernel = 1, kernel_length(rate)
    shape = (-1,) + (1,) * (values.dim() - 1)
    total = values
    while length < kernel:
        reaches = (run[length:] >= length).reshape(shape)
        earlier = total[:-length] * (1 - rate) ** length
        total = torch.cat([total[:length], total[length:] + torch.where(reaches, earlier, 0.0)])
        length *= 2
    terms = torch.arange(1, kernel + 1, dtype=torch.float64)
    weight = (rate / (1 - (1 - rate) ** terms)).to(values.dtype)  # of j rows that exist
    return total * weight[run.clamp(max=kernel - 1)].reshape(shape)


def kernel_length(rate: float) -> int:
    """Rows that a kernel covers, a power of two; those further back weigh below 1e-4."""
    if not 0 < rate <= 1:
        raise InputError(f"smoothing={rate} must be a rate above 0 and at most 1, or None")
    needed = 1.0 if rate == 1 else max(1.0, math.log(CUT_WEIGHT) / math.log1p(-rate))
    return int(2 ** math.ceil(math.log2(needed)))
