"""How sure areas under ROC curves are where neighbouring rows are alike: bootstrap by blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from vae_anomaly.decisions.rates import FloatArray, IntArray, interval_ends
from vae_anomaly.errors import InputError

__all__ = ["MOST_WEIGHED", "block_length", "central", "drawn", "resampled_areas"]

#: Rows times methods times resamples that are weighed at most, which takes some 10 s; but never
#: fewer resamples than these.
MOST_WEIGHED, FEWEST_RESAMPLES = 200_000_000, 200


def block_length(labels: IntArray, *, memory: int = 1) -> int:
    """Rows of a block: no shorter than a mean fault, what scores share, or the cube root of all.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Positive rows are anomalous.
    memory : int
        Rows that one score depends on, windows and smoothing together.

    Examples
    --------
    >>> block_length(np.array([0, 0, 1, 1, 1, 0, 0, 2, 0, 0]))
    3
    """
    anomalous = labels > 0
    n_faults = int((anomalous & ~np.concatenate([[False], anomalous[:-1]])).sum())
    mean_fault = int(anomalous.sum()) / n_faults if n_faults else 1.0
    cube_root = round(math.cbrt(len(labels)), 9)
    found: int = max(math.ceil(mean_fault), memory, math.ceil(cube_root))
    return found


def resampled_areas(
    scores: Mapping[str, FloatArray],
    labels: IntArray,
    series: IntArray,
    *,
    length: int,
    n_resamples: int = 1000,
    seed: int,
) -> dict[str, FloatArray]:
    """Areas under the ROC curves of several methods on the same resamples of their rows.

    Blocks of neighbouring rows are drawn with replacement, in a circle within each series, so that
    a resample has dependence like that of the rows.

    Parameters
    ----------
    scores : mapping of str to ndarray of shape (n,)
        Of each method, for the same rows.
    labels : ndarray of shape (n,)
        0 normal, positive anomalous.
    series : ndarray of shape (n,), integers
        Which series each row is of; rows of one stand together, in time order.
    length : int
        Rows of a block; 1 for rows that do not depend on each other.
    n_resamples : int
        Fewer are drawn where there are very many rows.
    seed : int

    Returns
    -------
    dict of str to ndarray of shape (m,)
        Areas, resample by resample; those that lack a class are left out.

    Raises
    ------
    InputError
        A block has no row, or a class is missing.

    References
    ----------
    Politis & Romano (1992), A circular block-resampling procedure for stationary data.

    Examples
    --------
    >>> labels, series = np.repeat([0, 1], 50), np.zeros(100, int)
    >>> own = {"good": np.arange(100.0), "bad": np.arange(100.0)[::-1]}
    >>> found = resampled_areas(own, labels, series, length=5, n_resamples=50, seed=0)
    >>> float(found["good"].min()), float(found["bad"].max())
    (1.0, 0.0)
    """
    anomalous = labels > 0
    if length < 1 or not anomalous.any() or anomalous.all():
        raise InputError(
            f"blocks of {length} rows, {int(anomalous.sum())} of {len(labels)} rows anomalous; "
            "give blocks of 1 row or more, and rows of both classes"
        )
    most = MOST_WEIGHED // max(1, len(labels) * len(scores))
    ranks = {name: np.unique(own, return_inverse=True)[1] for name, own in scores.items()}
    areas: dict[str, list[float]] = {name: [] for name in scores}
    for weight in _weights(series, length, min(n_resamples, max(most, FEWEST_RESAMPLES)), seed):
        detected, wrong = weight * anomalous, weight * ~anomalous
        if detected.any() and wrong.any():
            for name, rank in ranks.items():
                areas[name].append(_area(rank, detected, wrong))
    return {name: np.array(found) for name, found in areas.items()}


def central(values: FloatArray, confidence: float) -> tuple[float, float]:
    """Ends of the central interval of resampled figures; NaN where there are none."""
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, interval_ends(confidence))
    return float(low), float(high)


def _weights(series: IntArray, length: int, n_resamples: int, seed: int) -> Iterator[FloatArray]:
    """(n,) how often each row is drawn, resample by resample."""
    generator = np.random.default_rng(seed)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(series) != 0]))
    sizes = np.diff(np.append(starts, len(series)))
    for _ in range(n_resamples):
        yield np.concatenate([drawn(int(n), min(length, int(n)), generator) for n in sizes])


def drawn(n: int, length: int, generator: np.random.Generator) -> FloatArray:
    """(n,) how often each row of one series is drawn, in blocks on a circle."""
    first = np.bincount(generator.integers(n, size=math.ceil(n / length)), minlength=n)
    sums = np.concatenate([[0], np.cumsum(np.concatenate([first[n - length + 1 :], first]))])
    weight: FloatArray = (sums[length:] - sums[:-length]).astype(np.float64)
    return weight


def _area(rank: IntArray, detected: FloatArray, wrong: FloatArray) -> float:
    """Share of pairs of weighed rows in which the anomalous one ranks higher; ties count half."""
    right, left = np.bincount(rank, detected), np.bincount(rank, wrong)
    below = np.cumsum(left) - left / 2
    return float(right @ below / (right.sum() * left.sum()))
