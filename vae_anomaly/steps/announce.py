"""Alarms that nobody was told of → messages, each told once through every block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import pyarrow as pa

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import ALARMS, Lake, rows
from vae_anomaly.decisions.alarms import ACTIVE
from vae_anomaly.steps.announcement_texts import AlarmFacts, Links, alarm_message, begin_message
from vae_anomaly.steps.outbox import (
    Delivered,
    Delivery,
    Kind,
    Message,
    Send,
    deliver,
    plan,
)

__all__ = ["announce_alarms", "due_alarms"]

#: Columns of `alarms` that a message is made from.
COLUMNS = ("alarm_id", "asset", "raised", "start", "end", "state", "n_announced", "peak_score",
           "peak_time", "top_sensors", "top_directions", "model_version")  # fmt: skip


def announce_alarms(plant: PlantConfig, *, plant_file: str, run_url: str, send: Send) -> Delivered:
    """Tell people of the alarms that they were not told of, through the plant's blocks.

    A block that is new is told which alarms are active, in one message; those of before are no news
    to it. Each later alarm is told when it is raised, again when it lasts
    (``alarms.rule.re_alarm_s``) and, with ``notifications.cleared``, when it is over.

    Parameters
    ----------
    plant : PlantConfig
    plant_file : str
        Its path, for the command that answers an alarm.
    run_url : str
        Page of the flow run; "" for none.
    send : callable
        Sends a message through a block, or raises.

    Returns
    -------
    Delivered
        What was sent, and what is still due.
    """
    blocks = plant.notifications.blocks
    lake = Lake(plant.lake, plant.contract)
    if not blocks or lake.found(ALARMS) is None:
        return Delivered()
    alarms, links = _alarms(lake), Links(plant, plant_file, run_url)

    def choose(block: str, before: Sequence[Delivery]) -> list[Message]:
        if not any(delivery.message.kind == "begin" for delivery in before):
            return [begin_message(links, block, _latest(alarms))]
        return list(_messages(links, due_alarms(alarms, before, over=plant.notifications.cleared)))

    plan(lake, blocks, choose)
    return deliver(lake, blocks, send)


@dataclass(frozen=True)
class Due:
    """An alarm that people are to be told of, and what of it."""

    kind: Kind
    alarm: AlarmFacts


def due_alarms(
    alarms: Sequence[AlarmFacts], before: Sequence[Delivery], *, over: bool
) -> list[Due]:
    """Alarms of which a block was not told as they stand.

    Parameters
    ----------
    alarms : sequence of AlarmFacts
        All of them, in the order in which they were raised.
    before : sequence of Delivery
        All that was ever due for the block, in its order.
    over : bool
        Whether it is told that an alarm is over.
    """
    told = {t.alarm_id: t for delivery in before for t in delivery.message.alarms}
    begun = {t.alarm_id for d in before if d.message.kind == "begin" for t in d.message.alarms}
    # an asset's alarms are raised one after another: those up to its latest then are no news
    known: dict[str, datetime] = {a.asset: a.raised for a in alarms if a.alarm_id in begun}
    found = []
    for alarm in alarms:
        last = told.get(alarm.alarm_id)
        if last is None:
            if alarm.asset not in known or alarm.raised > known[alarm.asset]:
                found.append(Due("raised", alarm))
        elif alarm.n_announced > last.n_announced and not alarm.is_over:
            found.append(Due("lasts", alarm))
        elif over and alarm.is_over and not last.is_over:
            found.append(Due("over", alarm))
    return found


def _messages(links: Links, due: Sequence[Due]) -> Iterator[Message]:
    """A message an alarm; a flood of them is one."""
    flood = links.plant.notifications.flood
    for kind, group in groupby(sorted(due, key=lambda d: d.kind), key=lambda d: d.kind):
        alarms = [entry.alarm for entry in group]
        size = len(alarms) if len(alarms) > flood else 1
        for first in range(0, len(alarms), size):
            yield alarm_message(links, kind, alarms[first : first + size])


def _latest(alarms: Sequence[AlarmFacts]) -> list[AlarmFacts]:
    """The latest alarm of each asset."""
    return list({alarm.asset: alarm for alarm in alarms}.values())


def _alarms(lake: Lake) -> list[AlarmFacts]:
    """All alarms, in the order in which they were raised."""
    batches = [batch.select(list(COLUMNS)) for batch in rows(lake.open(ALARMS))]
    entries = pa.Table.from_batches(batches).to_pylist() if batches else []
    found = [
        AlarmFacts(
            is_over=row.pop("state") != ACTIVE,
            sensors=tuple(
                f"{sensor} {way}"
                for sensor, way in zip(
                    row.pop("top_sensors") or (), row.pop("top_directions") or (), strict=True
                )
            ),
            **row,
        )
        for row in entries
    ]
    return sorted(found, key=lambda alarm: (alarm.raised, alarm.asset))
