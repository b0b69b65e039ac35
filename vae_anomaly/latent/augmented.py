"""Training in two stages: train, make rows near the training rows, train again on both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from vae_anomaly.data.windows import Matrix
from vae_anomaly.latent.apart import FEWEST, MOST_ROWS, spread, stacked, told_apart
from vae_anomaly.latent.rows import augment, normal_rows
from vae_anomaly.latent.windows import matrix_of_windows, raw_windows
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.training import History
from vae_anomaly.scoring.fitting import FittedScorer
from vae_anomaly.scoring.scorer import Scorer

__all__ = ["FittedAugmented", "fit_augmented"]

#: Trains on rows; the second argument is the stage, 0 or 1, so that each has its own checkpoint.
Fit = Callable[[Series, int], FittedScorer]


@dataclass(frozen=True)
class FittedAugmented:
    """A scorer, and how the training went that its augmented rows are from.

    Attributes
    ----------
    fitted : FittedScorer
        Of the last stage; its notes say what was added, and how well that is told from real rows.
    first : History or None
        Of the stage before; None where nothing was added.
    """

    fitted: FittedScorer
    first: History | None = None


def fit_augmented(
    train: Series,
    stop: Series,
    fit: Fit,
    *,
    share: float,
    seed: int,
    as_read: Callable[[Matrix], Matrix] = lambda rows: rows,
) -> FittedAugmented:
    """Fit a scorer, and where a share is given fit another on augmented rows too.

    The rows that stop the training, and those that set thresholds, stay real ones alone.

    Parameters
    ----------
    train, stop : Series
        Real rows.
    fit : callable
        Trains on rows; its second argument is the stage, 0 or 1.
    share : float
        Augmented rows, as a share of the normal training rows; 0 adds none.
    seed : int
        Of the augmented rows.
    as_read : callable, optional
        Takes rows that a model made to what the plant's sensors can read.

    Returns
    -------
    FittedAugmented
    """
    first = fit(train, 0)
    if not share:
        return FittedAugmented(first)
    real, held_out = _matrix(train), _matrix(stop)
    usable = normal_rows(first.scorer, real)
    n = round(share * len(usable) / first.scorer.window)
    if not n:
        return FittedAugmented(first)
    made = as_read(augment(first.scorer, real, n, seed=seed).matrix)
    second = fit(_joined(train, made), 1)
    note = _note(first.scorer, made, real, held_out, seed)
    return FittedAugmented(replace(second, notes=(*second.notes, note)), first.history)


def _note(scorer: Scorer, made: Matrix, real: Matrix, held_out: Matrix, seed: int) -> str:
    """What was added, and how well a classifier tells it from held-out rows."""
    added = f"trained again on {len(made.run):,} augmented rows beside {len(real.run):,} real ones"
    d = scorer.standardizer.n_features
    ours = stacked(made, scorer.window, d)
    theirs, known = (_windows(scorer, part) for part in (held_out, real))
    n = min(len(ours), len(theirs), len(known), MOST_ROWS)
    if n < FEWEST:
        return f"{added}; too few of part 'stop' to say how well those are told from real ones"
    ours, theirs, known = (spread(part, n) for part in (ours, theirs, known))
    apart, floor = (told_apart(theirs, part, seed=seed).value for part in (ours, known))
    return (
        f"{added}; gradient boosting tells those from rows of part 'stop' with AUROC {apart:.3f}, "
        f"and real training rows with {floor:.3f}"
    )


def _windows(scorer: Scorer, rows: Matrix) -> np.ndarray:
    """(m, w * d) some of the whole normal windows, laid flat."""
    index = normal_rows(scorer, rows)
    windows = raw_windows(scorer, rows, spread(index, min(len(index), MOST_ROWS)))
    d = scorer.standardizer.n_features
    return stacked(matrix_of_windows(windows[..., :d], windows[..., d:], 0), scorer.window, d)


def _matrix(series: Series) -> Matrix:
    return Matrix(*(part.numpy() for part in series))


def _joined(series: Series, made: Matrix) -> Series:
    """Real rows, and after them the made ones, each window a series of its own."""
    more = (torch.from_numpy(part) for part in (made.values, made.run, made.label))
    return Series(*(torch.cat(parts) for parts in zip(series, more, strict=True)))
