"""The textbook VAE on handwritten digits: bounds, pictures, and digits that it has never seen.

    python benchmarks/digits.py --out digits                  # MNIST, or scikit-learn's digits
    python benchmarks/digits.py --out digits --table benchmarks/results/digits.md

MNIST is looked for in the folder `mnist` under VAE_ANOMALY_DATA (default ../shared/data): 10,000
digits of 28 x 28 pixels. Where it is absent, scikit-learn's 1,797 digits of 8 x 8 pixels serve. Of
either, a fifth is the test set; a sixteenth of the rest decides when training stops. Pictures and
tables are described in docs/digits.md.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from vae_anomaly.config import Training
from vae_anomaly.decisions.evaluation import auroc
from vae_anomaly.images import as_images, as_rows
from vae_anomaly.models.generate import decode, interpolate, traverse
from vae_anomaly.models.standardize import Batch, Series
from vae_anomaly.models.vae import VAE, divergences, elbo, importance_bound
from vae_anomaly.models.variants import Variant, variant_of
from vae_anomaly.pictures import image_grid, image_rows
from vae_anomaly.scoring.baseline_fitting import learn
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scorer import Scorer

ROOT = Path(__file__).parents[1]

#: The networks of the textbooks: 400 hidden units, 20 latents.
TEXTBOOK = {"hidden": [400], "latent_dim": 20}

#: Members whose digits are laid side by side, with networks of one size.
SIDE_BY_SIDE: Mapping[str, dict[str, object]] = {
    "gaussian": TEXTBOOK,
    "bernoulli": TEXTBOOK,
    "hierarchical": TEXTBOOK,
    "vq": {"hidden": [400], "n_positions": 40, "code_dim": 4, "n_codes": 64},
}

#: One in so many of the training digits only decides when to stop.
STOP = 16

#: Samples of the importance-weighted bound.
N_SAMPLES = 100

#: Between these shares of full ink a pixel is grey: ink or paper to neither.
GREY = (0.2, 0.8)


@dataclass(frozen=True)
class Digits:
    """Handwritten digits as rows, their classes, and what white is."""

    name: str
    train: np.ndarray  # (n, D)
    test: np.ndarray  # (m, D)
    train_digit: np.ndarray  # (n,)
    test_digit: np.ndarray  # (m,)
    image: tuple[int, int, int]
    white: float

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Rows as images (n, height, width) from 0 to 1."""
        return as_images(rows, self.image)[:, 0] / self.white


def read_digits(folder: Path, seed: int = 0) -> Digits:
    """MNIST's digits if they are in the folder, or scikit-learn's; a fifth is for testing."""
    source = folder / "mnist/t10k-images-idx3-ubyte.gz"
    if source.exists():
        pixels = np.frombuffer(gzip.decompress(source.read_bytes()), np.uint8, offset=16)
        labels = gzip.decompress((folder / "mnist/t10k-labels-idx1-ubyte.gz").read_bytes())
        name, images, white = "MNIST", pixels.reshape(-1, 28, 28), 255.0
        digit = np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)
    else:
        shipped = load_digits()
        name, images, digit, white = "scikit-learn", shipped.images, shipped.target, 16.0
    order = np.random.default_rng(seed).permutation(len(images))
    test, train = np.split(order, [len(images) // 5])
    rows = as_rows(images)
    return Digits(
        name, rows[train], rows[test], digit[train], digit[test], (1, *images.shape[1:]), white
    )


# ------------------------------------------------------------------------------------- training


def fit(
    rows: np.ndarray, variant: Variant, options: Options, *, seed: int, longer: int = 1
) -> Scorer:
    """A scorer of some training rows, some of which decide when to stop."""
    training = Training(
        epochs=longer * options.epochs, min_steps=options.least_steps, batch_size=64, checks=10
    )
    n_stop = len(rows) // STOP
    return fit_scorer(
        series(rows[n_stop:]), series(rows[:n_stop]), n_context=0, variant=variant,
        training=training, seed=seed,
    ).scorer  # fmt: skip


def member(digits: Digits, name: str, settings: Mapping[str, object]) -> Variant:
    """A member of the family for these pixels."""
    told = {"scaling": [0.0, digits.white], **settings}
    return variant_of(name, told)  # type: ignore[arg-type]


def series(rows: np.ndarray) -> Series:
    """Rows that know nothing of each other."""
    zeros = torch.zeros(len(rows), dtype=torch.int64)
    return Series(torch.from_numpy(np.ascontiguousarray(rows)), zeros, zeros)


def scores(scorer: Scorer, rows: np.ndarray) -> np.ndarray:
    return scorer(*series(rows)[:2])[0].numpy()


def batch_of(scorer: Scorer, rows: np.ndarray) -> Batch:
    return scorer.standardizer(torch.from_numpy(rows))


def decoded(digits: Digits, scorer: Scorer, z: torch.Tensor) -> np.ndarray:
    """Expected images (n, height, width), from 0 to 1, of latents (n, k)."""
    x = decode(scorer.module, z, torch.zeros(len(z), 0))
    return digits.pictures(scorer.standardizer.restored(x).numpy())


def drawn(scorer: Scorer, n: int, seed: int) -> torch.Tensor:
    """Latents from the prior, (n, k)."""
    with torch.no_grad():
        return scorer.module.draw(torch.zeros(n, 0), torch.Generator().manual_seed(seed))


def one_of_each(digits: Digits) -> np.ndarray:
    """The first of each digit among the test rows, (10, D)."""
    return digits.test[[np.flatnonzero(digits.test_digit == d)[0] for d in range(10)]]


# ------------------------------------------------------------------------------------- textbook


def textbook(digits: Digits, folder: Path, options: Options) -> Iterator[str]:
    """-ELBO of the test set and its parts; generated digits, and the way between digits."""
    channels = (16, 32)
    sizes = {"backbone": "image", "image": list(digits.image), "hidden": list(channels)}
    networks = {
        f"{digits.test.shape[1]}-400-20": TEXTBOOK,
        "convolutions " + " ".join(map(str, channels)): {**TEXTBOOK, **sizes},
    }
    yield (
        f"| Bernoulli VAE, {options.epochs} epochs | −ELBO | cross-entropy | divergence "
        f"| −log p(x), {N_SAMPLES} samples | seconds |"
    )
    yield "|---|---|---|---|---|---|"
    for name, settings in networks.items():
        variant = member(digits, "bernoulli", {**settings, "warmup": 0.0})
        found, seconds = [], []
        for seed in range(options.seeds):
            started = time.perf_counter()
            scorer = fit(digits.train, variant, options, seed=seed)
            seconds.append(time.perf_counter() - started)
            found.append(nats(scorer, digits.test))
            if seed == 0:
                draw_generated(digits, scorer, folder, name)
            if seed == 0 and settings is TEXTBOOK:
                draw_ways(digits, scorer, folder)
        cells = [spread([run[part] for run in found], "{:.1f}") for part in found[0]]
        yield f"| {name} | {' | '.join(cells)} | {np.mean(seconds):.0f} |"


@torch.no_grad()
def nats(scorer: Scorer, rows: np.ndarray) -> dict[str, float]:
    """Mean nats a digit: -ELBO, its two parts, and the importance-weighted bound, negated."""
    module, batch = scorer.module, batch_of(scorer, rows)
    assert isinstance(module, VAE)
    divergence = float(divergences(module, batch).sum(dim=-1).mean())
    generator = torch.Generator().manual_seed(0)
    bound = float(elbo(module, batch, generator=generator).mean())
    tight = torch.cat(
        [
            importance_bound(module, Batch(*some), n_samples=N_SAMPLES, generator=generator)
            for some in zip(*(part.split(100) for part in batch), strict=True)
        ]
    )
    return {
        "−ELBO": -bound,
        "cross-entropy": -bound - divergence,
        "divergence": divergence,
        "−log p(x)": -float(tight.mean()),
    }


def draw_generated(digits: Digits, scorer: Scorer, folder: Path, network: str) -> None:
    kind = "convolutions" if "convolutions" in network else "textbook"
    image_grid(
        folder / f"generated_{kind}.png", decoded(digits, scorer, drawn(scorer, 64, 0)),
        title=f"Digits generated from the prior, {network}", subject=digits.name, columns=8,
    )  # fmt: skip


def draw_ways(digits: Digits, scorer: Scorer, folder: Path) -> None:
    z = scorer.module.embed(batch_of(scorer, one_of_each(digits))).detach()
    ways = ((3, 8), (1, 7), (4, 9), (0, 6), (2, 5))
    strips = [
        decoded(digits, scorer, interpolate(z[start], z[end], 11, spherical=True))
        for start, end in ways
    ]
    image_rows(
        folder / "interpolation.png", np.stack(strips),
        title="From one digit to another, along the sphere", subject=digits.name,
        row_names=[f"{start} to {end}" for start, end in ways],
    )  # fmt: skip


# -------------------------------------------------------------------------------- held-out digits


def held_out(digits: Digits, folder: Path, options: Options) -> Iterator[str]:
    """AUROC of each digit held out of training, against the test rows of the others."""
    table: dict[str, list[list[float]]] = {}
    for digit in range(10):
        known = digits.train[digits.train_digit != digit]
        is_new = (digits.test_digit == digit).astype(int)
        for name, areas in one_digit(digits, known, is_new, options):
            table.setdefault(name, []).append(areas)
    yield "| AUROC, digit held out | " + " | ".join(map(str, range(10))) + " | mean |"
    yield "|---" * 12 + "|"
    for name, rows in table.items():
        means = [float(np.mean(row)) for row in zip(*rows, strict=True)]
        cells = [spread(row, "{:.3f}") for row in rows]
        yield f"| {name} | {' | '.join(cells)} | {spread(means, '{:.3f}')} |"


def one_digit(
    digits: Digits, known: np.ndarray, is_new: np.ndarray, options: Options
) -> Iterator[tuple[str, list[float]]]:
    """Each method's areas: one a seed, or a single one where nothing is drawn."""
    seeds = range(options.seeds)

    def areas(score: Callable[[int], np.ndarray], runs: range) -> list[float]:
        return [auroc(score(seed), is_new).value for seed in runs]

    variant = member(digits, "bernoulli", {**TEXTBOOK, "warmup": 0.0})
    yield (
        "Bernoulli VAE",
        areas(
            lambda seed: scores(fit(known, variant, options, seed=seed), digits.test),
            seeds,
        ),
    )
    yield "PCA, grey values", areas(lambda _: grey_pca(known)(digits.test), range(1))
    yield "kNN, grey values", areas(lambda _: grey_knn(known)(digits.test), range(1))
    for name, runs in (
        ("pca", range(1)), ("knn", seeds), ("mahalanobis", range(1)), ("random", seeds),
    ):  # fmt: skip
        yield name, areas(lambda seed, name=name: simple(name, known, seed)(digits.test), runs)


def simple(name: str, known: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """A baseline of every run, which standardises each pixel."""
    score = learn(name, torch.from_numpy(np.asarray(known, np.float64)), seed=seed)
    return lambda rows: score(torch.from_numpy(np.asarray(rows, np.float64))).numpy()


def grey_pca(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Squared residual of 20 components, as many as the VAE has latents; pixels as they are."""
    pca = PCA(TEXTBOOK["latent_dim"], random_state=0).fit(known)
    return lambda rows: ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(axis=1)


def grey_knn(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Mean distance to the 5 nearest of all training digits; pixels as they are."""
    index = NearestNeighbors(n_neighbors=5).fit(known)
    return lambda rows: index.kneighbors(rows)[0].mean(axis=1)


# ------------------------------------------------------------------------------------------ blur


def blur(digits: Digits, folder: Path, options: Options) -> Iterator[str]:
    """The same digits through four members, and digits that each generates."""
    given = one_of_each(digits)
    remade, made, names = [], [], []
    yield "| | squared error | grey in reconstructions | grey in generated digits |"
    yield "|---|---|---|---|"
    yield f"| the test digits | | {share_of_grey(digits.pictures(digits.test)):.1%} | |"
    for name, settings in SIDE_BY_SIDE.items():
        variant = member(digits, name, settings)
        scorer = fit(digits.train, variant, options, seed=0, longer=2)
        again = decoded(digits, scorer, embedded(scorer, digits.test))
        new = decoded(digits, scorer, drawn(scorer, 1000, 0))
        error = ((again - digits.pictures(digits.test)) ** 2).sum(axis=(1, 2)).mean()
        yield f"| {name} | {error:.2f} | {share_of_grey(again):.1%} | {share_of_grey(new):.1%} |"
        remade.append(decoded(digits, scorer, embedded(scorer, given)))
        made.append(new[:10])
        names.append(name)
    for file, rows, title in (
        ("blur.png", remade, "The same ten digits through four members"),
        ("blur_generated.png", made, "Digits that four members generate"),
    ):
        image_rows(folder / file, np.stack(rows), title=title, subject=digits.name, row_names=names)


def embedded(scorer: Scorer, rows: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return scorer.module.embed(batch_of(scorer, rows))


def share_of_grey(images: np.ndarray) -> float:
    """Share of grey pixels among those that are not paper."""
    return float(((images > GREY[0]) & (images < GREY[1])).sum() / (images > GREY[0]).sum())


# ------------------------------------------------------------------------------------- traversal


def traversal(digits: Digits, folder: Path, options: Options) -> Iterator[str]:
    """Each latent of a beta-VAE in turn from -3 to 3, the most used first."""
    settings = {"hidden": [400], "latent_dim": 10, "beta": 4.0}
    variant = member(digits, "bernoulli", settings)
    scorer = fit(digits.train, variant, options, seed=0, longer=2)
    assert isinstance(scorer.module, VAE)
    with torch.no_grad():
        used = divergences(scorer.module, batch_of(scorer, digits.test)).mean(dim=0)
    order = used.argsort(descending=True)
    steps = torch.arange(-5, 6).mul(0.6).expand(len(used), -1)
    ways = traverse(torch.zeros(len(used)), steps)[order]  # (k, m, k)
    rows = np.stack([decoded(digits, scorer, way) for way in ways])
    names = [f"{float(used[latent]):.2f} nats" for latent in order]
    image_rows(
        folder / "traversal.png", rows, title="One latent at a time, from −3 to 3 (β = 4)",
        subject=digits.name, row_names=names,
        column_names=[f"{step:+.1f}" if step else "0" for step in steps[0].tolist()],
    )  # fmt: skip
    yield f"Nats that the latents of a β-VAE (β = 4) hold: {', '.join(names)}."


# -------------------------------------------------------------------------------------------- all


@dataclass(frozen=True)
class Options:
    """How long, and how often with another seed."""

    epochs: int
    seeds: int
    least_steps: int


SECTIONS: Mapping[str, Callable[[Digits, Path, Options], Iterator[str]]] = {
    "textbook": textbook,
    "held-out": held_out,
    "blur": blur,
    "traversal": traversal,
}


def spread(values: list[float], form: str) -> str:
    """Mean and, of several values, their standard deviation."""
    mean = form.format(np.mean(values))
    return mean if len(values) == 1 else f"{mean} ± {form.format(np.std(values, ddof=1))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    data = os.environ.get("VAE_ANOMALY_DATA", ROOT / "../shared/data")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--table", type=Path, help="also write the tables to this file")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder that has mnist/")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--least-steps", type=int, default=1_000, help="of the optimiser, where digits are few"
    )
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    digits, options = read_digits(given.data), Options(given.epochs, given.seeds, given.least_steps)
    lines = [
        f"`python benchmarks/digits.py --seeds {given.seeds}`: {digits.name}, "
        f"{len(digits.train):,} training and {len(digits.test):,} test digits."
    ]
    print(lines[0])
    for name in given.sections:
        for line in itertools.chain([""], SECTIONS[name](digits, given.out, options)):
            print(line, flush=True)
            lines.append(line)
    if given.table:
        given.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
