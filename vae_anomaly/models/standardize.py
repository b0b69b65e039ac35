"""Raw rows to standardised batches: a shift and a scale for each column that holds numbers.

Raw rows are float64, because a counter of 10⁷ litres keeps its noise only there; what leaves is
float32. The numbers are buffers, so they travel with the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vae_anomaly.errors import InputError

__all__ = [
    "Batch",
    "Scaling",
    "Series",
    "Standardizer",
    "Windows",
    "evenly",
    "fit_standardizer",
    "joined",
    "spaced",
    "split",
    "take",
    "windowed",
]

#: A spread below this share of the column's size is rounding, not a signal (float64 has 2e-16).
ROUNDING = 1e-12

#: A constant sensor has changed when it moves by more than this share of its constant, or of 1.
CONSTANT_TOLERANCE = 1e-6

#: Standardised values end here, so that squares of absurd readings stay finite in float32.
LARGEST = 1e6


#: What a network sees of a sensor: mean 0 and standard deviation 1; its training minimum as 0 and
#: its maximum as 1; or the same two values for all sensors, as 0 and 1.
Scaling = Literal["standard", "range"] | tuple[float, float]


class Batch(NamedTuple):
    """Standardised rows; a leading axis ``*`` is an ensemble.

    Attributes
    ----------
    x : Tensor of shape (*, n, d)
        Sensors, 0 where missing.
    observed : Tensor of shape (*, n, d)
        Whether the entry was measured.
    context : Tensor of shape (*, n, c)
        Operating conditions, 0 where missing; c = 0 is the unconditional model.
    label : Tensor of shape (*, n)
        0 normal, positive the class of an anomaly, -1 unknown; int64.
    """

    x: Tensor
    observed: Tensor
    context: Tensor
    label: Tensor


class Series(NamedTuple):
    """Raw rows of one or more series, in time order within each.

    Attributes
    ----------
    rows : Tensor of shape (n, d + c)
        Sensors first, then context, in their own units; NaN = missing; float64.
    run : Tensor of shape (n,)
        How many rows of the same unbroken series stand directly before this one; int64.
    label : Tensor of shape (n,)
        0 normal, positive the class of an anomaly, -1 unknown; int64.
    """

    rows: Tensor
    run: Tensor
    label: Tensor


class Windows(NamedTuple):
    """Which rows a model is to see, each with the rows before it; gathered when they are needed.

    Attributes
    ----------
    batch : Batch
        Single rows.
    run : Tensor of shape (n,)
        How many rows of the same series stand directly before each; int64.
    rows : Tensor of shape (m,)
        The rows meant; int64.
    window : int
        Number w of rows to a window, the row itself included.
    """

    batch: Batch
    run: Tensor
    rows: Tensor
    window: int

    @classmethod
    def whole(cls, batch: Batch) -> Windows:
        """All rows of a batch, each by itself."""
        n = len(batch.x)
        return cls(batch, torch.zeros(n, dtype=torch.int64), torch.arange(n), 1)

    def gather(self, index: Tensor) -> Batch:
        """Those of the rows that an index (m,) into `rows` names, x (m, w * d)."""
        return windowed(self.batch, self.run, self.rows[index], self.window)

    def only(self, chosen: Tensor) -> Windows:
        """Those of the rows that a mask (m,) chooses."""
        return self._replace(rows=self.rows[chosen])

    def spread(self, most: int) -> Batch:
        """At most so many of the rows, evenly spaced."""
        return self.gather(evenly(len(self.rows), most))


def take(batch: Batch, index: Tensor) -> Batch:
    """The rows of a batch that an index (m,) names."""
    return Batch(*(part[index] for part in batch))


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of several batches, one after another."""
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def spaced(batch: Batch, most: int) -> Batch:
    """At most so many rows of a batch, evenly spaced."""
    n = len(batch.x)
    return take(batch, evenly(n, most)) if n > most else batch


def evenly(n: int, most: int) -> Tensor:
    """At most so many of the numbers below n, evenly spaced, the first and the last among them."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).long()


def split(batch: Batch, sizes: int | list[int]) -> Iterator[Batch]:
    """A batch in pieces, as ``torch.split`` cuts."""
    pieces = (torch.split(part, sizes) for part in batch)
    return (Batch(*parts) for parts in zip(*pieces, strict=True))


def windowed(batch: Batch, run: Tensor, index: Tensor, window: int) -> Batch:
    """Rows with the rows before them: x (m, w * d), the oldest first; context and label its own.

    Parameters
    ----------
    batch : Batch
        Single rows, (n, d).
    run : Tensor of shape (n,)
        How many rows of the same series stand directly before each; what lies further back is
        missing.
    index : Tensor of shape (m,)
        The rows that are wanted.
    window : int
        Number w of rows, the row itself included.
    """
    if window == 1:
        return take(batch, index)
    lag = torch.arange(window - 1, -1, -1, device=index.device)
    at = (index[:, None] - lag).clamp(min=0)  # (m, w)
    outside = lag > run[index][:, None]
    return Batch(
        x=_side_by_side(batch.x, at, outside),
        observed=_side_by_side(batch.observed, at, outside),
        context=batch.context[index],
        label=batch.label[index],
    )


def _side_by_side(rows: Tensor, at: Tensor, outside: Tensor) -> Tensor:
    """Rows (n, d) at places (m, w) as (m, w * d), 0 where they are outside."""
    wide = rows.index_select(0, at.flatten()).reshape(*at.shape, rows.shape[-1])
    return wide.masked_fill_(outside[..., None], 0).flatten(1)


class Standardizer(nn.Module):
    """Raw rows (*, n, d + c) float64, NaN = missing, to a float32 `Batch` of the active sensors.

    Parameters
    ----------
    center, scale : Tensor of shape (d + c,)
        What becomes 0, and the difference that becomes 1, in each column's own unit; float64. An
        infinite scale switches a condition off.
    active : Tensor of shape (d,)
        Which sensors reach the network: those that varied in training, or all of an image.
    constant_value : Tensor of shape (d,)
        What a sensor that never varied always read, in its own unit; NaN for the others, and for
        those that were never observed.
    """

    center: Tensor
    scale: Tensor
    active: Tensor
    constant_value: Tensor

    def __init__(
        self, center: Tensor, scale: Tensor, *, active: Tensor, constant_value: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)
        self.register_buffer("active", active)
        self.register_buffer("constant_value", constant_value)

    @property
    def n_features(self) -> int:
        """Number of sensors d, constant ones included."""
        return len(self.active)

    @property
    def n_context(self) -> int:
        """Number of operating conditions c."""
        return len(self.center) - len(self.active)

    @property
    def sensors(self) -> Tensor:
        """Columns of the active sensors, (n_active,) int64."""
        return self.active.nonzero().squeeze(-1)

    @property
    def constants(self) -> Tensor:
        """Columns of the sensors that always read the same in training, (k,) int64."""
        return (~self.constant_value.isnan()).nonzero().squeeze(-1)

    def forward(self, rows: Tensor) -> Batch:
        sensors, d = self.sensors, self.n_features
        conditions = torch.arange(d, rows.shape[-1], device=rows.device)
        x = rows.index_select(-1, sensors)
        return Batch(
            x=self._standardized(x, sensors),
            observed=~x.isnan(),
            context=self._standardized(rows[..., d:], conditions),
            label=torch.full(rows.shape[:-1], -1, device=rows.device),
        )

    def _standardized(self, values: Tensor, columns: Tensor) -> Tensor:
        z = (values - self.center[columns]) / self.scale[columns]
        return z.nan_to_num(nan=0.0).clamp(-LARGEST, LARGEST).float()

    def changed(self, rows: Tensor) -> Tensor:
        """Which of the `constants` read otherwise in raw rows, (n, k); a missing one has not."""
        constant = self.constant_value[self.constants]
        limit = CONSTANT_TOLERANCE * constant.abs().clamp(min=1.0)
        return (rows[:, self.constants] - constant).abs() > limit

    def restored(self, x: Tensor) -> Tensor:
        """Standardised active sensors (*, n, d_active) in all sensors' own units (*, n, d)."""
        sensors = self.sensors
        values = x.double() * self.scale[sensors] + self.center[sensors]
        constant = self.constant_value.expand(*x.shape[:-1], -1)
        return constant.index_copy(-1, sensors, values)


def fit_standardizer(
    rows: Tensor,
    n_context: int,
    *,
    scaling: Scaling = "standard",
    levels: Sequence[int] = (),
) -> Standardizer:
    """Shift and scale of each column from what was observed, and which columns varied at all.

    Parameters
    ----------
    rows : Tensor of shape (n, d + c)
        Raw rows, sensors first; NaN = missing; float64.
    n_context : int
        Number c of operating conditions, the last columns; always by mean and standard deviation.
    scaling : "standard", "range" or tuple of float
        By mean and standard deviation, by the smallest and largest value, or by two values given,
        the same for all sensors, which then all reach the network whether they vary or not.
    levels : sequence of int, optional
        Of each sensor, how many levels its code 0, 1, ... has; the code counts from 1 from here on,
        so that 0 is a missing one. 0 levels: a number.

    Returns
    -------
    Standardizer

    Raises
    ------
    InputError
        The rows are not a float64 matrix with at least one sensor.

    Examples
    --------
    >>> rows = torch.tensor([[1.0, 5.0], [3.0, 5.0], [torch.nan, 5.0]], dtype=torch.float64)
    >>> standardizer = fit_standardizer(rows, n_context=0)
    >>> standardizer.active
    tensor([ True, False])
    >>> standardizer(rows).x.squeeze(-1)
    tensor([-1.,  1.,  0.])
    >>> fit_standardizer(rows, n_context=0, scaling=(0, 10))(rows).x
    tensor([[0.1000, 0.5000],
            [0.3000, 0.5000],
            [0.0000, 0.5000]])
    """
    if rows.dim() != 2 or rows.dtype != torch.float64 or not 0 <= n_context < rows.shape[-1]:
        raise InputError(
            f"rows of shape {tuple(rows.shape)} and type {rows.dtype} with n_context={n_context}; "
            "give a float64 matrix with at least one sensor before the context columns"
        )
    d = rows.shape[-1] - n_context
    maps = [_map(column, scaling) for column in rows[:, :d].unbind(-1)]
    maps += [_map(column, "standard") for column in rows[:, d:].unbind(-1)]
    center = torch.tensor([center for center, _ in maps], dtype=torch.float64)
    scale = torch.tensor([scale for _, scale in maps], dtype=torch.float64)
    active = scale[:d] > 0
    constant_value = center[:d].masked_fill(active, math.nan)
    scale[:d][~active], scale[d:][scale[d:] == 0] = 1.0, math.inf
    is_code = torch.tensor([bool(n) for n in levels] or [False] * d)
    center[:d][is_code], scale[:d][is_code] = -1.0, 1.0
    return Standardizer(center.nan_to_num(0.0), scale, active=active, constant_value=constant_value)


def _map(column: Tensor, scaling: Scaling) -> tuple[float, float]:
    """What becomes 0, and the difference that becomes 1, which is 0 for a constant column."""
    if not isinstance(scaling, str):
        low, high = scaling
        return low, high - low
    mean, deviation = _moments(column)
    if scaling == "standard" or not deviation:
        return mean, deviation
    low, high = (float(end) for end in column[column.isfinite()].aminmax())
    return low, high - low


def _moments(column: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the finite entries; NaN without any, 0 if they never vary."""
    values = column[column.isfinite()]
    if not len(values):
        return math.nan, 0.0
    low, high = values.aminmax()
    if high - low <= ROUNDING * torch.maximum(low.abs(), high.abs()):
        return float(values[0]), 0.0
    mean = values.mean()
    return float(mean), float((values - mean).square().mean().sqrt())
