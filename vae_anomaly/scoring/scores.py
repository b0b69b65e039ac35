"""Anomaly scores of a trained model; higher is more anomalous. A new one is a line in `SCORES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Bernoulli

from vae_anomaly.errors import ConfigError, closest
from vae_anomaly.models.classes import ClassVAE
from vae_anomaly.models.likelihoods import Likelihood, standard_normal
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model

__all__ = ["SCORES", "Score", "score_name", "spread"]


def _exact(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """The error of a score that is no estimate, (n,): none."""
    return torch.zeros(len(batch.x))


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
    error : callable
        Module, batch (n, d) and those tensors -> standard error (n,) of a score that is estimated
        from samples; 0 where none are drawn.
    """

    fit: Callable[[Model, Batch], dict[str, Tensor]]
    score: Callable[[Model, Batch, Mapping[str, Tensor]], tuple[Tensor, Tensor]]
    error: Callable[[Model, Batch, Mapping[str, Tensor]], Tensor] = _exact


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
    contributions = p.observed_deviance(batch.x, batch.observed)
    return contributions.sum(dim=-1), contributions


#: Samples of the latents that stand for log p(x | c) of a row.
SAMPLES = 16


def fixed_noise(module: Model, normal: Batch, *, n_samples: int = SAMPLES) -> dict[str, Tensor]:
    """The one noise (s, 1, noise_dim) that the latents of all rows are samples by.

    It travels in the package, so that a row has the same score wherever it is judged.
    """
    shape = (n_samples, 1, module.noise_dim)
    return {"noise": standard_normal(shape, torch.Generator().manual_seed(0))}


def _importance(
    module: Model, batch: Batch, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Importance-weighted -log p(x | c) of the observed entries, in nats (Burda et al. 2016).

    An entry contributes half its deviance at the latents that stand for the row. The rest, which is
    the normalisers of the likelihood and what the latents cost, says nothing of one entry and is
    shared evenly by the observed ones. A row without a value has probability one: 0.
    """
    log_weights = module.log_weights(batch, tensors["noise"])  # (s, n)
    p = module.likelihood(module.embed(batch), batch.context)
    nats = math.log(len(log_weights)) - log_weights.logsumexp(dim=0) + _of_no_coins(p, batch)
    own = p.observed_deviance(batch.x, batch.observed) / 2
    share = (nats - own.sum(dim=-1)) / batch.observed.sum(dim=-1).clamp(min=1)
    contributions = own + share[:, None] * batch.observed
    return torch.where(batch.observed.any(dim=-1), nats, 0.0), contributions


def _of_no_coins(p: Likelihood, batch: Batch) -> Tensor:
    """What a Bernoulli likelihood owes to values that are not 0 or 1, (n,) nats; others nothing.

    Of values between, its nats hold their own entropy, and of those beyond, no more than of 0 or 1:
    without correction a sensor that moves to the edge of its range would look more normal.
    """
    if not isinstance(p, Bernoulli):
        return torch.zeros(len(batch.x))
    best: Tensor = p.log_prob(batch.x) + p.deviance(batch.x) / 2
    return (best * batch.observed).sum(dim=-1)


def _importance_error(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Standard error of the logarithm of the mean weight by the delta method, (n,) nats.

    sd(w) / (sqrt(s) mean(w)) of the s weights w of a row. The score is too high by about half its
    square in the mean. Both say little where one weight outweighs all others: then the error comes
    near its largest, 1, and the samples are too few.
    """
    log_weights = module.log_weights(batch, tensors["noise"])  # (s, n)
    weights = (log_weights - log_weights.amax(dim=0)).exp()
    error = weights.std(dim=0) / (math.sqrt(len(weights)) * weights.mean(dim=0))
    return torch.where(batch.observed.any(dim=-1), error, 0.0)


#: What labels may add to a score, in standard deviations of normal rows: twice what the evidence
#: exceeds that of the most anomalous fifth of them by, and no more than 20. So labels that cover
#: only some kinds, or are wrong, can lift but a fifth of the normal rows; of a prototype's forms of
#: the sum on 17 tables of ADBench it was the one that lost least on kinds without a label.
LIFTED, WEIGHT, MOST = 0.2, 2.0, 10.0


@torch.no_grad()
def _fit_labels(module: Model, normal: Batch) -> dict[str, Tensor]:
    """Spread of the reconstruction score, and level and spread of the evidence for an anomaly."""
    score, _ = _reconstruction(_of_normal(module), normal, {})
    level, scale = torch.tensor(torch.inf), torch.tensor(1.0)  # no evidence reaches that
    if isinstance(module, ClassVAE) and module.has_kinds:
        evidence = module.evidence(normal)
        level, scale = torch.quantile(evidence, 1 - LIFTED), spread(evidence)
    return {"scale": spread(score), "evidence_level": level, "evidence_spread": scale}


def _labels(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The reconstruction score in its standard deviations, and what labels add to it.

    What they add is shared among the sensors as the reconstruction score is: labels say how
    anomalous a row is, and the reconstruction where.
    """
    score, parts = _reconstruction(_of_normal(module), batch, {})
    added = torch.zeros_like(score)
    if isinstance(module, ClassVAE) and module.has_kinds:
        above = (module.evidence(batch) - tensors["evidence_level"]) / tensors["evidence_spread"]
        added = WEIGHT * above.clamp(0.0, MOST)
    share = parts / score.clamp(min=torch.finfo(score.dtype).tiny)[:, None]
    contributions = parts / tensors["scale"] + added[:, None] * share
    return contributions.sum(dim=-1), contributions


def _of_normal(module: Model) -> Model:
    """The part of a model that says how far a row is from normal."""
    return module.normal if isinstance(module, ClassVAE) else module


def spread(values: Tensor) -> Tensor:
    """Standard deviation, or 1 where nothing varies."""
    found = values.std(correction=0)
    return torch.where(found > 0, found, 1.0)


SCORES: Mapping[str, Score] = {
    "reconstruction": Score(_nothing, _reconstruction),
    "labels": Score(_fit_labels, _labels),
    "importance": Score(fixed_noise, _importance, _importance_error),
}
