"""Scores counted by the upper bits of their floats: as many rows as there are, in a few kilobytes.

The bits of a float, read as a whole number, are in the order of the floats. Cut off behind the
exponent and `BITS` bits of the fraction, they name bins that are 2^-BITS of their scores wide,
whatever the unit and however far the scores reach; no range need be known beforehand. Counts add:
parts of the rows may be counted apart, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_anomaly.decisions.rates import FloatArray, IntArray, Roc

__all__ = ["BITS", "Histogram", "binned_roc"]

#: Bits of the fraction that are kept: bins are 2^-10 of their scores wide, a thousandth.
BITS = 10

CUT = np.int64(52 - BITS)
LOWEST = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Histogram:
    """How many scores lie in each bin that has any.

    Attributes
    ----------
    keys : ndarray of shape (m,), integers
        Bins, rising.
    counts : ndarray of shape (m,), integers
        Scores in each.
    """

    keys: IntArray
    counts: IntArray

    @classmethod
    def of(cls, scores: FloatArray) -> Histogram:
        """Count scores, (n,) float64 without NaN.

        Examples
        --------
        >>> Histogram.of(np.array([1.0, 1.0001, 7.0])).counts
        array([2, 1])
        """
        bits = (np.asarray(scores, np.float64) + 0.0).view(np.int64)  # -0.0 is 0.0
        ordered = np.where(bits < 0, LOWEST - bits - 1, bits)
        keys, counts = np.unique(ordered >> CUT, return_counts=True)
        return cls(keys, counts.astype(np.int64))

    def __add__(self, other: Histogram) -> Histogram:
        """The rows of both."""
        keys, at = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, at, np.concatenate([self.counts, other.counts]))
        return Histogram(keys, counts)

    @property
    def n_rows(self) -> int:
        return int(self.counts.sum())

    def above(self, keys: IntArray) -> IntArray:
        """Scores above the upper ends of bins."""
        below = np.concatenate([[0], np.cumsum(self.counts)])
        found: IntArray = self.n_rows - below[np.searchsorted(self.keys, keys, side="right")]
        return found


def binned_roc(normal: Histogram, anomalous: Histogram) -> Roc:
    """ROC of two histograms, at the upper ends of their bins.

    Its counts are exact there: no score of a bin is above its end. So a threshold chosen on it
    raises no more false alarms than it says, and lies above the exact rule's by 2^-BITS of itself
    at most, where the rule takes the lowest that keeps a rate.

    Examples
    --------
    >>> roc = binned_roc(Histogram.of(np.array([1.0, 2.0])), Histogram.of(np.array([2.0, 9.0])))
    >>> roc.false_alarms, roc.detections
    (array([2, 1, 0, 0]), array([2, 2, 1, 0]))
    """
    keys = np.union1d(normal.keys, anomalous.keys)
    if len(keys) and _upper_ends(keys[:1] - 1) < _upper_ends(keys[:1]):  # else both are -inf
        keys = np.concatenate([keys[:1] - 1, keys])
    above = normal.above(keys), anomalous.above(keys)
    return Roc(_upper_ends(keys), *above, normal.n_rows, anomalous.n_rows)


def _upper_ends(keys: IntArray) -> FloatArray:
    """The largest float of each bin."""
    ordered = (keys << CUT) | ((np.int64(1) << CUT) - 1)
    infinite = np.array([np.inf]).view(np.int64)[0]
    ordered = np.clip(ordered, LOWEST - (infinite | LOWEST) - 1, infinite)
    ordered[ordered == -1] = -2  # that would be -0.0, which 0.0 is not above
    bits = np.where(ordered < 0, LOWEST - ordered - 1, ordered)
    ends: FloatArray = bits.view(np.float64)
    return ends
