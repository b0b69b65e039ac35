"""The training doctor: what it watches, what it says, and what it does about it.

It watches for a loss that is no longer finite or that explodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["LOWER", "MOST_RETURNS", "Event", "Typical", "trouble"]

#: After trouble, training goes on at this share of the learning rate, at most so often.
LOWER, MOST_RETURNS = 0.1, 4

#: A typical bound of b nats a feature explodes where it falls by more than this times (1 + |b|).
FALL = 10.0


@dataclass(frozen=True)
class Event:
    """Something that the doctor saw, and what it did.

    Attributes
    ----------
    step : int
        Of the training when it was seen.
    seen, done : str
        Parts of a sentence.
    """

    step: int
    seen: str
    done: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.seen}; {self.done}"


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
