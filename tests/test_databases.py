"""Tables of PostgreSQL and SQLite: what was inserted is what is read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from vae_anomaly.config import Contract
from vae_anomaly.config.source import Database
from vae_anomaly.data.sources.databases import quoted, read_table
from vae_anomaly.errors import SourceError

Run = Callable[[str], None]
CONTRACT = Contract(time="time", sensors=("flow",))
HOSTILE = 'a"; DROP TABLE keep; --'


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Run]:
    """Address of an empty database, and what runs a statement in it."""
    if request.param == "sqlite":
        path = tmp_path / "plant.db"

        def run(statement: str) -> None:
            with sqlite3.connect(path) as connection:
                connection.execute(statement)

        return f"sqlite:///{path}", run
    psycopg = pytest.importorskip("psycopg")
    uri = request.getfixturevalue("postgres")

    def run_there(statement: str) -> None:
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(statement)

    run_there("DROP SCHEMA public CASCADE")
    run_there("CREATE SCHEMA public")
    return uri, run_there


def read(uri: str, table: str = "readings", lower: str = "") -> list[object]:
    database = Database(uri=uri, table=table, watermark="n")
    found: list[object] = []
    for batch in read_table(database, CONTRACT, lower=lower, batch_rows=2):
        assert batch.num_rows <= 2
        found += batch.select(["n", "flow", "_row"]).to_pylist()
    return [(_number(row["n"]), _number(row["flow"]), row["_row"]) for row in found]  # type: ignore[index]


def _number(cell: object) -> float | None:
    return None if cell in (None, "") else float(str(cell))


def test_rows_at_the_bound_and_rows_without_watermark_are_read(place: tuple[str, Run]) -> None:
    uri, run = place
    run("CREATE TABLE readings (n bigint, time text, flow double precision, wide text)")
    run("INSERT INTO readings VALUES (3,'t',3.5,'x'),(1,'t',1.5,'x'),(2,'t',null,'x'),"
        "(2,'t',2.5,'x'),(null,'t',9.5,'x')")  # fmt: skip
    assert sorted(row[1] or 0 for row in read(uri)) == [0, 1.5, 2.5, 3.5, 9.5]  # type: ignore
    assert sorted(row[1] or 0 for row in read(uri, lower="2")) == [0, 2.5, 3.5, 9.5]  # type: ignore
    assert [row[2] for row in read(uri)] == [1, 2, 3, 4, 5]  # type: ignore[index]


def test_hostile_names_and_bounds_do_nothing(place: tuple[str, Run]) -> None:
    uri, run = place
    run("CREATE TABLE keep (n bigint)")
    name = '"' + HOSTILE.replace('"', '""') + '"'
    run(f"CREATE TABLE {name} (n bigint, time text, flow double precision)")
    run(f"INSERT INTO {name} VALUES (1,'t',1.5)")
    assert read(uri, table=name) == [(1, 1.5, 1)]
    try:
        read(uri, table=name, lower="1'; DROP TABLE keep; --")
    except SourceError:
        assert uri.startswith("postgres")  # it is no time; SQLite compares it as a text
    run("INSERT INTO keep VALUES (1)")


def test_a_missing_table_says_so(place: tuple[str, Run]) -> None:
    place[1]("CREATE TABLE readings (n bigint, time text)")
    with pytest.raises(SourceError, match=r"table absent cannot be read: .*absent"):
        read(place[0], table="absent")
    with pytest.raises(SourceError, match="flow"):
        read(place[0])


def test_a_column_of_mixed_types_in_sqlite_comes_whole(tmp_path: Path) -> None:
    path = tmp_path / "odd ?#%.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE readings (n, time, flow)")
        cells = [None, None, None, 7, 0.1 + 0.2, "n/a", b"\xff"]
        connection.executemany("INSERT INTO readings VALUES (?, 't', ?)", enumerate(cells))
    database = Database(uri=f"sqlite:///{path}", table="readings", watermark="n")
    batches = list(read_table(database, CONTRACT, batch_rows=2))
    texts = [text for batch in batches for text in batch["flow"].to_pylist()]
    assert texts[:4] == ["", "", "", "7"]
    assert texts[5:] == ["n/a", "FF"]
    assert float(texts[4]) == 0.1 + 0.2


def test_a_password_is_not_in_the_message() -> None:
    with pytest.raises(SourceError) as caught:
        read("postgresql://me:s3cr3t@127.0.0.1:1/db")
    assert "s3cr3t" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(SourceError, match="VAE_NO_SUCH"):
        read("postgresql://me:${VAE_NO_SUCH}@127.0.0.1/db")


def test_a_quoted_name_stays_one_name() -> None:
    assert quoted('plant."a.b"') == '"plant"."a.b"'


def test_a_view_that_writes_is_refused(postgres: str) -> None:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS trace (n bigint)")
        connection.execute(
            "CREATE OR REPLACE FUNCTION leave_trace() RETURNS float8 LANGUAGE sql "
            "AS 'INSERT INTO trace VALUES (1) RETURNING 1.5::float8'"
        )
        connection.execute(
            "CREATE VIEW writing AS SELECT 1::bigint n, 't'::text AS time, leave_trace() flow"
        )
    with pytest.raises(SourceError, match="read-only"):
        read(postgres, table="writing")


def test_column_that_a_table_lacks_is_named_beside_those_it_has(place: tuple[str, Run]) -> None:
    uri, run = place
    run("CREATE TABLE readings (stamp bigint, time text, flow double precision)")
    said = (
        "table readings has no column 'n', which source.database.watermark in the plant file "
        "names; it has stamp, time, flow$"
    )
    with pytest.raises(SourceError, match=said):
        read(uri)
    run("CREATE TABLE other (n bigint, time text)")
    with pytest.raises(SourceError, match="no column 'flow', which contract in the plant file"):
        read(uri, "other")


def test_row_number_of_sqlite_can_be_the_watermark(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "plant.db") as connection:
        connection.execute("CREATE TABLE readings (TIME text, flow double precision)")
        connection.execute("INSERT INTO readings VALUES ('t', 1.5), ('u', 2.5)")
    database = Database(uri=f"sqlite:///{tmp_path}/plant.db", table="readings", watermark="rowid")
    found = list(read_table(database, CONTRACT, batch_rows=9))
    assert [batch.num_rows for batch in found] == [2]
