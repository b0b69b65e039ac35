"""PostgreSQL, a Prefect and an MLflow server on it, and how one of them dies."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.stack.commands import Options, down, up
from pipelines.stack.environment import client_environment
from pipelines.stack.processes import is_running
from pipelines.stack.state import read_state

#: Seconds that the system may take to end what was killed.
DIES_S = 30


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """A stack of its own; gives what its clients have to know, and ends with the block."""
    up(folder, Options(prefect_port=free_port(), mlflow_port=free_port()), print)
    try:
        stack = read_state(folder)
        assert stack is not None
        yield client_environment(stack)
    finally:
        down(folder, lambda said: None)


def kill(folder: Path, service: str, *, after_s: float = 0.0) -> None:
    """SIGKILL one service with all its workers, by the process id that the stack remembers."""
    time.sleep(after_s)
    stack = read_state(folder)
    process = None if stack is None else stack.process(service)
    assert process is not None
    if os.getpgid(process.pid) == process.pid:  # its workers would go on answering
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + DIES_S
    while is_running(process) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.5)  # for its workers


def heal(folder: Path) -> tuple[str, ...]:
    """What a person does next: `up` again starts what is gone; what that was."""
    return up(folder, Options(), lambda said: None).services


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
