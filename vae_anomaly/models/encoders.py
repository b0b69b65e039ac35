"""Encoders: modules whose forward returns the posterior q(z | x, c)."""

from __future__ import annotations

from torch import Tensor, nn

from vae_anomaly.models.networks import Sizes, encoder_network
from vae_anomaly.models.priors import DiagonalNormal, diagonal

__all__ = ["GaussianEncoder"]


class GaussianEncoder(nn.Module):
    """Posterior q(z | x, c) = N(mu, diag sigma²); x (*, n, D), context (*, n, c) -> event (k,)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.net = encoder_network(sizes, 2 * sizes.latent_dim)

    def forward(self, x: Tensor, context: Tensor) -> DiagonalNormal:
        return diagonal(self.net(x, context))
