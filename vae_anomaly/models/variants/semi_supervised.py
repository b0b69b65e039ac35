"""Partial labels: kinds of anomalies of which a few rows are labelled, beside normal rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vae_anomaly.models.classes import ClassVAE
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.settings import Architecture, Objective, setting
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model

__all__ = ["SemiSupervised"]


@dataclass(frozen=True, kw_only=True)
class SemiSupervised(Architecture, Objective):
    """VAE with classes, normal and kinds of anomalies, of which some rows are labelled (M2).

    A row labelled 0 is normal, one with a label above 0 a kind of anomaly, and one with -1, or
    with a label that no training row bears, may be any: its bound is the exact sum over the
    classes. Without labelled anomalies it is the Gaussian VAE.

    Parameters
    ----------
    latent_dim, hidden, backbone, image, scaling
        As of `Architecture`.
    prior, beta, warmup, cycles, free_bits, n_samples
        As of `Objective`.
    alpha : float
        Weight of log q(y | x, c) of the labelled rows in training, in nats a row: the classes
        share it alike, however rare they are.
    least_share : float
        Least prior probability of a class.

    References
    ----------
    Kingma, Rezende, Mohamed & Welling (2014), Semi-supervised Learning with Deep Generative Models:
    equations 6 to 9, where alpha is 0.1 and the labelled rows share it alike.

    Examples
    --------
    >>> model = SemiSupervised(hidden=(32,)).build(Shape(n_sensors=9, n_classes=2))
    >>> rows = Batch(torch.zeros(5, 9), torch.ones(5, 9, dtype=torch.bool), torch.zeros(5, 0),
    ...              torch.tensor([0, 0, -1, -1, 2]))
    >>> model.count(rows.label)
    >>> model.class_probabilities(rows).shape  # normal, 1 and 2, of which no row bears 1
    torch.Size([5, 3])
    """

    learns_labels: ClassVar[bool] = True
    default_score: ClassVar[str] = "labels"

    alpha: float = setting(10.0, "at least 0", lambda alpha: alpha >= 0)
    least_share: float = setting(0.01, "a share above 0 and below 1", lambda share: 0 < share < 1)

    def build(self, shape: Shape) -> ClassVAE:
        """Untrained modules; their weights come from torch's global generator."""
        sizes, share = self.sizes(shape), self.least_share
        return ClassVAE(sizes, prior=self.prior, least_share=share, missing=self.missing)

    def bound(
        self, module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """Bound on log p(x, y | c) of labelled rows and on log p(x | c) of others, (*, n) nats.

        In training the labelled rows have alpha log q(y | x, c) added to theirs.
        """
        assert isinstance(module, ClassVAE)  # what `build` makes
        normal = Objective.bound(self, module.normal, batch, progress, generator)
        if not module.n_faults:
            return normal
        if module.training:
            module.count(batch.label)
        rows = module.as_faults(batch)
        faults = Objective.bound(self, module.faults, rows, progress, generator)
        log_joint = torch.cat([normal[None], faults]).movedim(0, -1) + module.log_prior()
        log_q = module.log_classes(batch)  # (*, n, K')
        unlabelled = (log_q.exp() * (log_joint - log_q)).sum(dim=-1)
        is_class = batch.label[..., None] == module.known
        labelled = (is_class * log_joint).sum(dim=-1)
        if module.training:
            weights = self.alpha * module.class_weights()
            labelled = labelled + (is_class * weights * log_q).sum(dim=-1)
        return torch.where(is_class.any(dim=-1), labelled, unlabelled)
