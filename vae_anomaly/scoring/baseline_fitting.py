"""How a scorer of a simple detector is fitted, which has no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.errors import InputError, PartsError
from vae_anomaly.models.standardize import Series, Windows, evenly, fit_standardizer, take, windowed
from vae_anomaly.models.training import History, one_thread
from vae_anomaly.scoring.baselines import CHANCE, CHANGES, Learnt, NoLatents, Simple, baseline_of
from vae_anomaly.scoring.columns import Column, column_notes, numbered
from vae_anomaly.scoring.fitting import FINISH_ROWS, FittedScorer
from vae_anomaly.scoring.learnable import (
    HELD_OUT_ROWS,
    learnable_windows,
    left_out_note,
    normal_windows,
    refuse_nothing,
)
from vae_anomaly.scoring.scorer import Scorer, left_context
from vae_anomaly.scoring.smoothing import Smoothing

__all__ = ["fit_baseline", "fit_changes", "learn"]


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
    titles = columns or numbered(standardizer)
    said = column_notes(normal_rows, standardizer, titles, on_change=on_change)
    notes = (*left_out_note(learnable), *said)
    return FittedScorer(scorer, History((), best_step=0, stopped_early=False), notes)


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
    notes += column_notes(rows, standardizer, columns or numbered(standardizer))
    return FittedScorer(scorer, History((), best_step=0, stopped_early=False), tuple(notes))


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
