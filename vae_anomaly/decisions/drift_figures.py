"""What one window of one asset's rows is like, in figures that can be held against other windows.

============  ====================================================================================
value         Wasserstein distance of a column's values to those of the normal history, in standard
              deviations of that history: how far the values have moved
residual      share of rows in which a sensor contributes more to the score than in 95 % of the
              history's rows: 5 % where the model knows the sensor as it is
missing       share of rows without a value of the sensor
frozen        share of rows in which the sensor is stuck
out_of_range  share of rows in which the sensor reads what it cannot
score         share of rows with a p-value up to 5 %: 5 % where p-values are uniform
unseen_mode   share of rows in a mode or of a level that the model has not learnt
rows          rows an hour
refused       share of rows that the contract refused
alarms        alarms that were raised
============  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from vae_anomaly.decisions.dependence import correlated_rows
from vae_anomaly.decisions.rates import FloatArray
from vae_anomaly.decisions.resampling import drawn

__all__ = ["NORMAL_SHARE", "CheckName", "Figure", "Reference", "WindowRows", "figures", "resampled"]

CheckName = Literal[
    "value", "residual", "missing", "frozen", "out_of_range", "score", "unseen_mode", "rows",
    "refused", "alarms",
]  # fmt: skip

#: Share of normal rows beyond which a contribution or a score counts as high.
NORMAL_SHARE = 0.05

#: The values of a window are known by so many quantiles wherever many windows are compared.
N_QUANTILES = 200

#: A column that never moved has this spread, relative to its size: any move is a long way.
STILL = 1e-6

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class WindowRows:
    """Rows of one asset in one window, as the champion judges them.

    Attributes
    ----------
    values : ndarray of shape (n, m)
        Sensors, then context; NaN = missing.
    contributions : ndarray of shape (n, d)
        Of each sensor to the score; NaN in rows without one.
    p_value : ndarray of shape (n,)
        NaN in rows without a score.
    frozen, outside : ndarray of shape (n, d), bool
        Where a sensor is stuck, or reads what it cannot.
    unseen : ndarray of shape (n,), bool
        Rows in a mode or of a level that the model has not learnt.
    hours : float
        Length of the window.
    n_refused : int
        Rows of the same time that the contract refused.
    n_aside : int
        Rows of the same time that say nothing of what is normal: the machine is off, or, in the
        history, known to be at fault.
    """

    values: FloatArray
    contributions: FloatArray
    p_value: FloatArray
    frozen: BoolArray
    outside: BoolArray
    unseen: BoolArray
    hours: float
    n_refused: int = 0
    n_aside: int = 0

    @property
    def n_rows(self) -> int:
        """Rows that count."""
        return len(self.values)


@dataclass(frozen=True)
class Figure:
    """A figure of one column (-1: of the whole asset)."""

    check: CheckName
    column: int
    value: float


@dataclass(frozen=True)
class Reference:
    """The normal history of an asset, cut into windows.

    Attributes
    ----------
    quantiles : ndarray of shape (k, m, q)
        Of the values of each window and column; NaN where a column has none.
    weights : ndarray of shape (k,)
        Rows of each window.
    spread : ndarray of shape (m,)
        Standard deviation of each column over the whole history.
    limits : ndarray of shape (d,)
        Contribution of each sensor that 5 % of the rows exceed.
    """

    quantiles: FloatArray
    weights: FloatArray
    spread: FloatArray
    limits: FloatArray

    @classmethod
    def of(cls, windows: Sequence[WindowRows]) -> Reference:
        """The history that some windows make up; there is at least one."""
        values = np.concatenate([window.values for window in windows])
        contributions = np.concatenate([window.contributions for window in windows])
        scored = contributions[~np.isnan(contributions).any(axis=1)]
        return cls(
            np.stack([_quantiles(window.values) for window in windows]),
            np.array([window.n_rows for window in windows], np.float64),
            _spread(values),
            np.quantile(scored, 1 - NORMAL_SHARE, axis=0)
            if len(scored)
            else np.full(contributions.shape[1], np.inf),
        )

    def distance(self, column: int, values: FloatArray, *, but: int = -1) -> float:
        """Wasserstein distance of values (n,) to the history, one of its windows left out.

        NaN where either has no value of the column.
        """
        others, heavy = self._points(column, but)
        if not len(others) or not len(values):
            return np.nan
        found = wasserstein_distance(values, others, None, heavy)
        return float(found / self.spread[column])

    def distances(self, column: int, values: FloatArray, weights: FloatArray) -> FloatArray:
        """(b,) the same of values (n,) that are weighed in b ways (b, n), in one go."""
        others, heavy = self._points(column, -1)
        total = weights.sum(axis=1)
        if not len(others) or not total.all():
            return np.full(len(weights), np.nan)
        joined = np.concatenate([values, others])
        order = np.argsort(joined, kind="stable")
        own = np.concatenate([weights / total[:, None], np.zeros((len(weights), len(others)))], 1)
        theirs = np.concatenate([np.zeros(len(values)), heavy / heavy.sum()])
        apart = np.abs(np.cumsum((own - theirs)[:, order], axis=1)[:, :-1])
        found: FloatArray = apart @ np.diff(joined[order]) / self.spread[column]
        return found

    def _points(self, column: int, but: int) -> tuple[FloatArray, FloatArray]:
        """Quantiles of the windows that have the column, and their weights."""
        kept = ~np.isnan(self.quantiles[:, column, 0])
        if but >= 0:
            kept[but] = False
        others = self.quantiles[kept, column]
        return others.ravel(), np.repeat(self.weights[kept], others.shape[1])


def figures(
    rows: WindowRows, reference: Reference, *, but: int = -1, n_alarms: int | None = None
) -> tuple[Figure, ...]:
    """All figures of a window, those of its columns first.

    Parameters
    ----------
    rows : WindowRows
    reference : Reference
    but : int, optional
        Number of this very window in the history, which is not compared with itself.
    n_alarms : int, optional
        Alarms raised in the window; left out, they are no figure.

    Examples
    --------
    >>> def day(level):
    ...     values = level + np.random.default_rng(0).normal(size=(100, 1))
    ...     no = np.zeros((100, 1), bool)
    ...     return WindowRows(values, values**2, np.full(100, 0.5), no, no, no[:, 0], 24.0)
    >>> found = figures(day(3.0), Reference.of([day(0.0)]))
    >>> [(f.check, round(f.value, 1)) for f in found if f.check in ("value", "residual", "rows")]
    [('value', 3.1), ('residual', 0.9), ('rows', 4.2)]
    """
    found = []
    for column, own in enumerate(_quantiles(rows.values)):
        there = own[~np.isnan(own)]
        found.append(Figure("value", column, reference.distance(column, there, but=but)))
    weights = np.ones((1, rows.n_rows))
    shares = _shares(rows, reference)
    for (check, column), share in zip(_named(shares), _weighted(shares, weights)[0], strict=True):
        found.append(Figure(check, column, float(share)))
    accepted = rows.n_rows + rows.n_aside
    read = accepted + rows.n_refused
    found.append(Figure("rows", -1, accepted / rows.hours))
    found.append(Figure("refused", -1, rows.n_refused / read if read else 0.0))
    if n_alarms is not None:
        found.append(Figure("alarms", -1, float(n_alarms)))
    return tuple(found)


def resampled(
    rows: WindowRows, reference: Reference, *, n_resamples: int, seed: int
) -> dict[tuple[CheckName, int], FloatArray]:
    """Figures of a window over resamples of its rows, in blocks as long as neighbours are alike.

    Of those figures that are made of rows; (n_resamples,) each.

    Parameters
    ----------
    rows : WindowRows
        Of more than one row.
    reference : Reference
    n_resamples : int
    seed : int

    References
    ----------
    Politis & Romano (1992), A circular block-resampling procedure for stationary data.
    """
    n, generator = rows.n_rows, np.random.default_rng(seed)
    length = _block_length(rows)
    weights = np.stack([drawn(n, length, generator) for _ in range(n_resamples)])
    shares = _shares(rows, reference)
    by_share = _weighted(shares, weights)
    found = {name: by_share[:, at] for at, name in enumerate(_named(shares))}
    for column in range(rows.values.shape[1]):
        values = rows.values[:, column]
        there = ~np.isnan(values)
        found["value", column] = reference.distances(column, values[there], weights[:, there])
    return found


def _block_length(rows: WindowRows) -> int:
    """Rows beyond which the values of no column resemble each other, a fifth of them at most."""
    n, series = rows.n_rows, np.zeros(rows.n_rows, np.int64)
    lengths = [
        correlated_rows(np.where(np.isnan(own), np.nanmedian(own), own), series)
        for own in rows.values.T
        if np.isfinite(own).any() and np.nanmin(own) < np.nanmax(own)
    ]
    return max(1, min(max(lengths, default=1), n // 5))


def _shares(rows: WindowRows, reference: Reference) -> dict[CheckName, FloatArray]:
    """Indicators (n, columns) whose means are the shares; NaN where a row does not count."""
    sensors = rows.contributions.shape[1]
    high = (rows.contributions > reference.limits).astype(np.float64)
    high[np.isnan(rows.contributions)] = np.nan
    unusual = np.where(np.isnan(rows.p_value), np.nan, rows.p_value <= NORMAL_SHARE)
    return {
        "residual": high,
        "missing": np.isnan(rows.values[:, :sensors]).astype(np.float64),
        "frozen": rows.frozen.astype(np.float64),
        "out_of_range": rows.outside.astype(np.float64),
        "score": unusual[:, None],
        "unseen_mode": rows.unseen.astype(np.float64)[:, None],
    }


def _named(shares: dict[CheckName, FloatArray]) -> list[tuple[CheckName, int]]:
    """Check and column of each share, in their order."""
    return [
        (check, -1 if check in ("score", "unseen_mode") else column)
        for check, own in shares.items()
        for column in range(own.shape[1])
    ]


def _weighted(shares: dict[CheckName, FloatArray], weights: FloatArray) -> FloatArray:
    """(b, columns) weighed shares of the rows that count; NaN where none does."""
    indicators = np.concatenate(list(shares.values()), axis=1)
    counts = ~np.isnan(indicators)
    total = weights @ counts.astype(np.float64)
    summed = weights @ np.where(counts, indicators, 0.0)
    found: FloatArray = np.divide(summed, total, out=np.full_like(summed, np.nan), where=total > 0)
    return found


def _quantiles(values: FloatArray) -> FloatArray:
    """(m, q) quantiles of each column, in the middle of q equal shares; NaN without a value."""
    at = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    found = np.full((values.shape[1], N_QUANTILES), np.nan)
    for column, own in enumerate(values.T):
        there = own[~np.isnan(own)]
        if len(there):
            found[column] = np.quantile(there, at)
    return found


def _spread(values: FloatArray) -> FloatArray:
    """(m,) standard deviation of each column; of one that stands still, next to nothing."""
    found = np.ones(values.shape[1])
    for column, own in enumerate(values.T):
        there = own[~np.isnan(own)]
        if len(there):
            found[column] = max(float(there.std()), STILL * max(1.0, float(np.abs(there).max())))
    return found
