"""Scores of what is left of a row at the latents that stand for it, entry by entry."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Bernoulli

from vae_anomaly.models.likelihoods import Likelihood
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model, observed_sum
from vae_anomaly.scoring.scores.score import read

__all__ = ["likelihood", "of_nats", "reconstruction", "shares", "squared_error"]


def squared_error(
    module: Model, batch: Batch, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Squared error of the observed entries, whatever the noise of each: the plain VAE's score.

    Of a code it is -2 log p.

    References
    ----------
    Aggarwal (2017), Outlier Analysis, section 3.6, on reconstruction errors as scores.
    """
    contributions = read(module, batch).residual(batch).square()
    return contributions.sum(dim=-1), contributions


def reconstruction(
    module: Model, batch: Batch, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Deviance at the latents that stand for the row, of its observed entries.

    Of a Gaussian likelihood it is the squared error over the learned variance.
    """
    contributions = read(module, batch).p.observed_deviance(batch.x, batch.observed)
    return contributions.sum(dim=-1), contributions


def likelihood(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """-log p(x | z, c) of the observed entries at the latents that stand for the row, in nats.

    Beside half the deviance it has the normalisers of the likelihood, which matter where the noise
    depends on the row, or its entries are missing.
    """
    p = read(module, batch).p
    return of_nats(-observed_sum(p, batch), p, batch)


def of_nats(nats: Tensor, p: Likelihood, batch: Batch) -> tuple[Tensor, Tensor]:
    """Score and contributions of negative log-densities (n,) of the observed entries of rows.

    An entry contributes half its deviance at the latents that stand for the row. The rest, which is
    the normalisers of the likelihood and what the latents cost, says nothing of one entry and is
    shared evenly by the observed ones. A row without a value has probability one: 0.
    """
    nats = nats + _of_no_coins(p, batch)
    own = p.observed_deviance(batch.x, batch.observed) / 2
    share = (nats - own.sum(dim=-1)) / batch.observed.sum(dim=-1).clamp(min=1)
    contributions = own + share[:, None] * batch.observed
    return torch.where(batch.observed.any(dim=-1), nats, 0.0), contributions


def shares(p: Likelihood, batch: Batch) -> Tensor:
    """Shares (n, D) of a row's deviance at the latents that stand for it; 0 if it has none."""
    deviance = p.observed_deviance(batch.x, batch.observed)
    return deviance / deviance.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(deviance.dtype).tiny)


def _of_no_coins(p: Likelihood, batch: Batch) -> Tensor:
    """What a Bernoulli likelihood owes to values that are not 0 or 1, (n,) nats; others nothing.

    Of values between, its nats hold their own entropy, and of those beyond, no more than of 0 or 1:
    without correction a sensor that moves to the edge of its range would look more normal.
    """
    if not isinstance(p, Bernoulli):
        return torch.zeros(len(batch.x))
    best: Tensor = p.log_prob(batch.x) + p.deviance(batch.x) / 2
    return (best * batch.observed).sum(dim=-1)
