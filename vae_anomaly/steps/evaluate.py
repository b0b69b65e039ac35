"""The test part, looked at once: the model beside simple baselines, on the very same rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from vae_anomaly.config import PARTS, AlarmRule, PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.data.windows import Matrix
from vae_anomaly.decisions.alarms import alarms_by
from vae_anomaly.decisions.episodes import Timeline, timeline
from vae_anomaly.decisions.evaluation import auroc, rates_at
from vae_anomaly.decisions.events import EventFigures, event_figures
from vae_anomaly.decisions.rates import Interval, OperatingPoint
from vae_anomaly.decisions.resampling import block_length, central, resampled_areas
from vae_anomaly.errors import CalibrationError, InputError, PartsError
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.baselines import BASELINES, CHANCE
from vae_anomaly.steps.budget import limits_of_budget
from vae_anomaly.steps.judged import Judged, alone, calibration_rows, of_units, unit_matrices
from vae_anomaly.steps.limits import limit_of
from vae_anomaly.steps.train import Trained
from vae_anomaly.steps.units import baseline_fitted
from vae_anomaly.streaming import EVERY_ASSET, levelled, score_rows

__all__ = ["Evaluation", "Figures", "TestRows", "evaluate", "figures_of"]


logger = logging.getLogger(__name__)

#: A scorer's name → its scores of the rows of one part.
Scored = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Figures:
    """What one method reaches on the test part.

    Attributes
    ----------
    method : str
    auroc : Interval or None
        Only where both classes are there. Its interval is the wider of two, at either end: of rows
        by themselves, and of a bootstrap of blocks of neighbouring rows.
    operating_point : OperatingPoint
        Row by row.
    events : EventFigures
        Fault by fault, by the alarms that the same scores raise.
    lead : Interval or None
        Of a baseline, how far the model's AUROC is above its own on the same resamples.
    """

    method: str
    auroc: Interval | None
    operating_point: OperatingPoint
    events: EventFigures
    lead: Interval | None = None


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

    def timeline(self, max_gap_s: float | None) -> Timeline:
        """When the rows of each asset were, in seconds since the first of all."""
        micros = self.time.astype("datetime64[us]").astype(np.int64)
        return timeline(self.asset, (micros - micros.min()) / 1e6, max_gap_s=max_gap_s)


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
        """Which baselines are as good as the model here, or better; nothing without labels."""
        ours = self.model.auroc
        rivals = [f for f in self.baselines if f.lead is not None and f.lead.known]
        if ours is None or not rivals:
            return ()
        name, said = self.model.method, []
        for rival in rivals:
            assert rival.auroc is not None and rival.lead is not None  # noqa: PT018
            areas = f"AUROC {rival.auroc.value:.3f} against {ours.value:.3f}"
            how_far = f"{-rival.lead.high:.3f} to {-rival.lead.low:.3f}"
            if rival.method == CHANCE:
                if rival.lead.low <= 0:
                    said.append(f"these rows cannot tell {name} from a random score: {areas}")
            elif rival.lead.high < 0:
                said.append(
                    f"the baseline {rival.method} is better here than {name}: {areas}, ahead by "
                    f"{how_far}; model: {{baseline: {rival.method}}} trains it"
                )
            elif rival.lead.low <= 0:
                said.append(
                    f"the baseline {rival.method} is as good here as {name}: {areas}, which these "
                    f"rows cannot tell apart ({how_far}); model: {{baseline: {rival.method}}} "
                    "trains it"
                )
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
    judge = _judge(plant, rows, _reach(package), chosen)
    model, *others = _compared(plant, own, rows, judge, memory=_reach(package) + 1)
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
    judge = _judge(plant, rows, _reach(package), {"champion": package.alarm_rule})
    return judge("champion", rows.excess)


def _reach(package: ModelPackage) -> int:
    """How many rows before a row its score looks back on."""
    return max(unit.scorer.left_context for unit in package.units.values())


def readings_of(plant: PlantConfig, trained: Trained) -> DeltaTable:
    """The readings as they were when a training began."""
    return Lake(plant.lake_path, plant.contract).open(READINGS, version=trained.readings_version)


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
    tables = [part.own_table for part in test.values()]
    return TestRows(
        asset=np.concatenate([np.asarray(t["asset"].to_pylist(), dtype=object) for t in tables]),
        time=np.concatenate([t["time"].cast(pa.timestamp("us")).to_numpy() for t in tables]),
        score=np.concatenate(list(scores.values())),
        excess=pooled(level, package_scores(package, calibrate), calibrate, limits),
        label=np.concatenate([part.label for part in test.values()]),
        flagged=np.concatenate(flagged),
    )


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


#: A method's name and its excess (n,) on the test rows → its figures.
Judge = Callable[[str, np.ndarray], Figures]


def _judge(plant: PlantConfig, rows: TestRows, reach: int, rules: Mapping[str, AlarmRule]) -> Judge:
    """A function that judges every method by the same rows, row by row and fault by fault."""
    confidence = plant.calibration.confidence
    times, known = rows.timeline(plant.contract.sampling.max_gap_s), rows.label >= 0
    both = bool((rows.label > 0).any() and (rows.label == 0).any())
    # nobody has labelled anything: what is flagged is a false alarm
    label = rows.label if known.any() else np.zeros_like(rows.label)

    def figures(method: str, excess: np.ndarray) -> Figures:
        area = auroc(excess[known], rows.label[known], confidence=confidence) if both else None
        point = rates_at(0.0, excess, label, confidence=confidence)
        alarms = alarms_by(rules[method], excess > 0, times)
        events = event_figures(alarms, times, label=rows.label, reach=reach, confidence=confidence)
        return Figures(method, area, point, events)

    return figures


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


def _compared(
    plant: PlantConfig,
    excess: Mapping[str, np.ndarray],
    rows: TestRows,
    judge: Judge,
    *,
    memory: int,
) -> Iterator[Figures]:
    """Figures of each method, the model first, on the same resamples."""
    figures = [judge(method, own) for method, own in excess.items()]
    if figures[0].auroc is None:
        yield from figures
        return
    known = rows.label >= 0
    label = rows.label[known]
    areas = resampled_areas(
        {method: own[known] for method, own in excess.items()},
        label,
        np.unique(rows.asset[known], return_inverse=True)[1],
        length=block_length(label, memory=memory),
        n_resamples=plant.calibration.bootstrap,
        seed=plant.seed,
    )
    confidence, ours = plant.calibration.confidence, figures[0].auroc
    for found in figures:
        assert found.auroc is not None  # all have the same labels
        own, resampled = found.auroc, areas[found.method]
        low, high = central(resampled, confidence)
        interval = Interval(own.value, float(np.fmin(own.low, low)), float(np.fmax(own.high, high)))
        lead = None
        if found is not figures[0]:
            ends = central(areas[figures[0].method] - resampled, confidence)
            lead = Interval(ours.value - own.value, *ends)
        yield replace(found, auroc=interval, lead=lead)


def _by_rule(plant: PlantConfig) -> PlantConfig:
    """The plant with a rule that means something for every score."""
    if plant.calibration.rule != "fixed":
        return plant
    calibration = plant.calibration.model_copy(update={"rule": "auto", "value": None})
    return plant.model_copy(update={"calibration": calibration})
