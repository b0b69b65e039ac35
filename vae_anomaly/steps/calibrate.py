"""A trained package → thresholds on the part `calibrate` → the sealed package."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.data.parts import read_part
from vae_anomaly.data.windows import Matrix, matrix_of
from vae_anomaly.decisions.thresholds import calibrate as set_threshold
from vae_anomaly.errors import CalibrationError
from vae_anomaly.package import Calibration, ModelPackage, Unit
from vae_anomaly.steps.train import Trained, read_trained
from vae_anomaly.streaming import EVERY_ASSET, score_rows

__all__ = ["CalibrateReport", "Judged", "calibrate", "judged_matrices"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrateReport:
    """The sealed package, and what its thresholds cost and detect on the calibration rows."""

    folder: Path
    package: Path
    digest: str
    calibrations: Mapping[str, Calibration]


@dataclass(frozen=True)
class Judged:
    """Rows of one unit in one part: a matrix with left context, and which rows count."""

    matrix: Matrix
    judged: np.ndarray
    table: pa.Table

    @property
    def label(self) -> np.ndarray:
        label: np.ndarray = self.matrix.label[self.judged]
        return label


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
    CalibrationError
        The calibration rows cannot support the threshold; the message says how many would.
    """
    trained = read_trained(folder)
    draft = ModelPackage.read(folder / "draft")
    parts = judged_matrices(plant, trained, "calibrate")
    units: dict[str, Unit] = {}
    for name, unit in draft.units.items():
        if name not in parts:
            raise CalibrationError(
                f"asset '{name}' has no rows in part 'calibrate'; change parts in plant.yml"
            )
        units[name] = _calibrated(plant, name, unit, parts[name])
    package = replace(draft, units=units).write(folder / "package")
    found = {name: u.calibration for name, u in units.items() if u.calibration is not None}
    return CalibrateReport(folder, folder / "package", package.digest, found)


def judged_matrices(plant: PlantConfig, trained: Trained, part: str) -> dict[str, Judged]:
    """Rows of one part as they will be served: with their left context, one entry a scorer."""
    intervals = [i for i in trained.intervals if i.part == part]
    if not intervals:
        return {}
    readings = Lake(plant.lake_path, plant.contract).open(
        READINGS, version=trained.readings_version
    )
    found = read_part(readings, intervals)
    if plant.model.per == "plant":
        matrix = matrix_of(found.table, plant.contract)
        return {EVERY_ASSET: Judged(matrix, found.judged, found.table)}
    asset = np.asarray(found.table["asset"].to_pylist())
    judged = {}
    for name in np.unique(asset):
        own = asset == name
        table = found.table.filter(pa.array(own))
        judged[str(name)] = Judged(matrix_of(table, plant.contract), found.judged[own], table)
    return judged


def _calibrated(plant: PlantConfig, name: str, unit: Unit, rows: Judged) -> Unit:
    settings = plant.calibration
    score = score_rows(unit.scorer, rows.matrix).score[rows.judged].astype(np.float64)
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
    reference = np.sort(score[rows.label <= 0]).astype(np.float32)
    if result.note:
        logger.info("%s", result.note)
    return replace(
        unit,
        calibration=Calibration(result.threshold, result.operating_point, reference, result.note),
    )
