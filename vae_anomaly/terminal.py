"""Tables as lines of text: as wide as they are in a pipe or a file, fitted to a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console

from vae_anomaly.table import MOST_ROWS, Table

__all__ = ["show", "table_lines"]

#: Characters that a column of sentences has at least, where its cells are that long.
FEWEST = 20

#: Spaces between columns: two, or one where it has to be.
GAPS = (2, 1)

#: Width of what is not read in a terminal.
UNBOUNDED = 1 << 30


def show(*tables: Table, console: Console) -> None:
    """Print tables for a person; whole, where they go into a pipe or a file."""
    for table in tables:
        _show(table, console)


def _show(table: Table, console: Console) -> None:
    is_seen = console.file.isatty()
    width = console.width if is_seen else UNBOUNDED
    # the terminal itself wraps what is longer than it is wide, such as a path to be copied
    say = partial(console.print, highlight=False, markup=False, emoji=False, soft_wrap=True)
    head, *more = _folded(f"{table.title}  {table.summary}".rstrip(), width)
    say(head[: len(table.title)], style="bold", end="")
    say(head[len(table.title) :])
    lines = table_lines(table, width, most=MOST_ROWS if is_seen else None)
    say("\n".join([*more, *lines, ""]))


def table_lines(table: Table, width: int = UNBOUNDED, *, most: int | None = None) -> list[str]:
    """Rows and notes of a table, of which nothing is cut.

    Columns of sentences are wrapped where they do not fit, and heads of columns. Where that is
    not enough, each row becomes a block of lines.

    Parameters
    ----------
    table : Table
    width : int, optional
        Characters of a line; by default as many as it takes.
    most : int, optional
        Rows to show; the rest is counted. All by default.

    Examples
    --------
    >>> table = Table("", "", ("when", "why"), (("2026-03-01", "the bearing is a new one"),),
    ...               prose=("why",))
    >>> print("\\n".join(table_lines(table, 32)))
    when        why
    2026-03-01  the bearing is a new
                one
    >>> print("\\n".join(table_lines(table, 20)))
    when: 2026-03-01
    why:  the bearing is
          a new one
    """
    rows = [tuple(" ".join(cell.splitlines()) for cell in row) for row in table.rows[:most]]
    lines = list(_body(table, rows, width)) if rows else []
    if n_more := len(table.rows) - len(rows):
        lines.append(f"… and {n_more:,} more; a pipe or a file gets all of them")
    for note in table.notes:
        first, *more = _folded(note, width - 4)
        lines += [f"  • {first}", *(f"    {line}" for line in more)]
    return lines


def _body(table: Table, rows: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    if not any(table.columns):  # names and values, to be copied
        longest = max(cell_len(name) for name, _ in rows)
        yield from (f"{_padded(name, longest)}  {value}" for name, value in rows)
        return
    columns = [
        _Column(name, tuple(cells), name in table.prose)
        for name, cells in zip(table.columns, zip(*rows, strict=True), strict=True)
    ]
    for gap in GAPS:
        if widths := _widths(columns, width - gap * (len(columns) - 1)):
            yield from _grid(columns, widths, gap)
            return
    yield from _blocks(table.columns, rows, width)


@dataclass(frozen=True)
class _Column:
    """A column, and between which widths nothing of it is lost."""

    name: str
    cells: tuple[str, ...]
    is_prose: bool

    @property
    def widest(self) -> int:
        return max(cell_len(text) for text in (self.name, *self.cells))

    @property
    def narrowest(self) -> int:
        cells = max(map(cell_len, self.cells))
        head = max(map(cell_len, self.name.split()), default=1)
        return max(head, min(cells, FEWEST) if self.is_prose else cells)


def _widths(columns: Sequence[_Column], room: int) -> list[int]:
    """A width for each column; none where they do not fit side by side."""
    widest = [column.widest for column in columns]
    if sum(widest) <= room:
        return widest
    widths = [column.narrowest for column in columns]
    if sum(widths) > room:
        return []
    for _ in range(room - sum(widths)):  # to the one that takes most lines
        wanting = max(range(len(columns)), key=lambda at: widest[at] / widths[at])
        widths[wanting] += 1
    return widths


def _grid(columns: Sequence[_Column], widths: Sequence[int], gap: int) -> Iterator[str]:
    """Columns side by side: figures from the right; the first one, and sentences, from the left."""
    wrapped = [
        [_folded(text, width, breaks=True) for text in (column.name, *column.cells)]
        for column, width in zip(columns, widths, strict=True)
    ]
    for number, row in enumerate(zip(*wrapped, strict=True)):
        height = max(map(len, row))
        # a head stands right above its column
        filled = [
            [""] * (height - len(c)) + c if number == 0 else c + [""] * (height - len(c))
            for c in row
        ]
        for line in zip(*filled, strict=True):
            cells = (
                _padded(text, width, left=not at or columns[at].is_prose)
                for at, (text, width) in enumerate(zip(line, widths, strict=True))
            )
            yield (" " * gap).join(cells).rstrip()


def _blocks(columns: Sequence[str], rows: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    """A row as lines of name and value where it has one, with an empty line between two rows."""
    longest = max(map(cell_len, columns)) + 1
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, cell in zip(columns, row, strict=True):
            if not cell:
                continue
            first, *more = _folded(cell, width - longest - 1)
            yield f"{_padded(f'{name}:' * bool(name), longest)} {first}".rstrip()
            yield from (f"{'':{longest}} {line}" for line in more)


def _folded(text: str, width: int, *, breaks: bool = False) -> list[str]:
    """Lines of a text; a longer word stays whole, unless it is one that breaks."""
    if cell_len(text) <= width:
        return [text]
    return wrap(text, max(width, 1), break_long_words=breaks, break_on_hyphens=False) or [""]


def _padded(text: str, width: int, *, left: bool = True) -> str:
    space = " " * (width - cell_len(text))
    return text + space if left else space + text
