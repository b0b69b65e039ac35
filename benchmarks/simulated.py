"""Detection on the simulated plant of the demo, with the baselines on the same rows.

    python benchmarks/simulated.py --seeds 8 --out benchmarks/results/simulated.md

Each seed is another plant of four pumps. Everything is fitted on the normal rows of the first half
(`train` and `stop` as plant.yml cuts them), and judged on the last fifth. Baselines see the same
columns: what the operating conditions explain linearly is taken off first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from vae_anomaly.config import Contract, Training
from vae_anomaly.data.simulate import CONTEXT, SENSORS, Simulation, demo, simulate, truth
from vae_anomaly.data.windows import Matrix, matrix_of
from vae_anomaly.decisions.evaluation import auroc
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring.baseline_fitting import fit_baseline
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.scoring.fitting import fit_scorer, judged_by
from vae_anomaly.streaming import score_rows

CONTRACT = Contract(
    time="time",
    asset="asset",
    sensors=tuple(sensor.name for sensor in SENSORS),
    context=tuple(sensor.name for sensor in CONTEXT),
)

#: Of the same model: the default of tables, and a part of it.
OTHER_SCORES = ("fused", "residual")


def parts(simulation: Simulation) -> dict[str, pa.Table]:
    """Rows of each asset by time: 50 % train, 10 % stop, 20 % calibrate, 20 % test."""
    table = simulate(simulation).rename_columns(
        ["label" if name == "fault" else name for name in simulate(simulation, 0, 1).column_names]
    )
    edges = {"train": (0, 0.5), "stop": (0.5, 0.6), "test": (0.8, 1.0)}
    cut: dict[str, list[pa.Table]] = {name: [] for name in edges}
    for asset in simulation.assets:
        own = table.filter(pc.field("asset") == asset)
        for name, (low, high) in edges.items():
            first, last = round(low * own.num_rows), round(high * own.num_rows)
            cut[name].append(own.slice(first, last - first))
    return {name: pa.concat_tables(pieces) for name, pieces in cut.items()}


def planted(simulation: Simulation, table: pa.Table) -> np.ndarray:
    """(n, d) whether a sensor is one that the row's fault was planted on."""
    hit = np.zeros((table.num_rows, len(SENSORS)), bool)
    asset = np.asarray(table["asset"].to_pylist())
    moment = table["time"].cast(pa.int64()).to_numpy()
    faulty = table["label"].to_numpy() > 0
    for fault in truth(simulation).to_pylist():
        start, end = (int(fault[name].timestamp() * 1e6) for name in ("start", "end"))
        inside = (asset == fault["asset"]) & (moment >= start) & (moment < end) & faulty
        columns = [CONTRACT.sensor_names.index(name) for name in fault["sensors"]]
        hit[np.ix_(inside, columns)] = True
    return hit


def named(contributions: np.ndarray, hit: np.ndarray, top: int) -> float:
    """Share of the faulty rows that have a planted sensor among their `top` first."""
    first = np.argsort(-contributions, axis=1, kind="stable")[:, :top]
    faulty = hit.any(axis=1)
    return float(np.take_along_axis(hit, first, axis=1).any(axis=1)[faulty].mean())


def series(matrix: Matrix) -> Series:
    return Series(*(torch.from_numpy(a) for a in (matrix.values, matrix.run, matrix.label)))


def one_seed(seed: int) -> dict[str, float]:
    """AUROC of each method on the test part, and how often the planted sensor comes first."""
    simulation = demo(seed)
    tables = parts(simulation)
    matrices = {name: matrix_of(table, CONTRACT) for name, table in tables.items()}
    train, test = matrices["train"], matrices["test"]
    known = {"train": series(train), "stop": series(matrices["stop"])}
    scorer = fit_scorer(
        **known, n_context=len(CONTEXT),
        variant=variant_of("gaussian", {}), training=Training(), seed=seed,
    ).scorer  # fmt: skip
    found = score_rows(scorer, test)
    truth_ = (test.label > 0).astype(int)
    normal = train.values[train.label <= 0]
    z = np.abs(test.values - np.nanmean(normal, axis=0)) / np.nanstd(normal, axis=0)
    z = np.nan_to_num(z[:, : len(SENSORS)])
    areas = {"gaussian VAE": found.score, "largest z of a sensor": z.max(axis=1)}
    areas |= {
        f"gaussian VAE, score {name}": score_rows(judged_by(scorer, name, **known), test).score
        for name in OTHER_SCORES
    }
    contributions = {"gaussian VAE": found.contributions, "largest z": z}
    for name in BASELINES:
        simple = fit_baseline(series(train), n_context=len(CONTEXT), baseline=name, seed=seed)
        judged = score_rows(simple.scorer, test)
        areas[name], contributions[name] = judged.score, judged.contributions
    areas["random"] = np.random.default_rng(seed).random(len(truth_))
    figures = {f"AUROC {name}": auroc(score, truth_).value for name, score in areas.items()}
    hit = planted(simulation, tables["test"])
    for name, own in contributions.items():
        for top in (1, 3):
            figures[f"planted sensor in the top {top}, {name}"] = named(own, hit, top)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    rows = [one_seed(seed) for seed in range(options.seeds)]
    lines = [
        f"`python benchmarks/simulated.py --seeds {options.seeds}`: the demo's plant, part test, "
        f"{options.seeds} seeds.",
        "",
        "| figure | mean | spread (sd) | lowest | highest |",
        "|---|---|---|---|---|",
    ]
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        lines.append(
            f"| {name} | {values.mean():.3f} | {spread:.3f} | {values.min():.3f} "
            f"| {values.max():.3f} |"
        )
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
