"""The sealed model package: the only thing that crosses from training to scoring.

A directory of safetensors and JSON; nothing in it can run code::

    package.json                 contract, variant and settings, thresholds, provenance, hashes
    scorer-0.safetensors         standardiser, weights and score tensors (one file an asset, or one)
    calibration-0.safetensors    scores of the normal calibration rows, which p-values refer to
    golden-0.safetensors         rows with the scores that they had when the package was sealed

Reading verifies every hash and scores the golden rows again, before the first verdict.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import load_file, save_file

from vae_anomaly.config import AlarmRule, Contract
from vae_anomaly.data.schemas import readings_schema
from vae_anomaly.data.sensor_faults import SensorLimits
from vae_anomaly.data.windows import Matrix, sorted_readings
from vae_anomaly.decisions.budget import BudgetChoice
from vae_anomaly.decisions.modes import Levels, known_modes
from vae_anomaly.decisions.rates import OperatingPoint
from vae_anomaly.decisions.thresholds import Threshold
from vae_anomaly.errors import InputError, PackageError, VAEAnomalyError, closest
from vae_anomaly.package_file import (
    FORMAT_VERSION,
    OperatingPointFile,
    PackageFile,
    Provenance,
    SealedFile,
    UnitFile,
    read_package_file,
    sha256,
    verified,
)
from vae_anomaly.scoring.counterfactual import Counterfactual
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.scoring.specification import build_scorer, scorer_spec
from vae_anomaly.streaming import Judge, explain, judge, score_rows

__all__ = ["FORMAT_VERSION", "Calibration", "Golden", "ModelPackage", "Provenance", "Unit"]

#: Rows that a package carries to prove, when it is read, that it scores as it did when sealed.
N_GOLDEN = 64

#: How often a package that a rival put in the way is moved aside.
MAX_TRIES = 20

#: Other processors round otherwise; a damaged or misread package is off by far more.
GOLDEN_RTOL, GOLDEN_ATOL = 1e-4, 1e-4


@dataclass(frozen=True)
class Calibration:
    """A threshold, what it costs and detects, and the scores that it was set on.

    With `levels`, all three are of levelled scores.
    """

    threshold: Threshold
    operating_point: OperatingPoint
    reference: np.ndarray
    note: str = ""
    levels: Levels | None = None


@dataclass(frozen=True)
class Golden:
    """Rows, and the scores that they had when the package was sealed."""

    values: np.ndarray
    run: np.ndarray
    score: np.ndarray

    @classmethod
    def of(cls, scorer: Scorer, matrix: Matrix) -> Golden:
        """The first rows of a matrix, scored."""
        few = Matrix(matrix.values[:N_GOLDEN], matrix.run[:N_GOLDEN], matrix.label[:N_GOLDEN])
        return cls(few.values, few.run, score_rows(scorer, few).score)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The three arrays as tensors, by name."""
        arrays = {"values": self.values, "run": self.run, "score": self.score}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@dataclass(frozen=True)
class Unit:
    """One scorer with its golden rows, when its sensors are at fault, and its threshold, if any."""

    scorer: Scorer
    golden: Golden
    calibration: Calibration | None = None
    limits: SensorLimits = field(default_factory=SensorLimits)

    @property
    def left_context(self) -> int:
        """Rows that must stand before a row for its verdict to be complete."""
        return max(self.scorer.left_context, self.limits.left_context)

    @property
    def levels(self) -> Levels | None:
        """Levels of the modes or assets with thresholds of their own."""
        return None if self.calibration is None else self.calibration.levels


@dataclass(frozen=True)
class ModelPackage:
    """Contract, scorers, thresholds and provenance, sealed.

    Attributes
    ----------
    contract : Contract
    units : mapping of str to Unit
        One for ``"*"``, or one an asset.
    provenance : Provenance
    digest : str
        SHA-256 of package.json, which holds the hashes of the other files; empty until written.
    alarm_rule : AlarmRule
        What makes an alarm of rows over the threshold.
    budget : BudgetChoice or None
        What rule and thresholds will cost, where they were chosen for a budget of alarms.
    """

    contract: Contract
    units: Mapping[str, Unit]
    provenance: Provenance
    digest: str = ""
    format_version: int = FORMAT_VERSION
    alarm_rule: AlarmRule = field(default_factory=AlarmRule)
    budget: BudgetChoice | None = None

    @property
    def thresholds(self) -> dict[str, Threshold]:
        """Threshold of each calibrated unit."""
        return {
            name: unit.calibration.threshold
            for name, unit in self.units.items()
            if unit.calibration is not None
        }

    @property
    def left_context(self) -> int:
        """Rows that must stand before a row for its verdict to be complete."""
        return max(unit.left_context for unit in self.units.values())

    def judges(self) -> dict[str, Judge]:
        """What `streaming.judge` needs.

        Raises
        ------
        PackageError
            A unit has no threshold yet.
        """
        judges = {}
        for name, unit in self.units.items():
            if unit.calibration is None:
                raise PackageError(
                    "this package has no threshold yet; run `vae-anomaly calibrate` on it"
                )
            calibration = unit.calibration
            judges[name] = Judge(
                unit.scorer,
                calibration.threshold,
                calibration.reference,
                calibration.levels,
                unit.limits,
            )
        return judges

    def score(self, table: pa.Table, *, threshold: float | None = None) -> pa.Table:
        """Verdicts on a table of rows, in the order of its rows.

        Parameters
        ----------
        table : pa.Table
            The contract's columns by the names that they have in the source. A missing asset or
            time column makes it one series in the order given (a start-up time needs the time);
            the first rows of a series are scored with the left context that they have.
        threshold : float, optional
            Replaces the calibrated threshold.

        Returns
        -------
        pa.Table
            One verdict a row; columns of `streaming.VERDICT_SCHEMA`.

        Raises
        ------
        InputError
            A column of the contract or its run condition is missing, or is not of its type.
        """
        n = table.num_rows
        readings = self._as_readings(table).append_column("_order", pa.array(np.arange(n)))
        readings = sorted_readings(readings)
        verdicts = judge(readings, self.judges(), self.contract, threshold=threshold)
        back = np.empty(n, np.int64)
        back[readings["_order"].to_numpy()] = np.arange(n)
        return verdicts.take(pa.array(back))

    def explain(self, table: pa.Table, *, threshold: float | None = None) -> Counterfactual:
        """The smallest change that makes the last row of an asset normal: see `counterfactual`.

        Parameters
        ----------
        table : pa.Table
            As for `score`: the row to be explained, last in time, and those of its asset before it.
        threshold : float, optional
            Replaces the calibrated threshold.

        Returns
        -------
        Counterfactual
            Its `changed` are places in ``contract.sensor_names``.

        Raises
        ------
        InputError
            There is no row or more than one asset, the last row gets no score, or as for `score`.
        """
        readings = sorted_readings(self._as_readings(table))
        return explain(readings, self.judges(), self.contract, threshold=threshold)

    def _as_readings(self, table: pa.Table) -> pa.Table:
        """The columns that scoring needs, by the names and types that `readings` has."""
        own = {
            "asset": self.contract.asset_column or "asset",
            "time": self.contract.time.column,
            "mode": self.contract.mode or "mode",
        }
        columns = {}
        wanted = {"asset", "time", *self.contract.sensor_names, *self.contract.context_names}
        needed = {*wanted, *self.contract.carried} - {"asset", "time"}
        needed |= {"mode"} if self.contract.mode in self.contract.asked else set()
        needed |= {"mode"} if any(known_modes(u.levels) for u in self.units.values()) else set()
        needed |= {"time"} if self.contract.start_up_s else set()
        wanted |= needed
        wanted |= {"mode"} if self.contract.mode else set()
        for column in (c for c in readings_schema(self.contract) if c.name in wanted):
            name = own.get(column.name, column.name)
            if name in table.column_names:
                columns[column.name] = _cast(table[name], column, self.contract.time.zone)
            elif column.name in needed:
                raise InputError(
                    f"column '{name}' is missing; {closest(name, table.column_names)}. "
                    "Give every sensor and context column of the contract, and what its run "
                    "condition or its modes ask for (null = no value)"
                )
        n, only = table.num_rows, self.contract.asset_name
        columns["asset"] = pc.fill_null(columns.get("asset", pa.repeat(only, n)), only)
        columns.setdefault("time", pa.array(np.arange(n), pa.timestamp("us", "UTC")))
        return pa.table(columns)

    # ---------------------------------------------------------------------------------- on disk

    def write(self, folder: str | Path) -> ModelPackage:
        """Seal the package into a folder, all or nothing; returns it with its digest."""
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            content = self._write_tensors(draft)
            (draft / "package.json").write_text(content.model_dump_json(indent=1), encoding="utf-8")
            digest = sha256(draft / "package.json")
            _put(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return replace(self, digest=digest)

    def _write_tensors(self, folder: Path) -> PackageFile:
        units = []
        for number, (name, unit) in enumerate(sorted(self.units.items())):
            tensors = {"scorer": unit.scorer.state_dict(), "golden": unit.golden.tensors()}
            calibration = unit.calibration
            if calibration is not None:
                reference = torch.from_numpy(calibration.reference)
                tensors["calibration"] = {"reference": reference}
            files = {}
            for kind, named in tensors.items():
                path = folder / f"{kind}-{number}.safetensors"
                save_file({key: tensor.contiguous() for key, tensor in named.items()}, path)
                files[kind] = SealedFile(name=path.name, sha256=sha256(path))
            spec = scorer_spec(unit.scorer)
            entry = UnitFile(asset=name, spec=spec, files=files, limits=unit.limits)
            if calibration is not None:
                entry.threshold = calibration.threshold
                entry.operating_point = OperatingPointFile.of(calibration.operating_point)
                entry.note = calibration.note
                if calibration.levels is not None:
                    entry.per = calibration.levels.per
                    entry.levels = [*calibration.levels.modes]
            units.append(entry)
        return PackageFile(
            format_version=self.format_version,
            contract=self.contract,
            provenance=self.provenance,
            units=units,
            alarm_rule=self.alarm_rule,
            budget=self.budget,
        )

    @classmethod
    def read(cls, folder: str | Path) -> ModelPackage:
        """Read a package, verify its hashes and score its golden rows again.

        Raises
        ------
        PackageError
            A file is missing or changed, the format is of a later version, or the golden rows
            score otherwise than when the package was sealed.
        """
        folder = Path(folder)
        content = read_package_file(folder)
        units = {entry.asset: _read_unit(folder, entry) for entry in content.units}
        digest = sha256(folder / "package.json")
        return cls(
            content.contract, units, content.provenance, digest, content.format_version,
            content.alarm_rule, content.budget,
        )  # fmt: skip


def _put(draft: Path, folder: Path) -> None:
    """Move a finished folder into its place; what stands there makes room, a rival's too."""
    old = draft.with_name(f"{draft.name}-old")
    for tried in range(MAX_TRIES):
        shutil.rmtree(old, ignore_errors=True)
        try:
            if folder.exists():
                os.replace(folder, old)
            os.replace(draft, folder)
            break
        except OSError:  # between the two moves another process put its own there
            if tried == MAX_TRIES - 1:
                raise
    shutil.rmtree(old, ignore_errors=True)


def _read_unit(folder: Path, entry: UnitFile) -> Unit:
    tensors = {kind: _read_tensors(folder, file) for kind, file in entry.files.items()}
    try:
        scorer = build_scorer(entry.spec).eval()
        scorer.load_state_dict(tensors["scorer"])
        golden = Golden(**{name: tensor.numpy() for name, tensor in tensors["golden"].items()})
    except (RuntimeError, KeyError, TypeError, VAEAnomalyError) as error:
        raise PackageError(f"{folder}: weights and specification do not agree: {error}") from error
    _replay(folder, entry.asset, scorer, golden)
    if entry.threshold is None or entry.operating_point is None:
        return Unit(scorer, golden, limits=entry.limits)
    reference = tensors["calibration"]["reference"].numpy()
    point = entry.operating_point.point()
    levels = None if entry.per is None else Levels(entry.per, tuple(entry.levels))
    calibration = Calibration(entry.threshold, point, reference, entry.note, levels)
    return Unit(scorer, golden, calibration, entry.limits)


def _read_tensors(folder: Path, file: SealedFile) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(verified(folder, file))
    return tensors


def _replay(folder: Path, asset: str, scorer: Scorer, golden: Golden) -> None:
    label = np.zeros(len(golden.run), np.int64)
    again = score_rows(scorer, Matrix(golden.values, golden.run, label)).score
    if not np.allclose(again, golden.score, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL, equal_nan=True):
        worst = int(np.nanargmax(np.abs(again - golden.score)))
        raise PackageError(
            f"{folder}: golden row {worst} of '{asset}' scored {golden.score[worst]:g} when the "
            f"package was sealed and scores {again[worst]:g} now; this installation does not "
            "score as the one that trained it: compare the versions in package.json"
        )


def _cast(column: pa.ChunkedArray, field: pa.Field, zone: str) -> pa.ChunkedArray:
    """A column as `readings` has it; a time without a zone is in the contract's."""
    kind = field.type
    try:
        if (
            pa.types.is_timestamp(kind)
            and pa.types.is_timestamp(column.type)
            and not column.type.tz
        ):
            column = pc.assume_timezone(column, zone, ambiguous="earliest")
        return column.cast(kind, safe=not pa.types.is_floating(kind))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"column '{field.name}' cannot be read as {kind}: {error}") from error
