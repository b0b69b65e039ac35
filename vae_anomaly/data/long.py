"""Rows of a long table, one value each: every tag is read as the contract says of it.

A tag that the contract does not name is kept as it stands: the value where it is a number, else the
text. So the contract may gain the sensor later, and meanwhile no row is lost or refused for it.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import Contract, Sensor
from vae_anomaly.data.cells import (
    Mask,
    Read,
    as_texts,
    read_labels,
    read_names,
    read_numbers,
    read_sensor,
)
from vae_anomaly.data.quality import Cell, CellCounts, Codes, count_cells, read_codes

__all__ = ["LongValues", "read_values"]


class LongValues(NamedTuple):
    """Columns `sensor`, `value` and `text` of a long table, and what became of every cell."""

    reads: dict[str, Read]
    counts: CellCounts


def read_values(
    cells: dict[str, pa.Array], contract: Contract, decimal: str, is_row: Mask
) -> LongValues:
    """Values of the rows of a long table, each read by the rule of its tag.

    Parameters
    ----------
    cells : dict of str to pa.Array of shape (n,)
        The columns that the contract names, as `cells.as_plain` gives them.
    contract : Contract
    decimal : {'.', ','}
    is_row : Mask
        Lines that were rows; the others have no cells.
    """
    assert contract.long is not None
    tags = read_names(contract.long.tag, cells[contract.long.tag], missing="no_tag")
    encoded = tags.values.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    code = encoded.indices.fill_null(-1).to_numpy()
    order = np.argsort(code, kind="stable")
    edges = np.searchsorted(code[order], np.arange(len(names) + 1)).tolist()
    values = cells[contract.long.value].take(pa.array(order))
    codes = None
    if contract.quality.column:
        codes = read_codes(cells[contract.quality.column], contract.quality)
    found = [_Group(pa.nulls(edges[0], pa.float64()), pa.nulls(edges[0], pa.string()))]
    reads, counts = {"sensor": tags}, CellCounts()
    for name, (first, last) in zip(names, pairwise(edges), strict=True):
        own = order[first:last]
        group_codes = codes and Codes(codes.texts.take(pa.array(own)), codes.is_good[own])
        read = _read_tag(name, values[first:last], contract, decimal, group_codes)
        counts += _counted(name, read, contract, group_codes, is_row[own])
        found.append(_values_of(read, values[first:last], is_named=_is_named(name, contract)))
        faults = {reason: _scattered(mask, own, len(order)) for reason, mask in read.faults.items()}
        reads[f"\n{name}"] = read._replace(faults={r: m for r, m in faults.items() if m.any()})
    back = pa.array(np.argsort(order, kind="stable"))
    value, text = (pa.concat_arrays(part).take(back) for part in zip(*found, strict=True))
    reads |= {"value": Read("", value, {}), "text": Read("", text, {})}
    return LongValues(reads, counts)


class _Group(NamedTuple):
    value: pa.Array
    text: pa.Array


def _read_tag(
    name: str, cells: pa.Array, contract: Contract, decimal: str, codes: Codes | None
) -> Read:
    is_good = None if codes is None else codes.is_good
    if name == contract.label:
        return _where(read_labels(name, cells, decimal), is_good)
    if name == contract.mode:
        return _where(read_names(name, cells), is_good)
    sensor = _sensor(name, contract)
    if sensor is not None:
        texts = contract.quality.texts
        return read_sensor(cells, sensor, decimal, no_value=texts, is_good=is_good)
    read = read_numbers(name, cells, decimal, truths=False, no_value=contract.quality.texts)
    return _where(read._replace(faults={}), is_good)


def _sensor(name: str, contract: Contract) -> Sensor | None:
    return next((s for s in (*contract.sensors, *contract.context) if s.name == name), None)


def _where(read: Read, is_good: Mask | None) -> Read:
    """A column whose values of bad quality are missing."""
    if is_good is None:
        return read
    faults = {reason: mask & is_good for reason, mask in read.faults.items()}
    return read._replace(values=pc.if_else(pa.array(is_good), read.values, None), faults=faults)


def _counted(
    name: str, read: Read, contract: Contract, codes: Codes | None, is_row: Mask
) -> CellCounts:
    if _sensor(name, contract) is not None:
        return count_cells(read, codes, is_row)
    if name in (contract.label, contract.mode):
        return CellCounts()
    return Counter({Cell("", "unused", name): int(np.count_nonzero(is_row))})


def _is_named(name: str, contract: Contract) -> bool:
    return name in (contract.label, contract.mode) or _sensor(name, contract) is not None


def _values_of(read: Read, cells: pa.Array, *, is_named: bool) -> _Group:
    """Numbers as values, names as texts; of an unknown tag, what is no number as it stands."""
    n = len(cells)
    if pa.types.is_string(read.values.type):
        return _Group(pa.nulls(n, pa.float64()), read.values)
    value, text = read.values.cast(pa.float64()), pa.nulls(n, pa.string())
    if not is_named:
        value = pc.if_else(pc.is_finite(value), value, None)
        text = pc.if_else(value.is_null(), pa.array(as_texts(cells), pa.string()), None)
    return _Group(value, text)


def _scattered(mask: Mask, own: np.ndarray, n_rows: int) -> Mask:
    """A group's mask among all rows."""
    whole = np.zeros(n_rows, bool)
    whole[own[mask]] = True
    return whole
