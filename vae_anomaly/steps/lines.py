"""Readings that a line has not judged yet → verdicts, each exactly once.

A line is a sequence of verdicts by one role, and the name of a transaction:

====================================  =========================================================
``champion``                          what operators see; alarms are made of it alone
``shadow:<version>``                  a challenger, on what the champion judges
``backfill:<version>:<from>..<to>``   any version, on readings of the past
====================================  =========================================================

The line's number is the version of `readings` judged through. It is read on the very table object
that commits, so of two processes on one line one commits and the other looks again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import ANY_TIME
from vae_anomaly.data.context import with_left_context
from vae_anomaly.data.lake import (
    READINGS,
    VERDICTS,
    Lake,
    as_timestamp,
    commit,
    new_rows,
    rows,
    transaction_number,
    until_committed,
    version_groups,
)
from vae_anomaly.data.schemas import completed
from vae_anomaly.data.times import MOMENT, microseconds
from vae_anomaly.data.windows import by_asset
from vae_anomaly.errors import LakeError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.alarms import ALARM_RULE, CHAMPION, IS_CHAMPION
from vae_anomaly.streaming import judge

__all__ = ["GROUP_ROWS", "Line", "Stretch", "Tally", "begin", "judge_line", "judged_by_all",
           "judged_through", "last_judged", "line_verdicts"]  # fmt: skip

#: Columns that say who judged.
SIGNED_BY = ("line", "model_version", "package_digest")

#: Rows that are judged and committed at once: memory stays flat whatever there is to do.
GROUP_ROWS = 200_000


@dataclass(frozen=True)
class Stretch:
    """Readings from `start` to before `end` (µs since 1970), of one asset or of all."""

    start: int
    end: int
    asset: str = ""

    def holds(self, readings: pa.Table) -> pa.ChunkedArray:
        """(n,) which rows lie in it."""
        inside = pc.and_(
            pc.greater_equal(readings["time"], as_timestamp(self.start)),
            pc.less(readings["time"], as_timestamp(self.end)),
        )
        return pc.and_(inside, pc.equal(readings["asset"], self.asset)) if self.asset else inside


@dataclass(frozen=True)
class Line:
    """Who judges under which name, and which readings where not all of them."""

    name: str
    model_version: str
    package: ModelPackage
    stretch: Stretch | None = None


@dataclass
class Tally:
    """Counts that grow with every group."""

    statuses: Counter[str] = field(default_factory=Counter)
    top_sensors: Counter[str] = field(default_factory=Counter)
    constant_changed: Counter[str] = field(default_factory=Counter)
    sensor_faults: Counter[str] = field(default_factory=Counter)
    n_late: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None

    def add(self, verdicts: pa.Table) -> None:
        """Take verdicts in."""
        if not verdicts.num_rows:
            return
        ends = pc.min_max(verdicts["time"]).as_py()
        self.first_time = min(ends["min"], self.first_time or ends["min"])
        self.last_time = max(ends["max"], self.last_time or ends["max"])
        self.statuses.update(verdicts["status"].to_pylist())
        self.n_late += pc.sum(verdicts["late"]).as_py() or 0
        tops = verdicts["top_sensors"].drop_null()
        self.top_sensors.update(pc.list_element(tops, 0).to_pylist() if len(tops) else [])
        self.constant_changed.update(pc.list_flatten(verdicts["constant_changed"]).to_pylist())
        self.sensor_faults.update(pc.list_flatten(verdicts["sensor_faults"]).to_pylist())


@dataclass(frozen=True)
class _Group:
    """Verdicts that one commit wrote, on the rows up to a version of `readings`."""

    verdicts: pa.Table
    last: int


def judged_through(verdicts: DeltaTable, line: str) -> int:
    """Version of `readings` that a line has judged; −1 before the first."""
    number = transaction_number(verdicts, line)
    return -1 if number is None else number


def last_judged(verdicts: DeltaTable, *, limit: int = ANY_TIME) -> datetime | None:
    """Time of the champion's last verdict; None where it has judged nothing.

    A file that one line wrote says it in its statistics; only those of several lines, and of times
    after `limit` (microseconds since 1970: such are a wrong clock's), are read, from the last one
    back no further than need be.
    """
    end = as_timestamp(limit).as_py()
    actions = pa.table(verdicts.get_add_actions(flatten=True))
    names = ["min.line", "max.line", "min.time", "max.time"]
    latest: datetime | None = None
    unsure: list[tuple[datetime, datetime]] = []
    for low, high, begin, until in zip(*(actions[n].to_pylist() for n in names), strict=True):
        if low == high == CHAMPION and until <= end:
            latest = until if latest is None else max(latest, until)
        elif low <= CHAMPION <= high:
            unsure.append((begin, min(until, end)))
    for begin, until in sorted(unsure, key=itemgetter(1), reverse=True):
        if latest is not None and until <= latest:
            break
        inside = (pc.field("time") >= (latest or begin)) & (pc.field("time") <= until)
        for batch in rows(verdicts, columns=["time"], where=inside & IS_CHAMPION):
            found = pc.max(batch["time"]).as_py()
            latest = found if latest is None else max(latest, found)
    return latest


def judged_by_all(
    verdicts: DeltaTable, assets: Collection[str], *, wait_us: int, limit: int = ANY_TIME
) -> int:
    """Moment through which the champion has judged every asset, in microseconds since 1970.

    An asset that sends nothing is waited for no longer than `wait_us`: the moment lies no further
    than that before the last verdict of all.

    Raises
    ------
    LakeError
        Nothing has been scored yet.
    """
    newest = last_judged(verdicts, limit=limit)
    if newest is None:
        raise LakeError("nothing has been scored yet; run `vae-anomaly score` first")
    since = int(pa.scalar(newest, MOMENT).value) - wait_us
    where = IS_CHAMPION & (pc.field("time") > as_timestamp(since))
    last = _last_times(verdicts, where & (pc.field("time") <= newest))
    return min(last.get(asset, since) for asset in assets)


def begin(lake: Lake, line: str, through: int) -> None:
    """Let a line that has judged nothing begin behind a version of `readings`."""

    def attempt() -> bool:
        table = lake.writable(VERDICTS)
        if transaction_number(table, line) is not None:
            return True
        return commit(table, lake.schema(VERDICTS).empty_table(), {line: through})

    until_committed(attempt)


def judge_line(
    lake: Lake,
    line: Line,
    last: int,
    *,
    limit: int = ANY_TIME,
    on_group: Callable[[int, int], None] = lambda done, last: None,
) -> Tally:
    """Judge all that a line has not judged, up to a version of `readings`, group by group.

    Parameters
    ----------
    lake : Lake
    line : Line
    last : int
    limit : int
        Readings after this moment (microseconds since 1970) make no row late: their clock is wrong.
    on_group : callable, optional
        Called after each commit with the version judged through and the one to reach.
    """
    tally = Tally()
    while (group := _next_group(lake, line, last, limit)) is not None:
        tally.add(group.verdicts)
        on_group(group.last, last)
    return tally


def _next_group(lake: Lake, line: Line, last: int, limit: int) -> _Group | None:
    """Judge and commit the next rows of the line; None where it has judged all of them."""
    groups: list[_Group] = []

    def attempt() -> bool:
        groups.clear()
        table = lake.writable(VERDICTS)
        first = judged_through(table, line.name) + 1
        if first > last:
            return True
        spans = version_groups(lake.open(READINGS), first, last, max_rows=GROUP_ROWS)
        _, until = next(spans)
        found = line_verdicts(lake, line.package, first, until, line.stretch, limit=limit)
        verdicts = _signed(found, line)
        groups.append(_Group(verdicts, until))
        rows = verdicts.select(lake.schema(VERDICTS).names)
        rule = line.package.alarm_rule.model_dump_json()
        note = {ALARM_RULE: rule} if line.name == CHAMPION else None
        return commit(table, rows, {line.name: until}, note=note)

    until_committed(attempt)
    return groups[0] if groups else None


def line_verdicts(
    lake: Lake,
    package: ModelPackage,
    first: int,
    last: int,
    stretch: Stretch | None = None,
    *,
    limit: int = ANY_TIME,
) -> pa.Table:
    """Verdicts on the rows that the versions first..last of `readings` added."""
    readings = lake.open(READINGS, version=last)
    fresh = new_rows(readings, first, last)
    if stretch is not None:
        fresh = _needed(fresh, stretch, package)
    if not fresh.num_rows:
        return lake.schema(VERDICTS).empty_table().drop_columns([*SIGNED_BY, "scored_at"])
    table = with_left_context(
        readings,
        completed(fresh, package.contract),
        package.left_context,
        package.contract.sampling.max_gap_s,
        package.contract.start_up_s,
    )
    judged = judge(table, package.judges(), package.contract)
    judged = judged.append_column("readings_version", table["_commit_version"])
    judged = judged.filter(table["_fresh"])
    if stretch is not None:
        judged = judged.filter(stretch.holds(judged))
    late = _late(lake, first - 1, judged, limit)
    return judged.append_column("late", pa.array(late, pa.bool_()))


def _needed(fresh: pa.Table, stretch: Stretch, package: ModelPackage) -> pa.Table:
    """New rows in a stretch, and those before it that their verdicts look back on.

    Older rows come from the lake; those that came together with the stretch would be missed there.
    """
    if stretch.asset:
        fresh = fresh.filter(pc.equal(fresh["asset"], stretch.asset))
    kept = [fresh.slice(0, 0)]
    for _, own in by_asset(fresh):
        inside = np.flatnonzero(stretch.holds(own).to_numpy())
        if not len(inside):
            continue
        time = microseconds(own["time"])
        begins = max(0, int(inside[0]) - package.left_context)
        earliest = time[begins] - int(package.contract.start_up_s * 1e6)
        begins = max(0, int(np.searchsorted(time, earliest, side="right")) - 1)
        kept.append(own.slice(begins, int(inside[-1]) + 1 - begins))
    return pa.concat_tables(kept)


def _late(lake: Lake, through: int, verdicts: pa.Table, limit: int) -> np.ndarray:
    """(n,) whether the line had judged a later row of the same asset before."""
    n = verdicts.num_rows
    if through < 1 or not n:
        return np.zeros(n, bool)
    after = pc.field("time") > pc.min(verdicts["time"])
    where = after & (pc.field("time") <= as_timestamp(limit))
    latest = _last_times(lake.open(READINGS, version=through), where)
    if not latest:
        return np.zeros(n, bool)
    assets = pa.array(list(latest))
    at = pc.fill_null(pc.index_in(verdicts["asset"], value_set=assets), -1).to_numpy()
    last = np.append(np.fromiter(latest.values(), np.int64), np.iinfo(np.int64).min)
    late: np.ndarray = verdicts["time"].cast(pa.int64()).to_numpy() < last[at]
    return late


def _last_times(table: DeltaTable, where: pc.Expression) -> dict[str, int]:
    """Last time of each asset among some rows of a table, in microseconds since 1970."""
    latest: dict[str, int] = {}
    for batch in rows(table, columns=["asset", "time"], where=where):
        found = pa.Table.from_batches([batch]).group_by("asset").aggregate([("time", "max")])
        times = found["time_max"].cast(pa.int64()).to_pylist()
        for asset, time in zip(found["asset"].to_pylist(), times, strict=True):
            latest[asset] = max(time, latest.get(asset, time))
    return latest


def _signed(verdicts: pa.Table, line: Line) -> pa.Table:
    """Verdicts with the line, and the model that stands for them."""
    n = verdicts.num_rows
    now = pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC"))
    signs = (line.name, line.model_version, line.package.digest)
    for name, text in zip(SIGNED_BY, signs, strict=True):
        verdicts = verdicts.append_column(name, pa.repeat(text, n))
    return verdicts.append_column("scored_at", pa.repeat(now, n))
