"""How far each figure has drifted, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import date2num
from numpy.typing import ArrayLike

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    ANOMALOUS,
    NORMAL,
    add_note,
    blank_figure,
    caption,
    dress,
    refuse_empty,
    time_axis,
    written,
)
from vae_anomaly.pictures.words import percent, shortened

__all__ = ["drift_grid"]

#: Lines that a picture has room for.
MOST_LINES = 32

SHADES = LinearSegmentedColormap.from_list("drift", ["#F4F7FA", NORMAL])
DRIFTED = LinearSegmentedColormap.from_list("drifted", [ANOMALOUS, ANOMALOUS])


def drift_grid(
    path: str | PathLike[str],
    starts: ArrayLike,
    names: Sequence[str],
    figures: ArrayLike,
    *,
    limit: ArrayLike,
    drifted: ArrayLike,
    figure_name: str,
    subject: str = "",
) -> Path:
    """Draw figures as shares of their limits, a line a name and a column a window.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    starts : array-like of shape (n,), datetime64
        First moment of the window of each figure, UTC.
    names : sequence of str
        Asset and column of each; of more than thirty-two those that drifted most often are shown.
    figures, limit : array-like of shape (n,)
        NaN where there is none; such a cell stays white.
    drifted : array-like of shape (n,), bool
    figure_name : str
        What the figures are.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    figure_of, of = np.asarray(figures, np.float64), np.asarray(limit, np.float64)
    begin, has = np.asarray(starts, "datetime64[us]"), np.asarray(drifted, bool)
    refuse_empty(figure_of, "figures")
    if not figure_of.shape == of.shape == begin.shape == has.shape == (len(names),):
        raise InputError(
            f"figures {figure_of.shape}, limit {of.shape}, starts {begin.shape}, drifted "
            f"{has.shape} and {len(names)} names must be of one length"
        )
    lines, line = np.unique(np.asarray(names), return_inverse=True)
    windows, window = np.unique(begin, return_inverse=True)
    ratio = np.full((len(lines), len(windows)), np.nan)
    marked = np.zeros(ratio.shape, bool)
    ratio[line, window], marked[line, window] = figure_of / of, has
    order = np.sort(np.argsort(-marked.sum(axis=1), kind="stable")[:MOST_LINES])
    title = f"Drift, {figure_name}: {percent(float(has.mean()))} of the figures"
    figure = blank_figure(170 + 30 * len(order), title, subject)
    axes = figure.subplots()
    dress(axes)
    axes.grid(visible=False)
    caption(axes, "the darker the nearer to the limit; vermilion: drifted")
    step = np.diff(windows).min() if len(windows) > 1 else np.timedelta64(1, "D")
    edges = date2num(np.append(windows, windows[-1] + step))  # type: ignore[no-untyped-call]
    rows = np.arange(len(order) + 1)
    shown, flagged = ratio[order], marked[order]
    plain = np.ma.masked_where(np.isnan(shown) | flagged, shown)
    axes.pcolormesh(edges, rows, plain, cmap=SHADES, vmin=0, vmax=1)
    axes.pcolormesh(edges, rows, np.ma.masked_where(~flagged, shown), cmap=DRIFTED)
    axes.set_yticks(rows[:-1] + 0.5, [shortened(str(lines[i]), 30) for i in order])
    axes.invert_yaxis()
    time_axis(axes, np.append(windows, windows[-1] + step))
    if len(order) < len(lines):
        add_note(figure, f"the {MOST_LINES} of {len(lines)} that drifted most often")
    return written(figure, path)
