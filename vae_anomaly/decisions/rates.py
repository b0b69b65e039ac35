"""Shares of rows above a threshold: counts, curves, and intervals that can be believed.

An alarm is a score above the threshold, never one equal to it. An interval takes rows as
exchangeable, but for a design effect: by how much neighbours resemble each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from vae_anomaly.errors import InputError

__all__ = [
    "UNKNOWN",
    "FloatArray",
    "IntArray",
    "Interval",
    "OperatingPoint",
    "Resamples",
    "Roc",
    "Share",
    "check_share",
    "checked_scores",
    "exact_roc",
    "interval_ends",
    "operating_point",
    "resamples",
    "thinned",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: With more candidate thresholds than these, resampling works on a thinned curve.
EXACT_CANDIDATES = 4096

#: Counts held at once while resampling: 4 MiB an array, however many rows there are.
COUNTS_AT_ONCE = 2**19


# ------------------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """False where the rows say nothing about the figure; all three are NaN then."""
        return not math.isnan(self.value)


UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does: shares of normal and of anomalous rows above it, and precision.

    Precision, the share of alarms that are right, holds for the share of anomalies that these
    rows have. A figure that the rows cannot tell is `UNKNOWN`.
    """

    threshold: Interval
    false_alarm_rate: Interval
    detection_rate: Interval
    precision: Interval
    n_normal: int
    n_anomalous: int


@dataclass(frozen=True)
class Share:
    """So many of so many rows, as evidence about a rate.

    `flattery` is by how many rows the count lies below what fresh rows would give, because the
    same rows chose what is counted. `design_effect` is how many rows say as much as one by itself.

    Examples
    --------
    >>> Share(0, 100).interval().high
    0.024...
    """

    count: int
    total: int
    flattery: float = 0.0
    design_effect: float = 1.0

    @property
    def rate(self) -> float:
        return self.count / self.total if self.total else math.nan

    @property
    def posterior(self) -> tuple[float, float]:
        """Parameters of the Beta law of the rate (Jeffreys' prior)."""
        count = min(max(self.count + self.flattery, 0.0), float(self.total))
        alike = self.design_effect
        return count / alike + 0.5, (self.total - count) / alike + 0.5

    def interval(self, confidence: float = 0.95) -> Interval:
        """Jeffreys' interval, which reaches 0 and 1 where none or all rows count.

        References
        ----------
        Brown, Cai & DasGupta (2001), Interval estimation for a binomial proportion, Statistical
        Science 16.
        """
        check_share("confidence", confidence)
        if not self.total:
            return UNKNOWN
        low, high = beta.ppf(interval_ends(confidence), *self.posterior)
        return Interval(
            self.rate,
            0.0 if self.count == 0 else min(float(low), self.rate),
            1.0 if self.count == self.total else max(float(high), self.rate),
        )


def operating_point(
    threshold: Interval, normal: Share, anomalous: Share, *, confidence: float, seed: int = 0
) -> OperatingPoint:
    """Operating point from the normal and anomalous rows above a threshold.

    The interval of precision is that of 2,000 pairs of rates drawn from their Beta laws.
    """
    n_alarms = normal.count + anomalous.count
    precision = UNKNOWN
    if normal.total and anomalous.total and n_alarms:
        generator = np.random.default_rng(seed)
        wrong = normal.total * generator.beta(*normal.posterior, 2000)
        right = anomalous.total * generator.beta(*anomalous.posterior, 2000)
        low, high = np.quantile(right / (right + wrong), interval_ends(confidence))
        value = anomalous.count / n_alarms
        precision = Interval(value, min(float(low), value), max(float(high), value))
    return OperatingPoint(
        threshold,
        normal.interval(confidence),
        anomalous.interval(confidence),
        precision,
        normal.total,
        anomalous.total,
    )


# --------------------------------------------------------------------------------------- curve


@dataclass(frozen=True)
class Roc:
    """Rows of each class above every threshold that makes a difference; nothing is binned.

    Attributes
    ----------
    values : ndarray of shape (m,)
        Thresholds, ascending: one below every score, then each score that occurs.
    false_alarms, detections : ndarray of shape (*, m)
        Normal and anomalous rows with a score above each; leading axes are resamples.
    n_normal, n_anomalous : int
        Rows of each class.
    """

    values: FloatArray
    false_alarms: IntArray
    detections: IntArray
    n_normal: int
    n_anomalous: int

    def locate(self, threshold: float | FloatArray) -> IntArray:
        """Where the curve stands at thresholds (*,): indices of `values`, the same shape."""
        last = np.searchsorted(self.values, threshold, side="right") - 1
        return np.maximum(last, 0, dtype=np.int64)

    def lowest(self, holds: NDArray[np.bool_]) -> FloatArray:
        """Lowest threshold at which something holds, (*, m) bool, along each leading axis."""
        first: IntArray = np.argmax(holds, axis=-1)
        return self.values[first]

    def highest(self, holds: NDArray[np.bool_]) -> FloatArray:
        """Highest threshold at which something holds, (*, m) bool, along each leading axis."""
        last: IntArray = holds.shape[-1] - 1 - np.argmax(holds[..., ::-1], axis=-1)
        return self.values[last]

    def highest_normal(self, n_rows: int) -> FloatArray:
        """The highest so many normal scores, falling; of a curve without leading axes."""
        ranks = np.arange(1, n_rows + 1)
        below = np.searchsorted(self.false_alarms[::-1], ranks, side="left")
        return self.values[len(self.values) - below]

    def resample(self, number: int) -> Roc:
        """One of the resamples on the leading axis."""
        own = self.false_alarms[number], self.detections[number]
        return Roc(self.values, *own, self.n_normal, self.n_anomalous)

    def at(self, kept: NDArray[np.bool_] | IntArray) -> Roc:
        """The same curve with these thresholds only."""
        above = self.false_alarms[..., kept], self.detections[..., kept]
        return Roc(self.values[kept], *above, self.n_normal, self.n_anomalous)


def exact_roc(normal: FloatArray, anomalous: FloatArray) -> Roc:
    """ROC of two samples of scores, each of shape (n,); infinite scores are scores like others."""
    scores = np.unique(np.concatenate([normal, anomalous]))
    below = np.nextafter(scores[:1], -np.inf)
    values = np.concatenate([below[below < scores[:1]], scores])
    above = [
        len(x) - np.searchsorted(np.sort(x), values, side="right") for x in (normal, anomalous)
    ]
    return Roc(values, above[0], above[1], len(normal), len(anomalous))


class Resamples(NamedTuple):
    """A curve, and resamples of it as leading axis."""

    original: Roc
    resampled: Roc


def resamples(roc: Roc, n_resamples: int, *, seed: int) -> Iterator[Resamples]:
    """Resamples of the rows within their class, as many at once as memory should hold."""
    original = thinned(roc)
    generator = np.random.default_rng(seed)
    at_once = max(1, COUNTS_AT_ONCE // len(original.values))
    for start in range(0, n_resamples, at_once):
        size = min(at_once, n_resamples - start)
        above = (
            _redrawn(counts, n_rows, size, generator)
            for counts, n_rows in (
                (original.false_alarms, original.n_normal),
                (original.detections, original.n_anomalous),
            )
        )
        yield Resamples(
            original, replace(original, false_alarms=next(above), detections=next(above))
        )


def _redrawn(above: IntArray, n_rows: int, size: int, generator: np.random.Generator) -> IntArray:
    """Rows above each threshold (size, m) when as many rows are drawn with replacement."""
    at = -np.diff(above, prepend=n_rows)  # rows at each threshold, or between it and the last
    occupied = np.flatnonzero(at)
    drawn = np.zeros((size, len(above)), dtype=np.int64)
    if not n_rows:
        return drawn
    drawn[:, occupied] = generator.multinomial(n_rows, at[occupied] / n_rows, size=size)
    return n_rows - drawn.cumsum(axis=1)


def thinned(roc: Roc, per_deviation: int = 4) -> Roc:
    """A long curve at thresholds between which no rate moves by more than its standard error / 4.

    arcsin(sqrt(rate)) has the standard deviation 1 / (2 sqrt(n)) at any rate, so even steps of it
    are as fine as they need to be where rates are near 0.
    """
    if len(roc.values) <= EXACT_CANDIDATES:
        return roc
    moves = np.zeros(len(roc.values) - 1, dtype=bool)
    for above, n_rows in (
        (roc.false_alarms, roc.n_normal),
        (roc.detections, roc.n_anomalous),
    ):
        shares = above / max(n_rows, 1)
        deviations = 2 * math.sqrt(n_rows) * np.arcsin(np.sqrt(shares))
        moves |= np.diff(np.floor(per_deviation * deviations)) != 0
    return roc.at(np.concatenate([[True], moves]))


# -------------------------------------------------------------------------------------- checks


def checked_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Scores as float64 and labels as int64, each of shape (n,), or an `InputError`."""
    row_scores, row_labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if row_scores.ndim != 1 or row_labels.shape != row_scores.shape:
        raise InputError(
            f"scores have shape {row_scores.shape} and labels {row_labels.shape}; both must be (n,)"
        )
    if not len(row_scores):
        raise InputError("there are no scores; give at least one row")
    if not np.issubdtype(row_labels.dtype, np.integer):
        raise InputError(
            f"labels are {row_labels.dtype}; give integers: 0 normal, positive an anomaly, "
            "negative unknown"
        )
    n_nan = int(np.isnan(row_scores).sum())
    if n_nan:
        raise InputError(
            f"{n_nan} of {len(row_scores)} scores are NaN; leave out the rows that were not scored"
        )
    return row_scores, row_labels.astype(np.int64)


def interval_ends(confidence: float) -> FloatArray:
    """Probabilities (2,) at which a central interval ends."""
    return np.array([(1 - confidence) / 2, (1 + confidence) / 2])


def check_share(name: str, value: float) -> None:
    """Raise `InputError` unless the value lies between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"{name}={value} must lie between 0 and 1, as 0.01 does")
