"""Likelihoods p(x | z, c), most with one factor a feature, and decoders whose forward returns them.

A likelihood is a distribution of torch with more: how far a value lies from what was expected
(`deviance`), both of the observed entries alone, and a sample that is drawn from a given generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, StudentT
from torch.nn import functional

from vae_anomaly.models.layers import Linear
from vae_anomaly.models.networks import Sizes, decoder_network

__all__ = [
    "BernoulliDecoder",
    "BernoulliLikelihood",
    "Factorised",
    "Likelihood",
    "LocationScale",
    "Noise",
    "NormalLikelihood",
    "StudentTLikelihood",
    "location_scale",
    "normal",
    "student_t",
]

#: Smallest noise, in standard deviations of the sensor: below it a copied or quantised channel
#: would drive the likelihood to infinity.
SMALLEST_SIGMA = 0.01

#: Most by which a context changes the logarithm of the noise.
LARGEST_SWING = 2.0

#: Noise of a likelihood with a scale: fixed, learned, or learned as a function of the context.
Noise = float | Literal["learned", "conditional"]


class Likelihood(Protocol):
    """Density of x (*, n, D) given the latents."""

    @property
    def mean(self) -> Tensor:
        """Expected value of each feature, (*, n, D)."""

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of each feature, (*, n, D)."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each entry of x, or its share of that of the row, (*, n, D) nats."""

    def deviance(self, value: Tensor) -> Tensor:
        """Twice what each entry's log-likelihood falls short of the best, (*, n, D).

        Of a Gaussian it is the squared residual over the variance (McCullagh & Nelder 1989,
        Generalized Linear Models, ch. 2). Without a factor a feature it is the entry's share of
        what the row falls short of; only their sum is then at least 0.
        """

    def log_density(self, value: Tensor, observed: Tensor) -> Tensor:
        """Log-density of the observed entries of each row, the others integrated out; (*, n)."""

    def observed_deviance(self, value: Tensor, observed: Tensor) -> Tensor:
        """Deviance of the observed entries of each row, 0 of the others; (*, n, D)."""

    def draw(self, generator: torch.Generator) -> Tensor:
        """A sample of x, (*, n, D)."""


class Factorised:
    """What a likelihood with one factor a feature says of rows with gaps: it leaves them out."""

    def log_density(self: Likelihood, value: Tensor, observed: Tensor) -> Tensor:
        """Log-density of the observed entries of each row, the others integrated out; (*, n)."""
        return (self.log_prob(value) * observed).sum(dim=-1)

    def observed_deviance(self: Likelihood, value: Tensor, observed: Tensor) -> Tensor:
        """Deviance of the observed entries of each row, 0 of the others; (*, n, D)."""
        return self.deviance(value) * observed


class NormalLikelihood(Factorised, Normal):
    """N(loc, scale²), without the argument checks that would read every value back."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)

    def deviance(self, value: Tensor) -> Tensor:
        return ((value - self.loc) / self.scale).square()

    def draw(self, generator: torch.Generator) -> Tensor:
        return self.loc + self.scale * standard_normal(self.loc.shape, generator)


class BernoulliLikelihood(Factorised, Bernoulli):
    """Bernoulli(sigmoid(logits)) of values from 0 to 1; those outside count as 0 or 1."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        x = value.clamp(0.0, 1.0)
        log_p, log_rest = functional.logsigmoid(self.logits), functional.logsigmoid(-self.logits)
        log_prob: Tensor = x * log_p + (1 - x) * log_rest
        return log_prob

    def deviance(self, value: Tensor) -> Tensor:
        """2 KL(x || p) from 0 to 1; beyond, it goes on to grow with the least curvature it has.

        That is 8, in the middle: a value far outside never looks more normal than one at the edge.
        """
        x = value.clamp(0.0, 1.0)
        best = torch.special.xlogy(x, x) + torch.special.xlogy(1 - x, 1 - x)
        inside: Tensor = (best - self.log_prob(x)).clamp(min=0.0)
        return 2 * inside + 4 * (value - x).square()

    def draw(self, generator: torch.Generator) -> Tensor:
        return (uniform(self.logits.shape, generator) < self.probs).to(self.logits.dtype)


class StudentTLikelihood(Factorised, StudentT):
    """loc + scale t, t of Student's distribution with nu > 2 degrees of freedom."""

    def __init__(self, loc: Tensor, scale: Tensor, nu: float) -> None:
        super().__init__(torch.tensor(nu, device=loc.device), loc, scale, validate_args=False)
        self.nu = nu

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (self.nu / (self.nu - 2))

    def deviance(self, value: Tensor) -> Tensor:
        """(nu + 1) log(1 + r²/nu) of r = (x - loc) / scale."""
        return (self.nu + 1) * (((value - self.loc) / self.scale).square() / self.nu).log1p()

    def draw(self, generator: torch.Generator) -> Tensor:
        """A sample, by Bailey (1994), Polar Generation of Random Variates with the t-Distribution.

        sqrt(nu (u^(-2/nu) - 1)) cos(2 pi v) for uniform u and v.
        """
        u = 1 - uniform(self.loc.shape, generator)  # above 0
        radius = (self.nu * (u.pow(-2 / self.nu) - 1)).sqrt()
        turn = 2 * math.pi * uniform(self.loc.shape, generator)
        return self.loc + self.scale * radius * turn.cos()


def student_t(loc: Tensor, scale: Tensor, *, nu: float) -> Likelihood:
    """Student's t with nu degrees of freedom, loc and scale of each feature.

    Examples
    --------
    >>> student_t(torch.zeros(2), torch.ones(2), nu=4.0).deviance(torch.tensor([2.0, 200.0]))
    tensor([ 3.4657, 46.0522])
    """
    return StudentTLikelihood(loc, scale, nu)


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


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers of a shape, uniform on [0, 1)."""
    return torch.rand(shape, device=generator.device, generator=generator)


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
    shared : bool
        One sigma for all features instead.
    follows_context : bool
        Whether sigma also depends on the context, between 1/e² and e² of what it is: a condition
        that training has not seen cannot hide everything in noise.
    """

    def __init__(
        self,
        sizes: Sizes,
        family: Callable[[Tensor, Tensor], Likelihood] = normal,
        *,
        noise: float | None = None,
        shared: bool = False,
        follows_context: bool = False,
    ) -> None:
        super().__init__()
        self.net = decoder_network(sizes, sizes.shape.n_features)
        self.family, self.learned = family, noise is None
        n_sigmas = 1 if shared else sizes.shape.n_features
        log_sigma = torch.full((n_sigmas,), math.log(noise or 1.0))
        self.log_sigma: Tensor
        if self.learned:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)
        self.swing: Linear | None = None
        if follows_context and sizes.shape.n_context:
            self.swing = Linear(sizes.shape.n_context, n_sigmas, bias=False)
            nn.init.zeros_(self.swing.weight)

    @property
    def sigma(self) -> Tensor:
        """Noise of each feature at the mean context, (D,) or (1,), in deviations of the sensor."""
        return self._floored(self.log_sigma)

    def forward(self, z: Tensor, context: Tensor) -> Likelihood:
        loc, sigma = self.net(z, context), self.sigma
        if self.swing is not None:
            swing = LARGEST_SWING * (self.swing(context) / LARGEST_SWING).tanh()
            sigma = self._floored(self.log_sigma + swing)
        return self.family(loc, sigma.expand_as(loc))

    def _floored(self, log_sigma: Tensor) -> Tensor:
        if not self.learned:
            return log_sigma.exp()
        return ((2 * log_sigma).exp() + SMALLEST_SIGMA**2).sqrt()


def location_scale(
    sizes: Sizes, noise: Noise, family: Callable[[Tensor, Tensor], Likelihood] = normal
) -> LocationScale:
    """Decoder with a noise as settings say it: fixed, "learned" or "conditional".

    Examples
    --------
    >>> from vae_anomaly.models.networks import Shape
    >>> location_scale(Sizes(Shape(n_sensors=3), 2, ()), 0.5).sigma
    tensor([0.5000, 0.5000, 0.5000])
    """
    fixed = None if isinstance(noise, str) else noise
    return LocationScale(sizes, family, noise=fixed, follows_context=noise == "conditional")


class BernoulliDecoder(nn.Module):
    """Likelihood p(x | z, c) = Bernoulli(sigmoid(net(z, c))); z (*, k) -> (*, D)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.net = decoder_network(sizes, sizes.shape.n_features)

    def forward(self, z: Tensor, context: Tensor) -> Likelihood:
        return BernoulliLikelihood(self.net(z, context))
