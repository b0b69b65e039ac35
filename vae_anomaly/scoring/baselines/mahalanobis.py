"""Squared Mahalanobis distance of a row from the normal ones, given its context."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vae_anomaly.models.standardize import Batch
from vae_anomaly.scoring.baselines.gaussian import (
    expected_by_form,
    fit_gaussian,
    form_contributions,
    residual,
)
from vae_anomaly.scoring.baselines.training import Learnt

__all__ = ["contributions", "expected", "fit"]


def fit(learnt: Learnt, seed: int) -> dict[str, Tensor]:
    """Precision matrix of the rows, its shrinkage chosen by held-out likelihood.

    References
    ----------
    Mahalanobis (1936), On the generalised distance in statistics.
    """
    return fit_gaussian(learnt.batch)


def contributions(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Contributions z * (P z) of each entry; with gaps, the distance of what is observed.

    Where a gap is filled by its conditional mean, P z is 0 there, and the sum over the others is
    the distance under their own covariance.
    """
    width = batch.x.shape[-1]
    precision = tensors["precision"][:width, :width]
    return form_contributions(residual(batch, tensors), batch.observed, precision)


def expected(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Mean of each entry given the others of its row and the context."""
    width = batch.x.shape[-1]
    return expected_by_form(batch, tensors, tensors["precision"][:width, :width])
