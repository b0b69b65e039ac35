"""Nothing but changes: for rows none of whose sensors ever varied in training.

The scorer itself says what a sensor adds that was constant and has changed; there is no other here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.models.standardize import Batch
from vae_anomaly.scoring.baselines.training import Learnt

__all__ = ["contributions", "expected", "fit"]


def fit(learnt: Learnt, seed: int) -> dict[str, Tensor]:
    """Nothing is to be learnt."""
    return {}


def contributions(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """0 for each entry (n, D), whatever it reads; float64."""
    return torch.zeros_like(batch.x, dtype=torch.float64)


def expected(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """The mean of training of each entry, (n, D)."""
    return torch.zeros_like(batch.x)
