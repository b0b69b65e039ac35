"""Generated rows beside real ones, sensor by sensor."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    ANOMALOUS,
    OTHER,
    FloatArray,
    add_note,
    caption,
    dress,
    plain_ticks,
    small_multiples,
    written,
)
from vae_anomaly.pictures.words import counted, shortened

__all__ = ["compared_rows"]

#: Sensors that the page has room for, and bars of each histogram.
MOST_PANELS, BARS = 12, 40

#: Shares of the real values that the axis leaves out at each end, so that one outlier hides none.
TAIL = 0.001


def compared_rows(
    path: str | PathLike[str],
    real: ArrayLike,
    generated: ArrayLike,
    *,
    sensors: Sequence[str],
    subject: str = "",
    note: str = "",
) -> Path:
    """Draw how often each sensor reads what, in real and in generated rows; 1000 pixels wide.

    Of more than twelve sensors those are drawn whose two distributions differ most.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    real, generated : array-like of shape (n, d), (m, d)
        In the sensors' units; NaN = missing. Without a real row only the generated are drawn.
    sensors : sequence of str
        Their names.
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
        There is no generated row, or the widths differ.
    """
    ours, theirs = (np.asarray(part, dtype=np.float64) for part in (generated, real))
    width = (len(sensors),)
    if ours.ndim != 2 or not ours.size or not ours.shape[1:] == theirs.shape[1:] == width:
        raise InputError(
            f"real {theirs.shape} and generated {ours.shape} rows of {len(sensors)} sensors; give "
            f"(n, {len(sensors)}) and (m, {len(sensors)}) with m > 0"
        )
    counts = [_Counts(theirs[:, i], ours[:, i]) for i in range(len(sensors))]
    order = np.argsort([-each.difference for each in counts], kind="stable")
    shown = np.sort(order[:MOST_PANELS])
    said = f" beside {counted(len(theirs), 'real')}" if len(theirs) else ""
    title = f"{counted(len(ours), 'generated')}{said}"
    figure, panels = small_multiples(
        len(shown), title, subject, heights_px=(360, 130, 195), most_in_two=4
    )
    for axes, sensor in zip(panels, shown, strict=True):
        counts[sensor].draw(axes)
        caption(axes, shortened(sensors[sensor], 30))
    handles = [
        Patch(color=OTHER, lw=0, label="real"),
        Line2D([], [], color=ANOMALOUS, lw=1.8, label="generated"),
    ]
    figure.legend(
        handles=handles if len(theirs) else handles[1:],
        loc="outside lower right", ncols=2, frameon=False, fontsize=9.5,
    )  # fmt: skip
    left_out = len(sensors) - len(shown)
    more = f"{left_out} sensors that differ less are not shown" if left_out else ""
    add_note(figure, note, more)
    return written(figure, path)


class _Counts:
    """Shares of the values of one sensor in bars of one width."""

    def __init__(self, real: FloatArray, generated: FloatArray) -> None:
        both = [part[np.isfinite(part)] for part in (real, generated)]
        known = both[0] if len(both[0]) else both[1]
        low, high = np.quantile(known, [TAIL, 1 - TAIL]) if len(known) else (0.0, 1.0)
        edge = 0.1 * (high - low) or 0.5
        self.bins = np.linspace(low - edge, high + edge, BARS + 1)
        self.shares = [
            np.histogram(np.clip(part, self.bins[0], self.bins[-1]), self.bins)[0]
            / max(len(part), 1)
            for part in both
        ]

    @property
    def difference(self) -> float:
        """Share of rows that would have to move to make the two equal."""
        return float(np.abs(self.shares[0] - self.shares[1]).sum() / 2)

    def draw(self, axes: Axes) -> None:
        """The real as filled steps, the generated as a line."""
        if self.shares[0].any():
            axes.stairs(self.shares[0], self.bins, fill=True, color=OTHER)
        axes.stairs(self.shares[1], self.bins, color=ANOMALOUS, lw=1.8, baseline=None)
        dress(axes)
        axes.set_yticks([])
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(plain_ticks())
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
