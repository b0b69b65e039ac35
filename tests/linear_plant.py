"""A plant of which all is known: sensors follow a few hidden causes, linearly, with noise."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from pydantic import JsonValue

from vae_anomaly.config import Training
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import VARIANTS, Variant, variant_of
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer, judged_by
from vae_anomaly.scoring.scores import SCORES, score_name
from vae_anomaly.scoring.smoothing import Smoothing

#: Sensors, hidden causes, noise.
D, K, NOISE = 6, 2, 0.3

#: Enough to learn a linear plant; well under a second.
QUICK = Training(epochs=1, min_steps=300, max_steps=300, checks=6, patience=6, learning_rate=1e-2)


#: Settings under which a member suits so small a plant; the others are as they come. Each latent
#: holds much of what there is to know of six sensors: it is not worth many times its nats. To a
#: Bernoulli, moreover, six continuous readings are six coins, which say next to nothing.
SUITED: dict[str, dict[str, JsonValue]] = {"beta": {"beta": 1.5}, "bernoulli": {"beta": 0.01}}

#: Members whose one Gaussian latent has to hold all causes.
ONE_LEVEL = ("gaussian", "beta", "student_t", "linear", "mixed", "semi_supervised", "ensemble")

#: What the nats of a member's likelihood are worth beside those of a Gaussian, for the same reason.
NATS = {"bernoulli": 0.1}


#: Member and score of the batteries: all members by what judges rows in different ways, and every
#: score by two members. A member is trained once for all of them.
JUDGED = [
    (variant, score)
    for variant in VARIANTS
    for score in SCORES
    if variant in ("gaussian", "vq") or score in ("reconstruction", "importance", "fused")
] + [("semi_supervised", "labels")]


def suited(name: str, window: int = 1) -> Variant:
    """A member of the family with settings for this plant; each row of a window has its causes."""
    settings = dict(SUITED.get(name, {}))
    if window > 1 and name in ONE_LEVEL:
        settings["latent_dim"] = K * window
    return variant_of(name, settings)


class Faulty(NamedTuple):
    """Rows of which some have one sensor off."""

    rows: np.ndarray
    is_faulty: np.ndarray
    sensor: np.ndarray


def loading() -> np.ndarray:
    """How the hidden causes drive the sensors, (d, k)."""
    return np.random.default_rng(99).normal(size=(D, K))


def normal_rows(n: int, seed: int, n_context: int = 0) -> np.ndarray:
    """Normal rows (n, d + c), each sensor in its own unit; conditions shift all the sensors."""
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(n, n_context))
    x = rng.normal(size=(n, K)) @ loading().T + NOISE * rng.normal(size=(n, D))
    x += 2 * context.sum(axis=1, keepdims=True)
    return np.hstack([x * 10.0 ** (np.arange(D) - 2) + 50, context])


def faulty_rows(n: int, seed: int, n_context: int = 0) -> Faulty:
    """Every third row has one sensor off by five times the noise."""
    rows = normal_rows(n, seed, n_context)
    sensor, is_faulty = np.arange(n) // 3 % D, np.arange(n) % 3 == 0
    rows[is_faulty, sensor[is_faulty]] += 5 * NOISE * 10.0 ** (sensor[is_faulty] - 2)
    return Faulty(rows, is_faulty, sensor)


def with_gaps(rows: np.ndarray, share: float = 0.1, seed: int = 5) -> np.ndarray:
    """The rows with a share of their entries missing."""
    gaps = np.random.default_rng(seed).random(rows.shape) < share
    return np.where(gaps, np.nan, rows)


def series(
    rows: np.ndarray, *, runs: tuple[int, ...] = (), label: np.ndarray | None = None
) -> Series:
    """Rows as series of these lengths; by default one."""
    lengths = runs or (len(rows),)
    run = np.concatenate([np.arange(length) for length in lengths])
    label = np.zeros(len(rows), np.int64) if label is None else label
    return Series(torch.from_numpy(rows), torch.from_numpy(run), torch.from_numpy(label))


def fitted(
    variant: str = "gaussian",
    *,
    n_context: int = 0,
    window: int = 1,
    smoothing: Smoothing = None,
    anomaly_score: str = "auto",
) -> FittedScorer:
    """A scorer of this plant, trained once a process."""
    return _fitted(variant, n_context, window, smoothing, score_name(anomaly_score))


@lru_cache
def _fitted(
    variant: str, n_context: int, window: int, smoothing: Smoothing, anomaly_score: str
) -> FittedScorer:
    """Trained once for all the scores of a member."""
    train, stop = parts(n_context)
    default = VARIANTS[variant].default_score
    if anomaly_score != default:
        trained = _fitted(variant, n_context, window, smoothing, default)
        scorer = judged_by(trained.scorer, anomaly_score, train=train, stop=stop)
        return replace(trained, scorer=scorer)
    return fit_scorer(
        train,
        stop,
        n_context=n_context,
        variant=suited(variant, window),
        training=QUICK,
        anomaly_score=anomaly_score,
        window=window,
        smoothing=smoothing,
        seed=0,
    )


def parts(n_context: int = 0) -> tuple[Series, Series]:
    """Rows to train on, and rows to stop by."""
    return (
        series(with_gaps(normal_rows(1500, 0, n_context), 0.02)),
        series(normal_rows(300, 1, n_context)),
    )
