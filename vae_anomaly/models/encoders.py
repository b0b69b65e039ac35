"""Encoders: modules whose forward returns the posterior q(z | x, c)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_anomaly.errors import InputError
from vae_anomaly.models.convolutions import TemporalEncoder
from vae_anomaly.models.networks import Sizes, encoder_network
from vae_anomaly.models.priors import DiagonalNormal, diagonal

__all__ = ["GaussianEncoder", "LinearEncoder"]


class GaussianEncoder(nn.Module):
    """Posterior q(z | x, c) = N(mu, diag sigma²); x (*, n, D), context (*, n, c) -> event (k,)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.net = encoder_network(sizes, 2 * sizes.latent_dim)

    def forward(self, x: Tensor, context: Tensor) -> DiagonalNormal:
        return diagonal(self.net(x, context))

    def over(self, series: Tensor, context: Tensor) -> DiagonalNormal:
        """Posteriors of all windows of a series, in one pass of a temporal backbone.

        Layers slide over the series, so that what windows share is worked out once.

        Parameters
        ----------
        series : Tensor of shape (T, d)
            Standardised rows of one unbroken series.
        context : Tensor of shape (T, c)

        Returns
        -------
        DiagonalNormal
            Of the windows that end with rows w - 1, ..., T - 1; batch (T - w + 1,), event (k,).

        Raises
        ------
        InputError
            The backbone is another, or the series is shorter than a window.

        Examples
        --------
        >>> from vae_anomaly.models.networks import Shape
        >>> sizes = Sizes(Shape(n_sensors=3, window=60), 4, (32, 32), backbone="temporal")
        >>> encoder = GaussianEncoder(sizes)
        >>> encoder.over(torch.zeros(1000, 3), torch.zeros(1000, 0)).mean.shape
        torch.Size([941, 4])
        """
        if not isinstance(self.net, TemporalEncoder):
            raise InputError(
                "only backbone 'temporal' passes over a series; give this encoder its windows"
            )
        if len(series) < self.net.window:
            raise InputError(
                f"the series has {len(series)} rows, and a window {self.net.window}; give at "
                "least one window"
            )
        return diagonal(self.net.over(series, context))


class LinearEncoder(nn.Module):
    """Posterior q(z | x, c) = N(V x + U c + b, diag sigma²), one sigma for all rows.

    Of this form is the posterior of a linear decoder, but for its correlations.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.net = encoder_network(sizes, sizes.latent_dim)
        self.log_sigma = nn.Parameter(torch.zeros(sizes.latent_dim))

    def forward(self, x: Tensor, context: Tensor) -> DiagonalNormal:
        mu = self.net(x, context)
        return diagonal(torch.cat([mu, self.log_sigma.expand_as(mu)], dim=-1))
