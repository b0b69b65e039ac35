"""A lake in a bucket: the tables of a local one, each row once, and what is wrong said plainly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from crash import Kill, kill_at, lake_content, run_all, write_file, write_plant
from s3_server import s3_server

from vae_anomaly.config import Contract, PlantConfig, read_mlflow, read_plant
from vae_anomaly.data.lake import LABELS, READINGS, Lake, rows
from vae_anomaly.data.place import storage_options, table_uri
from vae_anomaly.errors import ConfigError, LakeError
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import latest_trained, plant_settings

CONTRACT = Contract(time="time", sensors=("flow",))

#: Takes numbers of one line, a row each, until it has eight of its own.
TAKER = """
import sys
import pyarrow as pa
from vae_anomaly.config import Contract
from vae_anomaly.data.lake import LABELS, Lake, commit, until_committed
lake = Lake(sys.argv[1], Contract(time="time", sensors=("flow",)))
schema = lake.schema(LABELS)
def take():
    table = lake.writable(LABELS)
    number = (table.transaction_version("line") or 0) + 1
    entry = {"number": number, "who": sys.argv[2]}
    return commit(table, pa.Table.from_pylist([entry], schema=schema), {"line": number})
for _ in range(8):
    until_committed(take)
"""


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Address of a store with the bucket `lakes`, which the environment names."""
    with s3_server() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{place}")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "K3YKEY")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "PASSW0RD")
        made = pafs.S3FileSystem(endpoint_override=f"http://{place}", allow_bucket_creation=True)
        made.create_dir("lakes")
        yield place


def plant_in(folder: Path, database: Path, lake: str, mlflow: str = "") -> Path:
    """A plant of crash.py's files with a fast model, in a lake of its own."""
    name = lake.rpartition("/")[2]
    path = folder / f"{name}.yml"
    text = (folder / "plant.yml").read_text() + "model: {baseline: mahalanobis}\n"
    path.write_text(f"{text}lake: {lake}\nwork: work/{name}\nmlflow: {name}-mlflow.yml\n")
    (folder / f"{name}-mlflow.yml").write_text(mlflow or "{}\n")
    (folder / "work" / name / "mlflow").mkdir(parents=True)
    shutil.copy(database, folder / "work" / name / "mlflow/mlflow.db")
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_bucket_gets_the_tables_of_a_local_lake_though_processes_are_killed(
    tmp_path: Path, database: Path
) -> None:
    write_plant(tmp_path)
    calm = read_plant(plant_in(tmp_path, database, "lakes/of/calm"))
    artifacts = 'artifact_root: "{lake}/mlflow/artifacts"\n'
    file = plant_in(tmp_path, database, "s3://lakes/stormy", artifacts)
    stormy = read_plant(file)
    run_all(calm)
    assert kill_at(file, "ingest", Kill("vae_anomaly.data.landing.commit", True, 2))
    run_all(stormy)
    assert latest_trained(stormy).name == latest_trained(calm).name
    write_file(tmp_path / "incoming/4.csv", 4, n_rows=400, seed=0)
    for plant in (calm, stormy):
        ingest(plant)
    assert kill_at(file, "score", Kill("vae_anomaly.steps.lines.commit", True, 1))
    assert score(calm).n_rows > 0
    assert score(stormy).n_rows == 0
    assert lake_content(stormy.lake) == lake_content(calm.lake)
    here = {path.name for path in stormy.work_path.iterdir()}
    assert here == {"models", "packages", "mlflow"}
    assert not (stormy.work_path / "mlflow/artifacts").exists()
    assert not (tmp_path / "s3:").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_numbers_that_five_processes_take_at_once_are_each_taken_once() -> None:
    lake = "s3://lakes/line"
    commands = [[sys.executable, "-c", TAKER, lake, str(i)] for i in range(5)]
    takers = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    for taker in takers:
        _, said = taker.communicate(timeout=120)
        assert taker.returncode == 0, said.decode()[-2000:]
    table = Lake(lake, CONTRACT).open(LABELS)
    taken = [row for batch in rows(table) for row in batch.to_pylist()]
    assert sorted(row["number"] for row in taken) == list(range(1, 41))
    assert {row["who"] for row in taken} == set("01234")
