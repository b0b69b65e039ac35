"""NAB: the temperature of a large machine that fails, one column.

References
----------
Ahmad, Lavin, Purdy & Agha (2017), Unsupervised Real-Time Anomaly Detection for Streaming Data,
Neurocomputing 262.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from suites.case import Case, Floats, Suite, areas, one_series

__all__ = ["SUITE", "case"]

FILE = "machine_temperature_system_failure.csv"
FALSE_ALARM_RATE = 0.01

#: First row and the row after the last one.
Span = tuple[int, int]


def read(folder: Path, name: str, seed: int) -> Case:
    with (folder / FILE).open(encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    times = np.array([datetime.fromisoformat(row["timestamp"]) for row in table])
    labels = json.loads((folder / "combined_windows.json").read_text(encoding="utf-8"))
    spans = [
        (int((times < datetime.fromisoformat(start)).sum()),
         int((times <= datetime.fromisoformat(end)).sum()))
        for start, end in labels[f"realKnownCause/{FILE}"]
    ]  # fmt: skip
    return case(np.array([[float(row["value"])] for row in table]), spans)


def case(rows: Floats, windows: Sequence[Span]) -> Case:
    """Rows before the first window are learnt from, and are the context of the judged rest."""
    n_train = windows[0][0]
    is_anomaly = np.zeros(len(rows), bool)
    for start, stop in windows:
        is_anomaly[start:stop] = True
    truth = is_anomaly[n_train:]

    def figures(score: Floats, window: int) -> dict[str, float]:
        judged = score[n_train:]
        threshold = np.quantile(judged[~truth], 1 - FALSE_ALARM_RATE)
        found = [(score[start:stop] > threshold).any() for start, stop in windows]
        return areas(truth, judged) | {"windows found at 1 % false alarms": float(np.mean(found))}

    return Case(one_series(rows[:n_train]), one_series(rows), figures)


SUITE = Suite(
    key="nab",
    command="nab",
    folder="nab_machine",
    says=(
        "Learnt from the rows before the first labelled window, 7 of 79 days. A window is found if "
        "a row of it is above the threshold that 1 % of the judged rows outside the windows "
        "exceed: a point of the ROC curve, and no threshold that one would have had. A window has "
        "some 570 rows, so that a score at random finds most of them too: read AUROC first."
    ),
    names=lambda folder: ["machine temperature"],
    read=read,
    is_series=True,
    columns=("AUROC", "AP", "windows found at 1 % false alarms", "AUROC, no smoothing"),
)
