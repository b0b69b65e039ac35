"""How a text holds a table: encoding, delimiter, decimal sign, lines above the header, units."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vae_anomaly.config import WHITESPACE
from vae_anomaly.data.infer.words import TIME_LIKE, is_number
from vae_anomaly.errors import SourceError

__all__ = ["Dialect", "infer_dialect", "infer_encoding"]

#: What may stand between two cells; the blank comes last, for it also stands within cells.
DELIMITERS = ("\t", ";", "|", ",", WHITESPACE)
#: Lines that a dialect is read from, and a line that no table has.
MAX_LINES = 400
MAX_CELLS = 1 << 14
#: Share of lines with the same number of cells from which on a delimiter is believed.
ALIKE = 0.8
#: Bytes that cp1252 does not know; a text with one of them is Latin-1.
NOT_CP1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")

#: What may follow a date within its cell.
CLOCK = re.compile(r"[T_-]?[ ]*[\d:.]*(?:[.,]\d+)?[ ]*(?:[AaPp][Mm])?[ ]*(?:Z|[+-]\d\d:?\d{0,2})?")

Line = list[str]


@dataclass(frozen=True)
class Dialect:
    """How the lines of a text make a table.

    Attributes
    ----------
    encoding : str
        utf-8 (with or without byte order mark), utf-16, cp1252 or latin-1.
    delimiter : str
        One character, or 'whitespace'.
    decimal : {'.', ','}
    header : bool
        Whether the first line of the table names the columns.
    skip_lines : int
        Lines above it.
    units : tuple of str
        What the line below the header says the columns are measured in; empty where it is a row.
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    decimal: str = "."
    header: bool = True
    skip_lines: int = 0
    units: tuple[str, ...] = ()


def infer_encoding(data: bytes) -> str:
    """Encoding of a text: by its byte order mark, else UTF-8 if it can be, else cp1252 or Latin-1.

    Raises
    ------
    SourceError
        The bytes are no text.

    Examples
    --------
    >>> infer_encoding("Temp °C".encode()), infer_encoding("Temp °C".encode("cp1252"))
    ('utf-8', 'cp1252')
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in data:
        for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if data[start : 1 << 12 : 2].count(0) > 0.8 * len(data[start : 1 << 12 : 2]):
                return encoding
        raise SourceError(
            "it holds zero bytes: this is no text; set source.format, or leave it out"
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return "latin-1" if NOT_CP1252 & set(data) else "cp1252"
    return "utf-8"


def infer_dialect(data: bytes) -> Dialect:
    """Dialect of a table from the beginning of its file.

    Parameters
    ----------
    data : bytes
        The first bytes; a line that they cut off does not count.

    Raises
    ------
    SourceError
        There is no text, or no two lines that are a table.

    Examples
    --------
    >>> infer_dialect("Export 7\\nt;x\\n1;0,5\\n2;1,5\\n".encode())
    Dialect(encoding='utf-8', delimiter=';', decimal=',', header=True, skip_lines=1, units=())
    """
    encoding = infer_encoding(data)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data).removeprefix("\ufeff")
    lines = re.split(r"\r\n|\r|\n", text)
    if len(lines) > 1:
        lines.pop()  # the empty one behind the last line end, or one that was cut off
    lines = lines[:MAX_LINES]
    if not any(line.strip() for line in lines):
        raise SourceError("it is empty; leave it out, or let it begin with the columns' names")
    delimiter = _delimiter(lines)
    table = [split(line, delimiter) for line in lines]
    n_columns = _n_columns(table)
    skip = _n_above(table, n_columns)
    rows = [row for row in table[skip:] if len(row) == n_columns]
    header = _has_header(rows)
    decimal = "." if delimiter == "," and '"' not in text else _decimal(rows[header:])
    units = _units(rows) if header else ()
    return Dialect(encoding, delimiter, decimal, header, skip, units)


def split(line: str, delimiter: str) -> Line:
    """Cells of a line."""
    if delimiter == WHITESPACE:
        cells = re.findall(r'"[^"]*"|\S+', line)
        return [cell.strip('"') for cell in cells]
    if not line.strip():
        return []
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter whose lines are most alike and whose cells are most clearly one thing each."""
    best, best_worth = "", 0.0
    for delimiter in DELIMITERS:
        table = [cells for line in lines if (cells := split(line, delimiter))]
        n_columns = _n_columns(table)
        alike = [cells for cells in table if len(cells) == n_columns]
        share = len(alike) / len(table) if table else 0.0
        if not 2 <= n_columns <= MAX_CELLS or share < min(ALIKE, 1 - 12 / max(len(table), 13)):
            continue
        cells = [cell for row in alike[1:] or alike for cell in row]
        clean = sum(map(_is_one_thing, cells)) / len(cells)
        worth = clean * share
        if worth > best_worth + 0.05:
            best, best_worth = delimiter, worth
    if best:
        return best
    longest = max(len(line) for line in lines)
    if longest > 1 << 16:
        raise SourceError(
            "its lines are no rows of a table: too long, and nothing tells them apart"
        )
    return ";" if any("," in line for line in lines[1:]) and _are_numbers(lines[1:]) else ","


def _are_numbers(lines: Sequence[str]) -> bool:
    filled = [line.strip() for line in lines if line.strip()]
    return bool(filled) and all(is_number(line) for line in filled)


def _is_one_thing(cell: str) -> bool:
    """Whether a cell is empty, a number, a time, or words without what tells cells apart."""
    if not cell or is_number(cell):
        return True
    if found := TIME_LIKE.match(cell):
        return bool(CLOCK.fullmatch(cell, found.end()))
    return not re.search(r"[;,|\t]|\d\s+[+-]?[\d.]", cell)


def _n_columns(table: Sequence[Line]) -> int:
    """Cells of most lines, of those in the second half in doubt: what is above is no table."""
    counts = Counter(len(cells) for cells in table[len(table) // 2 :] if cells)
    return counts.most_common(1)[0][0] if counts else 0


def _n_above(table: Sequence[Line], n_columns: int) -> int:
    """Lines above the first that has all columns and leaves few of them empty."""
    for at, cells in enumerate(table):
        if len(cells) == n_columns and sum(map(bool, cells)) * 2 > n_columns:
            return at if any(table[:at]) else 0
    return 0


def _has_header(rows: Sequence[Line]) -> bool:
    """Whether the first row names the columns: most of its cells are no numbers and no times."""
    first = [cell for cell in rows[0] if cell] if rows else []
    if not first:
        return True
    width = len(rows[0])
    if [*map(str, range(len(first)))] == first or [*map(str, range(1, width + 1))] == first:
        return len(rows) > 1  # as a data frame without names is written
    n_values = sum(is_number(cell) or bool(TIME_LIKE.match(cell)) for cell in first)
    return n_values * 2 < len(first)


def _decimal(rows: Sequence[Line]) -> str:
    """The decimal sign that more of the cells show than the other."""
    cells = [cell for row in rows for cell in row]
    comma = [cell for cell in cells if re.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", cell)]
    both = sum(bool(re.fullmatch(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+", cell)) for cell in cells)
    point = sum(bool(re.fullmatch(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?", cell)) for cell in cells)
    # with points elsewhere, 1,234 may be a thousand
    plain = sum(not (point and re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", cell)) for cell in comma)
    return "," if plain + both > point else "."


def _units(rows: Sequence[Line]) -> tuple[str, ...]:
    """Texts below the header over columns of numbers: what these are measured in."""
    if len(rows) < 3:
        return ()
    below = rows[2:]
    numeric = [
        column
        for column in range(len(rows[0]))
        if 2 * sum(is_number(row[column]) for row in below) > len(below)
    ]
    texts = [rows[1][column] for column in numeric]
    said = [text for text in texts if text and not is_number(text)]
    later = sum(not is_number(below[0][c]) and bool(below[0][c]) for c in numeric)
    if len(numeric) == 0 or len(said) * 2 <= len(numeric) or later * 2 > len(numeric):
        return ()
    if any(len(text) > 16 for text in said):
        return ()
    return tuple(text.strip("[]() ") for text in rows[1])
