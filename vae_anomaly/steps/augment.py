"""A model and its training rows → new normal rows near them, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vae_anomaly import latent
from vae_anomaly.config import PlantConfig
from vae_anomaly.data.as_read import as_read, sensor_table
from vae_anomaly.data.lake import Lake
from vae_anomaly.errors import InputError
from vae_anomaly.steps.chosen import CHAMPION, chosen, scorer_of
from vae_anomaly.steps.generate import clipped_note, numbered
from vae_anomaly.steps.latent_pictures import draw_generated, image_shape, labels
from vae_anomaly.steps.made import Made, check_ending, write_table
from vae_anomaly.steps.model_rows import TRAIN, part_rows
from vae_anomaly.steps.told_apart import CAVEAT, apart, real_windows

__all__ = ["augment"]


def augment(
    plant: PlantConfig,
    out: Path,
    *,
    n: int = 1000,
    temperature: float = 1.0,
    asset: str = "",
    model: str = CHAMPION,
    seed: int = 0,
    image: Sequence[int] = (),
) -> Made:
    """Make new normal rows, or windows, near those that a model was trained on.

    Each row of the table says which reading it is near; what is missing there is missing here.

    Parameters
    ----------
    plant : PlantConfig
    out : Path
        Table to write, .csv or .parquet; the picture goes beside it.
    n : int
        How many rows, or windows.
    temperature : float
        Of the posterior: 0 stays at the reconstruction, more goes further away.
    asset : str
        Whose model, where each asset has its own.
    model : str
        The champion, a version, an alias, or the folder of a package.
    seed : int
        The same seed gives the same rows.
    image : sequence of int
        Height and width, where a row is an image and the model does not say so itself.

    Returns
    -------
    Made

    Raises
    ------
    InputError
        This lake does not know the rows of the model, or the ending of `out` is not known.
    """
    check_ending(out)
    found = chosen(plant, model)
    contract, scorer = found.package.contract, scorer_of(found.package, asset)
    image_shape(scorer, image)
    lake = Lake(plant.lake, plant.contract)
    rows = part_rows(lake, found.package, TRAIN, asset)
    if rows is None:
        raise InputError(
            f"{found.name} was not trained on the readings of this lake, so there are no rows to "
            "be near to; train on them, or use `vae-anomaly generate`"
        )
    near = latent.augment(scorer, rows.matrix, n, seed=seed, temperature=temperature)
    made = as_read(near.matrix, contract)
    real = real_windows(lake, found.package, scorer, asset)
    figures = apart(scorer, made.matrix, real, seed=seed)
    each = np.repeat(near.near, scorer.window)
    table = numbered(sensor_table(made.matrix, contract), scorer.window, "sample")
    table = table.add_column(1, "asset", rows.table["asset"].take(pa.array(each)))
    table = table.add_column(2, "near", rows.table["time"].take(pa.array(each)))
    written = {"rows": write_table(table, out)}
    written["picture"] = draw_generated(
        out.with_suffix(".png"), scorer, made.matrix,
        real.held_out.values[:, : scorer.standardizer.n_features], labels(contract),
        subject=plant.name, image=image,
    )  # fmt: skip
    what = "rows" if scorer.window == 1 else f"windows of {scorer.window} rows"
    summary = (
        f"{n:,} normal {what} near the {len(rows.matrix.run):,} that {found.name} was trained on, "
        f"temperature {temperature:g}, seed {seed}."
    )
    notes = (*clipped_note(made.n_clipped), *([CAVEAT] * bool(figures)))
    return Made("Augment", summary, written, figures, notes)
