"""What the defaults cost: fitting 5,000 rows of 20 columns, and scoring, beside one plain network.

    python benchmarks/speed.py --out benchmarks/results/speed.md

One thread; CPU seconds; the methods in turn, the least of five rounds. Ratios compare with
`gaussian` judged by its reconstruction, on the same window.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from vae_anomaly import VAEDetector

N_ROWS, N_COLUMNS, N_SCORED, ROUNDS = 5_000, 20, 200_000, 5

#: Title -> a detector, and the title of the plain network that it is compared with.
METHODS: Mapping[str, tuple[Callable[[], VAEDetector], str]] = {
    "plain network": (
        lambda: VAEDetector("gaussian", anomaly_score="reconstruction", random_state=0),
        "plain network",
    ),
    "`fast`": (lambda: VAEDetector("fast", random_state=0), "plain network"),
    "default of tables": (lambda: VAEDetector(random_state=0), "plain network"),
    "plain network, 3 rows": (
        lambda: VAEDetector(
            "gaussian", window=3, anomaly_score="reconstruction", random_state=0
        ),
        "plain network, 3 rows",
    ),
    "default of series": (
        lambda: VAEDetector(window="auto", smoothing="auto", random_state=0),
        "plain network, 3 rows",
    ),
}  # fmt: skip


def rows(n: int, seed: int, gaps: float = 0.0) -> np.ndarray:
    """Three causes, twenty sensors, noise, and a share of gaps."""
    loadings = np.random.default_rng(0).normal(size=(3, N_COLUMNS))
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(n, 3)) @ loadings
    found += 0.2 * rng.normal(size=found.shape)
    return np.where(rng.random(found.shape) < gaps, np.nan, found)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("vae_anomaly").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*calibration rows support")
    whole, gappy = rows(N_ROWS, 1), rows(N_ROWS, 1, gaps=0.05)
    VAEDetector(random_state=0).fit(whole)  # what torch loads at its first training is no cost
    fits = {
        name: [seconds(lambda: make().fit(X)) for X in (whole, gappy)]  # noqa: B023 (called here)
        for name, (make, _) in METHODS.items()
    }
    scorers = {name: make().fit(whole).scorer_ for name, (make, _) in METHODS.items()}
    many = torch.from_numpy(rows(N_SCORED, 2))
    run = torch.arange(len(many))
    least = dict.fromkeys(METHODS, np.inf)
    for _ in range(ROUNDS):
        for name, scorer in scorers.items():
            least[name] = min(least[name], seconds(lambda: scorer(many, run)))  # noqa: B023
    lines = [
        f"`python benchmarks/speed.py`: {N_ROWS:,} rows of {N_COLUMNS} columns are learnt from, "
        f"{len(many):,} new ones scored, on one thread; CPU seconds.",
        "",
        "| | fit | fit with 5 % gaps | million rows scored a second | times the plain network |",
        "|---|---|---|---|---|",
    ]
    for name, (_, plain) in METHODS.items():
        rate = len(many) / least[name] / 1e6
        lines.append(
            f"| {name} | {fits[name][0]:.1f} | {fits[name][1]:.1f} | {rate:.2f} | "
            f"{least[name] / least[plain]:.1f} |"
        )
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
