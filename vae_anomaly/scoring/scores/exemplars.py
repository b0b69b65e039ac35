"""Distance to the nearest of a few normal rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch, take
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores.score import apportioned, blocks, codes, read

__all__ = ["Nearest", "exemplars", "fit", "nearest"]

#: Normal rows that stand for all: with more a table gains less than seeds differ by, and scoring
#: takes longer.
EXEMPLARS = 500


class Nearest(NamedTuple):
    """How far rows are from the nearest exemplar, (n,), and the shares of the entries, (n, D)."""

    far: Tensor
    share: Tensor


@torch.no_grad()
def fit(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """At most 500 training rows (m, D), by chance, and the smallest distance of held-out rows.

    A gap of an exemplar is filled by what the model expects there.
    """
    order = torch.randperm(len(train.x), generator=torch.Generator().manual_seed(0))
    chosen = take(train, order[:EXEMPLARS])
    p = read(module, chosen).p
    tensors = {
        "exemplars": torch.where(chosen.observed, chosen.x, p.mean).double(),
        "is_code": codes(p).expand(chosen.x.shape[-1]).clone(),
        "least": torch.zeros((), dtype=torch.float64),
    }
    distances = torch.cat([nearest(block, tensors).far for block in blocks(normal)])
    return tensors | {"least": distances.min()}


def exemplars(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logarithm of the distance to the nearest exemplar in standardised observed entries.

    With gaps the distance is scaled by sqrt(D / observed), so that it stays comparable. If a
    held-out row is itself an exemplar, the logarithm would not be finite, and it is the distance
    itself. Codes of levels differ by 1. An entry contributes its share of the squared distance.

    References
    ----------
    Ramaswamy, Rastogi & Shim (2000), Efficient Algorithms for Mining Outliers from Large Data Sets.
    """
    return apportioned(*nearest(batch, tensors), batch)


def nearest(batch: Batch, tensors: Mapping[str, Tensor]) -> Nearest:
    """Distances, or their logarithms, and what each entry has of the squares; float64.

    The nearest is sought by matrix products, and its distance is then taken exactly, so that a row
    that is an exemplar is at 0.
    """
    rows, is_code, least = tensors["exemplars"], tensors["is_code"], tensors["least"]
    x, observed = batch.x.double(), batch.observed.double()
    numbers = rows.masked_fill(is_code, 0.0)
    squares = torch.cat([-2 * numbers, numbers.square()], dim=-1)
    beyond = product(torch.cat([x * observed, observed], dim=-1), squares)  # (n, m), less x²
    for column in is_code.nonzero().squeeze(-1).tolist():
        differs = x[:, column, None] != rows[:, column]
        beyond = beyond + differs * observed[:, column, None]
    found = rows[beyond.argmin(dim=-1)]
    parts = torch.where(is_code, (x != found).double(), (x - found).square()) * observed
    total = parts.sum(dim=-1)
    n_columns = x.shape[-1]
    far = (total * n_columns / observed.sum(dim=-1).clamp(min=1)).sqrt()
    if least > 0:  # a row nearer than any held-out one counts as they do
        far = far.clamp(min=least).log()
    return Nearest(far, parts / torch.where(total > 0, total, 1.0)[:, None])
