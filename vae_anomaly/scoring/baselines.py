"""Simple detectors on the very same rows: what a model has to beat, or else it says so.

Each is a line in `BASELINES`: a function from normal training rows, (n, d) with NaN where missing,
and a seed to a function that scores rows of the same columns; higher is more anomalous. Columns are
standardised by mean and standard deviation of their observed training entries, then missing entries
are filled with the training mean, which is 0. Columns that are constant or never observed in
training are left out. A row's score does not depend on the rows beside it, `random` apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from vae_anomaly.errors import InputError, PartsError

__all__ = ["BASELINES", "Baseline", "Floats", "Scoring"]

Floats = npt.NDArray[np.float64]
Scoring = Callable[[Floats], Floats]
Baseline = Callable[[Floats, int], Scoring]

#: Shares of the identity in a covariance, one of which is chosen by held-out likelihood.
SHRINKAGES = (0.0, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)
FOLDS = 5
#: A smaller eigenvalue of a correlation matrix is rounding, so that its inverse means nothing.
SINGULAR = 1e-12
#: Share of the variance that the principal components keep.
KEPT_VARIANCE = 0.9
NEIGHBOURS = 5
REFERENCE_ROWS = 5000
#: Rows that are scored at once, which bounds the memory.
BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class Standard:
    """Affine map to mean 0 and variance 1 of the columns that vary in training."""

    columns: npt.NDArray[np.intp]  # (k,) positions of the columns that are kept
    center: Floats  # (k,)
    scale: Floats  # (k,)
    n_columns: int

    def __call__(self, rows: Floats) -> Floats:
        """Rows (m, d) as (m, k), with 0 where an entry is missing."""
        if rows.ndim != 2 or rows.shape[1] != self.n_columns:
            raise InputError(
                f"rows have shape {rows.shape}; this baseline was fitted on {self.n_columns} "
                f"columns, give (m, {self.n_columns})"
            )
        z = (rows[:, self.columns] - self.center) / self.scale
        return np.where(np.isnan(z), 0.0, z)


def standard(rows: Floats) -> Standard:
    """Fit the standardisation of all baselines.

    Raises
    ------
    PartsError
        There are fewer than two rows, or no column varies.
    """
    observed = (~np.isnan(rows)).sum(axis=0)
    total = np.where(observed > 0, np.nansum(rows, axis=0), np.nan)
    center = total / np.maximum(observed, 1)
    scale = np.sqrt(np.nansum((rows - center) ** 2, axis=0) / np.maximum(observed, 1))
    # A constant column's spread is rounding of its mean.
    varies = scale > 1e-12 * np.abs(np.nan_to_num(center))
    if len(rows) < 2 or not varies.any():
        raise PartsError(
            f"{len(rows)} normal training rows with {int(varies.sum())} varying columns: a "
            "baseline needs two rows and one varying column"
        )
    columns = np.flatnonzero(varies)
    return Standard(columns, center[columns], scale[columns], rows.shape[1])


def mahalanobis(rows: Floats, seed: int) -> Scoring:
    """Squared Mahalanobis distance; the shrinkage maximises the held-out Gaussian likelihood.

    The covariance is (1 - a) S + a I with S the covariance of standardised rows; a is chosen among
    `SHRINKAGES` by the likelihood of five blocks of rows, each held out once.

    References
    ----------
    Mahalanobis (1936). Warton (2008), Penalized Normal Likelihood and Ridge Regularization of
    Correlation and Covariance Matrices, JASA 103, for the choice by held-out likelihood.
    """
    prepare = standard(rows)
    z = prepare(rows)
    precision = np.linalg.inv(_shrunk(_covariance(z), _best_shrinkage(z)))

    def score(rows: Floats) -> Floats:
        z = prepare(rows)
        return np.asarray(((z @ precision) * z).sum(axis=1))

    return _in_blocks(score)


def pca(rows: Floats, seed: int) -> Scoring:
    """Squared residual of the principal components that hold 90 % of the variance (Q statistic).

    References
    ----------
    Jackson & Mudholkar (1979), Control Procedures for Residuals Associated with Principal Component
    Analysis, Technometrics 21.
    """
    prepare = standard(rows)
    fitted = PCA(svd_solver="covariance_eigh").fit(prepare(rows))
    share = np.cumsum(fitted.explained_variance_ratio_)
    # At least one direction is left to judge by.
    n_kept = min(int(np.searchsorted(share, KEPT_VARIANCE)) + 1, len(fitted.components_) - 1)
    rest = fitted.components_[n_kept:]

    def score(rows: Floats) -> Floats:
        return np.asarray(((prepare(rows) @ rest.T) ** 2).sum(axis=1))

    return _in_blocks(score)


def knn(rows: Floats, seed: int) -> Scoring:
    """Mean distance to the 5 nearest of at most 5,000 training rows, drawn by the seed.

    References
    ----------
    Angiulli & Pizzuti (2002), Fast Outlier Detection in High Dimensional Spaces, PKDD.
    """
    prepare = standard(rows)
    drawn = np.random.default_rng(seed).permutation(len(rows))[:REFERENCE_ROWS]
    reference = prepare(rows[np.sort(drawn)])
    index = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(reference))).fit(reference)

    def score(rows: Floats) -> Floats:
        return np.asarray(index.kneighbors(prepare(rows))[0].mean(axis=1))

    return _in_blocks(score)


def isolation_forest(rows: Floats, seed: int) -> Scoring:
    """Anomaly score of an isolation forest with 100 trees of 256 rows, in (0, 1].

    References
    ----------
    Liu, Ting & Zhou (2008), Isolation Forest, ICDM.
    """
    prepare = standard(rows)
    forest = IsolationForest(random_state=seed).fit(prepare(rows))

    def score(rows: Floats) -> Floats:
        return -np.asarray(forest.score_samples(prepare(rows)))

    return _in_blocks(score)


def random(rows: Floats, seed: int) -> Scoring:
    """A number drawn for each row, in order, whatever the row says: what chance achieves."""

    def score(rows: Floats) -> Floats:
        return np.random.default_rng(seed).random(len(rows))

    return score


BASELINES: dict[str, Baseline] = {
    "mahalanobis": mahalanobis,
    "pca": pca,
    "knn": knn,
    "isolation_forest": isolation_forest,
    "random": random,
}


def _in_blocks(score: Scoring) -> Scoring:
    """The same scores, of so many rows at once that memory stays flat."""

    def scored(rows: Floats) -> Floats:
        parts = (score(rows[at : at + BLOCK_ROWS]) for at in range(0, len(rows), BLOCK_ROWS))
        return np.concatenate([np.zeros(0), *parts])

    return scored


def _covariance(z: Floats) -> Floats:
    """Covariance about 0, where the columns' training means are."""
    return np.asarray(z.T @ z / len(z))


def _shrunk(covariance: Floats, shrinkage: float) -> Floats:
    return (1 - shrinkage) * covariance + shrinkage * np.eye(len(covariance))


def _best_shrinkage(z: Floats) -> float:
    """The member of SHRINKAGES under which held-out blocks of rows are likeliest."""
    blocks = np.array_split(z, min(FOLDS, len(z)))
    sums = [block.T @ block for block in blocks]
    total = np.sum(sums, axis=0)
    likelihoods = []
    for shrinkage in SHRINKAGES:
        likelihood = 0.0
        for block, own in zip(blocks, sums, strict=True):
            covariance = _shrunk((total - own) / (len(z) - len(block)), shrinkage)
            likelihood += _log_likelihood(own, len(block), covariance)
        likelihoods.append(likelihood)
    whole = _covariance(z)
    usable = [np.linalg.eigvalsh(_shrunk(whole, a))[0] > SINGULAR for a in SHRINKAGES]
    return SHRINKAGES[int(np.argmax(np.where(usable, likelihoods, -np.inf)))]


def _log_likelihood(scatter: Floats, n_rows: int, covariance: Floats) -> float:
    """Gaussian log-likelihood of rows with mean 0 and that scatter matrix, without constants."""
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= SINGULAR:
        return -np.inf
    along = ((scatter @ vectors) * vectors).sum(axis=0)
    return float(-0.5 * (n_rows * np.log(values).sum() + (along / values).sum()))
