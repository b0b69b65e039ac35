"""Typed tables as batches: Parquet, Arrow IPC (Feather) and Delta. Columns keep their types."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.ipc as paipc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from vae_anomaly.config import Source
from vae_anomaly.data.batches import (
    MAX_BATCH_BYTES,
    UNREADABLE,
    checked_names,
    gathered,
    numbered,
    sliced,
)
from vae_anomaly.data.sources.storage import (
    SourceFile,
    from_environment,
    is_remote,
    open_file,
    open_store,
    public_url,
)
from vae_anomaly.errors import SourceError

__all__ = ["delta_digest", "delta_file", "is_delta", "read_arrow", "read_delta", "read_parquet"]

#: First and last bytes of an Arrow file; what is between them is a stream (Arrow Columnar Format).
ARROW_FILE = b"ARROW1"
#: Last message of a stream.
ARROW_END = b"\xff\xff\xff\xff\0\0\0\0"
#: A file that makes a folder a Delta table.
DELTA_COMMIT = re.compile(r"\d{20}\.(?:json|checkpoint\..*parquet)")
#: Options of pyarrow's S3 store, as Delta calls them.
DELTA_OPTIONS = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
}


def read_parquet(file: SourceFile, source: Source, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file, read page by page."""
    with (
        open_file(file, source) as stream,
        pq.ParquetFile(stream, buffer_size=1 << 20) as parquet,
    ):
        names = checked_names(list(parquet.schema_arrow.names))
        groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
        heaviest = max(
            (group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1
        )
        n_rows = int(min(max(MAX_BATCH_BYTES / max(heaviest, 1), 1), batch_rows))
        batches = parquet.iter_batches(n_rows, use_threads=False)
        yield from _counted(batches, parquet.schema_arrow, names)


def read_arrow(file: SourceFile, source: Source, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of an Arrow file or stream, or of Feather (version 2).

    One record batch of the file at a time is in memory.
    """
    with open_file(file, source) as stream:
        is_file = stream.read(8)[:6] == ARROW_FILE
        if not is_file:
            stream.seek(0)
        with paipc.open_stream(stream) as reader:
            names = checked_names(list(reader.schema.names))
            pieces = _record_batches(reader, stream, is_file, batch_rows)
            yield from gathered(_counted(pieces, reader.schema, names), batch_rows)


def _record_batches(
    reader: paipc.RecordBatchStreamReader, stream: BinaryIO, is_file: bool, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Record batches within bounds; an error where the file breaks off behind one of them."""
    for batch in reader:
        batch.validate(full=True)  # offsets that point elsewhere would end the process
        yield from sliced(batch, batch_rows)
    stream.seek(-len(ARROW_FILE if is_file else ARROW_END), os.SEEK_END)
    if stream.read() != (ARROW_FILE if is_file else ARROW_END):
        raise SourceError("it breaks off: what must stand at its end is missing")


def _counted(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, names: list[str]
) -> Iterator[pa.RecordBatch]:
    """Batches with our columns; an empty one where there are none."""
    first = 1
    for batch in batches:
        yield numbered(batch.columns, names, first, pa.nulls(batch.num_rows, pa.string()))
        first += batch.num_rows
    if first == 1:
        columns = [column.combine_chunks() for column in schema.empty_table().columns]
        yield numbered(columns, names, 1, pa.nulls(0, pa.string()))


# -------------------------------------------------------------------------------------------- Delta


def is_delta(path: str) -> bool:
    """Whether a path of this machine is the folder of a Delta table."""
    log = os.path.join(path, "_delta_log")
    return os.path.isdir(log) and any(map(DELTA_COMMIT.fullmatch, os.listdir(log)))


def delta_file(path: str, source: Source) -> SourceFile:
    """A Delta table as it stands, as a file: its size is its version.

    Raises
    ------
    SourceError
        It cannot be read as one.
    """
    try:
        table = _opened(path, source)
    except (SourceError, *UNREADABLE) as error:
        raise SourceError(f"{public_url(path)} is no Delta table: {error}") from error
    identity = hashlib.sha256(str(table.metadata().id).encode()).digest()
    shown = public_url(path) if is_remote(path) else path
    changed = -int.from_bytes(identity[:7], "big") - 1  # a table made anew is another one
    return SourceFile(shown, table.version(), changed)


def delta_digest(file: SourceFile, source: Source) -> str:
    """SHA-256 of a table's id and the version that was listed."""
    identity = _opened(file.path, source).metadata().id
    return hashlib.sha256(f"{identity} {file.size}".encode()).hexdigest()


def read_delta(file: SourceFile, source: Source, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of the version of a Delta table that was listed, data file by data file.

    The files come in the order of their names, which makes a row's number the same each time.
    """
    table = _opened(file.path, source, version=file.size)
    whole = table.to_pyarrow_dataset(filesystem=_folder(table, source))
    names = checked_names(list(whole.schema.names))
    fragments = sorted(whole.get_fragments(), key=lambda fragment: str(fragment.path))
    batches = (
        piece
        for fragment in fragments
        for batch in fragment.to_batches(
            schema=whole.schema, batch_size=batch_rows, batch_readahead=1, use_threads=False
        )
        for piece in sliced(batch, batch_rows)
    )
    yield from gathered(_counted(batches, whole.schema, names), batch_rows)


def _opened(path: str, source: Source, *, version: int | None = None) -> DeltaTable:
    if is_remote(path):
        store = open_store(source)
        options = delta_options(source.storage)
        return store.guarded(lambda: DeltaTable(path, version=version, storage_options=options))
    try:
        return DeltaTable(Path(path).absolute().as_uri(), version=version)
    except DeltaError as error:
        raise SourceError(str(error)) from error


def delta_options(storage: Mapping[str, str]) -> dict[str, str]:
    """Options of a store as Delta names them; those with other names stay.

    Examples
    --------
    >>> delta_options({"endpoint_override": "localhost:9000", "scheme": "http"})
    {'AWS_ENDPOINT_URL': 'http://localhost:9000', 'AWS_ALLOW_HTTP': 'true'}
    """
    given = {name: from_environment(name, text) for name, text in storage.items()}
    scheme = given.pop("scheme", "https")
    if "endpoint_override" in given:
        place = given.pop("endpoint_override")
        given["AWS_ENDPOINT_URL"] = place if "://" in place else f"{scheme}://{place}"
    if scheme == "http":
        given["AWS_ALLOW_HTTP"] = "true"
    return {DELTA_OPTIONS.get(name, name): text for name, text in given.items()}


def _folder(table: DeltaTable, source: Source) -> pafs.FileSystem:
    """The folder of a table as pyarrow reads it."""
    if is_remote(source.path):
        store = open_store(source)
        place = urlsplit(table.table_uri)
        return pafs.SubTreeFileSystem(f"{place.netloc}{unquote(place.path)}", store.files)
    return pafs.SubTreeFileSystem(unquote(urlsplit(table.table_uri).path), pafs.LocalFileSystem())
