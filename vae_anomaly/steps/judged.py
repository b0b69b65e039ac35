"""Rows of a part as they are judged, with their left context, by asset or by scorer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from vae_anomaly.config import Contract, Part, PlantConfig
from vae_anomaly.data.aside import any_of, set_aside
from vae_anomaly.data.condition import before_stop
from vae_anomaly.data.parts import Interval, read_part
from vae_anomaly.data.windows import Matrix, cut, matrix_of
from vae_anomaly.decisions.modes import known_modes
from vae_anomaly.decisions.reference import clear_of_anomalies
from vae_anomaly.errors import PartsError
from vae_anomaly.package import ModelPackage, Unit
from vae_anomaly.streaming import EVERY_ASSET, is_scored, learnt_levels

__all__ = [
    "Judged",
    "alone",
    "calibration_rows",
    "calibration_rows_ahead",
    "joined",
    "of_part",
    "of_units",
    "unit_matrices",
]

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
    def own_table(self) -> pa.Table:
        """The readings behind the rows that count."""
        return self.table.filter(pa.array(self.judged))

    @property
    def series(self) -> np.ndarray:
        """(m,) which series each row that counts is of."""
        found: np.ndarray = np.cumsum(self.matrix.run == 0)[self.judged]
        return found

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
    return {
        name: _served(found, package.units[name], package.contract)
        for name, found in _by_unit(per_asset, package.units).items()
    }


def _by_unit(per_asset: Mapping[str, Judged], units: Collection[str]) -> dict[str, Judged]:
    """Rows scorer by scorer: those of all assets, or of each that has one."""
    if EVERY_ASSET not in units:
        return {name: found for name, found in per_asset.items() if name in units}
    if not per_asset:
        return {}
    pieces = list(per_asset.values())
    return {
        EVERY_ASSET: Judged(
            joined([piece.matrix for piece in pieces]),
            np.concatenate([piece.judged for piece in pieces]),
            pa.concat_tables([piece.table for piece in pieces]),
        )
    }


def calibration_rows(
    readings: DeltaTable, intervals: Sequence[Interval], package: ModelPackage
) -> dict[str, Judged]:
    """Rows on which thresholds are set, scorer by scorer: of part `calibrate`.

    Normal rows whose scores look back on a labelled anomaly do not count, unless all of them do.
    """
    found = of_units(readings, intervals, "calibrate", package)
    return {
        name: _clear(rows, package.units[name].scorer.left_context) for name, rows in found.items()
    }


def calibration_rows_ahead(
    plant: PlantConfig,
    readings: DeltaTable,
    intervals: Sequence[Interval],
    units: Collection[str],
    *,
    reach: int,
) -> dict[str, Judged]:
    """`calibration_rows` of scorers that are not trained yet, or a few more than these.

    What a scorer alone can say is left open: which sensors vary, and which levels it has learnt.

    Parameters
    ----------
    plant : PlantConfig
    readings : DeltaTable
    intervals : sequence of Interval
    units : collection of str
        The scorers' assets, or `EVERY_ASSET`.
    reach : int
        Rows that a score looks back on.
    """
    per_asset = of_part(readings, intervals, "calibrate", plant.contract)
    n_sensors, found = len(plant.contract.sensors), {}
    for name, rows in _by_unit(per_asset, units).items():
        has_value = ~np.isnan(rows.matrix.values[:, :n_sensors]).all(axis=1)
        found[name] = _clear(replace(rows, judged=rows.judged & has_value), reach)
    return found


def _clear(rows: Judged, reach: int) -> Judged:
    label = rows.matrix.label
    clear = clear_of_anomalies(label, rows.matrix.run, reach)
    if not (rows.judged & clear).any():
        return rows
    return replace(rows, judged=rows.judged & (clear | (label > 0)))


def _served(rows: Judged, unit: Unit, contract: Contract) -> Judged:
    """Those of the rows that a unit gives a score, cut where it gives none."""
    scorer = unit.scorer
    asides = set_aside(
        rows.table, contract, learnt_levels(scorer, contract), known_modes(unit.levels)
    )
    taken = any_of(asides, len(rows.judged))
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
