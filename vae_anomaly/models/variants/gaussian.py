"""The VAE: Gaussian posterior, and a Gaussian likelihood with one learned noise a sensor."""

from __future__ import annotations

from dataclasses import dataclass

from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import Noise, location_scale
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, noise_setting
from vae_anomaly.models.vae import VAE

__all__ = ["Gaussian"]


@dataclass(frozen=True, kw_only=True)
class Gaussian(Architecture, Objective):
    """VAE with Gaussian posterior and likelihood; ``hidden=()`` is factor analysis.

    The settings of `Architecture` and `Objective`, and:

    Parameters
    ----------
    noise : float, "learned" or "conditional"
        Standard deviation of the likelihood, in standard deviations of the sensor. Learned, one a
        sensor, it balances reconstruction and divergence by itself (Rybkin et al. 2021); 1 is the
        plain squared error of textbooks. Conditional, it also follows the context: a mode with
        few rows, which the network fits less well, has more of it.

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes. Rybkin, Daniilidis & Levine (2021),
    Simple and Effective VAE Training with Calibrated Decoders.

    Examples
    --------
    >>> Gaussian(hidden=(32,)).build(Shape(n_sensors=9)).noise_dim
    4
    """

    noise: Noise = noise_setting()

    def build(self, shape: Shape) -> VAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        decoder = location_scale(sizes, self.noise)
        prior = PRIORS[self.prior](sizes)
        return VAE(GaussianEncoder(sizes), decoder, prior, missing=self.missing)
