"""The flows, once for real on a server of Prefect's own, and without Prefect."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
    assert {"ingest", "data", "train", "calibrate", "register", "score"} <= keys


@pytest.mark.slow
def test_bad_parameters_are_refused_by_the_flow(server: None) -> None:
    from prefect.exceptions import ParameterTypeError

    from pipelines.ingest import ingest

    with pytest.raises(ParameterTypeError):
        ingest({"plnt": "x.yml"})


@pytest.mark.slow
def test_serve_ingests_when_the_schedule_says_so(tmp_path: Path) -> None:
    """A real server, started by `serve` itself, and runs that nobody but the schedule created."""
    plant = write_plant(tmp_path, n_files=1)
    plant.write_text(plant.read_text() + 'schedule: {ingest: "* * * * *", score: "0 0 1 1 *"}\n')
    (tmp_path / "prefect").mkdir()
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONUNBUFFERED": "1"}
    environment.pop("PREFECT_API_URL", None)
    said = tmp_path / "said.txt"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vae_anomaly", "serve", str(plant)],
            env=environment, stdout=out, stderr=subprocess.STDOUT,
            # a shell's background job ignores interrupts, and so would its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip
    try:
        until = time.monotonic() + 240
        while "rows read =" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < until, said.read_text()
            time.sleep(1)
        address = re.search(r"Prefect page: (http://127\.0\.0\.1:\d+)", said.read_text())
        assert address is not None
        assert scheduled_runs(address[1])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=180)
    assert process.returncode == 0, said.read_text()
    assert said.read_text().endswith("stopped\n")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address[1]}/api/health", timeout=5)
    assert len(lake_content(tmp_path / "lake/crash")["files"]) == 1


def scheduled_runs(address: str) -> list[str]:
    """Names of the runs that the scheduler created and that have begun."""
    wanted = {
        "flow_runs": {
            "state": {"type": {"any_": ["RUNNING", "COMPLETED"]}},
            "tags": {"all_": ["auto-scheduled"]},
        }
    }
    found = httpx.post(f"{address}/api/flow_runs/filter", json=wanted, timeout=10)
    return [run["name"] for run in found.raise_for_status().json()]


@pytest.mark.slow
def test_what_the_plant_file_is_to_blame_for_is_not_tried_again(tmp_path: Path) -> None:
    """One sentence within seconds: no retries, and no trace of Prefect's."""
    plant = write_plant(tmp_path, n_files=1, n_rows=48)
    done = subprocess.run(
        [sys.executable, "-m", "vae_anomaly", "run", str(plant)],
        env=os.environ | {"PREFECT_HOME": str(tmp_path / "prefect")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: part 'stop' holds no rows")


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
