"""What a person reads of a version in MLflow: its tags, and a page in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import Lake, as_timestamp
from vae_anomaly.decisions.events import rate_text
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.evaluate import Evaluation
from vae_anomaly.steps.figures import Figures
from vae_anomaly.steps.said import holding, read_said
from vae_anomaly.steps.train import Trained
from vae_anomaly.steps.units import judged_together
from vae_anomaly.streaming import EVERY_ASSET

__all__ = ["version_page", "version_tags"]

#: Scorers whose thresholds the page lists; the rest is counted.
MOST_UNITS = 12

#: What stands for a figure that nobody knows.
UNKNOWN = "–"

#: Between the ends of an interval; the word joiner keeps narrow columns from breaking it.
TO = "–\N{WORD JOINER}"


def version_tags(
    plant: PlantConfig,
    trained: Trained,
    package: ModelPackage,
    figures: Mapping[str, float],
    *,
    link: str = "",
) -> dict[str, str]:
    """Tags of a version: what it was made of, and its figures in short.

    Parameters
    ----------
    plant : PlantConfig
    trained : Trained
    package : ModelPackage
    figures : mapping of str to float
        As MLflow keeps them for the run.
    link : str, optional
        Page of the flow run that registers it.
    """
    tags = {
        "vae_anomaly.plant": plant.name,
        "vae_anomaly.variant": plant.method,
        "vae_anomaly.readings_version": str(trained.readings_version),
        "vae_anomaly.package_digest": package.digest,
    }
    if period := _period(trained):
        tags["vae_anomaly.trained_on"] = period
    if link:
        tags["vae_anomaly.flow_run"] = link
    shown = ("threshold", "test_auroc", "test_false_alarm_rate", "test_detection_rate")
    # first, since a list of versions cuts the rest
    return {name: f"{figures[name]:.4g}" for name in shown if name in figures} | tags


def version_page(
    plant: PlantConfig,
    trained: Trained,
    package: ModelPackage,
    evaluation: Evaluation | None,
    *,
    run_page: str,
    link: str = "",
) -> str:
    """Markdown that MLflow shows on the version's page.

    Parameters as for `version_tags`; and `run_page`, the address of the source run in MLflow.
    """
    n_units = len(package.units)
    rows = ", ".join(f"{part} {n:,}" for part, n in package.provenance.rows.items())
    lines = [
        f"{plant.name}: {plant.method_kind}, {n_units} scorer{'s' if n_units > 1 else ''}, "
        f"window {judged_together(plant)}.",
        f"Trained on version {trained.readings_version} of the readings (rows: {rows})"
        + (f", from {period} UTC." if (period := _period(trained)) else "."),
        f"Alarms: {package.alarm_rule.in_words()}.{_expected(package)}",
        f"See [pictures of curves, histograms and faults]({run_page}/artifacts/pictures), "
        f"[all artifacts]({run_page}/artifacts)"
        + (f", [the flow run that registered it]({link})." if link else "."),
        *_headed("Calibration"),
        *_thresholds(package),
    ]
    notes = [*package.provenance.notes, *_said(Lake(plant.lake, plant.contract))]
    if evaluation is not None:
        lines += [*_headed("Test part"), *_test_part(evaluation)]
        notes = [*evaluation.in_words(), *notes]
    if notes:
        lines += [*_headed("Notes"), *(f"- {note}" for note in notes)]
    return "\n".join(lines)


def _headed(title: str) -> tuple[str, ...]:
    """Beginning of a section: MLflow shows headings as plain text, and tables without margins."""
    return ("", "---", "", f"**{title}**", "")


def _test_part(evaluation: Evaluation) -> Iterator[str]:
    """The model beside the baselines, as a table."""
    yield f"Alarms of {evaluation.model.method}: {evaluation.model.events.in_words()}."
    yield ""
    columns = (
        "method", "AUROC", "detection rate", "false alarm rate", "faults found",
        "false alarms per asset and day", "alarms per asset and day",
    )  # fmt: skip
    yield from _laid_out(columns, [_row(f) for f in (evaluation.model, *evaluation.baselines)])


def _period(trained: Trained) -> str:
    """First and last time of the rows that weights were fitted on; empty where there are none."""
    own = [interval for interval in trained.intervals if interval.part == "train"]
    if not own:
        return ""
    ends = min(interval.start for interval in own), max(interval.end for interval in own)
    return " to ".join(f"{as_timestamp(end).as_py():%Y-%m-%d %H:%M}" for end in ends)


def _thresholds(package: ModelPackage) -> Iterator[str]:
    """Each scorer's threshold and what it does on the rows that it was set on, as a table."""
    calibrated = [(n, u.calibration) for n, u in package.units.items() if u.calibration is not None]
    cells = [
        (
            "every asset" if name == EVERY_ASSET else name,
            f"{calibration.threshold.value:.4g}",
            _share(calibration.operating_point.false_alarm_rate, 2),
            _share(calibration.operating_point.detection_rate, 1),
            calibration.threshold.rule,
        )
        for name, calibration in calibrated[:MOST_UNITS]
    ]
    if (rest := len(calibrated) - MOST_UNITS) > 0:
        cells.append((f"… and {rest} more", "", "", "", ""))
    columns = ("scorer", "threshold", "false alarm rate", "detection rate", "rule")
    yield from _laid_out(columns, cells)


def _laid_out(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown, without the columns of which nothing is known.

    Examples
    --------
    >>> print("\\n".join(_laid_out(("method", "AUROC", "rate"), [("pca", "–", "2 %")])))
    | method | rate |
    |---|---|
    | pca | 2 % |
    """
    shown = [i for i in range(len(columns)) if any(row[i] not in ("", UNKNOWN) for row in cells)]
    yield f"| {' | '.join(columns[i] for i in shown)} |"
    yield "|" + "---|" * len(shown)
    yield from (f"| {' | '.join(row[i] for i in shown)} |" for row in cells)


def _said(lake: Lake) -> Iterable[str]:
    """What people have said of alarms so far."""
    counts = Counter(entry.verdict.replace("_", " ") for entry in holding(read_said(lake)))
    if counts:
        yield "people have said so far: " + ", ".join(f"{n} {v}" for v, n in counts.items())


def _expected(package: ModelPackage) -> str:
    """What a budget will cost, as a sentence."""
    if package.budget is None:
        return ""
    return (
        f" Expected of machines that are well: {package.budget.forecast.per_week:.2g} alarms per "
        "asset and week."
    )


def _row(figures: Figures) -> tuple[str, ...]:
    point, events, area = figures.operating_point, figures.events, figures.auroc
    is_judged = bool(events.n_events or events.normal_days)
    return (
        figures.method,
        UNKNOWN if area is None else _interval(area, "{:.3f}"),
        _share(point.detection_rate, 1),
        _share(point.false_alarm_rate, 2),
        f"{events.n_found} of {events.n_events}" if events.n_events else UNKNOWN,
        rate_text(events.false_alarms_per_day) if events.normal_days else UNKNOWN,
        UNKNOWN if is_judged else rate_text(events.alarms_per_day),
    )


def _share(share: Interval, digits: int) -> str:
    """A share in per cent, with its interval."""
    percent = Interval(100 * share.value, 100 * share.low, 100 * share.high)
    return _interval(percent, f"{{:.{digits}f}}", "%")


def _interval(figure: Interval, form: str, unit: str = "") -> str:
    if not figure.known:
        return UNKNOWN
    value, low, high = (form.format(end) for end in (figure.value, figure.low, figure.high))
    return f"{value}{unit} ({low}{TO}{high})"
