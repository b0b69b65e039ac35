"""The beta-VAE: a weighted divergence, or one that is held at a capacity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import Noise, location_scale, standard_normal
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, noise_setting, setting
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import VAE, Model

__all__ = ["Beta"]


@dataclass(frozen=True, kw_only=True)
class Beta(Architecture, Objective):
    """Gaussian VAE that maximises E_q[log p(x | z)] - beta |KL(q || p) - C|, of each row.

    With the capacity C = 0 it is the beta-VAE of Higgins et al. (2017), whose beta > 1 makes
    latents that matter independent and the others idle. With C > 0 it is that of Burgess et al.
    (2018), who call the weight gamma: the divergence is led from 0 to C nats as training goes on,
    so that latents come into use one after another and none has to pay for being used.

    Parameters
    ----------
    latent_dim, hidden, backbone, image, scaling
        As of `Architecture`.
    prior, warmup, cycles, free_bits, n_samples
        As of `Objective`.
    beta : float
        Weight of the divergence, or of its distance from the capacity (there 1000 is usual).
        Images bear 4 and more; each latent of a row of few sensors holds a larger share of what
        is known of it, and is soon not worth beta times its nats.
    capacity : float
        C in nats a row, once it has risen.
    rise : float
        Share of the steps over which C rises from 0, linearly.
    noise : float, "learned" or "conditional"
        As of `Gaussian`. Learned, it grows with beta: the latent then keeps what pays beta times
        its nats.

    References
    ----------
    Higgins et al. (2017), beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
    Framework. Burgess et al. (2018), Understanding Disentangling in beta-VAE.

    Examples
    --------
    >>> slow = Beta(beta=1000, capacity=25, rise=0.5)
    >>> [slow.capacity_at(progress) for progress in (0, 0.25, 1)]
    [0.0, 12.5, 25.0]
    """

    beta: float = setting(2.0, "at least 0", lambda beta: beta >= 0)
    capacity: float = setting(0.0, "at least 0 nats", lambda nats: nats >= 0)
    rise: float = setting(0.8, "a share of the steps, from 0 to 1", lambda share: 0 <= share <= 1)
    noise: Noise = noise_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.capacity and (self.free_bits or self.n_samples > 1):
            raise ConfigError(
                f"Beta: capacity={self.capacity} with free_bits={self.free_bits} and "
                f"n_samples={self.n_samples}; a capacity says by itself what the divergence is to "
                "be: leave free_bits at 0 and n_samples at 1, or the capacity at 0"
            )

    def build(self, shape: Shape) -> VAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        decoder, prior = location_scale(sizes, self.noise), PRIORS[self.prior](sizes)
        return VAE(GaussianEncoder(sizes), decoder, prior, missing=self.missing)

    @property
    def maximises_elbo(self) -> bool:
        return super().maximises_elbo and not self.capacity

    def capacity_at(self, progress: float) -> float:
        """C at a share of the steps, in nats a row."""
        return self.capacity * (min(1.0, progress / self.rise) if self.rise else 1.0)

    def bound(
        self, module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """What training maximises, (*, n) nats; with a capacity it is no bound on log p(x | c)."""
        if not self.capacity:
            return super().bound(module, batch, progress, generator)
        assert isinstance(module, VAE)  # what `build` gives
        noise = standard_normal((*batch.x.shape[:-1], module.noise_dim), generator)
        log_likelihood, divergence = module.terms(batch, noise)
        excess = divergence.sum(dim=-1) - self.capacity_at(progress)
        return log_likelihood - self.weight(progress) * excess.abs()
