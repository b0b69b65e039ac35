"""The VAE: Gaussian posterior, and a Gaussian likelihood with one learned noise a sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import LocationScale
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, setting
from vae_anomaly.models.vae import VAE

__all__ = ["Gaussian"]


@dataclass(frozen=True, kw_only=True)
class Gaussian(Architecture, Objective):
    """VAE with Gaussian posterior and likelihood; ``hidden=()`` is factor analysis.

    The settings of `Architecture` and `Objective`, and:

    Parameters
    ----------
    noise : float or "learned"
        Standard deviation of the likelihood, in standard deviations of the sensor. Learned, one a
        sensor, it balances reconstruction and divergence by itself (Rybkin et al. 2021); 1 is the
        plain squared error of textbooks.

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes. Rybkin, Daniilidis & Levine (2021),
    Simple and Effective VAE Training with Calibrated Decoders.

    Examples
    --------
    >>> Gaussian(hidden=(32,)).build(Shape(n_sensors=9)).noise_dim
    4
    """

    noise: float | Literal["learned"] = setting(
        "learned", "'learned' or above 0", lambda noise: noise == "learned" or noise > 0
    )

    def build(self, shape: Shape) -> VAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        noise = None if self.noise == "learned" else self.noise
        encoder, decoder = GaussianEncoder(sizes), LocationScale(sizes, noise=noise)
        return VAE(encoder, decoder, PRIORS[self.prior](sizes), missing=self.missing)
