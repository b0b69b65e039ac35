"""Processes of a stack: started in a group of their own, told apart from strangers, ended whole."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.error import URLError

import psutil

from pipelines.stack.state import Process
from vae_anomaly.errors import StackError

#: Every process that a stack starts, and each of theirs, carries ``<folder>:<service>`` in it.
MARK = "VAE_ANOMALY_STACK"

#: The kernel's start times move by as much when the clock is set.
CLOCK_S = 2

#: Seconds that a process may take to end by itself before it is killed.
STOP_S = 20

#: Seconds that a server may take to answer; a new database takes most of them.
START_S = 180


def start(
    command: Iterable[str], environment: Mapping[str, str], *, folder: Path, service: str, log: Path
) -> Process:
    """Start a Python module in the background, its words in a log."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **environment, MARK: f"{folder}:{service}"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's interrupt is not for it
        )
    return identified(process.pid, service)


def identified(pid: int, service: str) -> Process:
    """A running process, so that it can be told from a later one with the same pid."""
    return Process(service, pid, psutil.Process(pid).create_time())


def is_running(process: Process | None) -> bool:
    """Whether it still runs, and is not another that got its pid."""
    if process is None:
        return False
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started) < CLOCK_S
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marked(folder: Path, service: str) -> list[psutil.Process]:
    """Processes that a service of a stack started, its own included."""
    return [p for p in psutil.process_iter() if _mark(p) == f"{folder}:{service}"]


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):  # gone, or another user's
        return ""


def end(folder: Path, service: str) -> int:
    """End what a service of a stack left running, by SIGTERM, then by SIGKILL; how many it was."""
    found = marked(folder, service)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)  # psutil holds the start time against the pid
    _, left = psutil.wait_procs(found, timeout=STOP_S)
    for process in {*left, *marked(folder, service)}:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=STOP_S)
    return len(found)


def refuse_taken(port: int, service: str) -> None:
    """Raise where somebody listens on a port already.

    Raises
    ------
    StackError
        Somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(
                f"port {port} for {service} is taken ({error.strerror}); end what listens there, "
                f"or give another with --{service}-port"
            ) from error


def answers(url: str) -> bool:
    """Whether a server says that it is well."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (URLError, OSError):
        return False


def until(is_well: Callable[[], bool], process: Process, log: Path) -> None:
    """Wait until a process does its work.

    Raises
    ------
    StackError
        It ended, or does not in time; the last words of its log are told.
    """
    last = time.monotonic() + START_S
    while not is_well():
        if not is_running(process):
            raise StackError(f"{process.service} ended; {last_words(log)}")
        if time.monotonic() > last:
            raise StackError(f"{process.service} is not up after {START_S} s; {last_words(log)}")
        time.sleep(0.3)


def last_words(log: Path, n_lines: int = 8) -> str:
    """The end of a log, for an error message."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    said = "\n".join(f"  {line}" for line in lines[-n_lines:])
    return f"{log} ends with:\n{said}" if said else f"{log} says nothing"
