"""Which rows lie outside the run condition, after a start, or before a stop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Contract
from vae_anomaly.config.condition import (
    Both,
    Compared,
    Condition,
    Either,
    Missing,
    Not,
    OneOf,
    parse,
)
from vae_anomaly.data.windows import runs

__all__ = ["before_stop", "off_rows", "truth"]

_COMPARED = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "==": pc.equal,
    "!=": pc.not_equal,
}


def truth(tree: Condition, table: pa.Table, mode: str | None = None) -> pa.ChunkedArray:
    """Whether a condition holds in each row; null where a missing value leaves it open.

    Parameters
    ----------
    tree : Condition
    table : pa.Table
        Readings.
    mode : str, optional
        What the source calls the column that readings call ``mode``.
    """
    match tree:
        case Compared(column, sign, value):
            return _COMPARED[sign](_column(table, column, mode), value)
        case OneOf(column, values):
            cells = _column(table, column, mode)
            found = pc.is_in(cells, pa.array(values, cells.type))
            return pc.if_else(cells.is_valid(), found, None)
        case Missing(column):
            return _column(table, column, mode).is_null()
        case Not(part):
            return pc.invert(truth(part, table, mode))
        case Both(parts) | Either(parts):
            joined = pc.and_kleene if isinstance(tree, Both) else pc.or_kleene
            held = truth(parts[0], table, mode)
            for part in parts[1:]:
                held = joined(held, truth(part, table, mode))
            return held


def _column(table: pa.Table, column: str, mode: str | None) -> pa.ChunkedArray:
    name = "mode" if column == mode else column
    if name not in table.column_names:  # a caller gave no mode: nothing is known of it
        return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    cells = table[name]
    if pa.types.is_floating(cells.type):
        return pc.if_else(pc.is_nan(cells), None, cells)
    return cells


def off_rows(table: pa.Table, contract: Contract) -> Iterator[tuple[np.ndarray, str]]:
    """Masks (n,) of the rows of sorted readings in which the machine is off, and why.

    Where a missing value leaves the condition open the row is off too: of a machine that may stand
    still nothing is learnt, and no alarm is raised. A start is the first running row after one that
    is not, of an asset, or after a gap of more than ``sampling.max_gap_s``, in which the machine
    may have stood still.
    """
    said = contract.run_condition
    if said is None or not table.num_rows:
        return
    held = truth(parse(said.when), table, contract.mode)
    running = pc.fill_null(held, False).to_numpy()
    is_open = held.is_null().to_numpy()
    yield ~running & ~is_open, f"outside the run condition: {said.when}"
    yield is_open, f"unknown whether it runs, as a value is missing: {said.when}"
    if said.start_up_s:
        starts = running & (runs(table, contract.sampling.max_gap_s) == 0)
        starts[1:] |= running[1:] & ~running[:-1]
        moment = _micros(table)
        since = moment - moment[np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))]
        yield running & (since < said.start_up_s * 1e6), "start-up"


def before_stop(table: pa.Table, contract: Contract) -> np.ndarray:
    """(n,) rows of sorted readings within ``shut_down_s`` before their machine is off.

    Scoring cannot know them; training, calibration and evaluation leave them out.
    """
    said, n = contract.run_condition, table.num_rows
    if said is None or not said.shut_down_s or not n:
        return np.zeros(n, bool)
    running = pc.fill_null(truth(parse(said.when), table, contract.mode), False).to_numpy()
    at = np.where(running, n, np.arange(n))
    stop = np.minimum.accumulate(at[::-1])[::-1]  # (n,) next row that is off; n where there is none
    there = np.minimum(stop, n - 1)
    asset = table["asset"].combine_chunks().dictionary_encode().indices.to_numpy()
    moment = _micros(table)
    is_near = moment[there] - moment <= said.shut_down_s * 1e6
    found: np.ndarray = running & (stop < n) & (asset[there] == asset) & is_near
    return found


def _micros(table: pa.Table) -> np.ndarray:
    moment: np.ndarray = table["time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return moment
