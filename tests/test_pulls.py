"""Pulls of a table: what the table holds is in the lake once, however it came and was cut off."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from crash import Kill, finish, start

from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import FILES, QUARANTINE, READINGS, Lake, rows
from vae_anomaly.errors import SourceError, SourceUnreachableError
from vae_anomaly.steps.check import check
from vae_anomaly.steps.file_records import IngestReport
from vae_anomaly.steps.ingest import ingest

START = datetime(2026, 3, 1, tzinfo=UTC)

PLANT = """
name: pumps
lake: lake/crash
source:
  database:
    {{uri: "${{PULL_TEST_URI}}", table: readings, watermark: {watermark}, overlap: {overlap}}}
contract:
  time: time
  asset: pump
  sensors: [{{name: flow, high: 100}}, power]
"""

Row = tuple[int, str, str, float | None, float | None]


class Table:
    """The plant's table in a real database, and the lake that it is pulled into."""

    def __init__(self, uri: str, run: Callable[[str, list[Row]], None], folder: Path) -> None:
        self.uri, self.run, self.folder = uri, run, folder

    def insert(self, added: list[Row]) -> None:
        self.run("INSERT INTO readings VALUES ({0}, {0}, {0}, {0}, {0})", added)

    def plant(self, watermark: str = "n", overlap: float = 0) -> PlantConfig:
        path = self.folder / "plant.yml"
        path.write_text(PLANT.format(watermark=watermark, overlap=overlap))
        return read_plant(path)


@pytest.fixture(params=["sqlite", "postgresql"])
def table(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    if request.param == "sqlite":
        uri = f"sqlite:///{tmp_path / 'plant.db'}"

        def run(statement: str, values: list[Row]) -> None:
            with sqlite3.connect(tmp_path / "plant.db") as connection:
                connection.executemany(statement.format("?"), values)
    else:
        psycopg = pytest.importorskip("psycopg")
        uri = request.getfixturevalue("postgres")

        def run(statement: str, values: list[Row]) -> None:
            with psycopg.connect(uri) as connection:
                connection.cursor().executemany(statement.format("%s"), values)

        run("DROP TABLE IF EXISTS readings", [()])  # type: ignore[list-item]
    kind = "timestamptz" if request.param == "postgresql" else "text"
    columns = f"n bigint, time {kind}, pump text, flow float8, power float8"
    run(f"CREATE TABLE readings ({columns})", [()])  # type: ignore[list-item]
    monkeypatch.setenv("PULL_TEST_URI", uri)
    return Table(uri, run, tmp_path)


def row(n: int, minute: int, flow: float | None = 1.0, pump: str = "a") -> Row:
    moment = START + timedelta(minutes=minute)
    return n, moment.strftime("%Y-%m-%d %H:%M:%S+00:00"), pump, flow, 2.0


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    c = report.counts
    assert c.complete
    return c.n_read, c.n_accepted, c.n_quarantined, c.n_duplicate


def minutes(plant: PlantConfig) -> list[int]:
    """Minutes of the readings, rising; a doubled one stands twice."""
    table = Lake(plant.lake, plant.contract).open(READINGS)
    times = [t for batch in rows(table) for t in batch["time"].to_pylist()]
    return sorted(int((t - START).total_seconds() // 60) for t in times)


def refused(plant: PlantConfig) -> Counter[str]:
    table = Lake(plant.lake, plant.contract).writable(QUARANTINE)
    return Counter(reason for batch in rows(table) for reason in batch["reason"].to_pylist())


@pytest.mark.parametrize("watermark", ["n", "time"])
def test_next_pull_reads_on_and_rows_at_the_border_come_once(table: Table, watermark: str) -> None:
    plant = table.plant(watermark)
    table.insert([row(1, 1), row(2, 2), row(2, 2, pump="b")])
    assert counts(ingest(plant)) == (3, 3, 0, 0)
    assert counts(ingest(plant)) == (2, 0, 0, 2)  # those at the watermark
    table.insert([row(2, 2, pump="c"), row(3, 3)])
    assert counts(ingest(plant)) == (4, 2, 0, 2)
    assert minutes(plant) == [1, 2, 2, 2, 3]


@pytest.mark.parametrize("watermark", ["n", "time"])
def test_late_rows_within_the_overlap_are_found(table: Table, watermark: str) -> None:
    plant = table.plant(watermark, overlap=5 if watermark == "n" else 300)
    table.insert([row(n, n) for n in range(1, 11)])
    assert counts(ingest(plant)) == (10, 10, 0, 0)
    table.insert([row(7, 7, pump="late"), row(2, 2, pump="too late"), row(11, 11)])
    assert counts(ingest(plant)) == (8, 2, 0, 6)  # 5 to 10 again, 7 late, 11 new
    assert minutes(plant) == sorted([*range(1, 12), 7])


def test_row_of_a_clock_some_hours_fast_hides_no_row_that_comes_before_it(table: Table) -> None:
    plant = table.plant("time")
    first = row(1, 1)
    now = START + timedelta(minutes=10)
    table.insert([first, row(2, 600)])
    assert counts(ingest(plant, now=now))[:2] == (2, 2)
    table.insert([row(3, 30)])
    assert counts(ingest(plant, now=now + timedelta(minutes=30)))[1] == 1
    assert minutes(plant) == [1, 30, 600]


@pytest.mark.parametrize("watermark", ["n", "time"])
def test_row_of_a_wrong_clock_is_refused_once_and_hides_no_later_row(
    table: Table, watermark: str
) -> None:
    plant = table.plant(watermark)
    table.insert([row(1, 1), row(2, 60 * 24 * 365 * 60), row(3, 3)])
    assert counts(ingest(plant)) == (3, 2, 1, 0)
    assert minutes(plant) == [1, 3]
    table.insert([row(4, 4)])
    assert counts(ingest(plant))[1:3] == (1, 0)
    assert minutes(plant) == [1, 3, 4]
    assert refused(plant) == Counter(time_ahead=1)


def test_row_once_refused_stays_so_when_its_time_has_come(table: Table) -> None:
    """The true row of that moment comes in, and the other stands in the quarantine once."""
    plant, minutes_ahead = table.plant("time", overlap=3 * 86_400), 30 * 60
    table.insert([row(1, 1), row(2, minutes_ahead)])
    assert counts(ingest(plant, now=START + timedelta(minutes=1))) == (2, 1, 1, 0)
    table.insert([(*row(3, minutes_ahead)[:-1], 7.0)])
    then = START + timedelta(minutes=minutes_ahead)
    assert counts(ingest(plant, now=then)) == (3, 1, 0, 2)
    assert minutes(plant) == [1, minutes_ahead]
    assert refused(plant) == Counter(time_ahead=1)


def test_row_without_watermark_is_not_lost(table: Table) -> None:
    plant = table.plant()
    table.insert([row(1, 1)])
    ingest(plant)
    table.insert([(None, *row(0, 5)[1:])])  # type: ignore[list-item]
    assert counts(ingest(plant)) == (2, 1, 0, 1)
    assert counts(ingest(plant)) == (2, 0, 0, 2)
    assert minutes(plant) == [1, 5]


def test_refused_row_that_is_read_again_stands_once_in_the_quarantine(table: Table) -> None:
    plant = table.plant(overlap=10)
    table.insert([row(1, 1), row(2, 2, flow=900.0), row(3, 1, flow=5.0)])
    assert counts(ingest(plant)) == (3, 1, 2, 0)
    assert counts(ingest(plant)) == (3, 0, 0, 3)
    table.insert([row(4, 4, flow=901.0)])
    assert counts(ingest(plant)) == (4, 0, 1, 3)
    assert refused(plant) == Counter(above_range=2, conflicting=1)


def test_mended_contract_reads_the_table_from_its_begin(table: Table) -> None:
    plant = table.plant()
    table.insert([row(1, 1), row(2, 2, flow=150.0), row(3, 3)])
    ingest(plant)
    path = table.folder / "plant.yml"
    path.write_text(path.read_text().replace("high: 100", "high: 200"))
    assert counts(ingest(read_plant(path))) == (3, 1, 0, 2)


def test_server_that_does_not_answer_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULL_TEST_URI", "postgresql://me:s3cr3t@127.0.0.1:1/db")
    plant = Table("", lambda statement, rows: None, tmp_path).plant()
    with pytest.raises(SourceUnreachableError, match=r"check source\.database") as caught:
        ingest(plant)
    assert "s3cr3t" not in str(caught.value)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plant.yml"
    uri = f"sqlite:///{tmp_path}/none.db"
    path.write_text(PLANT.format(watermark="n", overlap=0).replace("${PULL_TEST_URI}", uri))
    with pytest.raises(SourceError, match=r"there is no file .*none\.db"):
        ingest(read_plant(path))


def test_empty_table_and_a_table_without_a_column(table: Table) -> None:
    plant = table.plant()
    assert counts(ingest(plant)) == (0, 0, 0, 0)
    table.insert([row(1, 1)])
    assert counts(ingest(plant)) == (1, 1, 0, 0)
    table.run("ALTER TABLE readings RENAME COLUMN flow TO flux", [()])  # type: ignore[list-item]
    with pytest.raises(SourceError, match="flow"):
        ingest(plant)
    assert minutes(plant) == [1]


def test_check_reads_the_table_and_writes_nothing(table: Table) -> None:
    plant = table.plant()
    table.insert([row(1, 1), row(2, 2, flow=900.0), row(3, 1, flow=5.0), row(4, 1)])
    (found,) = check(plant).files
    assert (found.n_read, found.n_refused, found.n_conflicting, found.n_repeated) == (4, 1, 1, 1)
    assert not plant.work_path.exists()
    assert counts(ingest(plant)) == (4, 1, 2, 1)


def test_password_is_nowhere_in_the_lake(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    if table.uri.startswith("sqlite"):
        pytest.skip("SQLite has no password")
    plant = table.plant()
    with_password = table.uri.replace("postgres:", "postgres:s3cr3t", 1)
    monkeypatch.setenv("PULL_TEST_URI", with_password)
    table.insert([row(1, 1), row(2, 2, flow=900.0)])
    report = ingest(plant)
    assert "s3cr3t" in with_password
    assert "s3cr3t" not in repr(report)
    for file in plant.work_path.rglob("*"):
        assert not file.is_file() or b"s3cr3t" not in file.read_bytes(), file


KILLS = [
    Kill(point, after, count)
    for point in (
        "vae_anomaly.data.landing.commit",
        "vae_anomaly.data.landing._quarantine_once",
        "vae_anomaly.steps.file_records.commit",
    )
    for after in (False, True)
    for count in (1, 2)
]


@pytest.mark.slow
@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_killed_pull_begins_again_and_loses_and_doubles_nothing(table: Table, kill: Kill) -> None:
    """Rows that come in between kill and resume shift every number of the pull."""
    plant = table.plant(overlap=5000)
    table.insert([row(10 * n, n, flow=900.0 if n % 50 == 0 else 1.0) for n in range(1, 301)])
    path = table.folder / "plant.yml"
    finish(start(path, "ingest", kill))
    table.insert([row(5, 1000), row(7, 1001, flow=901.0), row(95, 1002)])
    assert finish(start(path, "ingest"))
    expected = [n for n in range(1, 301) if n % 50] + [1000, 1002]
    assert minutes(plant) == expected
    assert refused(plant) == Counter(above_range=7)
    found = [r for b in rows(Lake(plant.lake, plant.contract).open(FILES)) for r in b.to_pylist()]
    for record in found:
        assert record["n_read"] == (
            record["n_accepted"] + record["n_quarantined"] + record["n_duplicate"]
        )
    # the next pull knows where this one ended
    table.insert([row(4000, 4000)])
    n_read, n_accepted, n_quarantined, n_duplicate = counts(ingest(plant))
    assert (n_read, n_accepted, n_quarantined) == (304, 1, 0)
    assert n_duplicate == 303
    assert minutes(plant) == [*expected, 4000]


@pytest.mark.slow
def test_two_pulls_at_once_land_each_row_once(table: Table) -> None:
    plant = table.plant()
    table.insert([row(n, n, flow=900.0 if n % 100 == 0 else 1.0) for n in range(1, 2001)])
    path = table.folder / "plant.yml"
    for process in [start(path, "ingest") for _ in range(2)]:
        assert finish(process)
    assert minutes(plant) == [n for n in range(1, 2001) if n % 100]
    assert refused(plant) == Counter(above_range=20)
    assert counts(ingest(plant)) == (1, 0, 0, 1)
