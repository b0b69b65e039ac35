"""Readings that a line has not judged yet → verdicts, each exactly once, and the alarms of them.

The line's number is the version of `readings` scored through. It is read on the very table object
that commits, so of two processes on one line one commits and the other looks again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.context import with_left_context
from vae_anomaly.data.lake import (
    READINGS,
    VERDICTS,
    Lake,
    commit,
    new_rows,
    rows,
    until_committed,
    version_groups,
)
from vae_anomaly.data.schemas import completed
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.alarms import ALARM_RULE, CHAMPION, AlarmReport, raise_alarms
from vae_anomaly.streaming import judge
from vae_anomaly.tracking import champion_package

__all__ = ["CHAMPION", "ScoreReport", "score"]

logger = logging.getLogger(__name__)

#: Columns that say who judged.
SIGNED_BY = ("line", "model_version", "package_digest")

#: Rows that are judged and committed at once: memory stays flat whatever there is to do.
GROUP_ROWS = 200_000


@dataclass(frozen=True)
class ScoreReport:
    """What one call of `score` judged.

    Attributes
    ----------
    line : str
    model_version : str
    first_version, last_version : int
        Versions of `readings` that were scored; first > last when there was nothing new.
    statuses : mapping of str to int
        Rows by status.
    top_sensors : mapping of str to int
        How often each sensor came first among the anomalies.
    constant_changed : mapping of str to int
        Rows in which a sensor that was constant in training was not so.
    sensor_faults : mapping of str to int
        Rows in which a sensor was at fault itself, by sensor and kind.
    alarms : AlarmReport
        What became of the rows over the threshold.
    first_time, last_time : datetime or None
        Of the rows; None when there was nothing new.
    """

    line: str
    model_version: str
    first_version: int
    last_version: int
    statuses: Mapping[str, int] = field(default_factory=dict)
    top_sensors: Mapping[str, int] = field(default_factory=dict)
    constant_changed: Mapping[str, int] = field(default_factory=dict)
    sensor_faults: Mapping[str, int] = field(default_factory=dict)
    n_late: int = 0
    alarms: AlarmReport = field(default_factory=AlarmReport)
    first_time: datetime | None = None
    last_time: datetime | None = None

    @property
    def n_rows(self) -> int:
        return sum(self.statuses.values())


@dataclass
class _Tally:
    """Counts that grow with every group."""

    statuses: Counter[str] = field(default_factory=Counter)
    top_sensors: Counter[str] = field(default_factory=Counter)
    constant_changed: Counter[str] = field(default_factory=Counter)
    sensor_faults: Counter[str] = field(default_factory=Counter)
    n_late: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None

    def add(self, verdicts: pa.Table) -> None:
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


def score(
    plant: PlantConfig, *, on_group: Callable[[int, int], None] = lambda done, last: None
) -> ScoreReport:
    """Judge all readings that the champion line has not judged, and raise the alarms.

    Parameters
    ----------
    plant : PlantConfig
    on_group : callable, optional
        Called after each commit with the version scored through and the one to reach.

    Returns
    -------
    ScoreReport

    Raises
    ------
    RegistryError
        There is no champion yet.
    PackageError
        The champion's package is damaged, or scores otherwise than when it was sealed.
    """
    lake = Lake(plant.lake_path, plant.contract)
    champion = champion_package(plant)
    package = ModelPackage.read(champion.folder)
    _warn_of_lost_columns(package, plant, champion.version)
    last = lake.open(READINGS).version()
    first = _scored_through(lake.writable(VERDICTS)) + 1
    tally = _Tally()
    while (group := _next_group(lake, package, champion.version, last)) is not None:
        tally.add(group.verdicts)
        on_group(group.last, last)
    report = ScoreReport(
        CHAMPION, champion.version, first, last, dict(tally.statuses), dict(tally.top_sensors),
        dict(tally.constant_changed), dict(tally.sensor_faults), tally.n_late, raise_alarms(plant),
        tally.first_time, tally.last_time,
    )  # fmt: skip
    for sensor, n in report.constant_changed.items():
        logger.warning("sensor '%s' was constant in training and has changed in %d rows", sensor, n)
    logger.info("scored %d rows with version %s", report.n_rows, report.model_version)
    return report


def _next_group(lake: Lake, package: ModelPackage, model_version: str, last: int) -> _Group | None:
    """Judge and commit the next rows of the line; None where it has judged all of them."""
    groups: list[_Group] = []

    def attempt() -> bool:
        groups.clear()
        table = lake.writable(VERDICTS)
        first = _scored_through(table) + 1
        if first > last:
            return True
        spans = version_groups(lake.open(READINGS), first, last, max_rows=GROUP_ROWS)
        _, until = next(spans)
        verdicts = _signed(line_verdicts(lake, package, first, until), model_version, package)
        groups.append(_Group(verdicts, until))
        rows = verdicts.select(lake.schema(VERDICTS).names)
        note = {ALARM_RULE: package.alarm_rule.model_dump_json()}
        return commit(table, rows, {CHAMPION: until}, note=note)

    until_committed(attempt)
    return groups[0] if groups else None


def _warn_of_lost_columns(package: ModelPackage, plant: PlantConfig, version: str) -> None:
    """Say which columns of the champion the present contract no longer fills."""
    now = {*plant.contract.sensor_names, *plant.contract.context_names}
    trained_on = (*package.contract.sensor_names, *package.contract.context_names)
    if lost := [name for name in trained_on if name not in now]:
        logger.warning(
            "version %s was trained on %s, which plant.yml no longer names; new rows are scored "
            "without. Train a new version",
            version,
            ", ".join(f"'{name}'" for name in lost),
        )


def _scored_through(verdicts: DeltaTable) -> int:
    """Version of `readings` that the champion line has judged; −1 before the first."""
    number = verdicts.transaction_version(CHAMPION)
    return -1 if number is None else number


def line_verdicts(lake: Lake, package: ModelPackage, first: int, last: int) -> pa.Table:
    """Verdicts on the rows that the versions first..last of `readings` added."""
    readings = lake.open(READINGS, version=last)
    fresh = new_rows(readings, first, last)
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
    late = _late(lake, first - 1, judged)
    return judged.append_column("late", pa.array(late, pa.bool_()))


def _late(lake: Lake, through: int, verdicts: pa.Table) -> np.ndarray:
    """(n,) whether the line had judged a later row of the same asset before."""
    n = verdicts.num_rows
    if through < 1:
        return np.zeros(n, bool)
    since = pc.min(verdicts["time"])
    latest: dict[str, int] = {}
    for batch in rows(
        lake.open(READINGS, version=through),
        columns=["asset", "time"],
        where=pc.field("time") > since,
    ):
        table = pa.Table.from_batches([batch]).group_by("asset").aggregate([("time", "max")])
        times = table["time_max"].cast(pa.int64()).to_pylist()
        for asset, time in zip(table["asset"].to_pylist(), times, strict=True):
            latest[asset] = max(time, latest.get(asset, time))
    if not latest:
        return np.zeros(n, bool)
    assets = pa.array(list(latest))
    at = pc.fill_null(pc.index_in(verdicts["asset"], value_set=assets), -1).to_numpy()
    limit = np.append(np.fromiter(latest.values(), np.int64), np.iinfo(np.int64).min)
    late: np.ndarray = verdicts["time"].cast(pa.int64()).to_numpy() < limit[at]
    return late


def _signed(verdicts: pa.Table, model_version: str, package: ModelPackage) -> pa.Table:
    """Verdicts with the line, and the model that stands for them."""
    n = verdicts.num_rows
    now = pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC"))
    for name, text in zip(SIGNED_BY, (CHAMPION, model_version, package.digest), strict=True):
        verdicts = verdicts.append_column(name, pa.repeat(text, n))
    return verdicts.append_column("scored_at", pa.repeat(now, n))
