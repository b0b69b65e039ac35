"""What a suite is made of: rows that are split into what is learnt from and what is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

__all__ = [
    "Bools",
    "Case",
    "Floats",
    "Ints",
    "Rows",
    "Suite",
    "areas",
    "no_order",
    "nothing_published",
    "one_series",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Rows(NamedTuple):
    """Values (n, d), and the series (n,) that each row belongs to, in time order within it."""

    values: Floats
    series: Ints


def one_series(values: Floats) -> Rows:
    return Rows(np.ascontiguousarray(values, np.float64), np.zeros(len(values), np.int64))


def no_order(values: Floats) -> Rows:
    """Rows of a table, each a series of its own."""
    return Rows(values, np.arange(len(values)))


def areas(is_anomaly: Bools, score: Floats) -> dict[str, float]:
    """Area under the ROC curve, and average precision."""
    return {
        "AUROC": float(roc_auc_score(is_anomaly, score)),
        "AP": float(average_precision_score(is_anomaly, score)),
    }


@dataclass(frozen=True)
class Case:
    """One data set, read and split.

    Attributes
    ----------
    train : Rows
        All that a detector may learn from; it is told that they are normal.
    test : Rows
        What it scores, without labels. Of a series this may begin with training rows, as context;
        they are then not judged.
    figures : callable
        Scores (n,) of the test rows, and how many rows the detector judges together -> figures by
        name. The labels are in here, where no detector sees them.
    """

    train: Rows
    test: Rows
    figures: Callable[[Floats, int], dict[str, float]]


def nothing_published(folder: Path) -> dict[str, float]:
    return {}


@dataclass(frozen=True)
class Suite:
    """Data sets, how they are split, and what is shown.

    Attributes
    ----------
    key : str
        Name of its files of records and results.
    command : str
        What is typed after ``python benchmarks/quality.py``.
    folder : str
        Where its data lie, under the folder of all data.
    says : str
        The protocol in words, for the head of the results.
    names : callable
        Folder -> names of its data sets.
    read : callable
        Folder, name and seed -> the data set.
    is_series : bool
        Whether rows are ordered: then windows and smoothing are used.
    columns : tuple of str
        Figures of the summary; the first is also shown for each data set.
    percent : bool
    published : callable
        Folder of all data -> published means of the first column, by method.
    """

    key: str
    command: str
    folder: str
    says: str
    names: Callable[[Path], list[str]]
    read: Callable[[Path, str, int], Case]
    is_series: bool
    columns: tuple[str, ...]
    percent: bool = False
    published: Callable[[Path], Mapping[str, float]] = nothing_published
