"""Thresholds and the alarm rule of a plant, chosen together for its budget of alarms."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig
from vae_anomaly.decisions.budget import CANDIDATES, BudgetChoice, History, within_budget
from vae_anomaly.decisions.evaluation import rates_at
from vae_anomaly.decisions.modes import Levels
from vae_anomaly.decisions.thresholds import Threshold
from vae_anomaly.package import Calibration, ModelPackage
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.steps.judged import Judged
from vae_anomaly.steps.limits import blocks_of, levels_of
from vae_anomaly.streaming import EVERY_ASSET, levelled, score_rows

__all__ = ["BUDGET", "by_budget", "chosen_for_budget", "histories"]

logger = logging.getLogger(__name__)

#: What a threshold says of its rule, where a budget of alarms chose it.
BUDGET = "budget"


@dataclass(frozen=True)
class _Levelled:
    """Calibration rows of a scorer, their levels, and the levelled scores (n,) of all of them."""

    rows: Judged
    levels: Levels | None
    scores: np.ndarray


def by_budget(
    plant: PlantConfig,
    draft: ModelPackage,
    parts: Mapping[str, Judged],
    trained_on: pa.Table | None,
) -> ModelPackage:
    """A package whose thresholds and alarm rule keep the plant's budget.

    Parameters
    ----------
    plant : PlantConfig
    draft : ModelPackage
    parts : mapping of str to Judged
        Calibration rows of each scorer.
    trained_on : pa.Table or None
        Mode and asset of the rows that the model was trained on, where modes matter.

    Raises
    ------
    CalibrationError
        The rows are too few for the budget; the message says how much it takes.
    """
    found = {
        name: _levelled(plant, unit.scorer, parts[name], _of_unit(trained_on, name))
        for name, unit in draft.units.items()
    }
    scores = {name: own.scores for name, own in found.items()}
    choice = chosen_for_budget(plant, parts, scores)
    units = {
        name: replace(unit, calibration=_priced(plant, choice.thresholds[name], found[name]))
        for name, unit in draft.units.items()
    }
    logger.info("%s", choice.rule.in_words())
    return replace(draft, units=units, alarm_rule=choice.rule, budget=choice)


def _of_unit(trained_on: pa.Table | None, name: str) -> pa.Table | None:
    if trained_on is None or name == EVERY_ASSET:
        return trained_on
    return trained_on.filter(pc.field("asset") == name)


def _levelled(
    plant: PlantConfig, scorer: Scorer, rows: Judged, trained_on: pa.Table | None
) -> _Levelled:
    scores = score_rows(scorer, rows.matrix).score.astype(np.float64)
    own = scores[rows.judged]
    blocks = blocks_of(own, rows, scorer.left_context + 1)
    levels = levels_of(plant, own, rows, blocks=blocks, known=trained_on)
    return _Levelled(rows, levels, levelled(scores, rows.table, levels))


def _priced(plant: PlantConfig, value: float, found: _Levelled) -> Calibration:
    """A threshold of the budget, and what it costs row by row."""
    rows = found.rows
    scores = found.scores[rows.judged]
    point = rates_at(
        value, scores, np.maximum(rows.label, 0), confidence=plant.calibration.confidence,
        seed=plant.seed,
    )  # fmt: skip
    threshold = Threshold(value, BUDGET, point.false_alarm_rate.value, point.n_normal)
    reference = np.sort(scores[rows.label <= 0]).astype(np.float32)
    return Calibration(threshold, point, reference, levels=found.levels)


def chosen_for_budget(
    plant: PlantConfig, rows: Mapping[str, Judged], scores: Mapping[str, np.ndarray]
) -> BudgetChoice:
    """Rule and thresholds that keep the plant's budget on its calibration rows.

    Parameters
    ----------
    plant : PlantConfig
        With a budget. An alarm rule of its own is kept, and only the thresholds are chosen.
    rows : mapping of str to Judged
        Calibration rows of each scorer, left context included.
    scores : mapping of str to ndarray of shape (n,)
        Of all these rows.

    Raises
    ------
    CalibrationError
        The rows are too few for the budget; the message says how many it takes.
    """
    assert plant.calibration.budget is not None
    own = plant.alarms.rule
    found = {name: histories(part, scores[name]) for name, part in rows.items()}
    return within_budget(
        found, plant.calibration.budget, rules=CANDIDATES if own is None else [own]
    )


def histories(rows: Judged, score: np.ndarray) -> list[History]:
    """The rows of each asset; what is labelled an anomaly, or looks back on one, is not normal."""
    assets = rows.table["asset"].combine_chunks().dictionary_encode()
    time = rows.table["time"].cast(pa.int64()).to_numpy()
    normal = rows.judged & (rows.matrix.label <= 0)
    codes = assets.indices.to_numpy()
    return [
        History(time[own], score[own].astype(np.float64), normal[own])
        for own in (codes == code for code in range(len(assets.dictionary)))
    ]
