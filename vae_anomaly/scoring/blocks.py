"""Rows to score, in blocks of one size, each with its window.

Where a block's rows go on from one another, its windows lie over them in memory, and an encoder of
backbone "temporal" passes over the rows and not over each window. A series that begins within a
block has missing rows put before it: the windows that end there are nobody's. Where series are so
short that these would be too many, each window is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.overlapping import overlapping
from vae_anomaly.models.standardize import Batch, windowed

__all__ = ["BLOCK_ROWS", "Block", "blocks"]

#: Rows of every network call; fewer are padded, because the bits of a matrix product depend on
#: its size.
BLOCK_ROWS = 1024

#: Share of a block's windows that must be somebody's: to copy windows costs about a quarter more.
LEAST_OWN = 0.8


class Block(NamedTuple):
    """Windows of some rows.

    Attributes
    ----------
    rows : slice
        The rows.
    own : Tensor of shape (m,)
        Which windows of the batch are theirs; int64.
    batch : Batch
        Of `BLOCK_ROWS` windows.
    """

    rows: slice
    own: Tensor
    batch: Batch


def blocks(
    rows: Tensor, run: Tensor, standardize: Callable[[Tensor], Batch], window: int
) -> Iterator[Block]:
    """Windows of all rows, in order.

    Parameters
    ----------
    rows : Tensor of shape (n, d + c)
        Raw rows in time order within each series; NaN = missing.
    run : Tensor of shape (n,)
        How many rows of the same series stand directly before each; int64.
    standardize : callable
        Raw rows -> batch of single rows.
    window : int
        Number w of rows, the row itself included.

    Examples
    --------
    >>> import torch
    >>> from vae_anomaly.models.standardize import fit_standardizer
    >>> rows, run = torch.randn(1500, 3, dtype=torch.float64), torch.arange(1500)
    >>> [block.rows for block in blocks(rows, run, fit_standardizer(rows, n_context=0), 60)]
    [slice(0, 1024, None), slice(1024, 1500, None)]
    """
    start = 0
    while start < len(rows):
        stop = min(len(rows), start + BLOCK_ROWS)
        own = _own_windows(run[start:stop], window)
        if window == 1 or len(own) < LEAST_OWN * (stop - start):
            yield _copied(rows, run, slice(start, stop), standardize, window)
        else:
            stop = start + len(own)
            stretch = _stretch(rows, run, start, own, window)
            yield Block(slice(start, stop), own, _laid_over(standardize(stretch), window))
        start = stop


def _own_windows(run: Tensor, window: int) -> Tensor:
    """Which windows of a block belong to some rows, as far as it has room for them, (m,)."""
    if window == 1:
        return torch.arange(len(run))
    reach = run.clamp(max=window - 1)
    goes_on = reach[1:] == (reach[:-1] + 1).clamp(max=window - 1)
    steps = torch.where(goes_on, 1, window)  # a series that begins has its own rows before it
    at = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
    return at[at < BLOCK_ROWS]


def _stretch(rows: Tensor, run: Tensor, start: int, own: Tensor, window: int) -> Tensor:
    """Rows under a block's windows, of which `own` are those of the rows from `start` on.

    They are (`BLOCK_ROWS` + w - 1, d + c); what lies before a series, and behind the last, is NaN.
    """
    place = torch.arange(1 - window, BLOCK_ROWS)
    of = torch.searchsorted(own, place).clamp(max=len(own) - 1)  # the row that each stands before
    lag = own[of] - place
    is_missing = (lag < 0) | (lag > run[start + of])
    source = (start + of - lag).masked_fill(is_missing, 0)
    return rows.index_select(0, source).masked_fill_(is_missing[:, None], torch.nan)


def _laid_over(batch: Batch, window: int) -> Batch:
    """All windows of the rows of a batch."""
    return Batch(
        overlapping(batch.x, window),
        overlapping(batch.observed, window),
        batch.context[window - 1 :],
        batch.label[window - 1 :],
    )


def _copied(
    rows: Tensor, run: Tensor, at: slice, standardize: Callable[[Tensor], Batch], window: int
) -> Block:
    """Windows of rows, each by itself; the block is filled up with its last row."""
    first = max(0, at.start - window + 1)
    index = torch.arange(at.start, at.start + BLOCK_ROWS).clamp(max=at.stop - 1) - first
    own = torch.arange(at.stop - at.start)
    batch = standardize(rows[first : at.stop])
    return Block(at, own, windowed(batch, run[first : at.stop], index, window))
