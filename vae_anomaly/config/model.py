"""plant.yml, `model`: which member of the family learns, or which simple baseline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from vae_anomaly.config.section import Frozen
from vae_anomaly.errors import closest

__all__ = ["BASELINES", "MEMBERS", "MIXED", "Labels", "ModelConfig"]

#: The member of the family whose likelihood knows levels.
MIXED = "mixed"

#: What `models.variants` and `scoring.baselines` know, by name: to read a plant file takes neither.
MEMBERS = (
    "gaussian", "beta", "bernoulli", "student_t", "linear", MIXED, "hierarchical", "vq",
    "semi_supervised", "ensemble", "fast",
)  # fmt: skip
BASELINES = ("mahalanobis", "pca", "cva", "knn", "isolation_forest")

#: What labelled anomalies do to the score: lift what is like them and lower a little what is not;
#: lift alone; nothing.
Labels = Literal["default", "strict", "off"]


class ModelConfig(Frozen):
    """Which member of the family, for the whole plant or one an asset; or a simple baseline."""

    variant: str = Field(default="auto", description="a member of the family, or auto")
    baseline: str = Field(default="", description="a simple detector in place of a variant")
    per: Literal["plant", "asset"] = "plant"
    score: str = "auto"
    labels: Labels = Field(
        default="default", description="what labelled anomalies add to the score; strict, off"
    )
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="the variant's own settings, such as latent_dim"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _word_off(cls, labels: object) -> object:
        """YAML reads a bare off as false."""
        return "off" if labels is False else labels

    @field_validator("variant", "baseline")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        known = ("auto", *MEMBERS) if info.field_name == "variant" else BASELINES
        if name and name not in known:
            raise ValueError(f"{info.field_name} '{name}' is not known; {closest(name, known)}")
        return name

    @model_validator(mode="before")
    @classmethod
    def _one_of_both(cls, given: object) -> object:
        """A baseline takes the place of the variant, and has no settings and no other score."""
        if not isinstance(given, dict) or not given.get("baseline"):
            return given
        name = given["baseline"]
        if given.get("variant"):
            raise ValueError(
                f"variant '{given['variant']}' and baseline '{name}' are two models; leave one out"
            )
        if given.get("settings") or given.get("score", "auto") != "auto":
            raise ValueError(f"baseline '{name}' takes no settings and no score; leave them out")
        if given.get("labels", "default") != "default":
            raise ValueError(f"baseline '{name}' learns nothing from labels; leave labels out")
        return {**given, "variant": ""}
