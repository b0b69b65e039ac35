"""Command for a whole stack on one machine: start it, look at it, stop it."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vae_anomaly.errors import StackError
from vae_anomaly.table import Table

if TYPE_CHECKING:
    from pipelines.stack import Started

__all__ = ["add_stack_options", "stack_command"]

#: What can be done with a stack.
ACTIONS = {
    "up": "start what does not run",
    "status": "say how each service is",
    "env": "print the variables of its clients, for eval",
    "down": "stop everything; nothing is deleted",
}

#: Seconds between two looks of a stack in the foreground at its services.
LOOK_S = 5


def add_stack_options(sub: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    said = "; ".join(f"{name}: {words}" for name, words in ACTIONS.items())
    sub.add_argument("action", choices=ACTIONS, help=said)
    sub.add_argument("--folder", type=Path, default=Path("stack"), help="default stack")
    sub.add_argument("--prefect-port", type=_port, metavar="PORT", help="default 4200")
    sub.add_argument("--mlflow-port", type=_port, metavar="PORT", help="default 5000")
    own = "of a PostgreSQL that runs already; default one of its own"
    sub.add_argument("--database", metavar="URL", help=own)
    place = "folder or s3:// of MLflow's artifacts; default in the folder"
    sub.add_argument("--artifacts", metavar="PLACE", help=place)
    stay = "stay until interrupted, then stop everything"
    sub.add_argument("--foreground", action="store_true", help=stay)


def stack_command(options: argparse.Namespace) -> Iterator[Table]:
    """Do what is asked for; tables to be shown, as they come.

    Raises
    ------
    StackError
        A server does not start, a port is taken, or an extra is not installed.
    """
    try:
        from pipelines import stack
    except ModuleNotFoundError as error:
        raise StackError(
            f"{error.name} is not installed; run: pip install 'vae-anomaly[stack]'"
        ) from error
    if options.action == "env":
        print("\n".join(_exports(options.folder)))
    elif options.action == "status":
        yield _status_table(options.folder)
    elif options.action == "down":
        yield _down(options.folder)
    else:
        asked = stack.Options(
            prefect_port=options.prefect_port,
            mlflow_port=options.mlflow_port,
            database=options.database,
            artifacts=_place(options.artifacts),
        )
        with _interruptible(), _telling() as on_step:
            started = stack.up(options.folder, asked, on_step)
        yield _up_table(started)
        if options.foreground:
            try:
                with _interruptible():
                    _watch(options.folder)
            finally:
                yield _down(options.folder)


def _up_table(started: Started) -> Table:
    """What was started, and how to use it."""
    folder = shlex.quote(str(started.stack.folder))
    said = f"started {', '.join(started.services)}" if started.services else "runs already"
    rows = (
        ("Prefect", started.stack.address("prefect")),
        ("MLflow", started.stack.address("mlflow")),
        ("passwords", str(started.stack.credentials)),
    )
    notes = (
        f'eval "$(vae-anomaly stack env --folder {folder})" tells this shell to use it',
        f"vae-anomaly stack down --folder {folder} stops it",
    )
    return Table("Stack", f"{said}.", ("", "where"), rows, notes)


def _exports(folder: Path) -> list[str]:
    """Lines for eval."""
    from pipelines.stack import client_environment, read_state

    found = read_state(folder)
    if found is None:
        raise _no_stack(folder)
    variables = client_environment(found)
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def _no_stack(folder: Path) -> StackError:
    where = shlex.quote(str(folder))
    return StackError(
        f"no stack in {folder}; start one with: vae-anomaly stack up --folder {where}"
    )


def _status_table(folder: Path) -> Table:
    from pipelines.stack import status

    found = status(folder)
    if not found:
        raise _no_stack(folder)
    running = [one for one in found if one.state == "running"]
    rows = tuple(
        (
            one.service,
            one.state,
            "" if one.pid is None else str(one.pid),
            "" if one.since is None else f"{one.since:%Y-%m-%d %H:%M:%S} UTC",
            one.address,
            os.path.relpath(one.log),
        )
        for one in found
    )
    columns = ("service", "state", "pid", "since", "address", "log")
    return Table("Stack", f"{len(running)} of {len(found)} services run.", columns, rows)


def _down(folder: Path) -> Table:
    from pipelines.stack import client_environment, down, read_state

    found = read_state(folder)
    with _telling() as on_step:
        stopped = down(folder, on_step)
    said = f"stopped {', '.join(stopped)}" if stopped else "nothing was running"
    notes: tuple[str, ...] = ()
    if found is not None:
        names = " ".join(client_environment(found))
        notes = (f"a shell that was told to use it still does; there: unset {names}",)
    return Table("Stack", f"{said}; what it holds stays in {folder}.", (), (), notes)


def _watch(folder: Path) -> None:
    """Stay until interrupted.

    Raises
    ------
    StackError
        A service ended.
    """
    from pipelines.stack import status

    while True:
        time.sleep(LOOK_S)
        for one in status(folder):
            if one.state == "stopped":
                raise StackError(f"{one.service} ended; its log is {one.log}")


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """A line that says what is under way; where no terminal is, a line a step."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("…") as line:

        def on_step(said: str) -> None:
            if console.is_terminal:
                line.update(f"{said} …")
            else:
                console.print(f"{said} …")

        yield on_step


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a service manager's SIGTERM do what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _port(text: str) -> int:
    """A number of a port; argparse says what is wrong with another text."""
    port = int(text)
    if not 1024 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port from 1024 to 65535")
    return port


def _place(artifacts: str | None) -> str | None:
    """A folder as seen from here; a bucket stays as it is."""
    return artifacts if artifacts is None or "://" in artifacts else str(Path(artifacts).absolute())
