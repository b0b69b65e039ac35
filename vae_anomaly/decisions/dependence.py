"""How much less rows say that resemble their neighbours: blocks of normal rows, whole events.

With rows that stand in time order, 1,000 rows above a threshold in one hour are one piece of
evidence, not 1,000. The design effect is how many rows say as much as one row by itself would
(Kish 1965): intervals are those of so many times fewer rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata, t

from vae_anomaly.decisions.rates import FloatArray, IntArray, Resamples, Roc, thinned
from vae_anomaly.decisions.resampling import MOST_WEIGHED, block_length, drawn
from vae_anomaly.errors import InputError

__all__ = [
    "Blocks",
    "Effects",
    "block_resamples",
    "blocks_shown",
    "correlated_rows",
    "effect_of_blocks",
    "effect_of_events",
    "effects_at",
    "events_of",
]

#: The effect is measured where so many rows lie above, lower than the threshold if need be: a few
#: rows that happen to lie apart do not show that they would always.
SEEN = 30

#: So many rows show how far scores resemble each other; a second, at the worst.
MOST_RANKED = 200_000

#: With fewer events, how alike the rows of one are is not measured: they count as one row.
MIN_EVENTS = 10


@dataclass(frozen=True)
class Blocks:
    """What rows belong together.

    Attributes
    ----------
    series : ndarray of shape (n,), integers
        Which series each row is of; rows of one stand together, in time order.
    length : int
        Rows beyond which two do not resemble each other; 1 for rows that are exchangeable.
    """

    series: IntArray
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"blocks of {self.length} rows; give 1 or more")


@dataclass(frozen=True)
class Effects:
    """Design effects on the shares of normal and of anomalous rows above a threshold."""

    normal: float = 1.0
    anomalous: float = 1.0


def effects_at(threshold: float, scores: FloatArray, labels: IntArray, blocks: Blocks) -> Effects:
    """How alike the normal rows of a block, and the anomalous ones of an event, are there.

    Parameters
    ----------
    threshold : float
    scores, labels : ndarray of shape (n,)
        Labels are 0 normal and positive anomalous; no others.
    blocks : Blocks
        Of these rows.
    """
    series, normal = blocks.series, labels == 0
    return Effects(
        effect_of_blocks(scores[normal], series[normal], threshold, blocks.length),
        effect_of_events(scores[~normal] > threshold, events_of(labels, series)),
    )


def correlated_rows(scores: FloatArray, series: IntArray, *, most: int = 1000) -> int:
    """Rows of a block that holds what neighbouring scores share.

    Twice the first lag from which on five autocorrelations of the ranks are within chance
    (Politis & White 2004, Automatic block-length selection, Econometric Reviews 23).

    Parameters
    ----------
    scores : ndarray of shape (n,)
    series : ndarray of shape (n,), integers
        Which series each row is of.
    most : int
        The largest lag looked at.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=5000)
    >>> correlated_rows(noise, np.zeros(5000, int))
    1
    >>> 20 <= correlated_rows(np.convolve(noise, np.ones(20)), np.zeros(5019, int)) <= 100
    True
    """
    scores, series = scores[:MOST_RANKED], series[:MOST_RANKED]
    n = len(scores)
    ranks = rankdata(scores) - (n + 1) / 2
    variance, chance = float(ranks @ ranks), 2 * math.sqrt(math.log10(max(n, 10)) / n)
    quiet = 0
    for lag in range(1, min(most, n // 10) + 1):
        together = (ranks[lag:] * ranks[:-lag])[series[lag:] == series[:-lag]]
        quiet = quiet + 1 if abs(float(together.sum())) <= chance * variance else 0
        if quiet == 5:
            return max(1, 2 * (lag - 5))
    return max(1, 2 * min(most, n // 10))


def blocks_shown(
    scores: FloatArray, labels: IntArray, series: IntArray, normal: np.ndarray, *, memory: int
) -> Blocks:
    """Rows that belong together: by faults, by what a score looks back on and by what they show.

    Parameters
    ----------
    scores, labels, series : ndarray of shape (n,)
        Positive labels are anomalous; rows of one series stand together, in time order.
    normal : ndarray of shape (n,), bool
        Rows whose scores show how far neighbours are alike.
    memory : int
        Rows that one score depends on.

    Examples
    --------
    >>> alike = np.convolve(np.random.default_rng(0).normal(size=5000), np.ones(20))
    >>> zeros, every = np.zeros(5019, int), np.ones(5019, bool)
    >>> 20 <= blocks_shown(alike, zeros, zeros, every, memory=1).length <= 100
    True
    >>> blocks_shown(alike, zeros, zeros, ~every, memory=30).length  # no row shows anything
    30
    """
    shown = correlated_rows(scores[normal], series[normal]) if normal.any() else 1
    return Blocks(series, max(shown, block_length(labels, memory=memory)))


def effect_of_blocks(scores: FloatArray, series: IntArray, threshold: float, length: int) -> float:
    """Design effect of normal rows on the share of them above a threshold.

    The variance of that share over circular blocks, in closed form, beside that of rows by
    themselves; 1 at the least.

    Parameters
    ----------
    scores, series : ndarray of shape (n,)
        Of the normal rows, in time order within each series.
    threshold : float
    length : int
        Rows of a block.

    References
    ----------
    Politis & Romano (1992), A circular block-resampling procedure for stationary data.

    Examples
    --------
    >>> scores = np.repeat(np.random.default_rng(0).random(1000), 5)  # five say what one does
    >>> round(effect_of_blocks(scores, np.zeros(5000, int), 0.9, 20))
    5
    """
    n = len(scores)
    if length == 1 or n < 2:
        return 1.0
    seen = float(np.partition(scores, max(n - SEEN - 1, 0))[max(n - SEEN - 1, 0)])
    above = (scores > min(threshold, seen)).astype(np.float64)
    share = float(above.mean())
    if not 0 < share < 1:
        return float(length)
    total = 0.0
    starts = np.flatnonzero(np.concatenate([[True], np.diff(series) != 0]))
    for own in np.split(above - share, starts[1:]):
        size = min(length, len(own))
        sums = np.concatenate([[0.0], np.cumsum(np.concatenate([own, own[: size - 1]]))])
        total += float(((sums[size:] - sums[:-size]) ** 2).sum()) / size
    n_blocks = max(n / length, 2.0)
    # blocks vary about the share that they made themselves; and few of them show their spread badly
    unsure = n_blocks / (n_blocks - 1) * (float(t.isf(0.025, n_blocks - 1)) / 1.96) ** 2
    return max(1.0, total / n / (share * (1 - share)) * unsure)


def events_of(labels: IntArray, series: IntArray) -> IntArray:
    """Number of the event of each anomalous row: a run of them in one series.

    Examples
    --------
    >>> events_of(np.array([1, 1, 0, 2, 2, 2]), np.array([0, 0, 0, 0, 0, 1]))
    array([0, 0, 1, 1, 2])
    """
    anomalous = labels > 0
    begins = anomalous & ~np.concatenate([[False], anomalous[:-1]])
    begins[1:] |= anomalous[1:] & (series[1:] != series[:-1])
    found: IntArray = np.cumsum(begins)[anomalous] - 1
    return found


def effect_of_events(detected: np.ndarray, event: IntArray) -> float:
    """Design effect of anomalous rows on the share of them that is detected.

    Parameters
    ----------
    detected : ndarray of shape (n,), bool
    event : ndarray of shape (n,), integers
        The event of each row, from 0 on.

    Examples
    --------
    >>> effect_of_events(np.array([True, True, False, False]), np.array([0, 0, 1, 1]))
    2.0
    """
    n = len(event)
    if not n:
        return 1.0
    sizes = np.bincount(event)
    alike = float((sizes**2).sum() / n)  # if the rows of an event were all one
    share = float(detected.mean())
    n_events = len(sizes)
    if n_events < MIN_EVENTS or not 0 < share < 1:
        return alike
    away = np.bincount(event, detected) - share * sizes
    spread = float((away**2).sum()) * n_events / (n_events - 1) / n
    return min(max(1.0, spread / (share * (1 - share))), alike)


def block_resamples(
    roc: Roc, scores: FloatArray, labels: IntArray, blocks: Blocks, *, n_resamples: int, seed: int
) -> Iterator[Resamples]:
    """Resamples of a curve: normal rows by circular blocks within their series, events whole.

    Parameters
    ----------
    roc : Roc
        Of these rows.
    scores, labels : ndarray of shape (n,)
        Of the rows, 0 normal and positive anomalous; no others.
    blocks : Blocks
        Of these rows.
    n_resamples : int
        Fewer are drawn where there are very many rows.
    seed : int
    """
    original = thinned(roc)
    place = np.searchsorted(original.values, scores, side="left")
    normal, generator = labels <= 0, np.random.default_rng(seed)
    series = blocks.series[normal]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(series) != 0]))
    sizes = np.diff(np.append(starts, len(series))).tolist() if len(series) else []
    event = events_of(labels, blocks.series)
    n_events = int(event[-1]) + 1 if len(event) else 0
    for _ in range(max(100, min(n_resamples, MOST_WEIGHED // len(scores)))):
        parts = [drawn(n, min(blocks.length, n), generator) for n in sizes]
        of_events = np.bincount(generator.integers(max(n_events, 1), size=n_events), minlength=1)
        above = (
            _scaled(place[normal], np.concatenate(parts or [np.zeros(0)]), original.values),
            _scaled(place[~normal], of_events[event].astype(np.float64), original.values),
        )
        resampled = replace(original, false_alarms=above[0][None], detections=above[1][None])
        yield Resamples(original, resampled)


def _scaled(place: IntArray, weight: FloatArray, values: FloatArray) -> IntArray:
    """(m,) rows above each threshold, weighed, out of as many as there are."""
    at = np.bincount(place, weight, minlength=len(values) + 1)
    total = max(float(weight.sum()), 1.0)
    above: IntArray = np.rint((at.sum() - np.cumsum(at)) * (len(place) / total)).astype(np.int64)
    return above[: len(values)]
