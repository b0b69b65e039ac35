"""What a step did, as a table for the terminal, Prefect and MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vae_anomaly.config import SECONDS, PlantConfig, is_bucket, read_mlflow
from vae_anomaly.decisions.budget import SOON_ROWS, SOON_SHARE, BudgetChoice
from vae_anomaly.decisions.events import duration_text
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.steps.alarms import AlarmReport
from vae_anomaly.steps.aliases import ARCHIVED
from vae_anomaly.steps.calibrate import CalibrateReport
from vae_anomaly.steps.evaluate import Evaluation
from vae_anomaly.steps.figures import Areas, Figures
from vae_anomaly.steps.gate import DECISION, PROMOTED, REASONS, REFUSED, WAITING
from vae_anomaly.steps.promotions import Promotion, part_played
from vae_anomaly.steps.register import RegisterReport
from vae_anomaly.steps.score import ScoreReport
from vae_anomaly.steps.shadow import Shadow
from vae_anomaly.steps.survey_page import survey_tables
from vae_anomaly.steps.train import TrainReport
from vae_anomaly.streaming import EVERY_ASSET
from vae_anomaly.table import Table
from vae_anomaly.tracking import Version

__all__ = [
    "Table",
    "calibrate_table",
    "data_tables",
    "evaluation_table",
    "figure_text",
    "models_table",
    "places_table",
    "register_table",
    "score_table",
    "share_text",
    "train_table",
]


#: Tag of a version whose test part held known faults.
DETECTED = "test_detection_rate"

#: Texts and codes that a note names.
MOST_TEXTS = 5


# ---------------------------------------------------------------------------------- one a step


def data_tables(report: TrainReport) -> tuple[Table, ...]:
    """What the readings that a model was trained on are like; none where it was trained before."""
    return () if report.survey is None else survey_tables(report.survey)


def train_table(report: TrainReport) -> Table:
    """What was trained, on which rows."""
    trained = report.trained
    if report.registered:
        summary = f"Nothing to train: version {report.registered} has these very rows and settings."
    elif not report.n_checks:
        summary = f"Run {trained.run_id} is trained; calibrate and register it."
    elif report.resumed:
        summary = f"Run {trained.run_id} was gone on with, {report.n_checks} checks."
    else:
        summary = f"Run {trained.run_id}, {report.n_checks} checks of the held-out bound."
    rows: dict[tuple[str, str], int] = {}
    for interval in trained.intervals:
        rows[interval.part, interval.asset] = (
            rows.get((interval.part, interval.asset), 0) + interval.n_rows
        )
    parts = ("train", "stop", "calibrate", "test")
    assets = sorted({asset for _, asset in rows})
    cells = tuple((a, *(f"{rows.get((part, a), 0):,}" for part in parts)) for a in assets)
    return Table("Train", summary, ("asset", *parts), cells, report.notes)


def calibrate_table(report: CalibrateReport) -> Table:
    """Threshold and operating point of each scorer."""
    points = {name: c.operating_point for name, c in report.calibrations.items()}
    over = "false alarms" if report.budget is None else "normal over it"
    columns: tuple[str, ...] = ("scorer", "threshold", over, "normal")
    if any_fault := any(point.n_anomalous for point in points.values()):
        columns += ("detected", "faulty")
    rows = []
    for name, point in points.items():
        row = (
            "all" if name == EVERY_ASSET else name,
            figure_text(point.threshold, "{:.4g}"),
            share_text(point.false_alarm_rate, 2),
            f"{point.n_normal:,}",
        )
        faulty = (share_text(point.detection_rate, 1), f"{point.n_anomalous:,}")
        rows.append(row + faulty if any_fault else row)
    rules = sorted({c.threshold.rule for c in report.calibrations.values()})
    n = f"{len(rows)} threshold{'s' if len(rows) > 1 else ''}"
    summary = f"{n} by rule {', '.join(rules)}; "
    summary += (
        "shares are of so many normal and faulty rows."
        if any_fault
        else "no row here is known to be faulty, and all count as normal."
    )
    said = dict.fromkeys(c.note for c in report.calibrations.values() if c.note)
    notes = (f"{report.alarm_rule.in_words()}.", *_budget_notes(report), *said)
    return Table("Calibrate", summary, columns, tuple(rows), notes)


def _budget_notes(report: CalibrateReport) -> Iterator[str]:
    """What a budget of alarms will cost, and what others would."""
    budget = report.budget
    if budget is None:
        return
    yield from _expected_notes(report, budget)
    if budget.n_faults:
        late = "" if budget.delay_s is None else f", in {duration_text(budget.delay_s)} (median)"
        yield f"{budget.n_found} of {budget.n_faults} known faults in these rows found{late}."
        pairs = (f"{p.n_found} at {p.alarms_per_week:.2g}" for p in budget.curve)
        yield f"Found by alarms per asset and week: {', '.join(pairs)}."
    points = [point for point in budget.curve if point.smallest_shift is not None]
    if points:
        first, *others = ((f"{p.alarms_per_week:.2g}", f"{p.smallest_shift:.2g}") for p in points)
        more = "".join(f"; at {alarms}, one of {shift}" for alarms, shift in others)
        yield (
            f"What quiet costs: at {first[0]} alarms per asset and week, a lasting rise of the "
            f"score of {first[1]} standard deviations raises an alarm within {SOON_ROWS} rows "
            f"{10 * SOON_SHARE:.0f} times in 10{more}."
        )


def _expected_notes(report: CalibrateReport, budget: BudgetChoice) -> Iterator[str]:
    """Rows over the threshold, the alarms that the rule makes of them, and how sure that is."""
    points = [calibration.operating_point for calibration in report.calibrations.values()]
    n_normal = sum(point.n_normal for point in points)
    n_over = sum(p.n_normal * p.false_alarm_rate.value for p in points if p.n_normal)
    rule, forecast = report.alarm_rule, budget.forecast
    if n_normal:
        of = f"{rule.raise_after} of {rule.out_of} rows" if rule.out_of > 1 else "each such row"
        yield (
            f"{n_over / n_normal:.2%} of normal rows lie over the threshold, and the rule ({of}) "
            f"makes {forecast.per_week:.2g} alarms per asset and week of them."
        )
    fresh = forecast.expected(forecast.length_s)
    yield (
        f"Expected of machines that are well: {forecast.per_week:.2g} alarms per asset and week. "
        f"In the next {forecast.length_s / SECONDS['day']:.3g} days, those of all assets added up, "
        f"that is {fresh.value:.0f}; 95 times in 100 it is between {fresh.low:.0f} and "
        f"{fresh.high:.0f}."
    )


def register_table(report: RegisterReport) -> Table:
    """The version, its alias, and its figures beside the baselines'."""
    version = report.version
    role = report.alias or "neither champion nor challenger"
    summary = f"{version.name} version {version.version} is {role}"
    summary += " (registered before)" if report.existed else ""
    summary += ", and raises no alarm before it is promoted." if report.reasons else "."
    if report.evaluation is None:
        return Table("Register", summary, (), (), report.reasons)
    table = evaluation_table(report.evaluation)
    return replace(table, title="Register", summary=summary, notes=(*report.reasons, *table.notes))


def evaluation_table(evaluation: Evaluation) -> Table:
    """The model beside the baselines on the test part."""
    figures = (evaluation.model, *evaluation.baselines)
    notes = evaluation.in_words()
    labelled = bool((evaluation.rows.label >= 0).any())
    if not labelled:
        notes = ("nothing is labelled, so nobody knows which of the flagged rows are false alarms",)
    if n_assumed := evaluation.rows.n_assumed:
        said = "that nobody said anything of count as normal"
        notes = (f"{n_assumed:,} rows {said}", *notes)
    return Table(
        "Test part",
        f"{len(evaluation.rows.label):,} rows that nothing was fitted or calibrated on.",
        (
            "method",
            "AUROC",
            "AUPRC",
            "VUS-PR",
            "detected",
            "false alarms" if labelled else "flagged",
        ),
        tuple(_figures_row(f) for f in figures),
        (*(f"alarms of {f.method}: {f.events.in_words()}" for f in figures), *notes),
    )


def _figures_row(figures: Figures) -> tuple[str, ...]:
    point = figures.operating_point
    return (
        figures.method,
        *(_area_texts(figures.areas)),
        share_text(point.detection_rate, 1),
        share_text(point.false_alarm_rate, 2),
    )


def _area_texts(areas: Areas | None) -> tuple[str, str, str]:
    """AUROC with its interval, as the two others have it in the figures of the run."""
    if areas is None:
        return "no labels", "–", "–"
    return (
        figure_text(areas.auroc, "{:.3f}"),
        f"{areas.average_precision.value:.3f}",
        f"{areas.vus_pr.value:.3f}",
    )


def score_table(report: ScoreReport) -> Table:
    """Verdicts by status, and which sensors stand behind the anomalies."""
    beside = _shadow_notes(report.shadow)
    if report.cached:
        beside = (f"MLflow does not answer: version {report.model_version}, as it was last "
                  "fetched, has judged", *beside)  # fmt: skip
    if report.first_version > report.last_version:
        summary = f"Nothing to score: line {report.line} has judged every reading."
        return Table("Score", summary, (), (), beside)
    late = f", {report.n_late:,} of them late" if report.n_late else ""
    summary = (
        f"{report.n_rows:,} rows scored{late} with version {report.model_version} "
        f"(readings {report.first_version} to {report.last_version})."
    )
    rows = [(status, f"{n:,}") for status, n in sorted(report.statuses.items())]
    notes = [
        f"sensor '{sensor}' was constant in training and has changed in {n:,} rows"
        for sensor, n in report.constant_changed.items()
    ]
    if report.sensor_faults:
        most = sorted(report.sensor_faults.items(), key=lambda pair: -pair[1])[:MOST_TEXTS]
        said = ", ".join(f"{fault} in {n:,} rows" for fault, n in most)
        more = len(report.sensor_faults) - len(most)
        notes.append(f"sensors at fault themselves: {said}" + f" and {more} more" * (more > 0))
    if report.alarms.n_over or report.alarms.raised or report.alarms.n_active:
        notes.append(_alarm_note(report.alarms))
    if report.top_sensors:
        first = sorted(report.top_sensors.items(), key=lambda pair: -pair[1])[:5]
        notes.append("first among the anomalies: " + ", ".join(f"{s} {n:,}" for s, n in first))
    return Table("Score", summary, ("status", "rows"), tuple(rows), (*notes, *beside))


def _shadow_notes(shadow: Shadow | None) -> tuple[str, ...]:
    """What the challenger did beside the champion."""
    if shadow is None:
        return ()
    name = f"challenger version {shadow.version}"
    if shadow.trouble:
        return (f"{name} did not judge beside the champion: {shadow.trouble}",)
    notes = []
    if shadow.n_rows:
        notes.append(
            f"{name} judged {shadow.n_rows:,} rows beside it, {shadow.n_over:,} over its threshold"
        )
    if shadow.ruling is not None:
        why = "; ".join(shadow.ruling.reasons)
        notes.append(f"{name} is {shadow.ruling.decision}" + (f": {why}" if why else ""))
    return tuple(notes)


def _alarm_note(alarms: AlarmReport) -> str:
    """What became of the rows over the threshold, as a sentence."""
    late = f" ({alarms.n_late_over:,} more came late, and raise none)" if alarms.n_late_over else ""
    n = len(alarms.raised)
    return (
        f"{alarms.n_over:,} rows over the threshold{late}: {n:,} alarm{'' if n == 1 else 's'} "
        f"raised, {alarms.n_active:,} active now; `vae-anomaly alarms` lists them"
    )


def models_table(
    plant: PlantConfig, versions: Sequence[Version], promotions: Sequence[Promotion]
) -> Table:
    """Registered versions, the latest first, and what became of each."""
    config = read_mlflow(plant)
    labelled = plant.contract.label is not None or any(DETECTED in v.tags for v in versions)
    rows = tuple(
        (
            v.version,
            ", ".join(v.aliases) or ("archived" if ARCHIVED in v.tags else "–"),
            v.created_at.strftime("%Y-%m-%d %H:%M"),
            v.tags.get("vae_anomaly.readings_version", "–"),
            v.tags.get("threshold", "–"),
            v.tags.get("test_auroc", "–"),
            _percent(v.tags.get(DETECTED)),
            _percent(v.tags.get("test_false_alarm_rate")),
            part_played(v.version, promotions) or _decision(v, config.champion),
        )
        for v in reversed(versions)
    )
    columns = ("version", "alias", "created (UTC)", "readings", "threshold", "AUROC", "detected",
               "false alarms" if labelled else "flagged", "gate")  # fmt: skip
    notes = tuple(
        f"version {v.version}: {reason}"
        for v in reversed(versions)
        if v.tags.get(DECISION) in (WAITING, REFUSED)
        for reason in json.loads(v.tags.get(REASONS, "[]"))
    )
    summary = f"{len(rows)} version{'s' if len(rows) != 1 else ''} of {config.model_name}"
    summary += "." if rows else " yet; `vae-anomaly run` registers the first."
    return Table("Models", summary, columns, rows, notes)


def _decision(version: Version, champion: str) -> str:
    """What the gate said of a version that no change of the champion is about."""
    said = version.tags.get(DECISION, "–")
    return "was promoted" if said == PROMOTED and champion not in version.aliases else said


def _percent(share: str | None) -> str:
    return "–" if share is None else f"{float(share):.2%}"


def places_table(plant: PlantConfig, file: Path) -> Table:
    """Where everything of a plant lies, and the commands that open the pages."""
    here = Path(os.path.relpath(plant.work_path))
    tables = plant.lake if is_bucket(plant.lake) else os.path.relpath(plant.lake)
    models = sorted(
        (plant.work_path / "models").glob("*/pictures"), key=lambda p: p.stat().st_mtime
    )
    mlflow = read_mlflow(plant).tracking_uri.replace(str(plant.work_path), here.as_posix())
    rows = [
        ("plant file", os.path.relpath(file)),
        ("tables (Delta)", f"{tables}/{{readings,quarantine,files,parts,verdicts,alarms,labels}}"),
        *(("pictures", os.path.relpath(found)) for found in models[-1:]),
        ("MLflow page", f"mlflow ui --backend-store-uri {mlflow}"),
        ("versions", f"vae-anomaly models {os.path.relpath(file)}"),
    ]
    if mlflow.startswith("http"):
        rows = [("MLflow page", mlflow) if name == "MLflow page" else (name, v) for name, v in rows]
    return Table("Where things lie", "", ("", ""), tuple(rows))


def figure_text(figure: Interval, form: str) -> str:
    """A figure with its interval, or a dash where the rows say nothing.

    Examples
    --------
    >>> figure_text(Interval(0.91, 0.88, 0.94), "{:.2f}")
    '0.91 (0.88–0.94)'
    """
    if not figure.known:
        return "–"
    low, high = form.format(figure.low), form.format(figure.high)
    return f"{form.format(figure.value)} ({low}–{high})"


def share_text(share: Interval, digits: int) -> str:
    """A share with its interval, in per cent.

    Examples
    --------
    >>> share_text(Interval(0.0123, 0.01, 0.02), 1)
    '1.2% (1.0–2.0)'
    """
    if not share.known:
        return "–"
    low, high = (f"{100 * end:.{digits}f}" for end in (share.low, share.high))
    return f"{share.value:.{digits}%} ({low}–{high})"
