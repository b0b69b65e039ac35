"""What people said of alarms → new thresholds for the same weights, as a new version, at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from vae_anomaly.config import PlantConfig, settings_digest
from vae_anomaly.data.lake import Lake
from vae_anomaly.decisions.budget import SOON_ROWS, SOON_SHARE, BudgetChoice, within_budget
from vae_anomaly.decisions.dependence import blocks_shown
from vae_anomaly.decisions.evaluation import rates_at
from vae_anomaly.decisions.recalibration import MOST_GROWTH, Marked, Recalibration, recalibrated
from vae_anomaly.decisions.thresholds import Threshold
from vae_anomaly.errors import CalibrationError, InputError
from vae_anomaly.package import Calibration, ModelPackage
from vae_anomaly.package_file import read_package_file, weights_digest
from vae_anomaly.steps.aliases import set_challenger, set_champion
from vae_anomaly.steps.feedback import read_feedback
from vae_anomaly.steps.gate import REFUSED, Ruling, note_ruling, ruling
from vae_anomaly.steps.marked import marked_rows
from vae_anomaly.steps.said import FALSE_ALARM, FAULT, holding, read_said
from vae_anomaly.streaming import EVERY_ASSET
from vae_anomaly.table import Table
from vae_anomaly.tracking import Tracking, Version, champion_package, open_tracking

__all__ = ["RecalibrateReport", "recalibrate", "recalibrate_table"]

logger = logging.getLogger(__name__)

#: What a threshold says of its rule, where people's words about alarms chose it.
FEEDBACK = "feedback"

#: Tags of a version: the one that it took the place of, and the digest of the weights of both.
RECALIBRATED_FROM, WEIGHTS = "vae_anomaly.recalibrated_from", "vae_anomaly.weights"

#: Tags that hold for the weights, whatever the threshold.
OF_WEIGHTS = ("vae_anomaly.plant", "vae_anomaly.variant", "vae_anomaly.readings_version")


@dataclass(frozen=True)
class RecalibrateReport:
    """What people's words change.

    Attributes
    ----------
    champion : str
        Version that scored until now.
    units : mapping of str to Recalibration
        What becomes of each scorer.
    present : mapping of str to float
        Thresholds that scored until now.
    n_said : int
        False alarms and faults that people named.
    version : Version or None
        The new version; None where nothing changes, or nothing was to be registered.
    reasons : tuple of str
        Why it does not score; empty where it does.
    existed : bool
        The same words had been used before.
    """

    champion: str
    units: Mapping[str, Recalibration]
    present: Mapping[str, float]
    n_said: int
    version: Version | None = None
    reasons: tuple[str, ...] = ()
    existed: bool = False

    @property
    def changes(self) -> bool:
        """Whether a threshold is another one."""
        return any(unit.threshold != self.present[name] for name, unit in self.units.items())

    @property
    def statement(self) -> str:
        """What it does, in a sentence."""
        total = {
            name: sum(getattr(unit, name) for unit in self.units.values())
            for name in ("n_removed", "n_false", "n_lost", "n_events")
        }
        return (
            f"this removes {total['n_removed']} of {total['n_false']} false alarms and loses "
            f"{total['n_lost']} of {total['n_events']} confirmed events"
        )


@dataclass(frozen=True)
class _Judging:
    """The package that scores, the one that training made of the same weights, and its lineage."""

    champion: Version
    package: ModelPackage
    trained: ModelPackage
    weights: str
    digests: frozenset[str]


def recalibrate(
    plant: PlantConfig, *, dry_run: bool = False, most_growth: float = MOST_GROWTH
) -> RecalibrateReport:
    """Set the champion's thresholds anew by what people said of its alarms.

    It begins with the thresholds of the training, so that the order in which things were said, and
    what was recalibrated in between, does not matter, and a word taken back is taken back here.

    Parameters
    ----------
    plant : PlantConfig
    dry_run : bool, optional
        Only say what would be.
    most_growth : float, optional
        What quiet may cost: by how much the smallest lasting shift may grow that is found soon.

    Returns
    -------
    RecalibrateReport

    Raises
    ------
    InputError
        Nobody has marked a false alarm or confirmed a fault yet, or the growth is no share.
    RegistryError
        There is no champion, or the registry cannot be reached.
    """
    lake = Lake(plant.lake, plant.contract)
    ever = read_said(lake)
    said = [e for e in holding(ever) if e.verdict in (FALSE_ALARM, FAULT)]
    if not any(e.verdict in (FALSE_ALARM, FAULT) for e in ever):  # a word taken back counts
        raise InputError(
            "nobody has marked a false alarm or confirmed a fault yet; say what alarms were with "
            "`vae-anomaly label`"
        )
    tracking = open_tracking(plant)
    judging = _judging(plant, tracking)
    feedback = read_feedback(lake, numbered=plant.contract.label is not None)
    rows = marked_rows(plant, lake, judging.package, judging.digests, feedback)
    floors, choice = _floors(plant, judging.trained, rows)
    present = {name: t.value for name, t in judging.package.thresholds.items()}
    units = {
        name: recalibrated(
            own,
            judging.package.alarm_rule,
            floor=floors[name],
            present=present[name],
            most_growth=most_growth,
        )
        for name, own in rows.items()
    }
    report = RecalibrateReport(judging.champion.version, units, present, len(said))
    if dry_run or not report.changes:
        return report
    words: list[JsonValue] = [*sorted(f"{entry.about}: {entry.verdict}" for entry in said)]
    thresholds: dict[str, JsonValue] = {name: unit.threshold for name, unit in units.items()}
    fingerprint = settings_digest(judging.package.provenance.fingerprint, words, thresholds)
    known = tracking.find_version(fingerprint)
    version = known or _registered(plant, tracking, judging, report, rows, choice, fingerprint)
    reasons = _ruled(plant, tracking, version, report)
    return replace(report, version=version, reasons=reasons, existed=known is not None)


def _judging(plant: PlantConfig, tracking: Tracking) -> _Judging:
    """The champion, and every registered package with its weights."""
    champion = tracking.champion()
    folder = champion_package(plant).folder  # which says what to do where there is none
    assert champion is not None
    package = trained = ModelPackage.read(folder)
    weights = weights_digest(read_package_file(folder))
    digests = {package.digest}
    for version in tracking.versions():
        is_trained = version.fingerprint == package.provenance.fingerprint
        if is_trained or version.tags.get(WEIGHTS) == weights:
            digests.add(version.digest)
        if is_trained:
            trained = ModelPackage.read(
                tracking.fetch_package(version, plant.work_path / "packages")
            )
    return _Judging(champion, package, trained, weights, frozenset(digests))


def _floors(
    plant: PlantConfig, trained: ModelPackage, rows: Mapping[str, list[Marked]]
) -> tuple[dict[str, float], BudgetChoice | None]:
    """Thresholds to begin with: those of the training, or higher where the budget asks for it."""
    floors = {name: t.value for name, t in trained.thresholds.items()}
    if plant.calibration.budget is None or not rows:
        return floors, None
    histories = {name: [asset.history for asset in own] for name, own in rows.items()}
    try:
        choice = within_budget(histories, plant.calibration.budget, rules=[trained.alarm_rule])
    except CalibrationError as error:  # these weights have not judged for long
        logger.warning("the budget is that of the training still: %s", error)
        return floors, None
    return {n: max(value, choice.thresholds.get(n, value)) for n, value in floors.items()}, choice


def _registered(
    plant: PlantConfig,
    tracking: Tracking,
    judging: _Judging,
    report: RecalibrateReport,
    rows: Mapping[str, list[Marked]],
    choice: BudgetChoice | None,
    fingerprint: str,
) -> Version:
    """Seal the package with its new thresholds, and register it."""
    package = judging.package
    units = dict(package.units)
    for name, found in report.units.items():
        if found.threshold == report.present[name]:
            continue
        memory = units[name].scorer.left_context + 1
        calibration = _calibration(
            plant, found.threshold, rows[name], report.statement, memory=memory
        )
        levelled = replace(calibration, levels=units[name].levels)
        units[name] = replace(units[name], calibration=levelled)
    kept = choice is not None and all(
        choice.thresholds[name] == found.threshold for name, found in report.units.items()
    )
    provenance = replace(
        package.provenance, notes=(*judging.trained.provenance.notes, f"{report.statement}.")
    )
    folder = plant.work_path / "models" / fingerprint[:16] / "package"
    sealed = replace(
        package, units=units, provenance=provenance, budget=choice if kept else None
    ).write(folder)
    tags = {name: judging.champion.tags.get(name, "") for name in OF_WEIGHTS}
    tags |= {RECALIBRATED_FROM: report.champion, WEIGHTS: judging.weights}
    if EVERY_ASSET in sealed.thresholds:
        tags["threshold"] = f"{sealed.thresholds[EVERY_ASSET].value:.4g}"
    description = (
        f"**{plant.name}**: the weights of version {report.champion} with thresholds by what "
        f"people said of {report.n_said} alarms and spans; {report.statement}."
    )
    return tracking.register(
        folder, judging.champion.run_id, fingerprint=fingerprint, tags=tags, description=description
    )


def _calibration(
    plant: PlantConfig, value: float, rows: list[Marked], note: str, *, memory: int
) -> Calibration:
    """A threshold, and what it costs and detects in the history, row by row."""
    faulty = [_in_events(asset) for asset in rows]
    known = [asset.history.is_normal | own for asset, own in zip(rows, faulty, strict=True)]
    score, label = (
        np.concatenate([values[own] for values, own in zip(of_assets, known, strict=True)])
        for of_assets in ([asset.history.score for asset in rows], faulty)
    )
    series = np.repeat(np.arange(len(rows)), [own.sum() for own in known])
    label = label.astype(np.int64)
    normal = label == 0
    blocks = blocks_shown(score, label, series, normal, memory=memory)
    point = rates_at(
        value, score, label, blocks=blocks, confidence=plant.calibration.confidence, seed=plant.seed
    )
    threshold = Threshold(value, FEEDBACK, point.false_alarm_rate.value, int(normal.sum()))
    return Calibration(threshold, point, np.sort(score[normal]).astype(np.float32), note)


def _in_events(rows: Marked) -> np.ndarray:
    """(n,) rows that were judged in confirmed events."""
    time = rows.history.time
    inside = np.zeros(len(time), bool)
    for span in rows.events:
        inside |= (time >= span.start) & (time < span.end)
    return inside & rows.judged & ~rows.history.is_normal


def _ruled(
    plant: PlantConfig, tracking: Tracking, version: Version, report: RecalibrateReport
) -> tuple[str, ...]:
    """Let the version score unless a confirmed event is lost; says why it does not."""
    n_lost = sum(unit.n_lost for unit in report.units.values())
    said = ruling(tracking.config.gate, ())
    if n_lost:
        lost = f"{n_lost} confirmed event{'' if n_lost == 1 else 's'} would be lost"
        said = Ruling(REFUSED, (lost, *said.reasons))
    if said.reasons:
        set_challenger(plant, tracking, version)
    else:
        set_champion(plant, tracking, version, action="recalibrated", why=report.statement)
    note_ruling(tracking, version, said)
    logger.info("version %s: %s", version.version, report.statement)
    return said.reasons


def recalibrate_table(report: RecalibrateReport) -> Table:
    """One line a scorer, and what becomes of it."""
    lines = tuple(
        (
            "every asset" if name == EVERY_ASSET else name,
            f"{report.present[name]:.4g}",
            f"{unit.threshold:.4g}",
            f"{unit.n_removed} of {unit.n_false}",
            f"{unit.n_lost} of {unit.n_events}",
            "–" if np.isnan(unit.growth) else f"{unit.growth - 1:+.0%}",
        )
        for name, unit in report.units.items()
    )
    columns = ("scorer", "threshold", "new threshold", "false alarms removed",
               "confirmed events lost", "smallest shift found soon")  # fmt: skip
    notes = (_outcome(report), *_counted(report))
    statement = report.statement[0].upper() + report.statement[1:]
    return Table("Recalibration", f"{statement}.", columns, lines, notes)


def _counted(report: RecalibrateReport) -> Iterator[str]:
    """What the figures of the table are about."""
    times = "once" if report.n_said == 1 else f"{report.n_said:,} times"
    yield (
        f"people said fault or false alarm {times}; each counts if the threshold in use raises an "
        "alarm in it, but for false alarms within the parts train, stop and test; faults that "
        "overlap are one event, and a failure is none"
    )
    if any(not np.isnan(unit.growth) for unit in report.units.values()):
        yield (
            "smallest shift found soon: by how much larger a lasting rise of the score has to be "
            f"than now to raise an alarm within {SOON_ROWS} rows in {SOON_SHARE:.0%} of cases; "
            "that is the price of quiet"
        )


def _outcome(report: RecalibrateReport) -> str:
    if not report.changes:
        return f"no threshold changes: version {report.champion} goes on"
    if report.version is None:
        return "nothing was registered; the same without --dry-run does it"
    number = report.version.version
    known = " (known from before)" if report.existed else ""
    if report.reasons:
        return f"version {number}{known} is challenger: {'; '.join(report.reasons)}"
    return f"version {number}{known} scores from now on, in place of version {report.champion}"
