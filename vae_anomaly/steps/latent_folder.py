"""What a model makes of a run: its latent space, and rows of its own; artifacts in MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly import latent
from vae_anomaly.config import PlantConfig
from vae_anomaly.data.as_read import as_read, sensor_table
from vae_anomaly.data.lake import Lake
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.steps.embed import ColorBy, draw_map, embedded
from vae_anomaly.steps.evaluate import Evaluation, readings_of
from vae_anomaly.steps.generate import conditions, numbered
from vae_anomaly.steps.judged import Judged, of_units
from vae_anomaly.steps.latent_pictures import (
    draw_generated,
    draw_reconstructions,
    draw_traversal,
    labels,
)
from vae_anomaly.steps.made import write_table
from vae_anomaly.steps.model_rows import ModelRows
from vae_anomaly.steps.told_apart import apart, real_windows
from vae_anomaly.steps.train import Trained
from vae_anomaly.steps.traverse import traversal
from vae_anomaly.streaming import EVERY_ASSET

__all__ = ["write_latent"]

#: Scorers that are looked into; of the others the commands `embed` and `generate` tell.
MOST_UNITS = 3

#: Rows that are embedded and generated at most: it takes seconds.
MOST_ROWS, N_GENERATED = 2000, 1000


def write_latent(
    plant: PlantConfig,
    trained: Trained,
    folder: Path,
    package: ModelPackage,
    evaluation: Evaluation | None,
) -> dict[str, float]:
    """Fill the folder ``latent`` of a run; returns its figures, as MLflow keeps them.

    A baseline has no latents, and leaves it empty.

    Of each scorer: ``map.parquet`` and ``map.png``, where the rows of the part test lie;
    ``traversal.png``; ``reconstruction.png``; ``generated.parquet`` and ``generated.png``; and in
    ``told_apart.json`` how well a classifier tells those from real rows.

    Parameters
    ----------
    plant : PlantConfig
    trained : Trained
    folder : Path
        Of the training.
    package : ModelPackage
        Sealed.
    evaluation : Evaluation or None
        Says where the score is highest.

    Returns
    -------
    dict of str to float
    """
    target = folder / "latent"
    target.mkdir(exist_ok=True)
    if plant.model.baseline:
        return {}
    readings = readings_of(plant, trained)
    rows = of_units(readings, trained.intervals, "calibrate", package)
    rows |= of_units(readings, trained.intervals, "test", package)
    figures: dict[str, float] = {}
    for name, judged in list(rows.items())[:MOST_UNITS]:
        own = "" if name == EVERY_ASSET else name
        place = target / re.sub(r"[^A-Za-z0-9_.-]+", "_", own) if own else target
        place.mkdir(exist_ok=True)
        scorer = package.units[name].scorer
        highest = _highest(judged, own, evaluation)
        _look(place, plant, scorer, judged, highest, subject=own or plant.name)
        lake = Lake(plant.lake, plant.contract)
        found = _make(place, lake, package, own, subject=own or plant.name, seed=plant.seed)
        for words, area in found.items():
            prefix = f"{own}/" if own else ""
            figures[f"{prefix}{words.replace(' ', '_')}_auroc"] = area.value
    return figures


def _highest(judged: Judged, asset: str, evaluation: Evaluation | None) -> int:
    """The row with the highest score of the test part; without one the last that is judged."""
    found = np.flatnonzero(judged.judged)
    if evaluation is not None:
        tested = evaluation.rows
        excess = np.where(tested.asset == asset, tested.excess, -np.inf) if asset else tested.excess
        at = int(np.argmax(excess))
        time = judged.table["time"].cast(pa.timestamp("us")).to_numpy()
        same = (time == tested.time[at]) & np.asarray(
            pc.equal(judged.table["asset"], tested.asset[at])
        )
        found = np.flatnonzero(same & judged.judged)
    return int(found[-1]) if len(found) else 0


def _look(
    place: Path, plant: PlantConfig, scorer: Scorer, judged: Judged, highest: int, subject: str
) -> None:
    """Where real rows lie, what each latent does, and what is expected around the highest score."""
    rows = ModelRows(judged.matrix, judged.table, judged.judged)
    if not rows.judged.any():
        return
    on_map = embedded(scorer, rows, MOST_ROWS)
    color: ColorBy = "label" if (on_map.label >= 0).any() else "time"
    n_rows = int(rows.judged.sum())
    draw_map(place, on_map, color=color, kind="pca", n_rows=n_rows, subject=subject,
             seed=plant.seed)  # fmt: skip
    if len(latent.normal_rows(scorer, rows.matrix)):
        found = traversal(scorer, rows.matrix)
        draw_traversal(place / "traversal.png", scorer, found.moved, found.values, found.spread,
                       plant.contract.sensor_names, subject=subject)  # fmt: skip
    draw_reconstructions(
        place / "reconstruction.png", scorer, rows.matrix, rows.time, labels(plant.contract),
        around=highest, subject=subject,
    )  # fmt: skip


def _make(
    place: Path, lake: Lake, package: ModelPackage, asset: str, *, subject: str, seed: int
) -> Mapping[str, Interval]:
    """Rows of the model's own beside real ones, and how well they are told apart."""
    scorer = package.units[asset or EVERY_ASSET].scorer
    contract = package.contract
    real = real_windows(lake, package, scorer, asset)
    if not len(real.held_out.run):
        return {}
    condition = conditions(contract, scorer, real.held_out, N_GENERATED, {}, seed=seed)
    drawn = latent.generate(scorer, N_GENERATED, context=condition, seed=seed)
    made = as_read(drawn, contract).matrix
    table: pa.Table = numbered(sensor_table(made, contract), scorer.window, "sample")
    write_table(table, place / "generated.parquet")
    d = scorer.standardizer.n_features
    draw_generated(place / "generated.png", scorer, made, real.held_out.values[:, :d],
                   labels(contract), subject=subject)  # fmt: skip
    found = apart(scorer, made, real, seed=seed)
    content = {words: asdict(area) for words, area in found.items()}
    (place / "told_apart.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return found
