"""What explains an anomaly: contributions, counterfactuals, and sensors that are at fault.

    python benchmarks/why.py --seeds 3 --out benchmarks/results/why.md

The demo's plant with its planted faults, `gaussian` on single rows, and a threshold that 1 % of the
normal rows of `stop` exceed. Anomalous rows of planted faults are explained, evenly spaced.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from simulated import CONTRACT, parts, planted, series
from torch import Tensor

from vae_anomaly.config import Training
from vae_anomaly.data.sensor_faults import faulty_cells, sensor_limits
from vae_anomaly.data.simulate import CONTEXT, demo
from vae_anomaly.data.simulate.faults import LABELS
from vae_anomaly.data.windows import matrix_of
from vae_anomaly.explanations import shares
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring.counterfactual import counterfactual
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.streaming import score_rows

#: Rows that are explained, a seed.
ROWS = 100

#: ARCANA: Adam on all sensors; a change below a twentieth of a standard deviation is none.
ARCANA_STEPS, ARCANA_RATE, LEAST = 300, 0.05, 0.05


class Explained(NamedTuple):
    """Of each row: the sensor named first, how many are changed, and whether it is then normal."""

    first: np.ndarray
    n_changed: np.ndarray
    reached: np.ndarray


def by_counterfactual(scorer: Scorer, rows: Tensor, threshold: float) -> Explained:
    """Sensor after sensor, as the library does."""
    found = [counterfactual(scorer, row[None], threshold=threshold) for row in rows]
    return Explained(
        np.array([one.changed[0] for one in found]),
        np.array([len(one.changed) for one in found]),
        np.array([one.reached for one in found]),
    )


def by_arcana(weight: float) -> Callable[[Scorer, Tensor, float], Explained]:
    """All sensors at once: the excess over the threshold, and the L1 norm of the change."""

    def explain(scorer: Scorer, rows: Tensor, threshold: float) -> Explained:
        d, run = scorer.standardizer.n_features, torch.zeros(len(rows), dtype=torch.int64)
        scale = scorer.standardizer.scale[:d]
        shift = torch.zeros(len(rows), d, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([shift], lr=ARCANA_RATE)

        def changed(by: Tensor) -> Tensor:
            return torch.cat([rows[:, :d] + by * scale, rows[:, d:]], dim=1)

        for _ in range(ARCANA_STEPS):
            excess = (scorer.differentiable(changed(shift), run) - threshold).clamp(min=0)
            cost = (excess + weight * shift.abs().sum(dim=1)).sum()
            (shift.grad,) = torch.autograd.grad(cost, shift)
            optimizer.step()
        size = torch.where(rows[:, :d].isnan(), 0.0, shift.detach().abs())
        after, _ = scorer(changed(shift.detach()), run)
        return Explained(
            size.argmax(dim=1).numpy(),
            (size > LEAST).sum(dim=1).numpy(),
            (after <= threshold * 1.001).numpy(),
        )

    return explain


METHODS = {"counterfactual": by_counterfactual} | {
    f"ARCANA, weight {weight:g}": by_arcana(weight) for weight in (0.3, 1.0, 3.0)
}


class Figures(NamedTuple):
    """Of some rows: label, and of each method whether it names a planted sensor, and so on."""

    label: np.ndarray
    hit: dict[str, np.ndarray]
    n_changed: dict[str, np.ndarray]
    reached: dict[str, np.ndarray]
    share: np.ndarray
    stuck: np.ndarray


def one_seed(seed: int) -> Figures:
    """Explanations of the anomalous rows of planted faults of one plant."""
    simulation = demo(seed)
    tables = parts(simulation)
    matrices = {name: matrix_of(table, CONTRACT) for name, table in tables.items()}
    scorer = fit_scorer(
        series(matrices["train"]), series(matrices["stop"]), n_context=len(CONTEXT),
        variant=variant_of("gaussian", {}), training=Training(), seed=seed,
    ).scorer  # fmt: skip
    held, test = matrices["stop"], matrices["test"]
    threshold = float(np.quantile(score_rows(scorer, held).score[held.label <= 0], 0.99))
    found = score_rows(scorer, test)
    at = np.flatnonzero((found.score > threshold) & (test.label > 0))
    at = at[np.linspace(0, len(at) - 1, ROWS).astype(int)]
    rows, where = torch.from_numpy(test.values[at]), planted(simulation, tables["test"])[at]
    of = np.arange(len(at))
    hit = {"contributions": where[of, found.contributions[at].argmax(axis=1)]}
    n_changed, reached = {}, {}
    for name, method in METHODS.items():
        explained = method(scorer, rows, threshold)
        hit[name] = where[of, explained.first]
        n_changed[name], reached[name] = explained.n_changed, explained.reached
    limits = sensor_limits(matrices["train"], CONTRACT.sensors)
    stuck = np.zeros(len(test.run), bool)
    for cells in faulty_cells(tables["test"], test.run, CONTRACT.sensors, limits):
        stuck[cells.rows] |= cells.fault == "stuck"
    share = shares(found.contributions[at]).max(axis=1)
    return Figures(test.label[at], hit, n_changed, reached, share, stuck[at])


def table(seeds: list[Figures]) -> list[str]:
    """Two tables: how methods compare, and what faults look like."""

    def joined(name: str, of: str) -> np.ndarray:
        return np.concatenate([getattr(figures, of)[name] for figures in seeds])

    label = np.concatenate([figures.label for figures in seeds])
    lines = ["| | planted sensor first | sensors changed | then normal |", "|---|---|---|---|"]
    lines.append(f"| contributions | {joined('contributions', 'hit').mean():.3f} | | |")
    for name in METHODS:
        hit, n, reached = (joined(name, of).mean() for of in ("hit", "n_changed", "reached"))
        lines.append(f"| {name} | {hit:.3f} | {n:.2f} | {reached:.3f} |")
    lines += ["", "| fault | rows | sensors changed | share of the first above 0.7 | stuck |"]
    lines.append("|---|---|---|---|---|")
    n_changed = joined("counterfactual", "n_changed")
    share = np.concatenate([figures.share for figures in seeds])
    stuck = np.concatenate([figures.stuck for figures in seeds])
    for number in np.unique(label):
        own = label == number
        lines.append(
            f"| {LABELS[int(number)]} | {own.sum()} | {n_changed[own].mean():.2f} "
            f"| {(share[own] > 0.7).mean():.2f} | {stuck[own].mean():.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"`python benchmarks/why.py --seeds {options.seeds}`: {ROWS} anomalous rows of planted "
        f"faults a seed, {options.seeds} seeds; the counterfactual changes one sensor of a sensor "
        "fault and several of a fault of the process.",
        "",
        *table([one_seed(seed) for seed in range(options.seeds)]),
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
