"""Two plants on one real MLflow server, which dies and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
from judged_plant import N, champion_of, moment, plant_in, registered, take_in, verdicts_of
from mlflow_server import running, wait_for

from vae_anomaly.config import PlantConfig
from vae_anomaly.errors import RegistryUnreachableError
from vae_anomaly.report import score_table
from vae_anomaly.steps.history import history
from vae_anomaly.steps.promote import promote, rollback
from vae_anomaly.steps.score import score
from vae_anomaly.tracking import open_tracking


def content(plant: PlantConfig) -> tuple[object, ...]:
    versions = [(v.version, v.aliases, v.tags) for v in open_tracking(plant).versions()]
    return versions, history(plant), verdicts_of(plant)


@pytest.mark.slow
def test_two_plants_live_side_by_side_and_outlive_their_server(
    tmp_path: Path,
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = tmp_path / "server"
    store.mkdir()
    shutil.copy(database, store / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    plants = []
    for name in ("pumps", "fans"):
        (tmp_path / name / "incoming").mkdir(parents=True)
        plants.append(plant_in(tmp_path / name / "lake", name))
    pumps, fans = plants
    with running(store, port) as process:
        for plant in plants:
            tracking = wait_for(plant)
            one, two = registered(plant, "a"), registered(plant, "b", shift=-50.0)
            assert (one.version, two.version) == ("1", "2")
            champion_of(plant, one)
            tracking.set_challenger(two)
            take_in(plant, 0)
            score(plant)
        before = content(fans)
        promote(pumps, why="better", force=True)
        assert score(pumps).model_version == "2"
        rollback(pumps)
        open_tracking(pumps).set_challenger(open_tracking(pumps).versions()[1])
        assert content(fans) == before

        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        take_in(pumps, 1)
        report = score(pumps)
        assert (report.n_rows, report.model_version, report.cached) == (N, "1", True)
        assert "going on with champion version 1" in caplog.text
        assert "MLflow does not answer" in score_table(report).markdown()
        changes = history(pumps)
        for change in (promote, rollback):
            with pytest.raises(RegistryUnreachableError, match="does not answer"):
                change(pumps)
        assert history(pumps) == changes
    with running(store, port):
        wait_for(pumps)
        report = score(pumps)
        assert (report.n_rows, report.cached) == (0, False)
        assert report.shadow is not None
        assert report.shadow.n_rows == N, "the challenger catches up"
        lines = {line: [r for r in verdicts_of(pumps) if r["line"] == line]
                 for line in ("champion", "shadow:2")}  # fmt: skip
        assert all(len(rows) == 2 * N for rows in lines.values())
        assert max(r["time"] for r in lines["shadow:2"]) == moment(2 * N - 1)  # type: ignore[type-var]
        assert content(fans) == before
