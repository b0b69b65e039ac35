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
    table: pa.Table, contract: Contract, learnt: Mapping[str, Sequence[str]] | None = None
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
    """
    found: list[Aside] = []
    taken = np.zeros(table.num_rows, bool)
    off = (Aside(mask, "off", reason) for mask, reason in off_rows(table, contract))
    for entry in chain(off, _strange(table, contract, learnt or {})):
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
            if column.kind != "categorical":
                continue
            known = learnt.get(column.name, column.levels)
            for level in pc.unique(table[column.name]).drop_null().to_pylist():
                if level not in known:
                    mask = pc.fill_null(pc.equal(table[column.name], level), False).to_numpy()
                    yield Aside(mask, "unseen_mode", f"{what} {_why(column, level, known)}")


def _why(column: Sensor, level: str, known: Sequence[str]) -> str:
    if level in column.levels:
        return f"'{column.name}' has level '{level}', which had no rows in training"
    return f"'{column.name}' has level '{level}'; the model knows {', '.join(known)}"
