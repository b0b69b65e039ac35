"""The flows, once for real on a server of Prefect's own, and without Prefect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from crash import lake_content, write_plant

from vae_anomaly.config import read_plant


@pytest.mark.slow
def test_run_does_everything_once(server: None, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    from pipelines.parameters import PlantParameters
    from pipelines.reach import by_hand
    from pipelines.run import run

    plant = write_plant(tmp_path)
    plant.write_text(plant.read_text().replace("name: crash", "name: whole"))
    titles: list[str] = []
    with by_hand(read_plant(plant), lambda *tables: titles.extend(t.title for t in tables)):
        first = run(PlantParameters(plant=plant))
    steps = ["Ingest", "Data", "Missing", "Quarantine", "Train", "Calibrate", "Register", "Score"]
    assert titles == steps
    assert first.ingested.counts.complete
    assert first.registered.alias == "champion"
    assert first.scored.n_rows == first.ingested.counts.n_accepted
    before = lake_content(tmp_path / "lake/whole")

    second = run(PlantParameters(plant=plant))
    assert second.ingested.counts.n_read == 0
    assert second.trained.registered == first.registered.version.version
    assert second.calibrated is None
    assert second.registered.existed
    assert second.scored.n_rows == 0
    assert lake_content(tmp_path / "lake/whole") == before

    with get_client(sync_client=True) as client:
        keys = {artifact.key for artifact in client.read_artifacts()}
        runs = client.read_flow_runs()
    pages = ("ingest", "data", "train", "calibrate", "register", "score")
    assert {f"whole-{page}" for page in pages} <= keys
    by_tag = [run for run in runs if set(run.tags) == {"vae-anomaly", "whole"}]
    assert len([run for run in by_tag if run.parent_task_run_id is None]) == 1  # the first
    assert len([run for run in by_tag if run.parent_task_run_id is not None]) == 9


@pytest.mark.slow
def test_bad_parameters_are_refused_by_the_flow(server: None) -> None:
    from prefect.exceptions import ParameterTypeError

    from pipelines.ingest import ingest

    with pytest.raises(ParameterTypeError):
        ingest({"plnt": "x.yml"})


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
    assert "rows read = " in done.stdout, "the report of a step that ended"


def test_flows_work_without_prefect(tmp_path: Path) -> None:
    from pipelines.ingest import read_source
    from pipelines.parameters import PlantParameters

    report = read_source.fn(PlantParameters(plant=write_plant(tmp_path, n_files=1)))
    assert report.counts.complete
