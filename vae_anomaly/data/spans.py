"""One span of time: the samples around it are read, and the readings within it are formed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import Contract
from vae_anomaly.data.lake import as_timestamp, rows
from vae_anomaly.data.resampling import Rule, Series, at_moments, covered_moments
from vae_anomaly.data.schemas import readings_schema
from vae_anomaly.data.times import MOMENT
from vae_anomaly.errors import LakeError

__all__ = ["Formed", "Reach", "form"]

#: Largest key; see `data.resampling`.
MAX_KEY = 1 << 61

Micros = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reach:
    """Moments that are to be formed: of each asset those in (first, last].

    Attributes
    ----------
    assets : pa.Array of shape (n_assets,)
    first, last : ndarray of shape (n_assets,)
        Microseconds since 1970.
    period_us : int
        1 without resampling: then every time is a moment.
    limit_us : int
        Longest time for which any value may stand.
    """

    assets: pa.Array
    first: Micros
    last: Micros
    period_us: int
    limit_us: int

    def of(self, which: npt.NDArray[np.bool_]) -> Reach:
        """Some of the assets."""
        return replace(
            self,
            assets=self.assets.filter(pa.array(which)),
            first=self.first[which],
            last=self.last[which],
        )


@dataclass(frozen=True)
class Formed:
    """Readings of a span, by time and asset.

    Attributes
    ----------
    table : pa.Table of n rows
        The columns of the readings but for provenance.
    moments : ndarray of shape (n,)
        Times, rising, in microseconds since 1970.
    is_filled : dict of str to ndarray of shape (n,)
        Cells of each sensor and context column that have a value but no sample of their own.
    """

    table: pa.Table
    moments: Micros
    is_filled: dict[str, np.ndarray]

    @property
    def n_rows(self) -> int:
        return len(self.moments)

    @property
    def filled(self) -> Counter[str]:
        return Counter({name: int(mask.sum()) for name, mask in self.is_filled.items()})

    def part(self, first: int, last: int) -> Formed:
        """The readings first..last-1."""
        masks = {name: mask[first:last] for name, mask in self.is_filled.items()}
        return Formed(self.table.slice(first, last - first), self.moments[first:last], masks)

    def cuts(self, n_rows: int) -> list[int]:
        """Where to cut into parts of about so many rows; equal times stay together."""
        at = np.arange(n_rows, self.n_rows, n_rows)
        cuts = np.searchsorted(self.moments, self.moments[at], side="left")
        return sorted({int(cut) for cut in cuts} - {0})


@dataclass(frozen=True)
class _Samples:
    """Samples of a span: a series for each column, and the names behind codes of texts."""

    series: dict[str, Series]
    names: dict[str, pa.Array]


@dataclass(frozen=True)
class _Keying:
    """How assets and times become keys; see `data.resampling`."""

    assets: pa.Array
    origin: int
    stride: int

    def keys(self, batch: pa.RecordBatch) -> Micros:
        own = pc.index_in(batch["asset"], value_set=self.assets).to_numpy().astype(np.int64)
        keys: Micros = own * self.stride + batch["time"].cast(pa.int64()).to_numpy() - self.origin
        return keys


def form(
    samples: DeltaTable,
    contract: Contract,
    reach: Reach,
    rules: Mapping[str, Rule],
    start: int,
    end: int,
) -> Formed:
    """Readings of the moments in (start, end] that are within reach.

    Parameters
    ----------
    samples : DeltaTable
    contract : Contract
    reach : Reach
    rules : mapping of str to Rule
        Of every column.
    start, end : int
        Microseconds since 1970.
    """
    period = reach.period_us
    context = max(reach.limit_us, period)
    origin = (start - context) // period * period
    stride = (end - start + 4 * context + 2 * period) // period * period + period
    if stride * max(1, len(reach.assets)) > MAX_KEY:
        raise LakeError(
            f"{len(reach.assets):,} assets over {(end - start) / 3.15576e13:,.0f} years are too "
            "many to be formed at once; ingest some of the files first"
        )
    where = (
        pc.field("asset").isin(reach.assets)
        & (pc.field("time") > as_timestamp(start - context))
        & (pc.field("time") <= as_timestamp(end + context))
    )
    read = _read_long if contract.long is not None else _read_wide
    found = read(samples, contract, where, _Keying(reach.assets, origin, stride))
    sensors = [found.series[name] for name in contract.sensor_names]
    key = covered_moments((s.key for s in sensors), reach.limit_us, period)
    asset, time = key // stride, key % stride + origin
    is_due = (time > np.maximum(reach.first[asset], start)) & (
        time <= np.minimum(reach.last[asset], end)
    )
    due = _Moments(key[is_due], asset[is_due], time[is_due])
    return _at(found, contract, reach, rules, due)


@dataclass(frozen=True)
class _Moments:
    """Moments of assets, their keys rising: asset after asset."""

    key: Micros
    asset: Micros  # place in Reach.assets
    time: Micros  # microseconds since 1970


def _at(
    found: _Samples, contract: Contract, reach: Reach, rules: Mapping[str, Rule], due: _Moments
) -> Formed:
    """Readings at the moments, by time; those at which no sensor has anything are none."""
    cells = {
        name: at_moments(series, due.key, rules[name], reach.period_us)
        for name, series in found.series.items()
    }
    has = np.zeros(len(due.key), bool)
    for name in contract.sensor_names:
        has |= cells[name].is_own | ~np.isnan(cells[name].value)
    order = np.argsort(due.time, kind="stable")
    kept = order[has[order]]
    names = [*contract.sensor_names, *contract.context_names]
    is_filled = {name: cells[name].is_filled[kept] for name in names}
    n_filled = np.sum(list(is_filled.values()), axis=0, dtype=np.int32)
    columns: dict[str, pa.Array] = {
        "asset": reach.assets.take(pa.array(due.asset[kept])),
        "time": pa.array(due.time[kept]).cast(MOMENT),
    }
    if contract.sampling.resample != "none":
        columns["filled"] = pa.array(n_filled)
    schema = readings_schema(contract)
    for name, cell in cells.items():
        value, kind = cell.value[kept], schema.field(name).type
        numbers = pa.array(value, mask=np.isnan(value))
        columns[name] = (
            found.names[name].take(numbers.cast(pa.int32()))
            if name in found.names
            else numbers.cast(kind)
        )
    return Formed(pa.table(columns), due.time[kept], is_filled)


def _columns(contract: Contract) -> dict[str, str]:
    """Column of the readings → its tag, or its column in wide samples."""
    named = {name: name for name in (*contract.sensor_names, *contract.context_names)}
    if contract.long is None:
        return named | {"label": "label", "mode": "mode"}
    return named | {"label": contract.label or "", "mode": contract.mode or ""}


def _texts(contract: Contract) -> set[str]:
    """Columns of the readings that hold names."""
    schema = readings_schema(contract)
    return {name for name in _columns(contract) if pa.types.is_string(schema.field(name).type)}


def _coded(texts: pa.Array, names: dict[str, int]) -> np.ndarray:
    """(n,) a number for each text, NaN for none; new texts are added to the names."""
    encoded = texts.dictionary_encode()
    codes = [names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()]
    place = encoded.indices.fill_null(-1).to_numpy()
    values: np.ndarray = np.array([*map(float, codes), np.nan])[place]
    return values


def _numbers(column: pa.Array) -> np.ndarray:
    values: np.ndarray = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _read_long(
    samples: DeltaTable,
    contract: Contract,
    where: pc.Expression,
    keying: _Keying,
) -> _Samples:
    """Samples of a long table, sorted by tag and key."""
    columns = _columns(contract)
    tags = pa.array([tag for tag in columns.values() if tag], pa.string())
    texts = {columns[name] for name in _texts(contract)} - {""}
    is_text = np.isin(np.array(tags.to_pylist()), list(texts))
    names: dict[str, int] = {}
    keys, codes, values = [np.zeros(0, np.int64)], [np.zeros(0, np.uint16)], [np.zeros(0)]
    read = ["asset", "time", "sensor", "value"] + ["text"] * bool(texts)
    where &= pc.field("sensor").isin(tags)
    for batch in rows(samples, columns=read, where=where):
        code = pc.index_in(batch["sensor"], value_set=tags).to_numpy()
        value = _numbers(batch["value"])
        if texts:
            value = np.where(is_text[code], _coded(batch["text"], names), value)
        keys.append(keying.keys(batch))
        codes.append(code.astype(np.uint16))
        values.append(value)
    key, code, value = np.concatenate(keys), np.concatenate(codes), np.concatenate(values)
    order = np.argsort(key, kind="stable")  # rising runs are merged
    order = order[np.argsort(code[order], kind="stable")]  # 16 bits are sorted by counting
    key, value = key[order], value[order]
    edges = np.searchsorted(code[order], np.arange(len(tags) + 1))
    place = {tag: at for at, tag in enumerate(tags.to_pylist())}
    empty = Series(np.zeros(0, np.int64), np.zeros(0))
    series = {}
    for name, tag in columns.items():
        at = place.get(tag, -1)
        own = slice(edges[at], edges[at + 1]) if at >= 0 else slice(0)
        series[name] = Series(key[own], value[own]) if tag else empty
    return _Samples(series, dict.fromkeys(_texts(contract), pa.array(list(names), pa.string())))


def _read_wide(
    samples: DeltaTable,
    contract: Contract,
    where: pc.Expression,
    keying: _Keying,
) -> _Samples:
    """Samples of a wide table: of each column the cells that are not empty, NaN where bad."""
    columns, texts = list(_columns(contract)), _texts(contract)
    names: dict[str, dict[str, int]] = {name: {} for name in texts}
    keys = [np.zeros(0, np.int64)]
    values: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] for name in columns}
    is_sample: dict[str, list[np.ndarray]] = {name: [np.zeros(0, bool)] for name in columns}
    for batch in rows(samples, columns=["asset", "time", *columns], where=where):
        keys.append(keying.keys(batch))
        for name in columns:
            column = batch[name]
            value = _coded(column, names[name]) if name in texts else _numbers(column)
            # a label below 0 is one that is said to be unknown
            values[name].append(np.where(value < 0, np.nan, value) if name == "label" else value)
            is_sample[name].append(column.is_valid().to_numpy(zero_copy_only=False))
    key = np.concatenate(keys)
    order = np.argsort(key, kind="stable")
    key = key[order]
    series = {}
    for name in columns:
        own = np.concatenate(is_sample[name])[order]
        series[name] = Series(key[own], np.concatenate(values[name])[order][own])
    return _Samples(
        series, {name: pa.array(list(found), pa.string()) for name, found in names.items()}
    )
