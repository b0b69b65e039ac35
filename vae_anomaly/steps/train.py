"""Readings → parts → a trained, not yet calibrated package; one MLflow run, resumed if killed."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from pydantic import BaseModel, JsonValue, TypeAdapter

from vae_anomaly.config import PlantConfig, settings_digest
from vae_anomaly.data.exclusions import Excluded, read_exclusions, without
from vae_anomaly.data.lake import (
    PARTS,
    READINGS,
    Lake,
    as_timestamp,
    commit,
    rows,
    transaction_number,
    until_committed,
)
from vae_anomaly.data.parts import Interval, asset_times, split
from vae_anomaly.errors import RegistryError, VAEAnomalyError
from vae_anomaly.models.training import Check, History
from vae_anomaly.package import ModelPackage, Provenance
from vae_anomaly.scoring.scorer import left_context
from vae_anomaly.steps.feedback import read_feedback, with_feedback
from vae_anomaly.steps.limits import checked_settings
from vae_anomaly.steps.survey import Survey, survey
from vae_anomaly.steps.survey_page import write_survey
from vae_anomaly.steps.units import CHECKPOINT, FittedUnits, fit_units, judged_together
from vae_anomaly.streaming import EVERY_ASSET
from vae_anomaly.tracking import Tracking, open_tracking

__all__ = [
    "TrainReport",
    "Trained",
    "latest_trained",
    "read_current",
    "read_histories",
    "read_trained",
    "train",
]

logger = logging.getLogger(__name__)

#: Libraries whose versions a package and its run name.
LIBRARIES = (
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "mlflow",
    "prefect",
    "deltalake",
)


class Trained(BaseModel):
    """What training leaves beside its weights, for the steps after it."""

    plant: str
    fingerprint: str
    settings_digest: str
    run_id: str
    readings_version: int
    intervals: tuple[Interval, ...]
    excluded: dict[str, int] = {}  # rows of each part that plant.yml takes out of it
    told: dict[str, int] = {}  # … that alarms without an answer, or what people said, take out

    @property
    def short(self) -> str:
        return self.fingerprint[:16]


#: Files that training leaves beside its package.
TRAINED, HISTORIES = "trained.json", "history.json"

_HISTORIES = TypeAdapter(dict[str, History])

#: A curve is sent to MLflow this often while it grows, and whole when it is done.
LOG_EVERY_S = 10.0


@dataclass(frozen=True)
class TrainReport:
    """Result of `train`.

    Attributes
    ----------
    folder : Path
        Holds ``trained.json`` and the package ``draft``.
    trained : Trained
    registered : str or None
        Version that the registry has already of this very fingerprint; then nothing was trained.
    resumed : bool
        The run had been begun before, and was gone on with.
    n_checks : int
        Looks at the held-out bound that this call made; 0 when there was nothing left to train.
    notes : tuple of str
        What an operator should know of the scorers.
    survey : Survey or None
        What the readings that it was trained on are like; none where nothing was left to train.
    """

    folder: Path
    trained: Trained
    registered: str | None = None
    resumed: bool = False
    n_checks: int = 0
    notes: tuple[str, ...] = ()
    survey: Survey | None = None


def train(
    plant: PlantConfig, *, on_check: Callable[[str, Check], None] = lambda unit, check: None
) -> TrainReport:
    """Train on the readings as they stand, unless that was done before.

    Parameters
    ----------
    plant : PlantConfig
    on_check : callable, optional
        Called with the unit (an asset, or ``"*"``) at each look at the held-out bound.

    Returns
    -------
    TrainReport

    Raises
    ------
    ConfigError
        A setting of the model is not known; neither is the rule of the threshold, or it is not
        asked for what is set.
    PartsError
        A part holds too few rows.
    CalibrationError
        The part `calibrate` cannot support the threshold that is asked for.
    TrainingError
        The loss became infinite.
    """
    checked_settings(plant)
    lake = Lake(plant.lake, plant.contract)
    readings = lake.open(READINGS)
    cut = _cut_parts(plant, lake, readings)
    fingerprint = fingerprint_of(plant, readings, cut.content)
    folder = _folder(plant, fingerprint)
    tracking = open_tracking(plant)
    known = tracking.find_version(fingerprint)
    resumed = (folder / TRAINED).is_file()
    trained = _begin(plant, lake, readings, fingerprint, cut)
    if known is not None:
        trained = _with_run(folder, trained, known.run_id)
        return TrainReport(folder, trained, registered=known.version)
    run_id = _open_run(plant, lake, trained, tracking)
    trained = _with_run(folder, trained, run_id)
    found = survey(plant, version=trained.readings_version)
    tracking.log_folder(run_id, write_survey(found, folder / "data"), "data")
    log = _CurveLog(tracking, run_id, on_check)
    if (folder / "draft" / "package.json").is_file():
        for unit, history in read_histories(folder).items():
            log.fitted(unit, history)
    else:
        _train_draft(plant, lake, trained, folder, log)
    notes = ModelPackage.read(folder / "draft").provenance.notes
    return TrainReport(folder, trained, None, resumed, log.n_checks, notes, found)


def latest_trained(plant: PlantConfig) -> Path:
    """Folder of the latest training with these settings, for `calibrate` and `register` alone.

    Raises
    ------
    RegistryError
        Nothing has been trained with these settings yet, or not to its end.
    """
    digest = settings_digest(plant_settings(plant))
    found = sorted(
        (plant.work_path / "models").glob(f"*/{TRAINED}"), key=lambda p: p.stat().st_mtime
    )
    for file in reversed(found):
        if read_trained(file.parent).settings_digest == digest:
            return file.parent
    raise RegistryError(
        f"nothing has been trained for plant '{plant.name}' with the present settings; "
        "run `vae-anomaly train` first"
    )


def read_current(plant: PlantConfig, folder: Path) -> Trained:
    """What training noted in a folder, if it was with the present settings.

    Raises
    ------
    RegistryError
        plant.yml has changed since.
    """
    trained = read_trained(folder)
    if trained.settings_digest != settings_digest(plant_settings(plant)):
        raise RegistryError(
            f"plant '{plant.name}' has other settings now than when {folder.name} was trained; "
            "run `vae-anomaly train` again"
        )
    return trained


def fingerprint_of(plant: PlantConfig, readings: DeltaTable, told: Sequence[JsonValue] = ()) -> str:
    """Hash of everything that decides the weights and the threshold: data, settings, seed.

    The data are known by their content: how many rows of which files the readings hold, and what
    was `told` of them, if anything was.
    """
    counts: Counter[str] = Counter()
    for batch in rows(readings, columns=["content_id"]):
        for entry in batch["content_id"].value_counts().to_pylist():
            counts[entry["values"]] += entry["counts"]
    data: JsonValue = dict(counts)
    return settings_digest(plant_settings(plant), data, *([list(told)] if told else []))


def plant_settings(plant: PlantConfig) -> dict[str, JsonValue]:
    """The settings that decide the weights and the threshold."""
    names = ("name", "contract", "parts", "window", "smoothing", "model", "training",
             "calibration", "seed")  # fmt: skip
    settings: dict[str, JsonValue] = plant.model_dump(mode="json", include=set(names))
    settings["alarm_rule"] = plant.alarms.model_dump(mode="json")["rule"]
    if excluded := _excluded(plant):  # by content: a table that changes makes another training
        settings["exclusions"] = [[e.start, e.end, [*e.assets], e.reason] for e in excluded]
    return settings


def _excluded(plant: PlantConfig) -> tuple[Excluded, ...]:
    """Rows that belong to no part: what the plant excludes, and its maintenance."""
    return read_exclusions([*plant.exclusions, *plant.alarms.maintenance], plant.contract.time.zone)


# ---------------------------------------------------------------------------------------- the run


@dataclass(frozen=True)
class _Parts:
    """The parts as they are cut; rows of each that exclusions and feedback take out of it."""

    intervals: tuple[Interval, ...]
    excluded: dict[str, int]
    told: dict[str, int]
    content: tuple[JsonValue, ...]


def _cut_parts(plant: PlantConfig, lake: Lake, readings: DeltaTable) -> _Parts:
    """Cut the parts, without what is excluded and what nobody has answered yet."""
    window = judged_together(plant)
    times = asset_times(readings)
    intervals = split(
        times,
        plant.parts.ranges(),
        gap=window,
        left_context=left_context(window, plant.smoothing),
        look_back_s=plant.contract.start_up_s,
    )
    intervals, lost = without(intervals, _excluded(plant), times)
    feedback = read_feedback(lake, numbered=plant.contract.label is not None)
    cut = with_feedback(intervals, feedback, times)
    return _Parts(cut.intervals, lost, cut.lost, cut.content)


def _begin(
    plant: PlantConfig, lake: Lake, readings: DeltaTable, fingerprint: str, parts: _Parts
) -> Trained:
    """Store the parts; the same again after a kill."""
    if (file := _folder(plant, fingerprint) / TRAINED).is_file():
        return read_trained(file.parent)
    version = readings.version()
    until_committed(lambda: _store_parts(lake, fingerprint, version, parts.intervals))
    return Trained(
        plant=plant.name,
        fingerprint=fingerprint,
        settings_digest=settings_digest(plant_settings(plant)),
        run_id="",
        readings_version=version,
        intervals=parts.intervals,
        excluded=parts.excluded,
        told=parts.told,
    )


def _folder(plant: PlantConfig, fingerprint: str) -> Path:
    """Where a training leaves what it makes."""
    return plant.work_path / "models" / fingerprint[:16]


def _open_run(plant: PlantConfig, lake: Lake, trained: Trained, tracking: Tracking) -> str:
    """Start the MLflow run, or go on with the one that was begun; nothing is logged twice."""
    run_id = tracking.start_run(
        trained.fingerprint,
        name=f"{plant.name} {plant.method} {trained.fingerprint[:8]}",
        tags={"vae_anomaly.plant": plant.name},
    )
    facts: dict[str, JsonValue] = {
        "libraries": dict(_libraries()),
        "rows": dict(_rows_per_part(trained.intervals)),
        "readings_version": trained.readings_version,
        "fingerprint": trained.fingerprint,
    }
    tracking.log_settings(run_id, plant_settings(plant) | facts)
    tracking.log_dataset(
        run_id,
        name=f"{plant.name} readings",
        digest=f"v{trained.readings_version}-{trained.fingerprint[:8]}",
        source=f"{lake.root}/{READINGS}",
        schema={field.name: str(field.type) for field in lake.schema(READINGS)},
        profile=_rows_per_part(trained.intervals),
    )
    return run_id


def _with_run(folder: Path, trained: Trained, run_id: str) -> Trained:
    """Note the run that a training belongs to, all or nothing."""
    if trained.run_id != run_id:
        trained = trained.model_copy(update={"run_id": run_id})
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{TRAINED}-{os.getpid()}"
        draft.write_text(trained.model_dump_json(indent=1), encoding="utf-8")
        os.replace(draft, folder / TRAINED)
    return trained


def _train_draft(
    plant: PlantConfig, lake: Lake, trained: Trained, folder: Path, log: _CurveLog
) -> None:
    """Train every scorer, and write the package that is to be calibrated."""
    try:
        fitted = fit_units(
            plant,
            lake.open(READINGS, version=trained.readings_version),
            trained.intervals,
            left_out={"exclusions": trained.excluded, "alarms and what was said": trained.told},
            checkpoints=folder,
            on_check=log.check,
            on_fitted=log.fitted,
        )
    except VAEAnomalyError as error:
        log.tracking.fail_run(log.run_id, str(error))
        raise
    (folder / HISTORIES).write_bytes(_HISTORIES.dump_json(fitted.histories, indent=1))
    _package(plant, trained, fitted).write(folder / "draft")
    for left in folder.glob(f"{CHECKPOINT}*"):
        left.unlink()


def read_trained(folder: Path) -> Trained:
    """What training noted in a folder beside its weights."""
    return Trained.model_validate_json((folder / TRAINED).read_text(encoding="utf-8"))


def read_histories(folder: Path) -> dict[str, History]:
    """How the training of each scorer went."""
    return _HISTORIES.validate_json((folder / HISTORIES).read_bytes())


def _store_parts(lake: Lake, fingerprint: str, version: int, intervals: Sequence[Interval]) -> bool:
    table = lake.writable(PARTS)
    if transaction_number(table, fingerprint) is not None:
        return True
    entries = [
        {
            "fingerprint": fingerprint,
            "readings_version": version,
            "part": i.part,
            "asset": i.asset,
            "start": as_timestamp(i.start).as_py(),
            "end": as_timestamp(i.end).as_py(),
            "n_rows": i.n_rows,
        }
        for i in intervals
    ]
    return commit(table, pa.Table.from_pylist(entries, schema=lake.schema(PARTS)), {fingerprint: 1})


def _rows_per_part(intervals: Sequence[Interval]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for interval in intervals:
        counts[interval.part] = counts.get(interval.part, 0) + interval.n_rows
    return counts


class _CurveLog:
    """Passes checks on to the caller at once, and to MLflow every few seconds."""

    def __init__(
        self, tracking: Tracking, run_id: str, on_check: Callable[[str, Check], None]
    ) -> None:
        self.tracking, self.run_id, self.on_check = tracking, run_id, on_check
        self.n_checks = 0
        self.waiting: list[tuple[str, Check]] = []  # each with its unit: stages follow one another
        self.logged_at = time.monotonic()

    def check(self, unit: str, check: Check) -> None:
        """Pass one check on."""
        self.n_checks += 1
        self.on_check(unit, check)
        self.waiting.append((unit, check))
        if time.monotonic() - self.logged_at > LOG_EVERY_S:
            self._log(self.waiting)

    def fitted(self, unit: str, history: History) -> None:
        """Log the whole curve; what a killed attempt has logged is not logged again."""
        self._log([(unit, check) for check in (*history.others, *history.checks)])

    def _log(self, checks: Sequence[tuple[str, Check]]) -> None:
        points = []
        for unit, check in checks:  # an attempt of the doctor's has curves of its own
            of_unit = "" if unit == EVERY_ASSET else f"{unit}/"
            prefix = of_unit if check.attempt == 1 else f"{of_unit}attempt_{check.attempt}/"
            figures = {
                "epoch": check.epoch,
                "train_bound": check.bound,
                "held_out_bound": check.held_out_bound,
                "learning_rate": check.learning_rate,
                **check.figures,
            }
            points.append((check.step, {f"{prefix}{k}": value for k, value in figures.items()}))
        self.tracking.log_curves(self.run_id, points)
        self.waiting = []
        self.logged_at = time.monotonic()


def _package(plant: PlantConfig, trained: Trained, fitted: FittedUnits) -> ModelPackage:
    for note in fitted.notes:
        logger.warning(note)
    provenance = Provenance(
        plant=plant.name,
        fingerprint=trained.fingerprint,
        readings_version=trained.readings_version,
        seed=plant.seed,
        settings=plant_settings(plant),
        libraries=_libraries(),
        rows=_rows_per_part(trained.intervals),
        notes=fitted.notes,
    )
    return ModelPackage(plant.contract, fitted.units, provenance)


def _libraries() -> dict[str, str]:
    """Versions of what scores depend on."""
    versions = {name: installed(name) for name in LIBRARIES}
    return versions | {"python": platform.python_version()}
