"""The flows, once for real on a server of Prefect's own, and without Prefect."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from crash import lake_content, write_plant

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """A real Prefect server with a database of its own."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.slow
def test_run_does_everything_once(server: None, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    from pipelines.parameters import PlantParameters
    from pipelines.run import run

    plant = write_plant(tmp_path)
    first = run(PlantParameters(plant=plant))
    assert first.ingested.counts.complete
    assert first.registered.alias == "champion"
    assert first.scored.n_rows == first.ingested.counts.n_accepted
    before = lake_content(tmp_path / "lake/crash")

    second = run(PlantParameters(plant=plant))
    assert second.ingested.counts.n_read == 0
    assert second.trained.registered == first.registered.version.version
    assert second.calibrated is None
    assert second.registered.existed
    assert second.scored.n_rows == 0
    assert lake_content(tmp_path / "lake/crash") == before

    with get_client(sync_client=True) as client:
        keys = {artifact.key for artifact in client.read_artifacts()}
    assert {"ingest", "train", "calibrate", "register", "score"} <= keys


@pytest.mark.slow
def test_bad_parameters_are_refused_by_the_flow(server: None) -> None:
    from prefect.exceptions import ParameterTypeError

    from pipelines.ingest import ingest

    with pytest.raises(ParameterTypeError):
        ingest({"plnt": "x.yml"})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own, ended by its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_serve_ingests_when_the_schedule_says_so(tmp_path: Path) -> None:
    """A real server, and a run that nobody but the schedule created."""
    plant = write_plant(tmp_path, n_files=1)
    plant.write_text(plant.read_text() + 'schedule: {ingest: "* * * * *", score: "0 0 1 1 *"}\n')
    port = free_port()
    home = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    (tmp_path / "prefect").mkdir()
    server = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with running(*server, **home) as started:
        wait_for(lambda: answers(port), started, seconds=120)
        with running("vae_anomaly", "serve", str(plant), **home) as serving:
            wait_for(lambda: bool(scheduled_runs(port)), serving, seconds=180)
    assert len(lake_content(tmp_path / "lake/crash")["files"]) == 1


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def scheduled_runs(port: int) -> list[str]:
    """Names of the completed runs that the scheduler created."""
    wanted = {
        "flow_runs": {
            "state": {"type": {"any_": ["COMPLETED"]}},
            "tags": {"all_": ["auto-scheduled"]},
        }
    }
    found = httpx.post(f"http://127.0.0.1:{port}/api/flow_runs/filter", json=wanted, timeout=10)
    return [run["name"] for run in found.raise_for_status().json()]


def wait_for(
    is_so: Callable[[], bool], process: subprocess.Popen[bytes], *, seconds: float
) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert process.poll() is None, "the process ended"
        assert time.monotonic() < until, f"nothing within {seconds} s"
        time.sleep(1)


def test_flows_work_without_prefect(tmp_path: Path) -> None:
    from pipelines.ingest import read_source
    from pipelines.parameters import PlantParameters

    report = read_source.fn(PlantParameters(plant=write_plant(tmp_path, n_files=1)))
    assert report.counts.complete


def test_prefect_yaml_names_what_serve_serves(tmp_path: Path) -> None:
    from prefect.utilities.importtools import import_object

    from pipelines.parameters import PlantParameters
    from pipelines.serve import deployments

    served = {deployment.flow_name: deployment for deployment in deployments(write_plant(tmp_path))}
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {entry["entrypoint"] for entry in declared} == {
        f"pipelines/{name}.py:{name}" for name in served
    }
    for entry in declared:
        flow = import_object(str(ROOT / entry["entrypoint"]))
        same = served[flow.name]
        assert entry["schedules"][0]["cron"] == same.schedules[0].schedule.cron
        assert entry["concurrency_limit"]["limit"] == same.concurrency_limit == 1
        assert (
            entry["concurrency_limit"]["collision_strategy"]
            == same.concurrency_options.collision_strategy.value
        )
        PlantParameters.model_validate(entry["parameters"]["parameters"])
