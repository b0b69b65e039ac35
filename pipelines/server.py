"""A Prefect server of one's own, for a machine where none runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from vae_anomaly.errors import RegistryError

#: Seconds that a server may take to answer; a new database takes most of them.
START_S = 120


@contextmanager
def local_server() -> Iterator[str]:
    """Run a server with its scheduler on this machine; gives its address.

    The server that flows start by themselves has no scheduler, so a schedule would never run. It
    ends with this process, also where that is killed: two on one database would be in each
    other's way.

    Raises
    ------
    RegistryError
        The server ended, or does not answer.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.guard", *command, "--port", str(port)],
        # its pages ask port 4200 otherwise, whichever they are served from
        env=os.environ | {"PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt is for the serving process, which ends this one
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, f"{address}/api/health")
        yield address
    finally:
        process.communicate()  # closes what holds the server, and waits for it to end


def _wait(process: subprocess.Popen[bytes], health: str) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RegistryError("the Prefect server ended; run `prefect server start` to see why")
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise RegistryError(f"the Prefect server has not answered within {START_S} s; try again")
