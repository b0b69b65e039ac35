"""An MLflow server of a test's own, on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vae_anomaly.config import PlantConfig
from vae_anomaly.errors import RegistryUnreachableError
from vae_anomaly.tracking import Tracking, open_tracking


@contextmanager
def running(store: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the database and the artifacts in a folder; its process group ends with the test."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{store}/mlflow.db"]
    command += ["--artifacts-destination", str(store / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (store / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=store, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # the test killed it
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_for(plant: PlantConfig) -> Tracking:
    """The plant's registry, once its server answers."""
    for _ in range(120):
        try:
            return open_tracking(plant)
        except RegistryUnreachableError:
            time.sleep(0.5)
    raise AssertionError("the server did not start within a minute")
