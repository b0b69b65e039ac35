"""The pictures and figures of a run: files beside its package, and artifacts in MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vae_anomaly import pictures
from vae_anomaly.config import PlantConfig
from vae_anomaly.decisions.budget import BudgetChoice
from vae_anomaly.decisions.evaluation import auroc, detection_by_class, roc_points
from vae_anomaly.decisions.rates import Share
from vae_anomaly.models.training import History
from vae_anomaly.package import ModelPackage, Unit
from vae_anomaly.steps.evaluate import (
    Evaluation,
    package_scores,
    pooled,
    readings_of,
)
from vae_anomaly.steps.figures import TestRows
from vae_anomaly.steps.judged import Judged, calibration_rows
from vae_anomaly.steps.train import HISTORIES, Trained, read_histories
from vae_anomaly.streaming import EVERY_ASSET, places, score_rows

__all__ = ["draw", "write_figures"]

#: Scorers whose training is drawn; the curves of all are in MLflow.
MOST_CURVES = 6


def draw(
    plant: PlantConfig,
    trained: Trained,
    folder: Path,
    package: ModelPackage,
    evaluation: Evaluation | None,
) -> Path:
    """Draw training, calibration and test of a run; returns the folder of the pictures."""
    target = folder / "pictures"
    target.mkdir(exist_ok=True)
    if (folder / HISTORIES).is_file():  # not where only the registry still has the package
        _training(read_histories(folder), target)
    calibrate = calibration_rows(readings_of(plant, trained), trained.intervals, package)
    scores = package_scores(package, calibrate)  # of modes with their own thresholds, levelled
    limits = {name: threshold.value for name, threshold in package.thresholds.items()}
    excess = pooled(scores, scores, calibrate, limits)
    label = np.concatenate([part.label for part in calibrate.values()])
    _histogram(target / "calibration_scores.png", package, scores, label, plant.name)
    if (label > 0).any() and (label == 0).any():
        _roc(target / "roc_calibrate.png", excess, label, f"{plant.name}, part calibrate")
    if package.budget is not None:
        _budget(target / "budget.png", package.budget, plant.name)
    if (unit := package.units.get(EVERY_ASSET)) is not None and unit.levels is not None:
        _levels(
            target / f"rates_by_{unit.levels.per}.png", unit, calibrate[EVERY_ASSET], plant.name
        )
    if evaluation is not None:
        _test(plant, target, package, evaluation)
    return target


def _training(histories: Mapping[str, History], target: Path) -> None:
    for name, found in list(histories.items())[:MOST_CURVES]:
        ending = "" if name == EVERY_ASSET else f"_{_slug(name)}"
        pictures.training_curves(
            target / f"training{ending}.png",
            [check.step for check in found.checks],
            [check.bound for check in found.checks],
            [check.held_out_bound for check in found.checks],
            [check.learning_rate for check in found.checks],
            best_step=found.best_step,
            subject="" if name == EVERY_ASSET else name,
        )


def _budget(path: Path, budget: BudgetChoice, plant_name: str) -> None:
    """What other budgets would find."""
    points = budget.curve
    asked = budget.forecast.per_week
    if not points:
        return
    pictures.budget_curve(
        path,
        [point.alarms_per_week for point in points],
        [np.nan if p.smallest_shift is None else p.smallest_shift for p in points],
        chosen=int(np.argmin([abs(point.alarms_per_week - asked) for point in points])),
        found=[point.n_found for point in points],
        n_faults=budget.n_faults,
        subject=f"{plant_name}, part calibrate",
    )


def _levels(path: Path, unit: Unit, rows: Judged, plant_name: str) -> None:
    """False alarms in each mode, beside those of one threshold with as many of them in all."""
    levels, calibration = unit.levels, unit.calibration
    assert levels is not None
    assert calibration is not None
    normal = rows.label <= 0
    score = score_rows(unit.scorer, rows.matrix).score[rows.judged][normal].astype(float)
    place = places(rows.own_table, levels.per, levels.names)[normal]
    level = levels.levelled(score, place)
    over = {"levelled": level > calibration.threshold.value}
    rate = float(over["levelled"].mean())
    over = {"one threshold for all": score > np.quantile(score, 1 - rate), **over}
    shown = [i for i in range(len(levels.names)) if (place == i).any()]
    pictures.mode_rates(
        path,
        [levels.names[i] for i in shown],
        [int((place == i).sum()) for i in shown],
        {
            name: [
                Share(int(own[place == i].sum()), int((place == i).sum())).interval() for i in shown
            ]
            for name, own in over.items()
        },
        asked=rate,
        subject=f"{plant_name}, part calibrate",
    )


def _histogram(
    path: Path,
    package: ModelPackage,
    scores: Mapping[str, np.ndarray],
    label: np.ndarray,
    plant_name: str,
) -> None:
    """Scores of the part calibrate; of several scorers, each in shares of its threshold."""
    limits = {name: package.thresholds[name].value for name in scores}
    pooled_score = np.concatenate([score / limits[name] for name, score in scores.items()])
    alone = limits.get(EVERY_ASSET, 1.0)
    pictures.score_histogram(
        path,
        pooled_score * alone,
        label,
        threshold=alone,
        unit="" if EVERY_ASSET in limits else "share of its threshold",
        subject=f"{plant_name}, part calibrate",
    )


def _roc(path: Path, excess: np.ndarray, label: np.ndarray, subject: str) -> None:
    known = label >= 0
    score, label = excess[known], label[known]
    points = roc_points(score, label)
    pictures.roc_picture(
        path,
        points.false_alarm_rate,
        points.detection_rate,
        area=auroc(score, label),
        n_normal=int((label == 0).sum()),
        n_anomalous=int((label > 0).sum()),
        subject=subject,
    )


def _test(plant: PlantConfig, target: Path, package: ModelPackage, evaluation: Evaluation) -> None:
    rows, subject = evaluation.rows, f"{plant.name}, part test"
    pictures.timeline(
        target / "test_timeline.png",
        rows.time, rows.score, assets=rows.asset, threshold=_thresholds(package, rows),
        labels=rows.label, subject=subject,
    )  # fmt: skip
    if len(rows.flagged):
        pictures.sensor_shares(
            target / "test_sensors.png", plant.contract.sensor_names, rows.flagged, subject=subject
        )
    ours = evaluation.model
    if ours.auroc is not None:
        _roc(target / "roc_test.png", rows.excess, rows.label, subject)
        compared = [f for f in (ours, *evaluation.baselines) if f.auroc is not None]
        pictures.baseline_bars(
            target / "test_baselines.png",
            [f.method for f in compared],
            [f.auroc for f in compared if f.auroc is not None],
            highlighted=ours.method,
            subject=subject,
        )


def _thresholds(package: ModelPackage, rows: TestRows) -> dict[str, float]:
    limits = {name: threshold.value for name, threshold in package.thresholds.items()}
    everywhere = limits.get(EVERY_ASSET)
    if everywhere is None:
        return limits
    assets = [str(asset) for asset in np.unique(rows.asset)]
    levels = package.units[EVERY_ASSET].levels
    if levels is None:
        return dict.fromkeys(assets, everywhere)
    if levels.per == "asset":
        place = [levels.names.index(name) if name in levels.names else -1 for name in assets]
    else:  # a line can only be that of one mode: the most frequent
        place = [int(np.argmax([level.n_rows for level in levels.modes]))] * len(assets)
    own = levels.limits(everywhere, np.array(place, np.int64))
    return dict(zip(assets, own.tolist(), strict=True))


def write_figures(folder: Path, package: ModelPackage, evaluation: Evaluation | None) -> Path:
    """Write every figure behind the pictures as JSON; returns the folder."""
    target = folder / "figures"
    target.mkdir(exist_ok=True)
    calibration = {
        name: {
            "threshold": asdict(unit.calibration.threshold),
            "operating_point": asdict(unit.calibration.operating_point),
        }
        for name, unit in package.units.items()
        if unit.calibration is not None
    }
    _write(target / "calibration.json", calibration)
    if evaluation is not None:
        rows = evaluation.rows
        figures: dict[str, object] = {
            "model": asdict(evaluation.model),
            "baselines": [asdict(baseline) for baseline in evaluation.baselines],
            "in_words": evaluation.in_words(),
        }
        if evaluation.model.auroc is not None:
            known = rows.label >= 0
            points = roc_points(rows.excess[known], rows.label[known])
            found = detection_by_class(0.0, rows.excess, rows.label)
            figures["detection_by_class"] = {c: asdict(rate) for c, rate in found.items()}
            figures["roc"] = {name: list(map(float, v)) for name, v in asdict(points).items()}
        _write(target / "test.json", figures)
    return target


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1, default=float), encoding="utf-8")


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
