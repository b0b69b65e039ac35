"""What ranks among normal rows promise: rates, the rows that they take, and p-values."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from vae_anomaly.decisions.rates import FloatArray, Interval, check_share, interval_ends
from vae_anomaly.errors import CalibrationError, InputError

__all__ = [
    "as_written",
    "beta_binomial_interval",
    "conformal_p_values",
    "promised_rank",
    "refuse_too_few_normal",
    "rows_needed",
    "supported_false_alarm_rate",
]


def as_written(rate: float) -> Fraction:
    """The rate as it is written: 0.07 of 100 rows is 7 rows, whatever binary makes of it."""
    return Fraction(repr(float(rate)))


def promised_rank(n_normal: int, false_alarm_rate: float) -> int:
    """Rank from the top of the normal score that keeps the conformal promise."""
    return math.floor(as_written(false_alarm_rate) * (n_normal + 1))


def rows_needed(false_alarm_rate: float) -> int:
    """Normal rows without which no threshold can promise this false alarm rate.

    Examples
    --------
    >>> rows_needed(0.01)
    99
    """
    check_share("false_alarm_rate", false_alarm_rate)
    return math.ceil(1 / as_written(false_alarm_rate)) - 1


def supported_false_alarm_rate(n_normal: int) -> float:
    """Smallest false alarm rate that so many normal rows can promise; 1 means none.

    Examples
    --------
    >>> supported_false_alarm_rate(99)
    0.01
    """
    rate = 1 / (n_normal + 1)
    return rate if as_written(rate) * (n_normal + 1) >= 1 else math.nextafter(rate, 1)


def refuse_too_few_normal(n_normal: int, false_alarm_rate: float) -> None:
    """Raise `CalibrationError` where so many normal rows cannot promise the rate."""
    needed = rows_needed(false_alarm_rate)
    if n_normal < needed:
        smallest = math.ceil(supported_false_alarm_rate(n_normal) * 1e4) / 1e4
        instead = f", or ask for false_alarm_rate={smallest:g} or more" if smallest < 1 else ""
        raise CalibrationError(
            f"false_alarm_rate={false_alarm_rate:g} needs at least {needed} normal rows to "
            f"calibrate on, and there are {n_normal}. Give the part 'calibrate' more rows{instead}."
        )


def beta_binomial_interval(
    n_calibration: int, n_fresh: int, false_alarm_rate: float, confidence: float = 0.95
) -> Interval:
    """Where the false alarm rate on fresh normal rows lies, under a conformal threshold.

    With n calibration rows and k = floor(rate (n + 1)), the number of alarms among `n_fresh`
    exchangeable normal rows is beta-binomial (n_fresh, k, n + 1 - k) for any continuous score;
    ties can only make it fewer. Being counts, the ends hold it at least as often as asked.

    Parameters
    ----------
    n_calibration, n_fresh : int
        Normal rows that the threshold was chosen from, and fresh ones.
    false_alarm_rate : float
        As asked of the rule.
    confidence : float
        Of the interval, which is central.

    Returns
    -------
    Interval
        Expected share and its ends.

    Raises
    ------
    CalibrationError
        So many calibration rows cannot promise the rate.
    InputError
        A share is not between 0 and 1, or there is no fresh row.

    References
    ----------
    Angelopoulos & Bates (2023), Conformal prediction: a gentle introduction, Foundations and
    Trends in Machine Learning 16, section 3.2.

    Examples
    --------
    >>> beta_binomial_interval(999, 1000, 0.01)
    Interval(value=0.01, low=0.003, high=0.02)
    """
    check_share("confidence", confidence)
    refuse_too_few_normal(n_calibration, false_alarm_rate)
    if n_fresh < 1:
        raise InputError(f"n_fresh={n_fresh} leaves nothing to count; give at least one row")
    k = promised_rank(n_calibration, false_alarm_rate)
    counts = np.arange(n_fresh + 1)
    log_chances = (
        betaln(counts + k, n_fresh - counts + n_calibration + 1 - k)
        - betaln(k, n_calibration + 1 - k)
        - betaln(counts + 1, n_fresh - counts + 1)
        - math.log(n_fresh + 1)
    )
    at_most = np.exp(log_chances).cumsum()
    low, high = np.searchsorted(at_most, interval_ends(confidence)).clip(max=n_fresh) / n_fresh
    return Interval(k / (n_calibration + 1), float(low), float(high))


def conformal_p_values(scores: ArrayLike, reference: ArrayLike) -> FloatArray:
    """Probability that a normal row scores at least this high, (n,) in (0, 1].

    p = (1 + #{reference >= score}) / (n + 1), so p is never 0.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Anomaly scores; higher is more anomalous.
    reference : array-like of shape (n_reference,)
        Scores of normal rows that the model was not trained on.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    InputError
        There is no reference, or a score is NaN.

    References
    ----------
    Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World, ch. 2.

    Examples
    --------
    >>> conformal_p_values([0.5, 9.0], [1.0, 2.0, 3.0])
    array([1.  , 0.25])
    """
    row_scores, known = (np.asarray(part, dtype=np.float64) for part in (scores, reference))
    if not known.size:
        raise InputError("the reference is empty; give the scores of the normal calibration rows")
    if np.isnan(known).any() or np.isnan(row_scores).any():
        raise InputError("a score is NaN; leave out the rows that were not scored")
    at_least = known.size - np.searchsorted(np.sort(known), row_scores, side="left")
    return (1 + at_least) / (known.size + 1)
