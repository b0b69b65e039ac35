"""Scores of where a row's latents lie among those of normal rows.

Neither says anything of one sensor: both are shared out as the deviance of the reconstruction is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch, joined
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores.reconstruction import shares
from vae_anomaly.scoring.scores.residual import precision_of
from vae_anomaly.scoring.scores.score import apportioned, blocks, read

__all__ = ["aggregate", "energy", "fit_distance", "fit_mixture", "latent_distance"]

#: Parts of the mixture that stands for the aggregated posterior.
PARTS = 128

#: Least variance of a part, as a share of the mean variance of the latents: without it a part of
#: one row would have none where latents are no random ones, such as codes.
LEAST_VARIANCE = 1e-3


@torch.no_grad()
def fit_mixture(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """The aggregated posterior of normal rows as a mixture of at most 128 Gaussians.

    Parts are the clusters of k-means of the posterior means, all latents at once: the centre, the
    variance of the means within and the mean posterior variance together, and the share of rows.
    Rows are those held out and those trained on.
    """
    known = joined([train, normal])
    z = _of_rows(module.embed, known)  # (n, k)
    variance = _of_rows(module.spread, known).square()
    n_parts = min(PARTS, len(torch.unique(z, dim=0)))
    cluster = torch.from_numpy(_clusters(z.numpy(), n_parts)).long()
    counts = torch.bincount(cluster, minlength=n_parts)
    kept = counts > 0
    center = _means(z, cluster, counts)[kept]
    numbers = (kept.cumsum(0) - 1)[cluster]  # of the clusters that have rows
    within = _means((z - center[numbers]).square(), numbers, counts[kept])
    total = within + _means(variance, numbers, counts[kept])
    floor = LEAST_VARIANCE * (z.var(dim=0, correction=0) + variance.mean(dim=0)).mean()
    total = total.clamp(min=float(floor) or 1.0)
    return {
        "mixture_mean": center,
        "mixture_variance": total,
        "mixture_log_share": (counts[kept] / len(z)).double().log(),
    }


def aggregate(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Energy of the aggregated posterior at the posterior mean, in nats: -log sum_i pi_i N(mu; i).

    It is how rare a row's latents are among those of normal rows, where a prior would only say
    how far from its centre they lie.

    References
    ----------
    Tomczak & Welling (2018), VAE with a VampPrior, for the aggregated posterior as the prior.
    """
    reading = read(module, batch)
    return apportioned(energy(reading.z, tensors), shares(reading.p, batch), batch)


def energy(z: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """-log density of latents (n, k) under the mixture, (n,) nats; float64."""
    mean, variance = tensors["mixture_mean"], tensors["mixture_variance"]  # (m, k)
    z = z.double()
    weight = torch.cat([1 / variance, -2 * mean / variance], dim=-1)
    squares = product(torch.cat([z.square(), z], dim=-1), weight)  # (n, m)
    rest = (mean.square() / variance + (2 * math.pi * variance).log()).sum(dim=-1)
    return -(tensors["mixture_log_share"] - (squares + rest) / 2).logsumexp(dim=-1)


@torch.no_grad()
def fit_distance(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """Mean (k,) and precision (k, k) of the latents of held-out rows."""
    z = _of_rows(module.embed, normal)
    mean = z.mean(dim=0)
    precision = precision_of(z - mean, torch.ones_like(z, dtype=torch.bool))
    return {"latent_mean": mean, "latent_precision": precision}


def latent_distance(
    module: Model, batch: Batch, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Squared Mahalanobis distance of the posterior mean from those of normal rows (T²).

    In place of the distance from a prior, which members with several levels, codes or conditions
    do not have in one form.

    References
    ----------
    Zhu, Jiang & Liu (2022), Sensors 22(1):227, for the latents of a VAE as a statistic of their
    own. Hotelling (1947), Multivariate Quality Control.
    """
    reading = read(module, batch)
    z = reading.z.double() - tensors["latent_mean"]
    total = (z * product(z, tensors["latent_precision"])).sum(dim=-1)
    return apportioned(total, shares(reading.p, batch), batch)


def _of_rows(function: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    return torch.cat([function(block).double() for block in blocks(batch)])


def _clusters(z: np.ndarray, n_parts: int) -> np.ndarray:
    """Number of each row's cluster, (n,)."""
    from sklearn.cluster import MiniBatchKMeans  # its import changes warnings, and takes a second

    found = MiniBatchKMeans(n_parts, random_state=0, n_init=1, batch_size=1024)
    labels: np.ndarray = found.fit(z).labels_
    return labels


def _means(values: Tensor, cluster: Tensor, counts: Tensor) -> Tensor:
    """Mean of the rows (n, k) of each cluster, (m, k)."""
    total = values.new_zeros(len(counts), values.shape[-1]).index_add(0, cluster, values)
    return total / counts.clamp(min=1)[:, None]
