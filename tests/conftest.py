"""What every test shares: no telemetry, no plotting window, no deadline on a loaded machine."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

settings.register_profile("vae_anomaly", deadline=None)
settings.load_profile("vae_anomaly")
