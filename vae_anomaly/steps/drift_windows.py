"""Readings of one asset → windows of rows as the champion judges them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.data.aside import any_of, set_aside
from vae_anomaly.data.context import with_left_context
from vae_anomaly.data.lake import QUARANTINE, Lake, as_timestamp, rows
from vae_anomaly.data.schemas import completed
from vae_anomaly.data.sensor_faults import faulty_cells
from vae_anomaly.data.told import Told
from vae_anomaly.data.windows import matrix_of
from vae_anomaly.decisions.conformal import conformal_p_values
from vae_anomaly.decisions.drift_figures import WindowRows
from vae_anomaly.decisions.modes import known_modes
from vae_anomaly.package import ModelPackage, Unit
from vae_anomaly.streaming import EVERY_ASSET, is_scored, learnt_levels, levelled, score_rows

__all__ = ["AssetRows", "Grid", "mean_contributions", "read_asset", "refused_times", "unit_of"]


@dataclass(frozen=True)
class Grid:
    """Windows of one length, one after another since 1970: each begins at the same time of day."""

    length_us: int

    def number(self, moment: int) -> int:
        """Window that a moment lies in."""
        return moment // self.length_us

    def numbers_within(self, start: int, end: int) -> range:
        """Windows that lie from `start` to before `end` as a whole.

        Examples
        --------
        >>> list(Grid(10).numbers_within(5, 41))
        [1, 2, 3]
        """
        return range(-(-start // self.length_us), end // self.length_us)

    def start(self, number: int) -> int:
        """First moment of a window."""
        return number * self.length_us


@dataclass(frozen=True)
class AssetRows:
    """Rows of one asset, rising in time, as the champion judges them.

    Attributes
    ----------
    time : ndarray of shape (n,)
        Microseconds since 1970.
    rows : WindowRows
        All of them, as one long window.
    off : ndarray of shape (n,)
        Rows in which the machine is off.
    faulty : ndarray of shape (n,)
        Rows with the label of an anomaly.
    """

    time: np.ndarray
    rows: WindowRows
    off: np.ndarray
    faulty: np.ndarray

    def window(self, grid: Grid, number: int, aside: np.ndarray, refused: np.ndarray) -> WindowRows:
        """The rows of one window without those set aside, which are counted.

        Parameters
        ----------
        grid : Grid
        number : int
        aside : ndarray of shape (n,), bool
        refused : ndarray
            Rising times of the rows of the asset that were refused.
        """
        ends = [grid.start(number), grid.start(number + 1)]
        first, last = np.searchsorted(self.time, ends)
        inside = slice(first, last)
        kept = ~aside[inside]
        low, high = np.searchsorted(refused, ends)
        own = self.rows
        return WindowRows(
            own.values[inside][kept],
            own.contributions[inside][kept],
            own.p_value[inside][kept],
            own.frozen[inside][kept],
            own.outside[inside][kept],
            own.unseen[inside][kept],
            hours=grid.length_us / 3.6e9,
            n_refused=int(high - low),
            n_aside=int((~kept).sum()),
        )

    def told(self, spans: Sequence[Told]) -> np.ndarray:
        """(n,) rows that are no normal ones: off, labelled an anomaly, or said to be one."""
        aside: np.ndarray = self.off | self.faulty
        for span in spans:
            first, last = np.searchsorted(self.time, [span.start, span.end])
            aside[first:last] = self.off[first:last] | (span.label > 0)
        return aside


def unit_of(package: ModelPackage, asset: str) -> Unit | None:
    """The scorer of an asset; None where the package has none for it."""
    return package.units.get(EVERY_ASSET) or package.units.get(asset)


def read_asset(
    readings: DeltaTable, package: ModelPackage, asset: str, *, start: int, end: int
) -> AssetRows | None:
    """Rows of an asset from `start` to before `end`, judged with their left context.

    None where there are no rows, or the package has no scorer for them.
    """
    unit = unit_of(package, asset)
    where = (
        (pc.field("asset") == asset)
        & (pc.field("time") >= as_timestamp(start))
        & (pc.field("time") < as_timestamp(end))
    )
    batches = list(rows(readings, where=where))
    if unit is None or not batches:
        return None
    contract = package.contract
    table = with_left_context(
        readings,
        completed(pa.Table.from_batches(batches), contract),
        package.left_context,
        contract.sampling.max_gap_s,
        contract.start_up_s,
    )
    return _judged(table, unit, package)


def _judged(table: pa.Table, unit: Unit, package: ModelPackage) -> AssetRows:
    contract, calibration = package.contract, unit.calibration
    assert calibration is not None  # a champion has a threshold
    asides = set_aside(
        table, contract, learnt_levels(unit.scorer, contract), known_modes(unit.levels)
    )
    taken = any_of(asides, table.num_rows)
    matrix = matrix_of(table, contract, taken)
    scores = score_rows(unit.scorer, matrix)
    scored = is_scored(unit.scorer, matrix) & ~taken
    level = levelled(scores.score, table, unit.levels)
    p_value = conformal_p_values(level, calibration.reference).astype(np.float64)
    bad = {
        kind: np.zeros((table.num_rows, len(contract.sensors)), bool)
        for kind in ("stuck", "missing", "out of range")
    }
    for cells in faulty_cells(table, matrix.run, contract.sensors, unit.limits):
        bad[cells.fault][cells.rows, cells.sensor] = True
    unseen = any_of([a for a in asides if a.status == "unseen_mode"], table.num_rows)
    own = table["_fresh"].to_numpy()
    contributions = scores.contributions.astype(np.float64)
    contributions[~scored] = np.nan
    return AssetRows(
        table["time"].cast(pa.int64()).to_numpy()[own],
        WindowRows(
            matrix.values[own],
            contributions[own],
            np.where(scored, p_value, np.nan)[own],
            bad["stuck"][own],
            bad["out of range"][own],
            unseen[own],
            hours=0.0,
        ),
        (taken & ~unseen)[own],
        (matrix.label > 0)[own],
    )


def mean_contributions(windows: Sequence[WindowRows]) -> np.ndarray:
    """(d,) mean contribution of each sensor; 0 where no row has a score."""
    rows_of_all = np.concatenate([window.contributions for window in windows])
    scored = rows_of_all[~np.isnan(rows_of_all).any(axis=1)]
    found: np.ndarray = scored.mean(axis=0) if len(scored) else np.zeros(rows_of_all.shape[1])
    return found


def refused_times(lake: Lake, *, start: int, end: int) -> dict[str, np.ndarray]:
    """Rising times of each asset's rows that were refused; a row without a time is in none."""
    table = lake.found(QUARANTINE)
    found: dict[str, list[int]] = {}
    if table is None:
        return {}
    where = (pc.field("time") >= as_timestamp(start)) & (pc.field("time") < as_timestamp(end))
    for asset, moment in _quarantined(table, where):
        found.setdefault(asset, []).append(moment)
    return {asset: np.sort(np.array(moments)) for asset, moments in found.items()}


def _quarantined(table: DeltaTable, where: pc.Expression) -> Iterator[tuple[str, int]]:
    for batch in rows(table, columns=["asset", "time"], where=where):
        assets, moments = batch["asset"].to_pylist(), batch["time"].cast(pa.int64()).to_pylist()
        yield from ((a, m) for a, m in zip(assets, moments, strict=True) if a is not None)
