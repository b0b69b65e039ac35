"""A sealed package → a version in the registry; champion, or challenger with the reason why."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_anomaly.config import Gate, PlantConfig, read_mlflow
from vae_anomaly.decisions.events import EventFigures
from vae_anomaly.errors import PackageError, RegistryError
from vae_anomaly.package import Calibration, ModelPackage
from vae_anomaly.steps.evaluate import Evaluation, Figures, evaluate, figures_of
from vae_anomaly.steps.illustrate import draw, write_figures
from vae_anomaly.steps.latent_folder import write_latent
from vae_anomaly.steps.train import Trained, read_current
from vae_anomaly.steps.units import judged_together
from vae_anomaly.streaming import EVERY_ASSET
from vae_anomaly.tracking import Tracking, Version, champion_package, open_tracking

__all__ = ["RegisterReport", "gate_reasons", "register"]

logger = logging.getLogger(__name__)

#: Tags of a version that the gate has judged: "promoted" or "refused", and why, as a JSON list.
DECISION, REASONS = "vae_anomaly.decision", "vae_anomaly.reasons"

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


def register(plant: PlantConfig, folder: Path, *, contends: bool = False) -> RegisterReport:
    """Register a sealed package, look at the test part once, and decide who scores.

    The first version becomes champion. A later one becomes challenger, and champion only if the
    gate of mlflow.yml holds on the same test part. The same again after a kill goes on where it
    was; a run that is registered already is left as it is.

    Parameters
    ----------
    plant : PlantConfig
    folder : Path
        What `train` and `calibrate` left.
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
        reasons = tuple(json.loads(known.tags[REASONS]))
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
    version = known or tracking.register(
        folder / "package",
        trained.run_id,
        fingerprint=trained.fingerprint,
        tags=_tags(plant, trained, package, figures),
        description=_description(plant, trained, package, evaluation),
    )
    gate = settings.gate
    reasons = _decide(plant, trained, tracking, version, evaluation, None if contends else gate)
    decision = "refused" if reasons else "promoted"
    tracking.set_tags(version, {REASONS: json.dumps(reasons), DECISION: decision})
    tracking.finish_run(trained.run_id)
    alias = settings.challenger if reasons else settings.champion
    return RegisterReport(version, alias, reasons, evaluation)


def _sealed(
    plant: PlantConfig, folder: Path, tracking: Tracking, known: Version | None
) -> ModelPackage:
    """The calibrated package of a training; from the registry where only that has it still."""
    if (folder / "package" / "package.json").is_file():
        return ModelPackage.read(folder / "package")
    if known is not None:
        return ModelPackage.read(tracking.fetch_package(known, plant.lake_path / "packages"))
    raise RegistryError(f"{folder.name} has no threshold yet; run `vae-anomaly calibrate` first")


def _decide(
    plant: PlantConfig,
    trained: Trained,
    tracking: Tracking,
    version: Version,
    evaluation: Evaluation | None,
    gate: Gate | None,
) -> tuple[str, ...]:
    """Give the version its alias; says why it did not become champion. Without a gate it cannot."""
    champion = tracking.champion()
    if champion is None or champion.version == version.version:
        tracking.set_champion(version)
        return ()
    tracking.set_challenger(version)
    if gate is None:
        return (CONTENDS,)
    theirs = None
    try:
        package = ModelPackage.read(champion_package(plant).folder)
        theirs = figures_of(plant, trained, package)
    except PackageError as error:
        logger.warning("the champion cannot be compared: %s", error)
    reasons = gate_reasons(gate, evaluation.model if evaluation else None, theirs)
    if reasons:
        logger.warning("version %s stays challenger: %s", version.version, "; ".join(reasons))
    else:
        tracking.set_champion(version)
    return reasons


def gate_reasons(gate: Gate, ours: Figures | None, theirs: Figures | None) -> tuple[str, ...]:
    """Why a challenger may not become champion; empty when the gate holds.

    Both figures are of the same test part. Without labels there, only false alarms, that is
    flagged rows, can be compared.
    """
    if gate.promote == "never":
        return ("mlflow.yml says gate.promote: never; promote it by hand",)
    if ours is None or theirs is None:
        return ("the two were not compared on the same test part; promote it by hand",)
    reasons = []
    mine, other = ours.operating_point, theirs.operating_point
    far, champion_far = mine.false_alarm_rate.value, other.false_alarm_rate.value
    if far > gate.max_false_alarm_rate:
        reasons.append(
            f"false alarm rate {far:.2%} is above max_false_alarm_rate "
            f"{gate.max_false_alarm_rate:.2%}"
        )
    if mine.n_normal and far > max(champion_far * gate.max_false_alarm_ratio, 1 / mine.n_normal):
        reasons.append(
            f"false alarm rate {far:.2%} is more than {gate.max_false_alarm_ratio:g} times the "
            f"champion's {champion_far:.2%}"
        )
    if mine.n_anomalous:
        lost = other.detection_rate.value - mine.detection_rate.value
        if lost > gate.max_detection_loss:
            reasons.append(
                f"detection rate {mine.detection_rate.value:.1%} is {lost:.1%} below the champion's"
            )
    if ours.auroc is not None and theirs.auroc is not None:
        lost = theirs.auroc.value - ours.auroc.value
        if lost > gate.max_auroc_loss:
            reasons.append(f"AUROC {ours.auroc.value:.3f} is {lost:.3f} below the champion's")
    return tuple(reasons)


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
        if figures.auroc is not None:
            found[f"{prefix}auroc"] = figures.auroc.value
            found[f"{prefix}auroc_low"] = figures.auroc.low
            found[f"{prefix}auroc_high"] = figures.auroc.high
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


def _tags(
    plant: PlantConfig, trained: Trained, package: ModelPackage, figures: Mapping[str, float]
) -> dict[str, str]:
    tags = {
        "vae_anomaly.plant": plant.name,
        "vae_anomaly.variant": plant.method,
        "vae_anomaly.per": plant.model.per,
        "vae_anomaly.readings_version": str(trained.readings_version),
        "vae_anomaly.package_digest": package.digest,
        "vae_anomaly.format_version": str(package.format_version),
    }
    shown = ("threshold", "test_auroc", "test_false_alarm_rate", "test_detection_rate")
    return tags | {name: f"{figures[name]:.4g}" for name in shown if name in figures}


def _description(
    plant: PlantConfig, trained: Trained, package: ModelPackage, evaluation: Evaluation | None
) -> str:
    """Markdown that MLflow shows on the version's page."""
    rows = ", ".join(f"{part} {n:,}" for part, n in package.provenance.rows.items())
    lines = [
        f"**{plant.name}**: {plant.method_kind}, {len(package.units)} "
        f"scorer{'s' if len(package.units) > 1 else ''}, window {judged_together(plant)}.",
        f"Trained on version {trained.readings_version} of the readings (rows: {rows}).",
        f"Alarms: {package.alarm_rule.in_words()}.{_expected(package)}",
        "",
    ]
    if evaluation is not None:
        lines += [
            "| test part | AUROC | detection rate | false alarm rate | as alarms |",
            "|---|---|---|---|---|",
            *(_row(figures) for figures in (evaluation.model, *evaluation.baselines)),
            "",
            *(f"- {sentence}" for sentence in evaluation.in_words()),
        ]
    lines += [f"- {note}" for note in package.provenance.notes]
    return "\n".join(lines)


def _expected(package: ModelPackage) -> str:
    """What a budget will cost, as a sentence."""
    if package.budget is None:
        return ""
    return (
        f" Expected of machines that are well: {package.budget.forecast.per_week:.2g} alarms per "
        "asset and week."
    )


def _row(figures: Figures) -> str:
    point = figures.operating_point
    area = "–"
    if figures.auroc:
        area = f"{figures.auroc.value:.3f} ({figures.auroc.low:.3f}–{figures.auroc.high:.3f})"
    detected = f"{point.detection_rate.value:.1%}" if point.n_anomalous else "–"
    wrong, alarms = f"{point.false_alarm_rate.value:.2%}", figures.events.in_words()
    return f"| {figures.method} | {area} | {detected} | {wrong} | {alarms} |"
