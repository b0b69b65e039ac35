"""What people do in the month: they answer alarms by what they find at the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vae_anomaly.config import read_plant
from vae_anomaly.data.lake import Lake
from vae_anomaly.data.simulate import Simulation, truth
from vae_anomaly.steps.label import label_alarms
from vae_anomaly.steps.said import Alarm, raised_alarms, read_said

#: Columns of the truth that say from when to when.
SPAN = ("start", "end")

#: Hours behind a fault in which the plant remembers it.
MEMORY_US = 6 * 3_600_000_000


class Known(NamedTuple):
    """A fault as the simulator knows it; times in microseconds since 1970."""

    kind: str
    asset: str
    start: int
    end: int

    def holds(self, alarm: Alarm) -> bool:
        """Whether an alarm lies in it, for whoever is asked what it was."""
        near = alarm.start < self.end + MEMORY_US and alarm.end >= self.start
        return alarm.asset == self.asset and near

    def raises(self, alarm: Alarm) -> bool:
        """Whether an alarm begins in it: one that was on before tells nobody of it."""
        return self.holds(alarm) and alarm.start >= self.start


def known_faults(simulation: Simulation) -> list[Known]:
    """Faults, of the process and of sensors; a change of regime is none."""
    return [
        Known(
            row["kind"], row["asset"], *(round(row[n].timestamp() * 1e6) for n in ("start", "end"))
        )
        for row in truth(simulation).to_pylist()
        if row["label"] > 0
    ]


def answer_alarms(path: Path, faults: Sequence[Known]) -> int:
    """Say of each alarm that nobody has answered what it was; returns how many there were."""
    plant = read_plant(path)
    lake = Lake(plant.lake, plant.contract)
    answered = {entry.alarm_id for entry in read_said(lake)}
    fresh = [alarm for name, alarm in raised_alarms(lake).items() if name not in answered]
    for alarm in fresh:
        own = [fault for fault in faults if fault.holds(alarm)]
        if own:
            label_alarms(plant, [alarm.alarm_id], "fault", fault=own[0].kind, who="operator")
        else:
            label_alarms(plant, [alarm.alarm_id], "false-alarm", who="operator")
    return len(fresh)
