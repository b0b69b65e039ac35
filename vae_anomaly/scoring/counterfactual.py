"""The smallest change of a row that makes it normal: which sensors, and what they would read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.errors import InputError
from vae_anomaly.models.training import one_thread
from vae_anomaly.scoring.scorer import Scorer

__all__ = ["Counterfactual", "counterfactual"]

#: Sensors that are tried at a time: those that contribute most.
TRIED = 8

#: Steps of each search, and the length of the first in standard deviations of a sensor; they get
#: shorter. Twice as many find the same.
STEPS, FIRST_STEP = 30, 0.1

#: How often a change is halved to find the smallest share of it that is enough.
HALVINGS = 6


@dataclass(frozen=True)
class Counterfactual:
    """What a row and those before it would have to read to be normal.

    Attributes
    ----------
    values : ndarray of shape (m, d)
        The sensors of these rows in their own units, changed; NaN where missing; float64.
    changed : tuple of int
        Numbers of the changed sensors, from 0; that first whose change alone helps most.
    before, after : float
        Anomaly score of the last row as it was read, and changed.
    reached : bool
        Whether the changed row is normal: its score is at most the threshold.
    """

    values: np.ndarray
    changed: tuple[int, ...]
    before: float
    after: float
    reached: bool


@one_thread()
def counterfactual(scorer: Scorer, rows: Tensor, *, threshold: float) -> Counterfactual:
    """The change of few sensors, and no larger than it has to be, that makes a row normal.

    Sensor after sensor is added: each time that whose change lowers the score most, beside those
    found before. Then all of them are changed back as far as the threshold allows. A change starts
    from what is read, or from what the model expects where it sees none of these sensors, and goes
    down the gradient of the score; without one (isolation forest, levels, constants) what is
    expected is all that is tried. Context explains the sensors and stays, and what is missing stays
    missing. Draws nothing.

    ARCANA goes down the gradient of all sensors at once, with the L1 norm of the change as a cost:
    on simulated plants that changes more sensors, and what it reaches hangs on the weight of the
    norm (`benchmarks/why.py`).

    Parameters
    ----------
    scorer : Scorer
    rows : Tensor of shape (m, d + c)
        The row, last, and those of its unbroken series directly before it, of which only
        ``scorer.left_context`` count; NaN = missing; float64.
    threshold : float
        The highest normal score.

    Returns
    -------
    Counterfactual
        Of the rows that count. A row that is normal stays as it is.

    Raises
    ------
    InputError
        There is no row, or rows are not float64 of the scorer's width.

    References
    ----------
    Roelofs, Lutz, Faulstich & Vogt (2021), Autoencoder-based anomaly root cause analysis for wind
    turbines, Energy and AI 4.

    Examples
    --------
    >>> from vae_anomaly.models.standardize import Series
    >>> from vae_anomaly.scoring.baseline_fitting import fit_baseline
    >>> generator = torch.Generator().manual_seed(0)
    >>> load, noise = torch.randn((2, 300, 3), generator=generator, dtype=torch.float64)
    >>> alone = torch.zeros(300, dtype=torch.int64)
    >>> train = Series(load[:, :1] * 2 + 0.1 * noise, alone, alone)
    >>> scorer = fit_baseline(train, n_context=0, baseline="mahalanobis", seed=0).scorer
    >>> found = counterfactual(scorer, torch.tensor([[1.0, 5.0, 1.0]]).double(), threshold=20.0)
    >>> found.changed, found.reached, bool(found.values[0, 1] < 2)
    ((1,), True, True)
    """
    if not len(rows):
        raise InputError("no row is given; give the row, and those before it in its series")
    rows = rows[-scorer.left_context - 1 :].detach()
    score, contributions = scorer(rows, torch.arange(len(rows)))
    before, d = float(score[-1]), scorer.standardizer.n_features
    best, lowest = rows, before
    changed: tuple[int, ...] = ()
    is_read = ~rows[:, :d].isnan().all(dim=0)
    ranked = contributions[-1].argsort(descending=True, stable=True).tolist()
    left = [sensor for sensor in ranked if is_read[sensor]]
    while left and lowest > threshold:
        found = _searched(scorer, best, changed, left[:TRIED])
        number = int(found.score.argmin())
        if not found.score[number] < lowest:
            break
        best, lowest = found.rows[number], float(found.score[number])
        changed = (*changed, left.pop(number))
    if changed:
        best = _shortened(scorer, rows, best, threshold)
    after = _score(scorer, best)
    return Counterfactual(best[:, :d].numpy(), changed, before, after, reached=after <= threshold)


class _Found(NamedTuple):
    """Rows (k, m, d + c), changed in one way each, and the score (k,) of the last."""

    rows: Tensor
    score: Tensor

    def or_lower(self, rows: Tensor, score: Tensor) -> _Found:
        """Of each the one that scores lower."""
        is_lower = score < self.score
        return _Found(
            torch.where(is_lower[:, None, None], rows, self.rows),
            torch.where(is_lower, score, self.score),
        )


def _searched(scorer: Scorer, best: Tensor, changed: Sequence[int], tried: Sequence[int]) -> _Found:
    """The lowest scores that changing one more sensor each leads to, and the rows."""
    copies = best.repeat(len(tried), 1, 1)
    is_free = torch.zeros(len(tried), 1, best.shape[1], dtype=torch.bool)
    is_free[:, :, list(changed)] = True
    is_free[torch.arange(len(tried)), 0, torch.tensor(tried)] = True
    expected = _as_expected(scorer, copies, is_free)
    with torch.no_grad():
        found = _Found(copies, _scores(scorer, copies))
        found = found.or_lower(expected, _scores(scorer, expected))
    is_free[:, :, _leaping(scorer)] = False
    start, unit = found.rows, torch.where(is_free, scorer.standardizer.scale, 0.0)
    shift = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=FIRST_STEP)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        moved = start + shift * unit
        score = _scores(scorer, moved)
        found = found.or_lower(moved.detach(), score.detach())
        if not score.requires_grad:
            break
        (shift.grad,) = torch.autograd.grad(score.sum(), shift)
        optimizer.step()
        slower.step()
    return found


def _as_expected(scorer: Scorer, copies: Tensor, is_free: Tensor) -> Tensor:
    """Copies whose free sensors are as the model expects them where it sees none of them."""
    k, m, _ = copies.shape
    hidden = copies.masked_fill(is_free, torch.nan).reshape(k * m, -1)
    means = scorer.expected(hidden, torch.arange(m).repeat(k)).reshape(k, m, -1)
    means = torch.cat([means, copies[:, :, means.shape[-1] :]], dim=-1)
    return torch.where(is_free & ~copies.isnan() & ~means.isnan(), means, copies)


def _scores(scorer: Scorer, copies: Tensor) -> Tensor:
    """Score (k,) of the last row of each copy (k, m, d + c), with its gradient."""
    k, m, _ = copies.shape
    return scorer.differentiable(copies.reshape(k * m, -1), torch.arange(m).repeat(k))[m - 1 :: m]


def _leaping(scorer: Scorer) -> list[int]:
    """Sensors that go from one value to another with none between: levels, and constants."""
    of_levels = [sensor for sensor, n in enumerate(scorer.levels) if n]
    return [*of_levels, *scorer.standardizer.constants.tolist()]


def _shortened(scorer: Scorer, rows: Tensor, changed_rows: Tensor, threshold: float) -> Tensor:
    """A change as small a share of itself as leaves the last row normal, found by halving."""
    leaping, best = _leaping(scorer), changed_rows
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        tried = rows + share * (changed_rows - rows)
        tried[:, leaping] = changed_rows[:, leaping]
        if _score(scorer, tried) <= threshold:
            best, high = tried, share
        else:
            low = share
    return best


def _score(scorer: Scorer, rows: Tensor) -> float:
    """Score of the last row, as it is served."""
    return float(scorer(rows, torch.arange(len(rows)))[0][-1])
