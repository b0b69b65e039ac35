"""T² in the principal components that hold most of the variance, and Q beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.covariance import FOLDS
from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch
from vae_anomaly.scoring.baselines.gaussian import (
    fit_gaussian,
    form_contributions,
    residual,
)
from vae_anomaly.scoring.baselines.training import Learnt

__all__ = ["contributions", "expected", "fit"]

#: Share of the variance that the components keep.
KEPT_VARIANCE = 0.9


class Components(NamedTuple):
    """T² as the form z' S z, and Q as the square of R z; both (D, D)."""

    inside: Tensor
    beside: Tensor


def fit(learnt: Learnt, seed: int) -> dict[str, Tensor]:
    """Components of the residuals of all rows, and the means of T² and Q on held-out ones.

    References
    ----------
    Jackson & Mudholkar (1979), Control Procedures for Residuals Associated with Principal Component
    Analysis, Technometrics 21.
    """
    tensors = fit_gaussian(learnt.batch)
    r = residual(learnt.batch, tensors)
    observed = learnt.batch.observed
    blocks = torch.arange(len(r)).tensor_split(min(FOLDS, len(r)))
    held_out = []  # the two statistics of each row, by components that have not seen it
    for block in blocks:
        others = torch.ones(len(r), dtype=torch.bool).index_fill(0, block, False)
        found = _components(r[others] if others.any() else r)
        statistics = _statistics(r[block], observed[block], found)
        held_out.append(torch.stack([part.sum(dim=-1) for part in statistics], dim=-1))
    means = torch.cat(held_out).mean(dim=0)
    found = _components(r)
    typical = torch.where(means > 0, means, 1.0)
    return tensors | {"inside": found.inside, "beside": found.beside, "typical": typical}


def contributions(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Contributions to the larger of T² and Q, each over its mean on held-out normal rows.

    An entry contributes z * (S z) to T², and the square of its residual to Q.
    """
    r = residual(batch, tensors)
    components = Components(tensors["inside"], tensors["beside"])
    t2, q = (
        part / mean
        for part, mean in zip(
            _statistics(r, batch.observed, components), tensors["typical"], strict=True
        )
    )
    is_inside = t2.sum(dim=-1, keepdim=True) > q.sum(dim=-1, keepdim=True)
    return torch.where(is_inside, t2, q)


def expected(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """The row as its kept components rebuild it, and what the context explains."""
    r = residual(batch, tensors)
    by_context = product(batch.context.double(), tensors["by_context"])
    return r - product(r, tensors["beside"]) + by_context


def _components(r: Tensor) -> Components:
    """Those that hold 90 % of the variance; at least one direction is left beside them."""
    values, vectors = torch.linalg.eigh(r.T @ r / len(r))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    share = values.cumsum(0) / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    n_kept = min(int((share < KEPT_VARIANCE).sum()) + 1, len(values) - 1)
    kept, rest = vectors[:, :n_kept], vectors[:, n_kept:]
    inverse = torch.where(values > 0, 1 / values, 0.0)[:n_kept]
    return Components((kept * inverse) @ kept.T, rest @ rest.T)


def _statistics(r: Tensor, observed: Tensor, components: Components) -> tuple[Tensor, Tensor]:
    """Contributions (n, D) to T² and to Q."""
    t2 = form_contributions(r, observed, components.inside)
    return t2, product(r, components.beside).square() * observed
