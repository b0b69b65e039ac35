"""AI4I 2020: a milling machine, simulated, one of whose columns is a type of product.

References
----------
Matzka (2020), Explainable Artificial Intelligence for Predictive Maintenance Applications, AI4I.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from suites.case import Bools, Case, Floats, Suite, areas, no_order

__all__ = ["SUITE", "case"]

TRAIN_SHARE = 0.7
TYPES = ("L", "M", "H")
NUMBERS = (
    "Air temperature [K]", "Process temperature [K]", "Rotational speed [rpm]", "Torque [Nm]",
    "Tool wear [min]",
)  # fmt: skip


def read(folder: Path, name: str, seed: int) -> Case:
    with (folder / "ai4i2020.csv").open(encoding="utf-8-sig") as lines:
        table = list(csv.DictReader(lines))
    rows = np.array(
        [
            [float(row[name]) for name in NUMBERS] + [float(row["Type"] == kind) for kind in TYPES]
            for row in table
        ]
    )
    return case(rows, np.array([row["Machine failure"] == "1" for row in table]), seed)


def case(rows: Floats, is_failure: Bools, seed: int) -> Case:
    """70 % of the normal rows are learnt from; the others and all failures are judged."""
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~is_failure))
    n_train = round(TRAIN_SHARE * len(normal))
    train = np.sort(normal[:n_train])
    test = np.sort(np.concatenate([normal[n_train:], np.flatnonzero(is_failure)]))
    truth = is_failure[test]
    return Case(
        no_order(rows[train]), no_order(rows[test]), lambda score, window: areas(truth, score)
    )


SUITE = Suite(
    key="ai4i",
    command="ai4i",
    folder="ai4i2020",
    says=(
        "A table: 70 % of the normal rows, drawn by the seed, are learnt from; the other normal "
        "rows and all failures are judged. Five numbers, and the type as three columns of 0 and 1."
    ),
    names=lambda folder: ["AI4I"],
    read=read,
    is_series=False,
    columns=("AUROC", "AP"),
)
