"""The smoothing that every method on a series gets alike: the largest of several EWMA charts."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from suites.case import Floats, Ints

__all__ = ["RATES", "largest_chart"]

#: From the row itself, for a shock, to some sixty rows, for a slow drift.
RATES = (1.0, 0.3, 0.1, 0.03)


def largest_chart(z: Floats, series: Ints) -> Floats:
    """Largest of the EWMAs of standardised scores (n,), each over its standard deviation.

    Each starts at 0, the mean of normal rows, at the first row of every series. After t independent
    normal rows its variance is rate / (2 - rate) * (1 - (1 - rate)^(2 t)).

    References
    ----------
    Lucas & Saccucci (1990), Exponentially Weighted Moving Average Control Schemes, Technometrics
    32. Steiner (1999), EWMA Control Charts with Time-Varying Control Limits and Fast Initial
    Response, Journal of Quality Technology 31.
    """
    largest = np.empty_like(z)
    for name in np.unique(series):
        rows = np.flatnonzero(series == name)
        t = np.arange(1, len(rows) + 1)
        charts = [
            lfilter([rate], [1.0, rate - 1.0], z[rows])
            / np.sqrt(rate / (2 - rate) * (1 - (1 - rate) ** (2 * t)))
            for rate in RATES
        ]
        largest[rows] = np.max(charts, axis=0)
    return largest
