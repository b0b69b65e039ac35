"""Pictures of a run: PNG files, 1,000 pixels wide, for MLflow, reports and people.

Blue is normal, vermilion is anomalous, amber is where the labels say fault, a dashed black line is
a threshold: the palette of Okabe & Ito, which colour-blind readers can tell apart. What a picture
leaves out, it says. Drawing sets nothing for others: no pyplot, no styles, no window. The same
input gives the same file.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.errors import InputError

__all__ = [
    "Estimate",
    "baseline_bars",
    "roc_picture",
    "score_histogram",
    "sensor_shares",
    "timeline",
    "training_curves",
]

DPI = 120
WIDTH_PX = 1000

NORMAL = "#0072B2"
ANOMALOUS = "#D55E00"
FAULT = "#F0C05A"
BEST = "#009E73"
OTHER = "#B8C4CE"
INK = "#222222"
FAINT = "#6E6E6E"
GRID = "#E6E6E6"

#: Assets that a timeline has room for; sensors or methods that a bar chart has.
MOST_PANELS = 8
MOST_BARS = 15

#: Parts that the time of a panel is cut into: about one a pixel.
CELLS = 860

#: A logarithmic axis is used from this ratio of the highest score to the median or threshold.
WIDE = 20

FloatArray = NDArray[np.float64]


class Estimate(Protocol):
    """A figure with the ends of its interval; NaN where it is not known."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


# -------------------------------------------------------------------------------------- scores


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
    _refuse_empty(alarms, "points of the curve")
    figure = _figure(540, f"Detection against false alarms: AUROC {_with_ends(area)}", subject)
    whole, few = figure.subplots(1, 2, sharey=True)
    least = 0.5 / max(n_normal, 10)
    chance = np.append(0.0, np.geomspace(least, 1, 200))
    for axes, start in ((whole, 0.0), (few, least)):
        axes.plot(np.maximum(alarms, start), detected, color=NORMAL, lw=2, label="this score")
        axes.plot(chance, chance, color=FAINT, lw=1, ls=":", label="a random score")
        if chosen is not None and not math.isnan(chosen[0].value + chosen[1].value):
            _cross(axes, *chosen, start=start)
        axes.set_xlabel("false alarm rate (share of normal rows)")
        axes.xaxis.set_major_formatter(_percent())
        _dress(axes)
    whole.set_xlim(-0.02, 1.02)
    whole.set_ylim(-0.02, 1.02)
    whole.yaxis.set_major_formatter(_percent())
    whole.set_ylabel("detection rate (share of anomalous rows)")
    whole.legend(loc="lower right", frameon=False, fontsize=9)
    few.set_xscale("log")
    few.set_xlim(least, 1)
    few.xaxis.set_major_formatter(_percent())
    few.xaxis.set_minor_formatter(NullFormatter())
    _caption(whole, "the whole curve")
    _caption(few, "few false alarms, on a logarithmic axis")
    said = f"{_rows(n_normal, 'normal')} and {_rows(n_anomalous, 'anomalous')}"
    _note(figure, f"{said}, counted row by row")
    return _written(figure, path)


def _cross(axes: Axes, alarms: Estimate, detected: Estimate, *, start: float) -> None:
    """The operating point with both intervals; nothing left of `start`."""
    x, low, high = (max(end, start) for end in (alarms.value, alarms.low, alarms.high))
    said = f"threshold: {_share(detected.value)} detected\nat {_share(alarms.value)} false alarms"
    axes.plot([low, high], [detected.value] * 2, color=ANOMALOUS, lw=1.8, zorder=4)
    axes.plot([x, x], [detected.low, detected.high], color=ANOMALOUS, lw=1.8, zorder=4)
    axes.plot([x], [detected.value], "o", color=ANOMALOUS, ms=7, zorder=5, label=said)


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
    _refuse_empty(score, "scores")
    finite = np.isfinite(score)
    edges, is_log = _edges(score[finite] if finite.any() else np.zeros(1), threshold)
    figure = _figure(480, _histogram_title(score, label, threshold), subject)
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
            axes.stairs(share, edges, color=colour, lw=1.6, label=_rows(int(own.sum()), name))
    if threshold is not None:
        said = f"threshold {threshold:.4g}"
        axes.axvline(threshold, color=INK, ls="--", lw=1.4, label=said)
    if is_log:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_plain())
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_percent())
    axes.set_xlabel(f"anomaly score ({unit})" if unit else "anomaly score")
    axes.set_ylabel("share of the rows of a class")
    _dress(axes)
    _legend(axes)
    _note(figure, _left_out(score, edges))
    return _written(figure, path)


def _histogram_title(score: FloatArray, label: NDArray[np.int64], threshold: float | None) -> str:
    """The shares of the classes above the threshold, in words."""
    said = [
        f"{_share(float((score[own] > threshold).mean()))} of {name} rows"
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
    return "; ".join(f"{_rows(int(rows.sum()))} {what}" for rows, what in said if rows.any())


# ------------------------------------------------------------------------------------- in time


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
    _refuse_empty(score, "scores")
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
    figure = _figure(470 if len(shown) == 1 else 160 + 145 * len(shown), title, subject)
    shared = not isinstance(threshold, Mapping)
    panels = list(figure.subplots(len(shown), 1, sharex=True, sharey=shared, squeeze=False)[:, 0])
    for axes, i in zip(panels, shown, strict=True):
        rows = order[bounds[i] : bounds[i + 1]]
        _panel(
            axes,
            _thinned(time[rows], score[rows], above[rows], label[rows] > 0),
            float(limits[i]),
        )
        _caption(axes, f"{_short(str(names[i]), 30)}: {n_above[i]:,} of {len(rows):,} rows above")
    drawn = np.isin(which, shown)
    _wide_axes(panels, score[drawn & np.isfinite(score)], float(np.median(limits[shown])))
    _legend(
        panels[0],
        _timeline_handles(
            faulty=bool((label[drawn] > 0).any()), infinite=bool(np.isposinf(score[drawn]).any())
        ),
        above=2.0,
    )
    _time_axis(panels[-1], time[drawn])
    said = f"anomaly score ({unit})" if unit else "anomaly score"
    figure.supylabel(said, fontsize=10, color=INK)
    if len(shown) < len(names):
        said = "assets: those with most rows above the threshold"
        _note(figure, f"{len(shown)} of {len(names)} {said}")
    return _written(figure, path)


def _time_axis(axes: Axes, time: NDArray[np.datetime64]) -> None:
    """Dates no more often than they change; an hour on either side of a single moment."""
    days: FloatArray = date2num(np.array([time.min(), time.max()]))  # type: ignore[no-untyped-call]
    if days[0] == days[1]:
        axes.set_xlim(days[0] - 1 / 24, days[1] + 1 / 24)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("time (UTC)")


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
    _dress(axes)


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
        axes.yaxis.set_major_formatter(_plain())
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


# ------------------------------------------------------------------------------------ training


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
    _refuse_empty(step, "checks")
    best = int(np.argmin(np.abs(step - best_step)))
    kept = f"{held_out[best]:,.2f} nats a row".replace("-", "−")
    kept = "not known" if math.isnan(held_out[best]) else kept
    title = f"Training: held-out bound {kept} at step {best_step:,}, which was kept"
    figure = _figure(560, title, subject)
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
        _dress(axes)
    _legend(upper)
    figure.align_ylabels([upper, lower])
    lower.set_ylim(bottom=0)
    lower.set_xlim(0, 1.03 * max(float(step.max()), 1.0))
    lower.set_xlabel("training step")
    lower.xaxis.set_major_formatter(_plain())
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _written(figure, path)


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
        _caption(axes, f"{n_below} values of the start are below, down to {lowest}")


# ------------------------------------------------------------------------------------ compared


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
    _refuse_empty(value, "methods")
    order = np.argsort(np.where(np.isnan(value), np.inf, -value), kind="stable")
    shown = [int(i) for i in order[:MOST_BARS]]
    shown += [int(i) for i in order[MOST_BARS:] if names[i] == highlighted]
    figure = _figure(
        170 + 44 * len(shown), _rivals(names, value, order, highlighted, figure_name), subject
    )
    axes = figure.subplots()
    at_value, left = axes.get_yaxis_transform(), chance
    for place, i in enumerate(shown):
        weight = "bold" if names[i] == highlighted else "normal"
        said = _with_ends(figures[i])
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
        _note(
            figure, f"the best {MOST_BARS} of {len(names)} methods, and {_short(highlighted, 30)}"
        )
    return _written(figure, path)


def _rivals(
    names: Sequence[str],
    value: FloatArray,
    order: NDArray[np.int64],
    highlighted: str,
    figure_name: str,
) -> str:
    """Our figure and the best of the others, as a title."""
    known = [i for i in order if not math.isnan(value[i])]
    said = {i: f"{_short(names[i], 24)} {value[i]:.3f}" for i in known}
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
    said = f"{_short(sensors[shown[0]], 30)} contributes most in {_share(float(leads[shown[0]]))}"
    title = f"Sensors behind {_rows(len(terms), 'anomalous')}: {said}"
    figure = _figure(190 + 36 * len(shown), title, subject)
    axes = figure.subplots()
    places = range(len(shown))
    axes.barh(places, leads[shown], height=0.62, color=OTHER, label="contributes most (of rows)")
    axes.plot(part[shown], places, "D", color=NORMAL, ms=6, ls="", label="mean share of the score")
    axes.set_xlim(0, max(1.08 * float(max(leads.max(), part.max())), 0.05))
    axes.xaxis.set_major_formatter(_percent())
    axes.set_xlabel("share of rows, and of the score")
    _named_bars(axes, [sensors[i] for i in shown])
    _legend(axes)
    if len(shown) < len(sensors):
        rest = _share(float(leads[order[MOST_BARS:]].sum()))
        said = f"the others contribute most in {rest} of the rows"
        _note(figure, f"{len(shown)} of {len(sensors)} sensors; {said}")
    return _written(figure, path)


# ------------------------------------------------------------------------------------ the look


def _figure(height_px: int, title: str, subject: str) -> Figure:
    """A white figure with its title; Agg draws it, whatever the process has set up."""
    layout = ConstrainedLayoutEngine(w_pad=0.11, h_pad=0.07)
    figure = Figure((WIDTH_PX / DPI, height_px / DPI), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    text = textwrap.fill(f"{_short(subject, 40)} · {title}" if subject else title, 78)
    figure.suptitle(
        text, x=0.013, ha="left", fontsize=12, weight="bold", color=INK, parse_math=False
    )
    return figure


def _dress(axes: Axes) -> None:
    """Thin grid, no box, sizes that are read at 1,000 pixels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9.5, colors=INK)
    axes.xaxis.label.set(fontsize=10, color=INK)
    axes.yaxis.label.set(fontsize=10, color=INK)


def _named_bars(axes: Axes, names: Sequence[str]) -> None:
    """Names beside horizontal bars, the first on top."""
    _dress(axes)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(names)), [_short(name, 30) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _caption(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, color=FAINT, parse_math=False)


def _legend(axes: Axes, handles: Sequence[Line2D | Patch] = (), *, above: float = 0.2) -> None:
    """A legend over the axes, where it hides nothing, so many letters above them."""
    axes.legend(
        handles=handles or axes.get_legend_handles_labels()[0],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=5,
        frameon=False,
        fontsize=9.5,
        borderaxespad=above,
        columnspacing=1.5,
        handlelength=1.6,
    )


def _note(figure: Figure, text: str) -> None:
    """A faint line below, for what a reader must know and the picture does not show."""
    if text:
        figure.supxlabel(text, x=0.013, ha="left", fontsize=9, color=FAINT, parse_math=False)


def _written(figure: Figure, path: str | PathLike[str]) -> Path:
    """Write the PNG without date or version, so that equal pictures are equal files."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.print_png(path, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return Path(path)


def _plain() -> FuncFormatter:
    """Ticks as 0.01, 10, 1,000, 2e+06."""

    def tick(x: float, _: float) -> str:
        return (f"{x:,.0f}" if 100 <= abs(x) < 1e6 else f"{x:.4g}").replace("-", "−")

    return FuncFormatter(tick)


def _rows(count: int, kind: str = "") -> str:
    return f"{count:,} {kind} row{'' if count == 1 else 's'}".replace("  ", " ")


def _percent() -> FuncFormatter:
    return FuncFormatter(lambda x, _: f"{100 * x:.6g} %")


def _share(value: float) -> str:
    """A share in percent, with as many digits as a small one needs."""
    if math.isnan(value):
        return "an unknown share"
    digits = 0 if value >= 0.9995 or value == 0 else 1 if value >= 0.0995 else 2
    return f"{100 * value:.{digits}f} %"


def _with_ends(figure: Estimate) -> str:
    if math.isnan(figure.value):
        return "not known"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _short(name: str, most: int) -> str:
    """A name, with its middle left out where it is too long."""
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _refuse_empty(values: FloatArray, what: str) -> None:
    if values.ndim != 1 or not len(values):
        raise InputError(f"there are no {what} to draw; give an array of shape (n,) with n > 0")
