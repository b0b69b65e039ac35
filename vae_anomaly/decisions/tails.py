"""Rates that the rows never reached: a generalised Pareto tail above a high level.

Of 5,000 rows, the highest is the only one that speaks of a rate of 1e-4. The scores above a high
level follow a generalised Pareto law, whatever law the scores have, if the level is high enough
(Pickands 1975); its fit uses them all, and reaches beyond the last.

The level is the highest tenth of the rows, at most 2,000 of them. A lower level adds more bias than
it takes away variance: scores in two humps, 3 % of them about the higher one, made the threshold
at 1e-4 wrong by four powers of ten. So where the Anderson-Darling statistic of the excesses is
above 0.65, which it is in some 15 % of tails that fit, half of them are tried, down to 30.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vae_anomaly.decisions.conformal import as_written
from vae_anomaly.decisions.rates import FloatArray, IntArray, check_share
from vae_anomaly.errors import CalibrationError

__all__ = ["GOOD_FIT", "Tail", "excesses_tried", "fit_pareto", "fit_tail", "tail_rows_needed"]

#: The share of the rows whose excesses are fitted first, the most of them, and the fewest.
LEVEL_SHARE, MOST_EXCESSES, FEWEST_EXCESSES = 10, 2000, 30

#: Anderson-Darling statistics above which fewer excesses are tried.
TRY_HIGHER = 0.65

#: That of 99 % of tails that fit lies below: 1.0 for heavy ones to 1.8 for bounded ones.
GOOD_FIT = 1.8

#: A tail is followed to a rate so many times lower than one row.
REACH = 10


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto law of the scores above a level, and how well it fits.

    Attributes
    ----------
    level : float
        The law is of the scores above it.
    n_excesses, n_rows : int
        Scores above the level, and all.
    shape, scale : float
        Shape above 0 is a heavy tail, 0 an exponential one, below 0 one that ends.
    anderson_darling : float
        Of the excesses against the law; above `GOOD_FIT` the law is not theirs.
    """

    level: float
    n_excesses: int
    n_rows: int
    shape: float
    scale: float
    anderson_darling: float

    def quantile(self, rate: float) -> float:
        """The score that a share `rate` of fresh rows exceeds; rate below that of the level."""
        log_share = math.log(float(as_written(rate)) * self.n_rows / self.n_excesses)
        if self.shape == 0:
            return self.level - self.scale * log_share
        return self.level + self.scale * math.expm1(-self.shape * log_share) / self.shape

    def in_words(self) -> str:
        """The fit, in a sentence, and another where it is a bad one."""
        said = (
            f"The tail is a generalised Pareto law of the {self.n_excesses} of {self.n_rows} rows "
            f"above {self.level:.4g}: shape {self.shape:.2f}, scale {self.scale:.3g}, "
            f"Anderson-Darling {self.anderson_darling:.2f}."
        )
        if self.anderson_darling > GOOD_FIT:
            said += (
                f" Above {GOOD_FIT} it does not fit, and the rate is not to be relied on: use rule "
                "conformal with more rows."
            )
        return said


def tail_rows_needed(false_alarm_rate: float) -> int:
    """Normal rows without which no tail is followed to this false alarm rate.

    Examples
    --------
    >>> tail_rows_needed(1e-4), tail_rows_needed(1e-2)
    (1000, 300)
    """
    check_share("false_alarm_rate", false_alarm_rate)
    beyond = math.ceil(1 / (REACH * as_written(false_alarm_rate)))
    return max(LEVEL_SHARE * FEWEST_EXCESSES, beyond)


def fit_tail(highest: FloatArray, n_rows: int) -> Tail:
    """Tail of a sample, from its highest scores.

    Parameters
    ----------
    highest : ndarray of shape (m,)
        The highest scores, falling; one more than a tenth of the rows, or 2,001.
    n_rows : int
        Rows of the whole sample.

    Raises
    ------
    CalibrationError
        Scores are infinite, or too few lie above the level.

    References
    ----------
    Siffer, Fouque, Termier & Largouet (2017), Anomaly detection in streams with extreme value
    theory, KDD.

    Examples
    --------
    >>> scores = -np.log(np.arange(0.5, 1000) / 1000)  # an exponential law
    >>> tail = fit_tail(scores[:101], 1000)
    >>> tail.n_excesses, round(tail.shape, 1), round(tail.quantile(1e-4), 1)
    (100, 0.0, 9.5)
    """
    n_excesses = excesses_tried(n_rows)
    while True:
        tail = _tail(highest, n_excesses, n_rows)
        n_excesses //= 2
        n_higher = np.count_nonzero(highest > highest[n_excesses])
        if tail.anderson_darling <= TRY_HIGHER or n_higher < FEWEST_EXCESSES:
            return tail


def excesses_tried(n_rows: int) -> int:
    """Excesses that are fitted first."""
    return min(n_rows // LEVEL_SHARE, MOST_EXCESSES)


def _tail(highest: FloatArray, n_excesses: int, n_rows: int) -> Tail:
    level = float(highest[n_excesses])
    above = highest[:n_excesses]
    excesses = above[above > level][::-1] - level
    if not math.isfinite(level) or not np.isfinite(excesses).all():
        raise CalibrationError(
            "normal rows score infinite, and an infinite score has no tail. Look at these rows, "
            "or leave them out."
        )
    if len(excesses) < FEWEST_EXCESSES // 2:  # a resample has some rows twice
        raise CalibrationError(
            f"only {len(excesses)} normal rows score above {level:g}, at which many scores are "
            "equal; a tail needs scores that differ. Use rule: conformal."
        )
    law = fit_pareto(excesses)
    distance = _anderson_darling(excesses, law)
    return Tail(level, len(excesses), n_rows, law.shape, law.scale, distance)


@dataclass(frozen=True)
class Pareto:
    """Shape and scale of a generalised Pareto law."""

    shape: float
    scale: float


def fit_pareto(excesses: FloatArray) -> Pareto:
    """Generalised Pareto law of excesses, (n,) rising and above 0.

    The mean of the profile likelihood over a grid: as efficient as its maximum, which need not
    exist, and without a search.

    References
    ----------
    Zhang & Stephens (2009), A new and efficient estimation method for the generalized Pareto
    distribution, Technometrics 51.

    Examples
    --------
    >>> law = fit_pareto(np.expm1(-0.5 * np.log(1 - np.arange(0.5, 500) / 500)) / 0.5)
    >>> round(law.shape, 1), round(law.scale, 1)
    (0.5, 1.0)
    """
    n = len(excesses)
    n_grid = 20 + math.isqrt(n)
    quartile = excesses[math.floor(n / 4 + 0.5) - 1]
    steps = (1 - np.sqrt(n_grid / (np.arange(n_grid) + 0.5))) / 3
    ratios = 1 / excesses[-1] + steps / quartile  # -shape / scale
    shapes = np.log1p(-ratios[:, None] * excesses).mean(axis=1)
    even = np.full(n_grid, 1 / excesses.mean())  # of a shape of 0
    steepness = np.divide(-ratios, shapes, out=even, where=shapes != 0)
    log_likelihood = n * (np.log(steepness) - shapes - 1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    ratio = float(weights @ ratios / weights.sum())
    shape = float(np.log1p(-ratio * excesses).mean())
    return Pareto(shape, -shape / ratio) if ratio else Pareto(0.0, float(excesses.mean()))


def _anderson_darling(excesses: FloatArray, law: Pareto) -> float:
    """Squared distance of the sample's law from this one, with weight on the ends."""
    n = len(excesses)
    # the log of the share above each excess
    if law.shape == 0:
        above = -excesses / law.scale
    else:
        above = -np.log1p(law.shape * excesses / law.scale) / law.shape
    below = np.log(np.maximum(-np.expm1(above), np.finfo(float).tiny))
    ranks: IntArray = 2 * np.arange(1, n + 1) - 1
    return float(-n - (ranks * (below + above[::-1])).mean())
