"""The Gaussian of normal rows that every baseline starts from: it fills gaps and takes context off.

All of it is in float64, on standardised windows (n, D) beside their context (n, c).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.errors import InputError
from vae_anomaly.models.covariance import shrunk_covariance
from vae_anomaly.models.gaps import fill_gaps
from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch

__all__ = [
    "conditional",
    "expected_by_form",
    "fit_gaussian",
    "form_contributions",
    "joined",
    "residual",
    "shrunk",
]

#: Columns of a covariance at most: its eigenvectors take seconds, and ten times as long at twice.
WIDEST = 1500


def fit_gaussian(batch: Batch) -> dict[str, Tensor]:
    """Precision (D + c, D + c) of rows and context, and what context explains of rows, (D, c).

    The covariance is that of `shrunk_covariance`.
    """
    return conditional(shrunk(*joined(batch)), batch.x.shape[-1])


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
    """Rows (n, D) less what their context explains; gaps filled by their conditional mean."""
    values = fill_gaps(*joined(batch), tensors["precision"]).r
    return values[:, : batch.x.shape[-1]] - product(batch.context.double(), tensors["by_context"])


def form_contributions(r: Tensor, observed: Tensor, form: Tensor) -> Tensor:
    """(n, D) shares z * (M z) of a quadratic form of each row; a missing entry has none."""
    return r * product(r, form) * observed


def expected_by_form(batch: Batch, tensors: Mapping[str, Tensor], form: Tensor) -> Tensor:
    """(n, D) where a quadratic form is least in each entry, given the others of its row."""
    r = residual(batch, tensors)
    curvature = form.diagonal()
    steps = torch.where(curvature > 0, product(r, form) / curvature, 0.0)
    return r - steps + product(batch.context.double(), tensors["by_context"])


def shrunk(values: Tensor, observed: Tensor) -> Tensor:
    """`shrunk_covariance` (k, k) of columns that are not too many.

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
    return shrunk_covariance(values, observed)
