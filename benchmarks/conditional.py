"""What it is worth to tell the model in which condition a plant runs: false alarms by mode.

    python benchmarks/conditional.py --seeds 5 --out benchmarks/results/conditional.md

Each seed is another plant of four pumps, whose sensors follow speed, bypass and ambient
temperature, in four operating modes; two of them, purge and boost, hold 4 % of the rows each. A
model is told the mode, the conditions (speed, bypass, ambient), both or neither. Each is fitted on
the normal rows of the first half (`train` and `stop` as plant.yml cuts them) and judged on the last
40 %: its threshold is set where it detects a given share of the faulty rows, and the false alarms
that this costs are counted in each mode, over all seeds. 'Halved' counts the seeds in which the
rare modes have at most half of the unconditional model's false alarms.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import JsonValue

from vae_anomaly.config import Contract, Sensor, Training
from vae_anomaly.data.simulate import CONTEXT, MODES, SENSORS, Simulation, demo, simulate
from vae_anomaly.data.windows import Matrix, matrix_of
from vae_anomaly.decisions.evaluation import auroc
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring.baseline_fitting import learn
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.streaming import score_rows

#: Modes that come by themselves, and those of them with few rows.
HELD, RARE = MODES[:4], ("purge", "boost")
MODE = Sensor(name="operation", kind="categorical", levels=HELD)
EDGES = {"train": (0.0, 0.5), "stop": (0.5, 0.6), "test": (0.6, 1.0)}
DETECTED = (0.5, 0.7, 0.8)


@dataclass(frozen=True)
class Model:
    """Which columns are judged, which explain, and the member of the family; or a baseline."""

    sensors: tuple[Sensor, ...] = SENSORS
    context: tuple[Sensor, ...] = ()
    settings: Mapping[str, JsonValue] | None = None
    baseline: str = ""

    @property
    def contract(self) -> Contract:
        """The contract of a plant whose file names these columns."""
        return Contract(time="time", asset="asset", sensors=self.sensors, context=self.context)


#: All that can follow the context: encoder and decoder always do.
PRIOR: dict[str, JsonValue] = {"prior": "conditional"}
NOISE: dict[str, JsonValue] = {"noise": "conditional"}

MODELS: dict[str, Model] = {
    "unconditional": Model(settings={}),
    "unconditional, conditions judged too": Model((*SENSORS, *CONTEXT), settings={}),
    "mode": Model(context=(MODE,), settings={}),
    "mode; conditional prior": Model(context=(MODE,), settings=PRIOR),
    "mode; conditional noise": Model(context=(MODE,), settings=NOISE),
    "mode; conditional prior and noise": Model(context=(MODE,), settings=PRIOR | NOISE),
    "conditions": Model(context=CONTEXT, settings={}),
    "conditions; conditional prior and noise": Model(context=CONTEXT, settings=PRIOR | NOISE),
    "mode and conditions": Model(context=(MODE, *CONTEXT), settings={}),
    "mode and conditions; conditional prior and noise": Model(
        context=(MODE, *CONTEXT), settings=PRIOR | NOISE
    ),
    "mahalanobis, conditions judged too": Model((*SENSORS, *CONTEXT), baseline="mahalanobis"),
    "random": Model(baseline="random"),
}


def parts(simulation: Simulation) -> dict[str, pa.Table]:
    """Rows of each asset by time: 50 % train, 10 % stop, 40 % test."""
    names = {"fault": "label", "mode": MODE.name}
    table = simulate(simulation)
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    cut: dict[str, list[pa.Table]] = {name: [] for name in EDGES}
    for asset in simulation.assets:
        own = table.filter(pc.field("asset") == asset)
        for name, (low, high) in EDGES.items():
            first, last = round(low * own.num_rows), round(high * own.num_rows)
            cut[name].append(own.slice(first, last - first))
    return {name: pa.concat_tables(pieces) for name, pieces in cut.items()}


def series(matrix: Matrix) -> Series:
    return Series(*(torch.from_numpy(a) for a in (matrix.values, matrix.run, matrix.label)))


def scores(model: Model, tables: Mapping[str, pa.Table], seed: int) -> np.ndarray:
    """Anomaly score of each row of the part test."""
    matrices = {name: matrix_of(table, model.contract) for name, table in tables.items()}
    train = matrices["train"]
    if model.settings is None:
        normal = torch.from_numpy(train.values[train.label <= 0])
        score = learn(model.baseline, normal, seed=seed)
        return score(torch.from_numpy(matrices["test"].values)).numpy()
    scorer = fit_scorer(
        series(train), series(matrices["stop"]), n_context=model.contract.context_width,
        variant=variant_of("gaussian", model.settings), training=Training(), seed=seed,
    ).scorer  # fmt: skip
    return score_rows(scorer, matrices["test"]).score


@dataclass(frozen=True)
class Judged:
    """Scores of one model and seed, with what the rows are."""

    score: np.ndarray
    is_faulty: np.ndarray
    mode: np.ndarray

    def false_alarms(self, detected: float) -> np.ndarray:
        """Normal rows above the threshold that detects such a share of the faulty ones, by mode."""
        threshold = np.quantile(self.score[self.is_faulty], 1 - detected, method="lower")
        wrong = ~self.is_faulty & (self.score > threshold)
        return np.array([np.sum(wrong & (self.mode == mode)) for mode in HELD])

    def normal_rows(self) -> np.ndarray:
        """Normal rows of each mode."""
        return np.array([np.sum(~self.is_faulty & (self.mode == mode)) for mode in HELD])


def judged(seed: int) -> dict[str, Judged]:
    """Every model on one plant."""
    tables = parts(demo(seed))
    faulty = tables["test"]["label"].to_numpy() > 0
    mode = np.array(tables["test"][MODE.name].to_pylist())
    return {
        name: Judged(scores(model, tables, seed), faulty, mode) for name, model in MODELS.items()
    }


def report(runs: list[dict[str, Judged]], detected: float) -> list[str]:
    """Table of false alarm rates by mode, pooled over the seeds, and their share of the first's."""
    rows = np.sum([run["random"].normal_rows() for run in runs], axis=0)
    lines = [
        f"False alarms in 1,000 normal rows where {detected:.0%} of the faulty rows are detected:",
        "",
        "| context of the model | all | "
        + " | ".join(HELD)
        + " | rare modes, of the first | halved |",
        "|---|" + "---|" * (len(HELD) + 3),
    ]
    rare = [HELD.index(mode) for mode in RARE]
    first = [run["unconditional"].false_alarms(detected)[rare].sum() for run in runs]
    for name in runs[0]:
        counts = np.array([run[name].false_alarms(detected) for run in runs])  # (seeds, modes)
        total, own = counts.sum(axis=0), counts[:, rare].sum(axis=1)
        halved = sum(2 * n <= before for n, before in zip(own, first, strict=True))
        cells = [f"{1000 * n / of:.1f}" for n, of in zip(total, rows, strict=True)]
        lines.append(
            f"| {name} | {1000 * total.sum() / rows.sum():.1f} | {' | '.join(cells)} "
            f"| {own.sum() / max(1, sum(first)):.2f} | {halved} of {len(runs)} seeds |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    runs = []
    for seed in range(options.seeds):
        runs.append(judged(seed))
        print(f"seed {seed} is done", flush=True)
    n_normal = np.sum([run["random"].normal_rows() for run in runs], axis=0)
    lines = [
        f"`python benchmarks/conditional.py --seeds {options.seeds}`: the demo's plant, its last "
        f"40 %, {options.seeds} seeds;",
        "normal rows: " + ", ".join(f"{n:,} {m}" for n, m in zip(n_normal, HELD, strict=True)),
        "",
    ]
    for detected in DETECTED:
        lines += [*report(runs, detected), ""]
    lines += ["| context of the model | AUROC, mean over the seeds | lowest |", "|---|---|---|"]
    for name in MODELS:
        areas = [auroc(run[name].score, run[name].is_faulty.astype(int)).value for run in runs]
        lines.append(f"| {name} | {np.mean(areas):.3f} | {min(areas):.3f} |")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
