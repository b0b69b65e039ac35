"""The Gaussian VAE with one learned noise a sensor."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import LocationScale
from vae_anomaly.models.networks import Sizes
from vae_anomaly.models.priors import StandardNormal
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import VAE, elbo

__all__ = ["Gaussian"]


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """VAE with Gaussian posterior and likelihood; ``hidden=()`` is factor analysis.

    Parameters
    ----------
    latent_dim : int or "auto"
        Width k of the latent; "auto" is round(sqrt(D)) + 1 for D = sensors times window.
    hidden : tuple of int
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    noise : float or "learned"
        Standard deviation of the likelihood, in standard deviations of the sensor. Learned, one a
        sensor, it balances reconstruction and divergence by itself (Rybkin et al. 2021).
    beta : float
        Weight of the divergence (Higgins et al. 2017).
    warmup : float
        Share of the steps over which beta rises from 0, against an early collapse of the latent
        (Bowman et al. 2016).

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes. Rybkin, Daniilidis & Levine (2021),
    Simple and Effective VAE Training with Calibrated Decoders.

    Examples
    --------
    >>> vae = Gaussian(hidden=(32,)).build(n_features=9, n_context=0)
    >>> vae.posterior(Batch(torch.zeros(5, 9), torch.ones(5, 9, dtype=torch.bool),
    ...                     torch.zeros(5, 0), torch.zeros(5))).mean.shape
    torch.Size([5, 4])
    """

    latent_dim: int | Literal["auto"] = "auto"
    hidden: tuple[int, ...] = (64, 64)
    noise: float | Literal["learned"] = "learned"
    beta: float = 1.0
    warmup: float = 0.2

    def __post_init__(self) -> None:
        for name, allowed, holds in (
            (
                "latent_dim",
                "'auto' or at least 1",
                self.latent_dim == "auto" or self.latent_dim > 0,
            ),
            ("hidden", "widths of at least 1", all(width > 0 for width in self.hidden)),
            ("noise", "'learned' or above 0", self.noise == "learned" or self.noise > 0),
            ("beta", "at least 0", self.beta >= 0),
            ("warmup", "a share of the steps, from 0 to 1", 0 <= self.warmup <= 1),
        ):
            if not holds:
                raise ConfigError(
                    f"variant gaussian: {name}={getattr(self, name)!r} is not allowed; "
                    f"give {allowed}"
                )

    def build(self, n_features: int, n_context: int) -> VAE:
        """Untrained modules; their weights come from torch's global generator."""
        auto = round(sqrt(n_features)) + 1
        latent_dim = auto if self.latent_dim == "auto" else self.latent_dim
        sizes = Sizes(n_features, n_context, latent_dim, self.hidden)
        noise = None if self.noise == "learned" else self.noise
        return VAE(GaussianEncoder(sizes), LocationScale(sizes, noise=noise), StandardNormal(sizes))

    def bound(
        self, module: VAE, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """ELBO of a batch, (*, n) nats, at a share `progress` of the steps."""
        warm = min(1.0, progress / self.warmup) if self.warmup else 1.0
        return elbo(module, batch, generator=generator, beta=self.beta * warm)

    def finish(self, module: VAE, batch: Batch) -> None:
        """Nothing: the prior needs no second stage."""
