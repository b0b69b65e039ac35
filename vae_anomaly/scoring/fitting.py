"""How a scorer is fitted: standardiser, network and score, from normal rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vae_anomaly.config import Training
from vae_anomaly.errors import InputError
from vae_anomaly.models.attempts import train_attempts
from vae_anomaly.models.standardize import Series, Windows, fit_standardizer
from vae_anomaly.models.training import Check, History, one_thread
from vae_anomaly.models.variants import Variant
from vae_anomaly.scoring.baselines import Simple
from vae_anomaly.scoring.columns import Column, column_notes, numbered
from vae_anomaly.scoring.learnable import (
    HELD_OUT_ROWS,
    learnable_windows,
    left_out_note,
    normal_windows,
    refuse_nothing,
)
from vae_anomaly.scoring.scorer import Scorer, left_context, row_shape
from vae_anomaly.scoring.scores import SCORES, score_name
from vae_anomaly.scoring.smoothing import Smoothing

__all__ = ["FINISH_ROWS", "FittedScorer", "fit_scorer", "judged_by"]

#: Training rows for a variant's second stage, and for scores; evenly spaced.
FINISH_ROWS = 65_536


@dataclass(frozen=True)
class FittedScorer:
    """A scorer, how its training went, and what the operator should know of it.

    A baseline has a history without checks, and no settings of a training.
    """

    scorer: Scorer
    history: History
    notes: tuple[str, ...]
    training: Training | None = None


def fit_scorer(  # noqa: PLR0913 (the object would be plant.yml, which this room does not know)
    train: Series,
    stop: Series,
    *,
    n_context: int,
    variant: Variant,
    training: Training,
    anomaly_score: str = "auto",
    window: int = 1,
    smoothing: Smoothing = None,
    levels: tuple[int, ...] = (),
    columns: Sequence[Column] = (),
    on_change: str = "",
    seed: int,
    remedied: bool = True,
    checkpoint: Path | None = None,
    on_check: Callable[[Check], None] = lambda check: None,
) -> FittedScorer:
    """Learn what normal rows look like.

    Parameters
    ----------
    train : Series
        Rows to learn from. A row whose window holds a labelled anomaly (label > 0) is left out,
        unless the variant learns from labels; unlabelled ones count as normal.
    stop : Series
        Rows that decide when training stops, and that the score is fitted on, beside those of
        `train` where it asks for rows that the weights know.
    n_context : int
        Number of operating conditions, the last columns.
    variant : Variant
    training : Training
    anomaly_score : str
        A name in `SCORES`, or "auto".
    window : int
        Rows that are judged together.
    smoothing : float, "auto" or None
        Rate of the EWMA of the score; "auto" takes the largest of several, see `Scorer`.
    levels : tuple of int
        Of each sensor, how many levels its code 0, 1, ... has; 0 is a number. Empty: all are.
    columns : sequence of Column
        What the notes call each column, sensors first; by default by number.
    on_change : str
        What the notes add of a sensor that never varies.
    seed : int
        Of weights, noise and the order of rows: the same seed gives the same scorer.
    remedied : bool
        Whether a training whose latent collapses is done again with a remedy.
    checkpoint : Path, optional
        File that a killed training goes on from; see `train`.
    on_check : callable, optional
        Called at each look at the held-out bound.

    Returns
    -------
    FittedScorer

    Raises
    ------
    PartsError
        There are too few normal rows.
    TrainingError
        Training cannot go on.
    """
    left_context(window, smoothing)  # refuses both, and an unknown score, before any work
    score_name(anomaly_score, variant.default_score)
    normal_rows = train.rows[train.label <= 0]
    standardizer = fit_standardizer(normal_rows, n_context, scaling=variant.scaling, levels=levels)
    learnt, stopped = (
        learnable_windows(part, standardizer, window, variant) for part in (train, stop)
    )
    refuse_nothing(learnt, stopped)
    n_classes = _n_classes(learnt) if variant.learns_labels else 0
    trained = train_attempts(
        variant,
        row_shape(standardizer, window, levels, n_classes),
        learnt,
        training,
        held_out=stopped.spread(HELD_OUT_ROWS),
        seed=seed,
        remedied=remedied,
        checkpoint=checkpoint,
        on_check=on_check,
    )
    module, variant = trained.module, trained.variant
    generator = torch.Generator().manual_seed(seed)
    variant.finish(module, learnt.spread(FINISH_ROWS), generator)
    unfitted = Scorer(
        standardizer,
        module,
        variant=variant,
        anomaly_score=anomaly_score,
        window=window,
        smoothing=smoothing,
        levels=levels,
        n_classes=n_classes,
    )
    unfitted.weigh_changes(len(normal_rows))
    scorer = _with_score(unfitted, variant, anomaly_score, learnt, stopped)
    notes = left_out_note(learnt)
    if isinstance(variant.scaling, str):  # one scale for all is that of an image's pixels
        titles = columns or numbered(standardizer)
        with one_thread():
            notes += column_notes(normal_rows, standardizer, titles, on_change=on_change)
    notes += [*map(str, trained.history.events), *filter(None, [trained.note])]
    return FittedScorer(scorer, trained.history, tuple(notes), trained.training)


def judged_by(scorer: Scorer, anomaly_score: str, *, train: Series, stop: Series) -> Scorer:
    """A scorer of the same trained model with another score, without training again.

    A label head is not carried over, for it has learnt from the score that is replaced.

    Parameters
    ----------
    scorer : Scorer
    anomaly_score : str
        A name in `SCORES`, or "auto".
    train, stop : Series
        As for `fit_scorer`, and the same.

    Raises
    ------
    ConfigError
        There is no such score.
    InputError
        The scorer is a baseline's.

    Examples
    --------
    >>> from vae_anomaly.models.variants import Gaussian
    >>> rows = torch.randn((200, 3), generator=torch.Generator().manual_seed(0)).double()
    >>> alone = torch.zeros(200, dtype=torch.int64)
    >>> parts = (slice(150), slice(150, 200))
    >>> train, stop = (Series(rows[at], alone[at], alone[at]) for at in parts)
    >>> short = Training(min_steps=20, max_steps=20)
    >>> scorer = fit_scorer(
    ...     train, stop, n_context=0, variant=Gaussian(), training=short, seed=0
    ... ).scorer
    >>> judged_by(scorer, "residual", train=train, stop=stop).anomaly_score
    'residual'
    """
    variant = scorer.variant
    if isinstance(variant, Simple):
        raise InputError(
            f"the baseline '{variant.name}' judges by itself; give the scorer of a variant"
        )
    score_name(anomaly_score, variant.default_score)  # refuses it before any work
    learnt, stopped = (
        learnable_windows(part, scorer.standardizer, scorer.window, variant)
        for part in (train, stop)
    )
    refuse_nothing(learnt, stopped)
    return _with_score(scorer, variant, anomaly_score, learnt, stopped)


@one_thread()
def _with_score(
    scorer: Scorer, variant: Variant, anomaly_score: str, train: Windows, stop: Windows
) -> Scorer:
    """A scorer of the same model, with a score fitted to held-out and trained-on normal rows."""
    score = SCORES[score_name(anomaly_score, variant.default_score)]
    held_out = normal_windows(stop).spread(HELD_OUT_ROWS)
    judged = Scorer(
        scorer.standardizer,
        scorer.module,
        variant=variant,
        anomaly_score=anomaly_score,
        tensors=score.fit(scorer.module, held_out, normal_windows(train).spread(FINISH_ROWS)),
        window=scorer.window,
        smoothing=scorer.smoothing,
        levels=scorer.levels,
        n_classes=scorer.n_classes,
    )
    judged.get_buffer("of_change").copy_(scorer.get_buffer("of_change"))
    if scorer.smoothing == "auto":
        judged.standardize_scores(held_out)
    return judged


def _n_classes(windows: Windows) -> int:
    """The highest class of a labelled anomaly."""
    return int(windows.batch.label[windows.rows].clamp(min=0).max())
