"""Verdicts of one asset → its alarms with their causes, and what the next verdicts have to know."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from vae_anomaly.config import AlarmRule
from vae_anomaly.data.exclusions import Excluded
from vae_anomaly.data.schemas import N_TOP
from vae_anomaly.data.times import microseconds
from vae_anomaly.decisions.alarms import Episode, Evidence, Progress, advance

__all__ = ["TELLING", "AlarmRow", "AssetState", "Cause", "OverRow", "alarm_id", "read_states",
           "take_in", "write_states"]  # fmt: skip

#: What verdicts must say to say something of alarms: a row that was not scored is as none.
TELLING = ("normal", "anomaly", "off")

#: Columns of `verdicts` that alarms are made from.
READ = ("time", "status", "score", "p_value", "top_sensors", "top_contributions", "top_directions",
        "model_version")  # fmt: skip


@dataclass(frozen=True)
class OverRow:
    """A row over the threshold: its score, and the sensors behind it."""

    time: int
    score: float
    sensors: tuple[str, ...]
    contributions: tuple[float, ...]
    directions: tuple[str, ...]
    model_version: str


@dataclass
class Cause:
    """What the rows of an alarm have in common; grows row by row, so no cut changes a sum."""

    n_rows: int = 0
    peak_score: float = 0.0
    peak_time: int = 0
    peak_version: str = ""
    model_version: str = ""
    contributions: dict[str, float] = field(default_factory=dict)
    directions: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, row: OverRow) -> None:
        """Take one more row in."""
        self.model_version = self.model_version or row.model_version
        if not self.n_rows or row.score > self.peak_score:
            self.peak_score, self.peak_time = row.score, row.time
            self.peak_version = row.model_version
        self.n_rows += 1
        for sensor, share, way in zip(row.sensors, row.contributions, row.directions, strict=True):
            self.contributions[sensor] = self.contributions.get(sensor, 0.0) + share
            ways = self.directions.setdefault(sensor, {})
            ways[way] = ways.get(way, 0) + 1

    def top(self) -> list[str]:
        """The sensors that contribute most, the first ones first."""
        return sorted(self.contributions, key=lambda s: (-self.contributions[s], s))[:N_TOP]

    def direction(self, sensor: str) -> str:
        """What was most often said of a sensor's value."""
        ways = self.directions[sensor]
        return min(ways, key=lambda way: (-ways[way], way))


@dataclass(frozen=True)
class AssetState:
    """Where an asset's stream of verdicts stands."""

    progress: Progress = field(default_factory=Progress)
    waiting: tuple[OverRow, ...] = ()  # the rows of `progress.recent`
    cause: Cause = field(default_factory=Cause)  # of `progress.last`


@dataclass(frozen=True)
class AlarmRow:
    """An alarm of an asset as it stands, and why."""

    asset: str
    episode: Episode
    cause: Cause


_STATES = TypeAdapter(dict[str, AssetState])


def read_states(text: str) -> dict[str, AssetState]:
    """States by asset, as `write_states` wrote them."""
    return _STATES.validate_json(text)


def write_states(states: Mapping[str, AssetState]) -> str:
    """States as JSON; assets that have none to tell are left out."""
    kept = {asset: state for asset, state in states.items() if not state.progress.is_idle}
    return _STATES.dump_json(kept).decode()


def alarm_id(line: str, asset: str, start: int) -> str:
    """Name of an alarm, the same whoever asks and however often: ten hexadecimal digits.

    Examples
    --------
    >>> alarm_id("champion", "pump-1", 0)
    'a50de402d0'
    """
    return hashlib.sha256(f"{line}|{asset}|{start}".encode()).hexdigest()[:10]


def take_in(
    asset: str,
    verdicts: pa.Table,
    state: AssetState,
    rule: AlarmRule,
    maintenance: Sequence[Excluded] = (),
) -> tuple[list[AlarmRow], AssetState]:
    """Alarms that verdicts of one asset change, and where its stream stands after them.

    Parameters
    ----------
    asset : str
    verdicts : pa.Table
        In the order of time. Rows that were not scored, or are in a state that was never learnt,
        say nothing; where the machine is off nothing is raised.
    state : AssetState
    rule : AlarmRule
    maintenance : sequence of Excluded
        Windows of this asset in which nothing is raised.
    """
    verdicts = verdicts.filter(pc.field("status").isin(TELLING))
    status, time = verdicts["status"].to_numpy(), microseconds(verdicts["time"])
    suppressed = status == "off"
    for window in maintenance:
        suppressed |= (time >= window.start) & (time < window.end)
    p_value = pc.fill_null(verdicts["p_value"], 0.0).to_numpy().astype(np.float64)
    evidence = Evidence.of(time, status == "anomaly", suppressed, p_value, rule)
    found = advance(evidence, rule, state.progress)
    over = (*state.waiting, *_over_rows(verdicts.filter(pa.array(evidence.exceeds))))
    last = state.progress.last
    causes = {} if last is None else {last.start: deepcopy(state.cause)}
    for row, owner in zip(over, found.owner.tolist(), strict=True):
        if owner >= 0:
            causes.setdefault(owner, Cause()).add(row)
    alarms = [AlarmRow(asset, alarm, causes[alarm.start]) for alarm in found.alarms]
    last, n_waiting = found.progress.last, len(found.progress.recent)
    cause = Cause() if last is None else causes[last.start]
    return alarms, AssetState(found.progress, over[len(over) - n_waiting :], cause)


def _over_rows(verdicts: pa.Table) -> Iterator[OverRow]:
    moments = microseconds(verdicts["time"]).tolist()
    columns = (verdicts[name].to_pylist() for name in READ[2:])
    for time, score, _, sensors, contributions, directions, version in zip(
        moments, *columns, strict=True
    ):
        yield OverRow(
            time, score, tuple(sensors or ()), tuple(contributions or ()),
            tuple(directions or ()), version,
        )  # fmt: skip
