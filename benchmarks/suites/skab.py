"""SKAB: 34 recordings of a water circulation rig, each with a fault in its later part.

References
----------
Katser & Kozitsin (2020), Skoltech Anomaly Benchmark, Kaggle.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from suites.case import Bools, Case, Floats, Suite, areas, one_series

__all__ = ["N_TRAIN", "SUITE", "case", "rows_of"]

#: Rows of each file that the leaderboard learns from.
N_TRAIN = 400
GROUPS = ("other", "valve1", "valve2")
N_SENSORS = 8


def names(folder: Path) -> list[str]:
    files = [file for group in GROUPS for file in (folder / "data" / group).glob("*.csv")]
    files.sort(key=lambda file: (file.parent.name, int(file.stem)))
    return [f"{file.parent.name}/{file.stem}" for file in files]


def read(folder: Path, name: str, seed: int) -> Case:
    return case(*rows_of(folder, name))


def rows_of(folder: Path, name: str) -> tuple[Floats, Bools]:
    """Rows (n, 8), and whether each is labelled anomalous (n,)."""
    cells = np.genfromtxt(
        folder / "data" / f"{name}.csv", delimiter=";", skip_header=1,
        usecols=range(1, N_SENSORS + 2),
    )  # fmt: skip
    return cells[:, :N_SENSORS], cells[:, N_SENSORS] > 0


def case(rows: Floats, is_anomaly: Bools) -> Case:
    """The first 400 rows are learnt from and then are the context of the others, which are judged.

    The rows after the last anomaly are called normal, but the rig has not come back to where it
    started: the last figure leaves them out.
    """
    truth = is_anomaly[N_TRAIN:]
    until = int(np.flatnonzero(truth)[-1]) + 1

    def figures(score: Floats, window: int) -> dict[str, float]:
        judged = score[N_TRAIN:]
        whole = areas(truth, judged)
        if truth[:until].all():  # the fault is there from the first judged row on
            return whole
        shorter = areas(truth[:until], judged[:until])["AUROC"]
        return whole | {"AUROC without rows after the fault": shorter}

    return Case(one_series(rows[:N_TRAIN]), one_series(rows), figures)


SUITE = Suite(
    key="skab",
    command="skab",
    folder="skab",
    says=(
        "A model a file: the first 400 rows are learnt from, and every later one is judged, from "
        "itself and the rows before it. In other/2, 296 of the 400 rows are labelled anomalous; no "
        "row judged there before the fault's end is normal, so that the third figure leaves that "
        "file out. No F1 of the leaderboard stands here: flagging every row but the first 120 and "
        "the last 118 of each file reaches 0.86 there, above all its entries."
    ),
    names=names,
    read=read,
    is_series=True,
    columns=(
        "AUROC", "AP", "AUROC without rows after the fault", "AUROC, no smoothing",
    ),
)  # fmt: skip
