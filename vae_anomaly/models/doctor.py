"""The training doctor: what it watches, what it says, and what it does about it.

It watches for a loss that is no longer finite or that explodes (`trouble`, acted on by
`training.train`), and for a latent that carries too little (`diagnosis`, acted on by
`attempts.train_attempts`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from vae_anomaly.models.settings import Objective
from vae_anomaly.models.standardize import Batch, spaced, take
from vae_anomaly.models.vae import Model, active_units

__all__ = [
    "LOWER",
    "MOST_RETURNS",
    "Event",
    "Latent",
    "Typical",
    "common_causes",
    "diagnosis",
    "remedies",
    "trouble",
]

#: After trouble, training goes on at this share of the learning rate, at most so often.
LOWER, MOST_RETURNS = 0.1, 4

#: A typical bound of b nats a feature explodes where it falls by more than this times (1 + |b|).
FALL = 10.0
Member = TypeVar("Member", bound=Objective)

#: Remedies for a latent that collapsed: share of the steps over which the divergence's weight
#: rises, and nats a latent that cost nothing. Of 0.05, 0.1, 0.2 and 0.5 nats the first gave the
#: highest bounds on rows with two common causes and decoders that were too deep.
LONG_WARMUP, FREE_BITS = 0.5, 0.05

#: Share of what the rows have use for that is enough of a latent.
ENOUGH = 2 / 3

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
        enough latents are active whatever their number.
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
def diagnosis(module: Model, held_out: Batch, seed: int) -> Latent:
    """How much of the latent of a trained model is used on held-out rows.

    Causes are counted only where that can matter: their cost is cubic in the width of the rows.
    """
    rows = spaced(held_out, DIAGNOSIS_ROWS)
    n_latents = module.embed(take(rows, torch.arange(1))).shape[-1]
    n_active = active_units(module, rows)
    is_enough = 0 < n_active >= ENOUGH * n_latents
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
    x = batch.x.double()
    given = torch.cat([batch.context.double(), torch.ones(len(x), 1, dtype=x.dtype)], dim=-1)
    x = x - given @ (torch.linalg.pinv(given) @ x)
    x = x / x.square().mean(dim=0).sqrt().clamp(min=1e-9)
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        _shares(torch.stack([c[torch.randperm(len(c), generator=generator)] for c in x.T], dim=1))
        for _ in range(DRAWINGS)
    ]
    by_chance = torch.stack(drawn)
    spread = by_chance.amax(dim=0) - by_chance.amin(dim=0)
    above = _shares(x) > by_chance.mean(dim=0) + RANGES * spread
    return int(above.cumprod(dim=0).sum())


def _shares(x: Tensor) -> Tensor:
    """Variances of the principal components of standardised columns (n, d), the highest first."""
    variances: Tensor = torch.linalg.eigvalsh(x.T @ x / len(x))
    return variances.flip(0)


def remedies(objective: Member) -> Iterator[tuple[str, Member]]:
    """What may help against a collapse, the mildest first: its name, and a member's settings.

    Examples
    --------
    >>> from vae_anomaly.models.variants import Gaussian
    >>> for name, _ in remedies(Gaussian()):
    ...     print(name)
    a warm-up over 0.5 of the steps
    a warm-up over 0.5 of the steps and 0.05 free nats a latent
    """
    longer = replace(objective, warmup=max(LONG_WARMUP, objective.warmup))
    name = f"a warm-up over {longer.warmup:g} of the steps"
    if longer != objective:
        yield name, longer
    if objective.n_samples == 1 and objective.free_bits < FREE_BITS:
        free = replace(longer, free_bits=FREE_BITS)
        yield f"{name} and {FREE_BITS:g} free nats a latent", free
