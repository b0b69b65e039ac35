"""Thresholds and the alarm rule of a plant, chosen together for its budget of alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vae_anomaly.config import PlantConfig
from vae_anomaly.decisions.budget import CANDIDATES, BudgetChoice, History, within_budget
from vae_anomaly.decisions.choices import Sample
from vae_anomaly.decisions.rates import Interval, Share, operating_point
from vae_anomaly.decisions.thresholds import Blocks, Calibrated, Threshold
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
    levels, level, blocks = {}, {}, {}
    for name, rows in parts.items():
        own = scores[name][rows.judged]
        blocks[name] = blocks_of(own, rows, memory)
        levels[name] = levels_of(
            plant, own, rows, blocks=blocks[name], known=(known or {}).get(name)
        )
        level[name] = levelled(scores[name], rows.table, levels[name])
    rule = plant.alarms.rule
    choice = within_budget(
        {name: histories(plant, rows, level[name]) for name, rows in parts.items()},
        plant.calibration.budget,
        rules=CANDIDATES if rule is None else [rule],
    )
    of = {}
    for name, rows in parts.items():
        own = level[name][rows.judged]
        priced = _priced(plant, choice.thresholds[name], own, rows.label, blocks[name])
        of[name] = Limit(priced, levels[name], own)
    return BudgetLimits(of, choice)


def histories(plant: PlantConfig, rows: Judged, score: np.ndarray) -> list[History]:
    """The rows of each asset; what is labelled an anomaly, or looks back on one, is not normal.

    A row without a value says nothing, as in service; where the machine is off, the replay is cut.
    """
    read = ~np.isnan(rows.matrix.values[:, : len(plant.contract.sensors)]).all(axis=1)
    assets = rows.table["asset"].combine_chunks().dictionary_encode()
    time = rows.table["time"].cast(pa.int64()).to_numpy()
    label, codes = rows.matrix.label, assets.indices.to_numpy()
    normal, faulty = rows.judged & (label <= 0), rows.judged & (label > 0)
    return [
        History(time[own], score[own].astype(np.float64), normal[own], faulty[own])
        for own in (read & (codes == code) for code in range(len(assets.dictionary)))
        if own.any()
    ]


def _priced(
    plant: PlantConfig, value: float, scores: np.ndarray, label: np.ndarray, blocks: Blocks
) -> Calibrated:
    """A threshold of the budget, and what it costs row by row."""
    above, is_faulty = scores > value, label > 0
    effects = Sample(scores, is_faulty.astype(np.int64), blocks).effects(value)
    normal, faulty = above[~is_faulty], above[is_faulty]
    point = operating_point(
        Interval(value, value, value),
        Share(int(normal.sum()), len(normal), design_effect=effects.normal),
        Share(int(faulty.sum()), len(faulty), design_effect=effects.anomalous),
        confidence=plant.calibration.confidence,
        seed=plant.seed,
    )
    rate = point.false_alarm_rate.value
    return Calibrated(Threshold(value, BUDGET, rate, point.n_normal), point, "")
