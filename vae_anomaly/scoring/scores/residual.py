"""Whitened residual: how unlikely is what a model leaves unexplained, all entries together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from vae_anomaly.models.covariance import shrunk_covariance
from vae_anomaly.models.gaps import fill_gaps
from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch, evenly, spaced
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores.score import blocks, read

__all__ = ["WIDEST", "distance", "fit", "of_axes", "precision_of", "residual"]

#: Held-out rows a column without which training rows help to find the covariance, and how many.
FEWEST_PER_COLUMN, TRAINING_ROWS = 3, 8192

#: Columns of which the covariance is found: its inverse takes a second, and ten times as long at
#: twice.
WIDEST = 1000

#: Of more columns, principal axes along which residuals vary by themselves, rows to an axis at
#: least, and rows that they are found from at most: a singular value decomposition of seconds.
AXES, ROWS_PER_AXIS, AXES_ROWS = 128, 4, 2048


@torch.no_grad()
def fit(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """Mean residual (D,) and the precision of residuals, (D, D).

    From held-out rows, as a model leaves less of those that it was trained on; training rows help
    where there are fewer than three for each column. The covariance is shrunk by held-out
    likelihood on five blocks of rows, or on one of more than 300 columns. Of more than 1,000
    columns it is that of probabilistic principal components: `of_axes`.
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
        return {"residual_mean": mean, **of_axes(centred)}
    return {"residual_mean": mean, "residual_precision": precision_of(centred, observed)}


def of_axes(centred: Tensor) -> dict[str, Tensor]:
    """Precision diag(p) - A' A of wide residuals (n, D), as p (D,) and A (k, D).

    Along the first k principal axes residuals vary as they did, along all others alike: with
    entries that count as independent, columns that hardly ever vary would outweigh all others.

    References
    ----------
    Tipping & Bishop (1999), Probabilistic Principal Component Analysis.
    """
    rows = centred[evenly(len(centred), AXES_ROWS)]
    total = rows.square().sum() / len(rows)
    _, values, axes = torch.linalg.svd(rows, full_matrices=False)
    k = min(AXES, len(rows) // ROWS_PER_AXIS)
    variances = values[:k].square() / len(rows)
    rest = (total - variances.sum()) / (rows.shape[-1] - k)
    rest = torch.where(rest > 0, rest, 1.0)
    drawn_in = (1 / rest - 1 / variances.clamp(min=float(rest))).sqrt()
    precision = (1 / rest).expand(rows.shape[-1]).clone()
    return {"residual_precision": precision, "residual_axes": axes[:k] * drawn_in[:, None]}


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
    if precision.dim() == 1:  # a gap counts as what is expected
        axes = tensors["residual_axes"]
        along = product(product(r, axes), axes.T.contiguous())
        return r * (r * precision - along)
    r = fill_gaps(r, batch.observed, precision).r
    return r * product(r, precision) * batch.observed


def _residuals(module: Model, batches: list[Batch]) -> Iterator[Tensor]:
    for batch in batches:
        for block in blocks(batch):
            yield read(module, block).residual(block).double()
