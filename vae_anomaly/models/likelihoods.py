"""Decoders: modules whose forward returns the likelihood p(x | z, c), one factor a sensor."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from vae_anomaly.models.networks import MLP, Sizes, join

__all__ = ["LocationScale", "normal"]

#: Smallest noise, in standard deviations of the sensor: below it a copied or quantised channel
#: would drive the likelihood to infinity.
SMALLEST_SIGMA = 0.01


def normal(loc: Tensor, scale: Tensor) -> Distribution:
    """N(loc, scale²), without the argument checks that would read every value back."""
    return Normal(loc, scale, validate_args=False)


class LocationScale(nn.Module):
    """Likelihood p(x | z, c) = family(mu(z, c), sigma), one sigma a feature; z (*, k) -> (*, d).

    Parameters
    ----------
    sizes : Sizes
    family : callable
        Distribution of (loc, scale): `normal`, or another.
    noise : float, optional
        Sigma in standard deviations of the sensor; learned if it is not given (the sigma-VAE of
        Rybkin, Daniilidis & Levine 2021, with one noise a sensor).
    """

    def __init__(
        self,
        sizes: Sizes,
        family: Callable[[Tensor, Tensor], Distribution] = normal,
        *,
        noise: float | None = None,
    ) -> None:
        super().__init__()
        self.net = MLP(sizes.latent_dim + sizes.n_context, sizes.n_features, sizes.hidden[::-1])
        self.family, self.learned = family, noise is None
        log_sigma = torch.full((sizes.n_features,), math.log(noise or 1.0))
        self.log_sigma: Tensor
        if self.learned:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    @property
    def sigma(self) -> Tensor:
        """Noise of each feature, (d,), in standard deviations of the sensor."""
        if not self.learned:
            return self.log_sigma.exp()
        return ((2 * self.log_sigma).exp() + SMALLEST_SIGMA**2).sqrt()

    def forward(self, z: Tensor, context: Tensor) -> Distribution:
        loc = self.net(join(z, context))
        return self.family(loc, self.sigma.expand_as(loc))
