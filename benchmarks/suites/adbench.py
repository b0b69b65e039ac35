"""Tables of ADBench by two protocols: that of DTE, and a clean one without doubled rows.

References
----------
Han, Hu, Huang, Jiang & Zhao (2022), ADBench: Anomaly Detection Benchmark, NeurIPS. Livernoche,
Jain, Hezaveh & Ravanbakhsh (2024), On Diffusion Modeling for Anomaly Detection, ICLR, who have the
protocol and the published figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from suites.case import Case, Ints, Suite, areas, no_order

__all__ = ["PROTOCOLS", "Caps", "Protocol", "split", "suite"]

Protocol = Literal["dte", "clean"]
PROTOCOLS: tuple[Protocol, ...] = ("dte", "clean")

#: The protocol of DTE brings every set to a size between these, by drawing rows.
LEAST_ROWS, MOST_ROWS = 1000, 50_000

#: Normal rows that a capped test part keeps, however many its anomalies.
LEAST_NORMAL = 1000


@dataclass(frozen=True)
class Caps:
    """Most rows to learn from and to score; of the test rows anomalies are the last to go."""

    train: int = 5_000
    test: int = 10_000


QUICK = Caps(3_000, 6_000)

#: Mean AUROC over the 21 odd-numbered sets, five seeds: DTE's README, semi-supervised setting.
PUBLISHED_DTE: Mapping[str, float] = {
    "DTE-NP": 0.8263, "KNN": 0.8249, "DTE-C": 0.8114, "CBLOF": 0.8046, "DTE-IG": 0.8038,
    "OCSVM": 0.8002, "LOF": 0.7944, "FeatureBagging": 0.7882, "ICL": 0.7818, "DDPM": 0.7810,
    "VAE": 0.7784, "IForest": 0.7771, "SLAD": 0.7747, "PlanarFlow": 0.7718, "PCA": 0.7689,
    "MCD": 0.7497,
}  # fmt: skip

SAYS: Mapping[Protocol, str] = {
    "dte": (
        "Sets of fewer than 1,000 rows are drawn with replacement to 1,000, so that test rows can "
        "be copies of training rows; the first half of the normal rows, in file order, is learnt "
        "from. The published means are over the same 21 sets, of five seeds and without caps."
    ),
    "clean": "A half of the normal rows, drawn at random, is learnt from; no row stands twice.",
}


def suite(protocol: Protocol, *, quick: bool = False) -> Suite:
    caps = QUICK if quick else Caps()
    return Suite(
        key=f"adbench_{protocol}" + ("_quick" if quick else ""),
        command=f"adbench --protocol {protocol}" + (" --quick" if quick else ""),
        folder="adbench",
        says=f"{SAYS[protocol]} At most {MOST_ROWS:,} rows of a set, of these at most "
        f"{caps.train:,} to learn from and {caps.test:,} to score, the anomalies among them unless "
        f"fewer than {LEAST_NORMAL:,} normal rows would be left; rows that are all scored are the "
        "other normal ones and all anomalies.",
        names=names,
        read=partial(_read, protocol=protocol, caps=caps),
        is_series=False,
        columns=("AUROC", "AP"),
        percent=True,
        published=lambda folder: PUBLISHED_DTE if protocol == "dte" else {},
    )


def names(folder: Path) -> list[str]:
    """The odd-numbered sets, in order of their numbers."""
    files = [(int(file.stem.split("_")[0]), file.stem) for file in folder.glob("*.npz")]
    return [name for number, name in sorted(files) if number % 2]


def _read(folder: Path, name: str, seed: int, *, protocol: Protocol, caps: Caps) -> Case:
    with np.load(folder / f"{name}.npz") as found:
        rows, is_anomaly = found["X"].astype(np.float64), found["y"].astype(bool)
    drawn, train, test = split(is_anomaly.astype(np.int64), seed, protocol, caps)
    truth = is_anomaly[drawn[test]]
    return Case(
        no_order(rows[drawn[train]]),
        no_order(rows[drawn[test]]),
        lambda score, window: areas(truth, score),
    )


def split(label: Ints, seed: int, protocol: Protocol, caps: Caps) -> tuple[Ints, Ints, Ints]:
    """Rows of the file that are drawn (m,), and which of these are learnt from and scored.

    Examples
    --------
    >>> drawn, train, test = split(np.array([0, 1, 0, 0, 0]), 0, "clean", Caps())
    >>> drawn[train], drawn[test]
    (array([3, 0]), array([1, 2, 4]))
    """
    rng = np.random.default_rng(seed)
    drawn = np.arange(len(label))
    if protocol == "dte" and len(label) < LEAST_ROWS:
        drawn = rng.choice(len(label), LEAST_ROWS, replace=True)
    elif len(label) > MOST_ROWS:
        drawn = rng.choice(len(label), MOST_ROWS, replace=False)
    normal, anomalies = (np.flatnonzero(label[drawn] == kind) for kind in (0, 1))
    if protocol == "clean":
        normal = rng.permutation(normal)
    train, rest = normal[: len(normal) // 2], normal[len(normal) // 2 :]
    n_anomalies = min(len(anomalies), max(caps.test - min(LEAST_NORMAL, len(rest)), 0))
    judged = [_some(rng, anomalies, n_anomalies), _some(rng, rest, caps.test - n_anomalies)]
    return drawn, _some(rng, train, caps.train), np.concatenate(judged)


def _some(rng: np.random.Generator, rows: Ints, most: int) -> Ints:
    """The rows, or so many of them, in their order."""
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
