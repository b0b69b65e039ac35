"""Rows of numbers and levels: each column with a likelihood of its own kind.

A level reaches the model as its code counted from 1, so that 0 is a missing value, as it is for
numbers. The networks see no codes, whose order means nothing: a code is a column a level for them.
A negative code is one that the encoder does not see, and the likelihood does (`hide_codes`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import SMALLEST_SIGMA, Factorised, Likelihood, NormalLikelihood
from vae_anomaly.models.networks import Shape, Sizes, decoder_network
from vae_anomaly.models.overlapping import overlapping, rows_beneath
from vae_anomaly.models.priors import DiagonalNormal

__all__ = ["LevelColumns", "MixedDecoder", "MixedEncoder", "MixedLikelihood", "hide_codes"]


def spread(shape: Shape) -> Shape:
    """The shape of rows in which each level of a sensor has a column.

    Examples
    --------
    >>> spread(Shape(n_sensors=3, levels=(0, 3, 2))).n_sensors
    6
    """
    return shape._replace(n_sensors=sum(n or 1 for n in _levels(shape)), levels=())


def _levels(shape: Shape) -> tuple[int, ...]:
    return shape.levels or (0,) * shape.n_sensors


class LevelColumns(nn.Module):
    """Features (*, n, D) as (*, n, W): a number is itself, a level 1 or 0.

    A level that no training row had is 0 too, like a missing one: nothing was learnt of its column.
    A missing code, be it 0 or a half as for a number in a range, is none of the levels.
    """

    source: Tensor
    code: Tensor
    learnt: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_sensors, self.window = shape.n_sensors, shape.window
        levels = _levels(shape) * shape.window
        source = [at for at, n in enumerate(levels) for _ in range(n or 1)]
        code = [code for n in levels for code in (range(1, n + 1) if n else [0])]
        self.register_buffer("source", torch.tensor(source), persistent=False)  # (W,)
        self.register_buffer("code", torch.tensor(code), persistent=False)  # (W,) 0 of a number
        self.register_buffer("learnt", torch.tensor(code) == 0)  # (W,)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            holds = x.index_select(-1, self.source) == self.code
            self.learnt |= (holds | (self.code == 0)).flatten(end_dim=-2).any(dim=0)
        rows, learnt = rows_beneath(x, self.n_sensors), self.learnt.reshape(self.window, -1)
        if rows is not None and bool((learnt == learnt[0]).all()):  # alike in all of a window
            return overlapping(self._columns(rows, learnt.shape[1]), self.window)
        return self._columns(x, len(self.source))

    def _columns(self, x: Tensor, n: int) -> Tensor:
        """The first n columns."""
        code, columns = self.code[:n], x.index_select(-1, self.source[:n])
        is_level = (columns == code) & self.learnt[:n]
        return torch.where(code == 0, columns, is_level.to(x.dtype))


def hide_codes(x: Tensor, places: Places, share: float, generator: torch.Generator) -> Tensor:
    """Features (*, n, D) with a share of the codes negative: the encoder takes them for missing."""
    codes = x.index_select(-1, places.codes)
    hidden = torch.rand(codes.shape, device=x.device, generator=generator) < share
    return x.index_copy(-1, places.codes, torch.where(hidden, -codes, codes))


class MixedEncoder(nn.Module):
    """Posterior q(z | x, c) = N(mu, diag sigma²); x (*, n, D), context (*, n, c) -> event (k,)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.columns = LevelColumns(sizes.shape)
        self.encoder = GaussianEncoder(sizes._replace(shape=spread(sizes.shape)))

    def forward(self, x: Tensor, context: Tensor) -> DiagonalNormal:
        q: DiagonalNormal = self.encoder(self.columns(x), context)
        return q


class Places(nn.Module):
    """Where numbers and levels stand among D features, and among the W columns of a network.

    Attributes
    ----------
    numbers, codes : Tensor of shape (N,), (C,)
        Features of either kind; N + C = D.
    order : Tensor of shape (D,)
        Where each feature stands when the codes follow the numbers.
    locations : Tensor of shape (N,)
        Columns of the numbers.
    logits : Tensor of shape (C, L)
        Columns of each code's levels, L the most that any has; what is too many is `absent`.
    absent : Tensor of shape (C, L)
    n_levels : Tensor of shape (C,)
    """

    numbers: Tensor
    codes: Tensor
    order: Tensor
    locations: Tensor
    logits: Tensor
    absent: Tensor
    n_levels: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        levels = torch.tensor(_levels(shape) * shape.window)
        first = levels.clamp(min=1).cumsum(0) - levels.clamp(min=1)  # column of each feature
        numbers, codes = (levels == 0).nonzero()[:, 0], levels.nonzero()[:, 0]
        place = torch.arange(max(1, int(levels.max())))
        absent = place >= levels[codes, None]
        parts = {
            "numbers": numbers,
            "codes": codes,
            "order": torch.cat([numbers, codes]).argsort(),
            "locations": first[numbers],
            "logits": (first[codes, None] + place).masked_fill(absent, 0),
            "absent": absent,
            "n_levels": levels[codes],
        }
        for name, tensor in parts.items():
            self.register_buffer(name, tensor, persistent=False)

    def joined(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """(*, n, N) of the numbers and (*, n, C) of the codes as (*, n, D)."""
        return torch.cat([numbers, codes.to(numbers.dtype)], dim=-1).index_select(-1, self.order)


class MixedLikelihood(Factorised):
    """N(loc, scale²) of numbers and a categorical distribution of codes 1, 2, ..., by feature.

    Parameters
    ----------
    places : Places
    numbers : Likelihood
        Of the numbers, (*, n, N).
    log_p : Tensor of shape (*, n, C, L)
        Log-probability of each level of each code; -inf where a code has fewer levels.
    """

    def __init__(self, places: Places, numbers: Likelihood, log_p: Tensor) -> None:
        self.places, self.numbers, self.log_p = places, numbers, log_p

    @property
    def mean(self) -> Tensor:
        """Expected value of a number, most probable code of a level, (*, n, D)."""
        return self.places.joined(self.numbers.mean, self.log_p.argmax(dim=-1) + 1)

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of a number, or of a code as if it were one, (*, n, D)."""
        p, code = self.log_p.exp(), torch.arange(self.log_p.shape[-1], device=self.log_p.device)
        variance = (p * code.square()).sum(dim=-1) - (p * code).sum(dim=-1).square()
        return self.places.joined(self.numbers.stddev, variance.clamp(min=0.0).sqrt())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of a number, log-probability of a code, (*, n, D) nats."""
        numbers = value.index_select(-1, self.places.numbers)
        return self.places.joined(self.numbers.log_prob(numbers), self._log_p_of(value))

    def deviance(self, value: Tensor) -> Tensor:
        """Squared error over the variance of a number, -2 log p of a code, (*, n, D)."""
        numbers = value.index_select(-1, self.places.numbers)
        return self.places.joined(self.numbers.deviance(numbers), -2 * self._log_p_of(value))

    def draw(self, generator: torch.Generator) -> Tensor:
        """A sample of x, (*, n, D)."""
        p = self.log_p.exp()
        drawn = torch.multinomial(p.flatten(end_dim=-2), 1, generator=generator)
        return self.places.joined(self.numbers.draw(generator), drawn.reshape(p.shape[:-1]) + 1)

    def _log_p_of(self, value: Tensor) -> Tensor:
        """Log-probability of the codes in x, (*, n, C); of what is none, that of the nearest."""
        codes = value.index_select(-1, self.places.codes).abs().long().clamp(min=1)
        codes = codes.minimum(self.places.n_levels) - 1
        codes, _ = torch.broadcast_tensors(codes, self.log_p[..., 0])  # type: ignore[no-untyped-call]
        log_p = self.log_p.expand(*codes.shape, -1)
        return log_p.gather(-1, codes[..., None])[..., 0]


class MixedDecoder(nn.Module):
    """Likelihood p(x | z, c), Gaussian of numbers and categorical of levels; z (*, k) -> (*, D).

    Parameters
    ----------
    sizes : Sizes
    noise : float, optional
        Sigma of the numbers in standard deviations of the sensor; learned, one a number, if it is
        not given.

    References
    ----------
    Nazabal, Olmos, Ghahramani & Valera (2020), Handling Incomplete Heterogeneous Data using VAEs.
    """

    def __init__(self, sizes: Sizes, *, noise: float | None = None) -> None:
        super().__init__()
        self.places = Places(sizes.shape)
        wide = spread(sizes.shape)
        self.net = decoder_network(sizes._replace(shape=wide), wide.n_features)
        self.learned = noise is None
        log_sigma = torch.full((len(self.places.numbers),), math.log(noise or 1.0))
        self.log_sigma: Tensor
        if self.learned:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    @property
    def sigma(self) -> Tensor:
        """Noise of each number, (N,), in standard deviations of the sensor."""
        if not self.learned:
            return self.log_sigma.exp()
        return ((2 * self.log_sigma).exp() + SMALLEST_SIGMA**2).sqrt()

    def forward(self, z: Tensor, context: Tensor) -> Likelihood:
        columns = self.net(z, context)  # (*, n, W)
        loc = columns.index_select(-1, self.places.locations)
        logits = columns[..., self.places.logits].masked_fill(self.places.absent, -math.inf)
        numbers = NormalLikelihood(loc, self.sigma.expand_as(loc))
        return MixedLikelihood(self.places, numbers, logits.log_softmax(dim=-1))
