"""Partly whitened columns, as a model's networks see them, and the likelihood of rows given these.

u = (x - center) W, with W = V diag(l)^(-p/2) of the covariance V diag(l) V' of training rows: axes
along which normal rows hardly vary are drawn out, as it is there that anomalies show. With p = 0
they are as they are, with p = 1 all vary alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_anomaly.models.covariance import shrunk_covariance
from vae_anomaly.models.gaps import Filled, fill_gaps
from vae_anomaly.models.layers import product
from vae_anomaly.models.likelihoods import Likelihood, NormalLikelihood, standard_normal
from vae_anomaly.models.standardize import Batch

__all__ = ["WIDEST", "WhitenedLikelihood", "Whitening"]

#: Wider rows are left as they are: the maps of so many columns fill 16 MB, and fitting them takes
#: seconds.
WIDEST = 1000

#: Variance of an axis below which it is drawn out no further, as a share of the mean of all.
LEAST_VARIANCE = 1e-4


class Whitening(nn.Module):
    """Rows x (*, n, D) as partly whitened u (*, n, D), and back; rows with gaps are filled first.

    Before `fit`, with power 0, and where D is above `WIDEST`, u is x.

    Parameters
    ----------
    n_features : int
        Width D of the rows.
    power : float
        p of the module's description, from 0 to 1.
    missing : float
        What is shown of a missing entry where nothing was fitted.

    Examples
    --------
    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    >>> rows = Batch(x * torch.tensor([1.0, 0.1]), x < torch.inf, x[:, :0], x[:, 0].long())
    >>> whitening = Whitening(2, power=1.0)
    >>> whitening.fit(rows)
    >>> whitening(rows.x).std(dim=0).round(decimals=1)
    tensor([1., 1.])
    """

    center: Tensor
    weight: Tensor
    inverse: Tensor
    precision: Tensor
    log_det: Tensor

    def __init__(self, n_features: int, *, power: float, missing: float = 0.0) -> None:
        super().__init__()
        self.power, self.missing = power, missing
        self.rotates = power > 0 and n_features <= WIDEST
        width = n_features if self.rotates else 0
        eye = torch.eye(width)
        self.register_buffer("center", torch.full((width,), missing))
        self.register_buffer("weight", eye)  # W', an axis a row
        self.register_buffer("inverse", eye.clone())
        self.register_buffer("precision", eye.double())  # of the Gaussian that was fitted
        self.register_buffer("log_det", torch.zeros((), dtype=torch.float64))  # of W

    @torch.no_grad()
    def fit(self, batch: Batch) -> None:
        """Fit the Gaussian of training rows (n, D), and from it the map."""
        if not self.rotates:
            return
        x, seen = batch.x.double(), batch.observed
        n_seen = seen.sum(dim=0)
        center = torch.where(n_seen > 0, (x * seen).sum(dim=0) / n_seen.clamp(min=1), self.missing)
        away = (x - center) * seen
        scale = (away.square().sum(dim=0) / n_seen.clamp(min=1)).mean().sqrt()
        scale = torch.where(scale > 0, scale, 1.0)
        covariance = shrunk_covariance(away / scale, seen)
        variances, axes = torch.linalg.eigh(covariance)
        axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()  # either fits
        stretch = variances.clamp(min=LEAST_VARIANCE * float(variances.mean())) ** (-self.power / 2)
        self.center.copy_(center)
        self.weight.copy_((axes * (stretch / scale)).T)
        self.inverse.copy_(axes * (scale / stretch))
        self.precision.copy_((axes / variances) @ axes.T / scale.square())
        self.log_det.copy_((stretch / scale).log().sum())

    def forward(self, x: Tensor) -> Tensor:
        return product(x - self.center, self.weight) if self.rotates else x

    def back(self, u: Tensor) -> Tensor:
        """The rows x (*, n, D) of whitened ones."""
        return self.center + product(u, self.inverse) if self.rotates else u

    def filled(self, batch: Batch) -> Tensor:
        """x (*, n, D) with what is missing at its mean, given what was observed of the row."""
        if batch.observed.all():
            return batch.x
        if not self.rotates:
            return torch.where(batch.observed, batch.x, self.missing)
        r, _ = fill_gaps(batch.x - self.center, batch.observed, self.precision)
        return torch.where(batch.observed, batch.x, self.center + r)

    def likelihood(self, u: Tensor, sigma: Tensor) -> Likelihood:
        """p(x) of rows whose whitened ones are N(u, diag sigma²).

        Parameters
        ----------
        u : Tensor of shape (*, n, D), or (*, M, n, D) of M members
        sigma : Tensor of shape (D,), or (M, D)
        """
        if self.rotates:
            return WhitenedLikelihood(self, u, sigma)
        return NormalLikelihood(u, _of_rows(sigma).expand_as(u))


class WhitenedLikelihood:
    """A Gaussian of rows x whose columns vary together: the whitened ones are N(u, diag sigma²).

    Its precision is P = W diag(1 / sigma²) W'. A feature's share of the deviance r' P r is
    r * (P r), for r = x - mean: what moves against the others counts, be it a single one that does
    and these are only drawn in, whose share may be negative.

    Parameters
    ----------
    whitening : Whitening
    u : Tensor of shape (*, n, D), or (*, M, n, D) of M members
    sigma : Tensor of shape (D,), or (M, D)
    """

    def __init__(self, whitening: Whitening, u: Tensor, sigma: Tensor) -> None:
        self.whitening, self.u, self.sigma = whitening, u, sigma

    @property
    def mean(self) -> Tensor:
        """Expected value of each feature, (*, n, D)."""
        return self.whitening.back(self.u)

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of each feature, (*, n, D)."""
        variance = self.sigma.square() @ self.whitening.inverse.square().T
        return _of_rows(variance.sqrt()).expand_as(self.u)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of a row, half the deviance from each feature and the rest shared evenly."""
        deviance = self.deviance(value)
        share = self._log_det()[..., None] / value.shape[-1]
        return -0.5 * (deviance + _of_rows(share))

    def deviance(self, value: Tensor) -> Tensor:
        """Shares r * (P r) of the squared Mahalanobis distance of a row, (*, n, D)."""
        return self._deviance(value - self.mean)

    def observed_deviance(self, value: Tensor, observed: Tensor) -> Tensor:
        """Shares of the distance of what was observed under its own covariance, (*, n, D)."""
        r, _ = self._filled(value, observed)
        return self._deviance(r) * observed

    def log_density(self, value: Tensor, observed: Tensor) -> Tensor:
        """Log-density of the observed entries of each row, the others integrated out; (*, n)."""
        if observed.all():
            return -0.5 * (
                self._distance(self.whitening(value) - self.u) + self._log_det()[..., None]
            )
        r, log_det = self._filled(value, observed)
        n_gaps = (~observed).sum(dim=-1)
        rest = self._log_det()[..., None] + log_det - n_gaps * math.log(2 * math.pi)
        density = -0.5 * (self._distance(product(r, self.whitening.weight)) + rest)
        return torch.where(observed.any(dim=-1), density, 0.0)

    def draw(self, generator: torch.Generator) -> Tensor:
        """A sample of x, (*, n, D)."""
        noise = standard_normal(self.u.shape, generator)
        return self.whitening.back(self.u + _of_rows(self.sigma) * noise)

    def _log_det(self) -> Tensor:
        """log det(2 pi covariance) of whole rows, () or (M,)."""
        width = self.sigma.shape[-1]
        of_axes = 2 * self.sigma.log().sum(dim=-1) + width * math.log(2 * math.pi)
        return of_axes - 2 * self.whitening.log_det.to(of_axes.dtype)

    def _distance(self, away: Tensor) -> Tensor:
        """Squared Mahalanobis distance of whitened deviations (*, n, D); (*, n)."""
        return (away / _of_rows(self.sigma)).square().sum(dim=-1)

    def _deviance(self, r: Tensor) -> Tensor:
        weight = self.whitening.weight
        z = product(r, weight) / _of_rows(self.sigma).square()
        return r * product(z, weight.T)

    def _filled(self, value: Tensor, observed: Tensor) -> Filled:
        """Deviations from the mean with gaps where they cost least, and what these leave open."""
        r = value - self.mean
        if self.sigma.dim() == 1:
            return fill_gaps(r, observed, self._precision(self.sigma))
        each = zip(r.unbind(-3), observed.unbind(-3), self.sigma, strict=True)
        found = [fill_gaps(own, seen, self._precision(sigma)) for own, seen, sigma in each]
        return Filled(
            torch.stack([own.r for own in found], dim=-3),
            torch.stack([own.log_det for own in found], dim=-2),
        )

    def _precision(self, sigma: Tensor) -> Tensor:
        """P, (D, D) float64."""
        scaled = self.whitening.weight.double() / sigma.double()[:, None]
        return scaled.T @ scaled


def _of_rows(of_members: Tensor) -> Tensor:
    """Numbers of each axis, (D,) or (M, D), as those of every row: (D,) or (M, 1, D)."""
    return of_members if of_members.dim() == 1 else of_members[..., None, :]
