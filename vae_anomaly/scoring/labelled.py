"""A scorer that labelled anomalies are told to, when it is trained or at any time after."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

from vae_anomaly.config import Labels, is_series
from vae_anomaly.errors import ConfigError, InputError, closest
from vae_anomaly.models.standardize import Batch, Series, Windows, joined, spaced
from vae_anomaly.models.training import one_thread
from vae_anomaly.models.variants import Variant
from vae_anomaly.scoring.baselines import Simple
from vae_anomaly.scoring.fitting import FittedScorer
from vae_anomaly.scoring.label_head import LEAKS
from vae_anomaly.scoring.label_head_fitting import FittedHead, fit_label_head
from vae_anomaly.scoring.learnable import (
    HELD_OUT_ROWS,
    anomalous_windows,
    learnable_windows,
    normal_windows,
)
from vae_anomaly.scoring.scorer import Scorer

__all__ = [
    "NormalRows",
    "Told",
    "anomalies_of",
    "normal_rows",
    "takes_labels",
    "tell",
    "told_in_fit",
]

#: Rows that a head learns from at most, normal ones and anomalies each; evenly spaced.
MOST_ROWS = 2000


class NormalRows(NamedTuple):
    """What is kept of the normal rows of a training for labels that come later.

    Attributes
    ----------
    held_out, known : Batch
        Windows that the weights have not been fitted to, and such that they have; 1,000 of the
        first at most, and together 2,000.
    standard : Batch
        Windows on which smoothing "auto" learns what a normal score is; of none without it.
    """

    held_out: Batch
    known: Batch
    standard: Batch


class Told(NamedTuple):
    """A scorer with a label head, and what the operator should know of it."""

    scorer: Scorer
    note: str


def takes_labels(variant: Variant | Simple, labels: str) -> bool:
    """Whether labels are learnt by a head: not by baselines, nor by members that train on them.

    Raises
    ------
    ConfigError
        `labels` is none of "default", "strict" and "off".
    """
    allowed = (*LEAKS, "off")
    if labels not in allowed:
        raise ConfigError(f"labels={labels!r} is not known; {closest(str(labels), allowed)}")
    return labels != "off" and not isinstance(variant, Simple) and not variant.learns_labels


@one_thread()
def normal_rows(scorer: Scorer, *, train: Series, stop: Series) -> NormalRows:
    """The normal rows that a label head learns from.

    Parameters
    ----------
    scorer : Scorer
        Of a variant.
    train, stop : Series
        What the scorer was fitted to; see `fit_scorer`.
    """
    known, held_out = (_normal(scorer, part) for part in (train, stop))
    unseen = held_out.spread(MOST_ROWS // 2)
    return NormalRows(
        held_out=unseen,
        known=known.spread(MOST_ROWS - len(unseen.x)),
        standard=held_out.spread(HELD_OUT_ROWS if scorer.smoothing == "auto" else 0),
    )


@one_thread()
def anomalies_of(scorer: Scorer, *series: Series) -> Batch:
    """Windows of the rows with a value that bear a label above 0.

    Parameters
    ----------
    scorer : Scorer
    *series : Series
        Such rows, and those before them that their windows reach back to. Of more than 2,000 labels
        so many are taken, evenly spaced.
    """
    found = [anomalous_windows(part, scorer.standardizer, scorer.window) for part in series]
    return spaced(joined([part.spread(MOST_ROWS) for part in found]), MOST_ROWS)


@one_thread()
def tell(scorer: Scorer, normal: NormalRows, anomalies: Batch, labels: Labels) -> Told:
    """The scorer with a label head; one that it had is replaced.

    Parameters
    ----------
    scorer : Scorer
        Of a variant; it stays as it is.
    normal : NormalRows
    anomalies : Batch
        See `anomalies_of`.
    labels : {"default", "strict"}
        Whether what is unlike the labels is judged a little more normal, or nothing is.

    Returns
    -------
    Told

    Raises
    ------
    InputError
        There is no anomaly, or `labels` is "off".
    """
    if labels == "off":
        raise InputError("labels='off' learns nothing from labels; give 'default' or 'strict'")
    if not len(anomalies.x):
        raise InputError(
            "no row with a value bears the label of an anomaly; label at least one above 0"
        )
    fitted = fit_label_head(
        scorer.module,
        joined([normal.held_out, normal.known]),
        anomalies,
        score=lambda block: scorer.unlabelled(block)[0],
        labels=labels,
        in_order=is_series(scorer.window, scorer.smoothing),
    )
    told = deepcopy(scorer)
    told.head = fitted.head
    if scorer.smoothing == "auto":
        told.standardize_scores(normal.standard)
    return Told(told, _note(len(anomalies.x), fitted))


def told_in_fit(
    fitted: FittedScorer, *, train: Series, stop: Series, labels: Labels
) -> FittedScorer:
    """A fitted scorer with what the labelled anomalies of its own rows add, if there are any.

    Parameters
    ----------
    fitted : FittedScorer
    train, stop : Series
        What the scorer was fitted to; anomalies of both are learnt from.
    labels : {"default", "strict", "off"}

    Raises
    ------
    ConfigError
        `labels` is something else.
    """
    scorer = fitted.scorer
    if not takes_labels(scorer.variant, labels):
        return fitted
    anomalies = anomalies_of(scorer, train, stop)
    if not len(anomalies.x):
        return fitted
    found = tell(scorer, normal_rows(scorer, train=train, stop=stop), anomalies, labels)
    return replace(fitted, scorer=found.scorer, notes=(*fitted.notes, found.note))


def _normal(scorer: Scorer, part: Series) -> Windows:
    assert not isinstance(scorer.variant, Simple)  # `takes_labels` says so
    return normal_windows(
        learnable_windows(part, scorer.standardizer, scorer.window, scorer.variant)
    )


def _note(n: int, fitted: FittedHead) -> str:
    """What labels are worth, judged by heads that have not learnt from the row in question."""
    if math.isnan(fitted.told):
        return (
            f"{n} labelled anomal{'y' if n == 1 else 'ies'} lift what is like them; below 3 it "
            "cannot be checked on others what they teach: label more"
        )
    return (
        f"{n} labelled anomalies lift what is like them: they score above {fitted.told:.1%} of the "
        f"normal rows by what the others teach, and above {fitted.unlabelled:.1%} without labels"
    )
