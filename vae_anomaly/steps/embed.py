"""A model and the readings → where each of them lies in the latent space, as a table and a map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vae_anomaly import latent, pictures
from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.errors import InputError
from vae_anomaly.latent.maps import Kind
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.steps.chosen import CHAMPION, chosen, scorer_of
from vae_anomaly.steps.made import Made
from vae_anomaly.steps.model_rows import ModelRows, asset_rows, assets_of

__all__ = ["ColorBy", "Embedded", "draw_map", "embed", "embedded"]

ColorBy = Literal["label", "asset", "time"]

#: Rows on a map: t-SNE of more takes minutes, and more dots hide one another.
MAP_ROWS = 2000

#: How a map is called.
NAMES: dict[Kind, str] = {"pca": "PCA", "tsne": "t-SNE"}


def embed(
    plant: PlantConfig,
    out: Path,
    *,
    color: ColorBy = "label",
    kind: Kind = "pca",
    asset: str = "",
    model: str = CHAMPION,
    seed: int = 0,
) -> Made:
    """Embed every reading that a model judges, and draw a map of at most 2,000 of them.

    One asset is held in memory at a time.

    Parameters
    ----------
    plant : PlantConfig
    out : Path
        Folder for ``embedding.parquet`` (asset, time, label, z1, z2, …), ``map.parquet`` and the
        picture.
    color : {"label", "asset", "time"}
        What the dots of the map are coloured by.
    kind : {"pca", "tsne"}
        Of the map.
    asset : str
        Only this one; where each asset has a model of its own, it must be given.
    model : str
        The champion, a version, an alias, or the folder of a package.
    seed : int
        Of t-SNE.

    Returns
    -------
    Made

    Raises
    ------
    InputError
        The asset has no readings, or the model judges none of them.
    """
    found = chosen(plant, model)
    scorer_of(found.package, asset)  # refuses a model without latents, and two, which are no map
    lake = Lake(plant.lake, plant.contract)
    assets = [asset] if asset else assets_of(lake.open(READINGS))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "embedding.parquet"
    n_rows, n_aside = 0, 0
    shown: list[Embedded] = []
    writer: pq.ParquetWriter | None = None
    most = -(-MAP_ROWS // max(len(assets), 1))
    try:
        for own, left_out in _each(lake, found.package, assets):
            writer = writer or pq.ParquetWriter(path, own.table().schema)
            writer.write_table(own.table())
            n_rows += len(own.latents)
            n_aside += left_out
            shown.append(own.spread(most))
    finally:
        if writer is not None:
            writer.close()
    if not n_rows:
        raise InputError("the model judges none of the readings: they are off, or have no value")
    on_map = Embedded.joined(shown)
    written = {"embedding": path}
    written |= draw_map(out, on_map, color=color, kind=kind, n_rows=n_rows, subject=plant.name,
                        seed=seed)  # fmt: skip
    k = on_map.latents.shape[1]
    summary = f"{n_rows:,} readings in {k} latent dimensions, by {found.name}."
    notes = [f"{n_aside:,} readings that the model does not judge are left out"] * bool(n_aside)
    return Made("Embed", summary, written, notes=tuple(notes))


@dataclass(frozen=True)
class Embedded:
    """Readings with their latents.

    Attributes
    ----------
    asset, time, label : ndarray of shape (n,)
        Names, UTC, and 0 normal, positive an anomaly, -1 unknown.
    latents : ndarray of shape (n, k)
    """

    asset: np.ndarray
    time: np.ndarray
    label: np.ndarray
    latents: np.ndarray

    def spread(self, most: int) -> Embedded:
        """At most so many of them, evenly spaced."""
        n = len(self.latents)
        at = np.linspace(0, n - 1, min(n, most)).astype(np.int64)
        return Embedded(self.asset[at], self.time[at], self.label[at], self.latents[at])

    @classmethod
    def joined(cls, pieces: list[Embedded]) -> Embedded:
        """Several, one after another."""
        return cls(
            np.concatenate([piece.asset for piece in pieces]),
            np.concatenate([piece.time for piece in pieces]),
            np.concatenate([piece.label for piece in pieces]),
            np.concatenate([piece.latents for piece in pieces]),
        )

    def table(self) -> pa.Table:
        """Asset, time, label (null = unknown) and latents."""
        columns = {
            "asset": pa.array(self.asset, pa.string()),
            "time": pa.array(self.time, pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
            "label": pa.array(self.label, pa.int32(), mask=self.label < 0),
        }
        columns |= {f"z{i + 1}": pa.array(z) for i, z in enumerate(self.latents.T)}
        return pa.table(columns)


def embedded(scorer: Scorer, rows: ModelRows, most: int | None = None) -> Embedded:
    """Judged ones of some rows in the latent space of a scorer: all, or some, evenly spaced."""
    own = np.flatnonzero(rows.judged)
    if most is not None and len(own) > most:
        own = own[np.linspace(0, len(own) - 1, most).astype(np.int64)]
    latents = latent.embed(scorer, rows.matrix, own)
    return Embedded(rows.asset[own], rows.time[own], rows.matrix.label[own], latents)


def _each(lake: Lake, package: ModelPackage, assets: list[str]) -> Iterator[tuple[Embedded, int]]:
    """Asset by asset, and how many of its readings are not judged."""
    for asset in assets:
        rows = asset_rows(lake, package, asset)
        if rows.judged.any():
            found = embedded(scorer_of(package, asset), rows)
            yield found, int((~rows.judged).sum())


def draw_map(
    folder: Path,
    on_map: Embedded,
    *,
    color: ColorBy,
    kind: Kind,
    n_rows: int,
    subject: str,
    seed: int = 0,
) -> dict[str, Path]:
    """Write a map of some readings as a table and a picture; what each file is, and where."""
    points = latent.map_of(on_map.latents, kind, seed=seed)
    shades = {"label": on_map.label, "asset": on_map.asset.astype(str), "time": on_map.time}
    notes = []
    if len(points) < n_rows:
        notes.append(f"{len(points):,} of {n_rows:,} readings, evenly spaced")
    if kind == "tsne":
        notes.append("only neighbours mean something, not the distance of far groups")
    table = on_map.table().append_column("map_1", pa.array(points[:, 0]))
    table = table.append_column("map_2", pa.array(points[:, 1]))
    pq.write_table(table, folder / "map.parquet")
    picture = pictures.latent_map(
        folder / "map.png", points, shades[color], color_by=color, kind=NAMES[kind],
        subject=subject, note="; ".join(notes),
    )  # fmt: skip
    return {"map": folder / "map.parquet", "picture": picture}
