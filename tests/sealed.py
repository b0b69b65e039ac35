"""A small sealed package and rows for it, made in under a second and only once a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pydantic import JsonValue

from vae_anomaly.config import Contract, Training
from vae_anomaly.data.windows import Matrix
from vae_anomaly.decisions.thresholds import Target, calibrate
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import variant_of
from vae_anomaly.package import Calibration, Golden, ModelPackage, Provenance, Unit
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.streaming import score_rows

CONTRACT = Contract(
    time="when", asset="pump", sensors=("PT-101", "flow (RMS)"), context=("speed",), mode="mode"
)


def rows(n: int, *, seed: int = 1) -> pa.Table:
    """Rows of two pumps as a source has them; some entries are missing, the last is off."""
    rng = np.random.default_rng(seed)
    values = _values(n, seed)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[-1] += 50
    names = (*CONTRACT.sensor_names, *CONTRACT.context_names)
    seconds = np.arange(n) * 1_000_000
    return pa.table(
        {
            "when": pa.array(seconds, pa.timestamp("us")),
            "pump": pa.array(np.where(np.arange(n) % 2, "b", "a")),
            "mode": pa.array(["idle"] * n),
            **{name: pa.array(values[:, i]) for i, name in enumerate(names)},
        }
    )


def seal(
    folder: Path,
    *,
    fingerprint: str = "f" * 64,
    calibrated: bool = True,
    temporal: bool = False,
) -> ModelPackage:
    """Write a package; another fingerprint gives another digest."""
    unit = _unit(temporal)
    if not calibrated:
        unit = Unit(unit.scorer, unit.golden)
    provenance = Provenance("pumps", fingerprint, readings_version=3, seed=0)
    return ModelPackage(CONTRACT, {"*": unit}, provenance).write(folder)


def _values(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    speed = rng.normal(size=n)
    noise = 0.1 * rng.normal(size=(n, 2))
    return np.column_stack([20 + speed + noise[:, 0], 5 - speed + noise[:, 1], speed])


@lru_cache
def _unit(temporal: bool) -> Unit:
    """Of windows of two rows by perceptrons, or of nine by convolutions of values from 0 to 1."""
    settings: dict[str, JsonValue] = {"latent_dim": 1, "hidden": [4]}
    if temporal:
        settings = {"backbone": "temporal", "hidden": [8, 5], "scaling": "range"}
    values = _values(200, 0)
    run, label = np.arange(200), np.zeros(200, np.int64)
    series = Series(torch.from_numpy(values), torch.from_numpy(run), torch.from_numpy(label))
    fitted = fit_scorer(
        series,
        series,
        n_context=1,
        variant=variant_of("gaussian", settings),
        training=Training(epochs=1, min_steps=50, max_steps=50, checks=1),
        window=9 if temporal else 2,
        seed=0,
    )
    golden = Golden.of(fitted.scorer, Matrix(values, run, label))
    values[-20:, 0] += 50
    label[-20:] = 1
    score = score_rows(fitted.scorer, Matrix(values, run, label)).score
    result = calibrate(
        score.astype(np.float64), label, target=Target(false_alarm_rate=0.1), bootstrap=100
    )
    reference = np.sort(score[label == 0])
    calibration = Calibration(result.threshold, result.operating_point, reference, result.note)
    return Unit(fitted.scorer, golden, calibration)
