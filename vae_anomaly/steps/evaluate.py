"""The test part, looked at once: the model beside simple baselines, on the very same rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from vae_anomaly.config import PARTS, AlarmRule, Contract, PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.data.windows import Matrix
from vae_anomaly.decisions.vus import NO_PERIOD, period
from vae_anomaly.errors import CalibrationError, InputError, PartsError
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.baselines import BASELINES, CHANCE
from vae_anomaly.steps.budget import limits_of_budget
from vae_anomaly.steps.figures import Figures, TestRows, compared, judge_of
from vae_anomaly.steps.judged import Judged, alone, calibration_rows, of_units, unit_matrices
from vae_anomaly.steps.limits import limit_of
from vae_anomaly.steps.train import Trained
from vae_anomaly.steps.units import baseline_fitted
from vae_anomaly.streaming import EVERY_ASSET, levelled, score_rows

__all__ = ["Evaluation", "evaluate", "figures_of"]

logger = logging.getLogger(__name__)

#: How a baseline takes the model's place.
TRAINS = "`model: {baseline: NAME}` trains one"

#: A scorer's name → its scores of the rows of one part.
Scored = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """The model's figures on the test part, and the baselines' on the same rows.

    Each baseline is what `model: {baseline: name}` in the same plant file would be: fitted on the
    part `train`, with the same window and smoothing, and its threshold set on `calibrate` by the
    same rule, or with an alarm rule of its own for the same budget; by rule `auto` where the
    model's is a fixed value, which is in its own unit. A random score is drawn row by row. Alarms
    are those of the rule without its deadband.
    """

    model: Figures
    baselines: tuple[Figures, ...]
    rows: TestRows

    def in_words(self) -> tuple[str, ...]:
        """Which baselines are better here than the model, or as good; nothing without labels."""
        ours = self.model.auroc
        rivals = [f for f in self.baselines if f.lead is not None and f.lead.known]
        if ours is None or not rivals:
            return ()
        name = f"{self.model.method} (AUROC {ours.value:.3f})"
        ahead, alike, said = [], [], []
        for rival in rivals:
            assert rival.auroc is not None and rival.lead is not None  # noqa: PT018
            area = f"{rival.method} {rival.auroc.value:.3f}"
            low, high = -rival.lead.high, -rival.lead.low  # by how far it is above the model
            if rival.method == CHANCE:
                if high >= 0:
                    said.append(f"these rows cannot tell {name} from a random score: {area}")
            elif low > 0:
                ahead.append(f"{area} (ahead by {low:.3f} to {high:.3f})")
            elif high >= 0:
                alike.append(f"{area} ({-low:.3f} behind to {high:.3f} ahead)")
        if ahead:
            said.append(f"better here than {name}: {', '.join(ahead)}; {TRAINS}")
        if alike:
            cannot = "these rows cannot tell them apart"
            said.append(f"as good here as {name}, as {cannot}: {', '.join(alike)}; {TRAINS}")
        return tuple(said) or (f"no baseline is as good here as {name}",)


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
    calibrate = calibration_rows(readings, trained.intervals, package)
    rows = _test_rows(package, test, calibrate)
    own, chosen = {plant.method: rows.excess}, {plant.method: package.alarm_rule}
    baselines = _baselines(plant, readings, trained, test, calibrate, memory=_reach(package) + 1)
    for method, found in baselines:
        own[method], chosen[method] = found
    judge = judge_of(plant, rows, _reach(package), chosen)
    model, *others = compared(plant, own, rows, judge, memory=_reach(package) + 1)
    return Evaluation(model, tuple(others), rows)


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
    calibrate = calibration_rows(readings, trained.intervals, package)
    rows = _test_rows(package, test, calibrate)
    judge = judge_of(plant, rows, _reach(package), {"champion": package.alarm_rule})
    return judge("champion", rows.excess)


def _reach(package: ModelPackage) -> int:
    """How many rows before a row its score looks back on."""
    return max(unit.scorer.left_context for unit in package.units.values())


def readings_of(plant: PlantConfig, trained: Trained) -> DeltaTable:
    """The readings as they were when a training began."""
    return Lake(plant.lake, plant.contract).open(READINGS, version=trained.readings_version)


def n_judged(parts: Mapping[str, Judged]) -> int:
    """Rows that count."""
    return sum(int(part.judged.sum()) for part in parts.values())


def _test_rows(
    package: ModelPackage, test: Mapping[str, Judged], calibrate: Mapping[str, Judged]
) -> TestRows:
    scores, level, flagged = {}, {}, []
    for name, part in test.items():
        found = score_rows(package.units[name].scorer, part.matrix)
        scores[name] = found.score[part.judged].astype(float)
        level[name] = levelled(scores[name], part.own_table, package.units[name].levels)
        above = level[name] > package.thresholds[name].value
        flagged.append(found.contributions[part.judged][above])
    limits = {name: threshold.value for name, threshold in package.thresholds.items()}
    label = np.concatenate([part.label for part in test.values()])
    # people name faults, and not what is well: else one fault would leave no normal row to judge by
    assumed = (label < 0) & (package.contract.label is None) & bool((label > 0).any())
    tables = [part.own_table for part in test.values()]
    return TestRows(
        asset=np.concatenate([np.asarray(t["asset"].to_pylist(), dtype=object) for t in tables]),
        time=np.concatenate([t["time"].cast(pa.timestamp("us")).to_numpy() for t in tables]),
        series=_series(test),
        score=np.concatenate(list(scores.values())),
        excess=pooled(level, package_scores(package, calibrate), calibrate, limits),
        label=np.where(assumed, 0, label),
        flagged=np.concatenate(flagged),
        period=_period(tables[0], package.contract),
        n_assumed=int(assumed.sum()),
    )


def _series(parts: Mapping[str, Judged]) -> np.ndarray:
    """(n,) series of each row, those of one scorer behind those of another."""
    pieces, before = [], 0
    for part in parts.values():
        pieces.append(part.series + before)
        before = int(pieces[-1].max(initial=before)) + 1
    return np.concatenate(pieces)


def _period(rows: pa.Table, contract: Contract) -> int:
    """Rows in which the first sensor repeats itself, as TSB-AD looks for it."""
    number = next((s.name for s in contract.sensors if s.kind != "categorical"), None)
    if number is None or not len(value := rows[number].drop_null().to_numpy()):
        return NO_PERIOD
    return period(value.astype(float))


def package_scores(package: ModelPackage, rows: Mapping[str, Judged]) -> Scored:
    """Levelled scores of each unit's rows, left context used and left out."""
    return {
        name: levelled(
            score_rows(package.units[name].scorer, part.matrix).score[part.judged].astype(float),
            part.own_table,
            package.units[name].levels,
        )
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


# ------------------------------------------------------------------------------------- baselines


class Compared(NamedTuple):
    """A baseline on the test rows: its excess (n,), and the alarm rule that goes with it."""

    excess: np.ndarray
    rule: AlarmRule


#: Rows of a part → scores (n,) of all of them, left context included.
Scoring = Callable[[Judged], np.ndarray]


def _baselines(
    plant: PlantConfig,
    readings: DeltaTable,
    trained: Trained,
    test: Mapping[str, Judged],
    calibrate: Mapping[str, Judged],
    *,
    memory: int,
) -> Iterator[tuple[str, Compared]]:
    """Each baseline on the test rows, and a random score; not the model."""
    train, stop = (
        dict(unit_matrices(plant, alone(readings, trained.intervals, part, plant.contract)))
        for part in PARTS[:2]
    )
    for method in (*BASELINES, CHANCE):
        if method == plant.model.baseline:
            continue
        try:
            scoring = {
                # alike draws would add up when pooled
                name: _scoring(plant, method, train[name], stop[name], seed=plant.seed + number)
                for number, name in enumerate(test)
            }
            yield method, _calibrated(plant, scoring, test, calibrate, memory)
        except (CalibrationError, InputError, PartsError) as error:
            logger.warning("baseline %s is left out: %s", method, error)


def _calibrated(
    plant: PlantConfig,
    scoring: Mapping[str, Scoring],
    test: Mapping[str, Judged],
    calibrate: Mapping[str, Judged],
    memory: int,
) -> Compared:
    """A baseline with threshold and alarm rule chosen as the model's are."""
    parts = {name: part for name, part in calibrate.items() if name in scoring}
    scores = {name: scoring[name](part) for name, part in parts.items()}
    on_test = {name: scoring[name](part)[part.judged] for name, part in test.items()}
    if plant.calibration.budget is not None:
        found = limits_of_budget(plant, parts, scores, memory=memory)
        limits, rule = found.of, found.choice.rule
    else:
        rule = plant.alarms.rule or AlarmRule()
        limits = {
            name: limit_of(
                _by_rule(plant), scores[name][part.judged], part, memory=memory, bootstrap=100
            )
            for name, part in parts.items()
        }
    level = {
        name: levelled(score, test[name].own_table, limits[name].levels)
        for name, score in on_test.items()
    }
    held = {name: limit.scores for name, limit in limits.items()}
    values = {name: limit.value for name, limit in limits.items()}
    return Compared(pooled(level, held, calibrate, values), rule)


def _scoring(plant: PlantConfig, method: str, train: Matrix, stop: Matrix, *, seed: int) -> Scoring:
    if method == CHANCE:
        generator = np.random.default_rng(seed)
        return lambda rows: generator.random(len(rows.judged))
    scorer = baseline_fitted(plant, method, train, stop, seed=seed).scorer
    return lambda rows: score_rows(scorer, rows.matrix).score.astype(float)


def _by_rule(plant: PlantConfig) -> PlantConfig:
    """The plant with a rule that means something for every score."""
    if plant.calibration.rule != "fixed":
        return plant
    calibration = plant.calibration.model_copy(update={"rule": "auto", "value": None})
    return plant.model_copy(update={"calibration": calibration})
