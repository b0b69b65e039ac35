"""The smallest change of readings that would have made the peak of an alarm normal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig, Sensor
from vae_anomaly.data.lake import ALARMS, READINGS, Lake, as_timestamp, rows
from vae_anomaly.data.schemas import completed
from vae_anomaly.data.windows import sorted_readings
from vae_anomaly.scoring.counterfactual import Counterfactual
from vae_anomaly.steps.chosen import chosen
from vae_anomaly.steps.label import alarm_named
from vae_anomaly.steps.said import raised_alarms
from vae_anomaly.streaming import explain
from vae_anomaly.table import Table

__all__ = ["Explained", "explain_alarm", "explain_table"]

#: Seconds before the peak that are looked at first; they grow until there are rows enough.
FIRST_LOOK_S, GROWTH = 3600.0, 8


@dataclass(frozen=True)
class Explained:
    """Why an alarm has its peak.

    Attributes
    ----------
    alarm_id, asset, model_version : str
    peak : datetime
    sensors, units : tuple of str
        Of the changed sensors, that first whose change helps most.
    read, normal : tuple of str
        What each read at the peak, and would have to read.
    change : Counterfactual
    """

    alarm_id: str
    asset: str
    model_version: str
    peak: datetime
    sensors: tuple[str, ...]
    units: tuple[str, ...]
    read: tuple[str, ...]
    normal: tuple[str, ...]
    change: Counterfactual


def explain_alarm(plant: PlantConfig, alarm_id: str) -> Explained:
    """Find the smallest change of few sensors that makes the peak of an alarm normal.

    By the version that judged the peak, whichever scores now.

    Parameters
    ----------
    plant : PlantConfig
    alarm_id : str
        Or a beginning that only one alarm has.

    Raises
    ------
    InputError
        No alarm has this id, or more than one begins so.
    RegistryError
        The version that judged it is gone.
    """
    lake = Lake(plant.lake, plant.contract)
    name = alarm_named(raised_alarms(lake), alarm_id).alarm_id
    (alarm,) = (
        row
        for batch in rows(lake.open(ALARMS))
        for row in batch.to_pylist()
        if row["alarm_id"] == name
    )
    package = chosen(plant, alarm["peak_version"]).package
    peak = alarm["peak_time"].replace(tzinfo=UTC)
    table = _up_to(lake.open(READINGS), alarm["asset"], peak, package.left_context + 1)
    change = explain(completed(table, package.contract), package.judges(), package.contract)
    sensors = [package.contract.sensors[number] for number in change.changed]
    last = table.slice(table.num_rows - 1)
    normal = change.values[-1, list(change.changed)]
    return Explained(
        name,
        alarm["asset"],
        alarm["peak_version"],
        peak,
        tuple(sensor.name for sensor in sensors),
        tuple(sensor.unit or "" for sensor in sensors),
        tuple(_text(sensor, last[sensor.name][0].as_py()) for sensor in sensors),
        tuple(_text(s, value) for s, value in zip(sensors, normal.tolist(), strict=True)),
        change,
    )


def _up_to(readings: DeltaTable, asset: str, peak: datetime, n_rows: int) -> pa.Table:
    """The last rows of an asset up to a moment, sorted by time."""
    end, look_s = round(peak.timestamp() * 1e6), FIRST_LOOK_S
    while True:
        begin = end - int(look_s * 1e6)
        own = (pc.field("asset") == asset) & (pc.field("time") <= as_timestamp(end))
        if begin > 0:
            own &= pc.field("time") >= as_timestamp(begin)
        found = list(rows(readings, where=own))
        if begin <= 0 or sum(batch.num_rows for batch in found) >= n_rows:
            table = sorted_readings(pa.Table.from_batches(found))
            return table.slice(max(0, table.num_rows - n_rows))
        look_s *= GROWTH


def _text(sensor: Sensor, value: float | str | None) -> str:
    """A reading as a person writes it; of a categorical sensor the level."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return value
    return sensor.levels[round(value)] if sensor.kind == "categorical" else f"{value:.4g}"


def explain_table(found: Explained) -> Table:
    """What the sensors read at the peak, and what would have been normal."""
    lines = tuple(zip(found.sensors, found.read, found.normal, found.units, strict=True))
    change = found.change
    summary = (
        f"{found.alarm_id} of {found.asset} has its peak at {found.peak:%Y-%m-%d %H:%M:%S} UTC: "
        f"score {change.before:.4g}, and {change.after:.4g} if these sensors had read so."
    )
    notes = () if change.reached else ("no change of few sensors makes this row normal",)
    return Table("Explain", summary, ("sensor", "read", "normal would be", "unit"), lines, notes)
