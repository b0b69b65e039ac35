"""Bars: the model beside the baselines, and the sensors behind the anomalies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    INK,
    NORMAL,
    OTHER,
    FloatArray,
    add_legend,
    add_note,
    blank_figure,
    dress,
    percent_ticks,
    refuse_empty,
    written,
)
from vae_anomaly.pictures.words import Estimate, counted, percent, shortened, with_ends

__all__ = ["baseline_bars", "sensor_shares"]

#: Sensors or methods that a bar chart has room for.
MOST_BARS = 15


def baseline_bars(
    path: str | PathLike[str],
    names: Sequence[str],
    figures: Sequence[Estimate],
    *,
    highlighted: str,
    figure_name: str = "AUROC",
    chance: float = 0.5,
    subject: str = "",
) -> Path:
    """Draw a figure of the model beside the baselines', best first; 1000 pixels wide.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    names : sequence of str
        The methods; of more than fifteen the best are shown, and ours.
    figures : sequence of Estimate
        What each reaches on the same rows, between 0 and 1; NaN is drawn as not known.
    highlighted : str
        The method that is ours.
    figure_name : str
        What is compared.
    chance : float
        What a random score reaches; the bars start there.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    value = np.array([figure.value for figure in figures], dtype=np.float64)
    refuse_empty(value, "methods")
    order = np.argsort(np.where(np.isnan(value), np.inf, -value), kind="stable")
    shown = [int(i) for i in order[:MOST_BARS]]
    shown += [int(i) for i in order[MOST_BARS:] if names[i] == highlighted]
    figure = blank_figure(
        170 + 44 * len(shown), _rivals(names, value, order, highlighted, figure_name), subject
    )
    axes = figure.subplots()
    at_value, left = axes.get_yaxis_transform(), chance
    for place, i in enumerate(shown):
        weight = "bold" if names[i] == highlighted else "normal"
        said = with_ends(figures[i])
        axes.text(1.01, place, said, va="center", fontsize=10, weight=weight, transform=at_value)
        if not math.isnan(value[i]):
            colour = NORMAL if names[i] == highlighted else OTHER
            axes.barh(place, value[i] - chance, left=chance, height=0.62, color=colour)
            ends = [figures[i].low, figures[i].high]
            axes.plot(ends, [place, place], color=INK, lw=1.4, marker="|", ms=8)
            left = min(left, figures[i].low)
    axes.axvline(chance, color=INK, lw=1)
    axes.set_xlim(max(left - 0.02, -0.02), 1.005)
    _named_bars(axes, [names[i] for i in shown])
    axes.set_xlabel(
        f"{figure_name}: bars from {chance:g}, a random score; thin lines are intervals"
    )
    if len(shown) < len(names):
        add_note(
            figure,
            f"the best {MOST_BARS} of {len(names)} methods, and {shortened(highlighted, 30)}",
        )
    return written(figure, path)


def _rivals(
    names: Sequence[str],
    value: FloatArray,
    order: NDArray[np.int64],
    highlighted: str,
    figure_name: str,
) -> str:
    """Our figure and the best of the others, as a title."""
    known = [i for i in order if not math.isnan(value[i])]
    said = {i: f"{shortened(names[i], 24)} {value[i]:.3f}" for i in known}
    ours = [said[i] for i in known if names[i] == highlighted]
    best = [f"best of the others {said[i]}" for i in known if names[i] != highlighted][:1]
    return f"{figure_name} on the same rows: {', '.join(ours + best) or 'not known'}"


def sensor_shares(
    path: str | PathLike[str],
    sensors: Sequence[str],
    contributions: ArrayLike,
    *,
    subject: str = "",
) -> Path:
    """Draw which sensors anomalous rows are due to, most frequent first; 1000 pixels wide.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    sensors : sequence of str
        Names of the columns; of more than fifteen the most frequent are shown.
    contributions : array-like of shape (n, d)
        Contributions of each sensor to the score of the anomalous rows.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    terms = np.abs(np.asarray(contributions, dtype=np.float64))
    if terms.shape[1:] != (len(sensors),) or not terms.size:
        raise InputError(
            f"contributions have shape {terms.shape}; give (n, {len(sensors)}), a row an "
            "anomaly and a column a sensor; where there is no anomaly, draw nothing"
        )
    leads = np.bincount(terms.argmax(axis=1), minlength=len(sensors)) / len(terms)
    whole = terms.sum(axis=1, keepdims=True)
    part = np.divide(terms, whole, out=np.zeros_like(terms), where=whole > 0).mean(axis=0)
    order = np.lexsort((-part, -leads))
    shown = [int(i) for i in order[:MOST_BARS]]
    said = (
        f"{shortened(sensors[shown[0]], 30)} contributes most in {percent(float(leads[shown[0]]))}"
    )
    title = f"Sensors behind {counted(len(terms), 'anomalous')}: {said}"
    figure = blank_figure(190 + 36 * len(shown), title, subject)
    axes = figure.subplots()
    places = range(len(shown))
    axes.barh(places, leads[shown], height=0.62, color=OTHER, label="contributes most (of rows)")
    axes.plot(part[shown], places, "D", color=NORMAL, ms=6, ls="", label="mean share of the score")
    axes.set_xlim(0, max(1.08 * float(max(leads.max(), part.max())), 0.05))
    axes.xaxis.set_major_formatter(percent_ticks())
    axes.set_xlabel("share of rows, and of the score")
    _named_bars(axes, [sensors[i] for i in shown])
    add_legend(axes)
    if len(shown) < len(sensors):
        rest = percent(float(leads[order[MOST_BARS:]].sum()))
        said = f"the others contribute most in {rest} of the rows"
        add_note(figure, f"{len(shown)} of {len(sensors)} sensors; {said}")
    return written(figure, path)


def _named_bars(axes: Axes, names: Sequence[str]) -> None:
    """Names beside horizontal bars, the first on top."""
    dress(axes)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(names)), [shortened(name, 30) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
