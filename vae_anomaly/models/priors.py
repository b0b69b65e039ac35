"""Priors: modules whose forward returns p(z | c)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vae_anomaly.models.networks import MLP, Sizes

__all__ = ["PRIORS", "ConditionalNormal", "DiagonalNormal", "Prior", "StandardNormal", "diagonal"]

#: Normal with independent components, as one distribution of the whole latent.
DiagonalNormal: TypeAlias = "Independent[Normal]"

Prior = Literal["standard", "conditional"]

#: Bound of log sigma: exp(±7) is far beyond what a posterior on N(0, 1) needs.
LOG_SIGMA = 7.0


def diagonal(parameters: Tensor) -> DiagonalNormal:
    """N(mu, diag sigma²) of mu and log sigma side by side, (*, 2 k); event (k,).

    Examples
    --------
    >>> diagonal(torch.zeros(5, 4)).mean.shape
    torch.Size([5, 2])
    """
    mu, log_sigma = parameters.chunk(2, dim=-1)
    sigma = log_sigma.clamp(-LOG_SIGMA, LOG_SIGMA).exp()
    return Independent(Normal(mu, sigma, validate_args=False), 1, validate_args=False)


class StandardNormal(nn.Module):
    """Prior p(z | c) = N(0, I_k), whatever the context (*, n, c)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.latent_dim = sizes.latent_dim

    def forward(self, context: Tensor) -> DiagonalNormal:
        zeros = torch.zeros(2 * self.latent_dim, device=context.device)
        return diagonal(zeros.expand(*context.shape[:-1], -1))


class ConditionalNormal(nn.Module):
    """Prior p(z | c) = N(mu(c), diag sigma(c)²), learned (Sohn, Lee & Yan 2015).

    Without context it is N(0, I_k) and learns nothing, as latents can be shifted and scaled freely.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.latent_dim = sizes.latent_dim
        self.net: nn.Module = StandardNormal(sizes)
        if sizes.shape.n_context:
            self.net = MLP(sizes.shape.n_context, 2 * sizes.latent_dim, sizes.hidden)

    def forward(self, context: Tensor) -> DiagonalNormal:
        if isinstance(self.net, StandardNormal):
            return self.net.forward(context)
        nothing = context[..., :0]
        return diagonal(self.net(context, nothing))


PRIORS: Mapping[Prior, type[StandardNormal] | type[ConditionalNormal]] = {
    "standard": StandardNormal,
    "conditional": ConditionalNormal,
}
