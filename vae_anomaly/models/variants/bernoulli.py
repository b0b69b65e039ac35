"""The Bernoulli VAE: binary cross-entropy, for values from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import BernoulliDecoder
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, setting
from vae_anomaly.models.standardize import Scaling
from vae_anomaly.models.vae import VAE

__all__ = ["Bernoulli"]


@dataclass(frozen=True, kw_only=True)
class Bernoulli(Architecture, Objective):
    """VAE whose likelihood is a Bernoulli: its bound is minus (binary cross-entropy + divergence).

    For pixels and for binary sensors. ``Bernoulli(hidden=(400,), latent_dim=20)`` on the 784 pixels
    of a digit is the VAE of the textbooks. A continuous sensor is one draw of a coin to it, which
    says next to nothing: with few of them the latent collapses, unless beta is far below 1.

    Parameters
    ----------
    latent_dim, hidden, backbone, image
        As of `Architecture`.
    scaling : "range" or tuple of float
        What is 0 and 1: a sensor's training minimum and maximum, or the same two values for all
        sensors, such as (0, 255) for pixels.
    prior, beta, warmup, cycles, free_bits, n_samples
        As of `Objective`.

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes, appendix C.1.

    Examples
    --------
    >>> vae = Bernoulli(hidden=(400,), latent_dim=20, scaling=(0, 255)).build(Shape(784))
    >>> sum(parameter.numel() for parameter in vae.parameters())
    652824
    """

    scaling: Scaling = setting(
        "range",
        "'range' or (low, high), which become 0 and 1",
        lambda scaling: (
            scaling == "range" or (not isinstance(scaling, str) and scaling[0] < scaling[1])
        ),
    )

    def build(self, shape: Shape) -> VAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        prior = PRIORS[self.prior](sizes)
        return VAE(GaussianEncoder(sizes), BernoulliDecoder(sizes), prior, missing=self.missing)
