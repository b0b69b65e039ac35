"""What a score is, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.likelihoods import Likelihood
from vae_anomaly.models.mixed import MixedLikelihood
from vae_anomaly.models.standardize import Batch, split
from vae_anomaly.models.vae import Model

__all__ = [
    "Reading",
    "Score",
    "apportioned",
    "blocks",
    "codes",
    "exact",
    "nothing",
    "read",
    "spread",
]

#: Rows that are read at once when a score is fitted, as when it judges.
ROWS_AT_ONCE = 1024


def exact(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """The error of a score that is no estimate, (n,): none."""
    return torch.zeros(len(batch.x))


@dataclass(frozen=True)
class Score:
    """A score is fitted on held-out normal rows, and then judges.

    Attributes
    ----------
    fit : callable
        Module, normal rows that it has not seen in training and normal rows that it has -> tensors
        that the score needs, by name.
    score : callable
        Module, batch (n, d) and those tensors -> score (n,) and contributions (n, d), which sum to
        it; a missing entry contributes 0.
    error : callable
        Module, batch (n, d) and those tensors -> standard error (n,) of a score that is estimated
        from samples; 0 where none are drawn.
    """

    fit: Callable[[Model, Batch, Batch], dict[str, Tensor]]
    score: Callable[[Model, Batch, Mapping[str, Tensor]], tuple[Tensor, Tensor]]
    error: Callable[[Model, Batch, Mapping[str, Tensor]], Tensor] = exact


def nothing(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """The fit of a score that needs none."""
    return {}


class Reading(NamedTuple):
    """What a model makes of rows: their latents (n, k) and what it expects them to be."""

    z: Tensor
    p: Likelihood

    def residual(self, batch: Batch) -> Tensor:
        """Rows less what is expected, (n, D), standardised; 0 where missing.

        Levels have no difference: of a code it is the root of its deviance, -2 log p (McCullagh &
        Nelder 1989, Generalized Linear Models, ch. 2), which is never negative.
        """
        r = batch.x - self.p.mean
        if isinstance(self.p, MixedLikelihood):
            r = torch.where(codes(self.p), self.p.deviance(batch.x).clamp(min=0.0).sqrt(), r)
        return r * batch.observed


def read(module: Model, batch: Batch) -> Reading:
    """Latents that stand for each row, and its likelihood given them."""
    z = module.embed(batch)
    return Reading(z, module.likelihood(z, batch.context))


def codes(p: Likelihood) -> Tensor:
    """Which features are codes of levels, (D,) or (1,)."""
    if not isinstance(p, MixedLikelihood):
        return torch.zeros(1, dtype=torch.bool)
    is_code = torch.zeros(len(p.places.order), dtype=torch.bool)
    return is_code.index_fill(0, p.places.codes, value=True)


def blocks(batch: Batch) -> Iterable[Batch]:
    """A batch in pieces that a network can take, whatever its size."""
    return split(batch, ROWS_AT_ONCE)


def apportioned(total: Tensor, share: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Score (n,) and contributions (n, D) of a total that says nothing of one entry.

    A total of 1 and above goes to the entries by their shares, which sum to 1. A smaller one, such
    as that of a row which is more normal than most, is 1 by the shares less what is too much evenly
    of the observed entries: so whatever the total, the entry of the largest share is named first. A
    row without a value scores 0.

    Examples
    --------
    >>> rows = Batch(torch.zeros(2, 2), torch.ones(2, 2) > 0, torch.zeros(2, 0), torch.zeros(2))
    >>> apportioned(torch.tensor([4.0, -4.0]), torch.tensor([[0.25, 0.75]] * 2), rows)[1]
    tensor([[ 1.0000,  3.0000],
            [-2.2500, -1.7500]])
    """
    evenly = batch.observed / batch.observed.sum(dim=-1, keepdim=True).clamp(min=1)
    share = torch.where(share.any(dim=-1, keepdim=True), share, evenly)
    shared = total.clamp(min=1.0)
    contributions = share * shared[:, None] + evenly * (total - shared)[:, None]
    seen = batch.observed.any(dim=-1)
    return torch.where(seen, total, 0.0).float(), (contributions * seen[:, None]).float()


def spread(values: Tensor) -> Tensor:
    """Standard deviation, or 1 where nothing varies."""
    found = values.std(correction=0)
    return torch.where(found > 0, found, 1.0)
