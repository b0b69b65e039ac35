"""The scorers of a plant: one for all its assets or one an asset, and what each is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from deltalake import DeltaTable

from vae_anomaly.config import Contract, Part, PlantConfig
from vae_anomaly.data.parts import Interval, read_part
from vae_anomaly.data.windows import Matrix, matrix_of
from vae_anomaly.errors import PartsError
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.training import Check, History
from vae_anomaly.models.variants import variant_of
from vae_anomaly.package import Golden, Unit
from vae_anomaly.scoring.scorer import FittedScorer, Scorer, fit_scorer
from vae_anomaly.streaming import EVERY_ASSET

__all__ = ["FittedUnits", "fit_units", "joined", "of_part", "unit_matrices"]

#: The smallest parts that a model can be trained and stopped on.
MIN_TRAIN, MIN_STOP = 20, 5


def of_part(
    readings: DeltaTable, intervals: Sequence[Interval], part: Part, contract: Contract
) -> dict[str, Matrix]:
    """Rows of one part as a matrix an asset, without left context."""
    own = [i for i in intervals if i.part == part]
    if not own:
        raise PartsError(
            f"part '{part}' holds no rows; give it a larger share in parts, or ingest more"
        )
    found = read_part(readings, own)
    table = found.table.filter(pa.array(found.judged))
    return {
        asset: matrix_of(table.filter(pc.field("asset") == asset), contract)
        for asset in pc.unique(table["asset"]).to_pylist()
    }


def unit_matrices(
    plant: PlantConfig, per_asset: Mapping[str, Matrix]
) -> Iterator[tuple[str, Matrix]]:
    """One matrix a scorer: the assets apart, or all of them joined."""
    if plant.model.per == "asset":
        yield from per_asset.items()
    elif per_asset:
        yield EVERY_ASSET, joined(list(per_asset.values()))


def joined(matrices: Sequence[Matrix]) -> Matrix:
    """Matrices one after another; their series stay apart, as each starts with run 0."""
    return Matrix(
        np.concatenate([m.values for m in matrices]),
        np.concatenate([m.run for m in matrices]),
        np.concatenate([m.label for m in matrices]),
    )


@dataclass(frozen=True)
class FittedUnits:
    """Trained scorers with their golden rows, and what the operator should know of them."""

    units: dict[str, Unit]
    histories: dict[str, History]
    notes: tuple[str, ...]


def fit_units(
    plant: PlantConfig,
    readings: DeltaTable,
    intervals: Sequence[Interval],
    *,
    checkpoints: Path,
    on_check: Callable[[str, Check], None],
    on_fitted: Callable[[str, History], None],
) -> FittedUnits:
    """Train every scorer of a plant on its parts `train` and `stop`.

    Parameters
    ----------
    plant : PlantConfig
    readings : DeltaTable
        At the version that the intervals were cut from.
    intervals : sequence of Interval
    checkpoints : Path
        Folder for one checkpoint a scorer; training goes on from those that are there.
    on_check : callable
        Called with the unit (an asset, or ``"*"``) at each look at the held-out bound.
    on_fitted : callable
        Called with the unit when it is trained.

    Raises
    ------
    PartsError
        A scorer has too few normal rows in one of the parts.
    """
    matrices = {
        part: dict(unit_matrices(plant, of_part(readings, intervals, part, plant.contract)))
        for part in ("train", "stop")
    }
    units: dict[str, Unit] = {}
    histories: dict[str, History] = {}
    notes: list[str] = []
    for number, name in enumerate(sorted(matrices["train"] | matrices["stop"])):
        rows = {part: matrices[part].get(name) for part in matrices}
        _refuse_few(name, rows)
        assert rows["train"] is not None  # _refuse_few saw to it
        assert rows["stop"] is not None
        checkpoint = checkpoints / f"checkpoint-{number}"
        fitted = _fit(plant, name, rows["train"], rows["stop"], checkpoint, on_check)
        units[name] = Unit(fitted.scorer, Golden.of(fitted.scorer, rows["stop"]))
        histories[name] = fitted.history
        on_fitted(name, fitted.history)
        of = "" if name == EVERY_ASSET else f"{name}: "
        notes += [f"{of}{note}" for note in (*_constants(fitted.scorer, plant), *fitted.notes)]
    return FittedUnits(units, histories, tuple(notes))


def _refuse_few(name: str, rows: Mapping[str, Matrix | None]) -> None:
    of = "" if name == EVERY_ASSET else f" of asset '{name}'"
    for part, least in (("train", MIN_TRAIN), ("stop", MIN_STOP)):
        matrix = rows[part]
        n_normal = 0 if matrix is None else int((matrix.label <= 0).sum())
        if n_normal < least:
            raise PartsError(
                f"part '{part}'{of} has {n_normal} normal rows and needs {least}; "
                "give it a larger share in parts, or ingest more"
            )


def _fit(
    plant: PlantConfig,
    name: str,
    train: Matrix,
    stop: Matrix,
    checkpoint: Path,
    on_check: Callable[[str, Check], None],
) -> FittedScorer:
    return fit_scorer(
        _series(train),
        _series(stop),
        n_context=len(plant.contract.context),
        variant=variant_of(plant.model.variant, plant.model.settings),
        training=plant.training,
        anomaly_score=plant.model.score,
        window=plant.window,
        smoothing=plant.smoothing,
        seed=plant.seed,
        checkpoint=checkpoint,
        on_check=lambda check: on_check(name, check),
    )


def _series(matrix: Matrix) -> Series:
    return Series(
        torch.from_numpy(matrix.values),
        torch.from_numpy(matrix.run),
        torch.from_numpy(matrix.label),
    )


def _constants(scorer: Scorer, plant: PlantConfig) -> list[str]:
    """A sentence for each sensor that stays out of the network."""
    standardizer = scorer.standardizer
    notes = []
    for sensor, active, value in zip(
        plant.contract.sensors,
        standardizer.active.tolist(),
        standardizer.constant_value.tolist(),
        strict=True,
    ):
        if not active and np.isnan(value):
            notes.append(f"sensor '{sensor.name}' has no value in training; it is not judged")
        elif not active:
            notes.append(
                f"sensor '{sensor.name}' is constant ({value:g} {sensor.unit}".rstrip()
                + ") in training; it is not judged, and a change of it is reported"
            )
    return notes
