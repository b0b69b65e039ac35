"""What scores reach on the test part: row by row, along the series, and fault by fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vae_anomaly.config import AlarmRule, PlantConfig
from vae_anomaly.decisions.alarms import alarms_by
from vae_anomaly.decisions.dependence import blocks_shown
from vae_anomaly.decisions.episodes import Timeline, timeline
from vae_anomaly.decisions.evaluation import auroc, average_precision, rates_at
from vae_anomaly.decisions.events import EventFigures, event_figures
from vae_anomaly.decisions.rates import Interval, OperatingPoint
from vae_anomaly.decisions.resampling import block_length, central, resampled_areas
from vae_anomaly.decisions.vus import vus_pr

__all__ = ["Areas", "Figures", "TestRows", "compared"]


@dataclass(frozen=True)
class Areas:
    """What a score tells apart, whatever the threshold.

    Attributes
    ----------
    auroc : Interval
        Its interval is the wider of two, at either end: of rows by themselves, and of a bootstrap
        of blocks of neighbouring rows.
    average_precision : Interval
        Area under the precision-recall curve (AUPRC); each fault is one trial.
    vus_pr : Interval
        The same over a range of tolerances about each fault.
    """

    auroc: Interval
    average_precision: Interval
    vus_pr: Interval


@dataclass(frozen=True)
class Figures:
    """What one method reaches on the test part.

    Attributes
    ----------
    method : str
    areas : Areas or None
        Only where both classes are there.
    operating_point : OperatingPoint
        Row by row; the intervals are those of blocks of neighbouring rows, and of whole faults.
    events : EventFigures
        Fault by fault, by the alarms that the same scores raise.
    lead : Interval or None
        Of a baseline, how far the model's AUROC is above its own on the same resamples.
    """

    method: str
    areas: Areas | None
    operating_point: OperatingPoint
    events: EventFigures
    lead: Interval | None = None

    @property
    def auroc(self) -> Interval | None:
        """Area under the ROC curve, where both classes are there."""
        return None if self.areas is None else self.areas.auroc


@dataclass(frozen=True)
class TestRows:
    """The test part as the model sees it; all of shape (n,), but `flagged`.

    Attributes
    ----------
    asset, time : ndarray
        Names, and UTC as datetime64[us].
    series : ndarray
        Which unbroken series each row is of; rows of one stand together, in time order.
    score : ndarray
        In the model's own unit.
    excess : ndarray
        Score above its scorer's threshold, in spreads of the calibration scores, so that the
        scorers of several assets can be pooled.
    label : ndarray
        0 normal, positive an anomaly (its class), −1 unknown.
    flagged : ndarray of shape (m, d)
        Contributions of each sensor to the score of the rows above the threshold.
    period : int
        Rows in which the first sensor repeats itself: the widest tolerance of VUS-PR.
    n_assumed : int
        Rows that count as normal because nobody said anything of them: in a plant without labels of
        its own, where people named a fault.
    """

    asset: np.ndarray
    time: np.ndarray
    series: np.ndarray
    score: np.ndarray
    excess: np.ndarray
    label: np.ndarray
    flagged: np.ndarray
    period: int
    n_assumed: int = 0

    @property
    def has_both_classes(self) -> bool:
        """Whether there is something to tell apart."""
        return bool((self.label > 0).any() and (self.label == 0).any())

    @property
    def counted_label(self) -> np.ndarray:
        """Labels; where nobody has labelled anything, what is flagged is a false alarm."""
        return self.label if (self.label >= 0).any() else np.zeros_like(self.label)

    def timeline(self, max_gap_s: float | None) -> Timeline:
        """When the rows of each asset were, in seconds since the first of all."""
        micros = self.time.astype("datetime64[us]").astype(np.int64)
        return timeline(self.asset, (micros - micros.min()) / 1e6, max_gap_s=max_gap_s)


#: A method's name and its excess (n,) on the test rows → its figures.
Judge = Callable[[str, np.ndarray], Figures]


def judge_of(
    plant: PlantConfig, rows: TestRows, reach: int, rules: Mapping[str, AlarmRule]
) -> Judge:
    """A function that judges every method by the same rows, row by row and fault by fault.

    Parameters
    ----------
    plant : PlantConfig
    rows : TestRows
    reach : int
        How many rows before a row its score looks back on.
    rules : mapping of str to AlarmRule
        Of each method.
    """
    confidence, label = plant.calibration.confidence, rows.counted_label
    times = rows.timeline(plant.contract.sampling.max_gap_s)

    def figures(method: str, excess: np.ndarray) -> Figures:
        blocks = blocks_shown(excess, label, rows.series, label == 0, memory=reach + 1)
        alarms = alarms_by(rules[method], excess > 0, times)
        return Figures(
            method,
            _areas(rows, excess, confidence) if rows.has_both_classes else None,
            rates_at(0.0, excess, label, blocks=blocks, confidence=confidence),
            event_figures(alarms, times, label=rows.label, reach=reach, confidence=confidence),
        )

    return figures


def _areas(rows: TestRows, excess: np.ndarray, confidence: float) -> Areas:
    known = rows.label >= 0
    score, label, series = excess[known], rows.label[known], rows.series[known]
    begins = np.concatenate([[True], (label[:-1] <= 0) | (series[1:] != series[:-1])])
    n_faults = int(((label > 0) & begins).sum())
    return Areas(
        auroc(score, label, confidence=confidence),
        average_precision(score, label, n_trials=n_faults, confidence=confidence),
        vus_pr(excess, rows.label, window=rows.period, series=rows.series, confidence=confidence),
    )


def compared(
    plant: PlantConfig,
    excess: Mapping[str, np.ndarray],
    rows: TestRows,
    judge: Judge,
    *,
    memory: int,
) -> Iterator[Figures]:
    """Figures of each method, the model first, on the same resamples."""
    figures = [judge(method, own) for method, own in excess.items()]
    if figures[0].areas is None:
        yield from figures
        return
    known = rows.label >= 0
    label = rows.label[known]
    areas = resampled_areas(
        {method: own[known] for method, own in excess.items()},
        label,
        np.unique(rows.asset[known], return_inverse=True)[1],
        length=block_length(label, memory=memory),
        n_resamples=plant.calibration.bootstrap,
        seed=plant.seed,
    )
    confidence, ours = plant.calibration.confidence, figures[0].areas.auroc
    for found in figures:
        assert found.areas is not None  # all have the same labels
        own, resampled = found.areas.auroc, areas[found.method]
        low, high = central(resampled, confidence)
        interval = Interval(own.value, float(np.fmin(own.low, low)), float(np.fmax(own.high, high)))
        lead = None
        if found is not figures[0]:
            ends = central(areas[figures[0].method] - resampled, confidence)
            lead = Interval(ours.value - own.value, *ends)
        yield replace(found, areas=replace(found.areas, auroc=interval), lead=lead)
