"""The methods of every suite: our default, a plain VAE, and every baseline. A new one is a line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from suites.case import Bools, Floats, Ints, Rows
from vae_anomaly import VAEDetector
from vae_anomaly.config import window_rows
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import Gaussian
from vae_anomaly.scoring.baseline_fitting import fit_baseline, fit_changes
from vae_anomaly.scoring.baselines import BASELINES, CHANCE
from vae_anomaly.scoring.columns import flags
from vae_anomaly.scoring.smoothing import multiscale

__all__ = [
    "DETECTORS",
    "WINDOWED",
    "Fit",
    "Fitted",
    "Scored",
    "detectors_of",
    "fitted",
    "in_order",
    "score_case",
]

#: Share of each training series whose scores say what a normal score is, before charts are drawn.
HELD_OUT = 0.2


class Fitted(NamedTuple):
    """From rows to scores, how many rows are judged together, and whether scores are smoothed."""

    score: Callable[[Rows], Floats]
    window: int = 1
    is_smoothed: bool = False


#: Normal training rows, a seed, and whether the rows are ordered.
Fit = Callable[[Rows, int, bool], Fitted]


def default(train: Rows, seed: int, is_series: bool) -> Fitted:
    """Our default: nothing set, but that a series is one."""
    if is_series:
        detector = VAEDetector(window="auto", smoothing="auto", random_state=seed)
        return fitted(detector, train, is_series)
    return fitted(VAEDetector(random_state=seed), train, is_series)


def plain_vae(train: Rows, seed: int, is_series: bool) -> Fitted:
    """The textbook's VAE: one network, unit noise, squared error of the reconstruction."""
    textbook = VAEDetector(
        Gaussian(noise=1.0), anomaly_score="reconstruction", random_state=seed
    )  # fmt: skip
    return fitted(textbook, train, is_series)


def fitted(detector: VAEDetector, train: Rows, is_series: bool) -> Fitted:
    """A detector that has learnt the rows."""

    def groups(rows: Rows) -> Ints | None:
        return rows.series if is_series else None

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*calibration rows support")
        detector.fit(train.values, groups=groups(train))
    scorer = detector.scorer_
    return Fitted(
        lambda rows: -detector.score_samples(rows.values, groups=groups(rows)),
        window=scorer.window,
        is_smoothed=scorer.smoothing is not None,
    )


def _baseline(name: str, *, is_windowed: bool = False) -> Fit:
    """A baseline on the columns that our default judges; where none varies, changes of them."""

    def fit(train: Rows, seed: int, is_series: bool) -> Fitted:
        explain = flags(torch.from_numpy(train.values)) if is_series else []
        every = range(train.values.shape[1])
        judged = [i for i in every if i not in explain] or list(every)

        def judged_of(rows: Rows) -> Series:
            return in_order(Rows(rows.values[:, judged], rows.series))

        learnt = judged_of(train)
        if (np.ptp(train.values[:, judged], axis=0) > 0).any() or not is_series:
            window = window_rows("auto", len(judged)) if is_windowed else 1
            scorer = fit_baseline(
                learnt, n_context=0, baseline=name, window=window, seed=seed
            ).scorer  # fmt: skip
        else:
            scorer = fit_changes(learnt.rows, n_context=0).scorer

        def score(rows: Rows) -> Floats:
            series = judged_of(rows)
            found: Floats = scorer(series.rows, series.run)[0].double().numpy()
            return found

        return Fitted(score, window=scorer.window)

    return fit


def one_neighbour(train: Rows, seed: int, is_series: bool) -> Fitted:
    """Distance to the nearest of all training rows, in standard deviations of each column."""
    center, spread = train.values.mean(axis=0), train.values.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    known = NearestNeighbors(n_neighbors=1).fit((train.values - center) / scale)
    return Fitted(lambda rows: known.kneighbors((rows.values - center) / scale)[0][:, 0])


def in_order(rows: Rows) -> Series:
    """Rows with how many of their own series stand before each; all of one stand together."""
    at = np.arange(len(rows.series))
    starts = np.diff(rows.series, prepend=-1) != 0
    run = at - np.maximum.accumulate(np.where(starts, at, 0))
    arrays = (rows.values, run, np.zeros(len(at), np.int64))
    return Series(*(torch.from_numpy(array) for array in arrays))


def chance(train: Rows, seed: int, is_series: bool) -> Fitted:
    """A number drawn for each row, whatever it says."""
    return Fitted(lambda rows: np.random.default_rng(seed).random(len(rows.values)))


#: Baselines on the rows that our default judges together on a series.
WINDOWED = {f"{name}, windows": name for name in BASELINES}

DETECTORS: dict[str, Fit] = {
    "default": default,
    "plain VAE": plain_vae,
    **{name: _baseline(name) for name in BASELINES},
    **{title: _baseline(name, is_windowed=True) for title, name in WINDOWED.items()},
    "1-NN": one_neighbour,
    CHANCE: chance,
}


def detectors_of(*, is_series: bool) -> list[str]:
    """Names of those that can judge such rows: windows are of rows that have an order.

    1-NN stands beside tables alone, where copies of training rows among the test rows favour it.
    """
    ordered = {name for name, baseline in BASELINES.items() if baseline.window(1) > 1}
    ordered |= WINDOWED.keys()
    tables = {"1-NN"}
    return [name for name in DETECTORS if name not in (tables if is_series else ordered)]


class Scored(NamedTuple):
    """Scores (n,) of the test rows; of a series, also before smoothing, unless by the method."""

    score: Floats
    raw: Floats | None
    window: int


def score_case(fit: Fit, train: Rows, test: Rows, seed: int, *, is_series: bool) -> Scored:
    """Learn from the training rows, and score the test rows.

    A method on series that does not smooth its own score is smoothed here, all by
    the charts that ours has.
    These need the mean and standard deviation of its score on normal rows that it has not learnt
    from: of the last fifth of each training series, after learning the rest. Then it learns all.
    """
    fitted = fit(train, seed, is_series)
    score = fitted.score(test)
    if not is_series or fitted.is_smoothed:
        return Scored(score, None, fitted.window)
    held = _last(train, HELD_OUT)
    rest = fit(Rows(train.values[~held], train.series[~held]), seed, is_series)
    normal = rest.score(train)[held]
    spread = normal.std() or 1.0
    z = torch.from_numpy((score - normal.mean()) / spread)
    smooth, _ = multiscale(z, z[:, None], in_order(test).run)
    return Scored(smooth.numpy(), score, fitted.window)


def _last(rows: Rows, share: float) -> Bools:
    """(n,) whether a row is among the last of its series."""
    last = np.zeros(len(rows.series), bool)
    for name in np.unique(rows.series):
        own = np.flatnonzero(rows.series == name)
        last[own[len(own) - round(share * len(own)) :]] = True
    return last
