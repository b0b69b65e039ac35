"""MLflow: runs, data sets, models and their registry. Only here and in `mlflow_model` is it known.

::

    connection   finding out within seconds whether MLflow answers; its errors and chatter
    plant        Tracking: one plant's experiment and registered model
    model        the MLflow model around a sealed package; mlflow_model.py is what it runs
    champion     the champion's package, from the registry or from the cache beside the lake
    names        what MLflow takes as names, values and types
"""

from __future__ import annotations

from vae_anomaly.tracking.champion import Champion, champion_package
from vae_anomaly.tracking.connection import is_made
from vae_anomaly.tracking.plant import Tracking, Version, open_tracking

__all__ = [
    "Champion",
    "Tracking",
    "Version",
    "champion_package",
    "is_made",
    "open_tracking",
]
