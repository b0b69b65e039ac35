"""Several levels of latents, of which each explains the one below: inference by a ladder.

Generation goes down, p(z_L | c) p(z_l | z_(l+1), c) p(x | z_1, ..., z_L, c). Inference goes up from
x without noise, to the evidence of each level, and comes down again: the posterior of a level
weighs its evidence and what the level above expects by their precisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from vae_anomaly.models.layers import MLP
from vae_anomaly.models.likelihoods import Likelihood, standard_normal
from vae_anomaly.models.networks import Sizes, encoder_network
from vae_anomaly.models.priors import ConditionalNormal, DiagonalNormal, StandardNormal, diagonal
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model, observed_sum

__all__ = ["LadderVAE", "Rung", "divergences", "merge"]


class Rung(NamedTuple):
    """One level of latents of some rows.

    Attributes
    ----------
    z : Tensor of shape (*, n, k)
        A sample, or the mean.
    posterior, prior : DiagonalNormal
        q(z | x, level above, c) and p(z | level above, c).
    """

    z: Tensor
    posterior: DiagonalNormal
    prior: DiagonalNormal


def merge(seen: DiagonalNormal, expected: DiagonalNormal) -> DiagonalNormal:
    """The product of two Gaussians, normalised: means weighted by precisions, precisions added.

    References
    ----------
    Sønderby et al. (2016), Ladder Variational Autoencoders, equations 16 to 19.

    Examples
    --------
    >>> seen, expected = diagonal(torch.tensor([3.0, 0.0])), diagonal(torch.tensor([0.0, 0.0]))
    >>> merged = merge(seen, expected)
    >>> merged.mean, merged.variance
    (tensor([1.5000]), tensor([0.5000]))
    """
    one, other = seen.variance.reciprocal(), expected.variance.reciprocal()
    precision = one + other
    mu = (one * seen.mean + other * expected.mean) / precision
    return diagonal(torch.cat([mu, -0.5 * precision.log()], dim=-1))


class LadderVAE(Model):
    """Levels of Gaussian latents, flat from the lowest to the highest.

    The decoder sees all levels, as with the skips of Maaløe et al. (2019, BIVA): so each entry of a
    flat latent matters to what is decoded from it. With one level it is the plain VAE.

    Parameters
    ----------
    sizes : Sizes
        Of the networks; `latent_dim` is the width of all levels together.
    dims : tuple of int
        Width of each level, the lowest, which stands next to x, first.
    decoder : Module
        p(x | z, c) of all levels side by side.
    prior : StandardNormal or ConditionalNormal
        Of the highest level.
    missing : float
        What the networks that go up see in place of an entry that was not observed.

    References
    ----------
    Sønderby et al. (2016), Ladder Variational Autoencoders.
    """

    def __init__(
        self,
        sizes: Sizes,
        dims: tuple[int, ...],
        *,
        decoder: nn.Module,
        prior: StandardNormal | ConditionalNormal,
        missing: float = 0.0,
    ) -> None:
        super().__init__()
        self.missing = missing
        self.dims, self.noise_dim = dims, sum(dims)
        hidden, n_context = sizes.hidden, sizes.shape.n_context
        self.width = hidden[-1] if hidden else 2 * sum(dims)  # of what goes up, without noise
        tops = [self.width] * (len(dims) - 1) + [0]
        outs = [2 * k + up for k, up in zip(dims, tops, strict=True)]
        above = [MLP(self.width, out, hidden) for out in outs[1:]]
        self.up = nn.ModuleList([encoder_network(sizes, outs[0]), *above])
        self.down = nn.ModuleList(
            MLP(high + n_context, 2 * low, hidden[::-1]) for low, high in pairwise(dims)
        )
        self.decoder, self.prior = decoder, prior

    def rungs(self, batch: Batch, noise: Tensor) -> tuple[Rung, ...]:
        """The levels of a batch, the lowest first, each given a sample of the level above.

        Parameters
        ----------
        batch : Batch
        noise : Tensor of shape (s, *, n, noise_dim)
            Standard normal, or zeros for the means; it broadcasts.
        """
        evidence, noises = self._evidence(batch), torch.split(noise, list(self.dims), dim=-1)
        rungs: list[Rung] = []
        for level in reversed(range(len(self.dims))):
            if rungs:
                prior = diagonal(self.down[level](rungs[-1].z, batch.context))
                posterior = merge(evidence[level], prior)
            else:
                prior, posterior = self.prior(batch.context), evidence[level]
            z = posterior.mean + posterior.stddev * noises[level]
            rungs.append(Rung(z, posterior, prior))
        return tuple(reversed(rungs))

    def _evidence(self, batch: Batch) -> list[DiagonalNormal]:
        """What x says of each level, whatever the levels above."""
        evidence: list[DiagonalNormal] = []
        up = self.seen(batch)
        for k, net in zip(self.dims, self.up, strict=True):
            context = batch.context if not evidence else batch.context[..., :0]
            out = net(up, context)
            evidence.append(diagonal(out[..., : 2 * k]))
            up = out[..., 2 * k :]
        return evidence

    def embed(self, batch: Batch) -> Tensor:
        return side_by_side(self._means(batch))

    def spread(self, batch: Batch) -> Tensor:
        return torch.cat([rung.posterior.stddev for rung in self._means(batch)], dim=-1)

    def _means(self, batch: Batch) -> tuple[Rung, ...]:
        return self.rungs(batch, torch.zeros(self.noise_dim, device=batch.x.device))

    def likelihood(self, z: Tensor, context: Tensor) -> Likelihood:
        p: Likelihood = self.decoder(z, context)
        return p

    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        noise = standard_normal((*context.shape[:-1], self.noise_dim), generator)
        levels: list[Tensor] = []
        for level, part in reversed(list(enumerate(torch.split(noise, list(self.dims), dim=-1)))):
            prior = (
                diagonal(self.down[level](levels[0], context)) if levels else self.prior(context)
            )
            levels.insert(0, prior.mean + prior.stddev * part)
        return torch.cat(levels, dim=-1)

    def terms(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood (*, n), and divergences (*, n, k) given the sample of the level above."""
        rungs = self.rungs(batch, noise)
        p = self.likelihood(side_by_side(rungs), batch.context)
        divergence = torch.cat([divergences(rung) for rung in rungs], dim=-1)
        return observed_sum(p, batch), divergence

    def log_weights(self, batch: Batch, noise: Tensor, beta: float = 1.0) -> Tensor:
        rungs = self.rungs(batch, noise)
        log_likelihood = observed_sum(self.likelihood(side_by_side(rungs), batch.context), batch)
        log_ratio = torch.stack([_log_ratio(rung) for rung in rungs]).sum(dim=0)
        return log_likelihood + beta * log_ratio

    def figures(self, batch: Batch) -> dict[str, float]:
        noise = torch.Generator(batch.x.device).manual_seed(0)
        shape = (*batch.x.shape[:-1], self.noise_dim)
        rungs = self.rungs(batch, standard_normal(shape, noise))
        levels = [float(divergences(rung).sum(dim=-1).mean()) for rung in rungs]
        by_level = {f"divergence_level_{i}": nats for i, nats in enumerate(levels, start=1)}
        return {"divergence": sum(levels), **by_level, **super().figures(batch)}


def side_by_side(rungs: Sequence[Rung]) -> Tensor:
    """Flat latents (*, n, k) of all the levels."""
    return torch.cat([rung.z for rung in rungs], dim=-1)


def divergences(rung: Rung) -> Tensor:
    """KL(q || p) of each latent of a level, given the level above, (*, n, k) nats."""
    return kl_divergence(rung.posterior.base_dist, rung.prior.base_dist)


def _log_ratio(rung: Rung) -> Tensor:
    """log p - log q of the latents of a level, given the level above, (s, *, n) nats."""
    prior: Distribution = rung.prior
    posterior: Distribution = rung.posterior
    return prior.log_prob(rung.z) - posterior.log_prob(rung.z)
