"""Pictures of images: a grid, and rows of them that belong together, pixel by pixel.

Intensities are shown in grey, black for the lowest, or as the colours that they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vae_anomaly.errors import InputError
from vae_anomaly.pictures.style import (
    ANOMALOUS,
    FAINT,
    INK,
    MOST_HIGH_PX,
    NORMAL,
    WIDTH_PX,
    FloatArray,
    add_note,
    blank_figure,
    written,
)
from vae_anomaly.pictures.words import shortened

__all__ = ["image_grid", "image_reconstructions", "image_rows"]

#: Pixels that the title takes above the tiles, and the margins beside them.
HEAD_PX, SIDE_PX = 60, 40

#: Room for the name of a row, and for the names of columns.
NAME_PX, COLUMN_PX = 120, 30

#: The widest and the narrowest that a tile is drawn.
LARGEST_PX, SMALLEST_PX = 150, 24

#: Blue below what is expected, white where it is met, vermilion above.
OFF = LinearSegmentedColormap.from_list("off", (NORMAL, "#FFFFFF", ANOMALOUS))


def image_grid(
    path: str | PathLike[str],
    images: ArrayLike,
    *,
    title: str,
    columns: int = 8,
    value_range: tuple[float, float] = (0.0, 1.0),
    subject: str = "",
    note: str = "",
) -> Path:
    """Draw images in a grid, row by row; 1000 pixels wide.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    images : array-like of shape (n, height, width) or (n, height, width, 3)
        Intensities, or colours.
    title : str
    columns : int
        Images in a row of the grid.
    value_range : pair of float
        The intensities that are black and white.
    subject : str
        What they are of.
    note : str
        A faint line below.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        There are none, or they are not images.
    """
    tiles = _as_images(images, 1)
    columns = max(1, min(columns, len(tiles)))
    shape = (-(-len(tiles) // columns), columns)
    figure, panels = _panels(shape, tiles.shape[1:3], title, subject, named=False, headed=False)
    shown = dict(enumerate(tiles))
    for number, axes in enumerate(panels.flat):
        if number in shown:
            _draw(axes, shown[number], value_range)
        else:
            axes.set_axis_off()
    left_out = len(tiles) - panels.size
    more = f"{left_out:,} more are not shown" if left_out > 0 else ""
    add_note(figure, note, more)
    return written(figure, path)


def image_rows(
    path: str | PathLike[str],
    images: ArrayLike,
    *,
    title: str,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    value_range: tuple[float, float] = (0.0, 1.0),
    subject: str = "",
    note: str = "",
) -> Path:
    """Draw rows of images: a strip of steps, or one latent a row; 1000 pixels wide.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    images : array-like of shape (r, m, height, width) or (r, m, height, width, 3)
        r rows of m images; of more rows than the page holds the first are drawn.
    title : str
    row_names, column_names : sequence of str
        Beside the rows and above the columns; empty for none.
    value_range : pair of float
        The intensities that are black and white.
    subject : str
        What they are of.
    note : str
        A faint line below.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        There are none, or they are not images.
    """
    tiles = _as_images(images, 2)
    figure, panels = _panels(
        tiles.shape[:2], tiles.shape[2:4], title, subject,
        named=bool(row_names), headed=bool(column_names),
    )  # fmt: skip
    for i, row in enumerate(panels):
        for j, axes in enumerate(row):
            _draw(axes, tiles[i, j], value_range)
    _name(panels, row_names, column_names)
    left_out = len(tiles) - len(panels)
    more = f"{left_out:,} more rows are not shown" if left_out > 0 else ""
    add_note(figure, note, more)
    return written(figure, path)


def image_reconstructions(
    path: str | PathLike[str],
    inputs: ArrayLike,
    expected: ArrayLike,
    *,
    column_names: Sequence[str] = (),
    value_range: tuple[float, float] = (0.0, 1.0),
    subject: str = "",
) -> Path:
    """Draw images, what the model makes of them and the difference; 1000 pixels wide.

    In the difference blue is darker than expected, vermilion lighter.

    Parameters
    ----------
    path : path-like
        PNG file to write; its folder must exist.
    inputs, expected : array-like of shape (n, height, width)
        Of more than ten the first are drawn.
    column_names : sequence of str
        Above the images, such as their classes.
    value_range : pair of float
        The intensities that are black and white.
    subject : str
        What they are of.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        There are none, or the shapes differ.
    """
    given, made = _as_images(inputs, 1)[:10], _as_images(expected, 1)[:10]
    if given.shape != made.shape:
        raise InputError(f"inputs {given.shape} and expected {made.shape} must be of one shape")
    figure, panels = _panels(
        (3, len(given)), given.shape[1:3], "Input, reconstruction and difference", subject,
        named=True, headed=bool(column_names),
    )  # fmt: skip
    span = value_range[1] - value_range[0]
    for number, (above, middle, below) in enumerate(panels.T):
        _draw(above, given[number], value_range)
        _draw(middle, made[number], value_range)
        difference = given[number] - made[number]
        if difference.ndim == 3:  # colours: the mean over them
            difference = difference.mean(axis=-1)
        below.imshow(difference, cmap=OFF, vmin=-span, vmax=span, interpolation="nearest")
        _frame(below)
    _name(panels, ("input", "reconstruction", "difference"), column_names)
    add_note(figure, "difference: vermilion is lighter than expected, blue darker")
    return written(figure, path)


def _as_images(images: ArrayLike, leading: int) -> FloatArray:
    """Float images with so many leading axes, at least one image each."""
    tiles = np.asarray(images, dtype=np.float64)
    gray, coloured = tiles.ndim == leading + 2, tiles.ndim == leading + 3
    if not (gray or (coloured and tiles.shape[-1] in (1, 3))) or not tiles.size:
        axes = "n" if leading == 1 else "r, m"
        raise InputError(
            f"images of shape {tiles.shape}; give ({axes}, height, width), or "
            f"({axes}, height, width, 3) for colours, and at least one"
        )
    return tiles[..., 0] if coloured and tiles.shape[-1] == 1 else tiles


def _panels(
    shape: tuple[int, ...],
    pixels: tuple[int, ...],
    title: str,
    subject: str,
    *,
    named: bool,
    headed: bool,
) -> tuple[Figure, np.ndarray]:
    """A page with one panel a tile, square pixels, as large as the page takes them."""
    n_rows, n_columns = shape
    left = NAME_PX if named else 0
    wide = min(LARGEST_PX, (WIDTH_PX - SIDE_PX - left) / n_columns - 4)
    tall = max(SMALLEST_PX, wide * pixels[0] / pixels[1])
    rows = max(1, min(n_rows, int((MOST_HIGH_PX - HEAD_PX - 60) / (tall + 4))))
    top = HEAD_PX + (COLUMN_PX if headed else 0)
    height = round(max(170, top + rows * (tall + 4) + 50))
    figure = blank_figure(height, title, subject)
    figure.set_layout_engine("none")
    box = {
        "left": (SIDE_PX / 2 + left) / WIDTH_PX,
        "right": (SIDE_PX / 2 + left + n_columns * (wide + 4)) / WIDTH_PX,
        "top": 1 - top / height,
        "bottom": 1 - (top + rows * (tall + 4)) / height,
    }
    gap = {"wspace": 4 / wide, "hspace": 4 / tall}
    panels = figure.subplots(rows, n_columns, squeeze=False, gridspec_kw=box | gap)
    return figure, panels


def _draw(axes: Axes, image: FloatArray, value_range: tuple[float, float]) -> None:
    low, high = value_range
    if image.ndim == 3:
        image = np.clip((image - low) / (high - low), 0.0, 1.0)
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    _frame(axes)


def _frame(axes: Axes) -> None:
    """No ticks, and a thin line around."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=FAINT, lw=0.5)


def _name(panels: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> None:
    for axes, name in zip(panels[:, 0], rows, strict=False):
        axes.set_ylabel(
            shortened(name, 16), rotation=0, ha="right", va="center", fontsize=9.5, color=INK,
            labelpad=8, parse_math=False,
        )  # fmt: skip
    for axes, name in zip(panels[0], columns, strict=False):
        axes.set_title(shortened(name, 12), fontsize=9.5, color=INK, pad=5, parse_math=False)
