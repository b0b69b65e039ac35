"""Generated rows held against real ones that the model has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_anomaly.data.lake import Lake
from vae_anomaly.data.windows import Matrix
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.latent import normal_rows, stacked, told_apart
from vae_anomaly.latent.apart import FEWEST, MOST_ROWS, spread
from vae_anomaly.latent.windows import matrix_of_windows, raw_windows
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.steps.model_rows import HELD_OUT, TRAIN, ModelRows, part_rows

__all__ = ["CAVEAT", "RealWindows", "apart", "real_windows"]

#: What the figure cannot say.
CAVEAT = (
    "the AUROC is that of gradient boosting on held-out rows: near 0.5 it finds no difference, "
    "which is no proof that there is none; read it beside that of real rows of another time"
)


@dataclass(frozen=True)
class RealWindows:
    """Real windows, laid out as generated ones are: one below the other, each a series.

    Attributes
    ----------
    held_out : Matrix
        Windows that the weights have not seen.
    train : Matrix
        Windows that they have.
    """

    held_out: Matrix
    train: Matrix


def apart(scorer: Scorer, made: Matrix, real: RealWindows, *, seed: int) -> dict[str, Interval]:
    """How well generated windows are told from held-out real ones, and real ones from those.

    Parameters
    ----------
    scorer : Scorer
    made : Matrix
        What a model made, window by window.
    real : RealWindows
    seed : int
        Of the folds.

    Returns
    -------
    dict of str to Interval
        Empty where there are too few rows for the comparison.
    """
    w, d = scorer.window, scorer.standardizer.n_features
    ours, theirs, known = (stacked(part, w, d) for part in (made, real.held_out, real.train))
    if min(len(ours), len(theirs), len(known)) < FEWEST:
        return {}
    # of as many rows each, since more rows show more
    n = min(len(ours), len(theirs), len(known), MOST_ROWS)
    ours, theirs, known = (spread(part, n) for part in (ours, theirs, known))
    return {
        "generated from real": told_apart(theirs, ours, seed=seed),
        "real from real": told_apart(theirs, known, seed=seed),
    }


def real_windows(lake: Lake, package: ModelPackage, scorer: Scorer, asset: str) -> RealWindows:
    """Whole normal windows of the parts that a package was made on; at most 2,000 of each kind.

    Parameters
    ----------
    lake : Lake
        Where it does not know the package, there are none.
    package : ModelPackage
    scorer : Scorer
        One of the package's.
    asset : str
        Its name; empty where it serves all assets.
    """
    held_out, train = (
        _windows(scorer, part_rows(lake, package, parts, asset)) for parts in (HELD_OUT, TRAIN)
    )
    return RealWindows(held_out, train)


def _windows(scorer: Scorer, rows: ModelRows | None) -> Matrix:
    d = scorer.standardizer.n_features
    if rows is None:
        return Matrix(np.empty((0, len(scorer.standardizer.center))), np.empty(0, np.int64),
                      np.empty(0, np.int64))  # fmt: skip
    index = normal_rows(scorer, rows.matrix)
    if len(index) > MOST_ROWS:
        index = index[np.linspace(0, len(index) - 1, MOST_ROWS).astype(np.int64)]
    windows = raw_windows(scorer, rows.matrix, index)
    return matrix_of_windows(windows[:, :, :d], windows[:, :, d:], 0)
