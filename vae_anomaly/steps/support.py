"""Whether the rows of a plant support its threshold: known before hours of training."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.parts import Interval
from vae_anomaly.decisions.budget import refuse_too_short
from vae_anomaly.decisions.thresholds import refuse_too_few
from vae_anomaly.errors import CalibrationError
from vae_anomaly.steps.budget import histories
from vae_anomaly.steps.judged import calibration_rows_ahead
from vae_anomaly.steps.target import target_of
from vae_anomaly.streaming import EVERY_ASSET

__all__ = ["refuse_missing", "refuse_unsupported"]


def refuse_unsupported(
    plant: PlantConfig,
    readings: DeltaTable,
    intervals: Sequence[Interval],
    units: Collection[str],
    *,
    reach: int,
) -> None:
    """Raise what `calibrate` would for the size of its part, whatever the scores will be.

    Parameters
    ----------
    plant : PlantConfig
    readings : DeltaTable
        At the version that the intervals were cut from.
    intervals : sequence of Interval
    units : collection of str
        Scorers that are to be trained: assets, or `EVERY_ASSET`.
    reach : int
        Rows that a score looks back on.

    Raises
    ------
    CalibrationError
        The part has too few rows, or lasts too short a time; the message says how much it takes.
    """
    parts = calibration_rows_ahead(plant, readings, intervals, units, reach=reach)
    refuse_missing(units, parts)
    budget = plant.calibration.budget
    for name, rows in sorted(parts.items()):
        if budget is not None:
            unscored = np.zeros(len(rows.judged))
            refuse_too_short(name, histories(plant, rows, unscored), budget)
            continue
        try:
            refuse_too_few(rows.label, rule=plant.calibration.rule, target=target_of(plant))
        except CalibrationError as error:
            of = "" if name == EVERY_ASSET else f"asset '{name}': "
            raise CalibrationError(f"{of}{error}") from error


def refuse_missing(units: Collection[str], parts: Collection[str]) -> None:
    """Raise `CalibrationError` for a scorer of which the part `calibrate` has no rows."""
    for name in units:
        if name not in parts:
            of = "" if name == EVERY_ASSET else f" of asset '{name}'"
            raise CalibrationError(
                f"part 'calibrate'{of} has no rows; change parts in plant.yml, or ingest more"
            )
