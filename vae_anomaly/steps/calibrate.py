"""A trained package → thresholds on the part `calibrate` → the sealed package."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vae_anomaly.config import AlarmRule, PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.decisions.budget import BudgetChoice
from vae_anomaly.decisions.evaluation import rates_at
from vae_anomaly.decisions.thresholds import Threshold
from vae_anomaly.decisions.thresholds import calibrate as set_threshold
from vae_anomaly.errors import CalibrationError, RegistryError
from vae_anomaly.package import Calibration, ModelPackage, Unit
from vae_anomaly.steps.budget import chosen_for_budget
from vae_anomaly.steps.judged import Judged, calibration_rows
from vae_anomaly.steps.train import read_current
from vae_anomaly.streaming import EVERY_ASSET, score_rows

__all__ = ["CalibrateReport", "calibrate"]

logger = logging.getLogger(__name__)

#: What a threshold says of its rule, where a budget of alarms chose it.
BUDGET = "budget"


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
    lake = Lake(plant.lake_path, plant.contract)
    readings = lake.open(READINGS, version=trained.readings_version)
    parts = calibration_rows(readings, trained.intervals, draft)
    for name in draft.units:
        if name not in parts:
            of = "" if name == EVERY_ASSET else f" of asset '{name}'"
            raise CalibrationError(
                f"part 'calibrate'{of} has no rows; change parts in plant.yml, or ingest more"
            )
    scores = {
        name: score_rows(unit.scorer, parts[name].matrix).score
        for name, unit in draft.units.items()
    }
    if plant.calibration.budget is None:
        package = _by_rule(plant, draft, parts, scores)
    else:
        package = _by_budget(plant, draft, parts, scores)
    package = package.write(folder / "package")
    found = {name: u.calibration for name, u in package.units.items() if u.calibration is not None}
    return CalibrateReport(
        folder, folder / "package", package.digest, found, package.alarm_rule, package.budget
    )


def _by_rule(
    plant: PlantConfig,
    draft: ModelPackage,
    parts: Mapping[str, Judged],
    scores: Mapping[str, np.ndarray],
) -> ModelPackage:
    """Thresholds by the plant's rule, and its alarm rule."""
    units = {
        name: _calibrated(plant, name, unit, parts[name], scores[name])
        for name, unit in draft.units.items()
    }
    return replace(draft, units=units, alarm_rule=plant.alarms.rule or AlarmRule())


def _by_budget(
    plant: PlantConfig,
    draft: ModelPackage,
    parts: Mapping[str, Judged],
    scores: Mapping[str, np.ndarray],
) -> ModelPackage:
    """Thresholds and alarm rule chosen together for the plant's budget."""
    choice = chosen_for_budget(plant, parts, scores)
    units = {
        name: replace(
            unit, calibration=_priced(plant, choice.thresholds[name], parts[name], scores[name])
        )
        for name, unit in draft.units.items()
    }
    logger.info("%s", choice.rule.in_words())
    return replace(draft, units=units, alarm_rule=choice.rule, budget=choice)


def _priced(plant: PlantConfig, value: float, rows: Judged, scores: np.ndarray) -> Calibration:
    """A threshold of the budget, and what it costs row by row."""
    score = scores[rows.judged].astype(np.float64)
    point = rates_at(
        value, score, np.maximum(rows.label, 0), confidence=plant.calibration.confidence,
        seed=plant.seed,
    )  # fmt: skip
    rate, n_normal = point.false_alarm_rate.value, point.n_normal
    threshold = Threshold(value, BUDGET, rate, n_normal)
    return Calibration(threshold, point, _reference(rows, score))


def _reference(rows: Judged, score: np.ndarray) -> np.ndarray:
    """Rising scores of the normal rows, which p-values refer to."""
    return np.sort(score[rows.label <= 0]).astype(np.float32)


def _calibrated(
    plant: PlantConfig, name: str, unit: Unit, rows: Judged, scores: np.ndarray
) -> Unit:
    settings = plant.calibration
    score = scores[rows.judged].astype(np.float64)
    try:
        result = set_threshold(
            score,
            rows.label,
            rule=settings.rule,
            false_alarm_rate=settings.false_alarm_rate,
            confidence=settings.confidence,
            bootstrap=settings.bootstrap,
            seed=plant.seed,
        )
    except CalibrationError as error:
        of = "" if name == EVERY_ASSET else f"asset '{name}': "
        raise CalibrationError(f"{of}{error}") from error
    reference = _reference(rows, score)
    if result.note:
        logger.info("%s", result.note)
    return replace(
        unit,
        calibration=Calibration(result.threshold, result.operating_point, reference, result.note),
    )
