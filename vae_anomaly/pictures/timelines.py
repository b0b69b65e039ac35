"""Timelines: the score of each asset over time, thinned to the pixels without losing a peak."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    ANOMALOUS,
    FAULT,
    INK,
    NORMAL,
    WIDE,
    FloatArray,
    add_legend,
    add_note,
    blank_figure,
    caption,
    dress,
    plain_ticks,
    refuse_empty,
    time_axis,
    written,
)
from vae_anomaly.pictures.words import shortened

__all__ = ["timeline"]

#: Assets that a timeline has room for.
MOST_PANELS = 8
#: Parts that the time of a panel is cut into: about one a pixel.
CELLS = 860


def timeline(
    path: str | PathLike[str],
    times: ArrayLike,
    scores: ArrayLike,
    *,
    assets: ArrayLike,
    threshold: float | Mapping[str, float],
    labels: ArrayLike = (),
    unit: str = "",
    subject: str = "",
) -> Path:
    """Draw the score over time, one panel an asset; 1000 pixels wide, 470 to 1320 high.

    The highest and the lowest score of every pixel are drawn, so no peak is lost. Of more than
    eight assets those with most rows above the threshold are shown, and the picture says so.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    times : array-like of shape (n,), datetime64
        UTC, in any order.
    scores : array-like of shape (n,)
        Higher is more anomalous; NaN (not scored) leaves a gap, and an infinite one is marked at
        the upper edge.
    assets : array-like of shape (n,), str
        The asset of each row.
    threshold : float or mapping
        An alarm is a score above it: one for all, or one an asset.
    labels : array-like of shape (n,)
        Positive where a fault is known to be; empty where nothing is known.
    unit : str
        Of the score.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    score, asset = np.asarray(scores, dtype=np.float64), np.asarray(assets)
    refuse_empty(score, "scores")
    time = np.asarray(times, dtype="datetime64[us]")
    label = np.asarray(labels) if np.size(labels) else np.zeros(len(score), dtype=np.int64)
    if not score.shape == asset.shape == time.shape == label.shape:
        raise InputError(
            f"times {time.shape}, scores {score.shape}, assets {asset.shape} and labels "
            f"{label.shape} must be of one length"
        )
    names, which = np.unique(asset, return_inverse=True)
    limits = np.array([_limit(threshold, str(name)) for name in names])
    above = score > limits[which]
    n_above = np.bincount(which[above], minlength=len(names))
    order = np.lexsort((time, which))
    bounds = np.searchsorted(which[order], np.arange(len(names) + 1))
    shown = np.sort(np.argsort(-n_above, kind="stable")[:MOST_PANELS])
    title = f"Score over time: {int(above.sum()):,} of {len(score):,} rows above the threshold"
    figure = blank_figure(470 if len(shown) == 1 else 160 + 145 * len(shown), title, subject)
    shared = not isinstance(threshold, Mapping)
    panels = list(figure.subplots(len(shown), 1, sharex=True, sharey=shared, squeeze=False)[:, 0])
    for axes, i in zip(panels, shown, strict=True):
        rows = order[bounds[i] : bounds[i + 1]]
        _panel(
            axes,
            _thinned(time[rows], score[rows], above[rows], label[rows] > 0),
            float(limits[i]),
        )
        caption(axes, f"{shortened(str(names[i]), 30)}: {n_above[i]:,} of {len(rows):,} rows above")
    drawn = np.isin(which, shown)
    _wide_axes(panels, score[drawn & np.isfinite(score)], float(np.median(limits[shown])))
    add_legend(
        panels[0],
        _timeline_handles(
            faulty=bool((label[drawn] > 0).any()), infinite=bool(np.isposinf(score[drawn]).any())
        ),
        above=2.0,
    )
    time_axis(panels[-1], time[drawn])
    said = f"anomaly score ({unit})" if unit else "anomaly score"
    figure.supylabel(said, fontsize=10, color=INK)
    if len(shown) < len(names):
        said = "assets: those with most rows above the threshold"
        add_note(figure, f"{len(shown)} of {len(names)} {said}")
    return written(figure, path)


def _limit(threshold: float | Mapping[str, float], asset: str) -> float:
    if not isinstance(threshold, Mapping):
        return float(threshold)
    if asset not in threshold:
        raise InputError(f"asset '{asset}' has no threshold; there are {sorted(threshold)[:5]}")
    return float(threshold[asset])


@dataclass(frozen=True)
class Trace:
    """A series in cells of time; all of shape (m,), times in matplotlib's days.

    `highest` and `lowest` are over the finite scores of a cell, and NaN where there are none;
    `above`, `faulty` and `infinite` hold where they do for any row of the cell.
    """

    first: FloatArray
    last: FloatArray
    highest: FloatArray
    lowest: FloatArray
    above: NDArray[np.bool_]
    faulty: NDArray[np.bool_]
    infinite: NDArray[np.bool_]


def _thinned(
    time: NDArray[np.datetime64],
    score: FloatArray,
    above: NDArray[np.bool_],
    faulty: NDArray[np.bool_],
) -> Trace:
    """One asset's rows, in order of time, as cells; a short series keeps a cell a row."""
    days: FloatArray = date2num(time)  # type: ignore[no-untyped-call]
    cells = np.arange(len(days))
    if len(days) > 2 * CELLS:
        share = (days - days[0]) / (days[-1] - days[0] or 1.0)
        cells = np.minimum(share * CELLS, CELLS - 1).astype(np.int64)
    start = np.flatnonzero(np.diff(cells, prepend=-1))
    finite = np.where(np.isfinite(score), score, np.nan)
    return Trace(
        days[start],
        days[np.append(start[1:], len(days)) - 1],
        np.fmax.reduceat(finite, start),
        np.fmin.reduceat(finite, start),
        np.logical_or.reduceat(above, start),
        np.logical_or.reduceat(faulty, start),
        np.logical_or.reduceat(np.isposinf(score), start),
    )


def _panel(axes: Axes, trace: Trace, limit: float) -> None:
    """One asset: the score, its threshold, what is above it, and where the labels say fault."""
    step = float(np.median(np.diff(trace.first))) if len(trace.first) > 1 else 1 / 24
    edge_axis = axes.get_xaxis_transform()
    starts = np.flatnonzero(trace.faulty & ~np.append(False, trace.faulty[:-1]))
    ends = np.flatnonzero(trace.faulty & ~np.append(trace.faulty[1:], False))
    if len(starts):
        left = trace.first[starts] - step / 2
        spans = np.column_stack([left, trace.last[ends] + step / 2 - left])
        axes.broken_barh(
            list(map(tuple, spans)), (0, 1), transform=edge_axis, color=FAULT, alpha=0.5, lw=0
        )
    gaps = np.flatnonzero(np.diff(trace.first) > 5 * step) + 1
    x, high, low = (
        np.insert(part, gaps, np.nan) for part in (trace.first, trace.highest, trace.lowest)
    )
    axes.fill_between(x, low, high, color=NORMAL, alpha=0.25, lw=0)
    axes.plot(x, high, color=NORMAL, lw=0.9, marker="." if len(trace.first) < 60 else "")
    axes.axhline(limit, color=INK, ls="--", lw=1.2)
    seen, top = trace.above & ~np.isnan(trace.highest), trace.infinite
    axes.scatter(trace.first[seen], trace.highest[seen], s=9, color=ANOMALOUS, zorder=4, lw=0)
    axes.scatter(
        trace.first[top],
        np.full(top.sum(), 0.96),
        s=26,
        marker="^",
        color=ANOMALOUS,
        zorder=4,
        transform=edge_axis,
    )
    dress(axes)


def _wide_axes(panels: Sequence[Axes], score: FloatArray, limit: float) -> None:
    """Make the score's axes logarithmic where the peaks would hide everything else."""
    usual = max(limit, float(np.median(score))) if len(score) else math.nan
    if not (0 < usual < math.inf and score.max() > WIDE * usual):
        return
    for axes in panels:
        if score.min() > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(numticks=6))
            axes.set_ylim(bottom=min(float(np.quantile(score, 0.001)), limit) / 1.5)
        else:
            axes.set_yscale("symlog", linthresh=usual)
        axes.yaxis.set_major_formatter(plain_ticks())
        axes.yaxis.set_minor_formatter(NullFormatter())


def _timeline_handles(*, faulty: bool, infinite: bool) -> list[Line2D | Patch]:
    """What the marks of a timeline mean."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=NORMAL, lw=1.4, label="score"),
        Line2D([], [], color=INK, lw=1.2, ls="--", label="threshold"),
        Line2D([], [], color=ANOMALOUS, ls="", marker="o", ms=4, label="anomaly"),
    ]
    if infinite:
        said = "infinite score"
        handles.append(Line2D([], [], color=ANOMALOUS, ls="", marker="^", ms=5, label=said))
    if faulty:
        handles.append(Patch(color=FAULT, alpha=0.5, lw=0, label="fault, by the labels"))
    return handles
