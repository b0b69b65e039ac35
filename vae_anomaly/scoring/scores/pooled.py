"""The networks' density pooled with that of a linear VAE, whose optimum has a closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vae_anomaly.models.layers import product
from vae_anomaly.models.standardize import Batch, spaced
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.baselines import gaussian
from vae_anomaly.scoring.scores import bounds, residual

__all__ = ["fit", "linear_precision", "pooled_density"]

#: Least variance beside the principal axes, as a share of the mean variance: columns that are sums
#: of others leave rounding there, whose inverse would outweigh all else.
LEAST_VARIANCE = 1e-3


@torch.no_grad()
def fit(module: Model, normal: Batch, train: Batch) -> dict[str, Tensor]:
    """What context explains of rows, (D, c), and the precision of what is left, (D, D).

    Of more than 1,000 columns, context counted, the precision is that of `residual.of_axes`.
    """
    some = spaced(train, residual.TRAINING_ROWS)  # each gap of these is solved for
    if train.x.shape[-1] + train.context.shape[-1] > residual.WIDEST:
        by_context = _regression(some)
        of_rows = residual.of_axes(_left(some, by_context) * some.observed)
    else:
        tensors = gaussian.fit_gaussian(train)
        by_context = tensors["by_context"]
        of_rows = {"residual_precision": linear_precision(gaussian.residual(some, tensors))}
    mean = torch.zeros(train.x.shape[-1], dtype=torch.float64)  # rows are standardised
    return {
        **bounds.no_noise(module, normal, train),
        "by_context": by_context,
        "residual_mean": mean,
        **of_rows,
    }


def linear_precision(r: Tensor) -> Tensor:
    """Precision (D, D) of rows (n, D) under the linear VAE that makes them likeliest.

    x = W z + noise of variance s: s is the mean of the eigenvalues of the covariance beyond the
    first k, for which W W' + s I keeps its eigenvalue; k is the width of a network's latent.

    References
    ----------
    Tipping & Bishop (1999), Probabilistic Principal Component Analysis. Lucas, Tucker, Grosse &
    Norouzi (2019), Don't Blame the ELBO! A Linear VAE Perspective on Posterior Collapse.

    Examples
    --------
    >>> rows = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> linear_precision(rows.double())
    tensor([[0.2222, 0.0000],
            [0.0000, 2.0000]], dtype=torch.float64)
    """
    width = r.shape[-1]
    values, vectors = torch.linalg.eigh(r.T @ r / len(r))  # ascending
    n_latents = min(round(math.sqrt(width)) + 1, width - 1)
    inside, axes = values[width - n_latents :], vectors[:, width - n_latents :]
    least = LEAST_VARIANCE * values.mean()
    rest = torch.maximum(values[: width - n_latents].mean(), least)
    rest = torch.where(rest > 0, rest, 1.0)
    drawn_in = 1 / rest - 1 / inside.clamp(min=float(rest))
    precision: Tensor = torch.eye(width, dtype=r.dtype) / rest - (axes * drawn_in) @ axes.T
    return (precision + precision.T) / 2


def pooled_density(
    module: Model, batch: Batch, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """`density`, and the nats by which a linear VAE finds the row further than its mean.

    The linear VAE is one member more beside the M networks, whose density counts M times; in units
    in which it counts once, the linear one weighs 1 / M. So it is the logarithmic pool of M + 1
    densities, up to its scale and a constant. Networks learn what bends and wiggles differently
    each time; the linear member is the same each time, and grows by the square away from all rows.

    Contributions are those of `density` and r (P r) / 2 of the linear member, for r the row less
    what context explains. With gaps this is the distance of the observed entries.

    References
    ----------
    Genest & Zidek (1986), Combining Probability Distributions: A Critique and an Annotated
    Bibliography, Statistical Science 1: logarithmic opinion pools.
    """
    score, contributions = bounds.density(module, batch, tensors)
    distances = residual.distance(_left(batch, tensors["by_context"]), batch, tensors)
    linear = (distances / (2 * module.n_members)).float()
    return score + linear.sum(dim=-1), contributions + linear


def _left(batch: Batch, by_context: Tensor) -> Tensor:
    """Rows (n, D) less what their context explains; float64."""
    return batch.x.double() - product(batch.context.double(), by_context)


def _regression(batch: Batch) -> Tensor:
    """What context explains of rows by least squares, (D, c); a missing entry counts as 0."""
    context = batch.context.double()
    found: Tensor = (torch.linalg.pinv(context) @ (batch.x * batch.observed).double()).T
    return found
