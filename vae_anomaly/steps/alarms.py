"""Verdicts that the champion line has written → alarms, each exactly once and updated in place.

The line's number is the version of `verdicts` taken in; it is read on the very table object that
commits. What the next verdicts have to know of each asset stands in a note of the same commit, so
that a kill cannot part the two. Each commit of verdicts notes the alarm rule of the package that
judged: a new champion brings its own. An alarm that waits for a person is over at the first call
after somebody has said something of it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import AlarmRule, PlantConfig
from vae_anomaly.data.exclusions import Excluded, read_exclusions
from vae_anomaly.data.lake import (
    ALARMS,
    VERDICTS,
    Lake,
    as_timestamp,
    last_note,
    merge,
    new_rows,
    notes,
    transaction_number,
    until_committed,
    version_groups,
)
from vae_anomaly.data.windows import by_asset
from vae_anomaly.decisions.alarms import ACTIVE, answered
from vae_anomaly.errors import LakeError
from vae_anomaly.steps.alarm_rows import (
    AlarmRow,
    AssetState,
    alarm_id,
    read_states,
    take_in,
    write_states,
)
from vae_anomaly.steps.said import read_said

__all__ = ["ALARM_RULE", "CHAMPION", "IS_CHAMPION", "AlarmReport", "raise_alarms"]

logger = logging.getLogger(__name__)

#: The line of verdicts that operators see.
CHAMPION = "champion"

#: Its verdicts among those of all lines.
IS_CHAMPION = pc.field("line") == CHAMPION

#: Notes of commits: the alarm rule of the verdicts, and the states of the assets after them.
ALARM_RULE, STATES = "alarm_rule", "alarm_states"

#: Rows of verdicts that are taken in at once.
GROUP_ROWS = 200_000


@dataclass(frozen=True)
class AlarmReport:
    """What new verdicts did to the alarms.

    Attributes
    ----------
    raised : tuple of AlarmRow
        Those that began, the first one first.
    ended : tuple of AlarmRow
        Those of before that are over.
    n_active : int
        Alarms that are active now.
    n_over : int
        Rows over the threshold, late ones left out.
    n_late_over : int
        Late rows over the threshold, which raise nothing: they have their verdicts.
    """

    raised: tuple[AlarmRow, ...] = ()
    ended: tuple[AlarmRow, ...] = ()
    n_active: int = 0
    n_over: int = 0
    n_late_over: int = 0


@dataclass
class _Taken:
    """What a stretch of verdicts changed, and the states after it."""

    states: dict[str, AssetState]
    alarms: dict[str, AlarmRow] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


def raise_alarms(plant: PlantConfig) -> AlarmReport:
    """Take in the verdicts that have come since the last call, in the order of their commits.

    Late verdicts change nothing: an alarm that was told stays as it was told.

    Parameters
    ----------
    plant : PlantConfig

    Returns
    -------
    AlarmReport

    Raises
    ------
    LakeError
        There are no verdicts yet, or what the alarms have to know is gone from the table's log.
    """
    lake = Lake(plant.lake, plant.contract)
    last = lake.open(VERDICTS).version()
    windows = read_exclusions(plant.alarms.maintenance, plant.contract.time.zone)
    told = {entry.alarm_id for entry in read_said(lake) if entry.alarm_id is not None}
    found: list[_Taken] = []

    def attempt() -> bool:
        found.clear()
        table = lake.writable(ALARMS)
        through = _taken_through(table)
        before = _states(table, through)
        taken = _answered(before, told)
        found.append(taken)
        if through < last:
            _take_in(taken, lake.open(VERDICTS, version=last), through, last, windows)
        elif taken.states == before:
            return True
        rows = _table(taken.alarms.values(), lake.schema(ALARMS))
        note = {STATES: write_states(taken.states)}
        return merge(table, rows, "alarm_id", {CHAMPION: max(through, last)}, note=note)

    until_committed(attempt)
    report = _report(found[0])
    logger.info("%d alarms raised, %d active", len(report.raised), report.n_active)
    return report


def _taken_through(alarms: DeltaTable) -> int:
    """Version of `verdicts` that the alarms have taken in; −1 before the first."""
    number = transaction_number(alarms, CHAMPION)
    return -1 if number is None else number


def _states(alarms: DeltaTable, through: int) -> dict[str, AssetState]:
    """Where each asset's stream stood when the last verdicts were taken in."""
    if through < 0:
        return {}
    noted = last_note(alarms, STATES)
    if noted is None:
        raise LakeError(
            f"the log of table '{ALARMS}' no longer has the commit that took in version {through} "
            f"of the verdicts; move the folder {ALARMS} aside, and the next run makes it anew from "
            "all verdicts"
        )
    return read_states(noted)


def _answered(states: Mapping[str, AssetState], told: Collection[str]) -> _Taken:
    """The states once people have answered alarms, and the alarms that are over by that."""
    taken = _Taken(dict(states))
    for asset, state in states.items():
        last = state.progress.last
        if last is None or last.answered or alarm_id(CHAMPION, asset, last.start) not in told:
            continue
        now = answered(last)
        taken.states[asset] = replace(state, progress=replace(state.progress, last=now))
        if now.state != last.state:
            taken.alarms[alarm_id(CHAMPION, asset, last.start)] = AlarmRow(asset, now, state.cause)
    return taken


def _take_in(
    taken: _Taken,
    verdicts: DeltaTable,
    through: int,
    last: int,
    windows: tuple[Excluded, ...],
) -> None:
    """Let the versions through + 1..last of the verdicts change the alarms."""
    for first, until, rule in _stretches(verdicts, through + 1, last):
        rows = new_rows(verdicts, first, until).filter(IS_CHAMPION)
        over = pc.field("status") == "anomaly"
        taken.counts["late"] += rows.filter(over & pc.field("late")).num_rows
        rows = rows.filter(~pc.field("late"))
        taken.counts["over"] += rows.filter(over).num_rows
        for asset, own in by_asset(rows):
            here = [w for w in windows if any(fnmatchcase(asset, p) for p in w.assets)]
            before = taken.states.get(asset, AssetState())
            alarms, taken.states[asset] = take_in(asset, own, before, rule, here)
            known = before.progress.last
            for alarm in alarms:
                name = alarm_id(CHAMPION, asset, alarm.episode.start)
                if known is None or alarm.episode.start != known.start:
                    taken.begun.add(name)
                taken.alarms[name] = alarm


def _stretches(verdicts: DeltaTable, first: int, last: int) -> Iterator[tuple[int, int, AlarmRule]]:
    """Versions first..last cut where the alarm rule changes, and where there are many rows."""
    rules = {
        v: AlarmRule.model_validate_json(t) for v, t in notes(verdicts, ALARM_RULE, first).items()
    }
    for begin, until in version_groups(verdicts, first, last, max_rows=GROUP_ROWS):
        own = [rules.get(version, AlarmRule()) for version in range(begin, until + 1)]
        cuts = [i for i in range(1, len(own)) if own[i] != own[i - 1]]
        for a, b in zip([0, *cuts], [*cuts, len(own)], strict=True):
            yield begin + a, begin + b - 1, own[a]


def _report(taken: _Taken) -> AlarmReport:
    def of(names: Iterator[str]) -> tuple[AlarmRow, ...]:
        return tuple(sorted((taken.alarms[n] for n in names), key=lambda a: a.episode.start))

    ended = (
        name
        for name, alarm in taken.alarms.items()
        if name not in taken.begun and alarm.episode.state != ACTIVE
    )
    n_active = sum(
        s.progress.last is not None and s.progress.last.state == ACTIVE
        for s in taken.states.values()
    )
    return AlarmReport(
        of(iter(taken.begun)), of(ended), n_active, taken.counts["over"], taken.counts["late"]
    )


def _table(alarms: Iterable[AlarmRow], schema: pa.Schema) -> pa.Table:
    """Alarms as the rows of their table."""
    now = datetime.now(UTC)

    def moment(micros: int | None) -> datetime | None:
        return None if micros is None else as_timestamp(micros).as_py()

    entries = []
    for alarm in alarms:
        episode, cause = alarm.episode, alarm.cause
        top = cause.top()
        entries.append(
            {
                "alarm_id": alarm_id(CHAMPION, alarm.asset, episode.start),
                "line": CHAMPION,
                "asset": alarm.asset,
                "start": moment(episode.start),
                "raised": moment(episode.raised),
                "end": moment(episode.end),
                "closed": moment(episode.closed),
                "state": episode.state,
                "n_rows": episode.n_over,
                "n_raised": episode.n_raised,
                "n_announced": episode.n_announced,
                "peak_score": cause.peak_score,
                "peak_time": moment(cause.peak_time),
                "peak_version": cause.peak_version,
                "top_sensors": top,
                "top_contributions": [cause.contributions[s] / cause.n_rows for s in top],
                "top_directions": [cause.direction(s) for s in top],
                "model_version": cause.model_version,
                "updated_at": now,
            }
        )
    return pa.Table.from_pylist(entries, schema=schema)
