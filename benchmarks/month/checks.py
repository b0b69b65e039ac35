"""What must be true at the end of the month, each claim held against what the simulator knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scipy.stats import poisson

from month.operator import Known, known_faults
from month.receiver import Received
from month.runner import Answer
from month.schedule import Run
from month.story import (
    AGAIN_DAY,
    BROKEN,
    BROKEN_ASSET,
    BROKEN_DAY,
    BROKEN_DAYS,
    DAYS,
    FAULTS,
    PROMOTE_DAY,
    REGIME_DAY,
    ROLLBACK_DAY,
    Story,
    moment,
)
from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake, rows
from vae_anomaly.steps.alarms import CHAMPION
from vae_anomaly.steps.beside import shadow_line
from vae_anomaly.steps.history import history, judged_by
from vae_anomaly.steps.outbox import read_deliveries
from vae_anomaly.steps.said import Alarm, raised_alarms


class Check(NamedTuple):
    """A claim, whether it held, and what was found."""

    claim: str
    held: bool
    found: str


@dataclass
class Record:
    """What was seen as the month went by."""

    n_written: int = 0
    hours: list[Answer] = field(default_factory=list)
    windows: list[dict[str, object]] = field(default_factory=list)
    frozen: bool = False
    bad: Answer = field(default_factory=dict)
    retrained: Answer = field(default_factory=dict)
    champions: dict[str, str] = field(default_factory=dict)
    deaths: list[tuple[str, float]] = field(default_factory=list)
    scheduled: list[Run] = field(default_factory=list)
    received: Received = field(default_factory=Received)
    n_answered: int = 0


def checks(story: Story, path: Path, record: Record) -> Iterator[Check]:
    """Each claim, in the order of the month."""
    plant = read_plant(path)
    lake = Lake(plant.lake, plant.contract)
    faults, simulation = known_faults(story.simulation), story.simulation
    days = {
        day: round(moment(simulation, day).timestamp() * 1e6)
        for day in (0.0, REGIME_DAY, PROMOTE_DAY, BROKEN_DAY, ROLLBACK_DAY, AGAIN_DAY)
    }
    yield from _complete(lake, record)
    alarms = list(raised_alarms(lake).values())
    yield from _alarms(alarms, faults, days)
    yield from _drift(record, days)
    yield from _versions(plant, lake, record)
    cached = [bool(answer.get("cached")) for answer in record.hours]
    yield Check(
        "scoring went on while MLflow was down, and came back to it",
        any(cached) and not cached[-1],
        f"{sum(cached)} runs by the cached champion",
    )
    yield from _schedule(record)
    yield from _told(lake, alarms, record, days[0.0])
    kills = Counter(name for name, _ in record.deaths)
    yield Check(
        "each server, the worker and the runner were killed",
        {"runner", "worker", "mlflow", "prefect", "postgres"} <= set(kills),
        ", ".join(f"{name} {n}" for name, n in sorted(kills.items())),
    )


def _complete(lake: Lake, record: Record) -> Iterator[Check]:
    readings = _keys(lake, READINGS)
    verdicts = _keys(lake, VERDICTS, line=CHAMPION)
    yield Check(
        "every row that was written was read",
        sum(readings.values()) == len(readings) == record.n_written,
        f"{record.n_written:,} written, {sum(readings.values()):,} read",
    )
    yield Check(
        "every reading has one verdict, and only one",
        verdicts == readings,
        f"{sum(verdicts.values()):,} verdicts on {len(readings):,} readings, "
        f"{sum(n - 1 for n in verdicts.values())} double",
    )


def _keys(lake: Lake, name: str, *, line: str = "") -> Counter[tuple[str, object]]:
    columns = ["asset", "time", *(["line"] if line else [])]
    found: Counter[tuple[str, object]] = Counter()
    for batch in rows(lake.open(name), columns=columns):
        of_line = batch["line"].to_pylist() if line else [""] * batch.num_rows
        entries = zip(batch["asset"].to_pylist(), batch["time"].to_pylist(), of_line, strict=True)
        found.update((asset, time) for asset, time, own in entries if own == line)
    return found


def _schedule(record: Record) -> Iterator[Check]:
    states = Counter(run.state.lower() for run in record.scheduled)
    died = max((moment for name, moment in record.deaths if name == "worker"), default=0.0)
    later = [run for run in record.scheduled if run.began > died or run.state == "CANCELLED"]
    yield Check(
        "the worker scored by its schedule, and went on after it was killed",
        states["completed"] > 0 and bool(later),
        ", ".join(f"{n} {state}" for state, n in sorted(states.items())),
    )


def _told(lake: Lake, alarms: Sequence[Alarm], record: Record, begin: int) -> Iterator[Check]:
    sent = [entry.message for entry in read_deliveries(lake) if entry.state == "sent"]
    first = [message for message in sent if message.kind in ("begin", "raised")]
    told = Counter(told.alarm_id for message in first for told in message.alarms)
    wanted = {alarm.alarm_id for alarm in alarms if alarm.start >= begin}
    times = record.received.times
    yield Check(
        "people were told of every alarm of the month, once",
        wanted <= set(told) and set(told.values()) == {1},
        f"{len(wanted & set(told))} of {len(wanted)} alarms, in {len(sent)} messages",
    )
    repeated = sum(times.values()) - len(times)
    yield Check(
        "what came at the receiver is what was sent, signed, and repeated by a kill at most",
        set(times) == {message.message_id for message in sent}
        and not record.received.n_forged
        and repeated <= len(record.deaths),
        f"{len(times)} messages, {repeated} repeated, {record.received.n_forged} forged",
    )


def _alarms(
    alarms: Sequence[Alarm], faults: Sequence[Known], days: dict[float, int]
) -> Iterator[Check]:
    process = [fault for fault in faults if fault.kind in {kind for kind, *_ in FAULTS}]
    met = [fault for fault in process if any(fault.holds(alarm) for alarm in alarms)]
    yield Check(
        "every fault of the process has an alarm", len(met) == len(process),
        f"{len(met)} of {len(process)}",
    )  # fmt: skip
    # while the champion is of the load that there is
    usual = ((days[0.0], days[REGIME_DAY]), (days[PROMOTE_DAY], days[ROLLBACK_DAY]))
    false = [
        alarm
        for alarm in alarms
        if any(start <= alarm.start < end for start, end in usual)
        and not any(fault.holds(alarm) for fault in faults)
    ]
    weeks = 3 * sum(end - start for start, end in usual) / 6.048e11
    most = int(poisson.ppf(0.975, 2 * weeks))
    yield Check(
        "no more false alarms than the budget says, while the champion knows the load",
        len(false) <= most,
        f"{len(false)} in {weeks:.1f} weeks of a pump; up to {most} at two a week",
    )


def _drift(record: Record, days: dict[float, int]) -> Iterator[Check]:
    kinds = {int(str(window["start"])): window for window in record.windows}
    before = {at: w for at, w in kinds.items() if at < days[REGIME_DAY]}
    after = {at: w for at, w in kinds.items() if days[REGIME_DAY] <= at < days[PROMOTE_DAY]}
    wrong = sum(window["plant"] == "regime" for window in before.values())
    first = next((at for at, w in sorted(after.items()) if w["plant"] == "regime"), None)
    late = "never" if first is None else f"{(first - days[REGIME_DAY]) / 8.64e10:.0f} days after"
    yield Check(
        "the change of load is called a regime, and nothing before it is",
        first is not None and not wrong,
        f"{late}; {wrong} of {len(before)} days before",
    )
    end = days[BROKEN_DAY] + round(BROKEN_DAYS * 8.64e10)
    broken = [w for at, w in sorted(kinds.items()) if days[BROKEN_DAY] <= at < end]
    said = [(w["assets"], w["columns"]) for w in broken]
    named = [
        assets.get(BROKEN_ASSET) == "sensor" and BROKEN in columns[BROKEN_ASSET]  # type: ignore[attr-defined, index]
        for assets, columns in said
    ]
    yield Check(
        "the broken sensor is called a sensor, by its name", any(named),
        f"on {sum(named)} of {len(named)} days",
    )  # fmt: skip


def _versions(plant: PlantConfig, lake: Lake, record: Record) -> Iterator[Check]:
    yield Check("nothing was learnt while an alarm was open", record.frozen, f"{record.frozen}")
    yield Check(
        "the gate refused the bad challenger, and said why",
        record.bad.get("alias") != "champion" and bool(record.bad.get("reasons")),
        "; ".join(map(str, record.bad.get("reasons") or ["not refused"])),  # type: ignore[call-overload]
    )
    good = str(record.retrained.get("registered"))
    shadowed = sum(_keys(lake, VERDICTS, line=shadow_line(good)).values())
    yield Check(
        "the retrained version stayed challenger, and judged beside the champion",
        record.retrained.get("alias") == "challenger" and shadowed > 0,
        f"version {good}, {shadowed:,} rows",
    )
    changes = [(change.action, change.to_version) for change in history(plant)]
    wanted = [("first", "1"), ("promoted", good), ("rolled_back", "1"), ("promoted", good)]
    yield Check(
        "the history tells every change of the champion, once", changes == wanted,
        ", ".join(f"{action} {version}" for action, version in changes),
    )  # fmt: skip
    told = {
        at: {found.model_version for found in judged_by(plant, "pump-01", at)}
        for at in record.champions
    }
    right = [told[at] == {version} for at, version in record.champions.items()]
    yield Check(
        "which model judged pump-01 on a day is what judged it then",
        len(right) > DAYS / 2 and all(right),
        f"{sum(right)} of {len(right)} days",
    )
