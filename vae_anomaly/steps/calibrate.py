"""A trained package → thresholds on the part `calibrate` → the sealed package."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import AlarmRule, PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.data.parts import Interval
from vae_anomaly.decisions.budget import BudgetChoice
from vae_anomaly.errors import CalibrationError, RegistryError
from vae_anomaly.package import Calibration, ModelPackage, Unit
from vae_anomaly.steps.budget import limits_of_budget
from vae_anomaly.steps.judged import Judged, calibration_rows, of_part
from vae_anomaly.steps.limits import Limit, limit_of
from vae_anomaly.steps.support import refuse_missing
from vae_anomaly.steps.train import read_current
from vae_anomaly.streaming import EVERY_ASSET, score_rows

__all__ = ["CalibrateReport", "calibrate"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrateReport:
    """The sealed package, and what its thresholds cost and detect on the calibration rows."""

    folder: Path
    package: Path
    digest: str
    calibrations: Mapping[str, Calibration]
    alarm_rule: AlarmRule = field(default_factory=AlarmRule)
    budget: BudgetChoice | None = None


def calibrate(plant: PlantConfig, folder: Path) -> CalibrateReport:
    """Set each threshold on the reloaded package, the very thing that will serve, and seal it.

    Parameters
    ----------
    plant : PlantConfig
    folder : Path
        What `train` left.

    Returns
    -------
    CalibrateReport

    Raises
    ------
    RegistryError
        The training is not complete, or plant.yml has changed since.
    CalibrationError
        The calibration rows cannot support the threshold; the message says how many would.
    """
    trained = read_current(plant, folder)
    if not (folder / "draft" / "package.json").is_file():
        raise RegistryError(
            f"the training {folder.name} did not come to its end; run `vae-anomaly train` again, "
            "which goes on with it"
        )
    draft = ModelPackage.read(folder / "draft")
    lake = Lake(plant.lake, plant.contract)
    readings = lake.open(READINGS, version=trained.readings_version)
    parts = calibration_rows(readings, trained.intervals, draft)
    trained_on = _trained_on(plant, readings, trained.intervals)
    refuse_missing(draft.units, parts)
    if plant.calibration.budget is None:
        units = {
            name: _calibrated(plant, name, unit, parts[name], trained_on)
            for name, unit in draft.units.items()
        }
        package = replace(draft, units=units, alarm_rule=plant.alarms.rule or AlarmRule())
    else:
        package = _by_budget(plant, draft, parts, trained_on)
    package = package.write(folder / "package")
    found = {name: u.calibration for name, u in package.units.items() if u.calibration is not None}
    return CalibrateReport(
        folder, folder / "package", package.digest, found, package.alarm_rule, package.budget
    )


def _calibrated(
    plant: PlantConfig, name: str, unit: Unit, rows: Judged, trained_on: pa.Table | None
) -> Unit:
    """A scorer with its threshold by the plant's rule."""
    score = score_rows(unit.scorer, rows.matrix).score[rows.judged].astype(np.float64)
    memory = unit.scorer.left_context + 1
    try:
        limit = limit_of(plant, score, rows, memory=memory, known=_of_unit(trained_on, name))
    except CalibrationError as error:
        of = "" if name == EVERY_ASSET else f"asset '{name}': "
        raise CalibrationError(f"{of}{error}") from error
    return _limited(unit, rows, limit)


def _by_budget(
    plant: PlantConfig,
    draft: ModelPackage,
    parts: Mapping[str, Judged],
    trained_on: pa.Table | None,
) -> ModelPackage:
    """Scorers with thresholds, and an alarm rule, that keep the plant's budget."""
    units = draft.units
    found = limits_of_budget(
        plant,
        {name: parts[name] for name in units},
        {
            name: score_rows(unit.scorer, parts[name].matrix).score.astype(np.float64)
            for name, unit in units.items()
        },
        memory=max(unit.scorer.left_context for unit in units.values()) + 1,
        known={name: table for name in units if (table := _of_unit(trained_on, name)) is not None},
    )
    logger.info("%s", found.choice.rule.in_words())
    limited = {name: _limited(unit, parts[name], found.of[name]) for name, unit in units.items()}
    return replace(draft, units=limited, alarm_rule=found.choice.rule, budget=found.choice)


def _limited(unit: Unit, rows: Judged, limit: Limit) -> Unit:
    """A scorer with a threshold, and the scores that p-values refer to."""
    result = limit.calibrated
    reference = np.sort(limit.scores[rows.label <= 0]).astype(np.float32)
    if limit.note:
        logger.info("%s", limit.note)
    return replace(
        unit,
        calibration=Calibration(
            result.threshold, result.operating_point, reference, limit.note, limit.levels
        ),
    )


def _of_unit(trained_on: pa.Table | None, name: str) -> pa.Table | None:
    """Rows of what a scorer was trained on."""
    if trained_on is None or name == EVERY_ASSET:
        return trained_on
    return trained_on.filter(pc.field("asset") == name)


def _trained_on(
    plant: PlantConfig, readings: DeltaTable, intervals: Sequence[Interval]
) -> pa.Table | None:
    """Mode and asset of the normal rows that the model was trained on, where they matter."""
    if plant.calibration.per != "mode":
        return None
    parts = of_part(readings, intervals, "train", plant.contract).values()
    normal = [part.table.filter(pa.array(part.judged & (part.matrix.label <= 0))) for part in parts]
    return pa.concat_tables([table.select(["asset", "mode"]) for table in normal])
