"""What one does with a fitted model beside judging: generate, augment, interpolate, embed.

Every function takes a `Scorer`, which holds the standardiser and the module, and speaks of rows in
the plant's own units; a model of windows gives windows.

::

    rows       new rows: drawn, near given ones, on the way between two, one latent at a time
    maps       posterior means of every row, and a map of them in two dimensions
    apart      how well a classifier tells generated rows from real ones
    augmented  training in two stages, the second on augmented rows too
    windows    rows as the windows that a scorer sees, and back
"""

from __future__ import annotations

from vae_anomaly.latent.apart import stacked, told_apart
from vae_anomaly.latent.augmented import FittedAugmented, fit_augmented
from vae_anomaly.latent.maps import embed, map_of
from vae_anomaly.latent.rows import (
    Augmented,
    Band,
    augment,
    band,
    generate,
    interpolate,
    normal_rows,
    reconstruct,
    traverse,
)

__all__ = [
    "Augmented",
    "Band",
    "FittedAugmented",
    "augment",
    "band",
    "embed",
    "fit_augmented",
    "generate",
    "interpolate",
    "map_of",
    "normal_rows",
    "reconstruct",
    "stacked",
    "told_apart",
    "traverse",
]
