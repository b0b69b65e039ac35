"""Anomaly scores of a trained model; higher is more anomalous. A new one is a line in `SCORES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from vae_anomaly.errors import ConfigError, closest
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model

__all__ = ["SCORES", "Score", "score_name"]


@dataclass(frozen=True)
class Score:
    """A score is fitted on held-out normal rows, and then judges.

    Attributes
    ----------
    fit : callable
        Module and normal rows -> tensors that the score needs, by name.
    score : callable
        Module, batch (n, d) and those tensors -> score (n,) and contributions (n, d), which sum to
        it; a missing entry contributes 0.
    """

    fit: Callable[[Model, Batch], dict[str, Tensor]]
    score: Callable[[Model, Batch, Mapping[str, Tensor]], tuple[Tensor, Tensor]]


def score_name(name: str, default: str = "reconstruction") -> str:
    """The score that a name stands for; "auto" is the default of the member of the family.

    Raises
    ------
    ConfigError
        There is no such score.

    Examples
    --------
    >>> score_name("auto")
    'reconstruction'
    """
    resolved = default if name == "auto" else name
    if resolved not in SCORES:
        known = ("auto", *SCORES)
        raise ConfigError(f"anomaly score '{name}' is not known; {closest(name, known)}")
    return resolved


def _nothing(module: Model, normal: Batch) -> dict[str, Tensor]:
    return {}


def _reconstruction(
    module: Model, batch: Batch, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Deviance at the latents that stand for the row, of its observed entries.

    Of a Gaussian likelihood it is the squared error over the learned variance.
    """
    p = module.likelihood(module.embed(batch), batch.context)
    contributions = p.deviance(batch.x) * batch.observed
    return contributions.sum(dim=-1), contributions


SCORES: Mapping[str, Score] = {"reconstruction": Score(_nothing, _reconstruction)}
