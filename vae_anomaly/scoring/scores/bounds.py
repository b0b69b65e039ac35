"""Scores that estimate log p(x | c): at the posterior's mean, or from samples of the latents.

The samples of all rows are by one noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.models.likelihoods import standard_normal
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores.reconstruction import of_nats
from vae_anomaly.scoring.scores.score import read

__all__ = [
    "SAMPLES",
    "density",
    "elbo",
    "elbo_error",
    "fixed_noise",
    "importance",
    "importance_error",
    "no_noise",
]

#: Samples of the latents that stand for log p(x | c) of a row.
SAMPLES = 16


def fixed_noise(
    module: Model, normal: Batch, train: Batch, *, n_samples: int = SAMPLES
) -> dict[str, Tensor]:
    """The one noise (s, 1, noise_dim) that the latents of all rows are samples by.

    It travels in the package, so that a row has the same score wherever it is judged.
    """
    shape = (n_samples, 1, module.noise_dim)
    return {"noise": standard_normal(shape, torch.Generator().manual_seed(0))}


def no_noise(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """The noise (1, 1, noise_dim) of the one latent that stands for the row, its posterior mean."""
    return {"noise": torch.zeros(1, 1, module.noise_dim)}


def density(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """-log p(x | c) of the observed entries by Laplace's approximation, in nats; draws no sample.

    -log p(x, z | c) + log q(z | x, c) at the mean z of the posterior q, whose covariance stands for
    that of the true one. So it also says how unusual the latents are, which the reconstruction does
    not: a lone sensor at a level that it never had is reconstructed well. Contributions as of
    `importance`.

    References
    ----------
    Tierney & Kadane (1986), Accurate Approximations for Posterior Moments and Marginal Densities,
    JASA 81.
    """
    return importance(module, batch, tensors)


def elbo(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Negative evidence lower bound of the observed entries, the mean of the samples, in nats.

    Contributions as of `importance`.

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes.
    """
    log_weights = module.log_weights(batch, tensors["noise"])  # (s, n)
    return of_nats(-log_weights.mean(dim=0), read(module, batch).p, batch)


def elbo_error(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Standard error of the mean of the samples, (n,) nats."""
    log_weights = module.log_weights(batch, tensors["noise"])  # (s, n)
    error = log_weights.std(dim=0) / math.sqrt(len(log_weights))
    return torch.where(batch.observed.any(dim=-1), error, 0.0)


def importance(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Importance-weighted -log p(x | c) of the observed entries, in nats (Burda et al. 2016).

    An entry contributes half its deviance at the latents that stand for the row; the rest is shared
    evenly by the observed ones.
    """
    log_weights = module.log_weights(batch, tensors["noise"])  # (s, n)
    nats = math.log(len(log_weights)) - log_weights.logsumexp(dim=0)
    return of_nats(nats, read(module, batch).p, batch)


def importance_error(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Standard error of the logarithm of the mean weight by the delta method, (n,) nats.

    sd(w) / (sqrt(s) mean(w)) of the s weights w of a row. The score is too high by about half its
    square in the mean. Both say little where one weight outweighs all others: then the error comes
    near its largest, 1, and the samples are too few.
    """
    log_weights = module.log_weights(batch, tensors["noise"])  # (s, n)
    weights = (log_weights - log_weights.amax(dim=0)).exp()
    error = weights.std(dim=0) / (math.sqrt(len(weights)) * weights.mean(dim=0))
    return torch.where(batch.observed.any(dim=-1), error, 0.0)
