"""Small data files of a lake become large ones, and nobody who reads it notices."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from crash import lake_content, run_all, write_file, write_plant

from vae_anomaly.config import Contract, read_plant
from vae_anomaly.data.data_files import COMPACT_EVERY, compact
from vae_anomaly.data.lake import (
    ALARMS,
    READINGS,
    VERDICTS,
    Lake,
    as_timestamp,
    commit,
    last_note,
    merge,
    new_rows,
    rows,
    version_groups,
)
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.score import score


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path, Contract(time="time", asset="pump", sensors=("flow",)))


def one_row(lake: Lake, number: int) -> pa.Table:
    schema = lake.schema(READINGS)
    values = {"asset": "a", "row": number, "ingest": number, "flow": float(number)}
    columns = [
        pa.array([as_timestamp(number).as_py() if f.name == "time" else values.get(f.name)], f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def append(lake: Lake, numbers: range) -> None:
    for number in numbers:
        table = lake.writable(READINGS)
        assert commit(table, one_row(lake, number), {"ingest": number}, note={"n": str(number)})


def test_a_commit_an_hour_leaves_few_files_and_every_row_once(lake: Lake) -> None:
    append(lake, range(1, 3 * COMPACT_EVERY))
    table = lake.open(READINGS)
    assert len(table.file_uris()) < COMPACT_EVERY
    found = pa.Table.from_batches(rows(table, columns=["row"]))
    assert sorted(found["row"].to_pylist()) == list(range(1, 3 * COMPACT_EVERY))
    assert table.transaction_version("ingest") == 3 * COMPACT_EVERY - 1
    assert last_note(table, "n") == str(3 * COMPACT_EVERY - 1)


@pytest.mark.slow
def test_no_row_is_written_anew_at_each_compaction(lake: Lake) -> None:
    """What is replaced stays on disk, so else it would grow with the square of the commits."""
    n_rows, n_commits = 500, 12 * COMPACT_EVERY
    rng = np.random.default_rng(0)
    for number in range(1, n_commits + 1):
        table = one_row(lake, number).take([0] * n_rows)
        flow = pa.array(rng.normal(size=n_rows))  # numbers that no encoding makes small
        table = table.set_column(table.schema.get_field_index("flow"), "flow", flow)
        assert commit(lake.writable(READINGS), table, {"ingest": number})
    files = lake.open(READINGS).file_uris()
    live = sum(Path(file).stat().st_size for file in files)
    on_disk = sum(file.stat().st_size for file in Path(lake.root, READINGS).glob("*.parquet"))
    assert on_disk < 5 * live, "measured: 3.9, and 7.8 with files of one size"


def test_what_is_new_since_a_version_is_the_same_after_small_files_were_put_together(
    lake: Lake,
) -> None:
    append(lake, range(1, COMPACT_EVERY - 2))
    table = lake.open(READINGS)
    before = new_rows(table, 5, table.version())
    compact(table.table_uri)
    after = lake.open(READINGS)
    assert len(after.file_uris()) == 1
    assert after.version() == table.version() + 1
    assert new_rows(after, 5, after.version()).sort_by("row") == before.sort_by("row")
    assert new_rows(after, after.version(), after.version()).num_rows == 0
    groups = list(version_groups(after, 1, after.version(), max_rows=20))
    assert [first for first, _ in groups] == [1, 21, 41]
    assert groups[-1][1] == after.version()


def test_a_commit_on_a_table_opened_before_the_files_were_put_together_still_holds(
    lake: Lake,
) -> None:
    append(lake, range(1, 10))
    held = lake.writable(READINGS)
    compact(held.table_uri)
    assert commit(held, one_row(lake, 10), {"ingest": 10})
    assert sum(batch.num_rows for batch in rows(lake.open(READINGS))) == 10


def test_an_update_that_meets_it_is_refused_and_holds_when_done_again(lake: Lake) -> None:
    def alarm(name: str, state: str) -> pa.Table:
        given = {"alarm_id": name, "state": state}
        schema = lake.schema(ALARMS)
        return pa.Table.from_arrays(
            [pa.array([given.get(field.name)], field.type) for field in schema], schema=schema
        )

    for number, name in enumerate(("one", "two"), start=1):
        assert merge(lake.writable(ALARMS), alarm(name, "active"), "alarm_id", {"taken": number})
    held = lake.writable(ALARMS)
    compact(held.table_uri)
    assert not merge(held, alarm("one", "over"), "alarm_id", {"taken": 3})
    assert merge(lake.writable(ALARMS), alarm("one", "over"), "alarm_id", {"taken": 3})
    found = pa.Table.from_batches(rows(lake.open(ALARMS))).to_pylist()
    assert {row["alarm_id"]: row["state"] for row in found} == {"one": "over", "two": "active"}


def test_a_failure_is_said_and_does_not_undo_what_was_committed(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    append(lake, range(1, COMPACT_EVERY - 1))
    table = lake.writable(READINGS)
    lost = Path(lake.root, READINGS, Path(table.file_uris()[0]).name)
    lost.rename(lost.with_suffix(".away"))
    with caplog.at_level(logging.WARNING):
        append(lake, range(COMPACT_EVERY - 1, COMPACT_EVERY + 2))
    assert "keeps its small files" in caplog.text
    lost.with_suffix(".away").rename(lost)
    assert sum(batch.num_rows for batch in rows(lake.open(READINGS))) == COMPACT_EVERY + 1


@pytest.mark.slow
def test_a_plant_scores_the_same_whether_its_tables_are_compact_or_not(tmp_path: Path) -> None:
    config = read_plant(write_plant(tmp_path, n_files=2, baseline=True))
    lake = Lake(config.lake, config.contract)
    run_all(config)
    write_file(tmp_path / "incoming/9.csv", 9, n_rows=400, seed=0)
    ingest(config)
    shutil.copytree(lake.root, tmp_path / "before")
    assert score(config).n_rows > 0
    usual = lake_content(lake.root)
    shutil.rmtree(lake.root)
    (tmp_path / "before").rename(lake.root)
    for name in (READINGS, VERDICTS):
        compact(lake.open(name).table_uri)
    assert score(config).n_rows > 0
    compact(lake.open(READINGS).table_uri)
    assert score(config).n_rows == 0, "a compact table has nothing new"
    assert lake_content(lake.root) == usual
