"""Thresholds and the alarm rule of a plant, chosen together for its budget of alarms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from vae_anomaly.config import PlantConfig
from vae_anomaly.decisions.budget import CANDIDATES, BudgetChoice, History, within_budget
from vae_anomaly.steps.judged import Judged

__all__ = ["chosen_for_budget", "histories"]


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
