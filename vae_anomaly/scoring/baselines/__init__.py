"""Simple detectors on the very same rows: what a model has to beat, or else it says so.

Each is a line in `BASELINES`, and can be packaged, registered and promoted as a model is:
``model: {baseline: mahalanobis}``. All of them judge standardised windows less what a linear
regression on their context explains, with gaps filled by their conditional mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from vae_anomaly.errors import ConfigError, InputError, closest
from vae_anomaly.models.likelihoods import Likelihood
from vae_anomaly.models.standardize import Batch, Scaling
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.baselines import changes, cva, forest, knn, mahalanobis, pca
from vae_anomaly.scoring.baselines.training import Learnt

__all__ = [
    "BASELINES",
    "CHANCE",
    "CHANGES",
    "SIMPLE",
    "Baseline",
    "Learnt",
    "NoLatents",
    "Simple",
    "baseline_of",
]


@dataclass(frozen=True)
class Baseline:
    """A detector without a network: fitted on normal rows, it judges others.

    Attributes
    ----------
    fit : callable
        Normal training rows and a seed -> tensors that the score needs, by name.
    contributions : callable
        Batch (n, D) and those tensors -> contributions (n, D), whose sum over the entries is the
        score (n,); a missing entry contributes 0.
    expected : callable
        Batch and tensors -> what each entry should read, (n, D), standardised.
    rows : int
        The row and those before it that it judges together at least.
    ahead : int
        Rows after each that it learns from; scoring needs none.
    """

    fit: Callable[[Learnt, int], dict[str, Tensor]]
    contributions: Callable[[Batch, Mapping[str, Tensor]], Tensor]
    expected: Callable[[Batch, Mapping[str, Tensor]], Tensor]
    rows: int = 1
    ahead: int = 0

    def window(self, asked: int) -> int:
        """Rows that it judges together where a plant asks for so many."""
        return max(asked, self.rows)


BASELINES: Mapping[str, Baseline] = {
    "mahalanobis": Baseline(mahalanobis.fit, mahalanobis.contributions, mahalanobis.expected),
    "pca": Baseline(pca.fit, pca.contributions, pca.expected),
    "cva": Baseline(cva.fit, cva.contributions, cva.expected, rows=cva.LAGS, ahead=cva.AHEAD),
    "knn": Baseline(knn.fit, knn.contributions, knn.expected),
    "isolation_forest": Baseline(forest.fit, forest.contributions, mahalanobis.expected),
}

#: What judges rows of which no sensor varied in training: by whether one has changed since. It is
#: no rival of a model and is not for a plant, of which such readings say that something is amiss.
CHANGES = "changes"

#: All that can stand in a scorer in place of a network.
SIMPLE: Mapping[str, Baseline] = {
    **BASELINES,
    CHANGES: Baseline(changes.fit, changes.contributions, changes.expected),
}

#: The row of a table that says what a score drawn at random reaches; nobody can deploy it.
CHANCE = "random"


def baseline_of(name: str) -> Baseline:
    """The baseline that a plant file names.

    Raises
    ------
    ConfigError
        There is no such baseline.

    Examples
    --------
    >>> baseline_of("cva").window(1)
    3
    """
    if name == CHANCE:
        raise ConfigError(f"baseline '{CHANCE}' is what chance achieves; it judges no plant")
    if name not in BASELINES:
        raise ConfigError(f"baseline '{name}' is not known; {closest(name, BASELINES)}")
    return BASELINES[name]


@dataclass(frozen=True)
class Simple:
    """What stands in a scorer in place of a member of the family: the name of a baseline."""

    name: str
    learns_labels: ClassVar[bool] = False
    knows_levels: ClassVar[bool] = False
    scaling: ClassVar[Scaling] = "standard"


class NoLatents(Model):
    """The module of a baseline: it has no latents, and says so whoever asks for them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.noise_dim = name, 0

    def embed(self, batch: Batch) -> Tensor:
        self.refuse()

    def spread(self, batch: Batch) -> Tensor:
        self.refuse()

    def likelihood(self, z: Tensor, context: Tensor) -> Likelihood:
        self.refuse()

    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        self.refuse()

    def log_weights(self, batch: Batch, noise: Tensor) -> Tensor:
        self.refuse()

    def refuse(self) -> NoReturn:
        """Say what a baseline cannot do, whoever asks."""
        raise InputError(
            f"the baseline '{self.name}' has no latents: it scores rows and names sensors, and "
            "cannot generate, augment, interpolate, traverse, embed or give a band; for those "
            "train a variant, model: {variant: gaussian}"
        )
