"""What the likelihoods of `semi_supervised` say of a few labels, on three tables of ADBench.

    python benchmarks/semi_supervised.py --data ../shared/data/adbench \
        --out benchmarks/results/semi_supervised.md

The sets were chosen before any was looked at: the odd-numbered ones with at least 200 anomalies, at
most 20,000 rows and at most 100 columns, and of these the three of the lowest numbers. Rows are
split 70/30 by chance for each seed; 5 % of the training anomalies bear a label. In the first
setting the other training rows are known to be normal, and the other anomalies are left out; in the
second one nothing is known of them, and the other anomalies are among them. The third one shows
what labels cost that are all wrong: as in the first, but the same number of labels stands on normal
rows.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from vae_anomaly import VAEDetector
from vae_anomaly.models.classes import ClassVAE
from vae_anomaly.models.vae import importance_bound
from vae_anomaly.scoring.baseline_fitting import learn
from vae_anomaly.scoring.scorer import Scorer

SHARE_LABELLED = 0.05
SETTINGS = {
    "normal": "the other rows are normal",
    "unknown": "nothing is known of the other rows",
    "wrong": "the labels stand on normal rows",
}
LEAST_ANOMALIES, MOST_ROWS, MOST_COLUMNS, N_SETS = 200, 20_000, 100, 3

#: Samples a row for M2's own likelihoods.
N_SAMPLES = 64

Floats = NDArray[np.float64]


class Split(NamedTuple):
    """Training rows with labels as a user has them, and test rows with the truth."""

    train: Floats
    label: NDArray[np.int64]
    test: Floats
    is_anomaly: NDArray[np.bool_]


class Area(NamedTuple):
    auroc: float
    average_precision: float


def chosen(folder: Path) -> list[Path]:
    """The sets by the rule above."""
    files = sorted(folder.glob("*.npz"), key=lambda file: int(file.stem.split("_")[0]))
    fitting = []
    for file in files:
        with np.load(file) as found:
            n_rows, n_columns = found["X"].shape
            enough = found["y"].sum() >= LEAST_ANOMALIES
            if enough and n_rows <= MOST_ROWS and n_columns <= MOST_COLUMNS:
                fitting.append(file)
    return fitting[:N_SETS]


def split(file: Path, seed: int, setting: str) -> Split:
    """70 % of the rows to learn from, with labels on few of the anomalies among them."""
    with np.load(file) as found:
        rows, truth = found["X"].astype(np.float64), found["y"].astype(bool)
    order = np.random.default_rng(seed).permutation(len(rows))
    train, test = np.split(order, [round(0.7 * len(rows))])
    anomalies = train[truth[train]]
    labelled = anomalies[: max(1, round(SHARE_LABELLED * len(anomalies)))]
    if setting != "unknown":
        normal = train[~truth[train]]
        train = np.concatenate([normal, labelled])
        if setting == "wrong":
            train, labelled = normal, normal[: len(labelled)]
    label = np.where(np.isin(train, labelled), 1, -1 if setting == "unknown" else 0)
    return Split(rows[train], label, rows[test], truth[test])


def own_likelihoods(scorer: Scorer, rows: Floats) -> dict[str, Floats]:
    """What M2 itself says: -log p(x), and log p(x, anomaly) - log p(x, normal)."""
    model = scorer.module
    assert isinstance(model, ClassVAE)
    batch = scorer.standardizer(torch.from_numpy(rows))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        marginal = importance_bound(model, batch, n_samples=N_SAMPLES, generator=generator)
        normal = importance_bound(model.normal, batch, n_samples=N_SAMPLES, generator=generator)
        fault = importance_bound(
            model.faults, model.as_faults(batch), n_samples=N_SAMPLES, generator=generator
        )
    return {
        "M2's own -log p(x)": -marginal.double().numpy(),
        "M2's own likelihood ratio": (fault[0] - normal).double().numpy(),
    }


def scores(rows: Split, seed: int) -> dict[str, Floats]:
    """Anomaly score of the test rows by each method."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*calibration rows support")
        told = VAEDetector("semi_supervised", random_state=seed).fit(rows.train, rows.label)
        plain = VAEDetector("gaussian", random_state=seed).fit(rows.train, rows.label)
    probability = np.maximum(told.class_probabilities(rows.test), 1e-38)
    found = {
        "semi_supervised: its score": -told.score_samples(rows.test),
        "q(y \\| x) alone": np.log(probability[:, 1]) - np.log(probability[:, 0]),
        "unlabelled score (gaussian)": -plain.score_samples(rows.test),
    }
    found |= own_likelihoods(told.scorer_, rows.test)
    normal, test = torch.from_numpy(rows.train[rows.label <= 0]), torch.from_numpy(rows.test)
    for name in ("mahalanobis", "knn", "random"):
        found[name] = learn(name, normal, seed=seed)(test).numpy()
    return found


def table(areas: Mapping[tuple[str, str, str], list[Area]], names: list[str]) -> list[str]:
    """Rows of methods, columns of sets; areas by setting, method and set."""
    heads = [f"{name} {kind}" for name in names for kind in ("AUROC", "AP")]
    lines = [
        "| setting | method | " + " | ".join(heads) + " | mean AUROC | mean AP |",
        "|---" * (len(heads) + 4) + "|",
    ]
    for setting, method in dict.fromkeys((s, m) for s, m, _ in areas):
        values = np.array([areas[setting, method, name] for name in names])  # (sets, seeds, 2)
        mean, spread = 100 * values.mean(axis=1), 100 * values.std(axis=1, ddof=1)
        cells = [
            f"{mean[at, kind]:.1f} ± {spread[at, kind]:.1f}"
            for at in range(len(names))
            for kind in (0, 1)
        ]
        cells += [f"{value:.1f}" for value in mean.mean(axis=0)]
        lines.append(f"| {setting} | {method} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/adbench"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = chosen(options.data)
    areas: dict[tuple[str, str, str], list[Area]] = {}
    for setting in SETTINGS:
        for file in files:
            for seed in range(options.seeds):
                rows = split(file, seed, setting)
                for method, score in scores(rows, seed).items():
                    area = Area(
                        roc_auc_score(rows.is_anomaly, score),
                        average_precision_score(rows.is_anomaly, score),
                    )
                    areas.setdefault((setting, method, file.stem), []).append(area)
                    print(setting, file.stem, seed, method, area, flush=True)
    lines = [
        f"`python benchmarks/semi_supervised.py --seeds {options.seeds}`: test rows, in percent, "
        f"mean ± standard deviation of {options.seeds} seeds; {SHARE_LABELLED:.0%} of the training "
        "anomalies bear a label.",
        *(f"Setting `{name}`: {says}." for name, says in SETTINGS.items()),
        "",
        *table(areas, [file.stem for file in files]),
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
