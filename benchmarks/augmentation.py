"""Whether augmented rows help the detector, and how well they are told from real ones.

    python benchmarks/augmentation.py --seeds 3 --out benchmarks/results/augmentation.md

The demo's simulated plant, a new one each seed, with all or only some of its training rows (evenly
spaced). Three detectors are fitted on each: on the real rows alone; on these and as many augmented
ones (`training: {augment: 1.0}`); and, as the simple way, on these and as many copies of them with
noise of a tenth of each sensor's standard deviation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from simulated import CONTEXT, CONTRACT, SENSORS, parts, series

from vae_anomaly.config import Training
from vae_anomaly.data.simulate import demo
from vae_anomaly.data.windows import Matrix, matrix_of
from vae_anomaly.decisions.evaluation import auroc
from vae_anomaly.latent import augment, fit_augmented, told_apart
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.streaming import score_rows

#: Training rows that are kept.
SIZES = (100, 500, 8064)

#: Noise of the copies, in standard deviations of each sensor.
JITTER = 0.1


def few(matrix: Matrix, n: int) -> Matrix:
    """n of the rows, evenly spaced, each a series of its own."""
    at = np.linspace(0, len(matrix.run) - 1, min(n, len(matrix.run))).astype(np.int64)
    return Matrix(matrix.values[at], np.zeros(len(at), np.int64), matrix.label[at])


def jittered(matrix: Matrix, seed: int) -> Matrix:
    """The rows, and a noisy copy of each."""
    d = len(SENSORS)
    noise = np.random.default_rng(seed).normal(size=(len(matrix.run), d))
    copy = matrix.values.copy()
    copy[:, :d] += JITTER * np.nanstd(matrix.values[matrix.label <= 0, :d], axis=0) * noise
    return Matrix(
        np.concatenate([matrix.values, copy]),
        np.concatenate([matrix.run, matrix.run]),
        np.concatenate([matrix.label, matrix.label]),
    )


def one_plant(seed: int, n: int) -> Iterator[tuple[str, float]]:
    """Each detector's AUROC on the test part, and how well its rows are told from real ones."""
    matrices = {name: matrix_of(table, CONTRACT) for name, table in parts(demo(seed)).items()}
    train, stop, test = few(matrices["train"], n), matrices["stop"], matrices["test"]

    def fit(rows: Series, _: int = 0) -> FittedScorer:
        return fit_scorer(
            rows, series(stop), n_context=len(CONTEXT), variant=variant_of("gaussian", {}),
            training=Training(), seed=seed,
        )  # fmt: skip

    def area(scorer: Scorer) -> float:
        return auroc(score_rows(scorer, test).score, (test.label > 0).astype(int)).value

    plain = fit(series(train)).scorer
    yield "AUROC, real rows", area(plain)
    made = fit_augmented(series(train), series(stop), fit, share=1.0, seed=seed)
    yield "AUROC, and augmented ones", area(made.fitted.scorer)
    yield "AUROC, and jittered ones", area(fit(series(jittered(train, seed))).scorer)
    d = len(SENSORS)
    real = stop.values[stop.label <= 0, :d]
    new = augment(plain, train, len(real), seed=seed).matrix.values[:, :d]
    known = few(train, len(real)).values[:, :d]
    yield "told from part stop: augmented", told_apart(real, new, seed=seed).value
    yield "told from part stop: real training rows", told_apart(real, known, seed=seed).value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"`python benchmarks/augmentation.py --seeds {options.seeds}`: the demo's plant, part "
        f"test, {options.seeds} seeds; mean and spread (sd). As many augmented or jittered rows as "
        "real ones.",
        "",
    ]
    columns: list[list[str]] = []
    for n in SIZES:
        found = [dict(one_plant(seed, n)) for seed in range(options.seeds)]
        names = list(found[0])
        values = np.array([[row[name] for name in names] for row in found])
        figures = zip(values.mean(axis=0), values.std(axis=0, ddof=1), strict=True)
        columns.append([f"{mean:.3f} ± {spread:.3f}" for mean, spread in figures])
        print(n, columns[-1], flush=True)
    lines += [
        "| figure | " + " | ".join(f"{n:,} training rows" for n in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
        *(
            f"| {name} | " + " | ".join(column[i] for column in columns) + " |"
            for i, name in enumerate(names)
        ),
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
