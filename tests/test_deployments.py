"""Schedules on a real server: `prefect deploy` with a worker, and `vae-anomaly serve`."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import pytest
import yaml
from crash import lake_content, run_all, write_file, write_plant
from webhook_receiver import SECRET, Receiver

from vae_anomaly.config import SCHEDULED, Schedule, read_plant
from vae_anomaly.errors import ConfigError
from vae_anomaly.steps.ingest import ingest

ROOT = Path(__file__).parents[1]

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

TOLD = "notifications: {blocks: [signed-webhook/crashes]}\n"


@contextmanager
def running(
    command: list[str], said: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own, whose words go to a file; interrupted at the end."""
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | environment,
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            # a shell's background job ignores interrupts, and so would its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(
    fact: Callable[[], bool], process: subprocess.Popen[bytes], said: Path, seconds: float = 240
) -> None:
    until = time.monotonic() + seconds
    while not fact():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < until, said.read_text()
        time.sleep(0.5)


def scheduled_runs(address: str, *, plant: str, states: tuple[str, ...]) -> list[str]:
    """Names of the runs of a plant that the scheduler created and that are in a state."""
    wanted = {
        "flow_runs": {"state": {"type": {"any_": states}}, "tags": {"all_": ["vae-anomaly", plant]}}
    }
    found = httpx.post(f"{address}/api/flow_runs/filter", json=wanted, timeout=10)
    return [run["name"] for run in found.raise_for_status().json() if run["auto_scheduled"]]


def save_block(address: str, receiver: Receiver) -> None:
    """Save the block on which plants of this file tell of failures."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from pipelines.webhook import SignedWebhook

    with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
        SignedWebhook(url=receiver.url, secret=SECRET).save("crashes", overwrite=True)


def kill_a_run(address: str, deployment: str, runner: psutil.Process) -> str:
    """Have a deployment run, kill the process of its run with SIGKILL; how the run ended."""
    ask = httpx.Client(base_url=f"{address}/api", timeout=10)
    found = ask.get(f"/deployments/name/{deployment}").raise_for_status().json()["id"]
    made = ask.post(f"/deployments/{found}/create_flow_run", json={"state": {"type": "SCHEDULED"}})
    run = f"/flow_runs/{made.raise_for_status().json()['id']}"
    until = time.monotonic() + 120
    killed = False
    while (state := ask.get(run).json()["state"]["type"]) not in ENDED:
        assert time.monotonic() < until, state
        if state == "RUNNING" and not killed:
            (process,) = (p for p in runner.children(recursive=True) if runs(p, run))
            process.kill()
            killed = True
        time.sleep(0.1)
    assert killed
    return str(state)


def runs(process: psutil.Process, run: str) -> bool:
    """Whether a process without children is that of a flow run."""
    try:
        own = process.environ().get("PREFECT__FLOW_RUN_ID", "")
        return bool(own) and own in run and not process.children()
    except psutil.Error:
        return False


@pytest.mark.slow
def test_worker_scores_what_the_schedule_of_prefect_yaml_says(
    prefect_server: str, receiver: Receiver, tmp_path: Path
) -> None:
    """`prefect deploy --all` as it stands, but for the plant and shorter intervals."""
    plant = write_plant(tmp_path, baseline=True)
    plant.write_text(plant.read_text() + TOLD)
    save_block(prefect_server, receiver)
    run_all(read_plant(plant))
    write_file(tmp_path / "incoming/9.csv", 9, n_rows=400, seed=0)
    ingest(read_plant(plant))
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for entry in declared["deployments"]:
        entry |= {"name": "crash", "tags": ["vae-anomaly", "crash"]}
        entry["parameters"]["parameters"]["plant"] = str(plant)
        if entry["entrypoint"].endswith(":score"):
            entry["schedules"] = [{"interval": 5}]
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(declared))
    server = {"PREFECT_API_URL": f"{prefect_server}/api", "PREFECT_WORKER_QUERY_SECONDS": "1"}
    for command in (
        ["work-pool", "create", "vae-anomaly", "--type", "process"],
        ["--no-prompt", "deploy", "--all", "--prefect-file", str(tmp_path / "prefect.yaml")],
    ):
        subprocess.run(
            [sys.executable, "-m", "prefect", *command], cwd=ROOT, env=os.environ | server,
            check=True, capture_output=True,
        )  # fmt: skip
    said = tmp_path / "said.txt"

    def scored() -> bool:
        done = scheduled_runs(prefect_server, plant="crash", states=("COMPLETED",))
        return any(re.fullmatch(r"score crash .* → .*, [\d,]+ rows", name) for name in done)

    with running(["prefect", "worker", "start", "--pool", "vae-anomaly"], said, server) as worker:
        wait_for(scored, worker, said)
        assert not scheduled_runs(prefect_server, plant="crash", states=("FAILED", "CRASHED"))
        runner = psutil.Process(worker.pid)
        assert kill_a_run(prefect_server, "retrain/crash", runner) == "CRASHED"
        wait_for(lambda: "flow.failed" in receiver.types(), worker, said, 30)
    content = lake_content(tmp_path / "lake/crash")
    assert len(content["files"]) == 5
    assert len(content["verdicts"]) == len(content["readings"])


@pytest.mark.slow
def test_serve_runs_the_schedules_of_two_plants_side_by_side(
    receiver: Receiver, tmp_path: Path
) -> None:
    """A server that `serve` starts itself, and runs that nobody but the schedule created."""
    plants = []
    for name, n_files in (("one", 1), ("two", 2)):
        plants.append(write_plant(tmp_path / name, n_files=n_files, baseline=True))
        text = plants[-1].read_text().replace("name: crash", f"name: {name}")
        plants[-1].write_text(text + 'schedule: {ingest: "* * * * *", score: off}\n')
    (tmp_path / "prefect").mkdir()
    environment = {
        "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONUNBUFFERED": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }  # fmt: skip
    said = tmp_path / "said.txt"
    command = ["vae_anomaly", "serve", *map(str, plants)]

    def both_ingested() -> bool:
        return said.read_text().count("rows read =") >= 2

    with running(command, said, environment) as process:
        wait_for(both_ingested, process, said)
        address = re.search(r"Prefect page: (http://127\.0\.0\.1:\d+)", said.read_text())
        assert address is not None
        settings = httpx.get(f"{address[1]}/ui-settings", timeout=10).json()
        assert settings["api_url"] == f"{address[1]}/api"  # else its pages stay empty
        for plant in ("one", "two"):
            assert scheduled_runs(address[1], plant=plant, states=("RUNNING", "COMPLETED"))
        save_block(address[1], receiver)
        plants[0].write_text(plants[0].read_text() + TOLD)  # counts from the next run on
        runner = psutil.Process(process.pid)
        assert kill_a_run(address[1], "retrain/one", runner) == "CRASHED"
        wait_for(lambda: receiver.types() == ["flow.failed"], process, said, 30)
        (message,) = receiver.messages.values()
        assert message["subject"] == "one: retrain failed"
        process.terminate()  # as a service manager does
        process.wait(timeout=60)
    assert process.returncode == 0, said.read_text()
    assert said.read_text().endswith("stopped\n")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address[1]}/api/health", timeout=5)
    for name, n_files in (("one", 1), ("two", 2)):
        assert len(lake_content(tmp_path / name / "lake" / name)["files"]) == n_files


@pytest.mark.slow
def test_run_that_was_killed_with_its_server_gives_its_turn_back(
    prefect_server: str,
    receiver: Receiver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody works on a run that took the turn: to the next to serve, it was killed."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Cancelling, Pending, Running

    from pipelines.serve import deployments, end_killed_runs, end_stopped_runs

    monkeypatch.setattr(logging.getLogger("prefect.vae_anomaly"), "handlers", [caplog.handler])
    save_block(prefect_server, receiver)
    plant = write_plant(tmp_path, baseline=True)
    plant.write_text(plant.read_text().replace("name: crash", "name: killed") + TOLD)
    config = read_plant(plant)
    with temporary_settings({PREFECT_API_URL: f"{prefect_server}/api"}):
        deployed = next(d for d in deployments(plant) if d.flow_name == "score").apply()
        with get_client(sync_client=True) as client:

            def begun() -> tuple[UUID, str]:
                run = client.create_flow_run_from_deployment(deployed).id
                taken = client.set_flow_run_state(run, Pending())
                return run, taken.state.name if taken.state else ""

            run, state = begun()
            assert state == "Pending"
            client.set_flow_run_state(run, Running())
            assert begun()[1] == "Cancelled"
            end_killed_runs(config)
            end_killed_runs(config)
            assert client.read_flow_run(run).state_name == "Crashed"
            assert receiver.types() == ["flow.failed"]

            stopped, _ = begun()  # somebody cancelled it before it was killed
            client.set_flow_run_state(stopped, Running())
            client.set_flow_run_state(stopped, Cancelling())
            assert begun()[1] == "Cancelled"
            end_killed_runs(config)
            assert client.read_flow_run(stopped).state_name == "Cancelled"

            ended, _ = begun()  # a stop that was asked for is nothing to tell people of
            end_stopped_runs(config)
            busy, _ = begun()
            client.set_flow_run_state(busy, Running())
            end_stopped_runs(config)
            end_killed_runs(config)
            assert {client.read_flow_run(r).state_name for r in (ended, busy)} == {"Cancelled"}
            assert receiver.types() == ["flow.failed"]

            odd, state = begun()
            assert state == "Pending"
            client.update_flow_run(odd, parameters={})
            end_killed_runs(config)
            not_told = f"people are not told of run '{client.read_flow_run(odd).name}'"
            assert not_told in caplog.text
            assert begun()[1] == "Pending"
    assert receiver.types() == ["flow.failed"]


STARTER = """
import subprocess, sys, time
guard = [sys.executable, "-m", "pipelines.guard", sys.executable, "-c"]
told = "import time; print('begun', flush=True); time.sleep(60)"
subprocess.Popen([*guard, told], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(60)
"""


def test_server_of_serve_ends_with_it_though_it_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], cwd=ROOT, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"begun\n"
        left = psutil.Process(starter.pid).children(recursive=True)
        assert len(left) == 2
        starter.kill()
        _, alive = psutil.wait_procs(left, timeout=10)
        assert alive == []


def test_guard_ends_with_its_command() -> None:
    command = [sys.executable, "-m", "pipelines.guard", sys.executable, "-c", "raise SystemExit(7)"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as guard:
        assert guard.wait(timeout=10) == 7


GUARD = """
import sys
from pipelines.guard import guarded
sys.exit(guarded([sys.executable, "-c", sys.argv[1]], end_s=0.3))
"""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("begun", flush=True)
time.sleep(60)
"""

WITH_CHILD = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
"""


def begun(command: str) -> subprocess.Popen[bytes]:
    """A guard with its command."""
    guard = [sys.executable, "-c", GUARD, command]
    return subprocess.Popen(guard, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def is_left(pid: int) -> bool:
    """Whether a process goes on; one that was killed may need a moment to end."""
    until = time.monotonic() + 5
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                return True
            time.sleep(0.02)
    return False


@pytest.mark.parametrize("end", ["close", "SIGTERM", "SIGINT"])
@pytest.mark.parametrize("command", [STUBBORN, WITH_CHILD + "time.sleep(60)"])
def test_nothing_outlives_a_guard_that_is_to_end(command: str, end: str) -> None:
    """Also what ignores SIGTERM, and though its own parent has ended."""
    with begun(command) as guard:
        assert guard.stdin is not None
        assert guard.stdout is not None
        guard.stdout.readline()
        left = psutil.Process(guard.pid).children(recursive=True)
        assert len(left) == (1 if command == STUBBORN else 2)
        if end == "close":
            guard.stdin.close()
        else:
            guard.send_signal(signal.Signals[end])
        guard.wait(timeout=10)
    assert not any(is_left(process.pid) for process in left)


def test_guard_ends_what_its_command_left_behind() -> None:
    with begun(WITH_CHILD) as guard:
        assert guard.stdout is not None
        child = int(guard.stdout.readline())
        assert guard.wait(timeout=10) == 0
    assert not is_left(child)


def test_prefect_yaml_says_what_serve_does(tmp_path: Path) -> None:
    from prefect.utilities.importtools import import_object

    from pipelines.parameters import PlantParameters
    from pipelines.serve import deployments

    served = {d.flow_name: d for d in deployments(write_plant(tmp_path))}
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [entry["entrypoint"] for entry in declared] == [
        f"pipelines/{name}.py:{name}" for name in SCHEDULED
    ]
    assert list(served) == list(SCHEDULED)
    for entry in declared:
        flow = import_object(str(ROOT / entry["entrypoint"]))
        same = served[flow.name]
        (schedule,) = entry["schedules"]
        assert schedule["cron"] == same.schedules[0].schedule.cron
        assert schedule["timezone"] == same.schedules[0].schedule.timezone
        assert entry["concurrency_limit"]["limit"] == same.concurrency_limit == 1
        assert (
            entry["concurrency_limit"]["collision_strategy"]
            == same.concurrency_options.collision_strategy.value
            == "CANCEL_NEW"
        )
        assert [tag.replace("crash", "demo") for tag in same.tags] == entry["tags"]
        PlantParameters.model_validate(entry["parameters"]["parameters"])


def test_a_flow_that_is_off_is_not_served(tmp_path: Path) -> None:
    from pipelines.serve import deployments

    plant = write_plant(tmp_path)
    text = plant.read_text() + "schedule: {retrain: off, monitor: 'off'}\n"
    plant.write_text(text)
    served = {d.flow_name: d.schedules for d in deployments(plant)}
    assert list(served) == ["ingest", "score", "retrain"]
    assert not served["retrain"], "the automation runs it, no schedule does"
    plant.write_text(text + "monitoring: {retrain: false}\n")
    assert [d.flow_name for d in deployments(plant)] == ["ingest", "score"]


def test_plants_served_together_have_names_and_lakes_of_their_own(tmp_path: Path) -> None:
    from pipelines.serve import served_plants

    one, two = write_plant(tmp_path / "one"), write_plant(tmp_path / "two")
    with pytest.raises(ConfigError, match="same name, 'crash'"):
        served_plants([one, two])
    shared = tmp_path / "shared"
    two.write_text(two.read_text().replace("name: crash", "name: other"))
    assert [config.name for config in served_plants([one, two]).values()] == ["crash", "other"]
    for plant in (one, two):
        plant.write_text(plant.read_text() + f"lake: {shared}\n")
    with pytest.raises(ConfigError, match="same lake"):
        served_plants([one, two])


def test_a_plant_without_any_schedule_is_not_served(tmp_path: Path) -> None:
    from pipelines.serve import served_plants

    plant = write_plant(tmp_path)
    lines = ", ".join(f"{flow}: off" for flow in SCHEDULED)
    plant.write_text(plant.read_text() + f"schedule: {{{lines}}}\n")
    with pytest.raises(ConfigError, match="every line of schedule is off"):
        served_plants([plant])


@pytest.mark.parametrize(
    ("given", "said"),
    [({"score": "hourly"}, "not a cron line"), ({"zone": "Mars/Base"}, "IANA")],
)
def test_a_schedule_that_cannot_be_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Schedule.model_validate(given)


@pytest.mark.slow
def test_plant_whose_block_is_not_saved_is_not_served(
    prefect_server: str, receiver: Receiver, tmp_path: Path
) -> None:
    from prefect.blocks.system import Secret
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from pipelines.serve import serve

    save_block(prefect_server, receiver)
    plant = write_plant(tmp_path)
    text = plant.read_text().replace("name: crash", "name: unserved")
    with temporary_settings({PREFECT_API_URL: f"{prefect_server}/api"}):
        Secret(value="x").save("no-notification", overwrite=True)
        for block, said in (
            ("slack-webhook/operators", "'slack-webhook/operators' is not saved .*operations.md"),
            ("secret/no-notification", "sends no notifications"),
        ):
            blocks = f"notifications: {{blocks: [signed-webhook/crashes, {block}]}}\n"
            plant.write_text(text + blocks)
            with pytest.raises(ConfigError, match=said):
                serve([plant])
        with get_client(sync_client=True) as client:
            assert "unserved" not in {d.name for d in client.read_deployments()}
