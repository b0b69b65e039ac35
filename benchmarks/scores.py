"""What the default of tables is made of, and what each choice in it finds, on tables of ADBench.

    python benchmarks/scores.py --kept /tmp/scores.json --out benchmarks/results/scores.md

Sets are the odd-numbered ones without 17_InternetAds, which takes longer than all the others, by
the protocols of `suites/adbench.py` with at most 3,000 rows to learn from and 6,000 to score. As in
the first training of `VAEDetector`, a fifth of the rows to learn from is kept for the threshold,
and a fifth of the others stops the training; one line says what the second finds. Baselines learn
from all. Nothing is chosen on test rows. The last table is what fitting and scoring cost.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from suites.adbench import PROTOCOLS, QUICK, Protocol, names, split

from vae_anomaly import VAEDetector
from vae_anomaly.config import Training
from vae_anomaly.models.standardize import Batch, Series, fit_standardizer
from vae_anomaly.models.variants import Ensemble, Gaussian, Variant
from vae_anomaly.scoring.baseline_fitting import learn
from vae_anomaly.scoring.baselines import BASELINES, CHANCE
from vae_anomaly.scoring.fitting import fit_scorer, judged_by
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.scoring.scores import SCORES, exemplars, fused
from vae_anomaly.scoring.scores.score import blocks, read, spread

LEFT_OUT = ("17_InternetAds",)
CALIBRATE, STOP, TENTH = 0.2, 0.2, 0.125

#: Weights of z(log m), z(e), z(log(1 + d / d0)) and z(l) in other sums than that of the default.
WEIGHTS = {
    "residual, exemplars and factor": (1.0, 0.0, 1.0, 1.0),
    "aggregate, exemplars and factor": (0.0, 1.0, 1.0, 1.0),
    "fused without the factor": (1.0, 1.0, 1.0, 0.0),
    "fused, the factor in place of exemplars": (1.0, 1.0, 0.0, 1.0),
    "fused, the factor counts half": (1.0, 1.0, 1.0, 0.5),
    "fused, exemplars and factor count twice": (1.0, 1.0, 2.0, 2.0),
}

#: Exemplars from other rows, and other numbers of them.
OTHERS = {
    "fused, exemplars from training rows alone": ("train", None),
    "fused, at most 250 exemplars": ("known", 250),
    "fused, at most 1,000 exemplars": ("known", 1000),
}

#: As `VAEDetector` does: trained once more, with the rows that set the threshold.
AGAIN = "fused, learnt again with the threshold's rows: the default"

#: Other members, judged by the same sum.
MEMBERS: Mapping[str, Variant] = {
    "fused, ensemble of two such": Ensemble(hidden=(64, 64), whitening=0.0, input_noise=()),
    "fused, two such, input noise": Ensemble(hidden=(64, 64), whitening=0.0),
    "fused, two such, whitening .25": Ensemble(hidden=(64, 64), input_noise=()),
    "fused, ensemble as it comes": Ensemble(),
}

Floats = NDArray[np.float64]


class Parts(NamedTuple):
    """Rows that train, stop and set the threshold, and test rows with the truth."""

    train: Series
    stop: Series
    calibrate: Series
    test: Series
    is_anomaly: NDArray[np.bool_]


def parts_of(file: Path, seed: int, protocol: Protocol, stop: float = STOP) -> Parts:
    with np.load(file) as found:
        rows, truth = found["X"].astype(np.float64), found["y"].astype(bool)
    drawn, learnt, judged = split(truth.astype(np.int64), seed, protocol, QUICK)
    order = np.random.default_rng(seed).permutation(drawn[learnt])
    n_calibrate = round(CALIBRATE * len(order))
    n_stop = max(2, round(stop * (len(order) - n_calibrate)))
    cut = np.split(order, [n_calibrate, n_calibrate + n_stop])
    calibrate, held_out, train = (alone(rows[part]) for part in cut)
    test = drawn[judged]
    return Parts(train, held_out, calibrate, alone(rows[test]), truth[test])


def alone(rows: Floats) -> Series:
    """Rows that are no series."""
    none = torch.zeros(len(rows), dtype=torch.int64)
    return Series(torch.from_numpy(np.ascontiguousarray(rows)), none, none)


def fitted(parts: Parts, variant: Variant, seed: int, score: str = "fused") -> Scorer:
    return fit_scorer(
        parts.train, parts.stop, n_context=0, variant=variant, training=Training(),
        anomaly_score=score, seed=seed,
    ).scorer  # fmt: skip


def scored(scorer: Scorer, rows: Series) -> Floats:
    values: Floats = scorer(*rows[:2])[0].double().numpy()
    return values


def by_scores(parts: Parts, seed: int) -> Iterator[tuple[str, Floats]]:
    """Each score of the test rows by one trained `gaussian`, and what other sums would find."""
    model = fitted(parts, Gaussian(), seed)
    known = {"train": parts.train, "stop": parts.stop}
    for name in SCORES:
        if name != "labels":
            yield name, scored(judged_by(model, name, **known), parts.test)
    batches = [model.standardizer(some.rows) for some in parts[:4]]
    tensors = dict(model.tensors.named_buffers())
    z = sums(model, batches[3], tensors)
    for name, weights in WEIGHTS.items():
        yield name, weights @ z
    for name, (which, most) in OTHERS.items():
        other = tensors | with_exemplars(model, batches, tensors, which, most)
        yield name, sums(model, batches[3], other).sum(axis=0)


@torch.no_grad()
def sums(model: Scorer, test: Batch, tensors: Mapping[str, torch.Tensor]) -> Floats:
    """What `fused` sums of each row, (4, n)."""
    found = [fused.parts(read(model.module, b), b, tensors) for b in blocks(test)]
    values: Floats = torch.cat(found, dim=-1).numpy()
    return values


def with_exemplars(
    model: Scorer,
    batches: list[Batch],
    tensors: Mapping[str, torch.Tensor],
    which: str,
    most: int | None,
) -> dict[str, torch.Tensor]:
    """Tensors of `fused` with exemplars from other rows."""
    train, stop = batches[:2]
    held_out = Batch(*(part[:0] for part in stop)) if which == "train" else stop
    nearest = exemplars.fit(model.module, held_out, train, most)
    mean, scatter = tensors["part_mean"].clone(), tensors["part_spread"].clone()
    for at, values in enumerate(exemplars.leave_one_out(nearest), 2):
        mean[at], scatter[at] = values.mean(), spread(values)
    return {**nearest, "part_mean": mean, "part_spread": scatter}


def by_baselines(parts: Parts, seed: int) -> Iterator[tuple[str, Floats]]:
    """Each simple detector's score of the test rows, from all normal rows."""
    rows = torch.cat([part.rows for part in parts[:3]])
    standardizer = fit_standardizer(rows, 0)
    known, test = (standardizer(some).x.double().numpy() for some in (rows, parts.test.rows))
    yield "1-NN", NearestNeighbors(n_neighbors=1).fit(known).kneighbors(test)[0][:, 0]
    for name, baseline in BASELINES.items():
        if baseline.window(1) == 1:
            yield name, learn(name, rows, seed=seed)(parts.test.rows).numpy()
    yield CHANCE, np.random.default_rng(seed).random(len(test))


def by_members(
    file: Path, seed: int, protocol: Protocol, parts: Parts
) -> Iterator[tuple[str, Floats]]:
    """The same sum of networks that learn from other rows, and of other networks."""
    known = Series(*(torch.cat(both) for both in zip(parts.train, parts.calibrate, strict=True)))
    yield AGAIN, scored(fitted(parts._replace(train=known), Gaussian(), seed), parts.test)
    for name, variant in MEMBERS.items():
        yield name, scored(fitted(parts, variant, seed), parts.test)
    fewer = parts_of(file, seed, protocol, TENTH)
    yield "fused, stopped by a tenth of all", scored(fitted(fewer, Gaussian(), seed), parts.test)


def areas(file: Path, seed: int, protocol: Protocol) -> dict[str, tuple[float, float]]:
    """AUROC and average precision of each line on a set."""
    parts, found = parts_of(file, seed, protocol), {}
    lines = by_scores(parts, seed), by_members(file, seed, protocol, parts)
    for name, score in (*lines[0], *lines[1], *by_baselines(parts, seed)):
        assert np.isfinite(score).all(), (file.stem, name)
        area = roc_auc_score(parts.is_anomaly, score)
        found[name] = float(area), float(average_precision_score(parts.is_anomaly, score))
    return found


def table(found: dict[str, list[list[tuple[float, float]]]]) -> Iterator[str]:
    """Means over the sets, and the standard deviation of the mean between the seeds."""
    yield "| score | AUROC | AP | better than 1-NN on | worst against 1-NN |"
    yield "|---|---|---|---|---|"
    of_sets = {name: 100 * np.array(values).mean(axis=0) for name, values in found.items()}
    for name, values in found.items():
        seeds = 100 * np.array(values).mean(axis=1)  # (seeds, 2)
        scatter = seeds.std(axis=0, ddof=1) if len(seeds) > 1 else np.full(2, np.nan)
        beyond = (of_sets[name] - of_sets["1-NN"])[:, 0]
        cells = [f"{seeds[:, at].mean():.1f} ± {scatter[at]:.1f}" for at in (0, 1)]
        cells += [f"{(beyond > 0).sum()} of {len(beyond)}", f"{beyond.min():+.1f}"]
        yield f"| {name} | " + " | ".join(cells) + " |"


def costs() -> Iterator[str]:
    """CPU seconds of a fit, and microseconds that a row takes to be scored, on one core."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80_000, 20)) @ rng.normal(size=(20, 20))
    yield "CPU seconds of `VAEDetector().fit` on one core, by rows of 20 columns:"
    seconds = []
    for n in (5_000, 20_000, 80_000):
        began = time.process_time()
        VAEDetector(random_state=0).fit(rows[:n])
        seconds.append(f"{n:,} rows {time.process_time() - began:.1f} s")
    yield ", ".join(seconds) + "."
    yield ""
    yield "| score | microseconds a row | times one plain network |"
    yield "|---|---|---|"
    some = {"train": alone(rows[:4_000]), "stop": alone(rows[4_000:5_000])}
    parts = Parts(**some, calibrate=some["stop"], test=some["stop"], is_anomaly=np.zeros(0, bool))
    model, test = fitted(parts, Gaussian(), 0), alone(rows[-50_000:])
    plain = 0.0
    for name in ("squared_error", "reconstruction", "fused_without_exemplars", "fused"):
        scorer = judged_by(model, name, **some)
        taken = []
        for _ in range(3):
            began = time.process_time()
            scored(scorer, test)
            taken.append(time.process_time() - began)
        micros = 1e6 * min(taken) / len(test.rows)
        plain = plain or micros
        yield f"| {name} | {micros:.1f} | {micros / plain:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/adbench"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kept", type=Path, help="file of what is done, to go on from")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = [options.data / f"{n}.npz" for n in names(options.data) if n not in LEFT_OUT]
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
            f"{len(files)} odd-numbered sets of ADBench, member `gaussian` as it comes where "
            "another is not named; percent, mean over the sets "
            f"± standard deviation of that mean over {options.seeds} seeds.",
            "",
            *table(found),
            "",
        ]
    lines += costs()
    print("\n".join(lines), flush=True)
    if options.out:
        options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
