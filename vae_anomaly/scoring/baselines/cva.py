"""Canonical variate analysis: what the last rows hold that does not carry on into the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.models.standardize import Batch
from vae_anomaly.scoring.baselines.gaussian import (
    conditional,
    expected_by_form,
    form_contributions,
    residual,
    shrunk,
)
from vae_anomaly.scoring.baselines.training import Learnt

__all__ = ["AHEAD", "LAGS", "contributions", "expected", "fit"]

#: Rows of the past, the row itself included, and of the future (Russell, Chiang & Braatz 2000
#: choose 3 of either for the Tennessee Eastman process).
LAGS = AHEAD = 3
#: Share of the sum of squared canonical correlations that the state holds.
KEPT_CORRELATION = 0.9


def fit(learnt: Learnt, seed: int) -> dict[str, Tensor]:
    """Directions of the past that say least of the future, scaled to variance 1.

    The state is the first canonical variates of past and future, as many as hold 90 % of the sum of
    squared canonical correlations; the others are what is judged.

    References
    ----------
    Russell, Chiang & Braatz (2000), Fault detection in industrial processes using canonical variate
    analysis and dynamic principal component analysis, Chemometrics and Intelligent Laboratory
    Systems 51: the statistic T² of the residual space.
    """
    batch, following = learnt
    width, ahead = batch.x.shape[-1], following.x.shape[-1]
    values = torch.cat([batch.x, batch.context, following.x], dim=-1).double()
    context = torch.ones_like(batch.context, dtype=torch.bool)
    observed = torch.cat([batch.observed, context, following.observed], dim=-1)
    covariance = shrunk(values, observed)
    n_known = values.shape[-1] - ahead
    tensors = conditional(covariance[:n_known, :n_known], width)
    past, future, cross = _given_context(covariance, width, n_known)
    whiten = _inverse_root(past)
    left, correlation, _ = torch.linalg.svd(whiten @ cross @ _inverse_root(future))
    residual_directions = left[:, _n_state(correlation, width) :]
    loading = residual_directions.T @ whiten  # (residual variates, D)
    return tensors | {"form": loading.T @ loading}


def contributions(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Contributions z * (M z) to T² of the residual space."""
    return form_contributions(residual(batch, tensors), batch.observed, tensors["form"])


def expected(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Where the score is least in each entry, given the others of its window."""
    return expected_by_form(batch, tensors, tensors["form"])


def _given_context(covariance: Tensor, width: int, n_known: int) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance of the past, of the future, and between them, what context explains taken off."""
    at = torch.arange(len(covariance))
    context = (at >= width) & (at < n_known)
    judged, explaining = (~context).nonzero().squeeze(-1), context.nonzero().squeeze(-1)
    between = covariance[judged[:, None], explaining]
    explained = between @ torch.linalg.solve(covariance[explaining[:, None], explaining], between.T)
    rest = covariance[judged[:, None], judged] - explained
    return rest[:width, :width], rest[width:, width:], rest[:width, width:]


def _inverse_root(covariance: Tensor) -> Tensor:
    """Symmetric inverse square root of a covariance that has one."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt()) @ vectors.T
    return root


def _n_state(correlation: Tensor, width: int) -> int:
    """Variates of the state; at least one direction is left to judge by."""
    share = correlation.square().cumsum(0) / correlation.square().sum()
    return min(int((share < KEPT_CORRELATION).sum()) + 1, width - 1)
