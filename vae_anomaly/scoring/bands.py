"""Where a model expects the sensors of a row to read, and how sure of it it is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import Model

__all__ = ["ExpectedBand", "expected_band", "posterior_points"]

#: Fewest pairs of points that the posterior is replaced by; fewer see too little of its curvature.
FEWEST_PAIRS = 8


class ExpectedBand(NamedTuple):
    """What a model expects of each sensor, (n, d), and its standard deviation."""

    expected: Tensor
    sigma: Tensor


def posterior_points(latent_dim: int) -> Tensor:
    """Points (2 m, k), m = max(8, k), of mean 0 and covariance 1, in pairs of either sign.

    They stand for a standard normal exactly up to the third degree: the points of a cubature rule,
    turned at random by a fixed seed. So a linear decoder's variance is no estimate but exact, which
    8 pairs of independent samples would miss by half.

    References
    ----------
    Arasaratnam & Haykin (2009), Cubature Kalman Filters.

    Examples
    --------
    >>> points = posterior_points(3)
    >>> (points.T @ points / len(points)).round(decimals=3).abs()
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    m = max(FEWEST_PAIRS, latent_dim)
    turned = torch.randn((m, latent_dim), generator=torch.Generator().manual_seed(0))
    orthogonal: Tensor = torch.linalg.qr(turned.double()).Q  # (m, k)
    points = (orthogonal * m**0.5).float()
    return torch.cat([points, -points])


@torch.no_grad()
def expected_band(module: Model, batch: Batch) -> ExpectedBand:
    """Mean and standard deviation of p(x* | x, c), standardised, (n, D) both.

    By the law of total variance: that of the likelihood at the latents that stand for the row, and
    of its mean over their posterior q(z | x, c). The latter is taken at points that are the same
    for all rows; it is 0 where latents are codes. Latents count as independent: of a hierarchy
    each level varies given the means of those above it.

    Parameters
    ----------
    module : Model
    batch : Batch
        Of n rows.

    Examples
    --------
    >>> from vae_anomaly.models.networks import Shape
    >>> from vae_anomaly.models.variants import Gaussian
    >>> batch = Batch(
    ...     x=torch.zeros(4, 3),
    ...     observed=torch.ones(4, 3, dtype=torch.bool),
    ...     context=torch.zeros(4, 0),
    ...     label=torch.zeros(4, dtype=torch.int64),
    ... )
    >>> expected_band(Gaussian().build(Shape(3)).eval(), batch).sigma.shape
    torch.Size([4, 3])
    """
    z, spread = module.embed(batch), module.spread(batch)
    p = module.likelihood(z, batch.context)
    if not spread.any():
        return ExpectedBand(p.mean, p.stddev)
    points = posterior_points(z.shape[-1])
    first, second = torch.zeros_like(p.mean), torch.zeros_like(p.mean)
    for point in points:  # one by one: of images, all at once would fill the memory
        moved = module.likelihood(z + spread * point, batch.context).mean - p.mean
        first, second = first + moved / len(points), second + moved.square() / len(points)
    variance = p.stddev.square() + (second - first.square()).clamp(min=0.0)
    return ExpectedBand(p.mean, variance.sqrt())
