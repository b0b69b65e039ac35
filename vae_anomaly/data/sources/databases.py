"""Tables of PostgreSQL and SQLite, streamed as batches through ADBC.

A pull is one read-only transaction that sees one state of the table. PostgreSQL streams only what
it can COPY, and COPY takes no parameters: so the lower bound is bound as a parameter of
``set_config``, for this transaction alone, and the query reads it with ``current_setting``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import import_module
from types import ModuleType
from typing import Protocol
from urllib.parse import quote, unquote

import pyarrow as pa

from vae_anomaly.config import ANY_TIME, Contract
from vae_anomaly.config.source import Database
from vae_anomaly.data.ahead import is_ahead
from vae_anomaly.data.batches import checked_names, numbered
from vae_anomaly.data.cells import as_plain, as_texts
from vae_anomaly.data.sources.storage import public_url
from vae_anomaly.data.times import read_times
from vae_anomaly.errors import SourceError, SourceUnreachableError

__all__ = ["Watermark", "asset_of", "lower_bound", "place_of", "quoted", "read_table"]

#: Transaction-local setting of PostgreSQL that carries the lower bound.
LOWER = "vae_anomaly.lower"

#: Types that a watermark can have in PostgreSQL, and what its lower bound is cast to.
MARK_TYPES = {
    "smallint": "bigint",
    "integer": "bigint",
    "bigint": "bigint",
    "numeric": "numeric",
    "real": "double precision",
    "double precision": "double precision",
    "date": "date",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "text": "text",
    "character varying": "text",
}

#: Columns that every table of SQLite has, and none lists.
ROW_IDS = ("rowid", "oid", "_rowid_")

NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class Cursor(Protocol):
    """What is needed of a cursor of the DB-API."""

    @property
    def description(self) -> Sequence[Sequence[object]] | None: ...
    def execute(self, query: str, values: list[str] | None = None) -> object: ...
    def fetchall(self) -> list[tuple[object, ...]]: ...


@dataclass
class Watermark:
    """The highest watermark of a pull, as a text; empty while no row had one.

    Where it is the time of the row, one after `latest` (microseconds since 1970) is none: no pull
    behind it would find anything.
    """

    text: str = ""
    latest: int = ANY_TIME

    def note(self, column: pa.Array) -> None:
        """Take in a batch's watermarks, which rise; rows without one come first or last."""
        marks = [mark for mark in as_texts(column.drop_null()) if mark]
        if marks:
            self.text = str(marks[-1])


def lower_bound(watermark: str, overlap: float) -> str:
    """The watermark to read on from: so much below the highest one that was seen.

    Examples
    --------
    >>> lower_bound("1200", 100.0)
    '1100'
    >>> lower_bound("2026-03-09 10:00:00+00:00", 3600.0)
    '2026-03-09 09:00:00'

    Raises
    ------
    SourceError
        An overlap was asked for, and the watermark is neither a number nor a time.
    """
    if not overlap or not watermark:
        return watermark
    if NUMBER.fullmatch(watermark):
        return f"{Decimal(watermark) - Decimal(overlap):f}".removesuffix(".0")
    try:
        before = datetime.fromisoformat(watermark) - timedelta(seconds=overlap)
    except ValueError as error:
        raise SourceError(
            f"source.database.overlap needs a watermark that is a number or a time in ISO 8601; "
            f"this one is {watermark!r}. Set overlap to 0, or name another column"
        ) from error
    if len(watermark) == len("2026-03-09"):
        return f"{before:%Y-%m-%d}"
    # as the column writes it, since SQLite compares texts; without a fraction it is no later
    return f"{before:%Y-%m-%d}{watermark[10]}{before:%H:%M:%S}"


def place_of(database: Database) -> str:
    """Address of the table, without user, password and options."""
    uri = _expanded(database.uri)
    return f"{public_url(uri)}/{database.table}"


def asset_of(database: Database, contract: Contract) -> str:
    """What names the asset where no column does: the contract, or else the table.

    Examples
    --------
    >>> table = Database(uri="sqlite:///a.db", table='plant."pump 7"', watermark="n")
    >>> asset_of(table, Contract(time="time", sensors=("flow",)))
    'pump 7'
    """
    table = quoted(database.table).rpartition('."')[2].strip('"').replace('""', '"')
    return contract.asset_name or table


def read_table(
    database: Database,
    contract: Contract,
    *,
    lower: str = "",
    batch_rows: int,
    seen: Watermark | None = None,
) -> Iterator[pa.RecordBatch]:
    """Rows at or above a watermark, and those that have none, in the order of the watermark.

    Parameters
    ----------
    database : Database
        Where the table is, and which column grows.
    contract : Contract
        Names the columns to read; the watermark is read beside them.
    lower : str
        Lowest watermark to read; empty reads the whole table.
    batch_rows : int
        Most rows of a batch.
    seen : Watermark, optional
        Takes in the highest watermark of the rows that were read.

    Yields
    ------
    pa.RecordBatch
        As `sources.read_batches` gives them; a table without rows may give none.

    Raises
    ------
    SourceUnreachableError
        The server does not answer, or broke off.
    SourceError
        The driver is not installed, or the database refuses. No message has a password.

    Examples
    --------
    >>> quoted('plant."odd ""name"')
    '"plant"."odd ""name"'
    """
    uri = _expanded(database.uri)
    is_postgres = uri.startswith(("postgresql://", "postgres://"))
    if not is_postgres and not uri.startswith("sqlite:///"):
        raise SourceError("source.database.uri must begin with postgresql:// or sqlite:///")
    driver = _driver("postgresql" if is_postgres else "sqlite")
    if not is_postgres and not os.path.isfile(uri.removeprefix("sqlite:///")):
        raise SourceError(
            f"there is no file {uri.removeprefix('sqlite:///')}; correct source.database.uri "
            "(sqlite:////absolute/path.db)"
        )
    place = uri if is_postgres else f"file:{quote(uri.removeprefix('sqlite:///'))}?mode=ro"
    names = checked_names(list(dict.fromkeys((*contract.columns(), database.watermark))))
    try:
        with closing(driver.connect(place)) as connection, closing(connection.cursor()) as cursor:
            if is_postgres:
                _begin(cursor)
            _refuse_lacking(cursor, database, names, is_postgres=is_postgres)
            kind = _bound(cursor, database, lower) if is_postgres else ""
            query, values = _query(database, names, lower, kind)
            cursor.adbc_statement.set_options(**_batch_option(is_postgres, batch_rows))
            cursor.execute(query, values)
            for batch in _batches(cursor.fetch_record_batch(), names, batch_rows):
                if seen is not None:
                    seen.note(_marks(batch, database, contract, seen.latest))
                yield batch
    except (driver.Error, pa.ArrowException) as error:
        # not chained: the driver's own error may quote the address, and with it the password
        reason = _without_secrets(str(error).strip(), uri)
        is_away = isinstance(error, driver.OperationalError)
        raise (SourceUnreachableError if is_away else SourceError)(
            f"table {database.table} cannot be read: {reason}; check source.database and that "
            "the server answers"
        ) from None


def _marks(batch: pa.RecordBatch, database: Database, contract: Contract, latest: int) -> pa.Array:
    """The watermarks of a batch, without times that no row may have."""
    marks = batch[database.watermark]
    if database.watermark != contract.time.column:
        return marks
    times = read_times(as_plain(marks), contract.time).values
    return marks.filter(pa.array(~is_ahead(times, latest)))


def quoted(name: str) -> str:
    """A name, or a dotted one, as an SQL identifier; a part may be quoted already."""
    parts = re.findall(r'"((?:[^"]|"")*)"(?:\.|$)|([^.]+)(?:\.|$)', name)
    texts = [inner.replace('""', '"') if inner else plain for inner, plain in parts]
    return ".".join(_identifier(text) for text in texts)


def _identifier(name: str) -> str:
    if "\0" in name:
        raise SourceError(f"{name!r} is not the name of a table or column: it has a zero byte")
    return '"' + name.replace('"', '""') + '"'


def _query(
    database: Database, names: list[str], lower: str, kind: str
) -> tuple[str, list[str | float] | None]:
    """The query and its values; `kind` is the watermark's type in PostgreSQL, empty in SQLite."""
    # behind an alias, since SQLite takes "absent" alone for a text
    mark = f"t.{_identifier(database.watermark)}"
    columns = ", ".join(
        f"t.{_identifier(name)}" if kind else _as_text(f"t.{_identifier(name)}") for name in names
    )
    where, values = "", None
    if lower:
        bound = f"current_setting('{LOWER}')::{kind}" if kind else "?"
        values = None if kind else [_number_or_text(lower)]
        where = f" WHERE {mark} >= {bound} OR {mark} IS NULL"
    return f"SELECT {columns} FROM {quoted(database.table)} AS t{where} ORDER BY {mark}", values


def _number_or_text(text: str) -> str | float:
    """SQLite holds numbers below all texts, so a bound must be of the kind that its column is."""
    if not NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def _as_text(cell: str) -> str:
    """A cell of SQLite as text: one column may mix types, and the driver guesses from the first."""
    return (
        f"COALESCE(CASE typeof({cell}) WHEN 'real' THEN printf('%!.17g', {cell}) "
        f"WHEN 'blob' THEN hex({cell}) ELSE CAST({cell} AS TEXT) END, '')"
    )


def _refuse_lacking(
    cursor: Cursor, database: Database, names: list[str], *, is_postgres: bool
) -> None:
    """Say which columns a table has, where it lacks one; an error of SQL names all but these."""
    if is_postgres:  # who may read some columns only may not ask for all of them
        cursor.execute(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1::text) "
            "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [quoted(database.table)],
        )
        found = [str(row[0]) for row in cursor.fetchall()]
    else:
        cursor.execute(f"SELECT * FROM {quoted(database.table)} AS t LIMIT 0")
        found = [str(column[0]) for column in cursor.description or ()]
    if not found:  # there is no such table, as the query says
        return
    known = {*found} if is_postgres else {name.casefold() for name in (*found, *ROW_IDS)}
    for name in names:
        if (name if is_postgres else name.casefold()) not in known:
            key = "source.database.watermark" if name == database.watermark else "contract"
            raise SourceError(
                f"table {database.table} has no column '{name}', which {key} in the plant file "
                f"names; it has {', '.join(found)}"
            )


def _begin(cursor: Cursor) -> None:
    """Make the transaction read-only and of one state."""
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    cursor.execute("SET LOCAL TIME ZONE 'UTC'")


def _bound(cursor: Cursor, database: Database, lower: str) -> str:
    """Give the transaction its lower bound; the watermark's type."""
    mark, table = _identifier(database.watermark), quoted(database.table)
    cursor.execute(f"SELECT pg_typeof(t.{mark})::text FROM {table} AS t LIMIT 1")
    found = cursor.fetchall()
    kind = str(found[0][0]) if found else "text"
    if kind not in MARK_TYPES:
        raise SourceError(
            f"source.database.watermark '{database.watermark}' is of type {kind}; name a column "
            f"that grows, of type {', '.join(MARK_TYPES)}"
        )
    cursor.execute(f"SELECT set_config('{LOWER}', $1::text, true)", [lower])
    cursor.fetchall()
    return MARK_TYPES[kind]


def _batch_option(is_postgres: bool, batch_rows: int) -> dict[str, str]:
    if is_postgres:
        return {"adbc.postgresql.batch_size_hint_bytes": str(1 << 24)}
    return {"adbc.sqlite.query.batch_rows": str(batch_rows)}


def _batches(
    reader: pa.RecordBatchReader, names: list[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    first = 1
    for whole in reader:
        for start in range(0, whole.num_rows, batch_rows):
            part = whole.slice(start, batch_rows)
            columns = [_stored(column) for column in part.columns]
            yield numbered(columns, names, first, pa.nulls(part.num_rows, pa.string()))
            first += part.num_rows


def _stored(column: pa.Array) -> pa.Array:
    """A column that Arrow has no type for (PostgreSQL's numeric) as the text that it is."""
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _driver(name: str) -> ModuleType:
    try:
        return import_module(f"adbc_driver_{name}.dbapi")
    except ImportError as error:
        raise SourceError(
            "reading a database needs the extra 'sql': pip install 'vae_anomaly[sql]'"
        ) from error


def _expanded(uri: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SourceError(
                f"source.database.uri names ${{{match[1]}}}, which is not set; export {match[1]}"
            )
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, uri)


def _without_secrets(text: str, uri: str) -> str:
    text = text.replace(uri, "the database")
    found = re.findall(r"://[^:/@]*:(.*)@|[?&]password=([^&]*)", uri)
    secrets = {secret for pair in found for secret in pair if secret}
    for secret in secrets | {unquote(secret) for secret in secrets}:
        text = text.replace(secret, "***")
    return text
