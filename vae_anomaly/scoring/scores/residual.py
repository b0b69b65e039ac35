"""Whitened residual: how unlikely is what a model leaves unexplained, all entries together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from vae_anomaly.models.covariance import shrunk_covariance
from vae_anomaly.models.gaps import fill_gaps
from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch, spaced
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores.score import blocks, read

__all__ = ["distance", "fit", "precision_of", "residual"]

#: Held-out rows a column without which training rows help to find the covariance, and how many.
FEWEST_PER_COLUMN, TRAINING_ROWS = 3, 8192

#: Columns of which the covariance is found: its inverse takes a second, and ten times as long at
#: twice. Of more, entries count as independent.
WIDEST = 1000


@torch.no_grad()
def fit(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """Mean residual (D,) and the precision of residuals (D, D), or (D,) of more than 1,000 columns.

    From held-out rows, as a model leaves less of those that it was trained on; training rows help
    where there are fewer than three for each column. The covariance is shrunk by held-out
    likelihood on five blocks of rows, or on one of more than 300 columns.
    """
    rows = [normal]
    if len(normal.x) < FEWEST_PER_COLUMN * normal.x.shape[-1]:
        rows.append(spaced(train, TRAINING_ROWS))
    r = torch.cat(list(_residuals(module, rows)))  # (n, D)
    observed = torch.cat([batch.observed for batch in rows])
    n_observed = observed.sum(dim=0).clamp(min=1)
    mean = r.sum(dim=0) / n_observed
    centred = (r - mean) * observed
    if r.shape[-1] > WIDEST:
        variance = centred.square().sum(dim=0) / n_observed
        precision = 1 / torch.where(variance > 0, variance, 1.0)
    else:
        precision = precision_of(centred, observed)
    return {"residual_mean": mean, "residual_precision": precision}


def precision_of(centred: Tensor, observed: Tensor) -> Tensor:
    """Inverse (k, k) of the covariance of values (n, k), shrunk towards their mean variance.

    Symmetric to the last bit.
    """
    counts = observed.sum(dim=0).clamp(min=1)
    size = (centred.square() * observed).sum(dim=0).div(counts).mean()
    size = torch.where(size > 0, size, 1.0)
    precision: Tensor = torch.linalg.inv(size * shrunk_covariance(centred / size.sqrt(), observed))
    return (precision + precision.T) / 2


def residual(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Squared Mahalanobis distance of the residual from those of normal rows, m = r' P r.

    r is what the row has beyond its expectation at the latents that stand for it, less the mean of
    normal rows; an entry contributes r (P r), which is negative where it is nearer to normal than
    the others make it likely to be. With gaps it is the distance of the observed entries.

    References
    ----------
    Hotelling (1947), Multivariate Quality Control.
    """
    contributions = distance(read(module, batch).residual(batch), batch, tensors).float()
    return contributions.sum(dim=-1), contributions


def distance(r: Tensor, batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Contributions (n, D) of the entries of a residual to its squared distance; float64."""
    precision = tensors["residual_precision"]
    r = (r.double() - tensors["residual_mean"]) * batch.observed
    if precision.dim() == 1:
        return r.square() * precision
    r = fill_gaps(r, batch.observed, precision).r
    return r * product(r, precision) * batch.observed


def _residuals(module: Model, batches: list[Batch]) -> Iterator[Tensor]:
    for batch in batches:
        for block in blocks(batch):
            yield read(module, block).residual(block).double()
