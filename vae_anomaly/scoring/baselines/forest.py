"""Isolation forest: how few random cuts it takes to set a row apart from normal ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.models.standardize import Batch
from vae_anomaly.scoring.baselines.gaussian import fit_gaussian, residual
from vae_anomaly.scoring.baselines.training import Learnt

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

__all__ = ["contributions", "fit", "mean_path_length"]


def fit(learnt: Learnt, seed: int) -> dict[str, Tensor]:
    """A forest of 100 trees of 256 rows each by scikit-learn, as tensors.

    References
    ----------
    Liu, Ting & Zhou (2008), Isolation Forest, ICDM.
    """
    from sklearn.ensemble import IsolationForest  # takes most of a second: not at every start

    tensors = fit_gaussian(learnt.batch)
    rows = residual(learnt.batch, tensors).float().numpy()
    return tensors | _as_tensors(IsolationForest(random_state=seed).fit(rows))


def contributions(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Contributions to 2^(-h / c): h is the mean depth that sets a row apart, c that of any row.

    A cut moves the depth that is to be expected of a row; what it shortens it by belongs to the
    sensor that is cut. Sensors share the score in proportion to what they shorten in all trees
    together; evenly where none does.
    """
    rows = residual(batch, tensors).float()
    depth, moved = _descend(rows, tensors)  # (n,) and (n, D)
    total = torch.exp2(-depth / tensors["usual_depth"])
    shortened = (-moved).clamp(min=0) * batch.observed
    shortened = torch.where(shortened.any(dim=-1, keepdim=True), shortened, batch.observed.double())
    share = shortened / shortened.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(depth.dtype).tiny)
    return total[:, None] * share


def _descend(rows: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean depth of the leaves of each row, and what the cuts of each column move it by."""
    left, right, feature = tensors["left"], tensors["right"], tensors["feature"]  # (t, nodes)
    trees = torch.arange(len(left))
    node = torch.zeros(len(rows), len(left), dtype=torch.int64)  # (n, t)
    moved = torch.zeros(rows.shape, dtype=torch.float64)
    for _ in range(int(tensors["n_levels"])):
        column = feature[trees, node]
        goes_left = rows.gather(1, column).double() <= tensors["threshold"][trees, node]
        below = torch.where(goes_left, left[trees, node], right[trees, node])
        step = tensors["depth"][trees, below] - tensors["depth"][trees, node]
        moved.scatter_add_(1, column, step / len(left))
        node = below
    return tensors["depth"][trees, node].mean(dim=1), moved


def mean_path_length(n_rows: np.ndarray) -> np.ndarray:
    """Mean depth at which a random tree sets one of so many rows apart.

    Examples
    --------
    >>> mean_path_length(np.array([1, 2, 256])).round(3)
    array([ 0.   ,  1.   , 10.245])
    """
    n = n_rows.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        many = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(n > 2, many, np.where(n == 2, 1.0, 0.0))


def _as_tensors(forest: IsolationForest) -> dict[str, Tensor]:
    """Trees as (t, nodes) tensors; a leaf leads to itself, and smaller trees are filled up."""
    trees = [estimator.tree_ for estimator in forest.estimators_]
    shape = (len(trees), max(tree.node_count for tree in trees))
    left = np.broadcast_to(np.arange(shape[1]), shape).copy()
    right, feature = left.copy(), np.zeros(shape, np.int64)
    threshold, depth = np.zeros(shape), np.zeros(shape)
    n_levels = 0
    for number, (tree, columns) in enumerate(zip(trees, forest.estimators_features_, strict=True)):
        n, is_cut = tree.node_count, tree.children_left >= 0
        left[number, :n][is_cut] = tree.children_left[is_cut]
        right[number, :n][is_cut] = tree.children_right[is_cut]
        feature[number, :n][is_cut] = columns[tree.feature[is_cut]]
        threshold[number, :n] = tree.threshold
        level = np.zeros(n)
        for node in np.flatnonzero(is_cut):  # a parent stands before its children
            level[[tree.children_left[node], tree.children_right[node]]] = level[node] + 1
        depth[number, :n] = level + mean_path_length(tree.n_node_samples)
        n_levels = max(n_levels, int(level.max()))
    return {
        "left": torch.from_numpy(left),
        "right": torch.from_numpy(right),
        "feature": torch.from_numpy(feature),
        "threshold": torch.from_numpy(threshold),
        "depth": torch.from_numpy(depth),
        "n_levels": torch.tensor(n_levels),
        "usual_depth": torch.from_numpy(mean_path_length(np.array(forest.max_samples_))).double(),
    }
