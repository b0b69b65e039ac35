"""Tables with valves, phases and types: the mixed member beside the gaussian one and the baselines.

    python benchmarks/mixed.py --ai4i ../shared/data/ai4i2020/ai4i2020.csv \
        --seeds 3 --out benchmarks/results/mixed.md

Three tables. Two are simulated (`tests/valve_plant.py`): a twentieth of the test rows have a valve
that says the opposite of what the flow does, or another phase than the one that makes this flow;
3,000 normal rows train, 600 stop the training. The third is AI4I 2020, whose 339 failures have no
valve to blame: 60 % of the normal rows train, 10 % stop, by chance, and the rest and all failures
are judged. To all but the mixed member codes are numbers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from vae_anomaly.config import Training
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import Gaussian, Mixed, Variant
from vae_anomaly.scoring.baseline_fitting import learn
from vae_anomaly.scoring.fitting import fit_scorer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from valve_plant import COLUMNS, LEVELS, valve_rows

#: Those that take rows in any order.
BASELINES = ("mahalanobis", "pca", "knn", "isolation_forest", "random")

TYPES = {"L": 0.0, "M": 1.0, "H": 2.0}

MEMBERS: dict[str, Variant] = {
    "mixed": Mixed(),
    "mixed, hide: 0": Mixed(hide=0.0),
    "gaussian": Gaussian(),
}


class Task(NamedTuple):
    """Normal rows to learn from, rows to judge, which of those are anomalous, and by what."""

    train: np.ndarray
    stop: np.ndarray
    test: np.ndarray
    is_anomaly: np.ndarray
    levels: tuple[int, ...]
    wrong: str = ""


def simulated(seed: int, wrong: Literal["valve", "phase"]) -> Task:
    """The simulated plant."""
    test = valve_rows(4000, 1000 + seed, share_faulty=0.05, wrong=wrong)
    train, stop = valve_rows(3000, seed).values, valve_rows(600, 500 + seed).values
    return Task(train, stop, test.values, test.is_faulty, LEVELS, wrong)


def milling(path: Path, seed: int) -> Task:
    """AI4I 2020 with its type as a code."""
    table = pd.read_csv(path, encoding="utf-8-sig")
    is_failure = table["Machine failure"].to_numpy() == 1
    values = table.assign(Type=table["Type"].map(TYPES)).iloc[:, 2:8].to_numpy(np.float64)
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~is_failure))
    n = len(normal)
    train, stop, rest = np.split(normal, [round(0.6 * n), round(0.7 * n)])
    test = np.concatenate([rest, np.flatnonzero(is_failure)])
    return Task(values[train], values[stop], values[test], is_failure[test], (3, 0, 0, 0, 0, 0))


def areas(task: Task, seed: int) -> dict[str, float]:
    """AUROC of each method, and how often the two members name what is wrong first."""
    found = {}
    for name, variant in MEMBERS.items():
        scorer = fit_scorer(
            series(task.train),
            series(task.stop),
            n_context=0,
            variant=variant,
            training=Training(),
            levels=task.levels if variant.knows_levels else (),
            seed=seed,
        ).scorer
        score, contributions = scorer(*series(task.test)[:2])
        found[f"AUROC {name}"] = roc_auc_score(task.is_anomaly, score)
        if task.wrong:
            first = contributions.argmax(dim=-1).numpy()[task.is_anomaly]
            found[f"{task.wrong} named first, {name}"] = float(
                (first == COLUMNS.index(task.wrong)).mean()
            )
    for name in BASELINES:
        score = learn(name, torch.from_numpy(task.train), seed=seed)(torch.from_numpy(task.test))
        found[f"AUROC {name}"] = roc_auc_score(task.is_anomaly, score)
    return found


def series(values: np.ndarray) -> Series:
    """Rows, each a series of its own."""
    n = len(values)
    zeros = torch.zeros(n, dtype=torch.int64)
    return Series(torch.from_numpy(np.ascontiguousarray(values)), zeros, zeros)


def table_of(title: str, runs: list[dict[str, float]]) -> list[str]:
    """The figures of all seeds as Markdown."""
    lines = [f"## {title}", "", "| figure | mean | lowest | highest |", "|---|---|---|---|"]
    for name in sorted(runs[0], key=lambda name: (not name.startswith("AUROC"), 0)):
        values = [run[name] for run in runs]
        figures = (np.mean(values), min(values), max(values))
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures) + " |")
    return [*lines, ""]


def main() -> None:
    """Run all seeds and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ai4i", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [f"`python benchmarks/mixed.py --seeds {given.seeds}`: see there for the tables.", ""]
    for wrong in ("valve", "phase"):
        runs = [areas(simulated(seed, wrong), seed) for seed in range(given.seeds)]
        lines += table_of(f"A {wrong} that disagrees with the flow, simulated", runs)
    if given.ai4i is not None:
        runs = [areas(milling(given.ai4i, seed), seed) for seed in range(given.seeds)]
        lines += table_of("AI4I 2020, the type as a text", runs)
    print("\n".join(lines))
    if given.out is not None:
        given.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
