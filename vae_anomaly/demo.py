"""The demo's plant: simulated pumps with known faults and known dirt, and what became of them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import ALARMS, VERDICTS, Lake, rows
from vae_anomaly.data.simulate import Simulation, Written, demo, plant_yaml, truth, write_files
from vae_anomaly.errors import ConfigError, LakeError
from vae_anomaly.report import Table, figure_text, places_table, share_text
from vae_anomaly.steps.alarms import IS_CHAMPION
from vae_anomaly.steps.calibrate import CalibrateReport
from vae_anomaly.steps.file_records import IngestReport
from vae_anomaly.steps.register import RegisterReport
from vae_anomaly.steps.score import ScoreReport

__all__ = ["Demo", "more_rows", "prepare", "summary", "where_things_lie"]

#: Says that a folder is a demo's, and may be made anew.
MARKER = ".vae-anomaly-demo"

#: Dirty lines of each kind in the first files.
DIRTY = 8

#: How many false alarms the demo puts up with.
BUDGET = "calibration: {budget: 1 alarm per asset per week}\n"

#: Planted faults are spikes of a few readings, or last for hours.
LASTING = timedelta(hours=1)

#: Days of the second batch.
MORE_DAYS = 3


@dataclass(frozen=True)
class Demo:
    """A demo's plant file, its simulation, and what was written into its source."""

    plant: Path
    simulation: Simulation
    written: Written

    def config(self) -> PlantConfig:
        """The plant file, read."""
        return read_plant(self.plant)


def prepare(folder: Path) -> Demo:
    """Make a demo's folder anew: a plant file, and two weeks of four pumps as CSV files.

    Raises
    ------
    ConfigError
        The folder exists, and is not a demo's.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise ConfigError(f"{folder} is not empty, and no demo made it; give another --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    simulation = demo()
    plant = folder / "plant.yml"
    plant.write_text(plant_yaml(simulation) + BUDGET, encoding="utf-8")
    return Demo(plant, simulation, write_files(simulation, folder / "incoming", dirty=DIRTY))


def more_rows(made: Demo) -> Written:
    """Three more days of files, with one more fault of each kind."""
    day = round(86_400 / made.simulation.period_s)
    n_rows = made.simulation.n_rows
    return write_files(
        made.simulation, made.plant.parent / "incoming", first=n_rows, n_rows=MORE_DAYS * day
    )


def summary(
    made: Demo,
    ingested: tuple[IngestReport, IngestReport],
    calibrated: CalibrateReport,
    registered: RegisterReport,
    scored: tuple[ScoreReport, ScoreReport],
) -> Table:
    """The demo in one short table.

    Raises
    ------
    LakeError
        The counts are not those that were planted.
    """
    counts = ingested[0].counts
    planted = made.written
    landed = (counts.n_accepted, counts.n_quarantined, counts.n_duplicate)
    expected = (planted.n_accepted, planted.n_quarantined, planted.n_duplicates)
    if landed != expected:
        raise LakeError(f"accepted, quarantined, duplicate are {landed}; planted were {expected}")
    lines = [
        ("rows read", f"{counts.n_read:,}"),
        ("  accepted", f"{counts.n_accepted:,}"),
        ("  quarantined", f"{counts.n_quarantined:,}, for {len(ingested[0].reasons)} reasons"),
        ("  duplicate", f"{counts.n_duplicate:,}"),
        ("files quarantined", f"{len(ingested[0].with_status('quarantined')):,}"),
        ("scored in the first run", f"{scored[0].n_rows:,}"),
        ("scored in the second, alone", f"{scored[1].n_rows:,}"),
        *(
            ("threshold", figure_text(found.operating_point.threshold, "{:.4g}"))
            for found in calibrated.calibrations.values()
        ),
        ("alarm rule", calibrated.alarm_rule.in_words()),
        ("rows over the threshold", f"{sum(s.statuses.get('anomaly', 0) for s in scored):,}"),
        ("alarms, all rows", f"{sum(len(s.alarms.raised) for s in scored):,}"),
    ]
    evaluation = registered.evaluation
    if evaluation is not None:
        point = evaluation.model.operating_point
        lines += [
            ("faulty test rows detected", share_text(point.detection_rate, 1)),
            ("false alarm rate on test rows", share_text(point.false_alarm_rate, 2)),
            ("alarms on test rows", evaluation.model.events.in_words()),
            *(
                (f"AUROC on test rows, {figures.method}", figure_text(figures.auroc, "{:.3f}"))
                for figures in (evaluation.model, *evaluation.baselines)
                if figures.auroc is not None
            ),
        ]
    lines += _alarm_lines(made)
    lines.append(("planted sensor named first", f"{_named_share(made):.0%} of detected fault rows"))
    return Table("Demo", "Every count equals what was planted.", ("", ""), tuple(lines))


def _alarm_lines(made: Demo) -> Iterator[tuple[str, str]]:
    """Which planted faults have an alarm that was raised in them, and how many alarms have none."""
    plant = made.config()
    table = Lake(plant.lake, plant.contract).open(ALARMS)
    batches = rows(table, columns=["asset", "raised"])
    alarms = [(row["asset"], row["raised"]) for batch in batches for row in batch.to_pylist()]
    found: dict[bool, list[bool]] = {True: [], False: []}
    right: set[int] = set()
    for fault in truth(made.simulation).to_pylist():
        own = {
            number
            for number, (asset, raised) in enumerate(alarms)
            if asset == fault["asset"] and fault["start"] <= raised <= fault["end"]
        }
        right |= own
        found[fault["end"] - fault["start"] >= LASTING].append(bool(own))
    for name, own_faults in (("lasting faults", found[True]), ("spikes", found[False])):
        yield f"{name} with an alarm", f"{sum(own_faults)} of {len(own_faults)}"
    yield "alarms in no planted fault", f"{len(alarms) - len(right)}"


def where_things_lie(made: Demo) -> Table:
    """Where everything is, and the commands that open the pages."""
    table = places_table(made.config(), made.plant)
    file, folder = os.path.relpath(made.plant), os.path.relpath(made.plant.parent)
    lines = (
        *table.rows,
        ("Prefect page", f"PREFECT_HOME=$PWD/{folder}/prefect prefect server start"),
        ("the next hour", f"vae-anomaly ingest {file} && vae-anomaly score {file}"),
    )
    notes = ("activate the environment first: . .venv/bin/activate",)
    return Table(table.title, "", table.columns, lines, notes * (sys.prefix != sys.base_prefix))


def _named_share(made: Demo) -> float:
    """Share of the detected rows of planted faults whose first sensor is a planted one."""
    plant = made.config()
    table = Lake(plant.lake, plant.contract).open(VERDICTS)
    where = IS_CHAMPION & (pc.field("status") == "anomaly")
    columns = ["asset", "time", "top_sensors"]
    anomalies = pa.Table.from_batches(list(rows(table, columns=columns, where=where)))
    asset = np.asarray(anomalies["asset"].to_pylist())
    moment = anomalies["time"].cast(pa.int64()).to_numpy()
    first = np.asarray(pc.list_element(anomalies["top_sensors"], 0).to_pylist())
    named, detected = 0, 0
    for fault in truth(made.simulation).to_pylist():
        start, end = (int(fault[name].timestamp() * 1e6) for name in ("start", "end"))
        inside = (asset == fault["asset"]) & (moment >= start) & (moment < end)
        detected += int(inside.sum())
        named += int(np.isin(first[inside], fault["sensors"]).sum())
    return named / detected if detected else 0.0
