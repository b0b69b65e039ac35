"""Runs, data sets, versions and aliases on a real MLflow: a database of its own for each test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import mlflow.data
import pytest
import sealed
import yaml
from hypothesis import given
from hypothesis import strategies as st
from judged_plant import plant_in
from mlflow.utils import validation
from mlflow_server import running, wait_for

from vae_anomaly.config import MlflowConfig, PlantConfig
from vae_anomaly.errors import PackageError, RegistryError, RegistryUnreachableError
from vae_anomaly.tracking import (
    Tracking,
    Version,
    champion_package,
    open_tracking,
)
from vae_anomaly.tracking.cache import cached_champion
from vae_anomaly.tracking.connection import shown
from vae_anomaly.tracking.names import MAX_VALUE, cut, flat, key

ROOT = Path(__file__).parents[1]
A, B = "a" * 64, "b" * 64


@pytest.fixture
def plant(tmp_path: Path, database: Path) -> PlantConfig:
    (tmp_path / "lake" / "mlflow").mkdir(parents=True)
    shutil.copy(database, tmp_path / "lake" / "mlflow" / "mlflow.db")
    return plant_in(tmp_path / "lake")


@pytest.fixture
def tracking(plant: PlantConfig) -> Tracking:
    return open_tracking(plant)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "package"
    sealed.seal(folder)
    return folder


def register(tracking: Tracking, package: Path, fingerprint: str = A) -> Version:
    run_id = tracking.start_run(fingerprint, f"pumps {fingerprint[:4]}", {})
    return tracking.register(
        package, run_id, fingerprint=fingerprint, tags={"auroc": "0.9"}, description="**Pumps**"
    )


# ------------------------------------------------------------------------------------------- place


def test_mlflow_yml_at_the_root_says_the_defaults() -> None:
    said = yaml.safe_load((ROOT / "mlflow.yml").read_text())
    assert MlflowConfig.model_validate(said) == MlflowConfig()
    assert set(said) == set(MlflowConfig.model_fields)
    assert set(said["gate"]) == set(type(MlflowConfig().gate).model_fields)


def test_everything_lies_in_the_lake_and_nothing_global_changes(
    plant: PlantConfig, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = mlflow.get_tracking_uri()
    tracking = open_tracking(plant)
    version = register(tracking, package)
    tracking.fetch_package(version, plant.work_path / "packages")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
    artifacts = tracking.client.get_run(version.run_id).info.artifact_uri
    assert artifacts.startswith(str(plant.work_path / "mlflow" / "artifacts"))


def test_two_plants_in_one_registry_do_not_meet(
    plant: PlantConfig, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{plant.lake}/mlflow/mlflow.db")
    pumps = open_tracking(plant)
    fans = open_tracking(plant_in(plant.work_path, "fans"))
    register(pumps, package)
    assert fans.find_version(A) is None
    assert fans.find_run(A) is None
    assert fans.versions() == ()
    pumps.set_alias("champion", register(pumps, package))
    assert fans.champion() is None


def test_user_s_own_mlflow_settings_stay(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    open_tracking(plant)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"


def test_deleted_experiment_is_named_with_the_way_back(
    tracking: Tracking, plant: PlantConfig
) -> None:
    tracking.client.delete_experiment(tracking.experiment_id)
    with pytest.raises(RegistryError, match="mlflow experiments restore -x"):
        open_tracking(plant)


# -------------------------------------------------------------------------------------------- runs


def test_run_that_did_not_finish_is_gone_on_with(tracking: Tracking) -> None:
    assert tracking.find_run(A) is None
    run_id = tracking.start_run(A, "first", {"vae_anomaly.plant": "pumps"})
    assert tracking.find_run(A) == run_id
    assert tracking.start_run(A, "second", {}) == run_id
    assert tracking.find_run(B) is None
    run = tracking.client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("first", "RUNNING")
    assert run.data.tags["vae_anomaly.plant"] == "pumps"


def test_failed_run_says_why_and_is_gone_on_with(tracking: Tracking) -> None:
    run_id = tracking.start_run(A, "first", {})
    tracking.fail_run(run_id, "the disk is full " * 1000)
    run = tracking.client.get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["vae_anomaly.failure"].startswith("the disk is full")
    assert tracking.start_run(A, "again", {}) == run_id
    assert tracking.client.get_run(run_id).info.status == "RUNNING"


def test_finished_run_is_left_alone(tracking: Tracking) -> None:
    run_id = tracking.start_run(A, "first", {})
    tracking.finish_run(run_id)
    assert tracking.find_run(A) is None
    assert tracking.start_run(A, "again", {}) != run_id


def test_settings_become_parameters_and_a_file(tracking: Tracking, plant: PlantConfig) -> None:
    run_id = tracking.start_run(A, "first", {})
    settings = plant.model_dump(mode="json") | {"long": "x" * 10_000}
    tracking.log_settings(run_id, settings)
    tracking.log_settings(run_id, settings | {"window": 7})
    params = tracking.client.get_run(run_id).data.params
    assert params["contract.time.column"] == "when"
    assert params["window"] == "1"
    assert len(params["long"]) == MAX_VALUE
    file = tracking.client.download_artifacts(run_id, "settings.json")
    assert json.loads(Path(file).read_text())["long"] == "x" * 10_000


def test_more_settings_than_mlflow_takes_at_once(tracking: Tracking) -> None:
    run_id = tracking.start_run(A, "first", {})
    settings = {f"sensor {i} (°C)": '"' * 6000 for i in range(120)}
    tracking.log_settings(run_id, settings)
    assert len(tracking.client.get_run(run_id).data.params) == 120


texts = st.text(max_size=400)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(texts, trees, max_size=4))
def test_flat_settings_are_what_mlflow_itself_accepts(settings: dict) -> None:
    for name, value in flat(settings).items():
        validation._validate_param(name, value)
        assert len(value) <= MAX_VALUE


@given(texts)
def test_any_name_becomes_one_that_mlflow_accepts(name: str) -> None:
    validation._validate_metric_name(key(name))
    assert key(key(name)) == key(name)


@given(st.text(min_size=60), st.text(min_size=60))
def test_cut_texts_stay_apart(one: str, other: str) -> None:
    assert (cut(one, 40) == cut(other, 40)) == (one == other)


def test_curves_are_logged_once_however_often_a_run_goes_on(tracking: Tracking) -> None:
    run_id = tracking.start_run(A, "first", {})
    curve = [
        (step, {"bound": -1.0 * step, "pump (7)/bound": 0.5, "none": None}) for step in range(900)
    ]
    tracking.log_curves(run_id, curve[:300])
    tracking.log_curves(run_id, curve)
    tracking.log_curves(run_id, curve[-1:])
    history = tracking.client.get_metric_history(run_id, "bound")
    assert [(metric.step, metric.value) for metric in history] == [
        (i, -1.0 * i) for i in range(900)
    ]
    assert len(tracking.client.get_metric_history(run_id, key("pump (7)/bound"))) == 900
    assert "none" not in tracking.client.get_run(run_id).data.metrics


def test_figures_are_logged_once_unless_they_change(tracking: Tracking) -> None:
    run_id = tracking.start_run(A, "first", {})
    for value in (0.5, 0.5, float("nan"), float("nan"), 0.7):
        tracking.log_metrics(run_id, {"test_auroc": value})
    history = tracking.client.get_metric_history(run_id, "test_auroc")
    assert len(history) == 3


def test_data_set_says_table_version_and_counts(tracking: Tracking) -> None:
    run_id = tracking.start_run(A, "first", {})
    for _ in range(2):
        tracking.log_dataset(
            run_id,
            "pumps readings",
            digest=f"v3-{A[:8]}",
            source="/lake/readings",
            schema={"time": "timestamp[us, tz=UTC]", "PT-101": "double", "row": "int64"},
            profile={"train": 80, "stop": 20},
        )
    (found,) = tracking.client.get_run(run_id).inputs.dataset_inputs
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]
    dataset = found.dataset
    assert (dataset.name, dataset.digest) == ("pumps readings", "v3-aaaaaaaa")
    assert json.loads(dataset.profile) == {"train": 80, "stop": 20}
    assert mlflow.data.get_source(dataset).path == "/lake/readings"
    types = {c["name"]: c["type"] for c in json.loads(dataset.schema)["mlflow_colspec"]}
    assert types == {"time": "datetime", "PT-101": "double", "row": "long"}


def test_folder_replaces_what_was_there(tracking: Tracking, tmp_path: Path) -> None:
    run_id = tracking.start_run(A, "first", {})
    folder = tmp_path / "pictures"
    folder.mkdir()
    for content in ("old", "new"):
        (folder / "roc.svg").write_text(content)
        tracking.log_folder(run_id, folder, "pictures")
    file = tracking.client.download_artifacts(run_id, "pictures/roc.svg")
    assert Path(file).read_text() == "new"


# ---------------------------------------------------------------------------------------- registry


def test_no_champion_before_the_first_version_or_without_its_alias(
    tracking: Tracking, package: Path
) -> None:
    assert tracking.champion() is None
    assert tracking.versions() == ()
    register(tracking, package)
    assert tracking.champion() is None
    assert tracking.challenger() is None


def test_registered_version_is_found_with_all_that_was_said_of_it(
    tracking: Tracking, package: Path
) -> None:
    version = register(tracking, package)
    assert tracking.find_version(A) == version
    assert (version.name, version.version, version.fingerprint) == ("pumps", "1", A)
    assert version.digest == sealed.seal(package.parent / "again").digest
    assert version.description == "**Pumps**"
    assert version.tags["auroc"] == "0.9"
    run = tracking.client.get_run(version.run_id)
    (output,) = run.outputs.model_outputs
    model = tracking.client.get_logged_model(output.model_id)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "pumps", "version": 1}]
    tracking.set_tags(version, {"vae_anomaly.decision": "[]"})
    found = tracking.find_version(A)
    assert found is not None
    assert found.tags["vae_anomaly.decision"] == "[]"


def test_same_fingerprint_is_registered_once(tracking: Tracking, package: Path) -> None:
    first = register(tracking, package)
    assert register(tracking, package) == first
    assert tracking.versions() == (first,)
    other = register(tracking, package, B)
    assert [version.version for version in tracking.versions()] == ["1", "2"]
    assert tracking.find_version(B) == other


def test_package_without_a_threshold_or_damaged_is_not_registered(
    tracking: Tracking, tmp_path: Path
) -> None:
    sealed.seal(tmp_path / "draft", calibrated=False)
    with pytest.raises(PackageError, match="no threshold yet"):
        register(tracking, tmp_path / "draft")
    sealed.seal(tmp_path / "damaged")
    with (tmp_path / "damaged" / "scorer-0.safetensors").open("ab") as file:
        file.write(b"!")
    with pytest.raises(PackageError, match="has changed"):
        register(tracking, tmp_path / "damaged")
    assert tracking.versions() == ()


def test_aliases_move_and_go(tracking: Tracking, package: Path) -> None:
    one, two = register(tracking, package), register(tracking, package, B)
    tracking.set_alias("champion", one)
    tracking.set_challenger(two)
    assert [version.aliases for version in tracking.versions()] == [("champion",), ("challenger",)]
    tracking.set_alias("champion", two)
    tracking.set_alias("previous", one)
    tracking.drop_alias("challenger")
    champion, previous = tracking.champion(), tracking.previous()
    assert champion is not None
    assert previous is not None
    assert (champion.version, champion.aliases) == ("2", ("champion",))
    assert previous.version == "1"
    assert tracking.challenger() is None


def test_the_registered_model_keeps_notes(tracking: Tracking, package: Path) -> None:
    assert tracking.notes() == {}
    register(tracking, package)
    tracking.set_note("x", "1 of a")
    assert tracking.notes() == {"x": "1 of a"}
    tracking.drop_note("x")
    tracking.drop_note("x")
    assert tracking.notes() == {}


# -------------------------------------------------------------------------------- packages on disk


def test_package_is_fetched_once_and_whole(
    tracking: Tracking, package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = register(tracking, package)
    folder = tracking.fetch_package(version, tmp_path / "cache")
    assert folder == tmp_path / "cache" / version.digest
    assert contents(folder) == contents(package)
    before = folder.stat()
    assert tracking.fetch_package(version, tmp_path / "cache") == folder
    assert folder.stat().st_ino == before.st_ino
    assert caplog.text == ""
    for name in ("scorer-0.safetensors", "package.json"):
        for damage in (lambda file: file.write_bytes(b"{}"), Path.unlink):
            damage(folder / name)
            tracking.fetch_package(version, tmp_path / "cache")
            assert contents(folder) == contents(package)
    assert caplog.text.count("is damaged, and is fetched again") == 4
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [version.digest]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_version_of_somebody_else_is_refused(
    tracking: Tracking, package: Path, tmp_path: Path
) -> None:
    version = register(tracking, package)
    tracking.client.create_model_version("pumps", str(tmp_path))
    foreign = tracking.versions()[-1]
    with pytest.raises(RegistryError, match="not registered by vae_anomaly"):
        tracking.fetch_package(foreign, tmp_path / "cache")
    with pytest.raises(RegistryError, match="not the one that was registered"):
        tracking.fetch_package(replace(version, digest="0" * 64), tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())


def test_champion_goes_on_from_the_cache_while_mlflow_is_gone(
    plant: PlantConfig,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(RegistryError, match="no version with the alias 'champion'"):
        champion_package(plant)
    tracking = open_tracking(plant)
    tracking.set_alias("champion", register(tracking, package))
    online = champion_package(plant)
    assert (online.version, online.cached) == ("1", False)
    assert cached_champion(plant.work_path / "packages") == tracking.champion()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_server())
    offline = champion_package(plant)
    assert (offline.folder, offline.version, offline.cached) == (online.folder, "1", True)
    assert "does not answer" in caplog.text
    weights = online.folder / "scorer-0.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(
        RegistryUnreachableError,
        match=r"version 1 cannot judge: .* has changed .* does not answer.* again then fetches it",
    ):
        champion_package(plant)
    with monkeypatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI")
        assert contents(champion_package(plant).folder) == contents(package)
    assert champion_package(plant).cached
    noted = plant.work_path / "packages" / "champion.json"
    kept = noted.read_bytes()
    noted.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(RegistryUnreachableError):
        champion_package(plant)
    assert "champion.json is damaged" in caplog.text
    noted.write_bytes(kept)
    shutil.rmtree(online.folder)
    with pytest.raises(RegistryUnreachableError):
        champion_package(plant)


def test_challenger_s_package_is_not_noted_as_the_champion_s(
    tracking: Tracking, package: Path, tmp_path: Path
) -> None:
    version = register(tracking, package)
    tracking.set_challenger(version)
    tracking.fetch_package(tracking.versions()[0], tmp_path / "cache")
    assert cached_champion(tmp_path / "cache") is None


# ---------------------------------------------------------------------------------- nobody answers


def dead_server(credentials: str = "") -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://{credentials}127.0.0.1:{listener.getsockname()[1]}"


def test_dead_server_is_told_within_seconds_and_without_the_password(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = dead_server("ann:s3cret@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    began = time.monotonic()
    with pytest.raises(RegistryUnreachableError) as caught:
        open_tracking(plant)
    assert time.monotonic() - began < 10
    message = str(caught.value)
    assert shown(uri) in message
    assert "MLFLOW_TRACKING_URI" in message
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_server_that_hangs_is_told_too(plant: PlantConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae_anomaly.tracking.connection.ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(RegistryUnreachableError, match="does not answer"):
            open_tracking(plant)


def test_database_that_cannot_be_opened_is_told_at_once(
    plant: PlantConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.db").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/folder.db")
    began = time.monotonic()
    with pytest.raises(RegistryUnreachableError, match=r"folder\.db does not answer"):
        open_tracking(plant)
    assert time.monotonic() - began < 10


def test_unknown_run_is_an_error_of_ours(tracking: Tracking) -> None:
    with pytest.raises(RegistryError, match=r"mlflow\.db refused.*nowhere"):
        tracking.log_metrics("nowhere", {"test_auroc": 0.5})


# ------------------------------------------------------------------- killed, and many at once

CHILD = """
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
from test_tracking import A, open_tracking, plant_in, register
if {killed_before!r}:
    setattr(MlflowClient, {killed_before!r}, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
tracking = open_tracking(plant_in(Path({lake!r})))
version = register(tracking, Path({package!r}))
tracking.set_alias("champion", version)
tracking.fetch_package(tracking.champion(), Path({lake!r}, "packages"))
assert version.version == "1", version
"""


def start(lake: Path, package: Path, killed_before: str = "") -> subprocess.Popen[str]:
    """Register in a process of its own, killed where it would call a method of MLflow's client."""
    code = CHILD.format(
        root=str(ROOT), lake=str(lake), package=str(package), killed_before=killed_before
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=lake,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        "log_model_artifacts",
        "finalize_logged_model",
        "create_model_version",
        "set_logged_model_tags",
    ],
)
def test_registration_killed_on_the_way_is_finished_by_the_next(
    plant: PlantConfig, package: Path, step: str
) -> None:
    process = start(plant.work_path, package, killed_before=step)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output
    tracking = open_tracking(plant)
    run_id = tracking.find_run(A)
    version = register(tracking, package)
    assert (version.run_id, version.version) == (run_id, "1")
    assert tracking.versions() == (version,)
    models = tracking.client.search_logged_models([tracking.experiment_id])
    ready = [model for model in models if model.status == "READY"]
    assert len(ready) == 1  # what was uploaded whole is not uploaded again
    folder = tracking.fetch_package(version, plant.work_path / "packages")
    assert contents(folder) == contents(package)


@pytest.mark.slow
def test_database_is_there_whole_or_not_at_all(package: Path, tmp_path: Path) -> None:
    process = start(tmp_path, package, killed_before="search_experiments")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()
    assert open_tracking(plant_in(tmp_path)).versions() == ()


@pytest.mark.slow
def test_five_at_once_make_one_database_one_version_and_no_noise(
    package: Path, tmp_path: Path
) -> None:
    processes = [start(tmp_path, package) for _ in range(5)]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert (process.returncode, output) == (0, "")
    tracking = open_tracking(plant_in(tmp_path))
    (version,) = tracking.versions()
    assert version.aliases == ("champion",)
    assert contents(tmp_path / "packages" / version.digest) == contents(package)
    assert sorted(os.listdir(tmp_path)) == ["mlflow", "packages"]
    assert sorted(os.listdir(tmp_path / "mlflow")) == ["artifacts", "mlflow.db"]


# ------------------------------------------------------------------------------------ a real server


@pytest.fixture
def server(tmp_path: Path, database: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An MLflow server of its own on a free port of this machine."""
    store = tmp_path / "server"
    store.mkdir()
    shutil.copy(database, store / "mlflow.db")
    uri = dead_server()
    with running(store, int(uri.rpartition(":")[2])) as process:
        yield uri, process


@pytest.mark.slow
def test_whole_life_on_a_real_server(
    server: tuple[str, subprocess.Popen[bytes]],
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    uri, process = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    plant = plant_in(tmp_path / "lake", "fans")
    tracking = wait_for(plant)
    run_id = tracking.start_run(A, "first", {})
    tracking.log_settings(run_id, plant.model_dump(mode="json"))
    tracking.log_curves(run_id, [(step, {"bound": float("nan")}) for step in range(1500)])
    tracking.log_curves(run_id, [(step, {"bound": 1.0}) for step in range(1501)])
    assert len(tracking.client.get_metric_history(run_id, "bound")) == 1501
    tracking.log_dataset(
        run_id, "readings", digest="v1-a", source="/lake", schema={"a": "double"}, profile={"n": 1}
    )
    tracking.log_folder(run_id, package, "package")
    assert tracking.champion() is None
    version = register(tracking, package)
    assert (version.version, version.run_id) == ("1", run_id)
    assert register(tracking, package) == version
    tracking.set_alias("champion", version)
    tracking.finish_run(run_id)
    online = champion_package(plant)
    assert contents(online.folder) == contents(package)
    assert not (plant.work_path / "mlflow").exists()  # the server keeps the artifacts
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")

    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    assert champion_package(plant).cached
    began = time.monotonic()
    with pytest.raises(RegistryUnreachableError, match="does not answer"):
        tracking.log_metrics(run_id, {"test_auroc": 0.5})
    assert time.monotonic() - began < 30
