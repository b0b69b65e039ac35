"""What each anomaly score finds, of one trained model, on tables of ADBench.

    python benchmarks/scores.py --data ../shared/data/adbench --out benchmarks/results/scores.md

The member is `gaussian` as it comes. Sets are the odd-numbered ones without 17_InternetAds, which
takes longer than all the others. Protocol "dte" (Livernoche et al. 2024, On Diffusion Modeling for
Anomaly Detection): sets of fewer than 1,000 rows are resampled to 1,000 with replacement, larger
ones than 50,000 are sampled down to that; the first half of the normal rows in the order of the
file trains, the other half and all anomalies test. Protocol "clean": nothing is resampled, and a
random half of the normal rows trains, so that test rows are no copies of training rows. At most
3,000 rows train, a fifth of which stop the training and fit the score, and 6,000 test. Baselines
learn from all 3,000. Nothing is chosen on test rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from vae_anomaly.config import Training
from vae_anomaly.models.standardize import Series, fit_standardizer
from vae_anomaly.models.variants import Gaussian
from vae_anomaly.scoring.fitting import fit_scorer, judged_by
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.scoring.scores import SCORES
from vae_anomaly.scoring.scores.residual import precision_of

PROTOCOLS = ("dte", "clean")
LEFT_OUT = ("17_InternetAds",)
FEWEST_ROWS, MOST_ROWS, TRAIN_ROWS, TEST_ROWS = 1_000, 50_000, 3_000, 6_000
HELD_OUT = 0.2

#: Other sums of logarithms and energies, each in its deviations on held-out rows.
SUMS = {
    "residual + exemplars": ("residual", "exemplars"),
    "aggregate + exemplars": ("aggregate", "exemplars"),
}

Floats = NDArray[np.float64]


class Split(NamedTuple):
    """Normal rows to learn from, and test rows with the truth."""

    train: Floats
    test: Floats
    is_anomaly: NDArray[np.bool_]


def split(file: Path, seed: int, protocol: str) -> Split:
    """The parts of a set by a protocol above."""
    rng = np.random.default_rng(seed)
    with np.load(file) as found:
        rows, truth = found["X"].astype(np.float64), found["y"].astype(bool)
    if len(rows) < FEWEST_ROWS and protocol == "dte":
        chosen = rng.choice(len(rows), FEWEST_ROWS, replace=True)
    else:
        chosen = np.sort(rng.permutation(len(rows))[:MOST_ROWS])
    rows, truth = rows[chosen], truth[chosen]
    normal = np.flatnonzero(~truth)
    if protocol == "clean":
        normal = rng.permutation(normal)
    train, rest = np.split(normal, [len(normal) // 2])
    train = np.sort(rng.permutation(train)[:TRAIN_ROWS])
    anomalies = rng.permutation(np.flatnonzero(truth))
    # all anomalies, unless they alone would fill half of the test rows: then of both alike
    if len(anomalies) > TEST_ROWS // 2 and len(anomalies) + len(rest) > TEST_ROWS:
        test = rng.permutation(np.concatenate([anomalies, rest]))[:TEST_ROWS]
    else:
        test = np.concatenate([anomalies, rng.permutation(rest)[: TEST_ROWS - len(anomalies)]])
    return Split(rows[train], rows[test], truth[test])


def alone(rows: Floats) -> Series:
    """Rows that are no series."""
    none = torch.zeros(len(rows), dtype=torch.int64)
    return Series(torch.from_numpy(np.ascontiguousarray(rows)), none, none)


def scorers(train: Floats, seed: int) -> tuple[dict[str, Scorer], Series]:
    """One training judged by every score, and the rows that were held out."""
    order = np.random.default_rng(seed).permutation(len(train))
    held_out, known = np.split(train[order], [round(HELD_OUT * len(train))])
    series = {"train": alone(known), "stop": alone(held_out)}
    fitted = fit_scorer(
        **series, n_context=0, variant=Gaussian(), training=Training(), seed=seed
    ).scorer
    judged = {name: judged_by(fitted, name, **series) for name in SCORES if name != "labels"}
    return judged, series["stop"]


def standardized(scorer: Scorer, rows: Series, held_out: Series) -> Floats:
    """A score in its deviations on held-out rows; of the residual, its logarithm."""
    values, reference = (scorer(*some[:2])[0].double().numpy() for some in (rows, held_out))
    if scorer.anomaly_score == "residual":
        values, reference = (np.log(np.maximum(some, 1e-12)) for some in (values, reference))
    return (values - reference.mean()) / (reference.std() or 1.0)


def by_scores(parts: Split, seed: int) -> Iterator[tuple[str, Floats]]:
    """Each score of the test rows."""
    judged, held_out = scorers(parts.train, seed)
    test = alone(parts.test)
    for name, scorer in judged.items():
        yield name, scorer(*test[:2])[0].double().numpy()
    for name, of in SUMS.items():
        yield name, sum(standardized(judged[part], test, held_out) for part in of)


def by_baselines(parts: Split, seed: int) -> Iterator[tuple[str, Floats]]:
    """Each simple detector's score of the test rows."""
    standardizer = fit_standardizer(torch.from_numpy(parts.train), 0)
    train, test = (
        standardizer(torch.from_numpy(rows)).x.double() for rows in (parts.train, parts.test)
    )
    neighbours = NearestNeighbors(n_neighbors=5).fit(train.numpy())
    distances = neighbours.kneighbors(test.numpy())[0]
    yield "1-NN", distances[:, 0]
    yield "kNN, 5", distances[:, 4]
    precision = precision_of(train, torch.ones_like(train, dtype=torch.bool))
    yield "Mahalanobis", ((test @ precision) * test).sum(dim=1).numpy()
    yield "random", np.random.default_rng(seed).random(len(test))


def table(found: dict[str, list[list[tuple[float, float]]]]) -> Iterator[str]:
    """Means over the sets, and the standard deviation of the mean between the seeds."""
    yield "| score | AUROC | AP | better than 1-NN on | worst against 1-NN |"
    yield "|---|---|---|---|---|"
    of_sets = {name: 100 * np.array(values).mean(axis=0) for name, values in found.items()}
    for name, values in found.items():
        seeds = 100 * np.array(values).mean(axis=1)  # (seeds, 2)
        spread = seeds.std(axis=0, ddof=1) if len(seeds) > 1 else np.full(2, np.nan)
        beyond = (of_sets[name] - of_sets["1-NN"])[:, 0]
        cells = [f"{seeds[:, at].mean():.1f} ± {spread[at]:.1f}" for at in (0, 1)]
        cells += [f"{(beyond > 0).sum()} of {len(beyond)}", f"{beyond.min():+.1f}"]
        yield f"| {name} | " + " | ".join(cells) + " |"


def areas(file: Path, seed: int, protocol: str) -> dict[str, tuple[float, float]]:
    """AUROC and average precision of each score and each baseline on a set."""
    parts, found = split(file, seed, protocol), {}
    for name, score in (*by_scores(parts, seed), *by_baselines(parts, seed)):
        assert np.isfinite(score).all(), (file.stem, name)
        area = roc_auc_score(parts.is_anomaly, score)
        found[name] = float(area), float(average_precision_score(parts.is_anomaly, score))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/adbench"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kept", type=Path, help="file of what is done, to go on from")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted(options.data.glob("*.npz"), key=lambda file: int(file.stem.split("_")[0]))
    files = [f for f in files if int(f.stem.split("_")[0]) % 2 and f.stem not in LEFT_OUT]
    kept = {}
    if options.kept and options.kept.is_file():
        kept = json.loads(options.kept.read_text(encoding="utf-8"))
    lines = []
    for protocol in PROTOCOLS:
        found: dict[str, list[list[tuple[float, float]]]] = {}
        for seed, file in product(range(options.seeds), files):
            key, started = f"{protocol} {file.stem} {seed}", time.perf_counter()
            if key not in kept:
                kept[key] = areas(file, seed, protocol)
                print(key, f"{time.perf_counter() - started:.1f} s", flush=True)
            if options.kept:
                options.kept.write_text(json.dumps(kept), encoding="utf-8")
            for name, area in kept[key].items():
                seeds = found.setdefault(name, [])
                seeds.extend([] for _ in range(seed + 1 - len(seeds)))
                seeds[seed].append(area)
        lines += [
            f"`python benchmarks/scores.py --seeds {options.seeds}`, protocol {protocol}: "
            f"{len(files)} odd-numbered sets of ADBench, member `gaussian` as it comes; percent, "
            f"mean over the sets ± standard deviation of that mean over {options.seeds} seeds.",
            "",
            *table(found),
            "",
        ]
    print("\n".join(lines), flush=True)
    if options.out:
        options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
