"""The test part, looked at once: the model beside simple baselines, on the very same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.decisions.evaluation import auroc, rates_at
from vae_anomaly.decisions.rates import Interval, OperatingPoint
from vae_anomaly.decisions.thresholds import calibrate as set_threshold
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.steps.calibrate import Judged, judged_matrices
from vae_anomaly.steps.train import Trained
from vae_anomaly.steps.units import of_part, unit_matrices
from vae_anomaly.streaming import score_rows

__all__ = ["Evaluation", "Figures", "TestRows", "evaluate", "figures_of"]


#: A scorer's name → its scores of the rows of one part.
Scored = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Figures:
    """What one method reaches on the test part; AUROC only where both classes are there."""

    method: str
    auroc: Interval | None
    operating_point: OperatingPoint


@dataclass(frozen=True)
class TestRows:
    """The test part as the model sees it; all of shape (n,), but `flagged`.

    Attributes
    ----------
    asset, time : ndarray
        Names, and UTC as datetime64[us].
    score : ndarray
        In the model's own unit.
    excess : ndarray
        Score above its scorer's threshold, in spreads of the calibration scores, so that the
        scorers of several assets can be pooled.
    label : ndarray
        0 normal, positive an anomaly (its class), −1 unknown.
    flagged : ndarray of shape (m, d)
        Contributions of each sensor to the score of the rows above the threshold.
    """

    asset: np.ndarray
    time: np.ndarray
    score: np.ndarray
    excess: np.ndarray
    label: np.ndarray
    flagged: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """The model's figures on the test part, and the baselines' on the same rows.

    Each baseline is fitted on the part `train`, and its threshold set on `calibrate` by the same
    rule as the model's.
    """

    model: Figures
    baselines: tuple[Figures, ...]
    rows: TestRows


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
    rows = _test_rows(plant, package, test, calibrate)
    baselines = tuple(
        _figures(plant, name, pooled(plant, *scores, calibrate), rows.label)
        for name, scores in _baseline_scores(plant, trained, test, calibrate)
    )
    model = _figures(plant, plant.model.variant, rows.excess, rows.label)
    return Evaluation(model, baselines, rows)


def figures_of(plant: PlantConfig, trained: Trained, package: ModelPackage) -> Figures | None:
    """A package's figures on the test part of a run, which need not be its own."""
    test = judged_matrices(plant, trained, "test")
    if not test or not set(test) <= set(package.units):
        return None
    rows = _test_rows(plant, package, test, judged_matrices(plant, trained, "calibrate"))
    return _figures(plant, "champion", rows.excess, rows.label)


def _test_rows(
    plant: PlantConfig,
    package: ModelPackage,
    test: Mapping[str, Judged],
    calibrate: Mapping[str, Judged],
) -> TestRows:
    scores, flagged = {}, []
    for name, part in test.items():
        found = score_rows(package.units[name].scorer, part.matrix)
        scores[name] = found.score[part.judged].astype(float)
        above = scores[name] > package.thresholds[name].value
        flagged.append(found.contributions[part.judged][above])
    tables = [part.table.filter(pa.array(part.judged)) for part in test.values()]
    return TestRows(
        asset=np.concatenate([np.asarray(t["asset"].to_pylist(), dtype=object) for t in tables]),
        time=np.concatenate([t["time"].cast(pa.timestamp("us")).to_numpy() for t in tables]),
        score=np.concatenate(list(scores.values())),
        excess=pooled(plant, scores, package_scores(package, calibrate), calibrate, package),
        label=np.concatenate([part.label for part in test.values()]),
        flagged=np.concatenate(flagged),
    )


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
    if not (label >= 0).any():  # nobody has labelled anything: what is flagged is a false alarm
        label = np.zeros_like(label)
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
        for number, name in enumerate(test):
            normal = train[name].values[train[name].label <= 0]
            scorer = fit(normal, plant.seed + number)  # alike draws would add up when pooled
            for part, rows in zip(scores, (test[name], calibrate[name]), strict=True):
                part[name] = scorer(rows.matrix.values[rows.judged])
        yield method, scores
