"""A model → what lies between two readings, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vae_anomaly import latent
from vae_anomaly.config import PlantConfig
from vae_anomaly.data.as_read import as_read, sensor_table
from vae_anomaly.data.lake import Lake
from vae_anomaly.data.times import moment_of
from vae_anomaly.latent.windows import raw_windows
from vae_anomaly.steps.chosen import CHAMPION, chosen, scorer_of
from vae_anomaly.steps.generate import clipped_note, numbered
from vae_anomaly.steps.latent_pictures import draw_way, image_shape, labels
from vae_anomaly.steps.made import Made, check_ending, write_table
from vae_anomaly.steps.model_rows import asset_rows, row_at, time_text

__all__ = ["interpolate"]


def interpolate(
    plant: PlantConfig,
    out: Path,
    *,
    asset: str,
    start: str,
    end: str,
    steps: int = 9,
    spherical: bool = False,
    model: str = CHAMPION,
    image: Sequence[int] = (),
) -> Made:
    """Go from one reading, or window, to another through the latent space.

    Parameters
    ----------
    plant : PlantConfig
    out : Path
        Table to write, .csv or .parquet; the picture goes beside it.
    asset : str
    start, end : str
        Times; the readings nearest to them that the model judges are the ends.
    steps : int
        How many, both ends among them.
    spherical : bool
        Along a great circle rather than straight.
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
        The asset has no readings, a time is none, or the ending of `out` is not known.
    """
    check_ending(out)
    zone = plant.contract.time.zone
    moments = [moment_of(text, zone) for text in (start, end)]
    found = chosen(plant, model)
    contract, scorer = found.package.contract, scorer_of(found.package, asset)
    image_shape(scorer, image)
    rows = asset_rows(Lake(plant.lake, plant.contract), found.package, asset)
    first, last = (row_at(rows, moment) for moment in moments)
    way = latent.interpolate(scorer, rows.matrix, first, last, steps, spherical=spherical)
    made = as_read(way, contract)
    table = numbered(sensor_table(made.matrix, contract), scorer.window, "step")
    table = table.add_column(0, "asset", pa.repeat(asset, table.num_rows))
    kind = "spherical" if spherical else "linear"
    ends = [time_text(rows.time[at]) for at in (first, last)]
    inputs = raw_windows(scorer, rows.matrix, np.array([first, last]))
    written = {"rows": write_table(table, out)}
    written["picture"] = draw_way(
        out.with_suffix(".png"), scorer, made.matrix,
        inputs[:, :, : scorer.standardizer.n_features], labels(contract),
        ends=(ends[0], ends[1]), kind=kind, subject=asset, image=image,
    )  # fmt: skip
    summary = f"{steps} {kind} steps of {asset} from {ends[0]} to {ends[1]} UTC, by {found.name}."
    return Made("Interpolate", summary, written, notes=tuple(clipped_note(made.n_clipped)))
