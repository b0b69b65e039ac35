"""The scorers of a plant: one for all its assets or one an asset, and what each is fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from deltalake import DeltaTable

from vae_anomaly.config import PARTS, Contract, Part, PlantConfig
from vae_anomaly.data.as_read import as_read
from vae_anomaly.data.aside import any_of, set_aside
from vae_anomaly.data.condition import before_stop
from vae_anomaly.data.parts import Interval, read_part
from vae_anomaly.data.windows import Matrix, cut, matrix_of
from vae_anomaly.errors import PartsError
from vae_anomaly.latent.augmented import FittedAugmented, fit_augmented
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.training import Check, History
from vae_anomaly.models.variants import variant_of
from vae_anomaly.package import Golden, ModelPackage, Unit
from vae_anomaly.scoring.columns import Column
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.streaming import EVERY_ASSET, is_scored, learnt_levels

__all__ = [
    "CHECKPOINT",
    "FittedUnits",
    "Judged",
    "alone",
    "checkpoint_of",
    "fit_units",
    "joined",
    "of_part",
    "of_units",
    "unit_matrices",
]

#: The smallest parts that a model can be trained and stopped on.
MIN_TRAIN, MIN_STOP = 20, 5


#: Begin of the names of checkpoints.
CHECKPOINT = "checkpoint"

#: What takes rows out of a part, by the status that their verdicts have.
CAUSES = {"off": "the run condition", "unseen_mode": "levels that the contract does not name"}


@dataclass(frozen=True)
class Judged:
    """Rows of one part as they will be served: with their left context.

    Attributes
    ----------
    matrix : Matrix
        The rows, those of the left context included.
    judged : ndarray of shape (n,)
        Which rows count: those of the part, without its left context.
    table : pa.Table
        The readings behind the matrix.
    aside : Counter
        How many rows of the part do not count, by cause.
    """

    matrix: Matrix
    judged: np.ndarray
    table: pa.Table
    aside: Counter[str] = field(default_factory=Counter)

    @property
    def label(self) -> np.ndarray:
        """Labels of the rows that count."""
        label: np.ndarray = self.matrix.label[self.judged]
        return label

    def alone(self) -> Matrix:
        """Only the rows that count; a series ends where one before it does not."""
        at = np.arange(len(self.judged))
        before = np.concatenate([[False], self.judged[:-1]])
        starts = ~before | (self.matrix.run == 0)
        run = at - np.maximum.accumulate(np.where(starts, at, 0))
        keep = self.judged
        return Matrix(self.matrix.values[keep], run[keep], self.matrix.label[keep])


def of_part(
    readings: DeltaTable, intervals: Sequence[Interval], part: Part, contract: Contract
) -> dict[str, Judged]:
    """Rows of one part, asset by asset; none where the plant keeps no such part."""
    own = [i for i in intervals if i.part == part]
    if not own:
        return {}
    found = read_part(readings, own, look_ahead_s=contract.shut_down_s)
    asset = np.asarray(found.table["asset"].to_pylist(), dtype=object)
    judged = {}
    for name in sorted(set(asset.tolist())):
        inside = asset == name
        table = found.table.filter(pa.array(inside))
        asides = set_aside(table, contract)
        taken = any_of(asides, table.num_rows)
        stopping = before_stop(table, contract) & ~taken
        own = found.judged[inside]
        causes = Counter({"a stop that follows": int((stopping & own).sum())})
        for entry in asides:
            causes[CAUSES[entry.status]] += int((entry.mask & own).sum())
        matrix = matrix_of(table, contract, taken)
        judged[name] = Judged(matrix, own & ~taken & ~stopping, table, causes)
    return judged


def of_units(
    readings: DeltaTable, intervals: Sequence[Interval], part: Part, package: ModelPackage
) -> dict[str, Judged]:
    """Rows of one part that a package gives a score, scorer by scorer.

    Rows of assets that it has no scorer for are left out, as are rows without a value.
    """
    per_asset = of_part(readings, intervals, part, package.contract)
    if EVERY_ASSET in package.units:
        tables = pa.concat_tables([found.table for found in per_asset.values()] or [pa.table({})])
        pieces = list(per_asset.values())
        per_unit = (
            {
                EVERY_ASSET: Judged(
                    joined([piece.matrix for piece in pieces]),
                    np.concatenate([piece.judged for piece in pieces]),
                    tables,
                )
            }
            if pieces
            else {}
        )
    else:
        per_unit = {name: found for name, found in per_asset.items() if name in package.units}
    return {
        name: _served(found, package.units[name].scorer, package.contract)
        for name, found in per_unit.items()
    }


def _served(rows: Judged, scorer: Scorer, contract: Contract) -> Judged:
    """Those of the rows that a scorer gives a score, cut where it gives none."""
    taken = any_of(
        set_aside(rows.table, contract, learnt_levels(scorer, contract)), len(rows.judged)
    )
    matrix = replace(rows.matrix, run=cut(rows.matrix.run, taken))
    return replace(rows, matrix=matrix, judged=rows.judged & is_scored(scorer, matrix) & ~taken)


def alone(
    readings: DeltaTable, intervals: Sequence[Interval], part: Part, contract: Contract
) -> dict[str, Matrix]:
    """Rows of one part as a matrix an asset, without left context.

    Raises
    ------
    PartsError
        The part holds no rows.
    """
    found = of_part(readings, intervals, part, contract)
    if not found:
        raise PartsError(
            f"part '{part}' holds no rows; give it a larger share in parts, or ingest more"
        )
    return {asset: rows.alone() for asset, rows in found.items()}


def unit_matrices(
    plant: PlantConfig, per_asset: Mapping[str, Matrix]
) -> Iterator[tuple[str, Matrix]]:
    """One matrix a scorer: the assets apart, or all of them joined."""
    if EVERY_ASSET in per_asset:
        raise PartsError(f"an asset is called '{EVERY_ASSET}', which means all of them; rename it")
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
    excluded: Mapping[str, int] | None = None,
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
    excluded : mapping of str to int, optional
        Rows of each part that exclusions took out; for what the operator is told.
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
    left_out = LeftOut(plant.contract, dict(excluded or {}))
    matrices = {
        part: dict(unit_matrices(plant, left_out.alone(readings, intervals, part)))
        for part in PARTS[:2]
    }
    for name in set(matrices["train"]) & set(matrices["stop"]):
        matrices["stop"][name] = _of_learnt_levels(
            matrices["stop"][name], matrices["train"][name], plant.contract
        )
    units: dict[str, Unit] = {}
    histories: dict[str, History] = {}
    notes = left_out.notes()
    for number, name in enumerate(sorted(matrices["train"] | matrices["stop"])):
        parts = {part: matrices[part].get(name) for part in matrices}
        if (lacking := _too_few(name, parts)) is not None:
            if plant.model.per == "plant":
                raise PartsError(". ".join([lacking, *left_out.notes()]))
            notes.append(f"{lacking}; its rows will not be scored")
            continue
        made = _fit_stages(plant, name, parts, checkpoint_of(checkpoints, number), on_check)
        fitted = made.fitted
        stop = parts["stop"]
        assert stop is not None  # _too_few saw to it
        units[name] = Unit(fitted.scorer, Golden.of(fitted.scorer, stop))
        stages = {first_stage(name): made.first, name: fitted.history}
        for stage, history in stages.items():
            if history is not None:
                histories[stage] = history
                on_fitted(stage, history)
        of = "" if name == EVERY_ASSET else f"{name}: "
        notes += [f"{of}{note}" for note in fitted.notes]
    if not units:
        raise PartsError("; ".join(notes) or "there are no rows to train on; ingest some first")
    return FittedUnits(units, histories, tuple(notes))


def _of_learnt_levels(rows: Matrix, train: Matrix, contract: Contract) -> Matrix:
    """Rows of `stop` without those of a level that no normal training row has."""
    if not contract.categories:
        return rows
    unlearnt, at = np.zeros(len(rows.run), bool), len(contract.sensors)
    for entry in contract.context:
        if entry.kind == "categorical":
            own = slice(at, at + len(entry.levels))
            used = (train.values[train.label <= 0, own] == 1).any(axis=0)
            unlearnt |= ((rows.values[:, own] == 1) & ~used).any(axis=1)
        at += len(entry.levels) or 1
    run = cut(rows.run, unlearnt)
    return Matrix(rows.values[~unlearnt], run[~unlearnt], rows.label[~unlearnt])


@dataclass
class LeftOut:
    """What takes rows out of the parts that are learnt from: counts that grow part by part."""

    contract: Contract
    excluded: dict[str, int]
    aside: dict[str, Counter[str]] = field(default_factory=dict)

    def alone(
        self, readings: DeltaTable, intervals: Sequence[Interval], part: Part
    ) -> dict[str, Matrix]:
        """As the function of this name, and counted."""
        found = of_part(readings, intervals, part, self.contract)
        self.aside[part] = sum((rows.aside for rows in found.values()), Counter())
        if not found:
            why = ". ".join(["", *self.notes()])
            raise PartsError(
                f"part '{part}' holds no rows; give it a larger share in parts, or ingest more{why}"
            )
        return {asset: rows.alone() for asset, rows in found.items()}

    def notes(self) -> list[str]:
        """A sentence for each part and cause."""
        counts = {part: {"exclusions": n} for part, n in self.excluded.items()}
        for part, by_cause in self.aside.items():
            counts[part] = counts.get(part, {}) | dict(by_cause)
        return [
            f"part '{part}': {n} rows are left out by {cause}"
            for part, causes in counts.items()
            for cause, n in causes.items()
            if n
        ]


def checkpoint_of(folder: Path, number: int) -> Path:
    """Checkpoint of the scorer of this number."""
    return folder / f"{CHECKPOINT}-{number}"


def _too_few(name: str, parts: Mapping[Part, Matrix | None]) -> str | None:
    """What a scorer lacks, or None."""
    of = "" if name == EVERY_ASSET else f" of asset '{name}'"
    least_rows: dict[Part, int] = {"train": MIN_TRAIN, "stop": MIN_STOP}
    for part, least in least_rows.items():
        matrix = parts[part]
        n_normal = 0 if matrix is None else int((matrix.label <= 0).sum())
        if n_normal < least:
            return (
                f"part '{part}'{of} has {n_normal} normal rows and needs {least}; "
                "give it a larger share in parts, or ingest more"
            )
    return None


def _fit_stages(
    plant: PlantConfig,
    name: str,
    parts: Mapping[Part, Matrix | None],
    checkpoint: Path,
    on_check: Callable[[str, Check], None],
) -> FittedAugmented:
    """Train one scorer; twice where the plant augments its rows, each with its own checkpoint."""
    train, stop = parts["train"], parts["stop"]
    assert train is not None  # _too_few saw to it
    assert stop is not None
    share = plant.training.augment

    def fit(rows: Series, stage: int) -> FittedScorer:
        called = first_stage(name) if share and not stage else name
        now: dict[Part, Matrix | None] = {**parts, "train": Matrix(*(x.numpy() for x in rows))}
        own = checkpoint.with_name(f"{checkpoint.name}-{stage}")
        return _fit(plant, called, now, own, on_check)

    return fit_augmented(
        _series(train),
        _series(stop),
        fit,
        share=share,
        seed=plant.seed,
        as_read=lambda rows: as_read(rows, plant.contract).matrix,
    )


def _fit(
    plant: PlantConfig,
    name: str,
    parts: Mapping[Part, Matrix | None],
    checkpoint: Path,
    on_check: Callable[[str, Check], None],
) -> FittedScorer:
    train, stop = parts["train"], parts["stop"]
    assert train is not None  # _too_few saw to it
    assert stop is not None
    variant = variant_of(plant.model.variant, plant.model.settings)
    return fit_scorer(
        _series(train),
        _series(stop),
        n_context=plant.contract.context_width,
        levels=plant.contract.levels if variant.knows_levels else (),
        variant=variant,
        training=plant.training,
        anomaly_score=plant.model.score,
        window=plant.window_rows,
        smoothing=plant.smoothing,
        columns=tuple(_columns(plant.contract)),
        on_change=", and a change of it is reported",
        seed=plant.seed,
        checkpoint=checkpoint,
        on_check=lambda check: on_check(name, check),
    )


def _columns(contract: Contract) -> Iterator[Column]:
    """What the notes call each column of a matrix."""
    for sensor in contract.sensors:
        yield Column(f"sensor '{sensor.name}'", sensor.unit, sensor.levels)
    for entry in contract.context:
        yield from (Column(f"level '{level}' of context '{entry.name}'") for level in entry.levels)
        if not entry.levels:
            yield Column(f"context '{entry.name}'", entry.unit)


def first_stage(name: str) -> str:
    """What the training of a scorer is called whose rows are then augmented.

    Examples
    --------
    >>> first_stage("pump-01")
    'pump-01 before augmentation'
    """
    return "before augmentation" if name == EVERY_ASSET else f"{name} before augmentation"


def _series(matrix: Matrix) -> Series:
    return Series(
        torch.from_numpy(matrix.values),
        torch.from_numpy(matrix.run),
        torch.from_numpy(matrix.label),
    )
