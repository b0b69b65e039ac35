"""Windows that lie over one series in memory: what they share is stored once, and worked out once.

A window's rows stand one after the other, and the next window begins a row later, so the windows
(n, w * d) of rows (T, d) are a view of them with strides (d, 1). Who knows nothing of it sees
windows like any others.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["each_entry", "overlapping", "rows_beneath"]


def overlapping(rows: Tensor, window: int) -> Tensor:
    """All windows (T - w + 1, w * d) of rows (T, d), the oldest row first; a view.

    Examples
    --------
    >>> import torch
    >>> overlapping(torch.tensor([[1], [2], [3], [4]]), 3)
    tensor([[1, 2, 3],
            [2, 3, 4]])
    """
    d = rows.shape[-1]
    return rows.flatten().unfold(0, window * d, d)


def rows_beneath(windows: Tensor, d: int) -> Tensor | None:
    """The rows (*, n + w - 1, d) that windows (*, n, w * d) lie over, or None if they do not.

    Examples
    --------
    >>> import torch
    >>> windows = overlapping(torch.tensor([[1], [2], [3], [4]]), 3)
    >>> rows_beneath(windows, 1).flatten(), rows_beneath(windows.clone(), 1)
    (tensor([1, 2, 3, 4]), None)
    """
    *lead, n, width = windows.shape
    *steps, step, unit = windows.stride()
    if (step, unit) != (d, 1) or width == d:
        return None
    return windows.as_strided((*lead, n + width // d - 1, d), (*steps, d, 1))


def each_entry(function: Callable[..., Tensor], *windows: Tensor) -> Tensor:
    """A function of each entry of windows (n, D), which lie over one another as they did before.

    Parameters
    ----------
    function : callable
        Of as many tensors of one shape as there are `windows`; each entry by itself.
    *windows : Tensor of shape (n, D)
    """
    step, width = windows[0].stride(0), windows[0].shape[-1]
    if not 0 < step < width or any(part.stride() != (step, 1) for part in windows):
        return function(*windows)
    length = (len(windows[0]) - 1) * step + width
    return function(*(part.as_strided((length,), (1,)) for part in windows)).unfold(0, width, step)
