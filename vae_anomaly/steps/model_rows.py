"""Rows of the lake as a package sees them: of an asset, or of the parts that it was made on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import Part
from vae_anomaly.data.aside import any_of, set_aside
from vae_anomaly.data.lake import PARTS, READINGS, Lake, rows
from vae_anomaly.data.parts import Interval
from vae_anomaly.data.schemas import completed
from vae_anomaly.data.windows import Matrix, matrix_of, sorted_readings
from vae_anomaly.errors import InputError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.chosen import scorer_of
from vae_anomaly.steps.feedback import read_feedback
from vae_anomaly.steps.judged import joined, of_units
from vae_anomaly.streaming import EVERY_ASSET, is_scored, learnt_levels

__all__ = [
    "HELD_OUT",
    "TRAIN",
    "ModelRows",
    "asset_rows",
    "assets_of",
    "part_rows",
    "row_at",
    "time_text",
]

#: Parts that a model's weights have seen, and those that they have not; `test` is not looked at.
TRAIN: tuple[Part, ...] = ("train",)
HELD_OUT: tuple[Part, ...] = ("stop", "calibrate")


@dataclass(frozen=True)
class ModelRows:
    """Rows in the order of their series.

    Attributes
    ----------
    matrix : Matrix
    table : pa.Table
        The readings behind it, row by row.
    judged : ndarray of shape (n,)
        Which of them the model gives a score.
    """

    matrix: Matrix
    table: pa.Table
    judged: np.ndarray

    @property
    def time(self) -> np.ndarray:
        """(n,) in UTC, datetime64[us]."""
        times: np.ndarray = self.table["time"].cast(pa.timestamp("us")).to_numpy()
        return times

    @property
    def asset(self) -> np.ndarray:
        """(n,) names."""
        return np.asarray(self.table["asset"].to_pylist(), dtype=object)


def assets_of(readings: DeltaTable) -> list[str]:
    """Names of the assets in a table of readings."""
    names: set[str] = set()
    for batch in rows(readings, columns=["asset"]):
        names |= set(pc.unique(batch["asset"]).to_pylist())
    return sorted(names)


def asset_rows(lake: Lake, package: ModelPackage, asset: str) -> ModelRows:
    """Every reading of one asset.

    Raises
    ------
    InputError
        It has none, or no scorer.
    """
    scorer = scorer_of(package, asset)
    readings = lake.open(READINGS)
    found = list(rows(readings, where=pc.field("asset") == asset))
    if not sum(batch.num_rows for batch in found):
        raise InputError(
            f"asset '{asset}' has no readings; there are {', '.join(assets_of(readings)) or 'none'}"
        )
    contract = package.contract
    table = completed(sorted_readings(pa.Table.from_batches(found)), contract)
    taken = any_of(set_aside(table, contract, learnt_levels(scorer, contract)), table.num_rows)
    matrix = matrix_of(table, contract, taken)
    return ModelRows(matrix, table, is_scored(scorer, matrix) & ~taken)


def part_rows(
    lake: Lake, package: ModelPackage, parts: Sequence[Part], asset: str = ""
) -> ModelRows | None:
    """Rows of some parts that a package was made on, of one of its scorers.

    None where this lake does not know the package, or the parts have no such row.

    Parameters
    ----------
    lake : Lake
    package : ModelPackage
    parts : sequence of Part
    asset : str
        Whose scorer; empty where one serves all.
    """
    unit = EVERY_ASSET if EVERY_ASSET in package.units else asset
    table = lake.found(PARTS)
    if table is None:
        return None
    where = pc.field("fingerprint") == package.provenance.fingerprint
    known = [row for batch in rows(table, where=where) for row in batch.to_pylist()]
    if not known:
        return None
    said = read_feedback(lake, numbered=package.contract.label is not None).said
    intervals = tuple(
        Interval(
            row["part"], row["asset"], *_span(row["start"], row["end"]), row["n_rows"],
            said.get(row["asset"], ()),
        )
        for row in known
    )  # fmt: skip
    readings = lake.open(READINGS, version=known[0]["readings_version"])
    found = [
        own
        for part in parts
        if (own := of_units(readings, intervals, part, package).get(unit)) is not None
    ]
    if not found:
        return None
    matrix = joined([piece.alone() for piece in found])
    tables = [piece.table.filter(pa.array(piece.judged)) for piece in found]
    return ModelRows(matrix, pa.concat_tables(tables), np.ones(len(matrix.run), bool))


def _span(start: datetime, end: datetime) -> tuple[int, int, int]:
    """Begin of the left context, which is not kept, begin and end, in microseconds since 1970."""
    first, last = (round(t.replace(tzinfo=UTC).timestamp() * 1e6) for t in (start, end))
    return first, first, last


def time_text(moment: np.datetime64) -> str:
    """A time as a person writes it, with seconds where it has some.

    Examples
    --------
    >>> time_text(np.datetime64("2026-03-01T10:00:00", "us"))
    '2026-03-01 10:00'
    """
    return str(moment.astype("datetime64[s]")).replace("T", " ").removesuffix(":00")


def row_at(found: ModelRows, moment: int) -> int:
    """The judged row that is nearest to a time, in microseconds since 1970.

    Raises
    ------
    InputError
        The model judges none of the rows.
    """
    judged = np.flatnonzero(found.judged)
    if not len(judged):
        raise InputError("the model judges none of these rows: they are off, or have no value")
    away = np.abs(found.time[judged] - np.datetime64(moment, "us"))
    return int(judged[int(np.argmin(away))])
