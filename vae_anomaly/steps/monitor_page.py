"""What `monitor` found, as tables, as pictures and as the figures of an event."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vae_anomaly import pictures
from vae_anomaly.decisions.drift import CHECKS, FEWEST_WINDOWS, Check
from vae_anomaly.steps.drift_rows import Window
from vae_anomaly.steps.monitor import MonitorReport
from vae_anomaly.table import Table

__all__ = ["event_figures", "monitor_tables", "write_monitor"]

#: Figures that an event carries at most, the surest first.
MOST_FIGURES = 20

#: Checks that are drawn, and what their figures are.
PICTURED = {
    "value": "distance of the values",
    "residual": "share of rows with a high contribution",
    "score": "share of rows with a p-value up to 5 %",
}


def monitor_tables(report: MonitorReport) -> tuple[Table, ...]:
    """What was said of each window; and of the latest, what drifted and by how much."""
    latest = report.latest
    if latest is None:
        said = "No window lies behind what the champion has learnt and has its verdicts yet."
        return (Table("Drift", said, (), ()),)
    return (_windows_table(report, latest), _figures_table(report, latest))


def _windows_table(report: MonitorReport, latest: Window) -> Table:
    n = report.n_new
    summary = (
        f"{latest.start_text} to {latest.end_text} UTC: {latest.plant.kind}, "
        f"{latest.plant.reason}. "
        f"{n} new window{'' if n == 1 else 's'}, held against {report.n_history} of what version "
        f"{report.model_version} has learnt."
    )
    body = tuple(
        (window.start_text, name or "the plant", found.kind, found.reason, ", ".join(found.columns))
        for window in reversed(report.windows)
        for name, found in sorted(window.diagnoses.items())
        if not name or found.kind != "none"
    )
    notes = []
    if report.n_left_out:
        notes.append(f"{report.n_left_out} earlier windows are too many for one call: not judged")
    if report.n_history < FEWEST_WINDOWS:
        notes.append(
            f"{report.n_history} windows do not show how far one lies from another, "
            f"{FEWEST_WINDOWS} do: learn from a longer time, or set a shorter monitoring.window"
        )
    columns = ("from (UTC)", "of", "is", "because", "columns")
    return Table("Drift", summary, columns, body, tuple(notes), ("because", "columns"))


def _figures_table(report: MonitorReport, window: Window) -> Table:
    checks = [check for own in window.checks.values() for check in own]
    n_open = sum(check.verdict == "unsupported" for check in checks)
    body = tuple(
        (
            asset,
            check.name.replace("_", " "),
            report.columns[check.column] if check.column >= 0 else "",
            _text(check, check.figure.value) + _ends(check),
            _text(check, check.usual),
            _text(check, check.limit),
            f"{check.adjusted:.2g}",
        )
        for asset, check in _drifted(window)
    )
    summary = (
        f"{window.start_text} to {window.end_text} UTC: {len(body)} of {len(checks)} figures have "
        f"drifted" + (f"; {n_open} cannot be judged." if n_open else ".")
    )
    columns = ("asset", "figure", "column", "is", "usual", "limit", "p-value of all")
    return Table("Figures", summary, columns, body)


def _drifted(window: Window) -> list[tuple[str, Check]]:
    """Asset and check, the surest first."""
    found = [(asset, c) for asset, own in window.checks.items() for c in own]
    return sorted((e for e in found if e[1].verdict == "drift"), key=lambda e: e[1].p_value)


def event_figures(report: MonitorReport, window: Window) -> dict[str, float]:
    """Figures that have drifted by asset, check and column, the surest first."""
    return dict(_named(report, window))


def _named(report: MonitorReport, window: Window) -> Iterator[tuple[str, float]]:
    for asset, check in _drifted(window)[:MOST_FIGURES]:
        column = report.columns[check.column] if check.column >= 0 else ""
        yield "/".join(filter(None, (asset, check.name, column))), round(check.figure.value, 4)


def _text(check: Check, value: float) -> str:
    """A figure in its unit: shares in percent, distances in standard deviations."""
    if math.isnan(value):
        return "–"
    scale = CHECKS[check.name].scale
    return {"share": f"{value:.1%}", "distance": f"{value:.2f} sd", "size": f"{value:,.4g}"}[scale]


def _ends(check: Check) -> str:
    low, high = check.figure.low, check.figure.high
    return "" if math.isnan(low) else f" ({_text(check, low)} to {_text(check, high)})"


def write_monitor(report: MonitorReport, folder: Path, *, subject: str = "") -> Path:
    """Draw how far each column and the score have been, window by window; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in PICTURED.items():
        found = [
            (window.start, _line(report, asset, check), check)
            for window in report.windows
            for asset, own in window.checks.items()
            for check in own
            if check.name == name
        ]
        if found:
            pictures.drift_grid(
                folder / f"{name}.png",
                np.array([start for start, _, _ in found], "datetime64[us]"),
                [line for _, line, _ in found],
                [check.figure.value for _, _, check in found],
                limit=[check.limit for _, _, check in found],
                drifted=[check.verdict == "drift" for _, _, check in found],
                figure_name=words,
                subject=subject,
            )
    return folder


def _line(report: MonitorReport, asset: str, check: Check) -> str:
    """Asset and column of a figure."""
    return f"{asset} {report.columns[check.column]}" if check.column >= 0 else asset
