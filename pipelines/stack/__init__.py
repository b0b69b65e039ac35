"""A whole stack on one machine: PostgreSQL, Prefect, MLflow and a worker, as plain processes."""

from pipelines.stack.commands import Options, ServiceStatus, Started, down, status, up
from pipelines.stack.environment import client_environment
from pipelines.stack.state import Stack, read_state

__all__ = [
    "Options",
    "ServiceStatus",
    "Stack",
    "Started",
    "client_environment",
    "down",
    "read_state",
    "status",
    "up",
]
