"""The robust VAE: Student's t instead of the Gaussian, so that spikes do not lead the training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import Noise, location_scale, student_t
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, noise_setting, setting
from vae_anomaly.models.vae import VAE

__all__ = ["StudentT"]


@dataclass(frozen=True, kw_only=True)
class StudentT(Architecture, Objective):
    """VAE whose likelihood is Student's t, for training rows with spikes among them.

    A residual of r sigma weighs in the gradient as (nu + 1) / (nu + r²) of what it would in a
    Gaussian VAE, so that what lies far out moves neither the networks nor the noise.

    Parameters
    ----------
    latent_dim, hidden, backbone, image, scaling
        As of `Architecture`.
    prior, beta, warmup, cycles, free_bits, n_samples
        As of `Objective`.
    nu : float
        Degrees of freedom; the fewer, the less far values matter, and from about 30 on it is the
        Gaussian VAE. 4 is usual (Lange, Little & Taylor 1989).
    noise : float, "learned" or "conditional"
        Scale of the likelihood, as the noise of `Gaussian`.

    References
    ----------
    Takahashi et al. (2018), Student-t Variational Autoencoder for Robust Density Estimation, IJCAI.
    Lange, Little & Taylor (1989), Robust Statistical Modeling Using the t Distribution.

    Examples
    --------
    >>> StudentT(nu=5).build(Shape(n_sensors=9)).noise_dim
    4
    """

    nu: float = setting(4.0, "above 2, where the variance exists", lambda nu: nu > 2)
    noise: Noise = noise_setting()

    def build(self, shape: Shape) -> VAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        decoder = location_scale(sizes, self.noise, partial(student_t, nu=self.nu))
        prior = PRIORS[self.prior](sizes)
        return VAE(GaussianEncoder(sizes), decoder, prior, missing=self.missing)
