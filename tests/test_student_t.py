"""Spikes among the training rows move the robust VAE less than the Gaussian one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from linear_plant import NOISE, QUICK, D, K, faulty_rows, normal_rows, series
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.variants import Gaussian, Variant
from vae_anomaly.models.variants.student_t import StudentT
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scorer import Scorer

#: Each sensor's unit.
UNIT = 10.0 ** (np.arange(D) - 2)
LONG = QUICK.model_copy(update={"min_steps": 1500, "max_steps": 1500})


def spiked(rows: np.ndarray, share: float = 0.05) -> np.ndarray:
    """The rows with spikes of 5 to 15 of the sensor's units in a share of their entries."""
    rng = np.random.default_rng(3)
    height = rng.choice([-1, 1], rows.shape) * rng.uniform(5, 15, rows.shape)
    return np.where(rng.random(rows.shape) < share, rows + height * UNIT, rows)


def fit(variant: Variant, *, spikes: bool, seed: int = 0) -> Scorer:
    train, stop = normal_rows(1500, 10 + seed), normal_rows(300, 20 + seed)
    if spikes:
        train, stop = spiked(train), spiked(stop)
    return fit_scorer(
        series(train), series(stop), n_context=0, variant=variant, training=LONG, seed=seed
    ).scorer


class Found(NamedTuple):
    """What a model of rows with spikes has learnt of those without."""

    noise: float  # in units of the sensors, where the truth is NOISE
    error: float  # root mean square of what it expects of clean rows, in the same units
    auroc: float  # of faults


def found(kind: type[Gaussian] | type[StudentT], seed: int) -> Found:
    scorer = fit(kind(latent_dim=K), spikes=True, seed=seed)
    clean, faulty = normal_rows(500, 30), faulty_rows(900, 7)
    sigma = (scorer.module.decoder.sigma.detach() * scorer.standardizer.scale).numpy() / UNIT
    error = (scorer.expected(*series(clean)[:2]).numpy() - clean) / UNIT
    score = scorer(*series(faulty.rows)[:2])[0]
    area = roc_auc_score(faulty.is_faulty, score)
    return Found(float(sigma.mean()), float(np.sqrt(np.mean(error**2))), area)


@pytest.mark.slow
def test_spikes_in_training_rows_move_it_less_than_the_gaussian() -> None:
    """One reading in twenty is a spike, here and nowhere else; three seeds, each by itself."""
    for seed in range(3):
        gaussian, robust = found(Gaussian, seed), found(StudentT, seed)
        print(seed, gaussian, robust)
        assert robust.noise < 1.5 * NOISE
        assert gaussian.noise > 3 * NOISE
        assert robust.error < 0.7 * gaussian.error
        assert robust.auroc > gaussian.auroc + 0.1


def test_score_is_the_deviance_of_students_t() -> None:
    scorer = fit_scorer(
        series(normal_rows(500, 0)), series(normal_rows(100, 1)), n_context=0,
        variant=StudentT(latent_dim=K, nu=5.0), training=QUICK, seed=0,
    ).scorer  # fmt: skip
    rows, run, _ = series(normal_rows(50, 1))
    score, contributions = scorer(rows, run)
    error = (rows - scorer.expected(rows, run)) / scorer.standardizer.scale
    r = error / scorer.module.decoder.sigma.detach()
    assert_allclose(contributions, 6 * np.log1p(r.numpy() ** 2 / 5), rtol=1e-3, atol=1e-4)
    assert_allclose(score, contributions.sum(dim=1), rtol=1e-5)


def test_degrees_of_freedom_need_a_variance() -> None:
    with pytest.raises(ConfigError, match=r"nu=2\.0 is not allowed; give above 2"):
        StudentT(nu=2.0)
    p = StudentT(nu=3.0).build(Shape(4)).likelihood(torch.zeros(2, 3), torch.zeros(2, 0))
    assert_allclose(p.stddev.detach(), (3.0**0.5) * p.scale.detach(), rtol=1e-6)
