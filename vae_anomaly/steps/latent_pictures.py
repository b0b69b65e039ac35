"""Pictures of what a model makes: of images where its rows are images, else of sensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_anomaly import pictures
from vae_anomaly.config import Contract
from vae_anomaly.data.windows import Matrix
from vae_anomaly.errors import InputError
from vae_anomaly.latent import band, reconstruct
from vae_anomaly.scoring.scorer import Scorer

__all__ = [
    "draw_generated",
    "draw_reconstructions",
    "draw_traversal",
    "draw_way",
    "image_shape",
    "labels",
]

#: Images of a grid.
GRID = 64

#: Rows of images that a traversal shows: the latents that change the picture most.
MOST_LATENTS = 12

#: Rows that are drawn in their band: half of them before the one that is looked at.
BAND_ROWS = 400


def labels(contract: Contract) -> list[str]:
    """Names of the sensors with their units, for the heads of panels."""
    return [f"{s.name} ({s.unit})" if s.unit else s.name for s in contract.sensors]


def image_shape(scorer: Scorer, given: Sequence[int] = ()) -> tuple[int, ...]:
    """Channels, height and width of a scorer's rows; empty where they are no images.

    Parameters
    ----------
    scorer : Scorer
    given : sequence of int, optional
        Height and width, perhaps after the channels; by default what the variant says.

    Raises
    ------
    InputError
        The rows are no such images.
    """
    own = tuple(given) or tuple(getattr(scorer.variant, "image", ()))
    shape = (1, *own) if len(own) == 2 else own
    d = scorer.standardizer.n_features
    fits = len(shape) == 3 and shape[0] in (1, 3) and np.prod(shape) == d and scorer.window == 1
    if given and not fits:
        raise InputError(
            f"--image {'x'.join(map(str, given))}: a row has {d} sensors and a window "
            f"{scorer.window}; give HEIGHTxWIDTH, or 3xHEIGHTxWIDTH, of single rows"
        )
    return shape if fits else ()


def _images(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(*, d + c) rows as images (*, height, width) or (*, height, width, 3)."""
    d = int(np.prod(shape))
    tiles = values[..., :d].reshape(*values.shape[:-1], *shape)
    images: np.ndarray = tiles[..., 0, :, :] if shape[0] == 1 else np.moveaxis(tiles, -3, -1)
    return images


def _range(scorer: Scorer, values: np.ndarray) -> tuple[float, float]:
    """Black and white: what the scaling says, else what occurs."""
    scaling = scorer.variant.scaling
    if not isinstance(scaling, str):
        return scaling
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return low, high if high > low else low + 1


def draw_generated(
    path: Path,
    scorer: Scorer,
    made: Matrix,
    real: np.ndarray,
    sensors: Sequence[str],
    *,
    subject: str,
    note: str = "",
    image: Sequence[int] = (),
) -> Path:
    """A grid of images, or each sensor's distribution beside that of real rows (n, d)."""
    d = scorer.standardizer.n_features
    if shape := image_shape(scorer, image):
        images = _images(made.values[:GRID], shape)
        of = f" of {len(made.values):,}" if len(made.values) > len(images) else ""
        title = f"{len(images)}{of} generated images"
        return pictures.image_grid(
            path, images, title=title, value_range=_range(scorer, images), subject=subject,
            note=note,
        )  # fmt: skip
    return pictures.compared_rows(
        path, real, made.values[:, :d], sensors=sensors, subject=subject, note=note
    )


def draw_way(
    path: Path,
    scorer: Scorer,
    way: Matrix,
    inputs: np.ndarray,
    sensors: Sequence[str],
    *,
    ends: tuple[str, str],
    kind: str,
    subject: str,
    image: Sequence[int] = (),
) -> Path:
    """A strip of images, or the sensors over the steps; inputs (2, w, d) were read at the ends."""
    d, w = scorer.standardizer.n_features, scorer.window
    steps = way.values.reshape(-1, w, way.values.shape[1])
    if shape := image_shape(scorer, image):
        strip = np.concatenate([inputs[:1, 0], steps[:, 0, :d], inputs[1:, 0]])
        images = _images(strip, shape)
        names = ["input", *(f"{s:.2f}" for s in np.linspace(0, 1, len(steps))), "input"]
        return pictures.image_rows(
            path, images[None], title=f"From {ends[0]} to {ends[1]}, {kind}", column_names=names,
            value_range=_range(scorer, images), subject=subject,
        )  # fmt: skip
    return pictures.interpolation_lines(
        path, steps[:, :, :d], inputs, sensors=sensors, ends=ends, kind=kind, subject=subject
    )


def draw_traversal(
    path: Path,
    scorer: Scorer,
    moved: Matrix,
    values: np.ndarray,
    spread: np.ndarray,
    sensors: Sequence[str],
    *,
    subject: str,
    note: str = "",
    image: Sequence[int] = (),
) -> Path:
    """Rows of images, or small multiples of sensors; values (k, m), spread (d,) of real rows."""
    k, m = values.shape
    d, w = scorer.standardizer.n_features, scorer.window
    rows = moved.values[:, :d].reshape(k, m, w, d)
    if shape := image_shape(scorer, image):
        reach = np.ptp(rows[:, :, 0], axis=1).mean(axis=-1)
        first = np.argsort(-reach, kind="stable")[:MOST_LATENTS]
        images = _images(rows[first, :, 0], shape)
        more = f"the {len(first)} of {k} latents that change the image most, from low to high"
        return pictures.image_rows(
            path, images, title="One latent at a time, the others held",
            row_names=[f"z{i + 1}" for i in first], value_range=_range(scorer, images),
            subject=subject, note="; ".join(text for text in (more, note) if text),
        )  # fmt: skip
    known = np.where(spread > 0, spread, np.inf)
    last = rows[:, :, -1]
    change = np.nan_to_num((last - last[:, m // 2, None]) / known)
    where = "last row of the window" if w > 1 else ""
    return pictures.traversal_lines(
        path, values, change, sensors=sensors, subject=subject,
        note="; ".join(text for text in (note, where) if text),
    )  # fmt: skip


def draw_reconstructions(
    path: Path,
    scorer: Scorer,
    rows: Matrix,
    time: np.ndarray,
    sensors: Sequence[str],
    *,
    around: int,
    subject: str,
    image: Sequence[int] = (),
) -> Path:
    """Ten images with what the model makes of them, or the readings around a row in their band."""
    if shape := image_shape(scorer, image):
        index = np.linspace(0, len(rows.run) - 1, min(10, len(rows.run))).astype(np.int64)
        given = _images(rows.values[index], shape)
        made = _images(reconstruct(scorer, rows, index)[:, 0], shape)
        return pictures.image_reconstructions(
            path, given, made, value_range=_range(scorer, given), subject=subject
        )
    starts = np.flatnonzero(rows.run == 0)
    first = starts[np.searchsorted(starts, around, side="right") - 1]
    following = starts[starts > around]
    end = following[0] if len(following) else len(rows.run)
    index = np.arange(max(first, around - BAND_ROWS // 2), min(end, around + BAND_ROWS // 2))
    expected, sigma = band(scorer, rows, index)
    read = rows.values[index, : scorer.standardizer.n_features]
    return pictures.reconstruction_band(
        path, time[index], read, expected, sigma, sensors=sensors, subject=subject
    )
