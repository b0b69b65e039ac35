"""The ensemble: a few denoising VAEs on partly whitened columns, trained as one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vae_anomaly.models.ensemble import EnsembleVAE, input_noise
from vae_anomaly.models.networks import Backbone, Shape, refuse_misfits
from vae_anomaly.models.settings import Architecture, Objective, setting
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model

__all__ = ["Ensemble"]


@dataclass(frozen=True, kw_only=True)
class Ensemble(Architecture, Objective):
    """Gaussian VAEs with their own weights, whose encoders learn to see through noise.

    Their columns are whitened in part, so that what the sensors hardly ever do counts for more, and
    the likelihood is a Gaussian whose sensors vary together. Contributions are mapped back to the
    sensors; one that others are only held against may have a negative one.

    Parameters
    ----------
    latent_dim, hidden, image, scaling
        As of `Architecture`; `latent_dim` is the width of one member's latent, and all are side by
        side. The backbone has only one value here.
    prior, beta, warmup, cycles, free_bits, n_samples
        As of `Objective`; what is maximised is the mean of the members' bounds.
    n_members : int
        Number M of members.
    whitening : float
        p in u = x V diag(l)^(-p/2), of the covariance V diag(l) V' of training rows: 0 leaves rows
        as they are, 1 makes all axes vary alike. Rows of more than 1,000 columns, windows counted,
        are left as they are too.
    input_noise : tuple of float
        Least and largest standard deviation of the noise that an encoder sees in training, in
        whitened units; each row draws its own, evenly in the logarithm, and is to be reconstructed
        without. ``()`` shows rows as they are.

    References
    ----------
    Lakshminarayanan, Pritzel & Blundell (2017), Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles. Im, Ahn, Memisevic & Bengio (2017), Denoising Criterion for
    Variational Auto-Encoding Framework. Kessy, Lewin & Strimmer (2018), Optimal Whitening and
    Decorrelation.

    Examples
    --------
    >>> Ensemble(n_members=3).build(Shape(n_sensors=9)).noise_dim  # 3 latents of width 4
    12
    """

    default_score: ClassVar[str] = "pooled_density"

    hidden: tuple[int, ...] = setting(
        (96, 96), "widths of at least 1", lambda widths: all(width > 0 for width in widths)
    )
    backbone: Backbone = setting("mlp", "'mlp'", lambda backbone: backbone == "mlp")
    n_members: int = setting(2, "at least 1", lambda members: members >= 1)
    whitening: float = setting(0.75, "a power from 0 to 1", lambda power: 0 <= power <= 1)
    input_noise: tuple[float, ...] = setting(
        (0.03, 0.5),
        "() or (least, largest), above 0",
        lambda levels: not levels or (len(levels) == 2 and 0 < levels[0] <= levels[1]),
    )

    @property
    def table_score(self) -> str:
        return "fused"

    def build(self, shape: Shape) -> EnsembleVAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        refuse_misfits(sizes)
        return EnsembleVAE(
            sizes,
            self.n_members,
            prior=self.prior,
            power=self.whitening,
            missing=self.missing,
        )

    def prepare(self, module: Model, batch: Batch) -> None:
        """Fit the whitening to training rows (n, D)."""
        assert isinstance(module, EnsembleVAE)  # what `build` gives
        module.whitening.fit(batch)

    def bound(
        self, module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """Mean of the members' bounds, (*, n) nats; in training their encoders see noise."""
        assert isinstance(module, EnsembleVAE)
        members, some = module.members, module.stacked(batch)
        if module.training and self.input_noise:
            noise = input_noise(tuple(some.x.shape), self.input_noise, generator)
            members = module.denoising(noise)
        return Objective.bound(self, members, some, progress, generator).mean(dim=-2)
