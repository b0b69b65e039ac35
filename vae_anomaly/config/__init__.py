"""plant.yml and mlflow.yml: what is watched, how, and where the models go.

Everything that can be set stands here once, with its default: a file a section. Unknown keys are
refused with the closest known one; relative paths are relative to the file that names them.
"""

from __future__ import annotations

from vae_anomaly.config.alarms import SECONDS, AlarmRule, Alarms, Budget
from vae_anomaly.config.contract import (
    MISSING_TEXTS,
    AssetName,
    Contract,
    LongLayout,
    Quality,
    Resampling,
    RunCondition,
    Sampling,
    Sensor,
    TimeColumn,
)
from vae_anomaly.config.mlflow import Gate, MlflowConfig
from vae_anomaly.config.model import Labels, ModelConfig
from vae_anomaly.config.monitoring import Monitoring
from vae_anomaly.config.notifications import Notifications
from vae_anomaly.config.parts import PARTS, Exclusion, Part, PartRange, Parts
from vae_anomaly.config.place import is_bucket
from vae_anomaly.config.plant import (
    Calibration,
    PlantConfig,
    Training,
    default_variant,
    is_series,
    window_rows,
)
from vae_anomaly.config.reading import read_mlflow, read_plant, settings_digest
from vae_anomaly.config.schedule import OFF, SCHEDULED, Schedule
from vae_anomaly.config.source import ANY_TIME, WHITESPACE, Database, Limit, Source

__all__ = [
    "ANY_TIME",
    "MISSING_TEXTS",
    "OFF",
    "PARTS",
    "SCHEDULED",
    "SECONDS",
    "WHITESPACE",
    "AlarmRule",
    "Alarms",
    "AssetName",
    "Budget",
    "Calibration",
    "Contract",
    "Database",
    "Exclusion",
    "Gate",
    "Labels",
    "Limit",
    "LongLayout",
    "MlflowConfig",
    "ModelConfig",
    "Monitoring",
    "Notifications",
    "Part",
    "PartRange",
    "Parts",
    "PlantConfig",
    "Quality",
    "Resampling",
    "RunCondition",
    "Sampling",
    "Schedule",
    "Sensor",
    "Source",
    "TimeColumn",
    "Training",
    "default_variant",
    "is_bucket",
    "is_series",
    "read_mlflow",
    "read_plant",
    "settings_digest",
    "window_rows",
]
