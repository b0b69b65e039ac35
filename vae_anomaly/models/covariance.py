"""Covariance of rows with gaps, shrunk as far as held-out rows ask for."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SHRINKAGES", "shrunk_covariance"]

#: Shares of the identity in a covariance, one of which is chosen by held-out likelihood.
SHRINKAGES = (0.0, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)

#: Blocks of rows that are held out once each; of wider rows only the last, to save the others'
#: eigenvectors.
FOLDS, WIDE = 5, 300

#: A smaller eigenvalue of a covariance of columns with variance 1 is rounding, so that its inverse
#: means nothing.
SINGULAR = 1e-12


def shrunk_covariance(values: Tensor, observed: Tensor) -> Tensor:
    """Covariance about 0 of the entries observed in pairs, shrunk to the identity, (k, k) float64.

    (1 - a) S + a I, where a is the member of `SHRINKAGES` under which held-out blocks of rows are
    likeliest as draws of a Gaussian. Blocks are unbroken, as neighbours in time are alike.

    Parameters
    ----------
    values : Tensor of shape (n, k)
        Centred, in units in which the variances are near 1; float64.
    observed : Tensor of shape (n, k)
        Whether the entry was measured.

    References
    ----------
    Warton (2008), Penalized Normal Likelihood and Ridge Regularization of Correlation and
    Covariance Matrices, JASA 103.

    Examples
    --------
    >>> x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0)).double()
    >>> copies = x.expand(50, 3) / x.square().mean().sqrt()  # whose covariance has no inverse
    >>> float(torch.linalg.eigvalsh(shrunk_covariance(copies, copies < torch.inf))[0]) > 0
    True
    """
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
