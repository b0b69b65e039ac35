"""Signals: sensors over the steps of an interpolation, and readings in their expected band."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    ANOMALOUS,
    INK,
    NORMAL,
    FloatArray,
    add_legend,
    add_note,
    blank_figure,
    caption,
    dress,
    lowest,
    plain_ticks,
    small_multiples,
    time_axis,
    written,
)
from vae_anomaly.pictures.words import shortened

__all__ = ["interpolation_lines", "reconstruction_band"]

#: Sensors that small multiples have room for, and those that lie one above the other.
MOST_MULTIPLES, MOST_BANDS = 12, 6

#: How many standard deviations the band is wide, to each side.
BAND = 2.0

#: A gap in time of so many usual steps breaks a line.
GAP_STEPS = 5

#: From dark violet to light green; the yellow end would not be seen on white.
STEPS = colormaps["viridis"]


def interpolation_lines(
    path: str | PathLike[str],
    values: ArrayLike,
    inputs: ArrayLike,
    *,
    sensors: Sequence[str],
    ends: tuple[str, str] = ("the first", "the last"),
    kind: str = "linear",
    subject: str = "",
) -> Path:
    """Draw what the sensors read on the way from one row, or window, to another.

    A row's sensors are drawn over the steps; a window's over its rows, one line a step. Of more
    than twelve sensors those that move most are drawn; 1000 pixels wide.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    values : array-like of shape (s, w, d)
        s steps of windows of w rows of d sensors, in their own units.
    inputs : array-like of shape (2, w, d)
        What was read at the two ends; NaN = missing.
    sensors : sequence of str
        Their names.
    ends : pair of str
        What the two ends are.
    kind : str
        How the way was gone.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        The shapes do not fit, or there is nothing to draw.
    """
    steps, read = (np.asarray(part, dtype=np.float64) for part in (values, inputs))
    width = (*steps.shape[1:2], len(sensors))
    if steps.ndim != 3 or not steps.size or not steps.shape[1:] == read.shape[1:] == width:
        raise InputError(
            f"values {steps.shape} and inputs {read.shape} of {len(sensors)} sensors; give "
            "(steps, window, sensors) and (2, window, sensors), with at least one of each"
        )
    moved = np.abs(steps[-1] - steps[0]).max(axis=0) / (steps.std(axis=(0, 1)) + 1e-12)
    shown = np.sort(np.argsort(-moved, kind="stable")[:MOST_MULTIPLES])
    title = f"From {ends[0]} to {ends[1]} in {len(steps)} steps, {kind}"
    figure, panels = small_multiples(
        len(shown), title, subject, heights_px=(360, 150, 200), most_in_two=6
    )
    for axes, sensor in zip(panels, shown, strict=True):
        draw = _over_steps if width[0] == 1 else _over_rows
        draw(axes, steps[:, :, sensor], read[:, :, sensor])
        caption(axes, shortened(sensors[sensor], 30))
        dress(axes)
        axes.yaxis.set_major_formatter(plain_ticks())
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    figure.legend(handles=_step_handles(width[0]), loc="outside lower right", ncols=3,
                  frameon=False, fontsize=9.5)  # fmt: skip
    for axes in lowest(panels):
        axes.set_xlabel("step" if width[0] == 1 else "row of the window")
    left_out = len(sensors) - len(shown)
    add_note(figure, f"{left_out} sensors that change less are not shown" if left_out else "")
    return written(figure, path)


def _over_steps(axes: Axes, steps: FloatArray, read: FloatArray) -> None:
    """One sensor of single rows: a line over the steps, what was read at its ends."""
    x = np.arange(len(steps))
    axes.plot(x, steps[:, 0], color=NORMAL, lw=1.8, marker="o", ms=4)
    axes.plot([x[0], x[-1]], read[:, 0], color=ANOMALOUS, ls="", marker="D", ms=6, mfc="none",
              mew=1.6)  # fmt: skip


def _over_rows(axes: Axes, steps: FloatArray, read: FloatArray) -> None:
    """One sensor of windows: a line a step, dark to light; what was read at the ends dotted."""
    x = np.arange(steps.shape[1])
    for number, line in enumerate(steps):
        axes.plot(x, line, color=_shade(number, len(steps)), lw=1.6)
    for line, shade in zip(read, (_shade(0, 2), _shade(1, 2)), strict=True):
        axes.plot(x, line, color=shade, lw=1, ls=":")


def _shade(number: int, n: int) -> tuple[float, float, float, float]:
    return STEPS(0.85 * number / max(n - 1, 1))


def _step_handles(window: int) -> list[Line2D]:
    if window == 1:
        return [
            Line2D([], [], color=NORMAL, marker="o", ms=4, lw=1.8, label="expected on the way"),
            Line2D([], [], color=ANOMALOUS, ls="", marker="D", ms=6, mfc="none", mew=1.6,
                   label="read at the ends"),
        ]  # fmt: skip
    return [
        Line2D([], [], color=_shade(0, 2), lw=1.6, label="first step"),
        Line2D([], [], color=_shade(1, 2), lw=1.6, label="last step"),
        Line2D([], [], color=INK, lw=1, ls=":", label="read at the ends"),
    ]


def reconstruction_band(
    path: str | PathLike[str],
    times: ArrayLike,
    values: ArrayLike,
    expected: ArrayLike,
    sigma: ArrayLike,
    *,
    sensors: Sequence[str],
    subject: str = "",
) -> Path:
    """Draw readings over time in the band where the model expects them; 1000 pixels wide.

    Of more than six sensors those are drawn that leave their band furthest.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    times : array-like of shape (n,), datetime64
        Rising, UTC.
    values : array-like of shape (n, d)
        What was read, in the sensors' units; NaN (missing) leaves a gap.
    expected, sigma : array-like of shape (n, d)
        What the model expects, and its standard deviation.
    sensors : sequence of str
        Their names.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        There is no row, or the shapes do not fit.
    """
    read, mean, spread = (np.asarray(p, dtype=np.float64) for p in (values, expected, sigma))
    time = np.asarray(times, dtype="datetime64[us]")
    shape = (len(time), len(sensors))
    if not all(shape) or not read.shape == mean.shape == spread.shape == shape:
        raise InputError(
            f"values {read.shape}, expected {mean.shape} and sigma {spread.shape} must be of shape "
            f"{shape}: a row a time and a column a sensor, at least one of each"
        )
    away = np.abs(read - mean) / np.where(spread > 0, spread, np.inf)
    furthest = np.nanmax(away, axis=0, initial=0.0)
    shown = np.sort(np.argsort(-furthest, kind="stable")[:MOST_BANDS])
    outside = float((away > BAND).sum() / max(np.isfinite(away).sum(), 1))
    title = f"Readings and what was expected: {100 * outside:.1f} % outside {BAND:g} sigma"
    figure = blank_figure(max(380, 140 + 165 * len(shown)), title, subject)
    panels = list(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0])
    for axes, sensor in zip(panels, shown, strict=True):
        _band(axes, time, read[:, sensor], mean[:, sensor], spread[:, sensor])
        caption(axes, shortened(sensors[sensor], 40))
    add_legend(panels[0], _band_handles())
    time_axis(panels[-1], time)
    left_out = len(sensors) - len(shown)
    add_note(figure, f"{left_out} sensors that stay closer are not shown" if left_out else "")
    return written(figure, path)


def _band(
    axes: Axes,
    time: NDArray[np.datetime64],
    read: FloatArray,
    mean: FloatArray,
    spread: FloatArray,
) -> None:
    """One sensor; a long gap in time breaks its lines."""
    days: FloatArray = date2num(time)  # type: ignore[no-untyped-call]
    step = np.diff(days)
    gaps = np.flatnonzero(step > GAP_STEPS * np.median(step)) + 1 if len(step) else np.zeros(0, int)
    x, value, middle, low, high = (
        np.insert(part, gaps, np.nan)
        for part in (days, read, mean, mean - BAND * spread, mean + BAND * spread)
    )
    axes.fill_between(x, low, high, color=NORMAL, alpha=0.2, lw=0)
    axes.plot(x, middle, color=NORMAL, lw=1.2)
    axes.plot(x, value, color=INK, lw=0.8, marker="." if len(days) < 60 else "", ms=4)
    out = (value < low) | (value > high)
    axes.scatter(x[out], value[out], s=12, color=ANOMALOUS, zorder=4, lw=0)
    dress(axes)
    axes.yaxis.set_major_formatter(plain_ticks())
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))


def _band_handles() -> list[Line2D | Patch]:
    return [
        Line2D([], [], color=INK, lw=1, label="read"),
        Line2D([], [], color=NORMAL, lw=1.4, label="expected"),
        Patch(color=NORMAL, alpha=0.2, lw=0, label=f"± {BAND:g} sigma"),
        Line2D([], [], color=ANOMALOUS, ls="", marker="o", ms=4, label="outside"),
    ]
