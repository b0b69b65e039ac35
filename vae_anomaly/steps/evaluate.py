"""The test part, looked at once: the model beside simple baselines, on the very same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.decisions.evaluation import auroc, rates_at
from vae_anomaly.decisions.thresholds import Interval, OperatingPoint
from vae_anomaly.decisions.thresholds import calibrate as set_threshold
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.steps.calibrate import Judged, judged_matrices
from vae_anomaly.steps.train import Trained
from vae_anomaly.steps.units import of_part, unit_matrices
from vae_anomaly.streaming import score_rows

__all__ = ["Evaluation", "Figures", "evaluate", "figures_of"]


#: A scorer's name → its scores of the rows of one part.
Scored = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Figures:
    """What one method reaches on the test part; AUROC only where both classes are there."""

    method: str
    auroc: Interval | None
    operating_point: OperatingPoint


@dataclass(frozen=True)
class Evaluation:
    """The model's figures on the test part, and the baselines' on the same rows.

    Attributes
    ----------
    model : Figures
    baselines : tuple of Figures
        Each fitted on the part `train`, its threshold set on `calibrate` by the same rule.
    n_rows : int
    excess, label : ndarray of shape (n_rows,)
        The model's score above its threshold, in spreads of the calibration scores, so that
        scorers of several assets can be pooled; and the labels.
    """

    model: Figures
    baselines: tuple[Figures, ...]
    n_rows: int
    excess: np.ndarray
    label: np.ndarray


def evaluate(plant: PlantConfig, trained: Trained, package: ModelPackage) -> Evaluation | None:
    """Score the test part with a sealed package and with the baselines.

    Returns
    -------
    Evaluation or None
        None where the plant keeps no test part.
    """
    test = judged_matrices(plant, trained, "test")
    if not test:
        return None
    calibrate = judged_matrices(plant, trained, "calibrate")
    excess = pooled(plant, package_scores(package, test), package_scores(package, calibrate),
                    calibrate, package)  # fmt: skip
    label = np.concatenate([test[name].label for name in test])
    baselines = tuple(
        _figures(plant, name, pooled(plant, *scores, calibrate), label)
        for name, scores in _baseline_scores(plant, trained, test, calibrate)
    )
    model = _figures(plant, plant.model.variant, excess, label)
    return Evaluation(model, baselines, len(label), excess, label)


def figures_of(plant: PlantConfig, trained: Trained, package: ModelPackage) -> Figures | None:
    """A package's figures on the test part of a run, which need not be its own."""
    test = judged_matrices(plant, trained, "test")
    if not test or not set(test) <= set(package.units):
        return None
    calibrate = judged_matrices(plant, trained, "calibrate")
    excess = pooled(plant, package_scores(package, test), package_scores(package, calibrate),
                    calibrate, package)  # fmt: skip
    label = np.concatenate([test[name].label for name in test])
    return _figures(plant, "champion", excess, label)


def package_scores(package: ModelPackage, rows: Mapping[str, Judged]) -> Scored:
    """Scores of each unit's rows, left context used and left out."""
    return {
        name: score_rows(package.units[name].scorer, part.matrix).score[part.judged].astype(float)
        for name, part in rows.items()
    }


def pooled(
    plant: PlantConfig,
    test: Scored,
    calibrate: Scored,
    rows: Mapping[str, Judged],
    package: ModelPackage | None = None,
) -> np.ndarray:
    """(n,) each test score above its unit's threshold, in spreads of the calibration scores."""
    pieces = []
    for name, score in test.items():
        if package is None:
            settings = plant.calibration
            threshold = set_threshold(
                calibrate[name], rows[name].label, rule=settings.rule,
                false_alarm_rate=settings.false_alarm_rate, bootstrap=100, seed=plant.seed,
            ).threshold.value  # fmt: skip
        else:
            threshold = package.thresholds[name].value
        spread = float(np.std(calibrate[name][rows[name].label <= 0])) or 1.0
        pieces.append((score - threshold) / spread)
    return np.concatenate(pieces)


def _figures(plant: PlantConfig, method: str, excess: np.ndarray, label: np.ndarray) -> Figures:
    both = bool((label > 0).any() and (label == 0).any())
    confidence = plant.calibration.confidence
    area = auroc(excess[label >= 0], label[label >= 0], confidence=confidence) if both else None
    return Figures(method, area, rates_at(0.0, excess, label, confidence=confidence))


def _baseline_scores(
    plant: PlantConfig,
    trained: Trained,
    test: Mapping[str, Judged],
    calibrate: Mapping[str, Judged],
) -> Iterator[tuple[str, tuple[Scored, Scored]]]:
    """Each baseline's scores on the parts test and calibrate; it sees the context columns too."""
    readings = Lake(plant.lake_path, plant.contract).open(
        READINGS, version=trained.readings_version
    )
    per_asset = of_part(readings, trained.intervals, "train", plant.contract)
    train = dict(unit_matrices(plant, per_asset))
    for method, fit in BASELINES.items():
        scores: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
        for name in test:
            normal = train[name].values[train[name].label <= 0]
            scorer = fit(normal, plant.seed)
            for part, rows in zip(scores, (test[name], calibrate[name]), strict=True):
                part[name] = scorer(rows.matrix.values[rows.judged])
        yield method, scores
