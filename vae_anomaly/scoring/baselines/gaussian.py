"""The Gaussian of normal rows that every baseline starts from: it fills gaps and takes context off.

All of it is in float64, on standardised windows (n, D) beside their context (n, c).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from vae_anomaly.errors import InputError
from vae_anomaly.models.layers import LANES
from vae_anomaly.models.standardize import Batch

__all__ = [
    "SHRINKAGES",
    "conditional",
    "expected_by_form",
    "fit_gaussian",
    "form_contributions",
    "joined",
    "product",
    "residual",
    "shrunk_covariance",
]

#: Shares of the identity in a covariance, one of which is chosen by held-out likelihood.
SHRINKAGES = (0.0, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)
#: Blocks of rows that are held out once each; of wider rows only the last, to save the others'
#: eigenvectors.
FOLDS, WIDE = 5, 300
#: A smaller eigenvalue of a correlation matrix is rounding, so that its inverse means nothing.
SINGULAR = 1e-12
#: Columns of a covariance at most: its eigenvectors take seconds, and ten times as long at twice.
WIDEST = 1500
#: Numbers that are held at once where gaps are filled: 32 MB.
NUMBERS_AT_ONCE = 2**22


def fit_gaussian(batch: Batch) -> dict[str, Tensor]:
    """Precision (D + c, D + c) of rows and context, and what context explains of rows, (D, c).

    The covariance is (1 - a) S + a I, S that of the entries observed in pairs; a is the member of
    `SHRINKAGES` under which held-out blocks of rows are likeliest.

    References
    ----------
    Warton (2008), Penalized Normal Likelihood and Ridge Regularization of Correlation and
    Covariance Matrices, JASA 103, for the choice by held-out likelihood.
    """
    return conditional(shrunk_covariance(*joined(batch)), batch.x.shape[-1])


def conditional(covariance: Tensor, width: int) -> dict[str, Tensor]:
    """The tensors of a covariance whose first columns are those of the rows, the rest context."""
    precision = torch.linalg.inv(covariance)
    precision = (precision + precision.T) / 2
    rows, context = slice(None, width), slice(width, None)
    by_context = -torch.linalg.solve(precision[rows, rows], precision[rows, context])
    return {"precision": precision, "by_context": by_context}


def joined(batch: Batch) -> tuple[Tensor, Tensor]:
    """Rows beside their context (n, D + c), and which entries are observed: of context all."""
    values = torch.cat([batch.x, batch.context], dim=-1).double()
    always = torch.ones_like(batch.context, dtype=torch.bool)
    return values, torch.cat([batch.observed, always], dim=-1)


def residual(batch: Batch, tensors: Mapping[str, Tensor]) -> Tensor:
    """Rows (n, D) less what their context explains; gaps filled by their conditional mean.

    References
    ----------
    Arteaga & Ferrer (2002), Dealing with Missing Data in MSPC, J. Chemometrics 16: known data
    regression.
    """
    values = _filled(*joined(batch), tensors["precision"])
    return values[:, : batch.x.shape[-1]] - product(batch.context.double(), tensors["by_context"])


def _filled(values: Tensor, observed: Tensor, precision: Tensor) -> Tensor:
    """Rows whose missing entries are their mean given the observed ones.

    The sums are over one row each, so that its bits do not depend on the rows beside it.
    """
    with_gaps = (~observed).any(dim=-1).nonzero().squeeze(-1)
    if not len(with_gaps):
        return values
    values = values.clone()
    patterns, which = torch.unique(observed[with_gaps], dim=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if not pattern.any():
            continue  # nothing is known: the mean, which is 0
        missing, known = (~pattern).nonzero().squeeze(-1), pattern.nonzero().squeeze(-1)
        weights = -torch.linalg.solve(
            precision[missing[:, None], missing], precision[missing[:, None], known]
        )
        at_once = max(1, NUMBERS_AT_ONCE // weights.numel())
        for rows in torch.split(with_gaps[which == number], at_once):
            own = values[rows[:, None], known]  # (m, known)
            values[rows[:, None], missing] = (own[:, None, :] * weights).sum(dim=-1)
    return values


def product(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows (n, k) by a weight (m, k), as (n, m); a row's bits do not depend on its place."""
    n_outputs = len(weight)
    padded = functional.pad(weight, (0, 0, 0, -n_outputs % LANES))
    return functional.linear(rows, padded)[:, :n_outputs]


def form_contributions(r: Tensor, observed: Tensor, form: Tensor) -> Tensor:
    """(n, D) shares z * (M z) of a quadratic form of each row; a missing entry has none."""
    return r * product(r, form) * observed


def expected_by_form(batch: Batch, tensors: Mapping[str, Tensor], form: Tensor) -> Tensor:
    """(n, D) where a quadratic form is least in each entry, given the others of its row."""
    r = residual(batch, tensors)
    curvature = form.diagonal()
    steps = torch.where(curvature > 0, product(r, form) / curvature, 0.0)
    return r - steps + product(batch.context.double(), tensors["by_context"])


def shrunk_covariance(values: Tensor, observed: Tensor) -> Tensor:
    """(k, k) covariance about 0 of the entries observed in pairs, shrunk to the identity.

    Raises
    ------
    InputError
        There are too many columns.
    """
    if values.shape[-1] > WIDEST:
        raise InputError(
            f"a baseline would learn the covariance of {values.shape[-1]:,} columns (sensors times "
            f"rows of a window, and context); at most {WIDEST:,} are possible: shorten the window"
        )
    blocks = [
        _moments(*block) for block in zip(_in_blocks(values), _in_blocks(observed), strict=True)
    ]
    products, counts = (torch.stack(parts).sum(dim=0) for parts in zip(*blocks, strict=True))
    whole = _covariance(products, counts)
    likelihoods = torch.zeros(len(SHRINKAGES), dtype=torch.float64)
    for own_products, own_counts in blocks if len(whole) <= WIDE else blocks[-1:]:
        rest = _covariance(products - own_products, counts - own_counts)
        own = _covariance(own_products, own_counts)
        likelihoods += _log_likelihoods(own, float(own_counts.diagonal().max()), rest)
    shrinkages = torch.tensor(SHRINKAGES, dtype=torch.float64)
    lowest = float(torch.linalg.eigvalsh(whole)[0])
    likelihoods[(1 - shrinkages) * lowest + shrinkages <= SINGULAR] = -torch.inf
    if likelihoods.isinf().all():  # many gaps: the pairs do not fit together
        shrinkage = max(SHRINKAGES[-1], -lowest / (1 - lowest) + SHRINKAGES[-1])
    else:
        shrinkage = SHRINKAGES[int(likelihoods.argmax())]
    eye = torch.eye(len(whole), dtype=torch.float64)
    return (1 - shrinkage) * whole + shrinkage * eye


def _in_blocks(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.tensor_split(min(FOLDS, len(rows)))


def _moments(values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of products of the entries that are observed in pairs, and how many there are."""
    seen = observed.double()
    values = values * seen
    return values.T @ values, seen.T @ seen


def _covariance(products: Tensor, counts: Tensor) -> Tensor:
    """Covariance about 0, where the training means are; 1 of a column that never varies."""
    found = products / counts.clamp(min=1)
    variance = found.diagonal()
    return found + torch.diag((variance == 0).double())


def _log_likelihoods(own: Tensor, n_rows: float, rest: Tensor) -> Tensor:
    """Gaussian log-likelihood of held-out rows at each shrinkage of the rest's covariance."""
    values, vectors = torch.linalg.eigh(rest)
    along = ((own @ vectors) * vectors).sum(dim=0)
    found = []
    for shrinkage in SHRINKAGES:
        spread = (1 - shrinkage) * values + shrinkage
        if spread[0] <= SINGULAR:
            found.append(torch.tensor(-torch.inf, dtype=torch.float64))
        else:
            found.append(-0.5 * n_rows * (spread.log() + along / spread).sum())
    return torch.stack(found)
