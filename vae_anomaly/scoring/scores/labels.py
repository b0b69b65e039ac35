"""The score of members that learn from labels: the reconstruction's, and what labels add to it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.models.classes import ClassVAE
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.scores.reconstruction import reconstruction
from vae_anomaly.scoring.scores.score import spread

__all__ = ["MOST", "WEIGHT", "fit", "labels"]

#: What labels may add to a score, in standard deviations of normal rows: twice what the evidence
#: exceeds that of the most anomalous fifth of them by, and no more than 20. So labels that cover
#: only some kinds, or are wrong, can lift but a fifth of the normal rows; of a prototype's forms of
#: the sum on 17 tables of ADBench it was the one that lost least on kinds without a label.
LIFTED, WEIGHT, MOST = 0.2, 2.0, 10.0


@torch.no_grad()
def fit(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """Spread of the reconstruction score, and level and spread of the evidence for an anomaly."""
    score, _ = reconstruction(_of_normal(module), normal, {})
    level, scale = torch.tensor(torch.inf), torch.tensor(1.0)  # no evidence reaches that
    if isinstance(module, ClassVAE) and module.has_kinds:
        evidence = module.evidence(normal)
        level, scale = torch.quantile(evidence, 1 - LIFTED), spread(evidence)
    return {"scale": spread(score), "evidence_level": level, "evidence_spread": scale}


def labels(module: Model, batch: Batch, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The reconstruction score in its standard deviations, and what labels add to it.

    What they add is shared among the sensors as the reconstruction score is: labels say how
    anomalous a row is, and the reconstruction where.
    """
    score, parts = reconstruction(_of_normal(module), batch, {})
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
