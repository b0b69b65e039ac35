"""Distance to the nearest of a few thousand normal rows, and how dense these lie there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch, joined, take
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores.score import ROWS_AT_ONCE, apportioned, codes, read

__all__ = [
    "REPEATED",
    "Neighbours",
    "exemplars",
    "far_and_local",
    "fit",
    "leave_one_out",
    "local_outlier_factor",
    "neighbours",
    "smallest",
]

#: Normal rows that stand for all: 4,096 of up to 20 columns, fewer of more, for the search takes as
#: long as there are entries, and 1,000 of 80 columns and more.
ENTRIES, MOST, LEAST = 163_840, 4096, 1000

#: Neighbours by which it is told how dense exemplars lie: 3 find as much, and 10 and 20 less.
NEIGHBOURS = 5

#: Share of the mean distance that is added to distances before they are compared, so that copies
#: of a row are not endlessly dense.
FLOOR = 0.1

#: Share of the exemplars that another one repeats, from which on a row at distance 0 is a copy; it
#: estimates how often new rows are (Good 1953, The Population Frequencies of Species).
REPEATED = 0.05

#: Stripes of columns whose least ones tell where the smallest are, and columns without which these
#: are sought at once.
STRIPES, WIDE = 512, 2048


@torch.no_grad()
def fit(module: Model, normal: Batch, train: Batch, most: int | None = None) -> dict[str, Tensor]:
    """Some rows (m, D) of those held out and trained on, and how far apart they are.

    They are drawn by chance. Nothing is learnt of a row but that it was there, so that rows that
    the weights know serve as well as others. A gap of an exemplar is filled by what the model
    expects there.
    """
    known = joined([train, normal])
    width = known.x.shape[-1]
    most = most or max(LEAST, min(MOST, ENTRIES // max(width, 1)))
    order = torch.randperm(len(known.x), generator=torch.Generator().manual_seed(0))
    chosen = take(known, order[:most])
    p = read(module, chosen).p
    one = torch.ones((), dtype=torch.float64)
    tensors = {
        "exemplars": torch.where(chosen.observed, chosen.x, p.mean),
        "is_code": codes(p).expand(width).clone(),
        "typical": one,
        "radius": torch.zeros(len(chosen.x), dtype=torch.float64),
        "typical_radius": one,
        "repeats": torch.tensor(True),
    }
    far = _of_exemplars(tensors).far
    nearest, radius = far[:, 0], far.mean(dim=-1)
    return tensors | {
        "typical": torch.where(nearest.mean() > 0, nearest.mean(), one),
        "radius": radius,
        "typical_radius": torch.where(radius.mean() > 0, radius.mean(), one),
        "repeats": (nearest == 0).double().mean() >= REPEATED,
    }


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
    found = neighbours(batch.x, batch.observed, tensors)
    far, _ = _measured(found, tensors)
    return apportioned(far, _shares(found, batch, tensors), batch)


def local_outlier_factor(
    module: Model, batch: Batch, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Logarithm of a row's mean distance to its five nearest exemplars over their own to theirs.

    A row that is as far from them as they are from one another scores 0, whether they lie densely
    or not. A tenth of the exemplars' mean distance is added to both. Entries contribute as to
    `exemplars`.

    References
    ----------
    Breunig, Kriegel, Ng & Sander (2000), LOF: Identifying Density-Based Local Outliers; without its
    reachability distance, as Schubert, Zimek & Kriegel (2014), Local Outlier Detection
    Reconsidered, simplify it.
    """
    found = neighbours(batch.x, batch.observed, tensors)
    _, local = _measured(found, tensors)
    return apportioned(local, _shares(found, batch, tensors), batch)


def far_and_local(batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What `exemplars` and `local_outlier_factor` say of rows, (n,) each; float64."""
    return _measured(neighbours(batch.x, batch.observed, tensors), tensors)


def leave_one_out(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The same of each exemplar among the others, (m,) each."""
    return _measured(_of_exemplars(tensors), tensors)


class Neighbours(NamedTuple):
    """The nearest exemplars of rows (n, k), nearest first, and how far they are; float64."""

    which: Tensor
    far: Tensor


def _measured(found: Neighbours, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    far = (found.far[:, 0] / tensors["typical"]).log1p()
    floor = FLOOR * tensors["typical_radius"]
    theirs = tensors["radius"][found.which].mean(dim=-1)
    return far, ((found.far.mean(dim=-1) + floor) / (theirs + floor)).log()


def _shares(found: Neighbours, batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """What each entry has of the squared distance to the nearest exemplar, (n, D)."""
    parts = _apart(found.which[:, :1], batch.x, batch.observed, tensors).squeeze(-2)
    total = parts.sum(dim=-1, keepdim=True)
    return parts / torch.where(total > 0, total, 1.0)


def _of_exemplars(tensors: Mapping[str, Tensor]) -> Neighbours:
    """The nearest of the others of each exemplar."""
    rows = tensors["exemplars"]
    observed, itself = torch.ones_like(rows, dtype=torch.bool), torch.arange(len(rows))
    found = [
        neighbours(rows[at], observed[at], tensors, itself=itself[at])
        for at in (slice(i, i + ROWS_AT_ONCE) for i in range(0, len(rows), ROWS_AT_ONCE))
    ]
    return Neighbours(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def neighbours(
    x: Tensor,
    observed: Tensor,
    tensors: Mapping[str, Tensor],
    *,
    itself: Tensor | None = None,
    most: int = NEIGHBOURS,
) -> Neighbours:
    """The nearest exemplars of rows (n, D): so many, or as there are besides the row itself.

    They are sought by matrix products, and their distances are then taken exactly, so that a row
    that is an exemplar is at 0.

    One more is looked at, which is left out if it is `itself` (n,), or, where that is not given and
    exemplars do not repeat one another, if it is at distance 0.
    """
    n_others = len(tensors["exemplars"]) - 1
    k = min(most, n_others)
    which = smallest(_beyond(x, observed, tensors), k + 1)
    n_observed = observed.sum(dim=-1, keepdim=True).clamp(min=1)
    total = _apart(which, x, observed, tensors).sum(dim=-1)
    far = (total.double() * x.shape[-1] / n_observed).sqrt()
    if n_others:
        if itself is None:
            is_itself = (far == 0) & ~tensors["repeats"]
            is_itself &= is_itself.cumsum(dim=-1) == 1
        else:
            is_itself = which == itself[:, None]
        far = far.masked_fill(is_itself, torch.inf)
    far, at = far.sort(dim=-1, stable=True)
    kept = slice(max(k, 1))
    return Neighbours(which.gather(-1, at)[:, kept], far[:, kept])


def _beyond(x: Tensor, observed: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Squared distance of rows from each exemplar, less what all of a row's have alike, (n, m).

    Rows without a gap need half the product; which one a row gets depends on nothing but itself.
    """
    rows, is_code = tensors["exemplars"], tensors["is_code"]
    numbers = rows.masked_fill(is_code, 0.0)
    twice, squares = -2 * numbers, numbers.square()
    one = torch.ones_like(x[:, :1])
    total = squares.sum(dim=-1, keepdim=True)
    beyond = product(torch.cat([x, one], dim=-1), torch.cat([twice, total], dim=-1))
    whole = observed.all(dim=-1, keepdim=True)
    if not whole.all():
        seen = observed.to(x.dtype)
        with_gaps = product(torch.cat([x, seen], dim=-1), torch.cat([twice, squares], dim=-1))
        beyond = torch.where(whole, beyond, with_gaps)
    for column in is_code.nonzero().squeeze(-1).tolist():
        differs = x[:, column, None] != rows[:, column]
        beyond = beyond + differs * observed[:, column, None]
    return beyond


def _apart(which: Tensor, x: Tensor, observed: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Squared distances of entries from those of some exemplars (n, k), as (n, k, D)."""
    found, x = tensors["exemplars"][which], x[:, None]
    parts = (x - found).square_()
    if tensors["is_code"].any():
        parts = torch.where(tensors["is_code"], (x != found).to(x.dtype), parts)
    return parts.mul_(observed[:, None])


def smallest(values: Tensor, k: int) -> Tensor:
    """Columns (n, k) of the k smallest values of each row, the smallest first.

    The k stripes that hold the least values hold all k of them, so that of many columns only these
    are sorted.

    Examples
    --------
    >>> smallest(torch.tensor([[5.0, 3.0, 4.0]]), 2)
    tensor([[1, 2]])
    """
    n, m = values.shape
    if m < WIDE:
        return values.topk(k, largest=False).indices
    if spare := -m % STRIPES:
        values = functional.pad(values, (0, spare), value=torch.inf)
    striped = values.view(n, -1, STRIPES)
    stripes = striped.amin(dim=1).topk(k, largest=False).indices  # (n, k)
    held = striped.gather(2, stripes[:, None].expand(-1, striped.shape[1], -1)).flatten(1)
    at = held.topk(k, largest=False).indices
    return at // k * STRIPES + stripes.gather(1, at % k)
