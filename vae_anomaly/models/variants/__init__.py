"""The members of the family, one file each.

A new one is a file, a line in `VARIANTS`, and its name in `config.model` for plant files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import ClassVar, Literal, Protocol

import torch
from pydantic import JsonValue, TypeAdapter, ValidationError
from torch import Tensor

from vae_anomaly.errors import ConfigError, InputError, closest
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch, Scaling
from vae_anomaly.models.vae import Model
from vae_anomaly.models.variants.bernoulli import Bernoulli
from vae_anomaly.models.variants.beta import Beta
from vae_anomaly.models.variants.ensemble import Ensemble
from vae_anomaly.models.variants.fast import Fast
from vae_anomaly.models.variants.gaussian import Gaussian
from vae_anomaly.models.variants.hierarchical import Hierarchical
from vae_anomaly.models.variants.linear import Linear
from vae_anomaly.models.variants.mixed import Mixed
from vae_anomaly.models.variants.semi_supervised import SemiSupervised
from vae_anomaly.models.variants.student_t import StudentT
from vae_anomaly.models.variants.vq import VectorQuantized

__all__ = [
    "VARIANTS",
    "Bernoulli",
    "Beta",
    "Ensemble",
    "Fast",
    "Gaussian",
    "Hierarchical",
    "Linear",
    "Mixed",
    "SemiSupervised",
    "StudentT",
    "Variant",
    "VectorQuantized",
    "variant_name",
    "variant_of",
    "variant_settings",
]


class Variant(Protocol):
    """A member of the family: its settings, and how it is built and trained.

    Members are frozen dataclasses whose fields are plain values; most take theirs from
    `Architecture` and `Objective`.
    """

    #: Whether rows with a labelled anomaly are learnt from; other members leave them out.
    learns_labels: ClassVar[bool]
    #: Whether a code of a level is more than a number; to other members it is a number.
    knows_levels: ClassVar[bool]
    #: The score that "auto" stands for, a name in `SCORES`.
    default_score: ClassVar[str]

    @property
    def latent_dim(self) -> int | Literal["auto"]:
        """Width of the latent, or of one level of it."""

    @property
    def table_score(self) -> str:
        """The score that "auto" stands for where rows are a table, in no order."""

    @property
    def scaling(self) -> Scaling:
        """What the networks see of a sensor."""

    def build(self, shape: Shape) -> Model:
        """Untrained modules; their weights come from torch's global generator."""

    def prepare(self, module: Model, batch: Batch) -> None:
        """What is fitted before training, to training rows (n, D); nothing for most."""

    def bound(
        self, module: Model, batch: Batch, progress: float, generator: torch.Generator
    ) -> Tensor:
        """What training maximises, (*, n) nats, at a share `progress` of the steps.

        In evaluation mode it changes nothing, and is the bound without aids to training.
        """

    def finish(self, module: Model, batch: Batch, generator: torch.Generator) -> None:
        """A second stage after training, on training rows; nothing for most."""


VARIANTS: Mapping[str, type[Variant]] = {
    "gaussian": Gaussian,
    "beta": Beta,
    "bernoulli": Bernoulli,
    "student_t": StudentT,
    "linear": Linear,
    "mixed": Mixed,
    "hierarchical": Hierarchical,
    "vq": VectorQuantized,
    "semi_supervised": SemiSupervised,
    "ensemble": Ensemble,
    "fast": Fast,
}


def variant_of(name: str, settings: Mapping[str, JsonValue]) -> Variant:
    """The member of the family that a plant file names, with its settings.

    Raises
    ------
    ConfigError
        There is no such variant or setting, or a value is not allowed; the message names the
        closest known key.

    Examples
    --------
    >>> variant_of("gaussian", {"latent_dim": 3, "hidden": [32]}).latent_dim
    3
    >>> variant_of("gaussian", {"latent": 3})
    Traceback (most recent call last):
    ...
    vae_anomaly.errors.ConfigError: variant gaussian: unknown setting 'latent'; \
did you mean 'latent_dim'?
    """
    if name not in VARIANTS:
        raise ConfigError(f"variant '{name}' is not known; {closest(name, VARIANTS)}")
    kind = VARIANTS[name]
    assert is_dataclass(kind)
    known = [setting.name for setting in fields(kind)]
    for key in settings:
        if key not in known:
            raise ConfigError(f"variant {name}: unknown setting '{key}'; {closest(key, known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(settings))
    except ValidationError as error:
        problem = error.errors()[0]
        where = f"{problem['loc'][0]}: " if problem["loc"] else ""
        raise ConfigError(f"variant {name}: {where}{problem['msg']}") from error


def variant_name(variant: Variant) -> str:
    """The name under which `VARIANTS` lists a member.

    Raises
    ------
    InputError
        It is not listed, so that a package could not rebuild it.
    """
    for name, kind in VARIANTS.items():
        if type(variant) is kind:
            return name
    raise InputError(f"{variant!r} is not a variant; give one of {', '.join(VARIANTS)}")


def variant_settings(variant: Variant) -> dict[str, JsonValue]:
    """The settings of a member, from which `variant_of` makes it again."""
    assert is_dataclass(variant)
    values = {setting.name: getattr(variant, setting.name) for setting in fields(variant)}
    # JSON has no tuples
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
