"""Whether a challenger is no worse than the champion, on the very same rows or faults.

What is compared is the difference on the same faults and the same days, so that a week that was
hard for both counts for neither. A challenger holds only where the whole interval of the difference
lies within the margin: what these rows cannot tell is not taken for good. Where both did the same
on everything, the difference is none, however few they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.decisions.occurrences import Occurrences
from vae_anomaly.decisions.rates import (
    UNKNOWN,
    FloatArray,
    Interval,
    Share,
    check_share,
    interval_ends,
)
from vae_anomaly.errors import InputError

__all__ = ["Comparison", "alarms_compared", "faults_compared"]

#: Resamples behind the interval of a difference.
N_DRAWS = 2000

#: Days of a week, by which alarms are told.
WEEK = 7


@dataclass(frozen=True)
class Comparison:
    """A figure of the challenger beside the champion's.

    Attributes
    ----------
    figure : str
        What it is, in words.
    challenger, champion : Interval
    difference : Interval
        The challenger's less the champion's, on the same resamples; `UNKNOWN` where the two are
        not paired.
    reason : str
        Why it is worse, or not shown to be no worse; empty where it holds.
    is_share : bool
        A share, to be told in per cent.
    n_faults : int
        How many faults it is a share of; 0 for a share of anything else.
    """

    figure: str
    challenger: Interval
    champion: Interval
    difference: Interval = UNKNOWN
    reason: str = ""
    is_share: bool = True
    n_faults: int = 0

    @property
    def holds(self) -> bool:
        """Whether the challenger is no worse."""
        return not self.reason


def faults_compared(
    challenger: ArrayLike,
    champion: ArrayLike,
    *,
    max_loss: float,
    confidence: float = 0.8,
    figure: str = "faults found",
    seed: int = 0,
) -> Comparison:
    """Which of the same faults each of the two found.

    Holds where the lower end of the difference, over resamples of the faults, is no more than
    `max_loss` below 0. Measured with `max_loss` 0.1 and confidence 0.8, of challengers that differ
    from the champion in a tenth of the faults and are as good: 74 % hold on 20 faults, 88 % on 50;
    that lose exactly the margin: 38 % and 26 %; that lose twice as much: 7 % and 1 %. Five faults
    tell little: 31 % of those that lose a fifth hold, because they happened to lose none.

    Parameters
    ----------
    challenger, champion : array-like of bool, shape (n,)
        Whether each found each fault.
    max_loss : float
        Share of the faults that the challenger may find less.
    confidence : float, optional
    figure : str, optional
    seed : int, optional

    Raises
    ------
    InputError
        The two are not about the same faults.

    Examples
    --------
    >>> champion = np.arange(20) < 18
    >>> faults_compared(champion, champion, max_loss=0.1).difference
    Interval(value=0.0, low=0.0, high=0.0)
    >>> found = faults_compared(np.arange(20) < 12, champion, max_loss=0.1)
    >>> print(found.reason)  # doctest: +NORMALIZE_WHITESPACE
    faults found: 6 fewer than the champion, 12 of 20 against 18; of all such faults that is 30.0%
    (between 15.0% and 45.0%), and at most 10.0% may be lost
    """
    check_share("confidence", confidence)
    ours, theirs = np.asarray(challenger, np.bool_), np.asarray(champion, np.bool_)
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise InputError(
            f"the challenger has {ours.shape} faults and the champion {theirs.shape}; give (n,) of "
            "each, of the same faults"
        )
    n = len(ours)
    if not n:
        return Comparison(figure, UNKNOWN, UNKNOWN)
    generator = np.random.default_rng(seed)
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    drawn = generator.multinomial(n, np.array([won, lost, n - won - lost]) / n, size=N_DRAWS)
    difference = _interval((won - lost) / n, (drawn[:, 0] - drawn[:, 1]) / n, confidence)
    reason = ""
    if difference.low < -max_loss:
        counts = f"{ours.sum()} of {n} against {theirs.sum()}"
        reason = f"{figure}: {_fewer(lost - won, counts, difference, max_loss)}"
    mine, other = (Share(int(found.sum()), n).interval(confidence) for found in (ours, theirs))
    return Comparison(figure, mine, other, difference, reason, n_faults=n)


def _fewer(n_fewer: int, counts: str, difference: Interval, max_loss: float) -> str:
    """Why too many faults are lost, or are not shown not to be."""
    if -difference.value <= max_loss:
        return (
            f"not shown to lose at most {max_loss:.1%} of them, {counts}: {-difference.low:.1%} "
            "fewer cannot be ruled out"
        )
    span = ""
    if difference.low < difference.high:  # resamples of faults that all went one way say nothing
        least = f"{-difference.high:.1%}"
        if difference.high > 0:
            least = f"{difference.high:.1%} more"
        span = f" (between {least} and {-difference.low:.1%})"
    return (
        f"{n_fewer} fewer than the champion, {counts}; of all such faults that is "
        f"{-difference.value:.1%}{span}, and at most {max_loss:.1%} may be lost"
    )


def alarms_compared(
    challenger: ArrayLike,
    champion: ArrayLike,
    days: ArrayLike,
    *,
    max_ratio: float,
    budget_per_week: float | None = None,
    confidence: float = 0.8,
    figure: str = "alarms per asset and week",
    seed: int = 0,
) -> Comparison:
    """How often each of the two calls somebody in the same time, per asset and week.

    Holds where one of these does: the challenger raises at most one alarm more than the champion;
    the upper end of its rate is within the budget; or the upper end of its alarms less `max_ratio`
    times the champion's, over resamples of the days, is not above 0. Measured with `max_ratio` 1.5
    and confidence 0.8, of challengers that are as good and share two thirds of 10 to 40 alarms: 70
    to 98 % hold; that raise half as many more: 10 to 19 %; twice as many: 2 %.

    Parameters
    ----------
    challenger, champion : array-like of int, shape (k,)
        Alarms of each day of each asset.
    days : array-like of shape (k,)
        How much of that day was judged.
    max_ratio : float
        How many times the champion's alarms the challenger may raise.
    budget_per_week : float, optional
        Alarms of an asset and week that people put up with.
    confidence : float, optional
    figure : str, optional
    seed : int, optional

    Raises
    ------
    InputError
        The three are not about the same days.

    Examples
    --------
    >>> champion, days = np.tile([0, 1], 10), np.ones(20)
    >>> alarms_compared(champion, champion, days, max_ratio=1.5).holds
    True
    >>> twice = alarms_compared(2 * champion, champion, days, max_ratio=1.5)
    >>> print(twice.reason)  # doctest: +NORMALIZE_WHITESPACE
    alarms per asset and week: 7 against the champion's 3.5 on the same days, which is 2 times as
    many; at most 1.5 times may be
    """
    check_share("confidence", confidence)
    ours, theirs = np.asarray(challenger, np.int64), np.asarray(champion, np.int64)
    time = np.asarray(days, np.float64)
    if not ours.shape == theirs.shape == time.shape or ours.ndim != 1:
        raise InputError(
            f"alarms have shapes {ours.shape} and {theirs.shape}, and days {time.shape}; give (k,) "
            "of each, of the same days"
        )
    mine = _per_week(Occurrences(ours, time).interval(confidence))
    other = _per_week(Occurrences(theirs, time).interval(confidence))
    if not time.sum():
        return Comparison(figure, mine, other, is_share=False)
    weeks = time.sum() / WEEK
    more, excess = _resampled(ours - theirs, ours - max_ratio * theirs, seed=seed)
    difference = _interval(float(ours.sum() - theirs.sum()) / weeks, more / weeks, confidence)
    within = budget_per_week is not None and mine.high <= budget_per_week
    few_more = ours.sum() <= theirs.sum() + 1
    reason = ""
    if not (within or few_more or np.quantile(excess, interval_ends(confidence)[1]) <= 0):
        reason = f"{figure}: {_more(mine.value, other.value, max_ratio)}"
        if budget_per_week is not None:
            reason += (
                f"; {mine.high:.2g} cannot be ruled out, and the budget is {budget_per_week:.2g}"
            )
    return Comparison(figure, mine, other, difference, reason, is_share=False)


def _more(mine: float, other: float, max_ratio: float) -> str:
    """Why there are too many alarms, or are not shown not to be."""
    said = f"{mine:.2g} against the champion's {other:.2g} on the same days"
    if not other:
        return f"{said}; at most {max_ratio:g} times as many may be, or one alarm more in all"
    said += f", which is {mine / other:.2g} times as many"
    if mine > max_ratio * other:
        return f"{said}; at most {max_ratio:g} times may be"
    return f"{said}; that it is at most {max_ratio:g} times is not shown"


def _resampled(*values: ArrayLike, seed: int) -> tuple[FloatArray, ...]:
    """Sums of each of some values (k,) over the same resamples of the k days."""
    table = np.stack([np.asarray(value, np.float64) for value in values])
    k = table.shape[1]
    generator = np.random.default_rng(seed)
    sums = np.stack([table[:, generator.integers(k, size=k)].sum(axis=1) for _ in range(N_DRAWS)])
    return tuple(sums.T)


def _per_week(rate: Interval) -> Interval:
    return Interval(*(WEEK * end for end in (rate.value, rate.low, rate.high)))


def _interval(value: float, drawn: FloatArray, confidence: float) -> Interval:
    low, high = np.quantile(drawn, interval_ends(confidence))
    return Interval(value, min(float(low), value), max(float(high), value))
