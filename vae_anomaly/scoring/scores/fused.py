"""Sums of scores that see different things, each in its standard deviations of normal rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores import exemplars, latent, residual
from vae_anomaly.scoring.scores.reconstruction import shares
from vae_anomaly.scoring.scores.score import Reading, apportioned, blocks, read, spread

__all__ = ["fit", "fit_without_exemplars", "fused"]

#: Least squared distance of a residual, so that its logarithm is finite.
LEAST = 1e-12


def fit(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """Residual, aggregated posterior and exemplars, and how each scatters over held-out rows."""
    nearest = exemplars.fit(module, normal, train)
    return _standardized(module, normal, nearest | _of_networks(module, normal, train))


def fit_without_exemplars(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """Residual and aggregated posterior, and how each scatters over held-out rows."""
    return _standardized(module, normal, _of_networks(module, normal, train))


def fused(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """z(log m) + z(e), and + z(log d) with exemplars; z is standardised on held-out normal rows.

    m is the squared distance of the whitened residual (`residual`), an observed entry in the mean,
    so that rows with gaps compare; e the energy of the aggregated posterior (`aggregate`); d the
    distance to the nearest exemplar (`exemplars`). The first asks whether the entries fit together,
    the second and third whether such rows were there: each sees anomalies that the others miss.

    The sum says how anomalous a row is, and the reconstruction where: an entry contributes by its
    share of the deviance. Those of r (P r) name the sensor that is off less often, because what the
    encoder makes of it moves all entries.
    """
    reading = read(module, batch)
    values = torch.stack(_parts(reading, batch, tensors))  # (p, n)
    z = (values - tensors["part_mean"][:, None]) / tensors["part_spread"][:, None]
    return apportioned(z.sum(dim=0), shares(reading.p, batch), batch)


def _of_networks(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    mixture = latent.fit_mixture(module, normal, train)
    return mixture | residual.fit(module, normal, train)


@torch.no_grad()
def _standardized(module: Model, normal: Batch, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the parts, and the mean and standard deviation of each, (p,)."""
    found = [torch.stack(_parts(read(module, block), block, tensors)) for block in blocks(normal)]
    values = torch.cat(found, dim=-1)  # (p, n)
    return tensors | {
        "part_mean": values.mean(dim=-1),
        "part_spread": torch.stack([spread(value) for value in values]),
    }


def _parts(reading: Reading, batch: Batch, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """log m, e, and log d with exemplars, (n,) each; float64."""
    m = residual.distance(reading.residual(batch), batch, tensors).sum(dim=-1)
    n_observed = batch.observed.sum(dim=-1).clamp(min=1)
    m = m * batch.x.shape[-1] / n_observed
    parts = [m.clamp(min=LEAST).log(), latent.energy(reading.z, tensors)]
    if "exemplars" in tensors:
        parts.append(exemplars.nearest(batch, tensors).far)
    return parts
