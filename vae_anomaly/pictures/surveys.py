"""Surveys of the data: rows per hour of each asset, and what became of each sensor's cells."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.dates import date2num
from numpy.typing import ArrayLike

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    ANOMALOUS,
    BEST,
    FAINT,
    FAULT,
    NORMAL,
    OTHER,
    add_legend,
    add_note,
    blank_figure,
    caption,
    dress,
    percent_ticks,
    time_axis,
    written,
)
from vae_anomaly.pictures.words import percent, shortened

__all__ = ["cell_states", "rows_per_hour"]

#: Assets or sensors that a picture has room for.
MOST_LINES = 24

#: From no row at all, which is amber, to most.
SHADES = ListedColormap(
    [FAULT, *(f"#{226 - i:02x}{238 - i // 2:02x}{247 - i // 3:02x}" for i in range(0, 227, 2))]
)

STATE_COLOURS = (NORMAL, OTHER, FAULT, BEST, ANOMALOUS)


def rows_per_hour(
    path: str | PathLike[str],
    assets: Sequence[str],
    rate: ArrayLike,
    *,
    start: np.datetime64,
    bin_hours: int,
    subject: str = "",
) -> Path:
    """Draw how many rows each asset has by the hour; 1000 pixels wide.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    assets : sequence of str
        Of more than twenty-four, those with the most time without a row are shown.
    rate : array-like of shape (n_assets, n_bins)
        Rows per hour in each bin.
    start : datetime64
        Begin of the first bin, UTC.
    bin_hours : int
        Hours that a bin spans.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    shown = np.asarray(rate, dtype=np.float64)
    if shown.ndim != 2 or shown.shape[0] != len(assets) or not shown.size:
        raise InputError(f"rate has shape {shown.shape}; give ({len(assets)}, n_bins), n_bins > 0")
    lasting = np.array([_lasting(row) for row in shown])
    idle = lasting & (shown == 0)
    order = np.sort(np.argsort(-idle.sum(axis=1), kind="stable")[:MOST_LINES])
    share = percent(float(idle.sum() / max(1, lasting.sum())))
    figure = blank_figure(
        170 + 34 * len(order), f"Rows per hour: no row in {share} of the hours", subject
    )
    axes = figure.subplots()
    dress(axes)
    axes.grid(visible=False)
    highest = float(shown.max()) or 1.0
    caption(axes, f"the darker the more, up to {highest:,.4g} an hour; amber: none")
    steps = np.arange(shown.shape[1] + 1) * np.timedelta64(bin_hours, "h")
    ends = start + steps.astype("timedelta64[s]")
    edges = date2num(ends)  # type: ignore[no-untyped-call]
    masked = np.ma.masked_where(~lasting[order], shown[order])
    axes.pcolormesh(edges, np.arange(len(order) + 1), masked, cmap=SHADES, vmin=0, vmax=highest)
    axes.set_yticks(
        np.arange(len(order)) + 0.5, [shortened(assets[i], 30) for i in order], parse_math=False
    )
    axes.invert_yaxis()
    time_axis(axes, ends)
    if len(order) < len(assets):
        add_note(figure, f"the {MOST_LINES} of {len(assets)} assets with the most time without")
    return written(figure, path)


def _lasting(row: np.ndarray) -> np.ndarray:
    """Bins from the first with a row to the last."""
    inside = np.zeros(len(row), dtype=bool)
    busy = np.flatnonzero(row)
    if len(busy):
        inside[busy[0] : busy[-1] + 1] = True
    return inside


def cell_states(
    path: str | PathLike[str],
    sensors: Sequence[str],
    counts: ArrayLike,
    states: Sequence[str],
    *,
    subject: str = "",
) -> Path:
    """Draw what became of each sensor's cells, the worst sensor first; 1000 pixels wide.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    sensors : sequence of str
        Of more than twenty-four, those with the most cells without a value are shown.
    counts : array-like of shape (n_sensors, n_states)
        Cells by state; the first state is a value.
    states : sequence of str
        Names of the states, at most five.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    cells = np.asarray(counts, dtype=np.float64)
    if cells.shape != (len(sensors), len(states)) or not cells.sum():
        raise InputError(
            f"counts have shape {cells.shape}; give ({len(sensors)}, {len(states)}), and one cell "
            "at least"
        )
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    worst = np.argsort(share[:, 0], kind="stable")
    order = worst[: max(1, min(MOST_LINES, int((share[:, 0] < 1).sum())))]
    without = percent(1 - float(cells[:, 0].sum() / cells.sum()))
    title = f"Cells without a value: {without} of {cells.sum():,.0f}"
    figure = blank_figure(180 + 34 * len(order), title, subject)
    axes = figure.subplots()
    dress(axes)
    axes.grid(visible=False, axis="y")
    left = np.zeros(len(order))
    for state, colour in list(zip(range(len(states)), STATE_COLOURS, strict=False))[1:]:
        axes.barh(
            range(len(order)), share[order, state], left=left, height=0.66, color=colour,
            label=states[state],
        )  # fmt: skip
        left += share[order, state]
    for place, whole in enumerate(left):
        axes.text(
            whole, place, f"  {percent(float(whole))}", va="center", fontsize=9.5, color=FAINT
        )
    axes.set_yticks(range(len(order)), [shortened(sensors[i], 30) for i in order], parse_math=False)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, max(float(left.max()) * 1.12, 0.01))
    axes.xaxis.set_major_formatter(percent_ticks())
    axes.set_xlabel("share of the cells that were read")
    add_legend(axes)
    if len(order) < len(sensors):
        n_more = int((share[:, 0] < 1).sum()) - len(order)
        said = f"{n_more} more lack fewer" if n_more > 0 else "the others have all their values"
        add_note(figure, f"{len(order)} of {len(sensors)} sensors; {said}")
    return written(figure, path)
