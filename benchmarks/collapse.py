"""A network made to collapse, without the training doctor and with it, beside simpler methods.

    python benchmarks/collapse.py --seeds 3 --out benchmarks/results/collapse.md

Sensors follow a few hidden causes, linearly, each with noise of its own. A network that is far too
deep for that, without a warm-up, is trained by the loop alone, and under the doctor; beside it
stands a network of two layers with the settings as they come. 3,000 normal rows train, 600 stop.
Of 3,000 other rows every third has one sensor off by four times its noise; the normal ones give
the bound on log p(x), by 64 importance-weighted samples, which for the rows' own distribution is
known in closed form. A latent is active if its posterior mean varies over those rows by more than
0.01 (Burda et al. 2016).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vae_anomaly.config import Training
from vae_anomaly.decisions.evaluation import auroc
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Series, Windows, fit_standardizer
from vae_anomaly.models.training import seeded, train
from vae_anomaly.models.vae import active_units, importance_bound
from vae_anomaly.models.variants import Gaussian
from vae_anomaly.scoring.baseline_fitting import fit_baseline
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.scoring.scores import SCORES

N_TRAIN, N_STOP, N_TEST, OFF, SAMPLES = 3000, 600, 3000, 4.0, 64


@dataclass(frozen=True)
class Plant:
    """How many sensors follow how many causes, and the network that is too deep for it."""

    n_sensors: int
    n_causes: int
    hidden: tuple[int, ...]

    @property
    def loading(self) -> np.ndarray:
        """What a cause does to each sensor, in units of the noise, (causes, sensors)."""
        return np.random.default_rng(99).normal(size=(self.n_causes, self.n_sensors))

    def rows(self, n: int, seed: int) -> np.ndarray:
        """Normal rows, (n, sensors)."""
        rng = np.random.default_rng(seed)
        causes = rng.normal(size=(n, self.n_causes))
        return causes @ self.loading + rng.normal(size=(n, self.n_sensors))


PLANTS = (Plant(10, 2, (64,) * 8), Plant(20, 4, (64,) * 6))


@dataclass(frozen=True)
class Test:
    """Rows to judge; which are faulty, and by which sensor."""

    rows: np.ndarray
    is_faulty: np.ndarray
    sensor: np.ndarray


@dataclass(frozen=True)
class Found:
    """What a method achieves; NaN where it does not apply."""

    auroc: float
    bound: float = float("nan")
    named: float = float("nan")
    active: float = float("nan")


def test_rows(plant: Plant, seed: int) -> Test:
    """Every third row has one sensor off, upwards or downwards by turns."""
    rows = plant.rows(N_TEST, seed)
    faulty = np.arange(0, N_TEST, 3)
    sensor = np.arange(len(faulty)) % plant.n_sensors
    rows[faulty, sensor] += OFF * np.where(np.arange(len(faulty)) // plant.n_sensors % 2, -1, 1)
    return Test(rows, np.isin(np.arange(N_TEST), faulty), sensor)


def series(rows: np.ndarray) -> Series:
    """Rows, each a series of its own."""
    zeros = torch.zeros(len(rows), dtype=torch.int64)
    return Series(torch.from_numpy(np.ascontiguousarray(rows)), zeros, zeros)


def by_loop(variant: Gaussian, learnt: np.ndarray, stop: np.ndarray, seed: int) -> Scorer:
    """A scorer trained once, with nobody to look at its latent."""
    rows, other = (torch.from_numpy(np.ascontiguousarray(part)) for part in (learnt, stop))
    standardizer = fit_standardizer(rows, 0)
    learning, held_out = standardizer(rows), standardizer(other)
    with seeded(seed):
        module = variant.build(Shape(learnt.shape[1]))
    train(
        module, variant.bound, Windows.whole(learning), Training(),
        held_out=held_out, seed=seed, settled=variant.settled,
    )  # fmt: skip
    tensors = SCORES[variant.default_score].fit(module, held_out, learning)
    return Scorer(standardizer, module, variant=variant, tensors=tensors)


@torch.no_grad()
def found_by(scorer: Scorer, test: Test) -> Found:
    """Figures of a model on the test rows."""
    score, contributions = scorer(*series(test.rows)[:2])
    normal = scorer.standardizer(torch.from_numpy(test.rows[~test.is_faulty]))
    generator = torch.Generator().manual_seed(0)
    bound = importance_bound(scorer.module, normal, n_samples=SAMPLES, generator=generator)
    first = contributions.numpy()[test.is_faulty].argmax(axis=1)
    return Found(
        auroc=auroc(score.numpy(), test.is_faulty.astype(int)).value,
        bound=float(bound.double().mean()),
        named=float((first == test.sensor).mean()),
        active=active_units(scorer.module, normal),
    )


def closed_form(plant: Plant, learnt: np.ndarray, test: Test) -> Found:
    """Log-density of the normal rows under their own distribution, and its score."""
    covariance = plant.loading.T @ plant.loading + np.eye(plant.n_sensors)
    precision, scale = np.linalg.inv(covariance), learnt.std(axis=0)
    distance = np.einsum("ni,ij,nj->n", test.rows, precision, test.rows)
    constant = np.linalg.slogdet(2 * np.pi * covariance)[1] - 2 * np.log(scale).sum()
    bound = -0.5 * (distance[~test.is_faulty] + constant).mean()
    return Found(auroc(distance, test.is_faulty.astype(int)).value, bound=bound)


def judged(plant: Plant, seed: int) -> dict[str, Found]:
    """Every method on one plant and seed, and what the doctor said."""
    learnt, stop = plant.rows(N_TRAIN, 3 * seed), plant.rows(N_STOP, 3 * seed + 1)
    test = test_rows(plant, 3 * seed + 2)
    deep = Gaussian(hidden=plant.hidden, warmup=0.0)
    cured = fit_scorer(
        series(learnt), series(stop), n_context=0, variant=deep, training=Training(), seed=seed
    )
    print("\n".join(cured.notes), flush=True)
    found = {
        "too deep, without the doctor": found_by(by_loop(deep, learnt, stop, seed), test),
        "too deep, with the doctor": found_by(cured.scorer, test),
        "two layers, as they come": found_by(by_loop(Gaussian(), learnt, stop, seed), test),
    }
    found |= simple_ones(plant, learnt, test, seed)
    return found | {"the rows' own distribution": closed_form(plant, learnt, test)}


def simple_ones(plant: Plant, learnt: np.ndarray, test: Test, seed: int) -> dict[str, Found]:
    """Baselines that take rows in any order, and a random score that names sensors at random."""
    found, truth = {}, test.is_faulty.astype(int)
    for name in ("mahalanobis", "pca", "knn", "isolation_forest"):
        fitted = fit_baseline(series(learnt), n_context=0, baseline=name, seed=seed)
        score, contributions = fitted.scorer(*series(test.rows)[:2])
        first = contributions.numpy()[test.is_faulty].argmax(axis=1)
        found[name] = Found(
            auroc(score.numpy(), truth).value, named=float((first == test.sensor).mean())
        )
    generator = np.random.default_rng(seed)
    area = auroc(generator.random(len(truth)), truth).value
    drawn = np.random.default_rng(seed).integers(plant.n_sensors, size=len(test.sensor))
    return found | {"random": Found(area, named=float((drawn == test.sensor).mean()))}


def report(plant: Plant, runs: list[dict[str, Found]]) -> list[str]:
    """A row a seed of the networks, and the means of all methods."""
    n_layers, width = len(plant.hidden), plant.hidden[0]
    lines = [
        f"## {plant.n_sensors} sensors, {plant.n_causes} common causes; "
        f"a network of {n_layers} layers of {width}",
        "",
        "Active latents, bound on log p(x) in nats a row, AUROC, and share of the faulty rows whose"
        " sensor is named first:",
        "",
        "| seed | without the doctor | with it | two layers, as they come |",
        "|---|---|---|---|",
    ]
    for seed, run in enumerate(runs):
        cells = [
            f"{found.active} active, {found.bound:.2f}, {found.auroc:.3f}, {found.named:.3f}"
            for found in list(run.values())[:3]
        ]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    lines += [
        "",
        "| mean over the seeds | active latents | bound | AUROC | lowest AUROC | named first |",
        "|---|---|---|---|---|---|",
    ]
    for name in runs[0]:
        own = [run[name] for run in runs]
        figures = (
            _mean([f.active for f in own], 1), _mean([f.bound for f in own], 2),
            _mean([f.auroc for f in own], 3), f"{min(f.auroc for f in own):.3f}",
            _mean([f.named for f in own], 3),
        )  # fmt: skip
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return [*lines, ""]


def _mean(values: list[float], digits: int) -> str:
    mean = float(np.mean(values))
    return "" if np.isnan(mean) else f"{mean:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    lines = [
        f"`python benchmarks/collapse.py --seeds {options.seeds}`: see there for the rows.",
        "",
    ]
    for plant in PLANTS:
        runs = []
        for seed in range(options.seeds):
            runs.append(judged(plant, seed))
            print(f"{plant.n_sensors} sensors, seed {seed} is done", flush=True)
        lines += report(plant, runs)
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
