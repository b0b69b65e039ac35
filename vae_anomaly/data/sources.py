"""Files that rows come from: found, known by their digest, and streamed as batches.

What a batch is, `data.batches` says. CSV is read by `data.delimited`, Parquet here: its columns
keep their types. A new kind of source is one generator and one line in ``SOURCES``.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from vae_anomaly.config import Source
from vae_anomaly.data.batches import MAX_BATCH_BYTES, UNREADABLE, checked_names, numbered
from vae_anomaly.data.delimited import read_csv
from vae_anomaly.errors import SourceError

__all__ = ["SOURCES", "SourceFile", "content_digest", "list_files", "read_batches"]

#: Reader of each ending where source.format is `auto`; .gz may follow the endings of texts.
ENDINGS = {".csv": "csv", ".txt": "csv", ".tsv": "csv", ".parquet": "parquet"}
#: Names of files that some program still writes or has left behind.
TEMPORARY = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was listed: path, size in bytes, time of change in ns."""

    path: str
    size: int
    modified_ns: int


# ----------------------------------------------------------------------------------- finding files


def list_files(source: Source) -> tuple[SourceFile, ...]:
    """Files of a source, sorted by path.

    Of a folder and the folders below it, these are the files with a known ending. Hidden and
    temporary ones (``.a.csv``, ``~$a.csv``, ``a.csv.part``) and folders such as ``_delta_log`` are
    left out. A glob takes the files that it matches, and those of the folders that it matches.

    Raises
    ------
    SourceError
        Nothing was found, or a folder cannot be read.
    """
    path = os.path.abspath(source.path)
    if os.path.isfile(path):
        return (_listed(path),)
    found: set[str] = set()
    for match in [path] if os.path.isdir(path) else glob.glob(path, recursive=True):
        if os.path.isdir(match):
            found.update(_files_below(match, source.format))
        elif _is_file(match) and not _is_left_out(os.path.basename(match)):
            found.add(match)
    if not found:
        endings = ", ".join(e for e, known in ENDINGS.items() if source.format in ("auto", known))
        raise SourceError(
            f"nothing found at {path!r}: looked for a file of this name, for a folder with files "
            f"that end in {endings}, and for matches of a glob; correct source.path"
        )
    return tuple(_listed(name) for name in sorted(found))


def content_digest(file: SourceFile) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises
    ------
    SourceError
        The file cannot be read.
    """
    try:
        with open(file.path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{file.path} cannot be read: {error.strerror}") from error


def _listed(path: str) -> SourceFile:
    try:
        path.encode()
        stat = os.stat(path) if os.path.exists(path) else os.lstat(path)
    except UnicodeEncodeError as error:
        raise SourceError(f"{path!r}: this name is not UTF-8; rename the file") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return SourceFile(path, stat.st_size, stat.st_mtime_ns)


def _files_below(folder: str, wanted: str) -> Iterator[str]:
    """Files with the endings of a format; a folder that is linked twice comes once."""

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error

    seen: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if os.path.realpath(root) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(root))
        folders[:] = sorted(n for n in folders if not (n.startswith("_") or _is_left_out(n)))
        for name in names:
            known, path = _format_by_ending(name), os.path.join(root, name)
            if known and wanted in ("auto", known) and _is_file(path) and not _is_left_out(name):
                yield path


def _is_file(path: str) -> bool:
    """Not a pipe or a device, which may never end; a link to nothing is one that cannot be read."""
    return os.path.isfile(path) or not os.path.exists(path)


def _is_left_out(name: str) -> bool:
    return name.startswith((".", "~")) or name.lower().endswith(TEMPORARY)


def _format_by_ending(path: str) -> str | None:
    name = path.lower()
    found = ENDINGS.get(os.path.splitext(name.removesuffix(".gz"))[1])
    return None if found == "parquet" and name.endswith(".gz") else found


# ------------------------------------------------------------------------------------------ reading


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
        What to read; a text file may be compressed by gzip.
    source : Source
        Format, delimiter (of a ``.tsv`` file it is a tab unless one is given) and encoding.
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
    name = _format_by_ending(file.path) if source.format == "auto" else source.format
    if name is None:
        raise SourceError(
            f"{file.path} ends in none of {', '.join(ENDINGS)}; set source.format to "
            f"{' or '.join(SOURCES)}, or leave the file out"
        )
    last_row = 0
    try:
        for batch in SOURCES[name](file.path, source, batch_rows):
            yield batch
            last_row += batch.num_rows
    except (SourceError, *UNREADABLE) as error:
        reason = str(error).strip() or type(error).__name__
        where = f"after row {last_row}" if last_row else "from its start"
        raise SourceError(f"{file.path} cannot be read {where}: {reason}") from error


# ------------------------------------------------------------------------------------------ Parquet


def _read_parquet(path: str, source: Source, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file, read page by page."""
    with pq.ParquetFile(path, buffer_size=1 << 20) as parquet:
        names = checked_names(list(parquet.schema_arrow.names))
        groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
        heaviest = max(
            (group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1
        )
        n_rows = int(min(max(MAX_BATCH_BYTES / max(heaviest, 1), 1), batch_rows))
        first = 1
        for batch in parquet.iter_batches(n_rows, use_threads=False):
            broken = pa.nulls(batch.num_rows, pa.string())
            yield numbered(batch.columns, names, first, broken)
            first += batch.num_rows
        if first == 1:
            columns = [
                column.combine_chunks() for column in parquet.schema_arrow.empty_table().columns
            ]
            yield numbered(columns, names, 1, pa.nulls(0, pa.string()))


#: Where rows can come from.
SOURCES: dict[str, Callable[[str, Source, int], Iterator[pa.RecordBatch]]] = {
    "csv": read_csv,
    "parquet": _read_parquet,
}
