"""Thresholds as a plant asks for them, of its model and of the baselines beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig
from vae_anomaly.decisions.dependence import blocks_shown, effect_of_blocks
from vae_anomaly.decisions.modes import Levels, Per, fit_levels
from vae_anomaly.decisions.rules import checked_rule
from vae_anomaly.decisions.thresholds import Blocks, Calibrated, calibrate
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring.scores import score_name
from vae_anomaly.steps.judged import Judged
from vae_anomaly.steps.target import target_of
from vae_anomaly.streaming import levelled, places

__all__ = ["Limit", "blocks_of", "checked_settings", "levels_of", "limit_of"]

#: What a threshold is when only its place matters: as few resamples as can be.
FEW = 100

#: Share of the normal rows below the score at which a budget levels modes.
LEVELLED_AT = 0.95

#: Modes or assets whose thresholds a note names.
MOST_NAMED = 8


@dataclass(frozen=True)
class Limit:
    """A threshold on levelled scores, the levels, and the rows' levelled scores (n,)."""

    calibrated: Calibrated
    levels: Levels | None
    scores: np.ndarray

    @property
    def value(self) -> float:
        """The threshold."""
        return self.calibrated.threshold.value

    @property
    def note(self) -> str:
        """What a reader should know: of the threshold, and of those of modes or assets."""
        if self.levels is None:
            return self.calibrated.note
        modes = self.levels.modes
        limits = self.levels.limits(self.calibrated.threshold.value, np.arange(len(modes)))
        own = [
            f"{level.mode} {limit:.4g} ({level.n_rows:,} rows)"
            for level, limit in zip(modes[:MOST_NAMED], limits, strict=False)
        ]
        more = len(modes) - MOST_NAMED
        said = f"Thresholds by {self.levels.per}: {', '.join(own)}" + (
            f" and {more} more." if more > 0 else "."
        )
        return f"{self.calibrated.note} {said}".strip()


def checked_settings(plant: PlantConfig) -> None:
    """Raise `ConfigError` for a rule or a setting that is not known or does not fit another.

    Before the training, which takes longer than to read the message.
    """
    checked_rule(plant.calibration.rule, target_of(plant))
    if not plant.model.baseline:
        variant = variant_of(plant.method, plant.model.settings)
        score_name(plant.model.score, variant.default_score)


def blocks_of(scores: np.ndarray, rows: Judged, memory: int) -> Blocks:
    """Rows of a part that belong together.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Of the rows that count.
    rows : Judged
    memory : int
        Rows that one score depends on.
    """
    return blocks_shown(scores, rows.label, rows.series, rows.label <= 0, memory=memory)


def limit_of(
    plant: PlantConfig,
    scores: np.ndarray,
    rows: Judged,
    *,
    memory: int,
    known: pa.Table | None = None,
    bootstrap: int | None = None,
) -> Limit:
    """Threshold of a scorer on the part `calibrate`, by the plant's rule.

    Parameters
    ----------
    plant : PlantConfig
    scores : ndarray of shape (n,)
        Of the rows that count.
    rows : Judged
    memory : int
        Rows that one score depends on.
    known : pa.Table, optional
        Further rows whose modes the model knows: those that it was trained on.
    bootstrap : int, optional
        In place of the plant's.

    Raises
    ------
    CalibrationError
        The rows cannot support the threshold.
    """
    settings = plant.calibration
    blocks = blocks_of(scores, rows, memory)
    levels = levels_of(plant, scores, rows, blocks=blocks, known=known)
    level = levelled(scores, rows.own_table, levels)
    found = calibrate(
        level,
        rows.label,
        rule=settings.rule,
        target=target_of(plant),
        blocks=blocks,
        confidence=settings.confidence,
        bootstrap=bootstrap or settings.bootstrap,
        seed=plant.seed,
    )
    return Limit(found, levels, level)


def levels_of(
    plant: PlantConfig,
    scores: np.ndarray,
    rows: Judged,
    *,
    blocks: Blocks,
    known: pa.Table | None = None,
) -> Levels | None:
    """Levels of the plant's modes or assets; None where one threshold is for all.

    Parameters as of `limit_of`.
    """
    if plant.calibration.per == "plant":
        return None
    per: Per = "mode" if plant.calibration.per == "mode" else "asset"
    own = rows.own_table
    columns = [own[per], *([] if known is None else [known[per]])]
    names = sorted({name for c in columns for name in pc.unique(c).to_pylist() if name is not None})
    normal = rows.label <= 0

    def threshold(level: np.ndarray, counts: np.ndarray) -> float:
        if plant.calibration.budget is not None:  # which has no rate to level at
            return float(np.quantile(level[counts & normal], LEVELLED_AT))
        found = calibrate(
            level[counts],
            rows.label[counts],
            rule=plant.calibration.rule,
            target=target_of(plant),
            bootstrap=FEW,
            seed=plant.seed,
        )
        return found.threshold.value

    middle = float(np.median(scores[normal]))
    effect = effect_of_blocks(scores[normal], rows.series[normal], middle, blocks.length)
    place = places(own, per, names)
    return fit_levels(
        scores, place, normal, names=names, per=per, threshold=threshold, effect=effect
    )
