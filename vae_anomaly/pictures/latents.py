"""Pictures of the latent space: a map of the rows, and what each latent does to the sensors."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    ANOMALOUS,
    FAINT,
    INK,
    NORMAL,
    OTHER,
    PALETTE,
    FloatArray,
    add_legend,
    add_note,
    blank_figure,
    caption,
    date_ticks,
    dress,
    lowest,
    plain_ticks,
    small_multiples,
    written,
)
from vae_anomaly.pictures.words import counted, shortened

__all__ = ["latent_map", "traversal_lines"]

#: Latents and lines to a panel that a traversal has room for.
MOST_LATENTS, MOST_LINES = 12, 4

#: A latent that moves no sensor by more than this, in its standard deviations, does nothing.
STILL = 0.05

#: Assets that a map has colours for, beside one for all others.
MOST_ASSETS = 7


def latent_map(
    path: str | PathLike[str],
    points: ArrayLike,
    color: ArrayLike,
    *,
    color_by: str,
    kind: str,
    subject: str = "",
    note: str = "",
) -> Path:
    """Draw rows as points on a map of the latent space; 1000 x 720 pixels.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    points : array-like of shape (n, 2)
        Where each row lies.
    color : array-like of shape (n,)
        Times (datetime64) as a scale; labels (int: 0 normal, positive an anomaly, -1 unknown);
        texts, such as assets, of which the seven most frequent have a colour of their own.
    color_by : str
        What the colours are: label, asset or time.
    kind : str
        How the map was made, such as PCA.
    subject : str
        What it is of.
    note : str
        A faint line below.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        There is no point, or the lengths differ.
    """
    at, shade = np.asarray(points, dtype=np.float64), np.asarray(color)
    if at.ndim != 2 or at.shape[1] != 2 or not len(at) or shade.shape != at.shape[:1]:
        raise InputError(
            f"points {at.shape} and colours {shade.shape}; give (n, 2) and (n,) with n > 0"
        )
    title = f"Latent map of {counted(len(at))} by {kind}, coloured by {color_by}"
    figure = blank_figure(720, title, subject)
    axes = figure.subplots()
    size = 26 if len(at) < 500 else 12 if len(at) < 5000 else 5
    if np.issubdtype(shade.dtype, np.datetime64):
        _by_time(figure, axes, at, shade, size)
    elif np.issubdtype(shade.dtype, np.number):
        _by_label(axes, at, shade, size)
    else:
        _by_name(axes, at, shade.astype(str), size)
    dress(axes)
    axes.set_xlabel(f"{kind} 1")
    axes.set_ylabel(f"{kind} 2")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain_ticks())
    add_note(figure, note)
    return written(figure, path)


def _by_time(
    figure: Figure, axes: Axes, at: FloatArray, time: NDArray[np.datetime64], size: int
) -> None:
    moment: FloatArray = date2num(time)  # type: ignore[no-untyped-call]
    dots = axes.scatter(at[:, 0], at[:, 1], size, moment, cmap="viridis", lw=0, alpha=0.8)
    bar = figure.colorbar(dots, ax=axes, pad=0.02, aspect=40)
    bar.outline.set_visible(False)
    if moment.min() < moment.max():
        date_ticks(bar.ax.yaxis)
    bar.ax.tick_params(labelsize=9.5, colors=INK)
    bar.set_label("time (UTC)", fontsize=10, color=INK)


def _by_label(axes: Axes, at: FloatArray, label: NDArray[np.int64], size: int) -> None:
    groups = (
        (label == -1, OTHER, "not labelled"),
        (label == 0, NORMAL, "normal"),
        (label > 0, ANOMALOUS, "anomalous"),
    )
    for own, shade, _ in groups:  # anomalies last, on top of the others
        if own.any():
            axes.scatter(at[own, 0], at[own, 1], size, shade, lw=0, alpha=0.7)
    handles = [
        _dot(shade, f"{name} ({int(own.sum()):,})") for own, shade, name in groups if own.any()
    ]
    add_legend(axes, handles)


def _by_name(axes: Axes, at: FloatArray, name: NDArray[np.str_], size: int) -> None:
    names, counts = np.unique(name, return_counts=True)
    shown = sorted(names[np.argsort(-counts, kind="stable")][:MOST_ASSETS])
    rest = ~np.isin(name, shown)
    handles = []
    if rest.any():
        axes.scatter(at[rest, 0], at[rest, 1], size, OTHER, lw=0, alpha=0.6)
    for text, shade in zip(shown, PALETTE, strict=False):
        own = name == text
        axes.scatter(at[own, 0], at[own, 1], size, shade, lw=0, alpha=0.7)
        handles.append(_dot(shade, shortened(str(text), 14)))
    if rest.any():
        handles.append(_dot(OTHER, f"{len(names) - len(shown)} others"))
    add_legend(axes, handles)


def _dot(shade: str, label: str) -> Line2D:
    return Line2D([], [], color=shade, ls="", marker="o", ms=6, label=label)


def traversal_lines(
    path: str | PathLike[str],
    values: ArrayLike,
    change: ArrayLike,
    *,
    sensors: Sequence[str],
    latents: Sequence[str] = (),
    subject: str = "",
    note: str = "",
) -> Path:
    """Draw what moving one latent at a time does to the sensors; a panel a latent.

    Latents that move no sensor are only counted; of more than twelve those that move the sensors
    most are drawn, and in each panel the four sensors that move most. 1000 pixels wide.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    values : array-like of shape (k, m)
        Values that each latent takes.
    change : array-like of shape (k, m, d)
        What each of k latents adds to each sensor there, in standard deviations of the sensor.
    sensors : sequence of str
        Their d names.
    latents : sequence of str
        Their k names; empty for z1, z2, …
    subject : str
        What it is of.
    note : str
        A faint line below.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        The shapes do not fit, or there is nothing to draw.
    """
    x, moved = np.asarray(values, dtype=np.float64), np.asarray(change, dtype=np.float64)
    if not moved.size or moved.shape != (*x.shape, len(sensors)):
        raise InputError(
            f"change {moved.shape} of {len(sensors)} sensors at values {x.shape}; give (k, m) "
            "values and (k, m, sensors) changes, with at least one of each"
        )
    names = list(latents) or [f"z{i + 1}" for i in range(len(moved))]
    reach = np.ptp(moved, axis=1)  # (k, d)
    n_moving = max(1, int((reach.max(axis=1) > STILL).sum()))
    order = np.argsort(-reach.max(axis=1), kind="stable")[: min(n_moving, MOST_LATENTS)]
    title = "What each latent does to the sensors, the others held"
    figure, panels = small_multiples(
        len(order), title, subject, heights_px=(380, 110, 265), most_in_two=4, shared_y=True
    )
    for axes, latent in zip(panels, order, strict=True):
        _traversal(axes, x[latent], moved[latent], reach[latent], sensors)
        still = "" if reach[latent].max() > STILL else ": moves no sensor"
        caption(axes, f"{shortened(names[latent], 24)}{still}")
    for axes in lowest(panels):
        axes.set_xlabel("value of the latent")
    label = "change of the sensor,\nin its standard deviations"
    figure.supylabel(label, fontsize=10, color=INK)
    left_out = (
        (n_moving - len(order), "of less effect not shown"),
        (len(moved) - n_moving, "without effect not shown"),
    )
    more = [f"{n} latent{'s' * (n > 1)} {what}" for n, what in left_out if n]
    add_note(figure, note, *more)
    return written(figure, path)


def _traversal(
    axes: Axes, x: FloatArray, moved: FloatArray, reach: FloatArray, sensors: Sequence[str]
) -> None:
    """One latent: the sensors that it moves most, the others in grey behind."""
    order = np.argsort(-reach, kind="stable")
    for sensor in order[MOST_LINES:]:
        axes.plot(x, moved[:, sensor], color=OTHER, lw=0.8)
    for sensor, shade in zip(order[:MOST_LINES], PALETTE, strict=False):
        axes.plot(x, moved[:, sensor], color=shade, lw=1.8, label=shortened(sensors[sensor], 18))
    axes.axhline(0.0, color=FAINT, lw=0.8)
    dress(axes)
    if reach.max() > STILL:
        axes.legend(
            loc="best", fontsize=8.5, handlelength=1.2, labelspacing=0.25, facecolor="white",
            edgecolor="none", framealpha=0.85,
        )  # fmt: skip
