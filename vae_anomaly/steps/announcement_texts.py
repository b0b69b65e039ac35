"""The words of the messages that people are sent."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from vae_anomaly.config import PlantConfig
from vae_anomaly.steps.outbox import Kind, Message, Told, message_id

__all__ = ["AlarmFacts", "Links", "RunFacts", "alarm_message", "begin_message", "run_message"]

#: Alarms and assets that one message names; the rest is counted.
MOST_NAMED = 10

#: Characters of an error that a message repeats.
WHY_LENGTH = 600


@dataclass(frozen=True)
class AlarmFacts:
    """What a message says of an alarm; `sensors` are names with their directions."""

    alarm_id: str
    asset: str
    start: datetime
    raised: datetime
    end: datetime
    is_over: bool
    n_announced: int
    peak_score: float
    peak_time: datetime
    sensors: tuple[str, ...]
    model_version: str

    @property
    def told(self) -> Told:
        """What is kept of it."""
        return Told(self.alarm_id, self.n_announced, self.is_over)


@dataclass(frozen=True)
class Links:
    """Where a reader goes on: the plant and its file, and the page of the flow run."""

    plant: PlantConfig
    plant_file: str
    run_url: str

    def minute(self, moment: datetime) -> str:
        """A moment in the plant's zone."""
        zone = self.plant.contract.time.zone
        return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"

    def lines(self, asset: str = "", alarm_id: str = "") -> Iterator[str]:
        """Links, those that there are."""
        if report := self.plant.notifications.link(self.plant.name, asset, alarm_id):
            yield f"report: {report}"
        if self.run_url:
            yield f"flow run: {self.run_url}"


@dataclass(frozen=True)
class RunFacts:
    """What a message says of a flow run."""

    flow: str
    run_id: str
    name: str
    why: str = ""


_OF_KIND: dict[Kind, tuple[str, str]] = {
    "raised": ("alarm", "alarms"),
    "lasts": ("alarm lasts", "alarms last"),
    "over": ("alarm is over", "alarms are over"),
}


def alarm_message(links: Links, kind: Kind, alarms: Sequence[AlarmFacts]) -> Message:
    """A message about one alarm, or about a flood of them."""
    one, many = _OF_KIND[kind]
    name = links.plant.name
    if len(alarms) == 1:
        (alarm,) = alarms
        subject = f"{name}: {one}, {alarm.asset}: {', '.join(alarm.sensors) or 'no sensor named'}"
        lines = [*_facts(links, alarm), *links.lines(alarm.asset, alarm.alarm_id)]
    else:
        assets = list(dict.fromkeys(alarm.asset for alarm in alarms))
        subject = f"{name}: {len(alarms):,} {many} on {len(assets):,} assets"
        lines = [*_flood(links, alarms, assets), *links.lines()]
    told = tuple(alarm.told for alarm in alarms)
    content = [part for t in told for part in (t.alarm_id, t.n_announced)]
    return _message(message_id(name, kind, *content), kind, subject, lines, alarms=told)


def begin_message(links: Links, block: str, latest: Sequence[AlarmFacts]) -> Message:
    """The first message of a block: the alarms that are active, out of the latest of each asset."""
    active = [alarm for alarm in latest if not alarm.is_over]
    name = links.plant.name
    n = f"{len(active):,} alarm{' is' if len(active) == 1 else 's are'} active"
    lines = [
        f"From now on the alarms of {name} are told here; {n if active else 'none is active'}."
    ]
    lines += [_line(links, alarm) for alarm in active[:MOST_NAMED]]
    lines += _rest(len(active) - MOST_NAMED)
    subject = f"{name}: notifications are on, {n if active else 'no alarm is active'}"
    told = tuple(alarm.told for alarm in latest)
    return _message(
        message_id(name, "begin", block), "begin", subject, [*lines, *links.lines()], alarms=told
    )


def run_message(
    links: Links, kind: Kind, run: RunFacts, since: datetime | None, *, is_kept: bool = True
) -> Message:
    """A message about runs of a flow that fail, or work again; `since` is the first failure.

    One that is not kept in the lake says that nobody will know of it.
    """
    name, flow = links.plant.name, run.flow
    if kind == "works":
        subject, lines = f"{name}: {flow} works again", [f"'{run.name}' was completed."]
    else:
        subject = f"{name}: {flow} {'still fails' if kind == 'still_failing' else 'failed'}"
        lines = [f"'{run.name}' failed: {run.why[:WHY_LENGTH]}"]
        lines.append(
            "Further failures are told once a day, until a run is completed."
            if is_kept
            else "The lake could not take this message down: each further failure is told too, "
            "and not when a run is completed."
        )
    if since is not None:
        lines.append(f"failing since {links.minute(since)}")
    if links.run_url:
        lines.append(f"flow run: {links.run_url}")
    return _message(message_id(name, kind, run.run_id), kind, subject, lines, flow=flow)


def _facts(links: Links, alarm: AlarmFacts) -> list[str]:
    """One alarm, line by line."""
    until = f"over; last row {links.minute(alarm.end)}" if alarm.is_over else "active"
    again = f" (told {alarm.n_announced} times)" if alarm.n_announced > 1 else ""
    answer = f"vae-anomaly label {shlex.quote(links.plant_file)} {alarm.alarm_id} --as"
    return [
        f"{alarm.asset}: {', '.join(alarm.sensors) or 'no sensor named'}",
        f"since {links.minute(alarm.start)}; {until}{again}",
        f"peak score {alarm.peak_score:.4g} at {links.minute(alarm.peak_time)}",
        f"alarm {alarm.alarm_id}, by model version {alarm.model_version}",
        f"answer it: {answer} fault|false-alarm|maintenance|unknown",
    ]


def _flood(links: Links, alarms: Sequence[AlarmFacts], assets: Sequence[str]) -> list[str]:
    """Many alarms: which assets, the first and the worst."""
    more = f" and {len(assets) - MOST_NAMED:,} more" if len(assets) > MOST_NAMED else ""
    active = sum(not alarm.is_over for alarm in alarms)
    return [
        f"assets: {', '.join(assets[:MOST_NAMED])}{more}; {active:,} of the alarms are active",
        f"first: {_line(links, min(alarms, key=lambda a: a.start))}",
        f"worst: {_line(links, max(alarms, key=lambda a: a.peak_score))}",
        f"all of them: vae-anomaly alarms {shlex.quote(links.plant_file)}",
    ]


def _line(links: Links, alarm: AlarmFacts) -> str:
    return (
        f"{alarm.asset}: {', '.join(alarm.sensors) or 'no sensor named'}, since "
        f"{links.minute(alarm.start)}, peak {alarm.peak_score:.4g}, alarm {alarm.alarm_id}"
    )


def _rest(n: int) -> list[str]:
    return [f"… and {n:,} more"] if n > 0 else []


def _message(
    name: str,
    kind: Kind,
    subject: str,
    lines: Sequence[str],
    *,
    alarms: tuple[Told, ...] = (),
    flow: str = "",
) -> Message:
    """The id is the last line: whoever gets a message twice can see that it is one."""
    return Message(name, kind, subject, "\n".join([*lines, f"message {name}"]), alarms, flow)
