"""Codes of several widths and levels in several numbers, on the simulated plant of the demo.

    python benchmarks/codes_and_levels.py --seeds 5 --out benchmarks/results/codes_and_levels.md

Rows and parts are those of `simulated.py`. `reconstruction` is the score everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from simulated import CONTRACT, named, parts, planted, series

from vae_anomaly.config import Training
from vae_anomaly.data.simulate import CONTEXT, demo
from vae_anomaly.data.windows import matrix_of
from vae_anomaly.decisions.evaluation import auroc
from vae_anomaly.models.variants import Gaussian, Hierarchical, Variant, VectorQuantized
from vae_anomaly.scoring.baseline_fitting import fit_baseline
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.streaming import score_rows

MEMBERS: dict[str, Variant] = {
    "gaussian": Gaussian(),
    "hierarchical, 2 levels": Hierarchical(),
    "hierarchical, 3 levels": Hierarchical(n_levels=3),
    **{f"vq, code_dim {e}": VectorQuantized(code_dim=e) for e in (1, 2, 4)},
    "vq, 256 codes": VectorQuantized(n_codes=256),
}
NAMES = ("AUROC", "planted sensor first", "bound", "perplexity", "active units")


def one_seed(seed: int) -> dict[str, dict[str, float]]:
    """Figures of each method on the test part."""
    simulation = demo(seed)
    tables = parts(simulation)
    matrices = {name: matrix_of(table, CONTRACT) for name, table in tables.items()}
    train, stop, test = (matrices[name] for name in ("train", "stop", "test"))
    truth = (test.label > 0).astype(int)
    hit = planted(simulation, tables["test"])
    found: dict[str, dict[str, float]] = {}
    for name, variant in MEMBERS.items():
        fit = fit_scorer(
            series(train), series(stop), n_context=len(CONTEXT), variant=variant,
            training=Training(), seed=seed,
        )  # fmt: skip
        scores = score_rows(fit.scorer, test)
        with torch.no_grad():
            figures = fit.scorer.module.figures(fit.scorer.standardizer(series(stop).rows))
        found[name] = {
            "AUROC": auroc(scores.score, truth).value,
            "planted sensor first": named(scores.contributions, hit, 1),
            "bound": fit.history.best.held_out_bound,
            "perplexity": figures.get("perplexity", np.nan),
            "active units": figures["active_units"],
        }
    for name in BASELINES:
        simple = fit_baseline(series(train), n_context=len(CONTEXT), baseline=name, seed=seed)
        scores = score_rows(simple.scorer, test)
        found[name] = {
            "AUROC": auroc(scores.score, truth).value,
            "planted sensor first": named(scores.contributions, hit, 1),
        }
    chance = np.random.default_rng(seed).random(len(truth))
    found["random"] = {"AUROC": auroc(chance, truth).value}
    return found


def told(values: np.ndarray, digits: int) -> str:
    """Mean, lowest and highest; nothing where the method has no such figure."""
    if np.isnan(values).any():
        return ""
    mean, low, high = (
        f"{value:.{digits}f}" for value in (values.mean(), values.min(), values.max())
    )
    return f"{mean} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    runs = [one_seed(seed) for seed in range(options.seeds)]
    lines = [
        f"`python benchmarks/codes_and_levels.py --seeds {options.seeds}`: the demo's plant, part "
        f"test, {options.seeds} seeds; mean (lowest to highest). Bounds are those of training, in "
        "nats a row; that of vq leaves out what its codes cost, and compares with its own alone.",
        "",
        f"| method | {' | '.join(NAMES)} |",
        "|---" * (len(NAMES) + 1) + "|",
    ]
    for method in runs[0]:
        found = {name: np.array([run[method].get(name, np.nan) for run in runs]) for name in NAMES}
        cells = [told(values, 3 if name in NAMES[:2] else 1) for name, values in found.items()]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
