"""Curves: detection against false alarms, and the bound over training."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from vae_anomaly.pictures.style import (
    ANOMALOUS,
    BEST,
    FAINT,
    NORMAL,
    FloatArray,
    add_legend,
    add_note,
    blank_figure,
    caption,
    dress,
    percent_ticks,
    plain_ticks,
    refuse_empty,
    written,
)
from vae_anomaly.pictures.words import Estimate, counted, percent, with_ends

__all__ = ["roc_picture", "training_curves"]


def roc_picture(
    path: str | PathLike[str],
    false_alarm_rate: ArrayLike,
    detection_rate: ArrayLike,
    *,
    area: Estimate,
    n_normal: int,
    n_anomalous: int,
    chosen: tuple[Estimate, Estimate] | None = None,
    subject: str = "",
) -> Path:
    """Draw an ROC curve, whole and once more for few false alarms; 1000 x 540 pixels.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    false_alarm_rate, detection_rate : array-like of shape (m,)
        Points of the curve, ascending.
    area : Estimate
        AUROC.
    n_normal, n_anomalous : int
        Rows behind the curve.
    chosen : pair of Estimate, optional
        False alarm rate and detection rate of the threshold in use.
    subject : str
        What it is of, such as the plant's or the asset's name.

    Returns
    -------
    Path
        The file.
    """
    alarms, detected = (np.asarray(a, dtype=np.float64) for a in (false_alarm_rate, detection_rate))
    refuse_empty(alarms, "points of the curve")
    figure = blank_figure(540, f"Detection against false alarms: AUROC {with_ends(area)}", subject)
    whole, few = figure.subplots(1, 2, sharey=True)
    least = 0.5 / max(n_normal, 10)
    chance = np.append(0.0, np.geomspace(least, 1, 200))
    for axes, start in ((whole, 0.0), (few, least)):
        axes.plot(np.maximum(alarms, start), detected, color=NORMAL, lw=2, label="this score")
        axes.plot(chance, chance, color=FAINT, lw=1, ls=":", label="a random score")
        if chosen is not None and not math.isnan(chosen[0].value + chosen[1].value):
            _cross(axes, *chosen, start=start)
        axes.set_xlabel("false alarm rate (share of normal rows)")
        axes.xaxis.set_major_formatter(percent_ticks())
        dress(axes)
    whole.set_xlim(-0.02, 1.02)
    whole.set_ylim(-0.02, 1.02)
    whole.yaxis.set_major_formatter(percent_ticks())
    whole.set_ylabel("detection rate (share of anomalous rows)")
    whole.legend(loc="lower right", frameon=False, fontsize=9)
    few.set_xscale("log")
    few.set_xlim(least, 1)
    few.xaxis.set_major_formatter(percent_ticks())
    few.xaxis.set_minor_formatter(NullFormatter())
    caption(whole, "the whole curve")
    caption(few, "few false alarms, on a logarithmic axis")
    said = f"{counted(n_normal, 'normal')} and {counted(n_anomalous, 'anomalous')}"
    add_note(figure, f"{said}, counted row by row")
    return written(figure, path)


def _cross(axes: Axes, alarms: Estimate, detected: Estimate, *, start: float) -> None:
    """The operating point with both intervals; nothing left of `start`."""
    x, low, high = (max(end, start) for end in (alarms.value, alarms.low, alarms.high))
    said = f"threshold: {percent(detected.value)} detected\nat {percent(alarms.value)} false alarms"
    axes.plot([low, high], [detected.value] * 2, color=ANOMALOUS, lw=1.8, zorder=4)
    axes.plot([x, x], [detected.low, detected.high], color=ANOMALOUS, lw=1.8, zorder=4)
    axes.plot([x], [detected.value], "o", color=ANOMALOUS, ms=7, zorder=5, label=said)


def training_curves(
    path: str | PathLike[str],
    steps: ArrayLike,
    bound: ArrayLike,
    held_out_bound: ArrayLike,
    learning_rate: ArrayLike,
    *,
    best_step: int,
    subject: str = "",
) -> Path:
    """Draw the bound over training, on the rows trained on and held out; 1000 x 560 pixels.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    steps : array-like of shape (k,)
        Step of each check.
    bound, held_out_bound : array-like of shape (k,)
        Mean bound, nats a row; higher is better.
    learning_rate : array-like of shape (k,)
        At each check.
    best_step : int
        Step whose weights were kept.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    step, train, held_out, rate = (
        np.asarray(part, dtype=np.float64) for part in (steps, bound, held_out_bound, learning_rate)
    )
    refuse_empty(step, "checks")
    best = int(np.argmin(np.abs(step - best_step)))
    kept = f"{held_out[best]:,.2f} nats a row".replace("-", "−")
    kept = "not known" if math.isnan(held_out[best]) else kept
    title = f"Training: held-out bound {kept} at step {best_step:,}, which was kept"
    figure = blank_figure(560, title, subject)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    dot = "." if len(step) < 60 else ""
    upper.plot(step, train, color=NORMAL, lw=1.6, marker=dot, label="rows trained on")
    upper.plot(step, held_out, color=ANOMALOUS, lw=1.6, marker=dot, label="rows held out")
    upper.plot(
        step[best], held_out[best], "o", ms=10, mfc="none", mec=BEST, mew=2, label="kept", ls=""
    )
    _focus(upper, np.concatenate([train, held_out]))
    lower.plot(step, rate, color=FAINT, lw=1.6, marker=dot)
    for axes, name in ((upper, "bound (nats a row)"), (lower, "learning rate")):
        axes.axvline(best_step, color=BEST, lw=1, ls=":")
        axes.set_ylabel(name)
        dress(axes)
    add_legend(upper)
    figure.align_ylabels([upper, lower])
    lower.set_ylim(bottom=0)
    lower.set_xlim(0, 1.03 * max(float(step.max()), 1.0))
    lower.set_xlabel("training step")
    lower.xaxis.set_major_formatter(plain_ticks())
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    return written(figure, path)


def _focus(axes: Axes, bounds: FloatArray) -> None:
    """Keep a bad start from flattening the rest, and say what is below the axes."""
    known = bounds[np.isfinite(bounds)]
    if len(known) < 8:
        return
    usual, highest = np.quantile(known, [0.25, 1.0])
    span = float(highest - usual)
    if known.min() < usual - 3 * span:
        axes.set_ylim(usual - 0.7 * span, highest + 0.1 * span)
        n_below = int((known < usual - 0.7 * span).sum())
        lowest = f"{known.min():,.0f}".replace("-", "−")
        caption(axes, f"{n_below} values of the start are below, down to {lowest}")
