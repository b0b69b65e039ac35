"""The scorers of a plant, one for all its assets or one an asset, and how each is fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from deltalake import DeltaTable

from vae_anomaly.config import PARTS, Contract, Part, PlantConfig
from vae_anomaly.data.as_read import as_read
from vae_anomaly.data.parts import Interval
from vae_anomaly.data.sensor_faults import sensor_limits
from vae_anomaly.data.windows import Matrix, cut
from vae_anomaly.errors import PartsError
from vae_anomaly.latent.augmented import FittedAugmented, fit_augmented
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.training import Check, History
from vae_anomaly.models.variants import variant_of
from vae_anomaly.package import Golden, Unit
from vae_anomaly.scoring.baseline_fitting import fit_baseline
from vae_anomaly.scoring.baselines import baseline_of
from vae_anomaly.scoring.columns import Column
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer
from vae_anomaly.scoring.labelled import told_in_fit
from vae_anomaly.scoring.scorer import left_context
from vae_anomaly.steps.judged import of_part, unit_matrices
from vae_anomaly.steps.support import refuse_unsupported
from vae_anomaly.streaming import EVERY_ASSET

__all__ = [
    "CHECKPOINT",
    "FittedUnits",
    "baseline_fitted",
    "checkpoint_of",
    "fit_units",
    "judged_together",
]

#: The smallest parts that a model can be trained and stopped on.
MIN_TRAIN, MIN_STOP = 20, 5


#: Begin of the names of checkpoints.
CHECKPOINT = "checkpoint"


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
    left_out: Mapping[str, Mapping[str, int]] | None = None,
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
    left_out : mapping of str to mapping of str to int, optional
        Rows of each part that were taken out, by cause; for what the operator is told.
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
    CalibrationError
        The part `calibrate` cannot support the threshold that is asked for.
    """
    left = LeftOut(plant.contract, left_out or {})
    matrices = {
        part: dict(unit_matrices(plant, left.alone(readings, intervals, part)))
        for part in PARTS[:2]
    }
    for name in set(matrices["train"]) & set(matrices["stop"]):
        matrices["stop"][name] = _of_learnt_levels(
            matrices["stop"][name], matrices["train"][name], plant.contract
        )
    every = {
        name: {part: matrices[part].get(name) for part in matrices}
        for name in sorted(matrices["train"] | matrices["stop"])
    }
    lacking = {n: said for n, parts in every.items() if (said := _too_few(n, parts)) is not None}
    if lacking and plant.model.per == "plant":
        raise PartsError(". ".join([*lacking.values(), *left.notes()]))
    reach = left_context(judged_together(plant), plant.smoothing)
    refuse_unsupported(plant, readings, intervals, every.keys() - lacking.keys(), reach=reach)
    units: dict[str, Unit] = {}
    histories: dict[str, History] = {}
    notes = [*left.notes(), *(f"{said}; its rows will not be scored" for said in lacking.values())]
    for number, (name, parts) in enumerate(every.items()):
        if name in lacking:
            continue
        made = _fit_stages(plant, name, parts, checkpoint_of(checkpoints, number), on_check)
        fitted = made.fitted
        learnt, stop = parts["train"], parts["stop"]
        assert learnt is not None  # _too_few saw to it
        assert stop is not None
        limits = sensor_limits(learnt, plant.contract.sensors)
        units[name] = Unit(fitted.scorer, Golden.of(fitted.scorer, stop), limits=limits)
        stages = {first_stage(name): made.first, name: fitted.history}
        for stage, history in stages.items():
            if history is not None and history.checks:  # a baseline has none
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
    before: Mapping[str, Mapping[str, int]]  # by cause and part
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
        counts: dict[str, Counter[str]] = {}
        for cause, by_part in self.before.items():
            for part, n in by_part.items():
                counts.setdefault(part, Counter())[cause] = n
        for part, by_cause in self.aside.items():
            counts.setdefault(part, Counter()).update(by_cause)
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

    real, held_out = _series(train), _series(stop)
    made = fit_augmented(
        real,
        held_out,
        fit,
        share=share,
        seed=plant.seed,
        as_read=lambda rows: as_read(rows, plant.contract).matrix,
    )
    told = told_in_fit(made.fitted, train=real, stop=held_out, labels=plant.model.labels)
    return replace(made, fitted=told)


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
    if plant.model.baseline:
        return baseline_fitted(plant, plant.model.baseline, train, stop, seed=plant.seed)
    variant = variant_of(plant.method, plant.model.settings)
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


def baseline_fitted(
    plant: PlantConfig, name: str, train: Matrix, stop: Matrix, *, seed: int
) -> FittedScorer:
    """A baseline as `model: {baseline: name}` would train it, window and smoothing as well."""
    return fit_baseline(
        _series(train),
        _series(stop),
        n_context=plant.contract.context_width,
        baseline=name,
        window=plant.window_rows,
        smoothing=plant.smoothing,
        columns=tuple(_columns(plant.contract)),
        on_change=", and a change of it is reported",
        seed=seed,
    )


def judged_together(plant: PlantConfig) -> int:
    """Rows that the model of a plant judges together: some baselines take more than are asked."""
    if plant.model.baseline:
        return baseline_of(plant.model.baseline).window(plant.window_rows)
    return plant.window_rows


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
