"""Spacecraft telemetry (MSL) and servers (SMD) as the multivariate part of TSB-AD has them.

References
----------
Liu & Paparrizos (2024), The Elephant in the Room: Towards A Reliable Time-Series Anomaly Detection
Benchmark, NeurIPS. Hundman et al. (2018), Detecting Spacecraft Anomalies Using LSTMs, KDD. Su et
al. (2019), Robust Anomaly Detection for Multivariate Time Series, KDD (OmniAnomaly).
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from suites.case import Bools, Case, Floats, Suite, one_series
from vae_anomaly.decisions.vus import period, vus_pr

__all__ = ["MSL", "SMD", "case", "centred", "of_msl", "of_smd"]

TABLE = "tsb_ad/multi_mergedTable_VUS-PR.csv"


def case(rows: Floats, is_anomaly: Bools, n_train: int) -> Case:
    """The first rows are learnt from; the whole series is scored and judged, as TSB-AD does."""
    window, label = period(rows[:, 0]), is_anomaly.astype(np.int64)

    def figures(score: Floats, judged_together: int) -> dict[str, float]:
        at_the_middle = centred(score, judged_together)
        return {
            "VUS-PR": vus_pr(at_the_middle, label, window=window).value,
            "VUS-PR, causal": vus_pr(score, label, window=window).value,
            "AUROC": float(roc_auc_score(is_anomaly, score)),
        }

    return Case(one_series(rows[:n_train]), one_series(rows), figures)


def centred(score: Floats, window: int) -> Floats:
    """The score of each window at its middle row, not at its last; the last one fills the end."""
    shift = (window - 1) // 2
    return np.concatenate([score[shift:], np.full(shift, score[-1])])


def of_msl(folder: Path, name: str) -> tuple[Floats, Bools]:
    with np.load(folder / f"MSL_{name}.npz") as found:
        rows = found["X"].astype(np.float64)
    (spans,) = (
        ast.literal_eval(row["anomaly_sequences"])
        for row in _lines(folder / "labeled_anomalies.csv")
        if row["chan_id"] == name and row["spacecraft"] == "MSL"
    )
    is_anomaly = np.zeros(len(rows), bool)
    for first, last in spans:  # inclusive
        is_anomaly[first : last + 1] = True
    return rows, is_anomaly


def of_smd(folder: Path, name: str) -> tuple[Floats, Bools]:
    with np.load(folder / f"{name}_test.npz") as found:
        return found["X"].astype(np.float64), found["y"].astype(bool)


def _suite(key: str, column: str, read: Callable[[Path, str], tuple[Floats, Bools]]) -> Suite:
    def read_case(folder: Path, name: str, seed: int) -> Case:
        (n_train,) = (
            int(row["train_rows"])
            for row in _lines(folder / "tsb_ad_m_map.csv")
            if row[column] == name
        )
        return case(*read(folder, name), n_train)

    return Suite(
        key=key,
        command=key,
        folder=key,
        says=(
            "The first rows are learnt from, as many as TSB-AD does, and all rows of the series "
            "are judged, as there; scores of windows stand at their middle rows, of the causal "
            "figure at their last ones. Published are the means over the same files; some of those "
            "methods learn from the whole series, and their settings were chosen on other labelled "
            "series."
        ),
        names=lambda folder: [row[column] for row in _lines(folder / "tsb_ad_m_map.csv")],
        read=read_case,
        is_series=True,
        columns=("VUS-PR", "VUS-PR, causal", "VUS-PR, no smoothing", "AUROC"),
        published=partial(_published, key=key),
    )


def _published(data: Path, *, key: str) -> Mapping[str, float]:
    """Mean VUS-PR over the files that are here, by method, best first."""
    files = {row["tsb_ad_m_file"] for row in _lines(data / key / "tsb_ad_m_map.csv")}
    rows = [row for row in _lines(data / TABLE) if row["file"] in files]
    names = list(rows[0])
    methods = names[names.index("file") + 1 : names.index("ts_len")]
    means = {name: float(np.mean([float(row[name]) for row in rows])) for name in methods}
    return dict(sorted(means.items(), key=lambda entry: -entry[1]))


def _lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


MSL = _suite("msl", "channel", of_msl)
SMD = _suite("smd", "machine", of_smd)
