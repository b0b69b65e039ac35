"""What choosing a threshold on the rows does to the figures that the same rows give."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from vae_anomaly.decisions.dependence import (
    Blocks,
    Effects,
    block_resamples,
    effects_at,
)
from vae_anomaly.decisions.histogram import Histogram, binned_roc
from vae_anomaly.decisions.rates import (
    FloatArray,
    IntArray,
    Interval,
    Resamples,
    Roc,
    exact_roc,
    interval_ends,
    resamples,
)
from vae_anomaly.decisions.rules import Rule, Target, lowest_within

__all__ = ["Choice", "Sample", "of_order_statistic", "of_resamples"]

#: Of more rows than these, the curve is that of histograms: it takes a tenth of the time and
#: memory, and its thresholds are a thousandth higher at most.
EXACT_ROWS = 5_000_000


@dataclass(frozen=True)
class Sample:
    """Rows that a threshold is chosen on; each of shape (n,).

    Attributes
    ----------
    scores, labels : ndarray
        Labels are 0 or, of an anomaly, 1.
    blocks : Blocks or None
        Which rows belong together; None where they are exchangeable.
    """

    scores: FloatArray
    labels: IntArray
    blocks: Blocks | None = None

    def curve(self) -> Roc:
        """The rows' ROC curve, exact or, of very many rows, binned."""
        parts = self.scores[self.labels == 0], self.scores[self.labels > 0]
        if len(self.scores) <= EXACT_ROWS:
            return exact_roc(*parts)
        return binned_roc(*(Histogram.of(part) for part in parts))

    def effects(self, threshold: float) -> Effects:
        """How alike the rows of a block or an event are at a threshold."""
        if self.blocks is None:
            return Effects()
        return effects_at(threshold, self.scores, self.labels, self.blocks)

    def resamples(self, roc: Roc, n_resamples: int, *, seed: int) -> Iterator[Resamples]:
        """Resamples of the rows' curve, by blocks and events where rows belong together."""
        if self.blocks is None:
            return resamples(roc, n_resamples, seed=seed)
        return block_resamples(
            roc, self.scores, self.labels, self.blocks, n_resamples=n_resamples, seed=seed
        )


@dataclass(frozen=True)
class Choice:
    """Where else the threshold could lie, and by how many rows its counts are flattered."""

    threshold: Interval
    false_alarms: float = 0.0
    detections: float = 0.0


def of_order_statistic(roc: Roc, value: float, *, effect: float, confidence: float) -> Choice:
    """Choice by an order statistic of the normal scores, which the anomalous rows cannot flatter.

    A resample's order statistic leaves a Beta share of the original rows above it; so the ends
    are read off where that law has its quantiles, as a bootstrap without end would.
    """
    above = int(roc.false_alarms[roc.locate(value)])
    # a design effect takes evidence away, never more than leaves one row
    law = (above + 1) / effect, max((roc.n_normal - above) / effect, 1.0)
    tails = beta.ppf(interval_ends(confidence), *law)
    high, low = (float(lowest_within(roc, math.floor(tail * roc.n_normal))) for tail in tails)
    return Choice(Interval(value, min(low, value), max(high, value)), 0.5)


def of_resamples(
    curves: Iterator[Resamples], rule: Rule, target: Target, *, value: float, confidence: float
) -> Choice:
    """Choice that is made anew on each resample."""
    values, false_alarms, detections = [], [], []
    for original, resampled in curves:
        chosen = rule.choose(resampled, target)
        at = original.locate(chosen)
        own = np.arange(len(at))
        values.append(chosen)
        false_alarms.append(original.false_alarms[at] - resampled.false_alarms[own, at])
        detections.append(original.detections[at] - resampled.detections[own, at])
    low, high = np.quantile(np.concatenate(values), interval_ends(confidence), method="nearest")
    return Choice(
        Interval(value, min(float(low), value), max(float(high), value)),
        # never less than for a threshold that is merely one of the normal scores
        max(0.5, float(np.concatenate(false_alarms).mean())),
        float(np.concatenate(detections).mean()),
    )
