"""Settings that most members of the family share; a member adds its own by `setting`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.likelihoods import Noise, standard_normal
from vae_anomaly.models.networks import Backbone, Shape, Sizes
from vae_anomaly.models.priors import Prior
from vae_anomaly.models.standardize import Batch, Scaling
from vae_anomaly.models.vae import GaussianLatents, Model, elbo

__all__ = ["Architecture", "Objective", "noise_setting", "setting"]

T = TypeVar("T")


def setting(default: T, allowed: str, holds: Callable[[T], bool]) -> T:
    """A field of a member's settings: its default, and what a value must fulfil.

    Examples
    --------
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Toy(Architecture):
    ...     depth: int = setting(2, "at least 1", lambda depth: depth > 0)
    >>> Toy(depth=0)
    Traceback (most recent call last):
    ...
    vae_anomaly.errors.ConfigError: Toy: depth=0 is not allowed; give at least 1
    """
    rule: T = field(default=default, metadata={"allowed": allowed, "holds": holds})
    return rule


def noise_setting() -> Noise:
    """The field of members whose likelihood has a scale."""
    words = ("learned", "conditional")
    return setting(
        "learned",
        "'learned', 'conditional' or above 0",
        lambda noise: noise in words if isinstance(noise, str) else noise > 0,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Dataclass whose fields may carry a rule, see `setting`."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if "holds" in entry.metadata and not entry.metadata["holds"](value):
                raise ConfigError(
                    f"{type(self).__name__}: {entry.name}={value!r} is not allowed; "
                    f"give {entry.metadata['allowed']}"
                )


@dataclass(frozen=True, kw_only=True)
class Architecture(Settings):
    """How a member's networks are built, and what they are fed.

    Parameters
    ----------
    latent_dim : int or "auto"
        Width k of the latent; "auto" is round(sqrt(D)) + 1 for D = sensors times window.
    hidden : tuple of int
        Widths of the encoder's hidden layers; the decoder has them in reverse. ``()`` is a linear
        model.
    backbone : {"mlp", "temporal", "image"}
        Perceptrons; convolutions over the rows of a window; convolutions over an image.
    image : tuple of int
        Channels, height and width of the image that a row is, for backbone "image".
    scaling : "standard", "range" or tuple of float
        What the networks see of a sensor: mean 0 and standard deviation 1; its training minimum as
        0 and its maximum as 1; or (low, high), the same two values for all sensors, as 0 and 1.
    """

    learns_labels: ClassVar[bool] = False
    knows_levels: ClassVar[bool] = False
    default_score: ClassVar[str] = "reconstruction"

    latent_dim: int | Literal["auto"] = setting(
        "auto", "'auto' or at least 1", lambda dim: dim == "auto" or dim > 0
    )
    hidden: tuple[int, ...] = setting(
        (64, 64), "widths of at least 1", lambda widths: all(width > 0 for width in widths)
    )
    backbone: Backbone = "mlp"
    image: tuple[int, ...] = setting(
        (),
        "(channels, height, width)",
        lambda sizes: len(sizes) in (0, 3) and min(sizes, default=1) > 0,
    )
    scaling: Scaling = setting(
        "standard",
        "'standard', 'range' or (low, high)",
        lambda scaling: isinstance(scaling, str) or scaling[0] < scaling[1],
    )

    def prepare(self, module: Model, batch: Batch) -> None:
        """Nothing: the networks see rows as they are."""

    def finish(self, module: Model, batch: Batch, generator: torch.Generator) -> None:
        """Nothing: the prior needs no second stage."""

    @property
    def table_score(self) -> str:
        """The score that "auto" stands for where rows are a table; of images, as of series."""
        is_own = self.default_score != "reconstruction" or self.backbone == "image"
        return self.default_score if is_own else "fused"

    @property
    def missing(self) -> float:
        """What an encoder sees of a missing value: the middle of what it is fed."""
        return 0.0 if self.scaling == "standard" else 0.5

    def sizes(self, shape: Shape) -> Sizes:
        """Widths of the networks for rows of a shape."""
        auto = round(math.sqrt(shape.n_features)) + 1
        latent_dim = auto if self.latent_dim == "auto" else self.latent_dim
        return Sizes(shape, latent_dim, self.hidden, self.backbone, self.image)


@dataclass(frozen=True, kw_only=True)
class Objective(Settings):
    """What training maximises, for members with Gaussian latents.

    Parameters
    ----------
    prior : {"standard", "conditional"}
        N(0, I), or a Gaussian that depends on the context (Sohn, Lee & Yan 2015).
    beta : float
        Weight of the divergence (Higgins et al. 2017); only 1 gives a bound on log p(x | c).
    warmup : float
        Share of the steps, or of each cycle, over which beta rises from 0, against an early
        collapse of the latent (Bowman et al. 2016).
    cycles : int
        How often it rises (Fu et al. 2019, Cyclical Annealing Schedule).
    free_bits : float
        Nats a latent that cost nothing (Kingma et al. 2016, Inverse Autoregressive Flow, C.8).
    n_samples : int
        Above 1, the importance-weighted bound of so many samples (Burda et al. 2016).
    """

    prior: Prior = "standard"
    beta: float = setting(1.0, "at least 0", lambda beta: beta >= 0)
    warmup: float = setting(0.2, "a share of the steps, from 0 to 1", lambda share: 0 <= share <= 1)
    cycles: int = setting(1, "at least 1", lambda cycles: cycles >= 1)
    free_bits: float = setting(0.0, "at least 0", lambda nats: nats >= 0)
    n_samples: int = setting(1, "at least 1", lambda samples: samples >= 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.free_bits and self.n_samples > 1:
            raise ConfigError(
                f"{type(self).__name__}: free_bits={self.free_bits} with n_samples="
                f"{self.n_samples}; the importance-weighted bound has no divergence that a part of "
                "could be free: leave free_bits at 0, or n_samples at 1"
            )

    def weight(self, progress: float) -> float:
        """Weight of the divergence at a share of the steps.

        Examples
        --------
        >>> objective = Objective(beta=4.0, warmup=0.5)
        >>> [objective.weight(progress) for progress in (0, 0.25, 0.5, 1)]
        [0.0, 2.0, 4.0, 4.0]
        >>> cyclical = Objective(cycles=2, warmup=0.5)
        >>> [cyclical.weight(progress) for progress in (0, 0.125, 0.5, 0.625)]
        [0.0, 0.5, 0.0, 0.5]
        """
        if progress >= 1 or not self.warmup:
            return self.beta
        within = progress * self.cycles % 1
        return self.beta * min(1.0, within / self.warmup)

    @property
    def settled(self) -> float:
        """Share of the steps from which on the weight stays as it is.

        Examples
        --------
        >>> Objective(warmup=0.5).settled, Objective(cycles=2, warmup=0.5).settled
        (0.5, 0.75)
        """
        return (self.cycles - 1 + self.warmup) / self.cycles if self.warmup else 0.0

    @property
    def maximises_elbo(self) -> bool:
        """Whether training maximises the evidence lower bound itself, free bits apart."""
        return self.beta == 1 and self.n_samples == 1

    def bound(
        self, module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """Bound of a batch, (*, n) nats, at a share of the steps; free bits in training alone."""
        assert isinstance(module, GaussianLatents)  # what the members with these settings build
        weight = self.weight(progress)
        if self.n_samples > 1:
            shape = (self.n_samples, *batch.x.shape[:-1], module.noise_dim)
            log_weights = module.log_weights(batch, standard_normal(shape, generator), weight)
            return log_weights.logsumexp(dim=0) - math.log(self.n_samples)
        free_bits = self.free_bits if module.training else 0.0
        return elbo(module, batch, generator=generator, beta=weight, free_bits=free_bits)
