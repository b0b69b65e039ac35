"""The test part, looked at once: the model beside simple baselines, on the very same rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.decisions.evaluation import auroc, rates_at
from vae_anomaly.decisions.rates import Interval, OperatingPoint
from vae_anomaly.decisions.thresholds import calibrate as set_threshold
from vae_anomaly.errors import CalibrationError
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.steps.train import Trained
from vae_anomaly.steps.units import Judged, alone, of_units, unit_matrices
from vae_anomaly.streaming import EVERY_ASSET, score_rows

__all__ = ["Evaluation", "Figures", "TestRows", "evaluate", "figures_of"]


logger = logging.getLogger(__name__)

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
        None where no row of a test part can be scored.
    """
    readings = readings_of(plant, trained)
    test = of_units(readings, trained.intervals, "test", package)
    if not n_judged(test):
        return None
    calibrate = of_units(readings, trained.intervals, "calibrate", package)
    rows = _test_rows(package, test, calibrate)
    baselines = tuple(_baselines(plant, readings, trained, test, calibrate))
    model = _figures(plant, plant.model.variant, rows.excess, rows.label)
    return Evaluation(model, baselines, rows)


def figures_of(plant: PlantConfig, trained: Trained, package: ModelPackage) -> Figures | None:
    """A package's figures on the test part of a run, which need not be its own.

    None where they would not be on the same rows: the readings lack a column of the package, or it
    has no scorer for one of the assets.
    """
    readings = readings_of(plant, trained)
    columns = {field.name for field in readings.schema().fields}
    contract = package.contract
    if not columns >= {*contract.sensor_names, *contract.context_names, *contract.carried}:
        return None
    assets = {i.asset for i in trained.intervals if i.part == "test"}
    test = of_units(readings, trained.intervals, "test", package)
    if not n_judged(test) or not (EVERY_ASSET in package.units or assets <= set(package.units)):
        return None
    calibrate = of_units(readings, trained.intervals, "calibrate", package)
    rows = _test_rows(package, test, calibrate)
    return _figures(plant, "champion", rows.excess, rows.label)


def readings_of(plant: PlantConfig, trained: Trained) -> DeltaTable:
    """The readings as they were when a training began."""
    return Lake(plant.lake_path, plant.contract).open(READINGS, version=trained.readings_version)


def n_judged(parts: Mapping[str, Judged]) -> int:
    """Rows that count."""
    return sum(int(part.judged.sum()) for part in parts.values())


def _test_rows(
    package: ModelPackage, test: Mapping[str, Judged], calibrate: Mapping[str, Judged]
) -> TestRows:
    scores, flagged = {}, []
    for name, part in test.items():
        found = score_rows(package.units[name].scorer, part.matrix)
        scores[name] = found.score[part.judged].astype(float)
        above = scores[name] > package.thresholds[name].value
        flagged.append(found.contributions[part.judged][above])
    limits = {name: threshold.value for name, threshold in package.thresholds.items()}
    tables = [part.table.filter(pa.array(part.judged)) for part in test.values()]
    return TestRows(
        asset=np.concatenate([np.asarray(t["asset"].to_pylist(), dtype=object) for t in tables]),
        time=np.concatenate([t["time"].cast(pa.timestamp("us")).to_numpy() for t in tables]),
        score=np.concatenate(list(scores.values())),
        excess=pooled(scores, package_scores(package, calibrate), calibrate, limits),
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
    test: Scored, calibrate: Scored, rows: Mapping[str, Judged], limits: Mapping[str, float]
) -> np.ndarray:
    """(n,) each test score above its scorer's limit, in spreads of the calibration scores."""
    pieces = []
    for name, score in test.items():
        normal = calibrate[name][rows[name].label <= 0] if name in calibrate else np.zeros(0)
        spread = float(np.std(normal)) if len(normal) else 0.0
        pieces.append((score - limits[name]) / (spread or 1.0))
    return np.concatenate(pieces)


def _figures(plant: PlantConfig, method: str, excess: np.ndarray, label: np.ndarray) -> Figures:
    if not (label >= 0).any():  # nobody has labelled anything: what is flagged is a false alarm
        label = np.zeros_like(label)
    both = bool((label > 0).any() and (label == 0).any())
    confidence = plant.calibration.confidence
    area = auroc(excess[label >= 0], label[label >= 0], confidence=confidence) if both else None
    return Figures(method, area, rates_at(0.0, excess, label, confidence=confidence))


# ------------------------------------------------------------------------------------- baselines


def _baselines(
    plant: PlantConfig,
    readings: DeltaTable,
    trained: Trained,
    test: Mapping[str, Judged],
    calibrate: Mapping[str, Judged],
) -> Iterator[Figures]:
    """Figures of each baseline; it sees the context columns too."""
    train = dict(unit_matrices(plant, alone(readings, trained.intervals, "train", plant.contract)))
    label = np.concatenate([part.label for part in test.values()])
    for method, fit in BASELINES.items():
        on_test: dict[str, np.ndarray] = {}
        held: dict[str, np.ndarray] = {}
        for number, name in enumerate(test):
            normal = train[name].values[train[name].label <= 0]
            scorer = fit(normal, plant.seed + number)  # alike draws would add up when pooled
            for scores, part in ((on_test, test[name]), (held, calibrate[name])):
                scores[name] = scorer(part.matrix.values[part.judged])
        try:
            limits = {name: _limit(plant, held[name], calibrate[name].label) for name in held}
        except CalibrationError as error:
            logger.warning("baseline %s is left out: %s", method, error)
            continue
        yield _figures(plant, method, pooled(on_test, held, calibrate, limits), label)


def _limit(plant: PlantConfig, scores: np.ndarray, label: np.ndarray) -> float:
    """Threshold of a baseline, by the model's rule."""
    settings = plant.calibration
    found = set_threshold(
        scores,
        label,
        rule=settings.rule,
        false_alarm_rate=settings.false_alarm_rate,
        bootstrap=100,
        seed=plant.seed,
    )
    return found.threshold.value
