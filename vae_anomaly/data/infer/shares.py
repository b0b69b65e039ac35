"""Whether the default parts hold enough normal rows, and which shares would."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vae_anomaly.config import Parts

__all__ = ["ROWS_FOR_DEFAULT", "Usable", "find_usable"]

#: Normal rows that the default false alarm rate of 1 % needs.
ROWS_FOR_DEFAULT = 99
#: Recordings that begin with so small a share of normal rows are not cut by it.
LEAST_START = 0.1


@dataclass(frozen=True)
class Usable:
    """Normal rows that there are for calibrating.

    Attributes
    ----------
    n_calibrate : int
        Of the part `calibrate`, under `parts`.
    normal_start : float
        Share of their rows with which nearly all assets begin before anything is labelled; 1 where
        the default parts do.
    """

    n_calibrate: int
    normal_start: float

    @property
    def parts(self) -> Parts:
        """The default parts, or the same within the normal start of the recordings."""
        if self.normal_start >= 1:
            return Parts()
        return _within(self.normal_start)

    @property
    def false_alarm_rate(self) -> float:
        """The least rate that the rows can promise, rounded up to three digits."""
        return math.ceil(1e3 / (self.n_calibrate + 1)) / 1e3


def find_usable(label: np.ndarray | None, group: np.ndarray, moments: np.ndarray) -> Usable:
    """How far the rows suffice for the parts, with the default shares or with smaller ones.

    Parameters
    ----------
    label : ndarray of shape (n,), optional
        Positive where a row is an anomaly.
    group : ndarray of shape (n,)
        Rows of one asset.
    moments : ndarray of shape (n,)
        Their times.
    """
    order = np.lexsort((moments, group))
    own = group[order]
    starts = np.flatnonzero(np.diff(own, prepend=own[0] - 1))
    lengths = np.diff(starts, append=len(own))
    place = (np.arange(len(own)) - np.repeat(starts, lengths)) / np.repeat(lengths, lengths)
    is_odd = np.zeros(len(own), dtype=bool) if label is None else label[order] > 0
    n_default = _n_normal(Parts(), place, is_odd, len(starts))
    if n_default >= ROWS_FOR_DEFAULT or not is_odd.any():
        return Usable(n_default, 1.0)
    first_odd = np.minimum.reduceat(np.where(is_odd, place, 1.0), starts)
    start = math.floor(20 * float(np.quantile(first_odd, 0.05))) / 20
    if start < LEAST_START:
        return Usable(n_default, 1.0)
    n_within = _n_normal(_within(start), place, is_odd, len(starts))
    return Usable(n_within, start) if n_within > n_default else Usable(n_default, 1.0)


def _n_normal(parts: Parts, place: np.ndarray, is_odd: np.ndarray, n_groups: int) -> int:
    first = parts.train + parts.stop
    is_part = (place >= first) & (place < first + parts.calibrate)
    return max(int((is_part & ~is_odd).sum()) - n_groups, 0)


def _within(start: float) -> Parts:
    """Parts of which all but the test lie in the first rows, in the default proportions."""
    usual = Parts()
    used = usual.train + usual.stop + usual.calibrate
    stop, calibrate = (round(start * part / used, 3) for part in (usual.stop, usual.calibrate))
    train = round(start - stop - calibrate, 3)
    return Parts(train=train, stop=stop, calibrate=calibrate, test=round(1 - start, 3))
