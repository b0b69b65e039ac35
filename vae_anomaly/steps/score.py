"""Readings that have no verdict yet → verdicts of the champion, its alarms, and its challenger's.

The champion's line comes first, and raises the alarms. Beside it the challenger judges the same
readings in a line of its own, of which nothing is raised: whatever goes wrong there is told, and
costs the champion nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake
from vae_anomaly.errors import RegistryUnreachableError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.alarms import CHAMPION, AlarmReport, raise_alarms
from vae_anomaly.steps.aliases import settle
from vae_anomaly.steps.beside import shadow_line
from vae_anomaly.steps.lines import Line, begin, judge_line, judged_through
from vae_anomaly.steps.shadow import Contender, Shadow, score_shadow
from vae_anomaly.tracking import champion_package, open_tracking

__all__ = ["CHAMPION", "ScoreReport", "score"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreReport:
    """What one call of `score` judged.

    Attributes
    ----------
    line : str
    model_version : str
    first_version, last_version : int
        Versions of `readings` that were scored; first > last when there was nothing new.
    statuses : mapping of str to int
        Rows by status.
    top_sensors : mapping of str to int
        How often each sensor came first among the anomalies.
    constant_changed : mapping of str to int
        Rows in which a sensor that was constant in training was not so.
    sensor_faults : mapping of str to int
        Rows in which a sensor was at fault itself, by sensor and kind.
    alarms : AlarmReport
        What became of the rows over the threshold.
    cached : bool
        MLflow did not answer: the champion that was fetched last has judged.
    shadow : Shadow or None
        What the challenger made of the same readings; None without one.
    first_time, last_time : datetime or None
        Of the rows; None when there was nothing new.
    """

    line: str
    model_version: str
    first_version: int
    last_version: int
    statuses: Mapping[str, int] = field(default_factory=dict)
    top_sensors: Mapping[str, int] = field(default_factory=dict)
    constant_changed: Mapping[str, int] = field(default_factory=dict)
    sensor_faults: Mapping[str, int] = field(default_factory=dict)
    n_late: int = 0
    alarms: AlarmReport = field(default_factory=AlarmReport)
    cached: bool = False
    shadow: Shadow | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None

    @property
    def n_rows(self) -> int:
        return sum(self.statuses.values())


def score(
    plant: PlantConfig, *, on_group: Callable[[int, int], None] = lambda done, last: None
) -> ScoreReport:
    """Judge all readings that the champion line has not judged, and raise the alarms.

    Parameters
    ----------
    plant : PlantConfig
    on_group : callable, optional
        Called after each commit with the version scored through and the one to reach.

    Returns
    -------
    ScoreReport

    Raises
    ------
    RegistryError
        There is no champion yet.
    PackageError
        The champion's package is damaged, or scores otherwise than when it was sealed.
    """
    lake = Lake(plant.lake, plant.contract)
    contender = _contender(plant)
    champion = champion_package(plant)
    package = ModelPackage.read(champion.folder)
    _warn_of_lost_columns(package, plant, champion.version)
    last = lake.open(READINGS).version()
    first = judged_through(lake.writable(VERDICTS), CHAMPION) + 1
    if contender is not None:  # before the champion goes on: a kill in between loses no row
        begin(lake, shadow_line(contender.version.version), first - 1)
    line = Line(CHAMPION, champion.version, package)
    limit = plant.source.latest(datetime.now(UTC))
    tally = judge_line(lake, line, last, limit=limit, on_group=on_group)
    alarms = raise_alarms(plant)
    shadow = None if contender is None else score_shadow(plant, contender, last)
    report = ScoreReport(
        CHAMPION, champion.version, first, last, dict(tally.statuses), dict(tally.top_sensors),
        dict(tally.constant_changed), dict(tally.sensor_faults), tally.n_late, alarms,
        champion.cached, shadow, tally.first_time, tally.last_time,
    )  # fmt: skip
    for sensor, n in report.constant_changed.items():
        logger.warning("sensor '%s' was constant in training and has changed in %d rows", sensor, n)
    logger.info("scored %d rows with version %s", report.n_rows, report.model_version)
    return report


def _contender(plant: PlantConfig) -> Contender | None:
    """The challenger that judges too; what was cut short in the registry is finished first.

    None where there is none, none is wanted, or MLflow does not answer: `champion_package` warns
    of that, and says who goes on.
    """
    try:
        tracking = open_tracking(plant)
        settle(plant, tracking)
        version = tracking.challenger() if tracking.config.gate.shadow else None
    except RegistryUnreachableError as error:
        logger.debug("%s", error)
        return None
    return None if version is None else Contender(tracking, version)


def _warn_of_lost_columns(package: ModelPackage, plant: PlantConfig, version: str) -> None:
    """Say which columns of the champion the present contract no longer fills."""
    now = {*plant.contract.sensor_names, *plant.contract.context_names}
    trained_on = (*package.contract.sensor_names, *package.contract.context_names)
    if lost := [name for name in trained_on if name not in now]:
        logger.warning(
            "version %s was trained on %s, which plant.yml no longer names; new rows are scored "
            "without. Train a new version",
            version,
            ", ".join(f"'{name}'" for name in lost),
        )
