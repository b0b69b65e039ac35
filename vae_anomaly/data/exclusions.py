"""Rows that belong to no part, as plant.yml lists them or a table beside it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from vae_anomaly.config import Exclusion
from vae_anomaly.data.parts import Interval
from vae_anomaly.data.times import moment_of
from vae_anomaly.errors import ConfigError, InputError, closest

__all__ = ["Excluded", "read_exclusions", "without"]

#: Columns of a table of exclusions; the first two must be there.
COLUMNS = ("start", "end", "asset", "reason")


@dataclass(frozen=True)
class Excluded:
    """Rows of some assets from `start` to before `end`, in microseconds since 1970, UTC."""

    start: int
    end: int
    assets: tuple[str, ...]
    reason: str = ""


def read_exclusions(exclusions: Sequence[Exclusion], zone: str) -> tuple[Excluded, ...]:
    """All exclusions of a plant, those of tables included.

    Parameters
    ----------
    exclusions : sequence of Exclusion
    zone : str
        Of times in tables that have none of their own.

    Raises
    ------
    ConfigError
        A table cannot be read, or one of its rows is not an exclusion; the message names the row.
    """
    found: list[Excluded] = []
    for entry in exclusions:
        if entry.path:
            found += _of_table(Path(entry.path), entry, zone)
        else:
            assert entry.start is not None
            assert entry.end is not None  # the settings saw to both
            found.append(
                Excluded(_micros(entry.start), _micros(entry.end), entry.assets, entry.reason)
            )
    return tuple(found)


def _of_table(path: Path, entry: Exclusion, zone: str) -> Iterator[Excluded]:
    table = _read(path)
    for name in COLUMNS[:2]:
        if name not in table.column_names:
            raise ConfigError(
                f"{path}: column '{name}' is missing; {closest(name, table.column_names)}. "
                f"A table of exclusions has the columns {', '.join(COLUMNS)}"
            )
    known = [name for name in COLUMNS if name in table.column_names]
    for number, row in enumerate(table.select(known).to_pylist(), start=1):
        start, end = (_moment(row[name], zone, f"{path}, row {number}") for name in COLUMNS[:2])
        if start >= end:
            raise ConfigError(
                f"{path}, row {number}: start {row['start']} is not before end {row['end']}"
            )
        assets = (str(row["asset"]),) if row.get("asset") else entry.assets
        yield Excluded(start, end, assets, row.get("reason") or entry.reason)


def _read(path: Path) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        texts = pacsv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
        return pacsv.read_csv(path, convert_options=texts)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"exclusions: {path} cannot be read: {error}") from error


def _moment(cell: object, zone: str, where: str) -> int:
    """A cell with a time, typed or as a text, in microseconds since 1970."""
    try:
        return moment_of(str(cell), zone)
    except InputError as error:
        raise ConfigError(f"{where}: {error}") from error


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def without(
    intervals: Sequence[Interval], excluded: Sequence[Excluded], times: Mapping[str, np.ndarray]
) -> tuple[tuple[Interval, ...], dict[str, int]]:
    """Intervals cut where rows are excluded, and how many rows that takes from each part.

    Parameters
    ----------
    intervals : sequence of Interval
    excluded : sequence of Excluded
    times : mapping of str to ndarray
        Rising times of each asset's rows, as `parts.asset_times` gives them.
    """
    kept: list[Interval] = []
    lost: Counter[str] = Counter()
    for interval in intervals:
        own = [e for e in excluded if any(fnmatchcase(interval.asset, p) for p in e.assets)]
        moments = times[interval.asset]
        low = int(np.searchsorted(moments, interval.start))
        high = int(np.searchsorted(moments, interval.end, side="right"))
        keep = np.ones(high - low, bool)
        for entry in own:
            first, last = np.searchsorted(moments[low:high], [entry.start, entry.end])
            keep[first:last] = False
        if keep.all():
            kept.append(interval)
            continue
        lost[interval.part] += int((~keep).sum())
        kept += _pieces(interval, moments, low, keep)
    return tuple(kept), dict(lost)


def _pieces(
    interval: Interval, moments: np.ndarray, low: int, keep: np.ndarray
) -> Iterator[Interval]:
    """What is left of an interval; each piece looks back as far as the whole did."""
    look_back = low - int(np.searchsorted(moments, interval.context_start))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]])))
    for first, last in edges.reshape(-1, 2) + low:
        context = moments[max(0, first - look_back)]
        yield replace(
            interval,
            context_start=int(
                min(context, moments[first] - (interval.start - interval.context_start))
            ),
            start=int(moments[first]),
            end=int(moments[last - 1]),
            n_rows=int(last - first),
        )
