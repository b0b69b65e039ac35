"""The table of alarms, as a person reads it: the latest first, and what they ask of people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import SECONDS, PlantConfig
from vae_anomaly.data.lake import ALARMS, VERDICTS, Lake, rows
from vae_anomaly.decisions.alarm_load import AlarmLoad, alarm_load
from vae_anomaly.decisions.events import duration_text
from vae_anomaly.decisions.lead_times import LeadTimes
from vae_anomaly.errors import InputError
from vae_anomaly.steps.alarms import IS_CHAMPION
from vae_anomaly.steps.failures import foretold
from vae_anomaly.steps.lines import last_judged
from vae_anomaly.steps.said import Said, holding, read_said
from vae_anomaly.table import Table

__all__ = ["AlarmList", "alarm_list", "alarms_table"]

#: Days that are listed where nobody says how many.
DAYS = 30.0

#: Days before a failure from which on an alarm is of use, where nobody says how many.
HORIZON_DAYS = 7.0


@dataclass(frozen=True)
class AlarmList:
    """Alarms of a period, the latest first.

    Attributes
    ----------
    alarms : pa.Table
        Rows of the table `alarms`.
    since, until : datetime
        The period: until the last verdict.
    load : AlarmLoad or None
        Figures of the standard; None where nothing was scored.
    n_rows_over : int
        Rows over the threshold in the period, without which there would be no alarm.
    said : mapping of str to Said
        What people said last of an alarm, by its id.
    foretold : LeadTimes or None
        How early they told of failures; None where nobody told of one.
    """

    alarms: pa.Table
    since: datetime
    until: datetime
    load: AlarmLoad | None
    n_rows_over: int
    said: Mapping[str, Said] = field(default_factory=dict)
    foretold: LeadTimes | None = None


def alarm_list(
    plant: PlantConfig, *, asset: str = "", days: float = DAYS, horizon_days: float = HORIZON_DAYS
) -> AlarmList:
    """Alarms of the last days that have verdicts.

    Parameters
    ----------
    plant : PlantConfig
    asset : str
        Only of this one; all by default.
    days : float
        Up to the last verdict.
    horizon_days : float
        How long before a failure an alarm is of use.

    Raises
    ------
    LakeError
        Nothing has been scored yet.
    InputError
        A number of days is not above 0, or no verdict is of the asset.
    """
    for name, value in (("days", days), ("horizon_days", horizon_days)):
        if not value > 0:
            raise InputError(f"{name}={value:g} is no period; give a number above 0")
    lake = Lake(plant.lake, plant.contract)
    table, verdicts = lake.open(ALARMS), lake.open(VERDICTS)
    now = datetime.now(UTC)
    until = last_judged(verdicts, limit=plant.source.latest(now)) or now
    since = until - timedelta(days=days)
    own = pc.field("asset") == asset if asset else pc.scalar(True)
    batches = list(rows(table, where=pc.field("end") >= since))
    # a MERGE writes texts in a layout that a scan cannot compare: so they are compared behind it
    alarms = pa.Table.from_batches(batches, lake.schema(ALARMS)).filter(own)
    alarms = alarms.sort_by([("start", "descending")])
    period = IS_CHAMPION & (pc.field("time") >= since) & own
    watched = _watched(verdicts, period)
    if asset and not watched.n_rows:
        raise InputError(f"no verdict of the last {days:g} days is of asset '{asset}'")
    load = None
    fresh = alarms.filter(pc.field("raised") >= since)  # the others stand since before
    if watched.seconds:
        raised = fresh["raised"].cast(pa.int64()).to_numpy()
        names = np.asarray(fresh["asset"].to_pylist(), dtype=np.str_)
        load = alarm_load(raised, names, fresh["n_raised"].to_numpy(), asset_s=watched.seconds)
    entries = holding(read_said(lake))
    said = {e.alarm_id: e for e in entries if e.alarm_id is not None}
    horizon_s = horizon_days * SECONDS["day"]
    told = foretold(plant, lake, fresh, entries, period, horizon_s=horizon_s)
    return AlarmList(alarms, since, until, load, watched.n_over, said, told)


@dataclass(frozen=True)
class _Watched:
    """Seconds that assets were watched, and rows over the threshold."""

    seconds: float = 0.0
    n_over: int = 0
    n_rows: int = 0


def _watched(verdicts: DeltaTable, where: pc.Expression) -> _Watched:
    """How long the assets were watched: from the first verdict of each to its last."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    n_over = n_rows = 0
    for batch in rows(verdicts, columns=["asset", "time", "status"], where=where):
        table = pa.Table.from_batches([batch])
        n_rows += table.num_rows
        n_over += pc.sum(pc.equal(table["status"], "anomaly")).as_py() or 0
        spans = table.group_by("asset").aggregate([("time", "min"), ("time", "max")])
        low, high = (spans[f"time_{end}"].cast(pa.int64()).to_pylist() for end in ("min", "max"))
        for name, a, b in zip(spans["asset"].to_pylist(), low, high, strict=True):
            first[name] = min(a, first.get(name, a))
            last[name] = max(b, last.get(name, b))
    return _Watched(sum(last[name] - first[name] for name in first) / 1e6, n_over, n_rows)


# ------------------------------------------------------------------------------- for the terminal


def alarms_table(found: AlarmList) -> Table:
    """Alarms, one a line, and the figures of the standard below."""
    n = found.alarms.num_rows
    period = f"{found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC"
    states = Counter(found.alarms["state"].to_pylist())
    said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    summary = f"{n} alarm{'' if n == 1 else 's'} of {found.n_rows_over:,} rows over the threshold"
    summary += f", {period}" + (f": {said}." if n else ".")
    columns: tuple[str, ...] = (
        "asset", "alarm", "since (UTC)", "lasted", "state", "rows", "sensors", "said",
    )  # fmt: skip
    lines = tuple(_line(row, found.said) for row in found.alarms.to_pylist())
    if not any(line[-1] for line in lines):  # nobody has said a word yet
        columns, lines = columns[:-1], tuple(line[:-1] for line in lines)
    notes = _load_notes(found.load)
    if found.foretold is not None:
        notes = (*notes, found.foretold.in_words())
    return Table("Alarms", summary, columns, lines, notes, ("sensors",))


def _line(row: dict[str, object], said: Mapping[str, Said]) -> tuple[str, ...]:
    start, end = row["start"], row["end"]
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    sensors = zip(row["top_sensors"] or [], row["top_directions"] or [], strict=True)  # type: ignore[call-overload]
    return (
        str(row["asset"]),
        str(row["alarm_id"]),
        f"{start:%Y-%m-%d %H:%M:%S}",
        duration_text((end - start).total_seconds()),
        str(row["state"]),
        f"{row['n_rows']:,}",
        ", ".join(f"{sensor} {way}" for sensor, way in sensors),
        said[name].in_words() if (name := str(row["alarm_id"])) in said else "",
    )


def _rate(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 10 else f"{figure:.2g}"


def _load_notes(load: AlarmLoad | None) -> tuple[str, ...]:
    if load is None:
        return ()
    rate = load.per_asset_day
    notes = [
        f"{_rate(rate.value)} alarms per asset and day ({_rate(rate.low)}–{_rate(rate.high)}); "
        f"at most {load.peak} in ten minutes (ISA-18.2 takes 10 as what one person can answer)"
    ]
    if load.flood_share:
        notes.append(f"{load.flood_share:.1%} of the time they came as a flood")
    if load.n_chattering:
        notes.append(f"{load.n_chattering} chatter: a longer alarms.rule.clear_after or min_gap_s")
    return tuple(notes)
