"""Times of a column as moments in UTC.

A time is a text (ISO 8601, or in a strptime format), a number (of units since 1970, or of steps), a
typed time, or the row's number. A column is read as a whole where pyarrow can do that, and cell by
cell, still vectorised, where it cannot.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import TimeColumn
from vae_anomaly.data.cells import (
    SPACES,
    Mask,
    Read,
    as_mask,
    decode_texts,
    means_missing,
    read_numbers,
)
from vae_anomaly.errors import ContractError, InputError

__all__ = ["MOMENT", "Later", "Micros", "microseconds", "moment_of", "read_times"]

#: Type of a time, everywhere: microseconds in UTC.
MOMENT = pa.timestamp("us", "UTC")

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CLOCK = r"(?P<H>[0-9]{2})(?::(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?)?"
ZONE = r"(?P<z>Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
ISO_8601 = rf"(?P<Y>[0-9]{{4}})-(?P<m>[0-9]{{2}})-(?P<d>[0-9]{{2}})(?:[T ]{CLOCK}(?: ?{ZONE})?)?"
#: What each directive of a strptime format reads.
DIRECTIVES = {
    "%Y": "(?P<Y>[0-9]{4})",
    "%y": "(?P<y>[0-9]{2})",
    "%m": "(?P<m>[0-9]{1,2})",
    "%b": f"(?P<b>{'|'.join(MONTHS)})",
    "%d": "(?P<d>[0-9]{1,2}| [1-9])",  # some pad with a space
    "%H": "(?P<H>[0-9]{1,2})",
    "%I": "(?P<I>[0-9]{1,2})",
    "%p": "(?P<p>[AP]M)",
    "%M": "(?P<M>[0-9]{1,2})",
    "%S": "(?P<S>[0-9]{1,2})",
    "%f": "(?P<f>[0-9]{1,9})",
    "%z": ZONE,
    "%%": "%",
}

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
EPOCH = datetime(1970, 1, 1)
FIRST_US, END_US = ((datetime(year, 1, 1) - EPOCH).days * DAY_US for year in (1900, 2200))

Micros = npt.NDArray[np.int64]


class _Clock(NamedTuple):
    """What a column of times says: microseconds since 1970, of UTC or of the wall's clock."""

    micros: Micros
    is_known: Mask
    is_missing: Mask
    is_utc: Mask


class _Utc(NamedTuple):
    """Microseconds since 1970 in UTC, and where the wall's clock never showed such a time."""

    micros: Micros
    is_skipped: Mask


#: Microseconds of a unit of numbers that count from 1970 on.
EPOCH_US = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}


class Later(Protocol):
    """Which of two equal local times is meant, when a zone's clocks are put back."""

    def __call__(self, first: Micros, overlap: Micros) -> Mask:
        """Rows (n,) at the later of the two: at `first` + `overlap`, all in microseconds.

        `overlap` is 0 where a time came once, and −1 where a row has none.
        """


def microseconds(times: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """(n,) moments of a column without nulls, as microseconds since 1970."""
    moments: npt.NDArray[np.int64] = times.cast(pa.int64()).to_numpy()
    return moments


def moment_of(text: str, zone: str) -> int:
    """A time as people write it, in microseconds since 1970; without a zone it is in the plant's.

    Raises
    ------
    InputError
        It is no time.

    Examples
    --------
    >>> moment_of("1970-01-01T01:00:00.000007", "Europe/Berlin")
    7
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InputError(
            f"'{text}' is not a time in ISO 8601, such as 2026-03-09T10:00 or 2026-03-09T10:00:00Z"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return (moment - EPOCH.replace(tzinfo=UTC)) // timedelta(microseconds=1)


def read_times(
    cells: pa.Array, time: TimeColumn, *, decimal: str = ".", later: Later | None = None
) -> Read:
    """Moments in UTC.

    Parameters
    ----------
    cells : pa.Array
        The column as `as_plain` gives it; where the contract names none, the rows' numbers from 0.
    time : TimeColumn
        How to read it.
    decimal : {'.', ','}
        Decimal sign of texts that count units or steps.
    later : Later, optional
        Decides on local times that the clocks showed twice; none takes the first of the two, or the
        second where ``time.ambiguous`` says so.

    Returns
    -------
    Read
        Faults are no_time, bad_time and nonexistent_local_time.
    """
    clock = _clock(cells, time, decimal)
    is_known = clock.is_known & (clock.micros >= FIRST_US) & (clock.micros < END_US)
    utc, is_skipped = np.where(is_known, clock.micros, 0), np.zeros(len(cells), dtype=bool)
    is_local = is_known & ~clock.is_utc
    if time.zone != "UTC" and is_local.any():
        if later is None:
            later = _always if time.ambiguous == "second" else _never
        utc, is_skipped = _from_zone(utc, is_known, is_local, time.zone, later)
    faults = {
        "no_time": clock.is_missing,
        "bad_time": ~clock.is_missing & ~is_known,
        "nonexistent_local_time": is_skipped,
    }
    moments = pa.array(utc, mask=~is_known | is_skipped).cast(MOMENT)
    return Read(time.column, moments, faults)


def _never(first: Micros, overlap: Micros) -> Mask:
    return np.zeros(len(first), dtype=bool)


def _always(first: Micros, overlap: Micros) -> Mask:
    return np.ones(len(first), dtype=bool)


def _clock(cells: pa.Array, time: TimeColumn, decimal: str) -> _Clock:
    """Times of a column of any type; a number is one only where it is said what it counts."""
    kind = cells.type
    if time.epoch is not None or time.step_s is not None:
        if not pa.types.is_timestamp(kind):
            unit = EPOCH_US[time.epoch] if time.epoch else (time.step_s or 0.0) * SECOND_US
            return _clock_of_numbers(cells, unit, decimal)
    elif pa.types.is_binary(kind):
        return _clock_of_texts(decode_texts(cells), time.format)
    is_there = as_mask(cells.is_valid())
    is_utc = np.full(len(cells), pa.types.is_timestamp(kind) and kind.tz is not None)
    unit_ns = 0
    if pa.types.is_timestamp(kind):
        unit_ns = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[kind.unit]
    elif pa.types.is_date(kind):
        unit_ns = 86_400 * 10**9 if pa.types.is_date32(kind) else 10**6
    if not unit_ns:
        return _Clock(np.zeros(len(cells), np.int64), is_there & False, ~is_there, is_utc)
    stored = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    counts = cells.view(stored).fill_null(0).to_numpy().astype(np.int64)
    limit = END_US * 1000 // unit_ns  # far beyond it, microseconds do not fit into int64
    is_known = is_there & (counts > -limit) & (counts < limit)
    counts = np.where(is_known, counts, 0)
    micros = counts // 1000 if unit_ns == 1 else counts * (unit_ns // 1000)
    return _Clock(micros, is_known, ~is_there, is_utc)


def _clock_of_numbers(cells: pa.Array, unit_us: float, decimal: str) -> _Clock:
    """Numbers of units since 1970, in UTC; integers to the last microsecond."""
    is_utc = np.ones(len(cells), dtype=bool)
    try:
        texts = decode_texts(cells) if pa.types.is_binary(cells.type) else cells
        whole = None if pa.types.is_floating(texts.type) else texts.cast(pa.int64())
    except pa.ArrowException:
        whole = None
    if whole is not None:
        counts = whole.fill_null(0).to_numpy()
        is_there = as_mask(whole.is_valid())
        is_known = is_there & (np.abs(counts.astype(np.float64)) * unit_us < END_US)
        counts = np.where(is_known, counts, 0)
        if unit_us < 1:
            micros = counts // round(1 / unit_us)
        elif unit_us == round(unit_us):
            micros = counts * round(unit_us)
        else:
            micros = np.rint(counts * unit_us).astype(np.int64)
        return _Clock(micros, is_known, ~is_there, is_utc)
    read = read_numbers("", cells, decimal, truths=False)
    values = pc.fill_null(read.values, np.nan).to_numpy() * unit_us
    is_bad = np.logical_or.reduce([np.zeros(len(cells), dtype=bool), *read.faults.values()])
    is_known = ~is_bad & (np.abs(values) < END_US)
    micros = np.rint(np.where(is_known, values, 0)).astype(np.int64)
    return _Clock(micros, is_known, np.isnan(values) & ~is_bad, is_utc)


def _clock_of_texts(texts: pa.Array, time_format: str | None) -> _Clock:
    """Times of texts, in the format or in ISO 8601."""
    if time_format is not None:
        return _matched(texts, _pattern(time_format))
    for kind in (pa.timestamp("us"), MOMENT):
        try:
            counts = texts.cast(kind).view(pa.int64())
        except pa.ArrowInvalid:
            continue
        is_there = as_mask(counts.is_valid())
        is_utc = np.full(len(texts), kind.tz is not None)
        return _Clock(counts.fill_null(0).to_numpy(), is_there, ~is_there, is_utc)
    return _matched(texts, f"(?i)^{ISO_8601}$")


def _matched(texts: pa.Array, pattern: str) -> _Clock:
    """Times of texts, taken apart by a pattern, each cell for itself."""
    trimmed = pc.utf8_trim(texts, SPACES)
    parts = pc.extract_regex(trimmed, pattern)

    def text(name: str) -> pa.Array:
        if parts.type.get_field_index(name) < 0:
            return pa.repeat("", len(texts))
        return pc.ascii_lower(pc.fill_null(pc.struct_field(parts, name), ""))

    month = _integers(text("m")) + as_mask(pc.not_equal(text("b"), "")) * (
        pc.fill_null(pc.index_in(text("b"), pa.array(MONTHS)), 0).to_numpy() + 1
    )
    short_year = _integers(text("y"), -1)
    century = np.where(short_year < 0, 0, np.where(short_year < 69, 2000, 1900))  # as POSIX has it
    year = np.where(short_year < 0, _integers(text("Y")), century + short_year)
    noon_hour = _integers(text("I"), -1)
    hour = np.where(noon_hour < 0, _integers(text("H")), noon_hour % 12)
    hour = hour + 12 * as_mask(pc.equal(text("p"), "pm"))
    minute, second = _integers(text("M")), _integers(text("S"))
    fraction = _integers(pc.utf8_slice_codeunits(pc.utf8_rpad(text("f"), 6, "0"), 0, 6))
    zone = _integers(pc.utf8_rpad(pc.replace_substring_regex(text("z"), "[^0-9]", ""), 4, "0"))
    ahead = (zone // 100 * 60 + zone % 100) * np.where(
        as_mask(pc.starts_with(text("z"), "-")), -1, 1
    )
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (_integers(text("d")) - 1)
    minutes = days.astype(np.int64) * 1440 + hour * 60 + minute - ahead
    is_date = (month >= 1) & (month <= 12) & (days.astype("datetime64[M]") == months)
    is_clock = (hour < 24) & (minute < 60) & (second < 60) & (noon_hour != 0) & (noon_hour <= 12)
    is_zone = (zone // 100 < 24) & (zone % 100 < 60)
    is_known = as_mask(parts.is_valid()) & is_date & is_clock & is_zone
    is_utc = as_mask(pc.not_equal(text("z"), ""))
    micros = minutes * 60 * SECOND_US + second * SECOND_US + fraction
    return _Clock(micros, is_known, as_mask(means_missing(trimmed)), is_utc)


def _integers(digits: pa.Array, default: int = 0) -> Micros:
    """Digits as integers, the default where there are none."""
    filled = pc.utf8_trim(pc.if_else(pc.equal(digits, ""), str(default), digits), " ")
    values: Micros = filled.cast(pa.int64()).to_numpy()
    return values


@lru_cache(maxsize=64)
def _pattern(time_format: str) -> str:
    """Regular expression of a strptime format."""
    pieces = re.findall(r"%.?|[ ]+|[^% ]+", time_format)
    unknown = [piece for piece in pieces if piece.startswith("%") and piece not in DIRECTIVES]
    if unknown:
        raise ContractError(
            f"time.format {time_format!r} has {unknown[0]}; allowed are {', '.join(DIRECTIVES)}"
        )
    needed = (("%Y", "%y"), ("%m", "%b"), ("%d",))
    if any(sum(pieces.count(piece) for piece in either) != 1 for either in needed):
        raise ContractError(
            f"time.format {time_format!r} must have the year (%Y or %y), the month (%m or %b) and "
            "the day (%d), each once"
        )
    doubled = [piece for piece in DIRECTIVES if pieces.count(piece) > 1 and piece != "%%"]
    if doubled or ("%I" in pieces) != ("%p" in pieces) or {"%I", "%H"} <= set(pieces):
        raise ContractError(
            f"time.format {time_format!r} must have each part of a time once: %H, or %I with %p"
        )
    patterns = (
        DIRECTIVES.get(piece) or ("[ ]+" if piece[0] == " " else re.escape(piece))
        for piece in pieces
    )
    return f"(?i)^{''.join(patterns)}$"


def _from_zone(local: Micros, is_known: Mask, is_local: Mask, zone: str, later: Later) -> _Utc:
    """Moments at which the clocks of a zone showed these times, where they are local."""
    utc, is_skipped = local.copy(), np.zeros(len(local), dtype=bool)
    days, place = np.unique(local[is_local] // DAY_US, return_inverse=True)
    offsets = [_offset_of_day(zone, int(day)) for day in days]
    utc[is_local] -= np.array([offset or 0 for offset in offsets])[place]
    is_turning = is_local.copy()  # the clocks are set around this day
    is_turning[is_local] = np.array([offset is None for offset in offsets])[place]
    if is_turning.any():
        times, place = np.unique(local[is_turning], return_inverse=True)
        moments = [_moments(zone, int(micros)) for micros in times]
        is_skipped[is_turning] = np.array([not found for found in moments])[place]
        utc[is_turning] = np.array([found[0] if found else 0 for found in moments])[place]
        back = np.array([found[-1] - found[0] if found else -1 for found in moments])
        if (back > 0).any():
            overlap = np.where(is_known, 0, -1)
            overlap[is_turning] = back[place]
            utc += np.where((overlap > 0) & later(utc, overlap), overlap, 0)
    return _Utc(utc, is_skipped)


@lru_cache(maxsize=1 << 16)
def _offset_of_day(zone: str, day: int) -> int | None:
    """Microseconds by which a zone's clocks were ahead of UTC on a day, if not set around it."""
    midnight = EPOCH.replace(tzinfo=UTC) + timedelta(days=day)
    around = (midnight + timedelta(days=more) for more in (-1, 0, 1, 2))
    offsets = {moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in around}
    ahead = offsets.pop()
    return None if offsets or ahead is None else ahead // timedelta(microseconds=1)


def _moments(zone: str, wall_us: int) -> tuple[int, ...]:
    """Microseconds in UTC at which a zone's clocks showed a time: none, one, or two, rising."""
    wall = (EPOCH + timedelta(microseconds=wall_us)).replace(tzinfo=ZoneInfo(zone))
    both = (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    shown = {
        (moment.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)
        for moment in both
        if moment.astimezone(wall.tzinfo).replace(tzinfo=None) == wall.replace(tzinfo=None)
    }
    return tuple(sorted(shown))
