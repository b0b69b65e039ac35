"""Anomaly scores of a trained model; higher is more anomalous. A new one is a line in `SCORES`."""

from __future__ import annotations

from collections.abc import Mapping

from vae_anomaly.errors import ConfigError, closest
from vae_anomaly.scoring.scores import (
    bounds,
    exemplars,
    fused,
    labels,
    latent,
    pooled,
    reconstruction,
    residual,
)
from vae_anomaly.scoring.scores.score import Score, nothing, spread

__all__ = ["SCORES", "Score", "score_name", "spread"]

SCORES: Mapping[str, Score] = {
    "reconstruction": Score(nothing, reconstruction.reconstruction),
    "density": Score(bounds.no_noise, bounds.density),
    "pooled_density": Score(pooled.fit, pooled.pooled_density),
    "labels": Score(labels.fit, labels.labels),
    "importance": Score(bounds.fixed_noise, bounds.importance, bounds.importance_error),
    "fused": Score(fused.fit, fused.fused),
    "fused_without_exemplars": Score(fused.fit_without_exemplars, fused.fused),
    "residual": Score(residual.fit, residual.residual),
    "aggregate": Score(latent.fit_mixture, latent.aggregate),
    "exemplars": Score(exemplars.fit, exemplars.exemplars),
    "local_outlier_factor": Score(exemplars.fit, exemplars.local_outlier_factor),
    "squared_error": Score(nothing, reconstruction.squared_error),
    "likelihood": Score(nothing, reconstruction.likelihood),
    "elbo": Score(bounds.fixed_noise, bounds.elbo, bounds.elbo_error),
    "latent_distance": Score(latent.fit_distance, latent.latent_distance),
}


def score_name(name: str, default: str = "reconstruction") -> str:
    """The score that a name stands for; "auto" is the default of the member of the family.

    Raises
    ------
    ConfigError
        There is no such score.

    Examples
    --------
    >>> score_name("auto")
    'reconstruction'
    """
    resolved = default if name == "auto" else name
    if resolved not in SCORES:
        known = ("auto", *SCORES)
        raise ConfigError(f"anomaly score '{name}' is not known; {closest(name, known)}")
    return resolved
