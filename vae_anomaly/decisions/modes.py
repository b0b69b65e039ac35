"""A threshold for each operating mode, or each asset, of one model.

A mode that is judged by all rows' threshold alarms too often, or never: the scores of its normal
rows lie elsewhere. Judged by its own rows alone it needs 99 of them for a rate of 1 %, and rare
modes have ten. Between the two: modes differ in where their scores lie and how far they spread,
which ten rows tell; and share how their tails fall, which all rows tell together.

So scores are levelled, (score - offset) / scale, such that the threshold of each mode becomes that
of all rows; then the rule chooses once, on the levelled scores of all modes. A mode's own threshold
counts as far as its rows can tell it from that of all rows: by 1 - (error / difference)^2, and not
at all where that is below 0 (the non-negative garrote; Breiman 1995, Technometrics 37).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vae_anomaly.decisions.rates import FloatArray, IntArray

__all__ = ["Level", "Levels", "Per", "fit_levels", "known_modes"]

#: What has a threshold of its own.
Per = Literal["mode", "asset"]

#: Rows above which a mode's spread is measured: the fewer they are, the nearer to the threshold.
ABOVE = 10

#: With fewer rows than these a mode has no spread of its own.
MIN_SPREAD_ROWS = 8

#: The share of a mode's rows above which its spread is measured, at the most and the least.
QUARTER, HUNDREDTH = 0.25, 0.01


@dataclass(frozen=True)
class Level:
    """How the scores of one mode become those of all: (score - offset) / scale.

    `n_rows` counts the normal rows that tell; without any, the mode has the threshold of all rows.
    """

    mode: str
    offset: float = 0.0
    scale: float = 1.0
    n_rows: int = 0


@dataclass(frozen=True)
class Levels:
    """Levels of the known modes or assets, whichever `per` names; other rows are as they are."""

    per: Per
    modes: tuple[Level, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modes, in the order that `place` counts."""
        return tuple(level.mode for level in self.modes)

    def levelled(self, scores: FloatArray, place: IntArray) -> FloatArray:
        """Levelled scores (n,).

        Parameters
        ----------
        scores : ndarray of shape (n,)
        place : ndarray of shape (n,), integers
            Place of each row's mode in `names`; -1 for none of them.

        Examples
        --------
        >>> levels = Levels("mode", (Level("idle", 1.0, 2.0),))
        >>> levels.levelled(np.array([5.0, 5.0]), np.array([0, -1]))
        array([2., 5.])
        """
        offset, scale = self._of_rows(place)
        found: FloatArray = (scores - offset) / scale
        return found

    def limits(self, threshold: float, place: IntArray) -> NDArray[np.float32]:
        """Limits (n,) on the scores themselves, for a threshold on levelled ones.

        Rounded up where levelling rounds, so that no row alarms by a rounding.
        """
        offset, scale = self._of_rows(place)
        limit = (offset + scale * threshold).astype(np.float32)
        rounded = (offset != 0) | (scale != 1)
        return np.where(rounded, np.nextafter(limit, np.float32(np.inf)), limit)

    def _of_rows(self, place: IntArray) -> tuple[FloatArray, FloatArray]:
        """Offset and scale of each row; the last entry is what -1 finds."""
        offset = np.array([*(level.offset for level in self.modes), 0.0])
        scale = np.array([*(level.scale for level in self.modes), 1.0])
        return offset[place], scale[place]


def known_modes(levels: Levels | None) -> tuple[str, ...] | None:
    """Operating modes that a model knows; None where it does not tell them apart."""
    return levels.names if levels is not None and levels.per == "mode" else None


def fit_levels(
    scores: FloatArray,
    place: IntArray,
    normal: NDArray[np.bool_],
    *,
    names: Sequence[str],
    per: Per = "mode",
    threshold: Callable[[FloatArray, NDArray[np.bool_]], float],
    effect: float = 1.0,
) -> Levels:
    """Levels of modes from calibration rows.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Of all rows, anomalous ones included.
    place : ndarray of shape (n,), integers
        Place of each row's mode in `names`; -1 for none of them.
    normal : ndarray of shape (n,), bool
        Which rows count as normal.
    names : sequence of str
        The modes, or the assets.
    per : str
        Which of both.
    threshold : callable
        The rule: from scores (n,) of these rows and which of them count, a threshold.
    effect : float
        How many rows say as much as one by itself.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> place = np.repeat([0, 1], [2000, 20])
    >>> scores = generator.normal(size=2020) + 10 * place
    >>> def rule(levelled, counts):
    ...     return float(np.quantile(levelled[counts], 0.99))
    >>> levels = fit_levels(scores, place, place >= 0, names=("run", "idle"), threshold=rule)
    >>> levels.limits(rule(scores, place >= 0), np.array([0, 1])).round()
    array([ 2., 12.], dtype=float32)
    """
    of_all = threshold(scores, np.ones(len(scores), bool))
    known = normal & (place >= 0)
    if not known.any():
        return Levels(per, tuple(Level(name) for name in names))
    own = _own(scores[known], place[known], len(names), effect)
    moved = Levels(per, tuple(map(Level, names, own.centre.tolist(), own.scale.tolist())))
    tail = threshold(moved.levelled(scores, place), np.isin(place, np.flatnonzero(own.n_rows)))
    apart = own.centre + own.scale * tail - of_all
    error = own.scale * np.hypot(own.centre_error, tail * own.scale_error)
    with np.errstate(divide="ignore", invalid="ignore"):  # a mode that is not apart stays so
        kept = np.nan_to_num(np.maximum(0.0, 1 - (error / apart) ** 2))
    offset = of_all + kept * apart - own.scale * of_all
    found = map(Level, names, offset.tolist(), own.scale.tolist(), own.n_rows.tolist())
    return Levels(per, tuple(level if level.n_rows else Level(level.mode) for level in found))


@dataclass(frozen=True)
class _Own:
    """Where the scores of each mode lie, (k,) each; the errors in scales."""

    centre: FloatArray
    scale: FloatArray
    centre_error: FloatArray
    scale_error: FloatArray
    n_rows: IntArray


def _own(scores: FloatArray, place: IntArray, n_modes: int, effect: float) -> _Own:
    """Medians, and the spread above them in units of the standardised scores of all modes."""
    n_rows = np.bincount(place, minlength=n_modes)
    own = [scores[place == i] for i in range(n_modes)]
    centre = np.array([np.median(part) if len(part) else 0.0 for part in own])
    quarters = np.array([_spread(part, QUARTER) for part in own])
    usable = quarters[place] > 0
    away = (scores - centre[place])[usable] / quarters[place][usable]
    if not len(away):  # nowhere do scores differ
        flat = np.ones(n_modes)
        return _Own(centre, flat, 0 * flat, 0 * flat, n_rows)
    middle = 1.4826 * float(np.median(np.abs(away)))
    log_scale, error = np.zeros(n_modes), np.full(n_modes, np.inf)
    for i in np.flatnonzero(quarters > 0):
        share = min(max(ABOVE * effect / n_rows[i], HUNDREDTH), QUARTER)
        log_scale[i] = math.log(_spread(own[i], share) / _spread(away, share))
        # of the distance to a quantile of an exponential tail
        error[i] = math.sqrt(effect / (n_rows[i] * share)) / math.log(0.5 / share)
    usual = float(np.average(log_scale[quarters > 0], weights=n_rows[quarters > 0]))
    from_usual = log_scale - usual
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.nan_to_num(np.maximum(0.0, 1 - (error / from_usual) ** 2))
    scale = np.exp(usual + np.where(kept > 0, kept * from_usual, 0.0))
    centre_error = 1.2533 * middle * np.sqrt(effect / np.maximum(n_rows, 1))
    return _Own(centre, scale, centre_error, np.minimum(error, 1.0), n_rows)


def _spread(scores: FloatArray, share: float) -> float:
    """How far above their median so many of the scores lie; 0 of too few scores."""
    if len(scores) < MIN_SPREAD_ROWS:
        return 0.0
    return float(np.quantile(scores, 1 - share) - np.median(scores))
