"""C-MAPSS FD001: turbofan engines that run to failure, learnt on the healthy part of other engines.

References
----------
Saxena, Goebel, Simon & Eklund (2008), Damage Propagation Modeling for Aircraft Engine
Run-to-Failure Simulation, PHM.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from suites.case import Case, Floats, Ints, Rows, Suite, areas

__all__ = ["SUITE", "case"]

#: Share of an engine's life that counts as healthy, and its last cycles, which do not.
HEALTHY, LAST_CYCLES = 0.4, 30
FIRST_SENSOR = 5  # after unit, cycle and three settings, of which FD001 has but one condition


def read(folder: Path, name: str, seed: int) -> Case:
    table = np.loadtxt(folder / "train_FD001.txt")
    return case(table[:, FIRST_SENSOR:], table[:, 0].astype(np.int64))


def case(rows: Floats, engine: Ints) -> Case:
    """Rows of each engine in order; odd ones are learnt from, even ones judged."""
    healthy, worn = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for unit in np.unique(engine):
        own = np.flatnonzero(engine == unit)
        healthy[own[: round(HEALTHY * len(own))]] = True
        worn[own[-LAST_CYCLES:]] = True
    train, test = healthy & (engine % 2 == 1), engine % 2 == 0
    judged, truth = (healthy | worn)[test], worn[test]
    return Case(
        Rows(rows[train], engine[train]),
        Rows(rows[test], engine[test]),
        lambda score, window: areas(truth[judged], score[judged]),
    )


SUITE = Suite(
    key="cmapss",
    command="cmapss",
    folder="cmapss_fd001",
    says=(
        "Learnt from the first 40 % of the life of the engines of odd numbers, 21 sensors. Of the "
        "engines of even numbers the first 40 % are normal and the last 30 cycles anomalous; the "
        "cycles between are scored and not judged."
    ),
    names=lambda folder: ["FD001"],
    read=read,
    is_series=True,
    columns=("AUROC", "AP", "AUROC, no smoothing"),
)
