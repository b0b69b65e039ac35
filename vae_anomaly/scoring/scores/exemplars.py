"""Distance to the nearest of a few normal rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch, joined, take
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores.score import apportioned, codes, read

__all__ = ["Nearest", "exemplars", "fit", "leave_one_out", "nearest"]

#: Normal rows that stand for all: with twice as many a table gains less than seeds differ by, and
#: scoring takes longer.
EXEMPLARS = 1000

#: Share of the exemplars that another one repeats, from which on a row at distance 0 is a copy; it
#: estimates how often new rows are (Good 1953, The Population Frequencies of Species).
REPEATED = 0.05


class Nearest(NamedTuple):
    """How far rows are from the nearest exemplar, (n,), and the shares of the entries, (n, D)."""

    far: Tensor
    share: Tensor


@torch.no_grad()
def fit(module: Model, normal: Batch, train: Batch, most: int = EXEMPLARS) -> dict[str, Tensor]:
    """At most 1,000 rows (m, D) of those held out and trained on, and how far apart they are.

    They are drawn by chance. Nothing is learnt of a row but that it was there, so that rows that
    the weights know serve as well as others. A gap of an exemplar is filled by what the model
    expects there.
    """
    known = joined([train, normal])
    order = torch.randperm(len(known.x), generator=torch.Generator().manual_seed(0))
    chosen = take(known, order[:most])
    p = read(module, chosen).p
    tensors = {
        "exemplars": torch.where(chosen.observed, chosen.x, p.mean).double(),
        "is_code": codes(p).expand(chosen.x.shape[-1]).clone(),
        "typical": torch.ones((), dtype=torch.float64),
    }
    far = leave_one_out(tensors).expm1()
    typical = torch.where(far.mean() > 0, far.mean(), 1.0)
    return tensors | {"typical": typical, "repeats": (far == 0).double().mean() >= REPEATED}


def exemplars(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """log(1 + d / d0), d the distance to the nearest exemplar in standardised observed entries.

    d0 is the mean distance of an exemplar from the others: where rows repeat one another d is often
    0, and its logarithm would say of a copy that it is endlessly normal. Where hardly any do, a row
    at distance 0 is taken for that very exemplar, and measured from the others: so rows that were
    learnt from can be judged too. With gaps the distance is scaled by sqrt(D / observed), so that
    it stays comparable. Codes of levels differ by 1. An entry contributes its share of the squared
    distance.

    References
    ----------
    Ramaswamy, Rastogi & Shim (2000), Efficient Algorithms for Mining Outliers from Large Data Sets.
    """
    return apportioned(*nearest(batch, tensors), batch)


def nearest(batch: Batch, tensors: Mapping[str, Tensor]) -> Nearest:
    """log(1 + d / d0), and what each entry has of the squared distance d²; float64.

    The nearest is sought by matrix products, and its distance is then taken exactly, so that a row
    that is an exemplar is at 0.
    """
    x, observed = batch.x.double(), batch.observed.double()
    beyond = _beyond(x, observed, tensors)
    which = beyond.argmin(dim=-1)
    found = _to(which, x, observed, tensors)
    is_exemplar = (found.far == 0) & ~tensors["repeats"]
    if not is_exemplar.any():
        return found
    itself = is_exemplar[:, None] & (torch.arange(beyond.shape[-1]) == which[:, None])
    return _to(beyond.masked_fill(itself, torch.inf).argmin(dim=-1), x, observed, tensors)


def leave_one_out(tensors: Mapping[str, Tensor]) -> Tensor:
    """log(1 + d / d0) of each exemplar (m,), d its distance to the nearest of the others."""
    rows = tensors["exemplars"]
    observed = torch.ones_like(rows)
    beyond = _beyond(rows, observed, tensors).fill_diagonal_(torch.inf)
    return _to(beyond.argmin(dim=-1), rows, observed, tensors).far


def _beyond(x: Tensor, observed: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Squared distance of rows from each exemplar, less what all of a row's have alike, (n, m)."""
    rows, is_code = tensors["exemplars"], tensors["is_code"]
    numbers = rows.masked_fill(is_code, 0.0)
    squares = torch.cat([-2 * numbers, numbers.square()], dim=-1)
    beyond = product(torch.cat([x * observed, observed], dim=-1), squares)
    for column in is_code.nonzero().squeeze(-1).tolist():
        differs = x[:, column, None] != rows[:, column]
        beyond = beyond + differs * observed[:, column, None]
    return beyond


def _to(which: Tensor, x: Tensor, observed: Tensor, tensors: Mapping[str, Tensor]) -> Nearest:
    """Distances of rows from one exemplar each."""
    found = tensors["exemplars"][which]
    parts = torch.where(tensors["is_code"], (x != found).double(), (x - found).square()) * observed
    total = parts.sum(dim=-1)
    far = (total * x.shape[-1] / observed.sum(dim=-1).clamp(min=1)).sqrt()
    far = (far / tensors["typical"]).log1p()
    return Nearest(far, parts / torch.where(total > 0, total, 1.0)[:, None])
