"""Where rows come from: files of every kind, here or in a store, and tables of databases.

What a batch is, `data.batches` says. A new kind of file is one generator, one line in ``SOURCES``
and its endings in ``files.ENDINGS``::

    files       found, told apart by their endings, known by their digest, and settled
    storage     opened, on this machine or in a store behind a URL
    packed      unpacked, by what they are
    delimited   CSV and its kin, by way of lines
    tables      Parquet, Arrow, Delta
    workbooks   Excel and OpenDocument, in a process of their own
    databases   tables of PostgreSQL and SQLite, which are pulled
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from vae_anomaly.config import Source
from vae_anomaly.data.batches import UNREADABLE
from vae_anomaly.data.sources.delimited import read_csv
from vae_anomaly.data.sources.files import (
    ENDINGS,
    asset_of_file,
    asset_stem,
    content_digest,
    format_of,
    list_files,
    reading_of,
    still_growing,
)
from vae_anomaly.data.sources.storage import SourceFile
from vae_anomaly.data.sources.tables import read_arrow, read_delta, read_parquet
from vae_anomaly.data.sources.workbooks import read_excel
from vae_anomaly.errors import SourceError

__all__ = [
    "SOURCES",
    "SourceFile",
    "asset_of_file",
    "asset_stem",
    "content_digest",
    "list_files",
    "read_batches",
    "reading_of",
    "still_growing",
]

#: Where rows can come from.
SOURCES: dict[str, Callable[[SourceFile, Source, int], Iterator[pa.RecordBatch]]] = {
    "csv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "excel": read_excel,
    "delta": read_delta,
}


def read_batches(
    file: SourceFile, source: Source, *, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Stream a file's rows, in order and in bounded memory.

    A file without rows gives one empty batch, with its columns. ``_row`` rises by one from 1; an
    empty line is not a row. Where ``_broken`` has a text, every other cell is null. All batches
    but the last have `batch_rows` rows, unless these are more than 64 MB.

    Parameters
    ----------
    file : SourceFile
        What to read; a text file may be compressed by gzip, bzip2, xz or zstd.
    source : Source
        Format, and of texts the delimiter (of a ``.tsv`` file it is a tab unless one is given),
        encoding, lines before the header and whether there is one.
    batch_rows : int
        Most rows of a batch.

    Yields
    ------
    pa.RecordBatch

    Raises
    ------
    SourceError
        The file is empty, is not of its format, or breaks off: the message says after which row,
        and the batches before it are good.

    Examples
    --------
    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile(suffix=".csv") as file:
    ...     _ = file.write(b"time,flow;2026-03-09,1.5;cut of".replace(b";", bytes([10])))
    ...     file.flush()
    ...     source = Source(path=file.name)
    ...     (batch,) = read_batches(*list_files(source), source)
    >>> batch["_row"].to_pylist(), batch["_broken"].to_pylist()
    ([1, 2], [None, 'cut of'])
    """
    name = format_of(file, source)
    if name is None:
        raise SourceError(
            f"{file.path} ends in none of {', '.join(ENDINGS)}; set source.format to "
            f"{', '.join(SOURCES)}, or leave the file out"
        )
    last_row = 0
    try:
        for batch in SOURCES[name](file, source, batch_rows):
            yield batch
            last_row += batch.num_rows
    except (SourceError, *UNREADABLE) as error:
        reason = str(error).strip() or type(error).__name__
        where = f"after row {last_row}" if last_row else "from its start"
        raise SourceError(f"{file.path} cannot be read {where}: {reason}") from error
