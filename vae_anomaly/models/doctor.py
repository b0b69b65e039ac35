"""The training doctor: what it watches, what it says, and what it does about it.

It watches for a loss that is no longer finite or that explodes (`trouble`, acted on by
`training.train`), for a latent that carries too little (`diagnosis`), and for a bound that is not
above that of each sensor by itself (`alone`); `attempts.train_attempts` acts on these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.ladder import LadderVAE
from vae_anomaly.models.likelihoods import SMALLEST_SIGMA, LocationScale
from vae_anomaly.models.settings import Objective
from vae_anomaly.models.standardize import Batch, spaced, take
from vae_anomaly.models.vae import VAE, Model, active_units

__all__ = [
    "CLEARLY",
    "LOWER",
    "MOST_RETURNS",
    "WORTH",
    "Event",
    "Latent",
    "Typical",
    "alone",
    "common_causes",
    "diagnosis",
    "is_clearly_above",
    "is_measured_in_nats_alike",
    "trouble",
    "worth",
]

#: After trouble, training goes on at this share of the learning rate, at most so often.
LOWER, MOST_RETURNS = 0.1, 4

#: A typical bound of b nats a feature explodes where it falls by more than this times (1 + |b|).
FALL = 10.0

#: Share of what the rows have use for that is enough of a latent.
ENOUGH = 2 / 3

#: Standard errors by which one bound must be above another.
CLEARLY = 2.0

#: Nats a feature that common causes must be worth for a bound without them to be held against a
#: model: so far apart are the bounds of members that have learnt all, for their likelihoods differ.
WORTH = 0.05

#: Held-out rows on which the use of a latent is judged.
DIAGNOSIS_ROWS = 4096

#: Drawings of independent columns beside which a common cause must stand out (Horn 1965), and by
#: how many of their ranges above their mean: about 3.5 standard deviations.
DRAWINGS, RANGES = 5, 1.5


@dataclass(frozen=True)
class Event:
    """Something that the doctor saw, and what it did.

    Attributes
    ----------
    step : int
        Of the training when it was seen.
    seen, done : str
        Parts of a sentence.
    attempt : int
        Above 1 where the doctor has had it trained again.
    """

    step: int
    seen: str
    done: str
    attempt: int = 1

    def __str__(self) -> str:
        which = f"attempt {self.attempt}, " if self.attempt > 1 else ""
        return f"{which}step {self.step}: {self.seen}; {self.done}"


class Typical(NamedTuple):
    """Medians, which a few absurd rows do not move: over steps, and over held-out rows; nats."""

    bound: float
    held_out_bound: float

    @classmethod
    def of(cls, bounds: Tensor, held_out: Tensor, n_features: int) -> Typical:
        """Of mean bounds (steps,) and bounds of held-out rows (n,), in nats a feature."""
        return cls(*(float(nats.median()) / n_features for nats in (bounds, held_out)))

    def best(self, other: Typical) -> Typical:
        """The higher of each."""
        return Typical(*map(max, self, other))


def trouble(now: Typical, best: Typical, *, bound: float, held_out_bound: float) -> str:
    """What is wrong with a training; empty where nothing is.

    A bound that falls on held-out rows alone is no explosion: the model learns rows by heart, and
    early stopping sees to it. One that falls in training alone may be an objective that rises in
    weight.

    Parameters
    ----------
    now, best : Typical
        Since the last check, and the best before.
    bound, held_out_bound : float
        Means, in nats a row.

    Examples
    --------
    >>> best = Typical(-1.0, -1.1)
    >>> trouble(Typical(-1.0, -30.0), best, bound=-9.0, held_out_bound=-270.0)
    ''
    >>> trouble(Typical(-40.0, -30.0), best, bound=-360.0, held_out_bound=-270.0)
    'the bound exploded to -360 in training and -270 on held-out rows'
    """
    if not (math.isfinite(bound) and math.isfinite(held_out_bound)):
        return f"the bound is {bound:g} in training and {held_out_bound:g} on held-out rows"
    if all(was - nats > FALL * (1 + abs(was)) for nats, was in zip(now, best, strict=True)):
        return (
            f"the bound exploded to {bound:.4g} in training and {held_out_bound:.4g} on held-out "
            "rows"
        )
    return ""


# ------------------------------------------------------------------------------------- the latent


class Latent(NamedTuple):
    """How much of a latent is used.

    Attributes
    ----------
    n_active : int
        Latents whose posterior mean varies over held-out rows (Burda et al. 2016).
    n_latents : int
    n_causes : int
        Common causes that show in how the sensors vary together, context taken out; 0 where
        enough latents are active whatever their number, and the bound is as it should be.
    """

    n_active: int
    n_latents: int
    n_causes: int

    def __str__(self) -> str:
        return f"{self.n_active} of {self.n_latents} latents are active on held-out rows"

    def is_collapsed(self, objective: Objective | None = None) -> bool:
        """Whether too little is used: nothing, or not enough of what the rows have use for.

        A weight of the divergence above 1 asks for fewer latents, and latents that are no Gaussian
        ones count otherwise: there only nothing is too little.
        """
        if self.n_active == 0:
            return True
        is_comparable = objective is not None and objective.beta <= 1
        return is_comparable and self.n_active < ENOUGH * min(self.n_latents, self.n_causes)


@torch.no_grad()
def diagnosis(module: Model, held_out: Batch, seed: int, *, count: bool = False) -> Latent:
    """How much of the latent of a trained model is used on held-out rows.

    Causes are counted only on demand, and where they can matter: their cost is cubic in the width
    of the rows.
    """
    rows = spaced(held_out, DIAGNOSIS_ROWS)
    n_latents = module.embed(take(rows, torch.arange(1))).shape[-1]
    n_active = active_units(module, rows)
    is_enough = not count and 0 < n_active >= ENOUGH * n_latents
    return Latent(n_active, n_latents, 0 if is_enough else common_causes(rows, seed))


def common_causes(batch: Batch, seed: int) -> int:
    """Number of common causes that show in how the features vary together, context taken out.

    Principal components whose share is above that of shuffled columns, which have none in common.
    Causes that act other than linearly are not seen.

    References
    ----------
    Horn (1965), A rationale and test for the number of factors in factor analysis.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> cause, noise = torch.randn(500, 1, generator=generator), torch.randn(
    ...     500, 6, generator=generator)
    >>> nothing, none = torch.ones(500, 6) > 0, torch.zeros(500, 0)
    >>> common_causes(Batch(cause + noise, nothing, none, none), seed=0)
    1
    >>> common_causes(Batch(noise, nothing, none, none), seed=0)
    0
    """
    x = _unexplained(batch)
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        _shares(torch.stack([c[torch.randperm(len(c), generator=generator)] for c in x.T], dim=1))
        for _ in range(DRAWINGS)
    ]
    by_chance = torch.stack(drawn)
    spread = by_chance.amax(dim=0) - by_chance.amin(dim=0)
    above = _shares(x) > by_chance.mean(dim=0) + RANGES * spread
    return int(above.cumprod(dim=0).sum())


def worth(batch: Batch, n_causes: int) -> float:
    """Nats a row that it is worth to know how the features vary together, context taken out.

    Of so many principal components and the same noise for all features, against each by itself.

    References
    ----------
    Tipping & Bishop (1999), Probabilistic Principal Component Analysis.
    """
    shares = _shares(_unexplained(batch)).clamp(min=SMALLEST_SIGMA**2)
    rest = shares[n_causes:]
    nats = shares[:n_causes].log().sum() + len(rest) * rest.mean().log()
    return -0.5 * float(nats) if 0 < n_causes < len(shares) else 0.0


def _unexplained(batch: Batch) -> Tensor:
    """What the context leaves of each feature, standardised, (n, D)."""
    x = batch.x.double()
    given = torch.cat([batch.context.double(), torch.ones(len(x), 1, dtype=x.dtype)], dim=-1)
    x = x - given @ (torch.linalg.pinv(given) @ x)
    standardised: Tensor = x / x.square().mean(dim=0).sqrt().clamp(min=1e-9)
    return standardised


def _shares(x: Tensor) -> Tensor:
    """Variances of the principal components of standardised columns (n, d), the highest first."""
    variances: Tensor = torch.linalg.eigvalsh(x.T @ x / len(x))
    return variances.flip(0)


# --------------------------------------------------------------------------- what has been learnt


def is_measured_in_nats_alike(module: Model, objective: Objective) -> bool:
    """Whether a bound can be held against a Gaussian of each sensor.

    It has to be the bound that was maximised, of a density, whose noise was learned.
    """
    if not (isinstance(module, VAE | LadderVAE) and objective.maximises_elbo):
        return False
    return isinstance(module.decoder, LocationScale) and module.decoder.learned


def alone(rows: Batch, learnt: Batch) -> Tensor:
    """Log-density of each row (n,) nats, if each of its readings is judged by itself.

    By a Gaussian with the mean and the variance of what the model learnt from.

    Examples
    --------
    >>> x, none = torch.tensor([[-1.0], [1.0]]), torch.zeros(2, 0)
    >>> batch = Batch(x, x.isfinite(), none, torch.zeros(2, dtype=torch.int64))
    >>> alone(batch, batch)
    tensor([-1.4189, -1.4189], dtype=torch.float64)
    """
    seen, x = learnt.observed.double(), learnt.x.double()
    n = seen.sum(dim=0).clamp(min=1)
    mean = (x * seen).sum(dim=0) / n
    variance = ((x - mean).square() * seen).sum(dim=0) / n
    variance = variance.clamp(min=SMALLEST_SIGMA**2)
    nats = (rows.x.double() - mean).square() / variance + (2 * math.pi * variance).log()
    return -0.5 * (nats * rows.observed).sum(dim=-1)


def is_clearly_above(nats: Tensor, others: Tensor) -> bool:
    """Whether more than half of the rows have more: a sign test, which no absurd row decides.

    Examples
    --------
    >>> is_clearly_above(torch.ones(100), torch.zeros(100))
    True
    >>> is_clearly_above(torch.ones(100), torch.ones(100))
    False
    """
    n, above = len(nats), int((nats > others).sum())
    return above / n - 0.5 > CLEARLY * 0.5 / math.sqrt(n)
