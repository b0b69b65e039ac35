"""CSV files as Arrow batches: split into cells, and every line accounted for.

Cells are the bytes of the file (null where empty), so that no cell can stop the stream. A file is
cut into blocks of whole lines, and pyarrow parses each on one thread. A quoted cell may hold line
ends (RFC 4180); a quote that never closes costs its own line, not the rest of the file.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from vae_anomaly.config import WHITESPACE, Source
from vae_anomaly.data.batches import checked_names, gathered, numbered
from vae_anomaly.data.sources.lines import (
    as_utf8,
    whole_lines,
    with_single_blanks,
    without_preamble,
)
from vae_anomaly.data.sources.packed import unpacked, unpacked_name
from vae_anomaly.data.sources.storage import SourceFile, open_file
from vae_anomaly.errors import SourceError

__all__ = ["read_csv"]

#: Bytes of CSV that are parsed at once: the fastest of 0.5 to 8 MB, and what bounds the memory.
BLOCK_BYTES = 1 << 21
#: How far a row may run on over line ends in quotes before its quote counts as never closed.
MAX_QUOTED_BYTES = 1 << 16

LINE_END = re.compile(rb"\r\n|\r|\n|\Z")


class _Block(NamedTuple):
    """Some lines of a file, as rows in order, and what of them waits for the next lines."""

    rows: pa.RecordBatch
    rest: bytes


class _Mended(NamedTuple):
    """Lines in which every quote closes, what of them waits, and the lines that were replaced."""

    lines: bytes
    rest: bytes
    replaced: dict[str, str]  # text that stands for a line → the line


@dataclass(frozen=True)
class _Dialect:
    """How the lines of a CSV file are split."""

    names: tuple[str, ...]
    delimiter: str

    @cached_property
    def closed_line(self) -> re.Pattern[bytes]:
        """A line in which every quote closes, as lenient as pyarrow."""
        d = re.escape(self.delimiter.encode())
        cell = rb'(?:"[^"\r\n]*+(?:""[^"\r\n]*+)*+"[^%b\r\n]*+|[^"%b\r\n][^%b\r\n]*+)?+' % (d, d, d)
        return re.compile(rb"%b(?:%b%b)*+" % (cell, d, cell))

    @cached_property
    def whole_row(self) -> re.Pattern[bytes]:
        """A row with all columns, over as many lines as its quotes hold; as strict as RFC 4180."""
        d = re.escape(self.delimiter.encode())
        cell = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"%b\r\n][^%b\r\n]*+)?+' % (d, d)
        n_more = len(self.names) - 1
        return re.compile(rb"%b(?:%b%b){%d}(?:\r\n|\r|\n|\Z)" % (cell, d, cell, n_more))


def read_csv(file: SourceFile, source: Source, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of a CSV file, gathered from its blocks."""
    with open_file(file, source) as raw:
        yield from gathered(_csv_blocks(raw, file.path, source), batch_rows)


def _csv_blocks(raw: BinaryIO, path: str, source: Source) -> Iterator[pa.RecordBatch]:
    """Rows of a CSV file as they are parsed; first, none at all, with the header's columns."""
    delimiter = _delimiter(path, source)
    blocks = whole_lines(as_utf8(unpacked(raw, BLOCK_BYTES), source.encoding))
    if source.skip_lines:
        blocks = without_preamble(blocks, source.skip_lines)
    if source.delimiter == WHITESPACE:
        blocks = map(with_single_blanks, blocks)
    first_lines = next((block for block in blocks if block.strip(b"\r\n")), b"")
    names, n_bytes = _header(first_lines, delimiter, is_there=source.header)
    dialect = _Dialect(tuple(names), delimiter)
    columns = [pa.array([], pa.binary())] * len(names)
    yield numbered(columns, names, 1, pa.nulls(0, pa.string()))
    rest, first = b"", 1
    for lines in chain([first_lines[n_bytes:]], blocks, [None]):
        block = _split(rest + (lines or b""), dialect, first, is_last=lines is None)
        yield block.rows
        rest, first = block.rest, first + block.rows.num_rows


def _delimiter(path: str, source: Source) -> str:
    """What stands between two cells."""
    if source.delimiter == WHITESPACE:
        return " "  # all that `with_single_blanks` leaves
    if "delimiter" not in source.model_fields_set and unpacked_name(path).endswith(".tsv"):
        return "\t"
    if source.delimiter in '"\r\n' or not source.delimiter.isascii():
        raise SourceError(
            f"the delimiter cannot be {source.delimiter!r}; set source.delimiter to ';', say"
        )
    return source.delimiter


def _header(lines: bytes, delimiter: str, *, is_there: bool) -> tuple[list[str], int]:
    """Names of the columns, and the number of bytes that they take up.

    Without a header, the first row says how many columns there are, and stays a row.
    """
    if not lines.strip(b"\r\n"):
        raise SourceError("it is empty; leave it out, or let it begin with the columns' names")
    what = "header" if is_there else "first row"
    physical = lines.splitlines(keepends=True)
    reader = csv.reader((line.decode() for line in physical), delimiter=delimiter, strict=True)
    try:
        names = next(row for row in reader if row)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"its {what} is not UTF-8; set source.encoding to latin-1 or cp1252, say"
        ) from error
    except csv.Error as error:
        raise SourceError(f"its {what} cannot be split into columns: {error}") from error
    if any("\0" in name for name in names):
        raise SourceError("it is not a text; set source.format, or leave it out")
    if not is_there:
        return checked_names([""] * len(names)), 0
    n_bytes = sum(map(len, physical[: reader.line_num]))
    return checked_names([name.strip() for name in names]), n_bytes


def _split(lines: bytes, dialect: _Dialect, first: int, *, is_last: bool) -> _Block:
    """Lines as rows; where quotes hold line ends or never close, looked at one by one."""
    block = _Block(_parsed(lines, dialect, first, {}), b"")
    if b'"' in lines and not _is_line_a_row(lines, block.rows.num_rows, dialect):
        mended = _mended(lines, dialect, is_last=is_last)
        block = _Block(_parsed(mended.lines, dialect, first, mended.replaced), mended.rest)
    return block


def _is_line_a_row(lines: bytes, n_rows: int, dialect: _Dialect) -> bool:
    """Whether each line was read as a row of its own, and no quote is open at the end."""
    n_lines = lines.count(b"\n") + (not lines.endswith(b"\n"))
    if n_lines != n_rows or lines.count(b"\r") != lines.count(b"\r\n"):
        return False
    end = len(lines.rstrip(b"\r\n"))
    return dialect.closed_line.fullmatch(lines, lines.rfind(b"\n", 0, end) + 1, end) is not None


def _mended(lines: bytes, dialect: _Dialect, *, is_last: bool) -> _Mended:
    """Replace each line whose quote makes no row, with the lines after it, by one of no use."""
    useless = dialect.delimiter * len(dialect.names) + hashlib.sha256(lines).hexdigest()
    pieces: list[bytes] = []
    replaced: dict[str, str] = {}
    kept = at = 0
    while (quote := lines.find(b'"', at)) >= 0:
        start = max(lines.rfind(b"\n", at, quote), lines.rfind(b"\r", at, quote), at - 1) + 1
        line_end = next(LINE_END.finditer(lines, quote))
        at = line_end.end()
        if dialect.closed_line.fullmatch(lines, start, line_end.start()):
            continue
        limit = min(at + MAX_QUOTED_BYTES, len(lines))
        row = dialect.whole_row.match(lines, start, limit)
        if row and (row.end() < limit or limit == len(lines)):
            at = row.end()
        elif limit == len(lines) and not is_last:  # the quote may close in the next lines
            return _Mended(b"".join([*pieces, lines[kept:start]]), lines[start:], replaced)
        else:
            name = f"{useless}{len(replaced)}"
            replaced[name] = _text(lines[start : line_end.start()])
            pieces += [lines[kept:start], name.encode()]
            kept = line_end.start()
    return _Mended(b"".join([*pieces, lines[kept:]]), b"", replaced)


def _parsed(
    lines: bytes, dialect: _Dialect, first: int, replaced: dict[str, str]
) -> pa.RecordBatch:
    """Lines as rows in order: split into cells, or broken."""
    broken: dict[int, str] = {}

    def keep(row: pacsv.InvalidRow) -> str:
        broken[row.number - 1] = row.text
        return "skip"

    try:  # a broken line is handed over as a text, which it may not be
        cells = _cells(lines, dialect, keep if _is_utf8(lines) else None)
    except pa.ArrowInvalid:
        cells = [_out_of_latin(c) for c in _cells(lines.decode("latin-1").encode(), dialect, keep)]
        broken = {at: _text(line.encode("latin-1")) for at, line in broken.items()}
    if not broken:
        none = pa.nulls(len(cells[0]), pa.string())
        return numbered(cells, dialect.names, first, none)
    is_broken = np.zeros(len(cells[0]) + len(broken), dtype=bool)
    is_broken[list(broken)] = True
    texts = pa.array([replaced.get(line, line) for line in broken.values()], pa.string())
    cells = [_spread(column, ~is_broken) for column in cells]
    return numbered(cells, dialect.names, first, _spread(texts, is_broken))


def _cells(
    lines: bytes, dialect: _Dialect, keep: Callable[[pacsv.InvalidRow], str] | None
) -> list[pa.Array]:
    """Cells of the lines that have all columns, as bytes, null where empty."""
    if not lines:
        return [pa.array([], pa.binary())] * len(dialect.names)
    table = pacsv.read_csv(
        pa.BufferReader(lines),
        pacsv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=dialect.names),
        pacsv.ParseOptions(
            delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=keep
        ),
        pacsv.ConvertOptions(
            column_types=dict.fromkeys(dialect.names, pa.binary()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    return [column.combine_chunks() for column in table.columns]


def _spread(column: pa.Array, where: np.ndarray) -> pa.Array:
    """A column's values in order at the places `where`, null at the others."""
    return column.take(pa.array(np.cumsum(where) - 1, mask=~where))


def _out_of_latin(column: pa.Array) -> pa.Array:
    """Cells that were read as Latin-1, as the bytes that they were."""
    texts = column.cast(pa.string())
    if pc.all(pc.string_is_ascii(texts)).as_py() in (True, None):
        return column
    cells = (None if t is None else t.encode("latin-1") for t in texts.to_pylist())
    return pa.array(cells, pa.binary())


def _is_utf8(lines: bytes) -> bool:
    try:
        return lines.isascii() or bool(lines.decode())
    except UnicodeDecodeError:
        return False


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
