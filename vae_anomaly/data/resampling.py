"""Samples of sensors at times of their own → values at the moments of a steady grid.

A reading at moment t stands for the samples in (t - period, t]; moments are multiples of the period
since 1970 in UTC. A sample without a value (of bad quality, or empty in a long table) is a sample:
it says that the sensor is not to be trusted, so nothing is carried or interpolated past it. An
empty cell of a wide table is none: its row is there for the sake of another column.

Times of many assets are told apart within one rising number, their *key*: asset after asset, each a
*stride* after the one before, which is longer than any time that a rule looks back or ahead, and a
whole number of periods. Moments have keys that are multiples of the period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vae_anomaly.config import Contract, Resampling

__all__ = ["Cells", "Rule", "Series", "at_moments", "covered_moments", "rules_of"]

Numbers = npt.NDArray[np.float64]
Keys = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Key of a sample that there is none of: before any that a rule looks back to.
NEVER = -(1 << 62)


@dataclass(frozen=True)
class Rule:
    """How a column's samples become its value at a moment, and how long a value may stand."""

    how: Resampling
    limit_us: int


@dataclass(frozen=True)
class Series:
    """Samples of one column: keys (n,), rising, each once; values (n,), NaN where there is none."""

    key: Keys
    value: Numbers


@dataclass(frozen=True)
class Cells:
    """Values of one column at m moments.

    Attributes
    ----------
    value : ndarray of shape (m,)
        NaN where there is none.
    is_own : ndarray of shape (m,)
        Moments with a sample, good or bad, in (t - period, t]; a value elsewhere is *filled*.
    """

    value: Numbers
    is_own: Mask

    @property
    def is_filled(self) -> Mask:
        mask: Mask = ~self.is_own & ~np.isnan(self.value)
        return mask


def rules_of(contract: Contract) -> dict[str, Rule]:
    """The rule of every column of the readings, label and mode included.

    Without resampling every column has the rule `last` and a limit of 0: a value stands at its own
    moment alone. States (a valve's position, a class, a mode) are never averaged: their rule is
    `last`.
    """
    sampling = contract.sampling
    columns = (*contract.sensors, *contract.context)
    names = [sensor.name for sensor in columns] + ["label", "mode"]
    if sampling.resample == "none":
        return dict.fromkeys(names, Rule("last", 0))
    default = sampling.fill_limit_s
    default = sampling.max_gap_s if default is None else default
    rules = dict.fromkeys(names, Rule("last", _us(default)))
    for sensor in columns:
        limit = default if sensor.fill_limit_s is None else sensor.fill_limit_s
        how = sensor.resample or sampling.resample
        rules[sensor.name] = Rule(how if sensor.kind == "continuous" else "last", _us(limit))
    return rules


def _us(seconds: float | None) -> int:
    return round((seconds or 0.0) * 1e6)


def at_moments(series: Series, moments: Keys, rule: Rule, period_us: int) -> Cells:
    """Values of one column at moments, by its rule.

    ``last``
        The last sample at or before t, if it lies in (t - period, t] or is not older than the
        limit.
    ``mean``
        The mean of the values in (t - period, t]; none where there is none.
    ``interpolate``
        On the line from the last sample at or before t to the first after t, if both have a value
        and are not further apart than the limit; a sample at t itself is its value.

    Parameters
    ----------
    series : Series
    moments : ndarray of shape (m,)
        Keys, rising.
    rule : Rule
    period_us : int

    Examples
    --------
    >>> series = Series(np.array([0, 4]), np.array([1.0, 3.0]))
    >>> at_moments(series, np.array([0, 2, 4, 6, 8]), Rule("last", 2), 2).value
    array([ 1.,  1.,  3.,  3., nan])
    >>> at_moments(series, np.array([0, 2, 4, 6, 8]), Rule("interpolate", 4), 2).value
    array([ 1.,  2.,  3., nan, nan])
    """
    if not len(series.key):
        return Cells(np.full(len(moments), np.nan), np.zeros(len(moments), bool))
    at = np.searchsorted(series.key, moments, side="right") - 1
    age = moments - np.where(at < 0, NEVER, series.key[at])
    is_own = age < period_us
    return Cells(_RULES[rule.how](series, moments, at, age, rule.limit_us, period_us), is_own)


def _last(
    series: Series, moments: Keys, at: Keys, age: Keys, limit_us: int, period_us: int
) -> Numbers:
    is_near = (age < period_us) | (age <= limit_us)
    return np.where(is_near, series.value[at], np.nan)


def _mean(
    series: Series, moments: Keys, at: Keys, age: Keys, limit_us: int, period_us: int
) -> Numbers:
    """Sums are taken a period at a time, so they do not depend on what else was read."""
    means = np.full(len(moments), np.nan)
    has_value = ~np.isnan(series.value)
    key, value = series.key[has_value], series.value[has_value]
    place = np.searchsorted(moments, key)  # the first moment at or after each sample
    is_within = place < len(moments)
    is_within[is_within] = moments[place[is_within]] - key[is_within] < period_us
    place, value = place[is_within], value[is_within]
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    if len(starts):
        n_each = np.diff(starts, append=len(place))
        # divided first: a sum of numbers near the largest must not overflow
        means[place[starts]] = np.add.reduceat(value / np.repeat(n_each, n_each), starts)
    return means


def _interpolate(
    series: Series, moments: Keys, at: Keys, age: Keys, limit_us: int, period_us: int
) -> Numbers:
    after = np.minimum(at + 1, len(series.key) - 1)
    apart = series.key[after] - np.where(at < 0, NEVER, series.key[at])
    is_between = (at < after) & (apart <= limit_us) & (age < apart)
    share = np.divide(age, apart, out=np.zeros(len(moments)), where=is_between)
    line = (1 - share) * series.value[at] + share * series.value[after]
    return np.where(age == 0, series.value[at], np.where(is_between, line, np.nan))


_RULES: Mapping[Resampling, Callable[[Series, Keys, Keys, Keys, int, int], Numbers]] = {
    "last": _last,
    "mean": _mean,
    "interpolate": _interpolate,
}


def covered_moments(keys: Iterable[Keys], limit_us: int, period_us: int) -> Keys:
    """Moments at which a sample could have a say: from its own period on until the limit.

    Parameters
    ----------
    keys : iterable of ndarray
        Keys of samples, each array rising.
    limit_us : int
        Longest time for which any value may stand.
    period_us : int

    Returns
    -------
    ndarray of shape (m,)
        Keys of moments, rising, each once.

    Examples
    --------
    >>> covered_moments([np.array([3, 21])], limit_us=5, period_us=5)
    array([ 5, 10, 25, 30])
    """
    own = np.unique(np.concatenate([_own_moments(key, period_us) for key in keys]))
    if not len(own):
        return own
    n_standing = limit_us // period_us + 1
    n_until_next = np.diff(own, append=own[-1] + n_standing * period_us) // period_us
    n_each = np.minimum(n_until_next, n_standing)
    nth = np.arange(n_each.sum()) - np.repeat(np.cumsum(n_each) - n_each, n_each)
    moments: Keys = np.repeat(own, n_each) + nth * period_us
    return moments


def _own_moments(key: Keys, period_us: int) -> Keys:
    """The moment at or after each sample, each once."""
    moments = -(-key // period_us) * period_us
    is_first = np.diff(moments, prepend=moments[:1] - 1) != 0
    own: Keys = moments[is_first]
    return own
