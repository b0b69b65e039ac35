"""The flows, once for real on a server of Prefect's own, and without Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
