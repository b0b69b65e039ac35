"""Rates that a choice of thresholds leads to: of budgets, and of operating modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    ANOMALOUS,
    BEST,
    FAINT,
    INK,
    NORMAL,
    PALETTE,
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
from vae_anomaly.pictures.words import Estimate, shortened

__all__ = ["budget_curve", "mode_rates"]

#: Modes that are shown, the most frequent ones.
MOST_MODES = 20


def budget_curve(
    path: str | PathLike[str],
    alarms_per_week: ArrayLike,
    smallest_shift: ArrayLike,
    *,
    chosen: int,
    found: Sequence[int] = (),
    n_faults: int = 0,
    subject: str = "",
) -> Path:
    """Draw what fewer or more alarms would find; 1000 x 480 pixels.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    alarms_per_week : array-like of shape (k,)
        Expected of an asset that is well, rising.
    smallest_shift : array-like of shape (k,)
        The lasting rise of the score, in standard deviations, that is found soon; NaN where it is
        not known.
    chosen : int
        Which of them is in use.
    found : sequence of int, optional
        Of the known faults, those that are found at each; drawn beside where there are any.
    n_faults : int
        Known faults.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.
    """
    alarms, shift = (np.asarray(a, dtype=np.float64) for a in (alarms_per_week, smallest_shift))
    refuse_empty(alarms, "budgets")
    title = f"{alarms[chosen]:.2g} alarms per week of a machine that is well"
    figure = blank_figure(480, title, subject)
    panels = figure.subplots(1, 2 if n_faults else 1, squeeze=False).flat
    sides = [(shift, "smallest lasting rise that is found soon", "standard deviations")]
    if n_faults:
        sides.append((np.asarray(found, np.float64), f"faults found, of {n_faults}", "faults"))
    for axes, (value, name, unit) in zip(panels, sides, strict=True):
        axes.plot(alarms, value, color=NORMAL, lw=2, marker="o", ms=5)
        axes.plot(
            alarms[chosen], value[chosen], "o", ms=11, mfc="none", mec=BEST, mew=2, ls="",
            label="chosen",
        )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(alarms, [f"{a:.2g}" for a in alarms])
        axes.minorticks_off()
        axes.set_xlabel("alarms per asset and week")
        axes.set_ylabel(unit)
        caption(axes, name)
        axes.set_ylim(0, 1.1 * max(float(np.nanmax(value, initial=0.0)), 1e-9))
        axes.yaxis.set_major_formatter(plain_ticks())
        dress(axes)
        axes.legend(loc="lower left", frameon=False, fontsize=9.5)
    add_note(figure, "found soon: within 12 rows, nine times in ten; replayed on calibration rows")
    return written(figure, path)


def mode_rates(
    path: str | PathLike[str],
    modes: Sequence[str],
    n_rows: Sequence[int],
    rates: Mapping[str, Sequence[Estimate]],
    *,
    asked: float,
    subject: str = "",
) -> Path:
    """Draw the false alarm rate in each operating mode, by each way to set thresholds.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    modes : sequence of str
        Names; of more than twenty the most frequent are shown.
    n_rows : sequence of int
        Normal rows of each.
    rates : mapping of str to sequence of Estimate
        For each way, at most eight, the share of normal rows over the threshold in each mode.
    asked : float
        The share over all modes.
    subject : str
        What it is of.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        There are no modes or too many ways, or lengths do not fit.
    """
    refuse_empty(np.asarray(n_rows, np.float64), "modes")
    if not 0 < len(rates) <= len(PALETTE) or {len(modes), *map(len, rates.values())} != {
        len(n_rows)
    }:
        raise InputError(
            f"{len(rates)} ways for {len(modes)} modes, with {len(n_rows)} counts; give one to "
            f"{len(PALETTE)} ways, each with a rate a mode"
        )
    order = np.argsort(-np.asarray(n_rows), kind="stable")[:MOST_MODES]
    worst = {name: max(own[i].value for i in order) for name, own in rates.items()}
    said = ", ".join(f"{100 * value:.1f} % {name}" for name, value in worst.items())
    figure = blank_figure(200 + 30 * len(order), f"False alarms in the worst mode: {said}", subject)
    axes = figure.subplots()
    colours = (ANOMALOUS, NORMAL, *PALETTE[2:])
    for number, (name, own) in enumerate(rates.items()):
        place = np.arange(len(order)) + 0.24 * (number - (len(rates) - 1) / 2)
        colour = colours[number]
        for at, i in zip(place, order, strict=True):
            axes.plot([own[i].low, own[i].high], [at, at], color=colour, lw=1.4)
        axes.plot([own[i].value for i in order], place, "o", color=colour, ms=6, ls="", label=name)
    axes.axvline(asked, color=INK, lw=1.2, ls="--")
    caption(axes, f"dashed: {100 * asked:.3g} % of all rows")
    dress(axes)
    axes.set_yticks(
        range(len(order)), [f"{shortened(modes[i], 24)} ({n_rows[i]:,})" for i in order],
        parse_math=False,
    )  # fmt: skip
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(percent_ticks())
    axes.set_xlabel("share of normal rows over the threshold")
    axes.set_ylabel("mode (normal rows)", color=FAINT)
    add_legend(axes)
    if len(order) < len(modes):
        add_note(figure, f"the {len(order)} most frequent of {len(modes)} modes")
    return written(figure, path)
