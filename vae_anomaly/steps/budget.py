"""Thresholds and the alarm rule of a plant, chosen together for its budget of alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vae_anomaly.config import PlantConfig
from vae_anomaly.decisions.budget import CANDIDATES, BudgetChoice, History, within_budget
from vae_anomaly.decisions.evaluation import rates_at
from vae_anomaly.decisions.thresholds import Calibrated, Threshold
from vae_anomaly.steps.judged import Judged
from vae_anomaly.steps.limits import Limit, blocks_of, levels_of
from vae_anomaly.streaming import levelled

__all__ = ["BUDGET", "BudgetLimits", "histories", "limits_of_budget"]

#: What a threshold says of its rule, where a budget of alarms chose it.
BUDGET = "budget"


@dataclass(frozen=True)
class BudgetLimits:
    """The limit of each scorer, and what was chosen for all of them."""

    of: Mapping[str, Limit]
    choice: BudgetChoice


def limits_of_budget(
    plant: PlantConfig,
    parts: Mapping[str, Judged],
    scores: Mapping[str, np.ndarray],
    *,
    memory: int,
    known: Mapping[str, pa.Table] | None = None,
) -> BudgetLimits:
    """Thresholds and alarm rule that keep the plant's budget on its calibration rows.

    Parameters
    ----------
    plant : PlantConfig
        With a budget. An alarm rule of its own is kept, and only the thresholds are chosen.
    parts : mapping of str to Judged
        Calibration rows of each scorer.
    scores : mapping of str to ndarray of shape (n,)
        Of all these rows, left context included.
    memory : int
        Rows that one score depends on.
    known : mapping of str to pa.Table, optional
        For each scorer, further rows whose modes it knows: those that it was trained on.

    Raises
    ------
    CalibrationError
        The rows are too few for the budget; the message says how much it takes.
    """
    assert plant.calibration.budget is not None
    levels, level = {}, {}
    for name, rows in parts.items():
        own = scores[name][rows.judged]
        levels[name] = levels_of(
            plant, own, rows, blocks=blocks_of(own, rows, memory), known=(known or {}).get(name)
        )
        level[name] = levelled(scores[name], rows.table, levels[name])
    rule = plant.alarms.rule
    choice = within_budget(
        {name: histories(rows, level[name]) for name, rows in parts.items()},
        plant.calibration.budget,
        rules=CANDIDATES if rule is None else [rule],
    )
    of = {}
    for name, rows in parts.items():
        own = level[name][rows.judged]
        of[name] = Limit(_priced(plant, choice.thresholds[name], own, rows), levels[name], own)
    return BudgetLimits(of, choice)


def histories(rows: Judged, score: np.ndarray) -> list[History]:
    """The rows of each asset; what is labelled an anomaly, or looks back on one, is not normal."""
    assets = rows.table["asset"].combine_chunks().dictionary_encode()
    time = rows.table["time"].cast(pa.int64()).to_numpy()
    label = rows.matrix.label
    normal, faulty = rows.judged & (label <= 0), rows.judged & (label > 0)
    codes = assets.indices.to_numpy()
    return [
        History(time[own], score[own].astype(np.float64), normal[own], faulty[own])
        for own in (codes == code for code in range(len(assets.dictionary)))
    ]


def _priced(plant: PlantConfig, value: float, scores: np.ndarray, rows: Judged) -> Calibrated:
    """A threshold of the budget, and what it costs row by row."""
    point = rates_at(
        value, scores, np.maximum(rows.label, 0), confidence=plant.calibration.confidence,
        seed=plant.seed,
    )  # fmt: skip
    return Calibrated(
        Threshold(value, BUDGET, point.false_alarm_rate.value, point.n_normal), point, ""
    )
