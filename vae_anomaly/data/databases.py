"""Tables of PostgreSQL and SQLite, streamed as batches through ADBC.

A pull is one read-only transaction that sees one state of the table. PostgreSQL streams only what
it can COPY, and COPY takes no parameters: so the lower bound is bound as a parameter of
``set_config``, for this transaction alone, and the query reads it with ``current_setting``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from types import ModuleType
from urllib.parse import quote, unquote

import pyarrow as pa

from vae_anomaly.config import Contract
from vae_anomaly.config.source import Database
from vae_anomaly.data.batches import checked_names, numbered
from vae_anomaly.errors import SourceError

__all__ = ["quoted", "read_table"]

#: Transaction-local setting of PostgreSQL that carries the lower bound.
LOWER = "vae_anomaly.lower"


def read_table(
    database: Database, contract: Contract, *, lower: str | int | None = None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Rows at or above a watermark, and those that have none, in the order of the watermark.

    Parameters
    ----------
    database : Database
        Where the table is, and which column grows.
    contract : Contract
        Names the columns to read; the watermark is read beside them.
    lower : str, int or None
        Lowest watermark to read; none reads the whole table.
    batch_rows : int
        Most rows of a batch.

    Yields
    ------
    pa.RecordBatch
        As `sources.read_batches` gives them; a table without rows may give none.

    Raises
    ------
    SourceError
        The driver is not installed, or the database refuses; the message has no password.

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
    place = uri if is_postgres else f"file:{quote(uri.removeprefix('sqlite:///'))}?mode=ro"
    names = checked_names(list(dict.fromkeys((*contract.columns(), database.watermark))))
    try:
        with closing(driver.connect(place)) as connection, closing(connection.cursor()) as cursor:
            if is_postgres:
                _begin(cursor, lower)
            query, values = _query(database, names, lower, is_postgres)
            cursor.adbc_statement.set_options(**_batch_option(is_postgres, batch_rows))
            cursor.execute(query, values)
            yield from _batches(cursor.fetch_record_batch(), names, batch_rows)
    except (driver.Error, pa.ArrowException) as error:
        # not chained: the driver's own error may quote the address, and with it the password
        reason = _without_secrets(str(error).strip(), uri)
        raise SourceError(
            f"table {database.table} cannot be read: {reason}; check source.database and that "
            "the server answers"
        ) from None


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
    database: Database, names: list[str], lower: str | int | None, is_postgres: bool
) -> tuple[str, list[str | int] | None]:
    # behind an alias, since SQLite takes "absent" alone for a text
    mark = f"t.{_identifier(database.watermark)}"
    columns = ", ".join(
        f"t.{_identifier(name)}" if is_postgres else _as_text(f"t.{_identifier(name)}")
        for name in names
    )
    where, values = "", None
    if lower is not None:
        kind = "bigint" if isinstance(lower, int) else "timestamptz"
        bound = f"current_setting('{LOWER}')::{kind}" if is_postgres else "?"
        values = None if is_postgres else [lower]
        where = f" WHERE {mark} >= {bound} OR {mark} IS NULL"
    return f"SELECT {columns} FROM {quoted(database.table)} AS t{where} ORDER BY {mark}", values


def _as_text(cell: str) -> str:
    """A cell of SQLite as text: one column may mix types, and the driver guesses from the first."""
    return (
        f"COALESCE(CASE typeof({cell}) WHEN 'real' THEN printf('%!.17g', {cell}) "
        f"WHEN 'blob' THEN hex({cell}) ELSE CAST({cell} AS TEXT) END, '')"
    )


def _begin(cursor, lower: str | int | None) -> None:  # type: ignore[no-untyped-def]
    """Make the transaction read-only and of one state, and give it the lower bound."""
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    cursor.execute("SET LOCAL TIME ZONE 'UTC'")
    if lower is not None:
        cursor.execute(f"SELECT set_config('{LOWER}', $1, true)", [str(lower)])
        cursor.fetchall()


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
        if name == "sqlite":
            import adbc_driver_sqlite.dbapi as driver
        else:
            import adbc_driver_postgresql.dbapi as driver
    except ImportError as error:
        raise SourceError(
            "reading a database needs the extra 'sql': pip install 'vae_anomaly[sql]'"
        ) from error
    return driver  # type: ignore[no-any-return]


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
