"""Likelihoods p(x | z, c), one factor a feature, and the decoders whose forward returns them.

A likelihood is a distribution of torch with two things more: how far a value lies from what was
expected (`deviance`), and a sample that is drawn from a given generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vae_anomaly.models.networks import Sizes, decoder_network

__all__ = ["Likelihood", "LocationScale", "NormalLikelihood", "normal"]

#: Smallest noise, in standard deviations of the sensor: below it a copied or quantised channel
#: would drive the likelihood to infinity.
SMALLEST_SIGMA = 0.01


class Likelihood(Protocol):
    """Density of x (*, n, D) given the latents, a product of one factor a feature."""

    @property
    def mean(self) -> Tensor:
        """Expected value of each feature, (*, n, D)."""

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of each feature, (*, n, D)."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each entry of x, (*, n, D) nats."""

    def deviance(self, value: Tensor) -> Tensor:
        """Twice what each entry's log-likelihood falls short of the best, (*, n, D), at least 0.

        Of a Gaussian it is the squared residual over the variance (McCullagh & Nelder 1989,
        Generalized Linear Models, ch. 2).
        """

    def draw(self, generator: torch.Generator) -> Tensor:
        """A sample of x, (*, n, D)."""


class NormalLikelihood(Normal):
    """N(loc, scale²), without the argument checks that would read every value back."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)

    def deviance(self, value: Tensor) -> Tensor:
        return ((value - self.loc) / self.scale).square()

    def draw(self, generator: torch.Generator) -> Tensor:
        return self.loc + self.scale * standard_normal(self.loc.shape, generator)


def normal(loc: Tensor, scale: Tensor) -> Likelihood:
    """N(loc, scale²) of each feature.

    Examples
    --------
    >>> normal(torch.zeros(2), torch.tensor([1.0, 2.0])).deviance(torch.tensor([3.0, 4.0]))
    tensor([9., 4.])
    """
    return NormalLikelihood(loc, scale)


def standard_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal numbers of a shape."""
    return torch.randn(shape, device=generator.device, generator=generator)


class LocationScale(nn.Module):
    """Likelihood p(x | z, c) = family(mu(z, c), sigma), one sigma a feature; z (*, k) -> (*, D).

    Parameters
    ----------
    sizes : Sizes
    family : callable
        Likelihood of (loc, scale): `normal`, or another.
    noise : float, optional
        Sigma in standard deviations of the sensor; learned if it is not given (the sigma-VAE of
        Rybkin, Daniilidis & Levine 2021, with one noise a sensor).
    """

    def __init__(
        self,
        sizes: Sizes,
        family: Callable[[Tensor, Tensor], Likelihood] = normal,
        *,
        noise: float | None = None,
    ) -> None:
        super().__init__()
        self.net = decoder_network(sizes, sizes.shape.n_features)
        self.family, self.learned = family, noise is None
        log_sigma = torch.full((sizes.shape.n_features,), math.log(noise or 1.0))
        self.log_sigma: Tensor
        if self.learned:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    @property
    def sigma(self) -> Tensor:
        """Noise of each feature, (D,), in standard deviations of the sensor."""
        if not self.learned:
            return self.log_sigma.exp()
        return ((2 * self.log_sigma).exp() + SMALLEST_SIGMA**2).sqrt()

    def forward(self, z: Tensor, context: Tensor) -> Likelihood:
        loc = self.net(z, context)
        return self.family(loc, self.sigma.expand_as(loc))
