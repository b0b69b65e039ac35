"""A scorer to plain JSON and back, beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt, PositiveInt, ValidationError

from vae_anomaly.errors import PackageError
from vae_anomaly.models.standardize import Standardizer
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import Model
from vae_anomaly.models.variants import Variant, variant_name, variant_of, variant_settings
from vae_anomaly.scoring.baselines import SIMPLE, NoLatents, Simple, baseline_of
from vae_anomaly.scoring.label_head import LabelHead, Mode
from vae_anomaly.scoring.scorer import Scorer, row_shape
from vae_anomaly.scoring.smoothing import Smoothing

__all__ = ["build_scorer", "scorer_spec"]


class _TensorSpec(BaseModel):
    """Shape and type of a score's tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    dtype: Literal["float32", "float64", "int64", "bool"]


class _HeadSpec(BaseModel):
    """Sizes and mode of a label head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_entries: PositiveInt
    n_latents: NonNegativeInt
    labels: Mode
    n_normal: PositiveInt
    n_anomalies: PositiveInt


class _Spec(BaseModel):
    """What a scorer is, apart from its numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str = ""
    baseline: str = ""
    settings: dict[str, JsonValue] = {}
    n_features: PositiveInt
    n_context: NonNegativeInt
    active: tuple[NonNegativeInt, ...]
    levels: tuple[int, ...] = ()
    n_classes: NonNegativeInt = 0
    window: PositiveInt
    smoothing: Smoothing
    anomaly_score: str
    tensors: dict[str, _TensorSpec]
    head: _HeadSpec | None = None


def scorer_spec(scorer: Scorer) -> dict[str, JsonValue]:
    """What `build_scorer` needs, beside the scorer's ``state_dict()``, as plain JSON.

    Raises
    ------
    InputError
        The variant is not one of the library's.
    """
    standardizer = scorer.standardizer
    spec = _Spec(
        **_member(scorer.variant),
        n_features=standardizer.n_features,
        n_context=standardizer.n_context,
        active=tuple(standardizer.sensors.tolist()),
        levels=scorer.levels,
        n_classes=scorer.n_classes,
        window=scorer.window,
        smoothing=scorer.smoothing,
        anomaly_score=scorer.anomaly_score,
        tensors={
            name: _TensorSpec(shape=tuple(t.shape), dtype=str(t.dtype).removeprefix("torch."))
            for name, t in scorer.tensors.named_buffers()
        },
        head=_head_spec(scorer.head),
    )
    other = {"variant", "settings"} if spec.baseline else {"baseline"}
    return spec.model_dump(mode="json", exclude=other)


def _head_spec(head: LabelHead | None) -> _HeadSpec | None:
    if head is None:
        return None
    return _HeadSpec(
        n_entries=head.n_entries,
        n_latents=head.n_latents,
        labels=head.labels,
        n_normal=len(head.normal),
        n_anomalies=len(head.anomalies),
    )


def _member(variant: Variant | Simple) -> dict[str, JsonValue]:
    """What a specification says of a member of the family, or of a baseline."""
    if isinstance(variant, Simple):
        return {"baseline": variant.name}
    return {"variant": variant_name(variant), "settings": variant_settings(variant)}


def build_scorer(spec: Mapping[str, JsonValue]) -> Scorer:
    """The scorer of a specification, whose numbers ``load_state_dict`` then fills in.

    Raises
    ------
    PackageError
        The specification is not one of this version's.
    ConfigError
        It names a variant, a setting or a score that does not exist.
    """
    try:
        said = _Spec.model_validate(spec)
    except ValidationError as error:
        raise PackageError(f"the scorer's specification is not valid: {error}") from error
    d, n_columns = said.n_features, said.n_features + said.n_context
    standardizer = Standardizer(
        torch.zeros(n_columns, dtype=torch.float64),
        torch.ones(n_columns, dtype=torch.float64),
        active=torch.tensor([column in said.active for column in range(d)]),
        constant_value=torch.zeros(d, dtype=torch.float64),
    )
    variant, module = _built(said, standardizer)
    scorer = Scorer(
        standardizer,
        module,
        variant=variant,
        anomaly_score=said.anomaly_score,
        tensors={
            name: torch.zeros(tensor.shape, dtype=getattr(torch, tensor.dtype))
            for name, tensor in said.tensors.items()
        },
        window=said.window,
        smoothing=said.smoothing,
        levels=said.levels,
        n_classes=said.n_classes,
    )
    if said.head is not None:
        scorer.head = LabelHead(**said.head.model_dump())
    return scorer


def _built(said: _Spec, standardizer: Standardizer) -> tuple[Variant | Simple, Model]:
    """The member of the family and its untrained module; of a baseline the stand-ins."""
    if said.baseline:
        if said.baseline not in SIMPLE:
            baseline_of(said.baseline)  # refuses a name that this version does not know
        return Simple(said.baseline), NoLatents(said.baseline)
    variant = variant_of(said.variant, said.settings)
    with seeded(0):
        return variant, variant.build(
            row_shape(standardizer, said.window, said.levels, said.n_classes)
        )
