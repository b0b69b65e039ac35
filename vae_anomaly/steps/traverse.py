"""A model → what each of its latents does to the sensors, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vae_anomaly import latent
from vae_anomaly.config import PlantConfig
from vae_anomaly.data.as_read import sensor_table
from vae_anomaly.data.lake import Lake
from vae_anomaly.data.times import moment_of
from vae_anomaly.data.windows import Matrix
from vae_anomaly.errors import InputError
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.steps.chosen import CHAMPION, chosen, scorer_of
from vae_anomaly.steps.latent_pictures import draw_traversal, image_shape
from vae_anomaly.steps.made import Made, check_ending, write_table
from vae_anomaly.steps.model_rows import (
    HELD_OUT,
    asset_rows,
    part_rows,
    row_at,
    time_text,
)

__all__ = ["Traversal", "traversal", "traverse"]

#: Rows that say between which values a latent moves, and the shares of them at its ends.
MOST_ROWS, ENDS = 2000, (0.01, 0.99)


@dataclass(frozen=True)
class Traversal:
    """One latent at a time, from low to high.

    Attributes
    ----------
    moved : Matrix
        k * m windows in the plant's units, latent by latent.
    values : ndarray of shape (k, m)
        What each latent takes: from the first to the last percentile of what the rows have.
    spread : ndarray of shape (d,)
        Standard deviation of each sensor over the rows.
    row : int
        The row whose other latents are held.
    """

    moved: Matrix
    values: np.ndarray
    spread: np.ndarray
    row: int


def traversal(scorer: Scorer, rows: Matrix, *, row: int = -1, steps: int = 9) -> Traversal:
    """Move each latent of a row through the values that real rows have.

    Parameters
    ----------
    scorer : Scorer
    rows : Matrix
        Real rows.
    row : int
        The one to start from; negative for a typical one, nearest to the mean latents.
    steps : int
        Values of each latent.

    Raises
    ------
    InputError
        No row is normal and has a whole window.
    """
    usable = latent.normal_rows(scorer, rows)
    if not len(usable):
        raise InputError("no row is normal and has a whole window before it; ingest more")
    some = usable[np.linspace(0, len(usable) - 1, min(len(usable), MOST_ROWS)).astype(np.int64)]
    z = latent.embed(scorer, rows, some)
    if row < 0:
        row = int(some[np.argmin(np.square(z - z.mean(axis=0)).sum(axis=1))])
    low, high = np.quantile(z, ENDS, axis=0)
    values = np.linspace(low, high, steps, axis=1)
    moved = latent.traverse(scorer, rows, row, values)
    spread = np.nan_to_num(np.nanstd(rows.values[some, : scorer.standardizer.n_features], axis=0))
    return Traversal(moved, values, spread, row)


def traverse(
    plant: PlantConfig,
    out: Path,
    *,
    asset: str = "",
    at: str = "",
    steps: int = 9,
    model: str = CHAMPION,
    image: Sequence[int] = (),
) -> Made:
    """Move one latent at a time, the others held, and say what the sensors do.

    Parameters
    ----------
    plant : PlantConfig
    out : Path
        Table to write, .csv or .parquet; the picture goes beside it.
    asset : str
        Whose rows; empty for those of all assets that the model was held out from.
    at : str
        Time of the reading to start from, with an asset; empty for a typical one.
    steps : int
        Values that each latent takes, at least 2.
    model : str
        The champion, a version, an alias, or the folder of a package.
    image : sequence of int
        Height and width, where a row is an image and the model does not say so itself.

    Returns
    -------
    Made

    Raises
    ------
    InputError
        There are no rows, or the ending of `out` is not known.
    """
    check_ending(out)
    if at and not asset:
        raise InputError(f"--at {at} is a reading of one asset; give --asset too")
    if steps < 2:
        raise InputError(f"--steps {steps} moves nothing; give 2 or more")
    found = chosen(plant, model)
    contract, scorer = found.package.contract, scorer_of(found.package, asset)
    image_shape(scorer, image)
    lake = Lake(plant.lake, plant.contract)
    held_out = None if asset else part_rows(lake, found.package, HELD_OUT)
    if held_out is None and not asset:
        raise InputError(f"{found.name} was not trained on the readings of this lake; give --asset")
    rows = held_out or asset_rows(lake, found.package, asset)
    row = row_at(rows, moment_of(at, plant.contract.time.zone)) if at else -1
    made = traversal(scorer, rows.matrix, row=row, steps=steps)
    sensors = sensor_table(made.moved, contract)
    k, w = len(made.values), scorer.window
    columns = {"latent": pa.array(np.repeat(np.arange(k) + 1, steps * w))}
    columns["value"] = pa.array(np.repeat(made.values.ravel(), w))
    if w > 1:
        columns["row"] = pa.array(np.tile(np.arange(w), k * steps))
    table = pa.table({**columns, **{name: sensors[name] for name in sensors.column_names}})
    start = f"{rows.asset[made.row]} at {time_text(rows.time[made.row])} UTC"
    written = {"rows": write_table(table, out)}
    written["picture"] = draw_traversal(
        out.with_suffix(".png"), scorer, made.moved, made.values, made.spread,
        contract.sensor_names, subject=plant.name, note=f"from {start}", image=image,
    )  # fmt: skip
    summary = f"{k} latents, {steps} values each, from {start}, by {found.name}."
    return Made("Traverse", summary, written)
