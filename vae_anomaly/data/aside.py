"""Rows that a model does not judge: their machine is off, or in a state that it has not learnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Contract, Sensor
from vae_anomaly.data.condition import off_rows

__all__ = ["Aside", "any_of", "set_aside"]


class Aside(NamedTuple):
    """Rows `mask` (n,) that get no score, and what their verdicts say instead."""

    mask: np.ndarray
    status: str
    reason: str


def set_aside(
    table: pa.Table,
    contract: Contract,
    learnt: Mapping[str, Sequence[str]] | None = None,
    modes: Sequence[str] | None = None,
) -> list[Aside]:
    """Rows of sorted readings that get no score; no row is named twice.

    Parameters
    ----------
    table : pa.Table
        Readings, as `windows.sorted_readings` gives them.
    contract : Contract
    learnt : mapping of str to sequence of str, optional
        Levels of each categorical context column that had rows in training; none means all that
        the contract names.
    modes : sequence of str, optional
        The operating modes that a model knows; none means that it does not tell them apart.
    """
    found: list[Aside] = []
    taken = np.zeros(table.num_rows, bool)
    off = (Aside(mask, "off", reason) for mask, reason in off_rows(table, contract))
    for entry in chain(off, _strange(table, contract, learnt or {}), _unknown(table, modes)):
        mask = entry.mask & ~taken
        if mask.any():
            found.append(entry._replace(mask=mask))
            taken |= mask
    return found


def any_of(asides: Sequence[Aside], n_rows: int) -> np.ndarray:
    """(n,) whether a row is among those set aside."""
    taken = np.zeros(n_rows, bool)
    for entry in asides:
        taken |= entry.mask
    return taken


def _strange(
    table: pa.Table, contract: Contract, learnt: Mapping[str, Sequence[str]]
) -> Iterator[Aside]:
    """Rows with a level that no model knows; a missing one is a missing value, no more."""
    for what, columns in (("sensor", contract.sensors), ("context", contract.context)):
        for column in columns:
            if column.kind == "continuous":
                continue
            for mask, why in _strange_cells(table[column.name], column, learnt):
                yield Aside(mask, "unseen_mode", f"{what} '{column.name}' {why}")


def _unknown(table: pa.Table, modes: Sequence[str] | None) -> Iterator[Aside]:
    """Rows in an operating mode that the model has never seen; one without a mode is in none."""
    if modes is None:
        return
    for mode in pc.unique(table["mode"]).drop_null().to_pylist():
        if mode not in modes:
            mask = pc.fill_null(pc.equal(table["mode"], mode), False).to_numpy()
            known = ", ".join(modes)
            yield Aside(
                mask, "unseen_mode", f"the model was never shown mode '{mode}'; it knows {known}"
            )


def _strange_cells(
    cells: pa.ChunkedArray, column: Sensor, learnt: Mapping[str, Sequence[str]]
) -> Iterator[tuple[np.ndarray, str]]:
    """(n,) where a column has a level that is not known, and what its verdicts say."""
    if column.kind == "binary":
        either = pc.or_(pc.equal(cells, 0), pc.equal(cells, 1))
        yield pc.fill_null(pc.invert(either), False).to_numpy(), "is binary and neither 0 nor 1"
        return
    known = learnt.get(column.name, column.levels)
    for level in pc.unique(cells).drop_null().to_pylist():
        if level not in known:
            mask = pc.fill_null(pc.equal(cells, level), False).to_numpy()
            yield mask, f"has level '{level}'{_why(level, column.levels, known)}"


def _why(level: str, levels: Sequence[str], known: Sequence[str]) -> str:
    if level in levels:
        return ", which had no rows in training"
    return f"; the model knows {', '.join(known)}"
