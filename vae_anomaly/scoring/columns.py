"""What an operator should know of the columns that a scorer learns from, a sentence each.

Columns that never vary, hardly vary or are hardly ever there, copies of one another, and columns
whose scale a few absurd values set: each is learnt from, or left out, otherwise than one may think.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.standardize import Standardizer, evenly

__all__ = ["Column", "column_notes", "flags", "numbered"]

#: Rows that are looked at for all but constants; evenly spaced.
LOOKED_AT = 16_384

#: Rows that are compared for copies, and how near to 1 their correlation is.
COMPARED, COPIED = 4096, 1 - 1e-9

#: A column that reads one value in more than this share of its rows hardly varies.
MOSTLY = 0.99

#: A column with a value in less than this share of the rows is hardly ever there.
SELDOM = 0.05

#: Where the central 98 % of the rows span less of what becomes 1 than this, the networks see next
#: to no difference between them. A Gaussian column spans 4.7, a log-normal one of sigma 3 0.13.
SQUEEZED = 0.01

#: Columns that one sentence names.
NAMED = 10


class Column(NamedTuple):
    """What a column of the rows is called.

    Examples
    --------
    >>> Column("sensor 'flow'", unit="l/min").said(7.5)
    '7.5 l/min'
    >>> Column("sensor 'valve'", levels=("closed", "open")).said(1)
    'open'
    """

    title: str
    unit: str = ""
    levels: tuple[str, ...] = ()

    def said(self, value: float) -> str:
        """A value of the column as its operator reads it."""
        return self.levels[int(value)] if self.levels else f"{value:.6g} {self.unit}".rstrip()


def flags(rows: Tensor) -> list[int]:
    """Columns of rows (n, d) that hold nothing but 0 and 1: what is on and what is off.

    Examples
    --------
    >>> flags(torch.tensor([[0.0, 1.0, -1.0], [torch.nan, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    [0, 1]
    """
    is_flag = ((rows == 0) | (rows == 1) | rows.isnan()).all(dim=0) & ~rows.isnan().all(dim=0)
    return is_flag.nonzero().flatten().tolist()


def column_notes(
    rows: Tensor,
    standardizer: Standardizer,
    columns: Sequence[Column],
    *,
    on_change: str = "",
) -> Iterator[str]:
    """Sentences on columns that are learnt from otherwise than one may think.

    Parameters
    ----------
    rows : Tensor of shape (n, d + c)
        Normal training rows, sensors first; NaN = missing; float64.
    standardizer : Standardizer
        Fitted on them.
    columns : sequence of Column
        Sensors, then context. Those with levels hold codes, and are only looked at for constants.
    on_change : str
        What else is to be said of a sensor that never varies.

    Examples
    --------
    >>> from vae_anomaly.models.standardize import fit_standardizer
    >>> rows = torch.randn(200, 3, dtype=torch.float64)
    >>> rows[:, 1] = 1.8 * rows[:, 0] + 32
    >>> rows[7, 2] = 1e6
    >>> titles = [Column(f"column {name}") for name in "abc"]
    >>> for note in column_notes(rows, fit_standardizer(rows, 0), titles):
    ...     print(note[:44])
    a few values set the scale of column c: 98 %
    column b says in all rows what column a says
    """
    d = standardizer.n_features
    yield from _constants(standardizer, columns, on_change)
    some = rows[evenly(len(rows), LOOKED_AT)]
    yield from _seldom(some[:, :d], columns)
    varies = [*standardizer.active.tolist(), *(~standardizer.scale[d:].isinf()).tolist()]
    found = {
        i: _observed(values)
        for i, values in enumerate(some.T.contiguous())
        if varies[i] and not columns[i].levels
    }
    numbers = {i: values for i, values in found.items() if len(values)}
    hardly = {i for i, values in numbers.items() if i < d and _share_of_median(values) > MOSTLY}
    yield from _hardly({i: numbers[i] for i in sorted(hardly)}, columns)
    for i in sorted(numbers.keys() - hardly):
        yield from _squeezed(numbers[i], float(standardizer.scale[i]), columns[i])
    sensors = [i for i in numbers if i < d]
    yield from _copies(rows[evenly(len(rows), COMPARED)], columns, sensors)


def _constants(
    standardizer: Standardizer, columns: Sequence[Column], on_change: str
) -> Iterator[str]:
    d, idle = standardizer.n_features, ~standardizer.active
    for i in idle.nonzero().flatten().tolist():
        value = float(standardizer.constant_value[i])
        if math.isnan(value):
            yield f"{columns[i].title} has no value in training; it is not judged"
        else:
            yield (
                f"{columns[i].title} is constant ({columns[i].said(value)}) in training; it is "
                f"judged by whether it changes{on_change}"
            )
    for i in (d + standardizer.scale[d:].isinf().nonzero().flatten()).tolist():
        yield f"{columns[i].title} never varies in training; it explains nothing"


def _seldom(sensors: Tensor, columns: Sequence[Column]) -> Iterator[str]:
    shares = (~sensors.isnan()).double().mean(dim=0)
    for i in ((shares > 0) & (shares < SELDOM)).nonzero().flatten().tolist():
        yield (
            f"{columns[i].title} has a value in only {float(shares[i]):.2g} of the training rows: "
            "little is learnt of it"
        )


def _hardly(numbers: Mapping[int, Tensor], columns: Sequence[Column]) -> Iterator[str]:
    if numbers:
        read = [
            f"{columns[i].title} ({columns[i].said(float(values.median()))})"
            for i, values in numbers.items()
        ]
        yield (
            f"in more than {MOSTLY:.0%} of the training rows that have a value it is always the "
            f"same one, so little is learnt of others: {_listed(read)}"
        )


def _squeezed(values: Tensor, scale: float, column: Column) -> Iterator[str]:
    n = len(values)
    least, low, high, most = (float(values[i]) for i in (0, n // 100, (n - 1) - n // 100, n - 1))
    if high - low < SQUEEZED * scale:
        yield (
            f"a few values set the scale of {column.title}: 98 % of its rows lie between "
            f"{column.said(low)} and {column.said(high)}, and others reach from "
            f"{column.said(least)} to {column.said(most)}; the model sees next to no difference "
            "between the many. Give it a physical range, or leave the few out"
        )


def _copies(rows: Tensor, columns: Sequence[Column], which: Sequence[int]) -> Iterator[str]:
    """Columns that are others on another scale; each is named with the first of its kind."""
    x = rows[:, which]
    seen = ~x.isnan()
    z = torch.where(seen, x - x.nanmean(dim=0), 0.0)
    z = z / z.square().sum(dim=0).sqrt().clamp(min=torch.finfo(z.dtype).tiny)
    alike = ((z.T @ z).abs() >= COPIED).triu(1)
    for a, b in alike.nonzero().tolist():
        is_first = not alike[:a, a].any()
        if is_first and len(x) > 2 and torch.equal(seen[:, a], seen[:, b]):
            yield (
                f"{columns[which[b]].title} says in all rows what {columns[which[a]].title} says, "
                "but for scale: what one of them shows counts twice"
            )


def _observed(values: Tensor) -> Tensor:
    """The finite ones, in order of size."""
    return values[values.isfinite()].sort().values


def _share_of_median(values: Tensor) -> float:
    """The median is the commonest value wherever one has half of the rows."""
    return float((values == values.median()).double().mean())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def numbered(standardizer: Standardizer) -> list[Column]:
    """Columns by their numbers, from 1 on."""
    sensors = [Column(f"sensor {i + 1}") for i in range(standardizer.n_features)]
    return sensors + [Column(f"context column {i + 1}") for i in range(standardizer.n_context)]
