"""A plant with a lake, a registry and versions to judge it, made without training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import sealed

from vae_anomaly.config import PlantConfig, Source
from vae_anomaly.data.lake import VERDICTS, Lake, rows
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.aliases import set_champion
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.tracking import Tracking, Version, open_tracking

#: Rows of a file of both pumps, one a second in turn.
N = 120


def plant_in(lake: Path, name: str = "pumps") -> PlantConfig:
    """A plant of sealed.py's contract."""
    source = Source(path=str(lake.parent / "incoming"), settle_s=0)
    return PlantConfig(name=name, lake=str(lake), source=source, contract=sealed.CONTRACT)


def plant_with(folder: Path, database: Path, name: str = "pumps") -> PlantConfig:
    """The same with a registry of its own."""
    (folder / "lake" / "mlflow").mkdir(parents=True)
    (folder / "incoming").mkdir()
    shutil.copy(database, folder / "lake" / "mlflow" / "mlflow.db")
    return plant_in(folder / "lake", name)


def with_versions(folder: Path, template: PlantConfig) -> PlantConfig:
    """A plant that begins with another's registry; their artifacts stay where they are."""
    return plant_with(folder, template.work_path / "mlflow" / "mlflow.db")


def version_of(plant: PlantConfig, number: int) -> Version:
    return open_tracking(plant).versions()[number - 1]


def take_in(plant: PlantConfig, *numbers: int) -> None:
    """Ingest files of `N` rows, one a commit; the time of each is behind that of the one before."""
    for number in numbers:
        table = sealed.rows(N, seed=number)
        seconds = [(number * N + i) * 1_000_000 for i in range(N)]
        table = table.set_column(0, "when", pa.array(seconds, pa.timestamp("us")))
        pacsv.write_csv(table, Path(str(plant.source.path)) / f"{number}.csv")
        ingest(plant)


def moment(number: int) -> datetime:
    """Time of the n-th row of all files."""
    return datetime.fromtimestamp(number, UTC)


def registered(
    plant: PlantConfig, letter: str, *, shift: float = 0.0, tracking: Tracking | None = None
) -> Version:
    """A version of the plant's model; its threshold is shifted by so many nats."""
    tracking = tracking or open_tracking(plant)
    fingerprint = letter * 64
    folder = plant.work_path / "models" / letter / "package"
    package = sealed.seal(folder, fingerprint=fingerprint)
    if shift:
        package = shifted(package, shift).write(folder)
    run_id = tracking.start_run(fingerprint, f"{plant.name} {letter}", {})
    tags = {"vae_anomaly.plant": plant.name, "vae_anomaly.readings_version": "1"}
    return tracking.register(
        folder, run_id, fingerprint=fingerprint, tags=tags, description=f"**{letter}**"
    )


def shifted(package: ModelPackage, shift: float) -> ModelPackage:
    """A package that asks for a higher score, or a lower one."""
    unit = package.units["*"]
    assert unit.calibration is not None
    threshold = replace(unit.calibration.threshold, value=unit.calibration.threshold.value + shift)
    calibration = replace(unit.calibration, threshold=threshold)
    return replace(package, units={"*": replace(unit, calibration=calibration)})


def champion_of(plant: PlantConfig, version: Version) -> None:
    set_champion(plant, open_tracking(plant), version, action="promoted", why="test", by="ann")


def judged_by_the_first(folder: Path, template: PlantConfig) -> PlantConfig:
    """A plant with a template's versions, of which the first judges; one file is there."""
    plant = with_versions(folder, template)
    take_in(plant, 0)
    champion_of(plant, version_of(plant, 1))
    return plant


def verdicts_of(plant: PlantConfig) -> list[dict[str, object]]:
    """All verdicts of all lines, by line, asset and time."""
    table = Lake(plant.lake, plant.contract).open(VERDICTS)
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    return sorted(found, key=lambda row: (row["line"], row["asset"], row["time"]))
