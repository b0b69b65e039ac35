"""Mean distance to the nearest normal rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch
from vae_anomaly.scoring.baselines.gaussian import fit_gaussian, residual
from vae_anomaly.scoring.baselines.training import Learnt

__all__ = ["contributions", "expected", "fit"]

NEIGHBOURS = 5
REFERENCE_ROWS = 5000


def fit(learnt: Learnt, seed: int) -> dict[str, Tensor]:
    """At most 5,000 training rows, drawn by the seed.

    References
    ----------
    Angiulli & Pizzuti (2002), Fast Outlier Detection in High Dimensional Spaces, PKDD.
    """
    tensors = fit_gaussian(learnt.batch)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(learnt.batch.x), generator=generator)[:REFERENCE_ROWS]
    rows = residual(learnt.batch, tensors)[drawn.sort().values]
    return tensors | {"reference": rows.float()}


def contributions(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Contributions of each entry to the mean distance to the 5 nearest.

    A distance is shared in proportion to its squared differences. Of a row with gaps it is that of
    the observed entries, as if the others differed as much (as scikit-learn's nan_euclidean does).
    """
    r, seen = residual(batch, tensors), batch.observed.double()
    near = tensors["reference"].double()[_nearest(r, seen, tensors)]  # (n, k, D)
    squares = ((r[:, None] - near) * seen[:, None]).square()
    squares = squares * (seen.shape[-1] / seen.sum(dim=-1).clamp(min=1))[:, None, None]
    distance = squares.sum(dim=-1, keepdim=True).sqrt()
    return torch.where(distance > 0, squares / distance, 0.0).mean(dim=1)


def expected(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Mean of the nearest rows, and what the context explains."""
    at = _nearest(residual(batch, tensors), batch.observed.double(), tensors)
    near = tensors["reference"].double()[at].mean(dim=1)
    return near + product(batch.context.double(), tensors["by_context"])


def _nearest(r: Tensor, seen: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """(n, k) places of the nearest reference rows, by the observed entries."""
    reference = tensors["reference"].double()
    r = r * seen
    squares = product(seen, reference.square()) - 2 * product(r, reference)  # + what is r's own
    n = min(NEIGHBOURS, len(reference))
    return squares.topk(n, dim=-1, largest=False).indices
