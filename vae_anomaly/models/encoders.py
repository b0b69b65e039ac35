"""Encoders: modules whose forward returns the posterior q(z | x, c)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vae_anomaly.models.networks import MLP, Sizes, join

__all__ = ["GaussianEncoder"]

#: Bound of log sigma: exp(±7) is far beyond what a posterior on N(0, 1) needs.
LOG_SIGMA = 7.0


class GaussianEncoder(nn.Module):
    """Posterior q(z | x, c) = N(mu, diag sigma²); x (*, n, d), context (*, n, c) -> event (k,)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.net = MLP(sizes.n_features + sizes.n_context, 2 * sizes.latent_dim, sizes.hidden)

    def forward(self, x: Tensor, context: Tensor) -> Distribution:
        mu, log_sigma = self.net(join(x, context)).chunk(2, dim=-1)
        sigma = log_sigma.clamp(-LOG_SIGMA, LOG_SIGMA).exp()
        return Independent(Normal(mu, sigma, validate_args=False), 1, validate_args=False)
