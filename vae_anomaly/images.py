"""Images as the rows of a table, and back: models and detectors take tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.errors import InputError

__all__ = ["as_images", "as_rows"]


def as_rows(images: ArrayLike) -> NDArray[np.float64]:
    """Images as rows, one column a pixel and channel.

    Parameters
    ----------
    images : array-like of shape (n, channels, height, width) or (n, height, width)

    Returns
    -------
    ndarray of shape (n, channels * height * width)
        Float64; what backbone "image" takes with ``image=(channels, height, width)``.

    Raises
    ------
    InputError
        They are not images.

    Examples
    --------
    A detector of odd images of 8 x 8 pixels from 0 to 16::

        variant = Bernoulli(backbone="image", image=(1, 8, 8), scaling=(0, 16))
        detector = VAEDetector(variant).fit(as_rows(images))

    >>> as_rows(np.zeros((5, 3, 28, 28))).shape
    (5, 2352)
    """
    given = np.asarray(images, dtype=np.float64)
    if given.ndim not in (3, 4):
        raise InputError(
            f"images have shape {given.shape}; give (n, channels, height, width) or "
            "(n, height, width)"
        )
    return given.reshape(len(given), int(np.prod(given.shape[1:])))


def as_images(rows: ArrayLike, image: Sequence[int]) -> NDArray[np.float64]:
    """Rows as the images that they are.

    Parameters
    ----------
    rows : array-like of shape (n, channels * height * width)
    image : sequence of int
        Channels, height and width.

    Returns
    -------
    ndarray of shape (n, channels, height, width)
        Float64.

    Raises
    ------
    InputError
        The sizes do not multiply to the width of the rows.

    Examples
    --------
    >>> as_images(np.zeros((5, 2352)), (3, 28, 28)).shape
    (5, 3, 28, 28)
    """
    given = np.asarray(rows, dtype=np.float64)
    if given.ndim != 2 or len(image) != 3 or given.shape[1] != int(np.prod(image)):
        raise InputError(
            f"rows have shape {given.shape} and image is {tuple(image)}; give (channels, height, "
            "width) whose product is the number of columns"
        )
    return given.reshape(len(given), *image)
