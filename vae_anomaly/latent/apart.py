"""How well a classifier tells generated rows from real ones."""

from __future__ import annotations

import numpy as np

from vae_anomaly.data.windows import Matrix
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.errors import InputError

__all__ = ["FEWEST", "MOST_ROWS", "spread", "stacked", "told_apart"]

#: Rows of each kind that are compared at most; more would find smaller differences.
MOST_ROWS = 2000

#: Cells of each kind at most, so that wide rows, such as images, take seconds too.
MOST_CELLS = 500_000

#: Folds of the cross-validation, and the fewest rows of each kind for them.
FOLDS, FEWEST = 5, 20


def told_apart(real: np.ndarray, generated: np.ndarray, *, seed: int = 0) -> Interval:
    """AUROC with which gradient boosting tells generated rows from real ones, cross-validated.

    0.5 means that this classifier, with so many rows, finds no difference; 1 that it always does.
    It is a lower bound on how different the two are, no proof that they are alike: another
    classifier, or more rows, may see more. Rows of one machine at another time are told apart too,
    so the figure is to be read beside that of real rows against other real ones.

    Parameters
    ----------
    real, generated : ndarray of shape (n, D), (m, D)
        Rows, or windows laid flat; NaN = missing. The real ones should be rows that the model was
        not trained on. At most 2,000 of each, evenly spaced, are used; of wide rows
        fewer, down to 500,000 cells.
    seed : int
        Of the folds.

    Returns
    -------
    Interval
        AUROC, with a 95 % interval.

    Raises
    ------
    InputError
        The widths differ, or there are fewer than 20 rows of a kind.

    References
    ----------
    Lopez-Paz & Oquab (2017), Revisiting Classifier Two-Sample Tests.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(400, 3))
    >>> told_apart(rows[:200], rows[200:] + 10).value > 0.99
    True
    """
    # importing them moves Python's global random state, which importing the package must not
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    from vae_anomaly.decisions.evaluation import auroc

    n = min(len(real), len(generated), MOST_ROWS, MOST_CELLS // max(real.shape[-1], 1))
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1] or n < FEWEST:
        raise InputError(
            f"real rows {real.shape} and generated ones {generated.shape}; give (n, D) and (m, D) "
            f"of one width, with at least {FEWEST} rows each"
        )
    rows = np.concatenate([spread(part, n) for part in (real, generated)])
    is_generated = np.repeat([0, 1], n)
    classifier = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    share = cross_val_predict(classifier, rows, is_generated, cv=folds, method="predict_proba")
    return auroc(share[:, 1], is_generated)


def spread(rows: np.ndarray, n: int) -> np.ndarray:
    """n of the rows, evenly spaced."""
    picked: np.ndarray = rows[np.linspace(0, len(rows) - 1, n).astype(np.int64)]
    return picked


def stacked(matrix: Matrix, window: int, n_sensors: int) -> np.ndarray:
    """(m, w * d) the windows of a matrix whose series are all of one window, sensors alone."""
    flat: np.ndarray = matrix.values[:, :n_sensors].reshape(-1, window * n_sensors)
    return flat
