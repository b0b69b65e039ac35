"""The hierarchical VAE: levels of latents, inferred by a ladder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vae_anomaly.models.ladder import LadderVAE
from vae_anomaly.models.likelihoods import LocationScale
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, setting

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
    >>> import torch
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
        decoder, prior = LocationScale(whole, noise=noise), PRIORS[self.prior](top)
        return LadderVAE(whole, dims, decoder=decoder, prior=prior, missing=self.missing)
