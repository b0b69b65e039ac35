"""Logistic regression on a few anomalies and many normal rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["logistic"]

#: Precision of the weights' and of the intercept's prior: of 0.01 to 1 for the weights this one
#: gained most on 17 tables of ADBench, and the intercept is nearly free.
WEIGHT_PENALTY, INTERCEPT_PENALTY = 0.05, 0.01

#: Anomalies that all normal rows together weigh as much as, at least: with one label the prior
#: then decides, and its direction is that from the mean of normal rows to the label.
LEAST_WEIGHT = 3

#: Steps of the quasi-Newton method.
MAX_STEPS = 60


def logistic(anomalies: Tensor, normal: Tensor) -> Tensor:
    """Weights w (p,) of the log-odds g = w' f + b that features f are an anomaly's.

    They minimise sum ln(1 + e^-g) over n anomalies + max(n, 3) / N sum ln(1 + e^g) over N normal
    rows + 0.05/2 |w|² + 0.01/2 b², so that the normal rows weigh as much as the anomalies. By
    L-BFGS, from 0; nothing is drawn.

    Parameters
    ----------
    anomalies : Tensor of shape (n, p)
        Float64.
    normal : Tensor of shape (N, p)

    References
    ----------
    King & Zeng (2001), Logistic Regression in Rare Events Data, on weighting; Liu & Nocedal (1989),
    On the Limited Memory BFGS Method.

    Examples
    --------
    >>> up = torch.tensor([[1.0, 0.0]]).double()
    >>> logistic(up, -up) > 0
    tensor([ True, False])
    """
    n, p = anomalies.shape
    features = torch.cat([anomalies, -normal])
    signs = torch.cat([torch.ones(n), -torch.ones(len(normal))]).double()
    counts = torch.ones_like(signs)
    counts[n:] = max(n, LEAST_WEIGHT) / len(normal)
    found = torch.zeros(p + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [found],
        max_iter=MAX_STEPS,
        max_eval=2 * MAX_STEPS,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        """The loss, whose gradient is left with the weights."""
        w, b = found.detach()[:-1], found.detach()[-1]
        margin = features @ w + signs * b
        slope = -counts * torch.sigmoid(-margin)
        found.grad = torch.cat(
            [
                slope @ features + WEIGHT_PENALTY * w,
                ((slope * signs).sum() + INTERCEPT_PENALTY * b)[None],
            ]
        )
        penalty = WEIGHT_PENALTY * w.square().sum() + INTERCEPT_PENALTY * b.square()
        return (counts * functional.softplus(-margin)).sum() + penalty / 2

    optimiser.step(loss)  # type: ignore[no-untyped-call] # torch says no types
    return found.detach()[:-1].clone()
