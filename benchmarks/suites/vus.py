"""VUS-PR, the volume under the precision-recall surface, as TSB-AD computes it.

Labels of anomalies are widened by a slope of up to half a window on either side, for every window
from 0 to the period of the series; the area under the precision-recall curve is averaged over the
windows. Nothing is adjusted by points or by segments.

References
----------
Paparrizos, Boniol, Palpanas, Tsay, Elmore & Franklin (2022), Volume Under the Surface: A New
Accuracy Evaluation Measure for Time-Series Anomaly Detection, VLDB 15. Liu & Paparrizos (2024), The
Elephant in the Room: Towards A Reliable Time-Series Anomaly Detection Benchmark, NeurIPS, whose
numbers of thresholds and windows these are.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import argrelextrema

from suites.case import Bools, Floats, Ints

__all__ = ["N_THRESHOLDS", "period", "vus_pr"]

N_THRESHOLDS = 250

#: Rows of the series and lags at which a period is looked for, and what stands for none (TSB-AD).
PERIOD_ROWS, LAGS, SHORTEST, LONGEST, NO_PERIOD = 20_000, 400, 3, 300, 125


def period(column: Floats) -> int:
    """Lag (rows) of the highest local maximum of the autocorrelation, or 125 where there is none.

    Examples
    --------
    >>> period(np.sin(2 * np.pi * np.arange(1000) / 50))
    50
    >>> period(np.ones(1000))
    125
    """
    centred = column[:PERIOD_ROWS] - column[:PERIOD_ROWS].mean()
    n = len(centred)
    spectrum = np.fft.rfft(centred, 2 * n)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, 2 * n)[: min(LAGS, n - 1) + 1]
    if covariance[0] <= np.finfo(float).eps * n * np.abs(column).max() ** 2:  # a constant
        return NO_PERIOD
    correlation = (covariance / covariance[0])[SHORTEST:]
    (peaks,) = argrelextrema(correlation, np.greater)
    if not len(peaks):
        return NO_PERIOD
    highest = int(peaks[np.argmax(correlation[peaks])])
    return highest + SHORTEST if SHORTEST <= highest <= LONGEST else NO_PERIOD


def vus_pr(is_anomaly: Bools, score: Floats, window: int) -> float:
    """Mean over the windows 0, ..., `window` of the area under the range-aware PR curve.

    Parameters
    ----------
    is_anomaly : ndarray of shape (n,)
    score : ndarray of shape (n,)
        Higher is more anomalous.
    window : int
        The widest window, in rows; TSB-AD takes the `period` of the first column.

    Notes
    -----
    All windows share the ranks of the scores, so that each threshold's sums are cumulative sums
    over 250 bins. Of a widened label only the part that is flagged counts as to be found.
    """
    n, segments = len(score), _segments(is_anomaly)
    at = np.linspace(0, n - 1, N_THRESHOLDS).astype(int)
    thresholds = np.sort(score)[::-1][at]
    first: Ints = np.searchsorted(-thresholds, -score)  # (n,) threshold that flags the row first
    n_flagged = _cumulative(first, np.ones(n))
    hits = _cumulative(first, is_anomaly.astype(float))
    areas = []
    for width in range(window + 1):
        true = _cumulative(first, _widened(is_anomaly, segments, width))
        relevant = is_anomaly.sum() + (true - hits) / 2
        recall = np.minimum(true / relevant, 1) * _share_found(first, segments, width)
        areas.append(np.diff(recall, prepend=0.0) @ (true / n_flagged))
    return float(np.mean(areas))


def _cumulative(first: Ints, weight: Floats) -> Floats:
    """Sum of the weights of the rows that each threshold flags, (250,)."""
    own = np.bincount(first, weights=weight, minlength=N_THRESHOLDS)
    return np.cumsum(own).astype(np.float64)


def _segments(is_anomaly: Bools) -> Ints:
    """First and last rows of the anomalies, (k, 2)."""
    edges = np.diff(np.concatenate([[0], is_anomaly.astype(int), [0]]))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1], axis=1)


def _widened(is_anomaly: Bools, segments: Ints, width: int) -> Floats:
    """Labels with a slope of half the width on either side, (n,) in [0, 1]."""
    label = is_anomaly.astype(float)
    for start, end in segments:
        after = np.arange(end + 1, min(end + width // 2 + 1, len(label)))
        label[after] += np.sqrt(1 - (after - end) / width) if width else 0.0
        before = np.arange(max(start - width // 2, 0), start)
        label[before] += np.sqrt(1 - (start - before) / width) if width else 0.0
    return label.clip(max=1.0)


def _share_found(first: Ints, segments: Ints, width: int) -> Floats:
    """Share of the widened anomalies, joined where they meet, with a flagged row, (250,)."""
    half = width // 2
    joined: list[list[int]] = []
    for start, end in segments:
        if joined and joined[-1][1] >= start - half:
            joined[-1][1] = end + half
        else:
            joined.append([max(start - half, 0), end + half])
    found = np.array([first[start : end + 1].min() for start, end in joined])
    is_found = found[:, None] <= np.arange(N_THRESHOLDS)
    return np.asarray(is_found.mean(axis=0), np.float64)
