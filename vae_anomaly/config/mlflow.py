"""mlflow.yml: where runs and models go, and what a new version must reach."""

from __future__ import annotations

import os
import re
from typing import Literal

from pydantic import Field, field_validator

from vae_anomaly.config.plant import PlantConfig
from vae_anomaly.config.section import Frozen

__all__ = ["Gate", "MlflowConfig"]


class Gate(Frozen):
    """What a challenger must reach on the same test part to become champion by itself."""

    promote: Literal["gate", "never"] = "gate"
    max_auroc_loss: float = Field(default=0.01, ge=0)
    max_detection_loss: float = Field(default=0.02, ge=0)
    max_false_alarm_rate: float = Field(default=0.05, gt=0, le=1, description="whatever the budget")
    max_false_alarm_ratio: float = Field(default=1.5, gt=0, description="against the champion's")


class MlflowConfig(Frozen):
    """mlflow.yml: where runs and models go. ``{plant}`` and ``{lake}`` are filled in."""

    tracking_uri: str = "sqlite:///{lake}/mlflow/mlflow.db"
    registry_uri: str | None = None
    artifact_root: str = "{lake}/mlflow/artifacts"
    experiment: str = "{plant}"
    model_name: str = "{plant}"
    champion: str = Field(default="champion", description="alias of the version that scores")
    challenger: str = Field(default="challenger", description="alias of the latest contender")
    gate: Gate = Gate()

    @field_validator("tracking_uri", "artifact_root", "experiment", "model_name")
    @classmethod
    def _known_fields(cls, template: str) -> str:
        for name in re.findall(r"\{(\w*)\}", template):
            if name not in ("plant", "lake"):
                raise ValueError(f"'{{{name}}}' in '{template}': only {{plant}} and {{lake}} exist")
        return template

    def filled(self, plant: PlantConfig) -> MlflowConfig:
        """This configuration for one plant; the standard MLflow variables win."""

        def fill(template: str) -> str:
            return template.format(plant=plant.name, lake=plant.lake_path.as_posix())

        tracking = os.environ.get("MLFLOW_TRACKING_URI") or fill(self.tracking_uri)
        registry = os.environ.get("MLFLOW_REGISTRY_URI") or self.registry_uri
        return self.model_copy(
            update={
                "tracking_uri": tracking,
                "registry_uri": fill(registry) if registry else tracking,
                "artifact_root": fill(self.artifact_root),
                "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME") or fill(self.experiment),
                "model_name": fill(self.model_name),
            }
        )
