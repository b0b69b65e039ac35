"""Sums of scores that see different things, each in its standard deviations of normal rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.models.standardize import Batch, joined
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores import exemplars, latent, residual
from vae_anomaly.scoring.scores.reconstruction import shares
from vae_anomaly.scoring.scores.score import Reading, apportioned, blocks, read, spread

__all__ = ["fit", "fit_without_exemplars", "fused", "parts"]

#: Least squared distance of a residual, so that its logarithm is finite.
LEAST = 1e-12


def fit(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """Residual, aggregated posterior and exemplars, and how each scatters over normal rows."""
    nearest = exemplars.fit(module, normal, train)
    return _standardized(module, normal, train, nearest)


def fit_without_exemplars(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """Residual and aggregated posterior, and how each scatters over normal rows."""
    return _standardized(module, normal, train, {})


def fused(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """z(log m) + z(e), and + z(log(1 + d / d0)) + z(l) with exemplars; z is in normal deviations.

    m is the squared distance of the whitened residual (`residual`), an observed entry in the mean,
    so that rows with gaps compare; e the energy of the aggregated posterior (`aggregate`); d the
    distance to the nearest exemplar (`exemplars`), and l how far it is for those that lie there
    (`local_outlier_factor`). The first asks whether the entries fit together, the second and third
    whether such rows were there, the last whether they were so near one another: each sees
    anomalies that the others miss.

    The sum says how anomalous a row is, and the reconstruction where: an entry contributes by its
    share of the deviance. Those of r (P r) name the sensor that is off less often, because what the
    encoder makes of it moves all entries.
    """
    reading = read(module, batch)
    return apportioned(parts(reading, batch, tensors).sum(dim=0), shares(reading.p, batch), batch)


def parts(reading: Reading, batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """What is summed, (p, n): z(log m), z(e), of exemplars z(log(1 + d / d0)), z(l); float64."""
    values = _of_networks(reading, batch, tensors)
    if "exemplars" in tensors:
        values += exemplars.far_and_local(batch, tensors)
    mean, spread_ = tensors["part_mean"][:, None], tensors["part_spread"][:, None]
    return (torch.stack(values) - mean) / spread_


@torch.no_grad()
def _standardized(
    module: Model, normal: Batch, train: Batch, nearest: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of the parts, and the mean and standard deviation of each, (p,).

    Of all rows, for of a small table a tenth is a handful, whose standard deviation would weigh the
    parts by chance. Training shifts the parts of rows that the weights know, and hardly their
    spread.
    """
    tensors = latent.fit_mixture(module, normal, train) | residual.fit(module, normal, train)
    known = joined([train, normal])
    found = [torch.stack(_of_networks(read(module, b), b, tensors)) for b in blocks(known)]
    values = list(torch.cat(found, dim=-1))
    if nearest:
        values += exemplars.leave_one_out(nearest)
    mean = torch.stack([value.mean() for value in values])
    scatter = torch.stack([spread(value) for value in values])
    return {**tensors, **nearest, "part_mean": mean, "part_spread": scatter}


def _of_networks(reading: Reading, batch: Batch, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """log m and e, (n,) each; float64."""
    m = residual.distance(reading.residual(batch), batch, tensors).sum(dim=-1)
    n_observed = batch.observed.sum(dim=-1).clamp(min=1)
    m = m * batch.x.shape[-1] / n_observed
    return [m.clamp(min=LEAST).log(), latent.energy(reading.z, tensors)]
