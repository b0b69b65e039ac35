"""Window and smoothing of ordered rows, each choice beside the others, on two public data sets.

    python benchmarks/smoothing.py --data ../data --seeds 3 --out benchmarks/results/smoothing.md

`skab`: each of 34 recordings by itself, learnt from its first 400 rows (the last 80 of them stop
the training and standardise the score), AUROC of the rows after them. `tep`: learnt from d00 (the
last fifth stops and standardises), threshold the 99 % quantile of d00_te, detection rate of the 800
faulty rows of 18 faults (3, 9 and 15 have no effect that anyone finds), false alarm rate of the 160
rows before each fault. Scores are kept in --work, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from vae_anomaly.config import Training
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring import smoothing
from vae_anomaly.scoring.baseline_fitting import fit_baseline
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.smoothing import SCALES, ewma, kernel_length, multiscale, standard_ewma

Floats = npt.NDArray[np.float64]
Score = Callable[[Floats], Floats]

TRAIN_ROWS, STOP_SHARE = 400, 0.2
HARD_FAULTS, FIRST_FAULTY = (3, 9, 15), 160
#: Rows that count as the first of a series.
FIRST_ROWS = 16


class Table(NamedTuple):
    """Rows of one recording (n, d), and the class of each (n,), 0 normal."""

    rows: Floats
    label: Floats


def asymptotic(z: torch.Tensor, run: torch.Tensor) -> torch.Tensor:
    """The multi-scale maximum with the limit of the standard deviations from the first row on."""
    charts = []
    for rate in SCALES:
        terms = run.clamp(max=kernel_length(rate, smoothing.CUT_WEIGHT_OF_SCALES) - 1) + 1
        exact = (1 - (1 - rate) ** (2 * terms.double())).sqrt().float()
        charts.append(standard_ewma(z, run, rate) * exact)
    return torch.stack(charts).amax(dim=0)


Smooth = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
SMOOTHINGS: dict[str, Smooth] = {
    "raw": lambda z, run: z,
    "EWMA .1": lambda z, run: ewma(z, run, 0.1),
    "multi-scale": lambda z, run: multiscale(z, z[:, None], run)[0],
    "multi-scale, asymptotic start": asymptotic,
}


def mahalanobis(train: Floats, window: int, seed: int) -> Score:
    at = round((1 - STOP_SHARE) * len(train))
    scorer = fit_baseline(
        series(train[:at]), n_context=0, baseline="mahalanobis", window=window, seed=seed
    ).scorer
    return lambda rows: scorer(*series(rows)[:2])[0].numpy().astype(float)


def random(train: Floats, window: int, seed: int) -> Score:
    rng = np.random.default_rng([seed, zlib.crc32(train.tobytes())])  # others in each recording
    return lambda rows: rng.normal(size=len(rows))


def vae(train: Floats, window: int, seed: int) -> Score:
    at = round((1 - STOP_SHARE) * len(train))
    scorer = fit_scorer(
        series(train[:at]), series(train[at:]), n_context=0, variant=variant_of("gaussian", {}),
        training=Training(), window=window, seed=seed,
    ).scorer  # fmt: skip
    return lambda rows: scorer(*series(rows)[:2])[0].numpy().astype(float)


METHODS: dict[str, Callable[[Floats, int, int], Score]] = {
    "random score": random,
    "Mahalanobis": mahalanobis,
    "gaussian VAE": vae,
}


def series(rows: Floats) -> Series:
    n = len(rows)
    values = torch.from_numpy(np.ascontiguousarray(rows))
    return Series(values, torch.arange(n), torch.zeros(n, dtype=torch.int64))


def smoothed(smooth: Smooth, z: Floats) -> Floats:
    values = torch.from_numpy(z).float()
    return np.asarray(smooth(values, torch.arange(len(z))).numpy())


def skab(data: Path) -> Iterator[tuple[Floats, dict[str, Table]]]:
    """Training rows of each recording, and the recording with its labels."""
    files = [*data.glob("skab/data/valve*/*.csv"), *data.glob("skab/data/other/*.csv")]
    for path in sorted(files):
        table = np.genfromtxt(path, delimiter=";", skip_header=1, usecols=range(1, 10))
        name = f"{path.parent.name}/{path.stem}"
        yield table[:TRAIN_ROWS, :-1], {name: Table(table[:, :-1], table[:, -1])}


def tep(data: Path) -> Iterator[tuple[Floats, dict[str, Table]]]:
    """Training rows, and the fresh recordings, of which that without a fault is the first."""
    tables = {"d00_te": Table(np.loadtxt(data / "tep/d00_te.dat"), np.zeros(960))}
    for k in range(1, 22):
        rows = np.loadtxt(data / f"tep/d{k:02d}_te.dat")
        tables[f"d{k:02d}_te"] = Table(rows, np.repeat([0.0, k], [FIRST_FAULTY, 800]))
    yield np.loadtxt(data / "tep/d00.dat").T, tables


def scored(
    data: Path, suite: str, method: str, window: int, seed: int
) -> Iterator[tuple[str, Floats]]:
    """Raw scores of every recording, in standard deviations of held-out normal rows."""
    for train, tables in SUITES[suite](data):
        score = METHODS[method](train, window, seed)
        held_out = score(train)[round((1 - STOP_SHARE) * len(train)) :]
        yield f"held out/{next(iter(tables))}", (held_out - held_out.mean()) / held_out.std()
        for name, table in tables.items():
            yield name, (score(table.rows) - held_out.mean()) / held_out.std()


def skab_figures(found: dict[str, Floats], truth: dict[str, Floats]) -> dict[str, float]:
    """Mean AUROC of the rows after the first 400, of one smoothing."""
    areas = [roc_auc_score(truth[k][TRAIN_ROWS:], s[TRAIN_ROWS:]) for k, s in found.items()]
    return {"SKAB AUROC": float(np.mean(areas))}


def tep_figures(found: dict[str, Floats], truth: dict[str, Floats]) -> dict[str, float]:
    """Detection, area and false alarms, of one smoothing."""
    normal, *faulty = found.values()
    limit = np.quantile(normal, 0.99)
    easy = [s[FIRST_FAULTY:] > limit for k, s in enumerate(faulty, 1) if k not in HARD_FAULTS]
    before = np.array([s[:FIRST_FAULTY] > limit for s in faulty])
    areas = [
        roc_auc_score(
            np.repeat([0, 1], [len(normal), 800]), np.concatenate([normal, s[FIRST_FAULTY:]])
        )
        for s in faulty
    ]
    return {
        "TEP detection": float(np.mean(easy)),
        "TEP AUROC": float(np.mean(areas)),
        "TEP false alarms, first rows": float(before[:, :FIRST_ROWS].mean()),
        "TEP false alarms, later rows": float(before[:, FIRST_ROWS:].mean()),
    }


SUITES = {"tep": tep, "skab": skab}
JUDGED = {"tep": tep_figures, "skab": skab_figures}


def keep_scores(options: argparse.Namespace) -> None:
    """Raw scores of every run, each in a file; those of an earlier call stay."""
    until = time.monotonic() + 60 * options.minutes
    options.work.mkdir(parents=True, exist_ok=True)
    for suite, seed, method, window in product(SUITES, range(options.seeds), METHODS, (1, 3)):
        path = scores_file(options.work, suite, method, window, seed)
        if path.is_file() or time.monotonic() > until or (method == "Mahalanobis" and seed):
            continue
        found = dict(scored(options.data, suite, method, window, seed))
        np.savez(path, **found)


def scores_file(work: Path, suite: str, method: str, window: int, seed: int) -> Path:
    return work / f"{suite}-{method.replace(' ', '_')}-{window}-{seed}.npz"


def table(options: argparse.Namespace, suite: str) -> Iterator[str]:
    """For each figure a line a method and window, a column a smoothing: mean ± sd of the seeds."""
    truth = {k: t.label for _, tables in SUITES[suite](options.data) for k, t in tables.items()}
    lines: dict[str, list[str]] = {}
    for method, window in product(METHODS, (1, 3)):
        files = [scores_file(options.work, suite, method, window, k) for k in range(options.seeds)]
        runs = [figures_of(suite, path, truth) for path in files if path.is_file()]
        for figure in runs[0] if runs else ():
            cells = []
            for name in SMOOTHINGS:
                values = [run[figure][name] for run in runs]
                spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
                cells.append(f"{np.mean(values):.3f}{spread}")
            line = f"| {method} | {window} | {len(runs)} | {' | '.join(cells)} |"
            lines.setdefault(figure, []).append(line)
    for figure, rows in lines.items():
        yield ""
        yield "| " + " | ".join([figure, "window", "seeds", *SMOOTHINGS]) + " |"
        yield "|---" * (3 + len(SMOOTHINGS)) + "|"
        yield from rows


def figures_of(suite: str, path: Path, truth: dict[str, Floats]) -> dict[str, dict[str, float]]:
    """Figures of one run's scores, of each smoothing."""
    figures: dict[str, dict[str, float]] = {}
    with np.load(path) as kept:
        for name, smooth in SMOOTHINGS.items():
            found = {k: smoothed(smooth, kept[k]) for k in truth}
            for figure, value in JUDGED[suite](found, truth).items():
                figures.setdefault(figure, {})[name] = value
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with skab and tep")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60, help="begin no run after these")
    parser.add_argument("--work", type=Path, default=Path("lake/smoothing"), help="scores so far")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    keep_scores(options)
    lines = [
        f"`python benchmarks/smoothing.py --data DATA --seeds {options.seeds}`: 34 recordings of "
        "SKAB, learnt from 400 rows each; TEP, learnt from 500 rows, threshold the 99 % quantile "
        f"of d00_te. First rows: the first {FIRST_ROWS} of a series. ± is the standard deviation "
        "over seeds; Mahalanobis draws nothing.",
    ]
    lines += [line for suite in SUITES for line in table(options, suite)]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
