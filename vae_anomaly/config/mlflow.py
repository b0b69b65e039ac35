"""mlflow.yml: where runs and models go, and what a new version must reach."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from vae_anomaly.config.place import is_bucket
from vae_anomaly.config.plant import PlantConfig
from vae_anomaly.config.section import Frozen
from vae_anomaly.errors import ConfigError

__all__ = ["Gate", "MlflowConfig"]


#: What modes were called once.
RENAMED = {"gate": "managed", "never": "manual"}


class Gate(Frozen):
    """What a challenger must show beside the champion, and whether it is promoted by itself then.

    `managed` promotes when everything holds; `manual` says that it holds, and waits for
    `vae-anomaly promote`.
    """

    promote: Literal["managed", "manual"] = "managed"
    max_auroc_loss: float = Field(default=0.01, ge=0)
    max_detection_loss: float = Field(default=0.02, ge=0, description="of anomalous rows")
    max_fault_loss: float = Field(default=0.1, ge=0, description="of faults found")
    max_false_alarm_rate: float = Field(default=0.05, gt=0, le=1, description="whatever the budget")
    max_false_alarm_ratio: float = Field(default=1.5, gt=0, description="against the champion's")
    confidence: float = Field(default=0.8, gt=0, lt=1, description="of differences")
    shadow: bool = Field(default=True, description="score what the champion scores, beside it")
    shadow_days: float = Field(default=0, ge=0, description="days of an asset that it must score")

    @field_validator("promote", mode="before")
    @classmethod
    def _new_words(cls, promote: str) -> str:
        if promote in RENAMED:
            raise ValueError(f"'{promote}' is called '{RENAMED[promote]}' now; write that")
        return promote


class MlflowConfig(Frozen):
    """mlflow.yml: where runs and models go. ``{plant}, {lake}, {work}`` are filled in."""

    tracking_uri: str = "sqlite:///{work}/mlflow/mlflow.db"
    registry_uri: str | None = None
    artifact_root: str = "{work}/mlflow/artifacts"
    experiment: str = "{plant}"
    model_name: str = "{plant}"
    champion: str = Field(default="champion", description="alias of the version that scores")
    challenger: str = Field(default="challenger", description="alias of the latest contender")
    previous: str = Field(default="previous", description="alias of what a rollback goes back to")
    gate: Gate = Gate()

    @field_validator("tracking_uri", "artifact_root", "experiment", "model_name")
    @classmethod
    def _known_fields(cls, template: str) -> str:
        for name in re.findall(r"\{(\w*)\}", template):
            if name not in ("plant", "lake", "work"):
                raise ValueError(
                    f"'{{{name}}}' in '{template}': only {{plant}}, {{lake}} and {{work}} exist"
                )
        return template

    def filled(self, plant: PlantConfig) -> MlflowConfig:
        """This configuration for one plant; the standard MLflow variables win.

        Raises
        ------
        ConfigError
            A database would lie in a bucket.
        """

        def fill(template: str) -> str:
            work = plant.work_path.as_posix()
            lake = plant.lake if is_bucket(plant.lake) else Path(plant.lake).as_posix()
            return template.format(plant=plant.name, lake=lake, work=work)

        tracking = os.environ.get("MLFLOW_TRACKING_URI") or fill(self.tracking_uri)
        registry = os.environ.get("MLFLOW_REGISTRY_URI") or self.registry_uri
        for name, uri in (("tracking_uri", tracking), ("registry_uri", fill(registry or ""))):
            if uri.startswith("sqlite:") and "s3:/" in uri:
                raise ConfigError(
                    f"mlflow.yml: {name}: '{uri}' would be a database in a bucket, which cannot "
                    "be; write {work} in place of {lake}, or name a server"
                )
        return self.model_copy(
            update={
                "tracking_uri": tracking,
                "registry_uri": fill(registry) if registry else tracking,
                "artifact_root": fill(self.artifact_root),
                "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME") or fill(self.experiment),
                "model_name": fill(self.model_name),
            }
        )
