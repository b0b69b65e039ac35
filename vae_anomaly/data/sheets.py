"""Sheets of workbooks (Excel, OpenDocument) as batches.

A workbook is in memory as a whole, and what a damaged one makes its reader do is not known before:
so `data.sources.workbooks` runs this file as a process of its own, within limits. The workbook is
its standard input, an Arrow stream its standard output, and why it cannot be read its standard
error.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from vae_anomaly.config import Source
from vae_anomaly.data.batches import checked_names, gathered, numbered
from vae_anomaly.errors import SourceError, closest

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

try:
    import resource
except ImportError:  # Windows has no limits for a process
    resource = None  # type: ignore[assignment]

__all__ = ["OUT_OF_MEMORY", "UNREADABLE", "read_sheet"]

#: Status with which the process ends when the workbook, or the memory, is to blame.
UNREADABLE, OUT_OF_MEMORY = 3, 4

#: Rows of the largest sheet (Excel 2007 and later).
MAX_ROWS = 1 << 20
#: Rows that are turned into a batch at once.
BLOCK_ROWS = 1 << 14

#: Bytes of a workbook's parts; more is an archive made to fill the memory.
MAX_UNPACKED_BYTES = 1 << 32

#: What a cell can be; nothing is the empty text.
Cell = str | float | int | bool | date | time | timedelta

#: Kinds of cells that a column may have → its type.
KINDS: tuple[tuple[set[type], pa.DataType], ...] = (
    ({float, int}, pa.float64()),
    ({datetime, date}, pa.timestamp("us")),
    ({bool}, pa.bool_()),
)


def read_sheet(stream: BinaryIO, source: Source, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of a sheet: numbers as float64, dates as timestamps, what is mixed as texts.

    An empty row is no row. The header is the first row that is not empty, behind `skip_lines`.

    Parameters
    ----------
    stream : BinaryIO
        The workbook; can be sought.
    source : Source
        Names the sheet, and what stands above its rows.
    batch_rows : int
        Most rows of a batch.

    Raises
    ------
    SourceError
        The file is no workbook, or has no such sheet; or the package that reads it is missing.
    """
    sheet = _sheet(stream, source.sheet)
    n_rows = 1 + sheet.end[0] if sheet.end else 0
    if n_rows > MAX_ROWS:
        raise SourceError(f"its sheet has {n_rows:,} rows; at most {MAX_ROWS:,} can be")
    rows = _rows(sheet, source.skip_lines)
    first = next(rows, None)
    if first is None:
        raise SourceError("its sheet is empty; correct source.sheet, or leave it out")
    n_above = 1 if source.header else 0
    names = checked_names([_text(cell).strip() if source.header else "" for cell in first])
    kinds = _kinds(islice(_rows(sheet, source.skip_lines), n_above, None), len(names))
    rows = islice(_rows(sheet, source.skip_lines), n_above, None)
    yield from gathered(_blocks(rows, names, kinds), batch_rows)


def _sheet(stream: BinaryIO, name: str) -> CalamineSheet:
    """A sheet of a workbook, by its name or the first."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum
    except ImportError as error:
        raise SourceError(
            "workbooks need python-calamine; install it with: pip install 'vae-anomaly[excel]'"
        ) from error
    _refuse_bomb(stream)
    try:
        workbook = CalamineWorkbook.from_filelike(stream)
        sheets = [s.name for s in workbook.sheets_metadata if s.typ == SheetTypeEnum.WorkSheet]
        if name and name not in sheets:
            raise SourceError(
                f"it has no sheet {name!r}; {closest(name, sheets)}; set source.sheet"
            )
        if not sheets:
            raise SourceError("it has no sheet with cells; leave it out")
        return workbook.get_sheet_by_name(name or sheets[0])
    except CalamineError as error:
        raise SourceError(f"it is no workbook that can be read: {error}") from error


def _refuse_bomb(stream: BinaryIO) -> None:
    """Refuse an archive that would fill the memory when it is unpacked."""
    if zipfile.is_zipfile(stream):
        stream.seek(0)
        try:
            n_bytes = sum(member.file_size for member in zipfile.ZipFile(stream).infolist())
        except zipfile.BadZipFile as error:
            raise SourceError(f"it is no workbook that can be read: {error}") from error
        if n_bytes > MAX_UNPACKED_BYTES:
            raise SourceError(f"it has {n_bytes:,} bytes unpacked: save its rows as CSV instead")
    stream.seek(0)


def _rows(sheet: CalamineSheet, n_skipped: int) -> Iterator[list[Cell]]:
    """Rows of a sheet that have a cell, behind the first few."""
    for row in islice(sheet.iter_rows(), n_skipped, None):
        if any(cell != "" for cell in row):
            yield row


def _kinds(rows: Iterator[list[Cell]], n_columns: int) -> list[pa.DataType]:
    """Type of each column; where cells are of several kinds, or texts, it is bytes."""
    seen: list[set[type]] = [set() for _ in range(n_columns)]
    for row in rows:
        for kinds, cell in zip(seen, row, strict=True):
            if cell != "":
                kinds.add(type(cell))
    return [
        next((kind for types, kind in KINDS if kinds and kinds <= types), pa.binary())
        for kinds in seen
    ]


def _blocks(
    rows: Iterator[list[Cell]], names: list[str], kinds: list[pa.DataType]
) -> Iterator[pa.RecordBatch]:
    """Rows as batches; first, none at all, with the header's columns."""
    yield numbered([pa.array([], kind) for kind in kinds], names, 1, pa.nulls(0, pa.string()))
    first = 1
    while block := list(islice(rows, BLOCK_ROWS)):
        cells = zip(*block, strict=True)
        columns = [_column(column, kind) for column, kind in zip(cells, kinds, strict=True)]
        yield numbered(columns, names, first, pa.nulls(len(block), pa.string()))
        first += len(block)


def _column(cells: tuple[Cell, ...], kind: pa.DataType) -> pa.Array:
    if kind == pa.binary():
        return pa.array([None if c == "" else _text(c).encode() for c in cells], kind)
    if pa.types.is_floating(kind):
        return pa.array([None if c == "" else float(c) for c in cells], kind)  # type: ignore[arg-type]
    if pa.types.is_timestamp(kind):  # midnight comes as a date
        midnight = time()
        moments = (datetime.combine(c, midnight) if type(c) is date else c for c in cells)
        return pa.array([None if moment == "" else moment for moment in moments], kind)
    return pa.array([None if c == "" else c for c in cells], kind)


def _text(cell: Cell) -> str:
    """A cell as a program would show it: 5.0 as ``5``."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def main() -> int:
    """Read standard input; called with source, batch size, most bytes and most CPU-seconds."""
    source = Source.model_validate_json(sys.argv[1])
    batch_rows, max_bytes, cpu_s = (int(number) for number in sys.argv[2:5])
    _limit(max_bytes, cpu_s)
    try:
        batches = read_sheet(sys.stdin.buffer, source, batch_rows)
        first = next(batches)
        with pa.ipc.new_stream(sys.stdout.buffer, first.schema) as sink:
            for batch in chain([first], batches):
                sink.write_batch(batch)
    except SourceError as error:
        sys.stderr.write(str(error))
        return UNREADABLE
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


def _limit(max_bytes: int, cpu_s: int) -> None:
    """Bound this process, where the system can."""
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))  # first SIGXCPU, then SIGKILL
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
