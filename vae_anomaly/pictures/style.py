"""What all pictures share: palette, page, axes, ticks, legend, notes, and the file written.

The palette is that of Okabe & Ito. Nothing is set for others: no pyplot, no styles, no window.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.words import shortened

__all__ = [
    "ANOMALOUS",
    "BEST",
    "FAINT",
    "FAULT",
    "INK",
    "MOST_HIGH_PX",
    "NORMAL",
    "OTHER",
    "PALETTE",
    "WIDE",
    "WIDTH_PX",
    "FloatArray",
    "add_legend",
    "add_note",
    "blank_figure",
    "caption",
    "date_ticks",
    "dress",
    "lowest",
    "percent_ticks",
    "plain_ticks",
    "refuse_empty",
    "small_multiples",
    "time_axis",
    "written",
]

DPI = 120
WIDTH_PX = 1000

#: The highest that a picture becomes: what does not fit is left out, and said.
MOST_HIGH_PX = 1320

NORMAL = "#0072B2"
ANOMALOUS = "#D55E00"
FAULT = "#F0C05A"
BEST = "#009E73"
OTHER = "#B8C4CE"
INK = "#222222"
FAINT = "#6E6E6E"
GRID = "#E6E6E6"

#: Colours that tell apart what has no meaning of its own, such as assets: eight, then no more.
PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A7F00", "#222222",
)  # fmt: skip

#: A logarithmic axis is used from this ratio of the highest score to the median or threshold.
WIDE = 20

FloatArray = NDArray[np.float64]


def blank_figure(height_px: int, title: str, subject: str) -> Figure:
    """A white figure with its title; Agg draws it, whatever the process has set up."""
    layout = ConstrainedLayoutEngine(w_pad=0.11, h_pad=0.07)
    figure = Figure((WIDTH_PX / DPI, height_px / DPI), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    text = textwrap.fill(f"{shortened(subject, 40)} · {title}" if subject else title, 78)
    figure.suptitle(
        text, x=0.013, ha="left", fontsize=12, weight="bold", color=INK, parse_math=False
    )
    return figure


def dress(axes: Axes) -> None:
    """Thin grid, no box, sizes that are read at 1,000 pixels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9.5, colors=INK)
    axes.xaxis.label.set(fontsize=10, color=INK)
    axes.yaxis.label.set(fontsize=10, color=INK)


def caption(axes: Axes, text: str) -> None:
    """A faint line above the axes."""
    axes.set_title(text, loc="left", fontsize=10, color=FAINT, parse_math=False)


def add_legend(axes: Axes, handles: Sequence[Line2D | Patch] = (), *, above: float = 0.2) -> None:
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


def small_multiples(
    n: int, title: str, subject: str, *, heights_px: tuple[int, int, int], most_in_two: int,
    shared_y: bool = False,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """A page of n small axes in one to three columns, row by row.

    The heights are the least of the page, that of what stands around the axes, and each row's.
    """
    columns = 1 if n == 1 else 2 if n <= most_in_two else 3
    n_rows = -(-n // columns)
    least, around, each = heights_px
    figure = blank_figure(max(least, around + each * n_rows), title, subject)
    panels = list(figure.subplots(n_rows, columns, squeeze=False, sharey=shared_y).flat)
    for axes in panels[n:]:
        axes.set_axis_off()
    return figure, panels[:n]


def lowest(panels: Sequence[Axes]) -> list[Axes]:
    """The last panel of each column."""
    last: dict[float, Axes] = {axes.get_subplotspec().colspan.start: axes for axes in panels}  # type: ignore[union-attr]
    return list(last.values())


def add_note(figure: Figure, *texts: str) -> None:
    """A faint line below, for what a reader must know and the picture does not show."""
    text = "; ".join(text for text in texts if text)
    if text:
        figure.supxlabel(text, x=0.013, ha="left", fontsize=9, color=FAINT, parse_math=False)


def written(figure: Figure, path: str | PathLike[str]) -> Path:
    """Write the PNG without date or version, so that equal pictures are equal files."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.print_png(path, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return Path(path)


def plain_ticks() -> FuncFormatter:
    """Ticks as 0.01, 10, 1,000, 2e+06."""

    def tick(x: float, _: float) -> str:
        return (f"{x:,.0f}" if 100 <= abs(x) < 1e6 else f"{x:.4g}").replace("-", "−")

    return FuncFormatter(tick)


def percent_ticks() -> FuncFormatter:
    """Ticks of shares as 0.01 %, 10 %."""
    return FuncFormatter(lambda x, _: f"{100 * x:.6g} %")


def time_axis(axes: Axes, time: NDArray[np.datetime64]) -> None:
    """Dates no more often than they change; an hour on either side of a single moment."""
    days: FloatArray = date2num(np.array([time.min(), time.max()]))  # type: ignore[no-untyped-call]
    if days[0] == days[1]:
        axes.set_xlim(days[0] - 1 / 24, days[1] + 1 / 24)
    date_ticks(axes.xaxis)
    axes.set_xlabel("time (UTC)")


def date_ticks(axis: Axis) -> None:
    """Dates no more often than they change."""
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axis.set_major_locator(locator)
    axis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def refuse_empty(values: FloatArray, what: str) -> None:
    """Raise InputError unless there is a series to draw."""
    if values.ndim != 1 or not len(values):
        raise InputError(f"there are no {what} to draw; give an array of shape (n,) with n > 0")
