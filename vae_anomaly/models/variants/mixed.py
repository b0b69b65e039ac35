"""The VAE of tables with numbers, binary and categorical columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vae_anomaly.models.mixed import MixedDecoder, MixedEncoder, hide_codes
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, setting
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import VAE, Model

__all__ = ["Mixed"]


@dataclass(frozen=True, kw_only=True)
class Mixed(Architecture, Objective):
    """VAE in which a number has a Gaussian likelihood and a level a probability.

    A binary sensor has two levels, a categorical one those of the contract. Without either it is
    the `Gaussian` member. What a level contributes to the score is -2 log p of it, as a number's
    squared error is -2 log p but for a constant. The settings are those of `Architecture` and
    `Objective`, and:

    Parameters
    ----------
    noise : float or "learned"
        Standard deviation of a number's likelihood, in standard deviations of the sensor.
    hide : float
        Share of the levels that the encoder is not shown at a step of training, so that it learns
        to read the state from the other sensors too: a valve that it has only ever copied would be
        its own witness, and its neighbours be blamed. The bound stays a bound, as it is for any q.

    References
    ----------
    Nazabal, Olmos, Ghahramani & Valera (2020), Handling Incomplete Heterogeneous Data using VAEs;
    without its mixture prior and its hierarchical decoder.

    Examples
    --------
    >>> Mixed(hidden=(32,)).build(Shape(n_sensors=9, levels=(0,) * 7 + (2, 3))).noise_dim
    4
    """

    knows_levels: ClassVar[bool] = True

    noise: float | Literal["learned"] = setting(
        "learned", "'learned' or above 0", lambda noise: noise == "learned" or noise > 0
    )
    hide: float = setting(0.2, "a share from 0 to below 1", lambda share: 0 <= share < 1)

    def build(self, shape: Shape) -> VAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes = self.sizes(shape)
        noise = None if self.noise == "learned" else self.noise
        encoder, decoder = MixedEncoder(sizes), MixedDecoder(sizes, noise=noise)
        return VAE(encoder, decoder, PRIORS[self.prior](sizes), missing=self.missing)

    def bound(
        self, module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """As the `Objective` says, with some levels hidden from the encoder in training."""
        if module.training and self.hide:
            assert isinstance(module.decoder, MixedDecoder)  # built above
            x = hide_codes(batch.x, module.decoder.places, self.hide, generator)
            batch = batch._replace(x=x)
        return super().bound(module, batch, progress, generator)
