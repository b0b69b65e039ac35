"""What must be true at the end of the month, each claim held against what the simulator knows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from scipy.stats import poisson

from month.operator import Known, known_faults
from month.record import Record
from month.runner import Answer
from month.story import (
    AGAIN_DAY,
    BROKEN,
    BROKEN_ASSET,
    BROKEN_DAY,
    BROKEN_DAYS,
    DAY,
    DAYS,
    FAULTS,
    HISTORY,
    PROMOTE_DAY,
    REGIME_DAY,
    ROLLBACK_DAY,
    Story,
    moment,
)
from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake, rows
from vae_anomaly.data.simulate import Simulation
from vae_anomaly.steps.alarms import CHAMPION
from vae_anomaly.steps.beside import shadow_line
from vae_anomaly.steps.history import history, judged_by
from vae_anomaly.steps.outbox import Message, read_deliveries
from vae_anomaly.steps.said import Alarm, raised_alarms

#: Rows by asset and time, and how often each is there.
Keys = Counter[tuple[str, datetime]]

#: How the text of a message names its alarm.
ALARM = re.compile(r"^alarm (\w+)\b", re.MULTILINE)

#: Days after the change of load within which it has to be called one.
CALLED_WITHIN_DAYS = 3.0

#: Microseconds of a day.
DAY_US = 8.64e10


class Check(NamedTuple):
    """A claim, whether it held, and what was found."""

    claim: str
    held: bool
    found: str


def checks(story: Story, path: Path, record: Record) -> Iterator[Check]:
    """Each claim, in the order of the month."""
    plant = read_plant(path)
    lake = Lake(plant.lake, plant.contract)
    faults, simulation = known_faults(story.simulation), story.simulation
    days = microseconds_of(simulation)
    yield from row_checks(
        known_rows(simulation), _keys(lake, READINGS), _keys(lake, VERDICTS, line=CHAMPION)
    )
    alarms = list(raised_alarms(lake).values())
    yield from alarm_checks(alarms, faults, days)
    yield from drift_checks(record, days)
    yield from _versions(plant, lake, record)
    yield from judge_checks(simulation, record, _told_judges(plant, record))
    yield from death_checks(record)
    messages = [entry.message for entry in read_deliveries(lake) if entry.state == "sent"]
    month = {alarm.alarm_id for alarm in alarms if alarm.start >= days[0.0]}
    yield from told_checks(month, messages, record)


def microseconds_of(simulation: Simulation) -> dict[float, int]:
    """When the days of the story begin, in microseconds since 1970."""
    days = (0.0, REGIME_DAY, PROMOTE_DAY, BROKEN_DAY, ROLLBACK_DAY, AGAIN_DAY, float(DAYS))
    return {day: round(moment(simulation, day).timestamp() * 1e6) for day in days}


def known_rows(simulation: Simulation) -> Keys:
    """Every row that the plant has had, once."""
    times = [simulation.time(row) for row in range((HISTORY + DAYS) * DAY)]
    return Counter((asset, time) for asset in simulation.assets for time in times)


def _keys(lake: Lake, name: str, *, line: str = "") -> Keys:
    columns = ["asset", "time", *(["line"] if line else [])]
    found: Keys = Counter()
    for batch in rows(lake.open(name), columns=columns):
        of_line = batch["line"].to_pylist() if line else [""] * batch.num_rows
        entries = zip(batch["asset"].to_pylist(), batch["time"].to_pylist(), of_line, strict=True)
        found.update((asset, time) for asset, time, own in entries if own == line)
    return found


def row_checks(known: Keys, readings: Keys, verdicts: Keys) -> Iterator[Check]:
    """Nothing is lost, and nothing is there twice."""
    yield Check(
        "every row that was written was read, once",
        readings == known,
        f"{known.total():,} written, {readings.total():,} read",
    )
    yield Check(
        "every reading has one verdict, and only one",
        verdicts == known,
        f"{verdicts.total():,} verdicts on {len(readings):,} readings, "
        f"{verdicts.total() - len(verdicts)} double",
    )


def alarm_checks(
    alarms: Sequence[Alarm], faults: Sequence[Known], days: Mapping[float, int]
) -> Iterator[Check]:
    """Each fault begins an alarm of its own; few others begin while the champion knows the load."""
    process = [fault for fault in faults if fault.kind in {kind for kind, *_ in FAULTS}]
    met = [fault for fault in process if any(fault.raises(alarm) for alarm in alarms)]
    yield Check(
        "every fault of the process raises an alarm", len(met) == len(process),
        f"{len(met)} of {len(process)}",
    )  # fmt: skip
    usual = (
        (days[0.0], days[REGIME_DAY]),
        (days[PROMOTE_DAY], days[ROLLBACK_DAY]),
        (days[AGAIN_DAY], days[DAYS]),
    )
    false = [
        alarm
        for alarm in alarms
        if any(start <= alarm.start < end for start, end in usual)
        and not any(fault.raises(alarm) for fault in faults)
    ]
    weeks = 3 * sum(end - start for start, end in usual) / (7 * DAY_US)
    most = int(poisson.ppf(0.975, 2 * weeks))
    yield Check(
        "no more false alarms than the budget says, while the champion knows the load",
        len(false) <= most,
        f"{len(false)} in {weeks:.1f} weeks of a pump; up to {most} at two a week",
    )


def drift_checks(record: Record, days: Mapping[float, int]) -> Iterator[Check]:
    """The regime and the sensor are called what they are, and nothing else is called so."""
    kinds: dict[int, dict[str, object]] = {}
    for window in record.windows:  # a later champion judges windows again: what was said first
        kinds.setdefault(int(str(window["start"])), window)
    before = [w for at, w in kinds.items() if days[0.0] <= at < days[REGIME_DAY]]
    after = {at: w for at, w in kinds.items() if days[REGIME_DAY] <= at < days[PROMOTE_DAY]}
    wrong = sum(window["plant"] == "regime" for window in before)
    called = [at for at, window in sorted(after.items()) if window["plant"] == "regime"]
    late = (called[0] - days[REGIME_DAY]) / DAY_US if called else float("inf")
    yield Check(
        "the change of load is called a regime, and nothing before it is",
        late <= CALLED_WITHIN_DAYS and not wrong and len(before) >= REGIME_DAY - 1,
        f"{f'{late:.0f} days after' if called else 'never'}; {wrong} of {len(before)} days before",
    )
    end = days[BROKEN_DAY] + round(BROKEN_DAYS * DAY_US)
    broken = [w for at, w in kinds.items() if days[BROKEN_DAY] <= at < end]
    named = sum(_names_sensor(window, BROKEN_ASSET) for window in broken)
    others = sum(_is_sensor(window, asset) for window in before for asset in _assets(window))
    yield Check(
        "the broken sensor is called a sensor, by its name, and none is called so before",
        named > 0 and not others,
        f"on {named} of {len(broken)} days; {others} before",
    )


def _assets(window: Mapping[str, object]) -> Mapping[str, str]:
    found = window["assets"]
    assert isinstance(found, dict)
    return found


def _is_sensor(window: Mapping[str, object], asset: str) -> bool:
    return _assets(window).get(asset) == "sensor"


def _names_sensor(window: Mapping[str, object], asset: str) -> bool:
    columns = window["columns"]
    assert isinstance(columns, dict)
    return _is_sensor(window, asset) and columns[asset] == [BROKEN]


def _versions(plant: PlantConfig, lake: Lake, record: Record) -> Iterator[Check]:
    good = str(record.retrained.get("registered"))
    shadowed = _keys(lake, VERDICTS, line=shadow_line(good))
    changes = [(change.action, change.to_version) for change in history(plant)]
    yield from version_checks(record, shadowed, changes)


def version_checks(
    record: Record, shadowed: Keys, changes: Sequence[tuple[str, str]]
) -> Iterator[Check]:
    """Who may judge, and who became champion."""
    frozen = record.frozen
    yield Check(
        "nothing was learnt while an alarm was open",
        frozen.get("frozen") is True and "registered" not in frozen,
        f"{frozen.get('frozen')}",
    )
    reasons = _reasons(record.bad)
    yield Check(
        "the gate refused the bad challenger, and said why",
        record.bad.get("alias") == "challenger"
        and any("false alarm" in why for why in reasons)
        and record.bad.get("registered") not in {version for _, version in changes},
        "; ".join(reasons) or "not refused",
    )
    good = str(record.retrained.get("registered"))
    yield Check(
        "the retrained version stayed challenger, and judged beside the champion",
        record.retrained.get("alias") == "challenger" and set(shadowed.values()) == {1},
        f"version {good}, {shadowed.total():,} rows",
    )
    wanted = [("first", "1"), ("promoted", good), ("rolled_back", "1"), ("promoted", good)]
    yield Check(
        "the history tells every change of the champion, once", list(changes) == wanted,
        ", ".join(f"{action} {version}" for action, version in changes),
    )  # fmt: skip


def _reasons(answer: Answer) -> list[str]:
    reasons = answer.get("reasons", [])
    assert isinstance(reasons, list)
    return [str(reason) for reason in reasons]


def _told_judges(plant: PlantConfig, record: Record) -> dict[str, set[str]]:
    """The versions that have judged pump-01, by the verdicts, at the moments that were noted."""
    return {
        at: {found.model_version for found in judged_by(plant, "pump-01", at)}
        for at in record.champions
    }


def judge_checks(
    simulation: Simulation, record: Record, told: Mapping[str, set[str]]
) -> Iterator[Check]:
    """Who judged on a day: by the verdicts, by the run of that hour, and by the story."""
    good = str(record.retrained.get("registered"))
    spans = ((PROMOTE_DAY, ROLLBACK_DAY), (AGAIN_DAY, DAYS))
    new = [(moment(simulation, low), moment(simulation, high)) for low, high in spans]
    right = []
    for at, version in record.champions.items():
        when = datetime.fromisoformat(at)
        due = good if any(low <= when < high for low, high in new) else "1"
        right.append(told[at] == {version} == {due})
    yield Check(
        "which model judged pump-01 on a day is what judged it then",
        len(right) > DAYS / 2 and all(right),
        f"{sum(right)} of {len(right)} days",
    )


def death_checks(record: Record) -> Iterator[Check]:
    """Everything dies at least once, and all goes on."""
    kills = Counter(death.name for death in record.deaths)
    cached = [answer.get("victim") for answer in record.hours if answer.get("cached")]
    yield Check(
        "scoring went on each time that MLflow was down, and came back to it",
        # it needs PostgreSQL
        cached.count("mlflow") == kills["mlflow"] > 0 and set(cached) <= {"mlflow", "postgres"},
        f"{len(cached)} runs by the cached champion, MLflow {kills['mlflow']} times down",
    )
    states = Counter(run.state.lower() for run in record.scheduled)
    yield Check(
        "the worker scored by its schedule, also after it was last killed",
        bool(record.went_on),
        ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        + f"; {sum(run.scored for run in record.scheduled)} of them scored rows, "
        f"{len(record.went_on)} after the kill",
    )
    with_run = sum(death.with_run for death in record.deaths if death.name == "worker")
    yield Check(
        "each server, the worker with a run and the runner were killed",
        {"runner", "mlflow", "prefect", "postgres"} <= set(kills) and with_run > 0,
        ", ".join(f"{name} {n}" for name, n in sorted(kills.items()) if name != "worker")
        + f", worker {with_run} with a run and {kills['worker'] - with_run} idle",
    )
    yield Check(
        "no flow or command failed but while Prefect or its database was down",
        not record.failures,
        "; ".join(record.failures) or "none",
    )


def told_checks(month: set[str], messages: Sequence[Message], record: Record) -> Iterator[Check]:
    """People are told of the alarms of the month: each once, and by what the product wrote down."""
    received = record.received
    raised = _raised(messages, record)
    yield Check(
        "people were told of every alarm of the month, once",
        bool(month) and month <= set(raised) and set(raised.values()) == {1},
        f"{len(month & set(raised))} of {len(month)} alarms, in {len(received.texts)} messages, "
        f"{sum(n - 1 for n in raised.values())} twice",
    )
    repeated = received.times.total() - len(received.times)
    kills = sum(death.with_run for death in record.deaths)
    came = {name: (text.subject, text.body) for name, text in received.texts.items()}
    sent = {message.message_id: (message.subject, message.body) for message in messages}
    yield Check(
        "what came at the receiver is what was sent, signed, and repeated by a kill at most",
        came == sent and not received.n_forged and repeated <= kills,
        f"{len(came)} messages, {repeated} repeated, {received.n_forged} forged",
    )


def _raised(messages: Sequence[Message], record: Record) -> Counter[str]:
    """In how many messages that came it was said of an alarm that it was raised."""
    # the text of a flood names none
    flood = {message.message_id: [t.alarm_id for t in message.alarms] for message in messages}
    found: Counter[str] = Counter()
    for name, text in record.received.texts.items():
        if text.kind == "alarm.raised":
            found.update(ALARM.findall(text.body) or flood.get(name, []))
    return found
