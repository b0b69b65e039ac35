"""How rows follow one another: the period, whether it is steady, and how long a gap is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_anomaly.data.infer.assets import steps_within

__all__ = ["Pace", "find_pace"]

#: Periods that people set, in seconds.
NICE = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300,
    600, 900, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400,
)  # fmt: skip
#: Share of the steps that are a period long where sampling is steady, and how nearly.
STEADY, NEARLY = 0.8, 0.2
#: A gap is so many periods long: one lost row or a few are none.
GAP_PERIODS = 10


@dataclass(frozen=True)
class Pace:
    """Seconds between rows.

    Attributes
    ----------
    period_s : float
        The middle step; where sampling is irregular, a usual period not above it. 0 where unknown.
    max_gap_s : float
        A longer step is a gap.
    is_steady : bool
    n_gaps : int
        Steps that are longer.
    longest_s : float
    """

    period_s: float = 0.0
    max_gap_s: float = 0.0
    is_steady: bool = True
    n_gaps: int = 0
    longest_s: float = 0.0


def find_pace(moments: np.ndarray, group: np.ndarray) -> Pace:
    """Pace of the rows of each group.

    Parameters
    ----------
    moments : ndarray of shape (n,)
        Times in microseconds.
    group : ndarray of shape (n,)
        Rows that follow one another.

    Examples
    --------
    >>> find_pace(np.array([0, 10, 20, 31, 40, 500]) * 1_000_000, np.zeros(6))
    Pace(period_s=10.0, max_gap_s=100.0, is_steady=True, n_gaps=1, longest_s=460.0)
    """
    steps = steps_within(moments, group) / 1e6
    steps = steps[steps > 0]
    if not len(steps):
        return Pace()
    middle = float(np.median(steps))
    is_steady = bool((np.abs(steps - middle) <= NEARLY * middle).mean() >= STEADY)
    if is_steady:
        period, gap = middle, GAP_PERIODS * middle
    else:
        period = max((nice for nice in NICE if nice <= middle), default=middle)
        usual = max(float(np.quantile(steps, 0.99)), GAP_PERIODS * period)
        gap = min((nice for nice in NICE if nice >= usual), default=float(np.ceil(usual)))
    n_gaps = int((steps > gap).sum())
    return Pace(round(period, 6), round(gap, 6), is_steady, n_gaps, float(steps.max()))
