"""A lake in a bucket: the tables of a local one, each row once, and what is wrong said plainly."""

from __future__ import annotations

import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from crash import Kill, finish, lake_content, run_all, start, write_file, write_plant
from s3_server import s3_server

from vae_anomaly.config import Contract, PlantConfig, read_mlflow, read_plant
from vae_anomaly.data.lake import (
    LABELS,
    READINGS,
    Lake,
    commit,
    last_note,
    new_rows,
    rows,
    transaction_number,
)
from vae_anomaly.data.place import answering, table_files
from vae_anomaly.errors import ConfigError, LakeError
from vae_anomaly.steps.check import check
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import latest_trained, plant_settings

CONTRACT = Contract(time="time", sensors=("flow",))

#: Takes the next number of one line and writes a row of it, four times.
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
for _ in range(4):
    until_committed(take)
"""


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Address of a store with the bucket `lakes`, which the environment names."""
    with s3_server() as place, pytest.MonkeyPatch.context() as patch:
        use(f"http://{place}", patch)
        yield f"http://{place}"


def use(store: str, patch: pytest.MonkeyPatch) -> None:
    """Let the environment name a store, and make the bucket `lakes` there."""
    patch.setenv("AWS_ENDPOINT_URL", store)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):  # the other one is boto3's
        patch.setenv(name, "us-east-1")
    patch.setenv("AWS_ACCESS_KEY_ID", "K3YKEY")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "PASSW0RD")
    pafs.S3FileSystem(endpoint_override=store, allow_bucket_creation=True).create_dir("lakes")


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
    assert not finish(start(file, "ingest", Kill("vae_anomaly.data.landing.commit", True, 2)))
    run_all(stormy)
    assert latest_trained(stormy).name == latest_trained(calm).name
    write_file(tmp_path / "incoming/4.csv", 4, n_rows=400, seed=0)
    for plant in (calm, stormy):
        ingest(plant)
    assert not finish(start(file, "score", Kill("vae_anomaly.steps.lines.commit", True, 1)))
    assert score(calm).n_rows > 0
    assert score(stormy).n_rows == 0
    assert lake_content(stormy.lake) == lake_content(calm.lake)
    here = {path.name for path in stormy.work_path.iterdir()}
    assert here == {"models", "packages", "mlflow"}
    assert not (stormy.work_path / "mlflow/artifacts").exists()
    assert not (tmp_path / "s3:").exists()
    # copied into the bucket, the local one goes on there
    pafs.copy_files(calm.lake, "moved", destination_filesystem=table_files("s3://lakes"))
    moved = calm.model_copy(update={"lake": "s3://lakes/moved"})
    assert len(ingest(moved).with_status("unchanged")) == 5
    assert score(moved).n_rows == 0
    assert lake_content(moved.lake) == lake_content(calm.lake)


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
    assert sorted(row["number"] for row in taken) == list(range(1, 21))
    assert {row["who"] for row in taken} == set("01234")
    checkpoint = table_files(table.table_uri).get_file_info("_delta_log/_last_checkpoint")
    assert checkpoint.type == pafs.FileType.File  # or each opening reads every commit there is


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_missing_bucket_and_missing_table_are_said_with_what_to_do() -> None:
    for ask in (Lake.found, Lake.writable):
        with pytest.raises(LakeError, match="has no bucket 'nowhere'; make it there, or correct"):
            ask(Lake("s3://nowhere/pumps", CONTRACT), READINGS)
    assert Lake("s3://lakes/new", CONTRACT).found(READINGS) is None
    with pytest.raises(LakeError, match=r"s3://lakes/new has no table 'readings'; run `vae-anom"):
        Lake("s3://lakes/new", CONTRACT).open(READINGS)


@pytest.mark.slow
def test_store_that_falls_silent_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake("s3://lakes/silent", CONTRACT)
    with s3_server() as place:
        use(f"http://{place}", monkeypatch)
        table = lake.writable(LABELS)
        row = pa.Table.from_pylist([{"number": 1}], schema=lake.schema(LABELS))
        assert commit(table, row, {"line": 1})
        opened = lake.open(LABELS)
    for ask in (
        lambda: lake.open(LABELS),
        lambda: commit(table, row, {"line": 2}),
        lambda: last_note(table, "anything"),
        lambda: transaction_number(opened, "line"),
        lambda: new_rows(table, 0, 1),
        lambda: list(rows(table)),
    ):
        with pytest.raises(LakeError, match=f"does not answer at http://{place}; set AWS_ENDPOIN"):
            ask()


# ----------------------------------------------------------------------------------- plant files


def plant_of(folder: Path, **keys: str) -> PlantConfig:
    text = "name: pumps\nsource: {path: .}\ncontract: {time: time, sensors: [flow]}\n"
    (folder / "plant.yml").write_text(text + "".join(f"{k}: '{v}'\n" for k, v in keys.items()))
    return read_plant(folder / "plant.yml")


def test_what_is_in_no_table_stays_on_this_machine(tmp_path: Path) -> None:
    local, bucket = plant_of(tmp_path), plant_of(tmp_path, lake="s3://lakes/site/pumps/")
    assert local.work_path == Path(local.lake) == tmp_path / "lake/pumps"
    assert bucket.lake == "s3://lakes/site/pumps"
    assert bucket.work_path == tmp_path / ".vae-anomaly/pumps"
    assert read_mlflow(bucket).tracking_uri == f"sqlite:///{bucket.work_path}/mlflow/mlflow.db"
    assert read_mlflow(bucket).artifact_root == f"{bucket.work_path}/mlflow/artifacts"
    named = plant_of(tmp_path, work="../here")
    assert (named.lake, named.work_path) == (local.lake, tmp_path.parent / "here")
    built = bucket.model_copy(update={"work": ""})
    assert built.work_path == Path(".vae-anomaly/pumps")


def test_place_of_the_lake_makes_no_other_training(tmp_path: Path) -> None:
    plants = (
        plant_of(tmp_path),
        plant_of(tmp_path, lake="s3://lakes/pumps"),
        plant_of(tmp_path, lake="s3://lakes/pumps", work="here"),
    )
    first, *others = (plant_settings(plant) for plant in plants)
    assert "lake" not in first
    assert all(other == first for other in others)


def test_files_of_lake_and_work_are_none_of_the_source(tmp_path: Path) -> None:
    plant = plant_of(tmp_path, lake="s3://lakes/pumps", work="here")
    assert plant.keeps("s3://lakes/pumps/readings/part.parquet")
    assert not plant.keeps("s3://lakes/pumps-2/part.parquet")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/kept.csv").write_text("time,flow\n2026-03-09,1\n")
    (tmp_path / "new.csv").write_text("time,flow\n2026-03-09,1\n")
    assert [Path(file.path).name for file in check(plant).files] == ["new.csv"]


@pytest.mark.parametrize(
    ("lake", "message"),
    [
        ("gs://lakes/pumps", "'gs://…' is no place for a lake; give a folder of this machine, or"),
        ("s3://K3Y:PASSW0RD@lakes/pumps", "has a user, a query or a fragment; write s3://bucket"),
        ("s3://lakes/pumps?secret=PASSW0RD", "has a user, a query or a fragment"),
        ("s3://lakes/../pumps", "is no bucket and folder"),
        ("s3://Lakes/pumps", "is no bucket and folder; a bucket has 3 to 63 of a-z"),
        ("s3://lakes//pumps", "is no bucket and folder"),
        ("s3://", "is no bucket and folder"),
    ],
)
def test_other_urls_are_refused_without_their_secrets(
    tmp_path: Path, lake: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plant_of(tmp_path, lake=lake)
    assert message in str(caught.value)
    assert "PASSW0RD" not in "".join(traceback.format_exception(caught.value))


def test_work_and_database_cannot_lie_in_a_bucket(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="work: 's3://…' is no folder of this machine; give one"):
        plant_of(tmp_path, work="s3://lakes/pumps")
    (tmp_path / "mlflow.yml").write_text("tracking_uri: 'sqlite:///{lake}/mlflow.db'\n")
    with pytest.raises(ConfigError, match=r"a database in a bucket, .* write \{work\} in place of"):
        read_mlflow(plant_of(tmp_path, lake="s3://lakes/pumps"))
    assert "lake/pumps/mlflow.db" in read_mlflow(plant_of(tmp_path)).tracking_uri


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Generic S3 error – 403 Forbidden: SignatureDoesNotMatch", "refuses the credentials; set"),
        ("When reading 'k': AWS Error ACCESS_DENIED during HeadObject", "refuses the credentials"),
        ("GET http://127.0.0.1:34031/b in 0.403s – Generic S3 error", "does not answer at"),
        ("Kernel error -> no credentials found in chain.", "refuses the credentials"),
        ("AWS Error NETWORK_CONNECTION: could not connect", "does not answer at"),
    ],
)
def test_words_of_a_store_become_what_to_do(said: str, told: str) -> None:
    with pytest.raises(LakeError) as caught, answering("s3://lakes/pumps/readings"):
        raise OSError(said)
    assert told in str(caught.value)
    assert said in str(caught.value)


def test_trouble_that_is_not_of_a_store_stays_what_it_is() -> None:
    for place, error in (
        ("/data/lake", OSError("AWS Error")),
        ("s3://lakes/pumps", OSError("No space left on device")),
        ("s3://lakes/pumps", FileNotFoundError("AWS Error: no such object")),
    ):
        with pytest.raises(type(error), match=str(error)) as caught, answering(place):
            raise error
        assert caught.value is error
