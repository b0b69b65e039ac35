"""The hierarchical VAE: levels of latents, inferred by a ladder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vae_anomaly.models.ladder import LadderVAE, ladder_elbo
from vae_anomaly.models.likelihoods import LocationScale, standard_normal
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, setting
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model

__all__ = ["Hierarchical"]


@dataclass(frozen=True, kw_only=True)
class Hierarchical(Architecture, Objective):
    """VAE with levels of latents, p(z_L) p(z_l | z_(l+1)) p(x | z_1, ..., z_L).

    The settings of `Architecture` and `Objective`, and:

    Parameters
    ----------
    n_levels : int
        Number L of levels. `latent_dim` is the width of the lowest; each above has half of the one
        below, and at least 1.
    noise : float or "learned"
        Standard deviation of the likelihood, in standard deviations of the sensor.

    References
    ----------
    Sønderby et al. (2016), Ladder Variational Autoencoders.

    Examples
    --------
    >>> model = Hierarchical(n_levels=3).build(Shape(n_sensors=9))
    >>> model.dims
    (4, 2, 1)
    >>> model.draw(torch.zeros(5, 0), torch.Generator().manual_seed(0)).shape
    torch.Size([5, 7])
    """

    n_levels: int = setting(2, "at least 1", lambda levels: levels >= 1)
    noise: float | Literal["learned"] = setting(
        "learned", "'learned' or above 0", lambda noise: noise == "learned" or noise > 0
    )

    def build(self, shape: Shape) -> LadderVAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        dims = tuple(max(1, sizes.latent_dim >> level) for level in range(self.n_levels))
        top, whole = sizes._replace(latent_dim=dims[-1]), sizes._replace(latent_dim=sum(dims))
        noise = None if self.noise == "learned" else self.noise
        decoder = LocationScale(whole, noise=noise)
        return LadderVAE(whole, dims, decoder=decoder, prior=PRIORS[self.prior](top))

    def bound(
        self, module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """Bound of a batch, (*, n) nats, at a share of the steps; free bits in training alone."""
        assert isinstance(module, LadderVAE)
        weight = self.weight(progress)
        if self.n_samples > 1:
            shape = (self.n_samples, *batch.x.shape[:-1], module.noise_dim)
            log_weights = module.log_weights(batch, standard_normal(shape, generator), weight)
            return log_weights.logsumexp(dim=0) - math.log(self.n_samples)
        free_bits = self.free_bits if module.training else 0.0
        return ladder_elbo(module, batch, generator=generator, beta=weight, free_bits=free_bits)
