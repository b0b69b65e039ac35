"""What the README promises in numbers, on the simulated plant."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch

from vae_anomaly.config import Contract, Training
from vae_anomaly.data.simulate import CONTEXT, SENSORS, Simulation, simulate
from vae_anomaly.data.windows import Matrix, matrix_of
from vae_anomaly.decisions.thresholds import beta_binomial_interval, calibrate
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.streaming import score_rows

CONTRACT = Contract(
    time="time",
    asset="asset",
    sensors=tuple(sensor.name for sensor in SENSORS),
    context=tuple(sensor.name for sensor in CONTEXT),
)
N_TRAIN, N_STOP, N_CALIBRATE, N_FRESH = 800, 200, 500, 2000


def rows_of(seed: int) -> Matrix:
    """Normal rows of one pump, each drawn for itself: the promise is about such rows."""
    n = N_TRAIN + N_STOP + N_CALIBRATE + N_FRESH
    plant = Simulation(n_assets=1, n_rows=n, seed=seed, independent=True)
    table: pa.Table = simulate(plant)
    assert not any(table["fault"].to_pylist())
    return matrix_of(table, CONTRACT)


def fresh_false_alarms(seed: int) -> int:
    """False alarms among fresh rows, at a conformal threshold of 1 %."""
    matrix = rows_of(seed)
    edges = np.cumsum([0, N_TRAIN, N_STOP, N_CALIBRATE, N_FRESH])
    train, stop, held, fresh = (
        Matrix(matrix.values[a:b], np.zeros(b - a, np.int64), matrix.label[a:b])
        for a, b in pairwise(edges)
    )
    tensors = [
        Series(*(torch.from_numpy(a) for a in (m.values, m.run, m.label))) for m in (train, stop)
    ]
    scorer = fit_scorer(
        *tensors, n_context=len(CONTEXT), variant=variant_of("gaussian", {}),
        training=Training(epochs=5, min_steps=150, checks=5), seed=seed,
    ).scorer  # fmt: skip
    limit = calibrate(
        score_rows(scorer, held).score, np.zeros(N_CALIBRATE, np.int64), rule="conformal"
    ).threshold
    return int((score_rows(scorer, fresh).score > limit.value).sum())


@pytest.mark.slow
def test_false_alarms_on_fresh_rows_keep_to_the_rate_over_50_seeds() -> None:
    """Of 50 counts, each in a 95 % interval; fewer than 42 inside would come by once in 700."""
    interval = beta_binomial_interval(N_CALIBRATE, N_FRESH, 0.01)
    rates = np.array([fresh_false_alarms(seed) for seed in range(50)]) / N_FRESH
    inside = int(((rates >= interval.low) & (rates <= interval.high)).sum())
    print(
        f"{inside} of 50 inside {interval.low:.4f} to {interval.high:.4f}, mean {rates.mean():.4f}"
    )
    assert inside >= 42
    assert abs(rates.mean() - 0.01) < 0.003
