"""An ensemble of VAEs on partly whitened rows, of which each has its own weights.

The members stand on an axis of their own before the rows, (*, M, n, ...), and are trained at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from vae_anomaly.models.layers import MemberMLP
from vae_anomaly.models.likelihoods import Likelihood, standard_normal
from vae_anomaly.models.networks import Sizes
from vae_anomaly.models.priors import PRIORS, DiagonalNormal, Prior, diagonal
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import VAE, Model
from vae_anomaly.models.whitening import Whitening

__all__ = ["Denoising", "EnsembleVAE", "MemberDecoder", "MemberEncoder"]

#: Smallest noise of a whitened column; below it a copied channel would drive the likelihood on.
SMALLEST_NOISE = 0.05


class MemberEncoder(nn.Module):
    """Posteriors q(z | x, c) of M members; the same x (*, M, n, D) for each -> event (k,)."""

    def __init__(self, sizes: Sizes, n_members: int, whitening: Whitening) -> None:
        super().__init__()
        n_in = sizes.shape.n_features + sizes.shape.n_context
        self.net = MemberMLP(n_members, n_in, 2 * sizes.latent_dim, sizes.hidden)
        self._whitening = (whitening,)  # in a tuple, for its numbers are not this module's

    def seen(self, x: Tensor) -> Tensor:
        """Rows as the networks see them, whitened once for all members."""
        u: Tensor = self._whitening[0](x.select(-3, 0))
        return u.unsqueeze(-3).expand(x.shape)

    def forward(self, x: Tensor, context: Tensor) -> DiagonalNormal:
        return self.of_seen(self.seen(x), context)

    def of_seen(self, u: Tensor, context: Tensor) -> DiagonalNormal:
        """Posteriors of whitened rows (*, M, n, D)."""
        return diagonal(self.net(u, context))


class Denoising(nn.Module):
    """An encoder that sees whitened rows with a given noise (*, M, n, D)."""

    def __init__(self, encoder: MemberEncoder, noise: Tensor) -> None:
        super().__init__()
        self.encoder, self.noise = encoder, noise

    def forward(self, x: Tensor, context: Tensor) -> DiagonalNormal:
        return self.encoder.of_seen(self.encoder.seen(x) + self.noise, context)


class MemberDecoder(nn.Module):
    """Likelihoods p(x | z, c) of M members, one learned noise a whitened column; z (*, M, n, k)."""

    def __init__(self, sizes: Sizes, n_members: int, whitening: Whitening) -> None:
        super().__init__()
        n_in, n_out = sizes.latent_dim + sizes.shape.n_context, sizes.shape.n_features
        self.net = MemberMLP(n_members, n_in, n_out, sizes.hidden[::-1])
        self.log_sigma = nn.Parameter(torch.zeros(n_members, n_out))
        self._whitening = (whitening,)

    @property
    def sigma(self) -> Tensor:
        """Noise of each whitened column, (M, D)."""
        return ((2 * self.log_sigma).exp() + SMALLEST_NOISE**2).sqrt()

    def forward(self, z: Tensor, context: Tensor) -> Likelihood:
        return self._whitening[0].likelihood(self.net(z, context), self.sigma)

    def together(self, z: Tensor, context: Tensor) -> Likelihood:
        """One likelihood (*, n, D) of all: the mean of what they expect and of their variances."""
        u = self.net(z, context).mean(dim=-3)
        return self._whitening[0].likelihood(u, self.sigma.square().mean(dim=0).sqrt())


class EnsembleVAE(Model):
    """M VAEs of the same rows; flat latents (*, n, M * k) are those of all, side by side.

    A row's likelihood given them is a Gaussian about the mean of what the members expect. As a
    density, the model is the mixture of its members.

    Parameters
    ----------
    sizes : Sizes
        Of one member.
    n_members : int
    prior : {"standard", "conditional"}
        p(z | c), which all members share.
    power : float
        Of the whitening.
    missing : float
        What is shown of a missing entry where nothing is whitened.

    References
    ----------
    Lakshminarayanan, Pritzel & Blundell (2017), Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles.
    """

    def __init__(
        self, sizes: Sizes, n_members: int, *, prior: Prior, power: float, missing: float = 0.0
    ) -> None:
        super().__init__()
        self.n_members, self.noise_dim = n_members, n_members * sizes.latent_dim
        self.whitening = Whitening(sizes.shape.n_features, power=power, missing=missing)
        encoder = MemberEncoder(sizes, n_members, self.whitening)
        decoder = MemberDecoder(sizes, n_members, self.whitening)
        self.members = VAE(encoder, decoder, PRIORS[prior](sizes))

    # ------------------------------------------------------------------------------------- members

    def stacked(self, batch: Batch) -> Batch:
        """The rows, gaps filled for the encoders, once for each member: x (*, M, n, D)."""
        batch = batch._replace(x=self.whitening.filled(batch))
        wide = [part.unsqueeze(-3) for part in batch[:3]]
        x, observed, context = (
            part.expand(*part.shape[:-3], self.n_members, *part.shape[-2:]) for part in wide
        )
        label = batch.label.unsqueeze(-2).expand(x.shape[:-1])
        return Batch(x, observed, context, label)

    def denoising(self, noise: Tensor) -> VAE:
        """The members, whose encoders see whitened rows with a noise (*, M, n, D)."""
        encoder = self.members.encoder
        assert isinstance(encoder, MemberEncoder)
        return VAE(Denoising(encoder, noise), self.members.decoder, self.members.prior)

    def flat(self, of_members: Tensor) -> Tensor:
        """Latents of the members (*, M, n, k) side by side, (*, n, M * k)."""
        return of_members.movedim(-3, -2).flatten(-2)

    def apart(self, z: Tensor) -> Tensor:
        """Flat latents (*, n, M * k) as those of each member, (*, M, n, k)."""
        return z.reshape(*z.shape[:-1], self.n_members, -1).movedim(-2, -3)

    # ------------------------------------------------------------------------------------ as others

    def embed(self, batch: Batch) -> Tensor:
        return self.flat(self.members.embed(self.stacked(batch)))

    def spread(self, batch: Batch) -> Tensor:
        return self.flat(self.members.spread(self.stacked(batch)))

    def likelihood(self, z: Tensor, context: Tensor) -> Likelihood:
        decoder = self.members.decoder
        assert isinstance(decoder, MemberDecoder)
        return decoder.together(self.apart(z), context.unsqueeze(-3))

    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Latents that all members give to rows, each of which one member has drawn, (*, n, M * k).

        Each by its own prior would draw rows that no two of them agree on.
        """
        each = context.unsqueeze(-3).expand(*context.shape[:-2], self.n_members, -1, -1)
        x = self.members.likelihood(self.members.draw(each, generator), each).mean
        shape = context.shape[:-1]
        which = torch.randint(
            self.n_members, shape, generator=generator, device=generator.device
        )  # (*, n)
        at = which[..., None, :, None].expand(*shape[:-1], 1, shape[-1], x.shape[-1])
        drawn = x.gather(-3, at).squeeze(-3)
        label = torch.zeros(shape, dtype=torch.int64, device=x.device)
        return self.embed(Batch(drawn, torch.ones_like(drawn, dtype=torch.bool), context, label))

    def terms(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean log-likelihood (*, n) of the members, and shares of latents (*, n, M * k) in theirs.

        Less the sum of the shares, it is the mean of the members' bounds.
        """
        log_likelihood, divergence = self.members.terms(self.stacked(batch), self.apart(noise))
        return log_likelihood.mean(dim=-2), self.flat(divergence) / self.n_members

    def log_weights(self, batch: Batch, noise: Tensor, beta: float = 1.0) -> Tensor:
        each = self.members.log_weights(self.stacked(batch), self.apart(noise), beta)
        return each.logsumexp(dim=-2) - math.log(self.n_members)

    def figures(self, batch: Batch) -> dict[str, float]:
        some = self.stacked(batch)
        q, prior = self.members.posterior(some), self.members.prior(some.context)
        divergence = kl_divergence(q.base_dist, prior.base_dist).sum(dim=-1).mean()
        return {"divergence": float(divergence), **super().figures(batch)}


def input_noise(
    shape: tuple[int, ...], levels: tuple[float, ...], generator: torch.Generator
) -> Tensor:
    """Gaussian noise (*, n, D) whose standard deviation each row draws, evenly in its logarithm."""
    low, high = (math.log(level) for level in levels)
    share = torch.rand((*shape[:-1], 1), generator=generator, device=generator.device)
    return (low + (high - low) * share).exp() * standard_normal(shape, generator)
