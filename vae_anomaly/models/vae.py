"""What every member of the family is, the variational autoencoder, and bounds on log p(x | c).

A VAE is three modules that each return a distribution: the encoder q(z | x, c), the decoder
p(x | z, c) and the prior p(z | c). Most members are a choice of the three; the others, such as
those with codes or several levels of latents, are models of their own that answer to the same six
questions, so that scores, generation and embedding ask nothing else.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from vae_anomaly.models.likelihoods import Likelihood, standard_normal
from vae_anomaly.models.overlapping import each_entry
from vae_anomaly.models.priors import ConditionalNormal, DiagonalNormal, StandardNormal
from vae_anomaly.models.standardize import Batch

__all__ = [
    "ACTIVE_VARIANCE",
    "VAE",
    "GaussianLatents",
    "Model",
    "active_units",
    "divergences",
    "elbo",
    "importance_bound",
]

#: A latent is active if its posterior mean varies over the rows by more than this (Burda et al.
#: 2016, section 5).
ACTIVE_VARIANCE = 0.01


class Model(nn.Module):
    """A member of the family: latents of a row, and the row's likelihood given them.

    Latents are flat, (*, n, k): where a member has several levels, codes or classes, they stand
    side by side.
    """

    #: Standard normal numbers that one sample of a row's latents takes.
    noise_dim: int

    #: Networks of which each by itself is a model of the rows.
    n_members: int = 1

    #: What networks are shown in place of an entry that was not observed; 0 is the mean of a
    #: standardised sensor.
    missing: float = 0.0

    def seen(self, batch: Batch) -> Tensor:
        """x (*, n, D) as networks are to be shown it, with `missing` where nothing was observed."""
        if not self.missing:
            return batch.x
        return each_entry(lambda x, seen: x.where(seen, self.missing), batch.x, batch.observed)

    @abstractmethod
    def embed(self, batch: Batch) -> Tensor:
        """The latents that stand for each row, (*, n, k): posterior means, or codes."""

    @abstractmethod
    def spread(self, batch: Batch) -> Tensor:
        """Posterior standard deviation of each latent, (*, n, k); 0 where it is no random one."""

    @abstractmethod
    def likelihood(self, z: Tensor, context: Tensor) -> Likelihood:
        """p(x | z, c) for latents (*, n, k), be they of a row, drawn or interpolated."""

    @abstractmethod
    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of new rows from the prior p(z | c), (*, n, k), for context (*, n, c)."""

    @abstractmethod
    def log_weights(self, batch: Batch, noise: Tensor) -> Tensor:
        """log p(x, z | c) - log q(z | x, c) of one sample of the latents a row, (s, *, n) nats.

        Parameters
        ----------
        batch : Batch
            Of n rows.
        noise : Tensor of shape (s, *, n, noise_dim) or (s, *, 1, noise_dim)
            Standard normal; each sample's latents are a function of the row and of it.
        """

    def figures(self, batch: Batch) -> dict[str, float]:
        """What the training log says of the model on some rows, by name."""
        return {"active_units": active_units(self, batch)}


@runtime_checkable
class GaussianLatents(Protocol):
    """What a member with Gaussian latents can say beside what every `Model` can."""

    noise_dim: int

    def terms(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood (*, n) and divergence of each latent (*, n, k) of one sample; nats."""

    def log_weights(self, batch: Batch, noise: Tensor, beta: float = 1.0) -> Tensor:
        """As of every model; beta is the weight of what belongs to the divergence."""


class VAE(Model):
    """Encoder q(z | x, c), decoder p(x | z, c) and prior p(z | c), the first and last Gaussian.

    The encoder sees `missing` in place of an entry that was not observed.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: StandardNormal | ConditionalNormal,
        *,
        missing: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.missing = missing
        self.noise_dim = prior.latent_dim

    def posterior(self, batch: Batch) -> DiagonalNormal:
        """q(z | x, c) of a batch; event (k,)."""
        q: DiagonalNormal = self.encoder(self.seen(batch), batch.context)
        return q

    def embed(self, batch: Batch) -> Tensor:
        return self.posterior(batch).mean

    def spread(self, batch: Batch) -> Tensor:
        return self.posterior(batch).stddev

    def likelihood(self, z: Tensor, context: Tensor) -> Likelihood:
        p: Likelihood = self.decoder(z, context)
        return p

    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        prior: DiagonalNormal = self.prior(context)
        return prior.mean + prior.stddev * standard_normal(prior.mean.shape, generator)

    def terms(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        q, prior = self.posterior(batch), self.prior(batch.context)
        p = self.likelihood(q.mean + q.stddev * noise, batch.context)
        return observed_sum(p, batch), kl_divergence(q.base_dist, prior.base_dist)

    def log_weights(self, batch: Batch, noise: Tensor, beta: float = 1.0) -> Tensor:
        q: Distribution = self.posterior(batch)
        prior: Distribution = self.prior(batch.context)
        z = q.mean + q.stddev * noise  # (s, *, n, k)
        log_ratio = prior.log_prob(z) - q.log_prob(z)
        return observed_sum(self.likelihood(z, batch.context), batch) + beta * log_ratio

    def figures(self, batch: Batch) -> dict[str, float]:
        divergence = divergences(self, batch).sum(dim=-1).mean()
        return {"divergence": float(divergence), **super().figures(batch)}


def observed_sum(p: Likelihood, batch: Batch) -> Tensor:
    """Log-likelihood of the observed entries of each row, (s, *, n) nats."""
    return p.log_density(batch.x, batch.observed)


def divergences(vae: VAE, batch: Batch) -> Tensor:
    """KL(q(z | x, c) || p(z | c)) of each latent, (*, n, k) nats."""
    q, prior = vae.posterior(batch), vae.prior(batch.context)
    return kl_divergence(q.base_dist, prior.base_dist)


def active_units(model: Model, batch: Batch) -> int:
    """Latents whose posterior mean varies over the rows of a batch (n, D).

    References
    ----------
    Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, section 5.
    """
    z = model.embed(batch)
    return int((z.var(dim=0, correction=0) > ACTIVE_VARIANCE).sum())


def elbo(
    model: GaussianLatents,
    batch: Batch,
    *,
    generator: torch.Generator,
    beta: float = 1.0,
    free_bits: float = 0.0,
) -> Tensor:
    """Evidence lower bound with one reparameterised sample a row; (*, n) nats.

    E_q[log p(x | z, c)] - beta KL(q(z | x, c) || p(z | c)), over the observed entries of x.

    Parameters
    ----------
    model : VAE or LadderVAE
    batch : Batch
    generator : torch.Generator
        Where the sample is drawn from.
    beta : float
        Weight of the divergence; only 1 gives a bound on log p(x | c) (Higgins et al. 2017).
    free_bits : float
        Nats that a latent may hold on the mean of the rows at no gain from holding less (Kingma et
        al. 2016, Improved Variational Inference with Inverse Autoregressive Flow, appendix C.8).

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes. Missing entries: Nazabal et al.
    (2020), Handling incomplete heterogeneous data using VAEs.
    """
    noise = standard_normal((*batch.x.shape[:-1], model.noise_dim), generator)
    log_likelihood, divergence = model.terms(batch, noise)
    return log_likelihood - beta * freed(divergence, free_bits).sum(dim=-1)


def freed(divergence: Tensor, free_bits: float) -> Tensor:
    """Divergences (*, n, k) where latents that hold less on the mean of the rows cost this much.

    Examples
    --------
    >>> freed(torch.tensor([[0.0, 1.0], [0.2, 3.0]]), 0.5)
    tensor([[0.5000, 1.0000],
            [0.5000, 3.0000]])
    """
    if not free_bits:
        return divergence
    is_free = divergence.mean(dim=-2, keepdim=True) < free_bits
    return divergence.masked_fill(is_free, free_bits)


def importance_bound(
    model: Model, batch: Batch, *, n_samples: int, generator: torch.Generator
) -> Tensor:
    """Importance-weighted bound; (*, n) nats, and log p(x | c) itself as the samples grow.

    log 1/s sum_i p(x | z_i, c) p(z_i | c) / q(z_i | x, c), over the observed entries of x.

    Parameters
    ----------
    model : Model
    batch : Batch
    n_samples : int
        Number s of samples a row.
    generator : torch.Generator
        Where the samples are drawn from.

    References
    ----------
    Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders.
    """
    shape = (n_samples, *batch.x.shape[:-1], model.noise_dim)
    log_weights = model.log_weights(batch, standard_normal(shape, generator))  # (s, *, n)
    return log_weights.logsumexp(dim=0) - math.log(n_samples)
