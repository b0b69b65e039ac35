"""Histograms: how scores are spread in each class, and how much lies above the threshold."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.pictures.style import (
    ANOMALOUS,
    FAINT,
    INK,
    NORMAL,
    WIDE,
    FloatArray,
    add_legend,
    add_note,
    blank_figure,
    dress,
    percent_ticks,
    plain_ticks,
    refuse_empty,
    written,
)
from vae_anomaly.pictures.words import counted, percent

__all__ = ["score_histogram"]


def score_histogram(
    path: str | PathLike[str],
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    threshold: float | None = None,
    unit: str = "",
    subject: str = "",
) -> Path:
    """Draw how scores are spread in each class, and the threshold; 1000 x 480 pixels.

    Each class is drawn as shares of its own rows, so that few anomalies are seen beside many
    normal rows. The axis is logarithmic where positive scores span a wide range.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    scores : array-like of shape (n,)
        Higher is more anomalous; NaN (not scored) and infinite ones are counted, not drawn.
    labels : array-like of shape (n,)
        0 normal, positive anomalous, negative unknown.
    threshold : float, optional
        An alarm is a score above it.
    unit : str
        Of the score.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    refuse_empty(score, "scores")
    finite = np.isfinite(score)
    edges, is_log = _edges(score[finite] if finite.any() else np.zeros(1), threshold)
    figure = blank_figure(480, _histogram_title(score, label, threshold), subject)
    axes = figure.subplots()
    for name, colour, own in (
        ("normal", NORMAL, label == 0),
        ("unlabelled", FAINT, label < 0),
        ("anomalous", ANOMALOUS, label > 0),
    ):
        if own.any():
            inside = np.clip(score[own & finite], edges[0], edges[-1])
            share = np.histogram(inside, edges)[0] / own.sum()
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(share, edges, color=colour, lw=1.6, label=counted(int(own.sum()), name))
    if threshold is not None:
        said = f"threshold {threshold:.4g}"
        axes.axvline(threshold, color=INK, ls="--", lw=1.4, label=said)
    if is_log:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(plain_ticks())
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(percent_ticks())
    axes.set_xlabel(f"anomaly score ({unit})" if unit else "anomaly score")
    axes.set_ylabel("share of the rows of a class")
    dress(axes)
    add_legend(axes)
    add_note(figure, _left_out(score, edges))
    return written(figure, path)


def _histogram_title(score: FloatArray, label: NDArray[np.int64], threshold: float | None) -> str:
    """The shares of the classes above the threshold, in words."""
    said = [
        f"{percent(float((score[own] > threshold).mean()))} of {name} rows"
        for name, own in (
            ("anomalous", label > 0),
            ("normal", label == 0),
            ("unlabelled", label < 0),
        )
        if threshold is not None and own.any()
    ]
    return " and ".join(said) + " above the threshold" if said else "How the scores are spread"


def _edges(shown: FloatArray, threshold: float | None) -> tuple[FloatArray, bool]:
    """Edges of the bins, and whether they are even on a logarithmic axis."""
    limit = [threshold] if threshold is not None and math.isfinite(threshold) else []
    known = np.append(shown, limit)
    low, high = float(known.min()), float(known.max())
    if low > 0 and high > WIDE * float(np.median(shown)):
        low = max(low, float(np.quantile(known, 0.001)) / 2)
        return np.geomspace(low / 1.05, high * 1.05, 91), True
    inner = np.quantile(shown, [0.001, 0.999])
    width = float(inner[1] - inner[0])
    low = min([max(low, float(inner[0]) - width), *limit])
    high = max([min(high, float(inner[1]) + width), *limit])
    margin = 0.03 * (high - low) or max(abs(high), 1.0) / 10
    return np.linspace(low - margin, high + margin, 91), False


def _left_out(score: FloatArray, edges: FloatArray) -> str:
    """What a histogram does not show as it is."""
    finite = np.isfinite(score)
    beyond = finite & ((score < edges[0]) | (score > edges[-1]))
    said = (
        (beyond, "beyond the edges, counted in the outermost bars"),
        (np.isinf(score), "with an infinite score, not drawn"),
        (np.isnan(score), "without a score, not drawn"),
    )
    return "; ".join(f"{counted(int(rows.sum()))} {what}" for rows, what in said if rows.any())
