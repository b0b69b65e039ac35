"""Which column holds the time of a row, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vae_anomaly.config import TimeColumn
from vae_anomaly.data.cells import as_plain, as_texts
from vae_anomaly.data.infer.columns import Column
from vae_anomaly.data.infer.words import TIME_LIKE, TIME_WORDS, has_word
from vae_anomaly.data.times import EPOCH_US, MONTHS, read_times
from vae_anomaly.errors import ContractError

__all__ = ["Times", "find_times", "formats_of"]

#: Share of the cells that a format must read.
READ = 0.9
#: Cells on which formats are tried.
TRIED = 2000
#: Numbers that count from 1970 on do so between these years, in seconds.
SINCE_1980, UNTIL_2100 = 315_532_800, 4_102_444_800


@dataclass(frozen=True)
class Times:
    """A column of times.

    Attributes
    ----------
    setting : TimeColumn
        How it is read.
    moments : ndarray of shape (n,)
        Microseconds since 1970, by the wall's clock where the texts have no offset; −2⁶³ where
        there is none.
    is_local : bool
        Whether the texts say nothing of a zone.
    note : str
        What a person must decide; empty where nothing is in doubt.
    """

    setting: TimeColumn
    moments: np.ndarray
    is_local: bool
    note: str = ""


NONE = np.iinfo(np.int64).min


def find_times(
    cells: Mapping[str, pa.Array], columns: Mapping[str, Column], decimal: str
) -> Times | None:
    """The column with the time: typed, a text in a known form, or a number since 1970.

    Of several, the one whose name says time comes first, then the one that stands first. None where
    no column holds times.
    """
    order = sorted(columns, key=lambda name: not has_word(name, TIME_WORDS))
    for name in order:
        column, own = columns[name], as_plain(cells[name])
        found: Times | None = None
        if column.kind == "times":
            found = _read(own, TimeColumn(column=name))
        elif column.kind == "texts":
            found = _of_texts(name, own)
        elif column.kind == "numbers":
            found = _of_numbers(column, own, decimal)
        if found is not None and (found.moments != NONE).sum() >= READ * column.n_filled > 0:
            return found
    return None


def _read(cells: pa.Array, setting: TimeColumn, decimal: str = ".", note: str = "") -> Times:
    read = read_times(cells, setting.model_copy(update={"zone": "UTC"}), decimal=decimal)
    micros = read.values.cast(pa.int64()).fill_null(NONE).to_numpy()
    is_local = setting.epoch is None and not _has_offset(cells)
    return Times(setting, micros, is_local, note)


def _has_offset(cells: pa.Array) -> bool:
    if pa.types.is_timestamp(cells.type):
        return cells.type.tz is not None
    if not pa.types.is_binary(cells.type):
        return False
    some = (text for text in as_texts(cells[:TRIED]) if text)
    return any(
        re.search(r"\d[ ]?(?:[Zz]|[+-]\d{2}:?\d{2}|[+-]\d{2})$", t.strip()) and ":" in t
        for t in some
    )


# --------------------------------------------------------------------------------------- texts


def _of_texts(name: str, cells: pa.Array) -> Times | None:
    some = _some(cells)
    first = next((text.strip() for text in as_texts(some) if text and text.strip()), "")
    forms: list[str | None] = [None, *formats_of(first)]
    if len(forms) == 1 and not TIME_LIKE.match(first):
        return None
    tried = [form for form in forms if _share(some, TimeColumn(column=name, format=form)) >= READ]
    if not tried:
        return None
    whole = [_read(cells, TimeColumn(column=name, format=form)) for form in tried]
    n_read = [int((times.moments != NONE).sum()) for times in whole]
    whole = [times for times, n in zip(whole, n_read, strict=True) if n == max(n_read)]
    if len(whole) == 1 or whole[0].setting.format is None:
        return whole[0]
    disorder = [_disorder(times.moments) for times in whole]
    best = min(range(len(whole)), key=lambda at: disorder[at])
    chosen = whole[best]
    other = next(times for times in whole if times is not chosen)
    if disorder.count(disorder[best]) > 1:
        note = (
            f"'{first}' can be day first or month first, and nothing in the file decides it; if "
            f'this is wrong, write format: "{other.setting.format}"'
        )
        return Times(chosen.setting, chosen.moments, chosen.is_local, note)
    return chosen


def _some(cells: pa.Array) -> pa.Array:
    """Cells from all over a column."""
    filled = cells.filter(cells.is_valid())
    places = np.unique(np.linspace(0, max(len(filled) - 1, 0), TRIED).astype(np.int64))
    return filled.take(pa.array(places[: len(filled)]))


def _share(cells: pa.Array, setting: TimeColumn) -> float:
    try:
        read = read_times(cells, setting)
    except ContractError:
        return 0.0
    return 1.0 - float(read.values.null_count) / max(len(cells), 1)


def _disorder(moments: np.ndarray) -> tuple[int, int]:
    """How often times fall, and the sum of the steps: the wrong format jumps about by months."""
    known = moments[moments != NONE]
    steps = np.diff(known)
    return int((steps < 0).sum()), int(np.abs(steps // 1_000_000).sum())


def formats_of(text: str) -> Iterator[str]:
    """strptime formats that may have written a text; the more usual one first.

    Examples
    --------
    >>> list(formats_of("09.03.2026 10:14")), list(formats_of("2026-03-09T10:14:33"))
    (['%d.%m.%Y %H:%M', '%m.%d.%Y %H:%M'], ['%Y-%m-%dT%H:%M:%S'])
    >>> list(formats_of("2003.10.22.12.06.24")), list(formats_of("2026-03-09_10-14-33"))
    (['%Y.%m.%d.%H.%M.%S'], ['%Y-%m-%d_%H-%M-%S'])
    """
    for date, length in _dates_of(text):
        clock = _clock_of(text[length:])
        if clock is not None:
            yield date + clock


def _dates_of(text: str) -> Iterator[tuple[str, int]]:
    """Formats of the date that a text begins with, and how many letters it takes up."""
    month = "|".join(MONTHS)
    if found := re.match(r"\d{4}([-/.])\d{1,2}\1\d{1,2}(?!\d)", text):
        yield f"%Y{found[1]}%m{found[1]}%d", found.end()
    elif found := re.match(r"\d{1,2}([-/.])\d{1,2}\1(\d{4}|\d{2})(?!\d)", text):
        s, year = found[1], "%Y" if len(found[2]) == 4 else "%y"
        # with slashes the month comes first in the United States alone, but these write most files
        forms = [f"%d{s}%m{s}{year}", f"%m{s}%d{s}{year}"]
        yield from ((form, found.end()) for form in forms)
        if year == "%y":
            yield f"%y{s}%m{s}%d", found.end()
    elif found := re.match(rf"(?i)\d{{1,2}}([- /.]?)(?:{month})\1(\d{{4}}|\d{{2}})(?!\d)", text):
        yield f"%d{found[1]}%b{found[1]}{'%Y' if len(found[2]) == 4 else '%y'}", found.end()
    elif found := re.match(rf"(?i)(?:{month}) \d{{1,2}}(,?) (\d{{4}})(?!\d)", text):
        yield f"%b %d{found[1]} %Y", found.end()
    elif re.match(r"(?:19|20)\d{6}(?!\d)", text) or re.fullmatch(r"(?:19|20)\d{10}(?:\d\d)?", text):
        yield "%Y%m%d", 8


def _clock_of(text: str) -> str | None:
    """Format of what follows a date; None where it is no time of day."""
    if not text:
        return ""
    if found := re.fullmatch(r"([T _-]?)\d{4}(\d\d)?", text):
        return f"{found[1]}%H%M{'%S' if found[2] else ''}"
    pattern = (
        r"(?P<gap>[T_./-]|,? +|:)(?P<H>\d{1,2})(?P<s>[:._-])\d{2}(?P<S>(?P=s)\d{2})?(?P<f>[.,]\d+)?"
        r"(?P<p>( ?)[AaPp][Mm])?(?P<z>( ?)(?:Z|[+-]\d{2}(?::?\d{2})?))?"
    )
    found = re.fullmatch(pattern, text)
    if found is None:
        return None
    sign = found["s"]
    clock = f"{found['gap']}{'%I' if found['p'] else '%H'}{sign}%M"
    clock += f"{sign}%S" if found["S"] else ""
    clock += f"{found['f'][0]}%f" if found["f"] else ""
    clock += (" " if found["p"][0] == " " else "") + "%p" if found["p"] else ""
    clock += (" " if found["z"][0] == " " else "") + "%z" if found["z"] else ""
    return clock


# ------------------------------------------------------------------------------------- numbers


def _of_numbers(column: Column, cells: pa.Array, decimal: str) -> Times | None:
    """Times of numbers that count from 1970 on, or that are written as 20260309101433."""
    known = column.known
    if len(known) < 2 or np.mean(np.diff(known) >= 0) < READ or column.is_constant:
        return None
    if column.is_whole and pa.types.is_binary(cells.type) and known[0] >= 1e11:
        written = _of_texts(column.name, cells)
        if written is not None:
            return written
    middle = float(np.median(known))
    for unit, micros in EPOCH_US.items():
        if SINCE_1980 <= middle * micros / 1e6 <= UNTIL_2100:
            is_named = has_word(column.name, TIME_WORDS)
            rises = bool((np.diff(known) > 0).mean() > 0.5)
            if is_named or (rises and len(known) == column.n_rows):
                return _read(cells, TimeColumn(column=column.name, epoch=unit), decimal)
    return None
