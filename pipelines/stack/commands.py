"""Start a stack, stop it, and say how it is."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.error import URLError

from pipelines.stack.environment import client_environment, command, environment
from pipelines.stack.postgres import (
    ensure_databases,
    postgres_url,
    start_postgres,
    stop_postgres,
)
from pipelines.stack.processes import (
    answers,
    end,
    is_running,
    refuse_taken,
    start,
    until,
)
from pipelines.stack.settings import POOL, SERVICES, WORKER
from pipelines.stack.state import Process, Stack, locked, read_state, write_state
from vae_anomaly.errors import StackError

#: Every service, in the order in which they start; they stop in the other one.
ORDER = ("postgres", *SERVICES)


@dataclass(frozen=True)
class Options:
    """What `up` is asked for; None leaves it as it was, or as it is by default."""

    prefect_port: int | None = None
    mlflow_port: int | None = None
    database: str | None = None
    artifacts: str | None = None


@dataclass(frozen=True)
class Started:
    """A stack that is up, and which services this call started."""

    stack: Stack
    services: tuple[str, ...]


@dataclass(frozen=True)
class ServiceStatus:
    """How a service is: running, does not answer, or stopped."""

    service: str
    state: str
    pid: int | None
    since: datetime | None
    address: str
    log: Path


def up(folder: Path, options: Options, on_step: Callable[[str], None]) -> Started:
    """Start what does not run, and wait until it answers; what runs stays as it is.

    Parameters
    ----------
    folder : Path
        Of the stack; made if need be.
    options : Options
        Ports and places that differ from those of the last time.
    on_step : callable
        Called with a sentence as each step begins.

    Raises
    ------
    StackError
        A port is taken, a server does not start, or a running stack is asked to change.
    """
    folder = folder.absolute()
    with locked(folder):
        before = read_state(folder) or Stack(folder)
        stack = _asked(before, options)
        running = [name for name in ORDER if is_running(before.process(name))]
        if stack != before and running:
            raise StackError(
                f"the stack in {folder} runs with other ports or places ({', '.join(running)}); "
                "run `vae-anomaly stack down` first, or leave the options out"
            )
        wanted = {*ORDER} - {*running} - ({"postgres"} if stack.database else set())
        try:
            stack = _start(stack, {"postgres"} & wanted, on_step)
            ensure_databases(postgres_url(folder, stack.database))
            stack = _start(stack, {"prefect", "mlflow"} & wanted, on_step)
            stack = _start(stack, {"worker"} & wanted, on_step)
        except BaseException:
            for name in sorted(wanted, key=ORDER.index, reverse=True):
                _stop(read_state(folder) or stack, name)
            raise
    return Started(stack, tuple(name for name in ORDER if name in wanted))


def _asked(stack: Stack, options: Options) -> Stack:
    """The stack with what is asked for in place of what was."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    return replace(stack, **given)


def _start(stack: Stack, names: set[str], on_step: Callable[[str], None]) -> Stack:
    """Start services at once, then wait for each; the state is written before the wait."""
    for name in sorted(names, key=ORDER.index):
        on_step(f"starting {name}")
        if name == "postgres":
            process = start_postgres(stack.folder)
        else:
            process = _start_service(stack, name)
        stack = stack.started(process)
        write_state(stack)
    for process in stack.processes:
        if process.service in names - {"postgres"}:
            on_step(f"waiting for {process.service}")
            until(partial(_is_well, stack, process.service), process, stack.log(process.service))
    return stack


def _start_service(stack: Stack, name: str) -> Process:
    """Start a service; what a killed one left goes first, but for the runs of a worker."""
    if name in stack.ports:
        end(stack.folder, name)
        refuse_taken(stack.ports[name], name)
    return start(
        command(stack, name),
        environment(stack, name),
        folder=stack.folder,
        service=name,
        log=stack.log(name),
    )


def _is_well(stack: Stack, name: str) -> bool:
    """Whether a service does its work: a server answers, a worker tells the server of itself."""
    if name in stack.ports:
        return answers(stack.address(name) + SERVICES[name].health)
    client = client_environment(stack)
    request = urllib.request.Request(
        f"{client['PREFECT_API_URL']}/work_pools/{POOL}/workers/filter",
        data=b"{}",
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic "
            + base64.b64encode(client["PREFECT_API_AUTH_STRING"].encode()).decode(),
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            workers = json.load(answer)
    except (URLError, OSError):
        return False
    process = stack.process(name)
    return process is not None and any(
        datetime.fromisoformat(worker["last_heartbeat_time"]).timestamp() > process.started
        for worker in workers
        if worker["name"] == WORKER
    )


def status(folder: Path) -> tuple[ServiceStatus, ...]:
    """How each service of a stack is; nothing where there never was one."""
    stack = read_state(folder)
    if stack is None:
        return ()
    return tuple(_status(stack, name) for name in ORDER if name != "postgres" or not stack.database)


def _status(stack: Stack, name: str) -> ServiceStatus:
    process = stack.process(name)
    address = stack.address(name) if name in stack.ports else ""
    if process is None or not is_running(process):
        return ServiceStatus(name, "stopped", None, None, address, stack.log(name))
    well = name == "postgres" or _is_well(stack, name)
    since = datetime.fromtimestamp(process.started, UTC)
    state = "running" if well else "does not answer"
    return ServiceStatus(name, state, process.pid, since, address, stack.log(name))


def down(folder: Path, on_step: Callable[[str], None]) -> tuple[str, ...]:
    """Stop everything, the worker first and PostgreSQL last; the services that still ran.

    Parameters
    ----------
    folder : Path
        Of the stack; its logs, databases, artifacts and secrets stay.
    on_step : callable
        Called with a sentence as each step begins.
    """
    folder = folder.absolute()
    stack = read_state(folder)
    if stack is None:
        return ()
    with locked(folder):
        stopped = []
        for name in reversed(ORDER):
            on_step(f"stopping {name}")
            if _stop(stack, name):
                stopped.append(name)
        write_state(replace(stack, processes=()))
    return tuple(stopped)


def _stop(stack: Stack, name: str) -> bool:
    """Stop one service with all that it started; whether anything ran."""
    if name == "postgres":
        return stop_postgres(stack.process(name))
    return end(stack.folder, name) > 0
