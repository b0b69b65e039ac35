"""What a stack's folder remembers: ports, secrets, and which process is which."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipelines.stack.settings import ADMIN, MLFLOW_PORT, PREFECT_PORT
from vae_anomaly.errors import StackError

#: Files of a stack's folder.
STATE, CREDENTIALS, LOCK = "stack.json", "credentials.env", ".lock"


@dataclass(frozen=True)
class Process:
    """A process that was started; its pid alone may be another's by now."""

    service: str
    pid: int
    started: float  # seconds since 1970, as the kernel says


@dataclass(frozen=True)
class Stack:
    """Where a stack listens and keeps its things, and which processes it started.

    Parameters
    ----------
    folder : Path
        Absolute; logs, databases, artifacts and secrets lie in it.
    prefect_port, mlflow_port : int
        On 127.0.0.1.
    database : str
        URL of a PostgreSQL that runs already; empty for one of the stack's own.
    artifacts : str
        Folder or bucket of MLflow's artifacts; empty for a folder in `folder`.
    processes : tuple of Process
        What was started last, whether or not it still runs.
    """

    folder: Path
    prefect_port: int = PREFECT_PORT
    mlflow_port: int = MLFLOW_PORT
    database: str = ""
    artifacts: str = ""
    processes: tuple[Process, ...] = ()

    @property
    def ports(self) -> dict[str, int]:
        """Port of each service that listens."""
        return {"prefect": self.prefect_port, "mlflow": self.mlflow_port}

    @property
    def credentials(self) -> Path:
        """The file with the passwords, for its owner's eyes."""
        return self.folder / CREDENTIALS

    def address(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def log(self, service: str) -> Path:
        return self.folder / ("postgres/log" if service == "postgres" else f"{service}.log")

    def process(self, service: str) -> Process | None:
        """What was started last for a service."""
        return next((p for p in self.processes if p.service == service), None)

    def started(self, process: Process) -> Stack:
        """The same stack with a new process of a service."""
        others = tuple(p for p in self.processes if p.service != process.service)
        return replace(self, processes=(*others, process))


def read_state(folder: Path) -> Stack | None:
    """What was written last; None where no stack has been.

    Raises
    ------
    StackError
        The file is not ours, or not whole.
    """
    file = folder.absolute() / STATE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        processes = tuple(Process(**process) for process in found.pop("processes"))
        return Stack(folder=file.parent, processes=processes, **found)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise StackError(
            f"{file} is no state of a stack ({error}); delete it, and end by hand what still runs"
        ) from error


def write_state(stack: Stack) -> None:
    """Keep a stack's state, all at once: a kill leaves the former one."""
    content = asdict(stack)
    del content["folder"]
    write_private(stack.folder / STATE, json.dumps(content, indent=1) + "\n")


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner reads, all at once."""
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(draft, file)


def passwords(stack: Stack) -> Mapping[str, str]:
    """Passwords of a stack by the variable that carries them; drawn where there are none yet."""
    file = stack.credentials
    if not file.exists():
        drawn = {
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": secrets.token_urlsafe(24),
            "PREFECT_API_AUTH_STRING": f"{ADMIN}:{secrets.token_urlsafe(24)}",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
        }
        write_private(file, "".join(f"{k}={shlex.quote(v)}\n" for k, v in drawn.items()))
    lines = (shlex.split(line) for line in file.read_text(encoding="utf-8").splitlines())
    pairs = (words[0].partition("=") for words in lines if words)
    return {name: value for name, _, value in pairs}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a stack's folder, which is made if need be; two commands at once would undo each other.

    Raises
    ------
    StackError
        Another command holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"another `vae-anomaly stack` command works on {folder}; wait until it is done"
            ) from error
        yield
