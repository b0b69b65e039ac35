"""The variational autoencoder and its bounds on log p(x | c).

A VAE is three modules that each return a distribution: the encoder q(z | x, c), the decoder
p(x | z, c) and the prior p(z | c). A member of the family is a choice of the three.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from vae_anomaly.models.standardize import Batch

__all__ = ["VAE", "elbo", "importance_bound"]


class VAE(nn.Module):
    """Encoder q(z | x, c), decoder p(x | z, c) and prior p(z | c)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior

    def posterior(self, batch: Batch) -> Distribution:
        """q(z | x, c) of a batch; event (k,)."""
        q: Distribution = self.encoder(batch.x, batch.context)
        return q

    def likelihood(self, z: Tensor, context: Tensor) -> Distribution:
        """p(x | z, c) for latents (*, n, k); one factor a feature."""
        p: Distribution = self.decoder(z, context)
        return p


def elbo(vae: VAE, batch: Batch, *, generator: torch.Generator, beta: float = 1.0) -> Tensor:
    """Evidence lower bound with one reparameterised sample a row; (*, n) nats.

    E_q[log p(x | z, c)] - beta KL(q(z | x, c) || p(z | c)), over the observed entries of x.

    Parameters
    ----------
    vae : VAE
    batch : Batch
    generator : torch.Generator
        Where the sample is drawn from.
    beta : float
        Weight of the divergence; only 1 gives a bound on log p(x | c) (Higgins et al. 2017).

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes. Missing entries: Nazabal et al.
    (2020), Handling incomplete heterogeneous data using VAEs.
    """
    q = vae.posterior(batch)
    z = q.mean + q.stddev * _noise(q.mean, generator)
    log_likelihood = vae.likelihood(z, batch.context).log_prob(batch.x) * batch.observed
    return log_likelihood.sum(dim=-1) - beta * kl_divergence(q, vae.prior(batch.context))


def importance_bound(
    vae: VAE, batch: Batch, *, n_samples: int, generator: torch.Generator
) -> Tensor:
    """Importance-weighted bound; (*, n) nats, and log p(x | c) itself as the samples grow.

    log 1/s sum_i p(x | z_i, c) p(z_i | c) / q(z_i | x, c), over the observed entries of x.

    Parameters
    ----------
    vae : VAE
    batch : Batch
    n_samples : int
        Number s of samples a row.
    generator : torch.Generator
        Where the samples are drawn from.

    References
    ----------
    Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders.
    """
    q = vae.posterior(batch)
    z = q.mean + q.stddev * _noise(q.mean.expand(n_samples, *q.mean.shape), generator)
    log_likelihood = vae.likelihood(z, batch.context).log_prob(batch.x) * batch.observed
    prior: Distribution = vae.prior(batch.context)
    log_w = log_likelihood.sum(dim=-1) + prior.log_prob(z) - q.log_prob(z)  # (s, *, n)
    return log_w.logsumexp(dim=0) - math.log(n_samples)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)
