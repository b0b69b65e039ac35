"""Priors: modules whose forward returns p(z | c)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vae_anomaly.models.networks import Sizes

__all__ = ["StandardNormal"]


class StandardNormal(nn.Module):
    """Prior p(z | c) = N(0, I_k), whatever the context (*, n, c)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.latent_dim = sizes.latent_dim

    def forward(self, context: Tensor) -> Distribution:
        zeros = torch.zeros(self.latent_dim, device=context.device).expand(*context.shape[:-1], -1)
        return Independent(
            Normal(zeros, torch.ones_like(zeros), validate_args=False), 1, validate_args=False
        )
