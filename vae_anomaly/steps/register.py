"""A sealed package → a version in the registry; champion, or challenger with the reason why."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_anomaly.config import Gate, PlantConfig, read_mlflow
from vae_anomaly.data.lake import Lake
from vae_anomaly.decisions.events import EventFigures
from vae_anomaly.errors import PackageError, RegistryError
from vae_anomaly.package import Calibration, ModelPackage
from vae_anomaly.steps.aliases import set_challenger, set_champion, settle
from vae_anomaly.steps.evaluate import Evaluation, evaluate, figures_of
from vae_anomaly.steps.gate import (
    DECISION,
    PROMOTED,
    REASONS,
    WAITING,
    Ruling,
    as_json,
    note_ruling,
    on_test_part,
    ruling,
)
from vae_anomaly.steps.illustrate import draw, write_figures
from vae_anomaly.steps.latent_folder import write_latent
from vae_anomaly.steps.promotions import read_promotions
from vae_anomaly.steps.train import Trained, read_current
from vae_anomaly.steps.version_page import version_page, version_tags
from vae_anomaly.streaming import EVERY_ASSET
from vae_anomaly.tracking import Tracking, Version, champion_package, open_tracking

__all__ = ["RegisterReport", "register"]

logger = logging.getLogger(__name__)

#: Why a version waits of which nobody knows how it does beside the champion.
NOT_COMPARED = "the two were not compared on the same test part; promote it by hand"

#: Why a version that nobody asked for by hand waits.
CONTENDS = "trained by itself, so that it waits as a challenger; look at it, then promote it"


@dataclass(frozen=True)
class RegisterReport:
    """The version that stands for a run, and whether it scores from now on.

    Attributes
    ----------
    version : Version
    alias : str
        Alias that it has now, the champion's or the challenger's; empty if it has none.
    reasons : tuple of str
        Why a challenger was not promoted; empty for a champion.
    evaluation : Evaluation or None
        Figures on the test part; None where the plant keeps none, or nothing was done.
    existed : bool
        This very fingerprint was registered before.
    """

    version: Version
    alias: str
    reasons: tuple[str, ...] = ()
    evaluation: Evaluation | None = None
    existed: bool = False


def register(
    plant: PlantConfig, folder: Path, *, link: str = "", contends: bool = False
) -> RegisterReport:
    """Register a sealed package, look at the test part once, and decide who scores.

    The first version becomes champion. A later one becomes challenger, and champion only if the
    gate of mlflow.yml holds on the same test part. The same again after a kill goes on where it
    was; a run that is registered already is left as it is.

    Parameters
    ----------
    plant : PlantConfig
    folder : Path
        What `train` and `calibrate` left.
    link : str, optional
        Page of the flow run, for the version's page.
    contends : bool
        A later version stays challenger, whatever the gate says of it now: nobody asked for it by
        hand. A person, or the gate beside the champion in service, lets it score.

    Returns
    -------
    RegisterReport

    Raises
    ------
    RegistryError
        The registry cannot be reached.
    PackageError
        The package is damaged.
    """
    trained = read_current(plant, folder)
    settings = read_mlflow(plant)
    tracking = open_tracking(plant)
    known = tracking.find_version(trained.fingerprint)
    if known is not None and DECISION in known.tags:
        waits = known.tags[DECISION] != PROMOTED  # a person may have promoted it since
        reasons = tuple(json.loads(known.tags[REASONS])) if waits else ()
        return RegisterReport(known, ", ".join(known.aliases), reasons, None, existed=True)
    package = _sealed(plant, folder, tracking, known)
    evaluation = evaluate(plant, trained, package)
    figures = _metrics(package, evaluation)
    tracking.log_metrics(trained.run_id, figures)
    write_figures(folder, package, evaluation)
    draw(plant, trained, folder, package, evaluation)
    looked = write_latent(plant, trained, folder, package, evaluation)
    tracking.log_metrics(trained.run_id, looked)
    for name in ("pictures", "figures", "latent"):
        tracking.log_folder(trained.run_id, folder / name, name)
    run_page = tracking.run_page(trained.run_id)
    page = version_page(plant, trained, package, evaluation, run_page=run_page, link=link)
    tracking.describe_run(trained.run_id, page)
    version = known or tracking.register(
        folder / "package",
        trained.run_id,
        fingerprint=trained.fingerprint,
        tags=version_tags(plant, trained, package, figures, link=link),
        description=page,
    )
    said = _ruled(plant, trained, tracking, version, evaluation, contends=contends)
    note_ruling(tracking, version, said)
    tracking.finish_run(trained.run_id)
    alias = settings.champion if said.decision == PROMOTED else settings.challenger
    return RegisterReport(version, alias, said.reasons, evaluation)


def _sealed(
    plant: PlantConfig, folder: Path, tracking: Tracking, known: Version | None
) -> ModelPackage:
    """The calibrated package of a training; from the registry where only that has it still."""
    if (folder / "package" / "package.json").is_file():
        return ModelPackage.read(folder / "package")
    if known is not None:
        return ModelPackage.read(tracking.fetch_package(known, plant.work_path / "packages"))
    raise RegistryError(f"{folder.name} has no threshold yet; run `vae-anomaly calibrate` first")


def _ruled(
    plant: PlantConfig,
    trained: Trained,
    tracking: Tracking,
    version: Version,
    evaluation: Evaluation | None,
    *,
    contends: bool,
) -> Ruling:
    """Give the version its alias; what the gate says of it."""
    settle(plant, tracking)
    champion = tracking.champion()
    if champion is None and contends and read_promotions(Lake(plant.lake, plant.contract)):
        # who judged is gone, which is for a person to see
        set_challenger(plant, tracking, version)
        return Ruling(WAITING, (CONTENDS,))
    if champion is None or champion.version == version.version:
        why = f"trained on version {trained.readings_version} of the readings"
        set_champion(plant, tracking, version, action="first", why=why)
        return Ruling(PROMOTED)
    set_challenger(plant, tracking, version)
    said = _compared(plant, trained, evaluation, tracking.config.gate, contends=contends)
    if said.decision != PROMOTED:
        logger.warning("version %s stays challenger: %s", version.version, "; ".join(said.reasons))
        return said
    set_champion(
        plant, tracking, version, action="promoted", why="no worse on the test part",
        gate=as_json(said.figures),
    )  # fmt: skip
    return said


def _compared(
    plant: PlantConfig, trained: Trained, evaluation: Evaluation | None, gate: Gate, *,
    contends: bool,
) -> Ruling:  # fmt: skip
    """What the gate says of the new version beside the champion, on the same test part."""
    theirs = None
    try:
        theirs = figures_of(plant, trained, ModelPackage.read(champion_package(plant).folder))
    except PackageError as error:
        logger.warning("the champion cannot be compared: %s", error)
    if evaluation is None or theirs is None:
        return Ruling(WAITING, (NOT_COMPARED,))
    waits = [CONTENDS] * contends
    if gate.shadow_days:
        waits.append(f"it judges {gate.shadow_days:g} days of an asset beside the champion first")
    figures = on_test_part(gate, evaluation.model, theirs, plant.calibration.budget)
    return ruling(gate, figures, missing=waits)


# -------------------------------------------------------------------- what a person reads in MLflow


def _metrics(package: ModelPackage, evaluation: Evaluation | None) -> dict[str, float]:
    """Thresholds, operating points and test figures, flat, as MLflow keeps them."""
    found: dict[str, float] = {}
    for name, unit in package.units.items():
        calibration: Calibration | None = unit.calibration
        if calibration is None:
            continue
        prefix = "" if name == EVERY_ASSET else f"{name}/"
        found[f"{prefix}threshold"] = calibration.threshold.value
        point = calibration.operating_point
        found[f"{prefix}calibrate_false_alarm_rate"] = point.false_alarm_rate.value
        if point.n_anomalous:
            found[f"{prefix}calibrate_detection_rate"] = point.detection_rate.value
    for figures in (evaluation.model, *evaluation.baselines) if evaluation else ():
        own = evaluation is not None and figures is evaluation.model
        prefix = "test_" if own else f"baseline/{figures.method}/test_"
        if figures.areas is not None:
            for name, area in vars(figures.areas).items():
                found[f"{prefix}{name}"] = area.value
                found[f"{prefix}{name}_low"] = area.low
                found[f"{prefix}{name}_high"] = area.high
        found[f"{prefix}false_alarm_rate"] = figures.operating_point.false_alarm_rate.value
        if figures.operating_point.n_anomalous:
            found[f"{prefix}detection_rate"] = figures.operating_point.detection_rate.value
        found |= {f"{prefix}{name}": value for name, value in _event_metrics(figures.events)}
    return found


def _event_metrics(events: EventFigures) -> Iterator[tuple[str, float]]:
    """Figures of alarms; none that the rows cannot tell, or that is infinite."""
    named = {
        "alarms_per_day": events.alarms_per_day,
        "false_alarms_per_day": events.false_alarms_per_day,
        "event_detection_rate": events.detection_rate,
        "event_precision": events.precision,
        "median_delay_s": events.delay_s,
    }
    yield from ((name, found.value) for name, found in named.items() if np.isfinite(found.value))
