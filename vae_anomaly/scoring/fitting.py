"""How a scorer is fitted: standardiser, network and score, from normal rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.config import Training
from vae_anomaly.errors import InputError, PartsError
from vae_anomaly.models.attempts import train_attempts
from vae_anomaly.models.standardize import (
    Series,
    Standardizer,
    Windows,
    evenly,
    fit_standardizer,
    take,
    windowed,
)
from vae_anomaly.models.training import Check, History, one_thread
from vae_anomaly.models.variants import Variant
from vae_anomaly.scoring.baselines import CHANCE, CHANGES, Learnt, NoLatents, Simple, baseline_of
from vae_anomaly.scoring.columns import Column, column_notes
from vae_anomaly.scoring.learnable import (
    HELD_OUT_ROWS,
    learnable_windows,
    normal_windows,
    refuse_nothing,
)
from vae_anomaly.scoring.scorer import Scorer, left_context, row_shape
from vae_anomaly.scoring.scores import SCORES, score_name
from vae_anomaly.scoring.smoothing import Smoothing

__all__ = ["FittedScorer", "fit_baseline", "fit_changes", "fit_scorer", "judged_by", "learn"]

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
    notes = [*_left_out(learnt)]
    if isinstance(variant.scaling, str):  # one scale for all is that of an image's pixels
        titles = columns or _numbered(standardizer)
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


def fit_changes(
    rows: Tensor,
    *,
    n_context: int,
    smoothing: Smoothing = None,
    columns: Sequence[Column] = (),
) -> FittedScorer:
    """A scorer that says of rows whether a sensor has changed that never varied in training.

    Parameters
    ----------
    rows : Tensor of shape (n, d + c)
        Normal training rows.
    n_context, smoothing, columns
        As for `fit_baseline`.

    Raises
    ------
    PartsError
        No sensor is constant.

    Examples
    --------
    >>> rows = torch.full((98, 1), 7.5, dtype=torch.float64)
    >>> scorer = fit_changes(rows, n_context=0).scorer
    >>> scorer(torch.tensor([[7.5], [8.0]]).double(), torch.zeros(2).long())[0]
    tensor([0.0000, 9.2103])
    """
    standardizer = fit_standardizer(rows, n_context)
    if not len(standardizer.constants):
        raise PartsError(
            f"no sensor is constant in the {len(rows)} normal rows to learn from, so that there is "
            "no change to watch for"
        )
    scorer = Scorer(standardizer, NoLatents(CHANGES), variant=Simple(CHANGES), smoothing=smoothing)
    scorer.weigh_changes(len(rows))
    if smoothing == "auto":
        scorer.expect_changes(len(rows))
    notes = ["no sensor varies in training: a row is judged by whether one of them has changed"]
    notes += column_notes(rows, standardizer, columns or _numbered(standardizer))
    return FittedScorer(scorer, History((), best_step=0, stopped_early=False), tuple(notes))


def _numbered(standardizer: Standardizer) -> list[Column]:
    """Columns by their numbers, from 1 on."""
    sensors = [Column(f"sensor {i + 1}") for i in range(standardizer.n_features)]
    return sensors + [Column(f"context column {i + 1}") for i in range(standardizer.n_context)]


@one_thread()
def fit_baseline(
    train: Series,
    stop: Series | None = None,
    *,
    n_context: int,
    baseline: str,
    window: int = 1,
    smoothing: Smoothing = None,
    columns: Sequence[Column] = (),
    on_change: str = "",
    seed: int,
) -> FittedScorer:
    """Learn what normal rows look like by a simple detector in place of a network.

    Parameters
    ----------
    train : Series
        Rows to learn from; those whose window holds a labelled anomaly (label > 0) are left out.
        Of more than 65,536 rows that many, evenly spaced.
    stop : Series, optional
        Rows on which smoothing "auto" learns what a normal score is, which only it needs.
    n_context : int
        Number of operating conditions, the last columns.
    baseline : str
        A name in `BASELINES`.
    window : int
        Rows that are judged together; `cva` takes three at least.
    smoothing : float, "auto" or None
        Rate of the EWMA of the score; "auto" takes the largest of several, see `Scorer`.
    columns : sequence of Column, optional
        What the notes call each column, sensors first; by default by number.
    on_change : str
        What the notes add of a sensor that never varies.
    seed : int
        Of what is drawn: the same seed gives the same scorer.

    Returns
    -------
    FittedScorer

    Raises
    ------
    PartsError
        There is no normal row, or no sensor varies in them.
    ConfigError
        There is no such baseline.
    InputError
        Smoothing is "auto", and there are no rows of part `stop`.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> rows = torch.randn((200, 2), generator=generator, dtype=torch.float64)
    >>> alone = torch.zeros(200, dtype=torch.int64)
    >>> fitted = fit_baseline(
    ...     Series(rows, alone, alone), n_context=0, baseline="mahalanobis", seed=0
    ... )
    >>> score, contributions = fitted.scorer(torch.full((1, 2), 9.0).double(), alone[:1])
    >>> bool(score > 100)
    True
    """
    detector, variant = baseline_of(baseline), Simple(baseline)
    window = detector.window(window)
    left_context(window, smoothing)  # refuses both before any work
    normal_rows = train.rows[train.label <= 0]
    standardizer = fit_standardizer(normal_rows, n_context)
    learnable = learnable_windows(train, standardizer, window, variant)
    refuse_nothing(learnable, learnable)
    learnt = _with_following(learnable, detector.ahead)
    scorer = Scorer(
        standardizer,
        NoLatents(baseline),
        variant=variant,
        tensors=detector.fit(learnt, seed),
        window=window,
        smoothing=smoothing,
    )
    scorer.weigh_changes(len(normal_rows))
    if smoothing == "auto":
        if stop is None:
            raise InputError("smoothing='auto' of a baseline needs rows to stop on; give `stop`")
        held_out = learnable_windows(stop, standardizer, window, variant)
        refuse_nothing(learnable, held_out)
        scorer.standardize_scores(normal_windows(held_out).spread(HELD_OUT_ROWS))
    titles = columns or _numbered(standardizer)
    said = column_notes(normal_rows, standardizer, titles, on_change=on_change)
    notes = (*_left_out(learnable), *said)
    return FittedScorer(scorer, History((), best_step=0, stopped_early=False), notes)


def learn(name: str, rows: Tensor, *, seed: int, n_context: int = 0) -> Callable[[Tensor], Tensor]:
    """A baseline that has learnt from a table of normal rows: a function from rows to scores.

    Parameters
    ----------
    name : str
        A name in `BASELINES`, or "random": scores drawn in order, whatever the rows say.
    rows : Tensor of shape (n, d + c)
        In time order, NaN = missing; float64.
    seed : int
    n_context : int
        Number of operating conditions, the last columns.
    """
    if name == CHANCE:
        return lambda rows: torch.from_numpy(np.random.default_rng(seed).random(len(rows)))
    scorer = fit_baseline(_one_series(rows), n_context=n_context, baseline=name, seed=seed).scorer
    return lambda rows: scorer(*_one_series(rows)[:2])[0]


def _one_series(rows: Tensor) -> Series:
    n = len(rows)
    return Series(rows, torch.arange(n), torch.zeros(n, dtype=torch.int64))


def _with_following(windows: Windows, ahead: int) -> Learnt:
    """Some of the windows, evenly spaced, and what follows each in its series."""
    batch, run = windows.batch, windows.run
    rows = windows.rows[windows.rows + ahead < len(run)]
    if ahead:
        rows = rows[run[rows + ahead] >= ahead]
        if not len(rows):
            raise PartsError(
                f"no normal training row has {ahead} rows of its series after it; this baseline "
                "learns from what follows: give it longer series, or another baseline"
            )
    rows = rows[evenly(len(rows), FINISH_ROWS)]
    none = batch._replace(x=batch.x[:, :0], observed=batch.observed[:, :0])
    following = windowed(batch, run, rows + ahead, ahead) if ahead else take(none, rows)
    return Learnt(windowed(batch, run, rows, windows.window), following)


def _n_classes(windows: Windows) -> int:
    """The highest class of a labelled anomaly."""
    return int(windows.batch.label[windows.rows].clamp(min=0).max())


def _left_out(train: Windows) -> Iterator[str]:
    left_out = len(train.run) - len(train.rows)
    if left_out:
        yield (
            f"{left_out} of {len(train.run)} rows are not trained on: their window holds a "
            "labelled anomaly, or no sensor has a value"
        )
