"""What the training doctor tries where a latent is not used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from vae_anomaly.config import Training
from vae_anomaly.models.settings import Architecture, Objective

__all__ = ["Remedy", "remedies"]

#: Remedies for a latent that collapsed: share of the steps over which the divergence's weight
#: rises, and nats a latent that cost nothing. Of 0.05, 0.1, 0.2 and 0.5 nats the first gave the
#: highest bounds on rows with two common causes and decoders that were too deep.
LONG_WARMUP, FREE_BITS = 0.5, 0.05

#: Hidden layers to which a deeper network goes back. On five tables with 2 to 5 common causes
#: networks of 4 to 8 layers learnt about one of them, however long the warm-up, the free bits and
#: the training; with two layers all, and their bound was that of a linear model or above.
SHALLOW = 2

#: Times the default learning rate above which the rate is the first suspect. Of 20 trainings of
#: five members on two simulated tables none had an idle latent at 10 times, and 11 at 40 times.
HIGH_RATE = 10.0

Member = TypeVar("Member", bound=Objective)


@dataclass(frozen=True)
class Remedy(Generic[Member]):
    """What may help against a latent that is not used.

    Attributes
    ----------
    name : str
    variant : Objective
        A member with the settings to train again with.
    training : Training
    is_last : bool
        To be tried only where no latent is active at all: free bits have cost nats elsewhere.
    """

    name: str
    variant: Member
    training: Training
    is_last: bool = False


def remedies(objective: Member, training: Training) -> Iterator[Remedy[Member]]:
    """What may help, each remedy on top of those before it.

    Examples
    --------
    >>> from vae_anomaly.models.variants import Gaussian
    >>> for remedy in remedies(Gaussian(hidden=(64,) * 4), Training(learning_rate=1.0)):
    ...     print(remedy.name)
    a learning rate of 0.005
    a warm-up over 0.5 of the steps
    a warm-up over 0.5 of the steps and 2 hidden layers in place of 4
    a warm-up over 0.5 of the steps, 2 hidden layers in place of 4 and 0.05 free nats a latent
    """
    default = Training().learning_rate
    if training.learning_rate > HIGH_RATE * default:
        training = training.model_copy(update={"learning_rate": default})
        yield Remedy(f"a learning rate of {default:g}", objective, training)
    longer = replace(objective, warmup=max(LONG_WARMUP, objective.warmup))
    names = [f"a warm-up over {longer.warmup:g} of the steps"]
    if longer != objective:
        yield Remedy(names[0], longer, training)
    shallower = _shallower(longer)
    if shallower != longer:
        names.append(f"{SHALLOW} hidden layers in place of {_depth(longer)}")
        yield Remedy(" and ".join(names), shallower, training)
    if objective.n_samples == 1 and objective.free_bits < FREE_BITS:
        free = replace(shallower, free_bits=FREE_BITS)
        name = f"{', '.join(names)} and {FREE_BITS:g} free nats a latent"
        yield Remedy(name, free, training, is_last=True)


def _depth(objective: Objective) -> int:
    """Hidden layers of perceptrons; 0 where there are others."""
    if not isinstance(objective, Architecture) or objective.backbone != "mlp":
        return 0
    return len(objective.hidden)


def _shallower(objective: Member) -> Member:
    """The same with perceptrons of at most two hidden layers, the widths next to the sensors."""
    if _depth(objective) <= SHALLOW:
        return objective
    assert isinstance(objective, Architecture)
    return replace(objective, hidden=objective.hidden[:SHALLOW])
