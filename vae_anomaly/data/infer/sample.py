"""Rows of a source to look at: all of them where they are few, else blocks from all over.

At most ``MOST_BYTES`` of texts and ``MOST_CELLS`` cells are held, of at most ``MOST_FILES`` files,
whatever the size of the source. A text is read at ``BLOCKS`` places over its length; a file that
cannot be entered in the middle (packed, UTF-16, a workbook, Parquet) from its start.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Source
from vae_anomaly.data.batches import OWN
from vae_anomaly.data.cells import as_plain
from vae_anomaly.data.infer.dialect import Dialect, infer_dialect, infer_encoding
from vae_anomaly.data.sources import SourceFile, read_batches
from vae_anomaly.data.sources.files import format_of
from vae_anomaly.data.sources.packed import unpacked
from vae_anomaly.data.sources.storage import open_file
from vae_anomaly.errors import SourceError

__all__ = ["Sample", "beginning", "take_sample"]

#: Bytes of texts that are read as a whole; of more, blocks are.
MOST_BYTES = 1 << 25
#: Cells that are held: some hundred megabytes.
MOST_CELLS = 1 << 23
#: Files that are read; of more, some from all over.
MOST_FILES = 64
#: Places at which a large text is read.
BLOCKS = 16
#: Bytes from which a dialect is inferred.
HEAD_BYTES = 1 << 18
BATCH_ROWS = 1 << 14


@dataclass(frozen=True)
class Sample:
    """Rows of a source, file by file, block by block.

    Attributes
    ----------
    files : tuple of SourceFile
        All files of the source.
    cells : dict of str to pa.Array of shape (n,)
        Column → its cells: texts as bytes, or of a type.
    file, block, row : ndarray of shape (n,)
        Of each row the file's place in `files`, the number of its block, and its number in the
        block: the row's in the file, where the block is the first.
    n_broken : int
        Lines that do not have the columns of the header.
    is_whole : bool
        Whether these are all the rows.
    """

    files: tuple[SourceFile, ...]
    cells: dict[str, pa.Array]
    file: np.ndarray
    block: np.ndarray
    row: np.ndarray
    n_broken: int
    is_whole: bool
    dialect: Dialect

    @property
    def n_rows(self) -> int:
        return len(self.file)

    @property
    def n_files_read(self) -> int:
        return len(np.unique(self.file))


def beginning(file: SourceFile, source: Source) -> bytes:
    """The first bytes of a text, unpacked.

    Raises
    ------
    SourceError
        The file cannot be read.
    """
    held = bytearray()
    try:
        with open_file(file, source) as raw:
            for chunk in unpacked(raw, HEAD_BYTES):
                held += chunk
                if len(held) >= HEAD_BYTES:
                    break
    except (OSError, EOFError) as error:
        raise SourceError(f"{file.path} cannot be read: {error}") from error
    # the line that is cut off at the end does not count
    return bytes(held) if len(held) < HEAD_BYTES else bytes(held[:HEAD_BYTES])


def take_sample(files: Sequence[SourceFile], source: Source) -> Sample:
    """Rows of a source's files, in the dialect of the first.

    Parameters
    ----------
    files : sequence of SourceFile
        As `sources.list_files` gives them.
    source : Source
        Path and format; the dialect is inferred.

    Raises
    ------
    SourceError
        A file cannot be read, holds no table, or has other columns than the first.
    """
    chosen = _spread(len(files), MOST_FILES)
    kinds = {format_of(files[at], source) for at in chosen}
    if len(kinds) > 1:
        names = ", ".join(sorted(str(kind) for kind in kinds))
        raise SourceError(f"the files are of several formats ({names}); give those of one")
    is_text = kinds <= {"csv", None}
    dialect = Dialect()
    if is_text:
        dialect = _dialect_of([files[at] for at in chosen], source)
        source = _with_dialect(source, dialect)
    with tempfile.TemporaryDirectory() as folder:
        entries = [
            entry
            for at in chosen
            for entry in _entries(files[at], at, source, dialect, folder, MOST_BYTES // len(chosen))
        ]
        parts = [_read(entry, source, MOST_CELLS // len(entries)) for entry in entries]
    for part in parts[1:]:
        if set(part.names) != set(parts[0].names):
            own = files[part.entry.file]
            _refuse(files[parts[0].entry.file], parts[0].names, own, part.names)
    is_whole = len(chosen) == len(files) and all(part.is_whole for part in parts)
    return _joined(tuple(files), parts, is_whole, dialect)


@dataclass(frozen=True)
class _Entry:
    """A file, or an extract of one, to be read from its start."""

    path: SourceFile
    file: int  # its place among the files
    is_first: bool  # holds the file's first rows
    is_extract: bool


@dataclass(frozen=True)
class _Part:
    """What was read of an entry."""

    entry: _Entry
    names: tuple[str, ...]
    batches: tuple[pa.RecordBatch, ...]
    is_whole: bool


def _dialect_of(files: Sequence[SourceFile], source: Source) -> Dialect:
    """The dialect of the first file that has rows, in an encoding that suits all."""
    found: Dialect | None = None
    encodings = set()
    for file in files:
        try:
            data = beginning(file, source)
            if found is None:
                found = infer_dialect(data)
            encodings.add(infer_encoding(data + _ending(file, source)))
        except SourceError as error:
            said = str(error)
            said = said if said.startswith(file.path) else f"{file.path} cannot be read: {said}"
            raise SourceError(said) from error
    assert found is not None
    if len(encodings) > 1:
        others = encodings - {"utf-8"}
        if others & {"utf-16", "utf-16-le", "utf-16-be"}:
            raise SourceError(f"the files are in several encodings: {', '.join(sorted(encodings))}")
        return replace(found, encoding="latin-1" if "latin-1" in others else "cp1252")
    return replace(found, encoding=encodings.pop())


def _ending(file: SourceFile, source: Source) -> bytes:
    """The last bytes of a text that is not packed: its encoding may show there alone."""
    with open_file(file, source) as raw:
        start = raw.read(6)
        if file.size <= HEAD_BYTES or _is_packed(start) or start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return b""
        raw.seek(max(file.size - HEAD_BYTES, HEAD_BYTES))
        data = raw.read(HEAD_BYTES)
    return data[min(data.find(b"\n") + 1, len(data)) :] if b"\0" not in data else b""


def _is_packed(start: bytes) -> bool:
    packed = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
    return start.startswith(packed)


def _with_dialect(source: Source, dialect: Dialect) -> Source:
    return source.model_copy(
        update={
            "delimiter": dialect.delimiter,
            "decimal": dialect.decimal,
            "encoding": dialect.encoding,
            "header": dialect.header,
            "skip_lines": dialect.skip_lines,
        }
    )


def _spread(n: int, most: int) -> list[int]:
    """At most so many of n places, from the first to the last."""
    return sorted({int(at) for at in np.linspace(0, n - 1, min(n, most)).round()})


def _read(entry: _Entry, source: Source, most_cells: int) -> _Part:
    """Rows of an entry until there are enough."""
    if entry.is_extract:
        source = source.model_copy(update={"format": "csv"})
    batches: list[pa.RecordBatch] = []
    names: tuple[str, ...] = ()
    n_cells, is_whole = 0, not entry.is_extract
    for batch in read_batches(entry.path, source, batch_rows=BATCH_ROWS):
        names = tuple(name for name in batch.schema.names if name not in OWN)
        batches.append(batch)
        n_cells += batch.num_rows * len(names)
        if n_cells >= most_cells:
            is_whole = False
            break
    return _Part(entry, names, tuple(batches), is_whole)


# ---------------------------------------------------------------------- places in a large text


def _entries(
    file: SourceFile, at: int, source: Source, dialect: Dialect, folder: str, budget: int
) -> Iterator[_Entry]:
    """The file, or extracts of it where it is a large text that can be entered in the middle."""
    is_text = format_of(file, source) in ("csv", None)
    if not is_text or file.size <= budget or dialect.encoding.startswith("utf-16"):
        yield _Entry(file, at, True, False)
        return
    with open_file(file, source) as raw:
        if _is_packed(raw.read(6)):
            yield _Entry(file, at, True, False)
            return
        raw.seek(0)
        head = b"".join(raw.readline(1 << 20) for _ in range(dialect.skip_lines + dialect.header))
        start, size = raw.tell(), max(budget // BLOCKS, 1 << 16)
        places = np.linspace(start, max(file.size - size, start), BLOCKS).astype(int).tolist()
        for number, place in enumerate(places):
            path = os.path.join(folder, f"{at}-{number}.csv")
            n_bytes = _extract(raw, head, place, size, path, is_first=not number)
            yield _Entry(SourceFile(path, n_bytes, 0), at, not number, True)


def _extract(
    raw: BinaryIO, head: bytes, place: int, size: int, path: str, *, is_first: bool
) -> int:
    """Write a text with the header and whole lines from a place on; returns its size."""
    raw.seek(place)
    if not is_first:
        raw.readline(1 << 20)
    data = raw.read(size)
    data = data[: data.rfind(b"\n") + 1] or data
    with open(path, "wb") as extract:
        return extract.write(head + data)


# ------------------------------------------------------------------------------------- joining


def _joined(
    files: tuple[SourceFile, ...], parts: Sequence[_Part], is_whole: bool, dialect: Dialect
) -> Sample:
    names = parts[0].names
    file, block, row = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    pieces: dict[str, list[pa.Array]] = {name: [] for name in names}
    n_broken = 0
    for number, part in enumerate(parts):
        for batch in part.batches:
            is_units = bool(dialect.units) and part.entry.is_first
            keep = pc.and_(batch["_broken"].is_null(), pc.greater(batch["_row"], int(is_units)))
            n_broken += batch["_broken"].is_valid().true_count
            good = batch.filter(keep)
            file.append(np.full(good.num_rows, part.entry.file))
            block.append(np.full(good.num_rows, number))
            row.append(good["_row"].to_numpy())
            for name in names:
                pieces[name].append(as_plain(good[name]))
    sample = Sample(
        files,
        {name: _one_array(pieces[name]) for name in names},
        np.concatenate(file),
        np.concatenate(block),
        np.concatenate(row),
        n_broken,
        is_whole,
        dialect,
    )
    if not sample.n_rows:
        raise SourceError(f"{files[0].path} has the columns {', '.join(names[:5])}, but no rows")
    return sample


def _one_array(pieces: Sequence[pa.Array]) -> pa.Array:
    kinds = {piece.type for piece in pieces}
    if len(kinds) > 1:  # a column of nothing in one file, of numbers in the other
        kinds.discard(pa.null())
        kind = kinds.pop() if len(kinds) == 1 else pa.string()
        pieces = [piece.cast(kind) for piece in pieces]
        return as_plain(pa.concat_arrays(pieces))
    return pa.concat_arrays(pieces)


def _refuse(
    first: SourceFile, names: Sequence[str], other: SourceFile, others: Sequence[str]
) -> None:
    """Say how the columns of two files differ."""

    def some(of: Iterator[str]) -> str:
        shown = [f"'{name}'" for name in of]
        return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")

    lacking = some(name for name in names if name not in set(others))
    more = some(name for name in others if name not in set(names))
    raise SourceError(
        f"{other.path} has other columns than {first.path}: "
        + "; ".join(
            text
            for text in (
                f"it lacks {lacking}" if lacking else "",
                f"it also has {more}" if more else "",
                "their order differs" if not lacking and not more else "",
            )
            if text
        )
        + ". Give files of one kind, and make a plant file for each kind"
    )
