"""A challenger beside the champion: the same readings, a line of its own, and no alarms.

Its line begins behind what the champion had judged when it was first seen as challenger, so that
the two can be compared on the very same rows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import Lake
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.aliases import set_champion
from vae_anomaly.steps.beside import beside_champion, shadow_line
from vae_anomaly.steps.gate import DECISION, WAITING, Ruling, as_json, note_ruling, ruling
from vae_anomaly.steps.lines import Line, judge_line
from vae_anomaly.tracking import Tracking, Version

__all__ = ["Contender", "Shadow", "score_shadow"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contender:
    """The challenger, and the registry that it stands in."""

    tracking: Tracking
    version: Version


@dataclass(frozen=True)
class Shadow:
    """What a challenger did beside the champion in one call of `score`.

    Attributes
    ----------
    version : str
    n_rows, n_over : int
        Rows judged, and those over its threshold.
    trouble : str
        Why it did not judge; empty where it did.
    ruling : Ruling or None
        What the gate said of it now; None where it was not asked.
    """

    version: str
    n_rows: int = 0
    n_over: int = 0
    trouble: str = ""
    ruling: Ruling | None = None


def score_shadow(plant: PlantConfig, contender: Contender, last: int) -> Shadow:
    """Let the challenger judge what the champion has judged, and the gate judge it, if it waits.

    Whatever goes wrong stands in what is returned, and in a warning.

    Parameters
    ----------
    plant : PlantConfig
    contender : Contender
    last : int
        Version of `readings` to judge up to.
    """
    number = contender.version.version
    try:
        folder = contender.tracking.fetch_package(contender.version, plant.work_path / "packages")
        package = ModelPackage.read(folder)
        lake = Lake(plant.lake, plant.contract)
        line = Line(shadow_line(number), number, package)
        limit = plant.source.latest(datetime.now(UTC))
        statuses = judge_line(lake, line, last, limit=limit).statuses
        said = _ruled(plant, contender, package)
    except Exception as error:  # the champion has judged, and nothing here may say that it has not
        logger.warning("challenger version %s did not judge beside the champion: %s", number, error)
        return Shadow(number, trouble=str(error))
    return Shadow(number, sum(statuses.values()), statuses["anomaly"], ruling=said)


def _ruled(plant: PlantConfig, contender: Contender, package: ModelPackage) -> Ruling | None:
    """Let the gate rule on a challenger that waits for this; None where it does not, or not yet."""
    tracking, version = contender.tracking, contender.version
    gate = tracking.config.gate
    waits = gate.promote == "managed" and version.tags.get(DECISION) == WAITING
    if not (waits and gate.shadow_days):
        return None
    beside = beside_champion(plant, version, package, gate)
    if beside.asset_days < gate.shadow_days:
        return None
    said = ruling(gate, beside.figures)
    if said.reasons:
        logger.warning("version %s stays challenger: %s", version.version, "; ".join(said.reasons))
    else:
        why = f"no worse than the champion on {beside.asset_days:.3g} days of an asset beside it"
        figures = as_json(said.figures)
        set_champion(plant, tracking, version, action="promoted", why=why, by="gate", gate=figures)
    note_ruling(tracking, version, said)
    return said
