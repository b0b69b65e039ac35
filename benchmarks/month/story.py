"""What befalls the simulated plant, and when: days are counted from the end of its history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import yaml

from month.receiver import BLOCK
from vae_anomaly.data.simulate import Fault, Simulation, plant_yaml, regime_change

#: Rows of a day: one each ten minutes.
DAY = 144

#: Days that are well before the month, to learn from; and those of the month.
HISTORY, DAYS = 21, 30

#: A load that the plant has not run at, from this day on and for ever.
REGIME_DAY, REGIME_SIZE = 8.0, 10.0

#: Days on which people act: they try to retrain while an alarm is open, register a model that is
#: worse, retrain on the new load, let the challenger judge, roll back, and promote once more.
FREEZE_DAY, BAD_DAY, RETRAIN_DAY, PROMOTE_DAY = 3.5, 11.0, 18.0, 19.0
ROLLBACK_DAY, AGAIN_DAY = 25.0, 26.0
ACT_DAYS = (FREEZE_DAY, BAD_DAY, RETRAIN_DAY, PROMOTE_DAY, ROLLBACK_DAY, AGAIN_DAY)

#: The sensor that breaks in the third week, and when.
BROKEN, BROKEN_ASSET, BROKEN_DAY, BROKEN_DAYS = "vibration", "pump-03", 20.0, 2.0

#: What people put up with.
BUDGET = "2 alarms per asset per week"

#: Process faults: kind, asset, day, days that it lasts, size in noise units.
FAULTS = (
    ("leak", "pump-01", 3.3, 0.4, 20.0),
    ("wear", "pump-02", 5.2, 0.7, 60.0),
    ("leak", "pump-02", 23.1, 0.5, 20.0),
    ("wear", "pump-01", 27.2, 0.7, 60.0),
)


@dataclass(frozen=True)
class Story:
    """A month in so many steps.

    Attributes
    ----------
    steps : int
        Of equal length; 720 are hours.
    seed : int
        Of the plant's noise, and of what is killed when.
    """

    steps: int
    seed: int = 0

    @property
    def simulation(self) -> Simulation:
        """The plant with all that befalls it."""
        plant = Simulation(
            n_assets=3, n_rows=(HISTORY + DAYS) * DAY, period_s=86_400 / DAY, seed=self.seed
        )
        faults = [
            Fault(
                kind=kind, asset=asset, start=moment(plant, day),
                end=moment(plant, day + lasts), size=size,
            )
            for kind, asset, day, lasts, size in FAULTS
        ]  # fmt: skip
        faults.append(
            Fault(
                kind="broken_sensor", asset=BROKEN_ASSET, start=moment(plant, BROKEN_DAY),
                end=moment(plant, BROKEN_DAY + BROKEN_DAYS), sensors=(BROKEN,), size=20.0,
            )
        )  # fmt: skip
        plant = replace(plant, faults=tuple(faults))
        start = moment(plant, REGIME_DAY)
        return regime_change(plant, start, size=REGIME_SIZE, kind="regime_change")

    def rows(self, step: int) -> tuple[int, int]:
        """First row of a step, and how many rows of each asset it has."""
        first, behind = (round(s * DAYS * DAY / self.steps) for s in (step, step + 1))
        return HISTORY * DAY + first, behind - first

    def day(self, step: int) -> float:
        """Days of the month that are over at the end of a step."""
        return (step + 1) * DAYS / self.steps

    @property
    def is_short(self) -> bool:
        """Whether it is over in minutes, so that some things have to go faster than in a plant."""
        return self.steps < 10 * DAYS

    @property
    def monitor_days(self) -> int:
        """Days from one look for drift to the next; one takes as long as a step or two."""
        return 2 if self.is_short else 1

    def passes(self, step: int, day: float) -> bool:
        """Whether it is the first step at whose end a day has begun."""
        return self.day(step) >= day > self.day(step - 1)

    def acts(self, step: int) -> bool:
        """Whether people act at the end of a step, by what has been scored until then."""
        return any(self.passes(step, day) for day in ACT_DAYS)


def moment(plant: Simulation, day: float) -> datetime:
    """When a day of the month begins."""
    return plant.time(round((HISTORY + day) * DAY))


def write_plant(folder: Path, simulation: Simulation, *, name: str = "pumps") -> Path:
    """The plant file: without the labels that only the simulator knows, and a budget of alarms."""
    content = yaml.safe_load(plant_yaml(simulation, name=name, source=str(folder / "incoming")))
    del content["contract"]["label"]
    content["source"]["settle_s"] = 0
    content["lake"] = str(folder / "lake")
    content["notifications"] = {"blocks": [BLOCK]}
    content["calibration"] = {"budget": BUDGET}
    content["parts"] = {"train": 0.5, "stop": 0.1, "calibrate": 0.39, "test": 0.01}
    path = folder / "plant.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def learn_new_regime(path: Path, simulation: Simulation) -> None:
    """Edit the plant file as an engineer does: learn from what has run since the change."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    edges = (REGIME_DAY, 13.0, 14.0, 16.5, RETRAIN_DAY)
    parts = ("train", "stop", "calibrate", "test")
    content["parts"] = {
        "listed": [
            {
                "part": part,
                "start": moment(simulation, low).isoformat(),
                "end": moment(simulation, high).isoformat(),
            }
            for part, low, high in zip(parts, edges[:-1], edges[1:], strict=True)
        ]
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def write_bad_plant(path: Path) -> Path:
    """A plant file whose model calls a third of all rows anomalies, each an alarm."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["notifications"] = {"blocks": [BLOCK]}
    content["calibration"] = {"false_alarm_rate": 0.3}
    content["parts"] = {"train": 0.4, "stop": 0.1, "calibrate": 0.2, "test": 0.3}
    content["alarms"] = {"rule": {"raise_after": 1}}
    bad = path.with_name("bad.yml")
    bad.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return bad
