"""The VQ-VAE: latents are codes of a learned book, with a prior over them fitted afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.code_priors import CODE_PRIORS, CodePrior, CodePriorName
from vae_anomaly.models.codebook import Codebook, perplexity, straight_through, usage
from vae_anomaly.models.likelihoods import Likelihood, LocationScale
from vae_anomaly.models.networks import Shape, Sizes, encoder_network
from vae_anomaly.models.settings import Architecture, setting
from vae_anomaly.models.standardize import Batch, split
from vae_anomaly.models.vae import Model, observed_sum

__all__ = ["QuantizedVAE", "VectorQuantized"]

#: Rows that are encoded at once when the prior is fitted.
ENCODED_ROWS = 1024


class QuantizedVAE(Model):
    """Encoder, codebook, decoder p(x | codes, c) and prior p(codes | c).

    A flat latent is the vectors of a row's m positions side by side, (*, n, m * e). `embed` gives
    the encoder's outputs, and `likelihood` quantises whatever it is given before it decodes, so
    that what lies between two codes is decoded as the nearer.

    `log_weights` are log p(x | codes, c) + log p(codes | c) at the codes of the row, and nothing is
    drawn. This is a lower bound on log p(x | c), which is the logarithm of the sum over all codes:
    one term of it.
    """

    noise_dim = 0

    def __init__(
        self,
        encoder: nn.Module,
        codebook: Codebook,
        decoder: nn.Module,
        prior: CodePrior,
        *,
        missing: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder, self.codebook, self.decoder = encoder, codebook, decoder
        self.prior, self.missing = prior, missing

    def embed(self, batch: Batch) -> Tensor:
        z: Tensor = self.encoder(self.seen(batch), batch.context)
        return z

    def spread(self, batch: Batch) -> Tensor:
        return torch.zeros_like(self.embed(batch))

    def positions(self, z: Tensor) -> Tensor:
        """Flat latents (*, n, m * e) as those of each position, (*, n, m, e)."""
        return z.reshape(*z.shape[:-1], -1, self.codebook.vectors.shape[-1])

    def codes(self, batch: Batch) -> Tensor:
        """Codes of each row, (*, n, m) int64."""
        return self.codebook.nearest(self.positions(self.embed(batch)))

    def vectors(self, codes: Tensor) -> Tensor:
        """The flat latents (*, n, m * e) that codes (*, n, m) stand for."""
        vectors: Tensor = self.codebook(codes)
        return vectors.flatten(-2)

    def likelihood(self, z: Tensor, context: Tensor) -> Likelihood:
        quantized = self.vectors(self.codebook.nearest(self.positions(z)))
        p: Likelihood = self.decoder(straight_through(z, quantized), context)
        return p

    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        return self.vectors(self.prior.draw(context, generator))

    def log_weights(self, batch: Batch, noise: Tensor) -> Tensor:
        codes = self.codes(batch)
        log_likelihood = observed_sum(self.decoder(self.vectors(codes), batch.context), batch)
        log_joint = log_likelihood + self.prior.log_prob(codes, batch.context)  # (*, n)
        return log_joint.expand(len(noise), *log_joint.shape)

    def figures(self, batch: Batch) -> dict[str, float]:
        share = usage(self.codes(batch), len(self.codebook.vectors))
        return {
            "perplexity": perplexity(share),
            "used_codes": int((share > 0).sum()),
            "revived_codes": int(self.codebook.n_revived),
            **super().figures(batch),
        }


@dataclass(frozen=True, kw_only=True)
class VectorQuantized(Architecture):
    """VQ-VAE: each row is a few codes of a book that moving averages learn.

    The settings of `Architecture`, and:

    Parameters
    ----------
    n_codes : int
        Codes K in the book, which all positions share.
    code_dim : int
        Width e of a code's vector. On the simulated plant wider ones find no more faults
        (benchmarks/results/codes_and_levels.md).
    n_positions : int or "auto"
        Codes m a row; "auto" is round(sqrt(D)) + 1 for D = sensors times window. The latent has
        width m * e: `latent_dim` stays "auto".
    prior : {"autoregressive", "categorical"}
        Over the codes, fitted when these stand: one position after the other, given the context; or
        each position's frequencies.
    noise : float or "learned"
        Standard deviation of the likelihood, in standard deviations of the sensor.
    commitment : float
        Weight of the squared distance that keeps encoder outputs near their codes.
    decay : float
        Share of the moving averages that a step keeps.

    References
    ----------
    Van den Oord, Vinyals & Kavukcuoglu (2017), Neural Discrete Representation Learning.

    Examples
    --------
    >>> model = VectorQuantized(n_codes=16, code_dim=2).build(Shape(n_sensors=9))
    >>> model.draw(torch.zeros(5, 0), torch.Generator().manual_seed(0)).shape
    torch.Size([5, 8])
    """

    n_codes: int = setting(64, "at least 2", lambda codes: codes >= 2)
    code_dim: int = setting(1, "at least 1", lambda dim: dim >= 1)
    n_positions: int | Literal["auto"] = setting(
        "auto", "'auto' or at least 1", lambda positions: positions == "auto" or positions > 0
    )
    prior: CodePriorName = "autoregressive"
    noise: float | Literal["learned"] = setting(
        "learned", "'learned' or above 0", lambda noise: noise == "learned" or noise > 0
    )
    commitment: float = setting(0.25, "at least 0", lambda weight: weight >= 0)
    decay: float = setting(0.99, "a share from 0 to below 1", lambda share: 0 <= share < 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent_dim != "auto":
            raise ConfigError(
                f"VectorQuantized: latent_dim={self.latent_dim!r} is not allowed; it follows from "
                "n_positions and code_dim: give these"
            )

    def sizes(self, shape: Shape) -> Sizes:
        """Widths of the networks for rows of a shape; the latent holds all positions."""
        sizes = super().sizes(shape)
        positions = sizes.latent_dim if self.n_positions == "auto" else self.n_positions
        return sizes._replace(latent_dim=positions * self.code_dim)

    def build(self, shape: Shape) -> QuantizedVAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        noise = None if self.noise == "learned" else self.noise
        prior = CODE_PRIORS[self.prior]
        return QuantizedVAE(
            encoder_network(sizes, sizes.latent_dim),
            Codebook(self.n_codes, self.code_dim, decay=self.decay),
            LocationScale(sizes, noise=noise),
            prior(sizes.latent_dim // self.code_dim, self.n_codes, shape.n_context),
            missing=self.missing,
        )

    def bound(
        self, module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """Log-likelihood at the codes less the commitment, (*, n) nats; training moves the book.

        The paper's loss, negated, but for the codebook's term, in whose stead are moving averages.
        """
        assert isinstance(module, QuantizedVAE)
        z, book = module.embed(batch), module.codebook
        positions = module.positions(z)
        if module.training:
            book.revive(positions, generator)
        codes = book.nearest(positions)
        quantized = module.vectors(codes)
        if module.training:
            book.learn(positions, codes)
        p = module.decoder(straight_through(z, quantized), batch.context)
        away = (z - quantized).square().sum(dim=-1)
        return observed_sum(p, batch) - self.commitment * away

    def finish(self, module: Model, batch: Batch, generator: torch.Generator) -> None:
        """Fit the prior to the codes of training rows."""
        assert isinstance(module, QuantizedVAE)
        with torch.no_grad():
            codes = torch.cat([module.codes(block) for block in split(batch, ENCODED_ROWS)])
        module.prior.fit(codes, batch.context, generator)
